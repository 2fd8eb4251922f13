//! Control of a running capture: each change is in effect, accounted for, and in the file; what is
//! refused changes nothing; and clients of any kind do not disturb it.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use common::files::read;
use common::{
    Ended, LWNFLOG, Running, copy_for_anybody, lab, load_capture_rules, number, output, run_in,
    send_paced, temp_dir, until,
};
use lwnflog::lab::{Lab, RX, Traffic};
use lwnflog::source::nflog::{Group, GroupConfig, NLBUFSIZ_SMALL_BYTES};
use lwnflog::source::{Arrival, Change, Source};
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
