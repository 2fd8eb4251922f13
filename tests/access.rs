//! Whose the ring's files are: the rights they are made with, what stands in their way, and that no
//! file ever has two writers.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::files::read_all;
use common::{
    Ended, LWNFLOG, Mounted, Running, lab, load_capture_rules, namespace, number, run, send_paced,
    temp_dir, until, with_own_mounts,
};
use lwnflog::lab::{Lab, Namespace};

/// Small files, two of them.
const SMALL: [&str; 6] = ["--group", "5", "-C", "256KiB", "-W", "2"];

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn attempt(namespace: &Namespace, dir: &Path, args: &[&str]) -> Ended {
    let mut command = namespace.command(LWNFLOG).unwrap();
    Running::spawn(command.arg("-w").arg(dir).args(args)).wait_end()
}

fn write(lab: &Lab, capture: &mut Running, packets: u64, sum: u64) {
    send_paced(lab, packets);
    capture.wait_written(sum);
}

#[test]
fn only_owner_and_group_may_read_whatever_the_umask() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    for umask in ["000", "077"] {
        let dir = temp_dir();
        let ring = dir.path().join("deep/ring");
        let mut command = lab.receiver().command("sh").unwrap();
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, LWNFLOG, "--json", "--group-owner", "daemon"]);
        let mut capture = Running::spawn(command.args(SMALL).arg("-w").arg(&ring));
        capture.wait_said("capturing group");
        write(&lab, &mut capture, 3_000, 3_000);
        let daemon = fs::read_to_string("/etc/group").unwrap();
        let daemon = daemon.lines().find(|line| line.starts_with("daemon:"));
        let daemon: u32 = daemon.unwrap().split(':').nth(2).unwrap().parse().unwrap();
        let check = |path: &Path, mode: u32| {
            let meta = fs::symlink_metadata(path).unwrap();
            assert_eq!(meta.mode() & 0o7777, mode, "{umask} {}", path.display());
            assert_eq!(meta.gid(), daemon, "{umask} {}", path.display());
        };
        check(&ring, 0o750);
        let files = entries(&ring);
        assert!(
            files.len() >= 3,
            "the lock, the live one, the prepared: {files:?}"
        );
        files.iter().for_each(|file| check(file, 0o640));
        capture.end();
        entries(&ring).iter().for_each(|file| check(file, 0o640));
    }
    let ended = attempt(
        &namespace(),
        temp_dir().path(),
        &["-g", "5", "--group-owner", "nosuch"],
    );
    assert_eq!(ended.status.code(), Some(2), "{}", ended.said);
    assert!(ended.said.contains("no such group"), "{}", ended.said);
}

#[test]
fn a_directory_that_everybody_may_write_is_refused() {
    let (namespace, dir) = (namespace(), temp_dir());
    for mode in [0o777, 0o1777, 0o702] {
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let ended = attempt(&namespace, dir.path(), &SMALL);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
        for part in ["everybody may write", "chmod o-w", "-w DIR"] {
            assert!(ended.said.contains(part), "{}", ended.said);
        }
        assert!(entries(dir.path()).is_empty(), "{:?}", entries(dir.path()));
    }
    // One below it is its maker's.
    let ring = dir.path().join("ring");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    Running::capture(&namespace, &ring, &SMALL).end();
}

/// Whatever has a name that the ring would use is not written to, not waited for, and keeps its
/// name or is told.
#[test]
fn what_stands_in_the_way_is_neither_followed_nor_changed() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    for name in [
        ".g5.lock",
        ".g5-000001.new.pcapng",
        ".g5-000001.next.pcapng",
        "g5-000001.live.pcapng",
        "g5-000001-20260101T000000Z.pcapng",
    ] {
        for kind in ["symlink", "pipe", "hard link"] {
            let dir = temp_dir();
            let ring = dir.path().join("ring");
            fs::create_dir(&ring).unwrap();
            let precious = dir.path().join("precious");
            fs::write(&precious, "precious").unwrap();
            let in_the_way = ring.join(name);
            match kind {
                "symlink" => symlink(&precious, &in_the_way).unwrap(),
                "pipe" => drop(run(Command::new("mkfifo").arg(&in_the_way), "")),
                _ => fs::hard_link(&precious, &in_the_way).unwrap(),
            }
            if name == ".g5.lock" {
                let ended = attempt(lab.receiver(), &ring, &SMALL);
                assert_eq!(ended.status.code(), Some(1), "{kind}: {}", ended.said);
                assert!(ended.said.contains(name), "{kind}: {}", ended.said);
            } else {
                let mut capture = Running::capture(lab.receiver(), &ring, &SMALL);
                write(&lab, &mut capture, 8_000, 8_000);
                capture.end().assert_balanced();
            }
            let kept = fs::read_to_string(&precious).unwrap();
            assert_eq!(kept, "precious", "{name}, {kind}");
        }
    }
}

/// The numbers in the packets of every file, each of which every reader takes.
fn numbers(files: &[PathBuf]) -> BTreeMap<u64, usize> {
    let mut seen = BTreeMap::new();
    for number in read_all(files).sequence_numbers() {
        *seen.entry(number).or_default() += 1;
    }
    seen
}

