//! A start that fails has touched no file of the ring: every error that can be made here, with a
//! full ring in place, of which a start with `--files 2` would throw most away.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use common::{
    Ended, LWNFLOG, Mounted, Running, copy_for_anybody, lab, load_capture_rules, nft, number, run,
    temp_dir, with_own_mounts,
};
use lwnflog::lab::{Lab, Namespace, Traffic};
use rustix::process::Signal;

/// The user without rights that some starts run as.
const NOBODY: u32 = 65_534;

/// Five finished files and the live one of a capture that was killed.
fn full_ring(lab: &Lab, dir: &Path) {
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir, &["--group", "5", "-C", "1"]);
    for round in 1..=6 {
        Traffic::new(64, 10).send(lab, None).unwrap();
        capture.wait_written(10 * round);
        if round < 6 {
            capture.signal(Signal::HUP);
            capture.wait_stats("the file has changed", |stats| {
                number(stats, "/files_begun") == round + 1
            });
        }
    }
    capture.kill();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// Each file's bytes and when it was changed, but for the lock, which says who holds it.
fn state(dir: &Path) -> BTreeMap<OsString, (SystemTime, u64, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        (
            entry.file_name(),
            (meta.modified().unwrap(), meta.ino(), bytes),
        )
    });
    files
        .filter(|(name, _)| !name.to_string_lossy().ends_with(".lock"))
        .collect()
}

fn start(namespace: &Namespace, through: &[&str], dir: &Path, args: &[&str]) -> Ended {
    let (program, before) = match through.split_first() {
        Some((program, before)) => (*program, before),
        None => (LWNFLOG, &[][..]),
    };
    let mut command = namespace.command(program).unwrap();
    command.args(before);
    if program != LWNFLOG {
        command.arg(LWNFLOG);
    }
    let command = command
        .args(["--json", "--files", "2", "-w"])
        .arg(dir)
        .args(args);
    if !args.contains(&"--file-size") {
        command.args(["--file-size", "1"]);
    }
    Running::spawn(command).wait_end()
}

#[test]
fn a_start_that_fails_leaves_the_ring_as_it_was() {
    let (lab, dir, elsewhere) = (lab(), temp_dir(), temp_dir());
    full_ring(&lab, dir.path());
    let before = state(dir.path());
    assert!(before.len() >= 6, "{:?}", before.keys());
    let namespace = lab.receiver();
    let other = Running::capture(namespace, elsewhere.path(), &["--group", "5"]);
    let mut queues = namespace.command(LWNFLOG).unwrap();
    let mut queues = Running::spawn(queues.args(["--queue", "5", "--discard"]));
    queues.wait_said("capturing queue");
    nft(namespace, "table ip lwnflog-g6 {}");
    let without_right = [
        "setpriv",
        "--bounding-set=-net_admin",
        "--inh-caps=-net_admin",
    ];
    let open_files: Vec<_> = (4..24).map(|limit| format!("--nofile={limit}")).collect();
    let mut starts: Vec<(&[&str], &[&str])> = vec![
        (&[], &["--group", "5"]),
        (&[], &["--group", "5-7"]),
        (&[], &["--queue", "5"]),
        (&[], &["--group", "6", "--install-rule"]), // the table is there
        (&without_right, &["--group", "6"]),
        (&[], &["--group", "5", "--file-size", "100T"]),
        (&[], &["--group", "5", "--file-size", "1"]),
    ];
    // A ring of the name must not be in the way of what is tried with another one's group.
    let limited: Vec<[&str; 2]> = open_files
        .iter()
        .map(|limit| ["prlimit", limit.as_str()])
        .collect();
    starts.extend(
        limited
            .iter()
            .map(|through| (&through[..], &["--group", "5,8"][..])),
    );
    for (through, args) in starts {
        let ended = start(namespace, through, dir.path(), args);
        assert!(
            !ended.status.success(),
            "{through:?} {args:?}: {}",
            ended.said
        );
        assert!(
            !ended.said.contains("panicked"),
            "{through:?} {args:?}: {}",
            ended.said
        );
        assert_eq!(
            state(dir.path()),
            before,
            "{through:?} {args:?}: {}",
            ended.said
        );
    }
    queues.end();
    other.end();
    // Now that it can be had, it is: the killed file is finished, and two are left.
    let mut capture = namespace.command(LWNFLOG).unwrap();
    let capture = capture.args(["--json", "-g", "5", "--files", "2", "-C", "1", "-w"]);
    let mut capture = Running::spawn(capture.arg(dir.path()));
    capture.wait_said("of a run that was killed: 10 packets");
    capture.end();
    let files = state(dir.path());
    let files = files
        .keys()
        .filter(|name| !name.to_string_lossy().ends_with(".idx"));
    assert_eq!(files.count(), 2);
}

