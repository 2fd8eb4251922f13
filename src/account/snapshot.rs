//! The figures of a moment: one immutable value a source, and their sum. The status line, `--json`
//! and the report read it.

use std::time::Duration;

use serde::Serialize;

use super::Tally;
use super::counters::Bounds;
use crate::source::HookPoint;

/// The figures of a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// How long the capture had been running.
    pub elapsed: Duration,
    /// One account a group or queue.
    pub sources: Vec<Figures>,
    /// Their sum.
    pub total: Figures,
}

/// Packets lost, by place. `None`: cannot be known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The socket's buffer was full, or the hook's ring.
    pub overrun: u64,
    /// The kernel could not allocate the message: counted by the rule, never numbered.
    pub allocation: Option<u64>,
    /// The queue was full (of a queue only; allocations that failed are among them, because the
    /// kernel numbers neither).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,
    /// They came on a processor that has no ring: it was not online at the start (of a hook only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_ring: Option<u64>,
    /// They came while the program was at work on the ring of the same processor (of a hook only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested: Option<u64>,
    /// No file in time, or the disk was full.
    pub writer: u64,
}

impl Dropped {
    /// All of them, as far as they are known.
    pub fn total(&self) -> u64 {
        let of_hook = self.no_ring.unwrap_or(0) + self.nested.unwrap_or(0);
        let of_queue = self.allocation.unwrap_or(0) + self.queue.unwrap_or(0);
        self.overrun + of_queue + of_hook + self.writer
    }
}

/// Packets that a program at the hook left out on purpose, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// They came by another interface.
    pub interface: u64,
    /// They had not the mark.
    pub mark: u64,
    /// The sample passed over them.
    pub sample: u64,
    /// Their connection has had its bytes.
    pub cutoff: u64,
    /// The capture was paused.
    pub paused: u64,
}

impl LeftOut {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.interface + self.mark + self.sample + self.cutoff + self.paused
    }
}

/// The account of one source, or of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The group or queue; none in the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u16>,
    /// The hook; none in the sum, and of a group or queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Packets the rule counted, or the program at the hook. `None` where no usable counter stands
    /// before its `log`.
    pub detected: Option<u64>,
    /// Up to so many more may have been detected (and lost by allocation, or passed while the group
    /// was not bound): packets were counted while it was being bound or released.
    pub detected_uncertain: u64,
    /// Packets that `--rate-limit` passed over, before they were detected (in the sum alone); none
    /// without one, or where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond_rate: Option<u64>,
    /// Packets that arrived here.
    pub received: u64,
    /// Packets recorded.
    pub written: u64,
    /// Of a stream, while it runs: packets recorded that its reader has not taken yet, and so are not
    /// written; none of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<u64>,
    /// Of those written: in files that others then removed, cut or overwrote.
    pub taken: u64,
    /// Packets counted and thrown away (`--discard`).
    pub discarded: u64,
    /// Packets lost, by place.
    pub dropped: Dropped,
    /// Packets passed over on purpose, all reasons.
    pub skipped: u64,
    /// Of them: not of the family that is captured (IPv4, if nothing else is asked for).
    pub skipped_other_family: u64,
    /// Of them: messages that could not be read.
    pub skipped_malformed: u64,
    /// Of them: after `--count`.
    pub skipped_beyond_count: u64,
    /// Of them: while the capture was paused.
    pub skipped_paused: u64,
    /// Packets that carry the time of their arrival, because the kernel gave none.
    pub unstamped: u64,
    /// Bytes of records and blocks written.
    pub bytes: u64,
    /// Batches received.
    pub batches: u64,
    /// Times the next file was late.
    pub stalls: u64,
    /// How long capturing waited for files, microseconds.
    pub stalled_us: u64,
    /// Files begun.
    pub files_begun: u64,
    /// What became of a queue's packets that this program never saw; none for a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<Unrecorded>,
    /// What a program at the hook left out; none for a group or queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// Packets that a full queue or socket did not take: on their way all the same, or gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unrecorded {
    /// They passed without being seen (fail-open).
    pub passed: u64,
    /// The kernel dropped them, by its own count.
    pub refused: u64,
}

