//! Losses that no number shows, while the capture runs.

use std::os::fd::AsFd as _;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use super::settings::{Settings, SourceSettings};
use super::{Running, Session};
use crate::account::Tally;
use crate::account::counters::Watch;
use crate::account::snapshot::Lost;
use crate::account::unseen::Look;
use crate::nft::{CounterPlace, Counters};
use crate::numbers::grouped;
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
    /// Of which so many are noted in the files, until when.
    noted: u64,
    noted_at: SystemTime,
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
            noted: 0,
            noted_at: SystemTime::now(),
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

    /// The same, as it was at the last look.
    pub(super) fn packets(&self) -> Option<u64> {
        self.packets
    }

    /// What is to be noted of those since the last time.
    pub(super) fn unnoted(&mut self) -> Option<String> {
        let (packets, now) = (self.look()?, SystemTime::now());
        let more = packets.checked_sub(self.noted).filter(|more| *more != 0)?;
        let since = std::mem::replace(&mut self.noted_at, now);
        self.noted = packets;
        Some(format!(
            "beyond --rate-limit: {} packets passed over since {}",
            grouped(more),
            humantime::format_rfc3339_seconds(since)
        ))
    }
}

/// Packets at a hook that found no ring to go to, and how many were said.
#[derive(Debug, Default)]
pub(super) struct WithoutRing {
    no_ring: Told,
    nested: Told,
}

/// A figure that is said when it grows, and not again and again.
#[derive(Debug, Default)]
struct Told {
    packets: u64,
    at: Option<Instant>,
}

impl Told {
    /// How many more there are, where it is time to say so.
    fn grown(&mut self, packets: u64, now: Instant) -> Option<u64> {
        const EVERY: Duration = Duration::from_secs(5 * 60);
        let due = self.at.is_none_or(|at| now.duration_since(at) >= EVERY);
        let more = packets
            .checked_sub(self.packets)
            .filter(|more| *more != 0 && due)?;
        (self.packets, self.at) = (packets, Some(now));
        Some(more)
    }
}

impl WithoutRing {
    /// What is to be said.
    fn look(&mut self, tally: &Tally, now: Instant) -> Vec<String> {
        let no_ring = self.no_ring.grown(tally.dropped_no_ring, now).map(|more| {
            format!(
                "{} packets came on a processor that has no ring, because it was not online at the start: they are \
                 lost (no_ring); end the capture and start it again",
                grouped(more)
            )
        });
        let nested = self.nested.grown(tally.dropped_nested, now).map(|more| {
            format!(
                "{} packets came while the program was at work on their processor's ring: they are lost (nested); \
                 docs/HOOK.md says which packets interrupt others at this hook",
                grouped(more)
            )
        });
        no_ring.into_iter().chain(nested).collect()
    }
}

impl Session {
    /// Notes in the files what `--rate-limit` has passed over since the last time: it belongs to the file
    /// that is live. Nobody is waited for.
    pub fn look_at_rate(&mut self) {
        if let Some(what) = self.beyond_rate.as_mut().and_then(BeyondRate::unnoted) {
            self.note_only(&what);
        }
    }

    /// What is to be said of packets at a hook that found no ring to go to: not those that found theirs
    /// full, which a larger one would take.
    pub fn look_at_rings(&mut self) -> Vec<String> {
        let mut sum = Tally::default();
        for running in &self.running {
            sum += running.account.read();
        }
        self.without_ring.look(&sum, Instant::now())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_without_a_ring_are_said_once_in_a_while() {
        let mut told = WithoutRing::default();
        let mut tally = Tally::default();
        let begun = Instant::now();
        assert_eq!(told.look(&tally, begun), [""; 0]);
        tally.dropped_no_ring = 7;
        let said = told.look(&tally, begun);
        assert!(
            said[0].starts_with("7 packets came on a processor"),
            "{said:?}"
        );
        (tally.dropped_no_ring, tally.dropped_nested) = (9, 1);
        let said = told.look(&tally, begun + Duration::from_secs(1));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("(nested)"), "{said:?}");
        let said = told.look(&tally, begun + Duration::from_secs(6 * 60));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("2 packets came on a processor"),
            "{said:?}"
        );
    }
}
