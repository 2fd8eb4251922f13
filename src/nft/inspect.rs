//! Which rules of this network namespace log to a group, or hand packets to a queue, whoever loaded
//! them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

use super::plan::BEYOND_RATE;
use super::{
    RuleFamily, Target,
    constants::*,
    early::{Asks, asked_in, too_early},
    error::RuleError,
    expression::{Expression, Handover, counter_of, drops_after, expressions},
    message::{Attrs, Lookup, NfMessage, attrs, string},
    socket::{NftSocket, bad_message},
};

/// A protocol family of nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Family(pub(super) u8);

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            NFPROTO_INET => "inet",
            NFPROTO_IPV4 => "ip",
            NFPROTO_ARP => "arp",
            NFPROTO_NETDEV => "netdev",
            NFPROTO_BRIDGE => "bridge",
            NFPROTO_IPV6 => "ip6",
            other => return write!(f, "family {other}"),
        })
    }
}

/// Where a base chain is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The hook's number, whose meaning depends on the family; 0 is prerouting for `ip`.
    pub number: u32,
    /// Lower ones come first.
    pub priority: i32,
}

/// A rule that hands packets to a group or queue.
///
/// It prints as nft would have it addressed: `ip lwnflog-g5 prerouting handle 4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingRule {
    /// Groups or queues.
    pub target: Target,
    /// The group or queue that was asked for.
    pub number: u16,
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle, for `nft delete rule`.
    pub handle: u64,
    /// Where its chain is called; `None` if only other chains lead there.
    pub hook: Option<Hook>,
    /// Text the rule has sent with each packet.
    pub prefix: Option<String>,
    /// The rule's own snap length in bytes: it lowers the one lwnflog sets.
    pub snaplen: Option<u32>,
    /// The rule's own threshold in packets: it lowers the batch lwnflog sets.
    pub queue_threshold: Option<u16>,
    /// Whether the rule drops the packets after it logged them.
    pub drops: bool,
    /// Whether packets pass when the queue is not bound; always true for a group.
    pub bypass: bool,
    /// The counter that counts the packets of this rule, and no others than `shared_with` says.
    ///
    /// `None` without one, or if it may count other packets too: because something between it
    /// and the statement can stop packets, because the rule hands over more than once, or because
    /// a rule of the table that does not log uses, or may use by a map, the same named counter.
    pub counter: Option<CounterRef>,
    /// Why no packet comes to it, whatever arrives.
    pub asleep: Option<Asleep>,
    /// What it asks for before it is decided.
    pub early: Vec<Asks>,
}

/// Why no packet comes to a rule, as its chain and table have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asleep {
    /// Its table is dormant.
    Dormant,
    /// Its chain is at no hook, and nothing leads to it.
    Uncalled,
}

impl fmt::Display for Asleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Asleep::Dormant => "its table is dormant",
            Asleep::Uncalled => "its chain is at no hook, and no rule leads to it",
        })
    }
}

impl fmt::Display for LoggingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} handle {}",
            self.family, self.table, self.chain, self.handle
        )
    }
}

/// A counter that counts exactly what rules hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRef {
    /// Which counter it is.
    pub place: CounterPlace,
    /// The other groups, or queues, whose packets it counts as well, in rising order.
    pub shared_with: Vec<u16>,
}

impl CounterRef {
    /// Whether its count cannot be told apart by group or queue.
    pub fn is_shared(&self) -> bool {
        !self.shared_with.is_empty()
    }
}

/// Which counter to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterPlace {
    /// `counter name "..."`: an object of the table.
    Named {
        /// The table's family.
        family: Family,
        /// The table.
        table: String,
        /// The counter's name.
        name: String,
    },
    /// `counter`: a part of its rule.
    InRule {
        /// The table's family.
        family: Family,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
        /// The rule.
        handle: u64,
        /// Which expression of the rule it is.
        index: usize,
    },
}

