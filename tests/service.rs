//! lwnflog as a service: its unit by systemd's own tools, the rights that the unit gives, what the
//! service manager is told; manual pages and completions.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use common::booted::Booted;
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
    // The exposure that OPERATIONS.md names, in tenths.
    run(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=16"])
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
        std::os::unix::fs::chown(scene.path(), Some(65534), Some(65534)).unwrap();
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

/// What an instance's file says is what it does.
#[test]
fn the_unit_obeys_its_file() {
    let booted = Booted::new();
    let files = "file-size = \"1MB\"\nfiles = 2\n";
    let five = format!("{files}group = 5\ninstall-rule = true\n");
    let written = |name: &str, packets: u32| {
        booted.wait(&format!(
            "lwnflog ctl {name} stats | grep -q '\"written\":{packets}[,}}]'"
        ));
    };
    let ping = |count| booted.run(&format!("ping -qc{count} -i0.01 127.0.0.1"));

    // Two instances with rules of their own, side by side; files are where they are by default.
    booted.start("wan", &five);
    booted.start("lan", &five.replace('5', "6"));
    ping(5);
    written("wan", 10);
    written("lan", 10);
    booted.run("systemctl reload lwnflog@wan");
    booted.wait("ls /var/lib/lwnflog/wan/g5-000001-*Z.pcapng");
    booted.run("lwnflog ctl list | grep -q lan");
    assert!(booted.stop("wan").contains("detected  10"));
    booted.stop("lan");

    // The place that the file names, files and socket for the unit's own group, the priority of what is done
    // with finished files.
    booted.run("useradd -rG lwnflog reader && useradd -r stranger");
    booted.start(
        "wan",
        &format!(
            "{five}write = \"/var/lib/lwnflog/elsewhere\"\ngroup-owner = \"lwnflog\"\n\
             control-group = \"lwnflog\"\ncompress = \"lz4\"\non-rotate = \"sleep 100\"\non-rotate-shell = true\n"
        ),
    );
    ping(1);
    booted.wait(
        "setpriv --reuid reader --init-groups lwnflog ctl wan stats | grep -q '\"written\":2[,}]'",
    );
    booted.run("! setpriv --reuid stranger --init-groups lwnflog ctl wan stats");
    booted.run("systemctl reload lwnflog@wan");
    booted.wait("ls /var/lib/lwnflog/elsewhere/g5-000001-*.lz4");
    booted.run(
        "setpriv --reuid reader --init-groups cat /var/lib/lwnflog/elsewhere/*.lz4 >/dev/null",
    );
    booted.wait("test \"$(ps -o ni= -C sleep | tr -d ' ')\" = 19");
    booted.run("pkill -x sleep; test ! -e /var/lib/lwnflog/wan/g5-000002*");
    let said = booted.stop("wan");
    assert!(
        !said.contains("no control") && !said.contains("priority"),
        "{said}"
    );

    // A socket for figures, and addresses of the loopback.
    for (place, asked) in [
        ("9753", "http://127.0.0.1:9753/metrics"),
        ("[::1]:9753", "http://[::1]:9753/metrics"),
        (
            "unix:/run/lwnflog/wan/metrics.sock",
            "--unix-socket /run/lwnflog/wan/metrics.sock http://x/metrics",
        ),
    ] {
        booted.start("wan", &format!("{five}metrics = \"{place}\"\n"));
        booted.run(&format!("curl -sfg -m 10 {asked} | grep -q lwnflog_"));
        booted.stop("wan");
    }

    // What makes no sense is said, and not tried again and again.
    for wrong in ["instal-rule = true", "snaplen = \"many\""] {
        booted.write("/etc/lwnflog/wan.toml", &format!("{five}{wrong}\n"));
        booted.run("! systemctl start lwnflog@wan");
        let state =
            booted.run("systemctl show -p ExecMainStatus -p ActiveState -p NRestarts lwnflog@wan");
        let lines = ["ExecMainStatus=2", "ActiveState=failed", "NRestarts=0"];
        assert!(
            lines.iter().all(|line| state.contains(line)),
            "{wrong}: {state}"
        );
        booted.run("systemctl reset-failed");
    }
}

/// The block of OPERATIONS.md that begins with this line, to its end.
fn printed(beginning: &str) -> String {
    let text = include_str!("../docs/OPERATIONS.md");
    let (_, rest) = text.split_once(beginning).expect(beginning);
    let (block, _) = rest.split_once("```").unwrap();
    // Indented where it belongs to a list.
    format!("{beginning}{block}").replace("\n  ", "\n")
}

/// Commands and the drop-in of OPERATIONS.md, as they stand there, but for the names of hosts.
#[test]
fn what_the_unit_does_not_allow_a_drop_in_does() {
    let booted = Booted::new();
    let five = "file-size = \"1MB\"\nfiles = 2\ngroup = 5\ninstall-rule = true\n";
    booted.run(
        "ip netns add evidence; ip link add near type veth peer name far netns evidence
         ip addr add 192.0.2.1/24 dev near; ip link set near up
         ip -n evidence addr add 192.0.2.7/24 dev far; ip -n evidence link set far up
         groupadd evidence; useradd -rG evidence reader
         mkdir /srv/wan; install -d -o lwnflog /srv/evidence",
    );
    booted.write(
        "/tmp/rsyncd.conf",
        "[wan]\npath = /srv/wan\nread only = no\nuid = root\nuse chroot = no",
    );
    booted
        .run("ip netns exec evidence rsync --daemon --address=192.0.2.7 --config=/tmp/rsyncd.conf");
    let ship = printed("on-rotate = 'rsync").replace("evidence:/wan/", "rsync://192.0.2.7/wan/");
    let rotate = || {
        booted.run("ping -qc1 127.0.0.1");
        booted.wait("lwnflog ctl wan stats | grep -q '\"written\":[1-9]'");
        booted.run("systemctl reload lwnflog@wan");
    };
    let capture = |options: &str| {
        booted.start("wan", &format!("{five}{options}"));
        rotate();
        booted
            .wait("ls /var/lib/lwnflog/wan/ | grep -q Z.pcapng || ls /srv/wan | grep -q Z.pcapng");
    };

    capture("on-rotate = \"cp -t /srv/evidence\"");
    booted.wait("journalctl -u lwnflog@wan | grep -q 'Read-only file system'");
    booted.stop("wan");
    let beyond = printed("# /etc/systemd/system/lwnflog@wan.service.d/beyond.conf");
    booted.write(
        "/etc/systemd/system/lwnflog@wan.service.d/beyond.conf",
        &beyond,
    );
    booted.run("systemctl daemon-reload");
    capture("on-rotate = \"cp -t /srv/evidence\"");
    booted.wait("ls /srv/evidence/g5-*Z.pcapng");
    booted.stop("wan");

    capture(&ship);
    booted.wait("ls /srv/wan/g5-000003-*Z.pcapng && ! ls /var/lib/lwnflog/wan/g5-000003-*Z.pcapng");
    booted.stop("wan");

    booted.start(
        "wan",
        &format!("{five}group-owner = \"evidence\"\ncontrol-group = \"evidence\"\nmetrics = \"192.0.2.1:9753\"\nwrite = \"/var/lib/lwnflog/shared\"\n"),
    );
    booted.run(
        "ip netns exec evidence curl -sf -m 10 http://192.0.2.1:9753/metrics | grep -q lwnflog_",
    );
    rotate();
    booted.wait("setpriv --reuid reader --init-groups cat /var/lib/lwnflog/shared/g5-000001-*Z.pcapng | grep -q .");
    booted.run("setpriv --reuid reader --init-groups lwnflog ctl wan stats");
    booted.stop("wan");
}
