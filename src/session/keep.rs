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
use super::times::{Span, Times};
use crate::capture::{Answer, Command};
use crate::numbers::grouped;
use crate::ring::{FinishedFile, Notice, begun, finished_in, lock_of, ring_file, wherever};
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

/// Times that are being kept.
#[derive(Debug)]
struct Keeping {
    dir: PathBuf,
    times: Times,
    /// When the last of them is over.
    over: Instant,
    /// The live file is to be ended then.
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
    /// One moment by both clocks.
    clocks: (Instant, SystemTime),
}

/// What has been kept so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    dir: PathBuf,
    files: u64,
    bytes: u64,
    /// Files that were given up before they could be.
    gone: u64,
    /// What came before is in no file any more, though it was asked for.
    given_up: Option<SystemTime>,
}

impl Keeper {
    pub(super) fn new(dir: &Path, rings: Vec<String>, bytes_max: Option<u64>) -> Keeper {
        Keeper {
            dir: dir.to_owned(),
            rings,
            bytes_max,
            open: Vec::new(),
            clocks: (Instant::now(), SystemTime::now()),
        }
    }

    fn kept_dir(&self) -> PathBuf {
        self.dir.join("kept")
    }

    /// Keeps the finished files that hold these times, and looks out for those that hold what is to come
    /// of them.
    fn begin(
        &mut self,
        times: Times,
        to: Option<PathBuf>,
        now: SystemTime,
    ) -> Result<Kept, String> {
        let dir = match to {
            Some(dir) => dir,
            None => self.free_name(now)?,
        };
        self.check_room()?;
        self.check_place(&dir)?;
        let left = times.end().and_then(|end| end.duration_since(now).ok());
        let left = left.unwrap_or_default();
        let begun = Instant::now();
        let keeping = Keeping {
            dir: dir.clone(),
            over: begun.checked_add(left).unwrap_or(begun),
            rotate: !left.is_zero(),
            times,
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
            let files = files.map_err(said)?;
            kept.given_up = kept.given_up.max(keeping.given_up(&files, now));
            for file in files {
                if !keeping.times.are_in(&file, now) {
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
    fn finished(&mut self, path: &Path) -> Vec<String> {
        let now = self.look_at_clocks();
        if self.open.is_empty() {
            return Vec::new();
        }
        let Some(file) = FinishedFile::at(path) else {
            let begun = begun(path).unwrap_or(SystemTime::UNIX_EPOCH);
            let mut open = self.open.iter();
            let wanted = open.any(|keeping| keeping.times.may_go_on_in(begun));
            let gone = wanted.then(|| format!("{}: it is gone", path.display()));
            return gone.into_iter().collect();
        };
        let holding = self.open.iter();
        let holding = holding.filter(|keeping| keeping.times.are_in(&file, now));
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

    /// Where the clock was set, what is to come is dated by it.
    fn look_at_clocks(&mut self) -> SystemTime {
        const SET: Duration = Duration::from_secs(1);
        let (then, wall) = self.clocks;
        let (now, wall_now) = (Instant::now(), SystemTime::now());
        self.clocks = (now, wall_now);
        let expected = add(wall, now.duration_since(then));
        let back = expected.duration_since(wall_now);
        let back = back.map_err(|forward| forward.duration());
        for keeping in &mut self.open {
            match back {
                Ok(by) if by >= SET => keeping.times.set_back(by),
                Err(forward) if forward >= SET => keeping.times.set_forward(forward),
                _ => {}
            }
        }
        wall_now
    }

    /// How long until something is due.
    fn left(&self, flush: Duration) -> Option<Duration> {
        let since = |keeping: &Keeping| keeping.over.elapsed();
        if self.open.iter().any(|open| since(open) < flush + FOLLOW) {
            return Some(LOOK);
        }
        None
    }

    /// Whether the live file is to be ended, because it holds the end of a time that is kept: what the
    /// kernel collects has been handed over by then.
    fn is_due(&mut self, flush: Duration) -> bool {
        self.look_at_clocks();
        self.open
            .retain(|keeping| keeping.over.elapsed() < PATIENCE);
        let mut due = false;
        for keeping in &mut self.open {
            let over = Instant::now() >= keeping.over + flush + LATE;
            due |= over && std::mem::take(&mut keeping.rotate);
        }
        due
    }
}

fn add(time: SystemTime, more: Duration) -> SystemTime {
    time.checked_add(more).unwrap_or(time)
}

impl Keeping {
    /// Where files of these times have been given up: before this, whatever there was.
    fn given_up(&self, files: &[FinishedFile], now: SystemTime) -> Option<SystemTime> {
        let oldest = files.first()?;
        let first = ring_file(&oldest.path).is_some_and(|file| file.sequence <= 1);
        let wanted = self.times.begin()?;
        let later = oldest.begun > wanted && oldest.begun <= now;
        (later && !first).then_some(oldest.begun)
    }
}

impl Kept {
    /// For whom; `follows`: how long it goes on.
    fn said(&self, by: &str, follows: Duration) -> String {
        let gone = match self.gone {
            0 => String::new(),
            gone => format!(
                "; {} more had just been given up by the ring",
                grouped(gone)
            ),
        };
        let given_up = match self.given_up {
            None => String::new(),
            Some(time) => format!(
                "; what came before {} is no longer in the ring",
                humantime::format_rfc3339_seconds(time)
            ),
        };
        let next = match follows.as_millis().div_ceil(1000) {
            0 => String::new(),
            secs => format!("; what comes in {secs} s will follow"),
        };
        if self.files == 0 && next.is_empty() {
            return format!(
                "kept 0 files for {by}: no packets of that time are in files{gone}{given_up}"
            );
        }
        format!(
            "kept {} files ({} bytes) in {} for {by}{gone}{given_up}{next}",
            grouped(self.files),
            grouped(self.bytes),
            self.dir.display()
        )
    }
}

impl Session {
    /// Keeps the files that hold a time, for `by`. Says how many there are by now.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn keep(&mut self, wanted: &Wanted, by: &str) -> Result<String, String> {
        let mut times = Times::default();
        times.add(Span::around(SystemTime::now(), wanted.last, wanted.next));
        self.keep_times(times, wanted.to.clone(), !wanted.last.is_zero(), by)
    }

    /// The same of several times. `before`: some of it has come by now.
    fn keep_times(
        &mut self,
        times: Times,
        to: Option<PathBuf>,
        before: bool,
        by: &str,
    ) -> Result<String, String> {
        let Some(keeper) = &mut self.keeper else {
            return Err("nothing is written: there are no files to keep".to_owned());
        };
        let now = SystemTime::now();
        let follows = times.end().and_then(|end| end.duration_since(now).ok());
        let mut kept = keeper.begin(times, to, now)?;
        // The live files hold some of it, too, and the kernel has what came last.
        if before {
            thread::sleep(self.handed_over_within());
            let ended = self.end_live_files();
            self.wait_finished(ended, &mut kept);
        }
        Ok(kept.said(by, follows.unwrap_or_default()))
    }

    /// The capture has ended, its files are finished: keeps what a trigger has asked for and what was
    /// deferred. Says what has come of it, and what of the times that are kept is missing.
    pub(super) fn keep_last(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        let Some(keeper) = &mut self.keeper else {
            return said;
        };
        if keeper.open.iter().any(|keeping| keeping.rotate) {
            said.push(
                "the capture has ended before the time was over that was to be kept: what came until then is kept"
                    .to_owned(),
            );
        }
        let Some((trigger, options)) = self.trigger.take().zip(self.settings.keep.as_ref()) else {
            return said;
        };
        let times = trigger.end();
        if !times.is_empty() {
            let by = format!("group {}", options.group);
            said.push(match keeper.begin(times, None, SystemTime::now()) {
                Ok(kept) => kept.said(&by, Duration::ZERO),
                Err(why) => format!("not kept: {why}"),
            });
        }
        said
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
        self.keeper.as_ref()?.left(flush)
    }

    /// Ends the live file where a time that is kept is over, and keeps what a trigger asks for. Says
    /// what has come of the latter.
    pub fn look_at_kept(&mut self) -> Option<Result<String, String>> {
        let flush = self.settings.flush;
        let keeper = self.keeper.as_mut();
        if keeper.is_some_and(|keeper| keeper.is_due(flush)) {
            self.rotate();
        }
        let options = self.settings.keep.clone()?;
        if let Some(error) = self.trigger.as_ref()?.failure() {
            return Some(Err(format!(
                "group {} cannot be read any more ({error}): nothing is kept by itself from now on",
                options.group
            )));
        }
        // What comes too soon is kept when its turn has come, with the time in which it came.
        let due = self
            .triggered
            .is_none_or(|last| last.elapsed() >= options.every);
        let times = if due {
            self.trigger.as_ref()?.take()
        } else {
            Times::default()
        };
        if times.is_empty() {
            return None;
        }
        self.triggered = Some(Instant::now());
        Some(self.keep_times(times, None, true, &format!("group {}", options.group)))
    }
}
