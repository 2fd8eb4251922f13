//! Fuzz target: repair of any bytes keeps every record that stood whole in its segment, where and
//! as it was, finds no other, never makes the file longer, and leaves nothing to do for a second
//! repair.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::pcapng::block::{self, put_padding};
use lwnflog::format::{Format, Interfaces, LinkType};
use lwnflog::ring::recovery::{Repaired, repair_bytes};

common::target!(seeds, check);

const SEGMENT_BYTES: usize = 4096;
/// What is older than the first packet by more is left from a recycled file.
const STALE_US: u64 = 1_000_000;
const FIRST_US: u64 = 1_700_000_000_000_000;

fn check(input: &[u8]) {
    let file = file(input);
    let mut repaired_file = file.clone();
    let Ok((repaired, end)) = repair_bytes(&mut repaired_file, None) else {
        assert_eq!(repaired_file, file, "refused, but changed");
        return;
    };
    assert_eq!(repaired_file.len(), file.len());
    assert!(end <= file.len());
    repaired_file.truncate(end);

    let mut again = repaired_file.clone();
    let (found_again, end_again) = repair_bytes(&mut again, None).unwrap();
    assert_eq!((end_again, &again), (end, &repaired_file));
    let nothing_to_do = Repaired {
        damaged_segments: 0,
        orphans: 0,
        loss: None,
        ..repaired
    };
    assert_eq!(found_again, nothing_to_do);

    if file.starts_with(&block::SECTION_HEADER.to_le_bytes()) {
        check_pcapng(&file, &repaired_file, &repaired);
    } else {
        check_classic(&file, &repaired_file, &repaired);
    }
}

fn check_pcapng(before: &[u8], after: &[u8], repaired: &Repaired) {
    let segment_bytes = segment_note(before);
    let (expected, _) = whole_packets(before, segment_bytes);
    let (found, readable) = whole_packets(after, segment_bytes);
    assert!(readable, "something is left that is no block");
    assert_eq!(found, expected);
    assert_eq!(repaired.packets, expected.len() as u64);
}

/// A packet block as it stands in a file: where, its bytes.
type PacketAt<'a> = (usize, &'a [u8]);

/// The packet blocks that stand whole in their segments, up to the first of a segment's bytes that
/// are no block as lwnflog writes it; and whether there are no such bytes. (docs/FORMAT.md)
fn whole_packets(file: &[u8], segment_bytes: usize) -> (Vec<PacketAt<'_>>, bool) {
    let (mut packets, mut readable) = (Vec::new(), true);
    let (mut interfaces, mut first_us) = (0, 0);
    for start in (0..file.len()).step_by(segment_bytes) {
        let segment_end = file.len().min(start.saturating_add(segment_bytes));
        let mut at = start;
        while at < segment_end {
            let Some(len) = whole_block(&file[at..segment_end], at == 0) else {
                readable = false;
                break;
            };
            let left = segment_end - at - len;
            if (1..12).contains(&left) && segment_end != file.len() {
                readable = false; // no padding block fits behind it
                break;
            }
            let bytes = &file[at..at + len];
            let stamp_ticks = || u64::from(word(bytes, 3)) << 32 | u64::from(word(bytes, 4));
            match word(bytes, 0) {
                block::INTERFACE_DESCRIPTION => interfaces += 1,
                block::ENHANCED_PACKET if stamp_ticks() + STALE_US < first_us => {
                    readable = false;
                    break;
                }
                block::ENHANCED_PACKET if word(bytes, 2) < interfaces => {
                    if first_us == 0 {
                        first_us = stamp_ticks();
                    }
                    packets.push((at, bytes));
                }
                block::ENHANCED_PACKET | block::INTERFACE_STATISTICS
                    if word(bytes, 2) >= interfaces =>
                {
                    readable = false; // alone: what follows it counts
                }
                _ => {}
            }
            at += len;
        }
    }
    (packets, readable)
}

fn word(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * place..4 * place + 4].try_into().unwrap())
}

const STATISTICS_OPTIONS: [(u16, usize); 7] =
    [(2, 8), (3, 8), (4, 8), (5, 8), (6, 8), (7, 8), (8, 8)];

