//! What becomes of finished files: commands, compression, limits by bytes and by age, and files
//! that are kept. Each against a real capture.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::files::read;
use common::{
    LWNFLOG, Running, lab, load_capture_rules, nft, output, run, run_in, send_paced, temp_dir,
    under_traffic, until,
};
use lwnflog::lab::Lab;
use rustix::process::Signal;

/// Whole packets of the smallest files: a few thousand fill one.
const SMALL: [&str; 4] = ["--group", "5", "--file-size", "256KiB"];

fn captures(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("g5-") && !name.contains(".live.")
        })
        .collect();
    files.sort();
    files
}

fn bytes_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let metas = entries.filter_map(|entry| entry.metadata().ok());
    metas
        .filter(fs::Metadata::is_file)
        .map(|meta| meta.len())
        .sum()
}

/// Sends so that all of it is recorded.
fn send(lab: &Lab, capture: &mut Running, packets: u64, sum: u64) {
    send_paced(lab, packets);
    capture.wait_written(sum);
}

fn ctl(capture: &Running, words: &[&str]) -> String {
    let mut command = Command::new(LWNFLOG);
    command.args(["ctl", "--directory"]).arg(capture.runtime());
    run(command.args(words), "").trim().to_owned()
}

#[test]
fn a_command_gets_every_finished_file_the_last_one_too() {
    let (lab, dir, list) = (lab(), temp_dir(), temp_dir());
    load_capture_rules(lab.receiver());
    let log = list.path().join("a list");
    // No shell: the `>` would be one, and a name with a blank stays one word.
    let command = format!("cp -t '{}'", list.path().display());
    let args = [&SMALL[..], &["-z", &command]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 5000, 5000);
    let ended = capture.end();
    ended.assert_balanced();
    let files = ended.files();
    assert!(files.len() >= 2, "{files:?}");
    for file in &files {
        let copy = list.path().join(file.file_name().unwrap());
        assert_eq!(fs::read(file).unwrap(), fs::read(copy).unwrap());
    }
    // With a shell where one is asked for.
    let dir = temp_dir();
    let command = format!("echo \"$1\" >> '{}'", log.display());
    let args = [&SMALL[..], &["-z", &command, "--on-rotate-shell"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 100, 100);
    let ended = capture.end();
    let listed = fs::read_to_string(&log).unwrap();
    assert_eq!(listed.trim(), ended.files()[0].to_str().unwrap());
}

#[test]
fn a_command_that_fails_is_said_and_loses_nothing() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    for (command, says) in [
        ("false", "has failed (exit status: 1)"),
        ("/no/such", "cannot be run"),
    ] {
        let args = [&SMALL[..], &["-z", command]].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 100, 100);
        let ended = capture.end();
        assert!(ended.said.contains(says), "{}", ended.said);
        assert_eq!(read(&ended.files()[0]).packets.len(), 100);
    }
    let mut refused = lab.receiver().command(LWNFLOG).unwrap();
    let refused = output(refused.args(["--group", "5", "-z", "'"]), "");
    assert_eq!(refused.status.code(), Some(2));
}

/// A capture that is killed leaves its process for files, which ends what it has begun, and then
/// itself.
#[test]
fn nothing_is_left_of_a_killed_capture() {
    let (lab, dir, mark) = (lab(), temp_dir(), temp_dir());
    load_capture_rules(lab.receiver());
    let done = mark.path().join("done");
    let command = format!("touch '{}'", done.display());
    let args = [&SMALL[..], &["-z", &command]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 100, 100);
    let children =
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", capture.pid())).unwrap();
    let child: u32 = children.trim().parse().unwrap();
    // Its own group: what ends a terminal's group does not end it.
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    assert_eq!(stat.split(' ').nth(4).unwrap(), child.to_string());
    assert_eq!(
        stat.split(' ').nth(18).unwrap(),
        "19",
        "the lowest priority"
    );
    assert_eq!(ctl(&capture, &["rotate"]), "went on to the next file");
    until("the command has run", || done.exists().then_some(()));
    capture.kill();
    until("the process has ended", || {
        (!Path::new(&format!("/proc/{child}")).exists()).then_some(())
    });
}

/// As files were called before they were compressed: where that takes long, the report is earlier.
fn plain_names(files: &[PathBuf]) -> Vec<PathBuf> {
    let is_plain = |file: &PathBuf| file.extension().is_some_and(|end| end == "pcapng");
    let plain = |file: &PathBuf| match is_plain(file) {
        true => file.clone(),
        false => file.with_extension(""),
    };
    files.iter().map(plain).collect()
}

