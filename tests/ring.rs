//! The ring under real traffic: rotation, restart, readers, `kill -9`, power loss, a full disk.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::files::{
    assert_all_readers_find, count_by_capinfos, count_by_tcpdump, count_by_tshark, packet_places,
    parse, read, read_all,
};
use common::{
    LWNFLOG, Mounted, Running, lab, load_capture_rules, namespace, number, output, run, send_paced,
    temp_dir, under_traffic, until, with_own_mounts,
};
use lwnflog::lab::{Lab, Traffic};
use lwnflog::ring::{Access, Limits, Ring, RingConfig, Store};
use lwnflog::sys::file::is_open_only_here;
use rustix::fs::FallocateFlags;
use rustix::process::Signal;
use serde_json::Value;

/// Small files: 256 KiB hold 2,400 packets of 64 bytes.
const SMALL: [&str; 6] = ["--group", "5", "--file-size", "256KiB", "--files", "4"];

/// The ring's visible files, oldest first; the live one is the last.
fn ring_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_capture = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        !name.starts_with('.') && (name.ends_with(".pcapng") || name.ends_with(".pcap"))
    };
    let mut files: Vec<_> = entries.filter(is_capture).collect();
    files.sort();
    files
}

fn is_live(path: &Path) -> bool {
    path.to_string_lossy().contains(".live.")
}

fn file_number(path: &Path) -> u64 {
    let name = path.file_name().unwrap().to_string_lossy();
    name.split(['-', '.']).nth(1).unwrap().parse().unwrap()
}

fn assert_continuous(numbers: &[u64], last: u64) {
    let first = numbers[0];
    assert_eq!(numbers, Vec::from_iter(first..=last), "{first}..={last}");
}

#[test]
fn rotation_keeps_so_many_files_and_loses_nothing_between_them() {
    const PACKETS: u64 = 20_000;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send_paced(&lab, PACKETS);
    capture.wait_written(PACKETS);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), PACKETS);
    assert!(
        ended.number("/files_begun") > 8,
        "{}",
        ended.number("/files_begun")
    );
    let files = ended.files();
    assert_eq!(
        files,
        ring_files(dir.path()),
        "the report names them, oldest first"
    );
    assert_eq!(files.len(), 4);
    assert_continuous(&read_all(&files).sequence_numbers(), PACKETS - 1);
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() <= 256 << 10);
    }
    let sum = files
        .iter()
        .map(|file| read(file).packets.len() as u64)
        .sum::<u64>();
    assert!(
        sum > 3 * 2_300,
        "three full files and one that was begun: {sum}"
    );
}

#[test]
fn without_a_limit_all_files_stay() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "--file-size", "256KiB", "--files", "0"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, 12_000);
    capture.wait_written(12_000);
    let ended = capture.end();
    assert!(ended.files().len() >= 5);
    assert_eq!(
        read_all(&ended.files()).sequence_numbers(),
        Vec::from_iter(0..12_000)
    );
}

#[test]
fn classic_pcap_rotates_too() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = [&SMALL[..], &["--format", "pcap"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, 20_000);
    capture.wait_written(20_000);
    let ended = capture.end();
    // It has no index, and nobody has written to its files.
    assert_eq!(ended.number("/taken"), 0, "{}", ended.said);
    assert!(!ended.said.contains("somebody"), "{}", ended.said);
    let files = ended.files();
    assert_eq!(files.len(), 4);
    assert_continuous(&read_all(&files).sequence_numbers(), 19_999);
    assert_all_readers_find(&files[0], read(&files[0]).packets.len() as u64);
}

#[test]
fn a_restart_goes_on_and_overwrites_nothing_early() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    for round in 1..=3 {
        let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
        Traffic::new(64, 100).send(&lab, None).unwrap();
        capture.wait_written(100);
        let files = capture.end().files();
        let numbers: Vec<_> = files.iter().map(|file| file_number(file)).collect();
        assert_eq!(numbers, Vec::from_iter(1..=round));
    }
    // Full now but for one. Starts without traffic take nothing away.
    for _ in 0..3 {
        Running::capture(lab.receiver(), dir.path(), &SMALL).end();
        assert_eq!(ring_files(dir.path()).len(), 3);
    }
    for round in 4..=6 {
        let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
        Traffic::new(64, 100).send(&lab, None).unwrap();
        capture.wait_written(100);
        let numbers: Vec<_> = capture
            .end()
            .files()
            .iter()
            .map(|file| file_number(file))
            .collect();
        assert_eq!(numbers, Vec::from_iter(round - 3..=round));
    }
    let before = ring_files(dir.path());
    Running::capture(lab.receiver(), dir.path(), &SMALL).end();
    assert_eq!(
        ring_files(dir.path()),
        before,
        "a full ring is left alone until a packet comes"
    );
}

/// Files of another size, even larger ones, are recycled without a trace of what they held.
#[test]
fn a_ring_of_smaller_files_takes_over() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let large = ["--group", "5", "--file-size", "1MiB", "--files", "2"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &large);
    send_paced(&lab, 15_000);
    capture.wait_written(15_000);
    capture.end();
    let small = ["--group", "5", "--file-size", "256KiB", "--files", "2"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &small);
    for round in 1..=6 {
        Traffic::new(64, 1000).stream(7).send(&lab, None).unwrap();
        capture.wait_written(1000 * round);
        for file in ring_files(dir.path()) {
            if let Ok(bytes) = fs::read(&file) {
                parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            }
        }
    }
    let ended = capture.end();
    assert!(ended.files().len() <= 2);
}

/// A full ring needs no new file: the oldest one is used again where it stands.
#[test]
fn files_that_nobody_reads_are_recycled_in_place() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    let inodes = || -> BTreeSet<u64> {
        let entries = fs::read_dir(dir.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let captures = paths.filter(|path| path.extension().is_some_and(|end| end == "pcapng"));
        let metas = captures.filter_map(|path| fs::metadata(path).ok());
        metas
            .filter(|meta| meta.len() > 100)
            .map(|meta| meta.ino())
            .collect()
    };
    let mut sent = 0;
    let mut turn = |capture: &mut Running| {
        // Five files full, and the sixth begun.
        send_paced(&lab, 13_000);
        sent += 13_000;
        capture.wait_written(sent);
        until("the next file is prepared", || {
            let inodes = inodes();
            (inodes.len() == 5).then_some(inodes)
        })
    };
    let first = turn(&mut capture);
    let second = turn(&mut capture);
    assert_eq!(first, second, "four files with packets, one prepared");
    capture.end().assert_balanced();
}

