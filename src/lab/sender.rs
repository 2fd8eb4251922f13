//! Traffic at full speed or at a given rate, from one processor or several.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{FrameTemplate, set_sequence};
use super::{Lab, LabError};
use crate::sys::cpu::pin_thread;
use crate::sys::inject::{BATCH, FrameSocket};

/// Flows per sender: each has its own source address and port.
const FLOWS: usize = 256;
/// A paced sender calls the kernel at least this often each second, to stay smooth.
const PACED_CALLS_PER_SECOND: u64 = 2_000;

/// What to send: Ethernet / IPv4 / UDP frames, numbered from 0 by each sender.
#[derive(Debug, Clone)]
pub struct Traffic {
    frame_len: usize,
    packets: u64,
    rate: Option<u64>,
    stream: u16,
}

/// What the kernel took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that the kernel accepted.
    pub packets: u64,
    /// Their bytes, without frame check sequences.
    pub bytes: u64,
    /// How long it took, from the first to the last.
    pub elapsed: Duration,
    /// How often the kernel asked to try again.
    pub retries: u64,
}

impl Sent {
    /// Packets a second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let packets = self.packets as f64;
        packets / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Adds what another sender did at the same time.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            elapsed: self.elapsed.max(other.elapsed),
            retries: self.retries + other.retries,
        }
    }
}

/// A sender's progress, for others to watch and to end.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Frames accepted so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the sending before its time.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Traffic {
    /// `packets` frames of `frame_len` bytes (no frame check sequence), at full speed.
    pub fn new(frame_len: usize, packets: u64) -> Self {
        Self {
            frame_len,
            packets,
            rate: None,
            stream: 0,
        }
    }

    /// At `packets_per_second` from each sender instead of at full speed.
    pub fn rate(mut self, packets_per_second: Option<u64>) -> Self {
        self.rate = packets_per_second.filter(|&rate| rate > 0);
        self
    }

    /// Marks the packets of the first sender with this stream number, the second's with the next.
    pub fn stream(mut self, first: u16) -> Self {
        self.stream = first;
        self
    }

    /// Sends from one thread, bound to processor `core` if one is given.
    pub fn send(&self, lab: &Lab, core: Option<usize>) -> Result<Sent, LabError> {
        self.send_numbered(lab, self.stream, core, &Progress::default())
    }

    /// Sends from one thread on each of `cores` at once, sharing the packets out evenly.
    pub fn send_from(
        &self,
        lab: &Lab,
        cores: &[usize],
        progress: &Progress,
    ) -> Result<Sent, LabError> {
        let senders = u64::try_from(cores.len().max(1)).unwrap_or(1);
        thread::scope(|scope| {
            let start = |(number, core): (u16, &usize)| {
                let number64 = u64::from(number);
                let share = self.packets / senders + u64::from(number64 < self.packets % senders);
                let part = Self {
                    packets: share,
                    ..self.clone()
                };
                let stream = self.stream.wrapping_add(number);
                let core = *core;
                scope.spawn(move || part.send_numbered(lab, stream, Some(core), progress))
            };
            let threads: Vec<_> = (0..).zip(cores).map(start).collect();
            let results = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            results
                .reduce(|sum, part| Ok(sum?.and(part?)))
                .unwrap_or_else(|| Ok(Sent::default()))
        })
    }

    fn send_numbered(
        &self,
        lab: &Lab,
        stream: u16,
        core: Option<usize>,
        progress: &Progress,
    ) -> Result<Sent, LabError> {
        let mut frames = Vec::with_capacity(FLOWS * self.frame_len);
        let mut sums = Vec::with_capacity(FLOWS);
        for flow in 0..=u8::MAX {
            let template = FrameTemplate::new(self.frame_len, lab.tx(), lab.rx(), stream, flow)?;
            frames.extend_from_slice(template.bytes());
            sums.push(template.base_sum());
        }
        let mut transmitter = Transmitter::open(lab, core, self.rate)?;
        let in_sender = move || {
            transmitter.start()?;
            let mut next = 0;
            let mut flow = 0;
            while next < self.packets && !progress.stopped() {
                let left = usize::try_from(self.packets - next).unwrap_or(BATCH);
                let count = transmitter.batch.min(left).min(FLOWS - flow);
                let bytes = flow * self.frame_len..(flow + count) * self.frame_len;
                let batch = &mut frames[bytes];
                let numbered = batch.chunks_exact_mut(self.frame_len).zip(&sums[flow..]);
                for ((frame, &sum), sequence) in numbered.zip(next..) {
                    set_sequence(frame, sum, sequence);
                }
                let mut slices = [IoSlice::new(&[]); BATCH];
                for (slice, frame) in slices.iter_mut().zip(batch.chunks_exact(self.frame_len)) {
                    *slice = IoSlice::new(frame);
                }
                let sent = transmitter.send(&slices[..count], progress)?;
                next += sent;
                flow = (flow + count) % FLOWS;
            }
            Ok(transmitter.finish())
        };
        lab.sender().run(in_sender)?
    }
}

