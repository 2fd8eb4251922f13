//! Whether the disk has room for what rings may come to take.

use std::fs;

use super::{Store, StoreError};

impl Store {
    /// Bytes that `files` files of `file_bytes` at one time, and one that is prepared, take beyond
    /// those that are there and will be used again. With `files` 0, two must fit.
    fn missing_bytes(&self, files: usize, file_bytes: u64) -> u64 {
        let at_one_time = if files == 0 {
            2
        } else {
            (files as u64).saturating_add(1)
        };
        let wanted = at_one_time.saturating_mul(file_bytes);
        let owned: u64 = match files {
            0 => 0,
            _ => {
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

/// Says whether the disk has room for all of these rings, which share a directory, each of `files`
/// files of `file_bytes`.
///
/// # Errors
/// [`StoreError::Space`], [`StoreError::Directory`].
pub fn check_space(stores: &[Store], files: usize, file_bytes: u64) -> Result<(), StoreError> {
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
    if stat.f_blocks == 0 {
        return Ok(()); // ramfs and the like: they do not say
    }
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    let missing = stores
        .iter()
        .map(|store| store.missing_bytes(files, file_bytes));
    let needed = missing.fold(0, u64::saturating_add);
    if needed > available {
        return Err(StoreError::Space {
            path,
            needed,
            available,
        });
    }
    Ok(())
}
