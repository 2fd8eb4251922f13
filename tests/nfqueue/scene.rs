//! What the tests of queues share: a laboratory with a rule, lwnflog in it, and what came of both.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lwnflog::lab::{Lab, Marker, RX, Sent, Traffic};
use lwnflog::source::nfqueue::QueueStatus;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes on the slowest machine: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// A sender, a receiver whose rule hands packets to queues, and behind the rule a counter of what
/// passes.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) dir: TempDir,
    queues: (u16, u16),
}

impl Scene {
    /// A rule for queue 5 alone, or queues 5 to `last` by processor.
    pub(crate) fn new(last: u16) -> Scene {
        let lab = Lab::new().expect("tests need root: run them as root, or under `unshare -Ur`");
        let scene = Scene {
            lab,
            dir: TempDir::new().unwrap(),
            queues: (5, last),
        };
        scene.nft(
            "table ip after {
                counter passed {}
                counter marked {}
                chain prerouting {
                    type filter hook prerouting priority 0; policy accept;
                    counter name passed
                    meta mark 42 counter name marked
                    drop
                }
            }",
        );
        scene.load_rule();
        scene
    }

    /// nftables' own `queue` where the kernel has it, iptables' target where not.
    fn load_rule(&self) {
        let (first, last) = self.queues;
        let numbers: Vec<u16> = (first..=last).collect();
        let spec = lwnflog::nft::RuleSpec::new(lwnflog::source::Target::Queue, &numbers).unwrap();
        let spec = spec.with_iface(RX).unwrap();
        let table = self.dir.path().join("rule.nft");
        fs::write(&table, lwnflog::nft::table_text(&spec)).unwrap();
        let output = self.attempt("nft", &["-f", table.to_str().unwrap()]);
        if output.status.success() {
            println!("the rule is nftables' `queue`");
            return;
        }
        let command = lwnflog::nft::iptables_queue_command(&spec).unwrap();
        println!("this kernel has no nftables `queue`; the rule is `{command}`");
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        self.run(program, &words.collect::<Vec<_>>());
    }

    pub(crate) fn attempt(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.lab.receiver().command("timeout").unwrap();
        command.args(["20", program]).args(arguments);
        command
            .output()
            .unwrap_or_else(|error| panic!("these tests need `{program}`: {error}"))
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.attempt(program, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn nft(&self, text: &str) {
        let file = self.dir.path().join("tables.nft");
        fs::write(&file, text).unwrap();
        self.run("nft", &["-f", file.to_str().unwrap()]);
    }

    /// A counter behind the queue.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let text = self.run("nft", &["list", "counter", "ip", "after", name]);
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "packets").unwrap();
        words[at + 1].parse().unwrap()
    }

    /// Packets that got past the queue.
    pub(crate) fn passed(&self) -> u64 {
        self.counter("passed")
    }

    pub(crate) fn status(&self, queue: u16) -> Option<QueueStatus> {
        self.lab
            .receiver()
            .run(|| QueueStatus::read(queue))
            .unwrap()
    }

    pub(crate) fn send(&self, packets: u64) -> Sent {
        self.send_as(0, packets)
    }

    /// Packets of a stream of their own. All of them have been at the hook when this returns.
    pub(crate) fn send_as(&self, stream: u16, packets: u64) -> Sent {
        let before = self.lab.receiver_stats().unwrap().rx_packets;
        let sent = Traffic::new(256, packets)
            .stream(stream)
            .send(&self.lab, None)
            .unwrap();
        assert_eq!(sent.packets, packets);
        until("all packets arrived", || {
            self.lab.receiver_stats().unwrap().rx_packets - before >= packets
        });
        sent
    }

    /// lwnflog, capturing from the queues.
    pub(crate) fn capture(&self, options: &str) -> Capturer<'_> {
        self.capture_by(Command::new(env!("CARGO_BIN_EXE_lwnflog")), options)
    }

    pub(crate) fn ring(&self) -> PathBuf {
        self.dir.path().join("ring")
    }

    /// lwnflog by a command line that begins like `command`.
    pub(crate) fn capture_by(&self, command: Command, options: &str) -> Capturer<'_> {
        let (first, last) = self.queues;
        let queues = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        let mut inside = self.lab.receiver().command(command.get_program()).unwrap();
        inside
            .args(command.get_args())
            .args(["--queue", &queues, "--json", "--quiet"]);
        for (option, value) in [("--file-size", "1MB"), ("--files", "0")] {
            if !options.contains(option) {
                inside.args([option, value]);
            }
        }
        inside.arg("-w").arg(self.ring());
        inside
            .args(options.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = inside.spawn().unwrap();
        let mut capturer = Capturer {
            scene: self,
            child: Some(child),
        };
        until("the queues are bound", || {
            capturer.check_alive();
            (first..=last).all(|queue| self.status(queue).is_some())
        });
        capturer
    }

    /// The recorded packets of all files: frame and original length.
    pub(crate) fn records(&self) -> Vec<Recorded> {
        Self::records_in(&self.ring())
    }

    /// The same of a ring elsewhere.
    pub(crate) fn records_in(ring: &Path) -> Vec<Recorded> {
        let files = files_of(ring);
        files.iter().flat_map(|file| read_pcapng(file)).collect()
    }

    /// The oldest file of the ring that is finished.
    pub(crate) fn oldest_finished(&self) -> Option<PathBuf> {
        let is_live = |path: &PathBuf| path.to_string_lossy().contains(".live.");
        files_of(&self.ring())
            .into_iter()
            .find(|path| !is_live(path))
    }
}

