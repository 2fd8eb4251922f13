//! Files one behind the other, and several such chains merged by time.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::packets::Packets;
use super::{Interface, ReadError, Record};
use crate::ring::{Compression, FinishedFile, RingFile, ring_file};

/// Packets of a file may be so much out of order: those of several processors.
const INVERSION_NS: u64 = 1_000_000_000;

/// The time that is asked for, nanoseconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From here on.
    pub from_ns: u64,
    /// Up to here.
    pub to_ns: u64,
}

impl Default for Span {
    fn default() -> Span {
        Span {
            from_ns: 0,
            to_ns: u64::MAX,
        }
    }
}

impl Span {
    /// Whether this time is in it.
    #[inline]
    pub fn holds(&self, time_ns: u64) -> bool {
        (self.from_ns..=self.to_ns).contains(&time_ns)
    }

    /// Whether a finished file may hold packets of it.
    fn may_hold(&self, file: &FinishedFile) -> bool {
        let nanos = |time: std::time::SystemTime| {
            let since = time
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        };
        let begun = nanos(file.begun).saturating_sub(INVERSION_NS);
        let ended = nanos(file.ended).saturating_add(INVERSION_NS);
        begun <= self.to_ns && ended >= self.from_ns
    }
}

/// Files one behind the other.
#[derive(Debug, Default)]
struct Chain {
    files: VecDeque<PathBuf>,
    current: Option<Packets>,
    /// Where the last file ended, so far.
    ended: Option<Ended>,
}

/// A ring's file that was read to its end, which may not be its last.
#[derive(Debug)]
struct Ended {
    name: RingFile,
    position: u64,
    interfaces: Vec<Interface>,
}

impl Chain {
    /// Goes on to the next packet of the span.
    #[inline]
    fn advance(&mut self, span: &Span, cut: &mut Vec<PathBuf>) -> Result<(), ReadError> {
        loop {
            if let Some(packets) = &mut self.current {
                while packets.advance()? {
                    let time = packets.time_ns().unwrap_or_default();
                    if span.holds(time) {
                        return Ok(());
                    }
                    if time > span.to_ns.saturating_add(INVERSION_NS) {
                        self.files.clear();
                        break;
                    }
                }
                if packets.is_cut() {
                    cut.push(packets.path().to_owned());
                }
                self.ended = ring_file(packets.path()).map(|name| Ended {
                    name,
                    position: packets.padding_at().unwrap_or(packets.position()),
                    interfaces: packets.interfaces().to_vec(),
                });
            }
            self.current = None;
            let Some(file) = self.files.pop_front() else {
                return Ok(());
            };
            self.current = open(&file, span)?;
        }
    }
}

impl Chain {
    /// Takes up the file that was read last, where it ended, and those behind it.
    fn go_on_with(&mut self, files: VecDeque<PathBuf>) -> Result<(), ReadError> {
        let Some(ended) = &self.ended else {
            return Ok(());
        };
        let sequence = |path: &PathBuf| ring_file(path).map_or(0, |name| name.sequence);
        let last = ended.name.sequence;
        self.files = files
            .iter()
            .filter(|path| sequence(path) > last)
            .cloned()
            .collect();
        if let Some(path) = files.iter().find(|path| sequence(path) == last) {
            let mut packets = Packets::open(path)?;
            if packets.go_on_at(ended.position, &ended.interfaces)? {
                self.current = Some(packets);
            }
        }
        Ok(())
    }
}

/// Opens a file where the span begins in it. `None` of a file of a ring that has gone meanwhile, or
/// that is begun and holds nothing yet.
fn open(path: &Path, span: &Span) -> Result<Option<Packets>, ReadError> {
    let opened = Packets::open(path).or_else(|error| {
        let now = crate::ring::wherever(path);
        if now == path {
            Err(error)
        } else {
            Packets::open(&now)
        }
    });
    let mut packets = match opened {
        Err(_) if !path.exists() => return Ok(None),
        opened => opened?,
    };
    if span.from_ns == 0 {
        return Ok(Some(packets));
    }
    let segment = packets.segment_bytes()?;
    if let Some((segment, len)) = segment.zip(packets.len()) {
        seek_segment(&mut packets, segment, len, span.from_ns)?;
    }
    Ok(Some(packets))
}

/// Goes to the last segment that begins before a time.
fn seek_segment(
    packets: &mut Packets,
    segment: u64,
    len: u64,
    from_ns: u64,
) -> Result<(), ReadError> {
    // The first segment declares the interfaces.
    if !packets.advance()? {
        packets.seek(0)?;
        return Ok(());
    }
    let wanted = from_ns.saturating_sub(INVERSION_NS);
    let (mut low, mut high) = (0, len.div_ceil(segment));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        packets.seek(middle * segment)?;
        let begins_before =
            packets.advance()? && packets.time_ns().is_some_and(|time| time < wanted);
        if begins_before {
            low = middle;
        } else {
            high = middle;
        }
    }
    packets.seek(low * segment)?;
    Ok(())
}

/// All packets of a span, by time.
#[derive(Debug)]
pub struct Merged {
    chains: Vec<Chain>,
    span: Span,
    /// Where the last packet came from.
    last: Option<usize>,
    begun: bool,
    cut: Vec<PathBuf>,
}

