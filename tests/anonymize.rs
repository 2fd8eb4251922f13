//! `lwnflog read -w --anonymize`: tshark finds the same packets of others, with checksums that are
//! right, and nobody's address, link-layer address or payload.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{LWNFLOG, lab, load_capture_rules, output, run, temp_dir};
use lwnflog::lab::Traffic;

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