/// Who has the oldest file open keeps what he has: the ring then makes a new file.
#[test]
fn a_reader_keeps_the_file_he_has_open() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send_paced(&lab, 3_000);
    capture.wait_written(3_000);
    let oldest = until("a file is finished", || {
        ring_files(dir.path())
            .into_iter()
            .find(|file| !is_live(file))
    });
    let (open, before) = (File::open(&oldest).unwrap(), fs::read(&oldest).unwrap());
    Traffic::new(64, 20_000)
        .rate(Some(50_000))
        .stream(1)
        .send(&lab, None)
        .unwrap();
    capture.wait_written(23_000);
    capture.end().assert_balanced();
    assert!(!oldest.exists(), "its place in the ring was taken");
    let mut after = vec![0; before.len()];
    open.read_exact_at(&mut after, 0).unwrap();
    assert_eq!(open.metadata().unwrap().len(), before.len() as u64);
    assert!(before == after, "not a byte of it was overwritten");
}

/// A file may have other names, and links may stand in the ring's directory: what they name is not
/// overwritten.
#[test]
fn links_are_neither_followed_nor_recycled() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let ring = dir.path().join("ring");
    fs::create_dir(&ring).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    for name in [
        "g5-000001-20260101T000000Z.pcapng",
        "g5-000002.live.pcapng",
        ".g5-000003.next.pcapng",
    ] {
        symlink(&precious, ring.join(name)).unwrap();
    }
    let mut capture = Running::capture(lab.receiver(), &ring, &SMALL);
    send_paced(&lab, 3_000);
    capture.wait_written(3_000);
    let oldest = until("a file is finished", || {
        let mut files = ring_files(&ring).into_iter();
        files.find(|file| !is_live(file) && !file.is_symlink())
    });
    let saved = dir.path().join("saved.pcapng");
    fs::hard_link(&oldest, &saved).unwrap();
    let before = fs::read(&saved).unwrap();
    Traffic::new(64, 30_000)
        .rate(Some(50_000))
        .stream(1)
        .send(&lab, None)
        .unwrap();
    capture.wait_written(33_000);
    capture.end().assert_balanced();
    assert!(!oldest.exists(), "its place in the ring was taken");
    assert_eq!(fs::read(&saved).unwrap(), before);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    // Nor is the lock written to one.
    fs::remove_file(ring.join(".g5.lock")).unwrap();
    symlink(&precious, ring.join(".g5.lock")).unwrap();
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    let ended = Running::spawn(command.args(["-g", "5", "-w"]).arg(&ring)).wait_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    assert!(ended.said.contains(".g5.lock"), "{}", ended.said);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

/// Somebody removes, moves or empties the file that is written: it is said, and the next one
/// begins.
#[test]
fn a_live_file_that_is_taken_away_is_told() {
    type Harm = fn(&Path);
    let harms: [Harm; 4] = [
        |live| fs::remove_file(live).unwrap(),
        |live| fs::rename(live, live.with_extension("moved")).unwrap(),
        |live| File::create(live).map(drop).unwrap(),
        |live| fs::remove_dir_all(live.parent().unwrap()).unwrap(),
    ];
    for harm in harms {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let ring = dir.path().join("ring");
        let mut capture = Running::capture(lab.receiver(), &ring, &["--group", "5"]);
        Traffic::new(64, 100).send(&lab, None).unwrap();
        capture.wait_written(100);
        let live = until("the live file is there", || ring_files(&ring).pop());
        assert!(is_live(&live));
        harm(&live);
        let said = capture.wait_said("removed this file");
        assert!(said.contains(&*live.to_string_lossy()), "{said}");
        let next_begun = |capture: &mut Running, files: u64| {
            capture.wait_stats("the next file begins", |stats| {
                number(stats, "/files_begun") == files
            });
        };
        next_begun(&mut capture, 2);
        let mut sent = 100;
        let mut send = |capture: &mut Running| {
            Traffic::new(64, 100).stream(1).send(&lab, None).unwrap();
            sent += 100;
            capture.wait_stats("they came", |stats| number(stats, "/received") == sent);
        };
        let taken = if ring.exists() { 100 } else { 200 };
        if !ring.exists() {
            // The file that was prepared went with its directory.
            send(&mut capture);
            until("that is told as well", || {
                let said = capture.said();
                (said.matches("removed this file").count() == 2).then_some(())
            });
            next_begun(&mut capture, 3);
        }
        capture.wait_stats("it is in the account", |stats| {
            number(stats, "/taken") == taken && number(stats, "/written") == taken
        });
        send(&mut capture);
        let ended = capture.end();
        let files = ended.files();
        assert_eq!(files.len(), 1, "{files:?}\n{}", ended.said);
        assert_all_readers_find(&files[0], 100);
        ended.assert_balanced();
        assert_eq!(ended.number("/taken"), taken);
        assert_eq!(ended.number("/written"), taken + 100);
        let line = format!("taken  {taken} (of them, in files that others removed");
        assert!(ended.said.contains(&line), "{}", ended.said);
    }
}

/// Somebody takes it while it is being finished, behind the last look at it.
#[test]
fn a_file_that_goes_while_it_is_finished_is_told() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 100).send(&lab, None).unwrap();
    capture.wait_written(100);
    let live = until("the live file is there", || ring_files(dir.path()).pop());
    // The next file gets its name with its first packet.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", "trace=renameat2"]);
    strace.args(["-e", "inject=renameat2:error=ENOENT:when=1", "-p"]);
    let mut strace = Running::spawn(strace.arg(capture.pid().to_string()));
    strace.wait_said("attached");
    capture.signal(Signal::HUP);
    let said = capture.wait_said("removed this file");
    assert!(said.contains(&*live.to_string_lossy()), "{said}");
    strace.end_by(Signal::INT);
    let ended = capture.end();
    assert_eq!(ended.number("/taken"), 100, "{}", ended.said);
    assert!(!ended.said.contains("left as it is"), "{}", ended.said);
}

