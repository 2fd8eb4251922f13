//! `lwnflog repair` on files of other programs, and what it says: nothing that libpcap reads is
//! lost, nothing at all without a way back.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{LWNFLOG, output, run, temp_dir};
use lwnflog::ring::recovery::repair_bytes;
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
                Stdio::from(File::create("/dev/full").unwrap())
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
