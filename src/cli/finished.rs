//! What is done with finished files, from the main thread's side: handed over, waited for at the end,
//! taken up at the start.

use std::io;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use super::capture::Event;
use super::reporter::Reporter;
use crate::chores::{self, Chores, Found, Hand};
use crate::ring::{Notice, Recovered, ring_file};
use crate::session::settings::Settings;

/// What an earlier run has left to be done with its files.
pub(super) fn found(chores: &Chores, settings: &Settings) -> io::Result<Found> {
    match &settings.output {
        Some(output) => Found::look(chores, &output.dir, &file_names(settings)),
        None => Ok(Found::default()),
    }
}

fn file_names(settings: &Settings) -> Vec<String> {
    let names = settings.names().into_iter();
    names.map(|name| name.file_name()).collect()
}

/// The capture has begun: hands over what an earlier run has left.
pub(super) fn take_up(hand: &mut Hand, found: io::Result<Found>, reporter: &mut Reporter) {
    let begun = found.and_then(|found| found.begin().map(|()| found.left));
    match begun {
        Ok(left) if left.is_empty() => {}
        Ok(left) => {
            reporter.say(&format!(
                "{} finished files wait since an earlier run for what is done with them: now it is",
                left.len()
            ));
            hand.take_earlier(left);
        }
        Err(error) => reporter.say(&format!(
            "what an earlier run has left to be done with finished files is not known: {error}"
        )),
    }
}

/// Nothing is done with files that come now, nor later.
pub(super) fn forget_chores(settings: &Settings) {
    if let Some(output) = &settings.output {
        chores::forget(&output.dir, &file_names(settings));
    }
}

/// Hands a finished file over to the process that has something to do with it.
pub(super) fn hand_over(notice: &Notice, hand: &mut Option<Hand>, reporter: &mut Reporter) {
    let (Notice::Finished { path }
    | Notice::Recovered(Recovered {
        path: Some(path), ..
    })) = notice
    else {
        return;
    };
    // One that could not be repaired is no file of the ring's any more.
    if ring_file(path).is_some() {
        look_after(hand, |hand| hand.take(path), reporter);
    }
}

pub(super) fn look_after(
    hand: &mut Option<Hand>,
    what: impl FnOnce(&mut Hand) -> io::Result<()>,
    reporter: &mut Reporter,
) {
    if let Some(to) = hand
        && let Err(error) = what(to)
    {
        reporter.say(&format!(
            "the process for finished files has gone ({error}): they stay as they are until the next start"
        ));
        *hand = None;
    }
}

/// Waits until all is done with finished files, and says what is to be said of it. False where it
/// takes longer.
pub(super) fn wait_for_chores(
    hand: &mut Option<Hand>,
    longest: Duration,
    events: &Receiver<Event>,
    reporter: &mut Reporter,
) -> bool {
    const LOOK: Duration = Duration::from_millis(10);
    let begun = Instant::now();
    loop {
        let done = hand.as_mut().is_none_or(Hand::is_done);
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
pub(super) fn end_chores(
    mut hand: Option<Hand>,
    events: &Receiver<Event>,
    reporter: &mut Reporter,
) {
    /// It ends by itself, unless it is stopped.
    const MOMENT: Duration = Duration::from_secs(2);
    let left = |hand: &Option<Hand>| hand.as_ref().map_or(0, Hand::open);
    reporter.say(&format!(
        "{} finished files are not yet compressed, or handed to --on-rotate: they have {} s, then the next start takes \
         them up",
        left(&hand),
        chores::END_MAX.as_secs()
    ));
    wait_for_chores(&mut hand, chores::END_MAX + MOMENT, events, reporter);
    let left = left(&hand);
    drop(hand);
    if left != 0 {
        reporter.say(&format!(
            "what is done with {left} finished files was ended: the next start takes them up"
        ));
    }
}