/// Somebody writes to the file that is written: it is found when its index is made, at the latest at the
/// end.
#[test]
fn a_live_file_that_others_write_to_is_told() {
    // The beginning, the middle, and a whole record that becomes one of padding.
    let harms: [fn(&Path); 3] = [
        |live| overwrite(live, 0, &[b'x'; 64]),
        |live| overwrite(live, 8000, &[b'x'; 4096]),
        |live| {
            let (at, _) = packet_places(&fs::read(live).unwrap())[50];
            overwrite(live, at as u64, &0x0bad_u32.to_ne_bytes());
        },
    ];
    for (harm, while_it_runs) in harms.into_iter().zip([true, false, true]) {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        Traffic::new(64, 100).send(&lab, None).unwrap();
        capture.wait_written(100);
        let live = until("the live file is there", || ring_files(dir.path()).pop());
        harm(&live);
        if while_it_runs {
            capture.signal(Signal::HUP);
            capture.wait_said("somebody has written to this file: the 100 packets");
            capture.wait_stats("it is in the account", |stats| {
                number(stats, "/taken") == 100
            });
        }
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/taken"), 100, "{}", ended.said);
        let told = ended.said.matches("has written to this file").count();
        assert_eq!(told, 1, "{}", ended.said);
    }
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// A file system tells the holder of a lease who opens the file, by a signal that may not kill.
#[test]
fn asking_who_has_a_file_open_survives_those_who_open_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(File::open(file.path()).unwrap());
                (0..500).for_each(|_| std::hint::spin_loop());
            }
        });
        let alone = (0..300_000).filter(|_| is_open_only_here(file.as_file()));
        assert!(alone.count() > 0, "nobody else had it open now and then");
        done.store(true, Ordering::Relaxed);
    });
}

/// A pseudo-random sequence, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a killed run left, as it is: few enough files of [`SMALL`]'s ring, one after the other
/// though most of them were left by runs that were killed, each whole to its last packet.
fn assert_readable_after_kill(dir: &Path, killed: &str) -> Vec<PathBuf> {
    let files = ring_files(dir);
    assert!(files.len() <= 5, "{killed}: {files:?}");
    let all = read_all(&files).sequence_numbers();
    let back = all.windows(2).find(|pair| pair[0] >= pair[1]);
    assert!(back.is_none(), "{killed}: {back:?} in {files:?}");
    for file in &files {
        let sequence = read(file).sequence_numbers();
        assert!(!sequence.is_empty(), "{killed}: {}", file.display());
        assert_continuous(&sequence, *sequence.last().unwrap());
    }
    files
}

/// The next start finishes what is left.
fn assert_finished_by_a_restart(lab: &Lab, dir: &Path) {
    let was_live = ring_files(dir).iter().any(|file| is_live(file));
    let ended = Running::capture(lab.receiver(), dir, &SMALL).end();
    let said = ended.said.contains("of a run that was killed");
    assert!(said || !was_live, "{}", ended.said);
    for file in ended.files() {
        assert!(!is_live(&file));
        assert_all_readers_find(&file, read(&file).packets.len() as u64);
    }
}

/// Killed at any moment, all that is visible is readable as it is; a restart goes on from there.
#[test]
fn kill_9_at_random_moments_leaves_files_that_every_reader_takes() {
    const ROUNDS: usize = 24;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut dice = Dice(2026);
    let mut numbers = Vec::new();
    under_traffic(&lab, 40_000, || {
        for round in 0..ROUNDS {
            let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
            until("there are packets", || {
                let files = ring_files(dir.path());
                files.iter().any(|file| is_live(file)).then_some(())
            });
            thread::sleep(std::time::Duration::from_millis(dice.below(200)));
            assert!(!capture.has_ended());
            capture.kill();
            let files = assert_readable_after_kill(dir.path(), &format!("round {round}"));
            // The tools take a second a file: they look at the one that was live.
            let live = files.last().unwrap();
            if round % 3 == 0 {
                assert_all_readers_find(live, read(live).packets.len() as u64);
            }
            numbers.push(file_number(live));
        }
    });
    assert!(
        numbers.is_sorted() && numbers.iter().all(|number| *number > 0),
        "{numbers:?}"
    );
    assert_finished_by_a_restart(&lab, dir.path());
}

/// The same at the moments that chance seldom meets: before each system call that changes a file or
/// its name, the first few times that a thread makes it: at the start, then over several files.
#[test]
fn kill_9_at_every_step_leaves_files_that_every_reader_takes() {
    // What each change of files calls, and how often a run may do so before it is killed. `?`: not
    // every processor's Linux has it.
    const CALLS: [(&str, usize); 4] = [
        ("?rename,?renameat,?renameat2", 16),
        ("ftruncate", 5),
        ("fallocate", 5),
        ("pwrite64", 5),
    ];
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    under_traffic(&lab, 40_000, || {
        for (call, times) in CALLS {
            for time in 1..=times {
                let mut command = lab.receiver().command("strace").unwrap();
                command
                    .args(["-f", "-o", "/dev/null"])
                    .args(["-e", &format!("inject={call}:signal=KILL:when={time}")])
                    .args([LWNFLOG, "-w"])
                    .arg(dir.path())
                    .args(SMALL);
                let ended = Running::spawn(&mut command).wait_end();
                assert_eq!(ended.status.signal(), Some(9), "{}", ended.said);
                assert_readable_after_kill(dir.path(), &format!("{call}, time {time}"));
            }
        }
    });
    assert!(file_number(ring_files(dir.path()).last().unwrap()) > 16);
    assert_finished_by_a_restart(&lab, dir.path());
}

/// Whether a complaint about a file that was read while it grew is one of the two that may be: the
/// reader looked in the middle of a batch, where the lengths of the last padding block are apart,
/// or while the full file was cut.
fn met_the_writer(file: &Path, read_bytes: usize, complaint: &str) -> bool {
    let now = fs::metadata(file).map_or(0, |meta| meta.len());
    now != read_bytes as u64 || complaint.contains("but it ends in")
}

/// The files as they are while traffic comes in and files change many times a second, every byte of
/// them: who meets the writer at it looks again, and then finds nothing wrong.
#[test]
fn files_are_valid_while_they_grow_and_change() {
    const LOOKS_MAX: usize = 5;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    under_traffic(&lab, 60_000, || {
        let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
        let (mut files, mut looked_again) = (0, 0);
        while files < 2_000 {
            for file in ring_files(dir.path()) {
                files += 1;
                for look in 1.. {
                    let Ok(bytes) = fs::read(&file) else { break };
                    match parse(&bytes) {
                        Ok(contents) => {
                            assert!(!contents.packets.is_empty(), "{}", file.display());
                            break;
                        }
                        Err(error) => assert!(
                            met_the_writer(&file, bytes.len(), &error) && look < LOOKS_MAX,
                            "look {look} at {}: {error}",
                            file.display()
                        ),
                    }
                    looked_again += 1;
                }
            }
        }
        println!("of {files} files {looked_again} met the writer");
        assert!(looked_again * 50 < files, "{looked_again} of {files}");
        assert!(!capture.has_ended());
        capture.end();
    });
}

