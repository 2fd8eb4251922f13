//! Files of the rings get second names, in a directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::kept::{NotKept, bytes_below, cannot_link, link};
use super::times::Times;
use crate::numbers::grouped;
use crate::ring::{FinishedFile, begun, finished_in, lock_of, ring_file, uncompressed, wherever};

/// How long after its time files are looked for that hold it: they are finished a little later.
const PATIENCE: Duration = Duration::from_secs(60);
/// While files follow it is looked so often whether one is finished: a small ring gives it up soon.
const LOOK: Duration = Duration::from_millis(5);
/// So long after a time's end files are finished that may hold some of it: names have whole seconds.
const FOLLOW: Duration = Duration::from_secs(2);
/// The kernel's timers may be so late.
pub(super) const LATE: Duration = Duration::from_millis(30);
/// What is made of directories is the ring's directory's, and not more open.
const DIR_MODE: u32 = 0o750;

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
pub(super) struct Kept {
    pub(super) dir: PathBuf,
    /// Their names, uncompressed, and how many bytes they have.
    files: BTreeMap<OsString, u64>,
    /// The file that has ended for it is not finished yet.
    pub(super) unfinished: bool,
    /// Files that were given up before they could be.
    gone: u64,
    /// What came before is in no file any more, though it was asked for.
    given_up: Option<SystemTime>,
    /// Why files of that time are not there.
    pub(super) wrong: Vec<String>,
}

/// A file that was to be kept in a directory is not.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) dir: PathBuf,
    pub(super) why: String,
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

    /// Whether files can be kept where no other place is named.
    ///
    /// # Errors
    /// The reason, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_room()?;
        self.check_place(&self.kept_dir())
    }

    /// Keeps the finished files that hold these times, and looks out for those that hold what is to come
    /// of them.
    pub(super) fn begin(
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
                    Ok(()) => kept.add(&file),
                    Err(NotKept::Gone) => kept.gone += 1,
                    Err(NotKept::Because(why)) => kept.wrong.push(why),
                }
            }
        }
        if kept.files.is_empty() && !kept.wrong.is_empty() {
            return Err(kept.wrong.swap_remove(0));
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

    /// A file is finished: keeps it where it holds a time that is to be kept. Returns where it is not.
    pub(super) fn finished(&mut self, path: &Path) -> Vec<Missed> {
        let now = self.look_at_clocks();
        if self.open.is_empty() {
            return Vec::new();
        }
        let Some(file) = FinishedFile::at(path) else {
            let begun = begun(path).unwrap_or(SystemTime::UNIX_EPOCH);
            let open = self.open.iter();
            let wanted = open.filter(|keeping| keeping.times.may_go_on_in(begun));
            return wanted.map(|keeping| keeping.without(path)).collect();
        };
        let holding = self.open.iter();
        let holding = holding.filter(|keeping| keeping.times.are_in(&file, now));
        holding
            .filter_map(|keeping| {
                let dir = &keeping.dir;
                let why = match self.check_room() {
                    Ok(()) => match self.keep(&file.path, dir) {
                        Ok(()) => return None,
                        Err(NotKept::Gone) => return Some(keeping.without(&file.path)),
                        Err(NotKept::Because(why)) => why,
                    },
                    Err(full) => full,
                };
                Some(Missed {
                    dir: dir.clone(),
                    why,
                })
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

    /// Whether a time that is to be kept is not over.
    pub(super) fn waits(&self) -> bool {
        self.open.iter().any(|keeping| keeping.rotate)
    }

    /// How long until something is due.
    pub(super) fn left(&self, flush: Duration) -> Option<Duration> {
        let since = |keeping: &Keeping| keeping.over.elapsed();
        if self.open.iter().any(|open| since(open) < flush + FOLLOW) {
            return Some(LOOK);
        }
        None
    }

    /// Whether the live file is to be ended, because it holds the end of a time that is kept: what the
    /// kernel collects has been handed over by then.
    pub(super) fn is_due(&mut self, flush: Duration) -> bool {
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
    /// A file that holds some of this was given up first.
    fn without(&self, file: &Path) -> Missed {
        Missed {
            dir: self.dir.clone(),
            why: format!("{}: it is gone", file.display()),
        }
    }

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
    pub(super) fn add(&mut self, file: &FinishedFile) {
        let path = uncompressed(&file.path);
        let name = path.file_name().unwrap_or_default().to_owned();
        self.files.insert(name, file.bytes);
    }

    /// For whom; `follows`: how long it goes on.
    pub(super) fn said(&self, by: &str, follows: Duration) -> String {
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
        let wrong = match &self.wrong[..] {
            [] => String::new(),
            [why] => format!("; one more is not: {why}"),
            [why, ..] => format!("; {} more are not: {why}", grouped(self.wrong.len() as u64)),
        };
        let unfinished = match self.unfinished {
            true => "; the last of them is not finished yet, and follows",
            false => "",
        };
        if self.files.is_empty()
            && [&next[..], &wrong, unfinished]
                .iter()
                .all(|more| more.is_empty())
        {
            return format!(
                "kept 0 files for {by}: no packets of that time are in files{gone}{given_up}"
            );
        }
        format!(
            "kept {} files ({} bytes) in {} for {by}{gone}{wrong}{given_up}{unfinished}{next}",
            grouped(self.files.len() as u64),
            grouped(self.files.values().sum()),
            self.dir.display()
        )
    }
}
