//! What goes wrong is said with its cause and its remedy, once, and with the right exit status.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{
    Ended, LWNFLOG, Running, copy_for_anybody, lab, load_capture_rules, namespace, nft, output,
    temp_dir,
};
use lwnflog::lab::{Namespace, Traffic};

/// Runs lwnflog to its end.
fn attempt(namespace: &Namespace, args: &[&str]) -> Ended {
    let dir = temp_dir();
    let mut command = namespace.command(LWNFLOG).unwrap();
    Running::spawn(command.current_dir(dir.path()).args(args)).wait_end()
}

#[track_caller]
fn assert_says(ended: &Ended, status: i32, parts: &[&str]) {
    assert_eq!(ended.status.code(), Some(status), "{}", ended.said);
    for part in parts {
        assert!(
            ended.said.contains(part),
            "`{part}` is not in: {}",
            ended.said
        );
    }
}

/// A limit for what a process may write to a file (`ulimit -f`) ends nobody without a word.
#[test]
fn a_file_that_may_not_grow_is_an_error() {
    let dir = common::temp_dir();
    let script = format!("ulimit -f 1; exec {LWNFLOG} man > \"$0\"");
    let output = common::output(
        Command::new("sh")
            .args(["-c", &script])
            .arg(dir.path().join("page")),
        "",
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}: {said}", output.status);
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn a_taken_group_names_the_process() {
    let (namespace, dir) = (namespace(), temp_dir());
    let first = Running::capture(&namespace, dir.path(), &["--group", "5"]);
    let second = attempt(&namespace, &["--group", "5", "-w", "elsewhere"]);
    let holder = format!("process {} (lwnflog)", first.pid());
    assert_says(
        &second,
        1,
        &[
            "group 5 is taken by",
            &holder,
            "stop it, or capture another group",
        ],
    );
    // Of several groups, too; and nothing is left of the attempt.
    let both = attempt(&namespace, &["--group", "4,5", "-w", "elsewhere"]);
    assert_says(&both, 1, &["group 5 is taken by"]);
    Running::capture(&namespace, temp_dir().path(), &["--group", "4"]).end();
    first.end();
}

#[test]
fn a_failed_start_leaves_no_files() {
    let (namespace, dir) = (namespace(), temp_dir());
    let first = Running::capture(&namespace, &dir.path().join("first"), &["--group", "5"]);
    let ring = dir.path().join("second");
    let second = attempt(&namespace, &["--group", "5", "-w", ring.to_str().unwrap()]);
    assert_says(&second, 1, &["is taken by"]);
    let left: Vec<_> = fs::read_dir(&ring)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".g5.lock"], "the lock's file, which nobody holds");
    first.end();
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let args = "-g 5 --install-rule --iface eht0 --duration 0.3 -q";
    let args: Vec<_> = args.split(' ').collect();
    assert_says(&attempt(&namespace(), &args), 0, &["no interface `eht0`"]);
}

