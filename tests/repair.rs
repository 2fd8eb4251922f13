//! `lwnflog repair` on files of other programs, and what it says: nothing that libpcap reads is
//! lost, nothing at all without a way back.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use common::made::{File, option};
use common::spent::spent;
use common::{LWNFLOG, output, run, temp_dir};
use lwnflog::ring::recovery::{boot_id, repair_bytes, repair_unowned};
use proptest::prelude::*;

/// One record of a classic file: its time, how many bytes there are, and how many it says there
/// were.
#[derive(Debug, Clone)]
struct Record {
    seconds: u32,
    captured: u16,
    original: u32,
}

fn pcap(magic: u32, snaplen: u32, records: &[Record]) -> Vec<u8> {
    let header = [magic, 0x0004_0002, 0, 0, snaplen, 1];
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    for record in records {
        let header = [
            record.seconds,
            7,
            u32::from(record.captured),
            record.original,
        ];
        bytes.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(std::iter::repeat_n(0x45, usize::from(record.captured)));
    }
    bytes
}

/// 106 records: one has no bytes, one more than it says it had, one less.
fn foreign() -> Vec<u8> {
    let records: Vec<_> = (0..106)
        .map(|number| Record {
            seconds: 1_700_000_000 + number,
            captured: if number == 5 { 0 } else { 60 },
            original: match number {
                5 => 0,
                7 => 40,
                9 => 1500,
                _ => 60,
            },
        })
        .collect();
    pcap(0xa1b2_c3d4, 65_535, &records)
}

/// What tcpdump and capinfos find, and that they find no fault.
fn readers_find(path: &Path) -> usize {
    let tcpdump = output(
        Command::new("tcpdump").args(["-n", "-t", "-r"]).arg(path),
        "",
    );
    assert!(tcpdump.status.success(), "{tcpdump:?}");
    let lines = String::from_utf8_lossy(&tcpdump.stdout)
        .lines()
        .filter(|line| !line.starts_with('\t'))
        .count();
    let capinfos = run(Command::new("capinfos").args(["-c", "-M"]).arg(path), "");
    assert!(
        capinfos.contains(&format!(" {lines}")),
        "{lines}, {capinfos}"
    );
    lines
}

