//! `lwnflog doctor`: each state that a namespace can be brought into is found, and the command that is
//! named mends it.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use common::{
    LWNFLOG, Mounted, Running, lab, load_capture_rules, nft, number, output, run, run_in,
    send_paced, temp_dir, until, with_own_mounts, with_runtime,
};
use lwnflog::lab::{Lab, Namespace, RX, Traffic};
use rustix::process::Signal;
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

/// Runs a command as it is printed, with `lwnflog` on the way.
fn shell(namespace: &Namespace, script: &str) -> Output {
    let dir = temp_dir();
    symlink(LWNFLOG, dir.path().join("lwnflog")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = namespace.command("sh").unwrap();
    command.env("PATH", format!("{}:{path}", dir.path().display()));
    // A capture of its own takes no gigabyte here.
    command.envs([("LWNFLOG_FILE_SIZE", "1MB"), ("LWNFLOG_FILES", "4")]);
    output(command.args(["-c", script]), "")
}

fn remedy(finding: &Value) -> String {
    finding["remedy"].as_str().unwrap().to_owned()
}

/// Does what the finding says.
fn mend(namespace: &Namespace, finding: &Value) {
    let done = shell(namespace, &remedy(finding));
    assert!(done.status.success(), "{finding}: {done:?}");
}

/// A capture of the group gets what is sent.
fn is_captured(lab: &Lab) {
    let dir = temp_dir();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    send_paced(lab, 50);
    capture.wait_written(50);
    capture.end();
}

/// The rules but for those of lwnflog's own table, without what is counted.
fn rules_of_others(namespace: &Namespace) -> Vec<String> {
    let all = run_in(namespace, "nft", &["-s", "list", "ruleset"]);
    let tables = all.split("\ntable ").map(|table| table.trim().to_owned());
    tables
        .filter(|table| !table.contains(" lwnflog-g5 {"))
        .collect()
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

/// What doctor finds beside a capture, whose control socket it is shown.
fn beside(capture: &Running, namespace: &Namespace, args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let mut command = namespace.command(LWNFLOG).unwrap();
    let command = with_runtime(&mut command, capture.runtime());
    let done = output(command.args(["doctor", "--json"]).args(args), "");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    (
        told["findings"].as_array().unwrap().clone(),
        done.status.code(),
    )
}

fn errors(findings: &[Value]) -> Vec<&Value> {
    let errors = findings
        .iter()
        .filter(|finding| finding["severity"] == "error");
    errors.collect()
}

/// One's own capture has the group, as it should; without its control socket it is one all the same.
#[test]
fn a_group_that_lwnflog_captures_is_as_it_should_be() {
    for options in [&["--group", "5"][..], &["--group", "5", "--no-control"]] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let capture = Running::capture(lab.receiver(), dir.path(), options);
        let (findings, _) = beside(&capture, lab.receiver(), &["--group", "5"]);
        assert_eq!(errors(&findings), [] as [&Value; 0]);
        let captured = found(&findings, "group-captured").unwrap();
        let what = captured["what"].as_str().unwrap();
        let process = format!("process {} (lwnflog)", capture.pid());
        assert!(what.contains(&process), "{what}");
        assert_eq!(captured.get("remedy"), None);
        capture.end();
    }
}

/// Another program has the group: the way out is another group, and takes nothing from it.
#[test]
fn a_group_that_another_program_has() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let other = dir.path().join("other");
    run(Command::new("cp").arg(LWNFLOG).arg(&other), "");
    let mut command = lab.receiver().command(other.to_str().unwrap()).unwrap();
    let ring = dir.path().join("ring");
    let options = ["--group", "5", "--no-control", "--json", "-C", "1MB", "-w"];
    let mut holder = Running::spawn(command.args(options).arg(ring));
    holder.wait_said("capturing ");
    let taken = finding(lab.receiver(), "group-taken", "error");
    let what = taken["what"].as_str().unwrap();
    let process = format!("process {} (other)", holder.pid());
    assert!(what.contains(&process), "{what}");
    let ring = dir.path().join("six");
    let script = format!(
        "cd {} && timeout -s INT 30 {} -c 50 -w {}",
        dir.path().display(),
        remedy(&taken).split('#').next().unwrap(),
        ring.display()
    );
    std::thread::scope(|scope| {
        let captures = scope.spawn(|| shell(lab.receiver(), &script));
        until("there is a second rule", || {
            let rules = run_in(lab.receiver(), "nft", &["list", "ruleset"]);
            rules.contains("log group 6").then_some(())
        });
        send_paced(&lab, 50);
        let done = captures.join().unwrap();
        assert!(done.status.success(), "{done:?}");
    });
    holder.wait_written(50);
    holder.end();
}

