//! The real parts: namespaces, file systems, processes. All of it is in namespaces of this process
//! (mounts, processes, network), and goes with it, however it ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lwnflog::lab::Lab;
use rustix::process::{Pid, Signal, kill_process};

use crate::steps::{PLACES, Place};

/// What is wrong: a short name that stays the same, and all of it.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: String,
    pub text: String,
}

pub type Checked<T = ()> = Result<T, Failure>;

pub fn wrong<T>(kind: &str, text: impl Into<String>) -> Checked<T> {
    Err(Failure {
        kind: kind.to_owned(),
        text: text.into(),
    })
}

/// Runs a tool of the world, which has to succeed.
pub fn tool(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("the world needs {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn sh(text: &str) -> String {
    tool(Command::new("sh").args(["-ec", text]))
}

pub struct World {
    pub dir: PathBuf,
    pub lab: Arc<Lab>,
    pub program: PathBuf,
}

impl World {
    pub fn new(dir: &Path, program: &Path) -> World {
        let lab = Arc::new(Lab::with_mtu(crate::ways::MTU).expect("the world needs root"));
        let world = World {
            dir: dir.to_owned(),
            lab,
            program: program.to_owned(),
        };
        for place in PLACES {
            world.mount(place);
        }
        fs::create_dir_all(dir.join("run")).unwrap();
        fs::create_dir_all(dir.join("said")).unwrap();
        world.receive_ip6("rx");
        crate::ways::lay(&world);
        world.load_rules("");
        world
    }

    /// All rules of the world, in one transaction but for the queue's, behind `first`.
    pub fn load_rules(&self, first: &str) {
        let mut text = format!("{first}{SEEN}");
        for group in 25..28 {
            text += &format!(
                "table ip k{group} {{ chain prerouting {{ type filter hook prerouting priority -100; ip saddr 10.0.0.0/8 udp dport 9001 log group {group}; }}\n}}\n"
            );
        }
        for group in 5..8 {
            text += &rule("ip", group, "");
            text += &rule("ip6", group, "");
        }
        self.nft(&text);
        let queue = "-t raw -A PREROUTING -s 10.0.0.0/8 -j NFQUEUE --queue-num 5 --queue-bypass";
        tool(
            self.lab
                .receiver()
                .command("iptables-nft")
                .unwrap()
                .args(queue.split(' ')),
        );
    }

    /// An interface takes IPv6, at once.
    pub fn receive_ip6(&self, name: &str) {
        let set = || {
            for (what, value) in [("accept_dad", "0"), ("disable_ipv6", "0")] {
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{what}"), value);
            }
        };
        self.lab.receiver().run(set).unwrap();
    }

    pub fn place(&self, place: Place) -> PathBuf {
        self.dir.join("mnt").join(place.name())
    }

    /// Bytes that are free there.
    pub fn room(&self, place: Place) -> u64 {
        rustix::fs::statvfs(self.place(place)).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
    }

    pub fn image(&self, place: Place) -> PathBuf {
        self.dir.join(format!("{}.img", place.name()))
    }

    pub fn mount_again(&self, place: Place) {
        let (at, image) = (self.place(place), self.image(place));
        tool(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(at),
        );
    }

    fn mount(&self, place: Place) {
        let at = self.place(place);
        fs::create_dir_all(&at).unwrap();
        let (at, image) = (
            at.display().to_string(),
            self.image(place).display().to_string(),
        );
        match place {
            Place::Ext4 => sh(&format!(
                "truncate -s 512M {image}; mkfs.ext4 -q -m 0 {image}; mount -o loop {image} {at}"
            )),
            Place::Xfs => sh(&format!(
                "truncate -s 512M {image}; mkfs.xfs -q {image}; mount -o loop {image} {at}"
            )),
            Place::SmallExt4 => sh(&format!(
                "truncate -s 24M {image}; mkfs.ext4 -q -m 0 {image}; mount -o loop {image} {at}"
            )),
            Place::Tmpfs => sh(&format!("mount -t tmpfs -o size=512m,mode=0755 none {at}")),
            Place::SmallTmpfs => sh(&format!("mount -t tmpfs -o size=12m,mode=0755 none {at}")),
            Place::Overlay => {
                let base = self.dir.join("below").display().to_string();
                sh(&format!(
                    "mkdir -p {base}; mount -t tmpfs -o size=512m,mode=0755 none {base}; mkdir {base}/l {base}/u {base}/w; \
                     mount -t overlay -o lowerdir={base}/l,upperdir={base}/u,workdir={base}/w none {at}"
                ))
            }
        };
    }

    pub fn nft(&self, text: &str) {
        let file = self.dir.join("rules.nft");
        fs::write(&file, text).unwrap();
        tool(
            self.lab
                .receiver()
                .command("nft")
                .unwrap()
                .arg("-f")
                .arg(file),
        );
    }

    pub fn ip(&self, words: &str) {
        tool(
            self.lab
                .receiver()
                .command("ip")
                .unwrap()
                .args(words.split(' ')),
        );
    }

    /// Packets that have come to the hook, IPv4 and IPv6: read before all others there.
    pub fn seen(&self) -> (u64, u64) {
        let mut command = self.lab.receiver().command("nft").unwrap();
        let text = tool(command.args(["list", "counters", "table", "inet", "world"]));
        let mut numbers = text
            .split_whitespace()
            .zip(text.split_whitespace().skip(1))
            .filter(|(word, _)| *word == "packets");
        let mut next = || {
            numbers
                .next()
                .and_then(|(_, number)| number.parse().ok())
                .unwrap_or_default()
        };
        (next(), next())
    }

    /// The program, in the receiver's namespace.
    pub fn lwnflog(&self, name: &str, args: &[String], runtime: &Path) -> Proc {
        let mut command = self.lab.receiver().command(&self.program).unwrap();
        command.args(args).env("RUNTIME_DIRECTORY", runtime);
        self.spawn(name, &mut command)
    }

    /// The program, in a time namespace of its own.
    pub fn ahead(&self, name: &str, days: u64, args: &[String], runtime: &Path) -> Proc {
        let mut command = self.lab.receiver().command("unshare").unwrap();
        let offset = (days * 86_400).to_string();
        command.args(["--time", "--boottime", &offset, "--monotonic", &offset]);
        command.arg(&self.program).args(args);
        command.env("RUNTIME_DIRECTORY", runtime);
        self.spawn(name, &mut command)
    }

    pub fn spawn(&self, name: &str, command: &mut Command) -> Proc {
        self.spawn_to(name, command, None)
    }

    /// With another standard output than a file of its own.
    pub fn spawn_to(&self, name: &str, command: &mut Command, to: Option<File>) -> Proc {
        let at = |kind: &str| self.dir.join("said").join(format!("{name}.{kind}"));
        let (out, err) = (at("out"), at("err"));
        let file = |path: &Path| File::create(path).unwrap();
        // Backtraces of a panic, and no colours.
        command.env("RUST_BACKTRACE", "1").current_dir(&self.dir);
        command
            .stdin(Stdio::null())
            .stdout(to.unwrap_or_else(|| file(&out)))
            .stderr(file(&err));
        // A group of its own: where one of a group is stopped and its session loses a shell, all of it gets SIGHUP.
        command.process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Proc {
            name: name.to_owned(),
            child,
            out,
            err,
            read: 0,
            status: None,
        }
    }

    /// Whatever is frozen goes on: a process that waits for it could not be ended.
    pub fn thaw(dir: &Path) {
        for place in [Place::Ext4, Place::Xfs, Place::SmallExt4] {
            let at = dir.join("mnt").join(place.name());
            let _ = Command::new("fsfreeze")
                .arg("-u")
                .arg(at)
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Counts what comes to the hook, before all others.
const SEEN: &str = "table inet world { counter a_ip {}\n counter b_ip6 {}\n chain seen { \
    type filter hook prerouting priority -2147483648; policy accept; \
    ip saddr 10.0.0.0/8 counter name a_ip\n \
    ip6 saddr fd00::/64 counter name b_ip6; }\n }\n";

/// The operator's rule of a group: what `lwnflog rules` prints, for our packets alone.
pub fn rule(family: &str, group: u16, more: &str) -> String {
    let ours = if family == "ip" {
        "ip saddr 10.0.0.0/8"
    } else {
        "ip6 saddr fd00::/64"
    };
    format!(
        "table {family} g{group} {{ counter detected {{}}\n chain prerouting {{ \
         type filter hook prerouting priority -2147483647; policy accept; \
         {ours} counter name detected log {more}group {group}; }}\n}}\n"
    )
}

/// A process whose words are in files.
pub struct Proc {
    pub name: String,
    pub child: Child,
    pub out: PathBuf,
    pub err: PathBuf,
    /// Bytes of `err` that were judged.
    pub read: usize,
    pub status: Option<ExitStatus>,
}

impl Proc {
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    pub fn shown(&self) -> Vec<u8> {
        fs::read(&self.out).unwrap_or_default()
    }

    /// Whole lines on standard error that are new.
    pub fn new_lines(&mut self) -> Vec<String> {
        let bytes = fs::read(&self.err).unwrap_or_default();
        let new = &bytes[self.read.min(bytes.len())..];
        let whole = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.read += whole;
        String::from_utf8_lossy(&new[..whole])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Waits until it has ended.
    pub fn wait(&mut self, what: &str, secs: u64) -> Checked<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if begun.elapsed() > Duration::from_secs(secs) {
                let pid = self.pid();
                let state = |file: &str| {
                    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
                };
                return wrong(
                    &format!("hangs: {what}"),
                    format!(
                        "{} has not ended in {secs} s: {what}\nit said: {}\nit is at:\n{}{}",
                        self.name,
                        self.said(),
                        state("wchan"),
                        state("stack")
                    ),
                );
            }
            thread::sleep(Duration::from_millis(3));
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