/// The same by the tools of others, each on the live file.
#[test]
fn tools_read_the_live_file_under_traffic() {
    const LOOKS_MAX: usize = 5;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    // So slow that the file is not full while slow machines read it.
    under_traffic(&lab, 2_000, || {
        let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        capture.wait_written(1);
        let live = until("the live file is there", || ring_files(dir.path()).pop());
        assert!(is_live(&live));
        let mut last = 0;
        for _ in 0..3 {
            for count in [count_by_capinfos, count_by_tcpdump, count_by_tshark] {
                let found = (0..LOOKS_MAX).find_map(|_| count(&live).ok());
                let packets = found.unwrap_or_else(|| panic!("{:?}", count(&live)));
                assert!(packets >= last, "{packets} packets, and {last} before");
                last = packets;
            }
        }
        assert!(last > 0);
        assert!(!capture.has_ended());
        capture.end();
    });
}

#[test]
fn repair_makes_a_killed_pcap_readable() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "--format", "pcap", "--file-size", "2MiB"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, 5_000);
    capture.wait_written(5_000);
    let live = until("the live file is there", || ring_files(dir.path()).pop());
    let refused = output(Command::new(LWNFLOG).arg("repair").arg(&live), "");
    assert!(
        !refused.status.success(),
        "a running capture's file is left alone"
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another process has it open"));
    capture.kill();
    assert_ne!(
        count_by_capinfos(&live),
        Ok(5_000),
        "its zero tail reads as packets"
    );
    let told = run(Command::new(LWNFLOG).arg("repair").arg(&live), "");
    assert!(told.contains("5,000 packets"), "{told}");
    assert_all_readers_find(&live, 5_000);
    assert_eq!(read(&live).sequence_numbers(), Vec::from_iter(0..5_000));
    // Once more finds nothing to do.
    let again = run(Command::new(LWNFLOG).arg("repair").arg(&live), "");
    assert!(!again.contains("cut"), "{again}");
}

/// The next run cuts it, as it does with pcapng, and gives it its name.
#[test]
fn a_restart_finishes_a_killed_pcap() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "--format", "pcap"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    Traffic::new(64, 1_000).send(&lab, None).unwrap();
    capture.wait_written(1_000);
    capture.kill();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    capture.wait_said("of a run that was killed: 1,000 packets");
    capture.end();
    let files = ring_files(dir.path());
    assert_eq!(files.len(), 1, "{files:?}");
    assert_all_readers_find(&files[0], 1_000);
}

/// Of a live file whose beginning is lost nothing can be said; somebody with patience may find
/// packets in it.
#[test]
fn a_file_without_its_beginning_is_kept_aside() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    Traffic::new(64, 1_000).send(&lab, None).unwrap();
    capture.wait_written(1_000);
    let live = until("the live file is there", || ring_files(dir.path()).pop());
    capture.kill();
    let file = OpenOptions::new().write(true).open(&live).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    drop(file); // or it would count as written by somebody
    let before = fs::read(&live).unwrap();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    capture.wait_said("g5-000001.live.damaged");
    capture.end();
    assert_eq!(fs::read(live.with_extension("damaged")).unwrap(), before);
}

/// Power loss: any page may not have reached the disk, the length may be anything.
#[test]
fn repair_after_power_loss_keeps_what_is_left() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "--file-size", "1MiB", "-s", "0"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    Traffic::new(200, 2_500)
        .rate(Some(50_000))
        .send(&lab, None)
        .unwrap();
    capture.wait_written(2_500);
    let live = until("the live file is there", || ring_files(dir.path()).pop());
    capture.kill();
    let whole = fs::read(&live).unwrap();
    let all = read(&live);
    let places = packet_places(&whole);
    let mut dice = Dice(7);
    for round in 0..12 {
        let mut bytes = whole.clone();
        let mut harmed = BTreeSet::new();
        for _ in 0..=dice.below(6) {
            // Not the first page: without a section header it is no capture file.
            let page = 1 + usize::try_from(dice.below(whole.len() as u64 / 4096 - 1)).unwrap();
            bytes[page * 4096..(page + 1) * 4096].fill(0);
            harmed.insert(page * 4096 / all.segment_bytes);
        }
        // Its name says that what stands behind a first segment that is damaged is lwnflog's.
        let torn = dir.path().join("torn").join(live.file_name().unwrap());
        fs::create_dir_all(torn.parent().unwrap()).unwrap();
        fs::write(&torn, &bytes).unwrap();
        let told = run(Command::new(LWNFLOG).arg("repair").arg(&torn), "");
        let repaired = read(&torn);
        // Packets are left out, none is invented. (One whose middle page is gone cannot be told.)
        let mut originals = all.packets.iter();
        for packet in &repaired.packets {
            let same = |original: &&common::files::Record| {
                original.stamp_ticks == packet.stamp_ticks
                    && original.data.len() == packet.data.len()
            };
            assert!(originals.any(|original| same(&original)), "{told}");
        }
        // Segments that miss nothing keep all.
        let mut kept = repaired.packets.iter().map(|packet| packet.stamp_ticks);
        for (_, stamp_ticks) in places
            .iter()
            .filter(|(segment, _)| !harmed.contains(segment))
        {
            assert!(kept.any(|kept| kept == *stamp_ticks), "{told}");
        }
        if round % 4 == 0 {
            assert_all_readers_find(&torn, repaired.packets.len() as u64);
        }
    }
}

#[test]
fn a_damaged_file_of_the_last_run_is_repaired_by_a_restart() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(
        lab.receiver(),
        dir.path(),
        &["--group", "5", "--file-size", "1MiB"],
    );
    send_paced(&lab, 4_000);
    capture.wait_written(4_000);
    let live = until("the live file is there", || ring_files(dir.path()).pop());
    capture.kill();
    OpenOptions::new()
        .write(true)
        .open(&live)
        .unwrap()
        .write_all_at(&[0; 8192], 70 * 4096)
        .unwrap();
    let mut capture = Running::capture(
        lab.receiver(),
        dir.path(),
        &["--group", "5", "--file-size", "1MiB"],
    );
    capture.wait_said("damaged parts were replaced by padding blocks");
    let files = capture.end().files();
    assert_all_readers_find(&files[0], read(&files[0]).packets.len() as u64);
}

