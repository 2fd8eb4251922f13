//! The account while rules come, go, change and are many: what is counted is this capture's and
//! nobody else's, and nothing waits for all rules to be read.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Ended, LWNFLOG, Running, dropped, lab, load_capture_rules, nft, number, output, run_in,
    send_paced, temp_dir, until,
};
use lwnflog::lab::{Lab, Namespace, RX, Traffic};
use serde_json::Value;

fn chain(rule: &str) -> String {
    format!("chain prerouting {{ type filter hook prerouting priority -2147483647; {rule}; }}")
}

fn detected(stats: &Value) -> Option<u64> {
    stats["detected"].as_u64()
}

fn remarks(ended: &Ended) -> String {
    ended.report["remarks"].to_string()
}

fn send(lab: &Lab, stream: u16, packets: u64) {
    Traffic::new(64, packets)
        .stream(stream)
        .send(lab, None)
        .unwrap();
}

#[test]
fn what_a_counter_showed_before_it_was_seen_is_not_ours() {
    let (lab, dir) = (lab(), temp_dir());
    nft(
        lab.receiver(),
        "table ip old { counter past { packets 1000000 bytes 64000000 }\n\
         chain c { type filter hook prerouting priority -2147483647; }\n}",
    );
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let add = [
        "add", "rule", "ip", "old", "c", "counter", "name", "past", "log", "group", "5",
    ];
    run_in(lab.receiver(), "nft", &add);
    capture.wait_stats("the counter is seen", |stats| detected(stats) == Some(0));
    send(&lab, 0, 100);
    capture.wait_written(100);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/detected"), dropped(&ended.report)),
        (100, 0)
    );
    assert!(
        remarks(&ended).contains("showed 1,000,000 packets"),
        "{}",
        remarks(&ended)
    );
}

/// A firewall manager saves the rules with their values, and loads them again: the sum and the
/// groups agree.
#[test]
fn a_ruleset_that_is_loaded_again_with_its_values_counts_once() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    send(&lab, 0, 100);
    capture.wait_stats("they are counted", |stats| detected(stats) == Some(100));
    let saved = run_in(lab.receiver(), "nft", &["list", "ruleset"]);
    nft(lab.receiver(), &format!("flush ruleset\n{saved}"));
    capture.wait_stats("a look later", |stats| {
        stats["elapsed_secs"].as_f64().unwrap() > 3.0 && detected(stats) == Some(100)
    });
    send(&lab, 1, 110);
    let live = capture.wait_stats("all are written", |stats| number(stats, "/written") == 210);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(detected(&live), Some(210));
    assert_eq!(ended.number("/detected"), 210);
    assert_eq!(number(&ended.report["groups"][0], "/detected"), 210);
    assert!(
        remarks(&ended).contains("reset, reloaded or removed"),
        "{}",
        remarks(&ended)
    );
}

#[test]
fn a_second_rule_for_a_group_is_read_too() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    send(&lab, 0, 100);
    capture.wait_written(100);
    nft(
        lab.receiver(),
        "table ip second { chain c { type filter hook input priority 0; counter log group 5; }\n}",
    );
    let seen = |stats: &Value| stats["elapsed_secs"].as_f64().unwrap();
    let now = capture.wait_stats("a look", |stats| number(stats, "/written") == 100);
    let later = seen(&now) + 2.0;
    capture.wait_stats("another look", |stats| seen(stats) > later);
    send(&lab, 1, 100);
    capture.wait_stats("each comes twice", |stats| number(stats, "/written") == 300);
    // And it goes again.
    run_in(lab.receiver(), "nft", &["delete", "table", "ip", "second"]);
    send(&lab, 2, 50);
    capture.wait_stats("once again", |stats| number(stats, "/written") == 350);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/detected"), dropped(&ended.report)),
        (350, 0),
        "{:#}",
        ended.report
    );
}

