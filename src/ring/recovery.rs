//! Repair of a file whose writer could not finish it: `lwnflog repair`, and every restart.
//!
//! After `kill -9` a pcapng file needs none but the cut; classic pcap needs its zero rest cut off
//! to be readable. After a power failure any page may be missing: a pcapng segment is then read up
//! to the first bytes that are no block, its rest is covered by a filler, and reading goes on with
//! the next segment. Where a page is missing of a file that was recycled, the disk still has the old
//! file's: packets that are too old for this one tell. Where the machine has not been started anew
//! since, no page is missing, and no packet is asked for its age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::{self, FromStr};

use super::parts::{FileParts, Parts};
use crate::format::HEAD_BYTES;
use crate::format::pcap::{FILE_HEADER_BYTES, RECORD_HEADER_BYTES};
use crate::format::pcapng::block::{self, BLOCK_MIN_BYTES, fill, option};
use crate::sys::file::is_open_only_here;

/// What a repair found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Packets that can be read.
    pub packets: u64,
    /// Time of the first one, microseconds since 1970; 0 is none.
    pub first_us: u64,
    /// Segments with something unreadable in them, which was covered.
    pub damaged_segments: u64,
    /// Blocks that name a device whose declaration was lost: they were covered, too.
    pub orphans: u64,
    /// The first thing that is lost, if anything but unused space is.
    pub loss: Option<Loss>,
    /// The file's length before.
    pub bytes_before: u64,
    /// Its length now.
    pub bytes_after: u64,
}

impl Repaired {
    fn lose(&mut self, at: usize, why: &'static str) {
        let offset = at as u64;
        self.loss.get_or_insert(Loss { offset, why });
    }
}

/// What of a file cannot be read, and is covered or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Where it begins, bytes from the start of the file.
    pub offset: u64,
    /// What stands there.
    pub why: &'static str,
}

/// Makes a file of this ring readable as a whole, and cuts it behind its last block.
pub(super) fn repair_own(file: &File) -> io::Result<Repaired> {
    let bytes_before = file.metadata()?.len();
    let len = usize::try_from(bytes_before)
        .map_err(|_| invalid("larger than this machine can address"))?;
    if len < FILE_HEADER_BYTES {
        return Err(invalid("too short for a capture file"));
    }
    let mut parts = FileParts::new(file, len);
    let (mut repaired, end) = repair_parts(&mut parts, boot_id().as_deref(), true)?;
    repaired.bytes_before = bytes_before;
    repaired.bytes_after = end as u64;
    if repaired.bytes_after < repaired.bytes_before {
        file.set_len(repaired.bytes_after)?;
    }
    Ok(repaired)
}

/// Makes any file readable that somebody names, and cuts it behind its last block. What libpcap reads stays
/// as it is. Where more than unused space is lost, the file is copied first: the copy's name is returned, too. A
/// file that a running capture writes is refused, and so is a pcapng file that another program made. With
/// `dry_run` nothing is changed.
///
/// # Errors
/// `ResourceBusy` for a file that is open elsewhere; `InvalidData` for what is no such file, which is left
/// untouched; and what the file system answers.
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

/// Whether a pcapng file has whole blocks, up to the first damage, that lwnflog would not have written. Editors
/// (`editcap`, `mergecap`, `tshark -w`) keep its comment, but not its fillers and segments.
fn is_rewritten(bytes: &[u8]) -> bool {
    let note = u32_at(bytes, 4).and_then(|len| bytes.get(..len as usize));
    let Some(segment_bytes) = note.and_then(segment_note) else {
        return false;
    };
    let mut at = 0;
    while let Some((kind, len)) = whole_block_at(bytes, at) {
        let ours = matches!(
            kind,
            block::SECTION_HEADER
                | block::INTERFACE_DESCRIPTION
                | block::INTERFACE_STATISTICS
                | block::ENHANCED_PACKET
                | block::FILLER
        );
        if !ours || at / segment_bytes != (at + len - 1) / segment_bytes {
            return true;
        }
        at += len;
    }
    false
}

