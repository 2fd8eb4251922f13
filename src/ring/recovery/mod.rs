//! Repair of a file whose writer could not finish it: `lwnflog repair`, and every restart.
//!
//! After `kill -9` a pcapng file needs none but the cut; classic pcap needs its zero rest cut off
//! to be readable. After a power failure any page may be missing: a pcapng segment is then read up
//! to the first bytes that are no block, its rest is replaced by a padding block, and reading goes
//! on with the next segment. Where a page is missing of a file that was recycled, the disk still
//! has the old file's: packets that are too old for this one tell. Where the machine has not been
//! started anew since, no page is missing, and no packet is asked for its age.

mod pcap;
mod pcapng;
mod unowned;

use std::fs::{self, File};
use std::io;

pub use unowned::repair_unowned;

use super::parts::{FileParts, Parts};
use crate::format::pcap::{FILE_HEADER_BYTES, MAGIC_MICROS, MAGIC_NANOS};
use crate::format::pcapng::block;
use crate::format::pcapng::reader::u32_at;

/// What a repair found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Packets that can be read.
    pub packets: u64,
    /// Time of the first one, microseconds since 1970; 0 is none.
    pub first_us: u64,
    /// Segments with something unreadable in them, which a padding block has replaced.
    pub damaged_segments: u64,
    /// Blocks that name an interface whose declaration was lost: they are padding blocks now.
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

/// What of a file cannot be read, and is replaced or cut.
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
    let (mut repaired, end) = repair_parts(&mut parts, boot_id().as_deref(), Whose::Own)?;
    repaired.bytes_before = bytes_before;
    repaired.bytes_after = end as u64;
    if repaired.bytes_after < repaired.bytes_before {
        file.set_len(repaired.bytes_after)?;
    }
    Ok(repaired)
}

/// Which boot of this machine goes on: a new id each time it is started (`random(4)`). `None` where
/// `/proc` does not tell.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Repairs a file's bytes in place. Returns what was found, and the length that is to stay.
/// `boot_id` is [`boot_id`]: a file that was written since is whole but for its end. They are taken for a file of a
/// ring's, under its name.
///
/// # Errors
/// `InvalidData` for what is neither pcapng nor pcap, and for pcap of which no packet would be
/// left; nothing is changed then.
pub fn repair_bytes(bytes: &mut [u8], boot_id: Option<&str>) -> io::Result<(Repaired, usize)> {
    repair_parts(&mut &mut *bytes, boot_id, Whose::Named)
}

/// Whose a file is, as far as that is known without looking into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This ring's: it has no record without a time.
    Own,
    /// It has the name of a ring's file.
    Named,
    /// Anybody's.
    Unknown,
}

/// [`repair_bytes`] of a file's parts.
fn repair_parts(
    parts: &mut impl Parts,
    boot_id: Option<&str>,
    whose: Whose,
) -> io::Result<(Repaired, usize)> {
    let magic = parts.part(0..parts.len().min(4))?;
    match u32_at(magic, 0) {
        Some(block::SECTION_HEADER) => pcapng::repair(parts, boot_id, whose),
        Some(MAGIC_MICROS | MAGIC_NANOS) => pcap::repair(parts, whose == Whose::Own),
        _ => Err(invalid(
            "neither a pcapng nor a pcap file as lwnflog writes them",
        )),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::unowned::is_rewritten;
    use super::*;
    use crate::format::pcapng::block::BLOCK_MIN_BYTES;

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

    /// A file of one interface and one packet, of 4096-byte segments.
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

    /// The second of three interfaces is lost with its page: neither its packets nor the third's go
    /// to a wrong interface.
    #[test]
    fn interfaces_behind_a_lost_one_are_covered() {
        let mut bytes = file();
        bytes.resize(4096, 0); // where the second was declared
        let declared = b"\x01\0\0\0\0\0\0\0\x01\0\x13\0lwnflog interface=2\0";
        put(&mut bytes, block::INTERFACE_DESCRIPTION, declared);
        for interface in [1, 2, 0] {
            let mut packet = packet(4);
            packet[0] = interface;
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
        let is_rewritten = |bytes: &[u8]| is_rewritten(&mut bytes.to_vec().as_mut_slice()).unwrap();
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
