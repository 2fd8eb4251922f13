//! Files that grow and turn while they are read: each packet is shown once and in order, or its file is
//! said not to be there any more; and who has begun to read keeps what he has.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::files;
use common::follower::{Follower, Numbers, Slow, numbered, runs};
use common::rings::{Live, SEGMENT_BYTES, frame, interface, packet, pcap, section};
use common::{LWNFLOG, Running, lab, load_capture_rules, run, temp_dir, under_traffic, until};
use lwnflog::lab::{Lab, RX, Traffic};
use lwnflog::ring::{Compression, ring_file};
use rustix::process::Signal;

/// The smallest files: some 2,400 packets of [`send`] each.
const SMALL: [&str; 4] = ["--group", "5", "--file-size", "256KiB"];
const T0_NS: u64 = 1_764_252_000_000_000_000;

/// Sends so many packets as stream `stream`, and waits until the capture has written `sum`.
fn send(lab: &Lab, capture: &mut Running, stream: u16, packets: u64, sum: u64) {
    let traffic = Traffic::new(64, packets).rate(Some(50_000)).stream(stream);
    traffic.send(lab, None).unwrap();
    capture.wait_written(sum);
}

fn all_of(stream: u16, packets: u64) -> Vec<u64> {
    (0..packets)
        .map(|number| numbered(stream, number))
        .collect()
}

/// Runs of numbers are compared: a list of thousands tells nobody anything.
fn assert_shown(shown: &[u64], wanted: &[u64], what: &str) {
    assert_eq!(runs(shown), runs(wanted), "{what}");
}

fn path(place: &Path) -> &str {
    place.to_str().unwrap()
}

/// The files that packets of a ring are in, in order.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| ring_file(path).is_some()).collect();
    files.sort();
    files
}

fn number_of(file: &Path) -> u64 {
    ring_file(file).unwrap().sequence
}

/// What a ring's files are, beside pcapng.
const KINDS: [&[&str]; 5] = [
    &[],
    &["--compress", "zstd"],
    &["--compress", "lz4"],
    &["--format", "pcap"],
    &["--format", "pcap", "--compress", "zstd"],
];

/// A follower that stands still while files rotate and are compressed has all of them afterwards.
#[test]
fn a_follower_goes_through_rotation_and_compression() {
    // Every eighth packet of a laboratory goes there.
    const EIGHTH: &str = "udp port 53";
    for kind in KINDS {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [&SMALL[..], &["--files", "0"], kind].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 0, 1000, 1000);
        let place = path(dir.path());
        let mut stopped = Follower::spawn(Numbers::Lab, &["-f", place]);
        let mut running = Follower::spawn(Numbers::Lab, &["-f", "--no-index", place]);
        let mut eighth = Follower::spawn(Numbers::Lab, &["-f", place, EIGHTH]);
        stopped.wait_shown(numbered(0, 999));
        running.wait_shown(numbered(0, 999));
        eighth.wait_shown(numbered(0, 992));
        stopped.stop();
        eighth.stop();
        send(&lab, &mut capture, 1, 12_000, 13_000);
        capture.signal(Signal::HUP);
        send(&lab, &mut capture, 2, 100, 13_100);
        if kind.contains(&"--compress") {
            until("all that can be is compressed", || {
                let files = files_in(dir.path());
                let plain = |file: &&PathBuf| Compression::by_name(file).is_none();
                let plain = files.iter().filter(plain).count();
                (files.len() > 4 && plain == 1).then_some(())
            });
        }
        stopped.signal(Signal::CONT);
        eighth.signal(Signal::CONT);
        send(&lab, &mut capture, 3, 100, 13_200);
        let wanted = [
            all_of(0, 1000),
            all_of(1, 12_000),
            all_of(2, 100),
            all_of(3, 100),
        ]
        .concat();
        for (mut follower, what) in [(running, "running"), (stopped, "stopped")] {
            follower.wait_shown(numbered(3, 99));
            assert_shown(follower.shown(), &wanted, &format!("{kind:?}, {what}"));
            assert_eq!(follower.said(), "", "{kind:?}, {what}");
        }
        eighth.wait_shown(numbered(3, 96));
        let wanted = wanted.iter().filter(|number| *number % 8 == 0);
        let eighths: Vec<_> = wanted.map(|number| number / 8).collect();
        let shown: Vec<_> = eighth.shown().iter().map(|number| number / 8).collect();
        assert_shown(&shown, &eighths, &format!("{kind:?}, with a filter"));
        assert_eq!(eighth.said(), "", "{kind:?}, with a filter");
        capture.end();
    }
}

