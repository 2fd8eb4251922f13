//! Numbered packets: each is known by its headers alone, and can be made again from its number.
//!
//! The number, 40 bits, is in the source address (its upper 24 bits) and the identification (its lower
//! 16), of IPv6 in the lower half of the source address. So a packet is known however short it is cut.
//! Numbers are given under one lock; those of one sender grow in the order of arrival, as each has a processor.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwnflog::lab::{Lab, TX};
use lwnflog::sys::cpu::pin_thread;
use lwnflog::sys::inject::{BATCH, FrameSocket};
use serde::{Deserialize, Serialize};

use crate::packets::{self, AROUND, frame, wire};
pub use crate::packets::{Kind, number_of};
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
    /// One behind prerouting's captures has, before other hooks and tunnels.
    pub dropped_behind: bool,
    /// Whose packets keep their order.
    pub sender: u8,
}

impl Chunk {
    pub fn has(&self, number: u64) -> bool {
        (self.first..self.first + self.count).contains(&number)
    }

    pub fn frame_len(&self, number: u64) -> usize {
        let (from, to) = (usize::from(self.length.0), usize::from(self.length.1));
        let spread = u64::try_from(to - from + 1).unwrap_or(1);
        let len = from + usize::try_from(mix(number) % spread).unwrap_or_default();
        match self.kind {
            Kind::Outer => self.within().frame_len(number + self.count) + AROUND,
            Kind::Inner => len.clamp(self.kind.headers(), 1400),
            kind => len.max(kind.headers()),
        }
    }

    pub fn frame(&self, number: u64) -> Vec<u8> {
        if self.kind == Kind::Outer {
            return packets::around(number, &self.within().frame(number + self.count));
        }
        frame(number, self.kind, self.port, self.frame_len(number))
    }

    /// What is in the packets of a tunnel: as many, with the numbers behind them.
    fn within(&self) -> Chunk {
        Chunk {
            first: self.first + self.count,
            kind: Kind::Inner,
            sender: TUNNEL,
            dropped: self.dropped || self.dropped_behind,
            ..self.clone()
        }
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
    dropping: Option<bool>,
    next: u64,
    next6: u64,
    chunks: Vec<Chunk>,
}

/// Who sends: by steps and in the background, two more beside, and what comes out of a tunnel.
pub const SENDERS: usize = 4;
const TUNNEL: u8 = 3;

/// All senders.
pub struct Traffic {
    lab: Arc<Lab>,
    core: usize,
    log: Arc<Mutex<Log>>,
    background: Vec<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// Where frames go in: the cable, and the receiver's loopback.
struct Sockets {
    tx: FrameSocket,
    lo: FrameSocket,
}

impl Sockets {
    fn open(lab: &Lab) -> Sockets {
        let (tx, lo) = (
            lab.sender().run(|| FrameSocket::open(TX)),
            lab.receiver().run(|| FrameSocket::open("lo")),
        );
        Sockets {
            tx: tx.unwrap().unwrap(),
            lo: lo.unwrap().unwrap(),
        }
    }
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
            background: Vec::new(),
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
        let (log, core, lab) = (Arc::clone(&self.log), self.core, Arc::clone(&self.lab));
        let done = self.lab.sender().run(move || {
            let _ = pin_thread(core);
            let sockets = Sockets::open(&lab);
            let mut left = packets;
            while left > 0 {
                left -= burst(&sockets, &log, what, left.min(BATCH as u64), 0);
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

    /// From now on a rule drops what comes: before all captures, or behind those of prerouting.
    pub fn dropping(&self, dropping: Option<bool>) {
        self.log.lock().unwrap().dropping = dropping;
    }

    pub fn is_on(&self) -> bool {
        !self.background.is_empty()
    }

    /// How many send at once.
    pub fn senders(&self) -> usize {
        self.background.len()
    }

    /// Sends until it is told to stop; one more, on another processor, where somebody sends already.
    pub fn begin(&mut self, what: What, rate: u64) {
        let stop = Arc::new(AtomicBool::new(false));
        let (log, lab) = (Arc::clone(&self.log), Arc::clone(&self.lab));
        let sender = self.background.len();
        let core = other_core(self.core, sender);
        let theirs = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let sent = lab.sender().run(|| {
                let _ = pin_thread(core);
                let sockets = Sockets::open(&lab);
                let sender = u8::try_from(sender).unwrap_or_default();
                let each = (rate / 100).clamp(1, BATCH as u64);
                let mut left = ENOUGH;
                while !theirs.load(Ordering::Relaxed) {
                    if left > 0 {
                        left = left.saturating_sub(burst(&sockets, &log, what, each, sender));
                    }
                    thread::sleep(Duration::from_nanos(each * 1_000_000_000 / rate));
                }
            });
            sent.unwrap();
        });
        self.background.push((stop, thread));
    }

    pub fn end(&mut self) {
        for (stop, _) in &self.background {
            stop.store(true, Ordering::Relaxed);
        }
        for (_, thread) in self.background.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The processor of a sender.
fn other_core(first: usize, sender: usize) -> usize {
    let all = rustix::thread::sched_getaffinity(None);
    let cores: Vec<usize> = all.map_or(vec![first], |set| {
        (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect()
    });
    let at = cores.iter().position(|core| *core == first);
    cores[(at.unwrap_or_default() + sender) % cores.len()]
}

/// So many packets are sent in the background: steps that take long are not to fill disks.
const ENOUGH: u64 = 300_000;

/// The latest that a packet of a sender in the background comes to the hook, if nothing else tells.
const LATE: Time = 2 * SECOND;

fn burst(sockets: &Sockets, log: &Mutex<Log>, what: What, packets: u64, sender: u8) -> u64 {
    let mut held = loop {
        let held = log.lock().unwrap();
        if !held.held {
            break held;
        }
        drop(held);
        thread::sleep(Duration::from_millis(1));
    };
    let chunk = Chunk {
        first: held.next,
        count: packets,
        kind: what.kind,
        port: what.port,
        length: (what.from, what.to),
        at: (now(), Time::MAX),
        doubtful: false,
        dropped: held.dropping == Some(true),
        dropped_behind: held.dropping == Some(false),
        sender,
    };
    let mut numbers = packets;
    held.chunks.push(chunk.clone());
    if what.kind == Kind::Outer {
        held.chunks.push(chunk.within());
        numbers *= 2;
    }
    held.next += numbers;
    if what.kind.is_ip6() {
        held.next6 += numbers;
    }
    // The first sender holds the lock, so that what steps send is in order with it.
    let held = (sender == 0).then_some(held);
    let frames: Vec<Vec<u8>> = (chunk.first..chunk.first + packets)
        .map(|number| wire(what.kind, chunk.frame(number)))
        .collect();
    let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let socket = if what.kind == Kind::Loop {
        &sockets.lo
    } else {
        &sockets.tx
    };
    let mut sent = 0;
    while sent < slices.len() {
        match socket.send(&slices[sent..]) {
            Ok(count) => sent += count,
            Err(_) => thread::yield_now(),
        }
    }
    let mut held = held.unwrap_or_else(|| log.lock().unwrap());
    let late = now() + LATE;
    let at = held
        .chunks
        .partition_point(|other| other.first < chunk.first);
    for sent in held.chunks[at..].iter_mut().take(2) {
        if (chunk.first..chunk.first + numbers).contains(&sent.first) {
            sent.at.1 = sent.at.1.min(late);
        }
    }
    packets
}
