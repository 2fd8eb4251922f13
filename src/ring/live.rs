//! The file that packets go to: records are reserved, written where they stay, and committed.

use super::rest::Rest;
use crate::format::pcapng::block::{self, BLOCK_MIN_BYTES};
use crate::format::{HEAD_BYTES, Head, Space};
use crate::sys::mapping::Mapping;

/// How a file is divided while it is written. Each file has its own: the next one's may differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Bytes of a file.
    pub(super) capacity: usize,
    /// Bytes of a segment: the whole file where the format has no padding block.
    pub(super) segment_bytes: usize,
    /// Whether what a segment does not use is replaced by a padding block.
    pub(super) padding_blocks: bool,
    /// Bytes of a file's last segment that are kept for the blocks that end it.
    pub(super) tail_bytes: usize,
}

impl Geometry {
    /// The same for a file of `capacity` bytes: the disk may leave a file less than another.
    pub(super) fn of_file(self, capacity: usize) -> Geometry {
        Geometry {
            capacity,
            segment_bytes: if self.padding_blocks {
                self.segment_bytes
            } else {
                capacity
            },
            ..self
        }
    }

    /// Up to where records may go in the segment that ends at `segment_end`.
    fn record_end(&self, segment_end: usize) -> usize {
        if segment_end >= self.capacity {
            segment_end.saturating_sub(self.tail_bytes)
        } else {
            segment_end
        }
    }
}

/// The file that packets go to.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) mapping: Mapping,
    geometry: Geometry,
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
    /// Records that are committed.
    pub(super) records: u64,
    /// Bytes of the file that are committed.
    pub(super) committed: usize,
    /// A page could not be stored: nothing more goes to this file.
    pub(super) damaged: bool,
    /// Of them, those of blocks and records that [`Figures`](super::Figures) does not count yet: a
    /// file without a record is thrown away.
    pub(super) uncounted_bytes: u64,
    /// Time of the first record, microseconds since 1970; 0 is none.
    pub(super) first_us: u64,
    /// It holds a record that is committed, and so has its live name.
    pub(super) begun: bool,
}

impl Live {
    /// A file that is ready and holds nothing.
    pub(super) fn new(mapping: Mapping, geometry: Geometry) -> Live {
        let segment_end = geometry.segment_bytes.min(geometry.capacity);
        Live {
            mapping,
            geometry,
            position: 0,
            segment_end,
            record_end: geometry.record_end(segment_end),
            pending: None,
            uncommitted_records: 0,
            damaged: false,
            records: 0,
            committed: 0,
            uncounted_bytes: 0,
            first_us: 0,
            begun: false,
        }
    }

    /// Bytes of the segment that records may still take.
    ///
    /// What is left in it always has room for a padding block. A record that ended just where the
    /// segment does would, while it is written, overwrite the length at the end of the padding
    /// block that readers still see.
    #[inline]
    pub(super) fn free_bytes(&self) -> usize {
        self.record_end
            .saturating_sub(self.position + BLOCK_MIN_BYTES)
    }

    /// What is left of the segment.
    #[inline]
    pub(super) fn rest(&mut self) -> Option<Rest<'_>> {
        let end = self.position + self.free_bytes();
        Some(Rest::new(
            self.mapping.space(self.position..end)?,
            end,
            &mut self.position,
            &mut self.pending,
            &mut self.uncommitted_records,
        ))
    }

    /// Goes on to the next segment that has room for a record of `len` bytes; what was appended is
    /// committed. False where there is none.
    pub(super) fn next_segment(&mut self, len: usize) -> bool {
        let geometry = self.geometry;
        while self.segment_end < geometry.capacity && !self.damaged {
            if geometry.padding_blocks
                && let Some(padding) = self.mapping.space(self.position..self.segment_end)
            {
                // The file may be a recycled one: what it held is not to be handed on with this
                // one.
                block::clear(padding);
            }
            self.position = self.segment_end;
            self.segment_end += geometry.segment_bytes;
            self.record_end = geometry.record_end(self.segment_end);
            if len <= self.free_bytes() {
                return true;
            }
        }
        false
    }

    /// Keeps so many bytes of the last segment for the blocks that end the file; 0 lets them in.
    pub(super) fn keep_for_end(&mut self, tail_bytes: usize) {
        self.geometry.tail_bytes = tail_bytes;
        if !self.damaged {
            self.record_end = self.geometry.record_end(self.segment_end);
        }
    }

    /// Makes what was appended part of the file.
    #[inline]
    pub(super) fn commit(&mut self) -> Committed {
        let Some((start, head)) = self.pending.take() else {
            return Committed::Nothing;
        };
        let (position, segment_end) = (self.position, self.segment_end);
        let records = std::mem::take(&mut self.uncommitted_records);
        if self.mapping.replaced_pages() != 0 {
            self.damaged = true;
            (self.position, self.record_end) = (start, 0);
            return Committed::Lost { records };
        }
        if self.geometry.padding_blocks
            && let Some(rest) = self.mapping.space(position..segment_end)
        {
            block::put_padding(rest);
        }
        // After all of the above: it makes it visible.
        if let Some(mut place) = self.mapping.space(start..start + HEAD_BYTES) {
            place.publish_head(head);
        }
        // The commit's own stores may have been the ones that failed. What is readable all the same
        // is counted when the file is finished.
        if self.mapping.replaced_pages() != 0 {
            (self.damaged, self.record_end) = (true, 0);
        }
        self.records += records;
        self.committed = position;
        self.uncounted_bytes += (position - start) as u64;
        Committed::Done
    }
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    /// There was nothing to commit.
    Nothing,
    /// All that was appended is part of the file now.
    Done,
    /// A page could not be stored: so many records are in no file, and this one is full.
    Lost {
        /// Records that were appended since the last commit.
        records: u64,
    },
}

/// Space for one record.
#[derive(Debug)]
pub struct Slot<'a> {
    live: &'a mut Live,
    len: usize,
}

impl<'a> Slot<'a> {
    /// `len` bytes of the segment, which has room for them.
    #[inline]
    pub(super) fn new(live: &'a mut Live, len: usize) -> Slot<'a> {
        Slot { live, len }
    }

    /// The record's space. The first [`HEAD_BYTES`] are not to be written.
    #[inline]
    pub fn space(&mut self) -> Space<'_> {
        let start = self.live.position;
        let space = self.live.mapping.space(start..start + self.len);
        space.unwrap_or_else(|| unreachable!("a slot is inside its file"))
    }

    /// Appends the record. It is in the file once [`Ring::commit`](super::Ring::commit) is called.
    #[inline]
    pub fn append(self, head: Head) {
        self.live.uncommitted_records += 1;
        self.append_uncounted(head);
    }

    /// Appends what is no record.
    #[inline]
    pub(super) fn append_uncounted(self, head: Head) {
        let Slot { live, len } = self;
        let start = live.position;
        if live.pending.is_some() {
            if let Some(place) = live.mapping.space(start..start + HEAD_BYTES) {
                place.put(&head);
            }
        } else {
            live.pending = Some((start, head));
        }
        live.position = start + len;
    }
}
