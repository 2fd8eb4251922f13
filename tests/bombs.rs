//! Small files that could take a machine's memory or time: each is read, reported, followed and exported
//! within bounds, or refused by name.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::made::{File, ip, option, tcp};
use common::spent::spent;
use common::{LWNFLOG, temp_dir};

/// A program that was built without optimization takes long: it gets a part of each bomb.
const PART: u32 = if cfg!(debug_assertions) { 32 } else { 1 };
const PEAK_BYTES_MAX: u64 = if cfg!(debug_assertions) {
    192 << 20
} else {
    256 << 20
};
const PROCESSOR_MS_MAX: u64 = if cfg!(debug_assertions) {
    60_000
} else {
    5_000
};

/// Ends within the bounds, by itself: with success, or with an error that is said.
fn bounded(args: &[&str]) -> Result<(), String> {
    let spent = spent(LWNFLOG, args);
    let (code, said) = (spent.output.status.code(), &spent.output.stderr);
    let said = String::from_utf8_lossy(said).into_owned();
    let fine = match code {
        Some(0) => true,
        Some(1) => said.contains("lwnflog: ") && !said.contains("panicked"),
        _ => false,
    };
    let (peak, ms) = (spent.peak_bytes, spent.processor_ms);
    if fine && peak < PEAK_BYTES_MAX && ms < PROCESSOR_MS_MAX {
        return Ok(());
    }
    let said: String = said.chars().take(500).collect();
    let words = args.join(" ");
    Err(format!(
        "{words}: {} MiB, {ms} ms, {code:?}: {said}",
        peak >> 20
    ))
}

/// All that reads, of a file or directory.
fn all_are_bounded(place: &Path) {
    let dir = temp_dir();
    let place = place.to_str().unwrap();
    let out = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let commands = [
        vec!["read", place, "--count"],
        vec!["read", place, "-w", "/dev/null"],
        vec!["report", place, "--text"],
        vec!["path", place],
        vec!["export", place, "--csv", "/dev/null"],
        vec!["export", place, "--json", "/dev/null"],
    ];
    let mut failed = Vec::new();
    for command in commands {
        failed.extend(bounded(&command).err());
    }
    if cfg!(feature = "parquet") {
        failed.extend(bounded(&["export", place, "--parquet", &out("set")]).err());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A compressed file of what is written to it.
fn compressed(path: &Path, fill: impl FnOnce(&mut dyn Write)) {
    let program = match path.extension().unwrap().to_str().unwrap() {
        "zst" => "zstd",
        _ => "lz4",
    };
    let mut child = Command::new(program)
        .args(["-q", "-1", "-c"])
        .stdin(Stdio::piped())
        .stdout(fs::File::create(path).unwrap())
        .spawn()
        .unwrap();
    let mut to = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    fill(&mut to);
    to.flush().unwrap();
    drop(to);
    assert!(child.wait().unwrap().success());
    let bytes = fs::metadata(path).unwrap().len();
    assert!(bytes < 8 << 20, "{bytes} are no small file");
}

/// A section's header.
fn header() -> Vec<u8> {
    let mut file = File(Vec::new());
    let header = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX];
    file.block(0x0a0d_0d0a, &header.map(u32::to_le_bytes).concat());
    file.0
}

/// A header and one interface without names.
fn begun() -> File {
    let mut file = File(header());
    file.interface("", "", 0);
    file
}

/// A block of its own.
fn block(fill: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut file = File(Vec::new());
    fill(&mut file);
    file.0
}

fn classic() -> Vec<u8> {
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x0004_0000, 101];
    header.map(u32::to_le_bytes).concat()
}

fn address(number: u32) -> [u8; 4] {
    (0x0a00_0000 + number).to_be_bytes()
}

/// A packet an hour.
fn hours(count: u32) -> Vec<u8> {
    let mut bytes = classic();
    for number in 0..count {
        let packet = ip(address(1), address(2), 17, 0, &[0; 8]);
        let len = u32::try_from(packet.len()).unwrap();
        bytes.extend([number * 3600, 0, len, len].map(u32::to_le_bytes).concat());
        bytes.extend(packet);
    }
    bytes
}

/// Makes a bomb in a directory, and has all commands read it.
macro_rules! bombs {
    ($($name:ident: $file:literal, $make:expr;)*) => {$(
        #[test]
        fn $name() {
            let dir = temp_dir();
            let path: PathBuf = dir.path().join($file);
            let make: fn(&Path) = $make;
            make(&path);
            all_are_bounded(&path);
        }
    )*};
}