/// What is known of losses that no number shows, while the capture runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Packets without a number; `None`: not known.
    pub unseen: Option<u64>,
    /// Packets that the socket had no room for behind the last one that came.
    pub behind_last: u64,
    /// Of a queue: whether what it does not take passes, and what the kernel says that it dropped.
    pub queue: Option<(bool, u64)>,
}

impl Lost {
    /// Nothing.
    pub fn none() -> Lost {
        Lost {
            unseen: Some(0),
            behind_last: 0,
            queue: None,
        }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, more: Lost) -> Lost {
        let refused = |lost: Lost| lost.queue.map_or(0, |(_, refused)| refused);
        let fail_open = more.queue.or(self.queue).map(|(fail_open, _)| fail_open);
        Lost {
            unseen: self.unseen.zip(more.unseen).map(|(one, other)| one + other),
            behind_last: self.behind_last + more.behind_last,
            queue: fail_open.map(|fail_open| (fail_open, refused(self) + refused(more))),
        }
    }
}

impl Figures {
    /// The account of a moment while the capture runs: what was counted and has not arrived yet
    /// counts as detected, and as lost only where that is known.
    pub fn running(
        group: Option<u16>,
        tally: &Tally,
        detected: Option<Bounds>,
        lost: Lost,
    ) -> Figures {
        let unseen = lost.unseen.filter(|_| detected.is_some());
        let least = tally.numbered + unseen.unwrap_or(0) + lost.behind_last;
        let mut figures = Figures {
            detected: detected.map(|bounds| bounds.least.max(least)),
            ..Figures::new(group, tally, None, false)
        };
        figures.dropped.allocation = unseen;
        figures.dropped.overrun += lost.behind_last;
        match lost.queue {
            Some((fail_open, refused)) => figures.of_queue(fail_open, refused),
            None => figures,
        }
    }

    /// Puts an account together from what the capturing thread and the rule counted. The loss that
    /// no gap shows is an allocation failure, unless the socket dropped datagrams after the last
    /// packet (`tail_overrun`), which no later number could reveal.
    pub fn new(
        group: Option<u16>,
        tally: &Tally,
        detected: Option<Bounds>,
        tail_overrun: bool,
    ) -> Figures {
        let counted = detected.map(|bounds| bounds.least.max(tally.numbered));
        let uncertain = detected
            .zip(counted)
            .map_or(0, |(bounds, counted)| bounds.most.saturating_sub(counted));
        let unseen = counted.map(|counted| counted - tally.numbered);
        let (tail, allocation) = if tail_overrun {
            (unseen.unwrap_or(0), unseen.map(|_| 0))
        } else {
            (0, unseen)
        };
        Figures {
            group,
            hook: None,
            detected: counted,
            detected_uncertain: uncertain,
            beyond_rate: None,
            received: tally.received,
            written: tally.written.saturating_sub(tally.unread),
            unread: None,
            taken: tally.taken,
            discarded: tally.discarded,
            dropped: Dropped {
                overrun: tally.overrun + tail,
                allocation,
                writer: tally.writer,
                ..Dropped::default()
            },
            skipped: tally.skipped(),
            skipped_other_family: tally.other_family,
            skipped_malformed: tally.malformed,
            skipped_beyond_count: tally.beyond_count,
            skipped_paused: tally.paused,
            unstamped: tally.unstamped,
            bytes: tally.bytes,
            batches: tally.batches,
            stalls: tally.stalls,
            stalled_us: tally.stalled_us,
            files_begun: tally.files_begun,
            unrecorded: None,
            left_out: None,
        }
    }

    /// The account of a program at the hook, which counts itself: each packet at its entry.
    pub fn of_hook(tally: &Tally) -> Figures {
        Figures {
            detected: Some(tally.detected),
            // A place that could not be read was counted as one packet when it was met.
            received: tally.received - tally.malformed + tally.unreadable,
            dropped: Dropped {
                overrun: tally.dropped_by_source,
                allocation: Some(0),
                queue: None,
                no_ring: Some(tally.dropped_no_ring),
                nested: Some(tally.dropped_nested),
                writer: tally.writer,
            },
            skipped: tally.other_family + tally.unreadable + tally.beyond_count + tally.paused,
            skipped_malformed: tally.unreadable,
            left_out: Some(LeftOut {
                interface: tally.left_interface,
                mark: tally.left_mark,
                sample: tally.left_sample,
                cutoff: tally.left_cutoff,
                paused: tally.left_paused,
            }),
            ..Figures::new(None, tally, None, false)
        }
    }

