//! Groups, queues and the hook as Wireshark's interfaces: tshark lists them, asks for their options,
//! and captures through them; the toolbar's messages reach the capture.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{
    LWNFLOG, copy_for_anybody, lab, load_capture_rules, run, temp_dir, until, with_runtime,
};
use lwnflog::lab::Traffic;

/// Runs a script in a mount namespace in which Wireshark's folder for such programs is an empty one.
const SHADOWED: &str = "folder=$(tshark -G folders 2>/dev/null | sed -n 's/^.*Extcap path:[[:space:]]*//p' | head -n 1)
mkdir -p \"$folder\" && mount --bind \"$1\" \"$folder\" && \"$2\" extcap --install >/dev/null && shift 2 && exec \"$@\"";

fn shadowed(mut command: Command, folder: &Path, args: &[&str]) -> Command {
    command.args(["-m", "sh", "-c", SHADOWED, "sh"]);
    command.arg(folder).arg(LWNFLOG).args(args);
    command
}

#[test]
fn tshark_lists_the_interfaces() {
    let dir = temp_dir();
    let mut list = shadowed(Command::new("unshare"), dir.path(), &["tshark", "-D"]);
    let listed = run(&mut list, "");
    for shown in [
        "lwnflog-group (Netfilter: an NFLOG group)",
        "lwnflog-hook (Netfilter: the hook itself)",
        "lwnflog-queue (Netfilter: an NFQUEUE queue)",
    ] {
        assert!(listed.contains(shown), "{listed}");
    }
}

/// Nothing is left of it; where the program has gone first, nothing is listed, and nobody complains.
#[test]
fn the_script_goes_as_it_came() {
    let (dir, programs) = (temp_dir(), temp_dir());
    let program = copy_for_anybody(programs.path());
    let in_turn = "set -e
        \"$0\" extcap --remove; test ! -e \"$1/lwnflog\"; \"$0\" extcap --remove
        echo mine >\"$1/lwnflog\"; ! \"$0\" extcap --remove; test -e \"$1/lwnflog\"
        \"$2\" extcap --install; rm \"$2\"; tshark -D 2>&1; test -x \"$1/lwnflog\"";
    let mut shadowed = shadowed(
        Command::new("unshare"),
        dir.path(),
        &["sh", "-c", in_turn, LWNFLOG],
    );
    let said = run(shadowed.arg(dir.path()).arg(&program), "");
    assert!(
        said.contains("removed") && said.contains("was not there"),
        "{said}"
    );
    assert!(
        !said.contains("lwnflog-group") && !said.contains("not found"),
        "{said}"
    );
}

#[test]
fn an_interface_tells_its_options() {
    let ask = |args: &[&str]| run(Command::new(LWNFLOG).arg("extcap").args(args), "");
    let group = ask(&["--extcap-interface", "lwnflog-group", "--extcap-config"]);
    for field in [
        "--number",
        "--snaplen",
        "--family",
        "--iface",
        "--install-rule",
        "--match",
    ] {
        assert!(group.contains(&format!("{{call={field}}}")), "{group}");
    }
    let hook = ask(&["--extcap-interface", "lwnflog-hook", "--extcap-config"]);
    assert!(
        hook.contains("{value=forward}") && !hook.contains("--number"),
        "{hook}"
    );
    let link = ask(&["--extcap-interface", "lwnflog-group", "--extcap-dlts"]);
    assert!(link.starts_with("dlt {number=1}"), "{link}");
    // Every line is one of its grammar: a word, and then values in braces.
    for line in [ask(&["--extcap-interfaces"]), group, hook]
        .join("")
        .lines()
    {
        let (word, values) = line.split_once(' ').unwrap();
        assert!(
            ["extcap", "interface", "control", "arg", "value"].contains(&word),
            "{line}"
        );
        assert!(values.starts_with('{') && values.ends_with('}'), "{line}");
    }
}

/// tshark captures a group and the hook as it would capture a device.
#[test]
fn tshark_captures() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    for (interface, option) in [("group", "number:5"), ("hook", "at:prerouting")] {
        let (dir, runtime) = (temp_dir(), temp_dir());
        let interface = format!("lwnflog-{interface}");
        let preference = format!("extcap.{}.{option}", interface.replace('-', "_"));
        let args = [
            "tshark",
            "-n",
            "-i",
            &interface,
            "-o",
            &preference,
            "-c",
            "20",
            "-T",
            "fields",
            "-e",
            "udp.length",
        ];
        let mut capture = shadowed(
            lab.receiver().command("unshare").unwrap(),
            dir.path(),
            &args,
        );
        with_runtime(&mut capture, runtime.path());
        let capture = capture
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let done = thread::scope(|scope| {
            let waits = scope.spawn(|| capture.wait_with_output().unwrap());
            while !waits.is_finished() {
                Traffic::new(200, 20)
                    .rate(Some(200))
                    .send(&lab, None)
                    .unwrap();
            }
            waits.join().unwrap()
        });
        let (found, said) = (
            String::from_utf8_lossy(&done.stdout).into_owned(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        );
        assert_eq!(
            found.lines().filter(|line| *line == "166").count(),
            20,
            "{found}{said}"
        );
    }
}