/// The length of the block that `bytes` begin with.
fn whole_block(bytes: &[u8], first: bool) -> Option<usize> {
    if bytes.len() < 12 {
        return None;
    }
    let len = word(bytes, 1) as usize;
    if len < 12
        || !len.is_multiple_of(4)
        || len > bytes.len()
        || word(bytes, len / 4 - 1) as usize != len
    {
        return None;
    }
    let fits = match word(bytes, 0) {
        block::SECTION_HEADER => first && len >= 28,
        block::INTERFACE_DESCRIPTION => len >= 20 && options_fit(&bytes[16..len - 4], &[(9, 1)]),
        block::INTERFACE_STATISTICS => {
            // Times and counters, all of 64 bits; of other codes nothing is known.
            len >= 24 && options_fit(&bytes[20..len - 4], &STATISTICS_OPTIONS)
        }
        block::ENHANCED_PACKET => {
            len >= 32 && len - 32 >= word(bytes, 5) as usize && {
                let padded = (word(bytes, 5) as usize).div_ceil(4) * 4;
                options_fit(&bytes[28 + padded..len - 4], &[(2, 4), (4, 8)])
            }
        }
        block::PADDING => true,
        _ => false,
    };
    fits.then_some(len)
}

/// Whether a block's options are inside it, those of `lengths` (code, bytes) as long as they have
/// to be.
fn options_fit(options: &[u8], lengths: &[(u16, usize)]) -> bool {
    let half = |at: usize| u16::from_le_bytes([options[at], options[at + 1]]);
    let mut at = 0;
    while at + 4 <= options.len() {
        let (code, len) = (half(at), usize::from(half(at + 2)));
        if code == 0 {
            return len == 0;
        }
        let wrong = |(of, bytes): &(u16, usize)| *of == code && *bytes != len;
        at += 4 + len.div_ceil(4) * 4;
        if at > options.len() || lengths.iter().any(wrong) {
            return false;
        }
    }
    at == options.len()
}

/// The segment's size as the file says it.
fn segment_note(file: &[u8]) -> usize {
    let header = String::from_utf8_lossy(&file[..word(file, 1) as usize]);
    let (_, note) = header.split_once("lwnflog segment=").unwrap();
    let digits = note.find(|c: char| !c.is_ascii_digit()).unwrap();
    note[..digits].parse().unwrap()
}

/// Of a classic file nothing is changed but the length: what libpcap reads stays, but for zeros at
/// the end.
fn check_classic(before: &[u8], after: &[u8], repaired: &Repaired) {
    assert!(before.starts_with(after));
    let mut at = 24;
    while let Some(header) = before.get(at..at + 16) {
        let captured = word(header, 2) as usize;
        let end = at + 16 + captured;
        let long = matches!(word(before, 5) & 0xffff, 189 | 220 | 231 | 249 | 279);
        if captured > 1 << 18 && !long || end > before.len() {
            break;
        }
        at = end;
    }
    // Up to the last record of which anything is not zero.
    let (mut shown, mut packets, mut place, mut seen) = (24, 0, 24, 0);
    while place < at {
        let record = &before[place..place + 16 + word(&before[place..], 2) as usize];
        (place, seen) = (place + record.len(), seen + 1);
        if record[..16].iter().any(|byte| *byte != 0) {
            (shown, packets) = (place, seen);
        }
    }
    at = shown;
    assert_eq!(repaired.packets, packets);
    assert_eq!(after.len(), at.min(before.len()));
}

/// The file that an input stands for: its first byte says whether the rest stands as it is, or
/// behind the header of a classic file, or is a recipe of blocks.
fn file(input: &[u8]) -> Vec<u8> {
    let Some((how, rest)) = input.split_first() else {
        return Vec::new();
    };
    match how % 3 {
        0 => rest.to_vec(),
        1 => {
            let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 1u32]
                .map(u32::to_le_bytes)
                .concat();
            file.extend(rest);
            file
        }
        _ => blocks(rest),
    }
}

/// What a byte of a recipe asks for; each takes a second one.
mod op {
    pub(super) const PACKET: u8 = 0;
    pub(super) const INTERFACE: u8 = 1;
    pub(super) const STATISTICS: u8 = 2;
    pub(super) const PADDING: u8 = 3;
    /// A padding block up to so many words before the segment's end, or zeros.
    pub(super) const TO_SEGMENT_END: u8 = 4;
    pub(super) const ZEROS: u8 = 5;
    /// The bytes that follow in the recipe.
    pub(super) const BYTES: u8 = 6;
    /// This and more: a block of any type and size.
    pub(super) const ANY: u8 = 7;
}

