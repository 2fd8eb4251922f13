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

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::ReadError;
use super::chain::INVERSION_NS;
use super::packets::{Each, Packets};
use super::piece::{Make, Piece};
use super::plan::{Parts, Plan, Selection};

/// Bytes of a file that cannot be divided that are looked through in a step.
const STEP_BYTES: u64 = 4 << 20;
/// Steps of a chain that are begun before the first of them is taken, for each thread.
const AHEAD: usize = 4;

/// How it ended.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Packets that were taken, where no marks were wanted.
    pub taken: u64,
    /// What could not be read.
    pub faults: Vec<ReadError>,
}

#[derive(Debug)]
enum Job {
    File(PathBuf),
    Part(Parts),
    /// A file that cannot be divided, from where it stands.
    Rest(Box<Packets>),
}

#[derive(Debug)]
enum State {
    ToDo(Job),
    Doing,
    Done(Piece),
}

#[derive(Debug)]
struct Step {
    id: u64,
    state: State,
}

#[derive(Debug, Default)]
struct Desk {
    chains: Vec<VecDeque<Step>>,
    next_id: u64,
    stop: bool,
}

/// What has come of a job.
#[derive(Debug, Default)]
struct Outcome {
    piece: Option<Piece>,
    /// What is to be done in its place.
    then: Vec<Job>,
    /// Nothing behind it is looked for.
    ends: bool,
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
    window: usize,
}

/// Looks through chains of files with so many threads. Pieces go to `take` by time, as runs of their
/// marks, until it says no.
pub fn scan<M: Make>(
    chains: Vec<VecDeque<PathBuf>>,
    selection: &Selection,
    threads: usize,
    make: impl Fn() -> M + Sync,
    take: impl FnMut(&mut Piece, Range<usize>) -> bool,
) -> Scanned {
    let mut desk = Desk::default();
    for files in chains {
        let steps = files.into_iter().map(|file| State::ToDo(Job::File(file)));
        let steps = steps.map(|state| desk.step(state)).collect();
        desk.chains.push(steps);
    }
    let shared = Shared {
        selection,
        window: (AHEAD * threads / desk.chains.len().max(1)).max(2),
        desk: Mutex::new(desk),
        spare: Mutex::default(),
        to_do: Condvar::new(),
        done: Condvar::new(),
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
                    scanned.faults.push(ReadError {
                        path: PathBuf::from("-"),
                        what: format!("cannot start a thread: {error}"),
                    });
                    return;
                }
                break;
            }
        }
        if M::MARKS {
            merge(&shared, &mut scanned, take);
        } else {
            count(&shared, &mut scanned);
        }
    });
    scanned
}

/// Later than all.
const NONE: (u64, usize) = (u64::MAX, usize::MAX);

/// Takes pieces by time.
fn merge(
    shared: &Shared<'_>,
    scanned: &mut Scanned,
    mut take: impl FnMut(&mut Piece, Range<usize>) -> bool,
) {
    let chains = shared.desk().chains.len();
    let mut heads: Vec<Option<(Piece, usize)>> = (0..chains).map(|_| None).collect();
    let mut wanted: Vec<usize> = (0..chains).collect();
    loop {
        for chain in wanted.drain(..) {
            while let Some(mut piece) = shared.next(chain) {
                scanned.faults.extend(piece.fault.take());
                if !piece.marks.is_empty() {
                    heads[chain] = Some((piece, 0));
                    break;
                }
            }
        }
        // The earliest, and what is next after it.
        let (mut first, mut before) = (NONE, NONE);
        for (chain, head) in heads.iter().enumerate() {
            let mark = head
                .as_ref()
                .and_then(|(piece, next)| piece.marks.get(*next));
            let Some(mark) = mark else {
                continue;
            };
            let key = (mark.time_ns, chain);
            before = before.min(key.max(first));
            first = first.min(key);
        }
        let Some(Some((piece, next))) = heads.get_mut(first.1) else {
            return;
        };
        let chain = first.1;
        let behind = piece.marks.iter().skip(*next);
        let run = behind
            .take_while(|mark| (mark.time_ns, chain) < before)
            .count();
        let marks = *next..*next + run;
        *next = marks.end;
        if !take(piece, marks) {
            return;
        }
        if *next == piece.marks.len() {
            if let Some((piece, _)) = heads[chain].take() {
                shared.spare().push(piece.emptied());
            }
            wanted.push(chain);
        }
    }
}

