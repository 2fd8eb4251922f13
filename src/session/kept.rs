//! A file's second name, and what names take.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::index;

/// Why a file is not kept.
pub(super) enum NotKept {
    /// The ring has given it up, or somebody has moved it.
    Gone,
    /// Anything else, in words.
    Because(String),
}

/// Gives a file another name in `dir`.
pub(super) fn link(file: &Path, dir: &Path) -> Result<(), NotKept> {
    let to = dir.join(file.file_name().unwrap_or_default());
    let said = |error: io::Error| NotKept::Because(cannot_link(file, &to, &error));
    match fs::hard_link(file, &to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
            match (id(file), id(&to)) {
                (Ok(one), Ok(other)) if one == other => Ok(()), // kept already
                (Err(_), _) => Err(NotKept::Gone),
                _ => Err(said(error)),
            }
        }
        Ok(()) => {
            // Where it is not made yet, readers make it.
            let _ = fs::hard_link(index::beside(file), index::beside(&to));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => Err(NotKept::Gone),
        Err(error) => Err(said(error)),
    }
}

pub(super) fn cannot_link(file: &Path, to: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::CrossesDevices => format!(
            "{} is on another file system than {}: a file stays where it is, under another name; name a directory \
             of the ring's own file system",
            to.display(),
            file.display()
        ),
        io::ErrorKind::PermissionDenied if error.raw_os_error() == Some(libc::EPERM) => format!(
            "{}: it cannot be kept as {}: the file system has no second names for a file (FAT has none), or does not \
             allow them",
            file.display(),
            to.display()
        ),
        _ => format!(
            "{}: it cannot be kept as {}: {error}",
            file.display(),
            to.display()
        ),
    }
}

/// Bytes of all files below `dir`; 0 where there is none.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let metas = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())));
    metas
        .map(|(meta, path)| {
            if meta.is_dir() {
                bytes_below(&path)
            } else {
                meta.len()
            }
        })
        .sum()
}
