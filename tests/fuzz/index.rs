//! Fuzz target: what is found in a file by its index is what is found without, whatever the file holds; and an
//! index that says anything at all is passed over, or has packets passed over, and nothing else.
//!
//! The first byte of an input says whether the rest is a recipe for a file, or an index; and which filter.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use lwnflog::index::beside;
use lwnflog::read::chain::{Merged, Span};
use lwnflog::read::filter::Filter;
use lwnflog::read::plan::Selection;
use tempfile::TempDir;

common::target!(seeds, check);

const SEGMENT_BYTES: usize = 65_536;
/// Each by another kind of key, and put together.
const FILTERS: [&str; 8] = [
    "host 10.0.0.1",
    "net 10.0.0.0/24",
    "ip6 host fd00::1",
    "port 53",
    "proto 47",
    "lost",
    "udp and not port 53",
    "(src host 10.0.0.1 or dst port 80) and tcp",
];

/// The file, whose name is a ring's; its index is made when it is looked for.
fn path() -> PathBuf {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| TempDir::new().unwrap());
    dir.path().join("g5-000001-20261127T000000Z.pcapng")
}

fn check(input: &[u8]) {
    let path = path();
    let _ = fs::remove_file(beside(&path));
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let filter = FILTERS[usize::from(how >> 1 & 7)];
    if how % 2 == 1 {
        fs::write(&path, made(RECIPE)).unwrap();
        fs::write(beside(&path), believed(rest)).unwrap();
        let all = found("", 0, true).unwrap();
        let some = found(filter, 0, false).unwrap_or_default();
        assert!(some.iter().all(|packet| all.contains(packet)));
    } else {
        fs::write(&path, made(rest)).unwrap();
        let from_ns = u64::from(how >> 4 & 1) * 700_000;
        if let Some(without) = found(filter, from_ns, true) {
            assert_eq!(found(filter, from_ns, false), Some(without), "{filter}");
        }
    }
}

/// Times and bytes of what a filter takes. `None` where the file cannot be read to its end.
fn found(filter: &str, from_ns: u64, no_index: bool) -> Option<Vec<(u64, Vec<u8>)>> {
    let selection = Selection {
        filter: Filter::parse(filter).unwrap(),
        span: Span {
            from_ns,
            ..Span::default()
        },
        no_index,
    };
    let mut merged = Merged::select(&[path()], selection).unwrap();
    let mut found = Vec::new();
    while merged.advance() {
        let record = merged.record().unwrap();
        found.push((record.time_ns, record.data.to_vec()));
    }
    merged.take_faults().is_empty().then_some(found)
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let padded = body.len().next_multiple_of(4);
    let total = u32::try_from(padded + 12).unwrap().to_le_bytes();
    out.extend(kind.to_le_bytes());
    out.extend(total);
    out.extend(body);
    out.resize(out.len() + padded - body.len(), 0);
    out.extend(total);
}

fn fill_segment(out: &mut Vec<u8>) {
    let left = out.len().next_multiple_of(SEGMENT_BYTES) - out.len();
    if left >= 12 {
        block(out, 0x8000_6c77, &vec![0; left - 12]);
    }
}

