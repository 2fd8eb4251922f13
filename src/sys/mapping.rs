//! One file mapped for writing, from `mmap` to `munmap`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::bus::Watch;
use super::space::Space;

/// A shared, writable mapping of a file's first bytes.
///
/// Other processes may read the file meanwhile. That nobody else changes its length is for the
/// owner to see to (the ring's lock); should it happen all the same, [`super::bus`] catches it.
#[derive(Debug)]
pub struct Mapping {
    // Field order is drop order: the watch ends before the mapping does.
    watch: Watch,
    pages: Pages,
}

/// The pages of a mapping, for a thread that makes them ready and does not touch what is in them.
/// They stay mapped until this is dropped as well.
#[derive(Debug, Clone)]
pub struct Pages(Arc<MmapRaw>);

impl Pages {
    /// Bytes that are mapped.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes pages present and writable, so that a store to them does not fault.
    ///
    /// # Errors
    /// What `madvise(MADV_POPULATE_WRITE)` answers: `EFAULT` on a full disk, `EINVAL` before
    /// Linux 5.14.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        self.0
            .advise_range(Advice::PopulateWrite, range.start, range.len())
    }
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which must be that long.
    ///
    /// # Errors
    /// What `mmap` answers.
    pub fn new(file: &File, len: usize) -> io::Result<Mapping> {
        let raw = MmapOptions::new().len(len).map_raw(file)?;
        Ok(Mapping {
            watch: Watch::new(raw.as_mut_ptr() as usize, len),
            pages: Pages(Arc::new(raw)),
        })
    }

    /// Some of the mapped bytes, to write to; `None` where they are not mapped.
    #[inline]
    pub fn space(&mut self, range: Range<usize>) -> Option<Space<'_>> {
        let raw = &*self.pages.0;
        let len = range.end.checked_sub(range.start)?;
        if range.end > raw.len() {
            return None;
        }
        // SAFETY: the range lies in one mapping, readable and writable, which lives as long as
        // `pages` does. Only spaces of the one `Mapping` write to it, which is borrowed for
        // writing; `Pages` gives no access, and there is no reference to a mapped byte. Other
        // processes may read the file and are given no means to write to it; should they, nothing
        // here loads what they stored. A file cut under the mapping raises SIGBUS, which `Watch`
        // turns into a counted loss.
        Some(unsafe { Space::new(raw.as_mut_ptr().wrapping_add(range.start), len) })
    }

    /// Its pages.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// How many of the mapped bytes are in memory, in per cent.
    pub fn resident_percent(&self) -> usize {
        let page = rustix::param::page_size();
        let raw = &*self.pages.0;
        let pages = raw.len().div_ceil(page);
        let mut states = vec![0u8; pages];
        // SAFETY: the range is one mapping that `self` keeps alive, its start is page aligned, and
        // `states` has a byte for each of its pages.
        let failed =
            unsafe { libc::mincore(raw.as_mut_ptr().cast(), raw.len(), states.as_mut_ptr()) };
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