/// Editors keep the comment that says how large our segments are, and write blocks across them.
#[test]
fn repair_leaves_files_of_editors_alone() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    send_paced(&lab, 3_000);
    capture.wait_written(3_000);
    let ours = capture.end().files().remove(0);
    let made = |name: &str| dir.path().join(name);
    run(Command::new("editcap").arg(&ours).arg(made("editcap")), "");
    run(
        Command::new("mergecap")
            .args(["-a", "-w"])
            .arg(made("mergecap"))
            .args([&ours, &ours]),
        "",
    );
    run(
        Command::new("tshark")
            .args(["-Y", "frame.number < 2000", "-w"])
            .arg(made("tshark"))
            .arg("-r")
            .arg(&ours),
        "",
    );
    for (name, packets) in [("editcap", 3_000), ("mergecap", 6_000), ("tshark", 1_999)] {
        let before = fs::read(made(name)).unwrap();
        let repair = output(Command::new(LWNFLOG).arg("repair").arg(made(name)), "");
        let told = String::from_utf8_lossy(&repair.stderr);
        assert!(!repair.status.success(), "{name}: {told}");
        assert!(told.contains("written this file anew"), "{name}: {told}");
        assert_eq!(fs::read(made(name)).unwrap(), before, "{name}");
        assert_eq!(count_by_capinfos(&made(name)), Ok(packets));
    }
    // One of its own that is whole has nothing to lose.
    let told = run(Command::new(LWNFLOG).arg("repair").arg(&ours), "");
    assert!(
        told.contains("3,000 packets") && !told.contains("cut"),
        "{told}"
    );
}

/// A damaged file may say any time, also one that no calendar has.
#[test]
fn a_restart_survives_a_stamp_of_the_far_future() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 10).send(&lab, None).unwrap();
    capture.wait_written(10);
    let live = until("the live file is there", || ring_files(dir.path()).pop());
    capture.kill();
    let bytes = fs::read(&live).unwrap();
    let first = &read(&live).packets[0];
    let halves = first.stamp_ticks.rotate_left(32).to_le_bytes();
    let at = bytes
        .windows(8)
        .position(|window| window == halves)
        .unwrap();
    let file = OpenOptions::new().write(true).open(&live).unwrap();
    file.write_all_at(&[0xff; 8], at as u64).unwrap();
    drop(file);
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    capture.wait_said("g5-000001-99991231T235959Z.pcapng");
    capture.end();
}

#[test]
fn repair_refuses_what_is_no_capture_file() {
    let dir = temp_dir();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("short", b"x"),
        ("text", &[b'x'; 5000]),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = output(Command::new(LWNFLOG).arg("repair").arg(&path), "");
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} is left as it was");
    }
    let missing = output(
        Command::new(LWNFLOG)
            .arg("repair")
            .arg(dir.path().join("missing")),
        "",
    );
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("No such file"),
        "{missing:?}"
    );
}

#[test]
fn a_ring_belongs_to_one_lwnflog() {
    let (namespace, dir) = (namespace(), temp_dir());
    let first = Running::capture(&namespace, dir.path(), &["--group", "5"]);
    let mut command = namespace.command(LWNFLOG).unwrap();
    let second = Running::spawn(command.args(["--group", "5", "-w"]).arg(dir.path())).wait_end();
    assert_eq!(second.status.code(), Some(1));
    let holder = format!("process {}", first.pid());
    assert!(
        second.said.contains("running lwnflog") && second.said.contains(&holder),
        "{}",
        second.said
    );
    assert!(
        second.said.contains("-w DIR"),
        "the remedy: {}",
        second.said
    );
    // Another group's ring may be in the same directory.
    let other = Running::capture(&namespace, dir.path(), &["--group", "6"]);
    other.end();
    first.end();
}

/// Takes all space that there is, and what becomes free, while `body` runs.
fn with_full_disk<T>(dir: &Path, body: impl FnOnce() -> T) -> T {
    let path = dir.join("hog");
    let mut hog = File::create(&path).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if hog.write_all(&[1; 4096]).is_err() {
                    thread::yield_now();
                }
            }
            fs::remove_file(&path).unwrap();
        });
        let body = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        done.store(true, Ordering::Relaxed);
        body.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The disk fills while capturing: the ring shrinks, then packets are dropped by the writer and
/// counted, then there is a file to write to again and capture goes on. Never a SIGBUS.
#[test]
fn a_disk_that_fills_up_shrinks_the_ring() {
    with_own_mounts("a_disk_that_fills_up_shrinks_the_ring", || {
        shrinks_when_full(&Mounted::tmpfs("size=8m"));
    });
}

/// The same on a file system that keeps its own books, and reserves half of what is asked for
/// before it says no.
#[test]
fn an_ext4_that_fills_up_shrinks_the_ring() {
    with_own_mounts("an_ext4_that_fills_up_shrinks_the_ring", || {
        shrinks_when_full(&Mounted::ext4(12 << 20));
    });
}

fn shrinks_when_full(dir: &Mounted) {
    let lab = lab();
    load_capture_rules(lab.receiver());
    under_traffic(&lab, 20_000, || {
        let options = ["--group", "5", "--file-size", "1MiB", "--files", "4"];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        capture.wait_stats("the ring has two files", |stats| {
            number(stats, "/files_begun") >= 2
        });
        let full = with_full_disk(dir.path(), || {
            until("the disk is full, and said to be", || {
                capture
                    .said()
                    .contains("the ring goes on with")
                    .then_some(())
            });
            // What a short file gives back when it is cut, others take: nothing is left.
            until("no file can be had", || {
                capture.signal(Signal::HUP);
                capture.said().contains("no file to write to").then_some(())
            });
            let dropped = |stats: &Value| number(stats, "/dropped/writer") > 0;
            let full = capture.wait_stats("packets are dropped", dropped);
            assert!(!capture.has_ended(), "{}", capture.said());
            full
        });
        capture.wait_said("there is a file to write to again");
        let again = number(&full, "/written") + 5_000;
        capture.wait_stats("writing goes on", |stats| number(stats, "/written") > again);
        let said = capture.said();
        for once in ["the ring goes on with", "no file to write to"] {
            assert_eq!(said.matches(once).count(), 1, "once: {said}");
        }
        let ended = capture.end();
        let report = &ended.report;
        assert_eq!(
            number(report, "/received"),
            number(report, "/written")
                + number(report, "/dropped/writer")
                + number(report, "/skipped"),
            "{report:#}"
        );
        for file in ended.files() {
            let contents = read(&file);
            let sequence = contents.sequence_numbers();
            // What is missing between two packets is what the later one says was lost.
            for (place, pair) in sequence.windows(2).enumerate() {
                assert_eq!(
                    pair[1] - pair[0] - 1,
                    contents.packets[place + 1].dropcount,
                    "{}",
                    file.display()
                );
            }
        }
        assert!(
            read_all(&ended.files()).dropcounts() > 0,
            "the gap is in the files"
        );
    });
}

