//! The end of a capture: in which order what is released, and how the report comes about.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use super::losses::BeyondRate;
use super::rule::cause_of_more;
use super::{Running, Session};
use crate::account::Tally;
use crate::account::counters::{Bounds, Doubts, Watch};
use crate::account::report::Report;
use crate::account::snapshot::{Figures, Snapshot};
use crate::capture::{Command, Outcome};
use crate::nft::{InstalledTable, RuleSpec};
use crate::numbers::grouped;
use crate::ring::{Notice, sort_by_age};
use crate::session::settings::SourceSettings;
use crate::source::nfqueue::QueueStatus;
use crate::source::{SourceName, Target};

/// What a capture leaves.
#[derive(Debug)]
pub struct End {
    /// The report.
    pub report: Report,
    /// The error that ended a thread, if one did.
    pub error: Option<io::Error>,
    /// Files that were finished since [`Session::notices`] was last asked.
    pub finished: Vec<PathBuf>,
}

impl Session {
    /// Stops the capture: the sources detach, what the kernel still holds is taken, files are
    /// finished.
    pub fn finish(mut self) -> End {
        // With a rule of our own, nothing is counted any more when the groups are released.
        if let Some(installed) = &mut self.installed
            && let Err(error) = installed.stop_logging()
        {
            log::debug!("cannot take the rule back before the end: {error}");
        }
        // It stands in the last record, or at the end of the file.
        if let Some(what) = self.beyond_rate.as_mut().and_then(BeyondRate::unnoted) {
            let _ = self.change_noting(Command::Note, &what);
        }
        // One that has ended by itself has received nothing since then.
        let early: Vec<_> = self
            .running
            .iter()
            .map(|running| running.thread.is_finished())
            .collect();
        let beyond_rate = self.beyond_rate.as_ref().and_then(BeyondRate::packets);
        // Counters are read before and after: what was counted in between is uncertain.
        let befores = self.count();
        self.control.stop();
        self.wait_detached();
        let afters = self.count();
        let doubts = self.watch.as_ref().map(Watch::doubts).unwrap_or_default();
        let mut groups = Vec::new();
        let (mut sum, mut files, mut error) = (Tally::default(), Vec::new(), None);
        let mut remarks = Vec::new();
        let (mut tail, mut refused) = (false, 0);
        let queues = self.settings.is_queue();
        let fail_open = self.settings.queue.fail_open;
        let running = std::mem::take(&mut self.running);
        let counted = befores.groups.into_iter().zip(afters.groups);
        let ended = early.into_iter().zip(counted);
        for (running, (early, counted)) in running.into_iter().zip(ended) {
            let Running {
                name,
                account,
                thread,
                queue_status,
                ..
            } = running;
            let joined = thread.join();
            let panicked = joined.is_err();
            let mut outcome = match joined {
                Ok(Some(outcome)) => outcome,
                _ => Outcome::of_panic(&account),
            };
            let bounds = both(counted);
            let last = queue_status
                .and_then(|status| *status.lock().unwrap_or_else(PoisonError::into_inner));
            let dropped_by_kernel = last.map_or(0, |last| count_unseen_end(&mut outcome, last));
            // Packets that were not received were numbered all the same.
            let unreceived = early || panicked || outcome.detach_refused.is_some();
            let tail_overrun =
                !queues && (unreceived || outcome.dropped_datagrams > outcome.explained_datagrams);
            tail |= tail_overrun;
            refused += dropped_by_kernel;
            groups.push(match name {
                SourceName::Hook(hook) => Figures::of_hook(&outcome.tally).named(hook),
                SourceName::Number(target, number) => {
                    let figures = Figures::new(Some(number), &outcome.tally, bounds, tail_overrun);
                    match target {
                        Target::Group => figures,
                        Target::Queue => figures.of_queue(fail_open, dropped_by_kernel),
                    }
                }
            });
            let own = self.installed.as_ref().map(InstalledTable::spec);
            remarks.extend(remarks_on(&outcome, name, bounds, own));
            if let (SourceName::Number(..), late @ 1..) = (name, outcome.tally.unstamped) {
                remarks.push(self.without_kernel_time(name, late));
            }
            if panicked {
                remarks.push(format!(
                    "the thread that captured {name} panicked: its figures are those of its last batch, and what came \
                     to it later counts as overrun; please report this"
                ));
            }
            if let Some(cause) = outcome.error.as_ref().filter(|_| early && !panicked) {
                remarks.push(format!(
                    "the capture of {name} ended by itself ({cause}): what came to it later was not received, and \
                     counts as overrun"
                ));
            }
            if let Some(refused) = &outcome.detach_refused {
                remarks.push(format!(
                    "the kernel did not release {name} when it was asked to ({refused}): what came between then and the \
                     end of the socket was not received, and counts as overrun"
                ));
            }
            sum += outcome.tally;
            files.extend(outcome.files);
            if let Some(cause) = outcome.error {
                error.get_or_insert(cause);
            }
        }
        let counted = both((befores.total, afters.total));
        remarks.extend(remarks_on_rules(doubts));
        let mut total = match self.settings.source {
            SourceSettings::Hook(_) => Figures::of_hook(&sum),
            SourceSettings::Numbers(..) => Figures::new(None, &sum, counted, tail),
        };
        if queues {
            total = total.of_queue(fail_open, refused);
        }
        add_up(&mut total, &groups);
        total.beyond_rate = beyond_rate;
        if groups.len() > 1 {
            sort_by_age(&mut files);
        }
        let last = Snapshot {
            elapsed: self.begun.elapsed(),
            sources: groups,
            total,
        };
        let before_hook = self.drops.since();
        let mut finished = Vec::new();
        for notice in self.notices() {
            match notice {
                Notice::Finished { path } => finished.push(path),
                notice => remarks.push(notice.to_string()),
            }
        }
        remarks.extend(self.keep_last());
        let mut report = Report::new(last, before_hook, files);
        report.remarks = remarks;
        End {
            report,
            error,
            finished,
        }
    }