bombs! {
    interfaces_with_long_names: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&header()).unwrap();
        for number in 0..10_000_u32 / PART {
            let name = format!("{number:065000}");
            to.write_all(&block(|file| file.interface(&name, "", 0))).unwrap();
        }
        to.write_all(&block(|file| file.packet_with(10_000 / PART - 1, 0, &[0x45; 20], 0, &[]))).unwrap();
    });

    interfaces_that_describe_themselves: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&header()).unwrap();
        for number in 0..10_000_u32 / PART {
            let text = format!("NFLOG group {number:065000}");
            to.write_all(&block(|file| file.interface("", &text, 0))).unwrap();
            to.write_all(&block(|file| file.packet_with(number, 0, &[0x45; 20], 0, &[]))).unwrap();
        }
    });

    many_interfaces: "a.pcapng", |path| {
        let mut file = File(header());
        for number in 0..20_000 / PART {
            file.interface(&format!("eth{number}"), "", 0);
            file.packet_with(number, number.into(), &ip(address(1), address(2), 17, 0, &[0; 8]), 1, &[]);
        }
        fs::write(path, file.0).unwrap();
    };

    many_sections: "a.pcapng", |path| {
        let section = [header(), block(|file| file.interface("eth0", "NFLOG group 5", 0))].concat();
        let packet = block(|file| file.packet_with(0, 0, &[0x45; 20], 0, &[]));
        fs::write(path, [section, packet].concat().repeat(50_000 / PART as usize)).unwrap();
    };

    a_block_of_60_megabytes: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        for kind in [6, 1, 5, 77, 0x8000_6c77] {
            to.write_all(&block(|file| file.block(kind, &vec![0; 60 << 20]))).unwrap();
        }
    });

    a_block_of_2_gigabytes: "a.pcapng", |path| {
        let mut bytes = begun().0;
        bytes.extend([6, 0x7fff_fffc_u32].map(u32::to_le_bytes).concat());
        bytes.extend([0; 4096]);
        fs::write(path, bytes).unwrap();
    };

    options_without_end: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        let comments = vec!["x"; 1_000_000 / PART as usize];
        for number in 0..2 {
            to.write_all(&block(|file| file.packet_with(0, number, &[0x45; 20], 0, &comments))).unwrap();
        }
    });

    long_comments: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        for number in 0..8_000 / u64::from(PART) {
            let prefix = format!("prefix={number:065000}");
            let note = format!("lwnflog {number:065000}");
            let packet = block(|file| file.packet_with(0, number, &[0x45; 20], 0, &[&prefix, &note]));
            to.write_all(&packet).unwrap();
        }
    });

    a_sparse_classic_file: "a.pcap", |path| {
        fs::write(path, classic()).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_len((300 << 20) / u64::from(PART)).unwrap();
    };

    a_sparse_file: "a.pcapng", |path| {
        fs::write(path, begun().0).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_len((300 << 20) / u64::from(PART)).unwrap();
    };

    zeros_in_zstd: "a.pcap.zst", |path| compressed(path, |to| {
        to.write_all(&classic()).unwrap();
        for _ in 0..300 / PART {
            to.write_all(&[0; 1 << 20]).unwrap();
        }
    });

    zeros_in_lz4: "a.pcapng.lz4", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        for _ in 0..300 / PART {
            to.write_all(&[0; 1 << 20]).unwrap();
        }
    });

    padding: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        let padding = block(|file| file.block(0x8000_6c77, &[0; 65_000]));
        for _ in 0..8_000 / PART {
            to.write_all(&padding).unwrap();
        }
    });

    packets_of_the_greatest_length: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        let mut packet = ip(address(1), address(2), 17, 0, &[0; 8]);
        packet.resize(15 << 20, 0);
        for number in 0..30 / u64::from(PART) {
            to.write_all(&block(|file| file.packet_with(0, number, &packet, 0, &[]))).unwrap();
        }
    });

    one_in_the_other: "a.pcap", |path| {
        let mut bytes = classic();
        let (mut tunnel, mut headers) = (Vec::new(), Vec::new());
        for _ in 0..2_000 {
            tunnel.extend(ip(address(1), address(2), 4, 0, &[]));
            headers.extend([0, 0, 1, 4, 0, 0, 0, 0]);
        }
        let six = [&[0x60, 0, 0, 0, 0, 0, 0, 64][..], &[1; 32], &headers].concat();
        for packet in [&tunnel, &six] {
            for second in 0..200_u32 {
                let len = u32::try_from(packet.len()).unwrap();
                bytes.extend([second, 0, len, len].map(u32::to_le_bytes).concat());
                bytes.extend(packet);
            }
        }
        fs::write(path, bytes).unwrap();
    };

    tags_of_vlans: "a.pcap", |path| {
        let mut bytes = classic();
        bytes[20] = 1;
        let tags = [&[2; 12][..], &[0x81, 0, 0, 1].repeat(16_000), &[8, 0, 0x45]].concat();
        for second in 0..200_u32 {
            let len = u32::try_from(tags.len()).unwrap();
            bytes.extend([second, 0, len, len].map(u32::to_le_bytes).concat());
            bytes.extend(&tags);
        }
        fs::write(path, bytes).unwrap();
    };

    connections: "a.pcap", |path| {
        let mut bytes = classic();
        for number in 0..700_000_u32 / PART {
            let packet = ip(address(number), address(number / 3), 6, 0, &tcp(1, 2, 2));
            let len = u32::try_from(packet.len()).unwrap();
            bytes.extend([1, 0, len, len].map(u32::to_le_bytes).concat());
            bytes.extend(packet);
        }
        fs::write(path, bytes).unwrap();
    };

    scans: "a.pcap", |path| {
        let mut bytes = classic();
        for number in 0..700_000_u32 / PART {
            let port = u16::try_from(number % 4096).unwrap();
            let packet = ip(address(number / 4096), address(7), 6, 0, &tcp(1, port, 2));
            let len = u32::try_from(packet.len()).unwrap();
            bytes.extend([number / 1000, 0, len, len].map(u32::to_le_bytes).concat());
            bytes.extend(packet);
        }
        fs::write(path, bytes).unwrap();
    };

    fragments: "a.pcap", |path| {
        let mut bytes = classic();
        for number in 0..300_000_u32 / PART {
            let packet = ip(address(number), address(7), 17, 0x2000 | 5, &[1; 8]);
            let len = u32::try_from(packet.len()).unwrap();
            bytes.extend([1, 0, len, len].map(u32::to_le_bytes).concat());
            bytes.extend(packet);
        }
        fs::write(path, bytes).unwrap();
    };

    // A packet is seen at many places, each time as another.
    places: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        for place in 0..150_u32 {
            let name = format!("prefix={place:0120}");
            for number in 0..3_000_u32 / PART {
                let packet = ip(address(place), address(7), 17, 0, &number.to_be_bytes().repeat(6));
                let sight = block(|file| file.packet_with(0, 0, &packet, 0, &[&name]));
                to.write_all(&sight).unwrap();
            }
        }
    });

    // Each packet goes another way.
    ways: "a.pcapng.zst", |path| compressed(path, |to| {
        to.write_all(&begun().0).unwrap();
        for number in 0..2_000_u32 / PART {
            for place in 0..120_u32 {
                let name = format!("prefix={}", (place * (1 + number % 110) + number) % 240);
                let packet = ip(address(1), address(7), 17, 0, &number.to_be_bytes().repeat(6));
                let after_ms = u64::from(number) * 3_000 + u64::from(place);
                let sight = block(|file| file.packet_with(0, after_ms, &packet, 0, &[&name]));
                to.write_all(&sight).unwrap();
            }
        }
    });

    // As many as are exported, and more than are.
    many_hours: "a.pcap", |path| fs::write(path, hours(4_000 / PART)).unwrap();

    too_many_hours: "a.pcap", |path| fs::write(path, hours(20_000)).unwrap();

    times: "a.pcapng", |path| {
        let mut file = begun();
        for after_ms in [0, 1 << 60, 1 << 50, 5, 1 << 40] {
            file.packet_with(0, after_ms, &[0x45; 20], u64::MAX, &[]);
        }
        fs::write(path, file.0).unwrap();
    };
}

