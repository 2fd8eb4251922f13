//! Where a file ends that is still written.
//!
//! A padding block takes up what a segment has left: for good, once the next segment has been begun, or
//! until the next batch. Who takes one for the other passes over packets. The next segment is looked at,
//! and then the padding block once more: segments are filled one after the other, so if the next one has
//! been begun, what stands here then is the last that will.

use super::blocks::Passed;
use super::{Format, Packets};
use crate::format::pcapng::block::PADDING;
use crate::read::ReadError;
use crate::read::options::word;

/// So much before the end is looked at again: a packet's time is in it, if it is a short one.
pub(super) const MARK_BYTES: usize = 512;

impl Packets {
    /// The file is being written, or may be: its end is one for now, and `advance` can be asked again.
    pub fn set_grows(&mut self) {
        // What is compressed was finished before.
        self.grows = self.handle.is_some();
        self.grew |= self.grows;
    }

    /// Whether what was read of the file is not what stands there now: somebody has begun it anew. Asked
    /// each time that its end was met.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::read) fn was_begun_anew(&mut self) -> Result<bool, ReadError> {
        let place = self.position();
        let Some(len) = self.len() else {
            return Ok(false);
        };
        let before = match place.checked_sub(MARK_BYTES as u64) {
            Some(at) => self.input.now_at::<MARK_BYTES>(at),
            None => Ok(None),
        };
        let before = before.map_err(|error| self.said(&error))?;
        let mark = before.map(|before| (place, before));
        let changed = self
            .mark
            .is_some_and(|(at, old)| at == place && mark.is_none_or(|(_, new)| new != old));
        self.mark = mark;
        Ok(len < place || changed)
    }

    /// Looks at what has been written behind the end that was found. False where that cannot be: a stream.
    ///
    /// # Errors
    /// What the system says.
    pub fn look_again(&mut self) -> Result<bool, ReadError> {
        let before = (self.sought, self.skipped);
        let can = self.seek(self.position())?;
        (self.sought, self.skipped) = before;
        Ok(can)
    }

    /// Takes it that nothing more comes: its end is its end.
    pub fn set_ended(&mut self) {
        self.grows = false;
    }

    /// Whether the padding block here is for good.
    pub(super) fn padding_of_live(&mut self, total: usize) -> Result<Passed, ReadError> {
        let place = self.input.position();
        let end = place + total as u64;
        let head = |at| {
            self.input
                .now_at::<8>(at)
                .map_err(|error| self.said(&error))
        };
        let Some(next) = head(end)? else {
            return Ok(Passed::End); // the last segment
        };
        let kind = word(&next, 0, self.big_endian);
        if kind == PADDING || kind == 0 {
            return Ok(Passed::End);
        }
        let now = head(place)?.unwrap_or_default();
        let same = word(&now, 0, self.big_endian) == PADDING
            && word(&now, 4, self.big_endian) as usize == total;
        if same {
            return Ok(Passed::Yes);
        }
        self.look_again()?;
        Ok(Passed::Again)
    }

    /// Whether what is not whole here may be so because it is being written at this moment.
    pub(super) fn is_being_written(&mut self, place: u64) -> Result<bool, ReadError> {
        let Some(segment) = self.segment_bytes.filter(|_| self.format == Format::Pcapng) else {
            return Ok(true);
        };
        let border = place - place % segment + segment;
        let next = self.input.now_at::<8>(border);
        let next = next.map_err(|error| self.said(&error))?;
        let kind = next.map_or(PADDING, |next| word(&next, 0, self.big_endian));
        Ok(kind == PADDING || kind == 0)
    }

    /// Where a live file of lwnflog's ends now: behind all that was committed when this was asked. `None`
    /// of a file that is not in segments.
    ///
    /// # Errors
    /// What the system says.
    pub fn committed(&mut self) -> Result<Option<u64>, ReadError> {
        let (Some(segment), Some(len)) = (self.segment_bytes, self.len()) else {
            return Ok(None);
        };
        if self.format != Format::Pcapng || len <= segment {
            return Ok(None);
        }
        let said = |error| ReadError::of(&self.path, &error);
        let mut last = len.div_ceil(segment) - 1;
        while last > 0 {
            let head = self.input.now_at::<8>(last * segment).map_err(said)?;
            if head.is_some_and(|head| word(&head, 0, self.big_endian) != PADDING) {
                break;
            }
            last -= 1;
        }
        // What has been written of the last one that was begun, by lengths alone.
        let mut at = last * segment;
        let end = at + segment;
        while at < end {
            let Some(head) = self.input.now_at::<8>(at).map_err(said)? else {
                break;
            };
            let (kind, total) = (
                word(&head, 0, self.big_endian),
                u64::from(word(&head, 4, self.big_endian)),
            );
            if kind == PADDING || total < 12 || at + total > end {
                break;
            }
            at += total;
        }
        Ok(Some(at))
    }
}
