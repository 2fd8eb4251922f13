//! Indexes of finished files, which the swapper makes while it has nothing else to do: a little at a
//! time, of one processor a quarter.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::names::Name;
use crate::index::{Builder, Index, Step, beside};

/// How long the swapper looks through a file at a time.
const STEP: Duration = Duration::from_millis(1);
/// And how long it rests then.
pub(super) const REST: Duration = Duration::from_millis(3);
/// A swapper that ends makes what indexes it can in this time.
pub(super) const AT_THE_END: Duration = Duration::from_secs(2);
/// Files that wait. Of the oldest ones beyond, readers make the index.
const WAITING_MAX: usize = 8;

/// Files that are to have an index.
#[derive(Debug, Default)]
pub(super) struct Indexing {
    waiting: VecDeque<PathBuf>,
    current: Option<(PathBuf, Builder)>,
}

impl Indexing {
    /// A file is finished.
    pub(super) fn add(&mut self, path: PathBuf) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(path);
    }

    /// Whether there is something to do.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }

    /// The file is going to be removed or written anew.
    pub(super) fn let_go(&mut self, path: &Path) {
        self.waiting.retain(|waiting| waiting != path);
        if self
            .current
            .as_ref()
            .is_some_and(|(current, _)| current == path)
        {
            self.current = None;
        }
    }

    /// Looks through some segments. Returns an index that is complete now. What cannot be read has
    /// none.
    pub(super) fn step(&mut self) -> Option<(PathBuf, Index)> {
        let begun = Instant::now();
        if self.current.is_none() {
            let path = self.waiting.pop_front()?;
            let builder = Builder::open(&path).ok().flatten()?;
            self.current = Some((path, builder));
        }
        let (_, builder) = self.current.as_mut()?;
        while begun.elapsed() < STEP {
            match builder.step() {
                Ok(Step::More) => {}
                Ok(Step::Done(index)) => {
                    let (path, _) = self.current.take()?;
                    return Some((path, index));
                }
                Ok(Step::None) | Err(_) => {
                    self.current = None;
                    break;
                }
            }
        }
        None
    }
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
