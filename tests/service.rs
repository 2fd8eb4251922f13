//! lwnflog as a service: its unit by systemd's own tools, the rights that the unit gives, what the
//! service manager is told; manual pages and completions.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use common::{
    LWNFLOG, Running, copy_for_anybody, lab, load_capture_rules, output, run, send_paced, temp_dir,
};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/lwnflog@.service");

#[test]
fn the_unit_is_right_and_hardened() {
    let dir = temp_dir();
    // systemd looks whether what it starts is there.
    let unit = std::fs::read_to_string(UNIT).unwrap();
    let place = dir.path().join("lwnflog@wan.service");
    std::fs::write(&place, unit.replace("/usr/bin/lwnflog", LWNFLOG)).unwrap();
    let verify = output(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&place),
        "",
    );
    let said = String::from_utf8_lossy(&verify.stderr);
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("lwnflog"))
        .collect();
    assert!(verify.status.success() && ours.is_empty(), "{said}");
    // The exposure of 1.5, in tenths.
    run(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=15"])
            .arg(UNIT),
        "",
    );
}

/// Not root: a user with the three capabilities of the unit, and no others.
#[test]
fn the_rights_of_the_unit_suffice() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    open(dir.path(), 0o755);
    let program = copy_for_anybody(dir.path());
    for source in [&["--group", "5"][..], &["--hook"]] {
        let scene = temp_dir();
        open(scene.path(), 0o777);
        let manager = UnixDatagram::bind(scene.path().join("notify")).unwrap();
        open(&scene.path().join("notify"), 0o777);
        let rights = "+net_admin,+bpf,+perfmon";
        let mut command = lab.receiver().command("setpriv").unwrap();
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args([
            "--no-new-privs",
            "--inh-caps",
            rights,
            "--ambient-caps",
            rights,
        ]);
        command.args(["--bounding-set", &format!("-all,{rights}")]);
        command
            .arg(&program)
            .args(["--json", "-w"])
            .arg(scene.path().join("ring"));
        command.env("NOTIFY_SOCKET", scene.path().join("notify"));
        command.env("RUNTIME_DIRECTORY", scene.path());
        let mut capture = Running::spawn(command.args(source));
        capture.wait_said("capturing");
        let told = || {
            let mut message = [0; 256];
            let bytes = manager.recv(&mut message).unwrap();
            String::from_utf8_lossy(&message[..bytes]).into_owned()
        };
        assert_eq!(told().trim(), "READY=1");
        assert_eq!(told().trim(), "WATCHDOG=1");
        send_paced(&lab, 100);
        capture.wait_written(100);
        assert!(!capture.said().contains("no control"), "{}", capture.said());
        let ended = capture.end();
        ended.assert_balanced();
        let mut last = told();
        while last.trim() == "WATCHDOG=1" {
            last = told();
        }
        assert_eq!(last.trim(), "STOPPING=1");
    }
}

#[test]
fn why_a_capture_cannot_start_is_its_status() {
    let dir = temp_dir();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let mut command = Command::new(LWNFLOG);
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    let done = output(command.args(["--group", "nonsense"]), "");
    assert_eq!(done.status.code(), Some(2));
    let mut message = [0; 512];
    let bytes = manager.recv(&mut message).unwrap();
    let told = String::from_utf8_lossy(&message[..bytes]).into_owned();
    assert!(
        told.starts_with("STATUS=") && told.contains("`nonsense`"),
        "{told}"
    );
}

#[test]
fn manual_pages_and_completions_are_taken_by_their_readers() {
    let dir = temp_dir();
    for command in [&[][..], &["ctl"], &["rules"], &["repair"], &["demo"]] {
        let page = run(Command::new(LWNFLOG).arg("man").args(command), "");
        let place = dir.path().join("page.1");
        std::fs::write(&place, page).unwrap();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(&place);
        let read = output(&mut man, "");
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(
            read.status.success() && said.trim().is_empty(),
            "{command:?}: {said}"
        );
    }
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = run(Command::new(LWNFLOG).args(["completions", shell]), "");
        let place = dir.path().join(shell);
        std::fs::write(&place, &script).unwrap();
        run(Command::new(shell).arg(check).arg(&place), "");
        assert!(script.contains("install-rule"), "{shell}");
    }
}
