//! `lwnflog export`: what is in the rows is what tshark says of the packets, in Parquet as in text; each
//! file is in a data set once, whatever came between; what was lost stands beside.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::made::{File, HOSTILE, START_US, ip, tcp};
use common::{LWNFLOG, output, run, temp_dir};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

type Row = BTreeMap<String, String>;

/// Packets of two hours, out of order, one of them behind a loss of 7.
fn capture(path: &Path) {
    let mut file = File::new();
    for number in 0..500_u16 {
        let (client, server) = ([192, 0, 2, 1], [198, 51, 100, 10]);
        let at = u64::from(number) * 10_000 + if number % 2 == 0 { 15_000 } else { 0 };
        let packet = match number % 4 {
            0 => ip(client, server, 6, 0, &tcp(20_000 + number, 443, 2)),
            1 => ip(server, client, 6, 0, &tcp(443, 20_000 + number, 0x12)),
            2 => ip(
                client,
                server,
                17,
                0,
                &[0x30, 0x39, 0, 53, 0, 12, 0, 0, b'd', b'a', b't', b'a'],
            ),
            _ => ip(client, server, 17, 185, b"a later part of it"),
        };
        file.packet(at, &packet, if number == 250 { 7 } else { 0 });
    }
    fs::write(path, file.0).unwrap();
}

fn export(args: &[&str]) -> String {
    let told = output(Command::new(LWNFLOG).arg("export").args(args), "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success(), "{args:?}: {said}");
    said
}

fn refused(args: &[&str]) -> String {
    let told = output(Command::new(LWNFLOG).arg("export").args(args), "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(1), "{args:?}: {said}");
    said
}

/// All files below a directory, but for marks.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The rows of a table, part by part.
fn rows(dir: &Path) -> Vec<Row> {
    let mut all = Vec::new();
    let hidden = |file: &PathBuf| file.file_name().unwrap().as_encoded_bytes()[0] == b'.';
    for file in files(dir).into_iter().filter(|file| !hidden(file)) {
        let reader = SerializedFileReader::new(fs::File::open(&file).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let columns = row.unwrap().into_columns();
            all.push(
                columns
                    .into_iter()
                    .filter_map(|(name, value)| {
                        let text = match value {
                            Field::Null => return None,
                            Field::Str(text) => text,
                            Field::Bytes(bytes) => bytes
                                .data()
                                .iter()
                                .map(|byte| format!("{byte:02x}"))
                                .collect(),
                            Field::Int(number) => number.to_string(),
                            Field::Long(number) => number.to_string(),
                            other => panic!("{name}: {other}"),
                        };
                        Some((name, text))
                    })
                    .collect(),
            );
        }
    }
    all
}

#[test]
fn rows_are_what_tshark_says() {
    let dir = temp_dir();
    let (file, out) = (dir.path().join("made.pcapng"), dir.path().join("set"));
    capture(&file);
    let (place, set) = (file.to_str().unwrap(), out.to_str().unwrap());
    let said = export(&[place, "--parquet", set, "--host", "fw_1", "--payload", "4"]);
    assert!(
        said.contains("1 files exported, 0 before: 500 packets, 7 lost"),
        "{said}"
    );
    let table = rows(&out.join("packets"));

    // Parts by hour, sorted by time in each, and nothing that is not finished.
    let parts = files(&out.join("packets"));
    let places: Vec<_> = parts
        .iter()
        .map(|part| part.strip_prefix(&out).unwrap().parent().unwrap())
        .collect();
    let hours = [
        "packets/dt=2025-11-27/hour=14/host=fw_1",
        "packets/dt=2025-11-27/hour=15/host=fw_1",
    ];
    assert_eq!(places, hours.map(Path::new));
    assert!(table.is_sorted_by_key(|row| row["time_ns"].parse::<u64>().unwrap()));

    let mut names = vec![
        "frame.time_epoch",
        "frame.len",
        "ip.src",
        "ip.dst",
        "ip.proto",
        "ip.ttl",
        "ip.id",
    ];
    names.extend([
        "tcp.srcport",
        "tcp.dstport",
        "udp.srcport",
        "udp.dstport",
        "tcp.flags",
        "tcp.seq_raw",
    ]);
    names.extend([
        "tcp.ack_raw",
        "tcp.window_size_value",
        "ip.frag_offset",
        "ip.len",
    ]);
    let fields: Vec<_> = names.iter().flat_map(|name| ["-e", name]).collect();
    let mut tshark = Command::new("tshark");
    tshark
        .args([
            "-n",
            "-o",
            "ip.defragment:FALSE",
            "-r",
            place,
            "-T",
            "fields",
        ])
        .args(fields);
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap().to_string(),
        None => text.to_owned(),
    };
    let mut expected: Vec<Vec<String>> = run(&mut tshark, "")
        .lines()
        .map(|line| {
            let mut values: Vec<_> = line.split('\t').map(number).collect();
            values[0] = values[0].replace('.', "");
            for (tcp, udp) in [(7, 9), (8, 10)] {
                if values[tcp].is_empty() {
                    values[tcp] = values[udp].clone();
                }
            }
            values.drain(9..11);
            let offset: u32 = values[13].parse().unwrap();
            values[13] = (offset * 8).to_string();
            values
        })
        .collect();
    expected.sort();
    let columns = [
        "time_ns",
        "original_len",
        "src",
        "dst",
        "protocol",
        "ttl",
        "ip_id",
        "src_port",
        "dst_port",
        "tcp_flags",
        "tcp_seq",
        "tcp_ack",
        "tcp_window",
        "fragment_offset",
        "ip_len",
    ];
    let mut got: Vec<Vec<String>> = table
        .iter()
        .map(|row| {
            columns
                .map(|name| row.get(name).cloned().unwrap_or_default())
                .to_vec()
        })
        .collect();
    got.sort();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got, expected);
    }
    assert!(
        table
            .iter()
            .all(|row| row["interface"] == HOSTILE && row["prefix"] == HOSTILE)
    );
    assert_eq!(
        table
            .iter()
            .filter(|row| row.get("payload").is_some_and(|some| some == "64617461"))
            .count(),
        125
    );

    // As text the same, in the order of the file, host first.
    let json = export_lines(&[place, "--json", "-", "--payload", "4"]);
    let mut objects = objects(&json);
    let mut sorted = table.clone();
    for rows in [&mut objects, &mut sorted] {
        rows.sort();
    }
    assert_eq!(objects, sorted);
    let csv = export_lines(&[place, "--csv", "-", "udp"]);
    assert_eq!(csv.lines().count(), 1 + 250);
    assert!(csv.starts_with("host,time_ns,source,interface,"));
    assert!(
        csv.contains("\"\"\"><script>alert(1)</script>\""),
        "quotation marks are doubled"
    );
}

