//! `lwnflog read -w -` as others use it: followed while it goes on, stopped, or through a pipe whose
//! reader takes its time.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use lwnflog::lab::Marker;
use rustix::process::{Pid, Signal, kill_process};

use super::{LWNFLOG, temp_dir, until};

/// The frames of a pcapng stream so far, and where the next block begins.
fn frames(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(word))
    };
    let (mut at, mut frames) = (0, Vec::new());
    while let (Some(kind), Some(total)) = (word(at), word(at + 4)) {
        let Some(block) = bytes.get(at..at + total as usize) else {
            break;
        };
        if kind == 6 {
            let captured = u32::from_le_bytes(block[20..24].try_into().unwrap());
            frames.push(&block[28..28 + captured as usize]);
        }
        at += total as usize;
    }
    (frames, at)
}

/// The number of a packet of [`super::rings::frame`].
fn made_number(frame: &[u8]) -> u64 {
    let source = u32::from_be_bytes(frame[26..30].try_into().unwrap());
    u64::from(source & 0xff_ffff)
}

/// The number of a packet of a laboratory, with its stream's above it.
fn lab_number(frame: &[u8]) -> u64 {
    let marker = Marker::of_frame(frame);
    let marker = marker.unwrap_or_else(|| panic!("no packet of this test: {frame:02x?}"));
    numbered(marker.stream, marker.sequence)
}

/// How a packet of a laboratory's stream is named here.
pub fn numbered(stream: u16, sequence: u64) -> u64 {
    u64::from(stream) << 40 | sequence
}

/// Whose numbers the packets carry.
#[derive(Debug, Clone, Copy)]
pub enum Numbers {
    Lab,
    Made,
}

impl Numbers {
    fn of(self, frames: &[&[u8]]) -> Vec<u64> {
        let number = match self {
            Numbers::Lab => lab_number,
            Numbers::Made => made_number,
        };
        frames.iter().map(|frame| number(frame)).collect()
    }
}

/// Numbers as runs of consecutive ones: what a person can read.
pub fn runs(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    runs
}

/// `lwnflog read -w -` into a file.
pub struct Follower {
    child: Child,
    out: File,
    at: u64,
    shown: Vec<u64>,
    numbers: Numbers,
    dir: tempfile::TempDir,
}

impl Follower {
    /// With these arguments beside `-w -`.
    pub fn spawn(numbers: Numbers, args: &[&str]) -> Follower {
        let dir = temp_dir();
        let [out, err] = ["out", "err"].map(|name| File::create(dir.path().join(name)).unwrap());
        let mut command = Command::new(LWNFLOG);
        let command = command.args(["read", "-w", "-"]).args(args);
        let command = command.stdin(Stdio::null()).stdout(out).stderr(err);
        Follower {
            child: command.spawn().unwrap(),
            out: File::open(dir.path().join("out")).unwrap(),
            at: 0,
            shown: Vec::new(),
            numbers,
            dir,
        }
    }

    /// What it has shown so far.
    pub fn shown(&mut self) -> &[u64] {
        let len = self.out.metadata().unwrap().len();
        let mut bytes = vec![0; usize::try_from(len - self.at).unwrap()];
        self.out.read_exact_at(&mut bytes, self.at).unwrap();
        let (frames, taken) = frames(&bytes);
        self.shown.extend(self.numbers.of(&frames));
        self.at += taken as u64;
        &self.shown
    }

    /// Waits until it has shown this packet.
    pub fn wait_shown(&mut self, number: u64) {
        until(&format!("packet {number} is shown"), || {
            if self.shown().contains(&number) {
                return Some(());
            }
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() {
                self.shown();
            }
            assert!(
                ended.is_none() || self.shown.contains(&number),
                "it ended without packet {number}; shown: {:?}; said: {}",
                runs(&self.shown),
                self.said()
            );
            None
        });
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and returns once it stands still.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        until("it stands still", || {
            let stat = fs::read_to_string(&stat).unwrap();
            stat.contains(") T ").then_some(())
        });
    }

    /// Waits for it to end by itself; returns what it has shown and said.
    pub fn wait_end(mut self) -> (ExitStatus, Vec<u64>, String) {
        let status = until("it ends", || self.child.try_wait().unwrap());
        (status, self.shown().to_vec(), self.said())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// lwnflog writing into a pipe that nobody reads for now.
pub struct Slow {
    child: Child,
    out: ChildStdout,
    err: tempfile::NamedTempFile,
}

impl Slow {
    /// `lwnflog read -w -` with these arguments; returns once it can go no further.
    pub fn spawn(args: &[&str]) -> Slow {
        Slow::of(&[&["read", "-w", "-"], args].concat())
    }

    /// The same of any command.
    pub fn of(args: &[&str]) -> Slow {
        let err = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(LWNFLOG);
        let command = command.args(args).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped());
        let mut child = command.stderr(err.reopen().unwrap()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let slow = Slow { child, out, err };
        // It may be slower than this looks: then the test finds less, and nothing that is wrong.
        let (mut before, mut same) = (0, 0);
        until("the pipe is full", || {
            let now = rustix::io::ioctl_fionread(&slow.out).unwrap();
            same = if now == before && now != 0 {
                same + 1
            } else {
                0
            };
            before = now;
            thread::sleep(Duration::from_millis(10));
            (same == 15).then_some(())
        });
        slow
    }

    /// Reads packets until this one was shown.
    pub fn read_to(&mut self, numbers: Numbers, last: u64) -> (Vec<u64>, String) {
        let (mut bytes, mut shown) = (Vec::new(), Vec::new());
        let mut piece = vec![0; 1 << 16];
        while shown.last() < Some(&last) {
            let read = self.out.read(&mut piece).unwrap();
            assert!(read != 0, "it ended before packet {last}: {}", self.said());
            bytes.extend(&piece[..read]);
            let (frames, taken) = frames(&bytes);
            shown.extend(numbers.of(&frames));
            bytes.drain(..taken);
        }
        (shown, self.said())
    }

    /// Reads on to the end: what it has written, and said.
    pub fn read_to_end(mut self) -> (ExitStatus, Vec<u8>, String) {
        let mut bytes = Vec::new();
        self.out.read_to_end(&mut bytes).unwrap();
        let status = self.child.wait().unwrap();
        (status, bytes, self.said())
    }

    /// The same of packets.
    pub fn read_on(self, numbers: Numbers) -> (ExitStatus, Vec<u64>, String) {
        let (status, bytes, said) = self.read_to_end();
        (status, numbers.of(&frames(&bytes).0), said)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.err.path()).unwrap()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