/// The numbers in what is said of files that have gone: `... have gone ...: numbers 2 to 10`.
fn gone(said: &str) -> Vec<u64> {
    let told = said.lines().filter(|line| line.contains("gone"));
    let told = told.filter_map(|line| Some(line.split_once("numbers")?.1));
    let words = told.flat_map(|told| told.split(|letter: char| !letter.is_ascii_digit()));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The ring has gone round under a follower that stood still: it says which files it has not shown.
#[test]
fn a_follower_says_which_files_are_not_there_any_more() {
    for kind in [KINDS[0], KINDS[1], KINDS[3]] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [&SMALL[..], &["--files", "3"], kind].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 0, 1000, 1000);
        let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(dir.path())]);
        follower.wait_shown(numbered(0, 999));
        follower.stop();
        send(&lab, &mut capture, 1, 30_000, 31_000);
        let first = until("the ring has gone round", || {
            let first = number_of(files_in(dir.path()).first()?);
            (first > 5).then_some(first)
        });
        follower.signal(Signal::CONT);
        follower.wait_shown(numbered(1, 29_999));
        let shown = follower.shown().to_vec();
        let shown = runs(&shown);
        let [head @ .., (begin, last)] = &shown[..] else {
            panic!("{shown:?}");
        };
        assert_eq!(head[0], (0, 999), "{kind:?}: {shown:?}");
        assert_eq!(*last, numbered(1, 29_999), "{kind:?}: {shown:?}");
        // What it has missed is between the file that it had, and the first of those that are there.
        assert!(head.len() <= 2, "one hole: {shown:?}");
        let said = follower.said();
        let gone = gone(&said);
        assert_eq!(gone.iter().max(), Some(&(first - 1)), "{kind:?}: {said}");
        assert!(gone.iter().min() <= Some(&2), "{kind:?}: {said}");
        capture.end();
        if kind.is_empty() {
            let oldest = files_in(dir.path());
            let oldest = oldest.iter().find(|file| number_of(file) == first);
            let numbers = files::read(oldest.unwrap()).sequence_numbers();
            assert_eq!(*begin, numbered(1, numbers[0]), "all that is there");
        }
    }
}

/// Files are written anew, so that the next one is one that was shown before.
#[test]
fn a_follower_goes_round_with_the_ring() {
    for kind in [KINDS[0], KINDS[1], KINDS[3]] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [&SMALL[..], &["--files", "3"], kind].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        let mut wanted = all_of(0, 100);
        send(&lab, &mut capture, 0, 100, 100);
        let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(dir.path())]);
        follower.wait_shown(numbered(0, 99));
        for turn in 1..16 {
            send(&lab, &mut capture, turn, 2500, 100 + 2500 * u64::from(turn));
            wanted.extend(all_of(turn, 2500));
            until("it has shown the last packet", || {
                (follower.shown().last() == wanted.last()).then_some(())
            });
        }
        assert_shown(follower.shown(), &wanted, &format!("{kind:?}"));
        assert_eq!(follower.said(), "", "{kind:?}");
        let ended = capture.end();
        assert!(ended.number("/files_begun") > 9, "it went round");
    }
}

/// The directory is emptied, or another one has its name: a new ring begins with number 1.
#[test]
fn a_follower_goes_on_with_a_ring_that_begins_anew() {
    for moved in [false, true] {
        let (lab, room) = (lab(), temp_dir());
        let dir = room.path().join("ring");
        fs::create_dir(&dir).unwrap();
        load_capture_rules(lab.receiver());
        let mut capture = Running::capture(lab.receiver(), &dir, &SMALL);
        send(&lab, &mut capture, 0, 6000, 6000);
        let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(&dir)]);
        follower.wait_shown(numbered(0, 5999));
        capture.end();
        if moved {
            fs::rename(&dir, room.path().join("old")).unwrap();
            fs::create_dir(&dir).unwrap();
        } else {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let mut capture = Running::capture(lab.receiver(), &dir, &SMALL);
        send(&lab, &mut capture, 1, 6000, 6000);
        assert_eq!(number_of(&files_in(&dir)[0]), 1);
        follower.wait_shown(numbered(1, 5999));
        let wanted = [all_of(0, 6000), all_of(1, 6000)].concat();
        assert_shown(follower.shown(), &wanted, &format!("moved: {moved}"));
        capture.end();
    }
}