impl CounterPlace {
    /// Of what a rate limit passes over, in a table that was made here.
    pub(crate) fn beyond_rate(family: RuleFamily, table: &str) -> CounterPlace {
        CounterPlace::Named {
            family: Family(family.number()),
            table: table.to_owned(),
            name: BEYOND_RATE.to_owned(),
        }
    }

    /// The table it is in.
    pub(super) fn table(&self) -> (Family, &str) {
        match self {
            CounterPlace::Named { family, table, .. }
            | CounterPlace::InRule { family, table, .. } => (*family, table),
        }
    }
}

impl fmt::Display for CounterPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CounterPlace::Named {
                family,
                table,
                name,
            } => write!(f, "{family} {table} {name}"),
            CounterPlace::InRule {
                family,
                table,
                chain,
                handle,
                ..
            } => {
                write!(f, "{family} {table} {chain} handle {handle}")
            }
        }
    }
}

/// The rules that hand packets to this group or queue.
///
/// Rules in chains that nothing calls are among them: whether packets arrive is for the
/// counters to say. A queue whose number comes from a map is not found.
pub fn logging_rules(target: Target, number: u16) -> Result<Vec<LoggingRule>, RuleError> {
    logging_rules_of_all(target, &[number])
}

/// The same for several groups or queues, one after the other, from one look at the rules.
pub fn logging_rules_of_all(
    target: Target,
    numbers: &[u16],
) -> Result<Vec<LoggingRule>, RuleError> {
    logging_rules_by(target, numbers, None, Instant::now() + READING_MAX)
}

/// The longest look at all rules, for a caller that is in no hurry.
const READING_MAX: Duration = Duration::from_secs(20);

/// The same, of all rules or of lwnflog's own table alone, however many others there are; by
/// `deadline`.
pub fn logging_rules_by(
    target: Target,
    numbers: &[u16],
    own_table: Option<(RuleFamily, &str)>,
    deadline: Instant,
) -> Result<Vec<LoggingRule>, RuleError> {
    const REQUEST: &str = "list the rules";
    let table = |kind| -> Result<Option<(u8, Attrs)>, RuleError> {
        let Some((family, name)) = own_table else {
            return Ok(None);
        };
        let attrs = attrs([string(kind, name)]).map_err(|error| bad_message(REQUEST, error))?;
        Ok(Some((family.number(), attrs)))
    };
    let mut socket = NftSocket::open()?;
    // The kernel filters rules by table, and lists all chains: of them there are few.
    let chains = socket.dump("list the chains", NFT_MSG_GETCHAIN, None, deadline)?;
    let tables = socket.dump("list the tables", NFT_MSG_GETTABLE, None, deadline)?;
    let rules = socket.dump(REQUEST, NFT_MSG_GETRULE, table(NFTA_RULE_TABLE)?, deadline)?;
    let rules: Vec<Rule> = rules.iter().filter_map(Rule::read).collect();
    let places = Places::of(&tables, &chains, &rules);
    Ok(find(&rules, &places, target, numbers))
}

/// The rules of other tables than lwnflog's own that hand packets to these groups or queues: what
/// both log comes twice.
///
/// # Errors
/// What reading them says.
pub fn logging_rules_beside(
    target: Target,
    numbers: &[u16],
    (family, table): (RuleFamily, &str),
    deadline: Instant,
) -> Result<Vec<LoggingRule>, RuleError> {
    let mut rules = logging_rules_by(target, numbers, None, deadline)?;
    rules.retain(|rule| rule.family.0 != family.number() || rule.table != table);
    Ok(rules)
}

/// Family, table and chain.
type ChainKey = (Family, String, String);

/// Where chains are, and which of them no packet comes to.
#[derive(Default)]
struct Places {
    hooks: HashMap<ChainKey, Hook>,
    dormant: HashSet<(Family, String)>,
    uncalled: HashSet<ChainKey>,
}

