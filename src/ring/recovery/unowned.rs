//! A file named on the command line: it may be any program's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::pcapng::HEADER_MAX_BYTES;
use super::{Repaired, Whose, boot_id, invalid, repair_parts};
use crate::format::HEAD_BYTES;
use crate::format::pcap::FILE_HEADER_BYTES;
use crate::format::pcapng::block::{self, BLOCK_MIN_BYTES};
use crate::format::pcapng::reader::{Block, u32_at};
use crate::ring::parts::{FileParts, Parts};
use crate::ring::ring_file;
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
    let bytes_before = file.metadata()?.len();
    let len = usize::try_from(bytes_before)
        .map_err(|_| invalid("larger than this machine can address"))?;
    if len < FILE_HEADER_BYTES {
        return Err(invalid("too short for a capture file"));
    }
    if is_rewritten(&mut FileParts::new(&file, len))? {
        return Err(invalid(
            "another program has written this file anew: it is left as it is",
        ));
    }
    // What would be lost is known before anything is written.
    let boot_id = boot_id();
    let whose = match ring_file(path) {
        Some(_) => Whose::Named,
        None => Whose::Unknown,
    };
    let mut tried = FileParts::new(&file, len).written_to(0);
    let (mut repaired, end) = repair_parts(&mut tried, boot_id.as_deref(), whose)?;
    repaired.bytes_before = bytes_before;
    repaired.bytes_after = end as u64;
    if dry_run {
        return Ok((repaired, None));
    }
    let copy = match repaired.loss {
        Some(_) => Some(keep_copy(&file, path, bytes_before)?),
        None => None,
    };
    let mut parts = FileParts::new(&file, len).written_to(end);
    repair_parts(&mut parts, boot_id.as_deref(), whose)?;
    if end < len {
        file.set_len(end as u64)?;
    }
    file.sync_all()?;
    Ok((repaired, copy))
}

/// Copies a file's bytes to `FILE.orig`, or `FILE.orig.2` and so on: nothing is overwritten.
fn keep_copy(file: &File, path: &Path, bytes: u64) -> io::Result<PathBuf> {
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
            .and_then(|()| copy_all(file, &copy, bytes))
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

fn copy_all(mut from: &File, mut to: &File, bytes: u64) -> io::Result<()> {
    from.rewind()?;
    match io::copy(&mut from, &mut to)? {
        copied if copied == bytes => Ok(()),
        _ => Err(io::Error::other("its length has changed meanwhile")),
    }
}

/// Whether a pcapng file has whole blocks, up to the first damage, that lwnflog would not have
/// written. Editors (`editcap`, `mergecap`, `tshark -w`) keep its comment, but not its padding
/// blocks and segments.
pub(super) fn is_rewritten(parts: &mut impl Parts) -> io::Result<bool> {
    let len = parts.len();
    let start = parts.part(0..len.min(HEADER_MAX_BYTES))?;
    let Some(segment_bytes) = Block::read(start).and_then(|header| header.segment_bytes()) else {
        return Ok(false);
    };
    let mut at = 0;
    while let Some((kind, block_len)) = whole_block(parts, at)? {
        let ours = matches!(
            kind,
            block::SECTION_HEADER
                | block::INTERFACE_DESCRIPTION
                | block::INTERFACE_STATISTICS
                | block::ENHANCED_PACKET
                | block::PADDING
        );
        if !ours || at / segment_bytes != (at + block_len - 1) / segment_bytes {
            return Ok(true);
        }
        at += block_len;
    }
    Ok(false)
}

/// Type and length of the block at a place, if it is whole: its two lengths agree.
fn whole_block(parts: &mut impl Parts, at: usize) -> io::Result<Option<(u32, usize)>> {
    let left = parts.len() - at;
    if left < BLOCK_MIN_BYTES {
        return Ok(None);
    }
    let head = parts.part(at..at + HEAD_BYTES)?;
    let (kind, len) = (u32_at(head, 0).unwrap_or(0), u32_at(head, 4).unwrap_or(0));
    let bytes = len as usize;
    if bytes < BLOCK_MIN_BYTES || !bytes.is_multiple_of(4) || bytes > left {
        return Ok(None);
    }
    let behind = parts.part(at + bytes - 4..at + bytes)?;
    Ok((u32_at(behind, 0) == Some(len)).then_some((kind, bytes)))
}
