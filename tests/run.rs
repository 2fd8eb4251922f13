//! `lwnflog run`: what a command sends and receives is recorded, its children's too and nobody else's;
//! it ends as it would without, and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{LWNFLOG, temp_dir, until};
use lwnflog::lab::Namespace;

/// Sends and receives: three datagrams to itself, and a connection with ten bytes each way.
const TALK: &str = "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('127.0.0.1', 5555))
for _ in range(3):
    u.sendto(b'datagram', ('127.0.0.1', 5555))
    u.recv(100)
server = socket.socket()
server.bind(('127.0.0.1', 7777))
server.listen()
client = socket.create_connection(('127.0.0.1', 7777))
accepted, _ = server.accept()
client.send(b'0123456789')
accepted.recv(10)
accepted.send(b'9876543210')
client.recv(10)
";

fn host() -> Namespace {
    let namespace = Namespace::new().unwrap();
    common::run_in(&namespace, "ip", &["link", "set", "lo", "up"]);
    namespace
}

fn run(namespace: &Namespace, file: &Path, command: &[&str]) -> Output {
    let mut run = namespace.command(LWNFLOG).unwrap();
    run.args(["run", "-w"]).arg(file).arg("--").args(command);
    run.output().unwrap()
}

/// What tshark finds in a file.
fn count(file: &Path, filter: &str) -> usize {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-Y", filter]);
    let found = tshark.output().unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    String::from_utf8_lossy(&found.stdout).lines().count()
}

/// The cgroups of `lwnflog run` that this process left, and tables, in all namespaces of the test.
fn nothing_left(namespace: &Namespace, pid: u32) {
    let name = format!("lwnflog-run-{pid}");
    until("the cgroup is gone", || {
        cgroup(&name).is_none().then_some(())
    });
    let rules = namespace
        .command("nft")
        .unwrap()
        .args(["list", "ruleset"])
        .output();
    let rules = String::from_utf8(rules.unwrap().stdout).unwrap();
    assert_eq!(rules, "");
}

fn cgroup(name: &str) -> Option<PathBuf> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", name])
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().next().map(PathBuf::from)
}

