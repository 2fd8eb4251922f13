//! Numbered packets: each is known by its headers alone, and can be made again from its number.
//!
//! The number, 40 bits, is in the source address (its upper 24 bits) and the identification (its lower
//! 16), of IPv6 in the lower half of the source address. So a packet is known however short it is cut.
//! All senders go through one lock and one processor: numbers grow in the order of arrival.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwnflog::lab::{Lab, TX};
use lwnflog::sys::cpu::pin_thread;
use lwnflog::sys::inject::{BATCH, FrameSocket};
use serde::{Deserialize, Serialize};

use crate::rng::mix;

/// Nanoseconds since 1970.
pub type Time = i64;

pub fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::try_from(since.as_nanos()).unwrap_or(Time::MAX)
}

pub const SECOND: Time = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Udp,
    Tcp,
    Icmp,
    /// A first fragment.
    Fragment,
    /// A later one.
    Rest,
    Udp6,
}

impl Kind {
    pub fn is_ip6(self) -> bool {
        self == Kind::Udp6
    }

    fn headers(self) -> usize {
        match self {
            Kind::Udp | Kind::Fragment | Kind::Icmp => 14 + 20 + 8,
            Kind::Tcp => 14 + 20 + 20,
            Kind::Rest => 14 + 20,
            Kind::Udp6 => 14 + 40 + 8,
        }
    }
}

/// Up to 64 packets, one call of a sender.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub first: u64,
    pub count: u64,
    pub kind: Kind,
    pub port: u16,
    /// Lengths of frames: from, to.
    pub length: (u16, u16),
    /// Not before the first, seen by every hook at the second.
    pub at: (Time, Time),
    /// Some of it may have been lost before the hook.
    pub doubtful: bool,
    /// A rule before all captures has dropped it.
    pub dropped: bool,
}

impl Chunk {
    pub fn has(&self, number: u64) -> bool {
        (self.first..self.first + self.count).contains(&number)
    }

    pub fn frame_len(&self, number: u64) -> usize {
        let (from, to) = (usize::from(self.length.0), usize::from(self.length.1));
        let spread = u64::try_from(to - from + 1).unwrap_or(1);
        let len = from + usize::try_from(mix(number) % spread).unwrap_or_default();
        len.max(self.kind.headers())
    }

    pub fn frame(&self, number: u64) -> Vec<u8> {
        frame(number, self.kind, self.port, self.frame_len(number))
    }
}

fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        (0..4096 + 65536u64)
            .map(|at| mix(at).to_le_bytes()[0])
            .collect()
    })
}

const TO: [u8; 6] = [0x02, 0x6c, 0x77, 0x6e, 0x66, 2];
const FROM: [u8; 6] = [0x02, 0x6c, 0x77, 0x6e, 0x66, 1];

fn be16(value: usize) -> [u8; 2] {
    u16::try_from(value & 0xffff)
        .unwrap_or_default()
        .to_be_bytes()
}

