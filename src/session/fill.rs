//! Batches that collapse: the kernel collects packets in one piece of memory, and where it finds
//! none that large it hands over one packet at a time. Then it is asked for smaller pieces.

use std::time::Duration;

use super::Session;
use super::settings::SourceSettings;
use crate::account::Tally;
use crate::capture::Command;
use crate::numbers::grouped;
use crate::source::nflog::NLBUFSIZ_SMALL_BYTES;
use crate::source::{Change, Target};

/// So many looks in a row have to show it.
const LOOKS: u8 = 3;
/// Fewer batches between two looks say nothing.
const BATCHES_MIN: u64 = 100;
/// A traffic that could not fill so many packets has nothing to gain.
const POSSIBLE_MIN: u64 = 32;

/// What was seen of one group.
#[derive(Debug, Default)]
struct Seen {
    elapsed: Duration,
    received: u64,
    batches: u64,
    collapsed: u8,
}

/// How many packets batches have, and how many they could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Collapse {
    packets: u64,
    possible: u64,
}

impl Seen {
    /// Looks at a group's figures. Some where its batches have been of one packet for a while, though
    /// its traffic would fill larger ones.
    fn look(
        &mut self,
        elapsed: Duration,
        tally: &Tally,
        batch: u32,
        flush: Duration,
    ) -> Option<Collapse> {
        let received = tally.received - self.received;
        let batches = tally.batches - self.batches;
        let passed_ms = (elapsed.saturating_sub(self.elapsed)).as_millis().max(1);
        (self.elapsed, self.received, self.batches) = (elapsed, tally.received, tally.batches);
        let possible = u128::from(received) * flush.as_millis() / passed_ms;
        let possible = u64::try_from(possible)
            .unwrap_or(u64::MAX)
            .min(u64::from(batch));
        let packets = received / batches.max(1);
        if batches < BATCHES_MIN || possible < POSSIBLE_MIN || packets > 1 {
            self.collapsed = 0;
            return None;
        }
        self.collapsed += 1;
        if self.collapsed < LOOKS {
            return None;
        }
        self.collapsed = 0;
        Some(Collapse { packets, possible })
    }
}

/// Watches over the batches of a capture from groups.
#[derive(Debug)]
pub(super) struct FillWatch {
    groups: Vec<Seen>,
    /// Smaller pieces have been asked for.
    lowered: bool,
    /// That it has not helped has been said.
    given_up: bool,
}

impl FillWatch {
    /// None of a source whose batches are not the kernel's.
    pub(super) fn of(source: &SourceSettings) -> Option<FillWatch> {
        match source {
            SourceSettings::Numbers(Target::Group, numbers) => Some(FillWatch {
                groups: numbers.iter().map(|_| Seen::default()).collect(),
                lowered: false,
                given_up: false,
            }),
            _ => None,
        }
    }
}

impl Session {
    /// Looks whether batches have collapsed, and asks the kernel for smaller pieces of memory then.
    /// What is to be said of it, where something is.
    pub fn look_at_fill(&mut self) -> Option<String> {
        // A rule's own threshold has the same look, and is named when the capture begins.
        let limited = self
            .rules()
            .iter()
            .any(|rule| rule.queue_threshold.is_some());
        let rules_known = self
            .watch
            .as_ref()
            .is_some_and(|watch| !watch.doubts().outdated);
        let elapsed = self.begun.elapsed();
        let (batch, flush) = (self.settings.batch, self.settings.flush);
        let running = self.running.iter();
        let tallies: Vec<_> = running.map(|running| running.account.read()).collect();
        let watch = self.fill.as_mut().filter(|watch| !watch.given_up)?;
        let groups = watch.groups.iter_mut().zip(&tallies);
        let found: Vec<_> = groups
            .filter_map(|(seen, tally)| seen.look(elapsed, tally, batch, flush))
            .collect();
        let Collapse { packets, possible } = found.first().copied()?;
        if limited || !rules_known {
            return None;
        }
        let lowered = std::mem::replace(&mut watch.lowered, true);
        watch.given_up = lowered;
        let fill = format!(
            "batches hold {} packet where the traffic would fill {}",
            grouped(packets),
            grouped(possible)
        );
        if lowered {
            return Some(format!(
                "{fill}, with smaller pieces of memory (nlbufsiz {NLBUFSIZ_SMALL_BYTES}) as well: why is not known; \
                 each packet costs a wake-up"
            ));
        }
        // With a small receive buffer it may have been less.
        let what = format!("nlbufsiz at most {NLBUFSIZ_SMALL_BYTES}");
        let change = Change::BatchBytes(NLBUFSIZ_SMALL_BYTES);
        let asked = self.change_noting(Command::Source(change), &what);
        Some(match asked {
            Ok(()) => format!(
                "{fill}: likely the kernel finds no memory in large pieces (it does not say); asked for smaller ones: {what}"
            ),
            Err(why) => format!("{fill}, and {what} was refused: {why}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_millis(100);

    fn tally(received: u64, batches: u64) -> Tally {
        Tally {
            received,
            batches,
            ..Tally::default()
        }
    }

    /// Looks once a second at what came by then.
    fn looks(figures: &[(u64, u64)]) -> Vec<Option<Collapse>> {
        let mut seen = Seen::default();
        let looks = figures.iter().zip(1..);
        looks
            .map(|(&(received, batches), second)| {
                let elapsed = Duration::from_secs(second);
                seen.look(elapsed, &tally(received, batches), 1024, FLUSH)
            })
            .collect()
    }

    #[test]
    fn batches_of_one_packet_are_noticed_after_three_looks() {
        let seen = looks(&[(5000, 5000), (10_000, 9_900), (15_000, 14_900)]);
        let collapse = Collapse {
            packets: 1,
            possible: 500,
        };
        assert_eq!(seen, [None, None, Some(collapse)]);
    }

    #[test]
    fn what_could_not_be_otherwise_is_no_collapse() {
        // Slow traffic: each packet is a batch when its time is up.
        assert_eq!(looks(&[(9, 9), (18, 18), (27, 27), (36, 36)]), [None; 4]);
        // 300 packets a second fill 30 at the most.
        assert_eq!(looks(&[(300, 300), (600, 600), (900, 900)]), [None; 3]);
        // Full batches, and small ones that are not single packets.
        assert_eq!(
            looks(&[(102_400, 100), (204_800, 200), (307_200, 300)]),
            [None; 3]
        );
        assert_eq!(
            looks(&[(5000, 2500), (10_000, 5000), (15_000, 7500)]),
            [None; 3]
        );
        // Only a moment.
        let moments = [
            (5000, 5000),
            (10_000, 10_000),
            (20_000, 10_100),
            (25_000, 15_100),
        ];
        assert_eq!(looks(&moments), [None; 4]);
    }
}
