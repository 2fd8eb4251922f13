//! What other threads ask of the capturing threads: to stop, to record so many packets, and
//! commands with answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

/// What a capture can be asked to do while it runs. It looks once a batch, or every tenth of a
/// second where no packet comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Go on to the next file.
    Rotate,
    /// Look up the names of interfaces again: some have come, gone or changed.
    CheckNames,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// There was nothing to do: the live file holds no packet, or there is none.
    NothingToDo,
}

/// A command on its way, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    answer: Sender<Answer>,
}

impl Request {
    /// Answers it. The caller may have dropped the other end.
    pub(super) fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer);
    }
}

/// What other threads ask of the capturing threads. One value serves all of them.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    /// One for each capture.
    captures: Mutex<Vec<Sender<Request>>>,
    /// Reaching the count does not stop: the session watches for it, and has something to do first.
    watched: bool,
    /// Packets that may still be recorded, plus one; 0 is no limit.
    allowance: AtomicU64,
}

impl Control {
    /// A control that lets `count` packets be recorded in sum, or any number.
    pub fn new(count: Option<u64>) -> Self {
        let control = Control::default();
        control.allowance.store(
            count.map_or(0, |count| count.saturating_add(1)),
            Ordering::Relaxed,
        );
        control
    }

    /// As [`Control::new`], but reaching the count stops nothing: whoever watches
    /// [`Control::count_reached`] calls [`Control::stop`] when it is ready. Until then packets are
    /// received and skipped.
    pub fn watched(count: Option<u64>) -> Self {
        Control {
            watched: true,
            ..Control::new(count)
        }
    }

    /// Whether as many packets are recorded as were asked for.
    pub fn count_reached(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 1
    }

    /// Asks the capturing threads to detach, take what is left and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks each capture for something. The answers come in any order, one of each capture that has
    /// not ended before; a caller that does not care drops them.
    pub fn ask(&self, command: Command) -> Receiver<Answer> {
        let (to_caller, answers) = mpsc::channel();
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.retain(|capture| {
            let answer = to_caller.clone();
            capture.send(Request { command, answer }).is_ok()
        });
        answers
    }

    /// Where the commands to one capture arrive.
    pub(super) fn subscribe(&self) -> Receiver<Request> {
        let (sender, requests) = mpsc::channel();
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.push(sender);
        requests
    }

    /// Whether any number of packets may be recorded.
    #[inline]
    pub(super) fn unlimited(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    /// Takes the right to record one packet.
    #[inline]
    pub(super) fn allow_one(&self) -> bool {
        self.allow(1) == 1
    }

    /// Takes the right to record up to `wanted` packets, and says of how many. The one who takes
    /// the last asks all to stop, if the session does not watch for that.
    #[inline]
    pub(super) fn allow(&self, wanted: u64) -> u64 {
        if self.unlimited() {
            return wanted;
        }
        let take = |left: u64| (left > 1).then(|| left - wanted.min(left - 1));
        match self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(before) => {
                if wanted >= before - 1 && !self.watched {
                    self.stop();
                }
                wanted.min(before - 1)
            }
            Err(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capture_answers_once() {
        let control = Control::new(None);
        let (first, second) = (control.subscribe(), control.subscribe());
        let answers = control.ask(Command::Rotate);
        for (requests, answer) in [(&first, Answer::Done), (&second, Answer::NothingToDo)] {
            let request = requests.try_recv().unwrap();
            assert_eq!(request.command, Command::Rotate);
            request.answer(answer);
        }
        let all: Vec<_> = answers.into_iter().collect();
        assert_eq!(all, [Answer::Done, Answer::NothingToDo]);
        // One that has ended is not waited for.
        drop(first);
        let answers = control.ask(Command::CheckNames);
        second.try_recv().unwrap().answer(Answer::Done);
        assert_eq!(answers.into_iter().count(), 1);
    }
}
