//! `lwnflog ls`: each file of a ring once, as it is, whatever happens to it or to others meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use common::made::File;
use common::rings::{Live, SEGMENT_BYTES, frame};
use common::{LWNFLOG, output, temp_dir};
use serde_json::Value;

/// A capture of so many packets, a millisecond after the other.
fn capture(packets: u64) -> Vec<u8> {
    let mut file = File::new();
    for number in 0..packets {
        file.packet(number, &[0x45; 40], 0);
    }
    file.0
}

/// How `ls` has ended, what it has shown, and what it has said.
fn ls(args: &[&Path]) -> (i32, String, String) {
    let done = output(Command::new(LWNFLOG).arg("ls").args(args), "");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        done.status.code().unwrap(),
        text(&done.stdout),
        text(&done.stderr),
    )
}

fn rows(dir: &Path) -> Vec<Value> {
    let (_, told, _) = ls(&[Path::new("--json"), dir]);
    let lines = told.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// While `ls` looks, a file gets its finished name, is compressed, and goes to be recycled.
#[test]
fn a_file_that_is_renamed_meanwhile_is_not_damaged() {
    let dir = temp_dir();
    for number in 1..100 {
        let name = format!("g5-{number:06}-20260101T000000Z.pcapng");
        fs::write(dir.path().join(name), capture(5)).unwrap();
    }
    let names = [
        "g5-000100.live.pcapng",
        "g5-000100-20260101T000000Z.pcapng",
        ".g5-000101.new.pcapng",
    ]
    .map(|name| dir.path().join(name));
    fs::write(&names[0], capture(7)).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut turns = names.iter().cycle();
            let mut now = turns.next().unwrap();
            while !ended.load(Relaxed) {
                let next = turns.next().unwrap();
                fs::rename(now, next).unwrap();
                now = next;
                thread::sleep(Duration::from_millis(2));
            }
        });
        for _ in 0..150 {
            let rows = rows(dir.path());
            assert!(matches!(rows.len(), 99 | 100), "{}", rows.len());
            for row in rows {
                assert_ne!(row["state"], "damaged", "{row}");
                let packets = if row["number"] == 100 { 7 } else { 5 };
                assert_eq!(row["packets"], packets, "{row}");
            }
        }
        ended.store(true, Relaxed);
    });
}

#[test]
fn two_hosts_rings_of_one_name_are_all_shown_and_a_twin_is_one() {
    let dir = temp_dir();
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    put("g5-000001-20260101T000000Z.pcapng", &capture(1));
    put("g5-000001-20260202T000000Z.pcapng", &capture(2));
    put("g5-000004-20260101T000000Z.pcapng", &capture(3));
    put("g5-000004-20260202T000000Z.pcap", &capture(4));
    let twin = dir.path().join("g5-000004-20260101T000000Z.pcapng");
    let zstd = output(Command::new("zstd").args(["-q", "-k"]).arg(twin), "");
    assert!(zstd.status.success());
    let mut packets: Vec<_> = rows(dir.path())
        .iter()
        .map(|row| row["packets"].as_u64().unwrap())
        .collect();
    packets.sort_unstable();
    assert_eq!(packets, [1, 2, 3, 4]);
    let (code, told, _) = ls(&[dir.path()]);
    assert_eq!(code, 0);
    let missing = "(2 files between are not there: numbers 2 to 3)";
    assert_eq!(told.matches(missing).count(), 1, "{told}");
    assert_eq!(told.matches("are not there").count(), 1, "{told}");
}