/// Room for two files and no more: one that is full is used again at once, for which a packet may
/// wait, and nothing is lost to it.
#[test]
fn a_ring_that_the_disk_leaves_one_file_goes_on() {
    with_own_mounts("a_ring_that_the_disk_leaves_one_file_goes_on", || {
        let (lab, dir) = (lab(), Mounted::tmpfs("size=3m"));
        load_capture_rules(lab.receiver());
        let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
        let mut hog = File::create(dir.path().join("hog")).unwrap();
        while hog.write_all(&[1; 4096]).is_ok() {}
        Traffic::new(64, 30_000)
            .rate(Some(20_000))
            .send(&lab, None)
            .unwrap();
        let received = |stats: &Value| number(stats, "/received") == 30_000;
        capture.wait_stats("all have come", received);
        // What is finished stays until a packet needs its room.
        capture.signal(Signal::HUP);
        until("the file is finished", || {
            let files = ring_files(dir.path());
            (!files.is_empty() && !files.iter().any(|file| is_live(file))).then_some(())
        });
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), 30_000, "{:#}", ended.report);
        let said = &ended.said;
        assert_eq!(said.matches("the ring goes on with").count(), 1, "{said}");
        assert!(!said.contains("no file to write to"), "{said}");
        let last = read_all(&ended.files()).sequence_numbers();
        assert_continuous(&last, 29_999);
    });
}

/// `count` finished files of ten packets each.
fn short_files(lab: &Lab, dir: &Path, count: u32) {
    let mut capture = Running::capture(lab.receiver(), dir, &["-g", "5", "-C", "256KiB"]);
    Traffic::new(64, 10).send(lab, None).unwrap();
    capture.wait_written(10);
    let first = capture.end().files().remove(0);
    for number in 2..=count {
        let name = first.file_name().unwrap().to_string_lossy();
        let name = name.replace("g5-000001", &format!("g5-{number:06}"));
        fs::copy(&first, dir.join(name)).unwrap();
    }
}

fn fill_disk(dir: &Path) {
    let mut hog = File::create(dir.join("hog")).unwrap();
    while hog.write_all(&[1; 4096]).is_ok() {}
}

/// A full disk takes no more from a ring of short files than it needs: not file after file until a
/// whole one fits.
#[test]
fn a_full_disk_leaves_a_ring_of_short_files_alone() {
    with_own_mounts("a_full_disk_leaves_a_ring_of_short_files_alone", || {
        let (lab, dir) = (lab(), Mounted::tmpfs("size=80m"));
        load_capture_rules(lab.receiver());
        let options = ["-g", "5", "-C", "512KiB", "-W", "120"];
        short_files(&lab, dir.path(), 100);
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        fill_disk(dir.path());
        send_paced(&lab, 4_200); // more than the prepared file takes
        capture.wait_stats("all have come", |stats| number(stats, "/received") == 4_200);
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), 4_200, "{}", ended.said);
        assert!(ended.said.contains("the disk is full"), "{}", ended.said);
        let short = ended
            .files()
            .into_iter()
            .filter(|file| read(file).packets.len() == 10);
        // A segment of 64 KiB is 16 of them.
        assert!(short.count() >= 60, "{:?}\n{}", ended.files(), ended.said);
    });
}

/// What is left of the disk is used, though it is less than a whole file.
#[test]
fn a_file_gets_what_the_disk_has_left() {
    with_own_mounts("a_file_gets_what_the_disk_has_left", || {
        let (lab, dir) = (lab(), Mounted::tmpfs("size=10m"));
        load_capture_rules(lab.receiver());
        let options = ["-g", "5", "-C", "2MiB", "-W", "3"];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        fs::write(dir.path().join("other"), vec![1; 7 << 20]).unwrap();
        send_paced(&lab, 20_000);
        capture.wait_stats("all have come", |stats| {
            number(stats, "/received") == 20_000
        });
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), 20_000, "{}", ended.said);
        assert!(ended.said.contains("the next file gets"), "{}", ended.said);
        assert!(!ended.said.contains("overwritten early"), "{}", ended.said);
        assert_eq!(read_all(&ended.files()).packets.len(), 20_000);
    });
}

/// A ring without limit throws nothing away: on a full disk packets are dropped, and counted.
#[test]
fn a_full_disk_takes_nothing_from_a_ring_without_limit() {
    with_own_mounts(
        "a_full_disk_takes_nothing_from_a_ring_without_limit",
        || {
            let (lab, dir) = (lab(), Mounted::tmpfs("size=4m"));
            load_capture_rules(lab.receiver());
            let options = ["-g", "5", "-C", "256KiB", "-W", "0"];
            let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
            send_paced(&lab, 60_000);
            capture.wait_said("no file to write to");
            capture.wait_stats("all have come", |stats| {
                number(stats, "/received") == 60_000
            });
            let ended = capture.end();
            ended.assert_balanced();
            assert!(ended.number("/dropped/writer") > 0);
            let numbers = read_all(&ended.files()).sequence_numbers();
            assert_continuous(&numbers, ended.number("/written") - 1);
        },
    );
}

/// What has run out is named: there is room for bytes, and none for another file.
#[test]
fn inodes_that_run_out_are_named() {
    with_own_mounts("inodes_that_run_out_are_named", || {
        let (lab, dir) = (lab(), Mounted::tmpfs("size=64m,nr_inodes=8"));
        load_capture_rules(lab.receiver());
        let options = ["-g", "5", "-C", "256KiB", "-W", "0"];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        send_paced(&lab, 60_000);
        let said = capture.wait_said("no file to write to");
        assert!(said.contains("no inodes are left"), "{said}");
        capture.end().assert_balanced();
        while File::create(
            dir.path()
                .join(format!("{}", fs::read_dir(dir.path()).unwrap().count())),
        )
        .is_ok()
        {}
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let command = command.args(["-g", "6", "-C", "256KiB", "-W", "0", "-w"]);
        let ended = Running::spawn(command.arg(dir.path())).wait_end();
        assert!(ended.said.contains("no inodes are left"), "{}", ended.said);
        assert!(!ended.said.contains("--file-size"), "{}", ended.said);
    });
}

/// Takes pages out of a file.
fn punch(path: &Path, at: u64, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, how, at, bytes).unwrap();
}

