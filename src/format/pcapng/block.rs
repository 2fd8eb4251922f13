//! pcapng's blocks (draft-ietf-opsawg-pcapng, section 3.1): their types, how long they are, how one
//! is put together, and the padding block, for space without records.

use crate::format::{HEAD_BYTES, Head, Space};

/// Section Header Block (block types: sections 4 and 11.1 of the draft).
pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// Interface Description Block.
pub const INTERFACE_DESCRIPTION: u32 = 1;
/// Enhanced Packet Block.
pub const ENHANCED_PACKET: u32 = 6;
/// Interface Statistics Block.
pub const INTERFACE_STATISTICS: u32 = 5;
/// The padding block, ours, from the local-use range: space that holds no record (yet).
pub const PADDING: u32 = 0x8000_6c77;

/// Type, total length, and total length again at the end.
pub const BLOCK_MIN_BYTES: usize = 12;

/// Option codes (sections 3.5, 4.1 to 4.6).
pub(crate) mod option {
    pub(crate) const END: u16 = 0;
    pub(crate) const COMMENT: u16 = 1;
    pub(crate) const SHB_OS: u16 = 3;
    pub(crate) const SHB_USERAPPL: u16 = 4;
    pub(crate) const IF_NAME: u16 = 2;
    pub(crate) const IF_DESCRIPTION: u16 = 3;
    pub(crate) const IF_TSRESOL: u16 = 9;
    pub(crate) const EPB_FLAGS: u16 = 2;
    pub(crate) const EPB_DROPCOUNT: u16 = 4;
    pub(crate) const ISB_STARTTIME: u16 = 2;
    pub(crate) const ISB_ENDTIME: u16 = 3;
    pub(crate) const ISB_FILTERACCEPT: u16 = 6;
    pub(crate) const ISB_OSDROP: u16 = 7;
    pub(crate) const ISB_USRDELIV: u16 = 8;
}

/// The head of a block: type and total length.
#[inline]
pub(super) fn head(kind: u32, total: [u8; 4]) -> Head {
    let kind = kind.to_le_bytes();
    [
        kind[0], kind[1], kind[2], kind[3], total[0], total[1], total[2], total[3],
    ]
}

/// Lays a padding block over all of `space` (0 bytes, or 12 and more, a multiple of 4): its length
/// at the end first, its head last.
#[inline]
pub fn put_padding<'a>(space: impl Into<Space<'a>>) {
    let mut space = space.into();
    if space.len() < BLOCK_MIN_BYTES {
        return;
    }
    let total = len_u32(space.len()).to_le_bytes();
    space.publish_tail(total);
    if let Some(mut place) = space.first_chunk::<HEAD_BYTES>() {
        place.put(head(PADDING, total));
    }
}

/// Makes what is inside a padding block zero.
pub fn clear<'a>(padding: impl Into<Space<'a>>) {
    let mut inside = padding.into();
    if inside.take_first(HEAD_BYTES).is_some() && inside.take_last(4).is_some() {
        inside.zero();
    }
}

#[inline]
pub(super) const fn pad4(len: usize) -> usize {
    (len + 3) & !3
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "no block, nor what is in one, has 4 GiB: a packet has less than 64 KiB"
)]
pub(super) const fn len_u32(len: usize) -> u32 {
    len as u32
}

/// A block under construction, away from the hot path.
pub(super) struct Block {
    bytes: Vec<u8>,
    options: bool,
}

impl Block {
    pub(super) fn new(kind: u32) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]); // the total length, when it is known
        Block {
            bytes,
            options: false,
        }
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn stamp(&mut self, stamp_ticks: u64) {
        self.u64(stamp_ticks.rotate_left(32));
    }

    pub(super) fn option(&mut self, code: u16, value: &[u8]) {
        self.u16(code);
        self.u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        self.bytes
            .extend_from_slice(&value[..value.len().min(u16::MAX.into())]);
        self.bytes.resize(pad4(self.bytes.len()), 0);
        self.options = true;
    }

    pub(super) fn option_stamp(&mut self, code: u16, stamp_ticks: u64) {
        self.option(code, &stamp_ticks.rotate_left(32).to_le_bytes());
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.options {
            self.u16(option::END);
            self.u16(0);
        }
        let total = len_u32(self.bytes.len() + 4);
        self.u32(total);
        self.bytes[4..8].copy_from_slice(&total.to_le_bytes());
        self.bytes
    }
}
