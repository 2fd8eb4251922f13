//! What can go wrong with rules: each error names the thing, the cause and the remedy.

use std::io;

use thiserror::Error;

/// A [`RuleSpec`](super::RuleSpec) that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// No group or queue was named.
    #[error("no {target} given: name at least one, for example `5` or `5-8`")]
    NoNumber {
        /// `group` or `queue`.
        target: crate::source::Target,
    },
    /// More groups or queues than one table is made for.
    #[error("{count} {target}s are more than the {max} one table may hold: name fewer")]
    TooManyNumbers {
        /// `group` or `queue`.
        target: crate::source::Target,
        /// How many were named.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A number named twice.
    #[error("{target} {number} is named twice: name it once")]
    Twice {
        /// `group` or `queue`.
        target: crate::source::Target,
        /// The number.
        number: u16,
    },
    /// The kernel spreads packets over consecutive queues only.
    #[error(
        "queue {missing} is missing: the kernel fans out over consecutive queues, such as `5-8`"
    )]
    QueueGap {
        /// The first number that breaks the row.
        missing: u16,
    },
    /// Not the name of an interface.
    #[error(
        "`{name}` cannot be an interface: a name has 1 to 15 bytes (with a `*` at its end), letters, digits and signs \
         other than `/ : * \" \\ $`; `ip link` lists the interfaces"
    )]
    Interface {
        /// The name as it was given.
        name: String,
    },
    /// Not a prefix that a rule can hold.
    #[error(
        "`{prefix}` cannot be a log prefix: it has 1 to 127 printable ASCII characters, \
         without `\" \\ $`"
    )]
    Prefix {
        /// The prefix as it was given.
        prefix: String,
    },
    /// A selection by what is not decided yet.
    #[error(
        "--match asks for {asks} (the rule is the first at {at}); take {}, or load a rule of your own that logs to the group",
        .asks.decided_at()
    )]
    Early {
        /// What it asks for.
        asks: super::Asks,
        /// Where the rule would be.
        at: super::At,
    },
    /// What has no meaning at several hooks at once.
    #[error("rules at several hooks take no {option}: {why}")]
    AtSeveral {
        /// The option.
        option: &'static str,
        /// Why, and what does instead.
        why: &'static str,
    },
    /// A group's option used with a queue.
    #[error(
        "a queue's rule takes no {option}: the program that reads the queue gives the verdict \
         and sees no prefix"
    )]
    NotForQueues {
        /// `drop` or `prefix`.
        option: &'static str,
    },
}

/// The rules could not be installed or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No netlink socket to Netfilter.
    #[error(
        "cannot open a netlink socket to Netfilter: {0}; the kernel needs \
         CONFIG_NETFILTER_NETLINK (`modprobe nfnetlink`)"
    )]
    Socket(#[source] io::Error),
    /// CAP_NET_ADMIN is missing.
    #[error(
        "no right to the rules of this network namespace: CAP_NET_ADMIN is missing; run as root, \
         give the program that capability, for a group of users and nobody else (docs/USAGE.md, Rights), or try `unshare -rn`"
    )]
    NoRight,
    /// The kernel has no nftables.
    #[error("this kernel has no nftables: `modprobe nf_tables`, or build it with CONFIG_NF_TABLES")]
    NoNfTables,
    /// The table is there already and belongs to no process.
    #[error(
        "table `{table}` exists already (loaded by `nft -f`?): leave out --install-rule to \
         use it, or remove it with `nft delete table {table}`"
    )]
    TableExists {
        /// Its family and name.
        table: String,
    },
    /// The table is there already and belongs to another process.
    #[error(
        "table `{table}` belongs to another process, probably an lwnflog with --install-rule for the same \
         group (`nft list tables`): stop that one first, or take another --group"
    )]
    TableOwned {
        /// Its family and name.
        table: String,
    },
    /// The kernel does not know tables that belong to a process.
    #[error(
        "this kernel has no nftables tables that vanish with their process (Linux 5.12 has): \
         load the rules with `lwnflog rules | nft -f -` instead of --install-rule"
    )]
    NoOwnedTables,
    /// The kernel lacks what the rule needs.
    #[error(
        "this kernel's nftables has no `{statement}`: it needs {config} (`modprobe {module}`){otherwise}"
    )]
    NoStatement {
        /// The nftables statement.
        statement: &'static str,
        /// Kernel configuration options.
        config: &'static str,
        /// Module that holds the statement.
        module: &'static str,
        /// Another way, if there is one, starting with a semicolon.
        otherwise: &'static str,
    },
    /// The kernel said no to something it should have taken.
    #[error("the kernel refused to {request}: {source}; please report this")]
    Refused {
        /// What it was asked.
        request: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// Sending to or receiving from the kernel failed.
    #[error("cannot {request} over netlink: {source}")]
    Netlink {
        /// What was being done.
        request: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A request that cannot be written, or an answer that is missing or cannot be read.
    #[error("bad netlink message to {request}, or bad answer: {problem}; please report this")]
    Message {
        /// What the kernel was, or was to be, asked.
        request: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There are so many rules that reading them takes too long.
    #[error("there are so many rules that reading them takes too long while capturing")]
    TooMany,
    /// A counter was removed since it was found.
    #[error(
        "counter of {counter} is gone: its rule or table was removed or reloaded; restart the \
         capture to count from now on"
    )]
    CounterGone {
        /// Where it was.
        counter: String,
    },
    /// A counter shows less than before.
    #[error(
        "counter of {counter} went back from {before} to {now}: it was reset or its table was \
         reloaded; restart the capture to count from now on"
    )]
    CounterReset {
        /// Where it is.
        counter: String,
        /// What it showed before.
        before: u64,
        /// What it shows now.
        now: u64,
    },
}
