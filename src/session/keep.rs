//! The flight recorder: files that hold a time leave the ring.
//!
//! A kept file gets a second name, a hard link. The ring never writes anew what has another name
//! (`ring/access.rs`); when the file's turn comes it takes its own name away, and no more.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Session;
use crate::capture::{Answer, Command};
use crate::index;
use crate::numbers::grouped;
use crate::ring::{FinishedFile, Notice, finished_in};

/// How long after its time files are looked for that hold it: they are finished a little later.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What came so long before.
    pub last: Duration,
    /// What comes so long after.
    pub next: Duration,
    /// The directory, on the ring's file system; a new one in the ring's `kept` otherwise.
    pub to: Option<PathBuf>,
}

/// A time that is being kept.
#[derive(Debug)]
struct Keeping {
    dir: PathBuf,
    from: SystemTime,
    until: SystemTime,
    /// The live file is to be ended when the time is over.
    rotate: bool,
}

/// Keeps files of the rings in one directory.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The rings' directory.
    dir: PathBuf,
    rings: Vec<String>,
    /// What kept files may take, if they are kept without a directory being named.
    bytes_max: Option<u64>,
    open: Vec<Keeping>,
}

/// What has been kept so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) dir: PathBuf,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Keeper {
    pub(super) fn new(dir: &Path, rings: Vec<String>, bytes_max: Option<u64>) -> Keeper {
        Keeper {
            dir: dir.to_owned(),
            rings,
            bytes_max,
            open: Vec::new(),
        }
    }

    fn kept_dir(&self) -> PathBuf {
        self.dir.join("kept")
    }

    /// Keeps the finished files that hold the time before, and looks out for those that hold the
    /// time after.
    pub(super) fn begin(&mut self, wanted: &Wanted, now: SystemTime) -> Result<Kept, String> {
        let dir = match &wanted.to {
            Some(dir) => dir.clone(),
            None => self.free_name(now),
        };
        self.check_room()?;
        let said = |error: io::Error| format!("{}: {error}", dir.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&dir)
            .map_err(said)?;
        let keeping = Keeping {
            dir: dir.clone(),
            from: now
                .checked_sub(wanted.last)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            until: now.checked_add(wanted.next).unwrap_or(now),
            rotate: !wanted.next.is_zero(),
        };
        let mut kept = Kept {
            dir: dir.clone(),
            ..Kept::default()
        };
        for ring in &self.rings {
            for file in finished_in(&self.dir, ring).map_err(said)? {
                if keeping.holds(&file) {
                    link(&file.path, &keeping.dir)?;
                    kept.files += 1;
                    kept.bytes += file.bytes;
                }
            }
        }
        self.open.push(keeping);
        Ok(kept)
    }

    /// `kept/20261126T200000Z`, or with a number behind it.
    fn free_name(&self, now: SystemTime) -> PathBuf {
        let stamp = humantime::format_rfc3339_seconds(now).to_string();
        let stamp = stamp.replace(['-', ':'], "");
        let kept = self.kept_dir();
        let mut names = (1..).map(|number| match number {
            1 => kept.join(&stamp),
            _ => kept.join(format!("{stamp}-{number}")),
        });
        let free = names.find(|dir| !dir.exists());
        free.unwrap_or_else(|| kept.join(&stamp))
    }

    /// Whether kept files leave room for more.
    fn check_room(&self) -> Result<(), String> {
        let Some(allowed) = self.bytes_max else {
            return Ok(());
        };
        let taken = bytes_below(&self.kept_dir());
        if taken < allowed {
            return Ok(());
        }
        Err(format!(
            "{}: kept files take {} bytes, as many as they may (--keep-bytes {}): move or remove some",
            self.kept_dir().display(),
            grouped(taken),
            grouped(allowed)
        ))
    }

    /// A file is finished: keeps it where it holds a time that is to be kept. Returns what went
    /// wrong.
    pub(super) fn finished(&mut self, path: &Path) -> Vec<String> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let Some(file) = FinishedFile::at(path) else {
            return vec![format!("{}: it is gone, and not kept", path.display())];
        };
        let holding = self.open.iter().filter(|keeping| keeping.holds(&file));
        holding
            .filter_map(|keeping| match self.check_room() {
                Ok(()) => link(&file.path, &keeping.dir).err(),
                Err(full) => Some(full),
            })
            .collect()
    }

    /// How long until something is due.
    pub(super) fn left(&self, now: SystemTime) -> Option<Duration> {
        let due = self.open.iter().filter(|keeping| keeping.rotate);
        let next = due.map(|keeping| keeping.until).min()?;
        Some(next.duration_since(now).unwrap_or_default())
    }

    /// Whether the live file is to be ended, because it holds the end of a time that is kept.
    pub(super) fn is_due(&mut self, now: SystemTime) -> bool {
        self.open.retain(|keeping| now < keeping.until + PATIENCE);
        let mut due = false;
        for keeping in &mut self.open {
            due |= now >= keeping.until && std::mem::take(&mut keeping.rotate);
        }
        due
    }
}