impl Merged {
    /// Files, and directories of rings.
    ///
    /// # Errors
    /// What the system says of a directory; one without captures.
    pub fn open(places: &[PathBuf], span: Span) -> Result<Merged, ReadError> {
        let mut chains = Vec::new();
        for place in places {
            if place.is_dir() {
                chains.extend(rings_in(place, &span)?);
            } else {
                chains.push(Chain {
                    files: VecDeque::from([place.clone()]),
                    ..Chain::default()
                });
            }
        }
        Ok(Merged {
            chains,
            span,
            last: None,
            begun: false,
            cut: Vec::new(),
        })
    }

    /// How many packets of the span `takes` takes, whatever their order: each processor looks through
    /// another file. Files that ended inside a block are in [`Merged::cut`] then.
    ///
    /// # Errors
    /// What the system says, and damage.
    pub fn count(&mut self, takes: impl Fn(&Record<'_>) -> bool + Sync) -> Result<u64, ReadError> {
        let files: Vec<PathBuf> = self
            .chains
            .drain(..)
            .flat_map(|chain| chain.files)
            .collect();
        let (next, span) = (AtomicUsize::new(0), self.span);
        let work = || -> Result<(u64, Vec<PathBuf>), ReadError> {
            let (mut taken, mut cut) = (0, Vec::new());
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut chain = Chain {
                    files: VecDeque::from([file.clone()]),
                    ..Chain::default()
                };
                loop {
                    chain.advance(&span, &mut cut)?;
                    match chain.current.as_ref().and_then(Packets::record) {
                        Some(record) => taken += u64::from(takes(&record)),
                        None => break,
                    }
                }
            }
            Ok((taken, cut))
        };
        let threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(files.len());
        let counted: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            others.chain([own]).collect()
        });
        let mut sum = 0;
        for part in counted {
            let (taken, cut) = part?;
            sum += taken;
            self.cut.extend(cut);
        }
        Ok(sum)
    }

    /// Goes on to the next packet. False at the end.
    ///
    /// # Errors
    /// What the system says, and damage.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        if let Some(last) = self.last {
            self.chains[last].advance(&self.span, &mut self.cut)?;
        } else if !std::mem::replace(&mut self.begun, true) {
            for chain in &mut self.chains {
                chain.advance(&self.span, &mut self.cut)?;
            }
        }
        let time = |chain: &Chain| chain.current.as_ref().and_then(Packets::time_ns);
        let heads = self.chains.iter().enumerate();
        let heads = heads.filter_map(|(place, chain)| Some((time(chain)?, place)));
        self.last = heads.min().map(|(_, place)| place);
        Ok(self.last.is_some())
    }

    /// The packet that was gone on to.
    #[inline]
    pub fn record(&self) -> Option<Record<'_>> {
        self.chains.get(self.last?)?.current.as_ref()?.record()
    }

    /// Looks for what was written since all was read: behind the end of each ring's last file, in
    /// its next ones, and in new rings.
    ///
    /// # Errors
    /// What the system says.
    pub fn look_for_more(&mut self, places: &[PathBuf]) -> Result<(), ReadError> {
        for place in places.iter().filter(|place| place.is_dir()) {
            for new in rings_in(place, &self.span)? {
                let name = new.files.front().and_then(|path| ring_file(path));
                let Some(name) = name.map(|name| name.ring) else {
                    continue;
                };
                let known = self.chains.iter_mut().find(|chain| {
                    chain
                        .ended
                        .as_ref()
                        .is_some_and(|ended| ended.name.ring == name)
                });
                match known {
                    Some(chain) => chain.go_on_with(new.files)?,
                    None => self.chains.push(new),
                }
            }
        }
        (self.begun, self.last) = (false, None);
        Ok(())
    }

    /// Files that ended inside a block.
    pub fn cut(&self) -> &[PathBuf] {
        &self.cut
    }
}

/// A chain for each ring in a directory; of other captures there, one each.
fn rings_in(dir: &Path, span: &Span) -> Result<Vec<Chain>, ReadError> {
    let said = |error: std::io::Error| ReadError {
        path: dir.to_owned(),
        what: error.to_string(),
    };
    let mut rings: BTreeMap<String, BTreeMap<(u64, PathBuf), PathBuf>> = BTreeMap::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(dir).map_err(said)? {
        let path = entry.map_err(said)?.path();
        match ring_file(&path) {
            Some(RingFile {
                ring,
                sequence,
                live,
            }) => {
                let file = FinishedFile::at(&path).filter(|_| !live);
                if file.is_none_or(|file| span.may_hold(&file)) {
                    rings
                        .entry(ring)
                        .or_default()
                        .insert((sequence, path.clone()), path);
                }
            }
            None if is_capture(&path) => others.push(path),
            None => {}
        }
    }
    let chain = |files: VecDeque<PathBuf>| Chain {
        files,
        ..Chain::default()
    };
    let mut chains: Vec<_> = rings
        .into_values()
        .map(|files| chain(files.into_values().collect()))
        .collect();
    chains.extend(others.into_iter().map(|path| chain(VecDeque::from([path]))));
    Ok(chains)
}

fn is_capture(path: &Path) -> bool {
    let plain = match Compression::by_name(path) {
        Some(_) => path.with_extension(""),
        None => path.to_owned(),
    };
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let named = plain
        .extension()
        .is_some_and(|extension| extension == "pcap" || extension == "pcapng");
    named && !hidden && path.is_file()
}