#[test]
fn compressed_files_hold_the_same_packets_within_the_limit() {
    for (how, suffix, unpack) in [
        ("zstd", "zst", ["zstd", "-dc"]),
        ("lz4", "lz4", ["lz4", "-dc"]),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [&SMALL[..], &["--compress", how, "--files", "6"]].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 6000, 6000);
        let ended = capture.end();
        ended.assert_balanced();
        let files = captures(dir.path());
        assert_eq!(plain_names(&files), plain_names(&ended.files()));
        assert!(files.len() >= 2, "{files:?}");
        let mut packets = 0;
        for file in &files {
            assert_eq!(file.extension().unwrap(), suffix, "{files:?}");
            let plain = dir.path().join("plain.pcapng");
            let unpacked = output(Command::new(unpack[0]).arg(unpack[1]).arg(file), "");
            assert!(unpacked.status.success());
            fs::write(&plain, unpacked.stdout).unwrap();
            packets += read(&plain).packets.len();
            fs::remove_file(&plain).unwrap();
        }
        assert_eq!(packets, 6000);
        if how == "zstd" {
            let count = run(
                Command::new("capinfos").args(["-c", "-M"]).arg(&files[0]),
                "",
            );
            assert!(
                count.contains("Number of packets:"),
                "Wireshark opens it: {count}"
            );
        }
        // A ring of compressed files goes on, and gives the oldest up.
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 20_000, 20_000);
        let ended = capture.end();
        let after = captures(dir.path());
        assert_eq!(plain_names(&after), plain_names(&ended.files()));
        assert!(after.len() <= 6, "{after:?}");
        assert!(!after.contains(&files[0]), "the oldest is gone: {after:?}");
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| !name.to_str().unwrap().ends_with(".idx"))
            .collect();
        assert_eq!(left.len(), after.len() + 2, "a lock, a journal: {left:?}");
    }
}

#[test]
fn bytes_and_age_are_limits_too() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    const LIMIT: u64 = 1_500_000;
    let limit = LIMIT.to_string() + "b";
    let args = [&SMALL[..], &["--max-bytes", &limit]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    for turn in 1..=6 {
        send(&lab, &mut capture, 3000, turn * 3000);
        let bytes = bytes_of(dir.path());
        assert!(bytes <= LIMIT, "{bytes}");
    }
    let ended = capture.end();
    ended.assert_balanced();
    assert!(bytes_of(dir.path()) > LIMIT / 3, "and not much less");
    assert!(ended.number("/files_begun") > 6);
    // Too little for the files that are written.
    let mut refused = lab.receiver().command(LWNFLOG).unwrap();
    let refused = output(
        refused
            .args(SMALL)
            .args(["--max-bytes", "512KiB", "-w"])
            .arg(dir.path()),
        "",
    );
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("at least 786432 bytes"), "{said}");
    // By age: what is there goes when its time has come, though no packet comes.
    let before = captures(dir.path());
    let args = [&SMALL[..], &["--max-age", "1s"]].concat();
    let capture = Running::capture(lab.receiver(), dir.path(), &args);
    until("the old files are gone", || {
        captures(dir.path()).is_empty().then_some(())
    });
    assert_eq!(ctl(&capture, &["max-age", "none"]), "max-age 1s -> none");
    assert!(ctl(&capture, &["max-bytes", "2MB"]).contains("-> 2000000"));
    drop(capture.end());
    assert!(!before.is_empty());
}

/// Age is time that passes: a file that is dated ahead stops nothing, and a limit that comes later
/// holds for what is in the live file as well.
#[test]
fn age_is_time_that_passes() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send(&lab, &mut capture, 100, 100);
    drop(capture.end());
    let dated_ahead = captures(dir.path()).remove(0);
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let file = fs::File::options().write(true).open(&dated_ahead).unwrap();
    file.set_modified(std::time::SystemTime::now() + year)
        .unwrap();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    send(&lab, &mut capture, 100, 100);
    assert_eq!(captures(dir.path()), [dated_ahead]);
    assert_eq!(ctl(&capture, &["max-age", "2s"]), "max-age none -> 2s");
    let holds_packets = || {
        let live = fs::read_dir(dir.path()).unwrap().flatten();
        let live = live.filter(|entry| entry.file_name().to_str().unwrap().contains(".live."));
        live.map(|entry| read(&entry.path()).packets.len()).sum()
    };
    until("no packet is there any more", || {
        let left: usize = holds_packets();
        (captures(dir.path()).is_empty() && left == 0).then_some(())
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 100);
}