#[test]
fn one_bad_file_or_place_hides_no_other() {
    let (one, other, empty) = (temp_dir(), temp_dir(), temp_dir());
    let bytes = capture(50);
    let name = |number: u32| format!("g5-{number:06}-20260101T000000Z.pcapng");
    fs::write(one.path().join(name(1)), &bytes).unwrap();
    let mut damaged = bytes.clone();
    let middle = bytes.len() / 2;
    damaged[middle..middle + 400].fill(0xff);
    fs::write(one.path().join(name(2)), &damaged).unwrap();
    fs::write(one.path().join(name(3)), []).unwrap();
    fs::write(one.path().join(name(4)), &bytes[..bytes.len() - 10]).unwrap();
    let fifo = one.path().join(name(5));
    assert!(
        output(Command::new("mkfifo").arg(fifo), "")
            .status
            .success()
    );
    fs::write(one.path().join(name(6)), &bytes).unwrap();
    fs::write(other.path().join("g5\u{1b}[31m-000001.live.pcapng"), &bytes).unwrap();
    let nowhere = Path::new("/no/such/place");
    let (code, told, said) = ls(&[nowhere, one.path(), empty.path(), other.path()]);
    assert_eq!(code, 1, "{told}");
    for part in ["/no/such/place: No such file", "no file of a ring is there"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!told.contains('\u{1b}'), "{told}");
    for place in [one.path(), other.path()] {
        assert!(told.contains(&format!("{}:\n", place.display())), "{told}");
    }
    let line = |number: u32| {
        let found = told.lines().find(|line| line.starts_with(&name(number)));
        found.unwrap().to_owned()
    };
    for number in [1, 6] {
        assert!(line(number).ends_with("finished"), "{told}");
    }
    for (number, says) in [
        (2, "damaged: bytes "),
        (3, "it is empty"),
        (4, "damaged: cut, from byte "),
        (5, "not a plain file"),
    ] {
        assert!(line(number).contains(says), "{told}");
    }
    // The same to programs.
    let rows = rows(one.path());
    assert_eq!(rows.len(), 6);
    let is_damaged = |row: &&Value| row["state"] == "damaged" && row["faults"][0].is_string();
    assert_eq!(rows.iter().filter(is_damaged).count(), 4);
    assert!(
        rows.iter()
            .all(|row| row["dir"] == one.path().to_str().unwrap())
    );
}

/// A clock that was set back hides no packet: from and to are the first and the last time.
#[test]
fn packets_out_of_order_are_within_the_times_shown() {
    let dir = temp_dir();
    let mut file = File::new();
    for after_ms in [7_200_000, 7_300_000, 0, 60_000, 7_250_000] {
        file.packet(after_ms, &[0x45; 40], 0);
    }
    let path = dir.path().join("g5-000001-20260101T000000Z.pcapng");
    fs::write(path, file.0).unwrap();
    let row = &rows(dir.path())[0];
    let span = row["to_ns"].as_u64().unwrap() - row["from_ns"].as_u64().unwrap();
    assert_eq!(
        (span, &row["packets"]),
        (7_300_000_000_000, &Value::from(5))
    );
}

/// What an index says is shown as that; what is damaged since is seen by who reads.
#[test]
fn figures_of_an_index_are_told_from_what_was_read() {
    const T0_NS: u64 = 1_764_252_000_000_000_000;
    let dir = temp_dir();
    let mut live = Live::begin(dir.path(), "g5", 1, 8);
    for number in 0..300 {
        live.put(T0_NS + u64::from(number) * 1_000_000, &frame(number, 900));
    }
    let file = live.finish();
    let by_index = |args: &[&Path]| {
        let (code, told, _) = ls(&[&[Path::new("--json")], args].concat());
        let row: Value = serde_json::from_str(&told).unwrap();
        (code, row["by_index"] == true, row["packets"].as_u64())
    };
    let no_index = Path::new("--no-index");
    assert_eq!(by_index(&[dir.path()]), (0, false, Some(300)));
    let words = ["read", "--count", "host", "10.0.0.7"];
    let (place, rest) = (dir.path(), &words[2..]);
    let made = Command::new(LWNFLOG)
        .args(&words[..2])
        .arg(place)
        .args(rest)
        .output();
    assert_eq!(made.unwrap().stdout, b"1\n");
    assert_eq!(by_index(&[place]), (0, true, Some(300)));
    assert_eq!(by_index(&[no_index, place]), (0, false, Some(300)));
    // A disk changes bytes, and no time.
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let whole = fs::read(&file).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let open = fs::File::options().write(true).open(&file).unwrap();
        open.set_modified(modified).unwrap();
    };
    let mut rotten = whole.clone();
    rotten[100_000..101_000].fill(0xff);
    put(&rotten);
    assert_eq!(by_index(&[place]), (0, true, Some(300)));
    let (code, is_by_index, packets) = by_index(&[no_index, place]);
    assert!(code == 1 && !is_by_index && packets < Some(300));
    // Where it is seen at once, the index is not believed.
    for at in [8, 40, 4 * SEGMENT_BYTES] {
        let mut rotten = whole.clone();
        rotten[at..at + 24].fill(0xff);
        put(&rotten);
        assert!(!by_index(&[place]).1, "{at}");
    }
}
