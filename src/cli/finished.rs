//! What is done with finished files, from the main thread's side: handed over, waited for at the end,
//! taken up at the start, and again where the process for it has ended.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::capture::Event;
use super::reporter::Reporter;
use crate::chores::{self, Chores, Found, Hand};
use crate::numbers::grouped;
use crate::ring::{Notice, Recovered, ring_file};
use crate::session::settings::Settings;

/// The process is not started again more often.
const START_EVERY: Duration = Duration::from_secs(10);
/// One that is stopped so long is said to be.
const STOPPED_LONG: Duration = Duration::from_secs(2);
/// It says something each minute, unless it waits for a disk.
const SILENT_LONG: Duration = Duration::from_secs(5 * 60);
/// So long the report waits for what is done with finished files: their names may change.
const REPORT_WAITS: Duration = Duration::from_secs(1);

/// What is done with the finished files of a capture's rings.
pub(super) struct Work {
    chores: Chores,
    dir: PathBuf,
    rings: Vec<String>,
    to_main: Sender<Event>,
    /// The process that does it, where there is one.
    hand: Option<Hand>,
    /// When it was started again.
    again: Option<Instant>,
    /// As the rings were before the capture.
    found: io::Result<Found>,
    /// That it does nothing has been said.
    idle_said: bool,
}