impl Keeping {
    /// Whether a file may hold packets of this time: its name has whole seconds.
    fn holds(&self, file: &FinishedFile) -> bool {
        file.begun <= self.until && file.ended >= self.from
    }
}

fn link(file: &Path, dir: &Path) -> Result<(), String> {
    let to = dir.join(file.file_name().unwrap_or_default());
    let said = |error: io::Error| match error.kind() {
        io::ErrorKind::CrossesDevices => format!(
            "{} is on another file system than {}: a file stays where it is, under another name; name a directory \
             of the ring's own file system",
            dir.display(),
            file.display()
        ),
        _ => format!(
            "{}: it cannot be kept as {}: {error}",
            file.display(),
            to.display()
        ),
    };
    match fs::hard_link(file, &to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
            match (id(file), id(&to)) {
                (Ok(one), Ok(other)) if one == other => Ok(()), // kept already
                _ => Err(said(error)),
            }
        }
        Ok(()) => {
            // Where it is not made yet, readers make it.
            let _ = fs::hard_link(index::beside(file), index::beside(&to));
            Ok(())
        }
        Err(error) => Err(said(error)),
    }
}

/// Bytes of all files below `dir`; 0 where there is none.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let metas = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())));
    metas
        .map(|(meta, path)| {
            if meta.is_dir() {
                bytes_below(&path)
            } else {
                meta.len()
            }
        })
        .sum()
}

impl Session {
    /// Keeps the files that hold a time, for `by`. Says how many there are by now.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn keep(&mut self, wanted: &Wanted, by: &str) -> Result<String, String> {
        let Some(keeper) = &mut self.keeper else {
            return Err("nothing is written: there are no files to keep".to_owned());
        };
        let mut kept = keeper.begin(wanted, SystemTime::now())?;
        // The live files hold some of it, too.
        if !wanted.last.is_zero() {
            let answers = self.control.ask(Command::Rotate);
            let ended = answers
                .iter()
                .filter(|answer| *answer == Answer::Done)
                .count();
            self.wait_finished(ended, &mut kept);
        }
        let next = match wanted.next.is_zero() {
            true => String::new(),
            false => format!("; what comes in {} s will follow", wanted.next.as_secs()),
        };
        Ok(format!(
            "kept {} files ({} bytes) in {} for {by}{next}",
            grouped(kept.files),
            grouped(kept.bytes),
            kept.dir.display()
        ))
    }

    /// Waits until so many files are finished.
    fn wait_finished(&mut self, files: usize, kept: &mut Kept) {
        const LONGEST: Duration = Duration::from_secs(5);
        let deadline = Instant::now() + LONGEST;
        let mut left = files;
        while left != 0 {
            let wait = deadline.saturating_duration_since(Instant::now());
            let Ok(notice) = self.notices.recv_timeout(wait) else {
                return;
            };
            if let Notice::Finished { path } = &notice {
                left -= 1;
                let there = kept.dir.join(path.file_name().unwrap_or_default());
                self.keep_finished(path);
                if let Ok(meta) = fs::metadata(there) {
                    kept.files += 1;
                    kept.bytes += meta.len();
                }
            }
            self.told.push(notice);
        }
    }

    fn keep_finished(&mut self, path: &Path) {
        if let Some(keeper) = &mut self.keeper {
            let path = path.to_owned();
            let wrong = keeper.finished(&path).into_iter();
            self.told
                .extend(wrong.map(|error| Notice::NotKept { error }));
        }
    }

    /// What the swappers have to say, without waiting. What is to be kept of it is.
    pub fn notices(&mut self) -> Vec<Notice> {
        while let Ok(notice) = self.notices.try_recv() {
            if let Notice::Finished { path } = &notice {
                self.keep_finished(path);
            }
            self.told.push(notice);
        }
        std::mem::take(&mut self.told)
    }

    /// How long until [`Session::look_at_kept`] has something to do.
    pub fn left_to_keep(&self) -> Option<Duration> {
        self.keeper.as_ref()?.left(SystemTime::now())
    }

    /// Ends the live file where a time that is kept is over, and keeps what a trigger asks for. Says
    /// what has come of the latter.
    pub fn look_at_kept(&mut self) -> Option<Result<String, String>> {
        if self
            .keeper
            .as_mut()
            .is_some_and(|keeper| keeper.is_due(SystemTime::now()))
        {
            self.rotate();
        }
        let options = self.settings.keep.clone()?;
        // What comes too soon is kept when its time has come.
        let due = self
            .triggered
            .is_none_or(|last| last.elapsed() >= options.every);
        if !due || !self.trigger.as_ref()?.has_fired() {
            return None;
        }
        self.triggered = Some(Instant::now());
        let wanted = Wanted {
            last: options.last,
            next: options.next,
            to: None,
        };
        Some(self.keep(&wanted, &format!("group {}", options.group)))
    }
}
