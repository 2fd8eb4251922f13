//! Making a file ready: its space reserved, its pages in memory, padding blocks in its segments.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

use crate::format::pcapng::block;
use crate::sys::mapping::{Mapping, Pages};

/// Zeros are written and pages are populated in steps of this size: large enough that the page
/// cache takes them as large folios (the mapping then costs a fifth as much), small enough that
/// the swapper never holds a lock of the file system for long.
const STEP_BYTES: usize = 2 << 20;
/// A recycled file of which less than this is in memory is written anew: overwriting it in place
/// would read every page back from disk first.
const RESIDENT_PERCENT_MIN: usize = 95;

/// How a file is divided while it is made ready.
#[derive(Debug, Clone, Copy)]
pub struct FileGeometry {
    /// Its length while it is live.
    pub capacity: usize,
    /// Where padding blocks go.
    pub segment_bytes: usize,
    /// Whether there are padding blocks; else the file must be zero.
    pub padding_blocks: bool,
}

/// Makes `file` ready to be appended to, and maps it. It may be new and empty, or an old one to be
/// recycled, whose cached pages are used again.
///
/// # Errors
/// `StorageFull`, and whatever else the file system answers.
pub fn prepare(file: &File, geometry: FileGeometry) -> io::Result<Mapping> {
    let capacity = geometry.capacity;
    if file.metadata()?.len() > capacity as u64 {
        // Recycled from a ring of larger files: what is behind the new end would be read with it.
        file.set_len(capacity as u64)?;
    }
    let old_len = usize::try_from(file.metadata()?.len())
        .unwrap_or(usize::MAX)
        .min(capacity);
    match fallocate(file, FallocateFlags::empty(), 0, capacity as u64) {
        Ok(()) => {}
        // The zeros written below take the space then.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(capacity as u64)?,
        Err(error) => return Err(error.into()),
    }
    let mapping = Mapping::new(file, capacity)?;
    let recyclable = geometry.padding_blocks
        && old_len > 0
        && mapping.resident_percent() >= RESIDENT_PERCENT_MIN * old_len / capacity;
    write_zeros(file, if recyclable { old_len } else { 0 }, capacity)?;
    populate(file, mapping.pages(), capacity)?;
    let mut mapping = mapping;
    if geometry.padding_blocks {
        for start in (0..capacity).step_by(geometry.segment_bytes) {
            let end = capacity.min(start + geometry.segment_bytes);
            if let Some(segment) = mapping.space(start..end) {
                block::put_padding(segment);
            }
        }
    }
    Ok(mapping)
}

fn write_zeros(file: &File, from: usize, to: usize) -> io::Result<()> {
    static ZEROS: [u8; STEP_BYTES] = [0; STEP_BYTES];
    let mut at = from;
    while at < to {
        // Steps end on multiples of the step, so that folios are aligned.
        let step = (STEP_BYTES - at % STEP_BYTES).min(to - at);
        file.write_all_at(&ZEROS[..step], at as u64)?;
        at += step;
    }
    Ok(())
}

fn populate(file: &File, pages: &Pages, capacity: usize) -> io::Result<()> {
    let mut at = 0;
    while at < capacity {
        let step = STEP_BYTES.min(capacity - at);
        match pages.populate(at..at + step) {
            Ok(()) => {}
            // Linux before 5.14: the capturing thread then faults for itself.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            // "Bad address" is what a page without space is called here (FACTS: EFAULT).
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                // A byte of it by a call says what has run out.
                return Err(match file.write_all_at(&[0], at as u64) {
                    Ok(()) => io::ErrorKind::StorageFull.into(),
                    Err(cause) => cause,
                });
            }
            Err(error) => return Err(error),
        }
        at += step;
    }
    Ok(())
}
