//! Whether the disk has room for what rings may come to take.

use std::fs;

use super::{Store, StoreError};
use crate::ring::Limits;
use crate::sys::cgroup::{is_memory, memory_max};

/// Bytes that files of `file_bytes` within `limits`, and one that is prepared, may come to take, and the
/// option that says so. Without a limit, two must fit.
fn wanted_bytes(limits: Limits, file_bytes: u64) -> (u64, &'static str) {
    let by_files = match limits.files {
        0 => None,
        files => Some((files as u64).saturating_add(1).saturating_mul(file_bytes)),
    };
    match (by_files, limits.bytes) {
        (Some(by_files), Some(bytes)) if by_files < bytes => (by_files, "--file-size or --files"),
        (_, Some(bytes)) => (bytes, "--max-bytes"),
        (Some(by_files), None) => (by_files, "--file-size or --files"),
        (None, None) => (file_bytes.saturating_mul(2), "--file-size"),
    }
}

impl Store {
    /// Bytes of those `wanted` beyond files that are there and will be used again.
    fn missing_bytes(&self, limits: Limits, wanted: u64) -> u64 {
        let owned: u64 = match limits.give_up() {
            false => 0,
            true => {
                let unfinished = self.unfinished.iter().map(|(_, path)| path);
                let finished = self.finished.iter().map(|file| &file.path);
                finished
                    .chain(unfinished)
                    .filter_map(|path| fs::metadata(path).ok())
                    .map(|meta| meta.len())
                    .sum()
            }
        };
        wanted.saturating_sub(owned)
    }
}

/// Says whether the disk has room for all of these rings, which share a directory, each within
/// `limits` with files of `file_bytes`.
///
/// # Errors
/// [`StoreError::Space`], [`StoreError::Memory`], [`StoreError::Directory`].
pub fn check_space(stores: &[Store], limits: Limits, file_bytes: u64) -> Result<(), StoreError> {
    let Some(path) = stores.first().map(|store| store.dir.clone()) else {
        return Ok(());
    };
    let stat = match rustix::fs::statvfs(&path) {
        Ok(stat) => stat,
        Err(error) => {
            let source = error.into();
            return Err(StoreError::Directory { path, source });
        }
    };
    let (wanted, option) = wanted_bytes(limits, file_bytes);
    let sum = wanted.saturating_mul(stores.len() as u64);
    if is_memory(&path)
        && let Some(limit) = memory_max()
        && sum > limit
    {
        let needed = sum;
        return Err(StoreError::Memory {
            path,
            needed,
            limit,
            option,
        });
    }
    if stat.f_blocks == 0 {
        return Ok(()); // ramfs and the like: they do not say
    }
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    let missing = stores
        .iter()
        .map(|store| store.missing_bytes(limits, wanted));
    let needed = missing.fold(0, u64::saturating_add);
    if needed > available {
        return Err(StoreError::Space {
            path,
            needed,
            available,
            option,
        });
    }
    Ok(())
}
