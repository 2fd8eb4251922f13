//! Where a table's chain stands, of which family, and how several groups share its packets.

use std::fmt;
use std::str::FromStr;

use super::PRIORITY;
use crate::packet::IpFamily;

use super::constants::{NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6};

/// A hook of the IP families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum At {
    /// Everything that comes in, before it is routed.
    #[default]
    Prerouting,
    /// What is for this host.
    Input,
    /// What is for this host, and was let through by all rules at input.
    Accepted,
    /// What is passed on.
    Forward,
    /// What this host sends.
    Output,
    /// Everything that leaves, after it is routed.
    Postrouting,
}

impl At {
    /// All of them, in the order a packet meets them.
    pub const ALL: [At; 6] = [
        At::Prerouting,
        At::Input,
        At::Accepted,
        At::Forward,
        At::Output,
        At::Postrouting,
    ];

    /// `NF_INET_*` (`linux/netfilter.h`).
    pub fn number(self) -> u32 {
        match self {
            At::Prerouting => 0,
            At::Input | At::Accepted => 1,
            At::Forward => 2,
            At::Output => 3,
            At::Postrouting => 4,
        }
    }

    /// Its name, which is its chain's, too.
    pub(super) fn chain(self) -> &'static str {
        match self {
            At::Accepted => "accepted",
            _ => self.hook(),
        }
    }

    /// The name of the hook that the chain stands at.
    pub(super) fn hook(self) -> &'static str {
        match self {
            At::Prerouting => "prerouting",
            At::Input | At::Accepted => "input",
            At::Forward => "forward",
            At::Output => "output",
            At::Postrouting => "postrouting",
        }
    }

    /// Where packets leave: the interface they leave by is known, and the other is not.
    pub(super) fn is_outbound(self) -> bool {
        matches!(self, At::Output | At::Postrouting)
    }

    /// Before all others; at postrouting behind them, so that packets are seen as they leave, as are those
    /// that input lets through.
    pub(super) fn priority(self) -> i32 {
        match self {
            At::Accepted | At::Postrouting => i32::MAX - 1,
            _ => PRIORITY,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.chain())
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(name: &str) -> Result<At, String> {
        let found = At::ALL.into_iter().find(|at| at.chain() == name);
        found.ok_or_else(|| {
            let all = At::ALL.map(At::chain).join(", ");
            format!("`{name}` is no place for a rule: {all}")
        })
    }
}

/// The family of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuleFamily {
    /// IPv4.
    #[default]
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

impl From<IpFamily> for RuleFamily {
    fn from(family: IpFamily) -> RuleFamily {
        match family {
            IpFamily::Ip => RuleFamily::Ip,
            IpFamily::Ip6 => RuleFamily::Ip6,
            IpFamily::Both => RuleFamily::Inet,
        }
    }
}

impl RuleFamily {
    /// That of a table; `None` of one of another protocol.
    pub fn of(family: super::Family) -> Option<RuleFamily> {
        let all = [RuleFamily::Ip, RuleFamily::Ip6, RuleFamily::Inet];
        all.into_iter().find(|known| known.number() == family.0)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            RuleFamily::Ip => "ip",
            RuleFamily::Ip6 => "ip6",
            RuleFamily::Inet => "inet",
        }
    }

    /// `NFPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            RuleFamily::Ip => NFPROTO_IPV4,
            RuleFamily::Ip6 => NFPROTO_IPV6,
            RuleFamily::Inet => NFPROTO_INET,
        }
    }
}

/// How several groups share packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spread {
    /// By the processor that handles them: no two of them meet at one group's lock.
    #[default]
    Cpu,
    /// By a hash of the flow that both its directions have: a connection stays in one file.
    Flow,
}
