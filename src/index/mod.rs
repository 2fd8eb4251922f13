//! The index of a finished file: for each segment its time, counts and a filter of what is in it, so
//! that a reader passes over segments that cannot hold what it looks for.
//!
//! ```text
//!   g5-000042-20261121T080000Z.pcapng        | segment 0 | segment 1 | segment 2 | ...
//!   .g5-000042-20261121T080000Z.pcapng.idx   | header | places of interfaces | table | filters |
//! ```
//!
//! An index can say too much of a segment, never too little: it is made of the same fields that
//! filters look at. It is believed only of the very file it was made of, and checked as it is read.
//! The format is in `docs/FORMAT.md`.

mod build;
mod keys;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

pub use build::{Builder, Step};
use keys::checksum;
pub use keys::{Filter, Key};

/// What an index is called, behind the dot and the name of its file.
pub const SUFFIX: &str = ".idx";

/// What compressed files' names end in.
const COMPRESSED: [&str; 2] = ["zst", "lz4"];
const MAGIC: &[u8; 8] = b"lwnfidx2";
const HEADER_BYTES: usize = 72;
const SEGMENT_BYTES: usize = 48;
/// The largest table that is believed: of a file of 21 GiB in segments of 64 KiB.
const TABLE_BYTES_MAX: usize = 16 << 20;
/// The shortest Interface Description Block.
const INTERFACE_BYTES_MIN: u64 = 20;
/// Whether a segment may hold what is looked for.
pub type MayHold<'a> = &'a dyn Fn(&Segment, &Filter<'_>) -> bool;

/// Filters are read of so many segments at a time.
const AT_A_TIME: usize = 256;

/// What is known of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// The earliest packet's time, nanoseconds since 1970; later than `to_ns` where there is none.
    pub from_ns: u64,
    /// The latest packet's.
    pub to_ns: u64,
    /// Packets that its packets say were lost before them.
    pub lost: u64,
    /// Packets in it.
    pub packets: u32,
    /// Where its filter begins, among all filters.
    filter_at: u64,
    filter_bytes: u32,
    filter_check: u32,
    /// How many bits of the filter a key sets; 0: everything may be there.
    hashes: u8,
    /// Networks are in the filter, too.
    nets: bool,
}

/// What an index says of a time.
#[derive(Debug)]
pub enum Of {
    /// No packet of the file is of it.
    NoneOfIt,
    /// Some may be.
    Some(Index),
}

/// The index of a file.
#[derive(Debug)]
pub struct Index {
    file_bytes: u64,
    modified_ns: u64,
    segment_bytes: u32,
    interfaces: Vec<u64>,
    segments: Vec<Segment>,
    filters: Filters,
}

#[derive(Debug)]
enum Filters {
    Here(Vec<u8>),
    /// In a file, from this place on.
    There(File, u64),
}

/// The name of the index of `path`, which is the same once that is compressed.
pub fn beside(path: &Path) -> PathBuf {
    let plain = match path.extension() {
        Some(extension) if COMPRESSED.iter().any(|other| extension == *other) => {
            path.with_extension("")
        }
        _ => path.to_owned(),
    };
    let mut name = OsString::from(".");
    name.push(plain.file_name().unwrap_or_default());
    name.push(SUFFIX);
    plain.with_file_name(name)
}

/// A file's size and the time when it was changed last.
fn state(meta: &fs::Metadata) -> (u64, u64) {
    let modified = meta.modified().ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let nanos = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    (meta.len(), nanos)
}

impl Index {
    /// The index of a capture file, if there is one.
    pub fn load(path: &Path) -> Option<Index> {
        match Index::load_of(path, &fs::metadata(path).ok()?, &(0..=u64::MAX))? {
            Of::Some(index) => Some(index),
            Of::NoneOfIt => None, // every time is asked for
        }
    }