    /// The same under the hook's name.
    pub fn named(self, hook: HookPoint) -> Figures {
        Figures {
            hook: Some(hook.to_string()),
            ..self
        }
    }

    /// The account of a queue, where what was never numbered found it full. `refused`: what the
    /// kernel says that it dropped.
    pub fn of_queue(mut self, fail_open: bool, refused: u64) -> Figures {
        self.dropped.queue = self.dropped.allocation;
        self.dropped.allocation = self.dropped.allocation.map(|_| 0);
        let unseen = self.dropped.overrun + self.dropped.queue.unwrap_or(0);
        let passed = if fail_open {
            unseen.saturating_sub(refused)
        } else {
            0
        };
        self.unrecorded = Some(Unrecorded { passed, refused });
        self
    }

    /// Whether *detected = written + discarded + dropped + skipped + left out*. True of every
    /// account of which *detected* is known; the tests hold it against the rule's counter.
    pub fn balances(&self) -> bool {
        self.detected.is_none_or(|detected| {
            let left_out = self.left_out.map_or(0, |left_out| left_out.total());
            detected
                == self.written + self.discarded + self.dropped.total() + self.skipped + left_out
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_number_shows_is_an_allocation_failure() {
        let tally = Tally {
            received: 90,
            written: 80,
            other_family: 10,
            overrun: 5,
            numbered: 95,
            ..Tally::default()
        };
        let figures = Figures::new(
            Some(5),
            &tally,
            Some(Bounds {
                least: 100,
                most: 100,
            }),
            false,
        );
        assert_eq!(
            figures.dropped,
            Dropped {
                overrun: 5,
                allocation: Some(5),
                ..Dropped::default()
            }
        );
        assert!(figures.balances());
        let tail = Figures::new(
            Some(5),
            &tally,
            Some(Bounds {
                least: 100,
                most: 100,
            }),
            true,
        );
        assert_eq!(
            tail.dropped,
            Dropped {
                overrun: 10,
                allocation: Some(0),
                ..Dropped::default()
            }
        );
        assert!(tail.balances());
    }

    #[test]
    fn bounds_are_told() {
        let tally = Tally {
            received: 90,
            written: 90,
            numbered: 90,
            ..Tally::default()
        };
        let figures = Figures::new(
            None,
            &tally,
            Some(Bounds {
                least: 80,
                most: 97,
            }),
            false,
        );
        assert_eq!(
            (figures.detected, figures.detected_uncertain),
            (Some(90), 7)
        );
        assert!(figures.balances());
        let unknown = Figures::new(None, &tally, None, false);
        assert_eq!((unknown.detected, unknown.dropped.allocation), (None, None));
    }

    #[test]
    fn what_a_full_queue_did_not_take_passed_or_was_refused() {
        let tally = Tally {
            received: 90,
            written: 90,
            overrun: 5,
            numbered: 95,
            ..Tally::default()
        };
        let bounds = Some(Bounds {
            least: 100,
            most: 100,
        });
        let open = Figures::new(Some(5), &tally, bounds, false).of_queue(true, 0);
        assert_eq!(
            (open.dropped.queue, open.dropped.allocation),
            (Some(5), Some(0))
        );
        assert_eq!(
            open.unrecorded,
            Some(Unrecorded {
                passed: 10,
                refused: 0
            })
        );
        assert!(open.balances());
        let closed = Figures::new(Some(5), &tally, bounds, false).of_queue(false, 10);
        assert_eq!(
            closed.unrecorded,
            Some(Unrecorded {
                passed: 0,
                refused: 10
            })
        );
        let unknown = Figures::new(Some(5), &tally, None, false).of_queue(true, 0);
        assert_eq!(
            (unknown.dropped.queue, unknown.dropped.allocation),
            (None, None)
        );
    }
}