/// The capture files of a directory, oldest first; not the one that is being prepared.
fn files_of(ring: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(ring)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "pcapng")
    });
    files.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
    files.sort();
    files
}

/// A packet as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) frame: Vec<u8>,
    pub(crate) original_len: usize,
}

impl Recorded {
    pub(crate) fn marker(&self) -> Marker {
        Marker::of_frame(&self.frame)
            .unwrap_or_else(|| panic!("a packet of nobody: {:x?}", self.frame))
    }
}

fn read_pcapng(path: &Path) -> Vec<Recorded> {
    let file = fs::File::open(path).unwrap();
    let mut reader = create_reader(4 << 20, file).unwrap();
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok((consumed, block)) => {
                if let PcapBlockOwned::NG(Block::EnhancedPacket(packet)) = block {
                    records.push(Recorded {
                        frame: packet.packet_data()[..packet.caplen as usize].to_vec(),
                        original_len: packet.origlen as usize,
                    });
                }
                reader.consume(consumed);
            }
            Err(PcapError::Eof) => return records,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(error) => panic!("{}: {error:?}", path.display()),
        }
    }
}

/// A running lwnflog; it does not outlive its test.
pub(crate) struct Capturer<'a> {
    scene: &'a Scene,
    child: Option<Child>,
}

impl Capturer<'_> {
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// Stops it as Ctrl-Z does, and sees it stopped.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.child.as_ref().unwrap().id());
        until("it is stopped", || {
            fs::read_to_string(&stat).unwrap().contains(") T ")
        });
    }

    /// Whether the capturing thread waits for another thread: of all that it waits for, only the
    /// swapper with the next file is one.
    pub(crate) fn waits_for_file(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.as_ref().unwrap().id());
        fs::read_dir(tasks).unwrap().any(|task| {
            let task = task.unwrap().path();
            let read = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
            read("comm").starts_with("capture-") && read("wchan").contains("futex")
        })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().unwrap().try_wait().unwrap()
    }

    fn check_alive(&mut self) {
        if let Some(status) = self.ended() {
            let output = self.child.take().unwrap().wait_with_output().unwrap();
            panic!(
                "lwnflog ended with {status}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    /// Ends it as Ctrl-C does, and checks its account.
    pub(crate) fn finish(mut self) -> Report {
        self.signal(Signal::INT);
        let report = self.report();
        report.check();
        report
    }

    /// Ends it while packets still come: its account is within bounds then. Returns what it wrote.
    pub(crate) fn finish_under_traffic(mut self) -> u64 {
        self.signal(Signal::INT);
        self.report().figure("written")
    }

    fn report(&mut self) -> Report {
        let mut child = self.child.take().unwrap();
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let last = text.lines().last().expect("a report");
        let report = Report(serde_json::from_str(last).unwrap());
        for queue in self.scene.queues.0..=self.scene.queues.1 {
            until("the queue is released", || {
                self.scene.status(queue).is_none()
            });
        }
        report
    }

    /// Kills it and sees it gone.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Capturer<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// lwnflog's report.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) serde_json::Value);

impl Report {
    /// A figure by its path: `dropped.queue`.
    pub(crate) fn figure(&self, path: &str) -> u64 {
        let pointer = format!("/{}", path.replace('.', "/"));
        let figure = self.0.pointer(&pointer).and_then(serde_json::Value::as_u64);
        figure.unwrap_or_else(|| panic!("no {path} in {}", self.0))
    }

    fn dropped(&self) -> u64 {
        ["overrun", "queue", "writer"]
            .iter()
            .map(|place| self.figure(&format!("dropped.{place}")))
            .sum()
    }

    /// detected = written + dropped + skipped, whatever happened.
    fn check(&self) {
        let figure = |path| self.figure(path);
        let kept = figure("written") + figure("discarded");
        assert_eq!(
            figure("detected"),
            kept + self.dropped() + figure("skipped"),
            "{}",
            self.0
        );
        assert_eq!(
            figure("received"),
            kept + figure("dropped.writer") + figure("skipped"),
            "{}",
            self.0
        );
        let unseen = figure("dropped.overrun") + figure("dropped.queue");
        assert_eq!(
            unseen,
            figure("unrecorded.passed") + figure("unrecorded.refused"),
            "{}",
            self.0
        );
    }
}