#[test]
fn option_values_that_make_no_sense_exit_with_2() {
    let namespace = namespace();
    for (args, part) in [
        (&["--group", "x"][..], "write 5, 5-8 or 5,7"),
        (&["--group", "65536"], "write 5, 5-8 or 5,7"),
        (&["--group", "8-5"], "write 5, 5-8 or 5,7"),
        (&["--group", "0-500"], "name fewer"),
        (&["--group", "5", "--file-size", "big"], "write 200MB"),
        (&["--group", "5", "--file-size", "1k"], "too small"),
        (&["--group", "5", "--files", "1"], "use at least 2"),
        (&["--group", "5-6", "-w", "-"], "one stream"),
        (&["--group", "5", "-w", "out.pcapng"], "name a directory"),
        (&["--group", "5", "--files=-1"], "invalid value"),
        (&["--group", "5", "-s", "65536"], "snap length"),
        (&["--group", "5", "--buffer-size", "1X"], "write 200MB"),
        (&["--group", "5", "--flush-ms", "9"], "from 10 to 100"),
        (&["--group", "5", "--flush-ms", "101"], "from 10 to 100"),
        (&["--group", "5", "--duration", "soon"], "write 30s"),
        (&["--group", "5", "--duration", "0"], "above 0"),
        (&["--group", "5", "--duration=-3"], "write 30s"),
        (&["--group", "5", "--count", "0"], "0 is not in 1.."),
        (&["--group", "5", "--rotate-secs", "0"], "0 is not in 1.."),
        (&["--group", "5", "--batch", "0"], "0 is not in 1.."),
        (
            &["--group", "5", "--format", "pcapx"],
            "possible values: pcapng, pcap",
        ),
        (
            &["--group", "5", "--link-type", "token-ring"],
            "possible values: ethernet, ip, nflog",
        ),
        (&["--group", "5", "--drop"], "--install-rule"),
        (&["--group", "5", "--iface", "eth0"], "--install-rule"),
        (&["--group", "5", "--install-rule", "--iface", "a b"], "a b"),
        (&["rules", "--group", "5", "--prefix", "\""], "prefix"),
        (&["rules"], "--group"),
        (&["repair"], "FILE"),
        (&["--no-such-option"], "--no-such-option"),
        (&[], "--group"),
    ] {
        let ended = attempt(&namespace, args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", ended.said);
        assert!(
            ended.said.contains(part),
            "{args:?}: `{part}` is not in: {}",
            ended.said
        );
    }
}

#[test]
fn a_group_that_no_rule_feeds_is_said_once() {
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5-6"]);
    let line = capture.wait_said("no nftables rule");
    assert!(
        line.contains("group 5,6") && line.contains("lwnflog rules --group 5,6 | nft -f -"),
        "{line}"
    );
    // Capture goes on: the remedy works while it runs.
    let rules = common::run(Command::new(LWNFLOG).args(["rules", "--group", "5,6"]), "");
    nft(lab.receiver(), &rules);
    Traffic::new(64, 100).send(&lab, None).unwrap();
    capture.wait_written(100);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/detected"), 100);
    assert_eq!(
        ended.said.matches("no nftables rule").count(),
        1,
        "{}",
        ended.said
    );
}

#[test]
fn a_group_that_is_fed_says_by_what() {
    let (namespace, dir) = (namespace(), temp_dir());
    load_capture_rules(&namespace);
    let mut capture = Running::capture(&namespace, dir.path(), &["--group", "5"]);
    capture.wait_said("packets come from the rule ip lwnflog-g5 prerouting");
    capture.wait_stats("three seconds have gone", |stats| {
        stats["elapsed_secs"].as_f64().unwrap() > 2.9
    });
    let ended = capture.end();
    assert!(!ended.said.contains("no nftables rule"), "{}", ended.said);
}

/// A rule's `snaplen` and `queue-threshold` can only lower what lwnflog asks for: it says so.
#[test]
fn a_rule_that_lowers_our_settings_is_said() {
    let (namespace, dir) = (namespace(), temp_dir());
    common::load_rule(&namespace, "", "group 5 snaplen 40 queue-threshold 1");
    let mut capture = Running::capture(&namespace, dir.path(), &["--group", "5"]);
    capture.wait_said("better leave it out");
    capture.end();
}

/// Without CAP_NET_ADMIN: as another user, and as root that gave the right away.
#[test]
fn no_right_is_said_with_its_remedy() {
    let namespace = namespace();
    let dir = temp_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = copy_for_anybody(dir.path());
    for without in [
        &["--reuid=65534", "--regid=65534", "--clear-groups"][..],
        &["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"],
    ] {
        for options in [&["--group", "5"][..], &["--group", "5", "--install-rule"]] {
            let mut command = namespace.command("setpriv").unwrap();
            let command = command
                .current_dir(dir.path())
                .args(without)
                .arg(&copy)
                .args(options);
            let ended = Running::spawn(command).wait_end();
            assert_says(&ended, 1, &["group 5", "CAP_NET_ADMIN", "run as root"]);
            fs::remove_dir_all(dir.path().join("lwnflog-capture")).unwrap();
        }
    }
}

/// The table that another lwnflog installed is in the way of a second one.
#[test]
fn a_table_that_is_there_is_said() {
    let (namespace, dir) = (namespace(), temp_dir());
    load_capture_rules(&namespace);
    let ended = attempt(&namespace, &["--group", "5", "--install-rule"]);
    assert_says(
        &ended,
        1,
        &["ip lwnflog-g5", "nft delete table ip lwnflog-g5"],
    );
    drop(dir);
}

#[test]
fn standard_output_may_be_closed() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut command = lab.receiver().command("sh").unwrap();
    let script = format!("{LWNFLOG} --group 5 --json --duration 2500ms -w \"$0\" | true");
    let told = output(command.arg("-c").arg(script).arg(dir.path()), "");
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(
        said.contains("standard output is closed") && said.contains("elapsed"),
        "{said}"
    );
}

