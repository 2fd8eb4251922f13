//! Which rules of this network namespace feed a group or queue, whoever loaded them.

use std::{collections::HashMap, fmt};

use super::{
    Target,
    error::RuleError,
    expression::{Expression, Handover, counter_of, drops_after, expressions},
    message::{Attrs, Lookup, NfMessage, attrs, be32, string},
    nft::*,
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
/// It prints as nft would have it addressed: `ip lwnflog prerouting handle 4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
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
    /// Whether packets pass when nobody reads the queue; always true for a group.
    pub bypass: bool,
    /// The counter that counts the packets of this rule, and no others than `shared_with` says.
    ///
    /// `None` without one, or if it may count other packets too: because something between it
    /// and the statement can stop packets, because the rule hands over more than once, or because
    /// a rule that does not log uses the same named counter.
    pub counter: Option<CounterRef>,
}

impl fmt::Display for Feed {
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

/// The rules that hand packets to this group or queue, in no particular order of hooks.
///
/// Rules in chains that nothing calls are among them: whether packets arrive is for the
/// counters to say. A queue whose number comes from a map is not found.
pub fn feeds(target: Target, number: u16) -> Result<Vec<Feed>, RuleError> {
    let mut socket = NftSocket::open()?;
    let chains = socket.dump("list the chains", NFT_MSG_GETCHAIN)?;
    let hooks: HashMap<ChainKey, Hook> = chains.iter().filter_map(base_chain).collect();
    let rules = socket.dump("list the rules", NFT_MSG_GETRULE)?;
    let taps: Vec<Tap> = rules.iter().flat_map(taps).collect();

    let mut found = Vec::new();
    for tap in taps.iter().filter(|tap| tap.handover.feeds(target, number)) {
        let counter = match &tap.counter {
            Some(place) => usable(&mut socket, &taps, place, target, number)?,
            None => None,
        };
        let key = (tap.family, tap.table.clone(), tap.chain.clone());
        found.push(Feed {
            target,
            number,
            family: tap.family,
            table: tap.table.clone(),
            chain: tap.chain.clone(),
            handle: tap.handle,
            hook: hooks.get(&key).copied(),
            prefix: tap.handover.prefix.clone(),
            snaplen: tap.handover.snaplen,
            queue_threshold: tap.handover.queue_threshold,
            drops: tap.drops,
            bypass: tap.handover.bypass,
            counter,
        });
    }
    Ok(found)
}

type ChainKey = (Family, String, String);

/// The hook of a base chain; `None` for any other chain.
fn base_chain(chain: &NfMessage) -> Option<(ChainKey, Hook)> {
    let attrs = &chain.attrs;
    let hook = attrs.nested(NFTA_CHAIN_HOOK)?;
    let priority = i32::from_be_bytes(hook.bytes(NFTA_HOOK_PRIORITY)?.try_into().ok()?);
    let hook = Hook {
        number: hook.be32(NFTA_HOOK_HOOKNUM)?,
        priority,
    };
    let names = (
        attrs.string(NFTA_CHAIN_TABLE)?,
        attrs.string(NFTA_CHAIN_NAME)?,
    );
    Some(((Family(chain.family), names.0, names.1), hook))
}

/// A place in a rule that hands packets over, to any group or queue.
#[derive(Debug)]
struct Tap {
    family: Family,
    table: String,
    chain: String,
    handle: u64,
    handover: Handover,
    drops: bool,
    counter: Option<CounterPlace>,
}

/// All such places of a rule: none, usually.
fn taps(rule: &NfMessage) -> Vec<Tap> {
    let attrs = &rule.attrs;
    let names = (attrs.string(NFTA_RULE_TABLE), attrs.string(NFTA_RULE_CHAIN));
    let (Some(table), Some(chain)) = names else {
        return Vec::new();
    };
    let Some(handle) = attrs.be64(NFTA_RULE_HANDLE) else {
        return Vec::new();
    };
    let family = Family(rule.family);
    let expressions = expressions(attrs);

    let mut taps = Vec::new();
    for (place, expression) in expressions.iter().enumerate() {
        let Expression::Handover(handover) = expression else {
            continue;
        };
        let counter = counter_of(&expressions, place).and_then(|index| {
            let (table, chain) = (table.clone(), chain.clone());
            match expressions.get(index)? {
                Expression::NamedCounter(name) => Some(CounterPlace::Named {
                    family,
                    table,
                    name: name.clone(),
                }),
                _ => Some(CounterPlace::InRule {
                    family,
                    table,
                    chain,
                    handle,
                    index,
                }),
            }
        });
        taps.push(Tap {
            family,
            table: table.clone(),
            chain: chain.clone(),
            handle,
            handover: handover.clone(),
            drops: drops_after(&expressions, place),
            counter,
        });
    }
    taps
}

/// The counter as seen from one group or queue, if all it counts goes to groups, or queues.
fn usable(
    socket: &mut NftSocket,
    taps: &[Tap],
    place: &CounterPlace,
    target: Target,
    number: u16,
) -> Result<Option<CounterRef>, RuleError> {
    let users: Vec<&Tap> = taps
        .iter()
        .filter(|tap| tap.counter.as_ref() == Some(place))
        .collect();
    if users.iter().any(|tap| tap.handover.target != target) {
        return Ok(None);
    }
    if let CounterPlace::Named {
        family,
        table,
        name,
    } = place
    {
        // The kernel knows how often the counter is used: more often than by these rules
        // means that it counts packets which are not handed over.
        let references = named_counter(socket, *family, table, name)?
            .and_then(|object| object.be32(NFTA_OBJ_USE));
        if references != u32::try_from(users.len()).ok() {
            return Ok(None);
        }
    }
    let mut shared_with: Vec<u16> = users
        .iter()
        .flat_map(|tap| tap.handover.numbers())
        .filter(|&n| n != number)
        .collect();
    shared_with.sort_unstable();
    shared_with.dedup();
    Ok(Some(CounterRef {
        place: place.clone(),
        shared_with,
    }))
}

/// The attributes of a named counter; `None` if there is none of that name.
pub(super) fn named_counter(
    socket: &mut NftSocket,
    family: Family,
    table: &str,
    name: &str,
) -> Result<Option<Attrs>, RuleError> {
    const REQUEST: &str = "read a named counter";
    let attrs = attrs([
        string(NFTA_OBJ_TABLE, table),
        string(NFTA_OBJ_NAME, name),
        be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER),
    ])
    .map_err(|error| bad_message(REQUEST, error))?;
    Ok(socket
        .get(REQUEST, NFT_MSG_GETOBJ, family.0, attrs)?
        .map(|object| object.attrs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_nft_has_them() {
        let feed = Feed {
            target: Target::Group,
            number: 5,
            family: Family(NFPROTO_IPV4),
            table: "lwnflog".to_owned(),
            chain: "prerouting".to_owned(),
            handle: 4,
            hook: Some(Hook {
                number: 0,
                priority: i32::MIN,
            }),
            prefix: None,
            snaplen: None,
            queue_threshold: None,
            drops: false,
            bypass: true,
            counter: None,
        };
        assert_eq!(feed.to_string(), "ip lwnflog prerouting handle 4");
        assert_eq!(Family(NFPROTO_IPV6).to_string(), "ip6");
        assert_eq!(Family(99).to_string(), "family 99");
    }
}
