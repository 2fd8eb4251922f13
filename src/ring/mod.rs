//! The file ring: a capture appended to memory-mapped files, round robin.
//!
//! The capturing thread owns a [`Ring`] and appends to the live file; a [`swapper`] thread makes
//! the next file ready and finishes the last one, so that the capturing thread never opens, maps,
//! faults in or closes anything. Two files are mapped at any time.
//!
//! # Validity at every moment
//!
//! A file is divided into *segments* of fixed size; a record never crosses from one into the next.
//! What a segment does not use (yet) is taken up by one padding block, whose length stands at its
//! start and in the segment's last four bytes. Appending a batch therefore is: the records, behind
//! the first eight bytes of the first one, where the old padding block still begins; the new
//! padding block; its length at the segment's end; and last, in one store, the eight bytes held
//! back. A reader sees the segment either before or after the batch. (Between the last two stores,
//! two instructions apart, the lengths disagree: see `docs/FORMAT.md`.)

mod access;
mod ahead;
mod error;
mod finished;
mod indexing;
mod live;
mod names;
mod notice;
mod parts;
pub mod prepare;
pub mod recovery;
mod rest;
pub mod store;
pub mod swapper;

use std::path::PathBuf;
use std::time::Duration;

pub use access::{Access, keeps_rights, passing};
pub use error::StoreError;
pub use finished::{Finished as FinishedFile, by_number, finished_in};
pub use live::Slot;
pub use names::{
    Compression, RingFile, begun, is_rings, lock_of, ring_file, sort_by_age, uncompressed, wherever,
};
pub use notice::{NoRoom, Notice, Notices};
pub use rest::{Rest, RestSlot};
pub use store::{Recovered, Store, check_space};

use crate::format::HEAD_BYTES;
use crate::format::pcapng::block::BLOCK_MIN_BYTES;
use crate::sys::mapping::Mapping;
use live::{Committed, Geometry, Live};
use swapper::{Full, Next, Swapper};

/// Segment of files whose records are short.
pub const SEGMENT_BYTES_SMALL: usize = 64 << 10;
/// Segment of files whose records may hold whole packets.
pub const SEGMENT_BYTES_LARGE: usize = 256 << 10;

/// Segment of files whose records may hold packets of more than 64 KiB (merged ones, BIG TCP).
pub const SEGMENT_BYTES_HUGE: usize = 512 << 10;

/// The segment size for records of at most `record_bytes_max` bytes.
pub const fn segment_bytes_for(record_bytes_max: usize) -> usize {
    if record_bytes_max <= SEGMENT_BYTES_SMALL / 16 {
        SEGMENT_BYTES_SMALL
    } else if record_bytes_max <= SEGMENT_BYTES_LARGE - BLOCK_MIN_BYTES {
        SEGMENT_BYTES_LARGE
    } else {
        SEGMENT_BYTES_HUGE
    }
}

/// What a ring is to be.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// The directory; made if it is not there.
    pub dir: PathBuf,
    /// What its file names start with, such as `g5`.
    pub name: String,
    /// What file names end in.
    pub extension: &'static str,
    /// The most bytes a file gets; rounded down to whole segments.
    pub file_bytes: u64,
    /// What of it is kept.
    pub limits: Limits,
    /// [`segment_bytes_for`] the longest record; the whole file where the format has no padding
    /// block.
    pub segment_bytes: usize,
    /// Whether unused space is taken up by padding blocks (pcapng), or zero (pcap).
    pub padding_blocks: bool,
}

/// What a ring keeps. Beyond any of these limits its oldest file goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Files that hold packets, the live one included; 0 for no limit. One more is being prepared.
    pub files: usize,
    /// Bytes on disk of all its files, the live and the prepared one included.
    pub bytes: Option<u64>,
    /// How long a file is kept after its last packet.
    pub age: Option<Duration>,
    /// Finished files are compressed by somebody else: one more file may be there at a time, and
    /// what is there then counts.
    pub compressed: bool,
}

impl Limits {
    /// A number of files, 0 for no limit.
    pub fn files(files: usize) -> Limits {
        Limits {
            files,
            ..Limits::default()
        }
    }

    /// Whether old files are given up for new ones.
    pub(super) fn give_up(&self) -> bool {
        self.files != 0 || self.bytes.is_some()
    }

    /// Bytes that finished files may take beside a live one and a prepared one of `capacity` bytes.
    pub(super) fn finished_bytes(&self, capacity: u64) -> Option<u64> {
        let others = if self.compressed { 3 } else { 2 };
        let budget = self.bytes?;
        Some(budget.saturating_sub(capacity.saturating_mul(others)))
    }
}