    /// What the times of so many packets are.
    fn without_kernel_time(&self, name: SourceName, packets: u64) -> String {
        let late = match (name, self.settings.batch) {
            (SourceName::Number(Target::Queue, _), _) | (_, 1) => {
                "as soon as this process could: usually within a millisecond".to_owned()
            }
            _ => format!(
                "with its batch: usually within {} ms (--flush-ms; --batch 1 has each read at once)",
                self.settings.flush.as_millis()
            ),
        };
        format!(
            "{} packets of {name} have no time of the kernel's, which gives none at output and postrouting (and before \
             about Linux 6.6 to the first): theirs is when each was read, {late}",
            grouped(packets)
        )
    }

    /// Looks at the counters, once for all.
    fn count(&mut self) -> Counted {
        self.look_at_rules();
        let sources = self.running.iter().map(|running| match running.name {
            SourceName::Number(_, number) => self.counted(&[number]),
            SourceName::Hook(_) => None,
        });
        Counted {
            groups: sources.collect(),
            total: self.counted(self.settings.numbers()),
        }
    }

    /// Waits until no packet comes to the sources any more. Their files are ended later, which
    /// takes longer: what the rule counts meanwhile is not theirs.
    fn wait_detached(&self) {
        const LOOK: Duration = Duration::from_millis(1);
        for running in &self.running {
            while !running.account.is_detached() && !running.thread.is_finished() {
                thread::sleep(LOOK);
            }
        }
    }
}

/// What was counted at one look.
struct Counted {
    groups: Vec<Option<Bounds>>,
    total: Option<Bounds>,
}

/// What the rules leave unknown.
fn remarks_on_rules(doubts: Doubts) -> Vec<String> {
    let mut remarks = Vec::new();
    if doubts.unreadable {
        remarks.push(
            "the rules' counters could not be read at the end (has this process lost CAP_NET_ADMIN?): how many packets \
             were detected is not known"
                .to_owned(),
        );
    }
    if doubts.broken {
        remarks.push(
            "a counter of the rules was reset, reloaded or removed while capturing: detected may be too low".to_owned(),
        );
    }
    if doubts.past != 0 {
        remarks.push(format!(
            "counters that came while capturing showed {} packets when they were first seen: those are not in detected",
            grouped(doubts.past)
        ));
    }
    if doubts.outdated {
        remarks.push(
            "the rules have changed and could not be read again in the time that a capture has for it: what a new one \
             counted is not in detected"
                .to_owned(),
        );
    }
    remarks
}

