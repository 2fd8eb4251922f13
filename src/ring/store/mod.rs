//! The ring's directory: which files are there, which one is recycled.
//!
//! What is no plain file is none of the ring's, whatever its name (`ring/names.rs`): a link would
//! be followed.

mod age;
mod files;
mod space;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime};

use super::access::{Access, keeps_rights, open_only_ours, open_plain, open_unwritten};
use super::error::StoreError;
use super::indexing;
use super::names::{self, Name};
use super::recovery;
use crate::index;
use crate::sys::file::is_open_only_here;

use age::{Age, Now};
use files::{is_at, lock, remove_if_there, rename};
pub use space::check_space;

/// A finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finished {
    sequence: u64,
    /// Its name as it was finished: compressed, it has a suffix more.
    path: PathBuf,
    /// How long ago the last packet had come.
    age: Age,
}

/// The directory of one ring, locked for this process.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    name: String,
    extension: &'static str,
    /// Oldest first.
    finished: VecDeque<Finished>,
    next_sequence: u64,
    /// The file being prepared.
    next: Option<PathBuf>,
    /// What a killed run left, until [`Store::recover`] has looked at it; the prepared ones last.
    unfinished: Vec<(Name, PathBuf)>,
    access: Access,
    /// Removed files that readers have open still: they take space until then.
    held: Vec<File>,
    held_bytes_max: u64,
    /// Finished files are to have an index.
    pub(super) is_indexed: bool,
    lock: File,
}

/// What was found of a run that had no chance to finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Its file, under its finished name; `None` if it held no packet and was removed.
    pub path: Option<PathBuf>,
    /// Packets in it.
    pub packets: u64,
    /// Segments in which a padding block has replaced something unreadable: a machine that lost
    /// power.
    pub damaged_segments: u64,
}

impl Finished {
    fn bytes(&self) -> u64 {
        let forms = names::all_forms(&self.path);
        let forms = forms.chain([index::beside(&self.path)]);
        let there = forms.filter_map(|path| fs::symlink_metadata(path).ok());
        there.map(|meta| meta.len()).sum()
    }
}

