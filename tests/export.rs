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
    for file in files(dir) {
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
    let said = export(&[place, "--parquet", set, "--host", "fw 1", "--payload", "4"]);
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
    let mut objects: Vec<Row> = json
        .lines()
        .map(|line| {
            let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            let plain = |value: serde_json::Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
            object
                .into_iter()
                .filter(|(name, _)| name != "host")
                .map(|(name, value)| (name, plain(value)))
                .collect()
        })
        .collect();
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
    let said = export(&[place, "--parquet", set]);
    assert!(said.contains("ends inside a block"), "{said}");
    assert_eq!(rows(&out.path().join("packets")).len(), 499);

    // Damaged behind more rows than a group has: what was begun goes.
    let mut long = File::new();
    let packet = ip([192, 0, 2, 1], [192, 0, 2, 2], 6, 0, &tcp(1, 2, 16));
    for number in 0..(1 << 18) + 1 {
        long.packet(number / 1000, &packet, 0);
    }
    long.0
        .extend([6, 0, 0, 0, 7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    fs::write(&file, long.0).unwrap();
    let out = temp_dir();
    let args = ["export", place, "--parquet", out.path().to_str().unwrap()];
    let told = output(Command::new(LWNFLOG).args(args), "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        !told.status.success() && said.contains("damaged at byte"),
        "{said}"
    );
    assert_eq!(files(out.path()), Vec::<PathBuf>::new());
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
    let refused = |args: &[&str]| {
        let told = output(Command::new(LWNFLOG).arg("export").args(args), "");
        assert!(!told.status.success(), "{args:?}");
        String::from_utf8(told.stderr).unwrap()
    };
    assert!(refused(&[place]).contains("--parquet"));
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
    assert!(refused(&[place, "--parquet", taken.to_str().unwrap()]).contains("not exported"));
}
