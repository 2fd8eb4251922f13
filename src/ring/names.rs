//! What a ring's files are called.
//!
//! `g5-000042.live.pcapng` is being written, `g5-000042-20261121T080000Z.pcapng` is finished (the
//! time is its first packet's), `.g5-000043.new.pcapng` is being prepared, `.g5-000043.next.pcapng`
//! is prepared, `.g5.lock` is held by the running capture.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// The extensions a ring's files may have: a ring that changes its format still counts the others.
const EXTENSIONS: [&str; 2] = ["pcapng", "pcap"];

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Finished(u64),
    Live(u64),
    Next(u64),
    New(u64),
}

impl Name {
    /// The file's number.
    pub(super) fn sequence(self) -> u64 {
        match self {
            Name::Finished(sequence)
            | Name::Live(sequence)
            | Name::Next(sequence)
            | Name::New(sequence) => sequence,
        }
    }

    /// Reads a name of the ring `ring`; `None` for a file that is none of its.
    pub(super) fn parse(ring: &str, path: &Path) -> Option<Name> {
        let name = path.file_name()?.to_str()?;
        let (stem, extension) = name.rsplit_once('.')?;
        if !EXTENSIONS.contains(&extension) {
            return None;
        }
        if let Some(hidden) = stem.strip_prefix('.') {
            let (sequence, state) = hidden
                .strip_prefix(ring)?
                .strip_prefix('-')?
                .split_once('.')?;
            let sequence = sequence_number(sequence)?;
            return match state {
                "new" => Some(Name::New(sequence)),
                "next" => Some(Name::Next(sequence)),
                _ => None,
            };
        }
        let rest = stem.strip_prefix(ring)?.strip_prefix('-')?;
        if let Some(sequence) = rest.strip_suffix(".live") {
            return sequence_number(sequence).map(Name::Live);
        }
        let (sequence, stamp) = rest.split_once('-')?;
        (stamp.len() == "20261121T080000Z".len() && stamp.ends_with('Z')).then_some(())?;
        sequence_number(sequence).map(Name::Finished)
    }
}

/// A file's number. What no ring counts up to is none.
fn sequence_number(digits: &str) -> Option<u64> {
    const DIGITS_MAX: usize = 15;
    let number = digits.len() <= DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| digits.parse().ok())?
}

pub(super) fn lock(ring: &str) -> String {
    format!(".{ring}.lock")
}

pub(super) fn new(ring: &str, sequence: u64, extension: &str) -> String {
    format!(".{ring}-{sequence:06}.new.{extension}")
}

pub(super) fn next(ring: &str, sequence: u64, extension: &str) -> String {
    format!(".{ring}-{sequence:06}.next.{extension}")
}

pub(super) fn live(ring: &str, sequence: u64, extension: &str) -> String {
    format!("{ring}-{sequence:06}.live.{extension}")
}

/// `first_us`: the time of its first packet, microseconds since 1970.
pub(super) fn finished(ring: &str, sequence: u64, first_us: u64, extension: &str) -> String {
    /// The last second of the year 9999: a damaged file may say anything.
    const LAST_US: u64 = 253_402_300_799_000_000;
    let time = UNIX_EPOCH + Duration::from_micros(first_us.min(LAST_US));
    let stamp = humantime::format_rfc3339_seconds(time)
        .to_string()
        .replace(['-', ':'], "");
    format!("{ring}-{sequence:06}-{stamp}.{extension}")
}

/// Puts finished files of several rings in order, oldest first, by the time in their names. Those
/// of one second stay as they are.
pub fn sort_by_age(files: &mut [PathBuf]) {
    let stamp = |path: &PathBuf| {
        let stem = path.file_stem()?.to_str()?;
        stem.rsplit('-').next().map(str::to_owned)
    };
    files.sort_by_cached_key(stamp);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let read = |name: &str| Name::parse("g5", Path::new(name));
        let us = 1_795_593_600_000_000;
        assert_eq!(
            finished("g5", 42, us, "pcap"),
            "g5-000042-20261125T080000Z.pcap"
        );
        assert_eq!(
            read(&finished("g5", 42, us, "pcap")),
            Some(Name::Finished(42))
        );
        assert_eq!(
            read(&live("g5", 1_000_000, "pcapng")),
            Some(Name::Live(1_000_000))
        );
        assert_eq!(read(&next("g5", 7, "pcapng")), Some(Name::Next(7)));
        assert_eq!(read(&new("g5", 7, "pcap")), Some(Name::New(7)));
        for other in [
            &*lock("g5"),
            &*live("g50", 1, "pcapng"),
            &*live("g5", u64::MAX, "pcapng"),
            &*live("g5", 1, "damaged"),
            "g5-+00001.live.pcapng",
            "g5-000001-yesterday.pcapng",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