/// Rows of JSON, without their host.
fn objects(json: &str) -> Vec<Row> {
    let plain = |value: serde_json::Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let row = |line: &str| {
        let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        object
            .into_iter()
            .filter(|(name, _)| name != "host")
            .map(|(name, value)| (name, plain(value)))
            .collect()
    };
    json.lines().map(row).collect()
}

/// Frames of many neighbours, of both families and of neither, whole and cut anywhere.
#[test]
fn lines_say_what_rows_say() {
    let (dir, set) = (temp_dir(), temp_dir());
    let file = dir.path().join("frames.pcap");
    let mut bytes = [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 65_535, 1]
        .map(u32::to_le_bytes)
        .concat();
    let mut random = 7_u64;
    for number in 0..2_000_u32 {
        let mut noise = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        };
        let mut frame = noise().to_vec();
        frame.extend(&noise()[..4]);
        if number % 3 == 0 {
            frame = vec![2; 12];
        }
        let kind = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]][number as usize % 4];
        frame.extend(kind);
        if kind == [0x81, 0x00] {
            frame.extend([0, 7, 0x08, 0x00]);
        }
        let begin = frame.len();
        for _ in 0..12 {
            frame.extend(noise());
        }
        frame[begin] = if kind == [0x86, 0xdd] { 0x60 } else { 0x45 };
        let protocol = [6, 17, 1, 58, 132, 44][noise()[0] as usize % 6];
        frame[begin + if kind == [0x86, 0xdd] { 6 } else { 9 }] = protocol;
        if noise()[0] % 2 == 0 {
            frame[begin + 6..begin + 8].fill(0);
        }
        let len = if number % 5 == 0 {
            noise()[0] as usize % frame.len()
        } else {
            frame.len()
        };
        let head = [
            1_764_252_000 + number,
            number,
            u32::try_from(len).unwrap(),
            1500,
        ];
        bytes.extend(head.map(u32::to_le_bytes).concat());
        bytes.extend(&frame[..len]);
    }
    fs::write(&file, bytes).unwrap();
    let place = file.to_str().unwrap();
    for payload in ["0", "9"] {
        let out = set.path().join(payload);
        export(&[
            place,
            "--payload",
            payload,
            "--parquet",
            out.to_str().unwrap(),
        ]);
        let mut table = rows(&out.join("packets"));
        let mut lines = objects(&export_lines(&[place, "--payload", payload, "--json", "-"]));
        assert_eq!((table.len(), lines.len()), (2_000, 2_000));
        table.sort();
        lines.sort();
        assert!(table == lines);
        // CSV has the same, each in its column.
        let csv = export_lines(&[place, "--payload", payload, "--csv", "-"]);
        let names: Vec<_> = csv.lines().next().unwrap().split(',').collect();
        let mut cells: Vec<Row> = csv
            .lines()
            .skip(1)
            .map(|line| {
                let cells: Vec<_> = line.split(',').collect();
                assert_eq!(cells.len(), names.len());
                let named = names.iter().zip(cells).skip(1);
                let there = named.filter(|(_, cell)| !cell.is_empty());
                there
                    .map(|(name, cell)| ((*name).to_owned(), cell.to_owned()))
                    .collect()
            })
            .collect();
        cells.sort();
        assert!(cells == table);
    }
}

