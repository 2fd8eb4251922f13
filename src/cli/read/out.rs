//! Where a command writes what it made: a file that is there as a whole or not at all, or a pipe, a
//! device, standard output, which are written as they are.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, Metadata, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};

use super::places::looks_like_capture;
use crate::chores::{is_built_in, lz4};
use crate::cli::stdout_is_open;
use crate::read::chain::is_named_as_capture;
use crate::read::line::shown;
use crate::ring::{Compression, is_rings, wherever};

/// Written at a time.
const STEP_BYTES: usize = 1 << 20;
/// Links that lead from one to the next, at the most: as many as the kernel follows.
const LINKS_MAX: usize = 40;
/// File names of compressions that nothing here writes.
const FOREIGN: [&str; 4] = ["gz", "bz2", "xz", "Z"];

/// What a command writes to. A plain file has its name once [`Output::finish`] was called, and
/// until then what had the name before stays as it is; given up or killed, it leaves nothing.
/// Anything else is written in place. A name that ends in `.zst` or `.lz4` is compressed.
pub(in crate::cli) struct Output {
    to: BufWriter<Coder>,
    is_plain: bool,
    /// The plain file that has no name yet.
    unnamed: Option<Unnamed>,
}

impl Output {
    /// Opens `path`, `-` being standard output, for what is made of `inputs`: files, and directories of
    /// captures.
    ///
    /// # Errors
    /// An output that is one of the inputs, or that would be one the next time; a way to compress that is
    /// not built in; what the system says.
    pub(in crate::cli) fn create(path: &Path, inputs: &[PathBuf]) -> Result<Output> {
        Output::open(path, inputs).with_context(|| named(path))
    }

    fn open(path: &Path, inputs: &[PathBuf]) -> Result<Output> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if path.as_os_str() == "-" {
            stdout_is_open()?;
            return Output::in_place(stdout, None, inputs);
        }
        if let Some(foreign) = path.extension()
            && FOREIGN.iter().any(|name| foreign == *name)
        {
            bail!(
                "cannot be written: lwnflog compresses to .zst and .lz4; for others write to `-` and compress that"
            );
        }
        let form = Compression::by_name(path);
        if form.is_some_and(|form| !is_built_in(form)) {
            bail!(
                "this lwnflog was built without zstd: write .lz4, or `cargo install --features zstd`"
            );
        }
        let path = match resolve(path)? {
            Target::Path(path) => path,
            Target::Open(path) => {
                let file = if same(&fs::metadata(&path)?, &stdout.metadata()?) {
                    stdout_is_open()?;
                    stdout
                } else {
                    // To append leaves what a shell's `>>` has kept.
                    File::options().append(true).open(path)?
                };
                return Output::in_place(file, form, inputs);
            }
        };
        let there = match fs::symlink_metadata(&path) {
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(meta) = &there {
            anyhow::ensure!(!meta.is_dir(), "is a directory: name a file in it");
            refuse_input(meta, inputs)?;
            if !meta.is_file() {
                let file = File::options().write(true).open(&path)?;
                return Output::in_place(file, form, inputs);
            }
            if same(meta, &stdout.metadata()?) {
                return Output::in_place(stdout, form, inputs);
            }
            refuse_ring(&path)?;
            // To take its name needs no right to the file itself, but to overwrite it does.
            rustix::fs::access(&path, Access::WRITE_OK)?;
        }
        refuse_among_inputs(&path, inputs)?;
        let (file, hidden) = begin(directory(&path))?;
        let unnamed = Unnamed {
            file: file.try_clone()?,
            hidden,
            replaces: there,
            path,
        };
        Ok(Output {
            to: Coder::buffered(file, form)?,
            is_plain: true,
            unnamed: Some(unnamed),
        })
    }

    fn in_place(file: File, form: Option<Compression>, inputs: &[PathBuf]) -> Result<Output> {
        let meta = file.metadata()?;
        refuse_input(&meta, inputs)?;
        // A shell's `>>` may have opened whatever there is.
        if meta.is_file()
            && let Ok(path) = fs::read_link(own(&file))
        {
            refuse_ring(&path)?;
        }
        Ok(Output {
            to: Coder::buffered(file, form)?,
            is_plain: meta.is_file(),
            unnamed: None,
        })
    }

