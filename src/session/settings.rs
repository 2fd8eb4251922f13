//! Validated settings of a capture: what options mean, and what goes together.

use std::path::PathBuf;
use std::time::Duration;

use crate::format::LinkType;
use crate::netlink::nfnetlink::COPY_RANGE_MAX_BYTES;
use crate::nft::{At, Spread};
use crate::ring::{Access, SEGMENT_BYTES_HUGE};
use crate::source::nfqueue::Verdict;
use crate::source::{HookPoint, SourceName, Target};

/// The thesis's file size (section 3.3.1).
pub const FILE_BYTES_DEFAULT: u64 = 200_000_000;
/// The smallest file: one segment of the large kind.
pub const FILE_BYTES_MIN: u64 = 256 << 10;
/// Files of a ring.
pub const FILES_DEFAULT: usize = 8;
/// The thesis's slot (section 3.2.1).
pub const SNAPLEN_DEFAULT: u32 = 128;
/// A frame's most: what NFLOG copies of a packet, behind the longest link-layer header.
pub const SNAPLEN_MAX: u32 = 65_535;
/// A packet's most with `--hook`: what libpcap and Wireshark take for one.
pub const SNAPLEN_HOOK_MAX: u32 = 262_144;
/// The largest group or queue number.
const NUMBER_MAX: u32 = 65_535;
/// One thread each: more would not be of use.
const NUMBERS_MAX: usize = 128;

/// The capture file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// pcapng.
    PcapNg,
    /// Classic pcap.
    Pcap,
}

/// Where captured packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The ring's directory.
    pub dir: PathBuf,
    /// The most bytes of a file.
    pub file_bytes: u64,
    /// Files that hold packets; 0 is no limit.
    pub files: usize,
    /// The file format.
    pub format: FileFormat,
    /// Who may read the files.
    pub access: Access,
}

/// A rule to install for as long as the capture lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRequest {
    /// Only packets that come by one of these interfaces; none is all.
    pub ifaces: Vec<String>,
    /// Only packets that this nftables expression matches.
    pub matching: Option<String>,
    /// The text sent with every packet.
    pub prefix: Option<String>,
    /// The hook.
    pub at: At,
    /// How several groups share packets.
    pub spread: Spread,
    /// Packets a second at the most.
    pub rate_limit: Option<u32>,
    /// Drop packets once they are logged.
    pub drop: bool,
}

/// Packets that may wait in a queue: as many as can, or one sender's traffic loses some
/// (docs/NFQUEUE.md).
pub const QUEUE_LEN_DEFAULT: u32 = QUEUE_LEN_MAX;
/// The most: newer kernels find waiting packets by a hash table that takes no more.
pub const QUEUE_LEN_MAX: u32 = 65_536;

/// How NFQUEUE queues are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// What becomes of packets when they are recorded.
    pub verdict: Verdict,
    /// The mark they carry on.
    pub mark: Option<u32>,
    /// Packets that find the queue full pass unrecorded; otherwise they are dropped.
    pub fail_open: bool,
    /// Packets that may wait.
    pub len: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        QueueOptions {
            verdict: Verdict::Accept,
            mark: None,
            fail_open: true,
            len: QUEUE_LEN_DEFAULT,
        }
    }
}

/// A program at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOptions {
    /// Where.
    pub hook: HookPoint,
    /// Where among the others there; `None` is the first that is free.
    pub priority: Option<i32>,
    /// Only packets that come in by these interfaces; none is all.
    pub interfaces: Vec<String>,
    /// Only packets whose mark is the first under the second.
    pub mark: Option<(u32, u32)>,
    /// One packet in so many.
    pub sample: u32,
    /// Of each connection only the first so many bytes.
    pub cutoff_bytes: Option<u64>,
    /// Drop packets once they are captured.
    pub drop: bool,
    /// The group to capture where the program cannot be had.
    pub or_group: Option<u16>,
}

