//! What is left of a segment, taken record by record.

use crate::format::{Head, Space};

/// How far ahead of a record memory is asked for: a ring is larger than any cache, so each store is
/// the first for long to where it goes.
const SOON_BYTES: usize = 4096;

/// Space for records that follow one another: what is left of the segment.
#[derive(Debug)]
pub struct Rest<'a> {
    free: Space<'a>,
    /// Where `free` ends in the file.
    end: usize,
    /// Records appended to it.
    appended: u64,
    position: &'a mut usize,
    pending: &'a mut Option<(usize, Head)>,
    uncommitted_records: &'a mut u64,
}

impl<'a> Rest<'a> {
    /// `free` bytes of a file, up to `end` there, and what of the file changes with each record.
    #[inline]
    pub(super) fn new(
        free: Space<'a>,
        end: usize,
        position: &'a mut usize,
        pending: &'a mut Option<(usize, Head)>,
        uncommitted_records: &'a mut u64,
    ) -> Rest<'a> {
        Rest {
            free,
            end,
            appended: 0,
            position,
            pending,
            uncommitted_records,
        }
    }

    /// Space for a record of `len` bytes. `None` where there is no room for it. It is taken, and
    /// has to be written.
    #[inline]
    pub fn slot(&mut self, len: usize) -> Option<RestSlot<'_, 'a>> {
        let record = self.free.take_first(len)?;
        self.free.prefetch(SOON_BYTES);
        Some(RestSlot { record, rest: self })
    }

    /// Records appended so far.
    #[inline]
    pub fn appended(&self) -> u64 {
        self.appended
    }
}

/// Space for one record.
#[derive(Debug)]
pub struct RestSlot<'s, 'a> {
    record: Space<'a>,
    rest: &'s mut Rest<'a>,
}

impl RestSlot<'_, '_> {
    /// The record's space. The first [`HEAD_BYTES`](crate::format::HEAD_BYTES) are not to be
    /// written.
    #[inline]
    pub fn space(&mut self) -> Space<'_> {
        self.record.by_ref()
    }

    /// Appends the record. It is in the file once [`Ring::commit`](super::Ring::commit) is called.
    #[inline]
    pub fn append(mut self, head: Head) {
        let rest = self.rest;
        if rest.pending.is_none() {
            *rest.pending = Some((rest.end - rest.free.len() - self.record.len(), head));
        } else if let Some(mut place) = self.record.first_chunk() {
            place.put(head);
        }
        rest.appended += 1;
    }
}

impl Drop for Rest<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.position = self.end - self.free.len();
        *self.uncommitted_records += self.appended;
    }
}
