//! Orders to a running capture, whatever happens: a refused one has changed nothing, one that nobody
//! confirms is taken back and nothing else is, and no request ends a capture.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::files::read;
use common::{Running, lab, load_capture_rules, nft, number, run_in, send_paced, temp_dir, until};
use lwnflog::lab::{Lab, RX};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A connection to a capture's control socket.
struct Client(BufReader<UnixStream>);

impl Client {
    fn of(capture: &Running, name: &str) -> Client {
        let path = capture.runtime().join(format!("{name}.sock"));
        Client(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
        self.0.get_mut().write_all(b"\n").unwrap();
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(&request.to_string());
        self.answer()
    }

    fn order(&mut self, command: &str, args: &[&str], confirm: Option<u64>) -> Value {
        let mut request = json!({"v": 1, "command": command, "args": args});
        if let Some(secs) = confirm {
            request["confirm_secs"] = secs.into();
        }
        self.ask(&request)
    }

    #[track_caller]
    fn done(&mut self, command: &str, args: &[&str], confirm: Option<u64>) -> String {
        let answer = self.order(command, args, confirm);
        assert_eq!(answer["ok"], true, "{command} {args:?}: {answer}");
        answer["done"].as_str().unwrap_or_default().to_owned()
    }

    fn setting(&mut self, name: &str) -> Value {
        self.ask(&json!({"v": 1, "command": "settings"}))["settings"][name].clone()
    }
}

/// More packets wait in the socket than it has room for, each in a datagram of its own, when the
/// capture is told to pause: the kernel's word that it is done finds no room, or stands behind all
/// of them.
fn paused_behind_a_backlog(source: &[&str], name: &str) {
    let (lab, dir) = (lab(), temp_dir());
    match source[0] {
        "--group" => load_capture_rules(lab.receiver()),
        _ => {
            let rule = "-t raw -I PREROUTING -j NFQUEUE --queue-num 5 --queue-bypass";
            let words: Vec<_> = rule.split(' ').collect();
            run_in(lab.receiver(), "iptables-nft", &words);
        }
    }
    let capture = Running::capture(lab.receiver(), dir.path(), source);
    let mut client = Client::of(&capture, name);
    for (order, args) in [("pause", &[][..]), ("resume", &[]), ("snaplen", &["60"])] {
        capture.signal(Signal::STOP);
        send_paced(&lab, 3000);
        client.send(&json!({"v": 1, "command": order, "args": args}).to_string());
        capture.signal(Signal::CONT);
        let answer = client.answer();
        assert_eq!(answer["ok"], true, "{order}: {answer}");
        send_paced(&lab, 100);
    }
    assert_eq!(client.setting("snaplen"), 60);
    let ended = capture.end();
    ended.assert_balanced();
    assert!(ended.number("/skipped_paused") >= 100, "{}", ended.report);
    let packets = ended
        .files()
        .into_iter()
        .flat_map(|file| read(&file).packets);
    let shortest = packets.map(|packet| packet.data.len()).min();
    assert_eq!(shortest, Some(60), "no packet without its payload");
}

#[test]
fn a_group_behind_a_backlog_does_what_it_is_told() {
    paused_behind_a_backlog(&["--group", "5", "--batch", "1", "-s", "0"], "g5");
}

#[test]
fn a_queue_behind_a_backlog_does_what_it_is_told() {
    paused_behind_a_backlog(&["--queue", "5", "-B", "256KiB", "-s", "0"], "q5");
}

/// Of two groups one refuses: the other has changed nothing either.
#[test]
fn several_groups_change_together_or_not_at_all() {
    let (lab, dir) = (lab(), temp_dir());
    nft(
        lab.receiver(),
        "table ip t { chain c { type filter hook prerouting priority -300; log group 5 log group 6; }; }",
    );
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5,6"]);
    let mut client = Client::of(&capture, "g5-6");
    // The kernel takes no more requests from the thread of group 6.
    let thread = until("it has its name", || {
        let threads = fs::read_dir(format!("/proc/{}/task", capture.pid())).unwrap();
        let named = |task: &PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "capture-g6")
        };
        threads.map(|entry| entry.unwrap().path()).find(named)
    });
    let mut strace = Command::new("strace");
    strace.args([
        "-e",
        "inject=sendto:error=EPERM",
        "-e",
        "trace=sendto",
        "-o",
        "/dev/null",
        "-p",
    ]);
    let mut strace = Running::spawn(strace.arg(thread.file_name().unwrap()));
    strace.wait_said("attached");
    for (order, args) in [("pause", &[][..]), ("snaplen", &["40"]), ("batch", &["7"])] {
        let answer = client.order(order, args, None);
        assert_eq!(answer["ok"], false, "{order}: {answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(
            said.contains("not permitted") && !said.contains("not known"),
            "{said}"
        );
    }
    strace.end_by(Signal::INT);
    assert_eq!(client.setting("paused"), false);
    send_paced(&lab, 100);
    let ended = capture.end();
    for group in ended.report["groups"].as_array().unwrap() {
        assert_eq!(
            (number(group, "/written"), number(group, "/skipped_paused")),
            (100, 0),
            "{group:#}"
        );
    }
    for file in ended.files() {
        let packets = read(&file).packets;
        assert!(
            packets.iter().all(|packet| packet.data.len() == 64),
            "{}",
            file.display()
        );
    }
}

