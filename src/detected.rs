//! What the rule counted while a group was bound: the account's *detected*.
//!
//! The rule's counter runs before the group is bound and after it is released, and no call does
//! both at one moment. So it is read on both sides of either: if nothing was counted in between,
//! the difference is exact, and otherwise it is known within bounds.

use crate::rules::{self, Detected, Feed, RuleError, Target};

/// Packets that the rules counted, as far as it can be known: between `least` and `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// So many at the least.
    pub least: u64,
    /// So many at the most.
    pub most: u64,
}

/// Watches the counters of the rules that feed some groups or queues.
pub struct Watch {
    target: Target,
    numbers: Vec<u16>,
    counters: Option<Detected>,
    /// What the counters showed at the beginning: read before and after the bind.
    base: Bounds,
    /// The last reading.
    last: u64,
    /// Counted by counters that are gone now.
    carried: Bounds,
    /// Counters were reset or replaced unobserved: no upper bound.
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
            counters: None,
            base: Bounds { least: 0, most: 0 },
            last: 0,
            carried: Bounds { least: 0, most: 0 },
            broken: false,
            feeds: Vec::new(),
        };
        if watch.look_up().is_ok()
            && let Some(now) = watch.read_counters()
        {
            watch.base.least = now;
        }
        watch
    }

    /// Looks again after the groups are bound.
    pub fn after_bind(&mut self) {
        if let Some(now) = self.read_counters() {
            self.base.most = now;
            self.last = now;
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
        let mut feeds = Vec::new();
        for number in &self.numbers {
            feeds.extend(rules::feeds(self.target, *number)?);
        }
        self.counters = if feeds.is_empty() {
            None
        } else {
            Some(Detected::new(&feeds)?)
        };
        self.feeds = feeds;
        Ok(())
    }

    fn read_counters(&mut self) -> Option<u64> {
        self.counters.as_mut()?.read().ok().flatten()
    }

    /// Packets counted so far; `None` where no counter says so.
    pub fn read(&mut self) -> Option<Bounds> {
        let now = match self.counters.as_mut().map(Detected::read) {
            Some(Ok(now)) => now?,
            Some(Err(_)) => self.start_over()?,
            // No rule so far: one that comes now is new, and counts from zero.
            None => {
                self.look_up().ok()?;
                self.read_counters()?
            }
        };
        self.last = now;
        Some(Bounds {
            least: self.carried.least + now.saturating_sub(self.base.most),
            most: self.carried.most + now.saturating_sub(self.base.least),
        })
    }

    /// The table was reloaded: what its counters showed last is kept, the new ones began at zero.
    fn start_over(&mut self) -> Option<u64> {
        self.carried.least += self.last.saturating_sub(self.base.most);
        self.carried.most += self.last.saturating_sub(self.base.least);
        self.base = Bounds { least: 0, most: 0 };
        self.last = 0;
        self.broken = true;
        self.look_up().ok()?;
        self.read_counters()
    }

    /// Whether counters were reset or replaced while they were watched, so that what they counted
    /// between the last look and then is unknown.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}
