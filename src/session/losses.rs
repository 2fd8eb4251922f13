//! Losses that no number shows, while the capture runs.

use std::os::fd::AsFd as _;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Running;
use super::settings::{Settings, SourceSettings};
use crate::account::counters::Watch;
use crate::account::snapshot::Lost;
use crate::account::unseen::Look;
use crate::nft::{CounterPlace, Counters};
use crate::source::nfqueue::QueueStatus;
use crate::source::{SourceName, Target};
use crate::sys::netlink;

/// The kernel's timer is late, and so is a processor that is busy.
const SETTLED_LATER: Duration = Duration::from_millis(200);

/// Sets what the rules have counted, which was read just now, against the numbers.
pub(super) fn look_for_unseen(watch: &Watch, running: &mut [Running], flush: Duration) {
    for running in running {
        let SourceName::Number(target, number) = running.name else {
            continue;
        };
        let counted = watch.counted(&[number]).map(|bounds| bounds.least);
        match target {
            Target::Group => {
                let socket = running.socket.as_ref();
                let memory = socket.and_then(|socket| netlink::memory(socket.as_fd()).ok());
                let dropped = memory.map_or(0, |memory| u64::from(memory.dropped_datagrams));
                let look = Look {
                    at: Instant::now(),
                    counted,
                    empty: memory.is_some_and(|memory| memory.waiting_bytes == 0),
                    dropped: dropped > running.account.explained_datagrams(),
                    published: running.account.published(),
                    numbered: running.account.read().numbered,
                };
                running.unseen.look(&look, flush + SETTLED_LATER);
            }
            // The kernel says which number it gave last.
            Target::Queue => {
                if let (Some(counted), Some(status)) = (counted, QueueStatus::read(number)) {
                    let numbered = status.numbered(running.account.read().numbered);
                    running.unseen.note(counted.saturating_sub(numbered));
                }
            }
        }
    }
}

/// The counter of what `--rate-limit` passes over: it stands before the one of what is detected.
#[derive(Debug)]
pub(super) struct BeyondRate {
    reader: Counters,
    packets: Option<u64>,
}

impl BeyondRate {
    /// None without a limit.
    pub(super) fn of(settings: &Settings) -> Option<BeyondRate> {
        let rule = settings.rule.as_ref();
        let rule = rule.filter(|rule| rule.rate_limit.is_some())?;
        let SourceSettings::Numbers(target, numbers) = &settings.source else {
            return None;
        };
        let table = rule.table(*target, numbers);
        let mut reader = Counters::open().ok()?;
        reader.watch([CounterPlace::beyond_rate(rule.family, &table)]);
        Some(BeyondRate {
            reader,
            packets: None,
        })
    }

    /// Packets passed over so far; `None` where that is not known.
    pub(super) fn look(&mut self) -> Option<u64> {
        if let Some((_, now)) = self.reader.look().pop() {
            // Somebody may have set it back: what it showed before stands.
            self.packets = now.ok().max(self.packets);
        }
        self.packets
    }
}

impl Lost {
    /// What is known of one source.
    pub(super) fn of(running: &Running, target: Target, settings: &Settings) -> Lost {
        let queue = (target == Target::Queue).then(|| {
            let last = running.queue_status.as_ref();
            let last = last.and_then(|last| *last.lock().unwrap_or_else(PoisonError::into_inner));
            let SourceName::Number(_, number) = running.name else {
                return (settings.queue.fail_open, 0);
            };
            let refused = last
                .or_else(|| QueueStatus::read(number))
                .map_or(0, |status| status.refused());
            (settings.queue.fail_open, refused)
        });
        Lost {
            unseen: running.unseen.known(),
            behind_last: running.unseen.behind_last(),
            queue,
        }
    }
}