impl Places {
    fn of(tables: &[NfMessage], chains: &[NfMessage], rules: &[Rule]) -> Places {
        let mut places = Places::default();
        for table in tables {
            let flags = table.attrs.be32(NFTA_TABLE_FLAGS).unwrap_or_default();
            let name = table.attrs.string(NFTA_TABLE_NAME);
            if let Some(name) = name.filter(|_| flags & NFT_TABLE_F_DORMANT != 0) {
                places.dormant.insert((Family(table.family), name));
            }
        }
        // Of those that hand over, which are few: how many rules their chains have.
        let handing = rules
            .iter()
            .filter(|rule| rule.handovers().next().is_some());
        let mut held: Vec<(&Rule, u32)> = handing.map(|rule| (rule, 0)).collect();
        held.dedup_by(|(rule, _), (before, _)| rule.is_beside(before));
        if !held.is_empty() {
            for rule in rules {
                let count = held.iter_mut().find(|(first, _)| rule.is_beside(first));
                if let Some((_, count)) = count {
                    *count += 1;
                }
            }
        }
        let held: HashMap<ChainKey, u32> = held
            .into_iter()
            .map(|(rule, count)| (rule.key(), count))
            .collect();
        for chain in chains {
            let attrs = &chain.attrs;
            let (Some(table), Some(name)) = (
                attrs.string(NFTA_CHAIN_TABLE),
                attrs.string(NFTA_CHAIN_NAME),
            ) else {
                continue;
            };
            let key = (Family(chain.family), table, name);
            if let Some(hook) = hook(attrs) {
                places.hooks.insert(key, hook);
            } else if attrs.be32(NFTA_CHAIN_USE).is_some()
                && attrs.be32(NFTA_CHAIN_USE) == held.get(&key).copied()
            {
                places.uncalled.insert(key);
            }
        }
        places
    }

    fn asleep(&self, (family, table, chain): &ChainKey) -> Option<Asleep> {
        if self.dormant.contains(&(*family, table.clone())) {
            return Some(Asleep::Dormant);
        }
        let key = (*family, table.clone(), chain.clone());
        self.uncalled.contains(&key).then_some(Asleep::Uncalled)
    }
}

/// The hook of a base chain; `None` for any other chain.
fn hook(chain: &Attrs) -> Option<Hook> {
    let hook = chain.nested(NFTA_CHAIN_HOOK)?;
    let priority = i32::from_be_bytes(hook.bytes(NFTA_HOOK_PRIORITY)?.try_into().ok()?);
    Some(Hook {
        number: hook.be32(NFTA_HOOK_HOOKNUM)?,
        priority,
    })
}

/// Any rule of the namespace.
#[derive(Debug)]
struct Rule {
    family: Family,
    table: String,
    chain: String,
    handle: u64,
    expressions: Vec<Expression>,
    /// Of a rule that hands packets over.
    asked: BTreeSet<Asks>,
}

impl Rule {
    fn read(message: &NfMessage) -> Option<Self> {
        let attrs = &message.attrs;
        let expressions = expressions(attrs);
        let hands_over = |expression: &Expression| matches!(expression, Expression::Handover(_));
        Some(Rule {
            family: Family(message.family),
            table: attrs.string(NFTA_RULE_TABLE)?,
            chain: attrs.string(NFTA_RULE_CHAIN)?,
            handle: attrs.be64(NFTA_RULE_HANDLE)?,
            asked: match expressions.iter().any(hands_over) {
                true => asked_in(attrs),
                false => BTreeSet::new(),
            },
            expressions,
        })
    }

    /// Whether both are of one chain.
    fn is_beside(&self, other: &Rule) -> bool {
        (self.family, &self.chain, &self.table) == (other.family, &other.chain, &other.table)
    }

    fn key(&self) -> ChainKey {
        (self.family, self.table.clone(), self.chain.clone())
    }

    /// Its places that hand packets over, to any group or queue: none, usually.
    fn handovers(&self) -> impl Iterator<Item = (usize, &Handover)> {
        self.expressions
            .iter()
            .enumerate()
            .filter_map(|(place, expression)| match expression {
                Expression::Handover(handover) => Some((place, handover)),
                _ => None,
            })
    }