#[test]
fn what_libpcap_reads_stays_as_it_is() {
    let dir = temp_dir();
    for (name, magic) in [("micro", 0xa1b2_c3d4u32), ("nano", 0xa1b2_3c4d)] {
        let path = dir.path().join(name);
        let mut bytes = foreign();
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        assert_eq!(readers_find(&path), 106);
        let told = run(Command::new(LWNFLOG).arg("repair").arg(&path), "");
        assert!(
            told.contains("106 packets") && !told.contains("cut"),
            "{told}"
        );
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no copy is needed"
        );
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_is_cut_is_told_and_kept() {
    let dir = temp_dir();
    let path = dir.path().join("damaged");
    let mut bytes = foreign();
    let at = 24 + 50 * 76 - 60; // the 51st record: one of those before it is empty
    bytes[at + 8..at + 12].copy_from_slice(&0x7000_0000u32.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let dry = run(
        Command::new(LWNFLOG)
            .args(["repair", "--dry-run"])
            .arg(&path),
        "",
    );
    for part in [
        "50 packets",
        "would be cut",
        "at byte 3,764",
        "longer than any packet",
    ] {
        assert!(dry.contains(part), "{dry}");
    }
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    for round in ["", ".2"] {
        let told = run(Command::new(LWNFLOG).arg("repair").arg(&path), "");
        let copy = dir.path().join(format!("damaged.orig{round}"));
        let cut = "(4,256 cut)";
        for part in ["50 packets", cut, "at byte 3,764", copy.to_str().unwrap()] {
            assert!(told.contains(part), "`{part}` is not in {told}");
        }
        assert!(fs::read(&copy).unwrap() == bytes);
        assert_eq!(readers_find(&path), 50);
        fs::write(&path, &bytes).unwrap();
    }
    // A record that is cut short is one that is lost; zeros behind the last are not.
    fs::write(&path, &foreign()[..24 + 76 + 20]).unwrap();
    let told = run(Command::new(LWNFLOG).arg("repair").arg(&path), "");
    assert!(
        told.contains("1 packets") && told.contains("a record that is cut"),
        "{told}"
    );
    fs::write(&path, [&foreign()[..], &[0; 5000]].concat()).unwrap();
    let told = run(Command::new(LWNFLOG).arg("repair").arg(&path), "");
    assert!(
        told.contains("106 packets") && told.contains("(5,000 cut)"),
        "{told}"
    );
    assert!(!told.contains("as it was"), "{told}");
}

/// Nobody reads what is said: the work is done all the same, and the exit status tells.
#[test]
fn closed_output_leaves_no_file_out() {
    let dir = temp_dir();
    let tail = [0; 100];
    let paths = ["one", "two", "three"].map(|name| dir.path().join(name));
    for path in &paths {
        fs::write(path, [&foreign()[..], &tail].concat()).unwrap();
    }
    for full in [false, true] {
        let mut child = Command::new(LWNFLOG)
            .arg("repair")
            .args(&paths)
            .stdout(if full {
                Stdio::from(fs::File::create("/dev/full").unwrap())
            } else {
                Stdio::piped()
            })
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains("standard output cannot be written"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        for path in &paths {
            assert!(fs::read(path).unwrap() == foreign(), "{}", path.display());
            fs::write(path, [&foreign()[..], &tail].concat()).unwrap();
        }
    }
}

proptest! {
    /// Any file that libpcap reads to its end is left as it is, byte for byte.
    #[test]
    fn a_file_without_a_fault_is_not_changed(
        records in proptest::collection::vec(
            (1u32.., 0u16..300, any::<u32>()).prop_map(|(seconds, captured, original)| Record {
                seconds, captured, original,
            }),
            0..40,
        ),
        nanoseconds in any::<bool>(),
        snaplen in any::<u32>(),
    ) {
        let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let before = pcap(magic, snaplen, &records);
        let mut after = before.clone();
        let (found, end) = repair_bytes(&mut after, None).unwrap();
        prop_assert_eq!(found.packets, records.len() as u64);
        prop_assert_eq!(found.loss, None);
        prop_assert_eq!(end, before.len());
        prop_assert!(after == before);
    }
}

/// A file as lwnflog writes it: segments of 4096 bytes, each with some packets, and padding.
fn segments(packets: &[u8]) -> Vec<u8> {
    let mut file = File(Vec::new());
    let mut header = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX]
        .map(u32::to_le_bytes)
        .concat();
    option(&mut header, 1, b"lwnflog segment=4096");
    header.extend([0; 4]);
    file.block(0x0a0d_0d0a, &header);
    file.interface("eth0", "NFLOG group 5", 0);
    let mut after_ms = 0;
    for (segment, packets) in packets.iter().enumerate() {
        for _ in 0..*packets {
            after_ms += 1;
            file.packet_with(0, after_ms, &[0x45; 60], 0, &[]);
        }
        let end = 4096 * (segment + 1);
        let body = end - file.0.len() - 12;
        file.block(0x8000_6c77, &vec![0; body]);
    }
    file.0
}

proptest! {
    /// A file is repaired part by part, with the same bytes as if all of it were in memory at once.
    #[test]
    fn parts_are_repaired_as_the_whole(
        packets in proptest::collection::vec(0_u8..20, 1..500),
        harm in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1_usize..6000), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut before = segments(&packets);
        for (at, byte, len) in harm {
            let at = at.index(before.len());
            let end = before.len().min(at + len);
            before[at..end].fill(byte);
        }
        if is_cut {
            before.truncate(cut.index(before.len()));
        }
        let dir = temp_dir();
        // Of a ring's name, which says that what is behind damage is lwnflog's.
        let path = dir.path().join("g5-000001-20261124T093000Z.pcapng");
        fs::write(&path, &before).unwrap();
        let mut expected = before.clone();
        let boot = boot_id();
        let in_memory = repair_bytes(&mut expected, boot.as_deref());
        match repair_unowned(&path, false) {
            Ok((found, copy)) => {
                let (mut whole, end) = in_memory.unwrap();
                (whole.bytes_before, whole.bytes_after) = (before.len() as u64, end as u64);
                prop_assert_eq!(found, whole);
                prop_assert!(fs::read(&path).unwrap() == expected[..end]);
                prop_assert_eq!(copy.is_some(), found.loss.is_some());
                if let Some(copy) = copy {
                    prop_assert!(fs::read(copy).unwrap() == before);
                }
            }
            Err(error) => {
                // What another program wrote anew is refused besides.
                prop_assert!(in_memory.is_err() || error.to_string().contains("anew"), "{}", error);
                prop_assert!(fs::read(&path).unwrap() == before);
            }
        }
    }
}

/// However large a file is, repair takes as much memory.
#[test]
fn memory_does_not_grow_with_the_file() {
    const FILE_BYTES: u64 = 96 << 20;
    let dir = temp_dir();
    let (damaged, classic) = (dir.path().join("damaged"), dir.path().join("classic"));
    // Sparse files: all behind the records is a hole.
    let mut bytes = segments(&[10; 20]);
    bytes[5000..5100].fill(6);
    for (path, bytes) in [(&damaged, bytes), (&classic, foreign())] {
        fs::write(path, bytes).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(FILE_BYTES).unwrap();
    }
    for path in [damaged, classic] {
        let path = path.to_str().unwrap();
        let spent = spent(LWNFLOG, &["repair", path]);
        assert!(spent.output.status.success(), "{spent:?}");
        assert!(fs::metadata(path).unwrap().len() < 100_000, "{spent:?}");
        assert!(spent.peak_bytes < 64 << 20, "{spent:?}");
    }
}

/// Where a file was cut, less is there than was written: also where only space was cut.
#[test]
fn a_file_that_is_cut_inside_a_padding_block_is_told() {
    let dir = temp_dir();
    let path = dir.path().join("cut");
    let whole = segments(&[10, 2, 5]);
    fs::write(&path, &whole[..2 * 4096 - 500]).unwrap();
    let told = run(Command::new(LWNFLOG).arg("repair").arg(&path), "");
    for part in ["12 packets", "a padding block that is cut"] {
        assert!(told.contains(part), "{told}");
    }
    for end in [2 * 4096, 3 * 4096] {
        fs::write(&path, &whole[..end]).unwrap();
        let told = run(Command::new(LWNFLOG).arg("repair").arg(&path), "");
        assert!(!told.contains("that is cut"), "{told}");
    }
}
