//! An NFQUEUE queue (`net/netfilter/nfnetlink_queue.c`): binding, configuring, receiving, verdicts.
//!
//! ```text
//!   rule ─> queue (id 1, 2, 3, …; packets wait) ──a datagram each──> socket ─recvmmsg─> 64 at a time
//!              ^                                                                            │ record
//!              └──────── one verdict for all ids up to the last (VERDICT_BATCH) <───────────┘
//! ```
//!
//! Ids grow by one with each packet sent to the socket, under the queue's lock: within a socket
//! they ascend without a gap but for datagrams that the socket had no room for. A batch verdict
//! takes every waiting packet with an id up to the one given, so the last id of a batch answers for
//! all. A packet that finds the queue full gets no id.
//!
//! # What the `nfq` crate (0.2.5) does here, and what it does not
//!
//! Its verdicts are this module's, and it is the tests' oracle. Its socket is not used, for two
//! reasons: its descriptor cannot be had (no `AsRawFd`; `recvmmsg` and batch verdicts need it), and
//! it binds first and sets the copy mode, the length and fail-open later, each in a request of its
//! own, discarding packets that come in between: until the copy mode is set the kernel *drops*
//! every packet of the queue (`-EINVAL`, which neither `bypass` nor fail-open covers). Here one
//! request does it all, and a packet that comes before the answer is kept.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use neli::consts::nl::NlmF;
use neli::consts::socket::Msg;
use neli::socket::NlSocket;
pub use nfq::Verdict;

pub mod message;
mod pace;
mod status;

use super::error::{SourceError, Which};
use super::socket as source_socket;
use super::{Arrival, Change, Count, Item, NoHits, Refused, Source, Target, Waker, Walk};
use crate::netlink::message::{Messages, answer};
use crate::netlink::request::{AttrResult, be32, bytes};
use crate::packet::Packet;
use crate::sys::mmsg::{self, Datagrams};
use crate::sys::netlink as options;
use message::{self as wire, VerdictBatch, config as cfg, packet_id};
use pace::Pace;
pub use status::{LastStatus, QueueStatus};

/// More than all attributes of a message take beside the packet (about 200 bytes today).
const ATTRIBUTES_BYTES_MAX: u32 = 1024;

/// How a queue is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The number that the rule names: `queue num N`.
    pub queue: u16,
    /// Bytes to copy of each packet, from its network header on.
    pub copy_range_bytes: u32,
    /// Packets that may wait for their verdict: so many a stopped capturer holds.
    pub len: u32,
    /// What becomes of packets that find the queue full: they pass unrecorded, or are dropped.
    pub fail_open: bool,
    /// What becomes of packets when they are recorded.
    pub verdict: Verdict,
    /// The mark they carry on.
    pub mark: Option<u32>,
    /// The socket's receive buffer.
    pub buffer_bytes: usize,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Bound,
    /// Nothing is queued any more; what was queued is being received.
    Closing,
    Released,
}

/// One bound queue: its socket and its receive buffers.
pub struct Queue {
    socket: NlSocket,
    config: QueueConfig,
    datagrams: Datagrams,
    /// Packets that came while the acknowledgement was waited for.
    kept: Vec<Vec<u8>>,
    verdict: VerdictBatch,
    /// The id that the last verdict was given up to.
    finished_id: u32,
    /// The id of the last packet of a verdict that could not be sent. The next one answers for it
    /// as well.
    due_id: Option<u32>,
    pace: Pace,
    stage: Stage,
    last_status: LastStatus,
    granted_buffer_bytes: usize,
    paused: bool,
    /// The number of the last request.
    sequence: u32,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("config", &self.config)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Binds the queue in the calling thread's network namespace and configures it in one request.
    ///
    /// # Errors
    /// [`SourceError`], each with its remedy.
    pub fn open(config: QueueConfig) -> Result<Queue, SourceError> {
        let queue = config.queue;
        let which = Which {
            target: Target::Queue,
            number: queue,
        };
        let failed = |step| SourceError::system(which, step);
        let (socket, granted_buffer_bytes) =
            source_socket::open(config.buffer_bytes).map_err(failed)?;
        options::set_timestamps(options::borrow(&socket))
            .map_err(|error| failed(("have packets stamped", error)))?;
        let copy_range_bytes = config.copy_range_bytes.clamp(1, wire::COPY_RANGE_MAX_BYTES);
        let mut this = Queue {
            socket,
            datagrams: Datagrams::new((copy_range_bytes + ATTRIBUTES_BYTES_MAX) as usize)
                .map_err(|error| failed(("get memory for its receive buffer", error)))?,
            kept: Vec::new(),
            verdict: VerdictBatch::new(queue, verdict_number(config.verdict), config.mark),
            finished_id: 0,
            due_id: None,
            pace: Pace::new(),
            stage: Stage::Bound,
            last_status: LastStatus::default(),
            granted_buffer_bytes,
            paused: false,
            sequence: 0,
            config: QueueConfig {
                copy_range_bytes,
                ..config
            },
        };
        this.configure().map_err(|source| {
            this.stage = Stage::Released; // it is not ours to release
            SourceError::of_bind(which, source)
        })?;
        Ok(this)
    }

