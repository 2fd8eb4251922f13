//! The nftables side: the table lwnflog captures with, and what it reads of the rules that
//! log to its groups.
//!
//! ```text
//!              RuleSpec (what to log, where to)
//!               |                    |
//!          text::table_text     table (messages)
//!               |                    |
//!          `nft -f -`           install::install ---> InstalledTable (owns the table)
//!               |                    |
//!               v                    v
//!        rules in the kernel: `counter name detected log group 5`
//!               |
//!               v
//!        inspect::logging_rules ---> Vec<LoggingRule> ---> Detected::read (packets the rules sent here)
//! ```
//!
//! Both ways to load the rules make the same table, such as `ip lwnflog-g5`: each group has one of its
//! own ([`table_name`]). [`logging_rules`] finds rules of
//! any origin that nftables runs: loaded by `nft`, by `iptables-nft`, or installed from here.
//! (Rules of `iptables-legacy` live elsewhere in the kernel and are not seen.)
//!
//! All of this happens in the network namespace of the calling thread and needs
//! CAP_NET_ADMIN there; so does reading.

mod constants;
mod counters;
mod early;
mod error;
mod expression;
mod flowtables;
mod inspect;
mod install;
use crate::netlink::request::{self as message, NfMessage};
use crate::source::Target;
mod matching;
mod place;
mod plan;
mod socket;
mod table;
mod text;
mod xtables;

pub use counters::{Counters, Detected};
pub use early::Asks;
pub use error::{RuleError, SpecError};
pub use flowtables::{Flowtable, flowtables};
pub use inspect::{
    Asleep, CounterPlace, CounterRef, Family, Hook, LoggingRule, logging_rules,
    logging_rules_beside, logging_rules_by, logging_rules_of_all,
};
pub use install::{InstalledTable, install};
pub use matching::{Match, MatchError, check_table};
pub use place::{At, RuleFamily, Spread};
pub use text::{iptables_queue_command, table_text};

/// What the names of all tables begin with that lwnflog loads or installs.
const TABLE: &str = "lwnflog";

/// The table of a capture of these groups or queues: named after the first of them, so that captures
/// of other groups have other tables, and one that takes more or fewer groups from there on replaces
/// its own.
pub fn table_name(target: Target, numbers: &[u16]) -> String {
    let letter = match target {
        Target::Group => 'g',
        Target::Queue => 'q',
    };
    let first = numbers.first().copied().unwrap_or_default();
    format!("{TABLE}-{letter}{first}")
}

/// Before every chain that is usually loaded, and one step behind the thesis's `NF_IP_PRI_FIRST`:
/// there stands `ip_sabotage_in` (`net/bridge/br_netfilter_hooks.c`), which takes a bridged packet
/// out of its second way through prerouting, and a chain of the same number would be in front of
/// it.
pub const PRIORITY: i32 = i32::MIN + 1;

/// With several groups, at least this many CPUs are spread over them; see [`RuleSpec::spread`].
pub const SPREAD_CPUS: usize = 16;

/// The most groups or queues of one [`RuleSpec`].
pub const MAX_NUMBERS: usize = 128;

/// What a table is to do: always valid, checked where it is built.
///
/// ```
/// use lwnflog::nft::{RuleSpec, table_text};
/// use lwnflog::source::Target;
///
/// let spec = RuleSpec::new(Target::Group, &[5])?.with_iface("eth0")?;
/// assert!(table_text(&spec).contains(r#"iifname "eth0" counter name "detected" log group 5"#));
/// # Ok::<(), lwnflog::nft::SpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    target: Target,
    numbers: Vec<u16>,
    table: String,
    family: RuleFamily,
    /// At least one.
    hooks: Vec<At>,
    /// Each rule's prefix is the name of its hook.
    names_hooks: bool,
    ifaces: Vec<String>,
    matching: Option<Match>,
    cgroup: Option<(u64, u32)>,
    rate_limit: Option<u32>,
    spread: Spread,
    drop: bool,
    prefix: Option<String>,
}