/// A capture stays in its network namespace when all others have left it, as a container does that is
/// started anew.
#[test]
fn a_capture_that_is_alone_in_its_namespace() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut container = lab.receiver().command("sleep").unwrap();
    let mut container = container.arg("1000").spawn().unwrap();
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let host = Namespace::new().unwrap();
    let (findings, _) = beside(&capture, &host, &[]);
    assert_eq!(found(&findings, "alone"), None);
    container.kill().unwrap();
    container.wait().unwrap();
    let (findings, _) = beside(&capture, &host, &[]);
    let alone = found(&findings, "alone").unwrap();
    assert_eq!(alone["severity"], "warning", "{alone}");
    capture.end();
}

/// What is lost is told where somebody asks for it, and the buffer is larger afterwards.
#[test]
fn losses_of_a_capture_that_runs() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "-B", "256"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    capture.signal(Signal::STOP);
    Traffic::new(64, 30_000).send(&lab, None).unwrap();
    // As long as it is stopped, that is said.
    let (findings, status) = beside(&capture, lab.receiver(), &["--group", "5"]);
    let silent = found(&findings, "silent").unwrap();
    let what = silent["what"].as_str().unwrap();
    let process = format!("the capture g5 (process {})", capture.pid());
    assert!(
        what.starts_with(&process) && what.ends_with("it is stopped"),
        "{what}"
    );
    assert_eq!(
        (silent["severity"].as_str(), status),
        (Some("error"), Some(20))
    );
    mend(lab.receiver(), &silent);
    Traffic::new(64, 100).stream(1).send(&lab, None).unwrap();
    capture.wait_stats("it has lost some", |stats| {
        number(stats, "/dropped/overrun") > 0 && number(stats, "/written") > 0
    });
    let (findings, _) = beside(&capture, lab.receiver(), &["--group", "5"]);
    assert_eq!(found(&findings, "silent"), None);
    let losses = found(&findings, "losses").unwrap();
    assert_eq!(losses["severity"], "warning", "{losses}");
    let runtime = capture.runtime().display();
    let script = format!("RUNTIME_DIRECTORY={runtime} {}", remedy(&losses));
    let done = shell(lab.receiver(), &script);
    assert!(done.status.success(), "{losses} {done:?}");
    let mut command = Command::new(LWNFLOG);
    let command = with_runtime(&mut command, capture.runtime());
    let settings = run(command.args(["ctl", "settings"]), "");
    let settings: Value = serde_json::from_str(&settings).unwrap();
    assert!(number(&settings, "/settings/buffer_bytes") > 256 << 10);
    capture.end();
}