/// Hands frames to the kernel, no faster than asked, until it has taken them.
pub(super) struct Transmitter<'lab> {
    interface: &'lab str,
    socket: FrameSocket,
    core: Option<usize>,
    rate: Option<u64>,
    /// Frames a call.
    pub(super) batch: usize,
    started: Instant,
    sent: Sent,
}

impl<'lab> Transmitter<'lab> {
    pub(super) fn open(
        lab: &'lab Lab,
        core: Option<usize>,
        rate: Option<u64>,
    ) -> Result<Self, LabError> {
        let interface = lab.tx().name.as_str();
        let socket = lab
            .sender()
            .run(|| FrameSocket::open(interface))?
            .map_err(|source| LabError::Send {
                interface: interface.to_owned(),
                source,
            })?;
        let smooth = rate.and_then(|rate| usize::try_from(rate / PACED_CALLS_PER_SECOND).ok());
        Ok(Self {
            interface,
            socket,
            core,
            rate,
            batch: smooth.unwrap_or(BATCH).clamp(1, BATCH),
            started: Instant::now(),
            sent: Sent::default(),
        })
    }

    /// Binds the calling thread to its processor and starts the clock.
    pub(super) fn start(&mut self) -> Result<(), LabError> {
        if let Some(core) = self.core {
            pin_thread(core).map_err(|source| LabError::Pin { core, source })?;
        }
        self.started = Instant::now();
        Ok(())
    }

    /// Sends all of `frames`, and says how many that were: fewer only when told to stop.
    pub(super) fn send(
        &mut self,
        frames: &[IoSlice<'_>],
        progress: &Progress,
    ) -> Result<u64, LabError> {
        self.wait_for_turn(progress);
        let mut done = 0;
        while done < frames.len() && !progress.stopped() {
            match self.socket.send(&frames[done..]) {
                Ok(count) => {
                    let accepted = &frames[done..done + count];
                    self.sent.bytes += accepted.iter().map(|frame| frame.len() as u64).sum::<u64>();
                    done += count;
                }
                Err(error) if is_temporary(&error) => {
                    self.sent.retries += 1;
                    thread::yield_now();
                }
                Err(source) => {
                    let interface = self.interface.to_owned();
                    return Err(LabError::Send { interface, source });
                }
            }
        }
        let done = done as u64;
        self.sent.packets += done;
        progress.sent.fetch_add(done, Ordering::Relaxed);
        Ok(done)
    }

    pub(super) fn finish(mut self) -> Sent {
        self.sent.elapsed = self.started.elapsed();
        self.sent
    }

    /// Waits until the next frame is due; a sender that is late catches up at full speed.
    fn wait_for_turn(&self, progress: &Progress) {
        /// Below this a sleep would overshoot.
        const SPIN: Duration = Duration::from_micros(200);
        /// How long a request to stop may go unnoticed.
        const NAP: Duration = Duration::from_millis(50);
        let Some(rate) = self.rate else { return };
        let nanoseconds = u128::from(self.sent.packets) * 1_000_000_000 / u128::from(rate);
        let due = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        while !progress.stopped() {
            match due.checked_sub(self.started.elapsed()) {
                None | Some(Duration::ZERO) => return,
                Some(early) if early > SPIN => thread::sleep((early - SPIN).min(NAP)),
                Some(_) => std::hint::spin_loop(),
            }
        }
    }
}

/// The interface's queue or the socket's buffer is full, or a signal came: try again.
fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ENOMEM)
    )
}
