//! What `lwnflog rules` prints and what `--install-rule` installs are the same rules, and each of
//! their options selects what it says.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use common::{LWNFLOG, Running, lab, namespace, nft, output, run_in, send_paced, temp_dir, until};
use lwnflog::lab::{Namespace, RX, Traffic};

fn rules(namespace: &Namespace, options: &[&str]) -> std::process::Output {
    let mut command = namespace.command(LWNFLOG).unwrap();
    output(command.arg("rules").args(options), "")
}

/// The table as nft lists it, but for what says whose it is.
fn listed(namespace: &Namespace) -> Vec<String> {
    let text = run_in(namespace, "nft", &["list", "table", "ip", "lwnflog-g5"]);
    let lines = text.lines().map(|line| line.split(" # ").next().unwrap());
    lines
        .filter(|line| !line.trim().is_empty() && !line.contains("flags owner"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn text_and_messages_are_the_same_rules() {
    for options in [
        &["--group", "5"][..],
        &["--group", "5", "--iface", "eth*", "--prefix", "some"],
        &[
            "--group", "5", "--iface", "eth0", "--iface", "wan*", "--drop",
        ],
        &["--group", "5-7", "--iface", "eth0"],
        &["--group", "5-7", "--spread", "flow", "--at", "forward"],
        &["--group", "5", "--rate-limit", "1000", "--at", "input"],
        &["--group", "5", "--at", "output", "--iface", "lo"],
        &[
            "--group",
            "5-6",
            "--at",
            "postrouting",
            "--rate-limit",
            "7",
            "--iface",
            "a",
        ],
        &["--group", "5", "--match", "tcp dport 443 ip ttl > 3"],
        &["--group", "5", "--trace"],
        &[
            "--group",
            "5",
            "--at",
            "prerouting,accepted",
            "--match",
            "tcp dport 443",
        ],
        &[
            "--group",
            "5-6",
            "--match",
            "ip saddr 198.18.0.0/15",
            "--iface",
            "eth0",
        ],
    ] {
        let (printed, installed, dir) = (namespace(), namespace(), temp_dir());
        let text = rules(&printed, options);
        assert!(text.status.success(), "{options:?}: {text:?}");
        assert!(text.stderr.is_empty(), "{options:?}: {text:?}");
        nft(&printed, &String::from_utf8(text.stdout).unwrap());
        let mut all = vec!["--install-rule"];
        all.extend(options);
        let capture = Running::capture(&installed, dir.path(), &all);
        assert_eq!(listed(&installed), listed(&printed), "{options:?}");
        capture.end();
        let left = run_in(&installed, "nft", &["list", "ruleset"]);
        assert_eq!(left, "", "{options:?}");
    }
}

#[test]
fn what_is_no_selection_is_refused_before_it_is_printed() {
    for (expression, says) in [
        ("drop", "does something to packets"),
        ("tcp dport no-such-service-as-this", "nft says"),
        ("a } }", "braces"),
        ("include \"/etc/passwd\"", "is for files of rules"),
        ("tcp dport 443\ndrop", "contains '\\n'"),
        ("tcp dport 443; drop", "contains ';'"),
        ("tcp dport 443 # drop", "contains '#'"),
        ("tcp dport 443 \\", "contains '\\\\'"),
        ("iifname \"eth0", "quotation mark"),
        (
            "tcp dport vmap { 443 : accept }",
            "does something to packets",
        ),
        ("reset tcp option sack-perm", "does something to packets"),
    ] {
        let refused = rules(&namespace(), &["--group", "5", "--match", expression]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{expression}"
        );
        assert!(said.contains(says), "{expression}: {said}");
    }
    let mut command = Command::new(LWNFLOG);
    command
        .env_clear()
        .args(["rules", "--group", "5", "--match", "tcp dport 443"]);
    let without_path = output(&mut command, "");
    assert!(without_path.status.success(), "{without_path:?}");
}

/// A way would have gaps that nobody made.
#[test]
fn what_several_hooks_cannot_have_is_refused() {
    for (options, says) in [
        (&["--group", "5", "--iface", "eth0"][..], "no --iface"),
        (&["--group", "5-6"], "no second group"),
        (&["--group", "5", "--rate-limit", "9"], "no --rate-limit"),
        (&["--group", "5", "--drop"], "no --drop"),
        (&["--group", "5", "--prefix", "x"], "no --prefix"),
        (&["--queue", "5"], "no queue"),
    ] {
        for hooks in [&["--trace"][..], &["--at", "prerouting,forward"]] {
            let refused = rules(&namespace(), &[options, hooks].concat());
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && refused.stdout.is_empty());
            assert!(said.contains(says), "{options:?}: {said}");
        }
    }
    let unknown = rules(
        &namespace(),
        &["--group", "5", "--at", "prerouting,ingress"],
    );
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("`ingress` is no place for a rule"), "{said}");
}

/// Each at its hook, to the packet.
#[test]
fn each_option_selects_what_it_says() {
    const PACKETS: u64 = 300;
    for (options, written) in [
        (
            &["--group", "5", "--match", "udp dport 1-65535"][..],
            PACKETS,
        ),
        (&["--group", "5", "--match", "tcp dport 1-65535"], 0),
        (&["--group", "5-6", "--spread", "flow"], PACKETS),
        (&["--group", "5", "--iface", "no*", "--iface", RX], PACKETS),
        (&["--group", "5", "--iface", "no*"], 0),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        // Counts all, behind the capture's own.
        nft(
            lab.receiver(),
            "table ip t {\n counter seen { }\n chain c {\n type filter hook prerouting priority 0;\n \
             udp dport 1-65535 counter name seen\n }\n }\n",
        );
        let mut all = vec!["--install-rule"];
        all.extend(options);
        let capture = Running::capture(lab.receiver(), dir.path(), &all);
        send_paced(&lab, PACKETS);
        until("all have come", || {
            let counter = run_in(
                lab.receiver(),
                "nft",
                &["list", "counter", "ip", "t", "seen"],
            );
            counter
                .contains(&format!("packets {PACKETS} "))
                .then_some(())
        });
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), written, "{options:?}");
    }
}

