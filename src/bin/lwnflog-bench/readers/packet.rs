//! The protocol handler hook: a packet socket's TPACKET_V3 ring as a source of packets.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::sys::packet_ring::PacketRing;
use lwnflog::netlink::{Layer, Malformed};
use lwnflog::packet::{ETHERNET_HEADER_BYTES, Packet};
use lwnflog::source::{Arrival, Count, Item, NoHits, Source, Walk};

/// How long a call waits before the caller may look around.
const WAIT: Duration = Duration::from_millis(100);
/// `struct tpacket_block_desc`: `num_pkts` and `offset_to_first_pkt`.
const BLOCK_PACKETS_AT: usize = 12;
const BLOCK_FIRST_AT: usize = 16;
/// `struct tpacket3_hdr`, up to `tp_mac`.
const HEADER_BYTES: usize = 28;
/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ETHERNET: u16 = 1;

/// The ring, block by block.
pub(crate) struct Packets {
    ring: PacketRing,
    lost: Cell<u64>,
}

impl Packets {
    pub(crate) fn open(interface: &str, snaplen: u32) -> io::Result<Self> {
        Ok(Self {
            ring: PacketRing::open(interface, snaplen)?,
            lost: Cell::new(0),
        })
    }
}

impl Source for Packets {
    type Batch<'a> = Block<'a>;

    #[inline]
    fn receive(&mut self, wait: bool) -> io::Result<Arrival> {
        if self.ring.advance() {
            return Ok(Arrival::Batch);
        }
        if wait {
            self.ring.wait(WAIT)?;
            if self.ring.advance() {
                return Ok(Arrival::Batch);
            }
        }
        Ok(Arrival::Nothing)
    }

    #[inline]
    fn batch(&mut self) -> Block<'_> {
        Block::new(self.ring.held(), self.ring.interface())
    }

    #[inline]
    fn count(&self) -> Count {
        Count {
            packets: word(self.ring.held(), BLOCK_PACKETS_AT).into(),
            ..Count::default()
        }
    }

    fn detach(&mut self) -> io::Result<()> {
        self.ring.stop()
    }

    /// Here these are packets: the ring counts each.
    fn dropped_datagrams(&self) -> u64 {
        let lost = self.ring.take_drops().unwrap_or(0);
        self.lost.set(self.lost.get() + u64::from(lost));
        self.lost.get()
    }

    fn truncated_datagrams(&self) -> u64 {
        0
    }
}

/// The packets of one block.
pub(crate) struct Block<'a> {
    bytes: &'a [u8],
    /// Where the next packet's header is.
    at: usize,
    left: u32,
    packet: Packet<'a>,
}

impl<'a> Block<'a> {
    fn new(bytes: &'a [u8], interface: u32) -> Self {
        Self {
            bytes,
            at: place(word(bytes, BLOCK_FIRST_AT)),
            left: word(bytes, BLOCK_PACKETS_AT),
            packet: incoming(interface),
        }
    }

    /// Reads the next packet; none where the block is not as the kernel makes it.
    #[inline]
    fn read(&mut self) -> Option<()> {
        let bytes = self.bytes.get(self.at..)?;
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let field = |at| word(header, at);
        let (seconds, nanoseconds) = (u64::from(field(4)), u64::from(field(8)));
        let (captured, length) = (place(field(12)), field(16));
        let link_at = usize::from(u16::from_ne_bytes([header[24], header[25]]));
        let frame = bytes.get(link_at..link_at + captured)?;
        set_frame(&mut self.packet, frame, length);
        self.packet.stamp_ticks = NonZeroU64::new(seconds * 1_000_000 + nanoseconds / 1000);
        self.at += place(field(0)); // of the last packet 0
        Some(())
    }
}

impl Walk for Block<'_> {
    type Hits<'h>
        = NoHits
    where
        Self: 'h;

    #[inline]
    fn next(&mut self) -> Option<Item<'_>> {
        self.left = self.left.checked_sub(1)?;
        if self.read().is_some() {
            return Some(Item::Packet(&self.packet));
        }
        self.left = 0;
        Some(Item::Malformed(Malformed::Short {
            layer: Layer::Message,
            needed: HEADER_BYTES,
            left: self.bytes.len().saturating_sub(self.at),
        }))
    }
}

/// What packets that come in by an Ethernet interface have in common.
pub(super) fn incoming<'a>(interface: u32) -> Packet<'a> {
    Packet {
        hw_type: ETHERNET,
        ifindex_in: interface,
        ..Packet::default()
    }
}

/// Takes a frame apart as NFLOG hands it over; `length` is that of the whole frame.
#[inline]
pub(super) fn set_frame<'a>(packet: &mut Packet<'a>, frame: &'a [u8], length: u32) {
    const HEADER: u32 = 14;
    let (header, payload) = frame.split_at(frame.len().min(ETHERNET_HEADER_BYTES));
    packet.protocol = match header {
        [.., high, low] if header.len() == ETHERNET_HEADER_BYTES => {
            u16::from_be_bytes([*high, *low])
        }
        _ => 0,
    };
    packet.hw_header = header;
    packet.payload = payload;
    packet.network_len = Some(length.saturating_sub(HEADER));
}

/// A word in the machine's order; 0 outside.
#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// A word as a place in a block; outside, where it does not fit.
#[inline]
fn place(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of frames, each `len` bytes of which `captured` are there.
    fn block(frames: &[(u32, &[u8])]) -> Vec<u8> {
        let mut block = vec![0; 48];
        block[BLOCK_PACKETS_AT..][..4]
            .copy_from_slice(&u32::try_from(frames.len()).unwrap().to_ne_bytes());
        block[BLOCK_FIRST_AT..][..4].copy_from_slice(&48u32.to_ne_bytes());
        for (index, (len, frame)) in frames.iter().enumerate() {
            let captured = u32::try_from(frame.len()).unwrap();
            let next = (82 + captured).next_multiple_of(16);
            let last = index + 1 == frames.len();
            for word in [if last { 0 } else { next }, 7, 8_000, captured, *len, 1] {
                block.extend(word.to_ne_bytes());
            }
            block.extend(82u16.to_ne_bytes());
            block.resize(block.len() + 82 - 26, 0);
            block.extend(*frame);
            block.resize(block.len().next_multiple_of(16), 0);
        }
        block
    }

    #[test]
    fn a_block_is_read_frame_by_frame() {
        let mut frame = vec![1; 64];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        let bytes = block(&[(1500, &frame), (9, &frame[..9]), (64, &frame)]);
        let mut walk = Block::new(&bytes, 3);
        let Some(Item::Packet(packet)) = walk.next() else {
            panic!("no packet");
        };
        assert!(packet.ip_version().is_some());
        assert_eq!(packet.ethernet_header(), Some(&frame[..14]));
        assert_eq!(packet.payload, &frame[14..]);
        assert_eq!(packet.network_len(), 1486);
        assert_eq!(packet.ifindex(), 3);
        assert_eq!(packet.stamp_ticks.unwrap().get(), 7_000_008);
        assert!(matches!(walk.next(), Some(Item::Packet(short)) if short.ip_version().is_none()));
        assert!(matches!(walk.next(), Some(Item::Packet(last)) if last.ip_version().is_some()));
        assert!(walk.next().is_none());
        for end in 0..bytes.len() {
            let mut walk = Block::new(&bytes[..end], 3);
            while walk.next().is_some() {} // never a panic
        }
    }
}
