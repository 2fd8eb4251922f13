//! What other programs write: read as tcpdump and tshark read it, or refused by name.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::files::{count_by_capinfos, count_by_tcpdump};
use common::made::option;
use common::rings::{SECTION, block, frame, interface, numbers, packet, pcap, section};
use common::{LWNFLOG, output, run, temp_dir};
use serde_json::Value;

const T0_S: u64 = 1_764_252_000;
const T0_NS: u64 = T0_S * 1_000_000_000;

/// Time, length, captured length.
type Seen = (u64, u64, u64);

/// How `lwnflog read --json` ended: packets, what was said, exit status.
fn ours(file: &Path, more: &[&str]) -> (Vec<Seen>, String, Option<i32>) {
    let mut command = Command::new(LWNFLOG);
    command.args(["read", "--json", "--utc"]).args(more);
    let told = output(command.arg("-r").arg(file), "");
    let packets = String::from_utf8_lossy(&told.stdout);
    let packets = packets.lines().map(|line| {
        let packet: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| packet[name].as_u64().unwrap_or_else(|| panic!("{line}"));
        (number("time_ns"), number("length"), number("captured"))
    });
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    (packets.collect(), said, told.status.code())
}

/// The same by tshark. A packet without a time is of 1970 to lwnflog.
fn by_tshark(file: &Path) -> Vec<Seen> {
    let fields = ["frame.time_epoch", "frame.len", "frame.cap_len"];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let mut tshark = Command::new("tshark");
    let tshark = tshark.args(["-n", "-T", "fields"]).args(fields);
    let lines = run(tshark.arg("-r").arg(file), "");
    let lines = lines.lines().map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        let (seconds, part) = fields[0].split_once('.').unwrap_or(("0", "0"));
        let (seconds, part) = (seconds.parse::<u64>(), part.parse::<u64>());
        let number = |at: usize| fields[at].parse().unwrap();
        let time_ns = seconds.unwrap() * 1_000_000_000 + part.unwrap();
        (time_ns, number(1), number(2))
    });
    lines.collect()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, bytes).unwrap();
    file
}

/// Read in silence: these packets, and tshark agrees.
fn assert_read(name: &str, bytes: &[u8], wanted: &[Seen]) {
    let dir = temp_dir();
    let file = write(dir.path(), name, bytes);
    let (seen, said, status) = ours(&file, &[]);
    assert_eq!(seen, wanted, "{name}: {said}");
    assert_eq!((said.as_str(), status), ("", Some(0)), "{name}");
    assert_eq!(by_tshark(&file), wanted, "{name}: tshark");
    for more in [&["--threads", "1"], &["--from", "1970-01-01"]] {
        assert_eq!(ours(&file, more).0, wanted, "{name}: {more:?}");
    }
}

/// Refused, or read up to there, with a line that names the file and one of these words.
fn assert_refused(name: &str, bytes: &[u8], before: &[Seen], words: &[&str]) {
    let dir = temp_dir();
    let file = write(dir.path(), name, bytes);
    let (seen, said, status) = ours(&file, &[]);
    assert_eq!(seen, before, "{name}: {said}");
    assert_eq!(status, Some(1), "{name}: {said}");
    let line = said.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("{name}: no line names it: {said}"));
    let line = line.to_lowercase();
    let named = words.iter().any(|word| line.contains(word));
    assert!(named, "{name}: none of {words:?}: {line}");
}

fn all_seen(numbers: std::ops::Range<u32>, bytes: usize) -> Vec<Seen> {
    let seen = |number| (T0_NS + u64::from(number) * 1000, bytes as u64, bytes as u64);
    numbers.map(seen).collect()
}

fn packets(numbers: std::ops::Range<u32>, bytes: usize) -> Vec<u8> {
    let packet = |number| packet(T0_NS + u64::from(number) * 1000, &frame(number, bytes));
    numbers.map(packet).collect::<Vec<_>>().concat()
}

