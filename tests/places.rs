//! What the reading commands read, by name, and what they write to: what was named and is not there is an
//! error, an output is there as a whole or not at all, and is never an input.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use common::made::{File, ip, tcp};
use common::rings;
use common::spent::spent;
use common::{LWNFLOG, Running, copy_for_anybody, output, run, temp_dir, until};
use rustix::process::Signal;

/// A capture of so many packets.
fn capture(packets: u8) -> Vec<u8> {
    let mut file = File::new();
    for number in 0..packets {
        let packet = ip([10, 0, 0, number], [10, 0, 1, 1], 6, 0, &tcp(1000, 80, 2));
        file.packet_with(0, u64::from(number), &packet, 0, &[]);
    }
    file.0
}

/// How a command ended.
struct Tried {
    status: i32,
    out: String,
    err: String,
}

/// Runs a command line of lwnflog in a directory; its words are divided by blanks.
fn lwnflog(dir: &Path, line: &str) -> Tried {
    let mut command = Command::new(LWNFLOG);
    tried(command.current_dir(dir).args(line.split(' ')))
}

fn tried(command: &mut Command) -> Tried {
    let output = output(command, "");
    Tried {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Tried {
    #[track_caller]
    fn is(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in: {}", self.err);
        }
    }
}

/// Packets of a file.
#[track_caller]
fn count(dir: &Path, line: &str) -> u64 {
    let counted = lwnflog(dir, &format!("read --count {line}"));
    counted.is(0, &[]);
    counted.out.trim().parse().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

/// A device node of the test's own: character device 1, `minor`.
fn device(path: &Path, minor: &str) {
    run(Command::new("mknod").arg(path).args(["c", "1", minor]), "");
}

#[test]
fn an_output_is_never_an_input() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::create_dir(dir.join("ring")).unwrap();
    for path in ["a.pcapng", "ring/b.pcapng"] {
        fs::write(dir.join(path), capture(5)).unwrap();
    }
    fs::hard_link(dir.join("a.pcapng"), dir.join("hard.html")).unwrap();
    symlink("a.pcapng", dir.join("link")).unwrap();
    symlink("ring/b.pcapng", dir.join("within")).unwrap();
    for line in [
        "read a.pcapng -w a.pcapng",
        "read a.pcapng -w ./a.pcapng",
        "read -r a.pcapng -w hard.html",
        "read -f a.pcapng -w a.pcapng",
        "read a.pcapng -w link",
        "read link -w a.pcapng",
        "read ring -w ring/b.pcapng",
        "read ring -w within",
        "report a.pcapng -o hard.html",
        "report ring -o within",
        "report ring --compare a.pcapng -o a.pcapng",
    ] {
        lwnflog(dir, line).is(1, &["is read as"]);
    }
    // Nor will it be one the next time, nor one that is told to be left out.
    for name in ["evidence.pcapng", "x.pcap1", "x.cap", "x.pcapng.lz4"] {
        let line = format!("read ring -w ring/{name}");
        lwnflog(dir, &line).is(1, &["would be one of the captures"]);
    }
    assert_eq!(names(&dir.join("ring")), ["b.pcapng"]);
    // By a shell.
    let shell = |line: &str| {
        let line = line.replace("lwnflog", LWNFLOG);
        tried(Command::new("sh").current_dir(dir).args(["-c", &line]))
    };
    for line in [
        "lwnflog read a.pcapng -w - >>a.pcapng",
        "lwnflog read a.pcapng >>a.pcapng",
        "lwnflog report --text ring >>ring/b.pcapng",
        "lwnflog read -r - -w a.pcapng <a.pcapng",
        "lwnflog read a.pcapng -w /dev/stdout >>a.pcapng",
    ] {
        shell(line).is(1, &["is read as"]);
    }
    for path in ["a.pcapng", "ring/b.pcapng"] {
        assert!(fs::read(dir.join(path)).unwrap() == capture(5), "{path}");
    }
    // Nor another ring's file, nor the key.
    let ring_file = "ring/g5-000001-20251127T140000Z.pcapng";
    fs::rename(dir.join("ring/b.pcapng"), dir.join(ring_file)).unwrap();
    let line = format!("read a.pcapng -w {ring_file}");
    lwnflog(dir, &line).is(1, &["is a file of a ring"]);
    fs::rename(dir.join(ring_file), dir.join("ring/b.pcapng")).unwrap();
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    fs::write(dir.join("key"), key).unwrap();
    lwnflog(dir, "read a.pcapng --anonymize key -w key").is(1, &["is read as key"]);
    assert_eq!(fs::read_to_string(dir.join("key")).unwrap(), key);
    // What only lies beside them may be written, again and again.
    for _ in 0..2 {
        lwnflog(dir, "report ring -o ring/page.html").is(0, &[]);
        lwnflog(dir, "read ring -w evidence.pcapng").is(0, &[]);
    }
    assert_eq!(count(dir, "ring"), 5);
    assert_eq!(count(dir, "evidence.pcapng"), 5);
}

#[test]
fn what_is_no_plain_file_is_written_in_place() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    device(&dir.join("null"), "3");
    run(Command::new("mkfifo").arg(dir.join("fifo")), "");
    symlink("page.html", dir.join("link")).unwrap();
    fs::write(dir.join("page.html"), "old").unwrap();
    for line in ["report a.pcapng -o null", "read a.pcapng -w null"] {
        lwnflog(dir, line).is(0, &[]);
        let kind = dir.join("null").symlink_metadata().unwrap().file_type();
        assert!(kind.is_char_device());
    }
    for line in ["report a.pcapng -o fifo", "read a.pcapng -w fifo"] {
        let reader = Running::spawn(Command::new("cat").arg(dir.join("fifo")));
        lwnflog(dir, line).is(0, &[]);
        let ended = reader.wait_end();
        assert!(!ended.shown.is_empty(), "{line}");
        let kind = dir.join("fifo").symlink_metadata().unwrap().file_type();
        assert!(kind.is_fifo());
    }
    // The link stays, and what it leads to is the page.
    lwnflog(dir, "report a.pcapng -o link").is(0, &[]);
    assert!(dir.join("link").is_symlink());
    let page = fs::read_to_string(dir.join("page.html")).unwrap();
    assert!(page.contains("</html>"), "{page}");
    assert_eq!(lwnflog(dir, "report a.pcapng -o -").out, page);
    assert_eq!(lwnflog(dir, "report a.pcapng -o /dev/stdout").out, page);
    assert_eq!(lwnflog(dir, "report a.pcapng -o /proc/self/fd/1").out, page);
    // What a shell appends to is appended to.
    let line = format!("echo first >log; exec {LWNFLOG} read a.pcapng -w /dev/stdout >>log");
    run(Command::new("sh").current_dir(dir).args(["-c", &line]), "");
    assert!(fs::read(dir.join("log")).unwrap().starts_with(b"first\n"));
}

