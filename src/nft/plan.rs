//! The table as chains of rules of parts, before it becomes text ([`super::text`]) or messages
//! ([`super::table`]): what both are made of.

use super::{At, Match, RuleSpec, Spread, Target};

/// One statement or condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// `iifname "eth0"`, or with `out` `oifname`; `not` is `!=`.
    Interface { name: &'a str, out: bool, not: bool },
    /// `socket cgroupv2 level N`, and the cgroup's number.
    Cgroup { level: u32, id: u64 },
    /// What the user wrote.
    Match(&'a Match),
    /// `limit rate over N/second`.
    Over(u32),
    /// `counter name "detected"`.
    Count(String),
    /// `log prefix "…" group N`.
    Log { group: u16, prefix: Option<&'a str> },
    /// `queue num N-M bypass,fanout`.
    Queue(&'a [u16]),
    /// `drop`.
    Drop,
    /// `return`.
    Return,
    /// `goto chain`.
    Goto(String),
    /// `meta cpu vmap { 0 : goto g5, … }`.
    ByCpu(Vec<(u32, String)>),
    /// `symhash mod N vmap { 0 : goto g5, … }`.
    ByFlow(Vec<(u32, String)>),
}

/// A chain, in the order in which `nft` wants them: one that others go to comes before them.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub(super) name: String,
    /// The hook, of a base chain.
    pub(super) hook: Option<At>,
    pub(super) rules: Vec<Vec<Part<'a>>>,
}

/// What is counted and what is done, of one table.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) counters: Vec<String>,
    /// The base chain is the last.
    pub(super) chains: Vec<Chain<'a>>,
}

/// Where the chain is that packets come to once they are selected, if not at the hook.
const SELECTED: &str = "selected";
/// Packets that may come at once under a rate limit. An interface hands over what it has gathered, up
/// to 64 packets at a time: with nft's own 5 a limit is reached by traffic alone that is evenly
/// spaced. A tenth of a second's worth, and at most a second's.
pub(super) fn burst(rate: u32) -> u32 {
    const AT_ONCE: u32 = 64;
    (rate / 10).max(AT_ONCE).min(rate).max(1)
}

/// Packets beyond the rate limit.
pub(crate) const BEYOND_RATE: &str = "beyond_rate";

impl<'a> Plan<'a> {
    pub(super) fn new(spec: &'a RuleSpec) -> Plan<'a> {
        let several = spec.per_group();
        let counted: &[u16] = if several {
            spec.numbers()
        } else {
            spec.numbers().get(..1).unwrap_or_default()
        };
        let mut counters: Vec<_> = counted
            .iter()
            .map(|number| spec.counter_name(*number))
            .collect();
        if spec.rate_limit().is_some() {
            counters.push(BEYOND_RATE.to_owned());
        }
        // Where there are several hooks, none of them has a chain of another name.
        let mut chains = Vec::new();
        for at in spec.hooks() {
            if several {
                chains.extend(counted.iter().map(|number| Chain {
                    name: RuleSpec::group_chain(*number),
                    hook: None,
                    rules: vec![statements(spec, *at, *number)],
                }));
            }
            let base = base_rules(spec, *at, body(spec, *at), &mut chains);
            chains.push(Chain {
                name: at.chain().to_owned(),
                hook: Some(*at),
                rules: base,
            });
        }
        Plan { counters, chains }
    }
}

/// What is done with what is selected.
fn body(spec: &RuleSpec, at: At) -> Vec<Vec<Part<'_>>> {
    let mut body = Vec::new();
    if let Some(rate) = spec.rate_limit() {
        body.push(vec![
            Part::Over(rate),
            Part::Count(BEYOND_RATE.to_owned()),
            Part::Return,
        ]);
    }
    if !spec.per_group() {
        body.push(statements(spec, at, spec.first()));
        return body;
    }
    let map = spec.spread().into_iter();
    let map = map.map(|(key, group)| (key, RuleSpec::group_chain(group)));
    body.push(vec![match spec.spread_by() {
        Spread::Cpu => Part::ByCpu(map.collect()),
        Spread::Flow => Part::ByFlow(map.collect()),
    }]);
    body.push(vec![Part::Goto(RuleSpec::group_chain(spec.first()))]);
    body
}

/// The rules of the chain at the hook. Where a selection stands before more than one rule, what
/// follows has a chain of its own.
fn base_rules<'a>(
    spec: &'a RuleSpec,
    at: At,
    mut body: Vec<Vec<Part<'a>>>,
    chains: &mut Vec<Chain<'a>>,
) -> Vec<Vec<Part<'a>>> {
    let interface = |name: &'a String, not| Part::Interface {
        name,
        out: at.is_outbound(),
        not,
    };
    if let Some((id, level)) = spec.cgroup {
        body.iter_mut()
            .for_each(|rule| rule.insert(0, Part::Cgroup { level, id }));
        return body;
    }
    let matching = spec.matching().map(Part::Match);
    match spec.ifaces() {
        [] if matching.is_none() => body,
        [name] if matching.is_none() && spec.per_group() && spec.rate_limit().is_none() => {
            body.insert(0, vec![interface(name, true), Part::Return]);
            body
        }
        [] | [_] if body.len() == 1 => {
            let mut only = body.remove(0);
            let names = spec.ifaces().first();
            let selection = names.map(|name| interface(name, false)).into_iter();
            only.splice(0..0, selection.chain(matching));
            vec![only]
        }
        names => {
            chains.push(Chain {
                name: SELECTED.to_owned(),
                hook: None,
                rules: body,
            });
            let selected = |name: Option<&'a String>| {
                let name = name.map(|name| interface(name, false)).into_iter();
                let selection = name.chain(matching.clone());
                selection
                    .chain([Part::Goto(SELECTED.to_owned())])
                    .collect::<Vec<_>>()
            };
            match names {
                [] => vec![selected(None)],
                names => names.iter().map(|name| selected(Some(name))).collect(),
            }
        }
    }
}

/// Count, hand over, and drop if asked to.
fn statements(spec: &RuleSpec, at: At, number: u16) -> Vec<Part<'_>> {
    let hand_over = match spec.target() {
        Target::Queue => Part::Queue(spec.numbers()),
        Target::Group => Part::Log {
            group: number,
            prefix: spec.prefix(at),
        },
    };
    let drop = spec.drops().then_some(Part::Drop);
    [Part::Count(spec.counter_name(number)), hand_over]
        .into_iter()
        .chain(drop)
        .collect()
}
