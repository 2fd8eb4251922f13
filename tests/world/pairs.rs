//! Pairs of an order and a fault, or of two faults: at most two steps apart, and of the same capture (or of
//! something that all have in common). Which there are, which were met, and which to draw next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::play::{Play, SLOTS};
use crate::steps::{Place, Step};

/// As often as each pair is to be met.
pub const ENOUGH: u64 = 5;
/// Steps between two that are still a pair.
const APART: usize = 2;

pub const ORDERS: &[&str] = &[
    "begin-group",
    "begin-installed",
    "begin-hook",
    "begin-queue",
    "end-int",
    "end-term",
    "end-quit",
    "end-ctl",
    "ctl-pause",
    "ctl-resume",
    "ctl-snaplen",
    "ctl-rotate",
    "ctl-files",
    "ctl-file-size",
    "ctl-batch",
    "ctl-flush-ms",
    "confirm",
    "bad-order",
    "hup",
    "usr1",
    "keep",
    "read-count",
    "read-json",
    "read-text",
    "read-write",
    "read-ls",
    "read-report",
    "read-csv",
    "read-export-json",
    "read-port",
    "follow",
    "follow-end",
    "doctor",
    "repair",
];

pub const FAULTS: &[&str] = &[
    "kill",
    "kill-chores",
    "stop",
    "stop-follower",
    "kill-follower",
    "kill-reader",
    "fill",
    "freeze",
    "remove-live",
    "remove-finished",
    "copy-file",
    "link-file",
    "open-file",
    "remove-indexes",
    "second-capture",
    "reload-rule",
    "rename-interface",
    "new-interface",
    "remove-interface",
    "other-rules",
    "cut-file",
    "move-file",
    "touch-file",
    "poor-read",
    "clients",
    "power-loss",
    "lock-dir",
    "fail-place",
    "move-dir",
    "rename-file",
    "foreign",
    "limit",
    "bounce",
    "flush-rules",
    "drop-rule",
    "change-rule",
    "hang-clients",
    "two-orders",
    "stop-chores",
    "kill-packing",
    "pause-reader",
];

/// Pairs of what no one capture can be: a queue has no rule of a group.
fn is_possible(one: &str, other: &str) -> bool {
    let both = |a: &[&str], b: &[&str]| {
        a.contains(&one) && b.contains(&other) || a.contains(&other) && b.contains(&one)
    };
    let of_group = ["reload-rule", "change-rule"];
    !both(&of_group, &["begin-queue", "begin-hook", "begin-installed"])
}

/// A pair's name, whichever was first.
fn name(one: &str, other: &str) -> String {
    let (one, other) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    format!("{one}, {other}")
}

/// All that there are.
pub fn all() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, fault) in FAULTS.iter().enumerate() {
        let others = ORDERS.iter().chain(&FAULTS[at..]);
        for other in others.filter(|other| is_possible(fault, other)) {
            found.insert(name(fault, other));
        }
    }
    found
}

fn is_pair(one: &Done, other: &Done) -> bool {
    (one.fault || other.fault) && one.touches & other.touches != 0
}

/// What was done lately.
#[derive(Debug, Clone)]
struct Done {
    kind: String,
    fault: bool,
    /// A bit for each capture that it concerns.
    touches: u8,
}

/// Whom a step concerns: its capture, those of its place, or all.
fn touches(step: &Step, play: &Play) -> u8 {
    let map = step.value();
    if let Some(capture) = map.get("capture").and_then(serde_json::Value::as_u64) {
        return 1 << (capture % SLOTS as u64);
    }
    let place: Option<Place> = map
        .get("place")
        .and_then(|place| serde_json::from_value(place.clone()).ok());
    let mut mask = 0;
    for slot in 0..SLOTS {
        let run = play.ring(slot).and_then(|ring| ring.runs.last());
        if run.is_some_and(|run| place.is_none_or(|place| place == run.options.place)) {
            mask |= 1 << slot;
        }
    }
    mask
}

/// Counts pairs, and knows which are missing.
pub struct Pairs {
    last: VecDeque<Done>,
    met: BTreeMap<String, u64>,
    /// Kinds of which there was nothing to do: not again for some steps.
    barren: BTreeMap<String, u64>,
    steps: u64,
}

impl Pairs {
    /// `met`: in earlier worlds.
    pub fn new(met: BTreeMap<String, u64>) -> Pairs {
        Pairs {
            last: VecDeque::new(),
            met,
            barren: BTreeMap::new(),
            steps: 0,
        }
    }

    /// A step was done; returns the pairs that it is of.
    pub fn done(&mut self, step: &Step, play: &Play) -> Vec<String> {
        self.steps += 1;
        let this = Done {
            kind: step.kind(),
            fault: step.is_fault(),
            touches: touches(step, play),
        };
        let of_pair = this.fault || step.is_order();
        let mut found = Vec::new();
        for before in self
            .last
            .iter()
            .filter(|before| of_pair && !before.kind.is_empty())
        {
            if is_pair(before, &this) {
                found.push(name(&before.kind, &this.kind));
            }
        }
        for pair in &found {
            *self.met.entry(pair.clone()).or_default() += 1;
        }
        let kept = if of_pair {
            this
        } else {
            Done {
                kind: String::new(),
                fault: false,
                touches: 0,
            }
        };
        self.last.push_back(kept);
        if self.last.len() > APART {
            self.last.pop_front();
        }
        found
    }

    /// There was nothing to do.
    pub fn nothing(&mut self, kind: String) {
        self.steps += 1;
        self.barren.insert(kind, self.steps + 40);
    }

    /// Kinds that would meet most pairs that are missing, and a capture to do them to.
    pub fn wanted(&self) -> (Vec<&'static str>, Option<usize>) {
        let mut best = (1, Vec::new());
        for (kinds, fault) in [(FAULTS, true), (ORDERS, false)] {
            for kind in kinds {
                if self
                    .barren
                    .get(*kind)
                    .is_some_and(|until| *until > self.steps)
                {
                    continue;
                }
                let missing = |before: &&Done| {
                    !before.kind.is_empty()
                        && (fault || before.fault)
                        && is_possible(&before.kind, kind)
                        && self
                            .met
                            .get(&name(&before.kind, kind))
                            .is_none_or(|met| *met < ENOUGH)
                };
                let count = self.last.iter().filter(missing).count();
                if count > best.0 {
                    best = (count, Vec::new());
                }
                if count == best.0 {
                    best.1.push(*kind);
                }
            }
        }
        let touched = self.last.iter().rev().map(|done| done.touches);
        let slot = touched
            .filter(|touches| *touches != 0)
            .map(|touches| touches.trailing_zeros() as usize)
            .next();
        (best.1, slot)
    }
}