#[test]
fn links_that_others_laid_out_are_not_followed() {
    let tmp = temp_dir();
    let dir = tmp.path().join("theirs");
    fs::create_dir(&dir).unwrap();
    fs::write(tmp.path().join("mine"), "mine").unwrap();
    fs::write(tmp.path().join("a.pcapng"), capture(5)).unwrap();
    // The name as it is, and what earlier versions wrote to on the way.
    for name in ["page.html", "other.html.part"] {
        symlink(tmp.path().join("mine"), dir.join(name)).unwrap();
    }
    run(
        Command::new("chown").args(["-R", "-h", "nobody"]).arg(&dir),
        "",
    );
    let there = lwnflog(tmp.path(), "report a.pcapng -o theirs/page.html");
    there.is(1, &["is a link that user", "mine"]);
    lwnflog(tmp.path(), "report a.pcapng -o theirs/other.html").is(0, &[]);
    assert_eq!(fs::read(tmp.path().join("mine")).unwrap(), b"mine");
}

#[test]
fn what_was_there_stays_until_the_new_one_is_whole() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    fs::write(dir.join("broken.pcapng"), "").unwrap();
    let kept = ["old.pcapng", "old.html"];
    for name in kept {
        fs::write(dir.join(name), capture(9)).unwrap();
    }
    let before = names(dir);
    for line in [
        "read -r nosuch.pcapng -w old.pcapng",
        "read empty -w old.pcapng",
        "read a.pcapng hostt -w old.pcapng",
        "read a.pcapng --from noon -w old.pcapng",
        "read a.pcapng --anonymize nokey -w old.pcapng",
        "read broken.pcapng -w old.pcapng",
        "read -r - -w old.pcapng",
        "report nosuch.pcapng -o old.html",
        "report empty -o old.html",
        "report broken.pcapng -o old.html",
        "report a.pcapng --compare nosuch.pcapng -o old.html",
    ] {
        lwnflog(dir, line).is(1, &["lwnflog: "]);
        for name in kept {
            assert!(fs::read(dir.join(name)).unwrap() == capture(9), "{line}");
        }
        assert_eq!(names(dir), before, "{line}");
    }
    // A disk that is full.
    let small = dir.join("small");
    fs::create_dir(&small).unwrap();
    let full = r#"
        mount -t tmpfs -o size=64k none small
        cp a.pcapng small/old.pcapng && cp a.pcapng small/old.html
        head -c 48k /dev/zero >small/rest
        for line in "read large.pcapng -w small/old.pcapng" "read large.pcapng -w small/new.pcapng" \
            "report large.pcapng -o small/old.html"; do
            if $LWNFLOG $line; then echo "no error: $line"; fi
        done
        cmp a.pcapng small/old.pcapng; cmp a.pcapng small/old.html; ls -A small"#;
    let mut large = File::new();
    for number in 0..2000 {
        let packet = ip([10, 0, 0, 1], [10, 0, 1, 1], 6, 0, &tcp(number, 80, 2));
        large.packet_with(0, u64::from(number), &packet, 0, &[]);
    }
    fs::write(dir.join("large.pcapng"), large.0).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", full]).current_dir(dir);
    let tried = tried(command.env("LWNFLOG", LWNFLOG));
    assert_eq!(tried.out, "old.html\nold.pcapng\nrest\n", "{}", tried.err);
    assert!(tried.err.contains("No space left"), "{}", tried.err);
}

