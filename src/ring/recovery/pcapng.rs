//! A pcapng file: what cannot be read of a segment becomes a padding block.

use std::io;

use super::{Repaired, Whose, invalid};
use crate::format::HEAD_BYTES;
use crate::format::pcapng::block::{self, BLOCK_MIN_BYTES, put_padding};
use crate::format::pcapng::reader::{Block, u32_at};
use crate::ring::parts::Parts;

/// Times run back by less than this when two processors' packets meet in one group. What is older
/// than the file's first packet by more is left from the file that was recycled.
const STALE_SLACK_US: u64 = 1_000_000;

const UNKNOWN: &str = "damage before the first border of segments: without the name that the ring gave it nothing says \
                       that what is behind is lwnflog's";

/// A recycled file's padding blocks may hold what it held before. Returns whether one did.
fn clear_padding(mut bytes: &mut [u8]) -> bool {
    let mut held = false;
    while let Some(block) = Block::read(bytes) {
        let (kind, len) = (block.kind(), block.bytes().len());
        let (block, rest) = bytes.split_at_mut(len);
        if kind == block::PADDING && block[HEAD_BYTES..len - 4].iter().any(|byte| *byte != 0) {
            block::clear(block);
            held = true;
        }
        bytes = rest;
    }
    held
}

/// A section header is not larger.
pub(super) const HEADER_MAX_BYTES: usize = 1 << 20;
/// No ring's segments are larger; one is in memory at a time.
const SEGMENT_MAX_BYTES: usize = 16 << 20;

pub(super) fn repair(
    parts: &mut impl Parts,
    boot_id: Option<&str>,
    whose: Whose,
) -> io::Result<(Repaired, usize)> {
    let len = parts.len();
    let start = parts.part(0..len.min(HEADER_MAX_BYTES))?;
    let Some(header) = ours_at(start, 0, (0, true)) else {
        return Err(invalid("its section header is damaged"));
    };
    // Another program's file may hold blocks that this one does not know: to cut there is to lose
    // them.
    let Some(segment_bytes) = header.segment_bytes() else {
        return Err(invalid(
            "a pcapng file of another program, or its section header is damaged",
        ));
    };
    if header.bytes().len() + BLOCK_MIN_BYTES > segment_bytes {
        return Err(invalid("its section header is larger than its segments"));
    }
    if segment_bytes > SEGMENT_MAX_BYTES {
        return Err(invalid(
            "its section header is damaged: no segment of lwnflog's is as large as it says",
        ));
    }
    let mut walk = Walk {
        segment_bytes,
        same_boot: boot_id
            .is_some_and(|boot_id| header.noted("boot=").starts_with(boot_id.as_bytes())),
        interfaces: 0,
        ticks_per_us: 1,
        in_segments: whose != Whose::Unknown,
        over: false,
        found: Repaired::default(),
        end: 0,
    };
    let mut start = 0;
    while start < len && !walk.over {
        let end = start.saturating_add(segment_bytes).min(len);
        if walk.segment(start, parts.part(start..end)?, end == len) {
            parts.keep(start..end)?;
        }
        start = end;
    }
    if whose == Whose::Own {
        for start in (0..walk.end).step_by(segment_bytes) {
            let segment = start..walk.end.min(start.saturating_add(segment_bytes));
            if clear_padding(parts.part(segment.clone())?) {
                parts.keep(segment)?;
            }
        }
    }
    Ok((walk.found, walk.end))
}

/// The walk over a pcapng file's segments.
struct Walk {
    segment_bytes: usize,
    /// The machine has not been started anew since the file was begun.
    same_boot: bool,
    /// Interfaces declared so far.
    interfaces: u32,
    /// Of the file's times.
    ticks_per_us: u64,
    /// Its name or a padding block up to a border says that it is in segments. Until then what stands behind
    /// damage may be what somebody has sent, as for who reads it.
    in_segments: bool,
    /// What is behind is not looked at.
    over: bool,
    found: Repaired,
    /// Where the last block ends that is no padding block.
    end: usize,
}