impl Store {
    /// Opens (or makes) the ring's directory, takes its lock, and looks which files are there. It
    /// changes none of them: a start may still fail.
    ///
    /// # Errors
    /// [`StoreError::Directory`], [`StoreError::AnybodyWrites`], [`StoreError::Locked`].
    pub fn open(
        dir: &Path,
        name: &str,
        extension: &'static str,
        access: Access,
    ) -> Result<Store, StoreError> {
        let problem = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Directory { path, source }
        };
        access.make_dir(dir)?;
        let lock = lock(&dir.join(names::lock(name)), access)?;
        let mut store = Store {
            dir: dir.to_owned(),
            name: name.to_owned(),
            extension,
            finished: VecDeque::new(),
            next_sequence: 1,
            next: None,
            unfinished: Vec::new(),
            access,
            held: Vec::new(),
            held_bytes_max: 0,
            is_indexed: false,
            lock,
        };
        store.unfinished = store.take_up().map_err(problem(dir))?;
        Ok(store)
    }

    /// Whether others may read the ring's files, because the file system does not keep what they were given.
    pub(super) fn is_open_to_others(&self) -> bool {
        const OTHERS_READ: u32 = 0o004;
        let open = |meta: fs::Metadata| meta.mode() & OTHERS_READ != 0;
        // Who may enter the directory reads them.
        let dir = fs::metadata(&self.dir).is_ok_and(|meta| meta.mode() & 0o001 != 0);
        dir && self.lock.metadata().is_ok_and(open) && !keeps_rights(&self.dir)
    }

    /// Has finished files get an index beside them, for readers.
    #[must_use]
    pub fn with_index(mut self) -> Store {
        self.is_indexed = true;
        self
    }

    /// Finishes what a killed run left. One result for each file of which there is something to
    /// say: a file that cannot be finished stays as it is.
    pub fn recover(&mut self) -> Vec<Result<Recovered, (PathBuf, io::Error)>> {
        let unfinished = std::mem::take(&mut self.unfinished);
        let recovered =
            unfinished
                .into_iter()
                .filter_map(|(name, path)| match self.recover_one(name, &path) {
                    Ok(recovered) => recovered.map(Ok),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => Some(Err((path, error))),
                });
        let recovered = recovered.collect();
        self.sort();
        recovered
    }

    fn sort(&mut self) {
        let files = self.finished.make_contiguous();
        files.sort_by_key(|file| file.sequence);
    }

    /// Takes up the finished files, and goes on behind the last number. Returns what is not
    /// finished, the prepared ones last.
    fn take_up(&mut self) -> io::Result<Vec<(Name, PathBuf)>> {
        self.finished.clear();
        let mut unfinished = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            let Some(name) = Name::parse(&self.name, &path) else {
                continue;
            };
            // Whatever has a number, none of ours gets it.
            self.next_sequence = self.next_sequence.max(name.sequence() + 1);
            match name {
                _ if !entry.file_type()?.is_file() => {}
                Name::Finished(sequence) => {
                    let path = names::uncompressed(&path);
                    let ended = entry.metadata()?.modified().unwrap_or(SystemTime::now());
                    // Compressed and not removed yet, it is there twice.
                    if !self.finished.iter().any(|file| file.path == path) {
                        self.finished.push_back(Finished {
                            sequence,
                            path,
                            age: Age::of_found(Now::look(), ended),
                        });
                    }
                }
                _ => unfinished.push((name, path)),
            }
        }
        self.sort();
        unfinished.sort();
        let finished = self.finished.iter().map(|file| &file.path);
        Ok(indexing::without_indexes_in_use(unfinished, finished))
    }

    /// Finishes a file whose writer is gone. `None` where there is nothing to say of it.
    fn recover_one(&mut self, name: Name, path: &Path) -> io::Result<Option<Recovered>> {
        let (sequence, prepared) = match name {
            // Of an index there is nobody to ask: it goes with its file, on an overlay too.
            Name::Index(_) => return fs::remove_file(path).map(|()| None),
            Name::New(_) | Name::Part(_) => {
                let _unwritten = open_unwritten(path)?;
                return fs::remove_file(path).map(|()| None);
            }
            Name::Next(sequence) => (sequence, true),
            Name::Live(sequence) | Name::Finished(sequence) => (sequence, false),
        };
        let file = open_unwritten(path)?;
        let repaired = match recovery::repair_own(&file) {
            Ok(repaired) => repaired,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // A prepared file that no packet was written to is no capture file yet. A live one
                // whose beginning is lost may hold packets that can still be recovered by hand: it
                // is kept, under a name that is not the ring's.
                if !prepared {
                    let aside = path.with_extension("damaged");
                    rename(path, &aside)?;
                    return Ok(Some(Recovered {
                        path: Some(aside),
                        packets: 0,
                        damaged_segments: 1,
                    }));
                }
                recovery::Repaired::default()
            }
            Err(error) => return Err(error),
        };
        if repaired.packets == 0 {
            fs::remove_file(path)?;
            // A prepared file is nothing to speak of; a live one is.
            return Ok((!prepared).then_some(Recovered {
                path: None,
                packets: 0,
                damaged_segments: 0,
            }));
        }
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or(self.extension);
        let finished = self.dir.join(names::finished(
            &self.name,
            sequence,
            repaired.first_us,
            extension,
        ));
        let ended = file.metadata()?.modified().unwrap_or(SystemTime::now());
        rename(path, &finished)?;
        self.finished.push_back(Finished {
            sequence,
            path: finished.clone(),
            age: Age::of_found(Now::look(), ended),
        });
        Ok(Some(Recovered {
            path: Some(finished),
            packets: repaired.packets,
            damaged_segments: repaired.damaged_segments,
        }))
    }

    /// Finished files, oldest first.
    pub fn files(&self) -> Vec<PathBuf> {
        let finished = self.finished.iter();
        finished.map(|file| names::wherever(&file.path)).collect()
    }

    /// Bytes of all finished files, compressed ones as they are now.
    pub(super) fn finished_bytes(&self) -> u64 {
        self.finished.iter().map(Finished::bytes).sum()
    }

    /// Whether there is a finished file whose last packet came longer ago than that.
    pub(super) fn is_aged(&mut self, limit: Duration) -> bool {
        let oldest = self.finished.front_mut();
        oldest.is_some_and(|oldest| oldest.age.is_beyond(limit, Now::look()))
    }

    /// Bytes of the oldest finished file; `None` if there is none.
    pub(super) fn oldest_bytes(&self) -> Option<usize> {
        let bytes = self.finished.front()?.bytes();
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// The oldest finished file, as it was finished.
    pub(super) fn oldest(&self) -> Option<&Path> {
        self.finished.front().map(|oldest| oldest.path.as_path())
    }

    pub(super) fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// The file to prepare: the oldest one where `recycle` says so and it is nobody else's, else a
    /// new one. It stands under a name that no reader looks for, and that a restart throws away:
    /// what is in it are an old file's packets.
    pub(super) fn make_next(&mut self, recycle: bool) -> io::Result<File> {
        self.hold()?;
        let name = names::new(&self.name, self.next_sequence, self.extension);
        let new = self.dir.join(name);
        self.next = Some(new.clone());
        self.let_go();
        if recycle && let Some(oldest) = self.finished.pop_front() {
            match open_only_ours(&oldest.path) {
                Ok(file) => match rename(&oldest.path, &new) {
                    Ok(()) => {
                        self.remove_index(&oldest.path);
                        return Ok(file);
                    }
                    Err(_) => self.remove_read(&oldest.path)?,
                },
                // Somebody reads it (and keeps what he has open), or has another name for it.
                Err(_) => self.remove_read(&oldest.path)?,
            }
        }
        loop {
            let new = self.next.as_deref().unwrap_or(&new);
            match self.access.create(new) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made,
            }
            // Somebody has put something there meanwhile.
            self.next_sequence += 1;
            let name = names::new(&self.name, self.next_sequence, self.extension);
            self.next = Some(self.dir.join(name));
        }
    }

    /// Removes a file that another process has open. Until it is closed, it takes space beyond the
    /// ring's.
    fn remove_read(&mut self, path: &Path) -> io::Result<()> {
        // In this order: whoever compresses it makes the one, then removes the other.
        for path in names::all_forms(path) {
            let plain = open_plain(&path, false);
            remove_if_there(&path)?;
            self.held.extend(plain);
        }
        self.remove_index(path);
        self.let_go();
        Ok(())
    }

    /// Removes the index of a file. Where that cannot be, it is believed of no other file.
    fn remove_index(&mut self, path: &Path) {
        let index = index::beside(path);
        let plain = open_plain(&index, false);
        if remove_if_there(&index).is_ok() {
            self.held.extend(plain);
        }
    }

    /// Lets go of removed files that nobody else has open any more, and of those that have another
    /// name.
    fn let_go(&mut self) {
        self.held.retain(|file| {
            let gone = |meta: fs::Metadata| meta.is_file() && meta.nlink() == 0;
            file.metadata().is_ok_and(gone) && !is_open_only_here(file)
        });
        let bytes = self.held.iter().filter_map(|file| file.metadata().ok());
        let bytes = bytes.map(|meta| meta.blocks() * 512).sum();
        self.held_bytes_max = self.held_bytes_max.max(bytes);
    }

    /// The most bytes that removed files took at one time, because readers had them open.
    pub(super) fn held_bytes_max(&self) -> u64 {
        self.held_bytes_max
    }

    /// Says that the file of [`Store::make_next`] is prepared: what is in it from now on are
    /// packets of this run.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        let Some(new) = &mut self.next else {
            return Ok(());
        };
        loop {
            let name = names::next(&self.name, self.next_sequence, self.extension);
            let next = self.dir.join(name);
            match rename(new, &next) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.next_sequence += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    *new = next;
                    return Ok(());
                }
            }
        }
    }

    /// Sees to it that the directory is there, and its lock ours: it may have been removed.
    fn hold(&mut self) -> io::Result<()> {
        let path = self.dir.join(names::lock(&self.name));
        if is_at(&self.lock, &path)? {
            return Ok(());
        }
        self.access.make_dir(&self.dir).map_err(io::Error::other)?;
        match lock(&path, self.access) {
            Ok(lock) => self.lock = lock,
            // It is ours, and the file system has given it another number.
            Err(StoreError::Locked { holder, .. }) if holder == process::id().to_string() => {
                return Ok(());
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        // Whatever is not finished there is the live one, still, or a stranger's.
        self.take_up().map(drop)
    }

    /// Removes the oldest finished file. False if there is none.
    pub(super) fn remove_oldest(&mut self) -> io::Result<bool> {
        match self.finished.pop_front() {
            Some(oldest) => self.remove_read(&oldest.path).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives the prepared file its live name. Where that cannot be, it goes on under the one it
    /// has: the error is in the answer.
    pub(super) fn begin(&mut self) -> (u64, PathBuf, io::Result<()>) {
        let next = self.next.take().unwrap_or_default();
        loop {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let live = names::live(&self.name, sequence, self.extension);
            let live = self.dir.join(live);
            match rename(&next, &live) {
                Ok(()) => return (sequence, live, Ok(())),
                // Somebody has put something there meanwhile.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return (sequence, next, Err(error)),
            }
        }
    }

    /// Gives the live file its finished name, and returns it; one without packets is removed.
    pub(super) fn finish(
        &mut self,
        sequence: u64,
        live: &Path,
        first_us: u64,
    ) -> io::Result<Option<PathBuf>> {
        if first_us == 0 {
            return remove_if_there(live).map(|()| None);
        }
        let path = self.dir.join(names::finished(
            &self.name,
            sequence,
            first_us,
            self.extension,
        ));
        rename(live, &path)?;
        self.finished.push_back(Finished {
            sequence,
            path: path.clone(),
            age: Age::begins(Now::look()),
        });
        Ok(Some(path))
    }

    /// Puts a live file aside of which nothing can be read, under a name that is not the ring's.
    pub(super) fn put_aside(&mut self, live: &Path) -> io::Result<()> {
        rename(live, &live.with_extension("damaged"))
    }

    /// Removes the file being prepared, if there is one.
    pub(super) fn remove_next(&mut self) -> io::Result<()> {
        if let Some(next) = &self.next {
            remove_if_there(next)?; // where that cannot be, no other one is made beside it
        }
        self.next = None;
        Ok(())
    }
}

/// A file that was being prepared holds nothing: it goes, however the ring ends.
impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.remove_next();
    }
}
