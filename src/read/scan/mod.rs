//! Captures read by several threads, and what they made of it in order.
//!
//! ```text
//!   chain of files:  [file][file]...          a step is to be done, is being done, or done
//!                     |  planned, divided
//!                     v
//!                    [part][part][part][file] ──> threads: look through a part, make bytes of what
//!                     |                           the filter takes
//!                     v
//!                    [done][done][part][file] ──> merged by time, in order, by who asked
//! ```
//!
//! No thread waits inside a step, and each chain goes on by itself: whichever piece is wanted next is
//! done or will be.

mod desk;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::packets::{Each, Packets};
use super::piece::{Make, Piece};
use super::places::Listed;
use super::plan::{Plan, Selection};
use super::{Fault, ReadError};
use desk::{Chain, Desk, Job, Outcome, Ready};

/// Bytes of a file that cannot be divided that are looked through in a step.
const STEP_BYTES: u64 = 4 << 20;
/// The same of all chains together.
const STEPS_BYTES: u64 = 256 << 20;
const STEP_BYTES_MIN: u64 = 64 << 10;
/// Steps of a chain that are begun before the first of them is taken, for each thread.
const AHEAD: usize = 4;

/// How it ended.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Packets that were taken, where no marks were wanted.
    pub taken: u64,
    /// What could not be read.
    pub(super) faults: Vec<Fault>,
}

struct Shared<'a> {
    selection: &'a Selection,
    desk: Mutex<Desk>,
    /// Pieces that were taken: their room is there already.
    spare: Mutex<Vec<Piece>>,
    /// There is something to do, or nothing ever more.
    to_do: Condvar,
    /// Something is done.
    done: Condvar,
    step_bytes: u64,
}

/// Looks through chains of files, each with the time at which it may begin, the earliest first, with so many
/// threads. Pieces go to `take` by time, as runs of their marks, until it says no.
pub(super) fn scan<M: Make>(
    chains: Vec<(u64, VecDeque<Listed>)>,
    selection: &Selection,
    threads: usize,
    make: impl Fn() -> M + Sync,
    take: impl FnMut(&mut Piece, Range<usize>) -> bool,
) -> Scanned {
    let count = chains.len().max(1);
    let (begins, chains): (Vec<_>, Vec<_>) = chains.into_iter().unzip();
    let chain = |files| Chain {
        files,
        ..Chain::default()
    };
    let desk = Desk {
        chains: chains.into_iter().map(chain).collect(),
        window: (AHEAD * threads / count).max(2),
        ..Desk::default()
    };
    let shared = Shared {
        selection,
        desk: Mutex::new(desk),
        spare: Mutex::default(),
        to_do: Condvar::new(),
        done: Condvar::new(),
        step_bytes: (STEPS_BYTES / count as u64).clamp(STEP_BYTES_MIN, STEP_BYTES),
    };
    let mut scanned = Scanned::default();
    thread::scope(|scope| {
        let _at_the_end = Stop {
            shared: &shared,
            only_by_panic: false,
        };
        for number in 0..threads.max(1) {
            let work = || {
                let _at_the_end = Stop {
                    shared: &shared,
                    only_by_panic: true,
                };
                shared.work(make());
            };
            let started = thread::Builder::new()
                .name(format!("read-{number}"))
                .spawn_scoped(scope, work);
            if let Err(error) = started {
                if number == 0 {
                    scanned.faults.push(Fault::Error(ReadError {
                        path: PathBuf::from("-"),
                        what: format!("cannot start a thread: {error}"),
                    }));
                    return;
                }
                break;
            }
        }
        let mut taker = Taker {
            shared: &shared,
            begins: &begins,
            begun: 0,
            ahead: AHEAD * threads.max(1),
        };
        if M::MARKS {
            taker.merge(&mut scanned, take);
        } else {
            taker.count(&mut scanned);
        }
    });
    scanned
}

/// Who takes the pieces, and has chains begun when their time comes.
struct Taker<'a> {
    shared: &'a Shared<'a>,
    begins: &'a [u64],
    /// So many chains were begun.
    begun: usize,
    ahead: usize,
}

