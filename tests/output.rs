//! What lwnflog prints, word for word: a change of its output is a change of a file below
//! `tests/golden`. `LWNFLOG_BLESS=1 cargo test --test output` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{LWNFLOG, Running, lab, load_capture_rules, namespace, send_paced, temp_dir};
use serde_json::{Map, Value};

/// Holds a text against its golden file.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if env::var_os("LWNFLOG_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{} does not say what is printed now:\n{text}",
        path.display()
    );
}

/// What a command prints, and how it ends: both streams, under its own command line.
fn transcript(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(LWNFLOG)
        .args(args)
        .current_dir(dir)
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "$ lwnflog {}\n{}{}[{}]\n\n",
        args.join(" "),
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().unwrap()
    )
}

#[test]
fn help_pages_are_as_they_were() {
    let dir = temp_dir();
    for (name, args) in [
        ("help.txt", &["--help"][..]),
        ("help-short.txt", &["-h"]),
        ("help-demo.txt", &["demo", "--help"]),
        ("help-rules.txt", &["rules", "--help"]),
        ("help-repair.txt", &["repair", "--help"]),
    ] {
        assert_golden(name, &transcript(dir.path(), args));
    }
}

#[test]
fn rules_are_as_they_were() {
    let dir = temp_dir();
    let all: String = [
        "rules --group 5",
        "rules --group 5-8 --iface eth0",
        "rules --group 5 --drop --prefix seen",
        "rules --queue 5",
        "rules --queue 5-8 --iface eth0",
    ]
    .iter()
    .map(|line| transcript(dir.path(), &line.split(' ').collect::<Vec<_>>()))
    .collect();
    assert_golden("rules.txt", &all);
}

#[test]
fn errors_are_as_they_were() {
    let dir = temp_dir();
    fs::write(dir.path().join("no-capture"), "hello").unwrap();
    let all: String = [
        "--group x",
        "--group 8-5",
        "--group 0-500",
        "--group 5 --file-size big",
        "--group 5 --file-size 1k",
        "--group 5 --files 1",
        "--group 5-6 -w -",
        "--group 5 -w out.pcapng",
        "--group 5 -s 65536",
        "--group 5 --flush-ms 9",
        "--group 5 --duration soon",
        "--group 5 --duration 0",
        "--group 5 --drop",
        "--group 5 --mark 7",
        "--queue 5 --verdict drop --mark 7",
        "--queue 5 --mark x",
        "--group 5 --group-owner nobody-has-this-name",
        "--group 5 -w no-capture",
        "rules --group 5 --prefix \"",
        "repair no-such-file",
        "repair no-capture",
        "",
    ]
    .iter()
    .map(|line| {
        let args: Vec<_> = line.split(' ').filter(|arg| !arg.is_empty()).collect();
        transcript(dir.path(), &args)
    })
    .collect();
    assert_golden("errors.txt", &all);
}

/// Figures that differ from run to run.
const VOLATILE: [&str; 6] = [
    "elapsed_secs",
    "packets_per_sec",
    "before_hook",
    "batches",
    "bytes",
    "files",
];

/// A JSON object without them: names and values in the order of their names.
fn steady(object: &Value) -> Value {
    let Value::Object(fields) = object else {
        return object.clone();
    };
    let fields = fields.iter().map(|(name, value)| {
        let value = match value {
            _ if VOLATILE.contains(&name.as_str()) => Value::from("..."),
            Value::Array(all) => Value::Array(all.iter().map(steady).collect()),
            other => steady(other),
        };
        (name.clone(), value)
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// The same for a report: the values of its volatile lines.
fn steady_line(line: &str) -> String {
    let volatile = ["before the hook", "elapsed", "bytes", "files, newest first"];
    match volatile
        .iter()
        .find(|name| line.trim_start().starts_with(**name))
    {
        Some(name) => format!("{name:>22}  ..."),
        None => line.to_owned(),
    }
}

#[test]
fn reports_are_as_they_were() {
    const PACKETS: u64 = 1000;
    let text = |args: &[&str]| {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let count = PACKETS.to_string();
        let command = command.current_dir(dir.path());
        let mut running = Running::spawn(
            command
                .args(["-g", "5", "-c", &count, "-w", "ring"])
                .args(args),
        );
        running.wait_said("capturing group 5");
        send_paced(&lab, PACKETS);
        let ended = running.wait_end();
        // On a slow machine a start says what takes so long.
        let said = ended
            .said
            .lines()
            .filter(|line| !line.contains("still starting"));
        let said: Vec<_> = said.map(steady_line).collect();
        let shown: Vec<_> = ended.shown.iter().map(|line| steady_line(line)).collect();
        (ended, said, shown)
    };
    let (_, said, shown) = text(&[]);
    assert_golden(
        "report.txt",
        &(said.join("\n") + "\n---\n" + &shown.join("\n") + "\n"),
    );
    let (_, said, shown) = text(&["--discard"]);
    assert_golden(
        "report-discard.txt",
        &(said.join("\n") + "\n---\n" + &shown.join("\n") + "\n"),
    );
    let (ended, ..) = text(&["--json"]);
    let report = serde_json::to_string_pretty(&steady(&ended.report)).unwrap();
    assert_golden("report.json", &(report + "\n"));
}

#[test]
fn figures_while_it_runs_are_as_they_were() {
    let (namespace, dir) = (namespace(), temp_dir());
    load_capture_rules(&namespace);
    let mut running = Running::capture(&namespace, dir.path(), &["--group", "5"]);
    let stats = running.wait_stats("any", |_| true);
    running.end();
    let stats = serde_json::to_string_pretty(&steady(&stats)).unwrap();
    assert_golden("stats.json", &(stats + "\n"));
}
