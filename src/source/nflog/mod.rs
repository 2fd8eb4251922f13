//! An NFLOG group (`net/netfilter/nfnetlink_log.c`): binding, configuring, receiving.

mod batch;
pub mod message;
pub mod template;

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use neli::consts::netfilter::{LogCmd, LogCopyMode, NfLogCfg};
use neli::consts::nl::NlmF;
use neli::socket::NlSocket;

use super::error::{SourceError, Which};
use super::socket as source_socket;
use super::{Arrival, Change, Count, Refused, Source, Target, Waker};
use crate::netlink::message::Messages;
use crate::netlink::nfnetlink::COPY_RANGE_MAX_BYTES;
use crate::netlink::request::{AttrResult, be16, be32, bytes};
use crate::sys::buffer::Buffer;
use crate::sys::netlink as socket;
pub use batch::{Batch, Hits, count};
use template::Templates;

/// `NFULNL_NLBUFSIZ_MAX`: the kernel takes no more, and does not say so.
pub const NLBUFSIZ_MAX_BYTES: u32 = 131_072;
/// What an allocation of order 3 holds, which the kernel nearly always finds in one piece.
pub const NLBUFSIZ_SMALL_BYTES: u32 = 32_448;
/// A page: the kernel's own default.
const NLBUFSIZ_MIN_BYTES: u32 = 4096;
/// So many datagrams at least have to fit the receive buffer, at twice their size: the kernel
/// rounds allocations up.
const DATAGRAMS_IN_BUFFER_MIN: usize = 16;
/// `NF_INET_FORWARD` (`linux/netfilter.h`): the last hook at which packets are stamped.
const HOOK_FORWARD: u8 = 2;
/// `NFULNL_CFG_F_SEQ`: number the messages of this group.
const FLAG_SEQUENCE: u16 = 1;

/// How a group is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// The number that the rule names: `log group N`.
    pub group: u16,
    /// Bytes to copy of each packet, from its network header on.
    pub copy_range_bytes: u32,
    /// Packets the kernel collects before it hands them over (`qthreshold`).
    pub batch: u32,
    /// Bytes the kernel collects them in (`nlbufsiz`), at most [`NLBUFSIZ_MAX_BYTES`].
    pub nlbufsiz_bytes: u32,
    /// How long it waits for more. The kernel counts in hundredths of a second.
    pub flush: Duration,
    /// The socket's receive buffer.
    pub buffer_bytes: usize,
}

impl GroupConfig {
    /// The settings that need no tuning: batches of about a thousand, at most 100 ms old.
    pub fn new(group: u16, copy_range_bytes: u32) -> Self {
        GroupConfig {
            group,
            copy_range_bytes,
            batch: 1024,
            nlbufsiz_bytes: NLBUFSIZ_MAX_BYTES,
            flush: Duration::from_millis(100),
            buffer_bytes: 64 << 20,
        }
    }

    /// Bytes that no datagram of this group exceeds. The kernel rounds the allocation of
    /// `nlbufsiz` bytes and its own trailer up to a power of two and fills all of it.
    fn datagram_bytes_max(&self) -> usize {
        const SKB_SHARED_INFO_BYTES: u32 = 1024; // 320 today
        const PACKET_MESSAGE_BYTES_MAX: u32 = COPY_RANGE_MAX_BYTES + 4096;
        let asked = self.nlbufsiz_bytes.max(PACKET_MESSAGE_BYTES_MAX) + SKB_SHARED_INFO_BYTES;
        asked.next_power_of_two() as usize
    }
}

/// How far the end of a group has come.
#[derive(Debug)]
enum Detaching {
    No,
    /// The kernel has been asked to unbind the group; its answer stands behind the last packets.
    Asked,
    /// It has answered.
    Answered(io::Result<()>),
}

