//! What the tests of the capture engine share: a laboratory, a running `lwnflog` to talk to, and
//! readers of what it wrote. Nothing is skipped: what cannot run fails and says what it lacks.
//!
//! No test depends on speed: whoever waits, waits [`until`] something is so.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

pub mod booted;
pub mod contents;
pub mod datagrams;
pub mod files;
pub mod follower;
pub mod made;
pub mod rings;
pub mod spent;

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lwnflog::lab::{Lab, Namespace, Progress, Traffic};
use lwnflog::sys::inject::FrameSocket;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub const LWNFLOG: &str = env!("CARGO_BIN_EXE_lwnflog");
/// Longer than anything takes on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A copy of the program in `dir`: the user `nobody` may have no way into the directory of the
/// build.
pub fn copy_for_anybody(dir: &Path) -> PathBuf {
    let copy = dir.join("lwnflog");
    // `cp`, not `fs::copy`: a test beside this one that starts a program meanwhile would inherit
    // the copy's descriptor, and a file that is open for writing cannot be started ("Text file
    // busy").
    run(Command::new("cp").arg(LWNFLOG).arg(&copy), "");
    copy
}

pub fn lab() -> Lab {
    Lab::new()
        .expect("these tests need root (and tcpdump refuses a user namespace): run them as root")
}

pub fn namespace() -> Namespace {
    Namespace::new()
        .expect("these tests need root (and tcpdump refuses a user namespace): run them as root")
}

pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("lwnflog-test-")
        .tempdir()
        .unwrap()
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain until {what}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// The Debian package of a program that tests need.
fn package(program: &str) -> &str {
    match program {
        "nft" => "nftables",
        "ip" => "iproute2",
        "iptables-nft" => "iptables",
        "tshark" => "tshark",
        "capinfos" => "wireshark-common",
        "tcpdump" => "tcpdump",
        "unshare" | "setpriv" | "mount" => "util-linux",
        other => other,
    }
}

/// Control sockets of captures of one name meet in one directory: each process gets its own, if it
/// has none.
pub fn with_runtime<'a>(command: &'a mut Command, runtime: &Path) -> &'a mut Command {
    const NAME: &str = "RUNTIME_DIRECTORY";
    if !command.get_envs().any(|(name, _)| name == NAME) {
        command.env(NAME, runtime);
    }
    command
}

pub fn output(command: &mut Command, stdin: &str) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let runtime = temp_dir();
    let mut child = with_runtime(command, runtime.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "this test needs `{program}`: {error}; install the package {}",
                package(&program)
            )
        });
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

/// Runs a program that has to succeed; returns its standard output.
pub fn run(command: &mut Command, stdin: &str) -> String {
    let output = output(command, stdin);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn run_in(namespace: &Namespace, program: &str, args: &[&str]) -> String {
    run(namespace.command(program).unwrap().args(args), "")
}

pub fn nft(namespace: &Namespace, text: &str) {
    run(namespace.command("nft").unwrap().args(["-f", "-"]), text);
}

/// The operator's file `capture.nft`: everything to group 5.
pub fn load_capture_rules(namespace: &Namespace) {
    nft(namespace, include_str!("../../nft-rules/capture.nft"));
}

/// A rule that sends everything to a group, with more said in its `log` statement.
pub fn load_rule(namespace: &Namespace, before: &str, log: &str) {
    nft(
        namespace,
        &format!(
            "table ip lwnflog-g5 {{ counter detected {{}}\n chain prerouting {{ \
             type filter hook prerouting priority -2147483647; policy accept; \
             {before} counter name detected log {log}; }}\n}}"
        ),
    );
}

/// Packets that the rule counted.
pub fn detected(namespace: &Namespace) -> u64 {
    let text = run_in(
        namespace,
        "nft",
        &["list", "counter", "ip", "lwnflog-g5", "detected"],
    );
    let words: Vec<_> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "packets").unwrap();
    words[at + 1].parse().unwrap()
}

/// Sends frames as they are.
pub fn send_frames(namespace: &Namespace, interface: &str, frames: &[Vec<u8>]) {
    let send = || {
        let socket = FrameSocket::open(interface).unwrap();
        for frame in frames {
            while socket.send(&[IoSlice::new(frame)]).is_err() {
                thread::yield_now();
            }
        }
    };
    namespace.run(send).unwrap();
}

/// Frames of 64 bytes, no faster than a debug build writes them.
pub fn send_paced(lab: &Lab, packets: u64) {
    let traffic = Traffic::new(64, packets).rate(Some(50_000));
    traffic.send(lab, None).unwrap();
}