/// Sums pieces up, whatever their order.
fn count(shared: &Shared<'_>, scanned: &mut Scanned) {
    let chains = shared.desk().chains.len();
    for chain in 0..chains {
        while let Some(piece) = shared.next(chain) {
            scanned.taken += piece.taken;
            scanned.faults.extend(piece.fault);
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

impl Desk {
    fn step(&mut self, state: State) -> Step {
        self.next_id += 1;
        Step {
            id: self.next_id,
            state,
        }
    }

    /// The next job: what is wanted first before others.
    fn claim(&mut self, window: usize) -> Option<(usize, u64, Job)> {
        for place in 0..window {
            for (chain, steps) in self.chains.iter_mut().enumerate() {
                let Some(step) = steps.get_mut(place) else {
                    continue;
                };
                if let State::ToDo(_) = step.state
                    && let State::ToDo(job) = std::mem::replace(&mut step.state, State::Doing)
                {
                    return Some((chain, step.id, job));
                }
            }
        }
        None
    }

    fn is_over(&self) -> bool {
        let mut steps = self.chains.iter().flatten();
        self.stop || steps.all(|step| matches!(step.state, State::Done(_)))
    }

    fn put(&mut self, chain: usize, id: u64, outcome: Outcome) {
        let place = |steps: &VecDeque<Step>| steps.iter().position(|step| step.id == id);
        let Some(place) = self.chains.get(chain).and_then(place) else {
            return; // the chain was ended before it
        };
        let jobs = outcome.then.into_iter().map(State::ToDo);
        let states: Vec<_> = outcome
            .piece
            .into_iter()
            .map(State::Done)
            .chain(jobs)
            .collect();
        let mut steps: VecDeque<_> = states.into_iter().map(|state| self.step(state)).collect();
        let chain = &mut self.chains[chain];
        let mut behind = chain.split_off(place + 1);
        chain.pop_back();
        chain.append(&mut steps);
        if !outcome.ends {
            chain.append(&mut behind);
        }
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
            let steps = desk.chains.get_mut(chain)?;
            if let State::Done(_) = steps.front()?.state {
                let step = steps.pop_front()?;
                self.to_do.notify_all();
                return match step.state {
                    State::Done(piece) => Some(piece),
                    State::ToDo(_) | State::Doing => None,
                };
            }
            if desk.stop {
                return None;
            }
            desk = self.done.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread's life.
    fn work(&self, mut make: impl Make) {
        let mut desk = self.desk();
        while !desk.is_over() {
            let Some((chain, id, job)) = desk.claim(self.window) else {
                desk = self
                    .to_do
                    .wait(desk)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(desk);
            let outcome = self.run(job, &mut make);
            desk = self.desk();
            desk.put(chain, id, outcome);
            self.done.notify_all();
            self.to_do.notify_all();
        }
    }

    fn run(&self, job: Job, make: &mut impl Make) -> Outcome {
        let done = match job {
            Job::File(path) => self.file(&path),
            Job::Part(part) => part
                .open()
                .map(|packets| self.look(Box::new(packets), u64::MAX, make)),
            Job::Rest(packets) => Ok(self.look(packets, STEP_BYTES, make)),
        };
        done.unwrap_or_else(|error| Outcome {
            piece: Some(Piece {
                fault: Some(error),
                ..Piece::default()
            }),
            ..Outcome::default()
        })
    }

    fn file(&self, path: &Path) -> Result<Outcome, ReadError> {
        let then = match self.selection.plan(path)? {
            Plan::Gone | Plan::Not => Vec::new(),
            Plan::Whole(packets) => vec![Job::Rest(packets)],
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
        let limit_ns = span.to_ns.saturating_add(INVERSION_NS);
        let mut piece = self.spare().pop().unwrap_or_default();
        let looked = packets.each(bytes, |record| {
            if !span.holds(record.time_ns) {
                return record.time_ns <= limit_ns;
            }
            if filter.takes(record) {
                piece.put(record, make);
            }
            true
        });
        if packets.is_cut() {
            piece.fault = Some(ReadError::cut(packets.path()));
        }
        let mut outcome = Outcome::default();
        match looked {
            Ok(Each::Ended) => {}
            Ok(Each::More) => outcome.then.push(Job::Rest(packets)),
            Ok(Each::Stopped) => outcome.ends = true,
            Err(error) => piece.fault = Some(error),
        }
        outcome.piece = Some(piece);
        outcome
    }
}