impl Taker<'_> {
    /// Has chains begun up to this one, and some more.
    fn begin(&mut self, chain: usize) {
        let upto = (chain + 1 + self.ahead).min(self.begins.len());
        if upto <= self.begun {
            return;
        }
        let mut desk = self.shared.desk();
        for chain in self.begun..upto {
            desk.begin_steps(chain);
        }
        let jobs = desk.ready.len();
        self.shared.go_on(desk, jobs);
        self.begun = upto;
    }

    /// Takes pieces by time.
    fn merge(
        &mut self,
        scanned: &mut Scanned,
        mut take: impl FnMut(&mut Piece, Range<usize>) -> bool,
    ) {
        let mut heads: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut pieces: Vec<Option<(Piece, usize)>> =
            (0..self.begins.len()).map(|_| None).collect();
        let mut next_chain = 0;
        let mut wanted = None;
        loop {
            if let Some(chain) = wanted.take() {
                while let Some(mut piece) = self.shared.next(chain) {
                    scanned.faults.append(&mut piece.faults);
                    if let Some(mark) = piece.marks.first() {
                        heads.push(Reverse((mark.time_ns, chain)));
                        pieces[chain] = Some((piece, 0));
                        break;
                    }
                }
            }
            let first = heads.peek().map(|Reverse((time, _))| *time);
            let begins = self.begins.get(next_chain);
            if begins.is_some_and(|begins| first.is_none_or(|first| *begins <= first)) {
                self.begin(next_chain);
                wanted = Some(next_chain);
                next_chain += 1;
                continue;
            }
            // The earliest, and what is next after it.
            let Some(Reverse((_, chain))) = heads.pop() else {
                return;
            };
            let others = heads.peek().map(|Reverse(key)| *key);
            let not_begun = self.begins.get(next_chain).map(|begins| (*begins, 0));
            let before = [others, not_begun].into_iter().flatten().min();
            let Some((piece, next)) = &mut pieces[chain] else {
                continue;
            };
            let behind = piece.marks.iter().skip(*next);
            let run = behind
                .take_while(|mark| before.is_none_or(|before| (mark.time_ns, chain) < before))
                .count();
            // The first one at least: a chain that is begun may begin at the very same time.
            let marks = *next..*next + run.max(1);
            *next = marks.end;
            if !take(piece, marks) {
                return;
            }
            match piece.marks.get(*next) {
                Some(mark) => heads.push(Reverse((mark.time_ns, chain))),
                None => {
                    if let Some((piece, _)) = pieces[chain].take() {
                        self.shared.spare().push(piece.emptied());
                    }
                    wanted = Some(chain);
                }
            }
        }
    }

    /// Sums pieces up.
    fn count(&mut self, scanned: &mut Scanned) {
        for chain in 0..self.begins.len() {
            self.begin(chain);
            while let Some(mut piece) = self.shared.next(chain) {
                scanned.taken += piece.taken;
                scanned.faults.append(&mut piece.faults);
            }
        }
    }
}

/// Has all end when this ends, or panics.
struct Stop<'a> {
    shared: &'a Shared<'a>,
    only_by_panic: bool,
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if thread::panicking() || !self.only_by_panic {
            self.shared.desk().stop = true;
        }
        self.shared.to_do.notify_all();
        self.shared.done.notify_all();
    }
}

impl Shared<'_> {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of a chain, once it is done.
    fn next(&self, chain: usize) -> Option<Piece> {
        let mut desk = self.desk();
        loop {
            match desk.take(chain) {
                Err(()) => return None,
                Ok(Some(piece)) => {
                    desk.wanted = None;
                    let jobs = desk.ready.len();
                    self.go_on(desk, jobs);
                    return Some(piece);
                }
                Ok(None) if desk.stop => return None,
                Ok(None) => {
                    desk.wanted = Some(chain);
                    desk = self.done.wait(desk).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Leaves the desk, and wakes whom its state concerns: for so many jobs others.
    fn go_on(&self, mut desk: MutexGuard<'_, Desk>, jobs: usize) {
        let (threads, taker) = desk.woken(jobs);
        drop(desk);
        if taker {
            self.done.notify_one();
        }
        for _ in 0..threads {
            self.to_do.notify_one();
        }
    }

    /// A thread's life.
    fn work(&self, mut make: impl Make) {
        let mut desk = self.desk();
        while !desk.stop {
            let Some(Ready { chain, id, job }) = desk.ready.pop_front() else {
                if let (_, true) = desk.woken(0) {
                    self.done.notify_one();
                }
                desk.idle += 1;
                desk = self
                    .to_do
                    .wait(desk)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let jobs = desk.ready.len();
            self.go_on(desk, jobs);
            let outcome = self.run(job, &mut make);
            desk = self.desk();
            desk.put(chain, id, outcome);
        }
    }

    fn run(&self, job: Job, make: &mut impl Make) -> Outcome {
        let done = match job {
            Job::File(file) => self.file(&file),
            Job::Part(part) => part
                .open()
                .map(|packets| self.look(Box::new(packets), u64::MAX, make)),
            Job::Rest(packets) => Ok(self.look(packets, self.step_bytes, make)),
        };
        done.unwrap_or_else(|error| Outcome {
            piece: Piece {
                faults: vec![Fault::Error(error)],
                ..Piece::default()
            },
            ..Outcome::default()
        })
    }

    fn file(&self, file: &Listed) -> Result<Outcome, ReadError> {
        let then = match self.selection.plan(file)? {
            Plan::Not => VecDeque::new(),
            Plan::Whole(packets) => VecDeque::from([Job::Rest(packets)]),
            Plan::Parts(parts) => parts.split()?.into_iter().map(Job::Part).collect(),
        };
        Ok(Outcome {
            then,
            ..Outcome::default()
        })
    }

    #[inline]
    fn look(&self, mut packets: Box<Packets>, bytes: u64, make: &mut impl Make) -> Outcome {
        let (filter, span) = (&self.selection.filter, self.selection.span);
        let mut piece = self.spare().pop().unwrap_or_default();
        let looked = packets.each(bytes, |record| {
            if span.holds(record.time_ns) && filter.takes(record) {
                piece.put(record, make);
            }
            true
        });
        piece.faults.append(&mut packets.take_faults());
        let mut outcome = Outcome::default();
        match looked {
            Ok(_) if packets.has_crossed() => {
                packets.go_on_by_blocks();
                outcome.in_place_of_parts = true;
                outcome.then.push_back(Job::Rest(packets));
            }
            // Nothing tells that its other parts are what they should be.
            Ok(_) if packets.is_over() => outcome.in_place_of_parts = true,
            Ok(Each::More) => outcome.then.push_back(Job::Rest(packets)),
            Ok(Each::Ended | Each::Stopped) => {}
            Err(error) => piece.faults.push(Fault::Error(error)),
        }
        outcome.piece = piece;
        outcome
    }
}
