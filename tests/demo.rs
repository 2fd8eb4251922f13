//! `lwnflog demo`, as a newcomer runs it: with root's rights, without any, and where the system
//! allows no namespaces.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use tempfile::TempDir;

/// `nobody`: a user without any right.
const NOBODY: &str = "65534";

/// A directory that everybody may use, with a copy of the program (the original may lie where only
/// its owner looks).
fn room() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("lwnflog");
    // `cp`, not `fs::copy`: a test beside this one that starts a program meanwhile would inherit
    // the copy's descriptor, and a file that is open for writing cannot be started ("Text file
    // busy").
    let copied = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_lwnflog").as_ref(), program.as_os_str()])
        .status()
        .unwrap();
    assert!(copied.success());
    (dir, program)
}

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The figure that the demo's output names.
fn figure(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| {
        let value = line.trim().strip_prefix(name)?;
        value
            .starts_with("  ")
            .then(|| value.trim().replace(',', ""))
    });
    line.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
}

/// Packets of a capture file, as a parser reads it that is not ours.
fn packets_in(path: &Path) -> u64 {
    let mut reader = create_reader(1 << 20, File::open(path).unwrap()).unwrap();
    let mut packets = 0;
    loop {
        let used = match reader.next() {
            Ok((used, block)) => {
                if let PcapBlockOwned::NG(Block::EnhancedPacket(packet)) = block {
                    assert!([64, 256, 1500].contains(&packet.origlen));
                    assert_eq!(packet.caplen, packet.origlen.min(128));
                    assert_eq!(packet.packet_data()[12..15], [8, 0, 0x45]);
                    packets += 1;
                }
                used
            }
            Err(PcapError::Eof) => return packets,
            Err(PcapError::Incomplete(_)) => {
                reader.refill().unwrap();
                continue;
            }
            Err(error) => panic!("{}: {error:?}", path.display()),
        };
        reader.consume(used);
    }
}

/// Runs the demo and holds what it says against the file it names.
fn demo_succeeds(mut command: Command, dir: &Path) {
    let output = command
        .args(["demo", "--secs", "1", "-w", "ring of the demo"])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let [sent, detected, written] = ["sent", "detected", "written"].map(|name| figure(&text, name));
    let dropped: u64 = ["dropped: overrun", "allocation", "writer"]
        .map(|name| figure(&text, name))
        .iter()
        .sum();
    assert_eq!(sent, 20_000, "{text}");
    assert_eq!(detected, sent, "{text}");
    assert_eq!(written + dropped, detected, "{text}");
    let quoted = text
        .lines()
        .find_map(|line| line.strip_prefix("  wireshark '"))
        .expect("the file's name is shown");
    let file = dir.join(quoted.trim_end_matches('\''));
    assert_eq!(packets_in(&file), written, "{text}");
}

#[test]
fn the_demo_captures_all_it_sends() {
    let (dir, program) = room();
    demo_succeeds(Command::new(program), dir.path());
}

#[test]
fn the_demo_needs_no_root() {
    let (dir, program) = room();
    let command = if am_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    demo_succeeds(command, dir.path());
}

/// In a user namespace that allows no further one, and without any right in it.
#[test]
fn where_namespaces_are_not_allowed_the_demo_says_so() {
    let (dir, program) = room();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --bounding-set -all --inh-caps -all \"$0\" demo";
    let output = Command::new("unshare")
        .args(["-Ur", "sh", "-c", script])
        .arg(program)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot make a user namespace"), "{text}");
    assert!(text.contains("run as root, or allow it"), "{text}");
    assert_eq!(text.matches("os error").count(), 1, "said once: {text}");
    assert!(!dir.path().join("lwnflog-capture").exists());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let (dir, program) = room();
    fs::write(dir.path().join("file"), "").unwrap();
    let output = Command::new(program)
        .args(["demo", "-w", "file/ring"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("lwnflog: file/ring: "), "{text}");
    assert_eq!(text.matches("os error").count(), 1, "said once: {text}");
}
