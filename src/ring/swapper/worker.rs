//! The swapper thread itself: what it does, in which order.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Full, Shared, Work};
use crate::ring::RingConfig;
use crate::ring::ahead::{Ahead, TICK};
use crate::ring::indexing::{self, Found, Indexing};
use crate::ring::notice::{Notice, Notices};
use crate::ring::recovery::repair_own;
use crate::ring::store::Store;
use crate::sys::capabilities;
use crate::sys::mapping::Pages;

/// How long to wait before a failed preparation is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// How often to look for packets while there are none.
const IDLE: Duration = Duration::from_secs(1);

/// A file that has its live name.
pub(super) struct Named {
    sequence: u64,
    path: PathBuf,
    file: File,
    pages: Pages,
    /// Somebody else removed it, and that was reported.
    removed: bool,
    /// The file system had become read-only before the first packet went to it.
    unnamed: bool,
}

/// The thread's own things.
pub(super) struct Worker {
    pub(super) config: RingConfig,
    pub(super) store: Store,
    pub(super) notices: Notices,
    pub(super) live: Option<Named>,
    /// The live one before, if it is full and not finished yet.
    pub(super) ending: Option<Named>,
    /// The prepared file.
    pub(super) next: Option<(File, Pages)>,
    pub(super) ahead: Ahead,
    pub(super) indexing: Indexing,
    /// What was said, and is still so.
    pub(super) shrunk: bool,
    pub(super) smaller: bool,
    pub(super) held: bool,
    /// New files of the whole size since the disk was full.
    pub(super) whole_files: usize,
    pub(super) no_file: bool,
    /// Packets that were written to files that others then removed, cut or overwrote.
    pub(super) taken: u64,
    /// Older files are this run's: they may be finished, recycled and removed.
    pub(super) taken_over: bool,
}

impl Worker {
    pub(super) fn new(config: RingConfig, store: Store, notices: Notices) -> Worker {
        Worker {
            config,
            store,
            notices,
            live: None,
            ending: None,
            next: None,
            ahead: Ahead::default(),
            indexing: Indexing::default(),
            shrunk: false,
            smaller: false,
            held: false,
            whole_files: 0,
            no_file: false,
            taken: 0,
            taken_over: false,
        }
    }