/// A directory whose name is not UTF-8 has a report like any other, and each name can be had byte
/// for byte.
#[test]
fn a_name_that_is_not_utf_8_is_reported() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let ring = dir.path().join(OsStr::from_bytes(b"ring-\xff"));
    let mut capture = Running::capture(lab.receiver(), &ring, &["--group", "5"]);
    Traffic::new(64, 10).send(&lab, None).unwrap();
    capture.wait_written(10);
    let ended = capture.end();
    assert_eq!(ended.number("/written"), 10);
    let shown = ended.report["files"][0].as_str().unwrap();
    assert!(shown.contains("ring-\u{fffd}/g5-000001"), "{shown}");
    let hex = ended.report["files_hex"][0].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    assert!(std::path::Path::new(OsStr::from_bytes(&bytes)).is_file());
}

/// A report that a program was to have and has not is an error.
#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut command = lab.receiver().command("sh").unwrap();
    let script = format!("{LWNFLOG} --group 5 -q --json --duration 100ms -w \"$0\" > /dev/full");
    let told = output(command.arg("-c").arg(script).arg(dir.path()), "");
    let said = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{said}");
    for part in ["the report could not be written", "detected"] {
        assert!(said.contains(part), "{said}");
    }
}

/// Without /proc it cannot be told who has a group, or whether anybody has: then that is what is
/// said.
#[test]
fn a_taken_group_without_proc_has_two_possible_causes() {
    let (namespace, dir) = (namespace(), temp_dir());
    let first = Running::capture(&namespace, dir.path(), &["--group", "5"]);
    let mut command = namespace.command("unshare").unwrap();
    let script = format!("mount -t tmpfs none /proc && exec {LWNFLOG} --group 5 -w \"$0\"/second");
    let command = command.args(["-m", "sh", "-ec", &script]).arg(dir.path());
    let ended = Running::spawn(command).wait_end();
    assert_says(
        &ended,
        1,
        &["another process has it", "CAP_NET_ADMIN", "without /proc"],
    );
    first.end();
}

/// What a process calls itself is no command to the terminal of who reads it.
#[test]
fn names_of_others_are_no_escape_sequences() {
    let (namespace, dir) = (namespace(), temp_dir());
    let program = dir.path().join("\u{1b}[31mred\u{7}");
    let mut copy = Command::new("cp");
    common::run(copy.arg(LWNFLOG).arg(&program), "");
    let mut command = namespace.command(program.to_str().unwrap()).unwrap();
    command
        .args(["--group", "5", "-w"])
        .arg(dir.path().join("ring"));
    let mut first = Running::spawn(&mut command);
    first.wait_said("capturing group");
    let second = attempt(&namespace, &["--group", "5"]);
    assert_says(&second, 1, &["group 5 is taken by", "(?[31mred?)"]);
    assert!(
        !second.said.contains(['\u{1b}', '\u{7}']),
        "{:?}",
        second.said
    );
    first.end();
}

/// A program that has the right by its file, as the documents give it to a group of users, has nft
/// translate what `--match` says; and it is no nft that a user names.
#[test]
fn the_right_on_the_file_is_enough_for_match() {
    let (namespace, dir) = (namespace(), temp_dir());
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = copy_for_anybody(dir.path());
    common::run(
        Command::new("setcap").arg("cap_net_admin+ep").arg(&program),
        "",
    );
    let ring = dir.path().join("ring");
    fs::create_dir(&ring).unwrap();
    std::os::unix::fs::chown(&ring, Some(65534), Some(65534)).unwrap();
    let false_nft = dir.path().join("nft");
    fs::write(&false_nft, "#!/bin/sh\ntouch \"$0.run\"\nexit 1\n").unwrap();
    fs::set_permissions(&false_nft, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = namespace.command("/usr/bin/setpriv").unwrap();
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&program).env("PATH", dir.path());
    command.args([
        "--group",
        "5",
        "--install-rule",
        "--match",
        "udp dport { 9, 53 }",
    ]);
    command.args(["--duration", "0.3", "--no-control", "-B", "100KiB", "-w"]);
    let ended = Running::spawn(command.arg(&ring)).wait_end();
    assert!(ended.status.success(), "{}", ended.said);
    assert!(!dir.path().join("nft.run").exists());
}
