//! A file that is read. It is opened when it is found, so that whoever has begun to read a ring keeps
//! what he has, under whatever name it is by then, or under none.
//!
//! Descriptors are few: beyond half of them files are opened anew for each window, and must be the same
//! still.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::ring::{by_number, ring_file};

/// How many are held, by all who read.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// An opened file.
#[derive(Debug)]
pub struct Handle {
    path: PathBuf,
    device: u64,
    inode: u64,
    is_plain: bool,
    held: Option<Arc<File>>,
}

impl Handle {
    /// Opens a file.
    ///
    /// # Errors
    /// What the system says; a directory.
    pub fn open(path: &Path) -> io::Result<Handle> {
        Handle::of(path, File::open(path)?)
    }

    /// Opens what was found, and not named: nobody waits for a pipe that somebody has laid there.
    ///
    /// # Errors
    /// What the system says; what is no plain file.
    pub fn open_plain(path: &Path) -> io::Result<Handle> {
        let file = at_once(path)?;
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            return Err(io::Error::other("it is no plain file"));
        }
        Handle::of(path, file)
    }

    fn of(path: &Path, file: File) -> io::Result<Handle> {
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // What is no plain file can be opened once.
        let held = hold(!meta.is_file());
        Ok(Handle {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
            is_plain: meta.is_file(),
            held: held.then(|| Arc::new(file)),
        })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from all others.
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether it has a length and can be read at any place.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The file, opened anew where it was not held.
    ///
    /// # Errors
    /// What the system says; another file has its name by now.
    pub fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.held {
            return Ok(Arc::clone(file));
        }
        self.again().map(Arc::new)
    }

    /// A ring's file may have another name by now.
    fn again(&self) -> io::Result<File> {
        let open = |path: &Path| {
            let file = at_once(path)?;
            let meta = file.metadata()?;
            let same = (meta.dev(), meta.ino()) == self.identity();
            same.then_some(file)
                .ok_or_else(|| io::Error::other("another file has its name by now"))
        };
        let opened = open(&self.path);
        match (&opened, ring_file(&self.path)) {
            (Err(_), Some(name)) => match by_number(&self.path, &name) {
                Some(path) => open(&path).or(opened),
                None => opened,
            },
            _ => opened,
        }
    }

    /// What the system says of it.
    ///
    /// # Errors
    /// As [`Handle::file`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file()?.metadata()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.held.is_some() {
            HELD.fetch_sub(1, Relaxed);
        }
    }
}

/// Opens a file without waiting for anybody.
fn at_once(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Takes a place among those that are held.
fn hold(in_any_case: bool) -> bool {
    let before = HELD.fetch_add(1, Relaxed);
    let held = in_any_case || before < most();
    if !held {
        HELD.fetch_sub(1, Relaxed);
    }
    held
}

/// Half of the descriptors that this process may have. The other half is for what it opens for a while.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    /// More than rings have files; each takes some memory of the kernel's.
    const MOST_MAX: u64 = 1 << 14;
    *MOST.get_or_init(|| {
        let mut limit = getrlimit(Resource::Nofile);
        // The soft limit is small for the sake of select(2), which is not used here.
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
        let now = getrlimit(Resource::Nofile).current.unwrap_or(MOST_MAX);
        usize::try_from(now.min(MOST_MAX) / 2).unwrap_or(0)
    })
}