/// A capture that is killed leaves a live file, and the next one makes it a finished one.
#[test]
fn a_follower_goes_on_after_a_kill_and_a_restart() {
    for kind in [KINDS[0], KINDS[1], KINDS[3]] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [&SMALL[..], kind].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 0, 3000, 3000);
        let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(dir.path())]);
        let mut stopped = Follower::spawn(Numbers::Lab, &["-f", path(dir.path())]);
        for follower in [&mut follower, &mut stopped] {
            follower.wait_shown(numbered(0, 2999));
        }
        stopped.stop();
        send(&lab, &mut capture, 1, 500, 3500);
        capture.kill();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 2, 500, 500);
        stopped.signal(Signal::CONT);
        let wanted = [all_of(0, 3000), all_of(1, 500), all_of(2, 500)].concat();
        for mut follower in [follower, stopped] {
            follower.wait_shown(numbered(2, 499));
            assert_shown(follower.shown(), &wanted, &format!("{kind:?}"));
            assert_eq!(follower.said(), "", "{kind:?}");
        }
        capture.end();
    }
}

/// Two hosts' rings are both called g5.
#[test]
fn rings_of_one_name_in_two_directories_are_both_followed() {
    let hosts: Vec<_> = (0..2).map(|_| (lab(), temp_dir())).collect();
    let mut captures: Vec<_> = (0..)
        .zip(&hosts)
        .map(|(host, (lab, dir))| {
            load_capture_rules(lab.receiver());
            let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
            send(lab, &mut capture, host, 100, 100);
            capture
        })
        .collect();
    let places = [path(hosts[0].1.path()), path(hosts[1].1.path())];
    let mut follower = Follower::spawn(Numbers::Lab, &["-f", places[0], places[1]]);
    for host in 0..2 {
        follower.wait_shown(numbered(host, 99));
    }
    for (host, ((lab, _), capture)) in (0..).zip(hosts.iter().zip(&mut captures)) {
        send(lab, capture, 10 + host, 4000, 4100);
        capture.signal(Signal::HUP);
        send(lab, capture, 20 + host, 100, 4200);
    }
    for host in 0..2 {
        follower.wait_shown(numbered(20 + host, 99));
    }
    for host in 0..2 {
        let wanted = [
            all_of(host, 100),
            all_of(10 + host, 4000),
            all_of(20 + host, 100),
        ]
        .concat();
        let of_host = |number: &u64| wanted.contains(number);
        let shown: Vec<_> = follower.shown().iter().copied().filter(of_host).collect();
        assert_shown(&shown, &wanted, &format!("host {host}"));
    }
    assert_eq!(follower.shown().len(), 8400, "and nothing else");
    assert_eq!(follower.said(), "");
    for capture in captures {
        capture.end();
    }
}

/// A ring in a directory that is empty at first, and one more ring beside one that is followed.
#[test]
fn rings_that_begin_later_are_followed() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(dir.path())]);
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send(&lab, &mut capture, 0, 100, 100);
    follower.wait_shown(numbered(0, 99));
    let args = ["--hook", "--iface", RX];
    let mut hook = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut hook, 1, 100, 100);
    capture.wait_written(200);
    until("both rings' packets are shown", || {
        (follower.shown().len() == 300).then_some(())
    });
    let mut twice = all_of(1, 100);
    twice.extend(all_of(1, 100));
    twice.sort_unstable();
    let mut shown = follower.shown().to_vec();
    shown.sort_unstable();
    assert_eq!(shown, [all_of(0, 100), twice].concat());
    hook.end();
    capture.end();
}

/// What is followed up to a time ends there.
#[test]
fn what_is_followed_up_to_a_time_ends() {
    let dir = temp_dir();
    let mut live = Live::begin(dir.path(), "g5", 1, 4);
    for number in 0..10_u32 {
        live.put(
            T0_NS + u64::from(number) * 1_000_000_000,
            &frame(number, 100),
        );
    }
    let place = path(dir.path());
    let to = |after_s: u64| {
        let time = common::rings::at_ns(T0_NS + after_s * 1_000_000_000);
        humantime::format_rfc3339_seconds(time).to_string()
    };
    // It has passed: what is there, and the end.
    let follower = Follower::spawn(Numbers::Made, &["-f", "--to", &to(5), place]);
    let (status, shown, said) = follower.wait_end();
    assert!(status.success(), "{said}");
    assert_eq!(shown, [0, 1, 2, 3, 4, 5]);
    // It comes while nobody sends.
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    let soon = humantime::format_rfc3339_seconds(soon).to_string();
    let follower = Follower::spawn(Numbers::Made, &["-f", "--to", &soon, place]);
    let (status, shown, said) = follower.wait_end();
    assert!(status.success(), "{said}");
    assert_shown(&shown, &(0..10).collect::<Vec<_>>(), "all before now");
}