    /// The counter that counts exactly what this rule hands over at `place`.
    fn counter(&self, place: usize) -> Option<CounterPlace> {
        let index = counter_of(&self.expressions, place)?;
        let (family, table) = (self.family, self.table.clone());
        Some(match self.expressions.get(index)? {
            Expression::NamedCounter(name) => CounterPlace::Named {
                family,
                table,
                name: name.clone(),
            },
            _ => {
                let (chain, handle) = (self.chain.clone(), self.handle);
                CounterPlace::InRule {
                    family,
                    table,
                    chain,
                    handle,
                    index,
                }
            }
        })
    }
}

/// The rules among these that hand packets to these groups or queues, one number after the other.
fn find(rules: &[Rule], places: &Places, target: Target, numbers: &[u16]) -> Vec<LoggingRule> {
    let order: HashMap<u16, usize> = numbers.iter().copied().zip(0..).collect();
    let mut found = Vec::new();
    for rule in rules {
        for (place, handover) in rule.handovers() {
            let wanted = |number: &u16| handover.target == target && order.contains_key(number);
            for number in handover.numbers().filter(wanted) {
                let key = rule.key();
                let hook = places.hooks.get(&key).copied();
                found.push(LoggingRule {
                    target,
                    number,
                    family: rule.family,
                    table: rule.table.clone(),
                    chain: rule.chain.clone(),
                    handle: rule.handle,
                    hook,
                    prefix: handover.prefix.clone(),
                    snaplen: handover.snaplen,
                    queue_threshold: handover.queue_threshold,
                    drops: drops_after(&rule.expressions, place),
                    bypass: handover.bypass,
                    counter: rule
                        .counter(place)
                        .and_then(|place| attribute(rules, place, target, number)),
                    asleep: places.asleep(&key),
                    early: hook
                        .map_or(Vec::new(), |hook| too_early(rule.family, hook, &rule.asked)),
                });
            }
        }
    }
    found.sort_by_key(|rule| order.get(&rule.number).copied());
    found
}

/// The counter as seen from one group or queue; `None` if it counts packets that are not
/// handed over, or not to a group, or queue, alike.
fn attribute(
    rules: &[Rule],
    place: CounterPlace,
    target: Target,
    number: u16,
) -> Option<CounterRef> {
    let mut users = 0;
    let mut shared_with = Vec::new();
    for rule in rules {
        for (at, handover) in rule.handovers() {
            if rule.counter(at).as_ref() != Some(&place) {
                continue;
            }
            if handover.target != target {
                return None;
            }
            users += 1;
            shared_with.extend(handover.numbers().filter(|&other| other != number));
        }
    }
    if let CounterPlace::Named {
        family,
        table,
        name,
    } = &place
    {
        let of_its_table = rules
            .iter()
            .filter(|r| r.family == *family && r.table == *table);
        let references =
            of_its_table
                .flat_map(|rule| &rule.expressions)
                .try_fold(0, |count, expression| match expression {
                    // It may be this counter, for some packets.
                    Expression::MappedObject => None,
                    Expression::NamedCounter(other) if other == name => Some(count + 1),
                    _ => Some(count),
                })?;
        if references != users {
            return None;
        }
    }
    shared_with.sort_unstable();
    shared_with.dedup();
    Some(CounterRef { place, shared_with })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_nft_has_them() {
        let rule = LoggingRule {
            target: Target::Group,
            number: 5,
            family: Family(NFPROTO_IPV4),
            table: "lwnflog-g5".to_owned(),
            chain: "prerouting".to_owned(),
            handle: 4,
            hook: Some(Hook {
                number: 0,
                priority: crate::nft::PRIORITY,
            }),
            prefix: None,
            snaplen: None,
            queue_threshold: None,
            drops: false,
            bypass: true,
            counter: None,
            asleep: None,
            early: Vec::new(),
        };
        assert_eq!(rule.to_string(), "ip lwnflog-g5 prerouting handle 4");
        assert_eq!(Family(NFPROTO_IPV6).to_string(), "ip6");
        assert_eq!(Family(99).to_string(), "family 99");
    }
}