/// Whichever thread is the one too many: said as what it is, and nothing is touched.
#[test]
fn a_limit_of_threads_is_said_as_one() {
    let (lab, dir, programs) = (lab(), temp_dir(), temp_dir());
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy_for_anybody(programs.path());
    full_ring(&lab, dir.path());
    let before = state(dir.path());
    let mut refused = 0;
    for limit in 1.. {
        let mut command = lab.receiver().command("setpriv").unwrap();
        let nproc = format!("--nproc={limit}");
        command.args([
            "--reuid=65534",
            "--clear-groups",
            "--inh-caps=+net_admin",
            "--ambient-caps=+net_admin",
            "prlimit",
            &nproc,
        ]);
        command.arg(&program);
        let command = command.args(["-g", "5-6", "--json", "-q", "--files", "2", "-C", "1", "-w"]);
        let ended = Running::spawn(command.arg(dir.path()).args(["--duration", "0.1"])).wait_end();
        if ended.status.success() {
            break;
        }
        assert!(limit < 64, "{}", ended.said);
        refused += 1;
        assert_eq!(ended.status.code(), Some(1), "{limit}: {}", ended.said);
        assert!(ended.said.contains("ulimit -u"), "{limit}: {}", ended.said);
        assert!(!ended.said.contains("panicked"), "{limit}: {}", ended.said);
        assert_eq!(state(dir.path()), before, "{limit}: {}", ended.said);
    }
    assert!(
        refused >= 6,
        "main, signals, output, swappers and captures: {refused}"
    );
}

/// A start that waits for a disk is not silent.
#[test]
fn a_slow_start_says_what_it_is_doing() {
    with_own_mounts("a_slow_start_says_what_it_is_doing", || {
        let (lab, disk) = (lab(), Mounted::ext4(16 << 20));
        let freeze = |how: &str| run(Command::new("fsfreeze").arg(how).arg(disk.path()), "");
        freeze("-f");
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let command = command.args(["-g", "5", "-C", "1", "-W", "2", "-w"]);
        let mut capture = Running::spawn(command.arg(disk.path()));
        let line = capture.wait_said("still starting");
        freeze("-u");
        assert!(
            line.contains("making the first of the files ready"),
            "{line}"
        );
        capture.wait_said("capturing group");
        capture.end();
    });
}

/// IPv4 only, arriving only, 128 bytes only: nobody learns it afterwards.
#[test]
fn the_first_line_says_what_is_taken() {
    let (lab, dir) = (lab(), temp_dir());
    let first_line = |args: &[&str]| {
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let command = command.args(["-C", "1", "-W", "2", "-w"]).arg(dir.path());
        let mut capture = Running::spawn(command.args(args));
        let line = capture.wait_said("capturing ");
        capture.end();
        line
    };
    let says = |args: &[&str], what: &str| {
        let line = first_line(args);
        assert!(line.ends_with(what), "{args:?}: {line}");
    };
    let bytes = "the first 128 bytes of each packet";
    let rule = ["-g", "5", "--install-rule"];
    says(
        &["-g", "5"],
        &format!(": IPv4, {bytes} (more: --family both, -s 0)"),
    );
    says(
        &rule,
        &format!(": IPv4 that arrives, {bytes} (more: --family both, --at, -s 0)"),
    );
    let all = ["--family", "both", "-s", "0", "--at", "input,output"];
    says(
        &[&rule[..], &all].concat(),
        ": IPv4 and IPv6 at input, output, each packet whole",
    );
    says(
        &["--hook"],
        &format!(": IPv4 that arrives, {bytes} (more: --family both, -s 0)"),
    );
    load_capture_rules(lab.receiver());
    says(
        &["-g", "5", "-s", "0"],
        ": IPv4 that arrives, each packet whole (more: --family both, --at)",
    );
}

