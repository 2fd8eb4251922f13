//! Control of a running capture: each change is in effect, accounted for, and in the file; what is
//! refused changes nothing; and clients of any kind do not disturb it.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::files::read;
use common::{
    Ended, LWNFLOG, Mounted, Running, copy_for_anybody, lab, load_capture_rules, number, output,
    run, run_in, send_paced, temp_dir, until, with_own_mounts,
};
use lwnflog::lab::{Lab, RX, Traffic};
use lwnflog::source::nflog::{Group, GroupConfig, NLBUFSIZ_SMALL_BYTES};
use lwnflog::source::{Arrival, Change, Source};
use rustix::process::Signal;
use serde_json::Value;

fn ctl(capture: &Running, words: &[&str]) -> Output {
    let mut command = Command::new(LWNFLOG);
    let directory = ["ctl", "--directory", capture.runtime().to_str().unwrap()];
    output(command.args(directory).args(words), "")
}

/// What it says to a command that succeeds.
fn done(capture: &Running, words: &[&str]) -> String {
    let output = ctl(capture, words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What it says to a command that does not.
fn refused(capture: &Running, words: &[&str]) -> String {
    let output = ctl(capture, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn settings(capture: &Running) -> Value {
    let answer: Value = serde_json::from_str(&done(capture, &["settings"])).unwrap();
    answer["settings"].clone()
}

/// Sends packets, and waits until all of them have arrived.
fn send(lab: &Lab, capture: &Running, packets: u64) {
    let received = || {
        let answer: Value = serde_json::from_str(&done(capture, &["stats"])).unwrap();
        let left = answer["stats"]["left_out"]["paused"].as_u64().unwrap_or(0);
        number(&answer, "/stats/received") + left
    };
    let before = received();
    send_paced(lab, packets);
    until("they have arrived", || {
        (received() >= before + packets).then_some(())
    });
}

fn socket(capture: &Running, name: &str) -> PathBuf {
    capture.runtime().join(format!("{name}.sock"))
}

/// All comments of its packets, in order.
fn comments(ended: &Ended) -> Vec<String> {
    let files = ended.files();
    let packets = files.iter().flat_map(|file| read(file).packets);
    packets.filter_map(|packet| packet.comment).collect()
}

fn pause_and_snaplen(source: &[&str]) {
    let (lab, dir) = (lab(), temp_dir());
    if source[0] == "--group" {
        load_capture_rules(lab.receiver());
    }
    if source[0] == "--queue" {
        // Not every kernel has nftables' `queue`.
        let rule = "-t raw -I PREROUTING -j NFQUEUE --queue-num 5 --queue-bypass";
        let words: Vec<_> = rule.split(' ').collect();
        run_in(lab.receiver(), "iptables-nft", &words);
    }
    let capture = Running::capture(lab.receiver(), dir.path(), source);
    send(&lab, &capture, 100);
    assert_eq!(done(&capture, &["pause"]), "paused");
    assert_eq!(settings(&capture)["paused"], true);
    send(&lab, &capture, 50);
    assert!(done(&capture, &["pause"]).contains("already"));
    assert_eq!(done(&capture, &["resume"]), "resumed");
    send(&lab, &capture, 30);
    assert_eq!(done(&capture, &["snaplen", "40"]), "snaplen 128 -> 40");
    send(&lab, &capture, 20);
    assert_eq!(
        done(&capture, &["snaplen", "0"]).split(' ').next(),
        Some("snaplen")
    );
    send(&lab, &capture, 10);
    let ended = capture.end();
    ended.assert_balanced();
    let paused = ended.report["left_out"]["paused"].as_u64().unwrap_or(0);
    assert_eq!(
        paused + ended.number("/skipped_paused"),
        50,
        "{}",
        ended.report
    );
    assert_eq!(ended.number("/written"), 160);
    let files = ended.files();
    assert_eq!(files.len(), 3, "{files:?}");
    let lengths: Vec<_> = files
        .iter()
        .map(|file| {
            let contents = read(file);
            let longest = contents
                .packets
                .iter()
                .map(|packet| packet.data.len())
                .max();
            (
                contents.packets.len(),
                longest.unwrap(),
                contents.interfaces[0].snaplen,
            )
        })
        .collect();
    assert_eq!((lengths[0].0, lengths[0].2), (130, 128));
    assert_eq!(lengths[1], (20, 40, 40));
    assert_eq!(lengths[2].0, 10);
    assert!(lengths[2].1 > 40 && lengths[2].2 >= 65_535, "{lengths:?}");
    let comments = comments(&ended).join("\n");
    for word in [
        "paused by uid 0",
        "resumed by uid 0",
        "snaplen 128 -> 40 by uid 0",
    ] {
        assert!(comments.contains(word), "{word}: {comments}");
    }
}

#[test]
fn a_group_pauses_and_cuts_otherwise() {
    pause_and_snaplen(&["--group", "5"]);
}

#[test]
fn a_queue_pauses_and_cuts_otherwise() {
    pause_and_snaplen(&["--queue", "5"]);
}

#[test]
fn a_hook_pauses_and_cuts_otherwise() {
    pause_and_snaplen(&["--hook", "--iface", RX]);
}

#[test]
fn a_hook_takes_other_interfaces_samples_and_cutoffs() {
    let (lab, dir) = (lab(), temp_dir());
    let options = ["--hook", "--iface", "lo", "--sample", "10"];
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, 100);
    assert_eq!(done(&capture, &["iface", RX]), format!("iface lo -> {RX}"));
    assert_eq!(done(&capture, &["sample", "1"]), "sample 10 -> 1");
    send_paced(&lab, 100);
    assert!(refused(&capture, &["cutoff", "1k"]).contains("begun without --cutoff"));
    assert!(refused(&capture, &["batch", "7"]).contains("no such setting"));
    assert!(refused(&capture, &["match", "tcp dport 443"]).contains("--install-rule"));
    let ended = capture.end();
    ended.assert_balanced();
    let left = |why: &str| ended.number(&format!("/left_out/{why}"));
    assert!(left("interface") >= 100);
    // The sample's own count of those to pass over may be on its way still.
    assert!(
        ended.number("/written") + left("sample") >= 100,
        "{}",
        ended.report
    );
    assert!(ended.number("/written") >= 90);
}

/// It takes all, and has the test that another needs.
#[test]
fn a_hook_begun_with_a_sample_of_one_takes_another() {
    let (lab, dir) = (lab(), temp_dir());
    let options = ["--hook", "--iface", RX, "--sample", "1"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, 100);
    capture.wait_written(100);
    assert_eq!(done(&capture, &["sample", "1000"]), "sample 1 -> 1000");
    send_paced(&lab, 1000);
    capture.wait_stats("most are left out", |stats| {
        number(stats, "/left_out/sample") > 500
    });
    capture.end().assert_balanced();
}

#[test]
fn an_installed_rule_is_changed_in_one_transaction() {
    let (lab, dir) = (lab(), temp_dir());
    let options = [
        "--group",
        "5",
        "--install-rule",
        "--match",
        "udp dport { 9, 53 }",
    ];
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    let rules = || {
        run_in(
            lab.receiver(),
            "nft",
            &["list", "table", "ip", "lwnflog-g5"],
        )
    };
    assert!(rules().contains("elements = { 9, 53 }"), "{}", rules());
    done(&capture, &["match", "udp dport { 10, 54 } ip ttl 64"]);
    assert!(rules().contains("elements = { 10, 54 }"), "{}", rules());
    done(&capture, &["iface", RX, "wan*"]);
    let now = rules();
    assert!(
        now.contains(&format!("iifname \"{RX}\"")) && now.contains("iifname \"wan*\""),
        "{now}"
    );
    for (words, says) in [
        (
            &["match", "tcp dport drop"][..],
            "does something to packets",
        ),
        (&["match", "no such thing"], "nft says"),
        (&["iface", "a/b"], "cannot be an interface"),
    ] {
        let said = refused(&capture, words);
        assert!(said.contains(says), "{words:?}: {said}");
        assert_eq!(rules(), now, "{words:?}");
    }
    done(&capture, &["match", "all"]);
    send(&lab, &capture, 200);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 200);
    assert!(
        comments(&ended)[0].contains("match"),
        "{:?}",
        comments(&ended)
    );
    let left = run_in(lab.receiver(), "nft", &["list", "ruleset"]);
    assert_eq!(left, "", "nothing is left behind");
}

#[test]
fn what_nobody_confirms_is_taken_back() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let said = done(&capture, &["--confirm", "1s", "batch", "10"]);
    assert!(said.contains("taken back in 1 s"), "{said}");
    until("it is taken back", || {
        (settings(&capture)["batch"] == 1024).then_some(())
    });
    done(&capture, &["--confirm", "1s", "flush-ms", "20"]);
    done(&capture, &["confirm"]);
    assert!(refused(&capture, &["confirm"]).contains("nothing to confirm"));
    for (words, says) in [
        (&["snaplen", "70000"][..], "65535"),
        (&["flush-ms", "5"], "10 to 100"),
        (&["files", "1"], "--files 1"),
        (&["file-size", "1k"], "too small"),
        (&["dance"], "`dance` is no command"),
        (&["g5", "dance"], "no command `dance`"),
    ] {
        let before = settings(&capture);
        let said = refused(&capture, words);
        assert!(said.contains(says), "{words:?}: {said}");
        assert_eq!(settings(&capture), before, "{words:?}");
    }
    done(&capture, &["files", "3"]);
    done(&capture, &["file-size", "300k"]);
    done(&capture, &["buffer-size", "1MiB"]);
    // A machine that is slow today has to hold all of them.
    done(&capture, &["buffer-size", "64MiB"]);
    send(&lab, &capture, 100);
    done(&capture, &["rotate"]);
    send(&lab, &capture, 20_000);
    assert_eq!(settings(&capture)["flush_ms"], 20);
    done(&capture, &["stop"]);
    let ended = capture.wait_end();
    assert!(ended.status.success(), "{}", ended.said);
    ended.assert_balanced();
    assert_eq!(ended.files().len(), 3);
}

#[test]
fn no_client_disturbs_the_capture() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let path = socket(&capture, "g5");
    let connect = || UnixStream::connect(&path).unwrap();
    // Those that hang, and those beyond the limit.
    let hanging: Vec<_> = (0..30).map(|_| connect()).collect();
    let refused = hanging.iter().filter(|stream| {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(1)))
            .unwrap();
        let mut line = String::new();
        let _ = BufReader::new(*stream).read_line(&mut line);
        line.contains("too many clients")
    });
    assert_eq!(refused.count(), 30 - lwnflog::control::server::CLIENTS_MAX);
    send_paced(&lab, 1000);
    drop(hanging);
    // Garbage is answered, and a request that has no end is left.
    until("there is room for a client", || {
        let mut stream = connect();
        stream
            .write_all(b"{}\n\xff\xfe\n[1,2]\n{\"v\":1,\"command\":\"stats\"}\n")
            .ok()?;
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let first = lines.next()?;
        if first.contains("too many") {
            return None;
        }
        assert!(first.contains("\"ok\":false"), "{first}");
        assert!(lines.next().unwrap().contains("\"ok\":false"));
        assert!(lines.next().unwrap().contains("\"ok\":false"));
        assert!(lines.next().unwrap().contains("\"ok\":true"));
        Some(())
    });
    let mut endless = connect();
    let _ = endless.write_all(&[b'x'; 100_000]);
    let mut answer = String::new();
    let _ = endless.read_to_string(&mut answer);
    // A thousand, one after the other.
    for _ in 0..1000 {
        drop(connect());
    }
    until("there is room again", || {
        ctl(&capture, &["stats"]).status.success().then_some(())
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 1000);
    assert!(!path.exists(), "its socket goes with it");
}