/// The lock's file is removed, and another capture of the same name begins in another namespace: it
/// leaves the first one's live and prepared files alone.
#[test]
fn a_removed_lock_makes_no_second_writer() {
    let (first_lab, second_lab, dir) = (lab(), lab(), temp_dir());
    for lab in [&first_lab, &second_lab] {
        load_capture_rules(lab.receiver());
    }
    let options = ["--group", "5", "-C", "1MiB", "-W", "0"];
    let mut first = Running::capture(first_lab.receiver(), dir.path(), &options);
    write(&first_lab, &mut first, 1_000, 1_000);
    fs::remove_file(dir.path().join(".g5.lock")).unwrap();
    let mut second = Running::capture(second_lab.receiver(), dir.path(), &options);
    second.wait_said("another process writes it");
    write(&second_lab, &mut second, 1_000, 1_000);
    write(&first_lab, &mut first, 500, 1_500);
    let (first, second) = (first.end(), second.end());
    for (ended, packets) in [(&first, 1_500), (&second, 1_000)] {
        ended.assert_balanced();
        let files = ended.files();
        assert_eq!(ended.number("/written"), packets);
        let all = numbers(&files);
        assert_eq!(
            all.values().sum::<usize>() as u64,
            packets,
            "{files:?} {}",
            ended.said
        );
    }
    assert!(
        first
            .files()
            .iter()
            .all(|file| !second.files().contains(file))
    );
}

/// The same directory by another name.
#[test]
fn another_mount_of_the_directory_hides_no_writer() {
    with_own_mounts("another_mount_of_the_directory_hides_no_writer", || {
        let (lab, dir, other) = (lab(), temp_dir(), Mounted::tmpfs("size=1m"));
        run(
            Command::new("mount")
                .arg("--bind")
                .args([dir.path(), other.path()]),
            "",
        );
        let first = Running::capture(lab.receiver(), dir.path(), &SMALL);
        let ended = attempt(&namespace(), other.path(), &SMALL);
        assert!(
            ended.said.contains("belongs to a running lwnflog"),
            "{}",
            ended.said
        );
        first.end();
        run(Command::new("umount").arg(other.path()), "");
    });
}

/// Behind an overlay a file has two inodes, and no lock or lease of one is seen by the other: files
/// are made anew there, and what a killed run left stays as it is.
#[test]
fn on_an_overlay_nothing_is_written_twice() {
    with_own_mounts("on_an_overlay_nothing_is_written_twice", || {
        let (lab, disk) = (lab(), Mounted::tmpfs("size=64m"));
        load_capture_rules(lab.receiver());
        let below = |name: &str| disk.path().join(name);
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(below(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            below("lower").display(),
            below("upper").display(),
            below("work").display()
        );
        let mount = ["-t", "overlay", "-o", &options, "none"];
        run(Command::new("mount").args(mount).arg(below("merged")), "");
        let ring = below("merged").join("ring");
        let mut capture = Running::capture(lab.receiver(), &ring, &SMALL);
        write(&lab, &mut capture, 3_000, 3_000);
        let name = until("a file is finished", || {
            let mut files = entries(&ring).into_iter();
            let file = files.find(|file| file.to_string_lossy().ends_with("Z.pcapng"))?;
            Some(file.file_name().unwrap().to_owned())
        });
        // A reader by the other way.
        let open = File::open(below("upper").join("ring").join(&name)).unwrap();
        let before = fs::read(ring.join(&name)).unwrap();
        write(&lab, &mut capture, 20_000, 23_000);
        assert!(
            !ring.join(&name).exists(),
            "its place in the ring was taken"
        );
        let mut after = Vec::new();
        std::io::Read::read_to_end(&mut &open, &mut after).unwrap();
        assert!(before == after, "not a byte of it was overwritten");
        capture.kill();
        let live = entries(&ring)
            .into_iter()
            .find(|file| file.to_string_lossy().contains("live"));
        let live = live.unwrap();
        let before = fs::read(&live).unwrap();
        // An index is nobody's packets: it goes with its file.
        let finished = entries(&ring)
            .into_iter()
            .find(|file| file.to_string_lossy().ends_with("Z.pcapng"));
        let finished = finished.unwrap();
        let name = finished.file_name().unwrap().to_string_lossy();
        let index = ring.join(format!(".{name}.idx"));
        fs::write(&index, "").unwrap();
        fs::remove_file(&finished).unwrap();
        let mut again = Running::capture(lab.receiver(), &ring, &SMALL);
        again.wait_said("on an overlay");
        let said = again.end().said;
        assert!(!said.contains(".idx") && !index.exists(), "{said}");
        assert!(fs::read(&live).unwrap() == before);
        run(Command::new("umount").arg(below("merged")), "");
    });
}

/// Who keeps removed files open makes a ring of a limit take more than that: the report says how
/// much.
#[test]
fn space_that_readers_hold_is_told() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    let mut open = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for round in 1..=10 {
        write(&lab, &mut capture, 2_000, 2_000 * round);
        for path in entries(dir.path()) {
            if let Ok(file) = File::open(&path)
                && known.insert(file.metadata().unwrap().ino())
            {
                open.push(file);
            }
        }
    }
    let removed = open.iter().map(|file| file.metadata().unwrap());
    let held: u64 = removed
        .filter(|meta| meta.nlink() == 0)
        .map(|meta| meta.blocks() * 512)
        .sum();
    assert!(held > 256 << 10, "{held}");
    let ended = capture.end();
    let remarks = ended.report["remarks"].as_array().unwrap();
    let told = remarks.iter().find_map(|remark| {
        let digits = remark.as_str()?.split("removed files of ").nth(1)?;
        let digits = digits.split(' ').next()?.replace(',', "");
        digits.parse::<u64>().ok()
    });
    assert!(
        told.is_some_and(|told| told >= held),
        "{told:?} of {held}: {remarks:?}"
    );
    assert!(number(&ended.report, "/written") == 20_000);
}
