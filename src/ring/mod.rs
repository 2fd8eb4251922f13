//! The file ring: a capture appended to memory-mapped files, round robin.
//!
//! The capturing thread owns a [`Ring`] and appends to the live file; a [`swapper`] thread makes
//! the next file ready and finishes the last one, so that the capturing thread never opens, maps,
//! faults in or closes anything. Two files are mapped at any time.
//!
//! # Validity at every moment
//!
//! A file is divided into *segments* of fixed size; a record never crosses from one into the next.
//! What a segment does not use (yet) is covered by one filler block, whose length stands at its
//! start and in the segment's last four bytes. Appending a batch therefore is: the records, behind
//! the first eight bytes of the first one, where the old filler still begins; the new filler; its
//! length at the segment's end; and last, in one store, the eight bytes held back. A reader sees
//! the segment either before or after the batch. (Between the last two stores, two instructions
//! apart, the lengths disagree: see `docs/FORMAT.md`.)

mod ahead;
pub mod prepare;
pub mod repair;
pub mod store;
pub mod swapper;

use std::path::PathBuf;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

pub use store::{Store, StoreError, check_space};
pub use swapper::Notice;

use crate::record::pcapng::{self, BLOCK_MIN_BYTES};
use crate::record::{HEAD_BYTES, Head};
use crate::sys::mapping::Mapping;
use crate::sys::prefetch::prefetch;
use swapper::{Next, Swapper};

/// Segment of files whose records are short.
pub const SEGMENT_BYTES_SMALL: usize = 64 << 10;
/// Segment of files whose records may hold whole packets.
pub const SEGMENT_BYTES_LARGE: usize = 256 << 10;

/// The segment size for records of at most `record_bytes_max` bytes.
pub const fn segment_bytes_for(record_bytes_max: usize) -> usize {
    if record_bytes_max <= SEGMENT_BYTES_SMALL / 16 {
        SEGMENT_BYTES_SMALL
    } else {
        SEGMENT_BYTES_LARGE
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
    /// Files that hold packets, the live one included; 0 for no limit. One more is being prepared.
    pub files: usize,
    /// [`segment_bytes_for`] the longest record; the whole file where the format has no filler.
    pub segment_bytes: usize,
    /// Whether unused space is covered by filler blocks (pcapng), or zero (pcap).
    pub filler: bool,
}

impl RingConfig {
    /// Bytes that a file of this ring takes on disk until it is cut.
    pub fn capacity_bytes(&self) -> usize {
        let bytes = usize::try_from(self.file_bytes).unwrap_or(usize::MAX / 2);
        if self.filler {
            (bytes / self.segment_bytes).max(1) * self.segment_bytes
        } else {
            bytes & !3
        }
    }
}

/// The file that packets go to.
#[derive(Debug)]
struct Live {
    mapping: Mapping,
    /// Where the next record goes.
    position: usize,
    /// The end of the current segment.
    segment_end: usize,
    /// Up to where records may go in it: less than its end only in a file's last segment, where
    /// the blocks that end the file need room.
    record_end: usize,
    /// The first record that is not committed yet: where it starts, and its head.
    pending: Option<(usize, Head)>,
    /// Records appended since the last commit.
    uncommitted_records: u64,
    /// Bytes of the file that are committed.
    committed: usize,
    /// A page could not be stored: nothing more goes to this file.
    damaged: bool,
    /// Time of the first record, microseconds since 1970.
    first_us: u64,
    /// It holds a record that is committed, and so has its live name.
    begun: bool,
}

impl Live {
    /// Bytes of the segment that records may still take.
    ///
    /// What is left in it always has room for a filler block. A record that ended just where the
    /// segment does would, while it is written, overwrite the length at the end of the filler that
    /// readers still see.
    #[inline]
    fn free_bytes(&self) -> usize {
        self.record_end
            .saturating_sub(self.position + BLOCK_MIN_BYTES)
    }
}

/// The capturing thread's side of the ring.
#[derive(Debug)]
pub struct Ring {
    live: Option<Live>,
    /// What [`Ring::slot`] checks, kept flat: zero where there is no live file.
    segment_bytes: usize,
    capacity: usize,
    filler: bool,
    tail_bytes: usize,
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
    /// Bytes of records and blocks committed, fillers excluded.
    pub bytes: u64,
    /// Records appended that did not get into a file, because a page of it could not be stored.
    pub lost_records: u64,
}

/// Space for one record.
#[derive(Debug)]
pub struct Slot<'a> {
    live: &'a mut Live,
    len: usize,
}

