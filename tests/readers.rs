//! Readers that others wrote open the files: finished ones, the live one while it is written, padding
//! blocks included, and find the same packets.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::files::{count_by_capinfos, count_by_tcpdump, count_by_tshark, read};
use common::{Ended, Running, lab, load_capture_rules, run, temp_dir};
use lwnflog::lab::Traffic;

/// Enough for two files, of which the second is live.
const PACKETS: u64 = 2_500;
/// Of a record of the default length.
const BYTES: u64 = 128;

/// What a reader finds in a file: packets, and bytes of them, where it tells.
type Found = (u64, Option<u64>);

/// Has a reader look at a ring that is written, in both formats; then at its files once they are
/// finished.
fn all_files(reader: impl Fn(&Path) -> Found) {
    for format in ["pcapng", "pcap"] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let options = ["--group", "5", "--file-size", "256KiB", "--format", format];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        Traffic::new(200, PACKETS)
            .rate(Some(20_000))
            .send(&lab, None)
            .unwrap();
        capture.wait_written(PACKETS);
        let files = files_in(dir.path());
        assert!(files.len() >= 2, "{files:?}");
        assert!(files.iter().any(|file| is_live(file)), "{files:?}");
        if format == "pcap" {
            // A classic file has no way to say where it ends before it is finished (docs/LIMITS.md).
            finished(capture.end(), &reader);
            continue;
        }
        let (mut packets, mut bytes) = (0, Some(0));
        for file in &files {
            let (found, of_bytes) = reader(file);
            assert!(found > 0, "{}", file.display());
            packets += found;
            bytes = bytes.zip(of_bytes).map(|(sum, more)| sum + more);
        }
        assert_eq!(packets, PACKETS, "{format}, live");
        assert!(
            bytes.is_none_or(|bytes| bytes == PACKETS * BYTES),
            "{bytes:?}"
        );
        finished(capture.end(), &reader);
    }
}

fn finished(ended: Ended, reader: impl Fn(&Path) -> Found) {
    ended.assert_balanced();
    let files = ended.files();
    let found: u64 = files.iter().map(|file| reader(file).0).sum();
    assert_eq!(found, PACKETS, "{files:?}");
}

/// Capture files of a ring that hold packets; one that is prepared holds none.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.starts_with('.') && (name.ends_with(".pcapng") || name.ends_with(".pcap"))
        })
        .collect();
    files.sort();
    files
}

fn is_live(file: &Path) -> bool {
    file.to_string_lossy().contains(".live.")
}

/// A program in Python, with the file as its argument; it prints packets and bytes.
fn python(program: &str, file: &Path) -> Found {
    // Debian's own: that of its packages.
    let said = run(
        Command::new("/usr/bin/python3")
            .args(["-c", program])
            .arg(file),
        "",
    );
    let mut numbers = said
        .split_whitespace()
        .map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next())
}

#[test]
fn tshark_and_capinfos_and_tcpdump() {
    all_files(|file| {
        let found = count_by_tshark(file).unwrap();
        assert_eq!(count_by_capinfos(file).unwrap(), found);
        assert_eq!(count_by_tcpdump(file).unwrap(), found);
        (found, None)
    });
}

#[test]
fn pcap_parser() {
    all_files(|file| {
        let contents = read(file);
        let bytes = contents
            .packets
            .iter()
            .map(|packet| packet.data.len() as u64);
        (contents.packets.len() as u64, Some(bytes.sum()))
    });
}

#[test]
fn editcap_and_mergecap() {
    all_files(|file| {
        let dir = temp_dir();
        let (copy, both) = (dir.path().join("copy"), dir.path().join("both"));
        run(Command::new("editcap").arg(file).arg(&copy), "");
        let found = count_by_capinfos(&copy).unwrap();
        run(
            Command::new("mergecap")
                .arg("-w")
                .arg(&both)
                .args([file, &copy]),
            "",
        );
        assert_eq!(count_by_capinfos(&both).unwrap(), 2 * found);
        (found, None)
    });
}

#[test]
fn scapy() {
    const PROGRAM: &str = "
import sys, logging
logging.getLogger('scapy').setLevel(logging.ERROR)
from scapy.utils import RawPcapReader
sizes = [len(data) for data, _ in RawPcapReader(sys.argv[1])]
print(len(sizes), sum(sizes))
";
    all_files(|file| python(PROGRAM, file));
}

#[test]
fn dpkt() {
    const PROGRAM: &str = "
import sys, dpkt
file = open(sys.argv[1], 'rb')
reader = dpkt.pcapng.Reader if sys.argv[1].endswith('.pcapng') else dpkt.pcap.Reader
sizes = [len(data) for _, data in reader(file)]
print(len(sizes), sum(sizes))
";
    all_files(|file| python(PROGRAM, file));
}