/// Where each group's losses are known, so is their sum, place by place.
fn add_up(total: &mut Figures, groups: &[Figures]) {
    if groups.iter().all(|group| group.detected.is_some()) {
        total.detected = groups.iter().map(|group| group.detected).sum();
        total.detected_uncertain = groups.iter().map(|group| group.detected_uncertain).sum();
        total.dropped.overrun = groups.iter().map(|group| group.dropped.overrun).sum();
        total.dropped.allocation = groups.iter().map(|group| group.dropped.allocation).sum();
        total.dropped.queue = groups.iter().map(|group| group.dropped.queue).sum();
        if let Some(sum) = &mut total.unrecorded {
            sum.passed = groups
                .iter()
                .filter_map(|group| group.unrecorded)
                .map(|group| group.passed)
                .sum();
        }
    }
}

/// The last id that a queue gave tells what the socket lost behind the last packet that arrived.
/// Returns how many packets the kernel dropped by its own count.
fn count_unseen_end(outcome: &mut Outcome, last: QueueStatus) -> u64 {
    let numbered = last.numbered(outcome.tally.numbered);
    outcome.tally.overrun += numbered - outcome.tally.numbered;
    outcome.tally.numbered = numbered;
    last.refused()
}

/// What was counted by the time the group was released, between two readings.
fn both((before, after): (Option<Bounds>, Option<Bounds>)) -> Option<Bounds> {
    let (before, after) = (before?, after?);
    Some(Bounds {
        least: before.least,
        most: after.most.max(before.most),
    })
}

fn remarks_on(
    outcome: &Outcome,
    name: SourceName,
    counted: Option<Bounds>,
    own: Option<&RuleSpec>,
) -> Vec<String> {
    let mut remarks = Vec::new();
    // More packets with numbers than were counted at the most: the counter was set back between two
    // looks, and has gone beyond where it was; or it came later than the packets.
    if counted.is_some_and(|counted| counted.most < outcome.tally.numbered) {
        remarks.push(format!(
            "the rules counted fewer packets of {name} than came: {}; detected may be too low",
            cause_of_more(name, own)
        ));
    }
    if outcome.truncated_datagrams != 0 {
        remarks.push(format!(
            "{} datagrams of {name} did not fit the receive buffer: please report this",
            outcome.truncated_datagrams
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::account::Account;
    use crate::account::drops::Drops;
    use crate::account::unseen::Unseen;
    use crate::capture::Control;
    use crate::format::LinkType;
    use crate::nft::RuleFamily;
    use crate::packet::IpFamily;
    use crate::session::losses::WithoutRing;
    use crate::session::settings::{QueueOptions, Settings};

    fn settings() -> Settings {
        Settings {
            source: SourceSettings::Numbers(Target::Group, vec![5]),
            family: IpFamily::default(),
            output: None,
            stream: None,
            link: LinkType::Ethernet,
            snaplen: 128,
            count: None,
            duration: None,
            rotate: None,
            buffer_bytes: 1 << 20,
            batch: 1024,
            flush: Duration::from_millis(100),
            rule: None,
            queue: QueueOptions::default(),
            keep: None,
        }
    }

    #[test]
    fn a_thread_that_panics_is_in_the_report() {
        let account = Arc::new(Account::default());
        account.publish(&Tally {
            received: 100,
            written: 90,
            writer: 10,
            numbered: 120,
            overrun: 20,
            ..Tally::default()
        });
        let thread = thread::Builder::new().spawn(|| panic!("a test")).unwrap();
        let session = Session {
            settings: settings(),
            control: Arc::new(Control::new(None)),
            running: vec![Running {
                name: SourceName::Number(Target::Group, 5),
                account,
                thread,
                granted_buffer_bytes: 0,
                queue_status: None,
                socket: None,
                unseen: Unseen::default(),
            }],
            watch: Some(Watch::of_own_table(
                Target::Group,
                &[],
                (RuleFamily::default(), String::new()),
            )),
            fill: None,
            beyond_rate: None,
            paused: false,
            keeper: None,
            trigger: None,
            triggered: None,
            without_ring: WithoutRing::default(),
            told: Vec::new(),
            wake: Arc::new(|| {}),
            installed: None,
            priority: None,
            notices: mpsc::channel().1,
            begun: Instant::now(),
            drops: Drops::begin(),
            changes: None,
        };
        let End { report, error, .. } = session.finish();
        assert_eq!(report.groups.len(), 1);
        assert_eq!(
            (report.total.written, report.total.dropped.writer),
            (90, 10)
        );
        assert_eq!(report.total.dropped.overrun, 20);
        assert!(error.unwrap().to_string().contains("panicked"));
        assert!(
            report.remarks[0].contains("5 panicked"),
            "{:?}",
            report.remarks
        );
    }
}
