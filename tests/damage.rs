//! Damaged, cut, empty and unreadable files beside good ones: what is good is read, and what is not is
//! told, with its place, by each command that reads.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::rings::{
    Live, PADDING, SEGMENT_BYTES, frame, interface, numbers, packet, pcap, section,
};
use common::{LWNFLOG, copy_for_anybody, output, run, temp_dir};

const T0_NS: u64 = 1_764_252_000_000_000_000;
const FRAME_BYTES: usize = 900;
const PACKETS: u32 = 500;
/// Numbers of packets in the files beside.
const BESIDE: Range<u32> = 10_000..10_150;

fn time_ns(number: u32) -> u64 {
    T0_NS + u64::from(number) * 1_000_000
}

fn stamped(numbers: Range<u32>) -> Vec<(u64, Vec<u8>)> {
    let packet = |number| (time_ns(number), frame(number, FRAME_BYTES));
    numbers.map(packet).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// lwnflog's, with segments.
    Ring,
    /// Another tool's.
    Pcapng,
    Pcap,
}

impl Kind {
    /// Writes the good file, and returns where it is.
    fn write(self, dir: &Path) -> PathBuf {
        let (file, bytes) = match self {
            Kind::Ring => {
                let mut live = Live::begin(dir, "g5", 1, 16);
                for number in 0..PACKETS {
                    live.put(time_ns(number), &frame(number, FRAME_BYTES));
                }
                return live.finish();
            }
            Kind::Pcapng => {
                let packets = stamped(0..PACKETS);
                let packets = packets.iter().map(|(time, data)| packet(*time, data));
                let head = [section(""), interface(9, 0, &[])].concat();
                (
                    "bad.pcapng",
                    [head, packets.collect::<Vec<_>>().concat()].concat(),
                )
            }
            Kind::Pcap => ("bad.pcap", pcap(&stamped(0..PACKETS))),
        };
        let file = dir.join(file);
        fs::write(&file, bytes).unwrap();
        file
    }

    /// Where packets stand in the good file; and its padding blocks.
    fn places(self, bytes: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut packets, mut padding) = (Vec::new(), Vec::new());
        let mut at = if self == Kind::Pcap { 24 } else { 0 };
        while at < bytes.len() {
            let total = match self {
                Kind::Pcap => 16 + word(at + 8),
                _ => word(at + 4),
            };
            let place = at..at + total as usize;
            at = place.end;
            match (self, word(place.start)) {
                (Kind::Pcap, _) | (_, 6) => packets.push(place),
                (_, PADDING) => padding.push(place),
                _ => {}
            }
        }
        (packets, padding)
    }
}

/// A way to spoil a file, and where it is spoilt then.
struct Damage {
    what: String,
    bytes: Vec<u8>,
    place: Range<usize>,
}