/// Pages that go away under the writer are lost, on a full disk with a signal and on another in
/// silence: what was in them is counted, and what is left is readable.
#[test]
fn what_was_in_pages_that_go_away_is_counted() {
    with_own_mounts("what_was_in_pages_that_go_away_is_counted", || {
        for (at, bytes, full) in [
            (0, 4096, false),
            (0, 4096, true),
            (0, 1 << 20, true), // with the place of the next commit, which is the last
            (64 << 10, 4096, false),
            (64 << 10, 8192, true),
        ] {
            let (lab, dir) = (lab(), Mounted::tmpfs("size=8m"));
            load_capture_rules(lab.receiver());
            let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
            send_paced(&lab, 1_500);
            capture.wait_written(1_500);
            let live = ring_files(dir.path()).pop().unwrap();
            assert!(is_live(&live), "{}", live.display());
            punch(&live, at, bytes);
            if full {
                fill_disk(dir.path());
            }
            Traffic::new(64, 10).stream(1).send(&lab, None).unwrap();
            capture.wait_stats("all have come", |stats| number(stats, "/received") == 1_510);
            let ended = capture.end();
            ended.assert_balanced();
            let lost = ended.number("/dropped/writer");
            assert!(lost > 0, "{at} {bytes} {full}: {}", ended.said);
            let remarks = ended.report["remarks"].to_string();
            assert!(
                remarks.contains("count as dropped by the writer"),
                "{remarks}"
            );
            let mut packets = 0;
            for file in ended.files() {
                let contents = read(&file).packets.len() as u64;
                assert_all_readers_find(&file, contents);
                packets += contents;
            }
            assert_eq!(
                packets,
                ended.number("/written"),
                "{at} {bytes} {full}: {}",
                ended.said
            );
            if at == 0 {
                assert!(live.with_extension("damaged").exists(), "{}", ended.said);
            }
        }
    });
}

/// A file system that becomes read-only keeps stores in memory and takes none of them to the disk.
#[test]
fn a_file_system_that_becomes_read_only_is_told() {
    with_own_mounts("a_file_system_that_becomes_read_only_is_told", || {
        let (lab, dir) = (lab(), Mounted::ext4(16 << 20));
        load_capture_rules(lab.receiver());
        let options = ["-g", "5", "-C", "256KiB", "-W", "3"];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        send_paced(&lab, 500);
        capture.wait_written(500);
        // As ext4 does it itself, when it finds an error: whoever has files open for writing keeps
        // them.
        let interface = run(
            Command::new("findmnt")
                .args(["-n", "-o", "SOURCE"])
                .arg(dir.path()),
            "",
        );
        let interface = interface.trim().rsplit('/').next().unwrap();
        run(
            Command::new("mount")
                .args(["-o", "remount,errors=remount-ro"])
                .arg(dir.path()),
            "",
        );
        fs::write(
            format!("/sys/fs/ext4/{interface}/trigger_fs_error"),
            "a test",
        )
        .unwrap();
        send_paced(&lab, 6_000);
        capture.wait_stats("all have come", |stats| number(stats, "/received") == 6_500);
        let ended = capture.end();
        ended.assert_balanced();
        assert!(ended.number("/dropped/writer") > 0, "{}", ended.said);
        for part in ["it is not known how many", "are not on the disk"] {
            assert!(ended.said.contains(part), "`{part}`: {}", ended.said);
        }
        // Only the file that was live has packets of which it is not known.
        let live = ring_files(dir.path())
            .into_iter()
            .find(|file| is_live(file))
            .unwrap();
        assert_eq!(read(&live).packets.len() as u64, ended.number("/written"));
    });
}

/// A file system that has failed answers nothing: that is not somebody who has removed a file, and what it
/// took before may not be on the disk.
#[test]
fn a_file_system_that_has_failed_is_told() {
    with_own_mounts("a_file_system_that_has_failed_is_told", || {
        for dir in [Mounted::xfs(), Mounted::ext4(16 << 20)] {
            let lab = lab();
            load_capture_rules(lab.receiver());
            let options = ["-g", "5", "-C", "1MiB", "-W", "3"];
            let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
            send_paced(&lab, 500);
            capture.wait_written(500);
            let shutdown = ["-x", "-c", "shutdown"];
            run(Command::new("xfs_io").args(shutdown).arg(dir.path()), "");
            send_paced(&lab, 30_000);
            let all = |stats: &Value| number(stats, "/received") == 30_500;
            capture.wait_stats("all have come", all);
            let ended = capture.end();
            ended.assert_balanced();
            assert!(ended.number("/dropped/writer") > 0, "{}", ended.said);
            assert_eq!(ended.number("/taken"), 0, "{}", ended.said);
            for (part, is_said) in [
                ("it is not known how many of its", true),
                ("no file to write to", true),
                ("Input/output error", true),
                ("somebody", false),
                ("File exists", false),
            ] {
                assert_eq!(
                    ended.said.contains(part),
                    is_said,
                    "`{part}`: {}",
                    ended.said
                );
            }
        }
    });
}

/// Where files can be made and none can be renamed or removed, no further one is made for each time that
/// it is tried.
#[test]
fn what_cannot_be_removed_is_made_once() {
    with_own_mounts("what_cannot_be_removed_is_made_once", || {
        let (lab, dir) = (lab(), Mounted::ext4(64 << 20));
        load_capture_rules(lab.receiver());
        let capture_dir = dir.path().join("c");
        let change = |how: &str| run(Command::new("chattr").arg(how).arg(&capture_dir), "");
        let options = ["-g", "5", "-C", "256KiB", "-W", "3"];
        let mut capture = Running::capture(lab.receiver(), &capture_dir, &options);
        send_paced(&lab, 500);
        capture.wait_written(500);
        change("+a");
        send_paced(&lab, 10_000);
        let dropped = |stats: &Value| number(stats, "/dropped/writer") > 0;
        capture.wait_stats("there is no file", dropped);
        // It is tried four times a second.
        thread::sleep(Duration::from_secs(2));
        let prepared = |dir: &Path| {
            let names = fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let is_new = |name: &std::ffi::OsString| name.to_string_lossy().contains(".new.");
            names.filter(is_new).count()
        };
        assert!(prepared(&capture_dir) <= 1);
        change("-a");
        until("writing goes on", || {
            send_paced(&lab, 100);
            capture.said().contains("writing goes on").then_some(())
        });
        capture.end().assert_balanced();
        assert_eq!(prepared(&capture_dir), 0);
    });
}

