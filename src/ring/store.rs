//! The ring's directory: which files are there, which one is recycled.
//!
//! What is no plain file is none of the ring's, whatever its name (`ring/names.rs`): a link would be followed.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use super::error::{StoreError, name_full};
use super::names::{self, Name};
use super::repair;
use crate::sys::file::is_open_only_here;

/// A finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finished {
    sequence: u64,
    path: PathBuf,
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
    lock: File,
}

/// What was found of a run that had no chance to finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Its file, under its finished name; `None` if it held no packet and was removed.
    pub path: Option<PathBuf>,
    /// Packets in it.
    pub packets: u64,
    /// Segments in which something unreadable was covered: a machine that lost power.
    pub damaged_segments: u64,
}

impl Store {
    /// Opens (or makes) the ring's directory, takes its lock, and looks which files are there. It changes
    /// none of them: a start may still fail.
    ///
    /// # Errors
    /// [`StoreError::Directory`], [`StoreError::Locked`].
    pub fn open(dir: &Path, name: &str, extension: &'static str) -> Result<Store, StoreError> {
        let problem = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Directory { path, source }
        };
        fs::create_dir_all(dir).map_err(problem(dir))?;
        let lock = lock(&dir.join(names::lock(name)))?;
        let mut store = Store {
            dir: dir.to_owned(),
            name: name.to_owned(),
            extension,
            finished: VecDeque::new(),
            next_sequence: 1,
            next: None,
            unfinished: Vec::new(),
            lock,
        };
        store.unfinished = store.take_up().map_err(problem(dir))?;
        Ok(store)
    }

    /// Finishes what a killed run left. One result for each file of which there is something to say: a
    /// file that cannot be finished stays as it is.
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

    /// Takes up the finished files, and goes on behind the last number. Returns what is not finished, the
    /// prepared ones last.
    fn take_up(&mut self) -> io::Result<Vec<(Name, PathBuf)>> {
        self.finished.clear();
        let mut unfinished = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            let path = entry.path();
            match Name::parse(&self.name, &path) {
                Some(Name::Finished(sequence)) => {
                    self.finished.push_back(Finished { sequence, path })
                }
                Some(name) => unfinished.push((name, path)),
                None => {}
            }
        }
        self.sort();
        unfinished.sort();
        let last = self.finished.back().map(|file| file.sequence);
        let unfinished_numbers = unfinished.iter().map(|(name, _)| name.sequence());
        let last = unfinished_numbers.chain(last).max().unwrap_or(0);
        self.next_sequence = self.next_sequence.max(last + 1);
        Ok(unfinished)
    }

    /// Finishes a file whose writer is gone. `None` where there is nothing to say of it.
    fn recover_one(&mut self, name: Name, path: &Path) -> io::Result<Option<Recovered>> {
        let (sequence, prepared) = match name {
            Name::New(_) => return fs::remove_file(path).map(|()| None),
            Name::Next(sequence) => (sequence, true),
            Name::Live(sequence) | Name::Finished(sequence) => (sequence, false),
        };
        let repaired = match repair::repair(path) {
            Ok(repaired) => repaired,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // A prepared file that no packet was written to is no capture file yet. A live one
                // whose beginning is lost may hold packets for somebody with patience: it is kept,
                // under a name that is not the ring's.
                if !prepared {
                    let aside = path.with_extension("damaged");
                    fs::rename(path, &aside)?;
                    return Ok(Some(Recovered {
                        path: Some(aside),
                        packets: 0,
                        damaged_segments: 1,
                    }));
                }
                repair::Repaired::default()
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
        fs::rename(path, &finished)?;
        self.finished.push_back(Finished {
            sequence,
            path: finished.clone(),
        });
        Ok(Some(Recovered {
            path: Some(finished),
            packets: repaired.packets,
            damaged_segments: repaired.damaged_segments,
        }))
    }

    /// Finished files, oldest first.
    pub fn files(&self) -> Vec<PathBuf> {
        self.finished.iter().map(|file| file.path.clone()).collect()
    }

    /// Bytes that `files` files of `file_bytes` at one time, and one that is prepared, take beyond those
    /// that are there and will be used again. With `files` 0, two must fit.
    fn missing_bytes(&self, files: usize, file_bytes: u64) -> u64 {
        let at_one_time = if files == 0 {
            2
        } else {
            (files as u64).saturating_add(1)
        };
        let wanted = at_one_time.saturating_mul(file_bytes);
        let owned: u64 = match files {
            0 => 0,
            _ => {
                let unfinished = self.unfinished.iter().map(|(_, path)| path);
                let finished = self.finished.iter().map(|file| &file.path);
                finished
                    .chain(unfinished)
                    .filter_map(|path| fs::metadata(path).ok())
                    .map(|meta| meta.len())
                    .sum()
            }
        };
        wanted.saturating_sub(owned)
    }

    /// Bytes of the oldest finished file; `None` if there is none.
    pub(super) fn oldest_bytes(&self) -> Option<usize> {
        let oldest = self.finished.front()?;
        let bytes = fs::symlink_metadata(&oldest.path).map_or(0, |meta| meta.len());
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    pub(super) fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// The file to prepare: the oldest one where `recycle` says so and it is nobody else's, else a new
    /// one. It stands under a name that no reader looks for, and that a restart throws away: what is in it are
    /// an old file's packets.
    pub(super) fn make_next(&mut self, recycle: bool) -> io::Result<File> {
        self.hold()?;
        let name = names::new(&self.name, self.next_sequence, self.extension);
        let new = self.dir.join(name);
        self.next = Some(new.clone());
        if recycle && let Some(oldest) = self.finished.pop_front() {
            match fs::rename(&oldest.path, &new).and_then(|()| open_existing(&new)) {
                Ok(file) if is_only_ours(&file) => return Ok(file),
                // Somebody reads it (and keeps what he has open), has another name for it, or took it away.
                Ok(_) | Err(_) => remove_if_there(&new)?,
            }
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&new)
    }

    /// Says that the file of [`Store::make_next`] is prepared: what is in it from now on are packets of this run.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        let name = names::next(&self.name, self.next_sequence, self.extension);
        let next = self.dir.join(name);
        if let Some(new) = &mut self.next {
            fs::rename(&*new, &next)?;
            *new = next;
        }
        Ok(())
    }

    /// Sees to it that the directory is there, and its lock ours: somebody may have taken it away.
    fn hold(&mut self) -> io::Result<()> {
        let path = self.dir.join(names::lock(&self.name));
        if is_at(&self.lock, &path) {
            return Ok(());
        }
        fs::create_dir_all(&self.dir)?;
        match lock(&path) {
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
            Some(oldest) => remove_if_there(&oldest.path).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives the prepared file its live name. Where that cannot be, it goes on under the one it has: the error
    /// is in the answer.
    pub(super) fn begin(&mut self) -> (u64, PathBuf, io::Result<()>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let live = names::live(&self.name, sequence, self.extension);
        let live = self.dir.join(live);
        let next = self.next.take().unwrap_or_default();
        match fs::rename(&next, &live) {
            Ok(()) => (sequence, live, Ok(())),
            Err(error) => (sequence, next, Err(error)),
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
        fs::rename(live, &path)?;
        self.finished.push_back(Finished {
            sequence,
            path: path.clone(),
        });
        Ok(Some(path))
    }

    /// Removes the file being prepared, if there is one.
    pub(super) fn remove_next(&mut self) -> io::Result<()> {
        self.next
            .take()
            .map_or(Ok(()), |next| remove_if_there(&next))
    }
}

/// A file that was being prepared holds nothing: it goes, however the ring ends.
impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.remove_next();
    }
}

/// Says whether the disk has room for all of these rings, which share a directory, each of `files` files of
/// `file_bytes`.
///
/// # Errors
/// [`StoreError::Space`], [`StoreError::Directory`].
pub fn check_space(stores: &[Store], files: usize, file_bytes: u64) -> Result<(), StoreError> {
    let Some(path) = stores.first().map(|store| store.dir.clone()) else {
        return Ok(());
    };
    let stat = match rustix::fs::statvfs(&path) {
        Ok(stat) => stat,
        Err(error) => {
            let source = error.into();
            return Err(StoreError::Directory { path, source });
        }
    };
    if stat.f_blocks == 0 {
        return Ok(()); // ramfs and the like: they do not say
    }
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    let missing = stores
        .iter()
        .map(|store| store.missing_bytes(files, file_bytes));
    let needed = missing.fold(0, u64::saturating_add);
    if needed > available {
        return Err(StoreError::Space {
            path,
            needed,
            available,
        });
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let problem = |source| StoreError::Directory {
        source: name_full(path.parent().unwrap_or(path), source),
        path: path.to_owned(),
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(problem)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() {
                "unknown"
            } else {
                holder.trim()
            }
            .to_owned();
            return Err(StoreError::Locked {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(problem(error)),
    }
    let note = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", process::id())
    };
    // The lock holds without the note; on a full disk the note may not fit.
    let _ = note(&mut file);
    Ok(file)
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// True if nobody else has the file open, or another name for it.
fn is_only_ours(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() == 1) && is_open_only_here(file)
}

/// Whether `path` names this file, and not another or none.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(there)) => id(file) == id(there),
        _ => false,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
