//! What a rule asks about a packet before it is decided: a chain that comes before connection
//! tracking has every packet as one of no connection, and a match for one is silently all or nothing.

use std::collections::BTreeSet;
use std::fmt;

use super::constants::*;
use super::message::{Attrs, Lookup, parse};
use super::{Family, Hook};

/// Something that is decided on a packet's way, and that rules can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asks {
    /// Its connection: `ct`.
    Connection,
    /// Its mark.
    Mark,
    /// The socket it is for: `meta skuid`, `meta cgroup`.
    Socket,
    /// Its route: `rt`.
    Route,
    /// The interface it leaves by.
    Outbound,
    /// The interface it came in by.
    Inbound,
}

/// `NF_IP_PRI_CONNTRACK` (`linux/netfilter_ipv4.h`).
const PRIORITY_CONNTRACK: i32 = -200;
// `NF_INET_*` (`linux/netfilter.h`).
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const INGRESS: u32 = 5;

impl Asks {
    /// Whether it is not decided yet at a hook of the IP families.
    pub(super) fn is_early(self, hook: u32, priority: i32) -> bool {
        match self {
            Asks::Connection => {
                hook == INGRESS
                    || [PREROUTING, OUTPUT].contains(&hook) && priority < PRIORITY_CONNTRACK
            }
            // Behind the first of all, another chain may have set it.
            Asks::Mark => hook == PREROUTING && priority <= super::PRIORITY,
            Asks::Socket => [PREROUTING, FORWARD].contains(&hook),
            Asks::Route => hook == PREROUTING,
            Asks::Outbound => [PREROUTING, INPUT].contains(&hook),
            Asks::Inbound => hook == OUTPUT,
        }
    }

    /// What comes of it, and where it is decided.
    fn says(self) -> (&'static str, &'static str, &'static str) {
        const BEHIND: &str =
            "--at input (what is for this host) or --at forward (what it passes on)";
        match self {
            Asks::Connection => (
                "`ct`",
                "connections are tracked behind it (priority -200): every packet is `invalid` there",
                "--at input (what is for this host), --at forward (what it passes on) or --at postrouting",
            ),
            Asks::Mark => (
                "the mark",
                "rules set marks behind it: it is 0 there, unless tc or an ingress chain has set one",
                BEHIND,
            ),
            Asks::Socket => (
                "a socket's owner or cgroup",
                "which socket a packet is for is not known there: nothing matches",
                "--at input or --at output",
            ),
            Asks::Route => (
                "the route",
                "packets are routed behind it: nothing matches",
                BEHIND,
            ),
            Asks::Outbound => (
                "the interface that packets leave by",
                "it is not known there: nothing matches",
                "--at forward or --at postrouting",
            ),
            Asks::Inbound => (
                "the interface that packets come in by",
                "they come in by none: nothing matches",
                "--at prerouting",
            ),
        }
    }

    /// Where in a table of lwnflog's it is decided, as options.
    pub(super) fn decided_at(self) -> &'static str {
        self.says().2
    }
}

/// `` `ct`, but connections are tracked behind it ``
impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, why, _) = self.says();
        write!(f, "{what}, but {why}")
    }
}

/// What words of nft's language ask for; quoted names have been taken out.
pub(super) fn asked_by(words: &[&str]) -> BTreeSet<Asks> {
    // `fib saddr . iif oif` looks an interface up.
    let looks_up = words.contains(&"fib");
    let before = |at: usize| at.checked_sub(1).and_then(|at| words.get(at)).copied();
    let asks = words
        .iter()
        .enumerate()
        .filter_map(|(at, word)| match *word {
            "ct" => Some(Asks::Connection),
            "mark" if !looks_up && !matches!(before(at), Some("ct" | "socket")) => Some(Asks::Mark),
            "skuid" | "skgid" | "cgroup" => Some(Asks::Socket),
            "rtclassid" => Some(Asks::Route),
            "classid" | "nexthop" | "mtu" if before(at) == Some("rt") => Some(Asks::Route),
            "oif" | "oifname" | "oiftype" | "oifgroup" | "oifkind" if !looks_up => {
                Some(Asks::Outbound)
            }
            "iif" | "iifname" | "iiftype" | "iifgroup" | "iifkind" if !looks_up => {
                Some(Asks::Inbound)
            }
            _ => None,
        });
    asks.collect()
}

