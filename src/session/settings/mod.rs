//! Validated settings of a capture: what options mean, and what goes together.

mod error;
mod parse;

use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use parse::{
    flush, mark, mark_and_mask, parse_duration, parse_duration_or_none, parse_numbers, parse_size,
    snaplen,
};

use crate::format::LinkType;
use crate::netlink::nfnetlink::COPY_RANGE_MAX_BYTES;
use crate::nft::{At, RuleFamily, Spread, table_name};
use crate::packet::IpFamily;
use crate::ring::{Access, Limits, SEGMENT_BYTES_HUGE};
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
    /// What of a ring is kept.
    pub limits: Limits,
    /// The file format.
    pub format: FileFormat,
    /// Who may read the files.
    pub access: Access,
    /// Finished files get an index.
    pub index: bool,
}

/// A cgroup of version 2, as the kernel's sockets know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupRequest {
    /// Its number: its directory's inode.
    pub id: u64,
    /// How deep it stands; the root is 0.
    pub level: u32,
    /// A table of its own, beside that of other captures.
    pub table: String,
}

/// Packets one behind the other, without a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// How they are written.
    pub format: FileFormat,
    /// Where; `None` is standard output.
    pub file: Option<PathBuf>,
}

/// A rule to install for as long as the capture lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRequest {
    /// The table's family.
    pub family: RuleFamily,
    /// Only packets that come by one of these interfaces; none is all.
    pub ifaces: Vec<String>,
    /// Only packets that this nftables expression matches.
    pub matching: Option<String>,
    /// The text sent with every packet.
    pub prefix: Option<String>,
    /// The hooks; none is prerouting.
    pub at: Vec<At>,
    /// How several groups share packets.
    pub spread: Spread,
    /// Packets a second at the most.
    pub rate_limit: Option<u32>,
    /// Drop packets once they are logged.
    pub drop: bool,
    /// What a cgroup's processes receive and send, at input and output; nothing else of the above
    /// is looked at but the family.
    pub cgroup: Option<CgroupRequest>,
}

impl RuleRequest {
    /// The table's name, for these groups or queues.
    pub fn table(&self, target: Target, numbers: &[u16]) -> String {
        match &self.cgroup {
            Some(cgroup) => cgroup.table.clone(),
            None => table_name(target, numbers),
        }
    }
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
    /// One packet in so many; `None`: all, for good.
    pub sample: Option<u32>,
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

/// When files are kept by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepOptions {
    /// A packet that is logged to this group has files kept.
    pub group: u16,
    /// What came so long before.
    pub last: Duration,
    /// What comes so long after.
    pub next: Duration,
    /// Not more often.
    pub every: Duration,
    /// What kept files may take in sum.
    pub bytes_max: u64,
}

/// Everything a capture needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where packets come from.
    pub source: SourceSettings,
    /// Which packets are recorded.
    pub family: IpFamily,
    /// Where packets go; `None` counts and throws away.
    pub output: Option<Output>,
    /// Packets go to standard output, or to one file, as they come.
    pub stream: Option<Stream>,
    /// What records hold.
    pub link: LinkType,
    /// Bytes of a frame written at the most.
    pub snaplen: u32,
    /// Stop after so many packets.
    pub count: Option<u64>,
    /// Stop after so long.
    pub duration: Option<Duration>,
    /// Go on to the next file after so long, as it was asked for ([`Settings::rotate_every`]).
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
    /// When files are kept by themselves, if they are.
    pub keep: Option<KeepOptions>,
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
        if names_a_file {
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
    /// [`ConfigError::FileSize`], [`ConfigError::OneFile`], [`ConfigError::MaxBytes`].
    pub fn check_sizes(&self) -> Result<(), ConfigError> {
        if self.file_bytes < FILE_BYTES_MIN {
            return Err(ConfigError::FileSize {
                bytes: self.file_bytes,
                least: FILE_BYTES_MIN,
            });
        }
        if self.limits.files == 1 {
            return Err(ConfigError::OneFile);
        }
        let files_least = if self.limits.compressed { 4 } else { 3 };
        let least = self.file_bytes.saturating_mul(files_least);
        match self.limits.bytes {
            Some(bytes) if bytes < least => Err(ConfigError::MaxBytes { bytes, least }),
            _ => Ok(()),
        }
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
    /// After how long the next file begins: where files are kept for a time, after a part of it, so
    /// that no packet is there much longer than it may be.
    pub fn rotate_every(&self) -> Option<Duration> {
        const PART: u32 = 8;
        let age = self.output.as_ref().and_then(|output| output.limits.age);
        let by_age = age.map(|age| age / PART).filter(|every| !every.is_zero());
        self.rotate.or(by_age)
    }

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
        if self.stream.is_some() && self.names().len() > 1 {
            return Err(ConfigError::OneStream);
        }
        if let (Some(keep), SourceSettings::Numbers(Target::Group, groups)) =
            (&self.keep, &self.source)
            && groups.contains(&keep.group)
        {
            return Err(ConfigError::KeepOnCaptured(keep.group));
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
}