/// Without Wireshark: its part is played here, byte by byte.
#[test]
fn the_toolbar_changes_the_snap_length_and_pauses() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let pipe = |name: &str| {
        let path = dir.path().join(name);
        run(Command::new("mkfifo").arg(&path), "");
        path
    };
    let (fifo, control_in) = (pipe("fifo"), pipe("in"));
    let mut capture = lab.receiver().command(LWNFLOG).unwrap();
    with_runtime(&mut capture, dir.path());
    capture.args([
        "extcap",
        "--extcap-interface",
        "lwnflog-group",
        "--capture",
        "--number",
        "5",
    ]);
    let mut capture = capture
        .arg("--fifo")
        .arg(&fifo)
        .arg("--extcap-control-in")
        .arg(&control_in)
        .spawn()
        .unwrap();
    let copy = dir.path().join("copy.pcapng");
    let mut reads = Command::new("cp").arg(&fifo).arg(&copy).spawn().unwrap();
    let mut toolbar = fs::File::options().write(true).open(&control_in).unwrap();
    let sizes = || {
        let fields = ["-T", "fields", "-e", "frame.cap_len"];
        let found = Command::new("tshark")
            .arg("-nr")
            .arg(&copy)
            .args(fields)
            .output()
            .unwrap();
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        found.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let send = |packets| Traffic::new(200, packets).send(&lab, None).unwrap();
    until("the capture has begun", || {
        send(1);
        thread::sleep(Duration::from_millis(200));
        (!sizes().is_empty()).then_some(())
    });
    let ask = |words: &[&str]| {
        let mut ctl = Command::new(LWNFLOG);
        ctl.args(["ctl", "--directory"]).arg(dir.path());
        let told = ctl.args(words).output().unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    toolbar.write_all(b"T\0\0\x04\x00\x0160").unwrap();
    until("the snap length is changed", || {
        ask(&["settings"]).contains("60").then_some(())
    });
    send(5);
    until("shorter frames", || {
        (sizes().iter().filter(|size| *size == "60").count() == 5).then_some(())
    });
    toolbar.write_all(b"T\0\0\x03\x01\x01\x01").unwrap();
    until("it pauses", || {
        ask(&["settings"])
            .replace(": ", ":")
            .contains("\"paused\":true")
            .then_some(())
    });
    drop(toolbar);
    let pid = rustix::process::Pid::from_child(&capture);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(capture.wait().unwrap().success());
    assert!(reads.wait().unwrap().success());
}

#[test]
fn what_cannot_be_is_said() {
    let said = |args: &[&str]| {
        let done = Command::new(LWNFLOG)
            .arg("extcap")
            .args(args)
            .output()
            .unwrap();
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    assert!(said(&[]).contains("lwnflog extcap --install"));
    assert!(
        said(&["--extcap-interface", "eth0", "--extcap-dlts"]).contains("`eth0` is no interface")
    );
    let group = ["--extcap-interface", "lwnflog-group", "--capture"];
    assert!(said(&group).contains("needs --fifo"));
    let filter = [
        &group[..],
        &["--fifo", "f", "--extcap-capture-filter", "tcp"],
    ]
    .concat();
    assert!(said(&filter).contains("lwnflog's rules select packets"));
    let wrong = [&group[..], &["--fifo", "f", "--number", "x"]].concat();
    assert!(said(&wrong).contains('x'));
}

/// Wireshark may end before it opens the pipe, take the pipe away, or stop what it has started.
#[test]
fn who_waits_for_a_reader_can_be_stopped() {
    let lab = lab();
    for way in ["signal", "removed", "orphaned"] {
        let dir = temp_dir();
        let fifo = dir.path().join("fifo");
        run(Command::new("mkfifo").arg(&fifo), "");
        let mut capture = lab.receiver().command("sh").unwrap();
        with_runtime(&mut capture, dir.path());
        // What starts it stays or goes.
        let script = match way {
            "orphaned" => "\"$@\" & echo $! >\"$0\"; read x",
            _ => "echo $$ >\"$0\"; exec \"$@\"",
        };
        let pid_file = dir.path().join("pid");
        capture.args(["-c", script]).arg(&pid_file).arg(LWNFLOG);
        capture.args(["extcap", "--capture", "--extcap-interface"]);
        capture.args(["lwnflog-group", "--number", "5", "--fifo"]);
        capture.arg(&fifo).stdin(Stdio::piped());
        let mut capture = capture.stderr(Stdio::piped()).spawn().unwrap();
        let pid: i32 = until("it has begun", || {
            fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
        });
        let runs = || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            name.trim() == "lwnflog" && !state.contains(") Z ")
        };
        until("it runs", || runs().then_some(()));
        thread::sleep(Duration::from_millis(300));
        assert!(runs(), "{way}: nobody has opened the pipe yet");
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        match way {
            "signal" => {
                rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
            }
            "removed" => fs::remove_file(&fifo).unwrap(),
            _ => drop(capture.stdin.take()),
        }
        until("it has ended", || (!runs()).then_some(()));
        capture.wait().unwrap();
    }
}

#[test]
fn an_answer_that_nobody_reads_is_no_panic() {
    for question in [
        &["--extcap-interfaces"][..],
        &["--extcap-interface", "lwnflog-group", "--extcap-dlts"],
        &["--extcap-interface", "lwnflog-group", "--extcap-config"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut ask = Command::new(LWNFLOG);
        let done = ask
            .arg("extcap")
            .args(question)
            .stdout(writer)
            .stderr(Stdio::piped());
        let done = done.spawn().unwrap().wait_with_output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut ask = Command::new(LWNFLOG);
        let done = ask
            .arg("extcap")
            .args(question)
            .stdout(full)
            .stderr(Stdio::piped());
        let done = done.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("standard output"), "{said}");
    }
    let mut ask = Command::new(LWNFLOG);
    let done = ask
        .args(["extcap", "--extcap-interface", "\u{1b}[31m"])
        .output()
        .unwrap();
    assert!(!done.stderr.contains(&0x1b), "{done:?}");
}