/// Where packets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSettings {
    /// NFLOG groups or NFQUEUE queues, by their numbers: one capturing thread each.
    Numbers(Target, Vec<u16>),
    /// A program at a hook.
    Hook(HookOptions),
}

impl SourceSettings {
    /// The largest snap length.
    pub fn snaplen_max(&self) -> u32 {
        match self {
            SourceSettings::Numbers(..) => SNAPLEN_MAX,
            SourceSettings::Hook(_) => SNAPLEN_HOOK_MAX,
        }
    }
}

/// Everything a capture needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where packets come from.
    pub source: SourceSettings,
    /// Where packets go; `None` counts and throws away.
    pub output: Option<Output>,
    /// What records hold.
    pub link: LinkType,
    /// Bytes of a frame written at the most.
    pub snaplen: u32,
    /// Stop after so many packets.
    pub count: Option<u64>,
    /// Stop after so long.
    pub duration: Option<Duration>,
    /// Go on to the next file after so long.
    pub rotate: Option<Duration>,
    /// The socket's receive buffer, each.
    pub buffer_bytes: usize,
    /// Packets the kernel hands over at a time.
    pub batch: u32,
    /// How long the kernel waits for a batch to fill.
    pub flush: Duration,
    /// The rule to install, if any.
    pub rule: Option<RuleRequest>,
    /// How queues are handled; of no meaning for groups.
    pub queue: QueueOptions,
}

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
    #[error("`{text}` is no duration: write 30s, 5min, 1h, or a number of seconds above 0")]
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
    /// Standard output, or a name that can only be meant for a file, as tcpdump's `-w` takes them.
    #[error(
        "-w {path}: this names the directory of a ring of mapped files, neither a file nor a pipe; name a directory, whose live file can be read at any moment"
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
    /// A hook that no rule stands at.
    #[error("--at: {0}")]
    At(String),
    /// A hook that cannot be captured.
    #[error("--hook: {0}")]
    Hook(String),
}

/// Reads `5`, `5-8`, `5,7`, and mixtures. A number named twice counts once.
///
/// # Errors
/// [`ConfigError::Numbers`], [`ConfigError::TooMany`].
pub fn parse_numbers(list: &str, what: &'static str) -> Result<Vec<u16>, ConfigError> {
    let bad = || ConfigError::Numbers {
        list: list.to_owned(),
        what,
    };
    let number = |text: &str| -> Result<u16, ConfigError> {
        let value: u32 = text.trim().parse().map_err(|_| bad())?;
        u16::try_from(value.min(NUMBER_MAX + 1)).map_err(|_| bad())
    };
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(bad());
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > NUMBERS_MAX {
        return Err(ConfigError::TooMany {
            count: numbers.len(),
        });
    }
    Ok(numbers)
}

/// Reads a size: a number and a unit, `k`, `M`, `G`, `T` for powers of 1000 (with or without `B`),
/// `KiB` and so on for powers of 1024. A bare number counts in `bare_unit` bytes.
///
/// # Errors
/// [`ConfigError::Size`].
pub fn parse_size(text: &str, bare_unit: u64) -> Result<u64, ConfigError> {
    let bad = || ConfigError::Size {
        text: text.to_owned(),
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => bare_unit,
        "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

/// A snap length as given, 0 for whole packets, of which a record holds `most` bytes.
///
/// # Errors
/// [`ConfigError::Snaplen`].
pub fn snaplen(given: u32, most: u32) -> Result<u32, ConfigError> {
    match given {
        0 => Ok(most),
        snaplen if snaplen <= most => Ok(snaplen),
        snaplen => Err(ConfigError::Snaplen { snaplen, most }),
    }
}

/// `V/M`: a mark and the mask under which it is compared; without a mask all bits count.
///
/// # Errors
/// [`ConfigError::Mark`].
pub fn mark_and_mask(text: &str) -> Result<(u32, u32), ConfigError> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((self::mark(value)?, self::mark(mask)?)),
        None => Ok((self::mark(text)?, u32::MAX)),
    }
}