/// One bound group: its socket and its receive buffer.
pub struct Group {
    socket: NlSocket,
    config: GroupConfig,
    buffer: Buffer,
    /// Bytes of the buffer that the last receive call filled.
    filled: usize,
    /// Packets that came while an acknowledgement was waited for.
    kept: Vec<Vec<u8>>,
    /// What its messages look like.
    templates: Box<Templates>,
    truncated: u64,
    /// It is known whether the kernel stamps packets by itself.
    stamps_known: bool,
    /// How far the end has come.
    detaching: Detaching,
    granted_buffer_bytes: usize,
    paused: bool,
    /// The number of the last request.
    sequence: u32,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Binds the group in the calling thread's network namespace and configures it, in one request,
    /// so that no packet comes before the settings hold.
    ///
    /// # Errors
    /// [`SourceError`], each with its remedy.
    pub fn open(config: GroupConfig) -> Result<Group, SourceError> {
        let which = Which {
            target: Target::Group,
            number: config.group,
        };
        let failed = |step| SourceError::system(which, step);
        let (socket, granted_buffer_bytes) =
            source_socket::open(config.buffer_bytes).map_err(failed)?;
        // A buffer that cannot be had (no right to exceed net.core.rmem_max) must hold several
        // datagrams all the same: smaller ones then.
        let nlbufsiz_limit =
            u32::try_from(granted_buffer_bytes / DATAGRAMS_IN_BUFFER_MIN).unwrap_or(u32::MAX);
        let config = GroupConfig {
            nlbufsiz_bytes: config
                .nlbufsiz_bytes
                .min(nlbufsiz_limit.max(NLBUFSIZ_MIN_BYTES)),
            ..config
        };
        let buffer = Buffer::new(config.datagram_bytes_max())
            .map_err(|error| failed(("get memory for its receive buffer", error)))?;
        let mut this = Group {
            socket,
            buffer,
            filled: 0,
            kept: Vec::new(),
            templates: Box::default(),
            truncated: 0,
            stamps_known: false,
            detaching: Detaching::No,
            granted_buffer_bytes,
            paused: false,
            sequence: 0,
            config,
        };
        this.configure()
            .map_err(|source| SourceError::of_bind(which, source))?;
        Ok(this)
    }

    fn configure(&mut self) -> io::Result<()> {
        let config = self.config.clone();
        self.request([
            bytes(NfLogCfg::Cmd.into(), &[LogCmd::Bind.into()]),
            bytes(
                NfLogCfg::Mode.into(),
                &copy_mode(config.copy_range_bytes, false),
            ),
            be32(
                NfLogCfg::NlBufSize.into(),
                config.nlbufsiz_bytes.min(NLBUFSIZ_MAX_BYTES),
            ),
            be32(NfLogCfg::Timeout.into(), hundredths(config.flush)),
            be32(NfLogCfg::QThresh.into(), config.batch.max(1)),
            be16(NfLogCfg::Flags.into(), FLAG_SEQUENCE),
        ])
    }

    /// Sends a configuration request and waits for the kernel's answer; packets that come before it
    /// are kept.
    fn request<const N: usize>(&mut self, settings: [AttrResult; N]) -> io::Result<()> {
        let request = self.next_request(settings)?;
        let this = RefCell::new(self);
        source_socket::ask(
            || source_socket::send(&this.borrow().socket, &request),
            |answer| {
                let mut this = this.borrow_mut();
                let arrival = this.fill(false)?;
                let datagram = &this.buffer[..this.filled];
                *answer = source_socket::answered(datagram, this.sequence);
                if answer.is_none() && !datagram.is_empty() {
                    let datagram = datagram.to_vec();
                    this.kept.push(datagram);
                }
                Ok(arrival)
            },
        )
    }