/// A file that tcpdump writes.
#[test]
fn a_file_that_tcpdump_writes_is_followed() {
    let (lab, dir) = (lab(), temp_dir());
    let file = dir.path().join("grows.pcap");
    let tcpdump = Running::tcpdump(lab.receiver(), RX, &file, &["udp"]);
    let traffic = |stream| Traffic::new(64, 50).rate(Some(5000)).stream(stream);
    traffic(0).send(&lab, None).unwrap();
    until("the first packets are in it", || {
        (fs::metadata(&file).ok()?.len() >= 24 + 50 * 80).then_some(())
    });
    let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(&file)]);
    follower.wait_shown(numbered(0, 49));
    for stream in 1..5 {
        traffic(stream).send(&lab, None).unwrap();
        follower.wait_shown(numbered(stream, 49));
    }
    let wanted: Vec<_> = (0..5).flat_map(|stream| all_of(stream, 50)).collect();
    assert_shown(follower.shown(), &wanted, "");
    assert_eq!(follower.said(), "");
    tcpdump.end_by(Signal::INT);
}

/// Other tools write a packet in two goes, in the middle of a header too.
#[test]
fn a_record_that_is_half_there_is_waited_for() {
    let frames: Vec<_> = (0..6_u32)
        .map(|number| (T0_NS + u64::from(number), frame(number, 90)))
        .collect();
    let pcap_len = 16 + 90;
    let classic = pcap(&frames);
    let mut modern = [section(""), interface(9, 0, &[])].concat();
    let modern_head = modern.len();
    for (time_ns, data) in &frames {
        modern.extend(packet(*time_ns, data));
    }
    let modern_len = packet(T0_NS, &frames[0].1).len();
    for (name, bytes, head, len) in [
        ("grows.pcap", classic, 24, pcap_len),
        ("grows.pcapng", modern, modern_head, modern_len),
    ] {
        let dir = temp_dir();
        let file = dir.path().join(name);
        let mut grows = File::create(&file).unwrap();
        let (mut at, mut shown) = (head + 2 * len, 2);
        grows.write_all(&bytes[..at]).unwrap();
        let mut follower = Follower::spawn(Numbers::Made, &["-f", path(&file)]);
        follower.wait_shown(1);
        // A part of a record, its header alone, all but a byte of it.
        for part in [7, 16, len - 1, 0] {
            if part != 0 {
                grows.write_all(&bytes[at..at + part]).unwrap();
                std::thread::sleep(Duration::from_millis(250)); // it looks
            }
            assert_eq!(follower.shown().len(), shown, "{name}: {}", follower.said());
            grows.write_all(&bytes[at + part..at + len]).unwrap();
            at += len;
            follower.wait_shown(shown as u64);
            shown += 1;
        }
        assert_shown(follower.shown(), &[0, 1, 2, 3, 4, 5], name);
        assert_eq!(follower.said(), "", "{name}");
    }
}

/// A live file by its name, which is another one once the file is finished.
#[test]
fn a_live_file_is_followed_to_its_end() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send(&lab, &mut capture, 0, 100, 100);
    let live = files_in(dir.path()).remove(0);
    assert!(ring_file(&live).unwrap().live);
    let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(&live)]);
    follower.wait_shown(numbered(0, 99));
    send(&lab, &mut capture, 1, 500, 600);
    follower.wait_shown(numbered(1, 499));
    follower.stop();
    send(&lab, &mut capture, 2, 500, 1100);
    capture.signal(Signal::HUP);
    until("it is finished", || (!live.exists()).then_some(()));
    follower.signal(Signal::CONT);
    follower.wait_shown(numbered(2, 499));
    let wanted = [all_of(0, 100), all_of(1, 500), all_of(2, 500)].concat();
    assert_shown(follower.shown(), &wanted, "");
    assert_eq!(follower.said(), "");
    // Its finished name is followed as well as it can: it shows all, whether it ends or waits.
    let finished = files_in(dir.path()).remove(0);
    let mut follower = Follower::spawn(Numbers::Lab, &["-f", path(&finished)]);
    follower.wait_shown(numbered(2, 499));
    assert_shown(follower.shown(), &wanted, "");
    capture.end();
}