#[test]
fn kept_files_leave_the_ring_with_their_packets() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [&SMALL[..], &["--files", "2"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 500, 500);
    let said = ctl(&capture, &["keep", "--last", "10m"]);
    assert!(said.starts_with("kept 1 files"), "{said}");
    let kept = dir.path().join("kept");
    let of = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_none_or(|end| end != "idx"))
            .collect()
    };
    let first = of(&kept).remove(0);
    let file = of(&first).remove(0);
    assert_eq!(read(&file).packets.len(), 500);
    // The ring goes round, and the file stays as it was.
    send(&lab, &mut capture, 12_000, 12_500);
    assert_eq!(read(&file).packets.len(), 500);
    assert_eq!(
        file.metadata().unwrap().nlink(),
        1,
        "the ring has given up its own name"
    );
    // What comes next is kept as well, into a directory that is named.
    let to = dir.path().join("evidence");
    let said = ctl(
        &capture,
        &["keep", "--next", "1s", "--to", to.to_str().unwrap()],
    );
    assert!(said.contains("will follow"), "{said}");
    send(&lab, &mut capture, 50, 12_550);
    let next = until("the file that holds it is kept", || {
        of(&to)
            .into_iter()
            .find(|file| !read(file).packets.is_empty())
    });
    assert!(read(&next).packets.len() >= 50);
    let ended = capture.end();
    ended.assert_balanced();
    assert!(
        ended.said.contains("by uid") || ended.said.contains("for uid 0"),
        "{}",
        ended.said
    );
    // Another file system is said to be one.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 10, 10);
    let mut command = Command::new(LWNFLOG);
    command.args(["ctl", "--directory"]).arg(capture.runtime());
    let refused = output(
        command
            .args(["keep", "--last", "1h", "--to"])
            .arg(shm.path()),
        "",
    );
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("another file system"), "{said}");
    capture.end();
}

#[test]
fn a_rule_has_files_kept() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    nft(
        lab.receiver(),
        "table ip canary { chain c { type filter hook prerouting priority 0; udp dport 9999 log group 9; }\n}",
    );
    let options = [
        "--keep-on",
        "9",
        "--last",
        "10m",
        "--next",
        "0",
        "--keep-every",
        "1h",
    ];
    let args = [&SMALL[..], &options].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 300, 300);
    let canary = "exec 3>/dev/udp/198.18.0.2/9999; echo x >&3";
    assert!(!dir.path().join("kept").exists());
    trigger(&lab, canary);
    capture.wait_said("for group 9");
    let turns = fs::read_dir(dir.path().join("kept")).unwrap().count();
    assert_eq!(turns, 1);
    // Not so soon again: at the end, at the latest.
    trigger(&lab, canary);
    send(&lab, &mut capture, 100, 400);
    assert_eq!(fs::read_dir(dir.path().join("kept")).unwrap().count(), 1);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(fs::read_dir(dir.path().join("kept")).unwrap().count(), 2);
    // A group that is captured is no trigger.
    let mut refused = lab.receiver().command(LWNFLOG).unwrap();
    let refused = output(refused.args(["--group", "5", "--keep-on", "5"]), "");
    assert_eq!(refused.status.code(), Some(2));
}