    /// GSO: merged packets come as one, as they pass the hook, and unfinished checksums are left
    /// alone. What the kernel could tell beside (conntrack, owner, security context) stays off.
    fn configure(&mut self) -> io::Result<()> {
        let fail_open = if self.config.fail_open {
            cfg::F_FAIL_OPEN
        } else {
            0
        };
        let every_flag =
            cfg::F_FAIL_OPEN | cfg::F_CONNTRACK | cfg::F_GSO | cfg::F_UID_GID | cfg::F_SECCTX;
        let params = self.copy_params();
        self.request([
            bytes(cfg::CMD, &[cfg::CMD_BIND, 0, 0, 0]),
            bytes(cfg::PARAMS, &params),
            be32(cfg::QUEUE_MAXLEN, self.config.len),
            be32(cfg::FLAGS, fail_open | cfg::F_GSO),
            be32(cfg::MASK, every_flag),
        ])
    }

    /// What is copied of each packet; while paused nothing but what the kernel says about it.
    fn copy_params(&self) -> Vec<u8> {
        let mut params = self.config.copy_range_bytes.to_be_bytes().to_vec();
        params.push(if self.paused {
            cfg::COPY_META
        } else {
            cfg::COPY_PACKET
        });
        params
    }

    /// Sends a configuration request and waits for the kernel's answer; packets that come before it
    /// are kept.
    fn request<const N: usize>(&mut self, settings: [AttrResult; N]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let (sequence, queue) = (self.sequence, self.config.queue);
        let request = source_socket::request(wire::CONFIG, NlmF::ACK, sequence, queue, settings)?;
        let this = RefCell::new(self);
        source_socket::ask(
            || source_socket::send(&this.borrow().socket, &request),
            |answer| {
                let this = &mut **this.borrow_mut();
                let arrival = this.fill(false)?;
                for datagram in this.datagrams.iter() {
                    match source_socket::answered(datagram, sequence) {
                        None => this.kept.push(datagram.to_vec()),
                        found => *answer = found,
                    }
                }
                Ok(arrival)
            },
        )
    }

    /// Without an answer.
    fn send<const N: usize>(&self, settings: [AttrResult; N]) -> io::Result<()> {
        const SEQUENCE: u32 = 0;
        let queue = self.config.queue;
        let request =
            source_socket::request(wire::CONFIG, NlmF::empty(), SEQUENCE, queue, settings)?;
        source_socket::send(&self.socket, &request)
    }