#[test]
fn others_may_look_if_they_are_let_and_change_nothing() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = copy_for_anybody(dir.path());
    for (options, says) in [
        (
            &["--group", "5"][..],
            ["Permission denied", "Permission denied"],
        ),
        (
            &["--group", "5", "--control-group", "nogroup"],
            ["", "takes root or the capture's own user"],
        ),
    ] {
        let capture = Running::capture(lab.receiver(), &dir.path().join("ring"), options);
        for (command, says) in ["stats", "pause"].into_iter().zip(says) {
            let mut nobody = Command::new("setpriv");
            nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            nobody.arg(&program).args(["ctl", "--directory"]);
            let done = output(nobody.arg(capture.runtime()).args(["g5", command]), "");
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(
                done.status.success(),
                says.is_empty(),
                "{options:?} {command}: {said}"
            );
            assert!(said.contains(says), "{options:?} {command}: {said}");
        }
        capture.end();
    }
}

/// A second one of the same name captures all the same, and what a killed one left is no obstacle.
#[test]
fn names_that_are_taken() {
    let (lab, dir) = (lab(), temp_dir());
    let runtime = temp_dir();
    let start = |group: &str, ring: &str, more: &[&str]| {
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        command.env("RUNTIME_DIRECTORY", runtime.path());
        command
            .args(["--json", "--group", group, "-w"])
            .arg(dir.path().join(ring));
        let mut capture = Running::spawn(command.args(more));
        capture.wait_said("capturing group");
        capture
    };
    let first = start("5", "a", &["--name", "wan"]);
    let mut second = start("6", "b", &["--name", "wan"]);
    second.wait_said("another capture of this name is there");
    second.end();
    assert!(runtime.path().join("wan.sock").exists());
    first.kill();
    let third = start("5", "a", &["--name", "wan"]);
    assert!(!third.said().contains("no control"), "{}", third.said());
    third.end();
    assert!(!runtime.path().join("wan.sock").exists());
}