/// What comes in bursts reaches the rate as well: an interface hands over what it has gathered.
#[test]
fn a_rate_limit_is_reached_in_bursts() {
    let (lab, dir) = (lab(), temp_dir());
    let options = ["--group", "5", "--install-rule", "--rate-limit", "1000"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    for burst in 0..8 {
        Traffic::new(64, 64).stream(burst).send(&lab, None).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(128));
    }
    // Half of what is allowed, 64 at a time: all of it.
    capture.wait_written(8 * 64);
    let ended = capture.end();
    assert_eq!(ended.number("/beyond_rate"), 0);
}

#[test]
fn beyond_the_rate_packets_go_on_unseen_and_are_counted() {
    const PACKETS: u64 = 2000;
    let (lab, dir) = (lab(), temp_dir());
    let socket = dir.path().join("metrics.sock").display().to_string();
    let metrics = format!("unix:{socket}");
    let options = [
        "--group",
        "5",
        "--install-rule",
        "--rate-limit",
        "10",
        "--metrics",
        &metrics,
    ];
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, PACKETS);
    let beyond = || -> u64 {
        let text = run_in(
            lab.receiver(),
            "nft",
            &["list", "counter", "ip", "lwnflog-g5", "beyond_rate"],
        );
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        words.nth(1).unwrap().parse().unwrap()
    };
    until("most of them are beyond it", || {
        (beyond() > PACKETS / 2).then_some(())
    });
    let seen = beyond();
    until("it is served", || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let wanted = format!("lwnflog_beyond_rate_packets_total {seen}\n");
        answer.contains(&wanted).then_some(())
    });
    let ended = capture.end();
    ended.assert_balanced();
    // What is passed over is in the account, and in the file.
    let passed_over = ended.number("/beyond_rate");
    assert_eq!(passed_over + ended.number("/detected"), PACKETS);
    assert!(ended.said.contains("beyond the rate"), "{}", ended.said);
    assert_eq!(noted_beyond(&ended.files()[0]), passed_over);
    assert!(
        ended.number("/detected") >= 5 && seen > PACKETS / 2,
        "{}",
        ended.report
    );
}

/// What the comments of a file say that a rate limit has passed over, in sum.
fn noted_beyond(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let notes = text.split("beyond --rate-limit: ").skip(1);
    let numbers = notes.map(|note| note.split(' ').next().unwrap().replace(',', ""));
    numbers.map(|number| number.parse::<u64>().unwrap()).sum()
}

