//! The swapper thread: makes the next file ready while the live one fills, and finishes the last.
//!
//! The thesis's swapper (section 2.5.1) with one difference: the capturing thread waits for it only
//! when the next file is late, and then the wait is counted.

mod next;
mod worker;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::slice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::StoreError;
use super::notice::Notices;
use super::store::{Store, check_space};
use super::{Limits, RingConfig};
use crate::sys::mapping::Mapping;
use next::is_full;
use worker::{RETRY, Worker};

/// What [`Swapper::take_next`] found.
#[derive(Debug)]
pub(super) enum Next {
    Ready(Mapping),
    Failed,
}

enum Work {
    /// The prepared file that was taken holds its first record: it gets its live name.
    Begun,
    /// The live file is full.
    Full(Full),
    /// The next files are laid out otherwise: the prepared one is no use.
    LayOut {
        segment_bytes: usize,
    },
    Limits {
        limits: Limits,
        file_bytes: u64,
    },
    /// Somebody wants to know that all before this is done.
    Then(Box<dyn FnOnce() + Send>),
}

/// A file that packets go to no more.
pub(super) struct Full {
    pub(super) mapping: Mapping,
    /// Bytes of it that are to stay.
    pub(super) len: usize,
    /// Records in it.
    pub(super) records: u64,
    /// The time of its first record; 0 is none.
    pub(super) first_us: u64,
    /// A page of it could not be stored.
    pub(super) damaged: bool,
}

#[derive(Default)]
struct Desk {
    ready: Option<Mapping>,
    /// The prepared file was taken, and is not begun yet: whether there will be a next one to
    /// prepare is not known.
    taken: bool,
    /// The last try to prepare a file failed, and nothing has changed since.
    failed: bool,
    /// The capturing thread waits for the next file.
    wanted: bool,
    /// The start has succeeded: older files are this run's now.
    taken_over: bool,
    /// How often the layout has changed: what is prepared for an earlier one is thrown away.
    layout: u64,
    work: VecDeque<Work>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
    /// How far the live file is written, as of the last commit.
    position: AtomicUsize,
    /// Records that were committed, and are not in the file that was finished.
    lost_records: AtomicU64,
    /// Records in files that others removed, cut or overwrote.
    taken_records: AtomicU64,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // A panic of the other side leaves the desk whole: each change to it is one statement.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The capturing thread's handle.
pub(super) struct Swapper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<PathBuf>>>,
}

impl std::fmt::Debug for Swapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swapper").finish_non_exhaustive()
    }
}

impl Swapper {
    /// Prepares the first file in the caller's thread, so that what is wrong is said at once, then
    /// starts the thread.
    pub(super) fn start(
        config: RingConfig,
        store: Store,
        notices: Notices,
    ) -> Result<Swapper, StoreError> {
        let file_bytes = config.capacity_bytes() as u64;
        check_space(slice::from_ref(&store), config.limits, file_bytes)?;
        let dir = config.dir.clone();
        let name = format!("swapper-{}", config.name);
        let mut worker = Worker::new(config, store, notices);
        let first = match worker.prepare_next(true) {
            // An older file may be given up for it, once nothing can fail any more.
            Err(error) if is_full(&error) && worker.store.finished_count() != 0 => None,
            first => first.map_err(|source| StoreError::Directory { path: dir, source })?,
        };
        let shared = Arc::new(Shared::default());
        shared.desk().ready = first;
        shared.desk().work.reserve(8);
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || worker.run(&theirs))
            .map_err(StoreError::Thread)?;
        Ok(Swapper {
            shared,
            thread: Some(thread),
        })
    }

    /// Takes the next file if it is there.
    pub(super) fn take_ready(&self) -> Option<Mapping> {
        let mut desk = self.shared.desk();
        let mapping = desk.ready.take()?;
        desk.taken = true;
        Some(mapping)
    }

    /// Takes the next file; waits while it is being made, and says how long.
    pub(super) fn take_next(&self) -> (Next, Option<Duration>) {
        let mut desk = self.shared.desk();
        let mut since = None;
        let next = loop {
            if let Some(mapping) = desk.ready.take() {
                desk.taken = true;
                break Next::Ready(mapping);
            }
            if desk.failed || self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                break Next::Failed;
            }
            if !std::mem::replace(&mut desk.wanted, true) {
                since = Some(Instant::now());
                self.shared.changed.notify_all();
            }
            let waited = self.shared.changed.wait_timeout(desk, RETRY);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        desk.wanted = false;
        (next, since.map(|since| since.elapsed()))
    }

    /// Records that were committed, and were found not to be in the file when it was finished.
    #[inline]
    pub(super) fn lost_records(&self) -> u64 {
        self.shared.lost_records.load(Ordering::Relaxed)
    }

    /// Records that were written to files that others then removed, cut or overwrote.
    #[inline]
    pub(super) fn taken_records(&self) -> u64 {
        self.shared.taken_records.load(Ordering::Relaxed)
    }

    /// Says how far the live file is written, for the swapper's next look.
    #[inline]
    pub(super) fn advanced(&self, position: usize) {
        self.shared.position.store(position, Ordering::Relaxed);
    }

    /// Says that the start has succeeded: what a killed run left is finished, files beyond the
    /// limit are removed. Until then no file is touched that was there before.
    pub(super) fn take_over(&self) {
        self.shared.desk().taken_over = true;
        self.shared.changed.notify_all();
    }

    /// Has the next files divided otherwise.
    pub(super) fn lay_out(&self, segment_bytes: usize) {
        self.change(Work::LayOut { segment_bytes });
    }

    /// Keeps other files.
    pub(super) fn set_limits(&self, limits: Limits, file_bytes: u64) {
        self.change(Work::Limits { limits, file_bytes });
    }

    fn change(&self, work: Work) {
        let mut desk = self.shared.desk();
        desk.layout += 1;
        desk.failed = false;
        desk.ready = None;
        desk.work.push_back(work);
        self.shared.changed.notify_all();
    }

    /// Says that the file taken holds its first record.
    pub(super) fn begun(&self) {
        let mut desk = self.shared.desk();
        desk.taken = false;
        desk.taken_over = true;
        // Before the last one is finished: what is written is to be seen at once.
        desk.work.push_front(Work::Begun);
        self.shared.changed.notify_all();
    }

    /// Hands over a file that packets go to no more.
    pub(super) fn finish(&self, full: Full) {
        let mut desk = self.shared.desk();
        desk.taken = false; // one that held nothing is thrown away
        desk.failed = false; // it may be the one to be used again
        desk.work.push_back(Work::Full(full));
        self.shared.changed.notify_all();
    }

    /// Has `then` called when what was handed over is done.
    pub(super) fn when_finished(&self, then: Box<dyn FnOnce() + Send>) {
        self.shared.desk().work.push_back(Work::Then(then));
        self.shared.changed.notify_all();
    }

    /// Hands over the last file, if there is one, and lets the thread finish its work and end: in
    /// one step, or it would prepare another in between, if need be of what was just written.
    /// Returns the ring's files, oldest first.
    pub(super) fn stop(&mut self, last: Option<Full>) -> Vec<PathBuf> {
        let mut desk = self.shared.desk();
        desk.work.extend(last.map(Work::Full));
        desk.stop = true;
        drop(desk);
        self.shared.changed.notify_all();
        self.thread
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.shared.desk().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