/// Without `/proc` a file has a hidden name until it is whole, as on file systems whose files all have names.
#[test]
fn a_hidden_name_goes_with_what_went_wrong() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    fs::write(dir.join("broken.pcapng"), "").unwrap();
    let script = r#"
        mount -t tmpfs none /proc
        $LWNFLOG read a.pcapng -w new.pcapng && $LWNFLOG report a.pcapng -o new.html || echo bad
        $LWNFLOG read broken.pcapng -w other.pcapng && echo bad
        $LWNFLOG read a.pcapng -w new.pcapng && ls -A"#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(dir);
    let tried = tried(command.env("LWNFLOG", LWNFLOG));
    assert_eq!(tried.out, "a.pcapng\nbroken.pcapng\nnew.html\nnew.pcapng\n");
    assert_eq!(count(dir, "new.pcapng"), 5);
    assert_eq!(mode(&dir.join("new.pcapng")), 0o600);
}

#[test]
fn one_that_is_killed_leaves_nothing() {
    let tmp = temp_dir();
    let dir = tmp.path();
    run(Command::new("mkfifo").arg(dir.join("fifo")), "");
    fs::write(dir.join("page.html"), "old").unwrap();
    let mut report = Running::spawn(Command::new(LWNFLOG).current_dir(dir).args([
        "report",
        "fifo",
        "-o",
        "page.html",
    ]));
    // It reads once the other end can be opened.
    let mut writer = fs::File::options()
        .write(true)
        .open(dir.join("fifo"))
        .unwrap();
    writer.write_all(&capture(5)).unwrap();
    report.signal(Signal::KILL);
    until("it has ended", || report.has_ended().then_some(()));
    assert_eq!(names(dir), ["fifo", "page.html"]);
    assert_eq!(fs::read(dir.join("page.html")).unwrap(), b"old");
}

#[test]
fn outputs_are_their_owners_alone() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    lwnflog(dir, "read a.pcapng -w new.pcapng").is(0, &[]);
    lwnflog(dir, "report a.pcapng -o new.html").is(0, &[]);
    assert_eq!(mode(&dir.join("new.pcapng")), 0o600);
    assert_eq!(mode(&dir.join("new.html")), 0o600);
    // Who opened it to others did so for the next one as well; what is another's says nothing.
    let page = dir.join("new.html");
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    lwnflog(dir, "report a.pcapng -o new.html").is(0, &[]);
    assert_eq!(mode(&page), 0o644);
    run(Command::new("chown").arg("nobody").arg(&page), "");
    lwnflog(dir, "report a.pcapng -o new.html").is(0, &[]);
    assert_eq!((mode(&page), page.metadata().unwrap().uid()), (0o600, 0));
    // A directory's right is none to overwrite what may not be written.
    let program = copy_for_anybody(dir);
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.join("kept.pcapng"), "kept").unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "nobody", "--clear-groups"])
        .arg(program)
        .args(["read", "a.pcapng", "-w", "kept.pcapng"]);
    let refused = tried(command.current_dir(dir));
    refused.is(1, &["kept.pcapng: Permission denied"]);
    assert_eq!(fs::read(dir.join("kept.pcapng")).unwrap(), b"kept");
}

#[test]
fn an_output_is_compressed_by_its_name() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    for (plain, packed, program) in [
        ("p.pcapng", "c.pcapng.zst", "zstd"),
        ("p.pcapng", "c.pcapng.lz4", "lz4"),
        ("p.pcap", "c.pcap.lz4", "lz4"),
        ("p.pcap", "c.pcap.zst", "zstd"),
    ] {
        lwnflog(dir, &format!("read a.pcapng -w {plain}")).is(0, &[]);
        lwnflog(dir, &format!("read a.pcapng -w {packed}")).is(0, &[]);
        let unpacked = output(Command::new(program).arg("-dc").arg(dir.join(packed)), "");
        let plain = fs::read(dir.join(plain)).unwrap();
        assert!(unpacked.stdout == plain, "{packed}");
        assert_eq!(count(dir, packed), 5);
    }
    lwnflog(dir, "report a.pcapng -o page.html.zst").is(0, &[]);
    let page = output(
        Command::new("zstd")
            .arg("-dc")
            .arg(dir.join("page.html.zst")),
        "",
    );
    assert!(page.stdout.ends_with(b"</html>\n") || page.stdout.ends_with(b"</html>"));
    for name in ["x.pcapng.gz", "x.pcap.xz", "x.bz2"] {
        lwnflog(dir, &format!("read a.pcapng -w {name}")).is(1, &[name, ".zst and .lz4"]);
        assert!(!dir.join(name).exists());
    }
}