/// A node of a cluster: very many rules, some of which change all the time.
fn with_many_changing_rules(namespace: &Namespace, body: impl FnOnce()) {
    // So many that no look at all of them is short: an unoptimized build takes ten times as long for each.
    const RULES: u32 = if cfg!(debug_assertions) {
        10_000
    } else {
        105_000
    };
    let mut text = "table ip many {\nchain changing { }\nchain services {\n".to_owned();
    for rule in 0..RULES {
        let [_, a, b, c] = rule.to_be_bytes();
        let _ = writeln!(text, "ip daddr 10.{a}.{b}.{c} tcp dport 443 counter accept");
    }
    text.push_str("}\n}\n");
    nft(namespace, &text);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Ever more slowly: a machine that takes long to read so many rules gets its turn, too.
            let mut pause = Duration::from_millis(300);
            while !done.load(Ordering::Relaxed) {
                let change = "flush chain ip many changing\n\
                              add rule ip many changing tcp dport 1 accept";
                nft(namespace, change);
                let until = Instant::now() + pause;
                while Instant::now() < until && !done.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
                pause = pause * 5 / 4;
            }
        });
        let body = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        done.store(true, Ordering::Relaxed);
        body.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn many_rules_that_change_hold_nothing_up() {
    let lab = lab();
    with_many_changing_rules(lab.receiver(), || {
        // A rule of its own: no look at the others, and an exact account.
        let dir = temp_dir();
        let options = ["--group", "5", "--install-rule"];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        send_paced(&lab, 1_000);
        capture.wait_written(1_000);
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/detected"), 1_000);
        // One that is there: found when it begins, and its counter read when it ends.
        nft(
            lab.receiver(),
            &format!(
                "table ip lwnflog-g5 {{ counter detected {{ }}\n{}\n}}",
                chain("counter name detected log group 5")
            ),
        );
        let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        Traffic::new(64, 500).stream(1).send(&lab, None).unwrap();
        capture.wait_written(500);
        let asked = Instant::now();
        capture.signal(rustix::process::Signal::INT);
        until("the group is released", || {
            let groups = lab
                .receiver()
                .run(|| std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_log"));
            (!groups
                .unwrap()
                .unwrap()
                .lines()
                .any(|line| line.trim_start().starts_with("5 ")))
            .then_some(())
        });
        println!("released after {:?}", asked.elapsed());
        let ended = capture.wait_end();
        assert!(ended.status.success(), "{}", ended.said);
        assert_eq!(ended.number("/detected"), 500, "{:#}", ended.report);
    });
}

/// Another rule for the group, beside the capture's own: it is named when the capture begins and when it
/// ends, and no counter is said to have been reset.
#[test]
fn a_rule_of_another_table_is_named() {
    let (lab, dir) = (lab(), temp_dir());
    let rule = chain("counter log group 5").replace("-2147483647", "0");
    nft(lab.receiver(), &format!("table ip other {{\n{rule}\n}}"));
    let options = ["--group", "5", "--install-rule"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    send(&lab, 0, 100);
    capture.wait_written(200);
    let ended = capture.end();
    let said = &ended.said;
    assert!(
        said.contains("ip other prerouting handle 2 hands packets to group 5 as well"),
        "{said}"
    );
    let remarks = remarks(&ended);
    assert!(remarks.contains("comes twice"), "{remarks}");
    assert!(
        remarks.contains("came: ip other prerouting handle 2 hands packets to it"),
        "{remarks}"
    );
    assert!(!remarks.contains("reset"), "{remarks}");
}

/// nftables does not show what the old iptables logs.
#[test]
fn the_old_iptables_is_named() {
    for install in [&["--install-rule"][..], &[]] {
        let (lab, dir) = (lab(), temp_dir());
        if install.is_empty() {
            load_capture_rules(lab.receiver());
        }
        let log = [
            "-t",
            "raw",
            "-A",
            "PREROUTING",
            "-j",
            "NFLOG",
            "--nflog-group",
            "5",
        ];
        run_in(lab.receiver(), "iptables-legacy", &log);
        let options = [&["--group", "5"][..], install].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        send(&lab, 0, 100);
        capture.wait_written(200);
        let remarks = remarks(&capture.end());
        assert!(remarks.contains("rules of the old iptables"), "{remarks}");
        assert!(!remarks.contains("reset"), "{remarks}");
    }
}

/// An empty file is explained before anybody trusts it: when the capture begins, and in its report.
#[test]
fn rules_that_log_nothing_are_told() {
    let called = "chain c { counter log group 5; }";
    for (table, says) in [
        (
            format!("flags dormant;\n{}", chain("counter log group 5")),
            "its table is dormant",
        ),
        (called.to_owned(), "no rule leads to it"),
        (chain("ct state new counter log group 5"), "asks for `ct`"),
        (
            chain("meta mark 7 counter log group 5"),
            "asks for the mark",
        ),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        nft(lab.receiver(), &format!("table ip t {{\n{table}\n}}"));
        let ended = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]).end();
        assert!(ended.said.contains(says), "{}", ended.said);
        assert!(remarks(&ended).contains(says), "{}", remarks(&ended));
    }
    // A chain that something leads to, by a map as well, is no matter.
    for way in ["jump c", "meta l4proto vmap { udp : goto c }"] {
        let (lab, dir) = (lab(), temp_dir());
        nft(
            lab.receiver(),
            &format!("table ip t {{\n{called}\n{}\n}}", chain(way)),
        );
        let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        send(&lab, 0, 10);
        capture.wait_written(10);
        let ended = capture.end();
        assert_eq!(remarks(&ended), "[]");
        assert!(!ended.said.contains("logs nothing"), "{}", ended.said);
    }
}

