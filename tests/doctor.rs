//! `lwnflog doctor`: each state that a namespace can be brought into is found, and the command that is
//! named mends it.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use common::{
    LWNFLOG, Running, lab, load_capture_rules, nft, output, run_in, send_paced, temp_dir,
    with_runtime,
};
use lwnflog::lab::{Namespace, Traffic};
use serde_json::Value;

fn examine(namespace: &Namespace, args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let mut command = namespace.command(LWNFLOG).unwrap();
    let done = output(command.args(["doctor", "--json"]).args(args), "");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    (
        told["findings"].as_array().unwrap().clone(),
        done.status.code(),
    )
}

fn found(findings: &[Value], id: &str) -> Option<Value> {
    findings.iter().find(|finding| finding["id"] == id).cloned()
}

/// The finding, which has to be there.
fn finding(namespace: &Namespace, id: &str, severity: &str) -> Value {
    let (findings, _) = examine(namespace, &["--group", "5"]);
    let finding = found(&findings, id).unwrap_or_else(|| panic!("{id}: {findings:#?}"));
    assert_eq!(finding["severity"], severity, "{finding}");
    finding
}

fn is_gone(namespace: &Namespace, id: &str) {
    let (findings, _) = examine(namespace, &["--group", "5"]);
    assert_eq!(found(&findings, id), None);
}

/// Does what the finding says.
fn mend(namespace: &Namespace, finding: &Value) {
    let remedy = finding["remedy"]
        .as_str()
        .unwrap()
        .replace("lwnflog ", &format!("{LWNFLOG} "));
    run_in(namespace, "sh", &["-c", &remedy]);
}

#[test]
fn a_group_without_a_rule() {
    let lab = lab();
    let (findings, status) = examine(lab.receiver(), &["--group", "5"]);
    assert_eq!(findings[0]["severity"], "error", "the worst comes first");
    assert_eq!(status, Some(20));
    let finding = finding(lab.receiver(), "no-rule", "error");
    mend(lab.receiver(), &finding);
    is_gone(lab.receiver(), "no-rule");
    let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
    let rule = found(&findings, "rule").unwrap();
    assert!(
        rule["what"]
            .as_str()
            .unwrap()
            .contains("ip lwnflog-g5 prerouting"),
        "{rule}"
    );
    assert!(found(&findings, "group-free").is_some());
    assert!(found(&findings, "rights").is_some());
    let errors = findings
        .iter()
        .filter(|finding| finding["severity"] == "error");
    assert_eq!(errors.count(), 0, "{findings:#?}");
}

#[test]
fn a_group_that_is_taken() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let finding = finding(lab.receiver(), "group-taken", "error");
    let what = finding["what"].as_str().unwrap();
    assert!(
        what.contains(&format!("process {} (lwnflog)", capture.pid())),
        "{what}"
    );
    // The time at which it began is of today.
    let today = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    assert!(
        what.contains(&today[..13]) || what.contains("running since"),
        "{what}"
    );
    mend(lab.receiver(), &finding);
    assert!(capture.wait_end().status.success());
    is_gone(lab.receiver(), "group-taken");
}

#[test]
fn rules_that_limit_or_do_not_count() {
    let lab = lab();
    let chain = "type filter hook prerouting priority 0; policy accept;";
    nft(
        lab.receiver(),
        &format!(
            "table ip t {{ chain c {{ {chain} log group 5 queue-threshold 20 snaplen 64; }}\n}}"
        ),
    );
    let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
    let limits: Vec<_> = findings
        .iter()
        .filter(|finding| finding["id"] == "rule-limits")
        .collect();
    assert_eq!(limits.len(), 2, "{findings:#?}");
    assert_eq!(
        found(&findings, "no-counter").unwrap()["severity"],
        "warning"
    );
    mend(lab.receiver(), limits[0]);
    is_gone(lab.receiver(), "rule-limits");
    is_gone(lab.receiver(), "no-counter");
}