/// Segments of a recipe, at the most.
const FILE_BYTES_MAX: usize = 4 * SEGMENT_BYTES;

fn blocks(recipe: &[u8]) -> Vec<u8> {
    let interfaces = Interfaces::new(|_| None);
    let mut format = PcapNg::new(LinkType::Ip, 128, String::new(), SEGMENT_BYTES, interfaces);
    let mut file = Vec::new();
    format.begin(&mut |block| file.extend_from_slice(block));
    let mut rest = recipe;
    while let Some((&[asked, size], behind)) = rest.split_first_chunk::<2>() {
        rest = behind;
        let words = usize::from(size);
        match asked % (op::ANY + 1) {
            op::PACKET => {
                // Which interface, when, how much of it is the frame.
                let Some((&[interface, seconds, frame], behind)) = rest.split_first_chunk::<3>()
                else {
                    break;
                };
                rest = behind;
                let stamp_ticks = FIRST_US + 400_000 * u64::from(seconds);
                let mut body = Vec::new();
                body.extend(u32::from(interface % 4).to_le_bytes());
                body.extend(stamp_ticks.rotate_left(32).to_le_bytes());
                body.extend((4 * u32::from(frame)).to_le_bytes());
                body.extend([0xff; 4]);
                body.resize(body.len() + 4 * words, 0xa5);
                put(&mut file, block::ENHANCED_PACKET, &body);
            }
            op::INTERFACE => put(&mut file, block::INTERFACE_DESCRIPTION, &[0; 8]),
            op::STATISTICS => {
                let interface = u32::from(size % 4).to_le_bytes();
                put(
                    &mut file,
                    block::INTERFACE_STATISTICS,
                    &[&interface[..], &[0; 8]].concat(),
                );
            }
            op::PADDING => put(&mut file, block::PADDING, &vec![0; 4 * words]),
            op::TO_SEGMENT_END => {
                let at = file.len();
                let end = (at / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
                file.resize(end.saturating_sub(4 * (words % 8)).max(at), 0);
                if size < 128 && file.len().is_multiple_of(4) && at.is_multiple_of(4) {
                    put_padding(&mut file[at..]);
                }
            }
            op::ZEROS => file.resize(file.len() + 16 * words, 0),
            op::BYTES => {
                let (bytes, behind) = rest.split_at(words.min(rest.len()));
                file.extend(bytes);
                rest = behind;
            }
            _ => {
                let kind = [0, 1, 2, 3, 5, 6, block::PADDING, block::SECTION_HEADER];
                let kind = kind[words % kind.len()];
                put(&mut file, kind, &vec![size; words / 8 * 4]);
            }
        }
        if file.len() > FILE_BYTES_MAX {
            break;
        }
    }
    file
}

fn put(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let total = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
    file.extend(kind.to_le_bytes());
    file.extend(total);
    file.extend(body);
    file.extend(total);
}

fn seeds() -> Vec<Vec<u8>> {
    use op::*;
    let plain = [
        2,
        INTERFACE,
        0,
        PACKET,
        4,
        0,
        0,
        4,
        PACKET,
        6,
        0,
        1,
        5,
        TO_SEGMENT_END,
        0,
        INTERFACE,
        0,
        PACKET,
        2,
        1,
        3,
        2,
        TO_SEGMENT_END,
        0,
        STATISTICS,
        0,
        STATISTICS,
        1,
    ];
    // A page that was lost, an interface that was never declared, an old packet, a cut in a block.
    let damaged = [
        2,
        INTERFACE,
        0,
        PACKET,
        4,
        0,
        90,
        4,
        PACKET,
        6,
        3,
        91,
        5,
        TO_SEGMENT_END,
        128,
        ZEROS,
        200,
        PACKET,
        2,
        0,
        93,
        2,
        TO_SEGMENT_END,
        128,
        PACKET,
        4,
        0,
        0,
        4,
        BYTES,
        4,
        6,
        0,
        0,
        0,
    ];
    let mut classic = vec![1];
    for len in [1, 20, 60] {
        classic.extend(
            [1_700_000_000, 999_999, len, 100]
                .map(u32::to_le_bytes)
                .concat(),
        );
        classic.resize(classic.len() + len as usize, 0x45);
    }
    classic.resize(classic.len() + 100, 0);
    let as_it_stands = [&[0], &blocks(&plain[1..])[..]].concat();
    vec![plain.to_vec(), damaged.to_vec(), classic, as_it_stands]
}