/// Not on a terminal: a line a look, until the capture ends.
#[test]
fn a_watcher_sees_the_capture() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    send(&lab, &capture, 500);
    let mut command = Command::new(LWNFLOG);
    command
        .args(["watch", "--every", "200ms", "--directory"])
        .arg(capture.runtime());
    let watcher = Running::spawn(&mut command);
    send(&lab, &capture, 500);
    until("it has seen them", || {
        let seen = watcher.shown();
        seen.iter()
            .any(|line| line.starts_with("g5 ") && line.contains("written 1,000, dropped 0"))
            .then_some(())
    });
    capture.end().assert_balanced();
    assert!(
        watcher.wait_end().status.success(),
        "the end of a capture is none of its errors"
    );
}

/// What a capture does by itself where batches collapse: the group stays bound, nothing is lost, and
/// a batch is no larger than the piece that was asked for.
#[test]
fn batches_can_be_collected_in_smaller_pieces() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let largest = |group: &mut Group, packets: u64| {
        Traffic::new(64, packets).send(&lab, None).unwrap();
        let (mut received, mut largest) = (0, 0);
        while received < packets {
            if group.receive(true).unwrap() == Arrival::Batch {
                let count = group.count().packets;
                (received, largest) = (received + count, largest.max(count));
            }
        }
        largest
    };
    let in_namespace = || {
        let mut config = GroupConfig::new(5, 114);
        config.flush = Duration::from_secs(2);
        let mut group = Group::open(config).unwrap();
        let before = largest(&mut group, 2_000);
        group
            .change(&Change::BatchBytes(NLBUFSIZ_SMALL_BYTES))
            .unwrap();
        (before, largest(&mut group, 2_000))
    };
    let (before, after) = lab.receiver().run(in_namespace).unwrap();
    assert!(
        before > 500 && (2..=200).contains(&after),
        "{before}, then {after}"
    );
}

