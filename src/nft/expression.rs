//! One rule, as the list of its expressions: where it hands packets over, and which counter
//! counts exactly those.
//!
//! Pure: attribute bytes in, a description out. What is not understood becomes
//! [`Expression::Other`], which is taken to be able to stop a packet.

use super::{
    Target,
    constants::*,
    message::{Attrs, Lookup, parse},
    xtables,
};

/// What one expression does to a packet, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// `counter`, with the packets it has counted.
    Counter(u64),
    /// `counter name "..."`.
    NamedCounter(String),
    /// `counter name ... map`: which counter, or quota, or none, depends on the packet.
    MappedObject,
    /// `log group` or `queue`.
    Handover(Handover),
    /// `log` to the kernel's log: the packet goes on.
    LogElsewhere,
    /// Puts a constant into a register.
    Load,
    /// `accept`, `drop`, `jump`... with the verdict's code.
    Verdict(u32),
    /// Anything else: it may stop the packet.
    Other,
}

/// A statement that hands packets to userspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handover {
    /// To groups or queues.
    pub(super) target: Target,
    /// The group, or the first queue.
    pub(super) first: u16,
    /// How many queues; 1 for a group.
    pub(super) count: u16,
    /// Text sent with each packet.
    pub(super) prefix: Option<String>,
    /// Bytes of a packet sent, if limited.
    pub(super) snaplen: Option<u32>,
    /// Packets after which the kernel sends what it has, if set.
    pub(super) queue_threshold: Option<u16>,
    /// Whether a queue without a reader lets packets pass; true for a group.
    pub(super) bypass: bool,
}

impl Handover {
    /// `log group` without options.
    pub(super) fn group(group: u16) -> Self {
        Handover {
            target: Target::Group,
            first: group,
            count: 1,
            prefix: None,
            snaplen: None,
            queue_threshold: None,
            bypass: true,
        }
    }

    /// `queue` over `count` queues; old rules say 0 for one.
    pub(super) fn queues(first: u16, count: u16, bypass: bool) -> Self {
        let count = count.max(1);
        Handover {
            target: Target::Queue,
            count,
            bypass,
            ..Handover::group(first)
        }
    }

    /// The group, or all queues.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.first.saturating_add(self.count.saturating_sub(1))
    }
}

impl Expression {
    /// Whether every packet that reaches this expression also reaches the next.
    fn passes_all(&self) -> bool {
        match self {
            Expression::Counter(_)
            | Expression::NamedCounter(_)
            | Expression::LogElsewhere
            | Expression::Load => true,
            Expression::Handover(handover) => handover.target == Target::Group,
            Expression::MappedObject | Expression::Verdict(_) | Expression::Other => false,
        }
    }

    fn is_counter(&self) -> bool {
        matches!(self, Expression::Counter(_) | Expression::NamedCounter(_))
    }
}

/// Index of the counter that counts exactly the packets handed over at `place`: the nearest
/// one with nothing in between that could stop a packet, before the place or after it.
pub(super) fn counter_of(rule: &[Expression], place: usize) -> Option<usize> {
    let handovers = rule
        .iter()
        .filter(|e| matches!(e, Expression::Handover(_)))
        .count();
    if handovers > 1 {
        return None; // One count for several copies: not worth telling apart.
    }
    let before = (0..place).rev().take_while(|&i| passes_all(rule, i));
    if let Some(index) = before.into_iter().find(|&i| is_counter(rule, i)) {
        return Some(index);
    }
    if !passes_all(rule, place) {
        return None; // A queue: nothing behind it sees the packet.
    }
    let mut after = (place + 1..rule.len()).take_while(|&i| passes_all(rule, i));
    after.find(|&i| is_counter(rule, i))
}

/// Whether the rule drops every packet that it handed over at `place`.
pub(super) fn drops_after(rule: &[Expression], place: usize) -> bool {
    let mut rest = rule.iter().skip(place + 1);
    rest.find(|e| !e.passes_all()) == Some(&Expression::Verdict(NF_DROP))
}

fn passes_all(rule: &[Expression], index: usize) -> bool {
    rule.get(index).is_some_and(Expression::passes_all)
}

fn is_counter(rule: &[Expression], index: usize) -> bool {
    rule.get(index).is_some_and(Expression::is_counter)
}

/// The expressions of a rule, from the attributes of a `NFT_MSG_NEWRULE`.
pub(super) fn expressions(rule: &Attrs) -> Vec<Expression> {
    let Some(list) = rule.nested(NFTA_RULE_EXPRESSIONS) else {
        return Vec::new();
    };
    list.iter()
        .map(|element| {
            parse(element.nla_payload().as_ref())
                .and_then(|attrs| expression(&attrs))
                .unwrap_or(Expression::Other)
        })
        .collect()
}

fn expression(attrs: &Attrs) -> Option<Expression> {
    let name = attrs.string(NFTA_EXPR_NAME)?;
    let data = attrs.nested(NFTA_EXPR_DATA)?;
    match name.as_str() {
        "counter" => Some(Expression::Counter(data.be64(NFTA_COUNTER_PACKETS)?)),
        "objref" => object(&data),
        "log" => Some(log(&data)),
        "queue" => {
            let flags = data.be16(NFTA_QUEUE_FLAGS).unwrap_or(0);
            let bypass = flags & NFT_QUEUE_FLAG_BYPASS != 0;
            let total = data.be16(NFTA_QUEUE_TOTAL).unwrap_or(1);
            // Without a number it comes from a map, packet by packet.
            let first = data.be16(NFTA_QUEUE_NUM)?;
            Some(Expression::Handover(Handover::queues(first, total, bypass)))
        }
        "immediate" => immediate(&data),
        "target" => Some(Expression::Handover(xtables::handover(&data)?)),
        _ => None,
    }
}

