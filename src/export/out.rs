//! Where a data set is: in a directory, or in a bucket of an S3-compatible store.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock, syncfs};
use rustix::process::geteuid;

#[cfg(feature = "s3")]
use super::bucket::Bucket;
use super::{S3, scheme};
use crate::read::line::shown;

/// So many parts are flushed to the disk one by one; of more the whole file system is, once.
const SYNCED_MAX: usize = 64;
/// No mark is longer.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A place for parts, which are there as a whole or not at all.
#[derive(Debug)]
pub enum Out {
    /// A directory.
    Directory(PathBuf),
    /// A bucket, or what begins with a prefix there.
    #[cfg(feature = "s3")]
    Bucket(Bucket),
}

/// A part that is being written.
pub(super) struct Begun {
    pub(super) file: File,
    /// In a directory.
    name: Option<Unfinished>,
}

/// A file that goes away unless it gets its name.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Out {
    /// `DIR` or `s3://BUCKET/PREFIX`. `tell` is told when a store does not answer.
    ///
    /// # Errors
    /// A store that cannot be used as the environment says, or that this program was built without; a URL of
    /// another one.
    pub fn of(name: &Path, tell: fn(&str)) -> io::Result<Out> {
        let Some(scheme) = scheme(name) else {
            return Ok(Out::Directory(name.to_owned()));
        };
        if scheme != S3 {
            return Err(io::Error::other(format!(
                "lwnflog does not write to {scheme}://: a data set is in a directory or s3://BUCKET/PREFIX"
            )));
        }
        #[cfg(feature = "s3")]
        {
            let name = name.to_string_lossy();
            let (_, rest) = name.split_once("://").unwrap_or_default();
            Bucket::of(&format!("{S3}://{rest}"), tell).map(Out::Bucket)
        }
        #[cfg(not(feature = "s3"))]
        {
            let _ = tell;
            Err(io::Error::other(
                "this program was built without stores: `cargo install --features s3`",
            ))
        }
    }

    /// Begins to write to it: as long as what is returned is there. What exports of this host that were killed
    /// have left goes, unless there is another export now, which may be writing it.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin_writing(&self, host: &str) -> io::Result<Option<File>> {
        match self {
            Out::Directory(dir) => {
                let marks = dir.join("_exported").join(host);
                make_dirs(dir, &marks)?;
                let lock = File::open(&marks)?;
                // Where there are no locks nobody knows, and nothing is removed.
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    remove_unfinished(dir, host);
                }
                let shared = flock(&lock, FlockOperation::LockShared);
                Ok(shared.is_ok().then_some(lock))
            }
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => {
                bucket.end_old_uploads(host);
                Ok(None)
            }
        }
    }

    /// How a part is called in messages.
    pub(super) fn name(&self, part: &str) -> PathBuf {
        match self {
            Out::Directory(dir) => dir.join(part),
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => bucket.name(part),
        }
    }

    /// Begins a part. What is interrupted leaves nothing that an engine would read.
    pub(super) fn begin(&self, part: &str) -> io::Result<Begun> {
        match self {
            Out::Directory(root) => {
                let part = hidden(&self.name(part));
                if let Some(dir) = part.parent() {
                    make_dirs(root, dir)?;
                }
                // Never what somebody else has laid there, nor where a link of his leads.
                let file = File::options().write(true).create_new(true).open(&part)?;
                Ok(Begun {
                    file,
                    name: Some(Unfinished(part)),
                })
            }
            #[cfg(feature = "s3")]
            Out::Bucket(_) => Ok(Begun {
                file: tempfile::tempfile()?,
                name: None,
            }),
        }
    }

    /// Parts that get their names together.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            out: self,
            ready: Vec::new(),
            unsynced: false,
        }
    }

    /// A text that was stored.
    pub(super) fn text(&self, name: &str) -> io::Result<Option<String>> {
        match self {
            Out::Directory(dir) => {
                let mut bytes = Vec::new();
                let mut options = File::options();
                let opened = options
                    .read(true)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(dir.join(name));
                match opened.and_then(|file| file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    read => read.map(|_| Some(String::from_utf8_lossy(&bytes).into_owned())),
                }
            }
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => bucket.text(name),
        }
    }

    /// Stores a text.
    pub(super) fn put_text(&self, name: &str, text: &str) -> io::Result<()> {
        let mut begun = self.begin(name)?;
        begun.file.write_all(text.as_bytes())?;
        let mut batch = self.batch();
        batch.end(name, begun)?;
        batch.commit()
    }
}