fn export_lines(args: &[&str]) -> String {
    run(Command::new(LWNFLOG).arg("export").args(args), "")
}

#[test]
fn a_file_is_in_it_once() {
    let dir = temp_dir();
    let (file, out) = (dir.path().join("made.pcapng"), dir.path().join("set"));
    capture(&file);
    let (place, set) = (file.to_str().unwrap(), out.to_str().unwrap());
    let args = [place, "--parquet", set, "--host", "fw1"];
    export(&args);
    let (before, first) = (files(&out), rows(&out.join("packets")));
    assert_eq!(before.len(), 4, "two hours, losses, a mark: {before:?}");
    assert!(export(&args).contains("0 files exported, 1 before"));
    assert_eq!(files(&out), before);

    // One that was interrupted: there is no mark, a part is there, and another half of one.
    fs::remove_dir_all(out.join("_exported")).unwrap();
    let parts = files(&out.join("packets"));
    fs::remove_file(&parts[1]).unwrap();
    let name = parts[1].file_name().unwrap().to_str().unwrap();
    fs::write(parts[1].with_file_name(format!(".{name}.part")), "half").unwrap();
    export(&args);
    assert_eq!(
        (files(&out), rows(&out.join("packets"))),
        (before.clone(), first.clone())
    );

    // Compressed or moved, it is the same file; one that has grown takes the place of what it was.
    let moved = dir.path().join("elsewhere");
    fs::create_dir(&moved).unwrap();
    fs::copy(&file, moved.join("made.pcapng")).unwrap();
    assert!(
        export(&[moved.to_str().unwrap(), "--parquet", set, "--host", "fw1"]).contains("1 before")
    );
    let mut more = File(fs::read(&file).unwrap());
    more.packet(
        6_000_000,
        &ip([192, 0, 2, 9], [192, 0, 2, 10], 6, 0, &tcp(1, 2, 16)),
        3,
    );
    fs::write(&file, more.0).unwrap();
    export(&args);
    assert_eq!(files(&out), before);
    assert_eq!(rows(&out.join("packets")).len(), first.len() + 1);
    // Another host's file of the same name stands beside.
    export(&[place, "--parquet", set, "--host", "fw2"]);
    assert_eq!(rows(&out.join("packets")).len(), 2 * (first.len() + 1));
}

#[test]
fn files_that_a_ring_has_recycled_are_missed() {
    let (ring, out) = (temp_dir(), temp_dir());
    for number in [3, 4, 7] {
        let name = format!("g5-{number:06}-20251127T140000Z.pcapng");
        capture(&ring.path().join(name));
    }
    let args = [ring.path(), Path::new("--parquet"), out.path()];
    let said = export(&args.map(|arg| arg.to_str().unwrap()));
    assert!(
        said.contains("2 files of rings are not there any more"),
        "{said}"
    );
    assert!(said.contains("3 files exported"), "{said}");
}

#[test]
fn what_is_cut_is_said_and_what_fails_leaves_nothing() {
    let (dir, out) = (temp_dir(), temp_dir());
    let file = dir.path().join("made.pcapng");
    capture(&file);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    let (place, set) = (file.to_str().unwrap(), out.path().to_str().unwrap());
    let said = refused(&[place, "--parquet", set]);
    assert!(said.contains("ends inside a block"), "{said}");
    assert_eq!(rows(&out.path().join("packets")).len(), 499);

    // Whole again it holds more, under the same names. What is damaged is said each time.
    let parts = files(out.path());
    let said = refused(&[place, "--parquet", set]);
    assert!(
        said.contains("0 files exported, 1 before") && said.contains("ends inside a block"),
        "{said}"
    );
    fs::write(&file, &whole).unwrap();
    export(&[place, "--parquet", set]);
    assert_eq!(rows(&out.path().join("packets")).len(), 500);
    assert_eq!(files(out.path()), parts);

    // The same of a ring's file, which otherwise stays as it is: repaired it is as long as before.
    let ring = dir.path().join("g5-000001-20251127T140000Z.pcapng");
    let mut made = File(whole.clone());
    let good = made.0.len();
    let packet = ip([192, 0, 2, 1], [192, 0, 2, 2], 6, 0, &tcp(1, 2, 16));
    made.packet(9_000_000, &packet, 0);
    let mut damaged = made.0.clone();
    damaged[good + 4] = 7;
    fs::write(&ring, damaged).unwrap();
    let out = temp_dir();
    let args = [
        ring.to_str().unwrap(),
        "--parquet",
        out.path().to_str().unwrap(),
    ];
    let said = refused(&args);
    assert!(
        said.contains("damaged, bytes") && said.contains("500 packets"),
        "{said}"
    );
    assert_eq!(rows(&out.path().join("packets")).len(), 500);
    assert!(refused(&args).contains("damaged, bytes"));
    fs::write(&ring, made.0).unwrap();
    assert!(export(&args).contains("501 packets"));
    assert_eq!(rows(&out.path().join("packets")).len(), 501);
    assert!(export(&args).contains("1 before"));

    // What cannot be written leaves nothing: neither parts nor halves of them.
    let out = temp_dir();
    fs::write(out.path().join("loss"), "in the way").unwrap();
    let said = refused(&[place, "--parquet", out.path().to_str().unwrap()]);
    assert!(said.contains("not exported"), "{said}");
    assert_eq!(files(out.path()), [out.path().join("loss")]);
}