/// A finished file holds nothing of the one it was made of: not in what its segments leave unused
/// either. Nor does one that a restart finished.
#[test]
fn a_recycled_file_keeps_nothing_of_the_old_one() {
    const MARKER: &[u8] = b"thrown away long ago";
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["-g", "5", "-C", "1MiB", "-W", "2", "-s", "0"];
    let payload = |fill: &[u8], packets: usize, bytes: usize| {
        let body: Vec<u8> = fill.iter().copied().cycle().take(bytes).collect();
        let send = || {
            // Nobody reads there, but nobody answers that there is nobody either.
            let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            for packet in 0..packets {
                socket
                    .send_to(&body, receiver.local_addr().unwrap())
                    .unwrap();
                if packet % 50 == 0 {
                    thread::sleep(Duration::from_millis(2));
                }
            }
        };
        lab.receiver().run(send).unwrap();
    };
    let has_marker = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(MARKER.len()).any(|window| window == MARKER)
    };
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    payload(MARKER, 4_000, 600);
    capture.wait_written(4_000);
    let marked = ring_files(dir.path());
    assert!(marked.iter().any(has_marker));
    // Of another length, so that segments end elsewhere.
    payload(b"mine", 3_000, 1_400);
    capture.wait_written(7_000);
    until("the marked files are out of the ring", || {
        ring_files(dir.path())
            .iter()
            .all(|file| !marked.contains(file))
            .then_some(())
    });
    capture.kill();
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    let ended = capture.end();
    assert!(!ended.files().is_empty());
    for file in ended.files() {
        assert!(!has_marker(&file), "{}", file.display());
        assert!(!read(&file).packets.is_empty());
    }
}

/// The same ring, its files ended at any moment: there is always a next one, and what the last one
/// holds stays.
#[test]
fn a_ring_of_one_file_never_lacks_one() {
    const FILE_BYTES: usize = 64 << 10;
    with_own_mounts("a_ring_of_one_file_never_lacks_one", || {
        let dir = Mounted::tmpfs("size=300k");
        let mut dice = Dice(2026);
        for last in 100..120u64 {
            let config = RingConfig {
                dir: dir.path().to_owned(),
                name: "one".into(),
                extension: "pcapng",
                file_bytes: FILE_BYTES as u64,
                limits: Limits::files(2),
                segment_bytes: FILE_BYTES,
                padding_blocks: true,
            };
            let store = Store::open(dir.path(), "one", "pcapng", Access::default()).unwrap();
            let (notices, said) = mpsc::channel();
            let mut ring = Ring::open(config, store, notices).unwrap();
            fs::write(dir.path().join("hog"), [1; 300 << 10]).unwrap_err();
            for record in 1..=last {
                if record % 3 == 0 || ring.slot(16).is_err() {
                    assert!(ring.next_file(), "{record}: {:?}", said.try_recv());
                }
                let mut slot = ring.slot(16).unwrap();
                slot.space()
                    .take_last(8)
                    .unwrap()
                    .put(&record.to_le_bytes());
                slot.append([0; 8]);
                ring.note_first(record);
                ring.commit();
                (0..dice.below(100_000)).for_each(|_| std::hint::spin_loop());
                if record % 3 == 1 {
                    ring.rotate();
                }
            }
            let (files, _) = ring.close();
            assert_eq!(files.len(), 1, "{last}: {files:?}");
            let bytes = fs::read(&files[0]).unwrap();
            assert_eq!(bytes[bytes.len() - 8..], last.to_le_bytes());
            fs::remove_file(&files[0]).unwrap();
            fs::remove_file(dir.path().join("hog")).unwrap();
        }
    });
}

/// Whatever somebody has put where the live file is to be, it stays, and the file has the next number: readers
/// see it as any other.
#[test]
fn a_name_that_is_taken_costs_no_packet() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["-g", "5", "-C", "256KiB", "-W", "0"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    let taken = [2, 3].map(|number| dir.path().join(format!("g5-00000{number}.live.pcapng")));
    fs::create_dir(&taken[0]).unwrap();
    fs::write(&taken[1], "none of its").unwrap();
    send_paced(&lab, 500);
    capture.wait_written(500);
    capture.signal(Signal::HUP);
    send_paced(&lab, 500);
    capture.wait_written(1000);
    assert!(dir.path().join("g5-000004.live.pcapng").exists());
    send_paced(&lab, 9_000);
    capture.wait_written(10_000);
    let ended = capture.end();
    ended.assert_balanced();
    assert!(!ended.said.contains("cannot be"), "{}", ended.said);
    assert!(taken[0].is_dir() && fs::read(&taken[1]).unwrap() == b"none of its");
    assert_eq!(read_all(&ended.files()).packets.len(), 10_000);
}

#[test]
fn not_enough_space_is_said_at_the_start() {
    with_own_mounts("not_enough_space_is_said_at_the_start", || {
        let (namespace, dir) = (namespace(), Mounted::tmpfs("size=4m"));
        // One ring that is too large, and four that are too large together.
        for (groups, file_size, takes) in [
            ("5", "2MiB", "takes 10485760 bytes"),
            ("5-8", "256KiB", "takes 5242880 bytes"),
        ] {
            let mut command = namespace.command(LWNFLOG).unwrap();
            command.args(["--group", groups, "--file-size", file_size]);
            command.args(["--files", "4", "-w"]).arg(dir.path());
            let ended = Running::spawn(&mut command).wait_end();
            assert_eq!(ended.status.code(), Some(1));
            for part in [takes, "are free", "--file-size or --files"] {
                assert!(ended.said.contains(part), "{}", ended.said);
            }
        }
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    with_own_mounts("a_directory_that_cannot_be_written_is_named", || {
        let (namespace, dir) = (namespace(), Mounted::tmpfs("ro"));
        for ring in [
            dir.path().to_owned(),
            dir.path().join("new"),
            PathBuf::from("/proc/version"),
        ] {
            let mut command = namespace.command(LWNFLOG).unwrap();
            let ended = Running::spawn(command.args(["--group", "5", "-w"]).arg(&ring)).wait_end();
            assert_eq!(ended.status.code(), Some(1));
            assert!(
                ended.said.contains(&*ring.to_string_lossy()) && ended.said.contains("-w DIR"),
                "{}",
                ended.said
            );
        }
    });
}

/// The same by tools: what was live when the process was killed is read by each of them.
#[test]
fn a_killed_ring_is_read_by_each_tool_alone() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send_paced(&lab, 1_000);
    capture.wait_written(1_000);
    capture.kill();
    let live = ring_files(dir.path()).pop().unwrap();
    assert_eq!(
        fs::metadata(&live).unwrap().len(),
        256 << 10,
        "nobody has cut it"
    );
    assert_eq!(count_by_capinfos(&live), Ok(1_000));
    assert_eq!(count_by_tcpdump(&live), Ok(1_000));
    assert_eq!(count_by_tshark(&live), Ok(1_000));
}
