//! A ring's finished files, as anybody finds them who has not its lock.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::names::{self, Name, RingFile};

/// A finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Where it is, compressed or not.
    pub path: PathBuf,
    /// When its first packet came, to the second.
    pub begun: SystemTime,
    /// No later than this its last packet had come.
    pub ended: SystemTime,
    /// Its size.
    pub bytes: u64,
}

impl Finished {
    /// The file at `path`; `None` where there is none, or its name says no time.
    pub fn at(path: &Path) -> Option<Finished> {
        let path = names::wherever(path);
        let meta = fs::symlink_metadata(&path).ok()?;
        let (begun, modified) = (names::begun(&path)?, meta.modified().ok()?);
        Some(Finished {
            begun,
            // Somebody has given it another date, which no file had before its first packet. When that was,
            // nobody can say otherwise.
            ended: match modified < begun {
                true => changed(&meta).max(modified),
                false => modified,
            },
            bytes: meta.len(),
            path,
        })
    }
}

/// When the system last changed what it knows of the file.
fn changed(meta: &Metadata) -> SystemTime {
    let secs = Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or_default());
    UNIX_EPOCH
        .checked_add(secs + Duration::from_secs(1))
        .unwrap_or(UNIX_EPOCH)
}

/// The finished files of the ring `ring` in `dir`, oldest first.
///
/// # Errors
/// What the system says of the directory.
pub fn finished_in(dir: &Path, ring: &str) -> io::Result<Vec<Finished>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some(Name::Finished(sequence)) = Name::parse(ring, &path) {
            numbered.extend(Finished::at(&path).map(|file| (sequence, file)));
        }
    }
    numbered.sort_by_key(|(sequence, _)| *sequence);
    Ok(numbered.into_iter().map(|(_, file)| file).collect())
}

/// The file of the ring's, in the directory that `path` is in, which has the number of `file`: under the name
/// that it has by now.
pub fn by_number(path: &Path, file: &RingFile) -> Option<PathBuf> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let entries = fs::read_dir(dir.unwrap_or(Path::new("."))).ok()?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| {
        let name = names::ring_file(path);
        name.is_some_and(|name| name.ring == file.ring && name.sequence == file.sequence)
    })
}