/// An index of apparently a gigabyte beside a capture of a ring.
#[test]
fn a_sparse_index() {
    let dir = temp_dir();
    let name = "g5-000001-20260101T000000Z.pcapng";
    let mut file = begun();
    file.packet_with(0, 0, &[0x45; 20], 0, &[]);
    fs::write(dir.path().join(name), file.0).unwrap();
    let made = Command::new(LWNFLOG)
        .args(["read", "--count", "host", "1.2.3.4"])
        .arg("-r")
        .arg(dir.path().join(name))
        .output();
    assert!(made.unwrap().status.success());
    let index = dir.path().join(format!(".{name}.idx"));
    let index = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(index)
        .unwrap();
    index.set_len(1 << 30).unwrap();
    all_are_bounded(dir.path());
    let place = dir.path().to_str().unwrap();
    bounded(&["ls", place]).unwrap();
    bounded(&["read", place, "--count", "host", "1.2.3.4"]).unwrap();
}

/// An option of each kind in each block, as long as one can be.
#[test]
fn long_options() {
    let dir = temp_dir();
    let path = dir.path().join("a.pcapng.zst");
    let long = vec![b'x'; 65_532];
    compressed(&path, |to| {
        let mut section = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX]
            .map(u32::to_le_bytes)
            .concat();
        let mut interface = [101_u32, 0].map(u32::to_le_bytes).concat();
        for code in 1..64 {
            option(&mut section, code, &long);
            option(&mut interface, code, &long);
        }
        for _ in 0..100 / PART {
            to.write_all(&block(|file| file.block(0x0a0d_0d0a, &section)))
                .unwrap();
            to.write_all(&block(|file| file.block(1, &interface)))
                .unwrap();
        }
    });
    all_are_bounded(&path);
}