    /// The index of the capture file of which the system says `meta`, if there is one that was made of
    /// this very file: its header alone where the file has no packet of `time`, nanoseconds since 1970.
    /// A compressed file's has the time of change that the file had before.
    pub fn load_of(path: &Path, meta: &fs::Metadata, time: &RangeInclusive<u64>) -> Option<Of> {
        let (bytes, modified_ns) = state(meta);
        let beside = beside(path);
        // Whatever lies there: a pipe is not waited for.
        let mut options = File::options();
        let opened = options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = opened.open(&beside).ok()?;
        let whole = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let mut fields = Reader(&header);
        if fields.take()? != *MAGIC {
            return None;
        }
        let (file_bytes, its_ns) = (fields.u64()?, fields.u64()?);
        let (segment_bytes, interfaces, segments) = (fields.u32()?, fields.u32()?, fields.u32()?);
        fields.u32()?;
        let [from_ns, to_ns, check, own_check] =
            [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
        let extension = path.extension()?;
        if segment_bytes == 0 {
            return None;
        }
        let is_plain = !COMPRESSED.iter().any(|other| extension == *other);
        if its_ns != modified_ns
            || is_plain && file_bytes != bytes
            || own_check != checksum_of_header(&header)
        {
            return None;
        }
        if from_ns > *time.end() || to_ns < *time.start() {
            return Some(Of::NoneOfIt);
        }
        let (places, segments) = (interfaces as usize, segments as usize);
        let bytes = places.checked_mul(8)? + segments.checked_mul(SEGMENT_BYTES)?;
        let filters_at = (HEADER_BYTES + bytes) as u64;
        // What is said of a file that cannot be so is not read, nor is what no file of a ring needs.
        let needed = file_bytes.div_ceil(segment_bytes.into());
        let declared_max = file_bytes / INTERFACE_BYTES_MIN;
        if filters_at > whole
            || bytes > TABLE_BYTES_MAX
            || segments as u64 != needed
            || places as u64 > declared_max
        {
            return None;
        }
        let mut table = vec![0; bytes];
        file.read_exact_at(&mut table, HEADER_BYTES as u64).ok()?;
        if check != checksum(&table) {
            return None;
        }
        let mut fields = Reader(&table);
        Some(Of::Some(Index {
            file_bytes,
            modified_ns,
            segment_bytes,
            interfaces: (0..places).map(|_| fields.u64()).collect::<Option<_>>()?,
            segments: (0..segments)
                .map(|_| Segment::read(&mut fields))
                .collect::<Option<_>>()?,
            filters: Filters::There(file, filters_at),
        }))
    }

    /// Makes the index of a finished file. `None` where its packets are not in whole segments, each of
    /// whole blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn build(path: &Path) -> io::Result<Option<Index>> {
        let Some(mut builder) = Builder::open(path)? else {
            return Ok(None);
        };
        loop {
            match builder.step()? {
                Step::More => {}
                Step::Done(index) => return Ok(Some(index)),
                Step::None | Step::Damaged => return Ok(None),
            }
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        let filters = self
            .segments
            .iter()
            .map(|segment| u64::from(segment.filter_bytes));
        let table = HEADER_BYTES + 8 * self.interfaces.len() + SEGMENT_BYTES * self.segments.len();
        table as u64 + filters.sum::<u64>()
    }

    /// Puts a new index beside its file, whose owner and rights it gets. It is there as a whole or not
    /// at all, and not without its file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let Filters::Here(filters) = &self.filters else {
            return Ok(());
        };
        let whole = beside(path);
        let mut part = whole.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let written = self.write_part(path, &part, filters);
        match written.and_then(|()| fs::rename(&part, &whole)) {
            // The ring takes the file away first, then its index.
            Ok(()) if self.file(path).is_some() => Ok(()),
            Ok(()) => fs::remove_file(&whole),
            Err(error) => {
                if error.kind() != io::ErrorKind::AlreadyExists {
                    let _ = fs::remove_file(&part);
                }
                Err(error)
            }
        }
    }

    fn write_part(&self, path: &Path, part: &Path, filters: &[u8]) -> io::Result<()> {
        let meta = self.file(path).ok_or(io::ErrorKind::NotFound)?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(part)?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            let uid = Some(meta.uid()).filter(|uid| *uid != own.uid());
            fchown(&file, uid, Some(meta.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o666))?;
        file.write_all(&self.head())?;
        file.write_all(filters)
    }

    /// The file that it is of: under this name, or compressed meanwhile.
    fn file(&self, path: &Path) -> Option<fs::Metadata> {
        let (bytes, modified_ns) = (self.file_bytes, self.modified_ns);
        let plain = fs::metadata(path).ok();
        let plain = plain.filter(|meta| state(meta) == (bytes, modified_ns));
        let compressed = COMPRESSED.iter().filter_map(|extension| {
            let mut name = path.as_os_str().to_owned();
            name.push(".");
            name.push(extension);
            fs::metadata(name).ok()
        });
        let mut compressed = compressed.filter(|meta| state(meta).1 == modified_ns);
        plain.or_else(|| compressed.next())
    }

    /// All but the filters.
    fn head(&self) -> Vec<u8> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut table = Vec::new();
        for place in &self.interfaces {
            table.extend(place.to_le_bytes());
        }
        for segment in &self.segments {
            segment.put(&mut table);
        }
        let mut head = MAGIC.to_vec();
        head.extend(self.file_bytes.to_le_bytes());
        head.extend(self.modified_ns.to_le_bytes());
        head.extend(self.segment_bytes.to_le_bytes());
        head.extend(count(self.interfaces.len()).to_le_bytes());
        head.extend(count(self.segments.len()).to_le_bytes());
        head.extend([0; 4]);
        let from_ns = self.segments.iter().map(|segment| segment.from_ns).min();
        let to_ns = self.segments.iter().map(|segment| segment.to_ns).max();
        head.extend(from_ns.unwrap_or(u64::MAX).to_le_bytes());
        head.extend(to_ns.unwrap_or(0).to_le_bytes());
        head.extend(checksum(&table).to_le_bytes());
        head.extend(checksum_of_header(&head).to_le_bytes());
        head.extend(table);
        head
    }

    /// How many packets are in its file.
    pub fn packets(&self) -> u64 {
        self.segments.iter().map(|one| u64::from(one.packets)).sum()
    }

    /// Its segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of a segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes.into()
    }

    /// Where interfaces are declared in the file.
    pub fn interfaces(&self) -> &[u64] {
        &self.interfaces
    }

    /// The parts of the file that may hold packets of a time, both ends included, of which `may_hold`
    /// is true: runs of whole segments.
    pub fn runs(&self, from_ns: u64, to_ns: u64, may_hold: Option<MayHold<'_>>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut buffer = Vec::new();
        for (chunk, segments) in self.segments.chunks(AT_A_TIME).enumerate() {
            let in_time = |segment: &Segment| segment.from_ns <= to_ns && segment.to_ns >= from_ns;
            let wanted = segments.iter().any(in_time);
            let filters = match may_hold {
                Some(_) if wanted => self.filters_of(segments, &mut buffer),
                _ => None,
            };
            for (place, segment) in segments.iter().enumerate() {
                let taken = in_time(segment)
                    && may_hold.is_none_or(|may_hold| {
                        may_hold(segment, &segment.filter(filters, segments[0].filter_at))
                    });
                if taken {
                    let number = (chunk * AT_A_TIME + place) as u64;
                    let begin = number * u64::from(self.segment_bytes);
                    let end = begin + u64::from(self.segment_bytes);
                    match runs.last_mut() {
                        Some(last) if last.end == begin => last.end = end,
                        _ => runs.push(begin..end),
                    }
                }
            }
        }
        if let Some(last) = runs.last_mut() {
            last.end = last.end.min(self.file_bytes);
        }
        runs
    }

    /// The filters of segments that follow each other. `None` where they cannot be read.
    fn filters_of<'a>(&'a self, segments: &[Segment], buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let (first, last) = (segments.first()?, segments.last()?);
        let end = last.filter_at.checked_add(last.filter_bytes.into())?;
        let len = usize::try_from(end.checked_sub(first.filter_at)?).ok()?;
        match &self.filters {
            Filters::Here(all) => all
                .get(usize::try_from(first.filter_at).ok()?..)?
                .get(..len),
            Filters::There(file, at) => {
                /// More than filters of so many segments ever take.
                const MAX: usize = AT_A_TIME * (64 << 10);
                if len > MAX {
                    return None;
                }
                buffer.resize(len, 0);
                file.read_exact_at(buffer, at.checked_add(first.filter_at)?)
                    .ok()?;
                Some(buffer)
            }
        }
    }
}