impl Slot<'_> {
    /// The record's bytes. The first [`HEAD_BYTES`] are not to be written.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.live.mapping.bytes()[self.live.position..][..self.len]
    }

    /// Appends the record. It is in the file once [`Ring::commit`] is called.
    #[inline]
    pub fn append(self, head: Head) {
        self.live.uncommitted_records += 1;
        self.append_uncounted(head);
    }

    #[inline]
    fn append_uncounted(self, head: Head) {
        let Slot { live, len } = self;
        let start = live.position;
        if live.pending.is_some() {
            live.mapping.bytes()[start..start + HEAD_BYTES].copy_from_slice(&head);
        } else {
            live.pending = Some((start, head));
        }
        live.position = start + len;
    }
}

/// How far ahead of a record memory is asked for: a ring is larger than any cache, so each store is the
/// first for long to where it goes.
const SOON_BYTES: usize = 4096;

/// Space for records that follow one another: what is left of the segment.
#[derive(Debug)]
pub struct Rest<'a> {
    free: &'a mut [u8],
    /// Where `free` ends in the file.
    end: usize,
    /// Records appended to it.
    appended: u64,
    position: &'a mut usize,
    pending: &'a mut Option<(usize, Head)>,
    uncommitted_records: &'a mut u64,
}

impl Rest<'_> {
    /// Appends a record of `len` bytes, as `encode` writes it: all but the head, which it returns.
    /// False where there is no room for it.
    #[inline]
    pub fn append(&mut self, len: usize, encode: impl FnOnce(&mut [u8]) -> Head) -> bool {
        if len > self.free.len() {
            return false;
        }
        let (record, free) = std::mem::take(&mut self.free).split_at_mut(len);
        prefetch(free, SOON_BYTES);
        let head = encode(record);
        if self.pending.is_some() {
            record[..HEAD_BYTES].copy_from_slice(&head);
        } else {
            *self.pending = Some((self.end - free.len() - len, head));
        }
        self.free = free;
        self.appended += 1;
        true
    }

    /// Records appended so far.
    #[inline]
    pub fn appended(&self) -> u64 {
        self.appended
    }
}