/// What comes bit by bit is in the file soon after, and the file is whole when a signal ends it.
#[test]
fn what_comes_by_a_pipe_is_there_soon() {
    let tmp = temp_dir();
    let dir = tmp.path();
    for (name, signal) in [
        ("t.pcapng", Signal::INT),
        ("t.pcap", Signal::TERM),
        ("t.pcapng.zst", Signal::INT),
        ("t.pcapng.lz4", Signal::HUP),
    ] {
        fs::write(dir.join(name), "old").unwrap();
        let mut child = Command::new(LWNFLOG)
            .current_dir(dir)
            .args(["read", "-r", "-", "-w", name])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&capture(3)).unwrap();
        let reader = |path: &Path| match name.rsplit_once('.') {
            Some((_, "zst")) => output(Command::new("zstd").arg("-dcq").arg(path), "").stdout,
            Some((_, "lz4")) => output(Command::new("lz4").arg("-dcq").arg(path), "").stdout,
            _ => fs::read(path).unwrap(),
        };
        until("three packets are in the file", || {
            let plain = reader(&dir.join(name));
            let whole = dir.join("look.pcapng");
            fs::write(&whole, plain).unwrap();
            let look = lwnflog(dir, "read --count look.pcapng");
            (look.out == "3\n").then_some(())
        });
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
        drop(pipe);
        assert_eq!(count(dir, name), 3, "{name}");
    }
}

#[test]
fn who_waits_for_lines_has_them_as_they_come() {
    let tmp = temp_dir();
    let dir = tmp.path();
    run(Command::new("mkfifo").arg(dir.join("fifo")), "");
    let mut reader = Running::spawn(
        Command::new(LWNFLOG)
            .current_dir(dir)
            .args(["read", "fifo", "--json"]),
    );
    let mut pipe = fs::File::options()
        .write(true)
        .open(dir.join("fifo"))
        .unwrap();
    // So few bytes that none would be waited for to come along.
    pipe.write_all(&capture(3)).unwrap();
    until("three lines are there", || {
        (reader.shown().len() == 3).then_some(())
    });
    assert!(!reader.has_ended());
    drop(pipe);
    assert_eq!(reader.wait_end().status.code(), Some(0));
}

#[test]
fn a_follower_waits_for_the_first_capture_and_ends_whole() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::create_dir(dir.join("ring")).unwrap();
    let mut follower = Running::spawn(Command::new(LWNFLOG).current_dir(dir).args([
        "read",
        "-f",
        "ring",
        "-w",
        "copy.pcapng",
    ]));
    follower.wait_said("no capture yet");
    let written = dir.join("ring/.g5-000001.part");
    fs::write(&written, capture(4)).unwrap();
    fs::rename(written, dir.join("ring/g5-000001-20251127T140000Z.pcapng")).unwrap();
    until("the packets are there", || {
        let seen = lwnflog(dir, "read --count copy.pcapng");
        (seen.out == "4\n").then_some(())
    });
    follower.signal(Signal::INT);
    let ended = follower.wait_end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(count(dir, "copy.pcapng"), 4);
    // One whose time is over ends by itself.
    let over = lwnflog(dir, "read -f ring --to 2025-11-28 --json");
    over.is(0, &[]);
    assert_eq!(over.out.lines().count(), 4);
}

#[test]
fn a_reader_that_has_gone_or_a_full_disk_is_no_panic() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    device(&dir.join("full"), "7");
    for line in [
        "read a.pcapng --count",
        "read a.pcapng --count -c 2",
        "read -r /dev/stdin --count",
        "read a.pcapng",
        "read a.pcapng -w -",
        "report --text a.pcapng",
        "report -o - a.pcapng",
        "path a.pcapng",
        "export --csv - a.pcapng",
        "extcap --extcap-interfaces",
        "extcap --extcap-interface lwnflog-hook --extcap-dlts",
        "extcap --extcap-interface lwnflog-hook --extcap-config",
        "rules --group 5",
        "size --rate 100k --hours 1",
        "completions bash",
        "man",
    ] {
        for (to, status) in [("| true", 0), (">full", 1)] {
            // `true` has gone before anything is written.
            let line =
                format!("(sleep 0.05; cat a.pcapng | {LWNFLOG} {line}; echo status $? >&2) {to}");
            let ended = tried(Command::new("sh").current_dir(dir).args(["-c", &line]));
            let said = format!("status {status}\n");
            assert!(ended.err.ends_with(&said), "{line}: {}", ended.err);
            assert!(!ended.err.contains("panic"), "{line}: {}", ended.err);
            if status == 0 {
                assert_eq!(ended.err, said, "{line}");
            }
        }
    }
}