#[test]
fn losses_stand_beside() {
    let dir = temp_dir();
    let (file, out) = (dir.path().join("made.pcapng"), dir.path().join("set"));
    capture(&file);
    let (place, set) = (file.to_str().unwrap(), out.to_str().unwrap());
    // What a filter leaves out does not change what was lost.
    export(&[place, "udp", "--parquet", set, "--host", "fw1"]);
    let losses = rows(&out.join("loss"));
    let [sum, gap] = losses.as_slice() else {
        panic!("{losses:?}");
    };
    let packet =
        |number: u64, late: u64| ((START_US + number * 10_000_000 + late) * 1000).to_string();
    let expected = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<Row>()
    };
    let common = [
        ("file", "made.pcapng"),
        ("interface", HOSTILE),
        ("source", ""),
    ];
    let (from, to) = (packet(1, 0), packet(498, 15_000_000));
    let mut wanted = expected(&common);
    wanted.extend(expected(&[
        ("kind", "file"),
        ("from_ns", &from),
        ("to_ns", &to),
        ("packets", "500"),
        ("lost", "7"),
    ]));
    assert_eq!(*sum, wanted);
    let (from, to) = (packet(248, 15_000_000), packet(250, 15_000_000));
    let mut wanted = expected(&common);
    wanted.extend(expected(&[
        ("kind", "gap"),
        ("from_ns", &from),
        ("to_ns", &to),
        ("packets", "0"),
        ("lost", "7"),
    ]));
    assert_eq!(*gap, wanted);
}

#[test]
fn nobody_is_named() {
    let dir = temp_dir();
    let (file, out, key) = (
        dir.path().join("made.pcapng"),
        dir.path().join("set"),
        dir.path().join("key"),
    );
    capture(&file);
    fs::write(
        &key,
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
    )
    .unwrap();
    run(Command::new("chmod").arg("600").arg(&key), "");
    let args = [
        &file,
        Path::new("--parquet"),
        &out,
        Path::new("--anonymize"),
        &key,
    ];
    export(&args.map(|arg| arg.to_str().unwrap()));
    let table = rows(&out.join("packets"));
    assert_eq!(table.len(), 500);
    let known = ["192.0.2.1", "198.51.100.10"];
    assert!(
        table
            .iter()
            .all(|row| !known.contains(&row["src"].as_str())
                && !known.contains(&row["dst"].as_str()))
    );
    assert!(table.iter().all(|row| !row.contains_key("payload")));
    // Nor does a part's name tell of the addresses: it follows from the key.
    let names = || files(&out.join("loss"));
    let before = names();
    let other = fs::read_to_string(&key).unwrap().replacen("00", "ff", 1);
    fs::write(&key, other).unwrap();
    export(&args.map(|arg| arg.to_str().unwrap()));
    assert_eq!((before.len(), names().len()), (1, 2));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = temp_dir();
    let (file, foreign) = (dir.path().join("made.pcapng"), dir.path().join("foreign"));
    capture(&file);
    fs::write(&foreign, "no capture, and long enough to be one").unwrap();
    let place = file.to_str().unwrap();
    let told = output(Command::new(LWNFLOG).args(["export", place]), "");
    assert!(!told.status.success());
    assert!(String::from_utf8_lossy(&told.stderr).contains("--parquet"));
    assert!(refused(&[place, "--parquet", "/nowhere", "--last", "5m"]).contains("whole files"));
    assert!(refused(&[place, "--csv", "-", "prot tcp"]).contains("prot"));
    let set = dir.path().join("set");
    let set = set.to_str().unwrap();
    // One that cannot be read keeps no other from being exported.
    let said = refused(&[place, foreign.to_str().unwrap(), "--parquet", set]);
    assert!(
        said.contains("1 files exported") && said.contains("foreign: not exported"),
        "{said}"
    );
    fs::write(dir.path().join("file"), "").unwrap();
    let taken = dir.path().join("file");
    let said = refused(&[place, "--parquet", taken.to_str().unwrap()]);
    assert!(said.contains(taken.to_str().unwrap()), "{said}");
}

