//! One packet as the kernel handed it over, borrowed from the receive buffer, whatever its source.

use std::num::NonZeroU64;

/// A packet at a Netfilter hook. Every slice borrows from the batch it came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From the first byte of the network header, cut to the copy range.
    pub payload: &'a [u8],
    /// The link-layer header as received; empty where the source or the device has none.
    pub hw_header: &'a [u8],
    /// The link-layer source address; empty where there is none.
    pub hw_source: &'a [u8],
    /// The rule's `log prefix`, without its terminating NUL.
    pub prefix: &'a [u8],
    /// The whole message body as it came, `struct nfgenmsg` and attributes: what link type 239
    /// (NFLOG) records.
    pub message: &'a [u8],
    /// The kernel's time stamp, microseconds since 1970; `None` where it took none.
    pub stamp_us: Option<NonZeroU64>,
    /// The number of this packet in its group or queue; every gap is a loss.
    pub sequence: Option<u32>,
    /// The packet's whole length from its network header on, where the source knows it (NFQUEUE).
    pub network_len: Option<u32>,
    /// Where its shape stands among those of its source, if it has one ([`Walk`](crate::source::Walk)).
    pub shape: Option<usize>,
    /// `skb->mark`; 0 is none.
    pub mark: u32,
    /// The device it came in by; 0 is none.
    pub ifindex_in: u32,
    /// The device it leaves by; 0 is none (always at prerouting).
    pub ifindex_out: u32,
    /// EtherType, host byte order: 0x0800 is IPv4.
    pub protocol: u16,
    /// `ARPHRD_*` of the device; [`Packet::HW_TYPE_UNKNOWN`] where the kernel did not say.
    pub hw_type: u16,
    /// `NF_INET_*` hook number: 0 is prerouting.
    pub hook: u8,
    /// `AF_*` of the hook's family: 2 is IPv4, 5 is netdev (ingress).
    pub family: u8,
    /// The group or queue, as the message's header has it.
    pub group: u16,
}

/// A packet that is like an earlier one of its source in everything but this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin<'a> {
    /// [`Packet::payload`]
    pub payload: &'a [u8],
    /// [`Packet::hw_header`]: an Ethernet header's length of it, or none where the other has none.
    pub hw_header: Option<&'a [u8; ETHERNET_HEADER_BYTES]>,
    /// [`Packet::hw_source`]
    pub hw_source: &'a [u8],
    /// [`Packet::message`]
    pub message: &'a [u8],
    /// [`Packet::stamp_us`]
    pub stamp_us: NonZeroU64,
    /// [`Packet::sequence`]
    pub sequence: u32,
}

impl<'a> Twin<'a> {
    /// All of the packet, of which `other` is a twin.
    #[inline]
    pub fn packet(&self, other: &Packet<'a>) -> Packet<'a> {
        Packet {
            payload: self.payload,
            hw_header: self.hw_header.map_or(&[], |header| header),
            hw_source: self.hw_source,
            message: self.message,
            stamp_us: Some(self.stamp_us),
            sequence: Some(self.sequence),
            ..*other
        }
    }

    /// [`Packet::is_ipv4`], where it holds for the other.
    #[inline]
    pub fn is_ipv4(&self) -> bool {
        has_ipv4_header(self.payload)
    }

    /// [`Packet::network_len`]
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an attribute has less than 65536 bytes"
    )]
    pub fn network_len(&self) -> u32 {
        ipv4_total_len(self.payload).max(self.payload.len() as u32)
    }
}

#[inline]
fn has_ipv4_header(payload: &[u8]) -> bool {
    payload.len() >= IPV4_HEADER_BYTES && payload[0] >> 4 == 4
}

/// What the IPv4 header says; 0 where that is not there.
#[inline]
fn ipv4_total_len(payload: &[u8]) -> u32 {
    match payload.get(2..4) {
        Some(total) => u32::from(u16::from_be_bytes([total[0], total[1]])),
        None => 0,
    }
}

/// EtherType of IPv4 (`linux/if_ether.h`).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Bytes of the shortest IPv4 header.
pub const IPV4_HEADER_BYTES: usize = 20;
/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;
/// `ARPHRD_LOOPBACK`: `lo` carries Ethernet headers, all zero but the type.
const ARPHRD_LOOPBACK: u16 = 772;
/// Bytes of an Ethernet header without tags.
pub const ETHERNET_HEADER_BYTES: usize = 14;
/// An Ethernet header with two tags of four bytes: the longest taken for one.
const ETHERNET_HEADER_MAX_BYTES: usize = 22;

/// Which way a packet goes, as far as its hook tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Seen coming in: prerouting, input, ingress.
    Inbound,
    /// Seen going out: output, postrouting.
    Outbound,
}

impl<'a> Packet<'a> {
    /// [`Packet::hw_type`] where the message has no `NFULA_HWTYPE`.
    pub const HW_TYPE_UNKNOWN: u16 = u16::MAX;

    /// True for what this tool records: an IPv4 header that is there at least in its fixed part.
    #[inline]
    pub fn is_ipv4(&self) -> bool {
        self.protocol == ETHERTYPE_IPV4 && has_ipv4_header(self.payload)
    }

    /// The length of the packet from its IPv4 header on, before it was cut.
    ///
    /// NFLOG does not say it, but the IPv4 header does (RFC 791, Total Length). A header that says
    /// less than what is there (0 for a merged packet of over 65535 bytes) is not believed.
    #[inline]
    pub fn network_len(&self) -> u32 {
        let captured = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let total = self
            .network_len
            .unwrap_or_else(|| ipv4_total_len(self.payload));
        total.max(captured)
    }

    /// The Ethernet header, if the device says it is one and it announces IPv4.
    ///
    /// A device may well hand over a hardware header that is not Ethernet (or garbage): the type
    /// of the device decides, then the length, then the header's own EtherType.
    #[inline]
    pub fn ethernet_header(&self) -> Option<&'a [u8]> {
        let header = self.hw_header;
        let plausible = matches!(self.hw_type, ARPHRD_ETHER | ARPHRD_LOOPBACK)
            && (ETHERNET_HEADER_BYTES..=ETHERNET_HEADER_MAX_BYTES).contains(&header.len());
        (plausible && header.ends_with(&ETHERTYPE_IPV4.to_be_bytes())).then_some(header)
    }

    /// Which way the packet goes (`linux/netfilter.h`: hooks 3 and 4 are output and postrouting).
    #[inline]
    pub fn direction(&self) -> Direction {
        if matches!(self.hook, 3 | 4) && self.family != NFPROTO_NETDEV {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    /// The device a record names: where it came in, else where it leaves.
    #[inline]
    pub fn ifindex(&self) -> u32 {
        if self.ifindex_in != 0 {
            self.ifindex_in
        } else {
            self.ifindex_out
        }
    }
}

/// `NFPROTO_NETDEV`: the family whose hook 0 is ingress and hook 1 egress.
const NFPROTO_NETDEV: u8 = 5;