impl Segment {
    fn put(&self, to: &mut Vec<u8>) {
        for number in [self.from_ns, self.to_ns, self.lost, self.filter_at] {
            to.extend(number.to_le_bytes());
        }
        for number in [self.packets, self.filter_bytes, self.filter_check] {
            to.extend(number.to_le_bytes());
        }
        to.extend([self.hashes, u8::from(self.nets), 0, 0]);
    }

    fn read(from: &mut Reader<'_>) -> Option<Segment> {
        let [from_ns, to_ns, lost, filter_at] =
            [from.u64()?, from.u64()?, from.u64()?, from.u64()?];
        let [packets, filter_bytes, filter_check] = [from.u32()?, from.u32()?, from.u32()?];
        let [hashes, nets, ..] = from.take::<4>()?;
        Some(Segment {
            from_ns,
            to_ns,
            lost,
            packets,
            filter_at,
            filter_bytes,
            filter_check,
            hashes,
            nets: nets == 1,
        })
    }

    /// Its filter, of those from `begin` on; one that everything is in where it is not what it was.
    fn filter<'a>(&self, filters: Option<&'a [u8]>, begin: u64) -> Filter<'a> {
        let own = filters.and_then(|filters| {
            let at = usize::try_from(self.filter_at.checked_sub(begin)?).ok()?;
            filters.get(at..)?.get(..self.filter_bytes as usize)
        });
        match own {
            Some(bits) if check32(bits) == self.filter_check => {
                Filter::new(bits, self.hashes, self.nets)
            }
            _ => Filter::everything(),
        }
    }
}

/// Without the checksum itself, which ends the header.
fn checksum_of_header(header: &[u8]) -> u64 {
    checksum(header.get(..HEADER_BYTES - 8).unwrap_or(header))
}

fn check32(bits: &[u8]) -> u32 {
    let sum = checksum(bits);
    u32::try_from(sum >> 32).unwrap_or(0)
}

/// Little-endian numbers, one behind the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}