/// What mends the rule leaves what else it says.
#[test]
fn rules_that_limit_or_do_not_count() {
    let lab = lab();
    let load = |rule: &str| {
        let chain = "type filter hook prerouting priority 0; policy accept;";
        nft(
            lab.receiver(),
            &format!("flush ruleset\ntable ip t {{ chain c {{ {chain} {rule}; }}\n}}"),
        );
    };
    let listed = || run_in(lab.receiver(), "nft", &["-s", "list", "table", "ip", "t"]);
    load("log group 5 queue-threshold 20 snaplen 64");
    let (findings, status) = examine(lab.receiver(), &["--group", "5"]);
    let is_limit = |finding: &&Value| finding["id"] == "rule-limits";
    let limits: Vec<_> = findings.iter().filter(is_limit).collect();
    assert_eq!(limits.len(), 2, "{findings:#?}");
    assert_eq!(limits[0]["severity"], "warning", "it captures");
    assert_eq!(status, Some(10));
    assert_eq!(
        found(&findings, "no-counter").unwrap()["severity"],
        "warning"
    );
    mend(lab.receiver(), limits[0]);
    is_gone(lab.receiver(), "rule-limits");
    is_gone(lab.receiver(), "no-counter");
    is_captured(&lab);
    load("udp dport { 9, 23 } counter log prefix \"a log \" group 5 queue-threshold 1 accept");
    let limit = finding(lab.receiver(), "rule-limits", "warning");
    mend(lab.receiver(), &limit);
    let rule = "udp dport { 9, 23 } counter log prefix \"a log \" group 5 accept";
    assert!(listed().contains(rule), "{}", listed());
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

/// A chain at prerouting, in a table of its own.
fn chain(priority: i32, rules: &str) -> String {
    format!(
        "table ip t{} {{\n chain c {{\n type filter hook prerouting priority {priority};\n {rules}\n }}\n}}\n",
        priority.abs()
    )
}

/// Each state in which the loaded rule gets nothing is an error; what mends it takes nothing away, and
/// then a capture has packets.
#[test]
fn rules_that_no_packet_comes_to() {
    let drop_chain = "chain d {\n udp dport 1 return\n goto e\n }\n chain e {\n counter drop\n }\n";
    let called =
        |rules: &str| chain(0, rules).replace(" chain c", &format!(" {drop_chain} chain c"));
    let log = "counter log group 5";
    for (rules, id) in [
        (
            chain(0, &format!("tcp dport 22 accept\n accept\n {log}")),
            "never-matches",
        ),
        (chain(-10, "counter drop") + &chain(0, log), "never-matches"),
        (
            chain(-10, "reject") + &chain(0, log).replace("prerouting", "input"),
            "never-matches",
        ),
        (chain(-10, "policy drop;") + &chain(0, log), "never-matches"),
        (
            chain(0, &format!("ip saddr vmap {{ 0.0.0.0/0 : drop }}\n {log}")),
            "never-matches",
        ),
        (
            chain(
                0,
                &format!("ip ttl vmap {{ 3 : accept, * : drop }}\n {log}"),
            ),
            "never-matches",
        ),
        (called(&format!("jump e\n {log}")), "never-matches"),
        (called(&format!("goto e\n {log}")), "never-matches"),
        (
            chain(0, &format!("ip saddr 0.0.0.0/0 drop\n {log}")),
            "never-matches",
        ),
        (
            chain(0, log).replace(" chain", " flags dormant;\n chain"),
            "dormant",
        ),
        (
            format!("table ip t {{\n chain c {{\n {log}\n }}\n}}"),
            "uncalled",
        ),
        (
            format!("table ip t {{\n chain c {{\n {log}\n }}\n chain b {{\n jump c\n }}\n}}"),
            "uncalled",
        ),
        (chain(0, log).replace("ip ", "ip6 "), "other-family"),
        (chain(0, &format!("iif 4711 {log}")), "no-interface"),
    ] {
        let lab = lab();
        nft(lab.receiver(), &rules);
        let before = rules_of_others(lab.receiver());
        let (findings, status) = examine(lab.receiver(), &["--group", "5"]);
        let error = found(&findings, id).unwrap_or_else(|| panic!("{id}: {rules}: {findings:#?}"));
        assert_eq!(
            (error["severity"].as_str(), status),
            (Some("error"), Some(20)),
            "{error}"
        );
        mend(lab.receiver(), &error);
        assert_eq!(rules_of_others(lab.receiver()), before, "{rules}");
        let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
        assert_eq!(errors(&findings), [] as [&Value; 0], "{rules}");
        is_captured(&lab);
    }
}

/// Of a port: its packets come by the bridge. (Of a bond's and a team's, too, which this kernel lacks.)
#[test]
fn a_rule_for_a_port() {
    let lab = lab();
    for words in [
        &["link", "add", "br0", "type", "bridge"][..],
        &["link", "set", RX, "master", "br0"],
        &["link", "set", "br0", "up"],
    ] {
        run_in(lab.receiver(), "ip", words);
    }
    nft(
        lab.receiver(),
        &chain(0, &format!("iifname \"{RX}\" counter log group 5")),
    );
    let error = finding(lab.receiver(), "port", "error");
    assert!(
        error["what"].as_str().unwrap().contains("bridge `br0`"),
        "{error}"
    );
    mend(lab.receiver(), &error);
    is_captured(&lab);
    let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
    assert_eq!(errors(&findings), [] as [&Value; 0]);
}

/// What is let through, or is on another way, is no error: whether the rule has logged already or not.
#[test]
fn rules_that_packets_come_to() {
    let log = "counter log group 5";
    let firewall = "table inet filter {\n chain input {\n type filter hook input priority 0;\n \
                    ct state established,related accept\n icmp type echo-request accept\n udp dport 9 accept\n \
                    drop\n }\n}\n";
    let behind = chain(10, log).replace("prerouting", "input");
    let guard = "table netdev guard {\n chain in {\n type filter hook ingress device \"OTHER\" priority 0;\n \
                 drop\n }\n}\n";
    let output = chain(0, log).replace("prerouting", "output");
    for rules in [
        format!("{firewall}{behind}"),
        format!("{}{behind}", guard.replace("OTHER", "lo")),
        format!("{}{output}", guard.replace("OTHER", RX)),
        format!("{}{behind}", chain(-5, "policy drop; accept")),
        format!(
            "{}{}",
            chain(-5, "drop").replace("chain", "flags dormant;\n chain"),
            chain(0, log)
        ),
        format!(
            "{}{}",
            chain(-5, "drop").replace("ip ", "ip6 "),
            chain(0, log)
        ),
        chain(
            0,
            &format!("ip protocol vmap {{ tcp : drop, icmp : drop }}\n {log}"),
        ),
        chain(0, &format!("{log}\n drop")),
    ] {
        let lab = lab();
        nft(lab.receiver(), &rules);
        let before = run_in(lab.receiver(), "nft", &["-s", "list", "ruleset"]);
        for _ in 0..2 {
            let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
            assert_eq!(errors(&findings), [] as [&Value; 0], "{rules}");
            send_paced(&lab, 10);
        }
        let after = run_in(lab.receiver(), "nft", &["-s", "list", "ruleset"]);
        assert_eq!(before, after);
    }
}

/// For an interface that is not there yet: it may come.
#[test]
fn a_rule_for_an_interface_that_is_not_there() {
    let lab = lab();
    nft(
        lab.receiver(),
        &chain(0, "iifname \"eht0\" counter log group 5"),
    );
    let missing = finding(lab.receiver(), "no-interface", "warning");
    assert!(
        missing["what"].as_str().unwrap().contains("`eht0`"),
        "{missing}"
    );
    run_in(
        lab.receiver(),
        "ip",
        &[
            "link", "add", "eht0", "type", "veth", "peer", "name", "other",
        ],
    );
    is_gone(lab.receiver(), "no-interface");
}

/// An interface that is down, and a chain at a device that is not there.
#[test]
fn rules_of_devices_that_bring_nothing() {
    let lab = lab();
    nft(
        lab.receiver(),
        &chain(0, &format!("iifname \"{RX}\" counter log group 5")),
    );
    is_gone(lab.receiver(), "interface-down");
    run_in(lab.receiver(), "ip", &["link", "set", RX, "down"]);
    let down = finding(lab.receiver(), "interface-down", "warning");
    mend(lab.receiver(), &down);
    is_gone(lab.receiver(), "interface-down");
    is_captured(&lab);
    let other = ["link", "add", "other", "type", "veth", "peer", "name", "o1"];
    run_in(lab.receiver(), "ip", &other);
    nft(
        lab.receiver(),
        "table netdev t {\n chain c {\n type filter hook ingress device other priority 0\n \
         counter log group 6\n }\n}",
    );
    let of_six = || {
        let (findings, _) = examine(lab.receiver(), &["--group", "6"]);
        findings
    };
    assert_eq!(found(&of_six(), "no-interface"), None);
    run_in(lab.receiver(), "ip", &["link", "delete", "other"]);
    let findings = of_six();
    // Older kernels take the chain away with its device.
    let told = found(&findings, "no-interface").or_else(|| found(&findings, "no-rule"));
    assert!(told.is_some(), "{findings:#?}");
}

/// Two rules for one group: each packet comes twice. What asks too early, too.
#[test]
fn rules_that_log_twice_or_ask_too_early() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    is_gone(lab.receiver(), "twice");
    nft(lab.receiver(), &chain(0, "counter log group 5"));
    let twice = finding(lab.receiver(), "twice", "warning");
    let what = twice["what"].as_str().unwrap();
    assert!(
        what.contains("lwnflog-g5") && what.contains("ip t0 c handle"),
        "{what}"
    );
    let before = rules_of_others(lab.receiver());
    mend(lab.receiver(), &twice);
    assert_eq!(rules_of_others(lab.receiver()), before, "it only looks");
    nft(
        lab.receiver(),
        &chain(-300, "ct state new counter log group 5"),
    );
    let early = finding(lab.receiver(), "asks-early", "warning");
    assert!(
        early["what"].as_str().unwrap().contains("asks for `ct`"),
        "{early}"
    );
}

