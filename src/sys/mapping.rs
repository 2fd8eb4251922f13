//! One file mapped for writing, from `mmap` to `munmap`.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapMut, MmapOptions};

use super::bus::Watch;

/// A shared, writable mapping of a file's first bytes.
///
/// Other processes may read the file meanwhile. That nobody else changes its length is for the
/// owner to see to (the ring's lock); should it happen all the same, [`super::bus`] catches it.
#[derive(Debug)]
pub struct Mapping {
    // Field order is drop order: the watch ends before the mapping does.
    watch: Watch,
    map: MmapMut,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which must be that long.
    ///
    /// # Errors
    /// What `mmap` answers.
    pub fn new(file: &File, len: usize) -> io::Result<Mapping> {
        // SAFETY: the caller's file is open for reading and writing. Its pages are shared with
        // other processes, which are given no means to write to it; a file cut under the mapping
        // raises SIGBUS, which `Watch` turns into a counted loss.
        let map = unsafe { MmapOptions::new().len(len).map_mut(file)? };
        Ok(Mapping {
            watch: Watch::new(map.as_ptr() as usize, len),
            map,
        })
    }

    /// The mapped bytes.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// Makes pages present and writable, so that a store to them does not fault.
    ///
    /// # Errors
    /// What `madvise(MADV_POPULATE_WRITE)` answers: `EFAULT` on a full disk, `EINVAL` before
    /// Linux 5.14.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        self.map
            .advise_range(Advice::PopulateWrite, range.start, range.len())
    }

    /// How many of the mapped bytes are in memory, in per cent.
    pub fn resident_percent(&self) -> usize {
        let page = rustix::param::page_size();
        let pages = self.map.len().div_ceil(page);
        let mut states = vec![0u8; pages];
        // SAFETY: the range is one mapping that `self` keeps alive, its start is page aligned, and
        // `states` has a byte for each of its pages.
        let failed = unsafe {
            libc::mincore(
                self.map.as_ptr() as *mut libc::c_void,
                self.map.len(),
                states.as_mut_ptr(),
            )
        };
        if failed != 0 || pages == 0 {
            return 0;
        }
        states.iter().filter(|state| *state & 1 != 0).count() * 100 / pages
    }

    /// Pages that could not be stored to the file ([`super::bus`]).
    #[inline]
    pub fn replaced_pages(&self) -> u64 {
        self.watch.replaced_pages()
    }
}
