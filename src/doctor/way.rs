//! Whether a packet can come to a rule: what is certain of all packets, whatever they are. A rule that
//! takes some of them lets the others by; nothing is said of what only adds up.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;

use serde_json::Value;

use super::ruleset::{BaseChain, Place, Rule, Ruleset, is_everything, lets_all_by};

/// What becomes of packets in a chain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate<'a> {
    /// Some may come to its end, or return: the chain that led there goes on.
    falls: bool,
    /// Some may be accepted.
    passes: bool,
    /// Some may be dropped.
    pub(super) drops: bool,
    /// The rule where the way of the last of them ends, here or in a chain that is led to.
    pub(super) ended_by: Option<&'a Rule>,
    /// The rule of this chain behind which none comes.
    stops_at: Option<&'a Rule>,
}

/// What one rule does to packets that come to it.
#[derive(Debug, Clone, Copy, Default)]
struct Step<'a> {
    fate: Fate<'a>,
    /// Some may go on to the next rule.
    goes_on: bool,
}

/// A look at all chains, each walked through once.
pub(super) struct Way<'a> {
    pub(super) ruleset: &'a Ruleset,
    known: RefCell<HashMap<&'a Place, Fate<'a>>>,
    /// The chains that packets may be led to from each.
    calls: RefCell<HashMap<&'a Place, HashSet<&'a Place>>>,
}

impl<'a> Way<'a> {
    pub(super) fn new(ruleset: &'a Ruleset) -> Way<'a> {
        Way {
            ruleset,
            known: RefCell::default(),
            calls: RefCell::default(),
        }
    }

    /// Whether packets of a base chain may come to a rule.
    pub(super) fn reaches(&self, base: &'a BaseChain, chain: &Place, handle: u64) -> bool {
        self.fate(&base.place);
        let calls = self.calls.borrow();
        let (mut seen, mut next) = (HashSet::new(), vec![&base.place]);
        while let Some(place) = next.pop() {
            if seen.insert(place) {
                next.extend(calls.get(place).into_iter().flatten());
            }
        }
        drop(calls);
        seen.contains(chain) && self.stopper_in(chain, handle).is_none()
    }

    /// Whether a base chain may let packets by.
    pub(super) fn lets_by(&self, base: &'a BaseChain) -> bool {
        let fate = self.fate(&base.place);
        fate.passes || fate.falls && !base.drops_by_policy
    }

    /// The rule that ends the way of all packets in a rule's own chain, before it.
    pub(super) fn stopper_in(&self, chain: &Place, handle: u64) -> Option<&'a Rule> {
        let (chain, rules) = self.ruleset.chain(chain)?;
        let ended_by = self.stopped_at(chain)?;
        let at = |handle: u64| rules.iter().position(|rule| rule.handle == handle);
        let (end, own) = (at(ended_by.handle)?, at(handle)?);
        // What ends their way there may be in a chain that this one leads to.
        (end < own).then(|| self.fate(chain).ended_by.unwrap_or(ended_by))
    }

