//! `--anonymize`: tshark finds the same packets of others, with checksums that are right, and nobody's
//! address, link-layer address, name or payload is in what is written, however it is written.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

#[path = "../common/mod.rs"]
mod common;
mod people;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::made::{File, option};
use common::{LWNFLOG, lab, load_capture_rules, output, run, temp_dir};
use lwnflog::lab::Traffic;
use people::Told;

const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3ca9f5ba40db214c3798f2e1c23456789a";

fn key(dir: &Path) -> PathBuf {
    let path = dir.join("key");
    fs::write(&path, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn fields(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-nr").arg(file).args(["-T", "fields"]);
    for protocol in ["ip", "udp"] {
        tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    for field in fields {
        tshark.args(["-e", field]);
    }
    let line = |line: &str| line.split('\t').map(str::to_owned).collect();
    run(&mut tshark, "").lines().map(line).collect()
}

#[test]
fn who_it_was_is_gone_and_the_rest_is_there() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let ring = dir.path().join("ring");
    let mut capture = common::Running::capture(lab.receiver(), &ring, &["--group", "5", "-s", "0"]);
    Traffic::new(200, 300)
        .rate(Some(10_000))
        .send(&lab, None)
        .unwrap();
    capture.wait_written(300);
    capture.end().assert_balanced();
    let read = |name: &str, more: &[&str]| {
        let to = dir.path().join(name);
        let mut read = Command::new(LWNFLOG);
        read.arg("read").arg(&ring).arg("-w").arg(&to).args(more);
        run(&mut read, "");
        to
    };
    let key = key(dir.path());
    let with_key = ["--anonymize", key.to_str().unwrap()];
    let plain = read("plain.pcapng", &[]);
    let kept = read(
        "kept.pcapng",
        &[&with_key[..], &["--keep-payload"]].concat(),
    );
    let bare = read("bare.pcapng", &with_key);
    let one_thread = read("one.pcapng", &[&with_key[..], &["--threads", "1"]].concat());
    assert_eq!(fs::read(&bare).unwrap(), fs::read(one_thread).unwrap());
    let asked = [
        "ip.src",
        "ip.dst",
        "eth.src",
        "udp.length",
        "ip.checksum.status",
        "udp.checksum.status",
        "frame.len",
        "frame.cap_len",
    ];
    let (before, after) = (fields(&plain, &asked), fields(&kept, &asked));
    assert_eq!((before.len(), after.len()), (300, 300));
    let mut others = BTreeSet::new();
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
        others.insert((&before[0], &after[0]));
        assert_eq!(after[2], "00:00:00:00:00:00");
        assert_eq!(before[3], after[3]);
        assert_eq!(
            before[4..],
            after[4..],
            "checksums are as right as they were"
        );
    }
    let before_them: BTreeSet<_> = before.iter().map(|line| &line[0]).collect();
    let after_them: BTreeSet<_> = after.iter().map(|line| &line[0]).collect();
    assert_eq!(
        others.len(),
        before_them.len(),
        "one is always the same other"
    );
    assert_eq!(others.len(), after_them.len(), "and two are two");
    // Whose payload is gone has its headers: Ethernet, IPv4, UDP.
    for line in fields(&bare, &asked) {
        assert_eq!((line[6].as_str(), line[7].as_str()), ("200", "42"));
    }
    // The filter is of whom it was.
    let of_them = read(
        "some.pcapng",
        &[&with_key[..], &["dst", "host", &before[0][1]]].concat(),
    );
    assert_eq!(fields(&of_them, &["ip.src"]).len(), 300);
}

#[test]
fn keys_that_are_none_or_everybodys() {
    let dir = temp_dir();
    let file = dir.path().join("f.pcap");
    // An empty classic file.
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 1_u32];
    fs::write(&file, header.map(u32::to_le_bytes).concat()).unwrap();
    let read = |key: &Path| {
        let mut read = Command::new(LWNFLOG);
        read.arg("read")
            .arg("-r")
            .arg(&file)
            .arg("-w")
            .arg(dir.path().join("out"));
        let done = output(read.arg("--anonymize").arg(key), "");
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let key = key(dir.path());
    assert_eq!(read(&key), (true, String::new()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (worked, said) = read(&key);
    assert!(
        worked && said.contains("others can read this key"),
        "{said}"
    );
    fs::write(&key, "secret").unwrap();
    let (worked, said) = read(&key);
    assert!(!worked && said.contains("openssl rand -hex 32"), "{said}");
    let (worked, said) = read(Path::new("/no/such/key"));
    assert!(!worked && said.contains("/no/such/key"), "{said}");
}

/// A file of these packets with all that may stand beside packets. Those of one kind come by an
/// interface of lwnflog's, and each second of them has its comment.
fn capture(packets: &[Told]) -> Vec<u8> {
    let mut file = File(Vec::new());
    let mut header = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX]
        .map(u32::to_le_bytes)
        .concat();
    option(&mut header, 1, b"of Alice, lwnflog segment=65536");
    option(&mut header, 2, b"Laptop of Alice");
    header.extend([0; 4]);
    file.block(0x0a0d_0d0a, &header);
    // Names of addresses, secrets of connections.
    let mut names = [
        &[1, 0, 16, 0][..],
        &people::V4[0],
        b"gateway.lan\0",
        &[0; 4],
    ]
    .concat();
    option(&mut names, 2, b"gateway.lan");
    file.block(4, &names);
    file.block(10, &[&b"LSSL\x10\0\0\0"[..], b"CLIENT_RANDOM 01"].concat());
    let mut links: Vec<u16> = packets.iter().map(|packet| packet.link).collect();
    links.sort_unstable();
    links.dedup();
    for link in &links {
        for own in [false, true] {
            let mut body = [u32::from(*link), 0].map(u32::to_le_bytes).concat();
            let (name, description) = match own {
                true => ("eth0", "NFLOG group 5, port of the bridge br0"),
                false => ("Alice's Wi-Fi", "Wi-Fi of 195.90.145.17"),
            };
            option(&mut body, 2, name.as_bytes());
            option(&mut body, 3, description.as_bytes());
            option(&mut body, 4, &[people::V4[0], [255; 4]].concat());
            option(&mut body, 6, &people::MACS[0]);
            option(&mut body, 11, b"\0host 195.90.145.17");
            option(&mut body, 15, b"card of Alice");
            option(&mut body, 1, b"Alice's");
            body.extend([0; 4]);
            file.block(1, &body);
        }
    }
    let mut number = 0;
    for packet in packets {
        let link = links.iter().position(|link| *link == packet.link).unwrap();
        for cut in 0..=packet.frame.len() {
            number += 1;
            let own = u32::from(number % 2 == 0);
            let by = u32::try_from(2 * link).unwrap() + own;
            let comments: &[&str] = match number % 8 {
                0 => &["mark=0x0000002a prefix=ssh: ", "lwnflog snaplen 9 by Alice"],
                1 => &["prefix=of Alice"],
                2 => &["Alice at 195.90.145.17", "Laptop"],
                3 => &["Alice, mark=0x0000002a"],
                4 => &["prefix=ssh: ", "a second one of Alice"],
                _ => &[],
            };
            file.packet_with(by, number, &packet.frame[..cut], number % 3, comments);
        }
    }
    // How many came by an interface, in the words of another program.
    let mut statistics = [1_u32, 0, 0].map(u32::to_le_bytes).concat();
    option(&mut statistics, 1, b"Counters provided by Alice");
    statistics.extend([0; 4]);
    file.block(5, &statistics);
    file.0
}

/// What of the input is in these bytes.
fn found(bytes: &[u8]) -> Vec<String> {
    let mut by_start: HashMap<&[u8], Vec<&(String, Vec<u8>)>> = HashMap::new();
    let traces = people::traces();
    for trace in &traces {
        by_start.entry(&trace.1[..4]).or_default().push(trace);
    }
    let mut found = BTreeSet::new();
    for (at, start) in bytes.windows(4).enumerate() {
        for (what, trace) in by_start.get(start).into_iter().flatten() {
            if bytes[at..].starts_with(trace) {
                found.insert(what.clone());
            }
        }
    }
    found.into_iter().collect()
}

/// All of a directory: names and contents; of tables, too, what is in their cells.
fn all_of(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(path.file_name().unwrap().as_encoded_bytes());
        bytes.push(b'\n');
        if path.is_dir() {
            bytes.extend(all_of(&path));
            continue;
        }
        bytes.extend(fs::read(&path).unwrap());
        #[cfg(feature = "parquet")]
        if path.extension().is_some_and(|end| end == "parquet") {
            use parquet::file::reader::{FileReader, SerializedFileReader};
            let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
            for row in reader.get_row_iter(None).unwrap() {
                bytes.extend(row.unwrap().to_string().as_bytes());
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

fn lwnflog(args: &[&str]) {
    run(Command::new(LWNFLOG).args(args), "");
}

/// Every address, MAC and name of the input, in any form, is searched in the bytes of each output.
#[test]
fn nobody_of_the_input_is_in_any_output() {
    let dir = temp_dir();
    let name = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let packets = people::packets();
    let (all, plain) = (name("Laptop of Alice.pcapng"), name("Alice.pcapng"));
    fs::write(&all, capture(&packets)).unwrap();
    let ethernet = packets
        .into_iter()
        .filter(|packet| packet.link == people::ETHERNET);
    let ethernet: Vec<_> = ethernet.collect();
    fs::write(&plain, capture(&ethernet)).unwrap();
    let in_clear: Vec<_> = people::traces().into_iter().map(|(what, _)| what).collect();
    let seen = found(&fs::read(&all).unwrap());
    for what in in_clear
        .iter()
        .filter(|what| !what.contains(',') && !what.contains([':', '-', '.']))
    {
        assert!(
            seen.contains(what),
            "{what} is not in what is to be anonymised"
        );
    }
    let key = key(dir.path());
    let key = ["--anonymize", key.to_str().unwrap()];
    let outputs: [(&str, &[&str]); 6] = [
        ("out.pcapng", &["read", "-r", &all, "-w"]),
        ("one.pcapng", &["read", "-r", &all, "--threads", "1", "-w"]),
        ("out.pcap", &["read", "-r", &plain, "-w"]),
        ("out.csv", &["export", &all, "--csv"]),
        ("out.json", &["export", &all, "--json"]),
        ("set", &["export", &all, "--parquet"]),
    ];
    for (to, words) in outputs {
        if to == "set" && cfg!(not(feature = "parquet")) {
            continue;
        }
        let out = dir.path().join("out").join(to);
        fs::create_dir_all(out.parent().unwrap()).unwrap();
        lwnflog(&[words, &[out.to_str().unwrap()], &key].concat());
        let bytes = match out.is_dir() {
            true => all_of(&out),
            false => fs::read(&out).unwrap(),
        };
        assert!(bytes.len() > 10_000, "{to}");
        assert_eq!(found(&bytes), [""; 0], "{to}");
        if to != "out.pcap" && to != "set" {
            let text = String::from_utf8_lossy(&bytes);
            for stays in ["eth0", "NFLOG group 5, port of the bridge br0", "ssh: "] {
                assert!(text.contains(stays), "{stays} is not in {to}");
            }
        }
    }
    // By a pipe it is read one by one.
    let out = name("piped.pcapng");
    let piped = [&["read", "-r", "/dev/stdin", "-w", &out], &key[..]].concat();
    let mut command = Command::new(LWNFLOG);
    let file = fs::File::open(&all).unwrap();
    let mut cat = Command::new("cat")
        .stdin(file)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let done = command
        .args(piped)
        .stdin(cat.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(
        done.status.success() && cat.wait().unwrap().success(),
        "{done:?}"
    );
    assert_eq!(found(&fs::read(&out).unwrap()), [""; 0]);
}

/// What is kept on demand is payload alone.
#[test]
fn payload_that_is_kept_is_no_header() {
    let dir = temp_dir();
    let file = dir.path().join("in.pcapng");
    let mut packets = people::packets();
    packets.retain(|packet| packet.by_headers);
    fs::write(&file, capture(&packets)).unwrap();
    let out = dir.path().join("out.pcapng");
    let key = key(dir.path());
    let [file, out, key] = [&file, &out, &key].map(|path| path.to_str().unwrap());
    lwnflog(&[
        "read",
        "-r",
        file,
        "-w",
        out,
        "--anonymize",
        key,
        "--keep-payload",
    ]);
    assert_eq!(found(&fs::read(out).unwrap()), [""; 0]);
}

/// tshark finds no checksum wrong that was right, and none right that was wrong.
#[test]
fn checksums_are_as_right_as_they_were() {
    let dir = temp_dir();
    let (file, out) = (dir.path().join("in.pcapng"), dir.path().join("out.pcapng"));
    let mut made = File::new();
    made.interface("", "", 0);
    let (mut number, mut whats) = (0, Vec::new());
    for packet in people::packets() {
        // A checksum behind a source route is of where that leads.
        if packet.link != people::ETHERNET || packet.what == "source route" {
            continue;
        }
        let (what, whole) = (packet.what, packet.frame[14..].to_vec());
        // At each place of the headers, what is wrong by one.
        for wrong in [None, Some(11), Some(27), Some(37), Some(43), Some(47)] {
            let mut packet = whole.clone();
            match wrong.map(|at| packet.get_mut(at)) {
                None => {}
                Some(Some(byte)) => *byte ^= 0x10,
                Some(None) => continue,
            }
            number += 1;
            whats.push(format!("{} {wrong:?} {packet:02x?}", what));
            made.packet_with(1, number, &packet, 0, &[]);
        }
    }
    fs::write(&file, made.0).unwrap();
    let key = key(dir.path());
    let [from, to, key] = [&file, &out, &key].map(|path| path.to_str().unwrap());
    lwnflog(&[
        "read",
        "-r",
        from,
        "-w",
        to,
        "--anonymize",
        key,
        "--keep-payload",
    ]);
    let statuses = |file: &Path| {
        let mut tshark = Command::new("tshark");
        tshark
            .arg("-nr")
            .arg(file)
            .args(["-T", "fields", "-E", "occurrence=f"]);
        for protocol in ["ip", "tcp", "udp"] {
            tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        for protocol in ["ip", "tcp", "udp", "icmp", "icmpv6"] {
            tshark.args(["-e", &format!("{protocol}.checksum.status")]);
        }
        let told = run(&mut tshark, "");
        let lines = told
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect());
        lines.collect::<Vec<Vec<_>>>()
    };
    let (before, after) = (statuses(&file), statuses(&out));
    assert_eq!((before.len() as u64, after.len() as u64), (number, number));
    let (mut right, mut wrong) = (0, 0);
    for (place, (before, after)) in before.iter().zip(&after).enumerate() {
        for (before, after) in before.iter().zip(after) {
            // 0 is wrong, 1 is right, 2 is not known: there is not all of it any more.
            if after == "0" || after == "1" {
                assert_eq!(before, after, "packet {}: {}", place + 1, whats[place]);
                right += u32::from(after == "1");
                wrong += u32::from(after == "0");
            }
        }
    }
    assert!(right > 200 && wrong > 100, "{right} right, {wrong} wrong");
}