/// What would be written to a standard output that is closed is not said to be written.
#[test]
fn a_closed_standard_output_is_an_error() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    fs::write(dir.join("g5-000001-20251127T140000Z.pcapng"), capture(5)).unwrap();
    for line in [
        "read a.pcapng",
        "read a.pcapng --count",
        "read -f --to 2025-11-28 --count a.pcapng",
        "read a.pcapng -w -",
        "read a.pcapng -w /dev/stdout",
        "report --text a.pcapng",
        "report -o - a.pcapng",
        "path a.pcapng",
        "path --json a.pcapng",
        "export --csv - a.pcapng",
        "ls .",
        "repair --dry-run a.pcapng",
        "rules --group 5",
        "man",
    ] {
        let line = format!("exec {LWNFLOG} {line} >&-");
        let ended = tried(Command::new("sh").current_dir(dir).args(["-c", &line]));
        ended.is(1, &["lwnflog: "]);
    }
    // Where nothing is written to it, it is not missed.
    let line = format!("exec {LWNFLOG} read a.pcapng -w b.pcapng >&-");
    tried(Command::new("sh").current_dir(dir).args(["-c", &line])).is(0, &[]);
    assert_eq!(count(dir, "b.pcapng"), 5);
}

#[test]
fn a_follower_that_counts_says_how_many_when_it_is_told_to_end() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::create_dir(dir.join("ring")).unwrap();
    fs::write(
        dir.join("ring/g5-000001-20251127T140000Z.pcapng"),
        capture(5),
    )
    .unwrap();
    let is_open = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let mut files = files
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        files.any(|file| file.to_string_lossy().contains("g5-000001"))
    };
    // It may be told to end before it has read what it has opened.
    until("it has counted all", || {
        let mut follower = Command::new(LWNFLOG);
        let words = ["read", "-f", "ring", "--count"];
        let follower = Running::spawn(follower.current_dir(dir).args(words));
        until("the file is open", || is_open(follower.pid()).then_some(()));
        follower.signal(Signal::INT);
        let ended = follower.wait_end();
        let counted: Vec<_> = ended.shown.iter().map(|line| line.parse::<u32>()).collect();
        match (ended.status.code(), &counted[..]) {
            (Some(0), [Ok(counted)]) => (*counted == 5).then_some(()),
            // Not watched for yet.
            (None, []) => None,
            _ => panic!("{:?}, {counted:?}: {}", ended.status, ended.said),
        }
    });
}

#[test]
fn what_was_named_and_is_not_there_is_an_error() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    fs::create_dir(dir.join("nothing")).unwrap();
    for line in [
        "read -r TYPO",
        "read -r TYPO --count",
        "read -r a.pcapng -r TYPO",
        "read a.pcapng ./TYPO",
        "read a.pcapng TYPO.pcap",
        "read TYPO",
        "read --count TYPO host 10.0.0.1",
        "read -f -r TYPO",
        "report --text TYPO",
        "report --text a.pcapng --compare TYPO",
        "export --csv - TYPO.pcap",
        "path TYPO",
    ] {
        lwnflog(dir, line).is(1, &["TYPO", "there is no such file or directory"]);
    }
    for line in ["read", "read host 10.0.0.1", "report --text", "path"] {
        let none = lwnflog(dir, line);
        none.is(1, &["lwnflog-capture: there is no such directory here"]);
        assert!(!none.err.contains("host:"), "{}", none.err);
    }
    for line in [
        "read nothing",
        "read --count a.pcapng nothing",
        "read -r nothing",
        "report --text nothing",
        "report --text a.pcapng --compare nothing",
        "path nothing",
    ] {
        lwnflog(dir, line).is(1, &["nothing: no capture is in it"]);
    }
    lwnflog(dir, "read tcp a.pcapng").is(1, &["`a.pcapng` is here, but stands in the filter"]);
    // Where nothing matches all is well.
    for line in [
        "read a.pcapng host 192.0.2.99",
        "report --text a.pcapng host 192.0.2.99",
        "read a.pcapng --from 2025-11-29 --to 2025-11-30",
    ] {
        let nothing = lwnflog(dir, line);
        nothing.is(0, &[]);
        assert_eq!(nothing.err, "", "{line}");
    }
}

#[test]
fn captures_under_other_names_are_told() {
    let tmp = temp_dir();
    let dir = tmp.path();
    let make = |path: &str| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, capture(5)).unwrap();
    };
    for name in ["a.pcap", "a.pcap1", "a.pcap2", "b.pcap.gz", "c.cap"] {
        make(&format!("rotated/{name}"));
        make(&format!("mixed/{name}"));
    }
    make("mixed/d.pcapng");
    make("above/wan/g5-000001-20251127T140000Z.pcapng");
    make("above/lan/g5-000001-20251127T140000Z.pcapng");
    fs::remove_file(dir.join("rotated/a.pcap")).unwrap();
    let parts = [
        "4 files look like captures",
        "a.pcap1, a.pcap2, b.pcap.gz, ...",
    ];
    lwnflog(dir, "read --count rotated").is(1, &[parts[0], parts[1], "name each", "no capture"]);
    let mixed = lwnflog(dir, "read --count mixed");
    mixed.is(0, &["mixed: not all is read", parts[0], parts[1]]);
    assert_eq!(mixed.out, "10\n");
    lwnflog(dir, "report --text above").is(1, &["2 directories in it hold captures (lan, wan)"]);
    // By its own name anything is read.
    assert_eq!(count(dir, "rotated/a.pcap1 rotated/c.cap"), 10);
}