/// What a rule asks for, by its attributes.
pub(super) fn asked_in(rule: &Attrs) -> BTreeSet<Asks> {
    let Some(list) = rule.nested(NFTA_RULE_EXPRESSIONS) else {
        return BTreeSet::new();
    };
    let asked = list.iter().filter_map(|element| {
        let attrs = parse(element.nla_payload().as_ref())?;
        let data = attrs.nested(NFTA_EXPR_DATA)?;
        asked(&attrs.string(NFTA_EXPR_NAME)?, &data)
    });
    asked.collect()
}

fn asked(name: &str, data: &Attrs) -> Option<Asks> {
    match name {
        "ct" if data.bytes(NFTA_CT_DREG).is_some() => Some(Asks::Connection),
        "rt" => Some(Asks::Route),
        "meta" if data.bytes(NFTA_META_DREG).is_some() => match data.be32(NFTA_META_KEY)? {
            NFT_META_MARK => Some(Asks::Mark),
            NFT_META_SKUID | NFT_META_SKGID | NFT_META_CGROUP => Some(Asks::Socket),
            NFT_META_RTCLASSID => Some(Asks::Route),
            NFT_META_OIF | NFT_META_OIFNAME | NFT_META_OIFTYPE | NFT_META_OIFGROUP
            | NFT_META_OIFKIND => Some(Asks::Outbound),
            NFT_META_IIF | NFT_META_IIFNAME | NFT_META_IIFTYPE | NFT_META_IIFGROUP
            | NFT_META_IIFKIND => Some(Asks::Inbound),
            _ => None,
        },
        _ => None,
    }
}

/// Which of these are not decided yet where a chain stands.
pub(super) fn too_early(family: Family, hook: Hook, asked: &BTreeSet<Asks>) -> Vec<Asks> {
    let number = match family.0 {
        NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET => hook.number,
        NFPROTO_NETDEV if hook.number == 0 => INGRESS,
        _ => return Vec::new(),
    };
    let early = asked
        .iter()
        .filter(|asks| asks.is_early(number, hook.priority));
    early.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::At;

    fn early(text: &str, at: At) -> Vec<Asks> {
        let words: Vec<_> = text.split([' ', '.', '{', ',', '}']).collect();
        let asked = asked_by(&words).into_iter();
        asked
            .filter(|asks| asks.is_early(at.number(), at.priority()))
            .collect()
    }

    #[test]
    fn what_is_decided_later_is_told_by_the_hook() {
        for text in ["ct state new", "ct mark 5", "not ct status dnat"] {
            assert_eq!(early(text, At::Prerouting), [Asks::Connection], "{text}");
            assert_eq!(early(text, At::Output), [Asks::Connection], "{text}");
            for at in [At::Input, At::Accepted, At::Forward, At::Postrouting] {
                assert_eq!(early(text, at), [], "{text} {at}");
            }
        }
        assert_eq!(early("meta mark and 1 == 1", At::Prerouting), [Asks::Mark]);
        assert_eq!(early("mark 7", At::Output), [], "a socket's own mark");
        assert_eq!(early("socket mark 7", At::Prerouting), []);
        assert_eq!(early("meta skuid 0", At::Forward), [Asks::Socket]);
        assert_eq!(early("rt nexthop 192.0.2.1", At::Prerouting), [Asks::Route]);
        assert_eq!(early("rt type 0", At::Prerouting), [], "IPv6's header");
        assert_eq!(early("oifname eth0", At::Input), [Asks::Outbound]);
        assert_eq!(early("iifname eth0", At::Output), [Asks::Inbound]);
        assert_eq!(early("iifname eth0 tcp dport 443", At::Prerouting), []);
        assert_eq!(early("fib saddr . iif oif 0", At::Prerouting), []);
    }
}