/// Each file says what was passed over in its time, and all of them together everything.
#[test]
fn what_is_beyond_the_rate_stands_in_the_file_of_its_time() {
    let (lab, dir) = (lab(), temp_dir());
    let options = ["--group", "5", "--install-rule", "--rate-limit", "10"];
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    let live = || {
        let mut files = fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        files.find(|path| path.to_str().unwrap().contains(".live."))
    };
    for file in 0..3 {
        // Each time something that is recorded stands behind what was passed over.
        send_paced(&lab, 500);
        until("the live file says it", || {
            Traffic::new(64, 1).stream(file).send(&lab, None).unwrap();
            live().filter(|live| noted_beyond(live) > 300)
        });
        let before = live();
        capture.signal(rustix::process::Signal::HUP);
        until("it is finished", || (live() != before).then_some(()));
    }
    let ended = capture.end();
    let noted: Vec<_> = ended
        .files()
        .iter()
        .map(|file| noted_beyond(file))
        .collect();
    assert!(
        noted.len() >= 3 && noted[..3].iter().all(|noted| *noted > 300),
        "{noted:?}"
    );
    assert_eq!(
        noted.iter().sum::<u64>(),
        ended.number("/beyond_rate"),
        "{noted:?}"
    );
}

/// A file that is included could hold any statement, which the words do not show.
#[test]
fn no_file_smuggles_a_verdict_into_the_rule() {
    let (lab, dir) = (lab(), temp_dir());
    let file = dir.path().join("f");
    std::fs::write(&file, "accept\n").unwrap();
    let include = format!("include \"{}\"", file.display());
    let options = ["--group", "5", "--install-rule", "--match", &include];
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    let refused = output(command.args(options).arg("--discard"), "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("write what packets have to match"), "{said}");
    assert_eq!(run_in(lab.receiver(), "nft", &["list", "ruleset"]), "");
}

/// What is not decided yet where the rule stands is no selection: all or nothing would be recorded.
#[test]
fn what_is_decided_later_is_no_selection() {
    for (expression, at, says) in [
        ("ct state invalid", "prerouting", "--at input"),
        ("ct state new,established", "prerouting", "--at forward"),
        ("ct mark 5", "output", "--at postrouting"),
        ("meta mark 7", "prerouting", "--at input"),
        ("meta skuid 0", "prerouting", "--at output"),
        ("rt nexthop 192.0.2.1", "prerouting", "--at forward"),
        ("oifname \"lo\"", "prerouting", "--at postrouting"),
        ("iifname \"lo\"", "output", "--at prerouting"),
    ] {
        let options = ["--group", "5", "--at", at, "--match", expression];
        let refused = rules(&namespace(), &options);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && refused.stdout.is_empty());
        assert!(said.contains(says), "{expression}: {said}");
        let mut command = namespace().command(LWNFLOG).unwrap();
        let refused = output(
            command.args(options).args(["--install-rule", "--discard"]),
            "",
        );
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(says), "{expression}: {said}");
    }
}

/// The way out of it: at input connections are known. Of twenty datagrams to a port that nobody has,
/// the first is of a new connection, and so are all others, which no answer follows.
#[test]
fn connections_select_where_they_are_known() {
    for (expression, written) in [("ct state new", 20), ("ct state invalid", 0)] {
        let (lab, dir) = (lab(), temp_dir());
        let options = ["--group", "5", "--install-rule", "--at", "input"];
        let options = [&options[..], &["--match", expression]].concat();
        nft(
            lab.receiver(),
            "table ip t {\n chain c {\n type filter hook input priority 100;\n counter\n }\n}",
        );
        let capture = Running::capture(lab.receiver(), dir.path(), &options);
        send_paced(&lab, 20);
        until("all have come", || {
            let seen = run_in(lab.receiver(), "nft", &["list", "table", "ip", "t"]);
            seen.contains("packets 20 ").then_some(())
        });
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), written, "{expression}");
    }
}

