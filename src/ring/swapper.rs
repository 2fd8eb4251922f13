//! The swapper thread: makes the next file ready while the live one fills, and finishes the last.
//!
//! The thesis's swapper (section 2.5.1) with one difference: the capturing thread waits for it only
//! when the next file is late, and then the wait is counted.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::RingConfig;
use super::ahead::{Ahead, TICK};
use super::error::{StoreError, name_full};
use super::notice::{Notice, Notices};
use super::prepare::{Layout, prepare};
use super::recovery::repair_own;
use super::store::{Store, check_space};
use crate::sys::mapping::{Mapping, Pages};

/// How long to wait before a failed preparation is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often to look for packets while there are none.
const IDLE: Duration = Duration::from_secs(1);

/// After so many whole files the disk is not full any more, and what is said of a full one may be said again.
const WHOLE_AGAIN: usize = 4;

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
    /// The prepared file was taken, and is not begun yet: whether there will be a next one to prepare is not
    /// known.
    taken: bool,
    /// The last try to prepare a file failed, and nothing has changed since.
    failed: bool,
    /// The capturing thread waits for the next file.
    wanted: bool,
    /// The start has succeeded: older files are this run's now.
    taken_over: bool,
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
        check_space(slice::from_ref(&store), config.files, file_bytes)?;
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

    /// Says how far the live file is written, for the swapper's next look.
    #[inline]
    pub(super) fn advanced(&self, position: usize) {
        self.shared.position.store(position, Ordering::Relaxed);
    }

    /// Says that the start has succeeded: what a killed run left is finished, files beyond the limit are
    /// removed. Until then no file is touched that was there before.
    pub(super) fn take_over(&self) {
        self.shared.desk().taken_over = true;
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

    /// Hands over the last file, if there is one, and lets the thread finish its work and end: in one step,
    /// or it would prepare another in between, if need be of what was just written. Returns the ring's files,
    /// oldest first.
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

/// A file that has its live name.
struct Named {
    sequence: u64,
    path: PathBuf,
    file: File,
    pages: Pages,
    /// It was taken away, and that was said.
    taken: bool,
    /// The file system had become read-only before the first packet went to it.
    unnamed: bool,
}

/// The thread's own things.
struct Worker {
    config: RingConfig,
    store: Store,
    notices: Notices,
    live: Option<Named>,
    /// The live one before, if it is full and not finished yet.
    ending: Option<Named>,
    /// The prepared file.
    next: Option<(File, Pages)>,
    ahead: Ahead,
    /// What was said, and is still so.
    shrunk: bool,
    smaller: bool,
    held: bool,
    /// New files of the whole size since the disk was full.
    whole_files: usize,
    no_file: bool,
    /// Older files are this run's: they may be finished, recycled and removed.
    taken_over: bool,
}

impl Worker {
    fn new(config: RingConfig, store: Store, notices: Notices) -> Worker {
        Worker {
            config,
            store,
            notices,
            live: None,
            ending: None,
            next: None,
            ahead: Ahead::default(),
            shrunk: false,
            smaller: false,
            held: false,
            whole_files: 0,
            no_file: false,
            taken_over: false,
        }
    }

    fn run(mut self, shared: &Shared) -> Vec<PathBuf> {
        let mut pause = TICK;
        let mut desk = shared.desk();
        loop {
            if desk.taken_over && !self.taken_over {
                drop(desk);
                self.take_over();
                desk = shared.desk();
            } else if let Some(work) = desk.work.pop_front() {
                drop(desk);
                let lost = self.work(work);
                shared.lost_records.fetch_add(lost, Ordering::Relaxed);
                desk = shared.desk();
            } else if desk.stop {
                break;
            } else if desk.ready.is_none() && !desk.taken {
                let soon = desk.wanted || self.is_needed_soon(shared);
                drop(desk);
                let prepared = self.prepare_next(soon);
                desk = shared.desk();
                // What changed meanwhile may let it be made.
                let again = desk.stop || !desk.work.is_empty();
                match prepared {
                    Err(_) if again => {}
                    Ok(None) if again || desk.wanted => {}
                    Ok(None) => {
                        let waited = shared.changed.wait_timeout(desk, RETRY);
                        desk = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                    Ok(ready) => {
                        desk.ready = ready;
                        desk.failed = false;
                        if std::mem::take(&mut self.no_file) {
                            self.tell(Notice::FilesAgain);
                        }
                        shared.changed.notify_all();
                    }
                    Err(error) => {
                        desk.failed = true;
                        // While there is a live file nothing is lost yet; before the start has succeeded
                        // there are no packets.
                        if self.taken_over
                            && self.live.is_none()
                            && !std::mem::replace(&mut self.no_file, true)
                        {
                            let dir = self.config.dir.display();
                            let error = format!("{dir}: {error}");
                            self.tell(Notice::NoFile { error });
                        }
                        shared.changed.notify_all();
                        let waited = shared.changed.wait_timeout(desk, RETRY);
                        desk = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
            } else {
                let waited = shared.changed.wait_timeout(desk, pause);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                desk = woken;
                if timeout.timed_out() {
                    drop(desk);
                    if let Some(mut live) = self.live.take() {
                        self.look_after(&mut live);
                        self.live = Some(live);
                    }
                    let advanced = self.keep_ready(shared.position.load(Ordering::Relaxed));
                    pause = if advanced { TICK } else { IDLE };
                    desk = shared.desk();
                }
            }
        }
        desk.ready = None;
        drop(desk);
        let bytes = self.store.held_bytes_max();
        if bytes != 0 {
            self.tell(Notice::Held { bytes });
        }
        let ended = self.store.remove_next();
        if let Err(error) = ended.and_then(|()| self.remove_surplus()) {
            let path = self.config.dir.clone();
            self.tell_stays(path, &error);
        }
        self.store.files()
    }

    /// Whether the live file is half full.
    fn is_needed_soon(&self, shared: &Shared) -> bool {
        let position = shared.position.load(Ordering::Relaxed);
        let live = self.live.as_ref();
        live.is_some_and(|live| position >= live.pages.len() / 2)
    }

    fn take_over(&mut self) {
        self.taken_over = true;
        for recovered in self.store.recover() {
            match recovered {
                Ok(recovered) => self.tell(Notice::Recovered(recovered)),
                Err((path, error)) => self.tell_stays(path, &error),
            }
        }
        if let Err(error) = self.remove_surplus() {
            let path = self.config.dir.clone();
            self.tell_stays(path, &error);
        }
    }

    /// Returns how many committed records are found not to be in a file.
    fn work(&mut self, work: Work) -> u64 {
        match work {
            Work::Begun => {
                self.begun();
                0
            }
            Work::Full(full) => self.full(full),
        }
    }

    fn begun(&mut self) {
        let Some((file, pages)) = self.next.take() else {
            return;
        };
        let (sequence, path, named) = self.store.begin();
        let unnamed = match named {
            Ok(()) => false,
            Err(error) => {
                self.tell_stays(path.clone(), &error);
                error.kind() == io::ErrorKind::ReadOnlyFilesystem
            }
        };
        self.ending = self.live.replace(Named {
            sequence,
            path,
            file,
            pages,
            taken: false,
            unnamed,
        });
    }

    /// Says so, once, if a file was taken away or cut while packets went to it.
    fn look_after(&self, named: &mut Named) {
        let capacity = named.pages.len() as u64;
        let whole = |meta: Metadata| meta.nlink() != 0 && meta.len() == capacity;
        if named.taken || named.path.exists() && named.file.metadata().is_ok_and(whole) {
            return;
        }
        named.taken = true;
        let path = named.path.clone();
        self.tell(Notice::Taken { path });
    }

    /// Makes ready again what will be written next. False if nothing was written since the last time.
    fn keep_ready(&mut self, position: usize) -> bool {
        let Some(live) = &self.live else {
            return false;
        };
        let Some(range) = self.ahead.range(position, live.pages.len()) else {
            return false;
        };
        // What cannot be made ready faults, and what then cannot be stored is counted (sys::bus).
        let _ = live.pages.populate(range);
        true
    }

    fn full(&mut self, full: Full) -> u64 {
        let Full {
            mapping,
            len,
            records,
            first_us,
            damaged,
        } = full;
        let damaged = damaged || mapping.replaced_pages() != 0;
        drop(mapping);
        let Some(mut ended) = self.ending.take().or_else(|| self.live.take()) else {
            return 0;
        };
        self.look_after(&mut ended);
        if ended.taken {
            return 0; // whoever took it may have it
        }
        let has_holes = ended
            .file
            .metadata()
            .is_ok_and(|meta| meta.blocks().saturating_mul(512) < ended.pages.len() as u64);
        drop(ended.pages);
        let cut = ended.file.set_len(len as u64);
        // A page that was lost and not stored to again raises no signal, but takes no space either.
        let lost = match &cut {
            Ok(()) if damaged || has_holes => missing(&ended.file, records),
            _ => 0,
        };
        drop(ended.file);
        if lost != 0 {
            let path = ended.path.clone();
            self.tell(Notice::Damaged {
                path,
                records: lost,
            });
        }
        let finished = cut.and_then(|()| {
            if lost == records && first_us != 0 && records != 0 {
                return self.store.put_aside(&ended.path);
            }
            self.store
                .finish(ended.sequence, &ended.path, first_us)
                .map(drop)
        });
        if let Err(error) = finished {
            // A file system that has become read-only keeps what is stored in memory, and nowhere else.
            let read_only = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
            self.tell_stays(ended.path.clone(), &error);
            if read_only {
                let path = ended.path;
                self.tell(Notice::NotOnDisk {
                    path,
                    records,
                    none: ended.unnamed,
                });
                return if ended.unnamed { records } else { lost };
            }
        }
        lost
    }

    /// Makes the next file ready. On a full disk it gets what is left, if that is worth a file; else the ring
    /// gives up its oldest one for it, once packets need it `soon`: else `None`. A ring without limit gives
    /// up none.
    fn prepare_next(&mut self, soon: bool) -> io::Result<Option<Mapping>> {
        let whole = self.config.capacity_bytes();
        let limit = self.config.files;
        self.remove_surplus()?;
        // Beside the finished files there is the live one, once it holds a packet: a full ring is
        // left alone until then.
        let live = usize::from(self.live.is_some());
        let recycle = self.taken_over && limit != 0 && self.store.finished_count() + live > limit;
        let full = match self.prepare_one(recycle, whole) {
            Ok(mapping) => {
                self.whole_files += usize::from(!recycle);
                if self.whole_files >= WHOLE_AGAIN {
                    (self.shrunk, self.smaller) = (false, false);
                }
                return Ok(Some(mapping));
            }
            Err(error) if is_full(&error) => error,
            Err(error) => return Err(error),
        };
        self.whole_files = 0;
        let gives_up = self.taken_over && limit != 0;
        let mut bytes = available_bytes(&self.config.dir).min(whole.saturating_sub(1));
        loop {
            bytes = self.config.whole_segments(bytes);
            if bytes < self.worth_bytes(gives_up) {
                break;
            }
            match self.prepare_one(false, bytes) {
                Ok(mapping) => {
                    if !std::mem::replace(&mut self.smaller, true) {
                        let bytes = bytes as u64;
                        self.tell(Notice::SmallerFile { bytes });
                    }
                    return Ok(Some(mapping));
                }
                // The file system needs some of it for itself.
                Err(error) if is_full(&error) => bytes /= 2,
                Err(error) => return Err(error),
            }
        }
        while let Some(oldest_bytes) = self.store.oldest_bytes().filter(|_| gives_up) {
            if !soon {
                return Ok(None);
            }
            if !std::mem::replace(&mut self.shrunk, true) {
                self.tell(Notice::RingShrunk {
                    files: self.store.finished_count(),
                });
            }
            // In its own place, where nobody else can take it.
            let bytes = self.config.whole_segments(oldest_bytes.min(whole));
            match self.prepare_one(true, bytes.max(self.config.least_bytes())) {
                Ok(mapping) => return Ok(Some(mapping)),
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(full)
    }

    /// Bytes below which a file is not made of what a full disk has left: each new file is one old file
    /// less in a ring of a number of them. Where nothing is given up, any file is better than none.
    fn worth_bytes(&self, gives_up: bool) -> usize {
        /// Of a whole file.
        const WORTH_PART: usize = 8;
        let least = self.config.least_bytes();
        match self.store.oldest_bytes().filter(|_| gives_up) {
            Some(oldest) => least.max(oldest.min(self.config.capacity_bytes() / WORTH_PART)),
            None => least,
        }
    }

    fn prepare_one(&mut self, recycle: bool, capacity: usize) -> io::Result<Mapping> {
        let layout = Layout {
            capacity,
            segment_bytes: if self.config.filler {
                self.config.segment_bytes
            } else {
                capacity
            },
            filler: self.config.filler,
        };
        // A preparation that failed half-way must not keep the space it took.
        self.store.remove_next()?;
        let prepared = self.store.make_next(recycle).and_then(|file| {
            let mapping = prepare(&file, layout)?;
            self.store.ready()?;
            Ok((file, mapping))
        });
        match prepared {
            Ok((file, mapping)) => {
                let bytes = self.store.held_bytes_max();
                if bytes != 0 && !std::mem::replace(&mut self.held, true) {
                    self.tell(Notice::Held { bytes });
                }
                self.next = Some((file, mapping.pages().clone()));
                Ok(mapping)
            }
            Err(error) => {
                self.store.remove_next()?;
                Err(name_full(&self.config.dir, error))
            }
        }
    }

    /// Removes finished files beyond the limit: a restart may ask for fewer, and the end may come
    /// before a file was recycled for the live one.
    fn remove_surplus(&mut self) -> io::Result<()> {
        let limit = self.config.files;
        while self.taken_over && limit != 0 && self.store.finished_count() > limit {
            self.store.remove_oldest()?;
        }
        Ok(())
    }

    fn tell_stays(&self, path: PathBuf, error: &io::Error) {
        let error = error.to_string();
        self.tell(Notice::Stays { path, error });
    }

    fn tell(&self, notice: Notice) {
        // Nobody listening is no reason to stop writing.
        let _ = self.notices.send(notice);
    }
}

/// Makes a file readable again of which pages are lost. Returns how many of its records are gone.
fn missing(file: &File, records: u64) -> u64 {
    match repair_own(file) {
        Ok(repaired) => records.saturating_sub(repaired.packets),
        // Its beginning is gone, and with it all of it.
        Err(_) => records,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Bytes that are free for this user; 0 where the file system does not say.
fn available_bytes(dir: &Path) -> usize {
    let bytes =
        rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