/// Traffic without an end while `body` runs.
pub fn under_traffic<T>(lab: &Lab, rate: u64, body: impl FnOnce() -> T) -> T {
    let progress = Progress::default();
    let traffic = Traffic::new(64, u64::MAX).rate(Some(rate));
    thread::scope(|scope| {
        scope.spawn(|| traffic.send_from(lab, &[0], &progress).unwrap());
        let _stop = StopWhenDone(&progress);
        body()
    })
}

/// Ends a sender when a test ends, also by a panic.
struct StopWhenDone<'a>(&'a Progress);

impl Drop for StopWhenDone<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A process whose lines are collected as they come.
pub struct Running {
    child: Child,
    out: Lines,
    err: Lines,
    ended: bool,
    runtime: tempfile::TempDir,
}

struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Lines {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                theirs.lock().unwrap().push(line);
            }
        });
        Lines {
            lines,
            reader: Some(reader),
        }
    }

    fn now(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn all(&mut self) -> Vec<String> {
        self.reader.take().unwrap().join().unwrap();
        self.now()
    }
}

/// How a capture ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The report, if there is one.
    pub report: Value,
    /// All that was said on standard error.
    pub said: String,
    /// All lines of standard output.
    pub shown: Vec<String>,
    /// Those of them that are objects.
    pub json: Vec<Value>,
}

impl Ended {
    pub fn number(&self, pointer: &str) -> u64 {
        number(&self.report, pointer)
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.report["files"].as_array().unwrap();
        files
            .iter()
            .map(|file| PathBuf::from(file.as_str().unwrap()))
            .collect()
    }

    /// The account's identity, for the sum and for each group.
    pub fn assert_balanced(&self) {
        let report = &self.report;
        for figures in report["groups"].as_array().unwrap().iter().chain([report]) {
            assert_eq!(
                number(figures, "/detected"),
                number(figures, "/written")
                    + number(figures, "/discarded")
                    + dropped(figures)
                    + number(figures, "/skipped")
                    + left_out(figures),
                "{figures:#}"
            );
            assert_eq!(number(figures, "/detected_uncertain"), 0, "{figures:#}");
        }
    }
}

pub fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no number {pointer} in {value:#}\n"))
}

/// Packets lost, at all places.
pub fn dropped(figures: &Value) -> u64 {
    let places = figures["dropped"].as_object().unwrap();
    places.values().filter_map(Value::as_u64).sum()
}

/// Packets that a program at the hook left out; none of a group.
pub fn left_out(figures: &Value) -> u64 {
    let reasons = figures["left_out"].as_object();
    reasons.map_or(0, |reasons| {
        reasons.values().filter_map(Value::as_u64).sum()
    })
}

/// Sends a datagram to somebody's netlink socket to Netfilter, in the calling thread's network
/// namespace.
pub fn send_netlink(port: u32, datagram: &[u8]) {
    use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
    use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(NETFILTER)).unwrap();
    let sent = sendto(
        &socket,
        datagram,
        SendFlags::empty(),
        &SocketAddrNetlink::new(port, 0),
    );
    assert_eq!(sent, Ok(datagram.len()), "this needs CAP_NET_ADMIN");
}

