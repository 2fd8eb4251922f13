//! Options from the environment and from a file, in one order of precedence.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{LWNFLOG, Running, lab, output, send_paced, temp_dir};
use serde_json::Value;

fn ctl(capture: &Running, words: &[&str]) -> Value {
    let mut command = Command::new(LWNFLOG);
    command
        .args(["ctl", "--json", "--directory"])
        .arg(capture.runtime());
    let done = output(command.args(words), "");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    let (lab, dir) = (lab(), temp_dir());
    let file = dir.path().join("wan.toml");
    let ring = dir.path().join("ring");
    fs::write(
        &file,
        format!(
            "group = 5\ninstall-rule = true\niface = [\"rx\", \"eth*\"]\nsnaplen = 60\nfiles = 3\nbatch = 100\n\
             json = true\ndrop = false\nwrite = \"{}\"\n",
            ring.display()
        ),
    )
    .unwrap();
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    command
        .env("LWNFLOG_CONFIG", &file)
        .env("LWNFLOG_FILES", "4")
        .env("LWNFLOG_BATCH", "200")
        .env("LWNFLOG_LINK_TYPE", "ip")
        .args(["--batch", "300"]);
    let mut capture = Running::spawn(&mut command);
    capture.wait_said("capturing group 5");
    let settings = ctl(&capture, &["settings"])["settings"].clone();
    assert_eq!(settings["snaplen"], 60, "the file's");
    assert_eq!(settings["files"], 4, "the environment's");
    assert_eq!(settings["batch"], 300, "the command line's");
    assert_eq!(settings["interfaces"], serde_json::json!(["rx", "eth*"]));
    send_paced(&lab, 20);
    capture.wait_written(20);
    let ended = capture.end();
    ended.assert_balanced();
    let files = ended.files();
    assert!(files[0].starts_with(&ring));
    assert_eq!(
        common::files::read(&files[0]).interfaces[0].link,
        228,
        "the environment's"
    );
}

/// Who names a source does not want the file's.
/// Several numbers of a source are a list; of an option that takes one value they are said to be too many;
/// and a file without an end is none.
#[test]
fn lists_in_a_file() {
    let (lab, dir) = (lab(), temp_dir());
    let file = dir.path().join("wan.toml");
    let config = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        output(command.arg("--no-control").arg("--config").arg(&file), "")
    };
    let all = "discard = true\nduration = \"50ms\"\n";
    for (source, says) in [
        ("group = [5, 6]", "capturing group 5,6"),
        ("group = [\"5-6\", 8]", "capturing group 5,6,8"),
        ("queue = [5, 6]", "capturing queue 5,6"),
    ] {
        let done = config(&format!("{source}\n{all}"));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.contains(says), "{said}");
    }
    let done = config(&format!("group = 5\nsnaplen = [64, 128]\n{all}"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("`snaplen` takes one value"), "{said}");
    let endless = output(Command::new(LWNFLOG).args(["--config", "/dev/zero"]), "");
    let said = String::from_utf8_lossy(&endless.stderr).into_owned();
    assert_eq!(endless.status.code(), Some(2), "{said}");
    assert!(said.contains("too long for a file of options"), "{said}");
}

#[test]
fn a_source_replaces_the_files() {
    let (lab, dir) = (lab(), temp_dir());
    let file = dir.path().join("wan.toml");
    fs::write(&file, "group = 5\njson = true\n").unwrap();
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    command
        .args(["--config"])
        .arg(&file)
        .args(["--hook", "-w"])
        .arg(dir.path());
    let mut capture = Running::spawn(&mut command);
    capture.wait_said("capturing hook prerouting");
    capture.end();
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let dir = temp_dir();
    let file = dir.path().join("wan.toml");
    let run = |text: &str, more: &[&str]| -> Output {
        fs::write(&file, text).unwrap();
        output(
            Command::new(LWNFLOG).arg("--config").arg(&file).args(more),
            "",
        )
    };
    for (text, says) in [
        ("gruop = 5\n", "there is no option `gruop`"),
        ("group = \n", "TOML parse error"),
        ("group = 5\nquiet = \"yes\"\n", "`quiet` is true or false"),
        ("group = 5\nconfig = \"x\"\n", "makes no sense in the file"),
        ("group = 5\nsnaplen = 70000\n", "70000"),
        ("group = { number = 5 }\n", "a text or a number"),
    ] {
        let refused = run(text, &[]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(says), "{text}: {said}");
        assert!(matches!(refused.status.code(), Some(1 | 2)), "{text}");
    }
    // A file that may be missing; then an option is missing.
    fs::remove_file(&file).unwrap();
    let missing = output(Command::new(LWNFLOG).arg("--config").arg(&file), "");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("No such file"));
    let may = format!("--config=-{}", file.display());
    let refused = output(Command::new(LWNFLOG).arg(&may), "");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--group <LIST>"));
    // Other commands do not care for a capture's variables.
    let list = output(
        Command::new(LWNFLOG)
            .env("LWNFLOG_GROUP", "5")
            .args(["rules", "--group", "7"]),
        "",
    );
    assert!(String::from_utf8_lossy(&list.stdout).contains("log group 7"));
}

/// The command line goes before the environment for the source, too; whoever says nothing there has
/// that of the environment.
#[test]
fn a_source_on_the_command_line_is_the_one() {
    let (lab, dir) = (lab(), temp_dir());
    for (args, says) in [
        (&["--group", "6"][..], "capturing group 6"),
        (&["--hook"], "capturing hook prerouting"),
        (&[], "capturing group 5"),
    ] {
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        command.env("LWNFLOG_GROUP", "5").args(args);
        command.args(["--duration", "0.1", "-w"]);
        let ended = Running::spawn(command.arg(dir.path())).wait_end();
        assert!(ended.status.success(), "{args:?}: {}", ended.said);
        assert!(ended.said.contains(says), "{args:?}: {}", ended.said);
    }
}

/// Wrong options in a file are wrong options.
#[test]
fn a_wrong_file_is_exit_status_2() {
    let (lab, dir) = (lab(), temp_dir());
    let file = dir.path().join("wan.toml");
    for (text, says) in [
        ("group = 5\nfiles = false\n", "`files`: a text or a number"),
        ("grupe = 5\n", "no option `grupe`"),
        ("group = \n", "TOML parse error"),
        ("group = 5\nquiet = 7\n", "`quiet` is true or false"),
    ] {
        fs::write(&file, text).unwrap();
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let refused = output(command.arg("--config").arg(&file), "");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(says), "{text}: {said}");
    }
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    let missing = output(command.args(["--config", "/no/such/file"]), "");
    assert_eq!(missing.status.code(), Some(2));
}