    /// Whether it is a file that has no name yet.
    pub(in crate::cli) fn is_unnamed(&self) -> bool {
        self.unnamed.is_some()
    }

    /// Whether it is a plain file, which never keeps a writer waiting.
    pub(in crate::cli) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Gives a plain file its name now, for who watches it grow.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::cli) fn appear(&mut self) -> io::Result<()> {
        match self.unnamed.take() {
            Some(unnamed) => unnamed.name(),
            None => Ok(()),
        }
    }

    /// Writes the rest, and gives a plain file its name.
    ///
    /// # Errors
    /// What the system says: nothing has the name then that had not had it before.
    pub(in crate::cli) fn finish(mut self) -> io::Result<()> {
        self.to.flush()?;
        let coder = self.to.into_inner().map_err(io::IntoInnerError::into_error);
        coder?.finish()?;
        match self.unnamed.take() {
            Some(unnamed) => {
                // What was there goes once this is on the disk.
                if unnamed.replaces.is_some() {
                    unnamed.file.sync_data()?;
                }
                unnamed.name()
            }
            None => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// What was written can be read behind this, compressed or not.
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn refuse_ring(path: &Path) -> Result<()> {
    anyhow::ensure!(
        !is_rings(path),
        "is a file of a ring, whose packets would be lost: write to another file"
    );
    Ok(())
}

/// What an output is called in messages.
pub(in crate::cli) fn named(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "standard output".to_owned()
    } else {
        shown(path)
    }
}

/// How it is compressed.
enum Coder {
    Plain(File),
    Lz4(Box<lz4_flex::frame::FrameEncoder<File>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Encoder<'static, File>),
}

impl Coder {
    fn buffered(file: File, form: Option<Compression>) -> io::Result<BufWriter<Coder>> {
        let coder = match form {
            None => Coder::Plain(file),
            Some(Compression::Lz4) => Coder::Lz4(Box::new(lz4(file))),
            #[cfg(feature = "zstd")]
            Some(Compression::Zstd) => {
                let mut encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Coder::Zstd(encoder)
            }
            #[cfg(not(feature = "zstd"))]
            Some(Compression::Zstd) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(BufWriter::with_capacity(STEP_BYTES, coder))
    }

    fn to(&mut self) -> &mut dyn Write {
        match self {
            Coder::Plain(file) => file,
            Coder::Lz4(encoder) => encoder,
            #[cfg(feature = "zstd")]
            Coder::Zstd(encoder) => encoder,
        }
    }

    /// Ends what is compressed.
    fn finish(self) -> io::Result<()> {
        match self {
            Coder::Plain(_) => Ok(()),
            Coder::Lz4(encoder) => match encoder.finish() {
                Ok(_) => Ok(()),
                Err(lz4_flex::frame::Error::IoError(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            },
            #[cfg(feature = "zstd")]
            Coder::Zstd(encoder) => encoder.finish().map(drop),
        }
    }
}

impl Write for Coder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to().flush()
    }
}

/// A plain file before it has its name.
struct Unnamed {
    path: PathBuf,
    file: File,
    /// The name it has in the meantime, on file systems that have no files without a name.
    hidden: Option<Hidden>,
    /// What has the name now.
    replaces: Option<Metadata>,
}

impl Unnamed {
    fn name(self) -> io::Result<()> {
        // Of files that are one's own alone: who lays one down for others reads nothing of this.
        if let Some(meta) = &self.replaces
            && meta.uid() == rustix::process::geteuid().as_raw()
        {
            let mode = Permissions::from_mode(meta.mode() & 0o777);
            self.file.set_permissions(mode)?;
        }
        let hidden = match self.hidden {
            Some(hidden) => hidden,
            None => Hidden::link(&self.file, directory(&self.path))?,
        };
        fs::rename(&hidden.0, &self.path)?;
        std::mem::forget(hidden);
        Ok(())
    }
}

/// A hidden name, which goes away with this.
struct Hidden(PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Hidden {
    /// A name that nobody can know beforehand.
    fn new(directory: &Path) -> Hidden {
        let random = RandomState::new().build_hasher().finish();
        Hidden(directory.join(format!(".lwnflog-{random:016x}.part")))
    }

    fn create(directory: &Path) -> io::Result<(File, Hidden)> {
        let hidden = Hidden::new(directory);
        let opened = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&hidden.0);
        match opened {
            Ok(file) => Ok((file, hidden)),
            Err(error) => {
                std::mem::forget(hidden); // whoever's it is
                Err(error)
            }
        }
    }

    /// Of a file without a name.
    fn link(file: &File, directory: &Path) -> io::Result<Hidden> {
        let hidden = Hidden::new(directory);
        let linked = rustix::fs::linkat(CWD, own(file), CWD, &hidden.0, AtFlags::SYMLINK_FOLLOW);
        match linked {
            Ok(()) => Ok(hidden),
            Err(error) => {
                std::mem::forget(hidden);
                Err(error.into())
            }
        }
    }
}

/// An open file's path in `/proc`.
fn own(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A new file for its owner alone: without a name, so that not even `SIGKILL` leaves anything; or
/// under a hidden one.
fn begin(directory: &Path) -> Result<(File, Option<Hidden>)> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(directory, flags, Mode::from(0o600)) {
        let file = File::from(file);
        if own(&file).symlink_metadata().is_ok() {
            return Ok((file, None));
        }
    }
    let (file, hidden) = Hidden::create(directory)
        .with_context(|| format!("cannot make a file in {}", shown(directory)))?;
    Ok((file, Some(hidden)))
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What a name leads to.
enum Target {
    /// A name that is no link.
    Path(PathBuf),
    /// What a process has open already: `/proc/self/fd/1`, `/dev/stdout`.
    Open(PathBuf),
}

/// Follows links, as far as they are one's own or root's: what others have laid out leads anywhere.
fn resolve(path: &Path) -> Result<Target> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error.into()),
        };
        if !meta.is_symlink() {
            break;
        }
        let parent = fs::canonicalize(directory(&path))?;
        if parent.starts_with("/proc") && parent.ends_with("fd") {
            return Ok(Target::Open(path));
        }
        let to = fs::read_link(&path)?;
        if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
            bail!(
                "is a link that user {} has made, to {}: name the file itself if that is meant",
                meta.uid(),
                shown(&to)
            );
        }
        path = directory(&path).join(to);
    }
    Ok(Target::Path(path))
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Refuses an output that is read.
fn refuse_input(output: &Metadata, inputs: &[PathBuf]) -> Result<()> {
    // A terminal or /dev/null may be both.
    if output.file_type().is_char_device() {
        return Ok(());
    }
    let refuse = |input: &Path, meta: Option<Metadata>| match meta {
        Some(meta) if same(output, &meta) => bail!(
            "is read as {}: what is there would be lost; write to another file",
            shown(input)
        ),
        _ => Ok(()),
    };
    for input in inputs {
        if input.as_os_str() == "-" {
            let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            refuse(Path::new("standard input"), stdin.metadata().ok())?;
        } else if let Ok(files) = fs::read_dir(input) {
            if !output.is_file() {
                continue; // which no directory is searched for
            }
            for file in files.flatten().map(|entry| entry.path()) {
                if is_named_as_capture(&file) {
                    refuse(&file, file.metadata().ok())?;
                }
            }
        } else {
            refuse(input, wherever(input).metadata().ok())?;
        }
    }
    Ok(())
}

/// Refuses an output that would be a capture of a directory that is read: its packets would be there
/// twice from then on, or it would be told each time that it is not read.
fn refuse_among_inputs(path: &Path, inputs: &[PathBuf]) -> Result<()> {
    let directory = fs::metadata(directory(path))?;
    let mut directories = inputs.iter().filter(|input| {
        fs::metadata(input).is_ok_and(|meta| meta.is_dir() && same(&meta, &directory))
    });
    match directories.next() {
        Some(input) if is_named_as_capture(path) || looks_like_capture(path) => bail!(
            "would be one of the captures of {}, and its packets be there twice from then on: write to another directory",
            shown(input)
        ),
        _ => Ok(()),
    }
}