impl RingConfig {
    /// Bytes that a file of this ring takes on disk until it is cut.
    pub fn capacity_bytes(&self) -> usize {
        let bytes = usize::try_from(self.file_bytes).unwrap_or(usize::MAX / 2);
        self.whole_segments(bytes).max(self.least_bytes())
    }

    /// What of `bytes` makes a file.
    fn whole_segments(&self, bytes: usize) -> usize {
        if self.padding_blocks {
            bytes / self.segment_bytes * self.segment_bytes
        } else {
            bytes & !3
        }
    }

    /// Bytes of the smallest file: a full disk may leave no more.
    fn least_bytes(&self) -> usize {
        if self.padding_blocks {
            self.segment_bytes
        } else {
            SEGMENT_BYTES_SMALL
        }
    }
}

/// The capturing thread's side of the ring.
#[derive(Debug)]
pub struct Ring {
    live: Option<Live>,
    /// That of the next file, but for its capacity.
    geometry: Geometry,
    swapper: Swapper,
    figures: Figures,
}

/// What the ring counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Files begun since the ring was opened.
    pub files_begun: u64,
    /// Times the capturing thread had to wait for the next file.
    pub stalls: u64,
    /// How long it waited in sum.
    pub stalled: Duration,
    /// Bytes of records and blocks committed, padding blocks excluded, in files that hold records.
    pub bytes: u64,
    /// Records appended that did not get into a file, because a page of it could not be stored.
    pub lost_records: u64,
    /// Records that were written to files that others then removed, cut or overwrote.
    pub taken_records: u64,
    /// Records that a stream's reader has not taken yet.
    pub unread_records: u64,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// The live file has no room left: end it, then call [`Ring::next_file`].
    FileFull,
    /// There is no live file: call [`Ring::next_file`].
    NoFile,
}

impl Ring {
    /// Starts the swapper and waits for the first file. No file is touched that was there before,
    /// until [`Ring::take_over`].
    ///
    /// # Errors
    /// When no file can be had: the directory, its space, or the system says no.
    pub fn open(config: RingConfig, store: Store, notices: Notices) -> Result<Ring, StoreError> {
        let capacity = config.capacity_bytes();
        let geometry = Geometry {
            capacity,
            segment_bytes: config.segment_bytes,
            padding_blocks: config.padding_blocks,
            tail_bytes: 0,
        }
        .of_file(capacity);
        if store.is_open_to_others() {
            let dir = config.dir.clone();
            let _ = notices.send(Notice::OpenToOthers { dir });
        }
        let swapper = Swapper::start(config, store, notices)?;
        Ok(Ring {
            live: None,
            geometry,
            swapper,
            figures: Figures::default(),
        })
    }

    /// Says that all has succeeded that may fail when a capture starts: from now on what a killed
    /// run left is finished, and files beyond the limit are removed. A first record says the same.
    pub fn take_over(&self) {
        self.swapper.take_over();
    }

