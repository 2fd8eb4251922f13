//! One packet as the kernel handed it over, borrowed from the receive buffer, whatever its source.

use std::num::NonZeroU64;
use std::time::Duration;

/// A packet at a Netfilter hook. Every slice borrows from the batch it came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From the first byte of the network header, cut to the copy range.
    pub payload: &'a [u8],
    /// The link-layer header as received; empty where the source or the interface has none.
    pub hw_header: &'a [u8],
    /// The link-layer source address; empty where there is none.
    pub hw_source: &'a [u8],
    /// The rule's `log prefix`, without its terminating NUL.
    pub prefix: &'a [u8],
    /// The whole message body as it came, `struct nfgenmsg` and attributes: what link type 239
    /// (NFLOG) records.
    pub message: &'a [u8],
    /// The kernel's time stamp since 1970, in ticks of its source's [`Resolution`]; `None` where it
    /// took none.
    pub stamp_ticks: Option<NonZeroU64>,
    /// The number of this packet in its group or queue; every gap is a loss.
    pub sequence: Option<u32>,
    /// The packet's whole length from its network header on, where the source knows it (NFQUEUE).
    pub network_len: Option<u32>,
    /// Where its template stands among those of its source, if it has one
    /// ([`Walk`](crate::source::Walk)).
    pub template: Option<usize>,
    /// `skb->mark`; 0 is none.
    pub mark: u32,
    /// The interface it came in by; 0 is none.
    pub ifindex_in: u32,
    /// The interface it leaves by; 0 is none (always at prerouting).
    pub ifindex_out: u32,
    /// The port of the bridge that is [`Packet::ifindex_own`]; 0 is none.
    pub ifindex_port: u32,
    /// The VLAN tag that was taken off: its protocol and TCI, network byte order.
    pub vlan: Option<[u8; VLAN_TAG_BYTES]>,
    /// EtherType, host byte order: 0x0800 is IPv4, 0x86dd IPv6.
    pub protocol: u16,
    /// `ARPHRD_*` of the interface; [`Packet::HW_TYPE_UNKNOWN`] where the kernel did not say.
    pub hw_type: u16,
    /// `NF_INET_*` hook number: 0 is prerouting.
    pub hook: u8,
    /// `AF_*` of the hook's family: 2 is IPv4, 10 is IPv6, 5 is netdev (ingress).
    pub family: u8,
    /// The group or queue, as the message's header has it.
    pub group: u16,
}

/// What a tick of a time stamp is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolution {
    /// A microsecond: groups and queues.
    #[default]
    Micros,
    /// A nanosecond: the hook.
    Nanos,
}

impl Resolution {
    /// Ticks of a second, as a power of ten: pcapng's `if_tsresol`.
    pub const fn exponent(self) -> u8 {
        match self {
            Resolution::Micros => 6,
            Resolution::Nanos => 9,
        }
    }

    /// Ticks of a microsecond.
    pub const fn ticks_per_us(self) -> u64 {
        match self {
            Resolution::Micros => 1,
            Resolution::Nanos => 1000,
        }
    }

    /// A time as ticks. One that no clock shows is the last there is.
    pub fn ticks(self, since_1970: Duration) -> u64 {
        let ticks = match self {
            Resolution::Micros => since_1970.as_micros(),
            Resolution::Nanos => since_1970.as_nanos(),
        };
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// A packet that is like an earlier one of its source in everything but this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateHit<'a> {
    /// [`Packet::payload`]
    pub payload: &'a [u8],
    /// [`Packet::hw_header`]: an Ethernet header's length of it, or none where the other has none.
    pub hw_header: Option<&'a [u8; ETHERNET_HEADER_BYTES]>,
    /// [`Packet::hw_source`]
    pub hw_source: &'a [u8],
    /// [`Packet::message`]
    pub message: &'a [u8],
    /// [`Packet::stamp_ticks`]
    pub stamp_ticks: NonZeroU64,
    /// [`Packet::sequence`]
    pub sequence: u32,
    /// [`Packet::ifindex_in`]
    pub ifindex_in: u32,
}

impl<'a> TemplateHit<'a> {
    /// All of the packet, of which `other` is a hit.
    #[inline]
    pub fn packet(&self, other: &Packet<'a>) -> Packet<'a> {
        Packet {
            payload: self.payload,
            hw_header: self.hw_header.map_or(&[], |header| header),
            hw_source: self.hw_source,
            message: self.message,
            stamp_ticks: Some(self.stamp_ticks),
            sequence: Some(self.sequence),
            ifindex_in: self.ifindex_in,
            ..*other
        }
    }

    /// Whether it begins with a header of this version, as the other does.
    #[inline]
    pub fn is_of(&self, version: IpVersion) -> bool {
        let (least, digit) = match version {
            IpVersion::V4 => (IPV4_HEADER_BYTES, 4),
            IpVersion::V6 => (IPV6_HEADER_BYTES, 6),
        };
        self.payload.len() >= least && self.payload[0] >> 4 == digit
    }

    /// [`Packet::network_len`]
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an attribute has less than 65536 bytes"
    )]
    pub fn network_len(&self, version: IpVersion) -> u32 {
        version
            .total_len(self.payload)
            .max(self.payload.len() as u32)
    }
}

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// RFC 791.
    #[default]
    V4,
    /// RFC 8200.
    V6,
}