impl RuleSpec {
    /// Sends what arrives, on any interface, to these groups or queues.
    ///
    /// Several groups share the CPUs (see [`Self::spread`]); several queues must be
    /// consecutive, and the kernel shares the CPUs among them (`fanout`).
    pub fn new(target: Target, numbers: &[u16]) -> Result<Self, SpecError> {
        if numbers.is_empty() {
            return Err(SpecError::NoNumber { target });
        }
        if numbers.len() > MAX_NUMBERS {
            let (count, max) = (numbers.len(), MAX_NUMBERS);
            return Err(SpecError::TooManyNumbers { target, count, max });
        }
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        for pair in sorted.windows(2) {
            if pair[0] == pair[1] {
                return Err(SpecError::Twice {
                    target,
                    number: pair[0],
                });
            }
            if target == Target::Queue && pair[1] - pair[0] > 1 {
                return Err(SpecError::QueueGap {
                    missing: pair[0] + 1,
                });
            }
        }
        // The order of queues means nothing; that of groups says which CPU gets which.
        let numbers = if target == Target::Queue {
            sorted
        } else {
            numbers.to_vec()
        };
        Ok(RuleSpec {
            target,
            table: table_name(target, &numbers),
            numbers,
            family: RuleFamily::Ip,
            hooks: vec![At::Prerouting],
            names_hooks: false,
            ifaces: Vec::new(),
            matching: None,
            cgroup: None,
            rate_limit: None,
            spread: Spread::Cpu,
            drop: false,
            prefix: None,
        })
    }

