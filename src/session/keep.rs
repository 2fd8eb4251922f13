//! The flight recorder: files that hold a time leave the ring.
//!
//! A kept file gets a second name, a hard link. The ring never writes anew what has another name
//! (`ring/access.rs`); when the file's turn comes it takes its own name away, and no more.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::Session;
use super::kept::{NotKept, bytes_below, cannot_link, link};
use super::settings::SourceSettings;
use crate::capture::{Answer, Command};
use crate::numbers::grouped;
use crate::ring::{FinishedFile, Notice, finished_in, lock_of, wherever};
use crate::source::Target;

/// How long after its time files are looked for that hold it: they are finished a little later.
const PATIENCE: Duration = Duration::from_secs(60);
/// While files follow it is looked so often whether one is finished: a small ring gives it up soon.
const LOOK: Duration = Duration::from_millis(5);
/// So long after a time's end files are finished that may hold some of it: names have whole seconds.
const FOLLOW: Duration = Duration::from_secs(2);
/// The kernel's timers may be so late.
const LATE: Duration = Duration::from_millis(30);
/// What is made of directories is the ring's directory's, and not more open.
const DIR_MODE: u32 = 0o750;

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
    /// Files that were given up before they could be.
    pub(super) gone: u64,
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

    /// Whether files can be kept where no other place is named.
    ///
    /// # Errors
    /// The reason, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_room()?;
        self.check_place(&self.kept_dir())
    }

    /// Keeps the finished files that hold the time before, and looks out for those that hold the
    /// time after.
    pub(super) fn begin(&mut self, wanted: &Wanted, now: SystemTime) -> Result<Kept, String> {
        let dir = match &wanted.to {
            Some(dir) => dir.clone(),
            None => self.free_name(now)?,
        };
        self.check_room()?;
        self.check_place(&dir)?;
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
        if keeping.rotate {
            self.make_dir(&dir)?;
        }
        for ring in &self.rings {
            let files = finished_in(&self.dir, ring);
            let said = |error: io::Error| format!("{}: {error}", self.dir.display());
            for file in files.map_err(said)? {
                if !keeping.holds(&file) {
                    continue;
                }
                match self.keep(&file.path, &keeping.dir) {
                    Ok(()) => {
                        kept.files += 1;
                        kept.bytes += file.bytes;
                    }
                    Err(NotKept::Gone) => kept.gone += 1,
                    Err(NotKept::Because(why)) => return Err(why),
                }
            }
        }
        self.open.push(keeping);
        Ok(kept)
    }

    /// Whether files can be kept in a directory. Where it is not there, it is not made yet.
    fn check_place(&self, dir: &Path) -> Result<(), String> {
        let before = dir.ancestors().find(|above| above.exists());
        let probed = self.make_dir(dir).and_then(|()| self.probe(dir));
        // From the bottom up, what was made: nothing else is empty.
        let made = dir.ancestors().take_while(|above| Some(*above) != before);
        for above in made {
            let _ = fs::remove_dir(above);
        }
        probed
    }

    /// A name for the ring's lock, for a moment: it is always there.
    fn probe(&self, dir: &Path) -> Result<(), String> {
        let Some(ring) = self.rings.first() else {
            return Ok(());
        };
        let probe = dir.join(format!(".{}.lwnflog", std::process::id()));
        match fs::hard_link(lock_of(&self.dir, ring), &probe) {
            Ok(()) => {
                fs::remove_file(&probe).map_err(|error| format!("{}: {error}", probe.display()))
            }
            Err(error) => Err(cannot_link(&self.dir, dir, &error)),
        }
    }

    /// Makes it, where it is not there, as the ring's directory is.
    fn make_dir(&self, dir: &Path) -> Result<(), String> {
        let said = |error: io::Error| format!("{}: {error}", dir.display());
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(above) = dir.parent() {
            self.make_dir(above)?;
        }
        let ring = fs::metadata(&self.dir).map_err(said)?;
        DirBuilder::new().mode(0o700).create(dir).map_err(said)?;
        let made = File::open(dir).map_err(said)?;
        if made.metadata().map_err(said)?.gid() != ring.gid() {
            fchown(&made, None, Some(ring.gid())).map_err(said)?;
        }
        let mode = ring.mode() & DIR_MODE;
        made.set_permissions(Permissions::from_mode(mode))
            .map_err(said)
    }

    /// Gives a file another name in `dir`, which is made if it is not there.
    fn keep(&self, file: &Path, dir: &Path) -> Result<(), NotKept> {
        self.make_dir(dir).map_err(NotKept::Because)?;
        match link(file, dir) {
            // Compressed meanwhile?
            Err(NotKept::Gone) if wherever(file) != file => link(&wherever(file), dir),
            done => done,
        }
    }

    /// `kept/20261126T200000Z`, or with a number behind it.
    fn free_name(&self, now: SystemTime) -> Result<PathBuf, String> {
        let kept = self.kept_dir();
        // Who may write to the ring's directory might have put a link there.
        if fs::symlink_metadata(&kept).is_ok_and(|meta| !meta.is_dir()) {
            return Err(format!(
                "{}: this is no directory: move it away, or say where with to=DIR",
                kept.display()
            ));
        }
        let stamp = humantime::format_rfc3339_seconds(now).to_string();
        let stamp = stamp.replace(['-', ':'], "");
        let mut names = (1..).map(|number| match number {
            1 => kept.join(&stamp),
            _ => kept.join(format!("{stamp}-{number}")),
        });
        let free = names.find(|dir| !dir.exists());
        Ok(free.unwrap_or_else(|| kept.join(&stamp)))
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
            return vec![format!("{}: it is gone", path.display())];
        };
        let holding = self.open.iter().filter(|keeping| keeping.holds(&file));
        holding
            .filter_map(|keeping| match self.check_room() {
                Ok(()) => match self.keep(&file.path, &keeping.dir) {
                    Ok(()) => None,
                    Err(NotKept::Gone) => Some(format!("{}: it is gone", file.path.display())),
                    Err(NotKept::Because(why)) => Some(why),
                },
                Err(full) => Some(full),
            })
            .collect()
    }

    /// How long until something is due.
    pub(super) fn left(&self, now: SystemTime, flush: Duration) -> Option<Duration> {
        let follow = |keeping: &Keeping| now < add(keeping.until, flush + FOLLOW);
        if self.open.iter().any(follow) {
            return Some(LOOK);
        }
        let due = self.open.iter().filter(|keeping| keeping.rotate);
        let next = due.map(|keeping| keeping.until).min()?;
        Some(
            add(next, flush + LATE)
                .duration_since(now)
                .unwrap_or_default(),
        )
    }

    /// Whether the live file is to be ended, because it holds the end of a time that is kept: what the
    /// kernel collects has been handed over by then.
    pub(super) fn is_due(&mut self, now: SystemTime, flush: Duration) -> bool {
        self.open
            .retain(|keeping| now < add(keeping.until, PATIENCE));
        let mut due = false;
        for keeping in &mut self.open {
            let over = now >= add(keeping.until, flush + LATE);
            due |= over && std::mem::take(&mut keeping.rotate);
        }
        due
    }
}