impl Running {
    pub fn spawn(command: &mut Command) -> Running {
        let program = command.get_program().to_string_lossy().into_owned();
        let runtime = temp_dir();
        let mut child = with_runtime(command, runtime.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "this test needs `{program}`: {error}; install the package {}",
                    package(&program)
                )
            });
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Running {
            child,
            out,
            err,
            ended: false,
            runtime,
        }
    }

    /// Where its control socket is.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// A capture into `dir` that is ready: its groups are bound.
    pub fn capture(namespace: &Namespace, dir: &Path, args: &[&str]) -> Running {
        let mut command = namespace.command(LWNFLOG).unwrap();
        let mut running = Running::spawn(command.args(["--json", "-w"]).arg(dir).args(args));
        running.wait_said("capturing ");
        running
    }

    /// `tcpdump -w file` that is ready.
    pub fn tcpdump(namespace: &Namespace, interface: &str, file: &Path, args: &[&str]) -> Running {
        let mut command = namespace.command("tcpdump").unwrap();
        let command = command
            .args(["-Z", "root", "-U", "-n", "-i", interface, "-w"])
            .arg(file)
            .args(args);
        let mut running = Running::spawn(command);
        running.wait_said("listening on");
        running
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn said(&self) -> String {
        self.err.now().join("\n")
    }

    /// The lines of standard output so far.
    pub fn shown(&self) -> Vec<String> {
        self.out.now()
    }

    /// Waits for a line on standard error, and returns it.
    pub fn wait_said(&mut self, text: &str) -> String {
        until(&format!("`{text}` is said"), || {
            let ended = self.has_ended();
            let lines = self.err.now();
            let found = lines.iter().find(|line| line.contains(text)).cloned();
            assert!(
                found.is_some() || !ended,
                "it ended without saying `{text}`:\n{}",
                lines.join("\n")
            );
            found
        })
    }

    /// Waits for a "stats" object that is as it should be.
    pub fn wait_stats(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            assert!(
                !self.has_ended(),
                "it ended before {what}:\n{}",
                self.said()
            );
            let lines = self.out.now();
            let stats = lines
                .iter()
                .rev()
                .map(|line| serde_json::from_str(line).unwrap());
            stats.into_iter().find(|stats: &Value| wanted(stats))
        })
    }

    pub fn wait_written(&mut self, packets: u64) {
        self.wait_stats(&format!("{packets} packets are written"), |stats| {
            number(stats, "/written") >= packets
        });
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for it to end by itself.
    pub fn wait_end(mut self) -> Ended {
        let status = until("it ends", || self.child.try_wait().unwrap());
        self.ended = true;
        let shown = self.out.all();
        let json: Vec<Value> = shown
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let report = json
            .iter()
            .find(|object| object["event"] == "report")
            .cloned()
            .unwrap_or_default();
        Ended {
            status,
            report,
            said: self.err.all().join("\n"),
            shown,
            json,
        }
    }

    /// Ends it with a signal.
    pub fn end_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.wait_end()
    }

    /// Ends it as Ctrl-C does; it has to end well.
    pub fn end(self) -> Ended {
        let ended = self.end_by(Signal::INT);
        assert!(ended.status.success(), "{}: {}", ended.status, ended.said);
        ended
    }

    /// `kill -9`
    pub fn kill(self) -> String {
        let ended = self.end_by(Signal::KILL);
        assert_eq!(ended.status.signal(), Some(9), "{}", ended.said);
        ended.said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Set in a test that runs in namespaces of its own, as a process of its own.
const INSIDE: &str = "LWNFLOG_TEST_INSIDE";

/// Runs `body` in a mount namespace of its own: this test once more, under `unshare`.
pub fn with_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let flags: &[&str] = if rustix::process::geteuid().is_root() {
        &["-m"]
    } else {
        &["-rnm"]
    };
    let output = output(
        Command::new("unshare")
            .args(flags)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1"),
        "",
    );
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let passed = output.status.success() && stdout.contains("test result: ok. 1 passed");
    assert!(
        passed,
        "{test} in its own process: {}\n{stdout}{stderr}",
        output.status
    );
}

/// A file system of its own, seen by this process and its children only.
pub struct Mounted {
    dir: tempfile::TempDir,
    /// What is in it, of one that is on a disk.
    _image: Option<tempfile::NamedTempFile>,
    /// The disk, where a process serves it: that ends with it.
    served: Option<(String, Child)>,
}

impl Mounted {
    pub fn tmpfs(options: &str) -> Mounted {
        let dir = temp_dir();
        let options = format!("mode=0755,{options}");
        let mount = ["-t", "tmpfs", "-o", &options, "none"];
        run(Command::new("mount").args(mount).arg(dir.path()), "");
        Mounted {
            dir,
            _image: None,
            served: None,
        }
    }

    pub fn ext4(bytes: u64) -> Mounted {
        Mounted::made_by(&["mkfs.ext4", "-q", "-m", "0"], bytes)
    }

    pub fn xfs() -> Mounted {
        Mounted::made_by(&["mkfs.xfs", "-q"], 300 << 20)
    }

    fn made_by(words: &[&str], bytes: u64) -> Mounted {
        let (dir, image) = (temp_dir(), tempfile::NamedTempFile::new().unwrap());
        image.as_file().set_len(bytes).unwrap();
        run(
            Command::new(words[0]).args(&words[1..]).arg(image.path()),
            "",
        );
        run(
            Command::new("mount")
                .args(["-o", "loop"])
                .args([image.path(), dir.path()]),
            "",
        );
        Mounted {
            dir,
            _image: Some(image),
            served: None,
        }
    }

    /// One that keeps no rights, owners or second names of files.
    pub fn exfat(options: &str) -> Mounted {
        let (dir, image) = (temp_dir(), tempfile::NamedTempFile::new().unwrap());
        image.as_file().set_len(64 << 20).unwrap();
        run(Command::new("mkfs.exfat").arg(image.path()), "");
        let device = run(
            Command::new("losetup")
                .args(["--find", "--show"])
                .arg(image.path()),
            "",
        );
        let device = device.trim().to_owned();
        let mut serve = Command::new("mount.exfat-fuse");
        // In the foreground; what it says of each call is nobody's.
        let serve = serve.args(["-d", "-o", options, &device]).arg(dir.path());
        let server = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        until("it is mounted", || {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            mounts.contains(dir.path().to_str().unwrap()).then_some(())
        });
        Mounted {
            dir,
            _image: Some(image),
            served: Some((device, server.unwrap())),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Where something is mounted the directory could not be removed.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        if let Some((device, server)) = &mut self.served {
            let _ = server.wait();
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
}