/// One behind the other, as `cat` or a tool that flushes makes them; and frames that hold nothing.
#[test]
fn compressed_files_of_several_frames_are_read_to_their_end() {
    let dir = temp_dir();
    let head = [section(""), interface(9, 0, &[])].concat();
    let pieces = [
        head,
        packets(0..300, 100),
        packets(300..301, 100),
        packets(301..900, 100),
    ];
    let classic: Vec<_> = (0..900_u32)
        .map(|number| (T0_NS + u64::from(number) * 1000, frame(number, 100)))
        .collect();
    let classic = pcap(&classic);
    for (how, suffix, skipped) in [("zstd", "zst", true), ("lz4", "lz4", true)] {
        for (name, pieces) in [
            ("a.pcapng", pieces.to_vec()),
            (
                "a.pcap",
                classic.chunks(30_001).map(<[u8]>::to_vec).collect(),
            ),
        ] {
            let plain = dir.path().join("piece");
            let mut bytes = Vec::new();
            for (place, piece) in pieces.iter().enumerate() {
                if place == 1 {
                    // A frame of nothing, and one that is to be skipped.
                    fs::write(&plain, b"").unwrap();
                    let empty = output(Command::new(how).args(["-q", "-c"]).arg(&plain), "");
                    bytes.extend(empty.stdout);
                    if skipped {
                        bytes.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
                    }
                }
                fs::write(&plain, piece).unwrap();
                let frame = output(Command::new(how).args(["-q", "-c"]).arg(&plain), "");
                bytes.extend(frame.stdout);
            }
            let file = write(dir.path(), &format!("{name}.{suffix}"), &bytes);
            let unpacked = output(Command::new(how).args(["-d", "-c"]).arg(&file), "");
            let theirs = write(dir.path(), name, &unpacked.stdout);
            assert_eq!(count_by_tcpdump(&theirs), Ok(900), "{how}, {name}");
            let (seen, said, status) = ours(&file, &[]);
            assert_eq!(seen.len(), 900, "{how}, {name}: {said}");
            assert_eq!((said.as_str(), status), ("", Some(0)), "{how}, {name}");
            assert_eq!(seen, all_seen(0..900, 100), "{how}, {name}");
            let mut export = Command::new(LWNFLOG);
            let rows = run(export.args(["export", "--csv", "-"]).arg(&file), "");
            assert_eq!(rows.lines().count(), 901, "{how}, {name}");
        }
    }
}

/// Times in units of many kinds, and counted from another time than 1970.
#[test]
fn times_are_what_tshark_says() {
    let frame = frame(7, 80);
    let at = |time_ns| (time_ns, 80, 80);
    for (resolution, ticks, time_ns) in [
        (0, T0_S, T0_NS),
        (3, T0_S * 1000 + 7, T0_NS + 7_000_000),
        (6, T0_S * 1_000_000 + 7, T0_NS + 7000),
        (8, T0_S * 100_000_000 + 7, T0_NS + 70),
        (9, T0_NS + 7, T0_NS + 7),
        (10, (T0_NS + 7) * 10 + 9, T0_NS + 7),
        (0x80, T0_S, T0_NS),
        (0x80 | 10, (T0_S << 10) + 512, T0_NS + 500_000_000),
        (0x80 | 20, (T0_S << 20) + (1 << 18), T0_NS + 250_000_000),
        (0x80 | 32, (T0_S << 32) + (1 << 29), T0_NS + 125_000_000),
    ] {
        let head = [section(""), interface(resolution, 0, &[])].concat();
        let name = format!("tsresol-{resolution:#x}.pcapng");
        let bytes = [head, packet(ticks, &frame)].concat();
        assert_read(&name, &bytes, &[at(time_ns)]);
    }
    // Seconds, signed.
    for (offset, resolution, ticks, time_ns) in [
        (T0_S.cast_signed(), 6, 5_000_007, T0_NS + 5_000_007_000),
        (T0_S.cast_signed(), 9, 5, T0_NS + 5),
        (-3600, 6, (T0_S + 3600) * 1_000_000 + 7, T0_NS + 7000),
        (-3600, 9, T0_NS + 3600 * 1_000_000_000 + 7, T0_NS + 7),
        (
            1,
            0x80 | 20,
            ((T0_S - 1) << 20) + (1 << 18),
            T0_NS + 250_000_000,
        ),
        (0, 6, T0_S * 1_000_000, T0_NS),
    ] {
        let offset_bytes = offset.to_le_bytes();
        let more: [(u16, &[u8]); 1] = [(14, &offset_bytes)];
        let head = [section(""), interface(resolution, 0, &more)].concat();
        let name = format!("tsoffset-{offset}-{resolution:#x}.pcapng");
        let bytes = [head, packet(ticks, &frame)].concat();
        assert_read(&name, &bytes, &[at(time_ns)]);
        let dir = temp_dir();
        let file = write(dir.path(), &name, &bytes);
        let hour = [
            "--from",
            "2025-11-27T14:00:00",
            "--to",
            "2025-11-27T14:01:00",
        ];
        assert_eq!(ours(&file, &hour).0.len(), 1, "{name}: {hour:?}");
    }
}