/// What does not fit is named by the option that asked for it.
#[test]
fn what_does_not_fit_is_named() {
    with_own_mounts("what_does_not_fit_is_named", || {
        let (lab, disk) = (lab(), Mounted::tmpfs("size=20m"));
        let refused = |args: &[&str]| {
            let mut command = lab.receiver().command(LWNFLOG).unwrap();
            let command = command.args(["-g", "5", "-w"]).arg(disk.path());
            let ended = Running::spawn(command.args(args)).wait_end();
            assert!(!ended.status.success(), "{}", ended.said);
            ended.said
        };
        for (args, option) in [
            (&["--max-bytes", "100GB"][..], "--max-bytes"),
            (
                &["--max-bytes", "100GB", "--files", "8"],
                "--file-size or --files",
            ),
            (&["--files", "8"], "--file-size or --files"),
            (&["--max-age", "1h"], "--file-size"),
        ] {
            let said = refused(args);
            assert!(
                said.trim()
                    .ends_with(&format!("ask for less with {option}")),
                "{said}"
            );
        }
    });
}

/// A cgroup that may use so much memory; removed when it is dropped.
struct Limited(std::path::PathBuf);

impl Limited {
    fn new(bytes: u64) -> Limited {
        let name = format!("lwnflog-test-memory-{}", std::process::id());
        let own_hierarchy = Path::new("/sys/fs/cgroup/memory");
        let (root, file) = match own_hierarchy.is_dir() {
            true => (own_hierarchy, "memory.limit_in_bytes"),
            false => {
                let root = Path::new("/sys/fs/cgroup");
                fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
                (root, "memory.max")
            }
        };
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(file), bytes.to_string()).unwrap();
        Limited(dir)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// On tmpfs files are memory: the kernel would end each start, without a word.
#[test]
fn a_ring_in_memory_that_the_cgroup_has_not_does_not_begin() {
    with_own_mounts(
        "a_ring_in_memory_that_the_cgroup_has_not_does_not_begin",
        || {
            let (lab, disk) = (lab(), Mounted::tmpfs("size=400m"));
            let limited = Limited::new(100 << 20);
            let inside = |args: &[&str]| {
                let mut command = lab.receiver().command("sh").unwrap();
                let enter = "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"";
                command.args(["-c", enter]).arg(&limited.0).arg(LWNFLOG);
                let command = command.args(args).arg("-w").arg(disk.path());
                Running::spawn(command)
            };
            let ring = |files: &'static str| ["-g", "5", "-C", "20", "-W", files, "-B", "1MiB"];
            let refused = inside(&ring("8")).wait_end();
            assert_eq!(refused.status.code(), Some(1), "{}", refused.said);
            for part in ["files here are memory", "104857600", "--files"] {
                assert!(refused.said.contains(part), "{}", refused.said);
            }
            let mut fits = inside(&ring("2"));
            fits.wait_said("capturing group");
            fits.end();
            let examined = inside(&["doctor", "--group", "5"]).wait_end();
            assert!(
                examined
                    .shown
                    .iter()
                    .any(|line| line.contains("are memory")),
                "{:?}",
                examined.shown
            );
        },
    );
}

/// The directory can be written; the lock of a capture that root has run there cannot.
/// FAT and its like: what keeps a capture from beginning is said as it is, what it does without, too, and
/// nothing is left.
#[test]
fn a_file_system_without_rights_is_said_to_be_one() {
    with_own_mounts("a_file_system_without_rights_is_said_to_be_one", || {
        let lab = lab();
        load_capture_rules(lab.receiver());
        let any = ["--group", "5"];
        let small = ["--group", "5", "-C", "1", "-W", "2"];
        let doctor = |dir: &Path| {
            let mut command = lab.receiver().command(LWNFLOG).unwrap();
            let args = ["doctor", "--group", "5", "-w"];
            let told = common::output(command.args(args).arg(dir), "");
            String::from_utf8_lossy(&told.stdout).into_owned()
        };
        let open = Mounted::exfat("umask=000");
        fs::create_dir(open.path().join("there")).unwrap();
        for dir in ["there", "a/new/one"] {
            let dir = open.path().join(dir);
            let ended = start(lab.receiver(), &[], &dir, &any);
            let says = "this file system keeps no rights of single files";
            assert!(ended.said.contains(says), "{}", ended.said);
            let told = doctor(&dir);
            assert!(told.contains("keeps no rights of single files"), "{told}");
        }
        let left: Vec<_> = fs::read_dir(open.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let dir = open.path().join("there");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);

        let readable = Mounted::exfat("umask=022");
        let dir = readable.path().join("ring");
        let group = [&any[..], &["--group-owner", "nogroup"]].concat();
        let ended = start(lab.receiver(), &[], &dir, &group);
        assert!(ended.said.contains("(--group-owner)"), "{}", ended.said);
        assert!(!dir.exists());
        let keep = [&small[..], &["--keep-on", "7"]].concat();
        for options in [&keep[..], &small] {
            // The first is killed, and the next finishes what it left.
            let mut capture = Running::capture(lab.receiver(), &dir, options);
            capture.wait_said("everybody may read the files here");
            if options.len() > small.len() {
                capture.wait_said("the file system has no second names");
            }
            Traffic::new(64, 10).send(&lab, None).unwrap();
            capture.wait_written(10);
            if options.len() > small.len() {
                capture.kill();
            } else {
                let ended = capture.end();
                assert!(
                    ended.said.contains("run that was killed: 10 packets"),
                    "{}",
                    ended.said
                );
                ended.assert_balanced();
            }
        }
        let owned = Mounted::exfat("umask=027");
        let dir = owned.path().join("ring");
        let ended = Running::capture(lab.receiver(), &dir, &small).end();
        assert!(!ended.said.contains("everybody"), "{}", ended.said);
        let told = doctor(&dir);
        assert!(
            told.contains("the disk of") && !told.contains("no rights"),
            "{told}"
        );
    });
}

#[test]
fn the_lock_of_another_user_is_said_to_be_one() {
    let (lab, dir, programs) = (lab(), temp_dir(), temp_dir());
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy_for_anybody(programs.path());
    full_ring(&lab, dir.path());
    std::os::unix::fs::chown(dir.path().join(".g5.lock"), Some(0), Some(0)).unwrap();
    let as_nobody = || {
        let mut command = lab.receiver().command("setpriv").unwrap();
        command.args([
            "--reuid=65534",
            "--clear-groups",
            "--inh-caps=+net_admin",
            "--ambient-caps=+net_admin",
        ]);
        let command = command.arg(&program).args(["-g", "5", "-C", "1", "-w"]);
        Running::spawn(command.arg(dir.path()))
    };
    let said = as_nobody().wait_end().said;
    assert!(said.contains("this lock is that of uid 0"), "{said}");
    let remedy = format!("chown -R --from=0 65534 {}", dir.path().display());
    assert!(said.contains(&remedy), "{said}");
    run(Command::new("sh").args(["-c", &remedy]), "");
    let mut capture = as_nobody();
    capture.wait_said("capturing group");
    capture.end();
}