fn frame(number: u64, kind: Kind, port: u16, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(TO);
    bytes.extend(FROM);
    let source_port = be16(10_000 + usize::try_from(number % 256).unwrap_or_default());
    if kind.is_ip6() {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend(be16(len - 14 - 40));
        bytes.extend([17, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(number.to_be_bytes());
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        let (protocol, fragment) = match kind {
            Kind::Tcp => (6, 0x4000),
            Kind::Icmp => (1, 0x4000),
            Kind::Fragment => (17, 0x2000),
            Kind::Rest => (17, 185),
            _ => (17, 0x4000),
        };
        bytes.extend([0x08, 0x00, 0x45, 0]);
        bytes.extend(be16(len - 14));
        bytes.extend(be16(usize::try_from(number & 0xffff).unwrap_or_default()));
        bytes.extend(be16(fragment));
        bytes.extend([64, protocol, 0, 0, 10]);
        bytes.extend(&number.to_be_bytes()[3..6]);
        bytes.extend([198, 18, 0, 2]);
        let sum: u32 = bytes[14..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        let sum = be16(usize::try_from(!folded & 0xffff).unwrap_or_default());
        bytes[24..26].copy_from_slice(&sum);
    }
    match kind {
        Kind::Udp | Kind::Fragment | Kind::Udp6 => {
            bytes.extend(source_port);
            bytes.extend(port.to_be_bytes());
            let ip = if kind.is_ip6() { 54 } else { 34 };
            bytes.extend(be16(len - ip));
            bytes.extend([0, 0]);
        }
        Kind::Tcp => {
            bytes.extend(source_port);
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        }
        Kind::Icmp => bytes.extend([0, 0, 0, 0, 0, 1, 0, 1]),
        Kind::Rest => {}
    }
    let from = usize::try_from(mix(number) % 4096).unwrap_or_default();
    let left = len - bytes.len();
    bytes.extend(&noise()[from..from + left]);
    bytes
}

/// The number of a packet, from its IP header on.
pub fn number_of(packet: &[u8]) -> Option<u64> {
    let tail = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    match packet.first()? >> 4 {
        4 => {
            let source = packet.get(12..16)?;
            (source[0] == 10).then(|| tail(&source[1..]) << 16 | tail(&packet[4..6]))
        }
        6 => {
            let source = packet.get(8..24)?;
            (source[..8] == [0xfd, 0, 0, 0, 0, 0, 0, 0]).then(|| tail(&source[8..]))
        }
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct What {
    pub kind: Kind,
    pub port: u16,
    pub from: u16,
    pub to: u16,
}

#[derive(Default)]
struct Log {
    /// Nobody sends meanwhile.
    held: bool,
    dropping: bool,
    next: u64,
    next6: u64,
    chunks: Vec<Chunk>,
}

/// All senders.
pub struct Traffic {
    lab: Arc<Lab>,
    core: usize,
    log: Arc<Mutex<Log>>,
    background: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// What was sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub ip: u64,
    pub ip6: u64,
}

impl Traffic {
    pub fn new(lab: Arc<Lab>, core: usize) -> Traffic {
        Traffic {
            lab,
            core,
            log: Arc::default(),
            background: None,
        }
    }

    pub fn totals(&self) -> Totals {
        let log = self.log.lock().unwrap();
        Totals {
            ip: log.next - log.next6,
            ip6: log.next6,
        }
    }

    pub fn next_number(&self) -> u64 {
        self.log.lock().unwrap().next
    }

    /// All that was sent from this number on.
    pub fn chunks_from(&self, number: u64) -> Vec<Chunk> {
        let log = self.log.lock().unwrap();
        let from = log
            .chunks
            .partition_point(|chunk| chunk.first + chunk.count <= number);
        log.chunks[from..].to_vec()
    }

    /// What was sent from this number on and before `time` has been seen by every hook at `time`.
    pub fn seen(&self, from: u64, below: u64, time: Time, doubtful: bool) {
        let mut log = self.log.lock().unwrap();
        let at = log.chunks.partition_point(|chunk| chunk.first < from);
        for chunk in &mut log.chunks[at..] {
            if chunk.first + chunk.count <= below {
                chunk.at.1 = chunk.at.1.min(time);
                chunk.doubtful |= doubtful;
            }
        }
    }

    /// Sends so many, and returns when the kernel has taken them.
    pub fn send(&self, what: What, packets: u64, rate: Option<u64>) {
        let (log, core) = (Arc::clone(&self.log), self.core);
        let done = self.lab.sender().run(move || {
            let _ = pin_thread(core);
            let socket = FrameSocket::open(TX).unwrap();
            let mut left = packets;
            while left > 0 {
                left -= burst(&socket, &log, what, left.min(BATCH as u64));
                if let Some(rate) = rate {
                    thread::sleep(Duration::from_nanos(64_000_000_000 / rate));
                }
            }
        });
        done.unwrap();
    }

    /// No sender sends, or they go on.
    pub fn hold(&self, held: bool) {
        self.log.lock().unwrap().held = held;
    }

    /// From now on a rule before all captures drops what comes.
    pub fn dropping(&self, dropping: bool) {
        self.log.lock().unwrap().dropping = dropping;
    }

    pub fn is_on(&self) -> bool {
        self.background.is_some()
    }

    /// Sends until it is told to stop.
    pub fn begin(&mut self, what: What, rate: u64) {
        let stop = Arc::new(AtomicBool::new(false));
        let (log, lab, core) = (Arc::clone(&self.log), Arc::clone(&self.lab), self.core);
        let theirs = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let sent = lab.sender().run(move || {
                let _ = pin_thread(core);
                let socket = FrameSocket::open(TX).unwrap();
                let each = (rate / 100).clamp(1, BATCH as u64);
                while !theirs.load(Ordering::Relaxed) {
                    burst(&socket, &log, what, each);
                    thread::sleep(Duration::from_nanos(each * 1_000_000_000 / rate));
                }
            });
            sent.unwrap();
        });
        self.background = Some((stop, thread));
    }

    pub fn end(&mut self) {
        if let Some((stop, thread)) = self.background.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }
}

/// The latest that a packet of a sender in the background comes to the hook, if nothing else tells.
const LATE: Time = 2 * SECOND;

fn burst(socket: &FrameSocket, log: &Mutex<Log>, what: What, packets: u64) -> u64 {
    let mut log = loop {
        let log = log.lock().unwrap();
        if !log.held {
            break log;
        }
        drop(log);
        thread::sleep(Duration::from_millis(1));
    };
    let first = log.next;
    let mut chunk = Chunk {
        first,
        count: packets,
        kind: what.kind,
        port: what.port,
        length: (what.from, what.to),
        at: (now(), Time::MAX),
        doubtful: false,
        dropped: log.dropping,
    };
    let frames: Vec<Vec<u8>> = (first..first + packets)
        .map(|number| chunk.frame(number))
        .collect();
    let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let mut sent = 0;
    while sent == 0 {
        match socket.send(&slices) {
            Ok(count) => sent = count as u64,
            Err(_) => thread::yield_now(),
        }
    }
    chunk.count = sent;
    chunk.at.1 = now() + LATE;
    log.next += sent;
    if what.kind.is_ip6() {
        log.next6 += sent;
    }
    log.chunks.push(chunk);
    sent
}