/// What comes and cannot be read is told once, and the rest is shown.
#[test]
fn what_comes_and_is_no_file_is_told_once() {
    let dir = temp_dir();
    let ring = |number: u64| {
        let mut live = Live::begin(dir.path(), "g5", number, 2);
        for packet in 0..50 {
            live.put(T0_NS + number * 1_000_000_000 + packet, &frame(7, 80));
        }
        live.finish();
    };
    ring(1);
    let mut follower = Command::new(LWNFLOG);
    let words = ["read", "-f", "--json", path(dir.path())];
    let mut follower = Running::spawn(follower.args(words));
    let name = |number: u64| {
        dir.path()
            .join(format!("g5-{number:06}-20251127T150000Z.pcapng"))
    };
    run(Command::new("mkfifo").arg(name(2)), "");
    follower.wait_said("g5-000002-20251127T150000Z.pcapng: it is no plain file");
    ring(3);
    std::os::unix::fs::symlink(name(4), name(4)).unwrap();
    follower.wait_said("g5-000004-20251127T150000Z.pcapng: ");
    ring(5);
    until("all are shown", || {
        (follower.shown().len() == 150).then_some(())
    });
    let said = follower.said();
    assert_eq!(said.matches("it is no plain file").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// A reader that stands still in the middle of what is written shows, when it goes on, no packet that is
/// behind one that it does not show: what it had read ahead was old by then.
#[test]
fn a_follower_shows_no_packet_before_those_in_front_of_it() {
    const BYTES: usize = 1000;
    // A pipe, a buffer and a window hold so many packets that nobody knows where it stands.
    for packets in (100..2200_u32).step_by(150) {
        let dir = temp_dir();
        let mut live = Live::begin(dir.path(), "g5", 1, 96);
        let mut put = |range: std::ops::Range<u32>| {
            for number in range {
                live.put(T0_NS + u64::from(number) * 1000, &frame(number, BYTES));
            }
        };
        put(0..packets);
        let mut follower = Slow::spawn(&["-f", path(dir.path())]);
        put(packets..packets + 2000);
        let all: Vec<_> = (0..u64::from(packets) + 2000).collect();
        let (shown, said) = follower.read_to(Numbers::Made, all.len() as u64 - 1);
        assert_shown(&shown, &all, &format!("{packets} packets at first"));
        assert_eq!(said, "");
    }
}

/// In the instant between the stores of a commit, a segment's last bytes have another length than its
/// padding block begins with: a live file that is seen so is not damaged, and goes on there.
#[test]
fn a_live_file_in_the_middle_of_a_commit_is_not_damaged() {
    // In the middle of a segment, and first in one.
    for before in [30_u32, 60] {
        let dir = temp_dir();
        let mut live = Live::begin(dir.path(), "g5", 1, 4);
        let at = |number: u32| T0_NS + u64::from(number) * 1000;
        for number in 0..before {
            live.put(at(number), &frame(number, 1050));
        }
        let rest = live.put_in_part(at(before), &frame(before, 1050));
        let mut follower = Follower::spawn(Numbers::Made, &["-f", path(dir.path())]);
        follower.wait_shown(u64::from(before) - 1);
        let once = Follower::spawn(Numbers::Made, &[path(dir.path())]);
        let (status, shown, said) = once.wait_end();
        assert!(status.success(), "{said}");
        assert_shown(&shown, &(0..before.into()).collect::<Vec<_>>(), "once");
        live.commit_rest(&rest);
        for number in before + 1..before + 100 {
            live.put(at(number), &frame(number, 1050));
        }
        let all: Vec<_> = (0..u64::from(before) + 100).collect();
        follower.wait_shown(all.len() as u64 - 1);
        assert_shown(follower.shown(), &all, "followed");
        assert_eq!(follower.said(), "");
    }
}

/// `read -w - | ssh`: a live file that grows behind a slow reader is shown up to one place.
#[test]
fn a_slow_reader_of_a_live_file_shows_all_up_to_one_place() {
    const FIRST: u32 = 1500;
    for more in [
        &[][..],
        &["--threads", "1"],
        &["--from", "2025-01-01"],
        &["udp or tcp"],
    ] {
        let dir = temp_dir();
        // Beyond what all threads read ahead.
        let mut live = Live::begin(dir.path(), "g5", 1, (96 << 20) / SEGMENT_BYTES);
        let mut number = 0;
        let mut put = |live: &mut Live, to: usize| {
            while live.position() < to {
                live.put(T0_NS + u64::from(number) * 1000, &frame(number, 1400));
                number += 1;
            }
            number
        };
        let first = put(&mut live, FIRST as usize * 1444);
        let [options, filter]: [&[&str]; 2] = match more {
            ["udp or tcp"] => [&[], more],
            _ => [more, &[]],
        };
        let args = [options, &[path(dir.path())], filter].concat();
        let reader = Slow::spawn(&args);
        let all = put(&mut live, 90 << 20);
        let (status, shown, said) = reader.read_on(Numbers::Made);
        assert!(status.success() && said.is_empty(), "{more:?}: {said}");
        let shown = runs(&shown);
        assert_eq!(
            shown.len(),
            1,
            "{more:?}, {first} of {all} at first: {shown:?}"
        );
        assert_eq!(shown[0].0, 0, "{more:?}");
        assert!(shown[0].1 >= u64::from(first) - 1, "{more:?}: {shown:?}");
    }
}

/// `read RING | less`: the ring rotates, is compressed and goes round meanwhile.
#[test]
fn who_has_begun_to_read_keeps_what_he_has() {
    for how in [None, Some("lz4")] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        // More than is read ahead.
        let mut args = vec![
            "--group",
            "5",
            "--file-size",
            "16MiB",
            "--files",
            "3",
            "-s",
            "0",
        ];
        args.extend(how.iter().flat_map(|how| ["--compress", how]));
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        let mut sum = 0;
        let mut send = |capture: &mut Running, stream, packets| {
            let traffic = Traffic::new(1400, packets)
                .rate(Some(30_000))
                .stream(stream);
            traffic.send(&lab, None).unwrap();
            sum += packets;
            capture.wait_written(sum);
        };
        send(&mut capture, 0, 24_000);
        let files = files_in(dir.path());
        assert_eq!(files.len(), 3, "{files:?}");
        if how.is_some() {
            until("the first files are compressed", || {
                let files = files_in(dir.path());
                let plain = files
                    .iter()
                    .filter(|file| file.extension().unwrap() == "pcapng");
                (plain.count() == 1).then_some(())
            });
        }
        let place = path(dir.path());
        let files = files_in(dir.path());
        let names: Vec<_> = files.iter().map(|file| path(file)).collect();
        let readers = [
            ("all", Slow::spawn(&["--threads", "1", place])),
            (
                "filtered",
                Slow::spawn(&["--threads", "1", place, "udp or tcp"]),
            ),
            (
                "without an index",
                Slow::spawn(&["--no-index", "--threads", "1", place]),
            ),
            (
                "by names",
                Slow::spawn(&[&["--threads", "1"], &names[..]].concat()),
            ),
        ];
        let export = Slow::of(&["export", "--csv", "-", place]);
        capture.signal(Signal::HUP);
        send(&mut capture, 1, 30_000);
        until("none of the files is there", || {
            files.iter().all(|file| !file.exists()).then_some(())
        });
        for (what, reader) in readers {
            let (status, shown, said) = reader.read_on(Numbers::Lab);
            let shown = runs(&shown);
            assert_eq!(said, "", "{how:?}, {what}: {shown:?}");
            assert!(status.success(), "{how:?}, {what}");
            assert_eq!(shown[0], (0, 23_999), "{how:?}, {what}: {shown:?}");
            assert!(shown.len() <= 2, "{how:?}, {what}: {shown:?}");
        }
        let (status, rows, said) = export.read_to_end();
        let rows = rows.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(said, "", "{how:?}, export: {rows} rows");
        assert!(status.success(), "{how:?}, export");
        assert!(rows > 24_000, "{how:?}, export: {rows} rows");
        capture.end();
    }
}

/// Followers for minutes under load: `LWNFLOG_SOAK_SECS=600 cargo test --release --test follow -- --ignored
/// --nocapture soak` (with `LWNFLOG_SOAK_RATE`, packets a second).
#[test]
#[ignore = "takes minutes: see docs/CONTRIBUTING.md"]
fn soak() {
    let number = |name: &str, default: u64| {
        let value = env::var(name).ok();
        value.map_or(default, |value| value.parse().unwrap())
    };
    let secs = number("LWNFLOG_SOAK_SECS", 600);
    let rate = number("LWNFLOG_SOAK_RATE", 50_000);
    for how in [None, Some("lz4"), Some("zstd")] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let mut args = vec!["--group", "5", "--rotate-secs", "1", "--files", "20"];
        args.extend(how.iter().flat_map(|how| ["--compress", how]));
        let capture = Running::capture(lab.receiver(), dir.path(), &args);
        let place = path(dir.path());
        let mut follower = Follower::spawn(Numbers::Lab, &["-f", place]);
        let (begun, share) = (Instant::now(), Duration::from_secs(secs) / 3);
        under_traffic(&lab, rate, || {
            while begun.elapsed() < share {
                std::thread::sleep(Duration::from_millis(500));
                follower.shown();
            }
        });
        let ended = capture.end();
        ended.assert_balanced();
        let [written, detected] = ["/written", "/detected"].map(|figure| ended.number(figure));
        // It has shown the last packet, or it shows no more.
        let mut still = 0;
        let mut before = 0;
        while follower.shown().last() < Some(&(detected - 1)) && still < 100 {
            let now = follower.shown().len();
            still = if now == before { still + 1 } else { 0 };
            before = now;
            std::thread::sleep(Duration::from_millis(100));
        }
        let shown = runs(follower.shown());
        let dropped = ended.number("/dropped/overrun");
        println!(
            "{how:?}: {written} written, {dropped} dropped, {} files; shown: {shown:?}; said: {}",
            ended.number("/files_begun"),
            follower.said()
        );
        // Holes are packets that were never written, or files that it says it has missed.
        let holes: u64 = shown.windows(2).map(|pair| pair[1].0 - pair[0].1 - 1).sum();
        assert!(shown.is_sorted(), "{how:?}: in order, and none twice");
        if gone(&follower.said()).is_empty() {
            assert_eq!(holes, dropped, "{how:?}");
            let count: u64 = shown.iter().map(|(from, to)| to - from + 1).sum();
            assert_eq!(count, written, "{how:?}");
        }
    }
}