/// Parts of a directory that are written, and have not got their names. To a store they go at once.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    out: &'a Out,
    ready: Vec<(Unfinished, PathBuf)>,
    /// Some of them are not on the disk yet.
    unsynced: bool,
}

impl Batch<'_> {
    /// Ends a part. Returns its bytes.
    pub(super) fn end(&mut self, part: &str, mut begun: Begun) -> io::Result<u64> {
        begun.file.flush()?;
        let bytes = begun.file.metadata()?.len();
        match self.out {
            Out::Directory(_) => {
                if self.ready.len() < SYNCED_MAX {
                    begun.file.sync_all()?;
                } else {
                    self.unsynced = true;
                }
                let named = begun.name.map(|name| (name, self.out.name(part)));
                self.ready.extend(named);
            }
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => bucket.put_file(part, begun.file)?,
        }
        Ok(bytes)
    }

    /// Has all parts on the disk, and under their names.
    pub(super) fn commit(self) -> io::Result<()> {
        let Out::Directory(root) = self.out else {
            return Ok(());
        };
        if self.unsynced {
            syncfs(File::open(root)?)?;
        }
        let mut dirs = BTreeSet::new();
        for (unfinished, path) in self.ready {
            if let Some(dir) = path.parent() {
                // A part's hour may have turned out to be another one than that it was begun in.
                if unfinished.0.parent() != Some(dir) {
                    make_dirs(root, dir)?;
                }
                dirs.insert(dir.to_owned());
            }
            fs::rename(&unfinished.0, &path)?;
            std::mem::forget(unfinished);
        }
        if dirs.len() > SYNCED_MAX {
            return Ok(syncfs(File::open(root)?)?);
        }
        for dir in dirs {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// Makes a directory of the data set, `dir` below `root`. Links on the way are one's own or root's: what others have
/// laid out leads anywhere.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    refuse_link(root)?;
    let mut at = root.to_owned();
    for name in dir.strip_prefix(root).unwrap_or(dir) {
        at.push(name);
        match fs::create_dir(&at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        refuse_link(&at)?;
    }
    Ok(())
}

fn refuse_link(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let is_trusted = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    if is_trusted || !meta.is_symlink() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} is a link that user {} has made: nothing is written where it leads",
        shown(path),
        meta.uid()
    )))
}

/// Engines pass over files whose names begin with a dot. Another process has other names.
fn hidden(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.part", process::id()))
}

/// Removes hidden files of this host's, as [`hidden`] names them, or an earlier lwnflog did. What is a link, or
/// below one, stays.
fn remove_unfinished(out: &Path, host: &str) {
    let host_dir = format!("host={host}");
    let mut dirs = vec![out.join("_exported").join(host)];
    for table in ["packets", "loss"] {
        for day in dirs_in(&out.join(table), "dt=") {
            for hour in dirs_in(&day, "hour=") {
                dirs.extend(dirs_in(&hour, &host_dir).filter(|dir| dir.ends_with(&host_dir)));
            }
        }
    }
    for file in dirs
        .iter()
        .flat_map(|dir| entries(dir, fs::FileType::is_file))
    {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(".part") {
            let _ = fs::remove_file(&file);
        }
    }
}

fn dirs_in(dir: &Path, prefix: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let prefix = prefix.to_owned();
    entries(dir, fs::FileType::is_dir).filter(move |path| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(prefix.as_bytes())
    })
}

fn entries(dir: &Path, is: fn(&fs::FileType) -> bool) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_type().is_ok_and(|kind| is(&kind)))
        .map(|entry| entry.path())
}