/// What is in force in the end is what was there before, or what somebody has said without
/// `--confirm`.
#[test]
fn what_is_not_confirmed_goes_in_any_sequence() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let mut client = Client::of(&capture, "g5");
    let settled = |client: &mut Client, name: &str, wanted: Value, after_secs: u64| {
        // All that was to be taken back has been.
        let due = Instant::now() + Duration::from_secs(after_secs) + Duration::from_millis(500);
        until("the time is over", || (Instant::now() >= due).then_some(()));
        assert_eq!(client.setting(name), wanted);
    };
    // Two that are not confirmed; the first goes first, and the last is in force until it goes.
    client.done("snaplen", &["64"], Some(1));
    client.done("snaplen", &["32"], Some(2));
    // Others at the same time: the last goes first, and what is below it comes back.
    client.done("batch", &["10"], Some(3));
    client.done("batch", &["20"], Some(1));
    // One that is to stay takes the place of one that is to be confirmed.
    client.done("flush-ms", &["20"], Some(1));
    client.done("flush-ms", &["50"], None);
    // What changed nothing takes nothing back.
    client.done("pause", &[], None);
    client.done("pause", &[], Some(1));
    client.done("resume", &[], None);
    client.done("max-age", &["1500ms"], None);
    client.done("max-age", &["2h"], Some(1));
    until("the first two are over", || {
        (client.setting("batch") == 10).then_some(())
    });
    settled(&mut client, "snaplen", 128.into(), 2);
    settled(&mut client, "batch", 1024.into(), 0);
    settled(&mut client, "flush_ms", 50.into(), 0);
    settled(&mut client, "paused", false.into(), 0);
    // To the millisecond: asked for again, nothing changes.
    assert_eq!(
        client.done("max-age", &["1500ms"], None),
        "max-age 1s 500ms -> 1s 500ms"
    );
    assert_eq!(client.order("confirm", &[], None)["ok"], false);
    // The reverse by hand.
    client.done("pause", &[], Some(1));
    client.done("resume", &[], None);
    settled(&mut client, "paused", false.into(), 1);
    // All that lie upon one another are confirmed together.
    client.done("batch", &["10"], Some(1));
    client.done("batch", &["20"], Some(1));
    assert_eq!(
        client.done("confirm", &[], None),
        "confirmed: changes that stay: 2"
    );
    settled(&mut client, "batch", 20.into(), 1);
    capture.end();
}