#[test]
fn urls_of_other_stores_are_no_directories() {
    let dir = temp_dir();
    capture(&dir.path().join("made.pcapng"));
    let urls = [
        "gs://bucket/p",
        "s3a://bucket/p",
        "az://c/p",
        "file:///srv/p",
        "HTTPS://host/p",
    ];
    for url in urls {
        for option in ["--parquet", "--csv", "--json"] {
            let mut command = Command::new(LWNFLOG);
            command.current_dir(dir.path());
            let told = output(command.args(["export", "made.pcapng", option, url]), "");
            let said = String::from_utf8_lossy(&told.stderr).into_owned();
            let scheme = url.split_once(':').unwrap().0.to_ascii_lowercase();
            assert_eq!(told.status.code(), Some(1), "{option} {url}");
            assert!(
                said.contains(&format!("does not write to {scheme}://")),
                "{said}"
            );
        }
    }
    let told = refused(&[
        dir.path().join("made.pcapng").to_str().unwrap(),
        "--csv",
        "s3://bucket/p",
    ]);
    assert!(told.contains("s3://"), "{told}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn several_threads_make_the_same_lines() {
    let dir = temp_dir();
    for (number, name) in ["g5-000001", "g5-000002", "g6-000001"].iter().enumerate() {
        let mut file = File::new();
        // Some pieces of a file.
        let mut long = tcp(20_000, 443, 2);
        long.resize(1_000, 1);
        for packet in 0..6_000_u32 {
            let [_, a, b, c] = packet.to_be_bytes();
            let at = u64::from(packet) / 4 + number as u64 % 2 * 1_500;
            let (from, to) = ([10, a, b, c], [192, 0, 2, 1]);
            file.packet(at, &ip(from, to, 6, 0, &long), 0);
        }
        let name = format!("{name}-20251127T140000Z.pcapng");
        fs::write(dir.path().join(name), file.0).unwrap();
    }
    let key = dir.path().join("key");
    fs::write(
        &key,
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
    )
    .unwrap();
    run(Command::new("chmod").arg("600").arg(&key), "");
    let key = key.to_str().unwrap();
    for form in ["--csv", "--json"] {
        for more in [&["--payload", "4"][..], &["--anonymize", key]] {
            let lines = |threads: &str| {
                let mut args = vec![dir.path().to_str().unwrap(), form, "-"];
                args.extend(["--threads", threads, "--host", "h"]);
                args.extend(more);
                export_lines(&args)
            };
            let one = lines("1");
            assert_eq!(
                one.lines().count(),
                18_000 + usize::from(form == "--csv"),
                "{form}"
            );
            assert!(lines("5") == one, "{form} {more:?}");
        }
    }
}

#[test]
fn cells_are_no_formulas() {
    let dir = temp_dir();
    let file = dir.path().join("made.pcapng");
    let mut made = File::new();
    made.interface("=HYPERLINK(\"http://x\",1)", "+1", 128);
    let packet = ip([192, 0, 2, 1], [192, 0, 2, 2], 17, 0, b"12345678");
    made.packet_with(1, 0, &packet, 0, &["prefix=@SUM(1)\x1b[2J"]);
    fs::write(&file, made.0).unwrap();
    let csv = export_lines(&[file.to_str().unwrap(), "--csv", "-", "--host=-h"]);
    let line = csv.lines().nth(1).unwrap();
    assert!(
        line.starts_with("'-h,1764252000000000000,'+1,\"'=HYPERLINK(\"\"http://x\"\",1)\",,,,4,"),
        "{line}"
    );
    assert!(line.contains(",'@SUM(1)?[2J,0,"), "{line}");
    let json = export_lines(&[file.to_str().unwrap(), "--json", "-", "--host=-h"]);
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["prefix"], "@SUM(1)\x1b[2J");
    assert_eq!(object["host"], "-h");
    assert!(!json.contains('\x1b'));
}

#[test]
fn a_file_that_lies_twice_or_still_grows_counts_once() {
    let (ring, set) = (temp_dir(), temp_dir());
    let (live, finished) = (
        ring.path().join("g5-000002.live.pcapng"),
        ring.path().join("g5-000001-20251127T140000Z.pcapng"),
    );
    capture(&finished);
    fs::copy(&finished, &live).unwrap();
    run(Command::new("zstd").arg("-qk").arg(&finished), "");
    let zst = finished.with_extension("pcapng.zst");
    let foreign = ring.path().join("other.pcap.lz4");
    fs::write(&foreign, "").unwrap();
    fs::remove_file(foreign).unwrap();
    let link = ring.path().join("other.pcapng");
    std::os::unix::fs::symlink(&live, &link).unwrap();
    let args: Vec<_> = [&live, &finished, &zst, &link, &finished]
        .iter()
        .map(|path| path.to_str().unwrap())
        .chain(["--parquet", set.path().to_str().unwrap()])
        .collect();
    let said = refused(&args);
    assert!(said.contains("1 files exported, 0 before"), "{said}");
    assert_eq!(said.matches("not exported: it is being written").count(), 2);
    assert_eq!(rows(&set.path().join("packets")).len(), 500);
    fs::remove_file(link).unwrap();
    // Of a directory it is the same file by another way, and the live one is passed over.
    let args = [
        ring.path().to_str().unwrap(),
        zst.to_str().unwrap(),
        "--parquet",
        set.path().to_str().unwrap(),
    ];
    assert!(export(&args).contains("0 files exported, 1 before"));
    fs::remove_file(&finished).unwrap();
    assert!(export(&args).contains("0 files exported, 1 before"));
    assert_eq!(rows(&set.path().join("packets")).len(), 500);

    // Two hosts' rings of one name are two.
    let other = temp_dir();
    let mut made = File::new();
    let packet = ip([192, 0, 2, 7], [192, 0, 2, 8], 6, 0, &tcp(1, 2, 16));
    made.packet(15_000, &packet, 0);
    fs::write(other.path().join(finished.file_name().unwrap()), made.0).unwrap();
    let args = [
        args[0],
        other.path().to_str().unwrap(),
        "--parquet",
        args[3],
    ];
    assert!(export(&args).contains("1 files exported, 1 before"));
    assert_eq!(rows(&set.path().join("packets")).len(), 501);
}

