//! What `lwnflog rules` prints and what `--install-rule` installs are the same rules, and each of
//! their options selects what it says.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::process::Command;

use common::{LWNFLOG, Running, lab, namespace, nft, output, run_in, send_paced, temp_dir, until};
use lwnflog::lab::{Namespace, RX, Traffic};

fn rules(namespace: &Namespace, options: &[&str]) -> std::process::Output {
    let mut command = namespace.command(LWNFLOG).unwrap();
    output(command.arg("rules").args(options), "")
}

/// The table as nft lists it, but for what says whose it is.
fn listed(namespace: &Namespace) -> Vec<String> {
    let text = run_in(namespace, "nft", &["list", "table", "ip", "lwnflog"]);
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
    let options = ["--group", "5", "--install-rule", "--rate-limit", "10"];
    let capture = Running::capture(lab.receiver(), dir.path(), &options);
    send_paced(&lab, PACKETS);
    let beyond = || -> u64 {
        let text = run_in(
            lab.receiver(),
            "nft",
            &["list", "counter", "ip", "lwnflog", "beyond_rate"],
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
    let ended = capture.end();
    ended.assert_balanced();
    // What is passed over is in the account, and in the file.
    let passed_over = ended.number("/beyond_rate");
    assert_eq!(passed_over + ended.number("/detected"), PACKETS);
    assert!(ended.said.contains("beyond the rate"), "{}", ended.said);
    let file = fs::read(&ended.files()[0]).unwrap();
    let note = format!("beyond --rate-limit: {passed_over} packets passed over");
    let noted = file.windows(note.len()).any(|at| at == note.as_bytes());
    assert!(noted, "{note}");
    assert!(
        ended.number("/detected") >= 5 && seen > PACKETS / 2,
        "{}",
        ended.report
    );
}
