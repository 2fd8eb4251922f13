//! What is wrong with options.

use super::parse::NUMBERS_MAX;

/// Options that make no sense, alone or together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A list of groups or queues that cannot be read.
    #[error("`{list}` is no list of {what}: write 5, 5-8 or 5,7, with numbers from 0 to 65535")]
    Numbers {
        /// As given.
        list: String,
        /// `groups` or `queues`.
        what: &'static str,
    },
    /// More threads than make sense.
    #[error("{count} at once are more than the {NUMBERS_MAX} this program opens: name fewer")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A size that cannot be read.
    #[error("`{text}` is no size: write 200MB (10^6 bytes), 200MiB (2^20), 2G, 512k")]
    Size {
        /// As given.
        text: String,
    },
    /// A duration that cannot be read.
    #[error(
        "`{text}` is no duration: write 30s, 5min, 1h, or a number of seconds above 0, a hundred years at the most"
    )]
    Duration {
        /// As given.
        text: String,
    },
    /// Files that are too small.
    #[error("files of {bytes} bytes are too small: a ring's files have at least {least}")]
    FileSize {
        /// As given.
        bytes: u64,
        /// A segment, which the longest record has to fit.
        least: u64,
    },
    /// A snap length that is too large.
    #[error(
        "a snap length of {snaplen} is more than the {most} bytes of a frame; 0 means whole packets"
    )]
    Snaplen {
        /// As given.
        snaplen: u32,
        /// The most there is.
        most: u32,
    },
    /// A flush timeout out of range.
    #[error("--flush-ms {ms}: the kernel counts in steps of 10 ms, from 10 to 100")]
    Flush {
        /// As given.
        ms: u64,
    },
    /// A name that can only be meant for a file, as tcpdump's `-w` takes it.
    #[error(
        "-w {path}: this names the directory of a ring of mapped files; name a directory, whose live file can be read at any moment, or `-` for a stream"
    )]
    NotForARing {
        /// As given.
        path: String,
    },
    /// One file that is recycled while it is written.
    #[error(
        "--files 1 would throw away each packet when the file is full: use at least 2, or 0 for no limit"
    )]
    OneFile,
    /// A ring that its live and its prepared file fill.
    #[error(
        "--max-bytes {bytes}: beside a full file, the live and the prepared one (and one being compressed) take \
         their size, too: with files of this --file-size at least {least} bytes are needed"
    )]
    MaxBytes {
        /// As given.
        bytes: u64,
        /// What is enough.
        least: u64,
    },
    /// Files larger than can be mapped together.
    #[error(
        "--file-size {bytes}: three files of each of {rings} rings are mapped at a time, and this program has \
         {addresses} bytes of addresses for them; ask for at most {most} bytes"
    )]
    AddressSpace {
        /// As given.
        bytes: u64,
        /// How many rings.
        rings: u64,
        /// Addresses there are.
        addresses: u64,
        /// What would fit.
        most: u64,
    },
    /// A group of users that is not there.
    #[error("--group-owner {name}: {cause}; name a group of /etc/group, or give its number")]
    GroupOwner {
        /// As given.
        name: String,
        /// That there is none, or what the system says.
        cause: String,
    },
    /// A mark that cannot be read.
    #[error(
        "`{text}` is no mark: write a number from 0 to 4294967295, or 0x and up to eight hexadecimal digits"
    )]
    Mark {
        /// As given.
        text: String,
    },
    /// A mark on packets that are dropped.
    #[error("--mark with --verdict drop: a dropped packet carries no mark anywhere; leave one out")]
    MarkOnDropped,
    /// A group's packets are copies: there is nothing to decide about them.
    #[error(
        "--verdict, --mark, --fail-closed and --queue-len are for --queue: a group has copies of packets that are on their way"
    )]
    QueueOnly,
    /// NFLOG's attributes from another source.
    #[error("--link-type nflog holds NFLOG's messages, which a {0} has not: use ethernet or ip")]
    NoNflogMessages(&'static str),
    /// What only a rule to install or a program at the hook can do.
    #[error(
        "{0} is for --install-rule and --hook: a rule that is there already decides for itself"
    )]
    NothingToDecide(&'static str),
    /// What only a rule to install can do.
    #[error(
        "{0} is for --install-rule and `lwnflog rules`: a rule that is there already decides for itself"
    )]
    RuleOnly(&'static str),
    /// What only a program at the hook can do.
    #[error("{0} is for --hook: of a group or queue, the rule decides")]
    HookOnly(&'static str),
    /// The hook needs no rule.
    #[error("--hook captures without a rule: leave --install-rule out, or capture a --group")]
    HookWithRule,
    /// A name that cannot be a socket's.
    #[error(
        "--name {0}: a name has 1 to 64 letters, digits, `-`, `_` or `.`, and begins with none of the last"
    )]
    Name(String),
    /// Several sources, and one stream.
    #[error("-w -: one stream has the packets of one group, queue or hook; name one")]
    OneStream,
    /// Nobody can read the stream.
    #[error(
        "-w -: standard output is closed, and the packets would go nowhere: `>` a file, or `|` a program"
    )]
    ClosedOutput,
    /// What needs files, or standard output, which the packets have.
    #[error("{0} with -w -: standard output has the packets, and there are no files")]
    Streaming(&'static str),
    /// What belongs to an option that is not given.
    #[error("{0} is for {1}: give that as well")]
    Without(&'static str, &'static str),
    /// A command for finished files that is none.
    #[error("--on-rotate, --compress: {0}")]
    Chores(String),
    /// What is done with files where there are none.
    #[error("{0} with --discard: nothing is written, there are no files")]
    NoFiles(&'static str),
    /// A group that is captured and has files kept.
    #[error(
        "--keep-on {0}: this group is captured; a rule that is to have files kept logs to a group of its own"
    )]
    KeepOnCaptured(u16),
    /// A file of options that cannot be read, or says what makes no sense.
    #[error("{0}")]
    File(String),
    /// A hook that no rule stands at.
    #[error("--at: {0}")]
    At(String),
    /// A hook that cannot be captured.
    #[error("--hook: {0}")]
    Hook(String),
}