fn damages(kind: Kind, good: &[u8]) -> Vec<Damage> {
    let (packets, padding) = kind.places(good);
    let mut all = Vec::new();
    let mut add = |what: String, bytes: Vec<u8>, place: Range<usize>| {
        all.push(Damage { what, bytes, place });
    };
    let cut = |at: usize| good[..at].to_vec();
    let place = &packets[packets.len() / 2];
    add("empty".to_owned(), Vec::new(), 0..0);
    let mut cuts = vec![
        ("in its first header", 10),
        ("behind a record's first byte", place.start + 1),
        ("behind a record's length", place.start + 12),
        ("in a packet", place.start + 300),
        ("before a record's last byte", place.end - 1),
    ];
    if let Some(padding) = padding.get(2) {
        cuts.push(("in padding", (padding.start + padding.end) / 2));
        cuts.push(("in padding's head", padding.start + 6));
        cuts.push(("before padding's last byte", padding.end - 1));
    }
    for (what, at) in cuts {
        add(format!("cut {what}"), cut(at), at..at);
    }
    let zeros = |place: Range<usize>| {
        let mut bytes = good.to_vec();
        bytes[place.clone()].fill(0);
        (bytes, place)
    };
    let page = good.len() / 2 / 4096 * 4096;
    for (what, place) in [
        ("head", 0..4096),
        ("middle", page..page + 4096),
        ("middle, long", page..page + 3 * SEGMENT_BYTES),
        ("tail", good.len() - 4000..good.len()),
        ("second half", good.len() / 2..good.len()),
    ] {
        let (bytes, place) = zeros(place);
        add(format!("zeros: {what}"), bytes, place);
    }
    let longer = [good, &[0; 5000]].concat();
    add(
        "zeros behind it".to_owned(),
        longer,
        good.len()..good.len() + 5000,
    );
    let longer = [good, &[0xa5; 5000]].concat();
    add(
        "rubbish behind it".to_owned(),
        longer,
        good.len()..good.len() + 5000,
    );
    let mut flip = |what: &str, at: usize, bits: u32| {
        let mut bytes = good.to_vec();
        for (byte, bits) in bytes[at..at + 4].iter_mut().zip(bits.to_le_bytes()) {
            *byte ^= bits;
        }
        add(format!("{what}, bits {bits:#x}"), bytes, at..at + 4);
    };
    for bits in [4, 0x1_0000, 0x4000_0000, 0x8000_0000] {
        match kind {
            // A length that can be nobody can know to be another one before the next record.
            Kind::Pcap if bits == 4 => {}
            Kind::Pcap => flip("a record's length", place.start + 8, bits),
            _ => {
                flip("a record's leading length", place.start + 4, bits);
                flip("a record's trailing length", place.end - 4, bits);
            }
        }
        if let Some(padding) = padding.get(2) {
            flip("padding's leading length", padding.start + 4, bits);
            flip("padding's trailing length", padding.end - 4, bits);
        }
    }
    all
}

/// The bytes that a line tells of: `bytes 100 to 150`, or `from byte 100 to its end`.
fn extent(line: &str) -> Option<Range<u64>> {
    let is_of_number = |letter: char| letter.is_ascii_digit() || letter == ',';
    let number = |text: &str| -> Option<u64> {
        let end = text.find(|letter| !is_of_number(letter));
        text[..end.unwrap_or(text.len())]
            .replace(',', "")
            .parse()
            .ok()
    };
    if let Some((_, behind)) = line.split_once("from byte ") {
        return behind
            .contains("to its end")
            .then_some(number(behind)?..u64::MAX);
    }
    let (_, behind) = line.split_once("bytes ")?;
    let (_, to) = behind.split_once(" to ")?;
    let (from, to) = (number(behind)?, number(to)?);
    (from < to).then_some(from..to)
}