    fn next_request<const N: usize>(&mut self, settings: [AttrResult; N]) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let (sequence, group) = (self.sequence, self.config.group);
        source_socket::request(message::CONFIG, NlmF::ACK, sequence, group, settings)
    }

    /// Receives one datagram into the buffer.
    #[inline]
    fn fill(&mut self, wait: bool) -> io::Result<Arrival> {
        self.filled = 0;
        match socket::receive(socket::borrow(&self.socket), &mut self.buffer, wait) {
            // Only the kernel's word counts; another process with CAP_NET_ADMIN may send here too.
            // Its datagram is an empty batch, not the end of what is waiting.
            Ok(received) if received.port != 0 => Ok(Arrival::Batch),
            Ok(received) => {
                self.filled = received.bytes.min(self.buffer.len());
                self.truncated += u64::from(received.bytes > self.buffer.len());
                Ok(Arrival::Batch)
            }
            Err(error) => match error.raw_os_error() {
                // A full buffer is counted by the gap in the sequence numbers.
                Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(Arrival::Nothing),
                _ => Err(error),
            },
        }
    }

    /// Nothing comes behind the kernel's answer to the request to unbind, or should: where it has
    /// refused, packets go on coming.
    #[cold]
    fn last_packets(&mut self, arrival: Arrival) -> Arrival {
        if matches!(self.detaching, Detaching::Asked)
            && let Some(answer) =
                source_socket::answered(&self.buffer[..self.filled], self.sequence)
        {
            self.detaching = Detaching::Answered(answer);
        }
        match self.detaching {
            Detaching::Answered(_) => Arrival::Nothing,
            _ => arrival,
        }
    }

    /// The same socket, for a look at its buffer from elsewhere.
    ///
    /// # Errors
    /// What the system says.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        socket::borrow(&self.socket).try_clone_to_owned()
    }

    /// The receive buffer that the kernel granted, which may be less than was asked for.
    pub fn granted_buffer_bytes(&self) -> usize {
        self.granted_buffer_bytes
    }

    /// Its settings.
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }
}

impl Source for Group {
    type Batch<'a> = Batch<'a>;

    #[inline]
    fn receive(&mut self, wait: bool) -> io::Result<Arrival> {
        if self.kept.is_empty() {
            let arrival = self.fill(wait)?;
            return Ok(match self.detaching {
                Detaching::No => arrival,
                _ => self.last_packets(arrival),
            });
        }
        let kept = self.kept.remove(0);
        self.buffer[..kept.len()].copy_from_slice(&kept);
        self.filled = kept.len();
        Ok(Arrival::Batch)
    }

    #[inline]
    fn batch(&mut self) -> Batch<'_> {
        Batch::new(&self.buffer[..self.filled], &mut self.templates)
    }

    #[inline]
    fn count(&self) -> Count {
        count(&self.buffer[..self.filled])
    }

    /// Older kernels (before about 6.6) hand over a stamp only if some socket has packets stamped
    /// as they arrive. Where the first packet has none, this socket asks for it; the few until then
    /// carry the time of their arrival here.
    #[inline]
    fn finish_batch(&mut self) -> io::Result<()> {
        if !self.stamps_known
            && let Some(stamped) = first_is_stamped(&self.buffer[..self.filled])
        {
            self.stamps_known = true;
            if !stamped {
                socket::set_timestamps(socket::borrow(&self.socket))?;
            }
        }
        Ok(())
    }

    /// Each is one request, which the kernel takes between two packets: nothing is unbound.
    fn change(&mut self, change: &Change) -> Result<(), Refused> {
        let mut config = self.config.clone();
        let done = match change {
            Change::CopyRange(wanted) => {
                config.copy_range_bytes = *wanted;
                self.request([bytes(
                    NfLogCfg::Mode.into(),
                    &copy_mode(*wanted, self.paused),
                )])
            }
            Change::Paused(paused) => {
                let mode = copy_mode(config.copy_range_bytes, *paused);
                let done = self.request([bytes(NfLogCfg::Mode.into(), &mode)]);
                if done.is_ok() {
                    self.paused = *paused;
                }
                done
            }
            Change::Batch(packets) => {
                config.batch = *packets;
                self.request([be32(NfLogCfg::QThresh.into(), (*packets).max(1))])
            }
            Change::BatchBytes(bytes) => {
                // The receive buffer holds what it was made for.
                config.nlbufsiz_bytes = (*bytes).min(self.config.nlbufsiz_bytes);
                self.request([be32(NfLogCfg::NlBufSize.into(), config.nlbufsiz_bytes)])
            }
            Change::Flush(flush) => {
                config.flush = *flush;
                self.request([be32(NfLogCfg::Timeout.into(), hundredths(*flush))])
            }
            Change::BufferBytes(wanted) => {
                config.buffer_bytes = *wanted;
                socket::set_receive_buffer(socket::borrow(&self.socket), *wanted).map(|granted| {
                    self.granted_buffer_bytes = granted;
                })
            }
            Change::Interfaces(_) | Change::Sample(_) | Change::CutoffBytes(_) => {
                return Err(Refused(
                    "of a group, its rule decides which packets come: change the rule".to_owned(),
                ));
            }
        };
        done.map_err(|error| Refused::by_system(&error))?;
        self.config = config;
        Ok(())
    }

    fn waker(&self) -> Option<Waker> {
        source_socket::waker(&self.socket)
    }

    fn detach(&mut self) -> io::Result<()> {
        let request = self.next_request([bytes(NfLogCfg::Cmd.into(), &[LogCmd::Unbind.into()])])?;
        source_socket::send(&self.socket, &request)?;
        self.detaching = Detaching::Asked;
        Ok(())
    }

    fn detach_refused(&mut self) -> Option<io::Error> {
        match std::mem::replace(&mut self.detaching, Detaching::Asked) {
            Detaching::Answered(answer) => answer.err(),
            _ => None,
        }
    }

    fn dropped_datagrams(&self) -> u64 {
        socket::dropped_datagrams(socket::borrow(&self.socket)).map_or(0, u64::from)
    }

    fn truncated_datagrams(&self) -> u64 {
        self.truncated
    }
}