#[test]
fn its_own_packets_and_nobody_elses() {
    let (namespace, dir) = (host(), temp_dir());
    let file = dir.path().join("own.pcapng");
    // Somebody else, all the while.
    let mut other = namespace.command("ping").unwrap();
    let mut other = other
        .args(["-q", "-i", "0.01", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // A child of a child talks.
    let talk = format!("python3 -c \"{TALK}\"");
    let done = run(
        &namespace,
        &file,
        &[
            "sh",
            "-c",
            &format!("sh -c '{}' ; exit 7", talk.replace('\'', "'\\''")),
        ],
    );
    other.kill().unwrap();
    other.wait().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert_eq!(count(&file, "icmp"), 0);
    // Each datagram was sent, and received.
    assert_eq!(count(&file, "udp.port == 5555"), 6);
    // The data of either side, twice.
    assert_eq!(count(&file, "tcp.len == 10"), 4);
    assert_eq!(count(&file, "tcp.flags.syn == 1 && tcp.flags.ack == 0"), 2);
    let all = count(&file, "ip");
    assert!(
        said.contains(&format!("{all} packets written to")),
        "{said}"
    );
    assert!(said.contains(", 0 lost"), "{said}");
}

#[test]
fn two_at_a_time_and_a_capture_beside() {
    let (namespace, dir) = (host(), temp_dir());
    let ping = ["python3", "-c", TALK];
    let files = ["a", "b"].map(|name| dir.path().join(name));
    let mut capture = common::Running::capture(
        &namespace,
        &dir.path().join("ring"),
        &["--group", "5", "--install-rule"],
    );
    for file in &files {
        let done = run(&namespace, file, &ping);
        assert!(done.status.success());
        assert_eq!(count(file, "udp.port == 5555"), 6);
    }
    capture.wait_stats("packets", |stats| common::number(stats, "/written") > 10);
    capture.end().assert_balanced();
}

#[test]
fn it_ends_as_the_command_does() {
    let (namespace, dir) = (host(), temp_dir());
    let file = dir.path().join("f.pcapng");
    for (command, status) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "kill -9 $$"], 128 + 9),
        (&["/no/such/command"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let done = run(&namespace, &file, command);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(status), "{command:?}: {said}");
        assert_eq!(count(&file, "ip"), 0);
    }
    // Nobody's file is overwritten without being named, and the command is not started then.
    fs::write(dir.path().join("touch.pcapng"), "precious").unwrap();
    let mut again = namespace.command(LWNFLOG).unwrap();
    let again = again
        .current_dir(dir.path())
        .args(["run", "--", "touch", "started"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        said.contains("touch.pcapng is there already: name a file with -w"),
        "{said}"
    );
    assert!(!dir.path().join("started").exists());
    assert_eq!(
        fs::read(dir.path().join("touch.pcapng")).unwrap(),
        b"precious"
    );
}

/// The stream goes to standard output, beside the command's; SIGTERM is handed on.
#[test]
fn a_signal_is_handed_on() {
    let (namespace, dir) = (host(), temp_dir());
    let mut run = namespace.command(LWNFLOG).unwrap();
    let script = "trap 'exit 5' TERM; touch ready; while :; do sleep 0.05; done";
    let run = run
        .current_dir(dir.path())
        .args(["run", "-q", "-w", "f.pcapng", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    until("it runs", || {
        dir.path().join("ready").exists().then_some(())
    });
    let pid = run.id();
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let done = run.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(5));
    nothing_left(&namespace, pid);
}

/// `kill -9` of lwnflog: the command goes on, unseen; rule and cgroup go.
#[test]
fn killed_it_leaves_nothing() {
    let (namespace, dir) = (host(), temp_dir());
    let mut run = namespace.command(LWNFLOG).unwrap();
    let script = "touch ready; while [ ! -e enough ]; do sleep 0.05; done; touch went-on";
    let mut run = run
        .current_dir(dir.path())
        .args(["run", "-w", "f.pcapng", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    until("it runs", || {
        dir.path().join("ready").exists().then_some(())
    });
    let name = format!("lwnflog-run-{}", run.id());
    let procs = cgroup(&name).unwrap().join("cgroup.procs");
    assert_ne!(fs::read_to_string(procs).unwrap(), "");
    run.kill().unwrap();
    assert_eq!(run.wait().unwrap().signal(), Some(9));
    nothing_left(&namespace, run.id());
    fs::write(dir.path().join("enough"), "").unwrap();
    until("it goes on", || {
        dir.path().join("went-on").exists().then_some(())
    });
}

/// Without the right: what it takes, and the command is not started.
#[test]
fn without_rights() {
    let dir = temp_dir();
    let program = common::copy_for_anybody(dir.path());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let done = command
        .current_dir("/")
        .arg(program)
        .args(["run", "-w", "-", "--", "echo", "started"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("it takes root"), "{said}");
    assert!(!String::from_utf8_lossy(&done.stdout).contains("started"));
}

/// Where the packets go to standard output, nothing else does.
#[test]
fn what_the_command_prints_is_not_in_the_stream() {
    let (namespace, dir) = (host(), temp_dir());
    let mut run = namespace.command(LWNFLOG).unwrap();
    let script = format!("echo noise; python3 -c \"{TALK}\"; echo more noise");
    run.args(["run", "-w", "-", "--", "sh", "-c", &script]);
    let done = run.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("noise\n") && said.contains("more noise\n"),
        "{said}"
    );
    let file = dir.path().join("stream.pcapng");
    fs::write(&file, &done.stdout).unwrap();
    assert!(count(&file, "udp.port == 5555") >= 3);
}

/// `nohup lwnflog run` ignores a hang-up, and so does its command; without it neither does.
#[test]
fn what_is_ignored_stays_so() {
    let (namespace, dir) = (host(), temp_dir());
    for (before, ignored) in [("trap '' HUP QUIT;", true), ("", false)] {
        let mut run = namespace.command("sh").unwrap();
        let script = format!("{before} exec \"$@\"");
        run.args(["-c", &script, "sh", LWNFLOG, "run", "-q", "-w"])
            .arg(dir.path().join("f.pcapng"))
            .args(["--", "grep", "SigIgn", "/proc/self/status"]);
        let done = run.output().unwrap();
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        let mask = shown.trim().rsplit('\t').next().unwrap();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert_eq!(mask & 0b101 == 0b101, ignored, "{shown}");
    }
}

/// The kernel gives sent packets no time: they are read one by one, and not a batch later.
#[test]
fn sent_packets_have_their_own_times() {
    const SENT: usize = 40;
    let (namespace, dir) = (host(), temp_dir());
    let file = dir.path().join("f.pcapng");
    let talk = format!(
        "
import socket, time
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({SENT}):
    u.sendto(b'datagram', ('127.0.0.1', 5555))
    time.sleep(0.02)
"
    );
    let done = run(&namespace, &file, &["python3", "-c", &talk]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(said.contains("without kernel time"), "{said}");
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file);
    tshark.args([
        "-Y",
        "udp.dstport == 5555 && !icmp",
        "-T",
        "fields",
        "-e",
        "frame.time_epoch",
    ]);
    let times = String::from_utf8(tshark.output().unwrap().stdout).unwrap();
    let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
    assert!(times.len() >= SENT, "{times:?}");
    let apart = times.windows(2).filter(|pair| pair[1] - pair[0] > 0.005);
    let apart = apart.count();
    assert!(apart > SENT / 2, "{apart}: {times:?}");
}

/// Where no cgroups of version 2 are mounted: the remedy mends it as it is printed and hides nothing,
/// no file is left, and the next run has one.
#[test]
fn without_cgroups_of_version_2() {
    common::with_own_mounts("without_cgroups_of_version_2", || {
        let (namespace, dir) = (host(), temp_dir());
        let shell = |script: &str| common::run(Command::new("sh").args(["-c", script]), "");
        shell("mount -t tmpfs none /run");
        shell(
            "awk '/ - cgroup2 /{print $5}' /proc/self/mountinfo | sort -r | xargs -r -n 1 umount -l",
        );
        let mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (before, program) = (mounted(), "true");
        let run = || {
            let mut run = namespace.command(LWNFLOG).unwrap();
            let run = run.current_dir(dir.path()).args(["run", "--", program]);
            run.output().unwrap()
        };
        let refused = run();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{said}");
        shell(said.split('`').nth(1).unwrap());
        for line in before.lines() {
            assert!(mounted().contains(line), "{line}");
        }
        let done = run();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        assert_eq!(count(&dir.path().join("true.pcapng"), "ip"), 0);
    });
}

/// A command that cannot be started has no packets, and leaves no file that would be in the way of
/// another try.
#[test]
fn what_was_not_started_leaves_no_file() {
    let (namespace, dir) = (host(), temp_dir());
    let script = dir.path().join("client");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    let run = || {
        let mut run = namespace.command(LWNFLOG).unwrap();
        let run = run.current_dir(dir.path()).args(["run", "--", "./client"]);
        run.output().unwrap()
    };
    let file = dir.path().join("client.pcapng");
    assert_eq!(run().status.code(), Some(126));
    assert!(!file.exists());
    common::run(Command::new("chmod").arg("+x").arg(&script), "");
    assert!(run().status.success());
    assert_eq!(count(&file, "ip"), 0);
    // A file that was there stays, whatever becomes of the command.
    fs::remove_file(&script).unwrap();
    let mut again = namespace.command(LWNFLOG).unwrap();
    let again = again
        .current_dir(dir.path())
        .args(["run", "-w", "client.pcapng", "--", "./client"])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(127));
    assert!(file.exists());
}

/// A command that goes into the background: its children are captured no more, and that is said.
#[test]
fn what_goes_on_behind_the_command_is_said() {
    let (namespace, dir) = (host(), temp_dir());
    let file = dir.path().join("f.pcapng");
    let script = "{ while [ ! -e \"$0\" ]; do sleep 0.05; done; rm \"$0\"; } >/dev/null 2>&1 &";
    let end = dir.path().join("enough");
    let done = run(
        &namespace,
        &file,
        &["sh", "-c", script, end.to_str().unwrap()],
    );
    fs::write(&end, "").unwrap();
    // With the directory its sign to end would go, and it would wait for ever.
    until("it ends", || (!end.exists()).then_some(()));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("that the command has started and that go on: "),
        "{said}"
    );
}

/// A signal that a terminal would give both, sent to `lwnflog run` alone: the command has it, too.
#[test]
fn an_interrupt_without_a_terminal_is_handed_on() {
    let (namespace, dir) = (host(), temp_dir());
    for signal in ["INT", "QUIT"] {
        let script = format!("trap 'exit 5' {signal}; touch ready; while :; do sleep 0.05; done");
        let ready = dir.path().join("ready");
        let mut run = namespace.command("setsid").unwrap();
        let mut run = run
            .current_dir(dir.path())
            .args([
                LWNFLOG, "run", "-q", "-w", "f.pcapng", "--", "sh", "-c", &script,
            ])
            .spawn()
            .unwrap();
        until("it runs", || ready.exists().then_some(()));
        let pid = run.id().to_string();
        common::run(Command::new("kill").args(["-s", signal, &pid]), "");
        let status = until("it has ended", || run.try_wait().unwrap());
        assert_eq!(status.code(), Some(5), "{signal}");
        fs::remove_file(ready).unwrap();
    }
}
