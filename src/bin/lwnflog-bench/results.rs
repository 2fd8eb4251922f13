//! What was measured, and its medians: the thesis's columns and today's.

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::job::Test;
use crate::measure::{Memory, ToolUse};
use crate::tools::{Claim, Hook};

/// One run of one tool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Packets that the kernel of the sender accepted.
    pub(crate) sent: u64,
    /// How long sending took.
    pub(crate) send_secs: f64,
    /// Packets counted at the tool's hook.
    pub(crate) detected: u64,
    /// Packets in the files by another reader; in the counting test, those that the tool counted.
    /// Unknown for tools that do not count.
    pub(crate) written: Option<u64>,
    /// Packets that are in the files more than once.
    pub(crate) duplicates: u64,
    /// Packets that stand behind later ones of the same sender.
    pub(crate) reordered: u64,
    /// The tool's processor time from the first packet until it was idle again.
    pub(crate) tool: ToolUse,
    /// The same of the whole machine, sender and soft interrupts included.
    pub(crate) busy_ns: f64,
    pub(crate) memory: Memory,
    pub(crate) disk_bytes: u64,
    /// Warm-up packets that were lost, which the tool's claim includes; unknown if the ring has
    /// overwritten some.
    pub(crate) warm_up_lost: Option<u64>,
    pub(crate) claim: Claim,
    /// What went wrong: the tool's end, a file that cannot be read.
    pub(crate) complaints: Vec<String>,
}

impl Run {
    /// Sent, but not counted at the hook.
    pub(crate) fn not_detected(&self) -> u64 {
        self.sent.saturating_sub(self.detected)
    }

    /// Counted at the hook, but not written.
    pub(crate) fn dropped(&self) -> Option<u64> {
        Some(self.detected.saturating_sub(self.written?))
    }

    /// (not detected + dropped) / sent, in percent.
    pub(crate) fn lost_percent(&self) -> Option<f64> {
        Some(100.0 * (self.not_detected() + self.dropped()?) as f64 / self.sent.max(1) as f64)
    }

    /// Packets a second that the sender reached.
    pub(crate) fn send_rate(&self) -> f64 {
        self.sent as f64 / self.send_secs.max(f64::MIN_POSITIVE)
    }

    /// Packets a second that were written.
    pub(crate) fn write_rate(&self) -> Option<f64> {
        Some(self.written? as f64 / self.send_secs.max(f64::MIN_POSITIVE))
    }

    /// The packets that the tool's work is divided by.
    pub(crate) fn handled(&self) -> f64 {
        self.written.unwrap_or(self.detected).max(1) as f64
    }

    /// What the tool says was lost, where that is not so.
    pub(crate) fn false_claim(&self) -> Option<u64> {
        /// A stop loses a few.
        const TOLERANCE: f64 = 0.001;
        let lost = self.dropped()? + self.warm_up_lost?;
        let claimed = self.claim.lost?;
        let margin = self.sent as f64 * TOLERANCE;
        (claimed.abs_diff(lost) as f64 > margin).then_some(claimed)
    }
}

/// All runs of one tool at one job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) test: Test,
    pub(crate) frame_len: usize,
    pub(crate) senders: usize,
    pub(crate) packets: u64,
    pub(crate) tool: String,
    pub(crate) hook: Hook,
    pub(crate) command: String,
    pub(crate) runs: Vec<Run>,
    /// Why there are none.
    pub(crate) gap: Option<String>,
}

/// A median with the extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min, max })
    }
}

impl Cell {
    /// The spread of a figure that every run has.
    pub(crate) fn spread(&self, figure: impl Fn(&Run) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().map(figure))
    }

    /// The spread of a figure that some runs have.
    pub(crate) fn spread_some(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure))
    }

    /// The tool's processor time for each packet it handled.
    pub(crate) fn cpu_ns(&self) -> Option<Spread> {
        self.spread(|run| run.tool.total_ns() / run.handled())
    }
}

/// Everything that one call of the benchmark found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) host: Host,
    pub(crate) command: String,
    pub(crate) rounds: u64,
    pub(crate) tools: Vec<ToolInfo>,
    pub(crate) cells: Vec<Cell>,
}

/// A tool as it was run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ToolInfo {
    pub(crate) id: String,
    pub(crate) hook: Hook,
    pub(crate) version: String,
    pub(crate) settings: String,
    /// Why it was not run.
    pub(crate) missing: Option<String>,
}

impl Results {
    /// The groups of cells that belong into one table, in order.
    pub(crate) fn groups(&self) -> Vec<Vec<&Cell>> {
        let mut groups: Vec<Vec<&Cell>> = Vec::new();
        for cell in &self.cells {
            let same = |group: &&mut Vec<&Cell>| {
                group.first().is_some_and(|first| {
                    (first.test, first.frame_len, first.senders)
                        == (cell.test, cell.frame_len, cell.senders)
                })
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(cell),
                None => groups.push(vec![cell]),
            }
        }
        groups
    }

    /// The machine's busy time for each packet of the capacity test with the same traffic.
    pub(crate) fn capacity_ns(&self, like: &Cell) -> Option<f64> {
        let capacity = self.cells.iter().find(|cell| {
            cell.test == Test::Capacity
                && (cell.frame_len, cell.senders) == (like.frame_len, like.senders)
        })?;
        Some(
            capacity
                .spread(|run| run.busy_ns / run.sent.max(1) as f64)?
                .median,
        )
    }

    /// What capturing adds to the machine's busy time, for each packet handled.
    pub(crate) fn busy_ns(&self, cell: &Cell) -> Option<Spread> {
        if cell.test == Test::Capacity {
            return cell.spread(|run| run.busy_ns / run.sent.max(1) as f64);
        }
        let base = self.capacity_ns(cell)?;
        cell.spread(|run| (run.busy_ns - base * run.sent as f64) / run.handled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn run(sent: u64, detected: u64, written: Option<u64>) -> Run {
        Run {
            sent,
            send_secs: 1.0,
            detected,
            written,
            duplicates: 0,
            reordered: 0,
            tool: ToolUse::default(),
            busy_ns: 0.0,
            memory: Memory::default(),
            disk_bytes: 0,
            warm_up_lost: Some(0),
            claim: Claim::default(),
            complaints: Vec::new(),
        }
    }

    #[test]
    fn columns_are_the_thesis_s() {
        // Table 4.5, lwpcap, Netfilter hook, 64 bytes.
        let run = run(52_639_180, 52_510_909, Some(52_508_594));
        assert_eq!((run.not_detected(), run.dropped()), (128_271, Some(2_315)));
        assert!((run.lost_percent().unwrap() - 0.248).abs() < 0.001);
    }

    #[test]
    fn a_claim_is_false_only_when_it_is_far_off() {
        let mut run = run(1000, 1000, Some(900));
        for (claimed, expected) in [(100, None), (101, None), (0, Some(0)), (200, Some(200))] {
            run.claim.lost = Some(claimed);
            assert_eq!(run.false_claim(), expected, "{claimed}");
        }
        run.written = None;
        assert_eq!(run.false_claim(), None);
    }

    #[test]
    fn medians_are_medians() {
        let spread = Spread::of([3.0, 1.0, 2.0, f64::NAN]).unwrap();
        assert_eq!(
            spread,
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }
}
