//! What the rules counted while groups were bound: the account's *detected*.
//!
//! A rule's counter runs before the group is bound and after it is released, and no call does both
//! at one moment. So it is read on both sides of either: if nothing was counted in between, the
//! difference is exact, and otherwise it is known within bounds.
//!
//! Rules come and go while a capture runs, and counters have a past: what one showed when it was
//! first seen is not this capture's. One watch reads for all groups, so that they and their sum
//! agree.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::nft::{self, CounterPlace, Counters, LoggingRule, RuleError, RuleFamily};
use crate::source::Target;

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
#[derive(Debug, Clone)]
struct Counted {
    /// The groups or queues whose packets it counts.
    numbers: BTreeSet<u16>,
    /// What it showed at the beginning, or when it was first seen.
    base: Bounds,
    /// What it showed last.
    last: u64,
    /// It has been looked at.
    seen: bool,
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

/// What is to be said of an account that cannot be whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Counters were reset, replaced or removed while they were watched: some of what they counted
    /// is unknown.
    pub broken: bool,
    /// Packets that counters showed already when they were first seen, while capturing.
    pub past: u64,
    /// Counters could not be read at the last look (a right that was given up): nothing is known.
    pub unreadable: bool,
    /// The rules have changed since they were read, and are too many to be read again.
    pub outdated: bool,
}

/// How long a look at the rules may take while a capture runs.
const LOOK_MAX: Duration = Duration::from_millis(300);
/// How long it may take when it begins.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(20);
/// A look that takes no longer is taken whenever there is a reason.
const SHORT_LOOK: Duration = Duration::from_millis(20);
/// Of the time, looking takes a part of this at the most.
const LOOK_PART: u32 = 20;
/// And where it came to nothing.
const LOOK_PART_IN_VAIN: u32 = 200;

/// Watches the counters of the rules that log to some groups, or hand packets to some queues.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    numbers: Vec<u16>,
    /// The rules are lwnflog's own: only its table, of this family and name, is looked at.
    own_table: Option<(RuleFamily, String)>,
    reader: Option<Counters>,
    rules: Vec<LoggingRule>,
    counters: HashMap<CounterPlace, Counted>,
    /// Counted by counters that are gone, or by those of before a reset.
    carried: HashMap<BTreeSet<u16>, Bounds>,
    /// The rules' generation when they were read.
    generation: Option<u32>,
    /// When they may be read again, and how long that took last.
    next_look: Instant,
    look_took: Duration,
    /// The groups are bound: what is seen first from now on has a past.
    bound: bool,
    doubts: Doubts,
}

impl Watch {
    /// Looks at the rules before the groups are bound. Rules that cannot be read are as good as
    /// none: *detected* is then unknown.
    pub fn before_bind(target: Target, numbers: &[u16]) -> Watch {
        let own = (RuleFamily::default(), String::new());
        let mut watch = Watch::of_own_table(target, numbers, own);
        watch.own_table = None;
        match watch.list(FIRST_LOOK_MAX) {
            Ok(()) => drop(watch.look()),
            Err(_) => watch.doubts.outdated = true,
        }
        watch
    }

    /// For groups whose rule is installed by this process, once they are bound: no other rule is
    /// looked at.
    pub fn of_own_table(target: Target, numbers: &[u16], table: (RuleFamily, String)) -> Watch {
        Watch {
            target,
            numbers: numbers.to_vec(),
            own_table: Some(table),
            reader: Counters::open().ok(),
            rules: Vec::new(),
            counters: HashMap::new(),
            carried: HashMap::new(),
            generation: None,
            next_look: Instant::now(),
            look_took: Duration::ZERO,
            bound: false,
            doubts: Doubts::default(),
        }
    }

    /// Looks again after the groups are bound.
    pub fn after_bind(&mut self) {
        self.look();
        for counter in self.counters.values_mut() {
            counter.base.most = counter.last;
        }
        self.bound = true;
    }

    /// Finds the counters of the rule that was just installed: they began at zero.
    ///
    /// # Errors
    /// What reading them says.
    pub fn installed(&mut self) -> Result<(), RuleError> {
        self.bound = false;
        self.list(FIRST_LOOK_MAX)?;
        self.look();
        for counter in self.counters.values_mut() {
            counter.base = Bounds::default();
        }
        self.bound = true;
        Ok(())
    }

    /// The rules that log to these numbers, as they were read last.
    pub fn rules(&self) -> &[LoggingRule] {
        &self.rules
    }

    /// The groups or queues that no rule logs to; none where that is not known.
    pub fn without_rule(&self) -> Vec<u16> {
        if self.doubts.outdated {
            return Vec::new();
        }
        let with_rule: BTreeSet<u16> = self.rules.iter().map(|rule| rule.number).collect();
        let numbers = self.numbers.iter();
        numbers
            .filter(|number| !with_rule.contains(number))
            .copied()
            .collect()
    }

    /// What cannot be known.
    pub fn doubts(&self) -> Doubts {
        self.doubts
    }

    /// Looks at the rules, if they have changed, and at the counters.
    pub fn refresh(&mut self) {
        let generation = match &mut self.reader {
            Some(reader) => reader.generation().ok().flatten(),
            None => None,
        };
        let changed = generation.is_none() || generation != self.generation;
        if changed && self.own_table.is_none() {
            self.list_if_due();
        }
        if !self.look() {
            self.list_if_due();
            self.look();
        }
    }