/// A packet for the canary's port.
/// tcpdump's own example of -z: what the command makes of a file counts, is removed in its turn, and is not
/// handed over again.
#[test]
fn files_that_a_command_compresses_are_within_the_limit() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [&SMALL[..], &["--files", "4", "-z", "gzip"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    for round in 1..=12 {
        send(&lab, &mut capture, 100, 100 * round);
        capture.signal(Signal::HUP);
        let number = format!("g5-{round:06}-");
        until("it has been compressed, or given up", || {
            let of_it = captures(dir.path());
            let mut of_it = of_it
                .iter()
                .filter(|path| path.to_str().unwrap().contains(&number));
            of_it
                .all(|path| path.extension().unwrap() == "gz")
                .then_some(())
        });
    }
    let left = captures(dir.path());
    assert!((3..=4).contains(&left.len()), "{left:?}");
    let ended = capture.end();
    ended.assert_balanced();
    assert!(!ended.said.contains("failed"), "{}", ended.said);
    assert_eq!(
        plain_names(&captures(dir.path())),
        plain_names(&ended.files())
    );
    // The next start counts them too, and has nothing to do with them.
    let args = [&SMALL[..], &["--files", "2", "-z", "gzip"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 100, 100);
    until("the limit holds", || {
        (captures(dir.path()).len() <= 2).then_some(())
    });
    let ended = capture.end();
    assert!(
        !ended.said.contains("wait since") && !ended.said.contains("failed"),
        "{}",
        ended.said
    );
    // A reader says what they are.
    let read = output(
        Command::new(LWNFLOG)
            .arg("read")
            .arg("--count")
            .arg(dir.path()),
        "",
    );
    assert!(
        String::from_utf8_lossy(&read.stderr).contains("gzip"),
        "{read:?}"
    );
}

/// What a command leaves behind ends: it comes to nobody else, such as a capture that is process 1.
#[test]
fn what_commands_leave_behind_is_waited_for() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut command = lab.receiver().command("unshare").unwrap();
    command
        .args([
            "-p",
            "-f",
            "--mount-proc",
            "--kill-child",
            LWNFLOG,
            "--json",
        ])
        .args(SMALL);
    command.args([
        "--on-rotate-shell",
        "-z",
        "sh -c 'sleep 0.2 & echo $! >>orphans' & wait $!",
    ]);
    let command = command
        .current_dir(dir.path())
        .arg("-w")
        .arg(dir.path().join("ring"));
    let mut capture = Running::spawn(command);
    capture.wait_said("capturing");
    let children = format!("/proc/{0}/task/{0}/children", capture.pid());
    let inner: i32 = fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    for round in 1..=3 {
        send(&lab, &mut capture, 10, 10 * round);
        let pid = rustix::process::Pid::from_raw(inner).unwrap();
        rustix::process::kill_process(pid, Signal::HUP).unwrap();
        until("the command has left a process", || {
            let orphans = fs::read_to_string(dir.path().join("orphans")).unwrap_or_default();
            (orphans.lines().count() as u64 == round).then_some(())
        });
    }
    // Of its namespace: init, its chores, and nobody else once they have ended.
    until("none of them is left", || {
        let ps = [
            "-t",
            &inner.to_string(),
            "-p",
            "-m",
            "ps",
            "-eo",
            "stat=,comm=",
        ];
        let listed = run(Command::new("nsenter").args(ps), "");
        let left = listed
            .lines()
            .filter(|line| line.contains("sleep") || line.trim().starts_with('Z'));
        (left.count() == 0).then_some(())
    });
    let pid = rustix::process::Pid::from_raw(inner).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    capture.wait_end();
}

fn trigger(lab: &Lab, command: &str) {
    run_in(lab.sender(), "bash", &["-c", command]);
}

#[test]
fn the_ring_of_a_hook_has_its_files_handed_over_too() {
    let (lab, dir) = (lab(), temp_dir());
    let args = ["--hook", "--compress", "lz4", "--iface", lwnflog::lab::RX];
    let capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 200);
    let ended = capture.end_by(Signal::TERM);
    ended.assert_balanced();
    let plain = plain_names(&ended.files()).remove(0);
    let compressed = plain.with_extension("pcapng.lz4");
    assert!(compressed.exists() && !plain.exists(), "{}", ended.said);
}

/// The process that does what is to be done with finished files, of a capture.
fn chores_of(capture: &Running) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", capture.pid());
    fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Ends that process, and the commands that it runs.
fn kill_chores(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
}

/// A command that never ends, or a process for files that is stopped: the report is there, and a
/// second signal ends the waiting.
#[test]
fn the_report_waits_for_nobody() {
    for (command, stopped) in [("sh -c 'sleep 1000'", false), ("true", true)] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [&SMALL[..], &["-z", command]].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        send(&lab, &mut capture, 100, 100);
        let chores = chores_of(&capture);
        if stopped {
            let pid = rustix::process::Pid::from_raw(chores).unwrap();
            rustix::process::kill_process(pid, Signal::STOP).unwrap();
        }
        capture.signal(Signal::INT);
        let said = capture.wait_said("are not yet compressed, or handed to --on-rotate");
        assert!(said.contains("1 finished files"), "{said}");
        let shown = capture.shown();
        assert!(
            shown.last().unwrap().contains("\"written\":100"),
            "{shown:?}"
        );
        assert!(
            capture.said().contains("lost  0.0000 %"),
            "{}",
            capture.said()
        );
        // More than half a second has passed: this is another one.
        capture.signal(Signal::INT);
        until("it has ended", || capture.has_ended().then_some(()));
        kill_chores(chores);
        assert_eq!(capture.wait_end().status.code(), Some(130));
    }
}

/// Whatever was waiting when a capture was killed, with all of its processes, is done by the next
/// one; what was done is not done again.
#[test]
fn what_a_killed_capture_has_left_is_taken_up() {
    for compress in [&[][..], &["--compress", "lz4"]] {
        let (lab, dir, place) = (lab(), temp_dir(), temp_dir());
        load_capture_rules(lab.receiver());
        let at = |name: &str| place.path().join(name);
        // Files of a run without a command are none of its business.
        let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
        send(&lab, &mut capture, 10, 10);
        capture.end();
        let before = captures(dir.path());
        let command = format!(
            "while [ -e {0}/hold ]; do sleep 0.02; done; echo \"$1\" >> {0}/list",
            place.path().display()
        );
        let options = ["-z", &command, "--on-rotate-shell"];
        let args = [&SMALL[..], compress, &options].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        let list = || fs::read_to_string(at("list")).unwrap_or_default();
        let lines = || list().lines().count();
        send(&lab, &mut capture, 10, 10);
        ctl(&capture, &["rotate"]);
        let first = if compress.is_empty() { 1 } else { 2 };
        until("the first is done", || (lines() == first).then_some(()));
        fs::write(at("hold"), "").unwrap();
        for turn in 2..=5 {
            send(&lab, &mut capture, 10, 10 * turn);
            ctl(&capture, &["rotate"]);
        }
        send(&lab, &mut capture, 10, 60);
        let chores = chores_of(&capture);
        capture.signal(Signal::KILL);
        kill_chores(chores);
        capture.wait_end();
        assert_eq!(lines(), first, "{}", list());
        fs::remove_file(at("hold")).unwrap();
        // The live one is finished by the next start, too.
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        capture.wait_said("4 finished files wait since an earlier run");
        let all = if compress.is_empty() { 6 } else { 7 };
        until("all are done", || (lines() == all).then_some(()));
        capture.end();
        let capture = Running::capture(lab.receiver(), dir.path(), &args);
        assert!(
            !capture.said().contains("earlier run"),
            "{}",
            capture.said()
        );
        capture.end();
        let list = list();
        let mut done: Vec<_> = list.lines().map(PathBuf::from).collect();
        done.sort();
        let mut wanted = captures(dir.path());
        if compress.is_empty() {
            wanted.retain(|file| !before.contains(file));
        }
        assert_eq!(done, wanted);
    }
}

