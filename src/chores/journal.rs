//! Which of a ring's files are done, so that a start takes up what the run before it had not done.
//!
//! `.g5.chores` has a name a line: of each file whose command has succeeded, and of those that were
//! there when the first command was given. Whoever does the work holds a lock on it: a process whose
//! capture was killed may be at its last files yet.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Chores;
use crate::ring::{finished_in, ring_file, uncompressed, wherever};

/// Files of rings, as they are when a capture begins: what of them is to be done yet.
#[derive(Debug, Default)]
pub struct Found {
    /// The rings, and names of files that no command is owed.
    begun: Vec<(PathBuf, Vec<OsString>)>,
    /// What an earlier run has left to be done, oldest first.
    pub left: Vec<PathBuf>,
}

impl Found {
    /// Looks at the rings `names` in `dir`. Changes nothing.
    ///
    /// # Errors
    /// What the system says.
    pub fn look(chores: &Chores, dir: &Path, names: &[String]) -> io::Result<Found> {
        let mut found = Found::default();
        for ring in names {
            let files = match finished_in(dir, ring) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                files => files?,
            };
            let path = path(dir, ring);
            let done = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                text => Some(names_in(&text?)),
            };
            if done.is_none() {
                let names = files.iter().map(|file| name(&file.path)).collect();
                found.begun.push((path, names));
            }
            let is_left = |file: &Path| {
                let plain = uncompressed(file) == file;
                let undone = done
                    .as_ref()
                    .is_some_and(|done| !done.contains(&name(file)));
                chores.compress.is_some() && plain || chores.command.is_some() && undone
            };
            let files = files.into_iter().map(|file| file.path);
            found.left.extend(files.filter(|file| is_left(file)));
        }
        Ok(found)
    }

    /// The capture has begun: its rings get their journals.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(&self) -> io::Result<()> {
        for (path, names) in &self.begun {
            let mut text = Vec::new();
            for name in names {
                text.extend_from_slice(name.as_bytes());
                text.push(b'\n');
            }
            open(path)?.write_all(&text)?;
        }
        Ok(())
    }
}

/// Without a command nothing is owed to the files that come now.
pub fn forget(dir: &Path, names: &[String]) {
    for ring in names {
        let _ = fs::remove_file(path(dir, ring));
    }
}

fn path(dir: &Path, ring: &str) -> PathBuf {
    dir.join(format!(".{ring}.chores"))
}

/// As it was called before it was compressed.
fn name(file: &Path) -> OsString {
    let plain = uncompressed(file);
    plain.file_name().unwrap_or_default().to_owned()
}

fn names_in(text: &[u8]) -> HashSet<OsString> {
    let lines = text.split(|byte| *byte == b'\n');
    let names = lines.filter(|line| !line.is_empty());
    names
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// The journals in the hands of the process that does the work.
#[derive(Debug, Default)]
pub(super) struct Journals(Mutex<Vec<Journal>>);

#[derive(Debug)]
struct Journal {
    dir: PathBuf,
    ring: String,
    file: File,
    done: HashSet<OsString>,
    /// At so many names it is looked which of their files have gone.
    prune_at: usize,
}

/// Names that are not looked through.
const FEW: usize = 4096;

impl Journals {
    /// Whether the command has had this file. Waits while another process works for its ring.
    pub(super) fn is_done(&self, file: &Path) -> io::Result<bool> {
        self.with(file, |journal| Ok(journal.done.contains(&name(file))))
    }

    pub(super) fn note_done(&self, file: &Path) -> io::Result<()> {
        self.with(file, |journal| {
            let mut line = name(file);
            journal.done.insert(line.clone());
            line.push("\n");
            journal.file.write_all(line.as_bytes())?;
            match journal.done.len() >= journal.prune_at {
                true => journal.prune(),
                false => Ok(()),
            }
        })
    }

    fn with<T>(
        &self,
        file: &Path,
        look: impl FnOnce(&mut Journal) -> io::Result<T>,
    ) -> io::Result<T> {
        let ring = ring_file(file).ok_or(io::ErrorKind::InvalidInput)?.ring;
        let dir = file.parent().unwrap_or(Path::new(""));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open
            .iter()
            .position(|journal| journal.dir == dir && journal.ring == ring);
        let at = match known {
            Some(at) => at,
            None => {
                open.push(Journal::of(dir, ring)?);
                open.len() - 1
            }
        };
        match open.get_mut(at) {
            Some(journal) => look(journal),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Journal {
    fn of(dir: &Path, ring: String) -> io::Result<Journal> {
        let mut file = open(&path(dir, &ring))?;
        file.lock()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(Journal {
            dir: dir.to_owned(),
            ring,
            file,
            done: names_in(&text),
            prune_at: FEW,
        })
    }

    /// Forgets what is gone.
    fn prune(&mut self) -> io::Result<()> {
        let dir = &self.dir;
        self.done.retain(|name| wherever(&dir.join(name)).exists());
        let names = self
            .done
            .iter()
            .map(|name| [name.as_bytes(), b"\n"].concat());
        let text: Vec<u8> = names.flatten().collect();
        self.file.set_len(0)?;
        self.file.write_all(&text)?;
        self.prune_at = FEW.max(2 * self.done.len());
        Ok(())
    }
}