/// What is copied of each packet; while paused nothing but what the kernel says about it.
fn copy_mode(copy_range_bytes: u32, paused: bool) -> Vec<u8> {
    let mode = if paused {
        LogCopyMode::Meta
    } else {
        LogCopyMode::Packet
    };
    let mut value = copy_range_bytes
        .min(COPY_RANGE_MAX_BYTES)
        .to_be_bytes()
        .to_vec();
    value.extend_from_slice(&[u8::from(mode), 0]);
    value
}

/// The kernel's unit of a flush timeout.
fn hundredths(flush: Duration) -> u32 {
    u32::try_from(flush.as_millis() / 10)
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Whether the first packet of a datagram has the kernel's time stamp. `None` without a packet, or
/// where its hook is one behind which no kernel gives a stamp.
#[cold]
fn first_is_stamped(datagram: &[u8]) -> Option<bool> {
    let mut messages = Messages::new(datagram).flatten();
    let first = messages.find(|message| message.kind == message::PACKET)?;
    let packet = message::parse(&first).ok()?;
    (packet.hook <= HOOK_FORWARD).then_some(packet.stamp_ticks.is_some())
}

#[cfg(test)]
mod tests {
    use super::message::attribute;
    use super::*;

    /// A packet message: its header (IPv4, at `hook`), a payload, and a time stamp or not.
    fn datagram(hook: u8, stamp: Option<[u8; 16]>) -> Vec<u8> {
        let put = |out: &mut Vec<u8>, kind: u16, value: &[u8]| {
            let len = u16::try_from(value.len() + 4).unwrap();
            out.extend(len.to_ne_bytes());
            out.extend(kind.to_ne_bytes());
            out.extend(value);
        };
        let mut body = vec![2, 0, 0, 5];
        put(&mut body, attribute::PACKET_HDR, &[8, 0, hook, 0]);
        if let Some(stamp) = stamp {
            put(&mut body, attribute::TIMESTAMP, &stamp);
        }
        put(&mut body, attribute::PAYLOAD, &[0x45; 20]);
        let mut message = u32::try_from(16 + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        message.extend(message::PACKET.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message
    }

    #[test]
    fn a_kernel_that_stamps_by_itself_is_told_from_one_that_is_to_be_asked() {
        // Seconds and microseconds.
        let stamp = [0, 0, 0, 0, 0x65, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(first_is_stamped(&datagram(0, Some(stamp))), Some(true));
        assert_eq!(first_is_stamped(&datagram(0, None)), Some(false));
        assert_eq!(first_is_stamped(&datagram(HOOK_FORWARD + 1, None)), None);
        assert_eq!(first_is_stamped(b""), None);
    }
}