    /// Space for a record of `len` bytes (at least [`HEAD_BYTES`]; a multiple of 4 in pcapng).
    ///
    /// # Errors
    /// [`NoSlot`] says what to do first.
    #[inline]
    pub fn slot(&mut self, len: usize) -> Result<Slot<'_>, NoSlot> {
        let fits = match &self.live {
            Some(live) => len <= live.free_bytes(),
            None => false,
        };
        if !fits {
            self.make_room(len)?;
        }
        match &mut self.live {
            Some(live) => Ok(Slot::new(live, len)),
            None => Err(NoSlot::NoFile),
        }
    }

    /// What is left of the segment, behind an earlier record of the file. `None` where there is
    /// none: [`Ring::slot`] knows what to do.
    #[inline]
    pub fn rest(&mut self) -> Option<Rest<'_>> {
        self.live.as_mut().filter(|live| live.first_us != 0)?.rest()
    }

    /// Ends the live file, and has the next ones divided into segments of `segment_bytes`. One that was
    /// prepared otherwise is made anew.
    #[cold]
    pub fn lay_out(&mut self, segment_bytes: usize) {
        self.end_file();
        if self.geometry.segment_bytes != segment_bytes {
            self.geometry.segment_bytes = segment_bytes;
            self.swapper.lay_out(segment_bytes);
        }
    }

    /// Keeps files within `limits`, of at most `file_bytes` bytes each, from the next one on.
    #[cold]
    pub fn set_limits(&mut self, limits: Limits, file_bytes: u64) {
        self.swapper.set_limits(limits, file_bytes);
    }

    /// Goes on to the next segment that has room for a record of `len` bytes.
    ///
    /// # Errors
    /// [`NoSlot`], as [`Ring::slot`].
    #[cold]
    pub fn make_room(&mut self, len: usize) -> Result<(), NoSlot> {
        self.commit();
        let live = self.live.as_mut().ok_or(NoSlot::NoFile)?;
        if live.next_segment(len) {
            Ok(())
        } else {
            Err(NoSlot::FileFull)
        }
    }

    /// Makes all records appended so far part of the file. If a page of the file could not be
    /// stored since the last commit, what was appended since then is counted as lost instead, and
    /// the file is full.
    #[inline]
    pub fn commit(&mut self) {
        let Some(live) = &mut self.live else { return };
        match live.commit() {
            Committed::Nothing => {}
            Committed::Lost { records } => self.figures.lost_records += records,
            Committed::Done => {
                self.swapper.advanced(live.committed);
                if live.first_us == 0 {
                    return;
                }
                self.figures.bytes += std::mem::take(&mut live.uncounted_bytes);
                if !live.begun {
                    // Only now may readers find it: before its first record, with the interface
                    // that record names, it is no file that all of them take.
                    live.begun = true;
                    self.swapper.begun();
                }
            }
        }
    }

    /// Keeps room for the blocks that end a file: `bytes` of its last segment.
    pub fn keep_for_end(&mut self, bytes: usize) {
        self.geometry.tail_bytes = bytes;
        if let Some(live) = &mut self.live {
            live.keep_for_end(bytes);
        }
    }

    /// Appends one of the blocks that end a file, using the room kept for them. A block that does
    /// not fit is left out.
    pub fn append_end(&mut self, block: &[u8]) {
        if let Some(live) = &mut self.live {
            live.keep_for_end(0);
        }
        self.append_block(block);
    }

    /// Appends a whole block. Returns false if there is no room for it.
    pub fn append_block(&mut self, block: &[u8]) -> bool {
        let (Some(head), Ok(mut slot)) = (
            block.first_chunk::<HEAD_BYTES>().copied(),
            self.slot(block.len()),
        ) else {
            return false;
        };
        let mut space = slot.space();
        space.take_first(HEAD_BYTES);
        space.put(&block[HEAD_BYTES..]);
        slot.append_uncounted(head);
        true
    }

    /// Notes the time of the live file's first record, for its name.
    #[inline]
    pub fn note_first(&mut self, stamp_us: u64) {
        if let Some(live) = &mut self.live
            && live.first_us == 0
        {
            live.first_us = stamp_us;
        }
    }

    /// Whether the live file holds a record.
    pub fn has_records(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.first_us != 0)
    }

    /// Hands the live file to the swapper and takes the next one. Waits only while the swapper is
    /// still at it, and counts that as a stall. Returns false if no file can be had now: packets
    /// are then lost to the writer, and the next call tries again.
    pub fn next_file(&mut self) -> bool {
        self.end_file();
        let (next, waited) = self.swapper.take_next();
        if let Some(waited) = waited {
            self.figures.stalls += 1;
            self.figures.stalled += waited;
        }
        match next {
            Next::Ready(mapping) => self.begin(mapping),
            Next::Failed => return false,
        }
        true
    }

    /// Hands the live file to the swapper, though it is not full, and takes the next one if it is
    /// there. Returns false if it is not: [`Ring::next_file`] waits for it.
    pub fn rotate(&mut self) -> bool {
        self.end_file();
        self.swapper
            .take_ready()
            .map(|mapping| self.begin(mapping))
            .is_some()
    }

    /// Has the swapper call `then` when all files that were handed to it are finished.
    #[cold]
    pub fn when_finished(&self, then: Box<dyn FnOnce() + Send>) {
        self.swapper.when_finished(then);
    }

    fn begin(&mut self, mapping: Mapping) {
        self.swapper.advanced(0);
        self.figures.files_begun += 1;
        let geometry = self.geometry.of_file(mapping.pages().len());
        self.live = Some(Live::new(mapping, geometry));
    }

    fn end_file(&mut self) {
        if let Some(full) = self.take_live() {
            self.swapper.finish(full);
        }
    }

    fn take_live(&mut self) -> Option<Full> {
        self.commit();
        let live = self.live.take()?;
        Some(Full {
            mapping: live.mapping,
            len: live.committed,
            records: live.records,
            first_us: live.first_us,
            damaged: live.damaged,
        })
    }

    /// Ends the ring: the live file is finished, the prepared one removed, the swapper joined.
    /// Returns the ring's files, oldest first, and what it has counted.
    pub fn close(mut self) -> (Vec<PathBuf>, Figures) {
        let last = self.take_live();
        let files = self.swapper.stop(last);
        (files, self.figures())
    }

    /// What the ring has counted.
    pub fn figures(&self) -> Figures {
        Figures {
            lost_records: self.figures.lost_records + self.swapper.lost_records(),
            taken_records: self.swapper.taken_records(),
            ..self.figures
        }
    }
}