    /// Only what comes by this interface, which need not exist yet; called again, by one of several.
    /// A `*` at the end stands for any rest. At output and postrouting it is the one they leave by.
    pub fn with_iface(mut self, name: &str) -> Result<Self, SpecError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && !br#"/:*"\$"#.contains(&byte);
        let fixed = name.strip_suffix('*').unwrap_or(name);
        // With its `*`: nft takes no longer name.
        let fits = !fixed.is_empty() && name.len() < constants::IFNAMSIZ;
        if !fits || !fixed.bytes().all(allowed) || fixed == "." || fixed == ".." {
            return Err(SpecError::Interface {
                name: name.to_owned(),
            });
        }
        if !self.ifaces.iter().any(|known| known == name) {
            self.ifaces.push(name.to_owned());
        }
        Ok(self)
    }

    /// Only what this expression matches, beside the interface.
    #[must_use]
    pub fn with_match(mut self, matching: Match) -> Self {
        self.matching = Some(matching);
        self
    }

    /// Only packets of sockets of processes in a cgroup of version 2: its number, which is its
    /// directory's inode, and how deep it stands. Nothing else is selected then.
    #[must_use]
    pub fn with_cgroup(mut self, id: u64, level: u32) -> Self {
        self.cgroup = Some((id, level));
        self
    }

    /// At another hook.
    #[must_use]
    pub fn with_hook(mut self, at: At) -> Self {
        self.hooks = vec![at];
        self
    }

    /// At two hooks of which no packet passes both, but for those that a host sends to itself.
    #[must_use]
    pub(crate) fn with_hooks(mut self, one: At, other: At) -> Self {
        self.hooks = vec![one, other];
        self
    }

    /// At several hooks, so that each packet's way can be told ([`crate::path`]): what is logged there has
    /// the hook's name as its prefix. One hook is [`Self::with_hook`].
    ///
    /// # Errors
    /// [`SpecError::AtSeveral`] where the hooks would not have the same packets, or one group could not tell
    /// them apart.
    pub fn with_trace(mut self, hooks: &[At]) -> Result<Self, SpecError> {
        let mut all: Vec<At> = Vec::new();
        for at in hooks {
            if !all.contains(at) {
                all.push(*at);
            }
        }
        if let [_, _, ..] = all[..] {
            let not_so = [
                (
                    self.target == Target::Queue,
                    "queue",
                    "its packets do not say their hook",
                ),
                (
                    self.per_group(),
                    "second group",
                    "what one has would be out of order with the other's",
                ),
                (
                    !self.ifaces.is_empty(),
                    "--iface",
                    "what comes by one leaves by another; --match takes what all hooks know",
                ),
                (
                    self.rate_limit.is_some(),
                    "--rate-limit",
                    "each hook would pick others",
                ),
                (
                    self.drop,
                    "--drop",
                    "what is dropped at one comes to no other",
                ),
                (
                    self.prefix.is_some(),
                    "--prefix",
                    "it is the hook's name there",
                ),
            ];
            if let Some((_, option, why)) = not_so.into_iter().find(|(given, ..)| *given) {
                return Err(SpecError::AtSeveral { option, why });
            }
            self.names_hooks = true;
        }
        if !all.is_empty() {
            self.hooks = all;
        }
        Ok(self)
    }

    /// In a table of another name.
    #[must_use]
    pub fn with_table(mut self, name: &str) -> Self {
        name.clone_into(&mut self.table);
        self
    }

    /// Of IPv6 packets, or of both.
    #[must_use]
    pub fn with_family(mut self, family: RuleFamily) -> Self {
        self.family = family;
        self
    }

    /// Several groups share the packets in another way.
    #[must_use]
    pub fn with_spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
        self
    }

    /// At most so many packets a second; others go on unseen, and are counted as such.
    #[must_use]
    pub fn with_rate_limit(mut self, packets_per_second: u32) -> Self {
        self.rate_limit = Some(packets_per_second);
        self
    }

    /// Drops the packets once they are logged: the thesis's passive capture host.
    pub fn with_drop(mut self) -> Result<Self, SpecError> {
        if self.target == Target::Queue {
            return Err(SpecError::NotForQueues { option: "drop" });
        }
        self.drop = true;
        Ok(self)
    }

    /// Has the kernel send this text with every packet; it takes room in every message.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, SpecError> {
        if self.target == Target::Queue {
            return Err(SpecError::NotForQueues { option: "prefix" });
        }
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && !br#""\$"#.contains(&byte);
        let fits = (1..constants::NF_LOG_PREFIXLEN).contains(&prefix.len());
        if !fits || !prefix.bytes().all(allowed) {
            return Err(SpecError::Prefix {
                prefix: prefix.to_owned(),
            });
        }
        self.prefix = Some(prefix.to_owned());
        Ok(self)
    }

    /// Checks that nothing is asked before it is decided.
    ///
    /// # Errors
    /// [`SpecError::Early`].
    pub(crate) fn checked(self) -> Result<Self, SpecError> {
        let asked = self.matching.as_ref().map(Match::asks);
        for asks in asked.iter().flatten() {
            let early = |at: &&At| asks.is_early(at.number(), at.priority());
            if let Some(at) = self.hooks.iter().find(early) {
                let (asks, at) = (*asks, *at);
                return Err(SpecError::Early { asks, at });
            }
        }
        Ok(self)
    }

    /// Groups or queues.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The groups in the order given, or the queues in rising order; at least one.
    pub fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    /// The interfaces captured from; none is all.
    pub fn ifaces(&self) -> &[String] {
        &self.ifaces
    }

    /// What packets have to match beside.
    pub fn matching(&self) -> Option<&Match> {
        self.matching.as_ref()
    }

    /// The hooks, at least one.
    pub fn hooks(&self) -> &[At] {
        &self.hooks
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The family of the table, as nft names it.
    pub fn family(&self) -> &'static str {
        self.family.name()
    }

    /// The same as its own kind.
    pub(crate) fn rule_family(&self) -> RuleFamily {
        self.family
    }

    fn family_number(&self) -> u8 {
        self.family.number()
    }

    /// How several groups share the packets.
    pub fn spread_by(&self) -> Spread {
        self.spread
    }

    /// Packets a second at the most.
    pub fn rate_limit(&self) -> Option<u32> {
        self.rate_limit
    }

    /// Whether packets are dropped once logged.
    pub fn drops(&self) -> bool {
        self.drop
    }

    /// The text sent with every packet from this hook.
    pub fn prefix(&self, at: At) -> Option<&str> {
        if self.names_hooks {
            return Some(at.chain());
        }
        self.prefix.as_deref()
    }

    /// Which CPU's packets go to which group, if there are several groups.
    ///
    /// CPUs 0 to 15 (or as many as there are groups, if more) go round the groups, so that
    /// four groups serve CPUs 0, 4, 8 and 12 with the first. A CPU beyond goes to the
    /// first group, see [`Self::first`]. Empty for one group and for queues.
    ///
    /// By flow, each group has one number of a hash.
    pub fn spread(&self) -> Vec<(u32, u16)> {
        if !self.per_group() {
            return Vec::new();
        }
        let cpus = match self.spread {
            Spread::Cpu => self.numbers.len().max(SPREAD_CPUS),
            Spread::Flow => self.numbers.len(),
        };
        (0..)
            .zip(self.numbers.iter().copied().cycle().take(cpus))
            .collect()
    }

    /// The first group or queue: the group of every CPU that [`Self::spread`] does not name.
    pub fn first(&self) -> u16 {
        self.numbers.first().copied().unwrap_or_default()
    }

    /// Whether each group has a chain and a counter of its own.
    fn per_group(&self) -> bool {
        self.target == Target::Group && self.numbers.len() > 1
    }

    /// The chain that logs to this group, when there are several.
    fn group_chain(number: u16) -> String {
        format!("g{number}")
    }

    /// The named counter beside this group or queue.
    fn counter_name(&self, number: u16) -> String {
        if self.per_group() {
            format!("detected_{number}")
        } else {
            "detected".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked() {
        assert_eq!(
            RuleSpec::new(Target::Group, &[]),
            Err(SpecError::NoNumber {
                target: Target::Group
            })
        );
        assert_eq!(
            RuleSpec::new(Target::Group, &[7, 5, 7]),
            Err(SpecError::Twice {
                target: Target::Group,
                number: 7
            })
        );
        assert_eq!(
            RuleSpec::new(Target::Queue, &[5, 7]),
            Err(SpecError::QueueGap { missing: 6 })
        );
        assert!(RuleSpec::new(Target::Group, &[9, 5]).is_ok_and(|s| s.numbers() == [9, 5]));
        assert!(RuleSpec::new(Target::Queue, &[6, 5]).is_ok_and(|s| s.numbers() == [5, 6]));
        let many: Vec<u16> = (0..=128).collect();
        assert!(matches!(
            RuleSpec::new(Target::Group, &many),
            Err(SpecError::TooManyNumbers { count: 129, .. })
        ));
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        let spec = RuleSpec::new(Target::Group, &[5]).unwrap();
        for name in [
            "",
            "a\"b",
            "a b",
            "..",
            "e*h",
            "*",
            "abcdefghijklmnop",
            "é",
            "a/b",
            "a\n",
        ] {
            assert!(spec.clone().with_iface(name).is_err(), "{name:?}");
        }
        for name in ["lo", "eth0.5", "wg-a_b", "abcdefghijklmno", "@x", "eth*"] {
            assert!(spec.clone().with_iface(name).is_ok(), "{name:?}");
        }
        for prefix in ["", "a\"", "$x", "a\\", "a\nb", &"x".repeat(128)] {
            assert!(spec.clone().with_prefix(prefix).is_err(), "{prefix:?}");
        }
        assert!(spec.with_prefix(&"x".repeat(127)).is_ok());
    }

    #[test]
    fn queues_take_no_drop_and_no_prefix() {
        let spec = RuleSpec::new(Target::Queue, &[5]).unwrap();
        let error = spec.clone().with_drop().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a queue's rule takes no drop"),
            "{error}"
        );
        assert!(spec.with_prefix("x").is_err());
    }

    #[test]
    fn spread_goes_round_the_groups() {
        let spread = RuleSpec::new(Target::Group, &[5, 9, 7]).unwrap().spread();
        assert_eq!(spread.len(), 16);
        assert_eq!(&spread[..4], &[(0, 5), (1, 9), (2, 7), (3, 5)]);
        let groups: Vec<u16> = (5..25).collect();
        assert_eq!(
            RuleSpec::new(Target::Group, &groups)
                .unwrap()
                .spread()
                .len(),
            20
        );
        assert!(
            RuleSpec::new(Target::Group, &[5])
                .unwrap()
                .spread()
                .is_empty()
        );
        assert!(
            RuleSpec::new(Target::Queue, &[5, 6])
                .unwrap()
                .spread()
                .is_empty()
        );
    }
}
