//! The flight recorder: files that hold a time leave the ring.
//!
//! A kept file gets a second name, a hard link. The ring never writes anew what has another name
//! (`ring/access.rs`); when the file's turn comes it takes its own name away, and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant, SystemTime};

use super::Session;
use super::keeper::{Kept, LATE};
use super::settings::SourceSettings;
use super::times::{Span, Times};
use crate::capture::{Answer, Command};
use crate::ring::Notice;
use crate::source::Target;

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
            self.keep_until(Instant::now() + self.handed_over_within(), &mut kept);
            self.end_live_files(&mut kept);
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
        if keeper.waits() {
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

    /// Ends the live files that hold packets, and waits until as many are finished.
    fn end_live_files(&mut self, kept: &mut Kept) {
        const ANSWERS_MAX: Duration = Duration::from_secs(2);
        const LONGEST: Duration = Duration::from_secs(5);
        const LOOK: Duration = Duration::from_millis(1);
        let answers = self.control.ask(Command::Rotate);
        let asked = Instant::now();
        let (mut ended, mut finished) = (0, 0);
        while asked.elapsed() < ANSWERS_MAX {
            match answers.try_recv() {
                Ok(Answer::Done) => ended += 1,
                Ok(_) => {}
                Err(TryRecvError::Empty) => {
                    finished += self.keep_until(Instant::now() + LOOK, kept);
                }
                Err(TryRecvError::Disconnected) => break,
            }
        }
        while finished < ended && self.keep_next(asked + LONGEST, kept).is_some() {
            finished += 1;
        }
    }

    /// Keeps what is finished until then: a small ring gives files up soon. Returns how many there were.
    fn keep_until(&mut self, moment: Instant, kept: &mut Kept) -> usize {
        let mut finished = 0;
        while self.keep_next(moment, kept).is_some() {
            finished += 1;
        }
        finished
    }

    /// Waits until a file is finished, and keeps it where it is to be.
    fn keep_next(&mut self, deadline: Instant, kept: &mut Kept) -> Option<()> {
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let notice = self.notices.recv_timeout(wait).ok()?;
            let finished = match &notice {
                Notice::Finished { path } => {
                    let there = kept.dir.join(path.file_name().unwrap_or_default());
                    self.keep_finished(path);
                    if let Ok(meta) = fs::metadata(there) {
                        kept.files += 1;
                        kept.bytes += meta.len();
                    }
                    Some(())
                }
                _ => None,
            };
            self.told.push(notice);
            if finished.is_some() {
                return finished;
            }
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