    /// The rule of a chain behind which nothing comes.
    fn stopped_at(&self, chain: &'a Place) -> Option<&'a Rule> {
        self.fate(chain).stops_at
    }

    /// What becomes of packets in a chain.
    pub(super) fn fate(&self, chain: &'a Place) -> Fate<'a> {
        if let Some(known) = self.known.borrow().get(chain) {
            return *known;
        }
        // The kernel has no loops; a listing that has been changed meanwhile might.
        self.known.borrow_mut().insert(chain, Fate::default());
        let mut fate = Fate::default();
        let mut goes_on = true;
        for rule in self.ruleset.rules_of(chain) {
            let step = self.step(rule);
            fate.passes |= step.fate.passes;
            fate.falls |= step.fate.falls;
            fate.drops |= step.fate.drops;
            if !step.goes_on {
                fate.ended_by = step.fate.ended_by.or(Some(rule));
                fate.stops_at = Some(rule);
                goes_on = false;
                break;
            }
        }
        fate.falls |= goes_on;
        self.known.borrow_mut().insert(chain, fate);
        fate
    }

    fn step(&self, rule: &'a Rule) -> Step<'a> {
        let mut step = Step {
            goes_on: true,
            ..Step::default()
        };
        // Whether all packets that come to the rule come as far as this.
        let mut all = true;
        for expression in &rule.expressions {
            let Some((name, data)) = expression.as_object().and_then(|map| map.iter().next())
            else {
                all = false;
                continue;
            };
            if name == "vmap" {
                self.by_map(rule, data, all, &mut step);
            } else if let Some(verdict) = self.verdict(rule, name, data) {
                add(&mut step, verdict, all);
            } else {
                all &= lets_all_by(name, data);
            }
        }
        step
    }

    /// A verdict; `None` of what is none.
    fn verdict(&self, rule: &'a Rule, name: &str, data: &Value) -> Option<Step<'a>> {
        let mut step = Step::default();
        match name {
            "accept" | "dnat" | "snat" | "masquerade" | "redirect" => step.fate.passes = true,
            "drop" | "reject" | "fwd" => step.fate.drops = true,
            "return" => step.fate.falls = true,
            "continue" => step.goes_on = true,
            "queue" if is_lost_in_queue(data) => step.fate.drops = true,
            "queue" => step.fate.passes = true,
            "jump" | "goto" => {
                let target = data["target"].as_str()?;
                let Some(target) = self.ruleset.chain_of(rule, target) else {
                    step.goes_on = true;
                    return Some(step);
                };
                let mut calls = self.calls.borrow_mut();
                calls.entry(&rule.place).or_default().insert(target);
                drop(calls);
                step.fate = self.fate(target);
                if name == "jump" {
                    step.goes_on = std::mem::take(&mut step.fate.falls);
                }
            }
            _ => return None,
        }
        Some(step)
    }

    /// Which verdict depends on the packet.
    fn by_map(&self, rule: &'a Rule, data: &Value, all: bool, step: &mut Step<'a>) {
        let named = data["data"].as_str();
        let listed = data["data"]["set"].as_array();
        let elements = match (named, listed) {
            (Some(name), _) => self.ruleset.map(&rule.place, name),
            (None, Some(listed)) => listed,
            (None, None) => &[],
        };
        let mut covered = false;
        let mut sum = Step::default();
        for element in elements {
            covered |= is_everything(&element[0]);
            let verdict = element[1].as_object().and_then(|map| map.iter().next());
            match verdict.and_then(|(name, data)| self.verdict(rule, name, data)) {
                Some(verdict) => {
                    add(&mut sum, verdict, false);
                    sum.goes_on |= verdict.goes_on;
                    sum.fate.ended_by = verdict.fate.ended_by.or(sum.fate.ended_by);
                }
                None => sum.goes_on = true,
            }
        }
        sum.goes_on |= !covered;
        add(step, sum, all);
    }
}

/// What a verdict adds to a step, of all packets or of some.
fn add<'a>(step: &mut Step<'a>, verdict: Step<'a>, all: bool) {
    step.fate.passes |= verdict.fate.passes;
    step.fate.falls |= verdict.fate.falls;
    step.fate.drops |= verdict.fate.drops;
    if all && !verdict.goes_on {
        step.goes_on = false;
        step.fate.ended_by = verdict.fate.ended_by;
    }
}

/// A queue that nobody reads, and that does not let packets by then.
fn is_lost_in_queue(data: &Value) -> bool {
    if data["flags"].to_string().contains("bypass") {
        return false;
    }
    let Some(number) = data["num"].as_u64() else {
        return false;
    };
    let read = fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue");
    let read = read.unwrap_or_default();
    let numbers: HashSet<u64> = read
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    !numbers.contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate_of(rules: &[&str]) -> (bool, bool, Option<u64>) {
        let mut items = Vec::new();
        for (chain, expressions) in [("called", rules[0]), ("c", rules[1])] {
            items.push(format!(
                r#"{{"chain":{{"family":"ip","table":"t","name":"{chain}"{}}}}}"#,
                match chain {
                    "c" => r#","hook":"prerouting","prio":0,"policy":"accept""#,
                    _ => "",
                }
            ));
            for (expressions, handle) in expressions.split(" ; ").filter(|e| !e.is_empty()).zip(1..)
            {
                items.push(format!(
                    r#"{{"rule":{{"family":"ip","table":"t","chain":"{chain}","handle":{handle},"expr":[{expressions}]}}}}"#
                ));
            }
        }
        let json = format!(r#"{{"nftables":[{}]}}"#, items.join(","));
        let ruleset = Ruleset::of(&json, "").unwrap();
        let wanted = ruleset.bases[0].place.clone();
        let last = ruleset.rules_of(&wanted).last().unwrap().handle;
        let way = Way::new(&ruleset);
        let base = &ruleset.bases[0];
        let ended_by = way.fate(&base.place).ended_by.map(|rule| rule.handle);
        (
            way.reaches(base, &wanted, last),
            way.lets_by(base),
            ended_by,
        )
    }

    #[test]
    fn what_is_certain_of_all_packets() {
        const DROP: &str = r#"{"drop":null}"#;
        const ACCEPT: &str = r#"{"accept":null}"#;
        const SOME: &str = r#"{"match":{"op":"==","left":{"ct":{"key":"state"}},"right":"new"}}"#;
        const ALL: &str =
            r#"{"match":{"op":"==","left":{},"right":{"prefix":{"addr":"0.0.0.0","len":0}}}}"#;
        const LOG: &str = r#"{"log":{"group":5}}"#;
        const JUMP: &str = r#"{"jump":{"target":"called"}}"#;
        let map = |key: &str| {
            format!(r#"{{"vmap":{{"key":{{}},"data":{{"set":[["1",{ACCEPT}],[{key},{DROP}]]}}}}}}"#)
        };
        let rules = |rules: &[&str]| rules.join(" ; ");
        let some_drop = format!("{SOME},{DROP}");
        let cases = [
            ("", rules(&[LOG]), (true, true, None)),
            ("", rules(&[DROP, LOG]), (false, false, Some(1))),
            ("", rules(&[&some_drop, LOG]), (true, true, None)),
            (
                "",
                rules(&[&format!("{ALL},{DROP}"), LOG]),
                (false, false, Some(1)),
            ),
            (
                "",
                rules(&[&format!("{SOME},{ACCEPT}"), DROP, LOG]),
                (false, true, Some(2)),
            ),
            ("", rules(&[&map("\"*\""), LOG]), (false, true, Some(1))),
            ("", rules(&[&map("\"2\""), LOG]), (true, true, None)),
            (DROP, rules(&[JUMP, LOG]), (false, false, Some(1))),
            (&some_drop, rules(&[JUMP, LOG]), (true, true, None)),
            (
                "",
                rules(&[&format!("{SOME},{JUMP}"), LOG]),
                (true, true, None),
            ),
        ];
        for (called, rules, expected) in cases {
            assert_eq!(fate_of(&[called, &rules]), expected, "{called} / {rules}");
        }
    }
}