/// Each packet twice: by two rules of one table or chain, by one that is led to twice, by two that select
/// the same. What is told apart, or never meets, is no matter.
#[test]
fn packets_that_come_twice() {
    let base = |name: &str, hook: &str, rules: &str| {
        format!("chain {name} {{\n type filter hook {hook} priority 0;\n {rules}\n }}\n")
    };
    let log = "counter log group 5";
    let called = format!("chain called {{\n {log}\n }}\n");
    let on = |device: &str| base(device, &format!("ingress device {device}"), log);
    let dns = "udp dport 53 counter log group 5";
    for (family, chains, twice) in [
        (
            "ip",
            base("a", "prerouting", log) + &base("b", "prerouting", log),
            1,
        ),
        (
            "ip",
            base("a", "prerouting", log) + &base("b", "input", log),
            1,
        ),
        (
            "ip",
            base("a", "forward", log) + &base("b", "postrouting", log),
            1,
        ),
        (
            "inet",
            base("a", "prerouting", &format!("{log}\n {log}")),
            1,
        ),
        (
            "ip",
            called.clone() + &base("a", "prerouting", "jump called\n jump called"),
            1,
        ),
        (
            "ip",
            called.clone()
                + &base("a", "prerouting", "jump called")
                + &base("b", "input", "jump called"),
            1,
        ),
        (
            "ip",
            called.clone() + &base("a", "prerouting", &format!("jump called\n {log}")),
            1,
        ),
        ("ip", base("a", "prerouting", &format!("{log}\n {dns}")), 1),
        ("ip", base("a", "prerouting", &format!("{dns}\n {dns}")), 1),
        (
            "ip",
            base("a", "prerouting", log) + &base("b", "output", log),
            0,
        ),
        (
            "ip",
            base("a", "input", log) + &base("b", "forward", log),
            0,
        ),
        (
            "ip",
            base("a", "prerouting", &format!("{dns}\n tcp {}", &dns[4..])),
            0,
        ),
        (
            "ip",
            called.clone()
                + &base(
                    "a",
                    "prerouting",
                    "ip protocol tcp jump called\n udp dport 9 goto called",
                ),
            0,
        ),
        ("netdev", on(RX) + &on("lo"), 0),
        (
            "ip",
            base(
                "a",
                "prerouting",
                "counter log prefix \"prerouting\" group 5",
            ) + &base("b", "input", "counter log prefix \"input\" group 5"),
            0,
        ),
    ] {
        let lab = lab();
        let rules = format!("table {family} t {{\n {chains}}}");
        nft(lab.receiver(), &rules);
        let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
        let told = findings.iter().filter(|finding| finding["id"] == "twice");
        assert_eq!(told.count(), twice, "{rules}\n{findings:#?}");
        if twice != 0 && family == "ip" && !chains.contains("forward") && !chains.contains(dns) {
            let dir = temp_dir();
            let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
            send_paced(&lab, 20);
            capture.wait_written(40); // it is so
            capture.end();
        }
    }
}