/// A packet mark: decimal, or hexadecimal behind `0x`.
///
/// # Errors
/// [`ConfigError::Mark`].
pub fn mark(text: &str) -> Result<u32, ConfigError> {
    let parsed = match text.trim().strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.trim().parse(),
    };
    parsed.map_err(|_| ConfigError::Mark {
        text: text.to_owned(),
    })
}

/// A flush timeout in milliseconds, as the kernel can keep it.
///
/// # Errors
/// [`ConfigError::Flush`].
pub fn flush(ms: u64) -> Result<Duration, ConfigError> {
    match ms {
        10..=100 => Ok(Duration::from_millis(ms)),
        _ => Err(ConfigError::Flush { ms }),
    }
}

impl Output {
    /// Checks a ring's geometry.
    ///
    /// # Errors
    /// [`ConfigError::FileSize`], [`ConfigError::OneFile`], [`ConfigError::NotForARing`].
    pub fn check(self) -> Result<Output, ConfigError> {
        let extension = self
            .dir
            .extension()
            .and_then(|extension| extension.to_str());
        let names_a_file = matches!(extension, Some("pcap" | "pcapng")) && !self.dir.is_dir();
        if names_a_file || self.dir.as_os_str() == "-" {
            return Err(ConfigError::NotForARing {
                path: self.dir.display().to_string(),
            });
        }
        self.check_sizes()?;
        Ok(self)
    }

    /// Checks number and size of files.
    ///
    /// # Errors
    /// [`ConfigError::FileSize`], [`ConfigError::OneFile`].
    pub fn check_sizes(&self) -> Result<(), ConfigError> {
        if self.file_bytes < FILE_BYTES_MIN {
            return Err(ConfigError::FileSize {
                bytes: self.file_bytes,
                least: FILE_BYTES_MIN,
            });
        }
        if self.files == 1 {
            return Err(ConfigError::OneFile);
        }
        Ok(())
    }
}

/// Files of a ring that are mapped at one time: the live one, the next, and one that is being
/// finished.
const FILES_MAPPED: u64 = 3;
/// Bytes of addresses that files may take: half of them, so on a 32-bit machine 2 GiB.
const ADDRESSES: u64 = usize::MAX as u64 / 2;

/// Whether files of this size can be mapped, those of all rings together.
fn check_addresses(bytes: u64, rings: usize, addresses: u64) -> Result<(), ConfigError> {
    let rings = rings as u64;
    let most = addresses / FILES_MAPPED / rings.max(1);
    if bytes > most {
        return Err(ConfigError::AddressSpace {
            bytes,
            rings,
            addresses,
            most,
        });
    }
    Ok(())
}

impl Settings {
    /// Checks what options mean together.
    ///
    /// # Errors
    /// [`ConfigError::QueueOnly`], [`ConfigError::MarkOnDropped`],
    /// [`ConfigError::NoNflogMessages`], [`ConfigError::AddressSpace`].
    pub fn check(self) -> Result<Settings, ConfigError> {
        if !self.is_queue() && self.queue != QueueOptions::default() {
            return Err(ConfigError::QueueOnly);
        }
        if self.queue.verdict == Verdict::Drop && self.queue.mark.is_some() {
            return Err(ConfigError::MarkOnDropped);
        }
        if self.link == LinkType::Nflog {
            match &self.source {
                SourceSettings::Numbers(Target::Group, _) => {}
                SourceSettings::Numbers(Target::Queue, _) => {
                    return Err(ConfigError::NoNflogMessages("queue"));
                }
                SourceSettings::Hook(_) => return Err(ConfigError::NoNflogMessages("hook")),
            }
        }
        if let Some(output) = &self.output {
            let least = SEGMENT_BYTES_HUGE as u64;
            if self.snaplen > SNAPLEN_MAX && output.file_bytes < least {
                let bytes = output.file_bytes;
                return Err(ConfigError::FileSize { bytes, least });
            }
            check_addresses(output.file_bytes, self.names().len(), ADDRESSES)?;
        }
        Ok(self)
    }