/// An interface that is not there, or has no packets of its own, is taken, and said; a buffer that the
/// kernel grants in part, too. What is asked for has one name, and what is granted another.
#[test]
fn what_an_order_does_not_do_is_said() {
    for source in [&["--group", "5", "--install-rule"][..], &["--hook"]] {
        let (lab, dir) = (lab(), temp_dir());
        run_in(
            lab.receiver(),
            "ip",
            &["link", "add", "br0", "type", "bridge"],
        );
        let port = ["link", "add", "p0", "type", "veth", "peer", "name", "p1"];
        run_in(lab.receiver(), "ip", &port);
        run_in(
            lab.receiver(),
            "ip",
            &["link", "set", "p0", "master", "br0"],
        );
        let options = [source, &["--iface", RX]].concat();
        let capture = Running::capture(lab.receiver(), dir.path(), &options);
        assert_eq!(
            done(&capture, &["iface", "lo"]),
            format!("iface {RX} -> lo")
        );
        for (name, says) in [
            ("nonexist", "there is no interface `nonexist`"),
            ("p0", "`p0` is a port of the bridge `br0`"),
        ] {
            let told = done(&capture, &["iface", name, RX]);
            assert!(told.contains(says), "{told}");
            assert!(capture.said().contains(says), "{}", capture.said());
        }
        let pattern = if source[0] == "--hook" { "lo" } else { "wan*" };
        assert!(!done(&capture, &["iface", pattern]).contains("no interface"));
        capture.end();
    }
    for source in [&["--group", "5", "--install-rule"][..], &["--queue", "5"]] {
        let (lab, dir) = (lab(), temp_dir());
        let options = [source, &["-B", "1MiB"]].concat();
        let capture = Running::capture(lab.receiver(), dir.path(), &options);
        let sizes = || {
            let told: Value = serde_json::from_str(&done(&capture, &["stats"])).unwrap();
            assert_eq!(told.get("buffer_bytes"), None);
            let asked = number(&told, "/settings/buffer_bytes");
            (asked, number(&told, "/granted_buffer_bytes"))
        };
        assert_eq!(sizes(), (1 << 20, 1 << 20));
        assert_eq!(
            done(&capture, &["buffer-size", "2MiB"]),
            "buffer-size 1048576 -> 2097152"
        );
        assert_eq!(sizes(), (2 << 20, 2 << 20));
        let told = done(&capture, &["buffer-size", "2GiB"]);
        let (asked, granted) = sizes();
        assert_eq!(asked, 2 << 30);
        assert_eq!(
            granted + 1 < asked,
            told.contains("granted a receive buffer of"),
            "{told}"
        );
        capture.end();
    }
}