    #[inline]
    fn fill(&mut self, wait: bool) -> io::Result<Arrival> {
        match self.datagrams.receive(options::borrow(&self.socket), wait) {
            Ok(_) => Ok(Arrival::Batch),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(Arrival::Nothing),
                _ => Err(error),
            },
        }
    }

    /// Has the queue take no more packets: they pass (fail-open), or are dropped.
    fn close(&mut self) -> io::Result<()> {
        self.stage = Stage::Closing;
        self.send([be32(cfg::QUEUE_MAXLEN, 0)])
    }

    /// Unbinds the empty queue: packets find no listener, and pass by the rule's `bypass`.
    fn release(&mut self) -> io::Result<()> {
        self.stage = Stage::Released;
        *self
            .last_status
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = QueueStatus::read(self.config.queue);
        self.send([bytes(cfg::CMD, &[cfg::CMD_UNBIND, 0, 0, 0])])
    }

    /// The verdict on every packet up to `id`. Where the system has no room for it just now, it is
    /// due still.
    #[inline]
    fn give_verdict(&mut self, id: u32) -> io::Result<()> {
        match self.socket.send(self.verdict.up_to(id), Msg::empty()) {
            Ok(_) => {
                (self.finished_id, self.due_id) = (id, None);
                Ok(())
            }
            Err(error) if source_socket::passes(&error) => {
                self.due_id = Some(id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    #[cold]
    fn nothing_came(&mut self) -> io::Result<()> {
        if let Some(id) = self.due_id {
            // No batch comes that would answer for it.
            self.give_verdict(id)?;
        }
        if self.stage == Stage::Closing && self.due_id.is_none() {
            self.release()?;
        }
        Ok(())
    }

    /// What the kernel counted, once the queue is released.
    pub fn last_status(&self) -> LastStatus {
        Arc::clone(&self.last_status)
    }

    /// Its socket, to look at: another descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        options::borrow(&self.socket).try_clone_to_owned()
    }

    /// The receive buffer that the kernel granted, which may be less than was asked for.
    pub fn granted_buffer_bytes(&self) -> usize {
        self.granted_buffer_bytes
    }

    /// Its settings.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }
}

impl Source for Queue {
    type Batch<'a> = Batch<'a>;

    #[inline]
    fn receive(&mut self, wait: bool) -> io::Result<Arrival> {
        if !self.kept.is_empty() {
            self.kept = self.datagrams.put_back(std::mem::take(&mut self.kept));
            return Ok(Arrival::Batch);
        }
        if wait && !self.datagrams.is_full() {
            self.pace.rest();
        }
        let arrival = self.fill(wait)?;
        self.pace.note(self.datagrams.len());
        if arrival == Arrival::Nothing {
            self.nothing_came()?;
        }
        Ok(arrival)
    }

    #[inline]
    fn batch(&mut self) -> Batch<'_> {
        Batch::new(&self.datagrams)
    }

    #[inline]
    fn count(&self) -> Count {
        let mut count = Count::default();
        for id in self.datagrams.iter().filter_map(packet_id) {
            count.first_sequence.get_or_insert(id);
            count.packets += 1;
        }
        count
    }

    /// One verdict for all packets of the batch, recorded or not.
    #[inline]
    fn finish_batch(&mut self) -> io::Result<()> {
        let mut last = None;
        for datagram in self.datagrams.iter() {
            match packet_id(datagram) {
                Some(id) => last = Some(id),
                None if refusal(datagram)? => self.due_id = Some(self.finished_id),
                None => {}
            }
        }
        match last {
            Some(id) => self.give_verdict(id),
            None => Ok(()),
        }
    }

    /// Ends queueing first: what waits when a queue is unbound the kernel drops, so it is unbound
    /// when the last packet has its verdict, in [`Source::receive`].
    fn detach(&mut self) -> io::Result<()> {
        self.close()
    }

    fn change(&mut self, change: &Change) -> Result<(), Refused> {
        let (copy_range_bytes, paused) = (self.config.copy_range_bytes, self.paused);
        match change {
            Change::CopyRange(wanted) => {
                let wanted = (*wanted).clamp(1, wire::COPY_RANGE_MAX_BYTES);
                let slot_bytes = (wanted + ATTRIBUTES_BYTES_MAX) as usize;
                if slot_bytes > self.datagrams.slot_bytes() {
                    self.datagrams = Datagrams::new(slot_bytes).map_err(|error| {
                        Refused(format!("no memory for longer packets: {error}"))
                    })?;
                }
                self.config.copy_range_bytes = wanted;
            }
            Change::Paused(paused) => self.paused = *paused,
            Change::BufferBytes(wanted) => {
                let fd = options::borrow(&self.socket);
                self.granted_buffer_bytes = options::set_receive_buffer(fd, *wanted)
                    .map_err(|error| Refused::by_system(&error))?;
                return Ok(());
            }
            Change::Batch(_) | Change::BatchBytes(_) | Change::Flush(_) => {
                return Err(Refused(
                    "the kernel hands a queue's packets over one by one: there is no batch to set"
                        .to_owned(),
                ));
            }
            Change::Interfaces(_) | Change::Sample(_) | Change::CutoffBytes(_) => {
                return Err(Refused(
                    "of a queue, its rule decides which packets come: change the rule".to_owned(),
                ));
            }
        }
        let params = self.copy_params();
        let done = self.request([bytes(cfg::PARAMS, &params)]);
        if let Err(error) = &done {
            (self.config.copy_range_bytes, self.paused) = (copy_range_bytes, paused);
            return Err(Refused::by_system(error));
        }
        Ok(())
    }

    fn waker(&self) -> Option<Waker> {
        source_socket::waker(&self.socket)
    }

    fn dropped_datagrams(&self) -> u64 {
        options::dropped_datagrams(options::borrow(&self.socket)).map_or(0, u64::from)
    }

    fn truncated_datagrams(&self) -> u64 {
        self.datagrams.truncated()
    }

    fn next_number(&self) -> Option<u32> {
        let last = self
            .last_status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.map(|last| last.last_id.wrapping_add(1))
    }

    fn first_sequence(&self) -> u32 {
        wire::FIRST_ID
    }
}

/// Also where a capture ends by an error or a panic, packets of a fail-open queue do not die with
/// it: those that wait get their verdict unrecorded.
impl Drop for Queue {
    fn drop(&mut self) {
        if self.stage == Stage::Released || !self.config.fail_open {
            return;
        }
        // The socket closes next, whatever comes of this.
        let _ = self.close();
        let every_later_id = self.finished_id.wrapping_add(u32::MAX / 2);
        let _ = self
            .socket
            .send(self.verdict.up_to(every_later_id), Msg::empty());
        let _ = self.release();
    }
}

/// `NF_DROP` or `NF_ACCEPT` (`linux/netfilter.h`); the other verdicts are not this tool's.
fn verdict_number(verdict: Verdict) -> u32 {
    u32::from(verdict != Verdict::Drop)
}

/// What the kernel says against a verdict. That there is none such packet is nothing: those of a
/// interface that went down, or of a deleted rule, are dropped while they wait.
///
/// True where it has to be given again: the kernel had no memory for it.
#[cold]
fn refusal(datagram: &[u8]) -> io::Result<bool> {
    match answer(datagram) {
        None | Some((_, 0 | libc::ENOENT)) => Ok(false),
        Some((_, libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::EINTR)) => Ok(true),
        Some((_, libc::EPERM)) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the kernel takes no verdict from this process any more: it needs CAP_NET_ADMIN as long as it runs",
        )),
        Some((_, errno)) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The packets of one receive call.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    datagrams: mmsg::Iter<'a>,
    packet: Packet<'a>,
}

impl<'a> Batch<'a> {
    /// The packets in `datagrams`, a message each.
    #[inline]
    pub fn new(datagrams: &'a Datagrams) -> Self {
        Batch {
            datagrams: datagrams.iter(),
            packet: Packet::default(),
        }
    }
}

impl Walk for Batch<'_> {
    type Hits<'h>
        = NoHits
    where
        Self: 'h;

    #[inline]
    fn next(&mut self) -> Option<Item<'_>> {
        loop {
            let parsed = match Messages::new(self.datagrams.next()?).next() {
                Some(Ok(message)) if message.kind == wire::PACKET => wire::parse(&message),
                Some(Ok(_)) | None => continue, // an acknowledgement or error, a stranger's datagram
                Some(Err(error)) => Err(error),
            };
            return Some(match parsed {
                Ok(packet) => {
                    self.packet = packet;
                    Item::Packet(&self.packet)
                }
                Err(error) => Item::Malformed(error),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_kernel_s_numbers() {
        assert_eq!(
            (
                verdict_number(Verdict::Drop),
                verdict_number(Verdict::Accept)
            ),
            (0, 1)
        );
    }
}
