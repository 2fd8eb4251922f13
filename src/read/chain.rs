//! Files one behind the other, and several such chains merged by time.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::packets::Packets;
use super::piece::{Make, Piece};
use super::plan::{Plan, Selection};
use super::scan::{Scanned, scan};
use super::{Interface, ReadError, Record};
use crate::ring::{Compression, FinishedFile, RingFile, ring_file};

/// Packets of a file may be so much out of order: those of several processors.
pub(super) const INVERSION_NS: u64 = 1_000_000_000;

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
    fn advance(&mut self, looks_for: &Selection, faults: &mut Vec<ReadError>) {
        while let Err(error) = self.try_advance(looks_for, faults) {
            faults.push(error);
            self.current = None;
        }
    }

    #[inline]
    fn try_advance(
        &mut self,
        looks_for: &Selection,
        faults: &mut Vec<ReadError>,
    ) -> Result<(), ReadError> {
        let (span, filter) = (looks_for.span, &looks_for.filter);
        loop {
            if let Some(packets) = &mut self.current {
                while packets.advance()? {
                    let time = packets.time_ns().unwrap_or_default();
                    if span.holds(time) {
                        if packets.record().is_some_and(|record| filter.takes(&record)) {
                            return Ok(());
                        }
                    } else if time > span.to_ns.saturating_add(INVERSION_NS) {
                        self.files.clear();
                        break;
                    }
                }
                if packets.is_cut() {
                    faults.push(ReadError::cut(packets.path()));
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
            self.current = match looks_for.plan(&file)? {
                Plan::Gone => None,
                Plan::Not => {
                    let len = fs::metadata(&file).map_or(0, |meta| meta.len());
                    self.ended = ring_file(&file).map(|name| Ended {
                        name,
                        position: len,
                        interfaces: Vec::new(),
                    });
                    None
                }
                Plan::Whole(packets) => Some(*packets),
                Plan::Parts(parts) => Some(parts.open()?),
            };
        }
    }
}

impl Chain {
    fn bytes_left(&self) -> u64 {
        let len = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        let current = self.current.as_ref().map_or(0, |packets| {
            let len = packets.len().unwrap_or_default();
            len.saturating_sub(packets.position())
        });
        current + self.files.iter().map(len).sum::<u64>()
    }

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

/// All packets of a span, by time.
#[derive(Debug)]
pub struct Merged {
    chains: Vec<Chain>,
    selection: Selection,
    /// Where the last packet came from.
    last: Option<usize>,
    begun: bool,
    /// What could not be read, and has not been told.
    faults: Vec<ReadError>,
}

impl Merged {
    /// Files, and directories of rings.
    ///
    /// # Errors
    /// What the system says of a directory; one without captures.
    pub fn open(places: &[PathBuf], span: Span) -> Result<Merged, ReadError> {
        let selection = Selection {
            span,
            ..Selection::default()
        };
        Merged::select(places, selection)
    }

    /// The same, and what a filter takes of it alone.
    ///
    /// # Errors
    /// As [`Merged::open`].
    pub fn select(places: &[PathBuf], selection: Selection) -> Result<Merged, ReadError> {
        let span = selection.span;
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
            selection,
            last: None,
            begun: false,
            faults: Vec::new(),
        })
    }

    /// Looks through all of it with so many threads: see [`scan`].
    pub fn scan<M: Make>(
        &mut self,
        threads: usize,
        make: impl Fn() -> M + Sync,
        take: impl FnMut(&mut Piece, Range<usize>) -> bool,
    ) -> Scanned {
        let chains = self.chains.drain(..).map(|chain| chain.files).collect();
        let mut scanned = scan(chains, &self.selection, threads, make, take);
        self.faults.append(&mut scanned.faults);
        scanned
    }

    /// Goes on to the next packet. False at the end. What could not be read is passed, and told by
    /// [`Merged::take_faults`].
    #[inline]
    pub fn advance(&mut self) -> bool {
        if let Some(last) = self.last {
            self.chains[last].advance(&self.selection, &mut self.faults);
        } else if !std::mem::replace(&mut self.begun, true) {
            for chain in &mut self.chains {
                chain.advance(&self.selection, &mut self.faults);
            }
        }
        let time = |chain: &Chain| chain.current.as_ref().and_then(Packets::time_ns);
        let heads = self.chains.iter().enumerate();
        let heads = heads.filter_map(|(place, chain)| Some((time(chain)?, place)));
        self.last = heads.min().map(|(_, place)| place);
        self.last.is_some()
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
            for new in rings_in(place, &self.selection.span)? {
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

    /// Bytes of files that are still to be read, as far as files have a length.
    pub fn bytes_left(&self) -> u64 {
        self.chains.iter().map(Chain::bytes_left).sum()
    }

    /// What could not be read since this was asked last: a line for each file or part of one.
    pub fn take_faults(&mut self) -> Vec<ReadError> {
        std::mem::take(&mut self.faults)
    }
}

/// The files of rings and other captures in a directory, without those that are still written.
///
/// # Errors
/// What the system says of the directory.
pub fn finished_in(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let chains = rings_in(dir, &Span::default())?;
    let files = chains.into_iter().flat_map(|chain| chain.files);
    Ok(files
        .filter(|file| ring_file(file).is_none_or(|name| !name.live))
        .collect())
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
    is_named_as_capture(path) && path.is_file()
}

/// Whether a file of this name is read where its directory is.
pub(crate) fn is_named_as_capture(path: &Path) -> bool {
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
    named && !hidden
}