/// All packets of the files below `kept`.
fn kept_packets(dir: &Path) -> Vec<Vec<u8>> {
    let dirs = fs::read_dir(dir.join("kept")).unwrap().flatten();
    let files = dirs.flat_map(|dir| captures(&dir.path()));
    files
        .flat_map(|file| read(&file).packets)
        .map(|packet| packet.data)
        .collect()
}

/// What has just come is in the kernel yet.
#[test]
fn what_the_kernel_holds_is_kept_too() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [&SMALL[..], &["--group-owner", "nogroup"]].concat();
    let capture = Running::capture(lab.receiver(), dir.path().join("ring").as_path(), &args);
    assert!(ctl(&capture, &["keep", "--last", "10m"]).starts_with("kept 0 files for uid 0"));
    send_paced(&lab, 20);
    let said = ctl(&capture, &["keep", "--last", "10m"]);
    assert!(said.starts_with("kept 1 files"), "{said}");
    let ring = dir.path().join("ring");
    assert_eq!(kept_packets(&ring).len(), 20);
    send_paced(&lab, 20);
    assert_eq!(ctl(&capture, &["rotate"]), "went on to the next file");
    // Who may read the ring may read what is kept of it.
    let kept = ring.join("kept");
    let inner = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    let rights = |dir: &Path| {
        let meta = dir.metadata().unwrap();
        (meta.mode() & 0o7777, meta.gid())
    };
    assert_eq!(rights(&kept), rights(&ring));
    assert_eq!(rights(&inner), rights(&ring));
    capture.end().assert_balanced();
}

/// The packet that has files kept is the first that is to be in them.
#[test]
fn the_packet_that_triggers_is_kept() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    nft(
        lab.receiver(),
        "table ip canary { chain c { type filter hook prerouting priority 0; udp dport 9999 log group 9; }\n}",
    );
    let options = ["--keep-on", "9", "--last", "10m", "--next", "0"];
    let args = [&SMALL[..], &options].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    trigger(&lab, "exec 3>/dev/udp/198.18.0.2/9999; echo x >&3");
    let said = capture.wait_said("for group 9");
    assert!(said.contains("kept 1 files"), "{said}");
    let to_port = |packet: &&Vec<u8>| packet.get(36..38) == Some(&9999_u16.to_be_bytes());
    let packets = kept_packets(dir.path());
    assert_eq!(packets.iter().filter(to_port).count(), 1, "{packets:?}");
    capture.end();
}

/// Whatever is captured: the group that has files kept is bound, and it is said where no rule logs to it.
#[test]
fn a_trigger_without_a_rule_is_said_at_the_start() {
    for source in [&SMALL[..2], &["--hook"]] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let options = [
            "--keep-on",
            "9",
            "--last",
            "10m",
            "--next",
            "0",
            "--name",
            "k",
        ];
        let args = [source, &options].concat();
        let capture = Running::capture(lab.receiver(), &dir.path().join("1"), &args);
        let said = capture.end().said;
        assert!(said.contains("--keep-on 9: no nftables rule"), "{said}");
        nft(
            lab.receiver(),
            "table ip canary { chain c { type filter hook prerouting priority 0; udp dport 9999 log group 9; }\n}",
        );
        let mut capture = Running::capture(lab.receiver(), &dir.path().join("2"), &args);
        trigger(&lab, "exec 3>/dev/udp/198.18.0.2/9999; echo x >&3");
        let said = capture.wait_said("kept 1 files");
        assert!(!said.contains("--keep-on 9: no nftables rule"), "{said}");
        capture.end();
    }
}