#[test]
fn many_hours_are_parts_that_are_bounded() {
    let (dir, set) = (temp_dir(), temp_dir());
    let file = dir.path().join("made.pcapng");
    let packet = ip([192, 0, 2, 1], [192, 0, 2, 2], 6, 0, &tcp(1, 2, 16));
    let mut made = File::new();
    // Each hour comes three times: far more than are held open.
    for number in 0..240_u64 {
        made.packet(number % 80 * 3_600_000 + number, &packet, 1);
    }
    fs::write(&file, made.0).unwrap();
    let args = [
        file.to_str().unwrap(),
        "--parquet",
        set.path().to_str().unwrap(),
    ];
    assert!(export(&args).contains("240 packets, 240 lost"));
    let table = rows(&set.path().join("packets"));
    assert_eq!(files(&set.path().join("packets")).len(), 80);
    assert!(table.is_sorted_by_key(|row| row["time_ns"].parse::<u64>().unwrap()));
    let times: std::collections::BTreeSet<_> = table.iter().map(|row| &row["time_ns"]).collect();
    assert_eq!((table.len(), times.len()), (240, 240));
    assert_eq!(rows(&set.path().join("loss")).len(), 1 + 240);

    let set = temp_dir();
    let mut made = File::new();
    for number in 0..4_097_u64 {
        made.packet(number * 3_600_000, &packet, 0);
    }
    fs::write(&file, made.0).unwrap();
    let said = refused(&[args[0], args[1], set.path().to_str().unwrap()]);
    assert!(said.contains("more than 4096 hours"), "{said}");
    assert_eq!(files(set.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_was_lost_behind_the_last_packet_counts() {
    let (dir, set) = (temp_dir(), temp_dir());
    let file = dir.path().join("made.pcapng");
    let packet = ip([192, 0, 2, 1], [192, 0, 2, 2], 6, 0, &tcp(1, 2, 16));
    let mut made = File::new();
    made.interface("eth1", "NFLOG group 5", 128);
    made.interface("eth2", "NFLOG group 5", 128);
    made.packet(0, &packet, 3);
    made.packet_at(1, 1000, &packet, 2, "");
    for (id, lost) in [(0_u32, 3_u64), (1, 9), (2, 4)] {
        let mut block = id.to_le_bytes().to_vec();
        block.extend([0; 8]);
        common::made::option(&mut block, 7, &lost.to_le_bytes());
        block.extend([0; 4]);
        made.block(5, &block);
    }
    fs::write(&file, made.0).unwrap();
    run(Command::new("zstd").arg("-q").arg(&file), "");
    for (name, host) in [("made.pcapng", "one"), ("made.pcapng.zst", "two")] {
        let name = dir.path().join(name);
        let args = [
            name.to_str().unwrap(),
            "--parquet",
            set.path().to_str().unwrap(),
            "--host",
            host,
        ];
        assert!(export(&args).contains("2 packets, 16 lost"));
    }
    let last = (START_US + 1_000_000) * 1000;
    let table: Vec<_> = rows(&set.path().join("loss"))
        .into_iter()
        .map(|row| {
            let get = |name: &str| row.get(name).cloned().unwrap_or_default();
            let end = get("to_ns") == last.to_string();
            let (packets, lost) = (get("packets"), get("lost"));
            (get("kind"), get("interface"), packets, lost, end)
        })
        .collect();
    let row = |kind: &str, interface: &str, packets: &str, lost: &str, end: bool| {
        let text = |text: &str| text.to_owned();
        (text(kind), text(interface), text(packets), text(lost), end)
    };
    let expected = [
        row("file", HOSTILE, "1", "3", false),
        row("file", "eth1", "1", "9", true),
        row("file", "eth2", "0", "4", true),
        row("gap", HOSTILE, "0", "3", false),
        row("gap", "eth1", "0", "2", true),
        row("gap", "eth1", "0", "7", true),
        row("gap", "eth2", "0", "4", true),
    ];
    assert_eq!(table[..7], expected);
    assert_eq!(table[7..], expected, "compressed it says the same");
}

#[test]
fn what_a_killed_export_has_left_goes_and_links_lead_nowhere() {
    let (dir, set) = (temp_dir(), temp_dir());
    let file = dir.path().join("made.pcapng");
    capture(&file);
    let args = [
        file.to_str().unwrap(),
        "--parquet",
        set.path().to_str().unwrap(),
        "--host",
        "fw1",
    ];
    export(&args);
    let parts = files(set.path());
    let hour = set.path().join("packets/dt=2025-11-27/hour=14");
    let (ours, others) = (hour.join("host=fw1"), hour.join("host=fw10"));
    fs::create_dir(&others).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, ours.join(".linked.parquet.7-0.part")).unwrap();
    std::os::unix::fs::symlink(dir.path(), hour.join("host=fw2")).unwrap();
    fs::write(dir.path().join(".far.part"), "half").unwrap();
    let killed = [
        ours.join(".gone-1.parquet.part"),
        ours.join(".gone-2.parquet.77-3.part"),
        set.path().join("_exported/fw1/.gone.1-1.part"),
    ];
    for path in &killed {
        fs::write(path, "half").unwrap();
    }
    fs::write(others.join(".theirs.parquet.part"), "half").unwrap();
    fs::write(ours.join("part"), "no half").unwrap();
    export(&args);
    assert!(killed.iter().all(|path| !path.exists()));
    assert!(ours.join("part").exists());
    assert!(others.join(".theirs.parquet.part").exists());
    assert!(dir.path().join(".far.part").exists());
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(parts.iter().all(|part| part.exists()));
    export(&[args[0], args[1], args[2], "--host", "fw2"]);
    assert!(dir.path().join(".far.part").exists());
}

/// In a directory that others may write to, nothing is written or read where they have a link lead.
#[test]
fn links_of_others_in_a_data_set_are_not_followed() {
    let dir = temp_dir();
    let file = dir.path().join("made.pcapng");
    capture(&file);
    let file = file.to_str().unwrap();
    for link in [
        "packets",
        "packets/dt=2025-11-27/hour=14",
        "loss",
        "_exported",
        "_exported/fw1",
    ] {
        let (set, far) = (temp_dir(), temp_dir());
        let place = set.path().join(link);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(far.path(), &place).unwrap();
        let args = [
            file,
            "--parquet",
            set.path().to_str().unwrap(),
            "--host",
            "fw1",
        ];
        run(Command::new("chown").args(["-h", "nobody"]).arg(&place), "");
        let said = refused(&args);
        assert!(said.contains("is a link that user"), "{link}: {said}");
        assert_eq!(fs::read_dir(far.path()).unwrap().count(), 0, "{link}");
        // One's own leads where one wants.
        run(Command::new("chown").args(["-h", "root"]).arg(&place), "");
        export(&args);
        assert_ne!(fs::read_dir(far.path()).unwrap().count(), 0, "{link}");
    }
    let set = temp_dir();
    let args = [
        file,
        "--parquet",
        set.path().to_str().unwrap(),
        "--host",
        "fw1",
    ];
    export(&args);
    let marks = set.path().join("_exported/fw1");
    let mark = fs::read_dir(marks).unwrap().next().unwrap().unwrap().path();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    fs::remove_file(&mark).unwrap();
    std::os::unix::fs::symlink(&precious, &mark).unwrap();
    assert!(!refused(&args).contains("precious"));
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

/// Two hosts are two directories.
#[test]
fn a_host_that_is_no_directorys_name_is_refused() {
    let (dir, set) = (temp_dir(), temp_dir());
    let file = dir.path().join("made.pcapng");
    capture(&file);
    let (file, set) = (file.to_str().unwrap(), set.path().to_str().unwrap());
    for host in ["fw 1", "fw/1", "../fw1", "f\u{fc}r"] {
        let said = refused(&[file, "--parquet", set, "--host", host]);
        assert!(said.contains("letters, digits"), "{host}: {said}");
    }
    assert_eq!(files(Path::new(set)).len(), 0);
    export(&[file, "--csv", "/dev/null", "--host", "fw 1"]);
}

#[test]
fn a_pipe_is_read_once_and_a_strange_mark_is_not_believed() {
    let (dir, set) = (temp_dir(), temp_dir());
    let file = dir.path().join("made.pcapng");
    capture(&file);
    let out = set.path().to_str().unwrap();
    let piped = format!(
        "cat {} | {LWNFLOG} export /dev/stdin --parquet {out} --host fw1",
        file.display()
    );
    for _ in 0..2 {
        let told = output(Command::new("sh").args(["-c", &piped]), "");
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.status.success(), "{said}");
        assert!(
            said.contains("1 files exported, 0 before: 500 packets"),
            "{said}"
        );
        assert_eq!(rows(&set.path().join("packets")).len(), 500);
    }
    let mark = files(&set.path().join("_exported")).remove(0);
    fs::write(&mark, "<html>Please log in to this network</html>").unwrap();
    let told = output(Command::new("sh").args(["-c", &piped]), "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success());
    assert!(
        said.contains("this is not what lwnflog writes there"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_read_is_told_once_whatever_the_filter() {
    let dir = temp_dir();
    for name in ["a.pcapng", "b.pcapng", "c.pcapng"] {
        capture(&dir.path().join(name));
    }
    let whole = fs::read(dir.path().join("b.pcapng")).unwrap();
    fs::write(dir.path().join("b.pcapng"), &whole[..whole.len() - 10]).unwrap();
    fs::write(dir.path().join("empty.pcap"), "").unwrap();
    for filter in ["udp", "host 203.0.113.1"] {
        for form in ["--csv", "--json", "--parquet"] {
            let set = dir.path().join(form);
            let out = if form == "--parquet" {
                set.to_str().unwrap()
            } else {
                "-"
            };
            let said = refused(&[dir.path().to_str().unwrap(), filter, form, out]);
            assert_eq!(said.matches("b.pcapng: cut, ").count(), 1, "{said}");
            assert_eq!(said.matches("empty.pcap").count(), 1, "{said}");
            assert_eq!(said.matches("a.pcapng").count(), 0, "{said}");
        }
    }
}

/// An export that goes on, and what it has said.
struct Following(std::process::Child, PathBuf);

impl Following {
    fn start(ring: &Path, set: &Path, said: &Path) -> Following {
        let mut command = Command::new(LWNFLOG);
        command
            .args(["export", "--host", "fw1", "--follow", "--parquet"])
            .args([set, ring])
            .stderr(fs::File::create(said).unwrap());
        Following(command.spawn().unwrap(), said.to_owned())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.1).unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_follows_goes_on_whatever_becomes_of_the_ring() {
    let dir = temp_dir();
    let (ring, set) = (dir.path().join("ring"), dir.path().join("set"));
    let said = dir.path().join("said");
    fs::create_dir(&ring).unwrap();
    let packet = ip([192, 0, 2, 1], [192, 0, 2, 2], 6, 0, &tcp(1, 2, 16));
    let put = |name: &str, minute: u64, whole: bool| {
        let mut made = File::new();
        made.packet(minute * 60_000, &packet, 0);
        made.packet(minute * 60_000 + 1, &packet, 0);
        let len = made.0.len() - if whole { 0 } else { 4 };
        let hidden = ring.join(".making");
        fs::write(&hidden, &made.0[..len]).unwrap();
        fs::rename(hidden, ring.join(name)).unwrap();
    };
    put("g5-000003-20251127T140000Z.pcapng", 0, true);
    put("g5-000004.live.pcapng", 1, true);
    let follows = Following::start(&ring, &set, &said);
    let count = || rows(&set.join("packets")).len();
    // Rows of parts are read as they are made: those there are are whole.
    let there = |wanted: usize| common::until("rows", || (count() == wanted).then_some(()));
    there(2);
    // It is finished, compressed; numbers 5 and 6 were recycled before they were seen.
    fs::rename(
        ring.join("g5-000004.live.pcapng"),
        ring.join("g5-000004-20251127T140100Z.pcapng"),
    )
    .unwrap();
    there(4);
    run(
        Command::new("zstd")
            .args(["-q", "--rm"])
            .arg(ring.join("g5-000003-20251127T140000Z.pcapng")),
        "",
    );
    put("g5-000007-20251127T140200Z.pcapng", 2, true);
    there(6);
    let told = |text: &str| common::until(text, || follows.said().contains(text).then_some(()));
    told("2 files of rings are not there any more");
    // A damaged one is told once, and the next is exported.
    put("g5-000008-20251127T140300Z.pcapng", 3, false);
    there(7);
    put("g5-000009-20251127T140400Z.pcapng", 4, true);
    there(9);
    // The directory goes, and comes with a ring that begins anew.
    fs::rename(&ring, dir.path().join("away")).unwrap();
    told("ring: No such file");
    fs::create_dir(&ring).unwrap();
    put("g5-000001-20251127T150000Z.pcapng", 60, true);
    there(11);
    put("g5-000002-20251127T150100Z.pcapng", 61, true);
    // Another tool's file is exported as it is, and again when it has grown and rests.
    put("other.pcapng", 5, true);
    there(15);
    let mut grown = File(fs::read(ring.join("other.pcapng")).unwrap());
    grown.packet(5 * 60_000 + 2, &packet, 0);
    fs::write(ring.join("other.pcapng"), grown.0).unwrap();
    there(16);
    let said = follows.said();
    assert_eq!(said.matches("files of rings").count(), 1, "{said}");
    assert_eq!(said.matches("it ends inside a block").count(), 1, "{said}");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
}
