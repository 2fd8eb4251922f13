//! A file named on the command line: it may be any program's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Repaired, boot_id, invalid, repair_bytes};
use crate::format::pcap::FILE_HEADER_BYTES;
use crate::format::pcapng::block;
use crate::format::pcapng::reader::Block;
use crate::sys::file::is_open_only_here;

/// Makes any file readable that is named, and cuts it behind its last block. What libpcap
/// reads stays as it is. Where more than unused space is lost, the file is copied first: the copy's
/// name is returned, too. A file that a running capture writes is refused, and so is a pcapng file
/// that another program made. With `dry_run` nothing is changed.
///
/// # Errors
/// `ResourceBusy` for a file that is open elsewhere; `InvalidData` for what is no such file, which
/// is left untouched; and what the file system answers.
pub fn repair_unowned(path: &Path, dry_run: bool) -> io::Result<(Repaired, Option<PathBuf>)> {
    let file = OpenOptions::new()
        .read(true)
        .write(!dry_run)
        .custom_flags(libc::O_NONBLOCK) // a pipe is not waited for
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(invalid("not a plain file"));
    }
    if !is_open_only_here(&file) {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process has it open: a running lwnflog's live file needs no repair; close other readers",
        ));
    }
    let mut before = Vec::new();
    (&file).read_to_end(&mut before)?;
    if before.len() < FILE_HEADER_BYTES {
        return Err(invalid("too short for a capture file"));
    }
    if is_rewritten(&before) {
        return Err(invalid(
            "another program has written this file anew: it is left as it is",
        ));
    }
    let mut after = before.clone();
    let (mut repaired, end) = repair_bytes(&mut after, boot_id().as_deref())?;
    repaired.bytes_before = before.len() as u64;
    repaired.bytes_after = end as u64;
    if dry_run {
        return Ok((repaired, None));
    }
    let copy = match repaired.loss {
        Some(_) => Some(keep_copy(&file, path, &before)?),
        None => None,
    };
    if before[..end] != after[..end] {
        file.write_all_at(&after[..end], 0)?;
    }
    if end < before.len() {
        file.set_len(end as u64)?;
    }
    file.sync_all()?;
    Ok((repaired, copy))
}

/// Copies a file's bytes to `FILE.orig`, or `FILE.orig.2` and so on: nothing is overwritten.
fn keep_copy(file: &File, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    for number in 1u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(".orig");
        if number != 1 {
            name.push(format!(".{number}"));
        }
        let copy = match File::create_new(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created?,
        };
        let written = copy
            .set_permissions(file.metadata()?.permissions())
            .and_then(|()| (&copy).write_all(bytes))
            .and_then(|()| copy.sync_all());
        if let Err(error) = written {
            let _ = fs::remove_file(&name);
            let text = format!("it is left as it is, because it cannot be copied: {error}");
            return Err(io::Error::new(error.kind(), text));
        }
        return Ok(name.into());
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether a pcapng file has whole blocks, up to the first damage, that lwnflog would not have
/// written. Editors (`editcap`, `mergecap`, `tshark -w`) keep its comment, but not its padding
/// blocks and segments.
pub(super) fn is_rewritten(bytes: &[u8]) -> bool {
    let Some(segment_bytes) = Block::read(bytes).and_then(|header| header.segment_bytes()) else {
        return false;
    };
    let mut at = 0;
    while let Some(block) = bytes.get(at..).and_then(Block::read) {
        let len = block.bytes().len();
        let ours = matches!(
            block.kind(),
            block::SECTION_HEADER
                | block::INTERFACE_DESCRIPTION
                | block::INTERFACE_STATISTICS
                | block::ENHANCED_PACKET
                | block::PADDING
        );
        if !ours || at / segment_bytes != (at + len - 1) / segment_bytes {
            return true;
        }
        at += len;
    }
    false
}