/// Clients that say a byte now and then hold nobody else up, in whatever number.
#[test]
fn clients_that_drip_hold_nobody_up() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let path = socket(&capture, "g5");
    let done_ = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..lwnflog::control::server::CLIENTS_MAX {
            scope.spawn(|| {
                while !done_.load(Ordering::Relaxed) {
                    // Sent away, it comes again.
                    let mut stream = UnixStream::connect(&path).unwrap();
                    while stream.write_all(b"{").is_ok() && !done_.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(300));
                    }
                }
            });
        }
        let _done = Done(&done_);
        until("they have all places", || {
            let told = String::from_utf8_lossy(&ctl(&capture, &["settings"]).stderr).into_owned();
            told.contains("too many clients").then_some(())
        });
        until("there is a place", || {
            ctl(&capture, &["pause"]).status.success().then_some(())
        });
    });
    assert_eq!(settings(&capture)["paused"], true);
    capture.end();
}

/// An interface that is captured goes, comes, is renamed or set down: it is said, and stands in the file.
#[test]
fn an_interface_that_goes_meanwhile_is_said() {
    for source in [&["--group", "5", "--install-rule"][..], &["--hook"]] {
        let (lab, dir) = (lab(), temp_dir());
        let ip = |words: &str| {
            let words: Vec<_> = words.split(' ').collect();
            run_in(lab.receiver(), "ip", &words);
        };
        ip("link add one type veth peer name two");
        ip("link set one up");
        let names = format!("{RX},one");
        let options = [source, &["--iface", &names]].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        let unnamed = "there is no interface `one` in this network namespace";
        ip("link set one down");
        capture.wait_said("`one` is down");
        ip("link set one name three");
        capture.wait_said(unnamed);
        send(&lab, &capture, 10);
        ip("link set three name one");
        ip("link set one up");
        capture.wait_said("packets of `one` are captured again");
        send(&lab, &capture, 10);
        ip("link delete one");
        until("it is said once more", || {
            (capture.said().matches(unnamed).count() == 2).then_some(())
        });
        send(&lab, &capture, 10);
        let ended = capture.end();
        let comments = comments(&ended);
        for says in [unnamed, "packets of `one` are captured again"] {
            let noted = comments.iter().any(|comment| comment.contains(says));
            assert!(noted, "{says}: {comments:?}");
        }
    }
}

