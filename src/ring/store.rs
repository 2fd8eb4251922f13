//! The ring's directory: which files are there, what they are called, which one is recycled.
//!
//! `g5-000042.live.pcapng` is being written, `g5-000042-20261121T080000Z.pcapng` is finished (the
//! time is its first packet's), `.g5.next.pcapng` is being prepared, `.g5.lock` is held by the
//! running capture.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::repair;
use crate::record::HEAD_BYTES;
use crate::sys::file::is_open_only_here;

/// Why a ring cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made, read or written.
    #[error("{path}: {source}; choose a directory that can be written with -w DIR")]
    Directory {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process captures into this ring.
    #[error(
        "{path}: this ring belongs to a running lwnflog (process {holder}); choose another directory with -w DIR, or stop that one"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process id it holds, or "unknown".
        holder: String,
    },
    /// The disk has not enough room.
    #[error(
        "{path}: capturing here takes {needed} bytes and {available} are free; make room, or ask for less with --file-size or --files"
    )]
    Space {
        /// The directory.
        path: PathBuf,
        /// Bytes that its rings may come to need beyond what they have.
        needed: u64,
        /// Bytes that are free for this user.
        available: u64,
    },
}

/// The extensions a ring's files may have: a ring that changes its format still counts the others.
const EXTENSIONS: [&str; 2] = ["pcapng", "pcap"];

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
    recovered: Vec<Recovered>,
    _lock: File,
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
    /// Opens (or makes) the ring's directory, takes its lock, and finishes what a killed run left.
    ///
    /// # Errors
    /// [`StoreError::Directory`], [`StoreError::Locked`].
    pub fn open(dir: &Path, name: &str, extension: &'static str) -> Result<Store, StoreError> {
        let problem = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Directory { path, source }
        };
        fs::create_dir_all(dir).map_err(problem(dir))?;
        let lock = lock(&dir.join(format!(".{name}.lock")))?;
        let mut store = Store {
            dir: dir.to_owned(),
            name: name.to_owned(),
            extension,
            finished: VecDeque::new(),
            next_sequence: 1,
            recovered: Vec::new(),
            _lock: lock,
        };
        store.scan().map_err(problem(dir))?;
        Ok(store)
    }

    fn scan(&mut self) -> io::Result<()> {
        let mut unfinished = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match self.parse_name(&path) {
                Some(Name::Finished(sequence)) => {
                    self.finished.push_back(Finished { sequence, path })
                }
                Some(Name::Live(sequence)) => unfinished.push((sequence, path)),
                Some(Name::Next) => unfinished.push((u64::MAX, path)),
                None => {}
            }
        }
        self.finished
            .make_contiguous()
            .sort_by_key(|file| file.sequence);
        unfinished.sort();
        let last = self.finished.back().map_or(0, |file| file.sequence);
        let last_live = unfinished
            .iter()
            .map(|(s, _)| *s)
            .filter(|s| *s != u64::MAX)
            .max()
            .unwrap_or(0);
        self.next_sequence = last.max(last_live) + 1;
        for (sequence, path) in unfinished {
            let sequence = if sequence == u64::MAX {
                self.next_sequence
            } else {
                sequence
            };
            self.recover(sequence, &path)?;
        }
        Ok(())
    }

    /// Finishes a file whose writer is gone.
    fn recover(&mut self, sequence: u64, path: &Path) -> io::Result<()> {
        let repaired = match repair::repair(path) {
            Ok(repaired) => repaired,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // A prepared file that no packet was written to is no capture file yet. A live one
                // whose beginning is lost may hold packets for somebody with patience: it is kept,
                // under a name that is not the ring's.
                if self.parse_name(path) != Some(Name::Next) {
                    let aside = path.with_extension("damaged");
                    fs::rename(path, &aside)?;
                    self.recovered.push(Recovered {
                        path: Some(aside),
                        packets: 0,
                        damaged_segments: 1,
                    });
                    return Ok(());
                }
                repair::Repaired::default()
            }
            Err(error) => return Err(error),
        };
        if repaired.packets == 0 {
            fs::remove_file(path)?;
            // A prepared file is nothing to speak of; a live one is.
            if self.parse_name(path) != Some(Name::Next) {
                self.recovered.push(Recovered {
                    path: None,
                    packets: 0,
                    damaged_segments: 0,
                });
            }
            return Ok(());
        }
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or(self.extension);
        let finished = self.dir.join(finished_name(
            &self.name,
            sequence,
            repaired.first_us,
            extension,
        ));
        fs::rename(path, &finished)?;
        self.recovered.push(Recovered {
            path: Some(finished.clone()),
            packets: repaired.packets,
            damaged_segments: repaired.damaged_segments,
        });
        self.finished.push_back(Finished {
            sequence,
            path: finished,
        });
        self.next_sequence = self.next_sequence.max(sequence + 1);
        Ok(())
    }

    /// What the last run left unfinished and this one finished.
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// Finished files, oldest first.
    pub fn files(&self) -> Vec<PathBuf> {
        self.finished.iter().map(|file| file.path.clone()).collect()
    }

    /// Bytes that `files` files of `file_bytes` at one time, and one that is prepared, take beyond those
    /// that are there and will be used again. With `files` 0, two must fit.
    fn missing_bytes(&self, files: usize, file_bytes: u64) -> u64 {
        let wanted = (if files == 0 { 2 } else { files as u64 + 1 }).saturating_mul(file_bytes);
        let owned: u64 = match files {
            0 => 0,
            _ => self
                .finished
                .iter()
                .filter_map(|file| fs::metadata(&file.path).ok())
                .map(|m| m.len())
                .sum(),
        };
        wanted.saturating_sub(owned)
    }

    pub(super) fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// The file to prepare: the oldest one where `recycle` says so and nobody reads it, else a new
    /// one. It stands under a name that no reader looks for.
    pub(super) fn make_next(&mut self, recycle: bool) -> io::Result<File> {
        let next = self.next_path();
        if recycle && let Some(oldest) = self.finished.pop_front() {
            match fs::rename(&oldest.path, &next).and_then(|()| open_existing(&next)) {
                Ok(file) if is_open_only_here(&file) => {
                    // No capture file any more: killed now, its old packets are not taken for
                    // those of the run that ended.
                    file.write_all_at(&[0; HEAD_BYTES], 0)?;
                    return Ok(file);
                }
                // Somebody reads it (and keeps what he has open), or it was taken away.
                Ok(_) | Err(_) => remove_if_there(&next)?,
            }
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&next)
    }

    /// Removes the oldest finished file. False if there is none.
    pub(super) fn remove_oldest(&mut self) -> io::Result<bool> {
        match self.finished.pop_front() {
            Some(oldest) => remove_if_there(&oldest.path).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives the prepared file its live name.
    pub(super) fn begin(&mut self) -> io::Result<(u64, PathBuf)> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let path = self.dir.join(format!(
            "{}-{sequence:06}.live.{}",
            self.name, self.extension
        ));
        fs::rename(self.next_path(), &path)?;
        Ok((sequence, path))
    }

    /// Gives the live file its finished name; one without packets is removed.
    pub(super) fn finish(&mut self, sequence: u64, live: &Path, first_us: u64) -> io::Result<()> {
        if first_us == 0 {
            return remove_if_there(live);
        }
        let path = self.dir.join(finished_name(
            &self.name,
            sequence,
            first_us,
            self.extension,
        ));
        fs::rename(live, &path)?;
        self.finished.push_back(Finished { sequence, path });
        Ok(())
    }

    pub(super) fn remove_next(&self) -> io::Result<()> {
        remove_if_there(&self.next_path())
    }

    fn next_path(&self) -> PathBuf {
        self.dir
            .join(format!(".{}.next.{}", self.name, self.extension))
    }

    fn parse_name(&self, path: &Path) -> Option<Name> {
        let name = path.file_name()?.to_str()?;
        let (stem, extension) = name.rsplit_once('.')?;
        if !EXTENSIONS.contains(&extension) {
            return None;
        }
        if let Some(hidden) = stem.strip_prefix('.') {
            return (hidden.strip_suffix(".next")? == self.name).then_some(Name::Next);
        }
        let rest = stem.strip_prefix(self.name.as_str())?.strip_prefix('-')?;
        if let Some(sequence) = rest.strip_suffix(".live") {
            return sequence.parse().ok().map(Name::Live);
        }
        let (sequence, stamp) = rest.split_once('-')?;
        (stamp.len() == "20261121T080000Z".len() && stamp.ends_with('Z')).then_some(())?;
        sequence.parse().ok().map(Name::Finished)
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

#[derive(Debug, PartialEq, Eq)]
enum Name {
    Finished(u64),
    Live(u64),
    Next,
}

fn finished_name(name: &str, sequence: u64, first_us: u64, extension: &str) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(first_us);
    let stamp = humantime::format_rfc3339_seconds(time)
        .to_string()
        .replace(['-', ':'], "");
    format!("{name}-{sequence:06}-{stamp}.{extension}")
}

/// Puts finished files of several rings in order, oldest first, by the time in their names. Those of one ring
/// that begin in the same second stay as they are.
pub fn sort_by_age(files: &mut [PathBuf]) {
    let stamp = |path: &PathBuf| {
        let stem = path.file_stem()?.to_str()?;
        stem.rsplit('-').next().map(str::to_owned)
    };
    files.sort_by_cached_key(stamp);
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let problem = |source| StoreError::Directory {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
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
        writeln!(file, "{}", std::process::id())
    };
    // The lock holds without the note; on a full disk the note may not fit.
    let _ = note(&mut file);
    Ok(file)
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