#[test]
fn a_word_of_the_filter_that_is_here_is_told() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::create_dir(dir.join("udp")).unwrap();
    fs::write(dir.join("udp/a.pcapng"), capture(5)).unwrap();
    let taken = lwnflog(dir, "read --count udp");
    taken.is(0, &["`udp` is here, and is read", "'(udp)'"]);
    assert_eq!(taken.out, "5\n");
    let filter = lwnflog(dir, "read --count udp/a.pcapng (udp)");
    filter.is(0, &[]);
    assert_eq!((&*filter.out, &*filter.err), ("0\n", ""));
}

#[test]
fn what_may_not_be_looked_at_is_said_so() {
    let tmp = temp_dir();
    let dir = tmp.path();
    let program = copy_for_anybody(dir);
    for closed in ["closed", "open"] {
        fs::create_dir(dir.join(closed)).unwrap();
        fs::write(dir.join(closed).join("a.pcapng"), capture(5)).unwrap();
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    for line in [
        "read -r closed/a.pcapng",
        "read closed/a.pcapng",
        "read --count closed",
        "read --count open closed",
        "report --text closed/a.pcapng",
        "report --text open --compare closed/a.pcapng",
        "path closed/a.pcapng",
    ] {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "nobody", "--clear-groups"])
            .arg(&program);
        let ended = tried(command.current_dir(dir).args(line.split(' ')));
        ended.is(1, &["closed", "Permission denied"]);
    }
}

#[test]
fn one_bad_file_hides_no_other() {
    let tmp = temp_dir();
    let dir = tmp.path();
    let program = copy_for_anybody(dir);
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(dir.join("all")).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(dir.join("all").join(name), bytes).unwrap();
    let whole = capture(5);
    put("a-empty.pcap", b"");
    put("b-cut.pcapng", &whole[..whole.len() - 7]);
    put("c-zeros.pcapng", &[0; 4096]);
    put("d-closed.pcapng", &whole);
    put("e-whole.pcapng", &whole);
    put("f-whole.pcapng", &whole);
    let closed = dir.join("all/d-closed.pcapng");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o600)).unwrap();
    let bad = ["a-empty", "b-cut", "c-zeros", "d-closed"];
    for (line, shown) in [
        ("read all", "10.0.0.4.1000 > 10.0.1.1.80"),
        ("read all --count", "14\n"),
        ("read all -w copy.pcapng", ""),
        ("report --text all", "14"),
        ("path all -v", "14 packets"),
        ("report all -o page.html", ""),
    ] {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "nobody", "--clear-groups"])
            .arg(&program);
        let ended = tried(command.current_dir(dir).args(line.split(' ')));
        ended.is(1, &bad);
        assert!(ended.out.contains(shown), "{line}: {}", ended.out);
    }
    assert_eq!(count(dir, "copy.pcapng"), 14);
    assert!(
        fs::read_to_string(dir.join("page.html"))
            .unwrap()
            .contains("14")
    );
}

#[test]
fn names_of_files_give_a_terminal_no_commands() {
    let tmp = temp_dir();
    let dir = tmp.path();
    let name = "\u{1b}[31mred.pcapng";
    fs::write(dir.join(name), "none").unwrap();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    for line in [
        format!("read {name}"),
        format!("read -r nosuch{name}"),
        format!("read a.pcapng -w {name}/x"),
        "read .".to_owned(),
        "report --text .".to_owned(),
        format!("report --text {name} a.pcapng"),
        format!("read a.pcapng --anonymize {name} -w x.pcapng"),
    ] {
        let ended = lwnflog(dir, &line);
        ended.is(1, &["?[31mred.pcapng"]);
        assert!(!(ended.err + &ended.out).contains('\u{1b}'), "{line}");
    }
}

/// Pipes and devices that lie in a directory: nobody waits for them, and it is told that they are not read.
#[test]
fn what_is_no_plain_file_in_a_directory_is_told() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::create_dir(dir.join("ring")).unwrap();
    let name = |number: u32| format!("ring/g5-{number:06}-20251127T140000Z.pcapng");
    fs::write(dir.join(name(1)), capture(5)).unwrap();
    let pipes = [
        name(2),
        "ring/x.pcap".to_owned(),
        format!("ring/.{}.idx", &name(1)[5..]),
    ];
    for pipe in &pipes {
        run(Command::new("mkfifo").arg(dir.join(pipe)), "");
    }
    device(&dir.join(name(3)), "5"); // zeros without end
    fs::create_dir(dir.join("ring/y.pcap")).unwrap();
    for (line, shown) in [
        ("read ring", "10.0.0.4.1000 > 10.0.1.1.80"),
        ("read --count ring", "5"),
        ("read --count ring host 10.0.0.4", "1"),
        ("read -f --to 2025-11-28 --count ring", "5"),
        ("report --text ring", "5"),
        ("path ring -v", "5 packets"),
        ("export --csv - ring", "10.0.0.4"),
        ("export --parquet set ring", ""),
        ("ls ring", "not a plain file"),
    ] {
        if line.contains("parquet") && cfg!(not(feature = "parquet")) {
            continue;
        }
        let ended = lwnflog(dir, line);
        let parts = match line {
            "ls ring" => &[][..],
            _ => &[&pipes[0][..], "x.pcap", "it is no plain file"],
        };
        ended.is(1, parts);
        assert!(ended.out.contains(shown), "{line}: {}", ended.out);
    }
}