/// Members of `--control-group` that ask without an end, or take no answer, keep root from nothing.
#[test]
fn busy_readers_keep_root_from_nothing() {
    const ASK: &str = "import os, socket, sys, threading
ask = b'{\"v\":1,\"command\":\"stats\"}\\n' * 50
def client():
    while True:
        try:
            s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(1)
            while True:
                s.sendall(ask)
                if sys.argv[2] == 'takes':
                    while s.recv(65536).count(b'\\n') == 0: pass
        except OSError: pass
for _ in range(24): threading.Thread(target=client, daemon=True).start()
sys.stdin.read()
os._exit(0)";
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "--control-group", "nogroup"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    for takes in ["takes", "deaf"] {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        nobody
            .args(["/usr/bin/python3", "-c", ASK])
            .arg(socket(&capture, "g5"));
        let mut clients = nobody.arg(takes).stdin(Stdio::piped()).spawn().unwrap();
        let of_nobody = || {
            let mut nobody = Command::new("setpriv");
            nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            let ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(99))";
            nobody
                .args(["/usr/bin/python3", "-c", ask])
                .arg(socket(&capture, "g5"));
            let told = output(&mut nobody, "");
            String::from_utf8_lossy(&told.stdout).contains("too many clients")
        };
        until("they have all places", || of_nobody().then_some(()));
        for bytes in 64..84 {
            done(&capture, &["snaplen", &format!("{bytes}")]);
        }
        drop(clients.stdin.take());
        clients.wait().unwrap();
        done(&capture, &["snaplen", "128"]);
    }
    send_paced(&lab, 100);
    capture.wait_written(100);
    capture.end().assert_balanced();
}

/// Ends threads also where the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Which captures run is asked, not read from names of files.
#[test]
fn what_is_no_capture_is_not_listed() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let runtime = temp_dir();
    let metrics = format!("unix:{}/wan-metrics.sock", runtime.path().display());
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    // Of several directories the first.
    command.env(
        "RUNTIME_DIRECTORY",
        format!("{}:/nowhere", runtime.path().display()),
    );
    command.args(["--json", "--group", "5", "--metrics", &metrics, "-w"]);
    let mut capture = Running::spawn(command.arg(dir.path()));
    capture.wait_said("figures are served at");
    until("its socket is there", || {
        runtime.path().join("g5.sock").exists().then_some(())
    });
    drop(UnixListener::bind(runtime.path().join("dead.sock")).unwrap());
    std::fs::write(runtime.path().join("file.sock"), "").unwrap();
    let ask = |words: &[&str]| {
        let mut command = Command::new(LWNFLOG);
        command.args(["ctl", "--directory"]).arg(runtime.path());
        output(command.args(words), "")
    };
    let said = |output: &Output| {
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
    };
    assert_eq!(said(&ask(&["list"])), "g5\n");
    assert!(ask(&["settings"]).status.success());
    // For a user who may ask neither socket, too.
    for dir in [dir.path(), runtime.path()] {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut user = Command::new("setpriv");
    user.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(copy_for_anybody(dir.path()))
        .args(["ctl", "--directory"])
        .arg(runtime.path());
    std::fs::remove_file(runtime.path().join("dead.sock")).unwrap(); // he cannot tell
    assert_eq!(said(&output(user.arg("list"), "")), "g5\n");
    // One that is stopped is one, and does nothing later of what was given up.
    capture.signal(Signal::STOP);
    assert_eq!(said(&ask(&["list"])), "g5\n");
    let begun = Instant::now();
    let paused = ask(&["g5", "pause"]);
    assert!(
        said(&paused).contains("g5: no capture answers"),
        "{}",
        said(&paused)
    );
    assert!(
        said(&paused).contains("has not answered for 10 s"),
        "{}",
        said(&paused)
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    capture.signal(Signal::CONT);
    let settings = said(&ask(&["settings"]));
    assert!(settings.contains("\"paused\":false"), "{settings}");
    capture.end();
}

/// Two captures in one directory, each for a group of users of its own; and a directory in which
/// somebody else could put another socket in the place of ours.
#[test]
fn sockets_are_whose_they_are_said_to_be() {
    let (lab, dir) = (lab(), temp_dir());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = copy_for_anybody(dir.path());
    let runtime = dir.path().join("run");
    let start = |group: &str, readers: &str| {
        let mut command = lab.receiver().command("sh").unwrap();
        command.args(["-c", "umask 077; exec \"$@\"", "sh", LWNFLOG, "--json"]);
        command.args(["--group", group, "--control-group", readers, "-w"]);
        command.arg(dir.path().join(group));
        let mut capture = Running::spawn(command.env("RUNTIME_DIRECTORY", &runtime));
        capture.wait_said("capturing group");
        let socket = runtime.join(format!("g{group}.sock"));
        until("its socket is there", || socket.exists().then_some(()));
        let meta = socket.metadata().unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.gid().to_string()),
            (0o660, readers.to_owned())
        );
        capture
    };
    // A directory of an earlier version.
    std::fs::create_dir(&runtime).unwrap();
    std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o700)).unwrap();
    let captures = [start("5", "60001"), start("6", "60002")];
    for (user_group, name, may) in [
        ("60001", "g5", true),
        ("60001", "g6", false),
        ("60002", "g6", true),
        ("60002", "g5", false),
    ] {
        let mut user = Command::new("setpriv");
        user.args(["--reuid", "65534", "--regid", user_group, "--clear-groups"]);
        user.arg(&program)
            .args(["ctl", "--directory"])
            .arg(&runtime);
        let looked = output(user.args([name, "stats"]), "");
        let said = String::from_utf8_lossy(&looked.stderr).into_owned();
        assert_eq!(looked.status.success(), may, "{user_group} {name}: {said}");
    }
    for capture in captures {
        capture.end();
    }
    std::os::unix::fs::chown(&runtime, Some(65534), None).unwrap();
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    command
        .env("RUNTIME_DIRECTORY", &runtime)
        .args(["--json", "--group", "5", "-w"]);
    let mut capture = Running::spawn(command.arg(dir.path().join("5")));
    capture.wait_said("could be exchanged");
    capture.end();
    assert_eq!(std::fs::read_dir(&runtime).unwrap().count(), 0);
}

