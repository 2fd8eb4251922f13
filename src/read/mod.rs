//! Reading captures: lwnflog's own files, live ones too, and other tools' pcap and pcapng.
//!
//! ```text
//!   files of a ring, in order ──> chain ──┐
//!   any other file            ──> chain ──┼── merged by time ──> filter ──> a line, JSON, a file
//!   ...                       ──> chain ──┘
//! ```
//!
//! Files are read, not mapped: one that is cut meanwhile is an end, and no signal.

pub mod anonymize;
pub mod chain;
pub mod filter;
mod follow;
pub mod handle;
pub mod input;
pub mod line;
mod lz4;
mod options;
pub mod packets;
pub mod piece;
mod places;
pub mod plan;
pub mod scan;
mod span;
pub mod write;

use std::path::{Path, PathBuf};

pub use crate::decode;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}", path = line::shown(path))]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// In words.
    pub what: String,
}

impl ReadError {
    fn of(path: &Path, error: &std::io::Error) -> ReadError {
        ReadError {
            path: path.to_owned(),
            what: error.to_string(),
        }
    }
}

/// What could not be read: a whole file, or bytes of it.
#[derive(Debug)]
enum Fault {
    Error(ReadError),
    /// A directory without captures.
    Empty(PathBuf),
    /// No fault: what is in no copy.
    Passed(packets::Passed),
    Doubts {
        path: PathBuf,
        doubts: packets::Doubts,
    },
    Damage {
        path: PathBuf,
        damage: packets::Damage,
    },
}

/// What a packet came by, as its file says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its name; empty where the file has none.
    pub name: String,
    /// Where it stands, as the file says it: `NFLOG group 5`; empty where it does not.
    pub description: String,
    /// Bytes of a packet that were kept at the most; 0 where the file sets no limit.
    pub snaplen_bytes: u32,
    /// What records begin with (`LINKTYPE_*`).
    pub link: u16,
    /// Nanoseconds of a tick, where that is a whole number; else ticks of a second.
    pub tick: Tick,
    /// Seconds to be added to its times.
    pub offset_secs: i64,
}

impl Interface {
    /// Nanoseconds since 1970 of a time stamp of its packets.
    #[inline]
    pub fn time_ns(&self, ticks: u64) -> u64 {
        let nanos = self.tick.nanoseconds(ticks);
        match self.offset_secs {
            0 => nanos,
            offset => {
                let nanos = i128::from(nanos) + i128::from(offset) * 1_000_000_000;
                u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
            }
        }
    }

    /// Whether a time stamp of its packets is before 1970, or later than 64 bits of nanoseconds tell.
    fn is_beyond(&self, ticks: u64) -> bool {
        let nanos = i128::try_from(self.tick.exactly(ticks)).unwrap_or(i128::MAX);
        let nanos = nanos.saturating_add(i128::from(self.offset_secs) * 1_000_000_000);
        u64::try_from(nanos).is_err()
    }
}

/// What a tick of a time stamp is: `if_tsresol` of pcapng (section 4.2 of the draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tick {
    /// So many nanoseconds.
    Nanos(u64),
    /// So many of them are a nanosecond.
    OfANano(u128),
    /// A second, halved so many times.
    Halved(u8),
}

impl Default for Tick {
    fn default() -> Tick {
        Tick::Nanos(1000)
    }
}

impl Tick {
    /// By `if_tsresol`: a power of ten, or of two where the highest bit is set.
    pub fn of(resolution: u8) -> Tick {
        /// All that 64 bits hold is less than a nanosecond then.
        const EXPONENT_MAX: u32 = 29;
        match resolution {
            0..=9 => Tick::Nanos(10_u64.pow(9 - u32::from(resolution))),
            10..=0x7f => Tick::OfANano(10_u128.pow(u32::from(resolution).min(EXPONENT_MAX) - 9)),
            0x80.. => Tick::Halved(resolution & 0x7f),
        }
    }

    /// Nanoseconds since 1970; the latest that there is where that is too late.
    #[inline]
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        match self {
            Tick::Nanos(nanos) => ticks.saturating_mul(nanos),
            _ => u64::try_from(self.exactly(ticks)).unwrap_or(u64::MAX),
        }
    }

    fn exactly(self, ticks: u64) -> u128 {
        let ticks = u128::from(ticks);
        match self {
            Tick::Nanos(nanos) => ticks * u128::from(nanos),
            Tick::OfANano(ticks_a_nano) => ticks / ticks_a_nano.max(1),
            Tick::Halved(times) => (ticks * 1_000_000_000) >> times.min(127),
        }
    }
}

/// One packet of a file, borrowed from what was read of it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// What it came by.
    pub interface: &'a Interface,
    /// What of it was captured, from the link-layer header on.
    pub data: &'a [u8],
    /// Its length as it was.
    pub original_len: u32,
    /// Packets lost before it, since the one before, where the file says so.
    pub lost_before: u64,
    /// `epb_flags` of pcapng (section 4.3.1 of the draft): 1 in its lowest two bits is a packet that came
    /// in, 2 one that went out; 0 where the file does not say.
    pub flags: u32,
    /// What of it the file says in words: mark and prefix.
    pub comment: &'a str,
    /// What was changed in the capture before it; empty where nothing was.
    pub note: &'a str,
}

impl<'a> Record<'a> {
    /// The mark that the packet had; 0 is none.
    pub fn mark(&self) -> u32 {
        let digits = self.noted("mark=0x").unwrap_or_default();
        u32::from_str_radix(digits, 16).unwrap_or(0)
    }

    /// The rule's prefix; empty where there is none.
    pub fn prefix(&self) -> &'a str {
        match self.comment.split_once("prefix=") {
            Some((_, prefix)) => prefix,
            None => "",
        }
    }

    fn noted(&self, key: &str) -> Option<&'a str> {
        let (_, behind) = self.comment.split_once(key)?;
        behind.split(' ').next()
    }
}