impl Work {
    /// Starts the process, and looks what an earlier run has left to be done.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(super) fn start(
        chores: Chores,
        settings: &Settings,
        to_main: Sender<Event>,
    ) -> Result<Work> {
        let output = settings.output.as_ref();
        let mut work = Work {
            chores,
            dir: output.map_or(PathBuf::new(), |output| output.dir.clone()),
            rings: file_names(settings),
            to_main,
            hand: None,
            again: None,
            found: Ok(Found::default()),
            idle_said: false,
        };
        work.start_process()
            .context("starting the process for finished files")?;
        work.found = work.look_for_files();
        Ok(work)
    }

    fn start_process(&mut self) -> io::Result<()> {
        let to_main = self.to_main.clone();
        let say = move |line| {
            let _ = to_main.send(Event::Said(line));
        };
        self.hand = Some(Hand::start(&self.chores, say)?);
        Ok(())
    }

    fn look_for_files(&self) -> io::Result<Found> {
        Found::look(&self.chores, &self.dir, &self.rings)
    }

    /// The capture has begun: hands over what an earlier run has left.
    pub(super) fn take_up(&mut self, reporter: &mut Reporter) {
        let found = std::mem::replace(&mut self.found, Ok(Found::default()));
        let begun = found.and_then(|found| found.begin().map(|()| found.left));
        match (begun, &mut self.hand) {
            (Ok(left), Some(hand)) if !left.is_empty() => {
                reporter.say(&format!(
                    "{} finished files wait since an earlier run for what is done with them: now it is",
                    left.len()
                ));
                hand.take_earlier(left);
            }
            (Ok(_), _) => {}
            (Err(error), _) => reporter.say(&format!(
                "what an earlier run has left to be done with finished files is not known: {error}"
            )),
        }
    }

    /// Hands a finished file over.
    pub(super) fn hand_over(&mut self, notice: &Notice, reporter: &mut Reporter) {
        let (Notice::Finished { path }
        | Notice::Recovered(Recovered {
            path: Some(path), ..
        })) = notice
        else {
            return;
        };
        // One that could not be repaired is no file of the ring's any more. Without the process it is
        // found when there is one again.
        if ring_file(path).is_some()
            && let Some(hand) = &mut self.hand
            && hand.take(path).is_err()
        {
            self.look(reporter);
        }
    }

    /// Looks whether the process goes on. To be called each second.
    pub(super) fn look(&mut self, reporter: &mut Reporter) {
        let Some(hand) = &mut self.hand else {
            if self.again.is_none_or(|last| last.elapsed() >= START_EVERY) {
                self.start_again(reporter);
            }
            return;
        };
        if let Some(status) = hand.ended() {
            reporter.say(&format!(
                "the process for finished files has ended ({status}): it is started again"
            ));
            self.hand = None;
            return self.look(reporter);
        }
        let _ = hand.go_on(); // an error is its end
        let silent = hand.silent().filter(|silent| *silent >= STOPPED_LONG);
        let idle = silent.and_then(|silent| match hand.stopped() {
            Some(pid) => Some(format!("is stopped: `kill -CONT {pid}`")),
            None => (silent >= SILENT_LONG).then(|| {
                let secs = silent.as_secs();
                format!("has said nothing for {secs} s: does a disk hang?")
            }),
        });
        if let (Some(why), false) = (&idle, self.idle_said) {
            reporter.say(&format!(
                "{} finished files wait for what is done with them: the process for it {why}",
                grouped(hand.left() as u64)
            ));
        }
        self.idle_said = idle.is_some();
    }

    /// What is not done is found as a start finds it.
    fn start_again(&mut self, reporter: &mut Reporter) {
        self.again = Some(Instant::now());
        let started = self.start_process();
        let left = started.and_then(|()| self.look_for_files());
        match left {
            Ok(found) => {
                if let Some(hand) = &mut self.hand {
                    hand.take_earlier(found.left);
                    let _ = hand.go_on(); // an error is its end, seen at the next look
                }
            }
            Err(error) => reporter.say(&format!(
                "the process for finished files cannot be started again: {error}; it is tried every {} s",
                START_EVERY.as_secs()
            )),
        }
    }

    /// The capture has ended: waits a moment until all is done. Usually it is, and the report has the
    /// names that files keep. False where it takes longer.
    pub(super) fn wait_shortly(
        &mut self,
        events: &Receiver<Event>,
        reporter: &mut Reporter,
    ) -> bool {
        self.wait(REPORT_WAITS, events, reporter)
    }

    fn wait(
        &mut self,
        longest: Duration,
        events: &Receiver<Event>,
        reporter: &mut Reporter,
    ) -> bool {
        const LOOK: Duration = Duration::from_millis(10);
        let begun = Instant::now();
        loop {
            let done = self.hand.as_mut().is_none_or(Hand::is_over);
            for event in events.try_iter() {
                if let Event::Said(line) = event {
                    reporter.say(&line);
                }
            }
            if done || begun.elapsed() >= longest {
                return done;
            }
            thread::sleep(LOOK);
        }
    }

    /// The report is given. What is not done with finished files has its time, and no more.
    pub(super) fn end(mut self, done: bool, events: &Receiver<Event>, reporter: &mut Reporter) {
        /// It ends by itself, unless it is stopped.
        const MOMENT: Duration = Duration::from_secs(2);
        let left = |work: &Work| work.hand.as_ref().map_or(0, Hand::left);
        if !done {
            // All may be done, and its process not yet at its end.
            let files = left(&self);
            if files != 0 {
                reporter.say(&format!(
                    "{files} finished files are not yet compressed, or handed to --on-rotate: they have {} s, then \
                     the next start takes them up",
                    chores::END_MAX.as_secs()
                ));
            }
            self.wait(chores::END_MAX + MOMENT, events, reporter);
        }
        let open = left(&self);
        // It has ended early, or is ended now.
        if self.hand.take().is_some() {
            if open != 0 {
                reporter.say(&format!(
                    "what is done with {open} finished files was ended: the next start takes them up"
                ));
            }
            return;
        }
        match self.look_for_files().map_or(0, |found| found.left.len()) {
            0 => {}
            left => reporter.say(&format!(
                "{left} finished files are not compressed, or handed to --on-rotate, because there was no process for \
                 it: the next start takes them up"
            )),
        }
    }
}

fn file_names(settings: &Settings) -> Vec<String> {
    let names = settings.names().into_iter();
    names.map(|name| name.file_name()).collect()
}

/// Nothing is done with files that come now, nor later.
pub(super) fn forget_chores(settings: &Settings) {
    if let Some(output) = &settings.output {
        chores::forget(&output.dir, &file_names(settings));
    }
}