fn add(time: SystemTime, more: Duration) -> SystemTime {
    time.checked_add(more).unwrap_or(time)
}

impl Keeping {
    /// Whether a file may hold packets of this time: its name has whole seconds.
    fn holds(&self, file: &FinishedFile) -> bool {
        file.begun <= self.until && file.ended >= self.from
    }
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
        // The live files hold some of it, too, and the kernel has what came last.
        if !wanted.last.is_zero() {
            thread::sleep(self.handed_over_within());
            let ended = self.end_live_files();
            self.wait_finished(ended, &mut kept);
        }
        let gone = match kept.gone {
            0 => String::new(),
            gone => format!(
                "; {} more had just been given up by the ring",
                grouped(gone)
            ),
        };
        let next = match wanted.next.is_zero() {
            true => String::new(),
            false => format!("; what comes in {} s will follow", wanted.next.as_secs()),
        };
        if kept.files == 0 && next.is_empty() {
            return Ok(format!(
                "kept 0 files for {by}: no packets of that time are in files{gone}"
            ));
        }
        Ok(format!(
            "kept {} files ({} bytes) in {} for {by}{gone}{next}",
            grouped(kept.files),
            grouped(kept.bytes),
            kept.dir.display()
        ))
    }

    /// How long the kernel may collect packets before it hands them over.
    pub(super) fn handed_over_within(&self) -> Duration {
        match self.settings.source {
            SourceSettings::Numbers(Target::Group, _) => self.settings.flush + LATE,
            _ => Duration::ZERO,
        }
    }

    /// Ends the live files. Returns how many there were that hold packets.
    fn end_live_files(&self) -> usize {
        const LONGEST: Duration = Duration::from_secs(2);
        let answers = self.control.ask(Command::Rotate);
        let deadline = Instant::now() + LONGEST;
        let next = || {
            let left = deadline.saturating_duration_since(Instant::now());
            answers.recv_timeout(left).ok()
        };
        let answers = std::iter::from_fn(next);
        answers.filter(|answer| *answer == Answer::Done).count()
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
        let flush = self.settings.flush;
        self.keeper.as_ref()?.left(SystemTime::now(), flush)
    }

    /// Ends the live file where a time that is kept is over, and keeps what a trigger asks for. Says
    /// what has come of the latter.
    pub fn look_at_kept(&mut self) -> Option<Result<String, String>> {
        let (now, flush) = (SystemTime::now(), self.settings.flush);
        if self
            .keeper
            .as_mut()
            .is_some_and(|keeper| keeper.is_due(now, flush))
        {
            self.rotate();
        }
        let options = self.settings.keep.clone()?;
        if let Some(error) = self.trigger.as_ref()?.failure() {
            return Some(Err(format!(
                "group {} cannot be read any more ({error}): nothing is kept by itself from now on",
                options.group
            )));
        }
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