    pub(super) fn run(mut self, shared: &Shared) -> Vec<PathBuf> {
        let _ = capabilities::give_up(); // files need none of these
        let (mut pause, mut looked) = (TICK, Instant::now());
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
                shared.taken_records.store(self.taken, Ordering::Relaxed);
                desk = shared.desk();
            } else if desk.stop {
                break;
            } else if desk.ready.is_none() && !desk.taken {
                let soon = desk.wanted || self.is_needed_soon(shared);
                let layout = desk.layout;
                drop(desk);
                let prepared = self.prepare_next(soon);
                desk = shared.desk();
                if desk.layout != layout {
                    continue; // it was for another one, and is made anew
                }
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
                        // While there is a live file nothing is lost yet; before the start has
                        // succeeded there are no packets.
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
                let wait = match self.indexing.is_busy() {
                    true => indexing::REST.min(pause),
                    false => pause,
                };
                let waited = shared.changed.wait_timeout(desk, wait);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                desk = woken;
                if timeout.timed_out() && looked.elapsed() < pause {
                    drop(desk);
                    self.index_some(shared);
                    desk = shared.desk();
                } else if timeout.timed_out() {
                    drop(desk);
                    looked = Instant::now();
                    if let Some(mut live) = self.live.take() {
                        self.look_after(&mut live);
                        self.live = Some(live);
                    }
                    if self.config.limits.age.is_some() {
                        self.remove_surplus_telling();
                    }
                    let advanced = self.keep_ready(shared.position.load(Ordering::Relaxed));
                    pause = if advanced { TICK } else { IDLE };
                    desk = shared.desk();
                }
            }
        }
        desk.ready = None;
        drop(desk);
        let end = Instant::now() + indexing::AT_THE_END;
        while self.indexing.is_busy() && Instant::now() < end {
            self.index_some(shared);
        }
        self.indexing = Indexing::default();
        let bytes = self.store.held_bytes_max();
        if bytes != 0 {
            self.tell(Notice::Held { bytes });
        }
        let ended = self.store.remove_next();
        if let Err(error) = ended.and_then(|()| self.remove_surplus()) {
            let path = self.config.dir.clone();
            self.tell_unchanged(path, &error);
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
                Ok(recovered) => {
                    let path = recovered.path.iter().filter(|_| self.store.is_indexed);
                    path.for_each(|path| self.indexing.add(path.clone(), None));
                    self.tell(Notice::Recovered(recovered));
                }
                Err((path, error)) => self.tell_unchanged(path, &error),
            }
        }
        self.remove_surplus_telling();
    }

    fn remove_surplus_telling(&mut self) {
        if let Err(error) = self.remove_surplus() {
            let path = self.config.dir.clone();
            self.tell_unchanged(path, &error);
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
            Work::LayOut { segment_bytes } => {
                self.config.segment_bytes = segment_bytes;
                0
            }
            Work::Limits { limits, file_bytes } => {
                (self.config.limits, self.config.file_bytes) = (limits, file_bytes);
                self.remove_surplus_telling();
                0
            }
            Work::Then(then) => {
                then();
                0
            }
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
                self.tell_unchanged(path.clone(), &error);
                error.kind() == io::ErrorKind::ReadOnlyFilesystem
            }
        };
        self.ending = self.live.replace(Named {
            sequence,
            path,
            file,
            pages,
            removed: false,
            unnamed,
        });
    }

    /// Reports, once, that another process removed a file or cut it while packets went to it.
    fn look_after(&self, named: &mut Named) {
        let capacity = named.pages.len() as u64;
        let whole = |meta: Metadata| meta.nlink() != 0 && meta.len() == capacity;
        // A file system that has failed says nothing of either.
        let is_there = named.path.try_exists().unwrap_or(true);
        if named.removed || is_there && named.file.metadata().map_or(true, whole) {
            return;
        }
        named.removed = true;
        let path = named.path.clone();
        self.tell(Notice::Removed { path });
    }

    /// Makes ready again what will be written next. False if nothing was written since the last
    /// time.
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
        if ended.removed {
            self.taken += records;
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
            let path = self.store.finish(ended.sequence, &ended.path, first_us)?;
            if let Some(path) = path {
                if self.store.is_indexed {
                    // What was lost may have taken along what others of it are read by.
                    let all = Some(records).filter(|_| lost == 0);
                    self.indexing.add(path.clone(), all);
                }
                self.tell(Notice::Finished { path });
            }
            Ok(())
        });
        if let Err(error) = finished {
            // It was there when it was looked at: others have taken it since.
            if error.kind() == io::ErrorKind::NotFound {
                self.taken += records - lost;
                self.tell(Notice::Removed { path: ended.path });
                return lost;
            }
            // A file system that has become read-only keeps what is stored in memory, and nowhere
            // else.
            let read_only = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
            self.tell_unchanged(ended.path.clone(), &error);
            if read_only {
                let path = ended.path;
                self.tell(Notice::NotOnDisk {
                    path,
                    records,
                    none: ended.unnamed,
                });
                return if ended.unnamed { records } else { lost };
            }
            if error.raw_os_error() == Some(libc::EIO) {
                let path = ended.path;
                self.tell(Notice::Failed { path, records });
            }
        }
        lost
    }

    /// Goes on with the index of a finished file. One that cannot be stored is not there: readers do
    /// without.
    fn index_some(&mut self, shared: &Shared) {
        let (path, index) = match self.indexing.step() {
            Some(Found::Index(path, index)) => (path, index),
            Some(Found::Overwritten(path, records)) => {
                self.taken += records;
                shared.taken_records.store(self.taken, Ordering::Relaxed);
                return self.tell(Notice::Overwritten { path, records });
            }
            None => return,
        };
        let more = index.bytes();
        while self.is_beyond_bytes(more) {
            if self.store.oldest().is_none_or(|oldest| oldest == path) {
                return;
            }
            self.let_go_of_oldest();
            if !self.store.remove_oldest().unwrap_or(false) {
                return;
            }
        }
        let _ = index.write(&path);
    }

    /// Before the oldest file is removed or written anew: nobody is to have it open.
    pub(super) fn let_go_of_oldest(&mut self) {
        if let Some(oldest) = self.store.oldest() {
            self.indexing.let_go(oldest);
        }
    }

    pub(super) fn tell_unchanged(&self, path: PathBuf, error: &io::Error) {
        let error = error.to_string();
        self.tell(Notice::NotChanged { path, error });
    }

    pub(super) fn tell(&self, notice: Notice) {
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