/// The type and length of any block whose two lengths agree.
fn whole_block_at(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let kind = u32_at(bytes, at)?;
    let len = u32_at(bytes, at + 4)? as usize;
    let end = at.checked_add(len)?;
    let whole = len >= BLOCK_MIN_BYTES
        && len.is_multiple_of(4)
        && end <= bytes.len()
        && u32_at(bytes, end - 4)? as usize == len;
    whole.then_some((kind, len))
}

/// Which boot of this machine goes on: a new id each time it is started (`random(4)`). `None` where `/proc`
/// does not tell.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Repairs a file's bytes in place. Returns what was found, and the length that is to stay. `boot_id`
/// is [`boot_id`]: a file that was written since is whole but for its end.
///
/// # Errors
/// `InvalidData` for what is neither pcapng nor pcap, and for pcap of which no packet would be left; nothing
/// is changed then.
pub fn repair_bytes(bytes: &mut [u8], boot_id: Option<&str>) -> io::Result<(Repaired, usize)> {
    repair_parts(&mut &mut *bytes, boot_id, false)
}

/// [`repair_bytes`] of a file's parts; `own`: the file is this ring's, and so has no record without a time.
fn repair_parts(
    parts: &mut impl Parts,
    boot_id: Option<&str>,
    own: bool,
) -> io::Result<(Repaired, usize)> {
    let magic = parts.part(0..parts.len().min(4))?;
    match u32_at(magic, 0) {
        Some(block::SECTION_HEADER) => repair_pcapng(parts, boot_id, own),
        Some(0xa1b2_c3d4 | 0xa1b2_3c4d) => repair_pcap(parts, own),
        _ => Err(invalid(
            "neither a pcapng nor a pcap file as lwnflog writes them",
        )),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Times run back by less than this when two processors' packets meet in one group. What is older
/// than the file's first packet by more is left from the file that was recycled.
const STALE_SLACK_US: u64 = 1_000_000;

/// A recycled file's fillers may hold what it held before. Returns whether one did.
fn clear_fillers(mut bytes: &mut [u8]) -> bool {
    let mut held = false;
    while let Some((kind, len)) = whole_block_at(bytes, 0) {
        let (block, rest) = bytes.split_at_mut(len);
        if kind == block::FILLER && block[HEAD_BYTES..len - 4].iter().any(|byte| *byte != 0) {
            block::clear(block);
            held = true;
        }
        bytes = rest;
    }
    held
}

/// A section header is not larger.
const HEADER_MAX_BYTES: usize = 1 << 20;

fn repair_pcapng(
    parts: &mut impl Parts,
    boot_id: Option<&str>,
    own: bool,
) -> io::Result<(Repaired, usize)> {
    let len = parts.len();
    let start = parts.part(0..len.min(HEADER_MAX_BYTES))?;
    let Some(header) = block_at(start, 0, (0, true)) else {
        return Err(invalid("its section header is damaged"));
    };
    // Another program's file may hold blocks that this one does not know: to cut there is to lose them.
    let note = &start[..header.len];
    let Some(segment_bytes) = segment_note(note) else {
        return Err(invalid(
            "a pcapng file of another program, or its section header is damaged",
        ));
    };
    if header.len + BLOCK_MIN_BYTES > segment_bytes {
        return Err(invalid("its section header is larger than its segments"));
    }
    let mut walk = Walk {
        same_boot: boot_id
            .is_some_and(|boot_id| noted(note, "boot=").starts_with(boot_id.as_bytes())),
        interfaces: 0,
        found: Repaired::default(),
        end: 0,
    };
    let mut start = 0;
    while start < len {
        let end = start.saturating_add(segment_bytes).min(len);
        if walk.segment(start, parts.part(start..end)?, end == len) {
            parts.keep(start..end)?;
        }
        start = end;
    }
    if own {
        for start in (0..walk.end).step_by(segment_bytes) {
            let segment = start..walk.end.min(start.saturating_add(segment_bytes));
            if clear_fillers(parts.part(segment.clone())?) {
                parts.keep(segment)?;
            }
        }
    }
    Ok((walk.found, walk.end))
}

/// The walk over a pcapng file's segments.
struct Walk {
    /// The machine has not been started anew since the file was begun.
    same_boot: bool,
    /// Devices declared so far.
    interfaces: u32,
    found: Repaired,
    /// Where the last block ends that is no filler.
    end: usize,
}

impl Walk {
    /// Covers what is unreadable of the segment that begins at `start`. Returns whether it was changed.
    fn segment(&mut self, start: usize, bytes: &mut [u8], last: bool) -> bool {
        let (mut at, mut changed) = (0, false);
        while at < bytes.len() {
            let readable = block_at(bytes, at, (start, last))
                .filter(|block| self.same_boot || !is_stale(block, self.found.first_us));
            let Some(block) = readable else {
                if bytes[at..].iter().any(|byte| *byte != 0)
                    && u32_at(bytes, at) != Some(block::FILLER)
                {
                    self.found.damaged_segments += 1;
                    self.found.lose(start + at, "bytes that are no block");
                }
                // Less than a filler takes is left at the file's end at the most: there it is cut off.
                fill(&mut bytes[at..]);
                return true;
            };
            let declares = block.kind == block::INTERFACE_DESCRIPTION;
            if block
                .interface
                .is_some_and(|id| id > self.interfaces || id == self.interfaces && !declares)
            {
                // What declared its device, or one before it, is gone: readers refuse a file that names
                // an unknown one, and count those that are declared.
                bytes[at..at + 4].copy_from_slice(&block::FILLER.to_le_bytes());
                changed = true;
                self.found.orphans += 1;
                self.found.lose(
                    start + at,
                    "a block of an interface whose description is lost",
                );
                continue;
            }
            self.interfaces += u32::from(declares);
            if let Some(stamp_us) = block.stamp_us {
                self.found.packets += 1;
                if self.found.first_us == 0 {
                    self.found.first_us = stamp_us;
                }
            }
            at += block.len;
            if block.kind != block::FILLER {
                self.end = start + at;
            }
        }
        changed
    }
}

// Bytes of the blocks without options (sections 4.1 to 4.6 of the draft).
const SECTION_HEADER_MIN_BYTES: usize = 28;
const INTERFACE_MIN_BYTES: usize = 20;
const STATISTICS_MIN_BYTES: usize = 24;
const PACKET_MIN_BYTES: usize = 32;

/// A whole block.
struct BlockAt {
    kind: u32,
    len: usize,
    /// The device it names or declares, if it says which.
    interface: Option<u32>,
    /// Of a packet block.
    stamp_us: Option<u64>,
}

/// The block at `at` in a segment, of which `place` says where it begins in the file, and whether it is the last.
fn block_at(bytes: &[u8], at: usize, place: (usize, bool)) -> Option<BlockAt> {
    let (kind, len) = whole_block_at(bytes, at)?;
    let (end, (start, last)) = (at + len, place);
    // A page that was lost leaves heads without their bodies: every field has to be inside.
    let options = |fixed: usize| bytes.get(at + fixed..end - 4);
    let fits = match kind {
        block::SECTION_HEADER => start + at == 0 && len >= SECTION_HEADER_MIN_BYTES,
        block::INTERFACE_DESCRIPTION => {
            len >= INTERFACE_MIN_BYTES
                && options_fit(options(INTERFACE_MIN_BYTES - 4)?, |code| {
                    (code == option::IF_TSRESOL).then_some(1)
                })
        }
        block::INTERFACE_STATISTICS => {
            len >= STATISTICS_MIN_BYTES
                && options_fit(options(STATISTICS_MIN_BYTES - 4)?, |code| {
                    (option::ISB_STARTTIME..=option::ISB_USRDELIV)
                        .contains(&code)
                        .then_some(8)
                })
        }
        block::ENHANCED_PACKET => {
            let captured = u32_at(bytes, at + 20)? as usize;
            len.checked_sub(PACKET_MIN_BYTES)? >= captured
                && options_fit(
                    options(PACKET_MIN_BYTES - 4 + captured.next_multiple_of(4))?,
                    |code| match code {
                        option::EPB_FLAGS => Some(4),
                        option::EPB_DROPCOUNT => Some(8),
                        _ => None,
                    },
                )
        }
        block::FILLER => true,
        _ => false,
    };
    // Behind it there is room for a filler, unless the file ends.
    let left = bytes.len() - end;
    let room = left == 0 || left >= BLOCK_MIN_BYTES || last;
    if !fits || !room {
        return None;
    }
    let stamp_us = if kind == block::ENHANCED_PACKET {
        Some(u64::from(u32_at(bytes, at + 12)?) << 32 | u64::from(u32_at(bytes, at + 16)?))
    } else {
        None
    };
    let interface = match kind {
        block::ENHANCED_PACKET | block::INTERFACE_STATISTICS => Some(u32_at(bytes, at + 8)?),
        block::INTERFACE_DESCRIPTION => noted_number(&bytes[at..end], "lwnflog interface="),
        _ => None,
    };
    Some(BlockAt {
        kind,
        len,
        interface,
        stamp_us,
    })
}

/// Whether options (section 3.5) are inside the block, each as long as `bytes` says where it is of one length.
fn options_fit(mut rest: &[u8], bytes: impl Fn(u16) -> Option<usize>) -> bool {
    while let Some(([code0, code1, len0, len1], behind)) = rest.split_first_chunk::<4>() {
        let code = u16::from_le_bytes([*code0, *code1]);
        let len = usize::from(u16::from_le_bytes([*len0, *len1]));
        if code == option::END {
            return len == 0;
        }
        if bytes(code).is_some_and(|bytes| bytes != len) {
            return false;
        }
        match behind.get(len.next_multiple_of(4)..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

fn is_stale(block: &BlockAt, first_us: u64) -> bool {
    block
        .stamp_us
        .is_some_and(|stamp_us| stamp_us.saturating_add(STALE_SLACK_US) < first_us)
}

/// What stands behind `key` in a block's comment; nothing where it does not stand there.
fn noted<'a>(block: &'a [u8], key: &str) -> &'a [u8] {
    let mut places = block.windows(key.len());
    match places.position(|window| window == key.as_bytes()) {
        Some(at) => &block[at + key.len()..],
        None => &[],
    }
}

/// The number behind `key` in a block's comment.
fn noted_number<T: FromStr>(block: &[u8], key: &str) -> Option<T> {
    let digits = noted(block, key)
        .split(|byte| !byte.is_ascii_digit())
        .next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads `lwnflog segment=N` out of the section header's comment.
fn segment_note(header: &[u8]) -> Option<usize> {
    noted_number(header, "lwnflog segment=")
        .filter(|bytes: &usize| *bytes >= 4096 && bytes.is_multiple_of(4))
}

/// The most bytes that libpcap takes for one packet of this link type (`max_snaplen_for_dlt`, `sf-pcap.c`).
fn captured_max_bytes(link_type: u32) -> u32 {
    match link_type & 0xffff {
        189 | 220 | 231 | 249 => 128 << 20, // USB, D-Bus
        279 => 8 << 20,                     // EBHSCR
        _ => 262_144,
    }
}

/// What libpcap reads stays: a packet may have no bytes, or more than its length says.
fn repair_pcap(parts: &mut impl Parts, own: bool) -> io::Result<(Repaired, usize)> {
    let len = parts.len();
    let header = parts.part(0..len.min(FILE_HEADER_BYTES))?;
    let captured_max_bytes = captured_max_bytes(u32_at(header, 20).unwrap_or(0));
    let mut found = Repaired::default();
    let (mut at, mut end, mut packets) = (FILE_HEADER_BYTES, FILE_HEADER_BYTES, 0);
    let why = loop {
        if at + RECORD_HEADER_BYTES > len {
            break "a record that is cut";
        }
        let header = parts.part(at..at + RECORD_HEADER_BYTES)?;
        let word = |at| u32_at(header, at).unwrap_or(0);
        let (seconds, fraction, captured) = (word(0), word(4), word(8));
        // A live file is zero behind its last record, which reads as packets without time and length: such
        // ones stay only in front of others.
        let empty = header.iter().all(|byte| *byte == 0);
        if empty && own {
            break "a record without time and length";
        }
        if captured > captured_max_bytes {
            break "a record that is longer than any packet";
        }
        let record_end = at + RECORD_HEADER_BYTES + captured as usize;
        if record_end > len {
            break "a record that is cut";
        }
        if found.first_us == 0 {
            found.first_us = u64::from(seconds) * 1_000_000 + u64::from(fraction).min(999_999);
        }
        (at, packets) = (record_end, packets + 1);
        if !empty {
            (end, found.packets) = (at, packets);
        }
    };
    if !is_zero(parts, at)? {
        if found.packets == 0 {
            return Err(invalid("a pcap file whose first record cannot be read"));
        }
        found.lose(at, why);
    }
    Ok((found, end.min(len)))
}

/// Whether nothing but zeros stands from `at` on.
fn is_zero(parts: &mut impl Parts, mut at: usize) -> io::Result<bool> {
    const STEP_BYTES: usize = 1 << 20;
    while at < parts.len() {
        let end = parts.len().min(at + STEP_BYTES);
        if parts.part(at..end)?.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_programs_file_is_left_alone() {
        let section = [0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28u32];
        let name_resolution = [4u32, 16, 0, 16];
        let words = section.iter().chain(&name_resolution);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let before = bytes.clone();
        let refused = repair_bytes(&mut bytes, None).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(bytes, before);
    }

    /// A file of one device and one packet, of 4096-byte segments.
    fn file() -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, block::SECTION_HEADER, NOTE);
        put(&mut bytes, block::INTERFACE_DESCRIPTION, &[0; 8]);
        put(&mut bytes, block::ENHANCED_PACKET, &packet(4));
        bytes
    }

    const NOTE: &[u8] = b"lwnflog segment=4096";

    /// The body of a packet block that says to have `captured` bytes, and has 4.
    fn packet(captured: u32) -> Vec<u8> {
        let words = [0, 0x60a24, 0x1e32_a580, captured, 4, 0x4545_4545];
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn put(bytes: &mut Vec<u8>, kind: u32, body: &[u8]) {
        let total = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(total);
        bytes.extend(body);
        bytes.extend(total);
    }

    #[test]
    fn a_packet_stays_though_less_than_a_filler_is_torn_behind_it() {
        let whole = file();
        for torn in 1..BLOCK_MIN_BYTES {
            let mut bytes = whole.clone();
            bytes.resize(whole.len() + torn, 6);
            let (found, end) = repair_bytes(&mut bytes, None).unwrap();
            assert_eq!((found.packets, end), (1, whole.len()), "{torn}");
            assert_eq!(bytes[..end], whole);
        }
    }

    /// The second of three devices is lost with its page: neither its packets nor the third's go to a
    /// wrong device.
    #[test]
    fn devices_behind_a_lost_one_are_covered() {
        let mut bytes = file();
        bytes.resize(4096, 0); // where the second was declared
        let declared = b"\x01\0\0\0\0\0\0\0\x01\0\x13\0lwnflog interface=2\0";
        put(&mut bytes, block::INTERFACE_DESCRIPTION, declared);
        for device in [1, 2, 0] {
            let mut packet = packet(4);
            packet[0] = device;
            put(&mut bytes, block::ENHANCED_PACKET, &packet);
        }
        let (found, _) = repair_bytes(&mut bytes, None).unwrap();
        assert_eq!((found.packets, found.orphans), (2, 3));
        let mut again = bytes.clone();
        assert_eq!(repair_bytes(&mut again, None).unwrap().0.orphans, 0);
    }

    #[test]
    fn a_block_without_room_for_its_fields_is_covered() {
        let (small, header) = (&[0; 4], &[0; 20]);
        for (kind, body) in [
            (block::ENHANCED_PACKET, &packet(5)[..]),
            (block::ENHANCED_PACKET, small),
            (block::INTERFACE_DESCRIPTION, small),
            (block::INTERFACE_STATISTICS, small),
            (block::SECTION_HEADER, header),
        ] {
            let whole = file();
            let mut bytes = whole.clone();
            put(&mut bytes, kind, body);
            let (found, end) = repair_bytes(&mut bytes, None).unwrap();
            assert_eq!((found.packets, found.damaged_segments), (1, 1), "{kind}");
            assert_eq!(end, whole.len());
        }
    }

    /// A clock that was set back makes packets look older than the file's first one.
    #[test]
    fn packets_are_old_only_if_the_machine_was_started_anew() {
        let note = b"lwnflog segment=4096 boot=7f0c\0\0";
        let mut whole = Vec::new();
        put(&mut whole, block::SECTION_HEADER, note);
        put(&mut whole, block::INTERFACE_DESCRIPTION, &[0; 8]);
        put(&mut whole, block::ENHANCED_PACKET, &packet(4));
        let mut older = packet(4);
        older[8] = 0; // the clock's lower half ends in 0x1e32a580: back by some minutes
        older[11] = 0;
        put(&mut whole, block::ENHANCED_PACKET, &older);
        for (boot_id, packets) in [(Some("7f0c"), 2), (Some("7f0d"), 1), (None, 1)] {
            let mut bytes = whole.clone();
            let (found, _) = repair_bytes(&mut bytes, boot_id).unwrap();
            assert_eq!(found.packets, packets, "{boot_id:?}");
        }
    }

    /// What editors make of a file: our comment is there, our segments are not.
    #[test]
    fn a_file_that_was_written_anew_is_told_from_a_damaged_one() {
        let whole = file();
        assert!(!is_rewritten(&whole));
        let mut torn = whole.clone();
        torn.extend([6; 5000]);
        assert!(!is_rewritten(&torn), "what is no block may cross a segment");
        let mut crossing = whole.clone();
        while crossing.len() <= 4096 {
            put(&mut crossing, block::ENHANCED_PACKET, &packet(4));
        }
        assert!(is_rewritten(&crossing));
        let mut foreign = whole;
        put(&mut foreign, 4, &[0; 4]); // a Name Resolution Block
        assert!(is_rewritten(&foreign));
    }

    #[test]
    fn a_block_whose_options_do_not_fit_is_covered() {
        let flags = [2, 0, 4, 0, 1, 0, 0, 0];
        let cases: [(&[u8], u64); 6] = [
            (&flags, 2),
            (&[2, 0, 3, 0, 1, 0, 0, 0], 1), // flags of three bytes
            (&[4, 0, 4, 0, 1, 0, 0, 0], 1), // a drop count of four
            (&[1, 0, 9, 0, 1, 0, 0, 0], 1), // a comment that ends behind the block
            (&[1, 0, 3, 0, 0x61, 0, 0, 0], 2),
            (&[0, 0, 1, 0], 1), // an end that is not empty
        ];
        for (options, packets) in cases {
            let mut bytes = file();
            let body = [&packet(4), options].concat();
            put(&mut bytes, block::ENHANCED_PACKET, &body);
            let (found, _) = repair_bytes(&mut bytes, None).unwrap();
            assert_eq!(found.packets, packets, "{options:?}");
        }
    }

    #[test]
    fn a_classic_file_is_not_cut_to_nothing() {
        let header = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 0xffff, 1];
        let record = [0u32, 7, 4, 4, 0x4545_4545]; // time begins at 0
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let mut whole = [words(&header), words(&record)].concat();
        let (found, end) = repair_bytes(&mut whole.clone(), None).unwrap();
        assert_eq!((found.packets, end), (1, whole.len()));
        whole[24 + 8] = 9; // more bytes captured than there are
        assert!(repair_bytes(&mut whole, None).is_err());
    }

    #[test]
    fn a_section_header_is_never_covered() {
        let mut bytes = Vec::new();
        put(&mut bytes, block::SECTION_HEADER, &NOTE.repeat(300));
        let before = bytes.clone();
        assert!(repair_bytes(&mut bytes, None).is_err());
        assert_eq!(bytes, before);
    }
}
