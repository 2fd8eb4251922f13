//! The next file: a new one, or the oldest again, of as many bytes as the disk has.

use std::io;
use std::path::Path;

use super::worker::Worker;
use crate::ring::error::name_full;
use crate::ring::notice::{NoRoom, Notice};
use crate::ring::prepare::{FileGeometry, prepare};
use crate::sys::mapping::Mapping;

/// After so many whole files the disk is not full any more, and what is said of a full one may be
/// said again.
const WHOLE_AGAIN: usize = 4;

impl Worker {
    /// Makes the next file ready. On a full disk it gets what is left, if that is worth a file;
    /// else the ring gives up its oldest one for it, once packets need it `soon`: else `None`. A
    /// ring without limit gives up none.
    pub(super) fn prepare_next(&mut self, soon: bool) -> io::Result<Option<Mapping>> {
        let whole = self.config.capacity_bytes();
        let limits = self.config.limits;
        self.remove_surplus()?;
        // Beside the finished files there is the live one, once it holds a packet: a full ring is
        // left alone until then.
        let live = usize::from(self.live.is_some());
        let full = limits.files != 0 && self.store.finished_count() + live > limits.files;
        let taken = (live * whole) as u64;
        let bytes_full = self.is_beyond_bytes(taken);
        let recycle = self.taken_over && (full || bytes_full);
        let full = match self.prepare_one(recycle, whole) {
            Ok(mapping) => {
                self.whole_files += usize::from(!recycle);
                if self.whole_files >= WHOLE_AGAIN {
                    (self.shrunk, self.smaller) = (false, false);
                }
                return Ok(Some(mapping));
            }
            Err(error) => error,
        };
        let Some(why) = NoRoom::of(&full) else {
            return Err(full);
        };
        self.whole_files = 0;
        let gives_up = self.taken_over && limits.give_up();
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
                        self.tell(Notice::SmallerFile { full: why, bytes });
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
                    full: why,
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

    /// Bytes below which a file is not made of what a full disk has left: each new file is one old
    /// file less in a ring of a number of them. Where nothing is given up, any file is better than
    /// none.
    pub(super) fn worth_bytes(&self, gives_up: bool) -> usize {
        /// Of a whole file.
        const WORTH_PART: usize = 8;
        let least = self.config.least_bytes();
        match self.store.oldest_bytes().filter(|_| gives_up) {
            Some(oldest) => least.max(oldest.min(self.config.capacity_bytes() / WORTH_PART)),
            None => least,
        }
    }

    pub(super) fn prepare_one(&mut self, recycle: bool, capacity: usize) -> io::Result<Mapping> {
        let geometry = FileGeometry {
            capacity,
            segment_bytes: if self.config.padding_blocks {
                self.config.segment_bytes
            } else {
                capacity
            },
            padding_blocks: self.config.padding_blocks,
        };
        // A preparation that failed half-way must not keep the space it took.
        self.store.remove_next()?;
        if recycle {
            self.let_go_of_oldest();
        }
        let prepared = self.store.make_next(recycle).and_then(|file| {
            let mapping = prepare(&file, geometry)?;
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
    pub(super) fn remove_surplus(&mut self) -> io::Result<()> {
        while self.taken_over && self.is_beyond_limits() {
            self.let_go_of_oldest();
            if !self.store.remove_oldest()? {
                break;
            }
        }
        Ok(())
    }

    fn is_beyond_limits(&mut self) -> bool {
        let limits = self.config.limits;
        let aged = limits.age.is_some_and(|age| self.store.is_aged(age));
        let count = self.store.finished_count();
        aged || limits.files != 0 && count > limits.files || self.is_beyond_bytes(0)
    }

    /// Whether finished files, and `more` bytes, take more than they may.
    pub(super) fn is_beyond_bytes(&self, more: u64) -> bool {
        let capacity = self.config.capacity_bytes() as u64;
        let allowed = self.config.limits.finished_bytes(capacity);
        allowed.is_some_and(|allowed| self.store.finished_bytes() + more > allowed)
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    NoRoom::of(error).is_some()
}

/// Bytes that are free for this user; 0 where the file system does not say.
fn available_bytes(dir: &Path) -> usize {
    let bytes =
        rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