/// A ring of two small files gives each up soon: what follows is kept all the same, without a gap.
#[test]
fn what_follows_is_kept_from_a_small_ring() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [&SMALL[..], &["--files", "2"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    under_traffic(&lab, 10_000, || {
        capture.wait_written(1000);
        ctl(&capture, &["keep", "--last", "1s", "--next", "2s"]);
        // Its time, and the end of the last file.
        let begun = Instant::now();
        until("its time is over", || {
            (begun.elapsed() > Duration::from_secs(3)).then_some(())
        });
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert!(!ended.said.contains("not kept"), "{}", ended.said);
    let dirs = fs::read_dir(dir.path().join("kept")).unwrap().flatten();
    let files: Vec<_> = dirs.flat_map(|dir| captures(&dir.path())).collect();
    assert!(files.len() >= 6, "more than the ring has: {files:?}");
    // Numbered as they came.
    let numbers = files.iter().map(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name[3..9].parse::<usize>().unwrap()
    });
    let numbers: Vec<_> = numbers.collect();
    let whole: Vec<_> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, whole);
}

/// A copy that went back, `touch`, a clock: a date of before its first packet says nothing of its last.
#[test]
fn a_file_of_an_earlier_date_is_kept_with_the_others() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    for turn in 1..=3 {
        send(&lab, &mut capture, 10, 10 * turn);
        ctl(&capture, &["rotate"]);
    }
    let files = until("they are finished", || {
        let files = captures(dir.path());
        (files.len() == 3).then_some(files)
    });
    let mut touch = Command::new("touch");
    run(touch.args(["-d", "1 hour ago"]).arg(&files[1]), "");
    let said = ctl(&capture, &["keep", "--last", "10m"]);
    assert!(said.starts_with("kept 3 files"), "{said}");
    assert_eq!(kept_packets(dir.path()).len(), 30);
    capture.end();
}

/// One file that goes between being listed and being kept is no reason to keep none.
#[test]
fn a_file_that_goes_meanwhile_leaves_the_others() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    for turn in 1..=4 {
        send(&lab, &mut capture, 10, 10 * turn);
        ctl(&capture, &["rotate"]);
    }
    let pid = capture.pid().to_string();
    let mut strace = Command::new("strace");
    let inject = "inject=linkat:error=ENOENT:when=4"; // the second file, or its index
    strace.args([
        "-e",
        "trace=linkat",
        "-e",
        inject,
        "-o",
        "/dev/null",
        "-p",
        &pid,
    ]);
    let mut strace = Running::spawn(&mut strace);
    strace.wait_said("attached");
    let said = ctl(&capture, &["keep", "--last", "10m"]);
    strace.end_by(Signal::INT);
    assert!(said.starts_with("kept 3 files"), "{said}");
    assert!(said.contains("1 more had just been given up"), "{said}");
    assert_eq!(kept_packets(dir.path()).len(), 30);
    capture.end();
}

/// Where files cannot be kept nothing is left, and nothing is said to follow.
#[test]
fn a_place_that_cannot_serve_is_refused_at_once() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    let refused = |to: &Path, says: &str| {
        let mut command = Command::new(LWNFLOG);
        command.args(["ctl", "--directory"]).arg(capture.runtime());
        let refused = output(command.args(["keep", "--next", "1s", "--to"]).arg(to), "");
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(says), "{said}");
    };
    refused(&other.path().join("a/b/c"), "another file system");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    // A link where the directory is to be.
    std::os::unix::fs::symlink(other.path(), dir.path().join("kept")).unwrap();
    let mut command = Command::new(LWNFLOG);
    command.args(["ctl", "--directory"]).arg(capture.runtime());
    let refused = output(command.args(["keep", "--last", "1s"]), "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("this is no directory"), "{said}");
    capture.end();
}

/// To the canary's port, with this payload.
fn canary(lab: &Lab, payload: &str) {
    let command = format!("exec 3>/dev/udp/198.18.0.2/9999; echo {payload} >&3");
    trigger(lab, &command);
}

fn load_canary(lab: &Lab) {
    nft(
        lab.receiver(),
        "table ip canary { chain c { type filter hook prerouting priority 0; udp dport 9999 log group 9; }\n}",
    );
}

/// Whether the canary's packet with this payload has been kept.
fn is_kept(dir: &Path, payload: &str) -> bool {
    let payload = format!("{payload}\n");
    let mut kept = kept_packets(dir).into_iter();
    kept.any(|packet| packet.get(42..42 + payload.len()) == Some(payload.as_bytes()))
}

