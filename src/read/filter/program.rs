//! Tests put together as steps with two ways on, so that nothing is nested however long a filter is.
//!
//! ```text
//!   tcp and (host A or host B)      0: tcp      true: 1            false: takes nothing
//!                                   1: host A   true: takes it     false: 2
//!                                   2: host B   true: takes it     false: takes nothing
//! ```

use super::Test;

/// A test, and the steps that follow it: all stand behind it, or are one of the two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) test: Test,
    pub(super) if_true: u32,
    pub(super) if_false: u32,
}

/// In the place of a step: the packet is taken, or not.
pub(super) const TAKEN: u32 = u32::MAX;
pub(super) const NOT_TAKEN: u32 = u32::MAX - 1;

/// Ways on that lead nowhere yet. Each says in its place which is the next of them.
#[derive(Debug, Clone, Copy)]
struct Open {
    first: u32,
    last: u32,
}

/// Steps that stand one behind the other and are one condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    begin: u32,
    if_true: Open,
    if_false: Open,
}

/// Puts steps together.
#[derive(Debug, Default)]
pub(super) struct Program {
    steps: Vec<Step>,
}

impl Program {
    pub(super) fn test(&mut self, test: Test) -> Part {
        let begin = u32::try_from(self.steps.len()).unwrap_or(NOT_TAKEN);
        self.steps.push(Step {
            test,
            if_true: NOT_TAKEN,
            if_false: NOT_TAKEN,
        });
        let alone = |way| Open {
            first: way,
            last: way,
        };
        Part {
            begin,
            if_true: alone(begin * 2),
            if_false: alone(begin * 2 + 1),
        }
    }

    pub(super) fn not(part: Part) -> Part {
        Part {
            if_true: part.if_false,
            if_false: part.if_true,
            ..part
        }
    }

    pub(super) fn and(&mut self, one: Part, other: Part) -> Part {
        self.lead(one.if_true, other.begin);
        Part {
            begin: one.begin,
            if_true: other.if_true,
            if_false: self.joined(one.if_false, other.if_false),
        }
    }

    pub(super) fn or(&mut self, one: Part, other: Part) -> Part {
        self.lead(one.if_false, other.begin);
        Part {
            begin: one.begin,
            if_true: self.joined(one.if_true, other.if_true),
            if_false: other.if_false,
        }
    }

    pub(super) fn whole(mut self, part: Part) -> Vec<Step> {
        self.lead(part.if_true, TAKEN);
        self.lead(part.if_false, NOT_TAKEN);
        self.steps
    }

    /// A way on: of each step the first and the second.
    fn way(&mut self, way: u32) -> Option<&mut u32> {
        let step = self.steps.get_mut(way as usize / 2)?;
        Some(match way % 2 {
            0 => &mut step.if_true,
            _ => &mut step.if_false,
        })
    }

    fn lead(&mut self, open: Open, to: u32) {
        let mut next = open.first;
        while let Some(way) = self.way(next) {
            let after = std::mem::replace(way, to);
            if next == open.last {
                return;
            }
            next = after;
        }
    }

    fn joined(&mut self, one: Open, other: Open) -> Open {
        if let Some(way) = self.way(one.last) {
            *way = other.first;
        }
        Open {
            first: one.first,
            last: other.last,
        }
    }
}