fn object(data: &Attrs) -> Option<Expression> {
    if data.bytes(NFTA_OBJREF_SET_NAME).is_some() {
        return Some(Expression::MappedObject);
    }
    // A quota or a limit would stop packets.
    if data.be32(NFTA_OBJREF_IMM_TYPE)? != NFT_OBJECT_COUNTER {
        return None;
    }
    Some(Expression::NamedCounter(data.string(NFTA_OBJREF_IMM_NAME)?))
}

fn log(data: &Attrs) -> Expression {
    let Some(group) = data.be16(NFTA_LOG_GROUP) else {
        return Expression::LogElsewhere;
    };
    Expression::Handover(Handover {
        prefix: data.string(NFTA_LOG_PREFIX),
        snaplen: data.be32(NFTA_LOG_SNAPLEN),
        queue_threshold: data
            .be16(NFTA_LOG_QTHRESHOLD)
            .filter(|&packets| packets > 0),
        ..Handover::group(group)
    })
}

fn immediate(data: &Attrs) -> Option<Expression> {
    if data.be32(NFTA_IMMEDIATE_DREG)? != NFT_REG_VERDICT {
        return Some(Expression::Load);
    }
    let verdict = data
        .nested(NFTA_IMMEDIATE_DATA)?
        .nested(NFTA_DATA_VERDICT)?;
    Some(Expression::Verdict(verdict.be32(NFTA_VERDICT_CODE)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nft::{
        RuleSpec,
        message::{attrs, bytes, nested, string},
        table,
    };

    fn to_group() -> Expression {
        Expression::Handover(Handover::group(5))
    }

    fn named() -> Expression {
        Expression::NamedCounter("detected".to_owned())
    }

    #[test]
    fn counter_counts_what_is_handed_over() {
        use Expression::{Counter, Load, LogElsewhere, Other, Verdict};
        let queue = Expression::Handover(Handover::queues(5, 1, true));
        let cases: [(&[Expression], Option<usize>); 13] = [
            (&[Counter(1), to_group()], Some(0)),
            (&[Other, Counter(1), to_group()], Some(1)),
            (&[Other, named(), Load, LogElsewhere, to_group()], Some(1)),
            (&[Counter(1), Other, to_group()], None),
            (&[Counter(1), Other, named(), to_group()], Some(2)),
            (&[to_group(), Counter(1)], Some(1)),
            (&[to_group(), Other, Counter(1)], None),
            (&[Counter(1), Other, to_group(), Counter(1)], Some(3)),
            (&[Counter(1), to_group(), Verdict(NF_DROP)], Some(0)),
            (&[Counter(1), to_group(), to_group()], None),
            (&[Counter(1), queue.clone()], Some(0)),
            (&[queue.clone(), Counter(1)], None),
            (&[to_group()], None),
        ];
        for (rule, expected) in cases {
            let place = rule
                .iter()
                .position(|e| matches!(e, Expression::Handover(_)))
                .unwrap();
            assert_eq!(counter_of(rule, place), expected, "{rule:?}");
        }
    }

    #[test]
    fn drop_after() {
        use Expression::{Counter, Other, Verdict};
        assert!(drops_after(&[to_group(), Verdict(NF_DROP)], 0));
        assert!(drops_after(&[to_group(), Counter(0), Verdict(NF_DROP)], 0));
        assert!(!drops_after(&[to_group(), Other, Verdict(NF_DROP)], 0));
        assert!(!drops_after(&[to_group(), Verdict(NF_ACCEPT)], 0));
        assert!(!drops_after(&[to_group()], 0));
    }

    #[test]
    fn reads_what_install_writes() {
        let spec = RuleSpec::new(Target::Group, &[5])
            .unwrap()
            .with_iface("eth0")
            .unwrap();
        let spec = spec.with_prefix("in").unwrap().with_drop().unwrap();
        let steps = table::create(&spec).unwrap();
        let rule = steps
            .iter()
            .find(|step| step.kind == NFT_MSG_NEWRULE)
            .unwrap();
        let log = Handover {
            prefix: Some("in".to_owned()),
            ..Handover::group(5)
        };
        assert_eq!(
            expressions(&rule.attrs),
            [
                Expression::Other, // meta
                Expression::Other, // cmp
                named(),
                Expression::Handover(log),
                Expression::Verdict(NF_DROP),
            ]
        );

        let spec = RuleSpec::new(Target::Queue, &[5, 6, 7]).unwrap();
        let steps = table::create(&spec).unwrap();
        let rule = steps
            .iter()
            .find(|step| step.kind == NFT_MSG_NEWRULE)
            .unwrap();
        let queues = Handover::queues(5, 3, true);
        assert_eq!(
            (queues.target, queues.numbers().last()),
            (Target::Queue, Some(7))
        );
        assert_eq!(
            expressions(&rule.attrs),
            [named(), Expression::Handover(queues)]
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            name in prop::sample::select(vec![
                "counter", "objref", "log", "queue", "immediate", "target", "x",
            ]),
            data in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let element = nested(
                NFTA_LIST_ELEM,
                [string(NFTA_EXPR_NAME, name), bytes(NFTA_EXPR_DATA, &data)],
            );
            let rule = attrs([nested(NFTA_RULE_EXPRESSIONS, [element])]).unwrap();
            for rule in [expressions(&rule), expressions(&attrs([bytes(4, &data)]).unwrap())] {
                for place in 0..rule.len() {
                    let _ = (counter_of(&rule, place), drops_after(&rule, place));
                }
            }
        }
    }
}
