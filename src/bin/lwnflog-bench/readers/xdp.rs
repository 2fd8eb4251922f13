//! The NIC driver's hook: an AF_XDP socket as a source of packets.
//!
//! The kernel hands over no time stamps here: packets carry the time at which their batch arrived.

use std::io;
use std::thread;
use std::time::Duration;

use crate::sys::bpf::Mode;
use crate::sys::xdp::XdpSocket;
use lwnflog::packet::Packet;
use lwnflog::source::{Arrival, Count, Item, NoHits, Source, Walk};

use super::packet::{incoming, set_frame};

/// How long a call waits before the caller may look around.
const WAIT: Duration = Duration::from_millis(100);
/// How long to let frames collect while they come: the memory holds some 16 ms of the fastest
/// traffic, and to be woken up for every few frames would cost both sides more than the frames.
const COLLECT: Duration = Duration::from_millis(1);

pub(crate) struct Xdp {
    socket: XdpSocket,
    /// Frames came with the last call.
    busy: bool,
}

impl Xdp {
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        Ok(Self {
            socket: XdpSocket::open(interface)?,
            busy: false,
        })
    }

    pub(crate) fn mode(&self) -> Mode {
        self.socket.mode()
    }
}

impl Source for Xdp {
    type Batch<'a> = Frames<'a>;

    #[inline]
    fn receive(&mut self, wait: bool) -> io::Result<Arrival> {
        let mut frames = self.socket.advance();
        if frames == 0 && wait {
            if self.busy {
                thread::sleep(COLLECT);
            } else {
                self.socket.wait(WAIT)?;
            }
            frames = self.socket.advance();
        }
        self.busy = frames != 0;
        Ok(if self.busy {
            Arrival::Batch
        } else {
            Arrival::Nothing
        })
    }

    #[inline]
    fn batch(&mut self) -> Frames<'_> {
        Frames {
            socket: &self.socket,
            next: 0,
            packet: incoming(self.socket.interface()),
        }
    }

    #[inline]
    fn count(&self) -> Count {
        Count {
            packets: self.socket.held().into(),
            ..Count::default()
        }
    }

    fn detach(&mut self) -> io::Result<()> {
        self.socket.stop();
        Ok(())
    }

    /// Here these are packets.
    fn dropped_datagrams(&self) -> u64 {
        self.socket.drops().unwrap_or(0)
    }

    fn truncated_datagrams(&self) -> u64 {
        0
    }
}

/// The frames that one call brought.
pub(crate) struct Frames<'a> {
    socket: &'a XdpSocket,
    next: u32,
    packet: Packet<'a>,
}

impl Walk for Frames<'_> {
    type Hits<'h>
        = NoHits
    where
        Self: 'h;

    #[inline]
    fn next(&mut self) -> Option<Item<'_>> {
        let frame = self.socket.frame(self.next)?;
        self.next += 1;
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        set_frame(&mut self.packet, frame, length);
        Some(Item::Packet(&self.packet))
    }
}