    /// One look that was slow is no reason to look never again: it may have been the host's load.
    fn list_if_due(&mut self) {
        let due = self.look_took < SHORT_LOOK || Instant::now() >= self.next_look;
        self.doubts.outdated = !(due && self.list(LOOK_MAX).is_ok());
    }

    /// Reads the rules.
    fn list(&mut self, longest: Duration) -> Result<(), RuleError> {
        let begun = Instant::now();
        let generation = match &mut self.reader {
            Some(reader) => reader.generation()?,
            None => None,
        };
        let own = self.own_table.as_ref();
        let own = own.map(|(family, name)| (*family, name.as_str()));
        let rules = nft::logging_rules_by(self.target, &self.numbers, own, begun + longest);
        self.look_took = begun.elapsed();
        let part = match rules {
            Ok(_) => LOOK_PART,
            Err(_) => LOOK_PART_IN_VAIN,
        };
        self.next_look = Instant::now() + self.look_took * part;
        self.rules = rules?;
        self.generation = generation;
        let mut places: HashMap<CounterPlace, BTreeSet<u16>> = HashMap::new();
        for rule in &self.rules {
            if let Some(counter) = &rule.counter {
                let numbers = places.entry(counter.place.clone()).or_default();
                numbers.insert(rule.number);
                numbers.extend(&counter.shared_with);
            }
        }
        // A rule that is there no more, but whose counter is, may come back.
        for (place, counter) in &self.counters {
            places
                .entry(place.clone())
                .or_insert_with(|| counter.numbers.clone());
        }
        for (place, numbers) in &places {
            let counter = self.counters.entry(place.clone()).or_insert(Counted {
                numbers: BTreeSet::new(),
                base: Bounds::default(),
                last: 0,
                seen: false,
            });
            counter.numbers.clone_from(numbers);
        }
        if let Some(reader) = &mut self.reader {
            reader.watch(places.into_keys());
        }
        Ok(())
    }

    /// Reads the counters. False if one is gone.
    fn look(&mut self) -> bool {
        let Some(reader) = &mut self.reader else {
            return true;
        };
        let mut all_there = true;
        self.doubts.unreadable = false;
        for (place, now) in reader.look() {
            let Some(counter) = self.counters.get_mut(&place) else {
                continue;
            };
            match now {
                Ok(now) => {
                    if !std::mem::replace(&mut counter.seen, true) {
                        // What it showed before it was seen is not ours.
                        counter.base = Bounds {
                            least: now,
                            most: now,
                        };
                        if self.bound {
                            self.doubts.past += now;
                        }
                    }
                    counter.last = now;
                }
                Err(RuleError::CounterReset { now, .. }) => {
                    let bounds = counter.bounds();
                    carry(&mut self.carried, &counter.numbers, bounds);
                    (counter.base, counter.last) = (Bounds::default(), now);
                    self.doubts.broken = true;
                }
                Err(RuleError::CounterGone { .. }) => {
                    let (numbers, bounds) = (counter.numbers.clone(), counter.bounds());
                    let seen = counter.seen;
                    carry(&mut self.carried, &numbers, bounds);
                    self.counters.remove(&place);
                    all_there = false;
                    self.doubts.broken |= seen;
                }
                Err(_) => self.doubts.unreadable = true,
            }
        }
        if !all_there {
            let places: Vec<_> = self.counters.keys().cloned().collect();
            if let Some(reader) = &mut self.reader {
                reader.watch(places);
            }
        }
        all_there
    }

    /// Packets counted so far for these numbers, as of the last look; `None` where no counter says
    /// so.
    pub fn counted(&self, numbers: &[u16]) -> Option<Bounds> {
        if self.doubts.unreadable {
            return None;
        }
        let mut rules = self
            .rules
            .iter()
            .filter(|rule| numbers.contains(&rule.number));
        if rules.any(|rule| rule.counter.is_none()) {
            return None;
        }
        let wanted: BTreeSet<u16> = numbers.iter().copied().collect();
        let now = self.counters.values();
        let now = now.map(|counter| (&counter.numbers, counter.bounds()));
        let carried = self
            .carried
            .iter()
            .map(|(numbers, bounds)| (numbers, *bounds));
        let mut sum = None;
        for (numbers, bounds) in now.chain(carried) {
            if numbers.is_subset(&wanted) {
                sum = Some(sum.unwrap_or(Bounds::default()).plus(bounds));
            } else if !numbers.is_disjoint(&wanted) {
                return None; // it counts others' packets, too
            }
        }
        sum
    }
}

fn carry(carried: &mut HashMap<BTreeSet<u16>, Bounds>, numbers: &BTreeSet<u16>, more: Bounds) {
    let sum = carried.entry(numbers.clone()).or_default();
    *sum = sum.plus(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_again_after_a_look_that_was_slow() {
        let mut watch = Watch::before_bind(Target::Group, &[5]);
        watch.after_bind();
        watch.look_took = LOOK_MAX * 4;
        watch.next_look = Instant::now() + Duration::from_secs(3600);
        watch.generation = None; // somebody has changed them
        watch.refresh();
        assert!(watch.doubts().outdated, "not yet");
        watch.next_look = Instant::now();
        watch.refresh();
        assert!(!watch.doubts().outdated);
        assert!(watch.look_took < LOOK_MAX);
    }
}