/// A rule that has the kernel hand over four packets at a time.
#[test]
fn batches_that_are_not_filled() {
    let (lab, dir) = (lab(), temp_dir());
    let rule = "counter log group 5 queue-threshold 4;";
    let chain = "type filter hook prerouting priority 0; policy accept;";
    nft(
        lab.receiver(),
        &format!("table ip t {{ chain c {{ {chain} {rule} }}\n}}"),
    );
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    send_paced(&lab, 20_000);
    capture.wait_written(20_000);
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    let command = with_runtime(&mut command, capture.runtime());
    let done = command
        .args(["doctor", "--json", "--group", "5"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let finding = found(told["findings"].as_array().unwrap(), "batch-fill").unwrap();
    assert!(
        finding["what"]
            .as_str()
            .unwrap()
            .starts_with("the capture g5 gets 4 packets"),
        "{finding}"
    );
    let speed = found(told["findings"].as_array().unwrap(), "disk-speed").unwrap();
    let what = speed["what"].as_str().unwrap();
    assert!(what.contains("captures that run write"), "{speed}");
    capture.end().assert_balanced();
}

#[test]
fn what_comes_before_a_rule() {
    let lab = lab();
    let chain = |priority: i32, rules: &str| {
        format!(
            "table ip t{} {{ chain c {{ type filter hook prerouting priority {priority}; {rules} }}\n}}",
            priority.abs()
        )
    };
    nft(
        lab.receiver(),
        &chain(0, "tcp dport 22 accept; accept; counter log group 5;"),
    );
    let reached = finding(lab.receiver(), "never-matches", "error");
    mend(lab.receiver(), &reached);
    is_gone(lab.receiver(), "never-matches");
    finding(lab.receiver(), "rules-before", "note");
    // A chain before: one that drops all, some, and what it does not accept.
    nft(lab.receiver(), &chain(-10, "counter drop;"));
    let reached = finding(lab.receiver(), "never-matches", "error");
    assert!(
        reached["what"]
            .as_str()
            .unwrap()
            .contains("ip t10 c handle"),
        "{reached}"
    );
    mend(lab.receiver(), &reached);
    is_gone(lab.receiver(), "never-matches");
    nft(
        lab.receiver(),
        "table ip t20 { chain c { type filter hook prerouting priority -20; policy drop; tcp dport 1 accept; }\n}",
    );
    finding(lab.receiver(), "policy-before", "warning");
}

/// Of the namespace, where br_netfilter is there at all.
const SWITCH: &str = "net.bridge.bridge-nf-call-iptables";

#[test]
fn bridges_and_buffers() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    run_in(
        lab.receiver(),
        "ip",
        &["link", "add", "br0", "type", "bridge"],
    );
    run_in(lab.receiver(), "sysctl", &["-qw", &format!("{SWITCH}=0")]);
    is_gone(lab.receiver(), "bridge");
    run_in(
        lab.receiver(),
        "ip",
        &["link", "set", "rx", "master", "br0"],
    );
    let bridge = finding(lab.receiver(), "bridge", "warning");
    assert!(bridge["what"].as_str().unwrap().contains("br0"), "{bridge}");
    let named = bridge["remedy"].as_str().unwrap();
    assert!(named.contains(&format!("{SWITCH}=1")), "{named}");
    run_in(lab.receiver(), "sysctl", &["-qw", &format!("{SWITCH}=1")]);
    is_gone(lab.receiver(), "bridge");
}

/// The traffic is in another namespace: that of a process which is named, and looked into by the
/// command.
#[test]
fn traffic_of_another_namespace() {
    let lab = lab();
    let mut lives_there = lab.receiver().command("sleep").unwrap();
    let mut lives_there = lives_there.arg("1000").spawn().unwrap();
    Traffic::new(64, 50_000).send(&lab, None).unwrap();
    let empty = Namespace::new().unwrap();
    let finding = finding(&empty, "namespaces", "warning");
    let what = finding["what"].as_str().unwrap().to_owned();
    let remedy = finding["remedy"].as_str().unwrap().to_owned();
    lives_there.kill().unwrap();
    lives_there.wait().unwrap();
    assert!(what.ends_with("packets, those of this one 0"), "{what}");
    assert!(remedy.starts_with("nsenter --net --target "), "{remedy}");
}

#[test]
fn the_hook_and_the_text() {
    let lab = lab();
    let (findings, _) = examine(lab.receiver(), &["--hook"]);
    assert!(found(&findings, "hook-kernel").is_some());
    assert_eq!(found(&findings, "no-rule"), None, "it needs none");
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    let told = output(command.args(["doctor", "--group", "5"]), "");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.starts_with("ERROR    no nftables rule"), "{text}");
    assert!(text.contains("         why: a group has"), "{text}");
    assert!(
        text.contains("         do:  lwnflog rules --group 5 | nft -f -"),
        "{text}"
    );
}

/// Without rights: what can be looked at is, and what cannot is said.
#[test]
fn without_rights() {
    let dir = temp_dir();
    let program = common::copy_for_anybody(dir.path());
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--bounding-set=-all",
    ]);
    let done = output(
        command
            .arg(program)
            .args(["doctor", "--json", "--group", "5"]),
        "",
    );
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let rights = found(findings, "rights").unwrap();
    assert_eq!(rights["severity"], "error");
    assert!(
        rights["remedy"].as_str().unwrap().contains("setcap"),
        "{rights}"
    );
    assert_eq!(done.status.code(), Some(20));
}