    /// Bytes of a packet to ask the kernel for.
    pub fn copy_range_bytes(&self) -> u32 {
        let bytes = self.link.copy_range_bytes(self.snaplen);
        match self.source {
            SourceSettings::Numbers(..) => bytes.min(COPY_RANGE_MAX_BYTES),
            SourceSettings::Hook(_) => bytes,
        }
    }

    /// The sources, as they are named.
    pub fn names(&self) -> Vec<SourceName> {
        match &self.source {
            SourceSettings::Numbers(target, numbers) => numbers
                .iter()
                .map(|number| SourceName::Number(*target, *number))
                .collect(),
            SourceSettings::Hook(options) => vec![SourceName::Hook(options.hook)],
        }
    }

    /// The numbers of groups or queues; none of a hook.
    pub fn numbers(&self) -> &[u16] {
        match &self.source {
            SourceSettings::Numbers(_, numbers) => numbers,
            SourceSettings::Hook(_) => &[],
        }
    }

    /// Whether packets wait in a queue.
    pub fn is_queue(&self) -> bool {
        matches!(self.source, SourceSettings::Numbers(Target::Queue, _))
    }

    /// The same from an NFLOG group, where a program at the hook cannot be had.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn with_group(mut self, group: u16) -> Result<Settings, ConfigError> {
        self.source = SourceSettings::Numbers(Target::Group, vec![group]);
        self.snaplen = self.snaplen.min(SNAPLEN_MAX);
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_numbers("5", "groups"), Ok(vec![5]));
        assert_eq!(parse_numbers("5-8", "groups"), Ok(vec![5, 6, 7, 8]));
        assert_eq!(parse_numbers("7,5, 5", "groups"), Ok(vec![5, 7]));
        assert_eq!(parse_numbers("0,65535", "groups"), Ok(vec![0, 65535]));
        for bad in ["", "x", "5-", "8-5", "65536", "4294967301", "-1", "5,,6"] {
            assert!(
                matches!(
                    parse_numbers(bad, "groups"),
                    Err(ConfigError::Numbers { .. })
                ),
                "{bad}"
            );
        }
        assert_eq!(
            parse_numbers("0-65535", "groups"),
            Err(ConfigError::TooMany { count: 65536 })
        );
    }

    #[test]
    fn files_that_a_32_bit_program_can_map() {
        let addresses = u64::from(u32::MAX) / 2;
        let check = |bytes, rings| check_addresses(bytes, rings, addresses);
        assert_eq!(check(200_000_000, 3), Ok(()));
        let error = check(200_000_000, 4).unwrap_err();
        assert!(
            error.to_string().contains("at most 178956970 bytes"),
            "{error}"
        );
        assert_eq!(check(178_956_970, 4), Ok(()));
        assert!(check(1 << 32, 1).is_err());
    }

    #[test]
    fn marks() {
        assert_eq!(mark("7"), Ok(7));
        assert_eq!(mark("0xffffffff"), Ok(u32::MAX));
        for bad in ["", "x", "0x", "-1", "4294967296", "0x1ffffffff"] {
            assert!(matches!(mark(bad), Err(ConfigError::Mark { .. })), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("200MB", 200_000_000),
            ("200mb", 200_000_000),
            ("200MiB", 200 << 20),
            ("2G", 2_000_000_000),
            ("512 KiB", 512 << 10),
            ("1b", 1),
            ("3", 3_000_000),
        ] {
            assert_eq!(parse_size(text, 1_000_000), Ok(bytes), "{text}");
        }
        for bad in ["", "MB", "1.5G", "-1", "1XB", "99999999999G", "1 M M"] {
            assert!(parse_size(bad, 1).is_err(), "{bad}");
        }
    }
}
