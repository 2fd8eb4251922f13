//! What a ring's files are called.
//!
//! `g5-000042.live.pcapng` is being written, `g5-000042-20261121T080000Z.pcapng` is finished (the
//! time is its first packet's), `.g5-000043.new.pcapng` is being prepared, `.g5-000043.next.pcapng`
//! is prepared, `.g5.lock` is held by the running capture. A finished file that was compressed ends
//! in `.zst` or `.lz4`; while it is made, it is hidden and ends in `.part`. The index of a finished file
//! is hidden, too, and ends in `.idx` (`index/`).

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::index;

/// The extensions a ring's files may have: a ring that changes its format still counts the others.
const EXTENSIONS: [&str; 2] = ["pcapng", "pcap"];

/// How a finished file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4's frame format.
    Lz4,
}

impl Compression {
    const ALL: [Compression; 2] = [Compression::Zstd, Compression::Lz4];

    /// What the file's name ends in, behind its own.
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::Zstd => ".zst",
            Compression::Lz4 => ".lz4",
        }
    }

    /// What it is called on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
        }
    }

    /// What the file is called once it is compressed.
    pub fn of(self, path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(self.suffix());
        PathBuf::from(name)
    }

    /// What it is called while it is being compressed.
    pub fn part_of(self, path: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(self.suffix());
        name.push(".part");
        path.with_file_name(name)
    }

    /// How the file of this name is compressed.
    pub fn by_name(path: &Path) -> Option<Compression> {
        let name = path.file_name()?.as_encoded_bytes();
        let mut all = Compression::ALL.into_iter();
        all.find(|form| name.ends_with(form.suffix().as_bytes()))
    }
}

/// What the name of a ring's visible file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingFile {
    /// The ring: `g5`.
    pub ring: String,
    /// Its number there.
    pub sequence: u64,
    /// It is being written.
    pub live: bool,
}

/// The name of any ring's file that packets have gone to; `None` of another.
pub fn ring_file(path: &Path) -> Option<RingFile> {
    let name = path.file_name()?.to_str()?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // `g5-000042.live.pcapng`, `g5-000042-20261121T080000Z.pcapng`: the ring's own name may have `-`.
    let mut ends = name.match_indices('-').map(|(at, _)| at);
    let end = ends.find(|at| name.get(at + 1..at + 7).is_some_and(digits))?;
    let ring = name.get(..end)?;
    let (sequence, live) = match Name::parse(ring, path)? {
        Name::Finished(sequence) => (sequence, false),
        Name::Live(sequence) => (sequence, true),
        _ => return None,
    };
    Some(RingFile {
        ring: ring.to_owned(),
        sequence,
        live,
    })
}

/// The lock of the ring `ring` in `dir`.
pub fn lock_of(dir: &Path, ring: &str) -> PathBuf {
    dir.join(lock(ring))
}

/// Whether a file of this name is one that a ring looks after: with packets, prepared, being made, an index,
/// its lock.
pub fn is_rings(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let lock = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".lock"));
    if lock.is_some_and(|ring| !ring.is_empty()) {
        return true;
    }
    // The ring's own name may have `-`.
    let visible = name.trim_start_matches('.');
    let mut ends = visible.match_indices('-').map(|(at, _)| at);
    ends.any(|at| {
        visible
            .get(..at)
            .is_some_and(|ring| Name::parse(ring, path).is_some())
    })
}

/// What commands of `--on-rotate` put behind a file's name when they compress it: the ring counts and
/// removes such files, too. No reader of ours reads them.
const FOREIGN: [&str; 3] = [".gz", ".xz", ".bz2"];

/// What a file's name was before it was compressed, by whatever program.
pub fn uncompressed(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str());
    let mut suffixes = Compression::ALL
        .map(Compression::suffix)
        .into_iter()
        .chain(FOREIGN);
    match name.is_some_and(|name| suffixes.any(|suffix| name.ends_with(suffix))) {
        true => path.with_extension(""),
        false => path.to_owned(),
    }
}

/// The names that a finished file may have, as it was written first.
pub(super) fn all_forms(path: &Path) -> impl Iterator<Item = PathBuf> {
    let own = Compression::ALL.map(Compression::suffix);
    let suffixes = [""].into_iter().chain(own).chain(FOREIGN);
    suffixes.map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Where a finished file is now: under this name, or compressed.
pub fn wherever(path: &Path) -> PathBuf {
    let mut forms = all_forms(path);
    let there = forms.find(|form| form.symlink_metadata().is_ok());
    there.unwrap_or_else(|| path.to_owned())
}

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Finished(u64),
    Live(u64),
    Next(u64),
    New(u64),
    /// A finished one that was being compressed, or an index that was being made.
    Part(u64),
    /// The index of a finished one.
    Index(u64),
}