/// A name of several lines is told in one; one that is not UTF-8 is a name as any other.
#[test]
fn names_of_files_are_told_in_one_line() {
    let tmp = temp_dir();
    let dir = tmp.path();
    let name = "a\nlwnflog: all is well.pcapng";
    fs::write(dir.join(name), "none").unwrap();
    for args in [
        &["read", "."][..],
        &["read", name],
        &["read", "-r", "nosuch\n.pcapng"],
        &["repair", name],
        &["report", "--text", "."],
        &["export", "--csv", "-", "."],
        &["export", "--json", "no\nsuch/x", "."],
    ] {
        let ended = tried(Command::new(LWNFLOG).current_dir(dir).args(args));
        assert_eq!(ended.status, 1, "{args:?}");
        let mut lines = ended.err.lines();
        assert!(
            lines.all(|line| !line.starts_with("lwnflog: all is well")
                && !line.starts_with(".pcapng")
                && !line.starts_with("such/x")),
            "{args:?}: {}",
            ended.err
        );
    }
    let other = temp_dir();
    let dir = other.path();
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    fs::write(dir.join(odd(b"\xff\xfe.pcapng")), capture(5)).unwrap();
    let packed = dir.join(odd(b"\xff.pcapng.zst"));
    let plain = dir.join("plain");
    fs::write(&plain, capture(3)).unwrap();
    run(
        Command::new("zstd")
            .args(["-q", "-o"])
            .arg(packed)
            .arg(plain),
        "",
    );
    assert_eq!(count(dir, "."), 8);
    let mut named = Command::new(LWNFLOG);
    named.current_dir(dir).args(["read", "--count"]);
    named.arg(odd(b"\xff.pcapng.zst")).arg("tcp");
    let named = tried(&mut named);
    named.is(0, &[]);
    assert_eq!(named.out, "3\n");
    let mut missing = Command::new(LWNFLOG);
    missing.current_dir(dir).arg("read").arg(odd(b"no\xff"));
    tried(&mut missing).is(1, &["there is no such file or directory"]);
}

#[test]
fn times_that_nobody_can_mean_are_told() {
    let tmp = temp_dir();
    let dir = tmp.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    let berlin = |line: &str| {
        let mut command = Command::new(LWNFLOG);
        command.env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
        tried(command.current_dir(dir).args(line.split(' ')))
    };
    let parts = [
        "comes twice",
        "2025-10-26T02:30:00+02",
        "2025-10-26T02:30:00+01",
    ];
    berlin("read a.pcapng --from 2025-10-26T02:30").is(1, &parts);
    berlin("report --text a.pcapng --from 2025-03-30T02:30").is(1, &["does not come that day"]);
    berlin("read a.pcapng --from 2025-10-26T02:30:00+01").is(0, &[]);
    let last = "--last 30000d: that is before 1970";
    lwnflog(dir, "read a.pcapng --last 30000d").is(1, &[last]);
    lwnflog(dir, "read a.pcapng --last 20000d").is(0, &[]);
}

/// As many files as nobody has descriptors for, all of the same hour; and each command takes little memory.
#[test]
fn many_files_take_few_descriptors() {
    const FILES: u32 = 1200;
    let dir = temp_dir();
    for number in 0..FILES {
        let stamps = [u64::from(number), 2_000_000 - u64::from(number)];
        let packets: Vec<_> = stamps
            .into_iter()
            .map(|us| {
                (
                    1_764_252_000_000_000_000 + us * 1000,
                    rings::frame(number, 60),
                )
            })
            .collect();
        fs::write(
            dir.path().join(format!("{number}.pcap")),
            rings::pcap(&packets),
        )
        .unwrap();
    }
    let place = dir.path().to_str().unwrap();
    let shell = |command: &str| {
        let line = format!("ulimit -n 128; exec {LWNFLOG} {command}");
        let spent = spent("sh", &["-c", &line]);
        let said = String::from_utf8_lossy(&spent.output.stderr).into_owned();
        assert!(spent.output.status.success(), "{command}: {said}");
        assert!(
            spent.peak_bytes < 256 << 20,
            "{command}: {}",
            spent.peak_bytes
        );
        String::from_utf8(spent.output.stdout).unwrap()
    };
    let all = (2 * FILES).to_string();
    assert_eq!(shell(&format!("read --count {place}")).trim(), all);
    for command in ["read --threads 1 --utc", "read --utc", "export --csv -"] {
        let lines = shell(&format!("{command} {place}"));
        let lines: Vec<_> = lines
            .lines()
            .filter(|line| !line.starts_with("host"))
            .collect();
        assert!(
            lines.len() >= 2 * FILES as usize,
            "{command}: {}",
            lines.len()
        );
        if command.starts_with("read") {
            assert!(lines.is_sorted(), "{command}: in order of time");
        }
    }
    assert!(shell(&format!("report --text {place}")).contains("2,400"));
    shell(&format!("path {place}"));
}