/// Of however many rules: what is wrong with the last one is found, too, and none is passed over in
/// silence.
#[test]
fn the_last_of_many_rules() {
    let lab = lab();
    let mut rules: String = (1..=20)
        .map(|port| format!("udp dport {port} counter log group 5\n"))
        .collect();
    rules += "tcp dport 1 counter log group 5 snaplen 64\n";
    nft(lab.receiver(), &chain(0, &rules));
    let limit = finding(lab.receiver(), "rule-limits", "warning");
    let (findings, _) = examine(lab.receiver(), &["--group", "5"]);
    let of_rules: Vec<_> = findings
        .iter()
        .filter(|finding| finding["id"] == "rule")
        .collect();
    assert_eq!(of_rules.len(), 9, "{findings:#?}");
    assert!(
        of_rules[8]["what"].as_str().unwrap().contains("13 more"),
        "{of_rules:#?}"
    );
    mend(lab.receiver(), &limit);
    is_gone(lab.receiver(), "rule-limits");
}

/// A host with a usual firewall and a capture has nothing to mend, nor one without a capture.
#[test]
fn usual_firewalls_are_as_they_should_be() {
    /// What is the machine's that the test runs on.
    const OF_THE_HOST: [&str; 6] = [
        "backlog",
        "clock",
        "disk-space",
        "disk-speed",
        "memory",
        "namespaces",
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/firewalls");
    let mut firewalls = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let (lab, text) = (lab(), std::fs::read_to_string(&file).unwrap());
        if file.extension().unwrap() == "nft" {
            nft(lab.receiver(), &text);
        } else {
            run(
                &mut lab.receiver().command("iptables-nft-restore").unwrap(),
                &text,
            );
        }
        let before = run_in(lab.receiver(), "nft", &["-s", "list", "ruleset"]);
        let nothing = |args: &[&str]| {
            let (mut findings, _) = examine(lab.receiver(), args);
            findings.retain(|finding| {
                let bad = ["error", "warning"]
                    .iter()
                    .any(|bad| finding["severity"] == *bad);
                bad && !OF_THE_HOST.iter().any(|id| finding["id"] == *id)
            });
            assert_eq!(findings, [] as [Value; 0], "{}", file.display());
        };
        nothing(&[]);
        nothing(&["--hook"]);
        load_capture_rules(lab.receiver());
        nothing(&["--group", "5"]);
        nothing(&[]);
        is_captured(&lab);
        run_in(
            lab.receiver(),
            "nft",
            &["delete", "table", "ip", "lwnflog-g5"],
        );
        // One's own rule behind the firewall has what that accepts.
        nft(
            lab.receiver(),
            "table inet mine {\n chain c {\n type filter hook input priority 50;\n counter log group 5\n }\n}",
        );
        nothing(&["--group", "5"]);
        run_in(lab.receiver(), "nft", &["delete", "table", "inet", "mine"]);
        let after = run_in(lab.receiver(), "nft", &["-s", "list", "ruleset"]);
        assert_eq!(before, after);
        firewalls += 1;
    }
    assert_eq!(firewalls, 9);
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
    // With one port there is nowhere to pass on to.
    is_gone(lab.receiver(), "bridge");
    let other = ["link", "add", "a0", "type", "veth", "peer", "name", "a1"];
    run_in(lab.receiver(), "ip", &other);
    run_in(
        lab.receiver(),
        "ip",
        &["link", "set", "a0", "master", "br0"],
    );
    let bridge = finding(lab.receiver(), "bridge", "note");
    assert!(bridge["what"].as_str().unwrap().contains("br0"), "{bridge}");
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

/// Each place where a capture refuses to begin is an error, and what is printed begins one elsewhere.
#[test]
fn places_where_no_ring_can_be() {
    with_own_mounts("places_where_no_ring_can_be", || {
        let lab = lab();
        load_capture_rules(lab.receiver());
        // Where remedies lead.
        run(
            Command::new("mount").args(["-t", "tmpfs", "none", "/var/lib"]),
            "",
        );
        let read_only = Mounted::tmpfs("size=64m");
        run(
            Command::new("mount")
                .args(["-o", "remount,ro"])
                .arg(read_only.path()),
            "",
        );
        let (small, inodes) = (
            Mounted::tmpfs("size=64m"),
            Mounted::tmpfs("size=64m,nr_inodes=2"),
        );
        let plain = temp_dir();
        let (file, open) = (plain.path().join("file"), plain.path().join("it's open"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::create_dir(inodes.path().join("ring")).unwrap();
        for (dir, id) in [
            (read_only.path().join("ring"), "disk-read-only"),
            (read_only.path().to_owned(), "disk-read-only"),
            (file.clone(), "disk-place"),
            (file.join("ring"), "disk-place"),
            (inodes.path().join("ring"), "disk-full"),
            (open, "disk-open"),
            (small.path().join("ring"), "disk-space"),
        ] {
            let shown = dir.to_str().unwrap();
            let (findings, status) = examine(lab.receiver(), &["--group", "5", "-w", shown]);
            let error = found(&findings, id).unwrap_or_else(|| panic!("{id}: {findings:#?}"));
            assert_eq!(
                (error["severity"].as_str(), status),
                (Some("error"), Some(20)),
                "{error}"
            );
            // It is so.
            let mut command = lab.receiver().command(LWNFLOG).unwrap();
            let refused = output(
                command.args(["--group", "5", "--no-control", "-w", shown]),
                "",
            );
            assert_eq!(refused.status.code(), Some(1), "{shown}: {refused:?}");
            let mut script = remedy(&error);
            if id == "disk-open" {
                let done = shell(lab.receiver(), &script);
                assert!(done.status.success(), "{done:?}");
                let (findings, _) = examine(lab.receiver(), &["--group", "5", "-w", shown]);
                assert_eq!(found(&findings, id), None);
                continue;
            }
            script += " --no-control -c 20";
            std::thread::scope(|scope| {
                let captures =
                    scope.spawn(|| shell(lab.receiver(), &format!("timeout 30 {script}")));
                until("the group is bound", || {
                    let table = lab.receiver().run(|| {
                        std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_log")
                    });
                    let bound = table.unwrap().unwrap();
                    bound
                        .lines()
                        .any(|line| line.trim_start().starts_with("5 "))
                        .then_some(())
                });
                send_paced(&lab, 20);
                let done = captures.join().unwrap();
                let said = String::from_utf8_lossy(&done.stderr);
                assert!(
                    done.status.success() && said.contains("written  20"),
                    "{script}: {said}"
                );
            });
        }
        // A ring that is there is room for itself.
        let ring = small.path().join("ring");
        let options = ["--group", "5", "-C", "8MB", "-W", "4"];
        let capture = Running::capture(lab.receiver(), &ring, &options);
        let args = ["--group", "5", "-w", ring.to_str().unwrap()];
        let (findings, _) = beside(&capture, lab.receiver(), &args);
        assert_eq!(errors(&findings), [] as [&Value; 0]);
        capture.end();
    });
}

/// A link to nothing, a ring that another capture writes, a limit of this process; and a lock of another
/// user's, which is handed over.
#[test]
fn rings_that_cannot_begin() {
    with_own_mounts("rings_that_cannot_begin", || {
        let (lab, others, dir) = (lab(), lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let lib = ["-t", "tmpfs", "none", "/var/lib"];
        run(Command::new("mount").args(lib), ""); // where remedies lead
        let link = dir.path().join("link");
        symlink("/nowhere/at/all", &link).unwrap();
        let taken = dir.path().join("taken");
        let holder = Running::capture(others.receiver(), &taken, &["--group", "5"]);
        let free = dir.path().join("free");
        for (place, limit, id) in [
            (link.clone(), "unlimited", "disk-place"),
            (link.join("ring"), "unlimited", "disk-place"),
            (taken, "unlimited", "disk-lock"),
            (free, "2000", "file-limit"),
        ] {
            let place = place.to_str().unwrap();
            let limited = |line: &str| {
                let line = format!("ulimit -f {limit}; {line}");
                let mut command = lab.receiver().command("bash").unwrap();
                output(command.args(["-c", &line]), "")
            };
            let told = limited(&format!("{LWNFLOG} doctor --json --group 5 -w {place}"));
            let told: Value = serde_json::from_slice(&told.stdout).unwrap();
            let error = found(told["findings"].as_array().unwrap(), id);
            let error = error.unwrap_or_else(|| panic!("{id}: {told:#}"));
            assert_eq!(error["severity"], "error", "{error}");
            let refused = limited(&format!("{LWNFLOG} --group 5 --no-control -w {place}"));
            assert_eq!(refused.status.code(), Some(1), "{place}: {refused:?}");
            let remedy = remedy(&error).replace("lwnflog --", &format!("{LWNFLOG} --"));
            let done = limited(&format!("timeout -s INT 30 {remedy} -W 2 --duration 100ms"));
            assert!(done.status.success(), "{remedy}: {done:?}");
        }
        holder.end();
    });
}

#[test]
fn a_lock_of_another_user() {
    let (lab, dir) = (lab(), temp_dir());
    let program = common::copy_for_anybody(dir.path());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let ring = dir.path().join("ring");
    std::fs::create_dir(&ring).unwrap();
    std::os::unix::fs::chown(&ring, Some(65534), None).unwrap();
    let lock = ring.join(".g5.lock");
    std::fs::write(&lock, "").unwrap();
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o640)).unwrap();
    let told = || {
        let mut command = lab.receiver().command("setpriv").unwrap();
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let command = command.args(nobody).arg(&program);
        let done = output(
            command
                .args(["doctor", "--json", "--group", "5", "-w"])
                .arg(&ring),
            "",
        );
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        found(told["findings"].as_array().unwrap(), "disk-lock")
    };
    let script = remedy(&told().unwrap()).replace("sudo ", "");
    run(Command::new("sh").args(["-c", &script]), "");
    assert_eq!(told(), None);
}

/// What is printed for a user who may not write there makes a directory of the user's own, and changes
/// no other.
#[test]
fn a_place_that_is_not_this_user_s() {
    let dir = temp_dir();
    let program = common::copy_for_anybody(dir.path());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let root_s = dir.path().join("root's");
    std::fs::create_dir(&root_s).unwrap();
    for (asked, made) in [
        (root_s.join("ring"), root_s.join("ring")),
        (root_s.clone(), root_s.join("lwnflog")),
    ] {
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let examine = |place: &Path| {
            let mut command = Command::new("setpriv");
            let command = command.args(nobody).arg(&program);
            let done = output(command.args(["doctor", "--json", "-w"]).arg(place), "");
            let told: Value = serde_json::from_slice(&done.stdout).unwrap();
            found(told["findings"].as_array().unwrap(), "disk-right")
        };
        let error = examine(&asked).unwrap();
        assert_eq!(error["severity"], "error");
        // As that user would, with `sudo` before what root does.
        let script = remedy(&error)
            .replace("sudo ", "")
            .replace("$(id -u)", "65534");
        run(Command::new("sh").args(["-c", &script]), "");
        assert_eq!(examine(&made), None);
        let mode = std::fs::metadata(&root_s).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "as it was");
    }
}

/// The documents' way: the right is on the program, for a group of users and nobody else. With it --match works,
/// and doctor reads the rules.
#[test]
fn rights_for_a_group_of_users() {
    with_own_mounts("rights_for_a_group_of_users", || {
        let (lab, etc) = (lab(), temp_dir());
        run(
            Command::new("cp").args(["-a", "/etc/."]).arg(etc.path()),
            "",
        );
        run(
            Command::new("mount")
                .arg("--bind")
                .arg(etc.path())
                .arg("/etc"),
            "",
        );
        let place = temp_dir();
        let program = common::copy_for_anybody(place.path());
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let as_user = |gid: &str, args: &[&str]| {
            let mut command = lab.receiver().command("chroot").unwrap();
            let command = command.arg(format!("--userspec=65534:{gid}"));
            output(
                command.args(["--groups=", "/"]).arg(&program).args(args),
                "",
            )
        };
        let refused = as_user("65534", &["doctor", "--json", "--group", "5"]);
        let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
        let error = found(told["findings"].as_array().unwrap(), "rights").unwrap();
        run(Command::new("sh").args(["-c", &remedy(&error)]), "");
        let group = run(Command::new("getent").args(["group", "lwnflog"]), "");
        let gid = group.split(':').nth(2).unwrap();
        let refused = as_user("65534", &["--version"]);
        assert!(!refused.status.success(), "not for everybody");
        let mended = as_user(gid, &["doctor", "--json", "--group", "5"]);
        let told: Value = serde_json::from_slice(&mended.stdout).unwrap();
        let findings = told["findings"].as_array().unwrap();
        assert_eq!(found(findings, "rights").unwrap()["severity"], "fine");
        assert_eq!(found(findings, "rules-unknown"), None);
        load_capture_rules(lab.receiver());
        let read = as_user(gid, &["doctor", "--json", "--group", "5"]);
        let told: Value = serde_json::from_slice(&read.stdout).unwrap();
        assert_eq!(
            found(told["findings"].as_array().unwrap(), "nft-missing"),
            None
        );
        run_in(
            lab.receiver(),
            "nft",
            &["delete", "table", "ip", "lwnflog-g5"],
        );
        let options = [
            "--group",
            "5",
            "--install-rule",
            "--match",
            "udp dport 9",
            "--discard",
        ];
        let options = [&options[..], &["--duration", "100ms", "--no-control"]].concat();
        let captured = as_user(gid, &options);
        assert!(captured.status.success(), "{captured:?}");
    });
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