/// An event that comes too soon is kept later, with what was there when it came, and not with what is
/// there by then.
#[test]
fn what_is_deferred_is_kept_with_its_own_time() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    load_canary(&lab);
    let options = [
        "--keep-on",
        "9",
        "--last",
        "1s",
        "--next",
        "0",
        "--keep-every",
        "5s",
    ];
    let args = [&SMALL[..], &options].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    canary(&lab, "first");
    capture.wait_said("for group 9");
    assert!(is_kept(dir.path(), "first"));
    canary(&lab, "second");
    assert_eq!(ctl(&capture, &["rotate"]), "went on to the next file");
    until("the second is kept, too", || {
        (capture.said().matches("for group 9").count() == 2).then_some(())
    });
    assert!(is_kept(dir.path(), "second"), "{}", capture.said());
    capture.end().assert_balanced();
}

/// However little comes after an event: it is kept, or it is said why it is not.
#[test]
fn no_event_is_forgotten_at_the_end() {
    for next in ["0", "1h"] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        load_canary(&lab);
        let options = [
            "--keep-on",
            "9",
            "--last",
            "1s",
            "--next",
            next,
            "--keep-every",
            "1h",
        ];
        let args = [&SMALL[..], &options].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        canary(&lab, "first");
        capture.wait_said("for group 9");
        canary(&lab, "second");
        ctl(&capture, &["rotate"]);
        // This one is in the kernel yet.
        canary(&lab, "third");
        let ended = capture.end();
        for event in ["first", "second", "third"] {
            assert!(is_kept(dir.path(), event), "{event}: {}", ended.said);
        }
        let before_its_time = ended.said.contains("before the time was over");
        assert_eq!(before_its_time, next == "1h", "{}", ended.said);
        assert!(ended.report["remarks"].to_string().contains("for group 9"));
    }
    // Where there is no room for it any more, that is said.
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    load_canary(&lab);
    let options = ["--keep-on", "9", "--next", "0", "--keep-bytes", "1b"];
    let args = [&SMALL[..], &options].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    canary(&lab, "first");
    capture.wait_said("for group 9");
    canary(&lab, "second");
    let ended = capture.end();
    assert!(ended.said.contains("not kept: "), "{}", ended.said);
}

/// What the ring has given up before it was asked for is not in what is kept.
#[test]
fn what_is_too_old_to_be_kept_is_said() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [&SMALL[..], &["--files", "2"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 100, 100);
    let said = ctl(&capture, &["keep", "--last", "10m"]);
    assert!(!said.contains("no longer in the ring"), "{said}");
    for turn in 2..=4 {
        send(&lab, &mut capture, 100, 100 * turn);
        ctl(&capture, &["rotate"]);
    }
    until("the first is gone", || {
        let left = captures(dir.path());
        let first = |file: &PathBuf| file.to_str().unwrap().contains("g5-000001-");
        (!left.is_empty() && !left.iter().any(first)).then_some(())
    });
    let said = ctl(&capture, &["keep", "--last", "10m"]);
    assert!(said.contains("is no longer in the ring"), "{said}");
    capture.end();
}

/// A file that has ended for an order and is not kept is in the order's answer, not on standard error alone.
#[test]
fn what_is_not_kept_is_in_the_answer() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    load_canary(&lab);
    let options = ["--keep-on", "9", "--keep-bytes", "200kB"];
    let args = [&SMALL[..], &options].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 3000, 3000);
    until("one file is full", || {
        (!captures(dir.path()).is_empty()).then_some(())
    });
    send(&lab, &mut capture, 100, 3100);
    let said = ctl(&capture, &["keep", "--last", "10m", "--next", "1h"]);
    assert!(said.contains("; one more is not: "), "{said}");
    assert!(said.contains("(--keep-bytes 200,000)"), "{said}");
    capture.end();
}

/// Files that are finished just now are waited for, and counted once.
#[test]
fn the_answer_counts_the_files_that_are_kept() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &SMALL);
    for turn in 1..=6 {
        send(&lab, &mut capture, 3000, 3000 * turn);
        let said = ctl(&capture, &["keep", "--last", "10m"]);
        let (_, behind) = said.split_once("kept ").unwrap();
        let (files, behind) = behind.split_once(" files ").unwrap();
        let (_, behind) = behind.split_once(" in ").unwrap();
        let (kept, _) = behind.split_once(" for ").unwrap();
        let there = captures(Path::new(kept)).len();
        assert_eq!(files.parse(), Ok(there), "{said}");
    }
    capture.end().assert_balanced();
}