/// Compressed files, too, of which each is unpacked from its start.
#[test]
fn many_compressed_files_take_few_descriptors() {
    const FILES: u32 = 200;
    let dir = temp_dir();
    for number in 0..FILES {
        let stamps = [u64::from(number), 2_000_000 - u64::from(number)];
        let packets = stamps.map(|us| {
            let time_ns = 1_764_252_000_000_000_000 + us * 1000;
            (time_ns, rings::frame(number, 60))
        });
        let file = dir.path().join(format!("{number}.pcap"));
        fs::write(file, rings::pcap(&packets)).unwrap();
    }
    let pack = format!(
        "zstd -q --rm {0}/*[0-4].pcap; lz4 -q -m --rm {0}/*.pcap",
        dir.path().display()
    );
    run(Command::new("sh").args(["-c", &pack]), "");
    let place = dir.path().to_str().unwrap();
    for command in [
        "read --count",
        "read --threads 1",
        "read -c 400",
        "report --text",
        "path",
    ] {
        let line = format!("ulimit -n 64; exec {LWNFLOG} {command} {place}");
        let spent = spent("sh", &["-c", &line]);
        let said = String::from_utf8_lossy(&spent.output.stderr).into_owned();
        assert!(spent.output.status.success(), "{command}: {said}");
        let out = String::from_utf8(spent.output.stdout).unwrap();
        match command {
            "read --count" => assert_eq!(out, "400\n"),
            "read --threads 1" | "read -c 400" => assert_eq!(out.lines().count(), 400),
            _ => assert!(out.contains("400"), "{command}: {out}"),
        }
    }
}

/// What is no packet is not in a copy of packets, and that is said.
#[test]
fn what_a_copy_lacks_is_said() {
    let dir = temp_dir();
    let comment = |text: &str| {
        let mut option = vec![1, 0, u8::try_from(text.len()).unwrap(), 0];
        option.extend(text.as_bytes());
        option.resize(option.len().next_multiple_of(4), 0);
        option
    };
    let mut body = rings::packet(5, &rings::frame(0, 60));
    body.drain(..8);
    body.truncate(body.len() - 4);
    body.extend([comment("one"), comment("two"), vec![0; 4]].concat());
    let file = [
        rings::section(""),
        rings::interface(6, 0, &[]),
        rings::block(10, &[0; 12]),
        rings::block(4, &[0; 4]),
        rings::block(0x0bad, &[0; 8]),
        rings::block(6, &body),
    ]
    .concat();
    fs::write(dir.path().join("a.pcapng"), file).unwrap();
    lwnflog(dir.path(), "read -r a.pcapng -w b.pcapng").is(
        0,
        &[
            "not in what was written: 1 blocks of names, 1 blocks of keys, 1 other blocks that are no packets",
            "1 packets' further comments and options",
        ],
    );
    lwnflog(dir.path(), "read -r b.pcapng -w c.pcapng").is(0, &[]);
}

/// What a ring has prepared, its lock and its indexes are as little an output as its captures, by name or by
/// a shell's `>>`.
#[test]
fn nothing_of_a_ring_is_an_output() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("a.pcapng"), capture(5)).unwrap();
    let stem = "g5-000001-20261121T080000Z.pcapng";
    for name in [
        ".g5-000002.next.pcapng",
        ".g5-000003.new.pcapng",
        ".g5.lock",
    ] {
        fs::write(dir.join(name), "precious").unwrap();
        lwnflog(dir, &format!("read -r a.pcapng -w {name}")).is(1, &["is a file of a ring"]);
        lwnflog(dir, &format!("report a.pcapng -o {name}")).is(1, &["is a file of a ring"]);
        assert_eq!(fs::read(dir.join(name)).unwrap(), b"precious");
    }
    for name in [
        stem,
        "g5-000002.live.pcapng",
        ".g5-000001-20261121T080000Z.pcapng.idx",
    ] {
        fs::write(dir.join(name), "precious").unwrap();
        for command in ["read -r a.pcapng -w -", "export a.pcapng --csv -"] {
            let line = format!("{LWNFLOG} {command} >>{name}");
            let told = tried(Command::new("sh").args(["-c", &line]).current_dir(dir));
            told.is(1, &["is a file of a ring"]);
            assert_eq!(fs::read(dir.join(name)).unwrap(), b"precious");
        }
    }
}