impl Name {
    /// The file's number.
    pub(super) fn sequence(self) -> u64 {
        match self {
            Name::Finished(sequence)
            | Name::Live(sequence)
            | Name::Next(sequence)
            | Name::New(sequence)
            | Name::Part(sequence)
            | Name::Index(sequence) => sequence,
        }
    }

    /// Reads a name of the ring `ring`; `None` for a file that is none of its.
    pub(super) fn parse(ring: &str, path: &Path) -> Option<Name> {
        let name = path.file_name()?.to_str()?;
        if let Some(indexed) = name.strip_suffix(index::SUFFIX) {
            let of = Name::parse(ring, Path::new(indexed.strip_prefix('.')?))?;
            return matches!(of, Name::Finished(_)).then_some(Name::Index(of.sequence()));
        }
        if let Some(part) = name.strip_suffix(".part") {
            if part.ends_with(index::SUFFIX) {
                return Name::parse(ring, Path::new(part)).map(|name| Name::Part(name.sequence()));
            }
            Compression::by_name(Path::new(part))?;
            let whole = Name::parse(ring, Path::new(part.strip_prefix('.')?))?;
            return Some(Name::Part(whole.sequence()));
        }
        let plain = uncompressed(path);
        let name = plain.file_name()?.to_str()?;
        let is_compressed = plain != path;
        let (stem, extension) = name.rsplit_once('.')?;
        if !EXTENSIONS.contains(&extension) {
            return None;
        }
        if let Some(hidden) = stem.strip_prefix('.').filter(|_| !is_compressed) {
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
        if let Some(sequence) = rest.strip_suffix(".live").filter(|_| !is_compressed) {
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

/// When the first packet of a finished file came, as its name says.
pub fn begun(path: &Path) -> Option<SystemTime> {
    let plain = uncompressed(path);
    let stamp = plain.file_stem()?.to_str()?.rsplit('-').next()?;
    let (date, time) = stamp.split_once('T')?;
    let part = |text: &str, range: Range<usize>| text.get(range).map(str::to_owned);
    let (year, month, day) = (part(date, 0..4)?, part(date, 4..6)?, part(date, 6..8)?);
    let (hour, minute, second) = (part(time, 0..2)?, part(time, 2..4)?, part(time, 4..6)?);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

/// Puts finished files of several rings in order, oldest first, by the time in their names. Those
/// of one second stay as they are.
pub fn sort_by_age(files: &mut [PathBuf]) {
    let stamp = |path: &PathBuf| {
        let plain = uncompressed(path);
        let stem = plain.file_stem()?.to_str()?;
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
        let named = finished("g5", 42, us, "pcapng.zst");
        assert_eq!(
            begun(Path::new(&named)),
            Some(UNIX_EPOCH + Duration::from_micros(us))
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
        let whole = finished("g5", 42, us, "pcapng");
        for form in Compression::ALL {
            let compressed = form.of(Path::new(&whole));
            assert_eq!(read(compressed.to_str().unwrap()), Some(Name::Finished(42)));
            assert_eq!(uncompressed(&compressed), Path::new(&whole));
            let part = form.part_of(Path::new(&whole));
            assert_eq!(read(part.to_str().unwrap()), Some(Name::Part(42)));
        }
        for suffix in FOREIGN {
            let compressed = format!("{whole}{suffix}");
            assert_eq!(read(&compressed), Some(Name::Finished(42)));
            assert_eq!(uncompressed(Path::new(&compressed)), Path::new(&whole));
        }
        let index = index::beside(Path::new(&whole));
        assert_eq!(read(index.to_str().unwrap()), Some(Name::Index(42)));
        let part = format!("{}.part", index.display());
        assert_eq!(read(&part), Some(Name::Part(42)));
        assert_eq!(ring_file(&index), None);
        for own in [
            index.to_str().unwrap(),
            &part,
            &next("g5", 7, "pcapng"),
            &new("my-ring", 7, "pcap"),
            &live("my-ring", 7, "pcap"),
            &whole,
            &lock("g5"),
        ] {
            assert!(is_rings(Path::new(own)), "{own}");
        }
        for other in ["evidence.pcapng", ".lock", "a-b.pcapng", "g5-1.txt"] {
            assert!(!is_rings(Path::new(other)), "{other}");
        }
        for other in [
            ".g5-000001.live.pcapng.idx",
            "g5-000042-20261125T080000Z.pcapng.idx",
            &*lock("g5"),
            &*live("g50", 1, "pcapng"),
            &*live("g5", u64::MAX, "pcapng"),
            &*live("g5", 1, "damaged"),
            "g5-+00001.live.pcapng",
            "g5-000001.live.pcapng.zst",
            ".g5-000001.next.pcapng.zst",
            "g5-000001-yesterday.pcapng",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