/// A file: each piece of a recipe begins with what it is, and how long it is.
fn made(mut recipe: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut header = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX]
        .map(u32::to_le_bytes)
        .concat();
    header.extend([1, 0, 21, 0]);
    header.extend(b"lwnflog segment=65536\0\0\0\0\0\0\0");
    block(&mut file, 0x0a0d_0d0a, &header);
    block(&mut file, 1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let mut time_us = 0_u64;
    while let [kind, len, rest @ ..] = recipe {
        let (body, behind) = rest.split_at(rest.len().min(usize::from(*len)));
        recipe = behind;
        match kind % 8 {
            // Its interface, what was lost before it, how long after the last, and its bytes.
            0..=3 => {
                let [interface, lost, after, frame @ ..] = body else {
                    continue;
                };
                time_us += u64::from(*after);
                let len = u32::try_from(frame.len()).unwrap().to_le_bytes();
                let mut packet = u32::from(interface % 4).to_le_bytes().to_vec();
                packet.extend(time_us.rotate_left(32).to_le_bytes());
                packet.extend([len, len].concat());
                packet.extend(frame);
                packet.resize(packet.len().next_multiple_of(4), 0);
                if *lost != 0 {
                    packet.extend([4, 0, 8, 0, *lost, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                }
                block(&mut file, 6, &packet);
            }
            4 => fill_segment(&mut file),
            // An interface of this link type, with these options.
            5 => block(
                &mut file,
                1,
                &[&[len % 2, 0, 0, 0, 0, 0, 0, 0], body].concat(),
            ),
            6 => time_us = time_us.saturating_sub((*len).into()),
            _ => file.extend(body),
        }
    }
    file
}

/// An index that its file and its checksum do not speak against: `docs/FORMAT.md`.
fn believed(bytes: &[u8]) -> Vec<u8> {
    const ODD: [u64; 3] = [
        0x9e37_79b9_7f4a_7c15,
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
    ];
    let checksum = |bytes: &[u8]| {
        let mut sum = bytes.len() as u64 ^ ODD[0];
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sum = (sum ^ u64::from_le_bytes(word))
                .wrapping_mul(ODD[1])
                .rotate_left(29);
        }
        let product = u128::from(sum) * u128::from(ODD[2]);
        let halves = [product, product >> 64]
            .map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap());
        halves[0] ^ halves[1]
    };
    let meta = fs::metadata(path()).unwrap();
    let modified = meta.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    let mut index = b"lwnfidx2".to_vec();
    index.extend(meta.len().to_le_bytes());
    index.extend(u64::try_from(modified.as_nanos()).unwrap().to_le_bytes());
    // Segments of 65536 bytes, up to 3 interfaces and 7 segments, as many as there is room for.
    let counts = bytes.first().copied().unwrap_or(0);
    let (interfaces, segments) = (u32::from(counts & 3), u32::from(counts >> 2 & 7));
    for word in [65_536, interfaces, segments, 0] {
        index.extend(word.to_le_bytes());
    }
    let table = bytes.get(1..).unwrap_or_default();
    let len = (8 * interfaces + 48 * segments) as usize;
    let table_bytes = &table[..table.len().min(len)];
    // From the beginning of time to its end.
    index.extend(0_u64.to_le_bytes());
    index.extend(u64::MAX.to_le_bytes());
    index.extend(checksum(table_bytes).to_le_bytes());
    index.extend(checksum(&index).to_le_bytes());
    index.extend(table);
    index
}

/// Two segments with packets of TCP, UDP and IPv6.
const RECIPE: &[u8] = &{
    let mut recipe = [0; 3 * 47 + 2];
    let mut packet = [
        0, 45, 0, 0, 200, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64,
        17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 53, 0, 8, 0, 0,
    ];
    let mut number = 0;
    let mut at = 0;
    while number < 3 {
        let mut place = 0;
        while place < packet.len() {
            recipe[at] = packet[place];
            at += 1;
            place += 1;
        }
        if number == 0 {
            recipe[at] = 4;
            at += 2;
        }
        packet[28] = 6; // TCP
        packet[42] = 80;
        packet[3] = number; // lost before
        number += 1;
    }
    recipe
};

fn seeds() -> Vec<Vec<u8>> {
    let v6 = [
        &[0, 65, 0, 3, 9][..],
        &[2; 12],
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64, 0xfd],
        &[0; 14],
        &[1, 0xfd],
        &[0; 14],
        &[2, 0, 53, 0, 53, 0, 8, 0, 0],
    ];
    let recipe = [
        RECIPE,
        &[4, 0],
        &v6.concat()[..],
        &[5, 1, 9, 6, 200],
        RECIPE,
    ]
    .concat();
    let mut seeds = Vec::new();
    for filter in 0..8_u8 {
        seeds.push([&[filter << 1], &recipe[..]].concat());
        seeds.push([&[filter << 1 | 16], &recipe[..]].concat());
    }
    seeds.extend([
        [&[1, 1 | 2 << 2], &40_u64.to_le_bytes()[..], &[0; 96]].concat(),
        [
            &[7, 1 | 2 << 2],
            &64_u64.to_le_bytes()[..],
            &[0xff; 96],
            &[0x55; 100],
        ]
        .concat(),
    ]);
    seeds
}