/// A file that another program begins anew under its name, with records of the same length or others, is
/// read from its start, and that is said.
#[test]
fn a_file_that_is_begun_anew_is_read_from_its_start() {
    for bytes in [90, 70] {
        let dir = temp_dir();
        let file = dir.path().join("grows.pcap");
        let records = |numbers: std::ops::Range<u32>, bytes| -> Vec<_> {
            let stamped = |number| (T0_NS + u64::from(number), frame(number, bytes));
            numbers.map(stamped).collect()
        };
        fs::write(&file, pcap(&records(0..20, 90))).unwrap();
        let mut follower = Follower::spawn(Numbers::Made, &["-f", path(&file)]);
        follower.wait_shown(19);
        // It has met the end, and looked once more.
        std::thread::sleep(Duration::from_millis(500));
        fs::write(&file, pcap(&records(100..160, bytes))).unwrap();
        follower.wait_shown(159);
        let shown = follower.shown().to_vec();
        assert_eq!(runs(&shown), [(0, 19), (100, 159)], "{bytes}");
        assert!(
            follower.said().contains("begun anew"),
            "{}",
            follower.said()
        );
    }
}

/// The last file of a ring is compressed, and has more than one segment.
#[test]
fn a_compressed_file_is_followed_to_its_end() {
    let dir = temp_dir();
    let mut live = Live::begin(dir.path(), "g5", 1, 4);
    live.put(T0_NS, &frame(0, 900));
    let mut follower = Follower::spawn(Numbers::Made, &["-f", path(dir.path())]);
    follower.wait_shown(0);
    follower.stop();
    live.finish();
    let mut live = Live::begin(dir.path(), "g5", 2, 4);
    for number in 1..200 {
        live.put(T0_NS + u64::from(number), &frame(number, 900));
    }
    let finished = live.finish();
    let mut zstd = std::process::Command::new("zstd");
    common::run(zstd.args(["-q", "--rm"]).arg(finished), "");
    follower.signal(Signal::CONT);
    follower.wait_shown(199);
    assert_eq!(runs(follower.shown()), [(0, 199)]);
    assert_eq!(follower.said(), "");
}