/// While the disk hangs the capture answers, and serves its figures.
#[test]
fn a_disk_that_hangs_keeps_nobody_from_asking() {
    let name = "a_disk_that_hangs_keeps_nobody_from_asking";
    with_own_mounts(name, || {
        let lab = lab();
        load_capture_rules(lab.receiver());
        let disk = Mounted::ext4(256 << 20);
        let runtime = temp_dir();
        let metrics = runtime.path().join("metrics");
        let place = format!("unix:{}", metrics.display());
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        command.env("RUNTIME_DIRECTORY", runtime.path());
        command.args([
            "--json",
            "--group",
            "5",
            "-C",
            "2MB",
            "--metrics",
            &place,
            "-w",
        ]);
        let mut capture = Running::spawn(command.arg(disk.path().join("ring")));
        capture.wait_said("figures are served at");
        send_paced(&lab, 1000);
        capture.wait_written(1000);
        let frozen = Frozen::new(&disk);
        // More than two files: the next cannot be had.
        send_paced(&lab, 60_000);
        for _ in 0..3 {
            let mut command = Command::new(LWNFLOG);
            command.args(["ctl", "--directory"]).arg(runtime.path());
            let asked = output(command.arg("stats"), "");
            assert!(
                asked.status.success(),
                "{}",
                String::from_utf8_lossy(&asked.stderr)
            );
            let mut stream = UnixStream::connect(&metrics).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("200 OK"), "{answer}");
        }
        drop(frozen);
        let ended = capture.end();
        ended.assert_balanced();
    });
}

/// A file system that takes no writes.
struct Frozen<'a>(&'a Mounted);

impl Frozen<'_> {
    fn new(disk: &Mounted) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("-f").arg(disk.path()), "");
        Frozen(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze")
            .arg("-u")
            .arg(self.0.path())
            .status();
        assert!(thawed.unwrap().success());
    }
}
