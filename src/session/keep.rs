//! The flight recorder: files that hold a time leave the ring.
//!
//! A kept file gets a second name, a hard link. The ring never writes anew what has another name
//! (`ring/access.rs`); when the file's turn comes it takes its own name away, and no more.

use std::path::{Path, PathBuf};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant, SystemTime};

use super::Session;
use super::keeper::{Kept, LATE, Missed};
use super::settings::SourceSettings;
use super::times::{Span, Times};
use crate::capture::Command;
use crate::ring::{FinishedFile, Notice};
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

    /// Ends the live files that hold packets, and waits until they and all before them are finished.
    fn end_live_files(&mut self, kept: &mut Kept) {
        const LONGEST: Duration = Duration::from_secs(5);
        const LOOK: Duration = Duration::from_millis(1);
        let answers = self.control.ask(Command::Finish);
        let asked = Instant::now();
        kept.unfinished = loop {
            match answers.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Empty) if asked.elapsed() < LONGEST => {
                    self.keep_until(Instant::now() + LOOK, kept);
                }
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        self.keep_until(Instant::now(), kept);
    }

    /// Keeps what is finished until then: a small ring gives files up soon.
    fn keep_until(&mut self, moment: Instant, kept: &mut Kept) {
        loop {
            let wait = moment.saturating_duration_since(Instant::now());
            let Ok(notice) = self.notices.recv_timeout(wait) else {
                return;
            };
            if let Notice::Finished { path } = &notice {
                for missed in self.keep_finished(path) {
                    // The answer says it.
                    if missed.dir == kept.dir {
                        kept.wrong.push(missed.why);
                    } else {
                        self.told.push(missed.into());
                    }
                }
                let there = kept.dir.join(path.file_name().unwrap_or_default());
                if let Some(file) = FinishedFile::at(&there) {
                    kept.add(&file);
                }
            }
            self.told.push(notice);
        }
    }

    fn keep_finished(&mut self, path: &Path) -> Vec<Missed> {
        let keeper = self.keeper.as_mut();
        keeper.map_or(Vec::new(), |keeper| keeper.finished(path))
    }

    /// What the swappers have to say, without waiting. What is to be kept of it is.
    pub fn notices(&mut self) -> Vec<Notice> {
        while let Ok(notice) = self.notices.try_recv() {
            if let Notice::Finished { path } = &notice {
                let missed = self.keep_finished(path);
                self.told.extend(missed.into_iter().map(Notice::from));
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

impl From<Missed> for Notice {
    fn from(missed: Missed) -> Notice {
        Notice::NotKept { error: missed.why }
    }
}
