//! Blocks read back: borrowed, every length checked before it is believed.
//!
//! A live file's segments are read as a finished one's: at every moment each is a run of whole
//! blocks (`docs/FORMAT.md`). What is damaged ends the run.

use std::str::{self, FromStr};

use super::block::{self, BLOCK_MIN_BYTES, option};

// Bytes of the blocks without options (draft-ietf-opsawg-pcapng, sections 4.1 to 4.6).
const SECTION_HEADER_MIN_BYTES: usize = 28;
const INTERFACE_MIN_BYTES: usize = 20;
const STATISTICS_MIN_BYTES: usize = 24;
const PACKET_MIN_BYTES: usize = 32;

/// A whole block, borrowed: its two lengths agree, and it is inside the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block at the start of `bytes`. `None` where none begins there that is whole.
    pub fn read(bytes: &'a [u8]) -> Option<Block<'a>> {
        let len = u32_at(bytes, 4)? as usize;
        let bytes = bytes.get(..len)?;
        let whole = len >= BLOCK_MIN_BYTES
            && len.is_multiple_of(4)
            && u32_at(bytes, len - 4)? as usize == len;
        whole.then_some(Block { bytes })
    }

    /// All of its bytes, from its type to its second length.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its type, as [`block`] names them.
    pub fn kind(&self) -> u32 {
        u32_at(self.bytes, 0).unwrap_or(0)
    }

    /// Whether every field and option is inside the block: a page that was lost leaves heads
    /// without their bodies. False, too, of a block of a type that lwnflog does not write.
    pub fn fields_fit(&self) -> bool {
        self.fields_fit_here().unwrap_or(false)
    }

    fn fields_fit_here(&self) -> Option<bool> {
        let (bytes, len) = (self.bytes, self.bytes.len());
        let options = |fixed: usize| bytes.get(fixed..len - 4);
        Some(match self.kind() {
            block::SECTION_HEADER => len >= SECTION_HEADER_MIN_BYTES,
            block::INTERFACE_DESCRIPTION => {
                len >= INTERFACE_MIN_BYTES
                    && options_fit(options(INTERFACE_MIN_BYTES - 4)?, |code| {
                        (code == option::IF_TSRESOL).then_some(1)
                    })
            }
            block::INTERFACE_STATISTICS => {
                len >= STATISTICS_MIN_BYTES
                    && options_fit(options(STATISTICS_MIN_BYTES - 4)?, |code| {
                        (option::ISB_STARTTIME..=option::ISB_USRDELIV)
                            .contains(&code)
                            .then_some(8)
                    })
            }
            block::ENHANCED_PACKET => {
                let captured = u32_at(bytes, 20)? as usize;
                len.checked_sub(PACKET_MIN_BYTES)? >= captured
                    && options_fit(
                        options(PACKET_MIN_BYTES - 4 + captured.next_multiple_of(4))?,
                        |code| match code {
                            option::EPB_FLAGS => Some(4),
                            option::EPB_DROPCOUNT => Some(8),
                            _ => None,
                        },
                    )
            }
            block::PADDING => true,
            _ => false,
        })
    }

    /// The id of the interface that it names, or declares, if it says which.
    pub fn interface(&self) -> Option<u32> {
        match self.kind() {
            block::ENHANCED_PACKET | block::INTERFACE_STATISTICS => u32_at(self.bytes, 8),
            block::INTERFACE_DESCRIPTION => self.noted_number("lwnflog interface="),
            _ => None,
        }
    }

    /// Of an interface's description: the ticks of a microsecond, by its `if_tsresol`. `None` of a
    /// resolution that lwnflog does not write.
    pub fn ticks_per_us(&self) -> Option<u64> {
        if self.kind() != block::INTERFACE_DESCRIPTION {
            return None;
        }
        let mut options = self
            .bytes
            .get(INTERFACE_MIN_BYTES - 4..self.bytes.len() - 4)?;
        while let Some((code, len, behind)) = option_head(options) {
            match code {
                option::END => break,
                option::IF_TSRESOL => {
                    return match behind.first()? {
                        6 => Some(1),
                        9 => Some(1000),
                        _ => None,
                    };
                }
                _ => options = behind.get(len.next_multiple_of(4)..)?,
            }
        }
        Some(1) // the draft's default is a microsecond
    }

    /// Of a packet: its time since 1970, in the ticks of its interface.
    pub fn stamp_ticks(&self) -> Option<u64> {
        if self.kind() != block::ENHANCED_PACKET {
            return None;
        }
        let (high, low) = (u32_at(self.bytes, 12)?, u32_at(self.bytes, 16)?);
        Some(u64::from(high) << 32 | u64::from(low))
    }

    /// Of a packet: what of it was captured.
    pub(crate) fn data(&self) -> Option<&'a [u8]> {
        let captured = u32_at(self.bytes, 20)? as usize;
        let end = self.bytes.len() - 4;
        self.bytes.get(PACKET_MIN_BYTES - 4..end)?.get(..captured)
    }

    /// Of a packet: how many were lost before it. `None` where its options are damaged.
    pub(crate) fn lost_before(&self) -> Option<u64> {
        let captured = u32_at(self.bytes, 20)? as usize;
        let begin = PACKET_MIN_BYTES - 4 + captured.checked_next_multiple_of(4)?;
        let mut options = self.bytes.get(begin..self.bytes.len() - 4)?;
        // Most have the direction alone.
        if options.len() <= 12 {
            return Some(0);
        }
        let mut lost = 0;
        while let Some((code, len, behind)) = option_head(options) {
            match (code, behind.first_chunk::<8>()) {
                (option::END, _) => break,
                (option::EPB_DROPCOUNT, Some(count)) if len == 8 => {
                    lost = u64::from_le_bytes(*count);
                }
                _ => {}
            }
            options = behind.get(len.next_multiple_of(4)..)?;
        }
        Some(lost)
    }

    /// Of a section header: the bytes of a segment, as lwnflog's comment says. `None` of another
    /// program's.
    pub fn segment_bytes(&self) -> Option<usize> {
        self.noted_number("lwnflog segment=")
            .filter(|bytes: &usize| *bytes >= 4096 && bytes.is_multiple_of(4))
    }

    /// What stands behind `key` in its comment; nothing where it does not stand there.
    pub fn noted(&self, key: &str) -> &'a [u8] {
        let mut places = self.bytes.windows(key.len());
        match places.position(|window| window == key.as_bytes()) {
            Some(at) => &self.bytes[at + key.len()..],
            None => &[],
        }
    }

    /// The number behind `key` in its comment.
    fn noted_number<T: FromStr>(&self, key: &str) -> Option<T> {
        let digits = self
            .noted(key)
            .split(|byte| !byte.is_ascii_digit())
            .next()?;
        str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// The code and length of the option that `options` begin with, and what stands behind these two.
fn option_head(options: &[u8]) -> Option<(u16, usize, &[u8])> {
    let ([code0, code1, len0, len1], behind) = options.split_first_chunk::<4>()?;
    let code = u16::from_le_bytes([*code0, *code1]);
    let len = usize::from(u16::from_le_bytes([*len0, *len1]));
    Some((code, len, behind))
}

/// Whether options (section 3.5) are inside the block, each as long as `bytes` says where it is of
/// one length.
fn options_fit(mut rest: &[u8], bytes: impl Fn(u16) -> Option<usize>) -> bool {
    while let Some((code, len, behind)) = option_head(rest) {
        if code == option::END {
            return len == 0 && behind.iter().all(|byte| *byte == 0);
        }
        if bytes(code).is_some_and(|bytes| bytes != len) {
            return false;
        }
        match behind.get(len.next_multiple_of(4)..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Four bytes of `bytes` as a number, little endian. `None` where they are not there.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|word| u32::from_le_bytes(*word))
}
