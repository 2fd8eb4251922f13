//! What the rule counted while a group was bound: the account's *detected*.
//!
//! The rule's counter runs before the group is bound and after it is released, and no call does
//! both at one moment. So it is read on both sides of either: if nothing was counted in between,
//! the difference is exact, and otherwise it is known within bounds.

use std::collections::HashMap;

use crate::rules::{self, CounterPlace, Detected, Feed, RuleError, Target};

/// Packets that the rules counted, as far as it can be known: between `least` and `most`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// So many at the least.
    pub least: u64,
    /// So many at the most.
    pub most: u64,
}

impl Bounds {
    fn plus(self, more: Bounds) -> Bounds {
        Bounds {
            least: self.least + more.least,
            most: self.most + more.most,
        }
    }
}

/// One counter, as it was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    /// What it showed at the beginning: read before and after the bind. A new one began at zero.
    base: Bounds,
    /// What it showed last.
    last: u64,
}

impl Counted {
    /// What it has counted since the beginning.
    fn bounds(&self) -> Bounds {
        Bounds {
            least: self.last.saturating_sub(self.base.most),
            most: self.last.saturating_sub(self.base.least),
        }
    }
}

/// Watches the counters of the rules that feed some groups or queues.
pub struct Watch {
    target: Target,
    numbers: Vec<u16>,
    detected: Option<Detected>,
    counters: HashMap<CounterPlace, Counted>,
    /// Counted by counters that are gone, or by those of before a reset.
    carried: Bounds,
    /// Counters were reset, replaced or removed unobserved: some of what they counted is unknown.
    broken: bool,
    feeds: Vec<Feed>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("numbers", &self.numbers)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Looks at the rules before the groups are bound. Rules that cannot be read are as good as
    /// none: *detected* is then unknown.
    pub fn before_bind(target: Target, numbers: &[u16]) -> Watch {
        let mut watch = Watch {
            target,
            numbers: numbers.to_vec(),
            detected: None,
            counters: HashMap::new(),
            carried: Bounds::default(),
            broken: false,
            feeds: Vec::new(),
        };
        if watch.look_up().is_ok() && watch.look().is_some() {
            for counter in watch.counters.values_mut() {
                counter.base.least = counter.last;
            }
        }
        watch
    }

    /// Looks again after the groups are bound.
    pub fn after_bind(&mut self) {
        if self.look().is_some() {
            for counter in self.counters.values_mut() {
                counter.base.most = counter.last;
            }
        }
    }

    /// The rules that feed these numbers.
    pub fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    /// Reads the rules again, for [`Watch::feeds`] and for counters that came or went.
    ///
    /// # Errors
    /// What reading them says.
    pub fn look_up(&mut self) -> Result<(), RuleError> {
        let feeds = rules::feeds_of_all(self.target, &self.numbers)?;
        self.detected = if feeds.is_empty() {
            None
        } else {
            Some(Detected::new(&feeds)?)
        };
        self.feeds = feeds;
        Ok(())
    }

    /// Packets counted so far; `None` where no counter says so.
    pub fn read(&mut self) -> Option<Bounds> {
        // Rules that come now are new, and their counters began at zero.
        let all_there = self.detected.is_some() && self.look()?;
        if !all_there {
            self.look_up().ok()?;
            if self.detected.is_some() {
                self.look()?;
            } else if !self.broken {
                return None; // no rule, and there was none
            }
        }
        let counters = self.counters.values().map(Counted::bounds);
        Some(counters.fold(self.carried, Bounds::plus))
    }

    /// Reads the counters. False if one is gone; `None` where they cannot be read, or do not say what is
    /// asked for.
    fn look(&mut self) -> Option<bool> {
        let mut all_there = true;
        for (place, now) in self.detected.as_mut()?.look()? {
            let counter = self.counters.entry(place.clone()).or_default();
            match now {
                Ok(now) => counter.last = now,
                Err(RuleError::CounterReset { now, .. }) => {
                    self.carried = self.carried.plus(counter.bounds());
                    *counter = Counted {
                        last: now,
                        ..Counted::default()
                    };
                    self.broken = true;
                }
                Err(RuleError::CounterGone { .. }) => {
                    self.carried = self.carried.plus(counter.bounds());
                    self.counters.remove(&place);
                    (self.broken, all_there) = (true, false);
                }
                Err(_) => return None,
            }
        }
        Some(all_there)
    }

    /// Whether counters were reset, replaced or removed while they were watched, so that what they counted
    /// between the last look and then is unknown.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}