/// How a command ended: its output, its lines of errors, its exit status.
fn told(command: &mut Command) -> (String, Vec<String>, Option<i32>) {
    let told = output(command, "");
    let [out, said] =
        [&told.stdout, &told.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let lines = said.lines().map(str::to_owned).collect();
    (out, lines, told.status.code())
}

fn lwnflog(args: &[&str], places: &[PathBuf]) -> Command {
    let mut command = Command::new(LWNFLOG);
    command.args(args).args(places);
    command
}

/// Good files beside the bad one: of its ring, of another one, and another tool's.
fn write_beside(dir: &Path, kind: Kind) {
    let third = (BESIDE.end - BESIDE.start) / 3;
    let part = |n: u32| BESIDE.start + n * third..BESIDE.start + (n + 1) * third;
    let rings = [("g5", 2, part(0)), ("g6", 1, part(1))];
    for (ring, number, packets) in rings {
        let mut live = Live::begin(dir, ring, number, 4);
        for number in packets {
            live.put(time_ns(number), &frame(number, FRAME_BYTES));
        }
        // The bad file's ring goes on in a live one.
        if ring == "g6" || kind != Kind::Ring {
            live.finish();
        }
    }
    fs::write(dir.join("good.pcap"), pcap(&stamped(part(2)))).unwrap();
}

/// What is wrong with how a damaged file is read.
fn faults_of(kind: Kind, good: &[u8], damage: &Damage, turn: usize) -> Vec<String> {
    let dir = temp_dir();
    let file = kind.write(dir.path());
    fs::write(&file, &damage.bytes).unwrap();
    write_beside(dir.path(), kind);
    let name = file.file_name().unwrap().to_str().unwrap();
    let (packets, _) = kind.places(good);
    let mut faults = Vec::new();
    let mut fault = |is: bool, what: String| {
        if is {
            faults.push(what);
        }
    };
    let place = [dir.path().to_owned()];
    let (out, lines, status) = told(&mut lwnflog(&["read", "--json"], &place));
    let shown = numbers(&out);
    let set: BTreeSet<_> = shown.iter().copied().collect();
    fault(status != Some(1), format!("status {status:?}"));
    fault(set.len() != shown.len(), "packets shown twice".to_owned());
    let beside = BESIDE.filter(|number| set.contains(number)).count();
    fault(
        beside != BESIDE.len(),
        format!("{beside} packets of the good files"),
    );
    let lines: Vec<_> = lines.iter().filter(|line| line.contains(name)).collect();
    fault(lines.is_empty(), "no line names it".to_owned());
    let extents: Vec<_> = lines.iter().filter_map(|line| extent(line)).collect();
    let told_of = |from: usize, to: usize| {
        extents
            .iter()
            .any(|extent| extent.start <= to as u64 && from as u64 <= extent.end)
    };
    // Of an empty file and of one without a beginning there is no more to say than that.
    if damage.place.start > 24 {
        let (from, to) = (damage.place.start, damage.place.end);
        // A cut is told of from the block that is cut.
        fault(
            !told_of(from, to),
            format!("no place at {from}..{to} in {lines:?}"),
        );
        let is_hit = |packet: &Range<usize>| {
            packet.end > damage.place.start
                && packet.start < damage.place.end.max(damage.place.start + 1)
        };
        let segment = |at: usize| at / SEGMENT_BYTES;
        let mut untold = 0;
        let (mut before, mut behind) = (0, 0);
        for (number, packet) in (0..).zip(&packets) {
            if set.contains(&number) || is_hit(packet) || packet.end > damage.bytes.len() {
                continue;
            }
            before += u32::from(packet.end <= damage.place.start);
            let next = segment(damage.place.end.saturating_sub(1)) + 1;
            behind += u32::from(kind == Kind::Ring && segment(packet.start) >= next);
            untold += u32::from(!told_of(packet.start + 1, packet.end - 1));
        }
        fault(before != 0, format!("{before} packets before it not shown"));
        fault(
            behind != 0,
            format!("{behind} packets of later segments not shown"),
        );
        fault(
            untold != 0,
            format!("{untold} packets not shown, and not in what is told: {lines:?}"),
        );
    }
    let foreign = shown
        .iter()
        .filter(|number| **number >= PACKETS && !BESIDE.contains(number));
    fault(foreign.count() != 0, "packets that nobody sent".to_owned());
    // All others tell the same: two of them of each damage, in turn.
    let copy = temp_dir();
    let copy = copy.path().join("copy.pcapng");
    let copy_path = copy.to_str().unwrap().to_owned();
    let others = [
        &["read", "--count"][..],
        &["report", "--text"],
        &["read", "--threads", "1"],
        &["path"],
        &["read", "-w", &copy_path],
        &["export", "--csv", "-"],
    ];
    for args in others.iter().cycle().skip(turn * 2).take(2) {
        let (out, lines, status) = told(&mut lwnflog(args, &place));
        let what = args.join(" ").replace(&copy_path, "COPY");
        fault(status != Some(1), format!("{what}: status {status:?}"));
        let names = lines.iter().any(|line| line.contains(name));
        fault(!names, format!("{what}: no line names it: {lines:?}"));
        let count = match *args {
            [_, "--count"] => out.trim().parse().unwrap_or(0),
            [_, "--threads", _] => out.lines().count(),
            [_, "-w", _] => numbers(&run(
                &mut lwnflog(&["read", "--json"], std::slice::from_ref(&copy)),
                "",
            ))
            .len(),
            ["export", ..] => out.lines().count().saturating_sub(1),
            _ => shown.len(),
        };
        fault(
            count != shown.len(),
            format!("{what}: {count} packets, and not {}", shown.len()),
        );
    }
    faults
}

fn assert_told(kind: Kind) {
    let dir = temp_dir();
    let good = fs::read(kind.write(dir.path())).unwrap();
    let mut all = Vec::new();
    for (turn, damage) in damages(kind, &good).iter().enumerate() {
        for fault in faults_of(kind, &good, damage, turn) {
            all.push(format!("{kind:?}, {}: {fault}", damage.what));
        }
    }
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

#[test]
fn damage_in_a_rings_file_is_told_and_the_next_segment_is_read() {
    assert_told(Kind::Ring);
}

#[test]
fn damage_in_others_pcapng_is_told() {
    assert_told(Kind::Pcapng);
}

#[test]
fn damage_in_a_pcap_is_told() {
    assert_told(Kind::Pcap);
}

/// An index says nothing of damage that came after it: what is read by it is told of as well.
#[test]
fn damage_behind_an_index_is_told() {
    let dir = temp_dir();
    let good = fs::read(Kind::Ring.write(dir.path())).unwrap();
    let mut faults = Vec::new();
    for damage in damages(Kind::Ring, &good) {
        if damage.bytes.len() != good.len() || damage.place.start < 24 {
            continue;
        }
        let dir = temp_dir();
        let file = Kind::Ring.write(dir.path());
        // Made on the way.
        let place = [file.clone()];
        let (out, ..) = told(lwnflog(&["read", "--count"], &place).arg("host 10.0.0.1"));
        assert_eq!(out.trim(), "1");
        assert!(lwnflog::index::beside(&file).exists());
        let changed = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, &damage.bytes).unwrap();
        let spoilt = fs::File::options().write(true).open(&file).unwrap();
        spoilt.set_modified(changed).unwrap();
        let read = |more: &[&str], filter: &str| {
            let args = [&["read", "--json"], more].concat();
            let (out, lines, status) = told(lwnflog(&args, &place).arg(filter));
            (numbers(&out), lines, status)
        };
        let what = &damage.what;
        let (by_index, lines, status) = read(&[], "udp or tcp");
        let (all, ..) = read(&["--no-index"], "udp or tcp");
        if by_index != all {
            let counts = (by_index.len(), all.len());
            faults.push(format!("{what}: by the index and without: {counts:?}"));
        }
        if status != Some(1) || lines.is_empty() {
            faults.push(format!("{what}: {status:?}, {lines:?}"));
        }
        // A packet in front of the damage, in its segment.
        let (packets, _) = Kind::Ring.places(&good);
        let before = packets.iter().rposition(|packet| {
            packet.end <= damage.place.start
                && packet.start / SEGMENT_BYTES == damage.place.start / SEGMENT_BYTES
        });
        if let Some(number) = before.and_then(|number| u32::try_from(number).ok()) {
            let host = format!("host {}", std::net::Ipv4Addr::from(0x0a00_0000 | number));
            let (one, lines, _) = read(&[], &host);
            if one != [number] {
                faults.push(format!("{what}: {host} is not found: {lines:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Space that is not written yet is no damage: of a live pcap file of lwnflog's alone.
#[test]
fn zeros_of_a_live_pcap_are_no_damage() {
    let dir = temp_dir();
    let bytes = [pcap(&stamped(0..50)), vec![0; 100_000]].concat();
    let live = dir.path().join("g5-000001.live.pcap");
    fs::write(&live, &bytes).unwrap();
    let count = |place: &Path| told(&mut lwnflog(&["read", "--count"], &[place.to_owned()]));
    let (out, lines, status) = count(dir.path());
    assert_eq!((out.trim(), status), ("50", Some(0)), "{lines:?}");
    assert!(lines.is_empty(), "{lines:?}");
    let other = dir.path().join("other.pcap");
    fs::rename(&live, &other).unwrap();
    let (out, lines, status) = count(&other);
    assert_eq!((out.trim(), status), ("50", Some(1)), "{lines:?}");
    let end = (bytes.len() - 100_000) as u64;
    let extents: Vec<_> = lines.iter().filter_map(|line| extent(line)).collect();
    assert!(
        extents.iter().any(|extent| extent.start == end),
        "{lines:?}"
    );
}

/// Compressed files that are cut or have a bit changed.
#[test]
fn damage_in_compressed_files_is_told() {
    for (how, suffix) in [("zstd", "zst"), ("lz4", "lz4")] {
        for kind in [Kind::Ring, Kind::Pcap] {
            let dir = temp_dir();
            let file = kind.write(dir.path());
            write_beside(dir.path(), kind);
            let to = PathBuf::from(format!("{}.{suffix}", file.display()));
            run(Command::new(how).args(["-q", "-f"]).arg(&file).arg(&to), "");
            fs::remove_file(&file).unwrap();
            let good = fs::read(&to).unwrap();
            let half = good.len() / 2;
            let mut flipped = good.clone();
            flipped[half] ^= 0x10;
            for (what, bytes) in [
                ("cut", good[..half].to_vec()),
                ("cut in its head", good[..3].to_vec()),
                // Of LZ4 that is all of its blocks, and not the mark behind them.
                ("cut at its end", good[..good.len() - 8].to_vec()),
                ("empty", Vec::new()),
                ("flipped", flipped),
                (
                    "rubbish behind it",
                    [&good[..], b"no frame at all"].concat(),
                ),
            ] {
                fs::write(&to, bytes).unwrap();
                let name = to.file_name().unwrap().to_str().unwrap();
                let what = format!("{how}, {kind:?}, {what}");
                let place = [dir.path().to_owned()];
                let (out, lines, status) = told(&mut lwnflog(&["read", "--json"], &place));
                let shown = numbers(&out);
                let beside = shown.iter().filter(|number| BESIDE.contains(number));
                assert_eq!(beside.count(), BESIDE.len(), "{what}: {lines:?}");
                assert_eq!(status, Some(1), "{what}: {lines:?}");
                let names = lines.iter().any(|line| line.contains(name));
                assert!(names, "{what}: {lines:?}");
                if what.contains("rubbish") {
                    let all = shown.iter().filter(|number| **number < PACKETS);
                    assert_eq!(all.count(), PACKETS as usize, "{what}");
                }
            }
        }
    }
}

/// Whatever bit of what lwnflog compresses changes: no packet is another one, and it is told.
#[test]
fn a_flipped_bit_in_what_lwnflog_compressed_is_told() {
    for suffix in ["lz4", "zst"] {
        if suffix == "zst" && cfg!(not(feature = "zstd")) {
            continue;
        }
        let dir = temp_dir();
        let plain = Kind::Pcap.write(dir.path());
        let packed = dir.path().join(format!("packed.pcap.{suffix}"));
        let [from, to] = [&plain, &packed].map(|path| path.to_str().unwrap());
        let (_, said, status) = told(&mut lwnflog(&["read", from, "-w", to], &[]));
        assert_eq!(status, Some(0), "{said:?}");
        let by_its_tool = match suffix {
            "lz4" => Command::new("lz4").args(["-t", "-q", to]).status(),
            _ => Command::new("zstd").args(["-t", "-q", to]).status(),
        };
        assert!(by_its_tool.unwrap().success());
        let (whole, ..) = told(&mut lwnflog(&["read", "-x", "--utc", to], &[]));
        let good = fs::read(&packed).unwrap();
        for at in (0..good.len()).step_by(good.len() / 60) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&packed, bad).unwrap();
            let (out, said, status) = told(&mut lwnflog(&["read", "-x", "--utc", to], &[]));
            assert_eq!(status, Some(1), "{suffix}, byte {at}: {said:?}");
            if suffix == "lz4" {
                assert!(whole.starts_with(&out), "byte {at}: other packets");
            }
        }
    }
}

/// A file that one may not read, and a directory that one may not enter, beside good ones.
#[test]
fn what_may_not_be_read_is_told() {
    let room = temp_dir();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy_for_anybody(room.path());
    let dir = room.path().join("ring");
    let closed = room.path().join("closed");
    for dir in [&dir, &closed] {
        fs::create_dir(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let bad = Kind::Ring.write(&dir);
    write_beside(&dir, Kind::Ring);
    for file in fs::read_dir(&dir).unwrap().flatten() {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o0)).unwrap();
    let inside = closed.join("a.pcap");
    fs::write(&inside, pcap(&stamped(0..3))).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    let as_nobody = |args: &[&str], places: &[&Path]| {
        let mut command = Command::new("setpriv");
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        told(command.args(user).arg(&program).args(args).args(places))
    };
    for args in [
        &["read", "--count"][..],
        &["read", "--json"],
        &["export", "--csv", "-"],
        &["report", "--text"],
        &["path"],
    ] {
        let (out, lines, status) = as_nobody(args, &[&dir]);
        let told = lines.iter().find(|line| line.contains("g5-000001"));
        assert!(
            told.is_some_and(|line| line.contains("Permission denied")),
            "{args:?}: {lines:?}"
        );
        assert_eq!(status, Some(1), "{args:?}");
        let count = match args {
            ["read", "--count"] => out.trim().parse().unwrap(),
            ["read", ..] => out.lines().count(),
            ["export", ..] => out.lines().count() - 1,
            _ => BESIDE.len(),
        };
        assert_eq!(count, BESIDE.len(), "{args:?}");
    }
    for place in [&closed, &inside] {
        let name = place.to_str().unwrap();
        let (out, lines, status) = as_nobody(&["read", "--count", "-r", name], &[]);
        assert_eq!(status, Some(1), "{name}: {out} {lines:?}");
        let told = lines.iter().any(|line| line.contains("Permission denied"));
        assert!(told, "{name}: {lines:?}");
    }
}

/// A compressor that was killed between making its file and removing the plain one; `zstd -k`.
#[test]
fn a_capture_that_lies_there_twice_counts_once() {
    for (how, suffix) in [("zstd", "zst"), ("lz4", "lz4")] {
        for kind in [Kind::Ring, Kind::Pcapng, Kind::Pcap] {
            let dir = temp_dir();
            let file = kind.write(dir.path());
            write_beside(dir.path(), kind);
            let to = PathBuf::from(format!("{}.{suffix}", file.display()));
            run(Command::new(how).args(["-q", "-f"]).arg(&file).arg(&to), "");
            let all = PACKETS as usize + BESIDE.len();
            let place = [dir.path().to_owned()];
            for args in [
                &["read", "--count"][..],
                &["read", "--count", "--no-index", "--threads", "1"],
                &["read", "--json"],
                &["export", "--csv", "-"],
            ] {
                let (out, lines, status) = told(&mut lwnflog(args, &place));
                let count = match args {
                    ["read", "--count", ..] => out.trim().parse().unwrap(),
                    ["read", ..] => out.lines().count(),
                    _ => out.lines().count() - 1,
                };
                assert_eq!(count, all, "{how}, {kind:?}, {args:?}: {lines:?}");
                assert_eq!(status, Some(0), "{how}, {kind:?}, {args:?}: {lines:?}");
            }
            let (out, ..) = told(&mut lwnflog(&["read", "--json"], &place));
            let shown: BTreeSet<_> = numbers(&out).into_iter().collect();
            assert_eq!(shown.len(), all, "{how}, {kind:?}");
        }
    }
}

/// What a live file begins with is whole from the first moment on.
#[test]
fn a_live_file_whose_first_length_is_damaged_is_told() {
    let dir = temp_dir();
    let mut live = Live::begin(dir.path(), "g5", 1, 2);
    for number in 0..20 {
        live.put(time_ns(number), &frame(number, FRAME_BYTES));
    }
    let file = live.path().to_owned();
    let good = fs::read(&file).unwrap();
    for length in [11_534_456_u32, 0x7fff_fffc, 0xffff_fffc] {
        let mut bytes = good.clone();
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&file, bytes).unwrap();
        let (_, said, status) = told(&mut lwnflog(&["read"], std::slice::from_ref(&file)));
        assert_eq!(status, Some(1), "{length}: {said:?}");
        assert!(said[0].contains("g5-000001.live.pcapng: "), "{said:?}");
    }
}

/// In segments, a block whose two lengths agree is one, whatever stands in it: no other is lost with it.
#[test]
fn a_block_that_makes_no_sense_is_lost_alone() {
    let dir = temp_dir();
    let file = Kind::Ring.write(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    let (packets, _) = Kind::Ring.places(&bytes);
    let lost = [100, 101, 300, 499];
    for (turn, number) in lost.into_iter().enumerate() {
        let at = packets[number].start;
        match turn {
            0 | 3 => bytes[at + 10] = 7, // of an interface that is not there
            _ => bytes[at + 20..at + 24].fill(0xff), // of a length that is not there
        }
    }
    fs::write(&file, bytes).unwrap();
    let path = file.to_str().unwrap();
    let wanted: Vec<_> = (0..PACKETS)
        .filter(|number| !lost.contains(&(*number as usize)))
        .collect();
    for threads in ["1", "2"] {
        let words = ["read", "--json", "--no-index", "--threads", threads, path];
        let (out, said, status) = told(&mut lwnflog(&words, &[]));
        assert_eq!(status, Some(1), "{said:?}");
        assert!(numbers(&out) == wanted, "{said:?}");
        assert!(said[0].contains("a block that makes no sense"), "{said:?}");
    }
}

const SENT_BY_NOBODY: u32 = 77_777;

fn heads_written_anew() -> Vec<u8> {
    let comment = format!("lwnflog segment={SEGMENT_BYTES} boot=0c5b0000-0000");
    [section(&comment), interface(9, 0, &[])].concat()
}

/// A file of so many megabytes as another program makes it of one of lwnflog's, and how many packets are in it. At
/// borders of segments payloads have blocks in them.
fn written_anew(megabytes: usize) -> (Vec<u8>, u32) {
    let mut bytes = heads_written_anew();
    let fake = packet(T0_NS + 1, &frame(SENT_BY_NOBODY, 60));
    let mut number = 0;
    while bytes.len() < megabytes << 20 {
        // The record's data begins 28 bytes behind it; where a border is in its payload, there stand
        // a packet and a block that covers the rest of the record.
        let begin = bytes.len() + 28;
        let border = begin.next_multiple_of(SEGMENT_BYTES);
        let near = (begin + 1000..begin + 1600).contains(&border);
        let mut data = frame(number, if near { 700 } else { 1400 });
        if (begin + 60..begin + 1000).contains(&border) {
            let at = border - begin;
            data[at..at + fake.len()].copy_from_slice(&fake);
            let rest = at + fake.len();
            let covers = u32::try_from(data.len() + 4 - rest).unwrap();
            data[rest..rest + 4].copy_from_slice(&PADDING.to_le_bytes());
            data[rest + 4..rest + 8].copy_from_slice(&covers.to_le_bytes());
        }
        bytes.extend(packet(T0_NS + u64::from(number) * 1_000_000, &data));
        number += 1;
    }
    (bytes, number)
}

/// Nothing is left by `repair` that `read` has not shown before.
#[test]
fn repair_keeps_no_more_than_reading_shows() {
    let dir = temp_dir();
    let (bytes, _) = written_anew(2);
    let heads = heads_written_anew().len();
    let file = dir.path().join("edited.pcapng");
    let path = file.to_str().unwrap();
    let packet_at = |place: usize| {
        let mut at = heads;
        while at < place {
            at += u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        }
        at
    };
    // In the first segment, before any block has crossed a border.
    for at in [heads, packet_at(20_000), packet_at(60_000)] {
        for damage in [0_u8, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at + 4..at + 1000].fill(damage);
            fs::write(&file, &damaged).unwrap();
            let (before, ..) = told(&mut lwnflog(&["read", "--json", path], &[]));
            let (_, said, status) = told(&mut lwnflog(&["repair", path], &[]));
            assert_eq!(status, Some(0), "{said:?}");
            let orig = dir.path().join("edited.pcapng.orig");
            assert_eq!(fs::read(&orig).unwrap(), damaged);
            let (after, said, status) = told(&mut lwnflog(&["read", "--json", path], &[]));
            assert_eq!((status, said.len()), (Some(0), 0), "{said:?}");
            assert_eq!(numbers(&after), numbers(&before), "damaged at {at}");
            assert!(!numbers(&after).contains(&SENT_BY_NOBODY));
            fs::remove_file(orig).unwrap();
        }
    }
    // What the ring has named is in segments.
    let ring = Kind::Ring.write(dir.path());
    let mut damaged = fs::read(&ring).unwrap();
    damaged[30_000..31_000].fill(0xff);
    fs::write(&ring, damaged).unwrap();
    let path = ring.to_str().unwrap();
    let (before, ..) = told(&mut lwnflog(&["read", "--json", path], &[]));
    assert!(numbers(&before).contains(&(PACKETS - 1)));
    assert_eq!(told(&mut lwnflog(&["repair", path], &[])).2, Some(0));
    let (after, ..) = told(&mut lwnflog(&["read", "--json", path], &[]));
    assert_eq!(numbers(&after), numbers(&before));
}

/// editcap, mergecap and tshark -w keep the comment that names segments, and write blocks wherever they
/// come to stand: what a sender puts into payloads may then look like a segment's beginning.
#[test]
fn no_packet_is_made_of_payloads() {
    let dir = temp_dir();
    let (bytes, number) = written_anew(10);
    let heads = heads_written_anew().len();
    for name in ["edited.pcapng", "g5-000001-20251127T140000Z.pcapng"] {
        let file = dir.path().join(name);
        fs::write(&file, &bytes).unwrap();
        let theirs = common::files::count_by_tcpdump(&file).unwrap();
        assert_eq!(theirs, u64::from(number));
        let path = file.to_str().unwrap();
        for more in [
            &[][..],
            &["--threads", "1"],
            &["--no-index"],
            &["--from", "2025-11-27T14:00:05Z"],
            &["--to", "2025-11-27T14:00:05Z"],
        ] {
            let (out, lines, status) = told(&mut lwnflog(
                &[&["read", "--json"], more, &[path]].concat(),
                &[],
            ));
            let shown = numbers(&out);
            let made = shown.iter().filter(|shown| **shown == SENT_BY_NOBODY);
            assert_eq!(made.count(), 0, "{name} {more:?}: sent by nobody");
            assert_eq!(
                (status, lines.len()),
                (Some(0), 0),
                "{name} {more:?}: {lines:?}"
            );
            let wanted: Vec<_> = (0..number)
                .filter(|number| {
                    let at_ns = u64::from(*number) * 1_000_000;
                    match more {
                        ["--from", _] => at_ns >= 5_000_000_000,
                        ["--to", _] => at_ns <= 5_000_000_000,
                        _ => true,
                    }
                })
                .collect();
            assert_eq!(shown.len(), wanted.len(), "{name} {more:?}");
            assert!(shown == wanted, "{name} {more:?}: others");
        }
        let (out, ..) = told(&mut lwnflog(
            &["read", "--count", path, "src host 10.1.47.209"],
            &[],
        ));
        assert_eq!(out.trim(), "0", "{name}: sent by nobody");
        // Damage is no reason to believe in segments either.
        for at in [heads + 4, 5 * SEGMENT_BYTES] {
            let mut damaged = bytes.clone();
            let zeros = at..at + 2000;
            damaged[zeros].fill(0);
            if at == heads + 4 && name.starts_with("g5") {
                continue; // of a ring's own name its first segment is believed
            }
            fs::write(&file, damaged).unwrap();
            let (out, _, status) = told(&mut lwnflog(&["read", "--json", path], &[]));
            let shown = numbers(&out);
            assert!(!shown.contains(&SENT_BY_NOBODY), "{name}, damaged at {at}");
            assert_eq!(status, Some(1), "{name}, damaged at {at}");
        }
        fs::remove_file(&file).unwrap();
    }
}