impl IpVersion {
    /// What an EtherType announces.
    #[inline]
    pub fn of_protocol(protocol: u16) -> Option<IpVersion> {
        match protocol {
            ETHERTYPE_IPV4 => Some(IpVersion::V4),
            ETHERTYPE_IPV6 => Some(IpVersion::V6),
            _ => None,
        }
    }

    /// What the first byte of a header says.
    #[inline]
    pub fn of_header(payload: &[u8]) -> Option<IpVersion> {
        match payload.first()? >> 4 {
            4 => Some(IpVersion::V4),
            6 => Some(IpVersion::V6),
            _ => None,
        }
    }

    /// Its EtherType.
    #[inline]
    pub fn protocol(self) -> u16 {
        match self {
            IpVersion::V4 => ETHERTYPE_IPV4,
            IpVersion::V6 => ETHERTYPE_IPV6,
        }
    }

    /// The packet's length, as its header says it: IPv4's Total Length, or the header and IPv6's
    /// Payload Length. 0 where that is not there.
    #[inline]
    pub(crate) fn total_len(self, payload: &[u8]) -> u32 {
        let (place, more) = match self {
            IpVersion::V4 => (2..4, 0),
            IpVersion::V6 => (4..6, IPV6_HEADER_BYTES_U32),
        };
        match payload.get(place) {
            // A merged packet, or a jumbogram: neither says how long it is.
            Some([0, 0]) | None => 0,
            Some(told) => u32::from(u16::from_be_bytes([told[0], told[1]])) + more,
        }
    }
}

/// Which packets are recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4: the thesis's limitation.
    #[default]
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Both,
}

impl IpFamily {
    /// Whether packets of this version are.
    #[inline]
    pub fn takes(self, version: IpVersion) -> bool {
        matches!(
            (self, version),
            (IpFamily::Both, _) | (IpFamily::Ip, IpVersion::V4) | (IpFamily::Ip6, IpVersion::V6)
        )
    }
}