/// Chains, sets and interfaces of the rule that is taken back grow and shrink.
#[test]
fn an_installed_rule_is_taken_back_whatever_it_was() {
    let (lab, dir) = (lab(), temp_dir());
    let options = [
        "--group",
        "5",
        "--install-rule",
        "--iface",
        &format!("{RX},lo"),
    ];
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    let mut client = Client::of(&capture, "g5");
    let rules = |lab: &Lab| {
        let text = run_in(lab.receiver(), "nft", &["-s", "list", "ruleset"]);
        // Chains in any order.
        let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    let before = rules(&lab);
    for (command, args) in [
        ("iface", &[RX][..]),
        ("iface", &["all"]),
        ("iface", &["lo", RX, "wan*"]),
        ("match", &["udp dport { 9, 53 }"]),
        ("match", &["ip saddr { 10.0.0.1-10.0.0.9 } udp dport { 9 }"]),
    ] {
        client.done(command, args, Some(1));
        assert_ne!(rules(&lab), before, "{command} {args:?}");
        until("it is taken back", || (rules(&lab) == before).then_some(()));
    }
    for args in [&["all"][..], &[RX, "lo"], &["lo"], &[RX, "lo"]] {
        client.done("iface", args, None);
    }
    send_paced(&lab, 50);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 50);
}

/// Numbers as large as they can be, and requests that are anything: the capture answers each, and
/// goes on.
#[test]
fn no_request_ends_a_capture() {
    const ROUNDS: u64 = 1500;
    let (lab, dir) = (lab(), temp_dir());
    let options = [
        "--group",
        "5",
        "--install-rule",
        "-C",
        "300k",
        "--name",
        "fuzzed",
    ];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    let mut client = Client::of(&capture, "fuzzed");
    let most = u64::MAX.to_string();
    let in_bytes = format!("{most}b");
    let in_secs = format!("{most}s");
    let next = format!("next={}s", i64::MAX - 2_000_000_000);
    let commands = [
        "snaplen",
        "batch",
        "flush-ms",
        "buffer-size",
        "files",
        "file-size",
        "max-bytes",
        "max-age",
        "keep",
        "iface",
        "match",
        "sample",
        "cutoff",
        "confirm",
        "pause",
        "resume",
        "rotate",
        "settings",
        "stats",
        "list",
        "dance",
    ];
    let values = [
        &*most,
        &in_bytes,
        &in_secs,
        "8000000T",
        "6148915T",
        "4294967295",
        "4294967296",
        "1e18",
        "1e300",
        "NaN",
        "inf",
        "-1",
        "0",
        "1",
        "64",
        "300k",
        "none",
        "all",
        "last=1e18",
        "last=1s",
        &next,
        "next=1e300",
        "to=/dev/null/x",
        "a/b",
        "\0",
        "tcp dport 1\0",
        "{",
        "udp",
        "\u{1f980}",
        "100000y",
        "584554531y",
        "",
    ];
    client.done("snaplen", &["64"], Some(1));
    assert_eq!(client.order("pause", &[], Some(u64::MAX))["ok"], false);
    // A generator of one's own: each run asks the same.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..ROUNDS {
        let args: Vec<_> = (0..random(3))
            .map(|_| values[random(values.len())])
            .collect();
        let mut request =
            json!({"v": 1, "command": commands[random(commands.len())], "args": args});
        match random(6) {
            0 => request["confirm_secs"] = json!(u64::MAX >> random(64)),
            1 => request["confirm_secs"] = json!([1, 1.5, -1, "1"])[random(4)].clone(),
            2 => request["v"] = json!([0, 2, "1", null])[random(4)].clone(),
            _ => {}
        }
        let mut line = request.to_string();
        if random(20) == 0 {
            let cut = random(line.len());
            line.truncate(
                (0..=cut)
                    .rev()
                    .find(|at| line.is_char_boundary(*at))
                    .unwrap(),
            );
        }
        let answer = {
            client.send(&line);
            client.answer()
        };
        assert!(answer["ok"].is_boolean(), "{line}: {answer}");
        assert!(!capture.has_ended(), "{line}\n{}", capture.said());
    }
    client.done("resume", &[], None);
    client.done("iface", &["all"], None);
    client.done("match", &["all"], None);
    client.done("file-size", &["300k"], None);
    assert_eq!(client.order("confirm", &[], None)["v"], 1);
    assert!(!capture.said().contains("panicked"), "{}", capture.said());
    send_paced(&lab, 100);
    capture.end().assert_balanced();
    assert_eq!(run_in(lab.receiver(), "nft", &["list", "ruleset"]), "");
}
