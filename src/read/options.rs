//! Options of pcapng's blocks (section 3.5 of the draft), and numbers of either byte order.

/// Options of a block: code, and where the value begins and ends.
pub(super) struct Options<'a> {
    block: &'a [u8],
    at: usize,
    end: usize,
    big_endian: bool,
    is_damaged: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(block: &'a [u8], at: usize, end: usize, big_endian: bool) -> Options<'a> {
        Options {
            block,
            at,
            end,
            big_endian,
            is_damaged: false,
        }
    }

    /// Whether one of those that were gone through does not fit into the block.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged
    }
}

impl Iterator for Options<'_> {
    type Item = (u16, usize, usize);

    fn next(&mut self) -> Option<(u16, usize, usize)> {
        if self.at + 4 > self.end {
            self.is_damaged |= self.at != self.end;
            return None;
        }
        let code = half(self.block, self.at, self.big_endian);
        let len = usize::from(half(self.block, self.at + 2, self.big_endian));
        let from = self.at + 4;
        let to = from + len;
        if code == 0 {
            // Behind the end nothing stands, or what fills up the block.
            let behind = self.block.get(self.at..self.end).unwrap_or_default();
            self.is_damaged |= behind.iter().any(|byte| *byte != 0);
            self.at = self.end;
            return None;
        }
        self.at = from + len.next_multiple_of(4);
        self.is_damaged |= self.at > self.end;
        (to <= self.end).then_some((code, from, to))
    }
}

/// Four bytes as a number; 0 where they are not there.
#[inline]
pub(super) fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        Some(word) if big_endian => u32::from_be_bytes(*word),
        Some(word) => u32::from_le_bytes(*word),
        None => 0,
    }
}

#[inline]
pub(super) fn half(bytes: &[u8], at: usize, big_endian: bool) -> u16 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        Some(half) if big_endian => u16::from_be_bytes(*half),
        Some(half) => u16::from_le_bytes(*half),
        None => 0,
    }
}
