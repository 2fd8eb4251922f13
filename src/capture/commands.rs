//! What other threads ask of the capturing threads: to stop, to record so many packets, and
//! commands with answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, sync::OnceLock};

use crate::ring::Limits;
use crate::source::{Change, Waker, links};

/// What a capture can be asked to do while it runs. It looks once a batch, and where no packet
/// comes, when it is woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Go on to the next file.
    Rotate,
    /// The same, and answer when the last one and all before it are finished.
    Finish,
    /// Take note of interfaces that have come, gone or changed.
    Links(Arc<[links::Change]>),
    /// Change a setting of the source.
    Source(Change),
    /// Cut frames to another length, from the next file on, which begins now.
    Snaplen {
        /// Bytes of a frame.
        snaplen: u32,
        /// What files declare.
        file_snaplen: u32,
        /// Bytes to ask the source for.
        copy_range_bytes: u32,
    },
    /// Keep another number of files, of another size.
    Files {
        /// What of them is kept.
        limits: Limits,
        /// The most bytes of each, from the next one on.
        file_bytes: u64,
    },
    /// Have the next record carry a note and nothing else.
    Note,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// There was nothing to do: the live file holds no packet, or there is none.
    NothingToDo,
    /// It cannot be done, for this reason: all is as it was.
    Refused(String),
}

/// A command on its way, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    /// What the capture is to say of it, once it is done.
    pub(super) note: Option<String>,
    answer: Sender<Answer>,
}

impl Request {
    /// Answers it. The caller may have dropped the other end.
    pub(super) fn answer(&self, answer: Answer) {
        let _ = self.answer.send(answer);
    }
}

/// What other threads ask of the capturing threads. One value serves all of them.
#[derive(Default)]
pub struct Control {
    stop: AtomicBool,
    /// One for each capture.
    captures: Mutex<Vec<Subscriber>>,
    /// Told when the count is reached, or the end is due.
    listener: OnceLock<Waker>,
    /// Neither stops anything: the session watches for them, and has something to do first.
    watched: bool,
    /// A capture cannot go on.
    end_due: AtomicBool,
    /// Packets that may still be recorded, plus one; 0 is no limit.
    allowance: AtomicU64,
}

/// A capture: where its commands go, and what wakes it for them.
struct Subscriber {
    requests: Sender<Request>,
    waker: Option<Waker>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("stop", &self.stop)
            .field("allowance", &self.allowance)
            .finish_non_exhaustive()
    }
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

    /// As [`Control::new`], but reaching the count stops nothing, nor does a stream that nobody reads any
    /// more: whoever watches [`Control::count_reached`] and [`Control::end_due`] calls [`Control::stop`]
    /// when it is ready. Until then packets are received, and skipped or lost.
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

    /// Whether a capture has nothing to write to any more.
    pub fn end_due(&self) -> bool {
        self.end_due.load(Ordering::Relaxed)
    }

    /// Has `listener` called when as many packets are recorded as were asked for, or a capture cannot go
    /// on. Only the first one counts.
    pub fn when_end_due(&self, listener: Waker) {
        let _ = self.listener.set(listener);
    }

    /// Asks the capturing threads to detach, take what is left and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Has every capture look around.
    fn wake(&self) {
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        for waker in captures.iter().filter_map(|capture| capture.waker.as_ref()) {
            waker();
        }
    }

    /// Whether the end was asked for.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks each capture for something. The answers come in any order, one of each capture that has
    /// not ended before; a caller that does not care drops them.
    pub fn ask(&self, command: Command) -> Receiver<Answer> {
        self.ask_noting(command, None)
    }

    /// The same, and where it is done, the next record of each capture carries `note`.
    pub fn ask_noting(&self, command: Command, note: Option<&str>) -> Receiver<Answer> {
        let (to_caller, answers) = mpsc::channel();
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.retain(|capture| {
            let request = Request {
                command: command.clone(),
                note: note.map(ToOwned::to_owned),
                answer: to_caller.clone(),
            };
            capture.requests.send(request).is_ok()
        });
        drop(captures);
        self.wake();
        answers
    }

    /// Where the commands to one capture arrive.
    pub(super) fn subscribe(&self, waker: Option<Waker>) -> Receiver<Request> {
        let (sender, requests) = mpsc::channel();
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.push(Subscriber {
            requests: sender,
            waker,
        });
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
                if wanted >= before - 1 {
                    self.reached();
                }
                wanted.min(before - 1)
            }
            Err(_) => 0,
        }
    }

    /// Nothing that comes from now on can be written.
    pub(super) fn give_up(&self) {
        self.end_due.store(true, Ordering::Relaxed);
        self.reached();
    }

    #[cold]
    fn reached(&self) {
        if !self.watched {
            self.stop();
        } else if let Some(listener) = self.listener.get() {
            listener();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capture_answers_once() {
        let control = Control::new(None);
        let (first, second) = (control.subscribe(None), control.subscribe(None));
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
        let answers = control.ask(Command::Note);
        second.try_recv().unwrap().answer(Answer::Done);
        assert_eq!(answers.into_iter().count(), 1);
    }
}
