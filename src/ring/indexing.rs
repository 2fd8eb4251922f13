//! Indexes of finished files, which the swapper makes while it has nothing else to do: a little at a
//! time, of one processor a quarter.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::names::Name;
use crate::format::pcapng::block::SECTION_HEADER;
use crate::index::{Builder, Index, Step, beside};

/// How long the swapper looks through a file at a time.
const STEP: Duration = Duration::from_millis(1);
/// And how long it rests then.
pub(super) const REST: Duration = Duration::from_millis(3);
/// A swapper that ends makes what indexes it can in this time.
pub(super) const AT_THE_END: Duration = Duration::from_secs(2);
/// Files that wait. Of the oldest ones beyond, readers make the index.
const WAITING_MAX: usize = 8;

/// A file that is to have an index.
#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    /// Packets that were written to it; none where an earlier run wrote them.
    packets: Option<u64>,
    /// When it was changed last, as it was finished.
    modified: Option<SystemTime>,
}

/// What has come of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// Its index is complete.
    Index(PathBuf, Index),
    /// What is in it is not what was written to it: so many packets.
    Overwritten(PathBuf, u64),
}

/// Files that are to have an index.
#[derive(Debug, Default)]
pub(super) struct Indexing {
    waiting: VecDeque<Waiting>,
    current: Option<(Waiting, Builder)>,
}

impl Indexing {
    /// A file is finished, with so many packets of this run in it.
    pub(super) fn add(&mut self, path: PathBuf, packets: Option<u64>) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        let modified = modified(&path);
        self.waiting.push_back(Waiting {
            path,
            packets,
            modified,
        });
    }

    /// Whether there is something to do.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }

    /// The file is going to be removed or written anew.
    pub(super) fn let_go(&mut self, path: &Path) {
        self.waiting.retain(|waiting| waiting.path != path);
        self.current.take_if(|(current, _)| current.path == path);
    }

    /// Looks through some segments. What cannot be read has no index; where it was read, and is not
    /// what was written, that is found.
    pub(super) fn step(&mut self) -> Option<Found> {
        let begun = Instant::now();
        if self.current.is_none() {
            let next = self.waiting.pop_front()?;
            match Builder::open(&next.path) {
                Ok(Some(builder)) => self.current = Some((next, builder)),
                Ok(None) if !begins_with_section(&next.path).unwrap_or(true) => {
                    return next.overwritten();
                }
                Ok(None) | Err(_) => return None,
            }
        }
        let (_, builder) = self.current.as_mut()?;
        let mut found = Ok(Step::More);
        while matches!(found, Ok(Step::More)) && begun.elapsed() < STEP {
            found = builder.step();
        }
        if matches!(found, Ok(Step::More)) {
            return None;
        }
        let (done, _) = self.current.take()?;
        match found {
            Ok(Step::Done(index)) if done.packets.is_none_or(|n| n == index.packets()) => {
                Some(Found::Index(done.path, index))
            }
            Ok(Step::Done(_) | Step::Damaged) => done.overwritten(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => done.overwritten(),
            Ok(Step::More | Step::None) | Err(_) => None,
        }
    }
}

impl Waiting {
    /// What is in it is not what was written to it. Who changes a finished file (`--on-rotate`) may.
    fn overwritten(self) -> Option<Found> {
        if modified(&self.path) != self.modified {
            return None;
        }
        Some(Found::Overwritten(self.path, self.packets?))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    let meta = fs::metadata(path).ok()?;
    meta.modified().ok()
}

/// Whether the file begins as each of ours does.
fn begins_with_section(path: &Path) -> io::Result<bool> {
    let mut kind = [0; 4];
    File::open(path)?.read_exact(&mut kind)?;
    Ok(u32::from_ne_bytes(kind) == SECTION_HEADER)
}

/// Of unfinished files those that are, and indexes only where their file is not there.
pub(super) fn without_indexes_in_use<'a>(
    mut unfinished: Vec<(Name, PathBuf)>,
    finished: impl Iterator<Item = &'a PathBuf>,
) -> Vec<(Name, PathBuf)> {
    let in_use: HashSet<PathBuf> = finished.map(|path| beside(path)).collect();
    unfinished.retain(|(name, path)| !(matches!(name, Name::Index(_)) && in_use.contains(path)));
    unfinished
}
