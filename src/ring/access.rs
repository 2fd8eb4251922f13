//! Whose a file is: with which rights it is made, and whether another process has it open.
//!
//! Three checks stand between a capture and another one's file, each of which sees what the others
//! do not: the ring's lock (`flock(2)` on `.g5.lock`), a lock on each file that is written, which a
//! lock file that was removed does not take away, and a lease (`fcntl(2)`, `F_SETLEASE`), which
//! sees any process that has the file open. All of them are the inode's, so neither another name,
//! nor another mount, nor another namespace hides a writer. An overlay does: its inodes are its
//! own.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;

use super::error::StoreError;
use crate::sys::file::{is_open_only_here, is_written_by_nobody};

/// Of a directory that is made: nothing for others.
const DIR_MODE: u32 = 0o750;
/// Of files and locks.
const FILE_MODE: u32 = 0o640;
const ANYBODY_WRITES: u32 = 0o002;
/// What a file of this mode lets its group and others do.
const OTHERS: u32 = 0o077;
/// `OVERLAYFS_SUPER_MAGIC` (`linux/magic.h`).
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Who may read what is captured, besides the user who captures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// The group that directory, files and lock are given to; the process's own where there is
    /// none.
    pub gid: Option<u32>,
}

impl Access {
    /// Makes the ring's directory if it is not there; checks that not everybody may write to it.
    pub(super) fn make_dir(self, dir: &Path) -> Result<(), StoreError> {
        let before = dir.ancestors().find(|above| above.exists());
        let made = self.make_dir_in(dir);
        if made.is_err() {
            // From the bottom up, what was made: nothing else is empty.
            let made = dir.ancestors().take_while(|above| Some(*above) != before);
            for above in made.filter(|above| !above.as_os_str().is_empty()) {
                let _ = fs::remove_dir(above);
            }
        }
        made
    }

    fn make_dir_in(self, dir: &Path) -> Result<(), StoreError> {
        let problem = |source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        };
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(problem)?;
        }
        match DirBuilder::new().mode(DIR_MODE).create(dir) {
            Ok(()) => {
                let made = File::open(dir).map_err(problem)?;
                self.give(&made, DIR_MODE).map_err(|error| {
                    let is_group = self.gid.is_some() && error.raw_os_error() == Some(libc::EPERM);
                    match self.gid.filter(|_| is_group) {
                        Some(gid) => StoreError::Group {
                            path: dir.to_owned(),
                            gid,
                        },
                        None => problem(error),
                    }
                })?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(problem(error)),
        }
        let meta = fs::metadata(dir).map_err(problem)?;
        if !meta.is_dir() {
            return Err(problem(io::ErrorKind::NotADirectory.into()));
        }
        if meta.mode() & ANYBODY_WRITES != 0 {
            let path = dir.to_owned();
            return Err(match keeps_rights(dir) {
                false => StoreError::NoRights { path },
                true => StoreError::AnybodyWrites { path },
            });
        }
        Ok(())
    }

    /// Makes a file that was not there, for this process alone.
    pub(super) fn create(self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        self.give(&file, FILE_MODE)?;
        file.try_lock()?;
        Ok(file)
    }

    /// Opens the lock's file, or makes it.
    pub(super) fn open_lock(self, path: &Path) -> io::Result<File> {
        match open_regular(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path);
        match made {
            Ok(file) => self.give(&file, FILE_MODE).map(|()| file),
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_regular(path),
            Err(error) => Err(error),
        }
    }

    /// Whatever the umask is.
    fn give(self, file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))?;
        match self.gid {
            Some(gid) => fchown(file, None, Some(gid)),
            None => Ok(()),
        }
    }
}

/// A file that goes when it is closed: one without a name, where the file system has such, else its name is
/// taken away at once.
///
/// # Errors
/// What the system says.
pub fn passing(dir: &Path) -> io::Result<File> {
    const MODE: u32 = 0o600;
    let nameless = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let mut open = OpenOptions::new();
    let open = open.read(true).write(true).mode(MODE);
    match open.clone().custom_flags(nameless).open(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
        opened => return opened,
    }
    let path = dir.join(format!(".{}.lwnflog", std::process::id()));
    let file = open.create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Whether files of this directory have the rights that they are given: those of FAT and its like have
/// what the mount says. Where that cannot be tried they have.
pub fn keeps_rights(dir: &Path) -> bool {
    let meta = passing(dir).and_then(|file| file.metadata());
    let mode = meta.ok().map(|meta| meta.mode());
    mode.is_none_or(|mode| mode & OTHERS == 0)
}

/// Opens a plain file that has no other name. No link is followed, no pipe waited for.
fn open_regular(path: &Path) -> io::Result<File> {
    open_plain(path, true)
}

pub(super) fn open_plain(path: &Path, write: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(if write {
            // A pipe opens at once for reading and writing; whoever holds a lease is waited for.
            libc::O_NOFOLLOW
        } else {
            libc::O_NOFOLLOW | libc::O_NONBLOCK
        })
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    if meta.nlink() != 1 {
        return Err(io::Error::other("the file has another name (a hard link)"));
    }
    Ok(file)
}

/// Opens a file of the ring that is going to be written anew. That nobody else has it open must be
/// known.
pub(super) fn open_only_ours(path: &Path) -> io::Result<File> {
    let file = open_regular(path)?;
    refuse_overlay(&file)?;
    if file.try_lock().is_err() || !is_open_only_here(&file) {
        return Err(busy("another process has it open"));
    }
    Ok(file)
}

/// Opens a file of the ring that is going to be finished. That nobody writes it must be known;
/// whoever reads it goes on.
pub(super) fn open_unwritten(path: &Path) -> io::Result<File> {
    let looked_at = open_plain(path, false)?;
    refuse_overlay(&looked_at)?;
    if !is_written_by_nobody(&looked_at) {
        return Err(busy("another process writes it"));
    }
    let file = open_regular(path)?;
    if file.try_lock().is_err() {
        return Err(busy("another process writes it"));
    }
    Ok(file)
}

fn busy(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

fn refuse_overlay(file: &File) -> io::Result<()> {
    if is_on_overlay(file) {
        return Err(io::Error::other(
            "on an overlay it cannot be known whether another process writes it",
        ));
    }
    Ok(())
}

/// Whether the file's inode is an overlay's, beside which the file may have another one.
fn is_on_overlay(file: &File) -> bool {
    #[allow(
        clippy::useless_conversion,
        reason = "the type's width and sign differ by target"
    )]
    rustix::fs::fstatfs(file).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(OVERLAY_MAGIC))
}