/// What traffic control redirects comes to no hook, and is in no account: that is said by all who are
/// asked, whatever the source.
#[test]
fn what_stands_before_the_hook_is_told() {
    for source in [&["--group", "5", "--install-rule"][..], &["--hook"]] {
        let (lab, dir) = (lab(), temp_dir());
        for words in [
            &["qdisc", "add", "dev", RX, "clsact"][..],
            &[
                "filter", "add", "dev", RX, "ingress", "protocol", "ip", "u32", "match", "u32",
                "0", "0", "action", "mirred", "egress", "redirect", "dev", "lo",
            ],
        ] {
            run_in(lab.receiver(), "tc", words);
        }
        let capture = Running::capture(lab.receiver(), dir.path(), source);
        send(&lab, 0, 10);
        let ended = capture.end();
        let says = format!("filters of tc (u32) at the ingress of `{RX}`");
        assert!(ended.said.contains(&says), "{}", ended.said);
        assert!(remarks(&ended).contains(&says), "{}", remarks(&ended));
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let asked: &[&str] = if source[0] == "--hook" {
            &["--hook"]
        } else {
            &["--group", "5"]
        };
        let told = output(command.arg("doctor").args(asked), "");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains(&says), "{told}");
    }
}

/// A bridge's port, and so a bond's and a team's: the selection of it sees nothing.
#[test]
fn a_port_as_the_interface_is_told() {
    for source in [&["--group", "5", "--install-rule"][..], &["--hook"]] {
        let (lab, dir) = (lab(), temp_dir());
        run_in(
            lab.receiver(),
            "ip",
            &["link", "add", "br0", "type", "bridge"],
        );
        run_in(lab.receiver(), "ip", &["link", "set", RX, "master", "br0"]);
        let options = [source, &["--iface", RX]].concat();
        let ended = Running::capture(lab.receiver(), dir.path(), &options).end();
        let says = format!("`{RX}` is a port of the bridge `br0`");
        assert!(ended.said.contains(&says), "{}", ended.said);
        assert!(remarks(&ended).contains(&says), "{}", remarks(&ended));
    }
}
