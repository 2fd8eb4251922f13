//! Memory that datagrams are received into.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut, MmapOptions};

/// The size of a large page on most machines.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// A receive buffer in large pages, where the system has them to give.
///
/// A batch fills dozens of small pages. A thread that has slept until it came finds none of their
/// translations in the processor, and looks each up twice, in the kernel's copy and in the walk:
/// that cost a fifth of the capturing thread's time (docs/ARCHITECTURE.md, "Large pages").
#[derive(Debug)]
pub struct Buffer {
    map: MmapMut,
    len: usize,
}

impl Buffer {
    /// `len` bytes, all zero, and in memory from the beginning.
    ///
    /// # Errors
    /// What `mmap(2)` answers: `ENOMEM`.
    pub fn new(len: usize) -> io::Result<Buffer> {
        let whole_pages = len.max(1).next_multiple_of(LARGE_PAGE_BYTES);
        let map = MmapOptions::new().len(whole_pages).map_anon()?;
        // Transparent huge pages may be off, or not in this kernel: small ones do as well.
        let _ = map.advise(Advice::HugePage);
        let mut buffer = Buffer { map, len };
        buffer.fill(0); // so that no receive call meets a page that is not there yet
        Ok(buffer)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has none of the system calls")]
    fn it_is_as_long_as_asked_for() {
        for len in [0, 1, LARGE_PAGE_BYTES, LARGE_PAGE_BYTES + 1] {
            let mut buffer = Buffer::new(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(1);
        }
    }
}