impl Drop for Rest<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.position = self.end - self.free.len();
        *self.uncommitted_records += self.appended;
    }
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
    /// Starts the swapper and waits for the first file.
    ///
    /// # Errors
    /// When no file can be had: the directory, its space, or the system says no.
    pub fn open(
        config: RingConfig,
        store: Store,
        notices: swapper::Notices,
    ) -> Result<Ring, StoreError> {
        let (segment_bytes, filler) = (config.segment_bytes, config.filler);
        let capacity = config.capacity_bytes();
        let swapper = Swapper::start(config, store, notices)?;
        Ok(Ring {
            live: None,
            segment_bytes: if filler { segment_bytes } else { capacity },
            capacity,
            filler,
            tail_bytes: 0,
            swapper,
            figures: Figures::default(),
        })
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
            Some(live) => Ok(Slot { live, len }),
            None => Err(NoSlot::NoFile),
        }
    }

    /// What is left of the segment, behind an earlier record of the file. `None` where there is none:
    /// [`Ring::slot`] knows what to do.
    #[inline]
    pub fn rest(&mut self) -> Option<Rest<'_>> {
        let live = self.live.as_mut().filter(|live| live.first_us != 0)?;
        let end = live.position + live.free_bytes();
        Some(Rest {
            free: live.mapping.bytes().get_mut(live.position..end)?,
            end,
            appended: 0,
            position: &mut live.position,
            pending: &mut live.pending,
            uncommitted_records: &mut live.uncommitted_records,
        })
    }

    /// Goes on to the next segment that has room for a record of `len` bytes.
    ///
    /// # Errors
    /// [`NoSlot`], as [`Ring::slot`].
    #[cold]
    pub fn make_room(&mut self, len: usize) -> Result<(), NoSlot> {
        self.commit();
        let (segment_bytes, capacity, tail_bytes) =
            (self.segment_bytes, self.capacity, self.tail_bytes);
        let Some(live) = &mut self.live else {
            return Err(NoSlot::NoFile);
        };
        while live.segment_end < capacity && !live.damaged {
            live.position = live.segment_end;
            live.segment_end += segment_bytes;
            live.record_end = record_end(live.segment_end, capacity, tail_bytes);
            if len <= live.free_bytes() {
                return Ok(());
            }
        }
        Err(NoSlot::FileFull)
    }

    /// Makes all records appended so far part of the file. If a page of the file could not be
    /// stored since the last commit, what was appended since then is counted as lost instead, and
    /// the file is full.
    #[inline]
    pub fn commit(&mut self) {
        let Some(live) = &mut self.live else { return };
        let Some((start, head)) = live.pending.take() else {
            return;
        };
        let (position, segment_end) = (live.position, live.segment_end);
        let records = std::mem::take(&mut live.uncommitted_records);
        if live.mapping.replaced_pages() != 0 {
            self.figures.lost_records += records;
            live.damaged = true;
            (live.position, live.record_end) = (start, 0);
            return;
        }
        let bytes = live.mapping.bytes();
        if self.filler {
            pcapng::fill(&mut bytes[position..segment_end]);
        }
        // All of the above is stored before the head that makes it visible. x86 and the page cache
        // keep the order of stores; the fence keeps the compiler (and other processors) from
        // changing it.
        fence(Ordering::Release);
        bytes[start..start + HEAD_BYTES].copy_from_slice(&head);
        live.committed = position;
        self.swapper.advanced(position);
        if !live.begun && live.first_us != 0 {
            // Only now may readers find it: before its first record, with the device that record
            // names, it is no file that all of them take.
            live.begun = true;
            self.swapper.begun();
        }
        self.figures.bytes += (position - start) as u64;
    }

    /// Keeps room for the blocks that end a file: `bytes` of its last segment.
    pub fn keep_for_end(&mut self, bytes: usize) {
        self.tail_bytes = bytes;
        if let Some(live) = &mut self.live {
            live.record_end = if live.damaged {
                0
            } else {
                record_end(live.segment_end, self.capacity, bytes)
            };
        }
    }

    /// Appends one of the blocks that end a file, using the room kept for them. A block that does
    /// not fit is left out.
    pub fn append_end(&mut self, block: &[u8]) {
        if let Some(live) = &mut self.live
            && !live.damaged
        {
            live.record_end = live.segment_end;
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
        slot.bytes()[HEAD_BYTES..].copy_from_slice(&block[HEAD_BYTES..]);
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
        self.finish_live();
        let (next, waited) = self.swapper.take_next();
        if let Some(waited) = waited {
            self.figures.stalls += 1;
            self.figures.stalled += waited;
        }
        let Next::Ready(mapping) = next else {
            return false;
        };
        self.swapper.advanced(0);
        self.figures.files_begun += 1;
        let segment_end = self.segment_bytes.min(self.capacity);
        self.live = Some(Live {
            mapping,
            position: 0,
            segment_end,
            record_end: record_end(segment_end, self.capacity, self.tail_bytes),
            pending: None,
            uncommitted_records: 0,
            damaged: false,
            committed: 0,
            first_us: 0,
            begun: false,
        });
        true
    }

    fn finish_live(&mut self) {
        self.commit();
        if let Some(live) = self.live.take() {
            self.swapper
                .finish(live.mapping, live.committed, live.first_us);
        }
    }

    /// Ends the ring: the live file is finished, the prepared one removed, the swapper joined.
    /// Returns the ring's files, oldest first.
    pub fn close(mut self) -> Vec<PathBuf> {
        self.finish_live();
        self.swapper.stop()
    }

    /// What the ring has counted.
    pub fn figures(&self) -> Figures {
        self.figures
    }
}

fn record_end(segment_end: usize, capacity: usize, tail_bytes: usize) -> usize {
    if segment_end >= capacity {
        segment_end.saturating_sub(tail_bytes)
    } else {
        segment_end
    }
}