/// EtherType of IPv4 (`linux/if_ether.h`).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6 (`linux/if_ether.h`).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Bytes of the shortest IPv4 header.
pub const IPV4_HEADER_BYTES: usize = 20;
/// Bytes of the fixed IPv6 header.
pub const IPV6_HEADER_BYTES: usize = 40;
const IPV6_HEADER_BYTES_U32: u32 = 40;
/// `ARPHRD_ETHER` (`linux/if_arp.h`).
pub(crate) const ARPHRD_ETHER: u16 = 1;
/// `ARPHRD_LOOPBACK`: `lo` carries Ethernet headers, all zero but the type.
const ARPHRD_LOOPBACK: u16 = 772;
/// Bytes of an Ethernet header without tags.
pub const ETHERNET_HEADER_BYTES: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q): protocol, TCI.
pub const VLAN_TAG_BYTES: usize = 4;
/// Tags that an Ethernet header is taken to have at the most.
const VLAN_TAGS_MAX: usize = 2;
/// The protocols of a tag: 802.1Q, 802.1ad.
const VLAN_PROTOCOLS: [u16; 2] = [0x8100, 0x88a8];

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

    /// What this tool records: what the kernel says is IPv4 or IPv6, and what of it is there does
    /// not contradict. A rule's own snap length may leave less than a header, or nothing.
    #[inline]
    pub fn ip_version(&self) -> Option<IpVersion> {
        let version = IpVersion::of_protocol(self.protocol)?;
        let there = IpVersion::of_header(self.payload);
        (self.payload.is_empty() || there == Some(version)).then_some(version)
    }

    /// The length of the packet from its IP header on, before it was cut.
    ///
    /// NFLOG does not say it, but the IP header does ([`IpVersion`]). A header that says less than
    /// what is there (0 for a merged packet of over 65535 bytes) is not believed.
    #[inline]
    pub fn network_len(&self) -> u32 {
        let captured = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let total = self.network_len.unwrap_or_else(|| {
            let version = IpVersion::of_protocol(self.protocol).unwrap_or_default();
            version.total_len(self.payload)
        });
        total.max(captured)
    }

    /// The Ethernet header, if the interface says it is one, its EtherType is the packet's, and it
    /// is there.
    ///
    /// `NFULA_HWHEADER` has as many bytes as the interface wants in front of a packet
    /// (`hard_header_len`), of whatever stands there: the type of the interface decides, then the
    /// header's own EtherType, and what is behind it must be the packet. At IP's output and
    /// postrouting it is what an earlier header has left, or the packet itself: none is believed
    /// there.
    #[inline]
    pub fn ethernet_header(&self) -> Option<&'a [u8]> {
        if !matches!(self.hw_type, ARPHRD_ETHER | ARPHRD_LOOPBACK) || self.is_ip_output() {
            return None;
        }
        let (header, behind) = self
            .hw_header
            .split_at_checked(ethernet_bytes(self.hw_header, self.protocol)?)?;
        let same = |(header, payload)| header == payload;
        behind.iter().zip(self.payload).all(same).then_some(header)
    }

    /// The link-layer source address, where it can be believed.
    #[inline]
    pub fn link_source(&self) -> Option<[u8; ETHERNET_ADDRESS_BYTES]> {
        let source = self.hw_source.try_into().ok();
        source.filter(|_| !self.is_ip_output())
    }

    /// Whether the hook is one of IP's that a packet passes on its way out (`linux/netfilter.h`: 3
    /// and 4 are output and postrouting).
    #[inline]
    fn is_ip_output(&self) -> bool {
        matches!(self.hook, 3 | 4) && !matches!(self.family, NFPROTO_NETDEV | NFPROTO_BRIDGE)
    }

    /// Which way the packet goes, by hook and family.
    #[inline]
    pub fn direction(&self) -> Direction {
        let outbound = match self.family {
            NFPROTO_NETDEV => self.hook == NETDEV_EGRESS,
            _ => matches!(self.hook, 3 | 4),
        };
        if outbound {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    /// Whether [`Packet::ifindex_own`] is the interface it leaves by.
    #[inline]
    pub(crate) fn is_of_its_way_out(&self) -> bool {
        match self.direction() {
            Direction::Inbound => self.ifindex_in == 0,
            Direction::Outbound => self.ifindex_out != 0,
        }
    }

    /// The interface it came in by, or at a hook on the way out the one it leaves by; the other, where
    /// that is not known.
    #[inline]
    pub fn ifindex_own(&self) -> u32 {
        if self.is_of_its_way_out() {
            self.ifindex_out
        } else {
            self.ifindex_in
        }
    }

    /// The interface a record names: [`Packet::ifindex_own`], or its port where that is a bridge.
    #[inline]
    pub fn ifindex(&self) -> u32 {
        match self.ifindex_port {
            0 => self.ifindex_own(),
            port => port,
        }
    }

    /// The bridge whose port [`Packet::ifindex`] is; 0 is none.
    #[inline]
    pub fn ifindex_bridge(&self) -> u32 {
        match self.ifindex_port {
            0 => 0,
            _ => self.ifindex_own(),
        }
    }

    /// Takes the port that belongs to [`Packet::ifindex_own`], of those it came in and leaves by.
    #[inline]
    pub(crate) fn take_port(&mut self, port_in: u32, port_out: u32) {
        let leaves = self.direction() == Direction::Outbound && self.ifindex_out != 0;
        let in_is_unknown = self.ifindex_in == 0 && port_in == 0;
        self.ifindex_port = if leaves || in_is_unknown {
            port_out
        } else {
            port_in
        };
    }
}

/// Bytes of the Ethernet header that `bytes` begin with, if it says that `protocol` follows.
#[inline]
fn ethernet_bytes(bytes: &[u8], protocol: u16) -> Option<usize> {
    let mut at = ETHERNET_HEADER_BYTES - 2;
    for _ in 0..=VLAN_TAGS_MAX {
        let [high, low] = *bytes.get(at..)?.first_chunk()?;
        match u16::from_be_bytes([high, low]) {
            found if found == protocol => return Some(at + 2),
            found if VLAN_PROTOCOLS.contains(&found) => at += VLAN_TAG_BYTES,
            _ => return None,
        }
    }
    None
}

/// Bytes of an Ethernet address.
pub const ETHERNET_ADDRESS_BYTES: usize = 6;
/// `NFPROTO_NETDEV`: the family whose hook 0 is ingress and hook 1 egress.
pub(crate) const NFPROTO_NETDEV: u8 = 5;
/// `NF_NETDEV_EGRESS` (`linux/netfilter_netdev.h`).
pub(crate) const NETDEV_EGRESS: u8 = 1;
/// `NFPROTO_BRIDGE`
const NFPROTO_BRIDGE: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    const IP: [u8; 24] = [
        0x45, 0, 0, 100, 0, 7, 0, 0, 64, 17, 1, 2, 198, 18, 0, 1, 198, 18, 0, 2, 0, 1, 0, 2,
    ];

    /// `behind` the addresses, as an interface of `hard_header_len` has it handed over.
    fn header(behind: &[u8], hard_header_len: usize) -> Vec<u8> {
        let mut bytes = [&ADDRESSES, behind, &IP].concat();
        bytes.truncate(hard_header_len);
        bytes
    }

    fn packet(hw_header: &[u8]) -> Packet<'_> {
        Packet {
            payload: &IP,
            hw_header,
            hw_type: ARPHRD_ETHER,
            family: 2,
            protocol: ETHERTYPE_IPV4,
            ..Packet::default()
        }
    }

    #[test]
    fn what_is_taken_for_a_header_is_one() {
        let (plain, tag) = ([8, 0], [0x81, 0, 0, 7, 8, 0]);
        // Whatever the interface wants in front of a packet, what is behind the header is the
        // packet.
        for hard_header_len in [14, 16, 18, 22, 30] {
            let bytes = header(&plain, hard_header_len);
            let found = packet(&bytes).ethernet_header();
            assert_eq!(found, Some(&bytes[..14]), "{hard_header_len}");
        }
        for hard_header_len in [18, 22, 26] {
            let bytes = header(&tag, hard_header_len);
            let found = packet(&bytes).ethernet_header();
            assert_eq!(found, Some(&bytes[..18]), "{hard_header_len}");
        }
        // Cut, of another type, or with something else behind it.
        for bytes in [
            header(&plain, 13),
            header(&tag, 14),
            header(&[0x86, 0xdd], 14),
            [&header(&plain, 14)[..], &[1, 2, 3, 4]].concat(),
            header(&[0x81, 0, 0, 7, 0x81, 0, 0, 7, 0x81, 0, 0, 7, 8, 0], 26),
            Vec::new(),
        ] {
            assert_eq!(packet(&bytes).ethernet_header(), None, "{bytes:?}");
        }
        // The interface has none, or the hook has only what is left of one.
        let bytes = header(&plain, 14);
        let tunnel = Packet {
            hw_type: 65534,
            ..packet(&bytes)
        };
        assert_eq!(tunnel.ethernet_header(), None);
        for (hook, family, there) in [(2, 2, true), (3, 2, false), (4, 2, false), (4, 7, true)] {
            let there_or_not = Packet {
                hook,
                family,
                hw_source: &ADDRESSES[6..],
                ..packet(&bytes)
            };
            assert_eq!(
                there_or_not.ethernet_header().is_some(),
                there,
                "{hook} {family}"
            );
            assert_eq!(
                there_or_not.link_source().is_some(),
                there,
                "{hook} {family}"
            );
        }
    }

    #[test]
    fn each_version_says_its_own_length() {
        let mut v6 = [0u8; 48];
        (v6[0], v6[4], v6[5]) = (0x60, 1, 0);
        let of = |payload: &'static [u8], protocol| Packet {
            payload,
            protocol,
            ..Packet::default()
        };
        let v6: &'static [u8] = Box::leak(Box::new(v6));
        let packet = of(v6, ETHERTYPE_IPV6);
        assert_eq!(packet.ip_version(), Some(IpVersion::V6));
        assert_eq!(packet.network_len(), 296);
        assert_eq!(
            of(&v6[..5], ETHERTYPE_IPV6).network_len(),
            5,
            "cut before it"
        );
        assert_eq!(of(&[0x60; 1], ETHERTYPE_IPV4).ip_version(), None);
        assert_eq!(of(&[], ETHERTYPE_IPV6).ip_version(), Some(IpVersion::V6));
        assert_eq!(of(&IP, ETHERTYPE_IPV4).network_len(), 100);
        assert_eq!(of(&IP, 0x0806).ip_version(), None);
        // A jumbogram says 0: what is there counts.
        let jumbo: &'static [u8] = &[0x60; 1];
        assert_eq!(
            IpVersion::V6.total_len(&[&[0x60; 4][..], &[0; 44]].concat()),
            0
        );
        assert_eq!(of(jumbo, ETHERTYPE_IPV6).network_len(), 1);
    }

    #[test]
    fn the_way_follows_hook_and_family() {
        for (family, hook, direction) in [
            (2, 0, Direction::Inbound),
            (2, 2, Direction::Inbound),
            (2, 4, Direction::Outbound),
            (5, 0, Direction::Inbound),
            (5, 1, Direction::Outbound),
            (7, 1, Direction::Inbound),
            (7, 3, Direction::Outbound),
        ] {
            let packet = Packet {
                family,
                hook,
                ..Packet::default()
            };
            assert_eq!(packet.direction(), direction, "{family} {hook}");
        }
    }
}