impl Walk {
    fn stamp_us(&self, block: &Block<'_>) -> Option<u64> {
        Some(block.stamp_ticks()? / self.ticks_per_us)
    }

    /// Whether the padding block at `at` in its segment goes on behind the end of the file.
    fn is_cut(&self, at: usize, bytes: &[u8]) -> bool {
        let len = u32_at(bytes, 4).map_or(0, |len| len as usize);
        let in_segment = len.is_multiple_of(4) && len <= self.segment_bytes - at;
        in_segment && len > bytes.len()
    }

    /// Puts a padding block over what is unreadable of the segment that begins at `start`. Returns
    /// whether it was changed.
    fn segment(&mut self, start: usize, bytes: &mut [u8], last: bool) -> bool {
        let (mut at, mut changed) = (0, false);
        while at < bytes.len() {
            let readable = ours_at(bytes, at, (start, last))
                .filter(|block| {
                    self.same_boot || !is_stale(self.stamp_us(block), self.found.first_us)
                })
                .map(|block| {
                    let len = block.bytes().len();
                    let found = (block.kind(), len, block.interface());
                    (found, self.stamp_us(&block), block.ticks_per_us())
                });
            let Some(((kind, len, interface), stamp_us, ticks_per_us)) = readable else {
                if !self.in_segments && !last {
                    self.over = true;
                    self.found.lose(start + at, UNKNOWN);
                } else if u32_at(bytes, at) == Some(block::PADDING) {
                    if last && self.is_cut(at, &bytes[at..]) {
                        self.found.lose(
                            start + at,
                            "a padding block that is cut: the file went on behind it",
                        );
                    }
                } else if bytes[at..].iter().any(|byte| *byte != 0) {
                    self.found.damaged_segments += 1;
                    self.found.lose(start + at, "bytes that are no block");
                }
                // Less than a padding block takes is left at the file's end at the most: there it
                // is cut off.
                put_padding(&mut bytes[at..]);
                return true;
            };
            let declares = kind == block::INTERFACE_DESCRIPTION;
            if interface
                .is_some_and(|id| id > self.interfaces || id == self.interfaces && !declares)
            {
                // What declared its interface, or one before it, is gone: readers refuse a file
                // that names an unknown one, and count those that are declared.
                bytes[at..at + 4].copy_from_slice(&block::PADDING.to_le_bytes());
                changed = true;
                self.found.orphans += 1;
                self.found.lose(
                    start + at,
                    "a block of an interface whose description is lost",
                );
                continue;
            }
            self.interfaces += u32::from(declares);
            if declares {
                self.ticks_per_us = ticks_per_us.unwrap_or(1);
            }
            if let Some(stamp_us) = stamp_us {
                self.found.packets += 1;
                if self.found.first_us == 0 {
                    self.found.first_us = stamp_us;
                }
            }
            at += len;
            if kind != block::PADDING {
                self.end = start + at;
            } else if at == self.segment_bytes {
                self.in_segments = true;
            }
        }
        changed
    }
}

/// The block at `at` in a segment, of which `place` says where it begins in the file, and whether
/// it is the last: one that lwnflog writes there.
fn ours_at(bytes: &[u8], at: usize, (start, last): (usize, bool)) -> Option<Block<'_>> {
    let block = Block::read(bytes.get(at..)?)?;
    let in_place = block.kind() != block::SECTION_HEADER || start + at == 0;
    // Behind it there is room for a padding block, unless the file ends.
    let left = bytes.len() - at - block.bytes().len();
    let room = left == 0 || left >= BLOCK_MIN_BYTES || last;
    (in_place && room && block.fields_fit()).then_some(block)
}

fn is_stale(stamp_us: Option<u64>, first_us: u64) -> bool {
    stamp_us.is_some_and(|stamp_us| stamp_us.saturating_add(STALE_SLACK_US) < first_us)
}