/// A table each: none is in the way of another, and none replaces another's.
#[test]
fn captures_of_several_groups_have_a_table_each() {
    const PACKETS: u64 = 100;
    let (lab, five, six) = (lab(), temp_dir(), temp_dir());
    let loaded = rules(lab.receiver(), &["--group", "7"]);
    nft(lab.receiver(), &String::from_utf8(loaded.stdout).unwrap());
    let install = |group| ["--group", group, "--install-rule"];
    let first = Running::capture(lab.receiver(), five.path(), &install("5"));
    let second = Running::capture(lab.receiver(), six.path(), &install("6"));
    let loaded = rules(lab.receiver(), &["--group", "8-9"]);
    nft(lab.receiver(), &String::from_utf8(loaded.stdout).unwrap());
    send_paced(&lab, PACKETS);
    for capture in [first, second] {
        let mut capture = capture;
        capture.wait_written(PACKETS);
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), PACKETS);
    }
    let tables = run_in(lab.receiver(), "nft", &["list", "tables"]);
    assert_eq!(tables, "table ip lwnflog-g7\ntable ip lwnflog-g8\n");
}

/// As many as a blocklist has: no message of nftables holds them in one piece.
#[test]
fn thousands_of_addresses_select() {
    const ADDRESSES: u32 = 5_000;
    let list = |step: usize| {
        let addresses = (0..ADDRESSES).map(|n| format!("10.{}.{}.1", n >> 8, n & 255));
        addresses.step_by(step).collect::<Vec<_>>().join(", ")
    };
    for (expression, entries) in [
        (format!("ip saddr {{ {} }}", list(1)), 5_000),
        (format!("ip saddr {{ 10.0.0.0/32, {} }}", list(1)), 5_001),
        (format!("ip saddr != {{ {} }}", list(2)), 2_500),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        let options = ["--group", "5", "--install-rule", "--match", &expression];
        let capture = Running::capture(lab.receiver(), dir.path(), &options);
        let set = run_in(
            lab.receiver(),
            "nft",
            &["list", "set", "ip", "lwnflog-g5", "__set0"],
        );
        assert_eq!(set.matches(",").count() + 1, entries);
        capture.end();
    }
}

/// Whatever name is taken, nft takes the table that is printed.
#[test]
fn interfaces_that_nft_does_not_take_are_refused() {
    let namespace = namespace();
    for name in [
        "lo",
        "a*",
        "@x",
        "eth0.5",
        "a'b",
        "a#b",
        "a;b",
        "a{b",
        "x,y",
        "-x",
        "abcdefghijklmn*",
    ] {
        let option = format!("--iface={name}");
        let printed = rules(&namespace, &["--group", "5", &option]);
        assert!(printed.status.success(), "{name}: {printed:?}");
        nft(&namespace, &String::from_utf8(printed.stdout).unwrap());
    }
    for name in ["abcdefghijklmno*", "abcdefghijklmnop", "*", "eth\\*"] {
        let option = format!("--iface={name}");
        let refused = rules(&namespace, &["--group", "5", &option]);
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{name}"
        );
    }
}

/// What a host sends to all comes back to its own hook as a packet that came in: known by its source.
#[test]
fn own_broadcasts_come_back_and_can_be_left_out() {
    const SENT: u64 = 10;
    for (matching, written) in [
        (&[][..], SENT),
        (&["--match", "fib saddr type != local"], 0),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        let address = [
            "addr",
            "add",
            "192.0.2.1/24",
            "broadcast",
            "192.0.2.255",
            "dev",
            RX,
        ];
        run_in(lab.receiver(), "ip", &address);
        nft(
            lab.receiver(),
            "table ip t {\n chain c {\n type filter hook prerouting priority 0;\n udp dport 9 counter\n }\n}",
        );
        let options = [
            &["--group", "5", "--install-rule", "--iface", RX][..],
            matching,
        ]
        .concat();
        let capture = Running::capture(lab.receiver(), dir.path(), &options);
        let send = || {
            let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
            socket.set_broadcast(true).unwrap();
            for _ in 0..SENT {
                socket.send_to(b"all", "192.0.2.255:9").unwrap();
            }
        };
        lab.receiver().run(send).unwrap();
        until("all have come back", || {
            let seen = run_in(lab.receiver(), "nft", &["list", "table", "ip", "t"]);
            seen.contains(&format!("packets {SENT} ")).then_some(())
        });
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/written"), written);
    }
}
