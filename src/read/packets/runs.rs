//! Parts of a file instead of all of it, and many packets at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::blocks::is_extreme;
use super::declared::Declared;
use super::noted::flags_alone;
use super::{DATA, Format, Packets, noted};
use crate::format::pcapng::block::{
    ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, PADDING,
};
use crate::read::handle::Handle;
use crate::read::options::word;
use crate::read::{ReadError, Record};

/// Why [`Packets::each`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Each {
    /// There are no more packets.
    Ended,
    /// So many bytes have been read.
    More,
    /// It was asked to.
    Stopped,
}

impl Packets {
    /// Opens parts of a pcapng file, each of which should begin and end between two blocks.
    ///
    /// # Errors
    /// What the system says, and a file that is no capture.
    pub fn open_parts(
        handle: &Arc<Handle>,
        runs: VecDeque<Range<u64>>,
        declared: Arc<Declared>,
    ) -> Result<Packets, ReadError> {
        let mut packets = Packets::of_handle(handle)?;
        (packets.interfaces, packets.places) = declared.known();
        packets.declared = Some(declared);
        (packets.runs, packets.until, packets.one_section) = (runs, 0, true);
        packets.lent = 0;
        Ok(packets)
    }

    /// Goes on to the next part. False where there is none, and where the last one did not end where it
    /// should have.
    #[cold]
    pub(super) fn next_run(&mut self) -> Result<bool, ReadError> {
        self.crossed |= self.until != 0 && self.position() > self.until;
        if self.crossed {
            return Ok(false);
        }
        let Some(run) = self.runs.pop_front() else {
            return Ok(false);
        };
        if run.start == 0 {
            self.interfaces.clear();
            self.places.clear();
            self.interface_bytes = 0;
        }
        if self.position() != run.start {
            self.seek(run.start)?;
            self.sought = run.start != 0;
        }
        (self.proven, self.until) = (run.start, run.end);
        Ok(true)
    }

    /// Whether parts did not end where they should have: blocks do not know of segments, whatever the file
    /// says of itself. It has been read up to where it stands.
    pub(in crate::read) fn has_crossed(&self) -> bool {
        self.crossed
    }

    /// Whether nothing more can be read of it.
    pub(in crate::read) fn is_over(&self) -> bool {
        self.over
    }

    /// Goes on from where it stands, block by block, to the file's end.
    pub(in crate::read) fn go_on_by_blocks(&mut self) {
        (self.crossed, self.one_section) = (false, false);
        self.segment_bytes = None;
        self.runs.clear();
        self.until = u64::MAX;
    }

    /// Goes to a place where segments border. Says what kind of block begins there; `None` where no
    /// whole one of lwnflog's does.
    ///
    /// # Errors
    /// What the system says.
    pub fn border(&mut self, place: u64) -> Result<Option<u32>, ReadError> {
        if !self.seek(place)? || !self.has(12)? {
            return Ok(None);
        }
        let (kind, total) = self.head();
        let known = matches!(
            kind,
            ENHANCED_PACKET | INTERFACE_DESCRIPTION | INTERFACE_STATISTICS | PADDING
        );
        let segment = self.segment_bytes().unwrap_or(0);
        let fits = total >= 12 && total.is_multiple_of(4) && total as u64 <= segment;
        if !known || !fits || !self.has(total)? {
            return Ok(None);
        }
        let behind = word(self.input.rest(), total - 4, self.big_endian);
        Ok(Some(kind).filter(|_| behind as usize == total))
    }

    /// Reads the declaration that stands here. False where none does.
    pub(super) fn declare_here(&mut self) -> bool {
        let there = self.has(12).unwrap_or(false);
        let (kind, total) = self.head();
        let there = there
            && kind == INTERFACE_DESCRIPTION
            && total >= 20
            && self.has(total).unwrap_or(false);
        if there {
            self.declare(total);
        }
        there
    }

    /// Goes through packets until `visit` says no, or so many bytes have been read.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn each(
        &mut self,
        bytes: u64,
        mut visit: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Each, ReadError> {
        let end = self.position().saturating_add(bytes);
        loop {
            if self.format == Format::Pcapng && !self.big_endian && !self.fly(&mut visit) {
                return Ok(Each::Stopped);
            }
            if self.position() >= end {
                return Ok(Each::More);
            }
            if !self.advance()? {
                return Ok(Each::Ended);
            }
            if self.record().is_some_and(|record| !visit(&record)) {
                return Ok(Each::Stopped);
            }
        }
    }

    /// Goes through packets that stand one behind the other, as far as they have been read and are as
    /// most are. False where `visit` has said no.
    #[inline]
    fn fly(&mut self, visit: &mut impl FnMut(&Record<'_>) -> bool) -> bool {
        let window = self.input.rest();
        let left = self.until.saturating_sub(self.input.position());
        let len = window
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut rest = window.get(self.lent..len).unwrap_or(&[]);
        let (mut passed, mut goes_on) = (0, true);
        while let Some(head) = rest.first_chunk::<DATA>() {
            let field = |at: usize| {
                u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
            };
            let (total, captured) = (field(4) as usize, field(20) as usize);
            if field(0) != ENHANCED_PACKET || !total.is_multiple_of(4) {
                break;
            }
            let options = DATA + ((captured + 3) & !3);
            let (Some(block), Some(interface)) =
                (rest.get(..total), self.interfaces.get(field(8) as usize))
            else {
                break;
            };
            // What is not whole is looked at more closely, not here.
            let behind = options + 4 <= total && word(block, total - 4, false) as usize == total;
            if !behind {
                break;
            }
            let (mut comment, mut note) = ("", "");
            let flags;
            if let Some(alone) = flags_alone(block, options, false) {
                flags = alone;
            } else {
                let (lost_before, words);
                (lost_before, flags, words) = noted(block, options, false);
                let text = |(from, to)| std::str::from_utf8(block.get(from..to).unwrap_or(&[]));
                comment = text(words.comment).unwrap_or("");
                note = text(words.note).unwrap_or("");
                // What is counted is so elsewhere.
                if lost_before != 0 || words.others || words.damaged {
                    break;
                }
            }
            let time_ns = interface.time_ns(u64::from(field(12)) << 32 | u64::from(field(16)));
            if is_extreme(time_ns) {
                break;
            }
            let record = Record {
                time_ns,
                interface,
                data: &block[DATA..DATA + captured],
                original_len: field(24),
                lost_before: 0,
                flags,
                comment,
                note,
            };
            passed += total;
            rest = &rest[total..];
            if !visit(&record) {
                goes_on = false;
                break;
            }
        }
        if passed != 0 {
            self.lent += passed;
            self.found = None;
        }
        goes_on
    }
}
