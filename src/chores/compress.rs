//! Compressing a finished file, in such an order that it is there under one of its names at every
//! moment, and that a ring that gives it up meanwhile gives up both.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use lz4_flex::frame::{FrameEncoder, FrameInfo};

use crate::ring::Compression;

/// Bytes read and written at a time.
const STEP_BYTES: usize = 1 << 20;

/// Whether this program can compress so.
pub fn is_built_in(form: Compression) -> bool {
    form == Compression::Lz4 || cfg!(feature = "zstd")
}

/// Compresses the file. Returns its new name; `None` where the ring has given the file up
/// meanwhile.
///
/// # Errors
/// What the system says: the file stays as it is.
pub(super) fn compress(path: &Path, form: Compression) -> io::Result<Option<PathBuf>> {
    let mut from = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let meta = from.metadata()?;
    let (part, whole) = (form.part_of(path), form.of(path));
    let _ = fs::remove_file(&part); // of one that was killed
    let made = make(&mut from, &part, form).and_then(|to| {
        to.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        let own = to.metadata()?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            fchown(&to, Some(meta.uid()), Some(meta.gid()))?;
        }
        // It says when its last packet had come.
        to.set_modified(meta.modified()?)?;
        // On the disk before the other goes.
        to.sync_all()
    });
    // The ring removes the plain file first, then the compressed one; this is the other way round.
    if let Err(error) = made.and_then(|()| fs::rename(&part, &whole)) {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let _ = fs::remove_file(&whole);
            Ok(None)
        }
        removed => removed.map(|()| Some(whole)),
    }
}

fn make(from: &mut File, part: &Path, form: Compression) -> io::Result<File> {
    let to = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)?;
    let to = BufWriter::with_capacity(STEP_BYTES, to);
    let to = match form {
        Compression::Zstd => zstd(from, to)?,
        Compression::Lz4 => {
            let mut encoder = lz4(to);
            io::copy(from, &mut encoder)?;
            encoder.finish().map_err(io::Error::other)?
        }
    };
    to.into_inner().map_err(io::IntoInnerError::into_error)
}

/// What writes LZ4: with a checksum of each block, so that nothing of a damaged one is read, and one of all of
/// them, so that none is missing.
pub fn lz4<W: Write>(to: W) -> FrameEncoder<W> {
    let checked = FrameInfo::new()
        .block_checksums(true)
        .content_checksum(true);
    FrameEncoder::with_frame_info(checked, to)
}

#[cfg(feature = "zstd")]
fn zstd<W: Write>(from: &mut File, to: W) -> io::Result<W> {
    let mut encoder = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(from.metadata()?.len()))?;
    io::copy(from, &mut encoder)?;
    encoder.finish()
}

#[cfg(not(feature = "zstd"))]
fn zstd<W: Write>(_: &mut File, _: W) -> io::Result<W> {
    Err(io::ErrorKind::Unsupported.into())
}