/// Ticks that are so short that 64 bits of them are no year, and less than a nanosecond.
#[test]
fn the_shortest_ticks_are_what_they_are() {
    let frame = frame(7, 80);
    for (resolution, ticks, time_ns) in [
        (12, 5_000_000_000_007_999, 5_000_000_000_007),
        (18, 3_000_000_007_000_000_000, 3_000_000_007),
        (19, u64::MAX, 1_844_674_407),
        (20, u64::MAX, 184_467_440),
        (25, u64::MAX, 1844),
        (28, u64::MAX, 1),
        (29, u64::MAX, 0),
        (127, u64::MAX, 0),
        (0x80 | 40, 3 << 39, 1_500_000_000),
        (0x80 | 63, 1 << 63, 1_000_000_000),
        (0x80 | 63, u64::MAX, 1_999_999_999),
        (0x80 | 64, 1 << 63, 500_000_000),
        (0x80 | 70, 1 << 63, 7_812_500),
        (0xff, u64::MAX, 0),
    ] {
        let name = format!("tsresol-{resolution:#x}.pcapng");
        let bytes = [
            section(""),
            interface(resolution, 0, &[]),
            packet(ticks, &frame),
        ];
        let dir = temp_dir();
        let file = write(dir.path(), &name, &bytes.concat());
        let (seen, said, status) = ours(&file, &[]);
        assert_eq!((status, &*said), (Some(0), ""), "{name}");
        assert_eq!(seen, [(time_ns, 80, 80)], "{name}, {ticks}");
    }
}

/// Times that nanoseconds since 1970 do not tell are told as the next that they tell, and that is said.
#[test]
fn times_that_cannot_be_told_are_said() {
    let frame = frame(7, 80);
    let before = (-100_i64).to_le_bytes();
    let after = 18_446_744_073_i64.to_le_bytes();
    let files: [(&str, Vec<u8>, u64); 4] = [
        (
            "late.pcapng",
            [interface(6, 0, &[]), packet(u64::MAX, &frame)].concat(),
            u64::MAX,
        ),
        (
            "seconds.pcapng",
            [interface(0, 0, &[]), packet(18_446_744_074, &frame)].concat(),
            u64::MAX,
        ),
        (
            "early.pcapng",
            [interface(9, 0, &[(14, &before)]), packet(5, &frame)].concat(),
            0,
        ),
        (
            "offset.pcapng",
            [
                interface(9, 0, &[(14, &after)]),
                packet(900_000_000, &frame),
            ]
            .concat(),
            u64::MAX,
        ),
    ];
    for (name, blocks, time_ns) in files {
        let dir = temp_dir();
        let good = packet(0, &frame);
        let bytes = [section(""), blocks, interface(9, 0, &[]), good].concat();
        let file = write(dir.path(), name, &bytes);
        let (seen, said, status) = ours(&file, &[]);
        assert_eq!(status, Some(1), "{name}: {said}");
        assert!(seen.contains(&(time_ns, 80, 80)), "{name}: {seen:?}");
        for part in [name, "have times before 1970 or after 2554-07-21T23:34:33Z"] {
            assert!(said.contains(part), "{name}: {said}");
        }
    }
    // The last moment that there is, and the first, are what they are.
    let dir = temp_dir();
    let blocks = [
        interface(9, 0, &[]),
        packet(u64::MAX, &frame),
        packet(0, &frame),
    ];
    let bytes = [section(""), blocks.concat()].concat();
    let file = write(dir.path(), "last.pcapng", &bytes);
    assert_eq!(ours(&file, &[]).1, "");
    // A classic file has four bytes for seconds.
    let copy = |name: &str| {
        let mut read = Command::new(LWNFLOG);
        read.current_dir(dir.path());
        output(read.args(["read", "last.pcapng", "-w", name]), "")
    };
    let refused = copy("copy.pcap");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("2106") && said.contains("write pcapng"),
        "{said}"
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(!dir.path().join("copy.pcap").exists());
    assert!(copy("copy.pcapng").status.success());
}