/// The process that does what is to be done with finished files is killed, with its commands: it is
/// said, it is started again, and nothing is forgotten.
#[test]
fn chores_that_are_killed_go_on() {
    for compress in [&[][..], &["--compress", "lz4"]] {
        let (lab, dir, place) = (lab(), temp_dir(), temp_dir());
        load_capture_rules(lab.receiver());
        let at = |name: &str| place.path().join(name);
        let command = format!(
            "while [ -e {0}/hold ]; do sleep 0.02; done; echo \"$1\" >> {0}/list",
            place.path().display()
        );
        let options = ["-z", &command, "--on-rotate-shell"];
        let args = [&SMALL[..], compress, &options].concat();
        let list = || fs::read_to_string(at("list")).unwrap_or_default();
        fs::write(at("hold"), "").unwrap();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        for turn in 1..=4 {
            send(&lab, &mut capture, 10, 10 * turn);
            ctl(&capture, &["rotate"]);
        }
        let chores = rustix::process::Pid::from_raw(chores_of(&capture)).unwrap();
        rustix::process::kill_process(chores, Signal::KILL).unwrap();
        capture.wait_said("the process for finished files has ended (signal: 9 (SIGKILL))");
        fs::remove_file(at("hold")).unwrap();
        let begun = Instant::now();
        until("all are done", || {
            let all = list();
            let late = begun.elapsed() > Duration::from_secs(25);
            assert!(!late, "{all}\n{}", capture.said());
            (all.lines().count() == 4).then_some(())
        });
        send(&lab, &mut capture, 10, 50);
        let ended = capture.end();
        ended.assert_balanced();
        let mut done: Vec<_> = list().lines().map(PathBuf::from).collect();
        done.sort();
        assert_eq!(done, captures(dir.path()), "{}", ended.said);
        assert!(!ended.said.contains("given this file up"), "{}", ended.said);
    }
}

/// Killed at the very end, too: what is not done is said, and the next start does it.
#[test]
fn chores_that_are_killed_at_the_end_are_said() {
    let (lab, dir, place) = (lab(), temp_dir(), temp_dir());
    load_capture_rules(lab.receiver());
    let hold = place.path().join("hold");
    let command = format!("while [ -e {} ]; do sleep 0.02; done #", hold.display());
    let args = [&SMALL[..], &["-z", &command, "--on-rotate-shell"]].concat();
    fs::write(&hold, "").unwrap();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(&lab, &mut capture, 10, 10);
    let chores = chores_of(&capture);
    capture.signal(Signal::INT);
    capture.wait_said("1 finished files are not yet");
    kill_chores(chores);
    let ended = capture.wait_end();
    let says = "what is done with 1 finished files was ended: the next start takes them up";
    assert!(ended.said.contains(says), "{}", ended.said);
    fs::remove_file(&hold).unwrap();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    capture.wait_said("1 finished files wait since an earlier run");
    let said = capture.end().said;
    assert!(!said.contains("was ended"), "{said}");
}

#[test]
fn chores_that_are_stopped_are_said() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [&SMALL[..], &["-z", "true"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    let chores = chores_of(&capture);
    let pid = rustix::process::Pid::from_raw(chores).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    send(&lab, &mut capture, 10, 10);
    ctl(&capture, &["rotate"]);
    let said = capture.wait_said("the process for it is stopped");
    let remedy = said.split('`').nth(1).unwrap();
    run(Command::new("sh").args(["-c", remedy]), "");
    send(&lab, &mut capture, 10, 20);
    let ended = capture.end();
    assert!(!ended.said.contains("not yet"), "{}", ended.said);
}

/// What an earlier run has left counts at the end of a short one as well.
#[test]
fn a_backlog_that_a_short_run_does_not_finish_is_said_and_taken_up() {
    let (lab, dir, place) = (lab(), temp_dir(), temp_dir());
    load_capture_rules(lab.receiver());
    let at = |name: &str| place.path().join(name);
    let command = format!(
        "while [ -e {0}/hold ]; do sleep 0.02; done; echo \"$1\" >> {0}/list",
        place.path().display()
    );
    let args = [&SMALL[..], &["-z", &command, "--on-rotate-shell"]].concat();
    fs::write(at("hold"), "").unwrap();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    for turn in 1..=5 {
        send(&lab, &mut capture, 10, 10 * turn);
        ctl(&capture, &["rotate"]);
    }
    let chores = chores_of(&capture);
    capture.signal(Signal::KILL);
    kill_chores(chores);
    capture.wait_end();
    let short = [&args[..], &["--duration", "1s"]].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &short);
    capture.wait_said("5 finished files wait since an earlier run");
    let chores = chores_of(&capture);
    capture.wait_said("5 finished files are not yet");
    kill_chores(chores);
    let said = capture.wait_end().said;
    assert!(
        said.contains("what is done with 5 finished files was ended"),
        "{said}"
    );
    // It has its time, and does all of it.
    let mut capture = Running::capture(lab.receiver(), dir.path(), &short);
    capture.wait_said("5 finished files are not yet");
    fs::remove_file(at("hold")).unwrap();
    let said = capture.wait_end().said;
    assert!(!said.contains("was ended"), "{said}");
    let list = fs::read_to_string(at("list")).unwrap();
    let mut done: Vec<_> = list.lines().map(PathBuf::from).collect();
    done.sort();
    assert_eq!(done, captures(dir.path()));
}
