//! Where LZ4's frames begin and end (the format's frame description, version 1.6): a decoder does not tell the
//! end of a file from that of a frame.

use std::io::{self, BufRead, Read};

const FRAME: u32 = 0x184d_2204;
/// These 16 are to be skipped.
const SKIPPED: u32 = 0x184d_2a50;
// Flags of a frame.
const DICTIONARY: u8 = 1;
const CONTENT_CHECKSUM: u8 = 4;
const CONTENT_SIZE: u8 = 8;
const BLOCK_CHECKSUM: u8 = 16;
/// Of a block's size: it is not compressed.
const AS_IT_IS: u32 = 1 << 31;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Magic,
    Flags,
    BlockSize,
    SkippedSize,
    /// Nothing that is known here.
    Unknown,
}

/// Follows frames as they are read.
#[derive(Debug)]
pub(super) struct Watched<R> {
    from: R,
    next: Next,
    flags: u8,
    /// Bytes of what comes next that have been read.
    head: [u8; 4],
    have: usize,
    /// Bytes before that.
    pass: u64,
}

impl<R> Watched<R> {
    pub(super) fn of(from: R) -> Watched<R> {
        Watched {
            from,
            next: Next::Magic,
            flags: 0,
            head: [0; 4],
            have: 0,
            pass: 0,
        }
    }

    /// Whether no frame was begun that has not ended.
    pub(super) fn is_between_frames(&self) -> bool {
        let ended = self.next == Next::Magic && self.have == 0 && self.pass == 0;
        ended || self.next == Next::Unknown
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.next != Next::Unknown {
            let passed = bytes
                .len()
                .min(usize::try_from(self.pass).unwrap_or(usize::MAX));
            self.pass -= passed as u64;
            bytes = &bytes[passed..];
            let wanted = if self.next == Next::Flags { 2 } else { 4 };
            let taken = bytes.len().min(wanted - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == wanted {
                self.have = 0;
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let word = u32::from_le_bytes(self.head);
        if self.next == Next::Flags {
            self.flags = self.head[0];
        }
        let has = |flag: u8, bytes: u64| if self.flags & flag != 0 { bytes } else { 0 };
        (self.next, self.pass) = match self.next {
            Next::Magic if word == FRAME => (Next::Flags, 0),
            Next::Magic if word & !15 == SKIPPED => (Next::SkippedSize, 0),
            // Size and dictionary, and the header's checksum.
            Next::Flags => (
                Next::BlockSize,
                has(CONTENT_SIZE, 8) + has(DICTIONARY, 4) + 1,
            ),
            Next::BlockSize if word == 0 => (Next::Magic, has(CONTENT_CHECKSUM, 4)),
            Next::BlockSize => {
                let bytes = u64::from(word & !AS_IT_IS);
                (Next::BlockSize, bytes + has(BLOCK_CHECKSUM, 4))
            }
            Next::SkippedSize => (Next::Magic, word.into()),
            Next::Magic | Next::Unknown => (Next::Unknown, 0),
        };
    }
}

impl<R: BufRead> Watched<R> {
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.from.fill_buf()?.is_empty())
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.follow(to.get(..read).unwrap_or_default());
        Ok(read)
    }
}