/// What a packet's or an interface's options say may be lost with them: the packets are read, and it is told.
#[test]
fn options_that_do_not_fit_are_told() {
    let data = frame(7, 80);
    let with = |options: &[u8]| {
        let plain = packet(T0_NS, &data);
        block(6, &[&plain[8..plain.len() - 4], options].concat())
    };
    let lossless = [4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for fits in [
        &[][..],
        &[0; 4],
        &[2, 0, 4, 0, 1, 0, 0, 0],
        &[2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 2, 0, b'a', b'b', 0, 0, 0, 0, 0, 0],
        &[1, 0, 3, 0, b'a', b'b', b'c', 0],
        &lossless,
    ] {
        let dir = temp_dir();
        let bytes = [section(""), interface(9, 0, &[]), with(fits)].concat();
        let file = write(dir.path(), "fits.pcapng", &bytes);
        let (seen, said, status) = ours(&file, &[]);
        assert_eq!((status, &*said, seen.len()), (Some(0), "", 1), "{fits:?}");
    }
    let damaged: [&[u8]; 7] = [
        &[0, 0, 0, 0, 4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 155, 0, b'a', b'b', 0, 0, 0, 0, 0, 0],
        &[1, 0, 255, 255],
        &[4, 0, 4, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 13, 0, 4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0],
        &[2, 0, 4, 0],
    ];
    for options in damaged {
        let dir = temp_dir();
        let good = with(&lossless);
        let bytes = [section(""), interface(9, 0, &[]), with(options), good].concat();
        let file = write(dir.path(), "damaged.pcapng", &bytes);
        let (seen, said, status) = ours(&file, &[]);
        assert_eq!((status, seen.len()), (Some(1), 2), "{options:?}: {said}");
        let told = "damaged, the options of 1 blocks";
        assert!(
            said.contains("damaged.pcapng") && said.contains(told),
            "{said}"
        );
    }
    // Of statistics they tell what was lost.
    let statistics = block(
        5,
        &[&[0; 12][..], &[7, 0, 80, 0, 3, 0, 0, 0, 0, 0, 0, 0]].concat(),
    );
    let bytes = [section(""), interface(9, 0, &[]), with(&[]), statistics].concat();
    let dir = temp_dir();
    let (seen, said, status) = ours(&write(dir.path(), "statistics.pcapng", &bytes), &[]);
    assert_eq!((status, seen.len()), (Some(1), 1), "{said}");
    // Of an interface they tell what its times are.
    let mut bytes = [section(""), interface(9, 0, &[]), packet(T0_NS, &data)].concat();
    let at = section("").len() + 18;
    bytes[at] = 200;
    let dir = temp_dir();
    let (seen, said, status) = ours(&write(dir.path(), "interface.pcapng", &bytes), &[]);
    assert_eq!((status, seen.len()), (Some(1), 1), "{said}");
    assert!(
        said.contains("of 1 blocks") && said.contains("times be wrong"),
        "{said}"
    );
}

/// Blocks of the first drafts, which dumpcap wrote once, and those of the simplest writers.
#[test]
fn packets_in_other_blocks_are_packets() {
    let head = [section(""), interface(9, 0, &[])].concat();
    let time_ns = |n: u32| T0_NS + u64::from(n) * 1000;
    // Interface, drops, time, captured, length.
    let old = |n: u32, data: &[u8]| {
        let stamp = time_ns(n).to_le_bytes();
        let len = u32::try_from(data.len()).unwrap().to_le_bytes();
        let whole = (u32::try_from(data.len()).unwrap() + 10).to_le_bytes();
        let parts = [&[0, 0, 7, 0], &stamp[4..], &stamp[..4], &len, &whole, data];
        block(2, &parts.concat())
    };
    let blocks: Vec<_> = (0..50_u32)
        .map(|n| match n % 3 {
            0 => packet(time_ns(n), &frame(n, 83)),
            _ => old(n, &frame(n, 83)),
        })
        .collect();
    let wanted: Vec<_> = (0..50_u32)
        .map(|n| (time_ns(n), if n % 3 == 0 { 83 } else { 93 }, 83))
        .collect();
    assert_read(
        "packet-blocks.pcapng",
        &[head.clone(), blocks.concat()].concat(),
        &wanted,
    );
    let dir = temp_dir();
    let only = [head.clone(), old(0, &frame(0, 83)), old(1, &frame(1, 83))].concat();
    let file = write(dir.path(), "only.pcapng", &only);
    let mut read = Command::new(LWNFLOG);
    let udp = run(
        read.args(["read", "--json", "-r"]).arg(&file).arg("udp"),
        "",
    );
    assert_eq!(numbers(&udp), [1]);

    // A simple one says its original length alone: what was captured is that, or the snap length.
    let simple =
        |original: u32, data: &[u8]| block(3, &[&original.to_le_bytes()[..], data].concat());
    let data = frame(1, 90);
    for (snaplen, original, there, captured) in [
        (0_u32, 90, 90, 90),
        (262_144, 90, 90, 90),
        (45, 90, 45, 45),
        (65, 142, 65, 65),
        (64, 90, 64, 64),
        (60, 58, 58, 58),
    ] {
        let name = format!("simple-{snaplen}-{original}.pcapng");
        let head = [section(""), interface(6, snaplen, &[])].concat();
        let bytes = [
            head,
            simple(original, &data[..there]),
            packet(T0_S * 1_000_000, &data),
        ];
        let wanted = [(0, original.into(), captured), (T0_NS, 90, 90)];
        assert_read(&name, &bytes.concat(), &wanted);
    }
}

/// Blocks that say what cannot be: told, and nothing is made of what stands behind them.
#[test]
fn blocks_that_cannot_be_are_told() {
    let head = [section(""), interface(9, 0, &[])].concat();
    let one = packets(0..1, 80);
    let behind = packets(1..3, 80);
    let raw = |kind: u32, body: &[u8]| block(kind, body);
    let lengths = |captured: u32| {
        let stamp = T0_NS.to_le_bytes();
        let parts = [
            &[0; 4],
            &stamp[4..],
            &stamp[..4],
            &captured.to_le_bytes(),
            &[80, 0, 0, 0],
        ];
        [parts.concat(), frame(9, 80)].concat()
    };
    let nowhere = {
        let mut block = packets(9..10, 80);
        block[8] = 3;
        block
    };
    for (what, bad) in [
        ("simple of 12 bytes", raw(3, &[])),
        ("simple without its data", raw(3, &80_u32.to_le_bytes())),
        ("simple with more than its data", raw(3, &[0; 84])),
        ("packet of 12 bytes", raw(6, &[])),
        ("packet that is longer than its block", raw(6, &lengths(84))),
        ("packet of 4 GB", raw(6, &lengths(u32::MAX))),
        ("packet of an interface that is not there", nowhere),
        ("interface of 12 bytes", raw(1, &[])),
        ("old packet of 16 bytes", raw(2, &[0; 4])),
    ] {
        let name = format!("{}.pcapng", what.replace(' ', "-"));
        let dir = temp_dir();
        let file = write(
            dir.path(),
            &name,
            &[&head[..], &one, &bad, &behind].concat(),
        );
        let (seen, said, status) = ours(&file, &[]);
        assert_eq!(status, Some(1), "{what}: {said}, {seen:?}");
        let names = said
            .lines()
            .any(|line| line.contains(&name) && line.contains("byte"));
        assert!(names, "{what}: {said}");
        // What is behind it may be found again.
        let all = all_seen(0..3, 80);
        assert_eq!(seen.first(), all.first(), "{what}");
        assert!(
            seen.iter().all(|packet| all.contains(packet)),
            "{what}: {seen:?}"
        );
    }
}

/// What is not packets stands between them; sections of either byte order, each with its interfaces.
#[test]
fn what_is_between_packets_is_passed() {
    let head = [section(""), interface(9, 0, &[])].concat();
    let others = [
        block(4, &[1, 0, 5, 0, 192, 0, 2, 1, b'a', 0, 0, 0, 0, 0, 0, 0]),
        block(5, &[0; 12]),
        block(0xbad, &[0xd9, 0x7e, 0, 0, 1, 2, 3, 4]),
        block(0x4000_0bad, &[0xd9, 0x7e, 0, 0]),
        block(10, b"KSLTxxxxyyyyzzzz"),
        block(0x1234_5678, &[0; 40]),
    ];
    let dir = temp_dir();
    let bytes = [
        head.clone(),
        packets(0..5, 80),
        others.concat(),
        packets(5..9, 80),
    ]
    .concat();
    let file = write(dir.path(), "others.pcapng", &bytes);
    let (seen, said, status) = ours(&file, &[]);
    assert_eq!(seen, all_seen(0..9, 80), "{said}");
    assert_eq!((said.as_str(), status), ("", Some(0)));
    // tshark has no turned sections of a later version, but of this one.
    let big = big_endian(&[head.clone(), packets(5..9, 80)].concat());
    let bytes = [
        head.clone(),
        packets(0..5, 80),
        big,
        head,
        packets(9..12, 80),
    ]
    .concat();
    assert_read("sections.pcapng", &bytes, &all_seen(0..12, 80));
}

/// A section of little-endian blocks turned around: those of this file's helpers alone.
fn big_endian(bytes: &[u8]) -> Vec<u8> {
    let (mut turned, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (kind, total) = (word(at), word(at + 4) as usize);
        let block = &bytes[at..at + total];
        let mut out = Vec::new();
        let mut from = 0;
        let mut turn = |width: usize, out: &mut Vec<u8>| {
            out.extend(block[from..from + width].iter().rev());
            from += width;
        };
        let widths: &[usize] = match kind {
            SECTION => &[4, 4, 4, 2, 2, 8],
            1 => &[4, 4, 2, 2, 4],
            6 => &[4, 4, 4, 4, 4, 4, 4],
            _ => panic!("{kind}"),
        };
        for width in widths {
            turn(*width, &mut out);
        }
        if kind == 1 {
            // tsresol, and the end of options.
            turn(2, &mut out);
            turn(2, &mut out);
        }
        out.extend(&block[out.len()..total - 4]);
        out.extend(u32::try_from(total).unwrap().to_be_bytes());
        turned.extend(out);
        at += total;
    }
    turned
}

/// Sections of a version that nobody knows are not read as if they were of this one.
#[test]
fn sections_of_other_versions_are_refused_by_name() {
    let head = |major: u16, minor: u16| {
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend(major.to_le_bytes());
        body.extend(minor.to_le_bytes());
        body.extend([0xff; 8]);
        [block(SECTION, &body), interface(9, 0, &[])].concat()
    };
    let (one, two) = (packets(0..3, 80), packets(3..6, 80));
    // Readers are to take 1.2 for 1.0.
    let bytes = [head(1, 2), one.clone()].concat();
    assert_read("version-1.2.pcapng", &bytes, &all_seen(0..3, 80));
    for (name, bytes, before) in [
        (
            "version-2.pcapng",
            [head(2, 0), one.clone()].concat(),
            &[][..],
        ),
        ("version-0.pcapng", [head(0, 9), one.clone()].concat(), &[]),
        (
            "version-2-behind.pcapng",
            [head(1, 0), one.clone(), head(2, 0), two].concat(),
            &all_seen(0..3, 80)[..],
        ),
    ] {
        assert_refused(name, &bytes, before, &["version"]);
    }
    let mut unordered = head(1, 0);
    unordered[8..12].copy_from_slice(&[1, 2, 3, 4]);
    let bytes = [unordered, one].concat();
    assert_refused(
        "byte-order.pcapng",
        &bytes,
        &[],
        &["byte order", "byte-order", "magic"],
    );
}

/// Classic files that patched programs wrote: tcpdump knows one of them, and the others by name.
#[test]
fn modified_pcap_is_read_or_refused_by_name() {
    let file_of = |magic: u32, version: (u16, u16), more: usize, big: bool| {
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, word: u32| {
            bytes.extend(if big {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            });
        };
        word(&mut bytes, magic);
        for half in [version.0, version.1] {
            bytes.extend(if big {
                half.to_be_bytes()
            } else {
                half.to_le_bytes()
            });
        }
        for value in [0, 0, 65_535, 1] {
            word(&mut bytes, value);
        }
        for n in 0..20_u32 {
            let data = frame(n, 80);
            for value in [u32::try_from(T0_S).unwrap(), n, 80, 90] {
                word(&mut bytes, value);
            }
            bytes.extend(vec![1; more]); // interface, protocol, kind
            bytes.extend(data);
        }
        bytes
    };
    let wanted: Vec<_> = (0..20).map(|n| (T0_NS + n * 1000, 90, 80)).collect();
    for big in [false, true] {
        let name = format!("modified-{big}.pcap");
        let bytes = file_of(0xa1b2_cd34, (2, 4), 8, big);
        assert_read(&name, &bytes, &wanted);
        assert_read("plain.pcap", &file_of(0xa1b2_c3d4, (2, 4), 0, big), &wanted);
        for magic in [0xa1b2_34cd, 0xa12b_3c4d, 0x1c00_01ac, 0x1c00_01ab] {
            let name = format!("other-{magic:x}-{big}.pcap");
            let bytes = file_of(magic, (2, 4), 0, big);
            let hex = format!("{magic:x}");
            assert_refused(
                &name,
                &bytes,
                &[],
                &["modified", "variant", &format!("0x{hex}")],
            );
        }
    }
    // tcpdump's own first versions, and what no version was.
    let dir = temp_dir();
    for version in [(2, 1), (2, 2), (2, 3), (543, 0), (1, 0), (3, 0)] {
        let name = format!("version-{}.{}.pcap", version.0, version.1);
        let file = write(dir.path(), &name, &file_of(0xa1b2_c3d4, version, 0, false));
        let mut tcpdump = Command::new("tcpdump");
        let theirs = output(tcpdump.args(["-n", "-w", "-", "-r"]).arg(&file), "").stdout;
        let theirs: Vec<_> = theirs.get(24..).unwrap_or(&[]).chunks(16 + 80).collect();
        let (seen, said, status) = ours(&file, &[]);
        if status == Some(1) {
            assert!(
                said.contains("version") && said.contains(&name),
                "{name}: {said}"
            );
            continue;
        }
        assert_eq!(seen.len(), theirs.len(), "{name}");
        for (ours, theirs) in seen.iter().zip(theirs) {
            let word = |at: usize| u32::from_le_bytes(theirs[at..at + 4].try_into().unwrap());
            let lengths = (u64::from(word(12)), u64::from(word(8)));
            assert_eq!((ours.1, ours.2), lengths, "{name}");
        }
    }
}

/// NFLOG messages as a big-endian machine has them (OpenWrt on MIPS): attributes are in its byte order.
#[test]
fn nflog_of_a_big_endian_machine_is_ip() {
    let message = |big: bool| {
        let mut message = vec![2, 0, 0, 5];
        for (kind, value) in [
            (1_u16, vec![8, 0, 1, 0]),
            (10, b"ssh\0".to_vec()),
            (9, frame(7, 80)[14..].to_vec()),
        ] {
            let len = u16::try_from(4 + value.len()).unwrap();
            for half in [len, kind] {
                message.extend(if big {
                    half.to_be_bytes()
                } else {
                    half.to_le_bytes()
                });
            }
            message.extend(&value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    };
    let dir = temp_dir();
    for big in [false, true] {
        let data = message(big);
        let words = |words: &[u32]| -> Vec<u8> {
            let bytes = |word: &u32| {
                if big {
                    word.to_be_bytes()
                } else {
                    word.to_le_bytes()
                }
            };
            words.iter().flat_map(bytes).collect()
        };
        let version: &[u8] = if big { &[0, 2, 0, 4] } else { &[2, 0, 4, 0] };
        let len = u32::try_from(data.len()).unwrap();
        let second = u32::try_from(T0_S).unwrap();
        let classic = [
            &words(&[0xa1b2_c3d4])[..],
            version,
            &words(&[0, 0, 65_535, 239, second, 0, len, len]),
            &data,
        ];
        let classic = write(dir.path(), &format!("{big}.pcap"), &classic.concat());
        let mut modern = [section(""), interface(9, 0, &[]), packet(T0_NS, &data)].concat();
        if big {
            modern = big_endian(&modern);
        }
        // The interface's link type.
        let at = section("").len() + 8 + usize::from(big);
        modern[at] = 239;
        let other = usize::from(!big);
        modern[section("").len() + 8 + other] = 0;
        let modern = write(dir.path(), &format!("{big}.pcapng"), &modern);
        for file in [&classic, &modern] {
            let mut tshark = Command::new("tshark");
            let tshark = tshark.args(["-n", "-Y", "ip.src == 10.0.0.7", "-r"]);
            let theirs = run(tshark.arg(file), "");
            let name = file.display();
            assert_eq!(theirs.lines().count(), 1, "{name}: tshark");
            for filter in ["host 10.0.0.7", "udp port 53", "ip"] {
                let mut read = Command::new(LWNFLOG);
                let read = read.args(["read", "--json", "-r"]).arg(file);
                let shown = run(read.arg(filter), "");
                assert_eq!(numbers(&shown), [7], "{name}: {filter}");
            }
        }
    }
}

/// A file of which no packet was taken is one that others open, in either format.
#[test]
fn a_file_without_packets_is_one() {
    let dir = temp_dir();
    let from = write(
        dir.path(),
        "from.pcapng",
        &[section(""), interface(9, 0, &[]), packets(0..5, 80)].concat(),
    );
    for (name, filter) in [
        ("none.pcapng", "host 192.0.2.99"),
        ("none.pcap", "host 192.0.2.99"),
    ] {
        let none = dir.path().join(name);
        let mut read = Command::new(LWNFLOG);
        run(
            read.arg("read")
                .arg("-w")
                .arg(&none)
                .arg("-r")
                .arg(&from)
                .arg(filter),
            "",
        );
        assert_eq!(count_by_tcpdump(&none), Ok(0), "{name}");
        assert_eq!(count_by_capinfos(&none), Ok(0), "{name}");
        let (seen, said, status) = ours(&none, &[]);
        assert_eq!(
            (seen.len(), said.as_str(), status),
            (0, "", Some(0)),
            "{name}"
        );
    }
}

/// Captured lengths that others write: more than the packet had, none at all, the longest.
#[test]
fn lengths_are_what_tshark_says() {
    let head = [section(""), interface(9, 0, &[])].concat();
    let with = |captured: usize, original: u32| {
        let mut block = packet(T0_NS, &vec![0x45; captured]);
        block[24..28].copy_from_slice(&original.to_le_bytes());
        block
    };
    for (captured, original) in [
        (0, 0),
        (0, 60),
        (60, 40),
        (1, 1_000_000),
        (262_144, 262_144),
    ] {
        let name = format!("captured-{captured}-of-{original}.pcapng");
        let bytes = [head.clone(), with(captured, original), packets(0..1, 80)].concat();
        let first = (T0_NS, original.into(), captured as u64);
        assert_read(&name, &bytes, &[first, (T0_NS, 80, 80)]);
    }
    // Options of a packet that are not what they say.
    let mut options = Vec::new();
    option(&mut options, 2, &[1, 0, 0, 0]);
    options.extend([1, 0, 0xff, 0xff]); // a comment that is longer than the block
    let mut body = packets(0..1, 80);
    body = body[8..body.len() - 4].to_vec();
    body.extend(options);
    let dir = temp_dir();
    let file = write(
        dir.path(),
        "options.pcapng",
        &[head, block(6, &body), packets(1..2, 80)].concat(),
    );
    let (seen, ..) = ours(&file, &[]);
    assert!(
        seen.contains(&(T0_NS + 1000, 80, 80)),
        "the next packet is read: {seen:?}"
    );
}
