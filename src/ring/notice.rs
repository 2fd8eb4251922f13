//! What the swapper reports about the ring's files.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use super::store::Recovered;
use crate::numbers::grouped;

/// Why a file gets no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The file system.
    Disk,
    /// The quota of this user, group or project there.
    Quota,
}

impl NoRoom {
    /// That of an error; `None` of any other.
    pub(super) fn of(error: &io::Error) -> Option<NoRoom> {
        match error.kind() {
            io::ErrorKind::StorageFull => Some(NoRoom::Disk),
            io::ErrorKind::QuotaExceeded => Some(NoRoom::Quota),
            _ => None,
        }
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoRoom::Disk => "the disk is full",
            NoRoom::Quota => "the quota is used up",
        })
    }
}

/// What the swapper has to report. Each is sent once, until its cause has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A file of a run that was killed is finished, or it was empty and is removed.
    Recovered(Recovered),
    /// A file is finished: packets go to it no more.
    Finished {
        /// The file.
        path: PathBuf,
    },
    /// Others may read what is captured: the file system does not keep the rights of files.
    OpenToOthers {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk is full: the ring lives with fewer files than asked for.
    RingShrunk {
        /// What is full.
        full: NoRoom,
        /// Files with packets that are left, the live one included.
        files: usize,
    },
    /// The disk is full: a file gets less than was asked for.
    SmallerFile {
        /// What is full.
        full: NoRoom,
        /// Bytes that it gets.
        bytes: u64,
    },
    /// Readers have files open that are removed: they take space beyond the ring's limit.
    Held {
        /// Bytes that such files have taken at one time, so far.
        bytes: u64,
    },
    /// No file can be had: packets are lost to the writer.
    NoFile {
        /// What the system said.
        error: String,
    },
    /// Files can be had again.
    FilesAgain,
    /// Somebody has removed the live file, or cut it: its packets are lost.
    Removed {
        /// Where it was.
        path: PathBuf,
    },
    /// Somebody has written to a file: what is in it is not what was written to it.
    Overwritten {
        /// The file.
        path: PathBuf,
        /// Packets that were written to it.
        records: u64,
    },
    /// A page of the live file could not be stored: an I/O error, or a disk that is full after all.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Packets that were in it and are not.
        records: u64,
    },
    /// The file system has become read-only: packets are in memory that do not get to the disk.
    NotOnDisk {
        /// The file.
        path: PathBuf,
        /// Packets in it.
        records: u64,
        /// Whether none of them is on the disk; else it is not known how many are.
        none: bool,
    },
    /// The file system or its device has failed: packets are in memory that may not get to the disk.
    Failed {
        /// The file.
        path: PathBuf,
        /// Packets in it.
        records: u64,
    },
    /// A file that was to be kept is not.
    NotKept {
        /// Why.
        error: String,
    },
    /// A file could not be cut, renamed or removed; it is there under the name it has.
    NotChanged {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Recovered(Recovered {
                path: Some(path),
                packets,
                damaged_segments,
            }) => write!(
                f,
                "finished {} of a run that was killed: {} packets{}",
                path.display(),
                grouped(*packets),
                if *damaged_segments == 0 {
                    ""
                } else {
                    "; damaged parts were replaced by padding blocks"
                },
            ),
            Notice::Finished { path } => write!(f, "finished {}", path.display()),
            Notice::Recovered(_) => f.write_str("removed an empty file of a run that was killed"),
            Notice::OpenToOthers { dir } => write!(
                f,
                "{}: everybody may read the files here: this file system keeps no rights of single files (FAT, exFAT, \
                 NTFS); mount it with `-o umask=027`",
                dir.display()
            ),
            Notice::RingShrunk { full, files } => write!(
                f,
                "{full}: the ring goes on with {files} files, the oldest is overwritten early; make room"
            ),
            Notice::SmallerFile { full, bytes } => write!(
                f,
                "{full}: the next file gets the {} bytes that are left; make room",
                grouped(*bytes)
            ),
            Notice::Held { bytes } => write!(
                f,
                "readers have had removed files of {} bytes open: until they close them, the ring takes so much more \
                 than its limit",
                grouped(*bytes)
            ),
            Notice::NoFile { error } => write!(
                f,
                "no file to write to ({error}): packets count as dropped by the writer until there is one"
            ),
            Notice::FilesAgain => f.write_str("there is a file to write to again: writing goes on"),
            Notice::Removed { path } => write!(
                f,
                "{}: somebody has removed this file, or cut it, and with it the packets that were written to it, \
                 which count as taken; the next file begins",
                path.display()
            ),
            Notice::Overwritten { path, records } => write!(
                f,
                "{}: somebody has written to this file: the {} packets that were written to it are no longer what it \
                 holds, and count as taken; `lwnflog repair` makes readable what is left",
                path.display(),
                grouped(*records)
            ),
            Notice::Damaged { path, records } => write!(
                f,
                "{}: pages of it could not be stored, or were removed (an I/O error, a full disk, somebody who \
                 cut holes): {} packets that were written to it count as dropped by the writer",
                path.display(),
                grouped(*records)
            ),
            Notice::NotOnDisk {
                path,
                records,
                none: true,
            } => write!(
                f,
                "{}: the file system had become read-only: its {} packets are not on the disk, and count as dropped \
                 by the writer",
                path.display(),
                grouped(*records)
            ),
            Notice::NotOnDisk { path, records, .. } => write!(
                f,
                "{}: the file system has become read-only while it was written: it is not known how many of its {} \
                 packets are on the disk",
                path.display(),
                grouped(*records)
            ),
            Notice::Failed { path, records } => write!(
                f,
                "{}: the file system, or the disk under it, has failed: it is not known how many of its {} packets \
                 are on the disk",
                path.display(),
                grouped(*records)
            ),
            Notice::NotKept { error } => write!(f, "not kept: {error}"),
            Notice::NotChanged { path, error } => {
                write!(
                    f,
                    "{}: it cannot be cut, renamed or removed, and is left as it is: {error}",
                    path.display()
                )
            }
        }
    }
}

/// Where notices go.
pub type Notices = Sender<Notice>;
