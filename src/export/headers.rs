//! What the headers of a packet say, for whatever a row is made of.

use crate::decode::{Address, Fields, network};
use crate::read::Record;

/// `LINKTYPE_ETHERNET`, and one whose records begin with the IP header.
const ETHERNET: u16 = 1;
const RAW: u16 = 101;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP6: u8 = 58;
const FRAGMENT: u8 = 44;

/// What is not known of a packet, because it is of another protocol or was cut off, is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Headers<'a> {
    /// Destination and source, of Ethernet.
    pub(super) macs: Option<[u8; 12]>,
    /// What is known where it is an IP packet.
    pub(super) ip: Option<Ip>,
    /// What is behind the headers.
    pub(super) payload: &'a [u8],
}

/// Of an IP packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ip {
    pub(super) version: u8,
    pub(super) src: Address,
    pub(super) dst: Address,
    pub(super) protocol: Option<u8>,
    pub(super) ports: Option<(u16, u16)>,
    pub(super) tcp_flags: Option<u8>,
    pub(super) tcp_seq: Option<u32>,
    pub(super) tcp_ack: Option<u32>,
    pub(super) tcp_window: Option<u16>,
    pub(super) icmp_type: Option<u8>,
    pub(super) icmp_code: Option<u8>,
    pub(super) ttl: Option<u8>,
    pub(super) id: Option<u16>,
    /// The header counted.
    pub(super) len: Option<u32>,
    /// In bytes.
    pub(super) fragment_offset: Option<u16>,
    pub(super) more_fragments: Option<u8>,
}

impl<'a> Headers<'a> {
    #[inline]
    pub(super) fn of(record: &Record<'a>) -> Headers<'a> {
        let link = record.interface.link;
        let mut headers = Headers::default();
        if link == ETHERNET {
            headers.macs = record.data.first_chunk::<12>().copied();
        }
        let Some(packet) = network(link, record.data) else {
            return headers;
        };
        let fields = Fields::of(RAW, packet);
        if fields.version != 0 {
            (headers.ip, headers.payload) = internet(&fields, packet);
        }
        headers
    }
}

#[inline]
fn internet<'a>(fields: &Fields, packet: &'a [u8]) -> (Option<Ip>, &'a [u8]) {
    let mut ip = Ip {
        version: fields.version,
        src: fields.source,
        dst: fields.destination,
        protocol: fields.protocol,
        ..Ip::default()
    };
    let mut at = 40;
    if fields.version == 4 {
        ip.len = half(packet, 2).map(u32::from);
        ip.id = half(packet, 4);
        let fragment = half(packet, 6).unwrap_or(0);
        ip.fragment_offset = Some((fragment & 0x1fff) * 8);
        ip.more_fragments = Some((fragment >> 13 & 1) as u8);
        ip.ttl = byte(packet, 8);
        at = usize::from(packet[0] & 15) * 4;
    } else {
        ip.len = half(packet, 4).map(|len| u32::from(len) + 40);
        ip.ttl = byte(packet, 7);
        let fragment = (packet.get(6) == Some(&FRAGMENT)).then(|| half(packet, 42));
        if fragment.is_some() {
            at = 48;
        }
        // Where there is no such header it is no fragment; where it is cut off nobody knows.
        let fragment = fragment.unwrap_or(Some(0));
        ip.fragment_offset = fragment.map(|fragment| fragment & 0xfff8);
        ip.more_fragments = fragment.map(|fragment| (fragment & 1) as u8);
    }
    if fields.later_fragment {
        return (Some(ip), &[]);
    }
    ip.ports = fields.ports;
    let Some(transport) = packet.get(at..) else {
        return (Some(ip), &[]);
    };
    let headers = match fields.protocol {
        Some(TCP) => {
            ip.tcp_seq = word(transport, 4);
            ip.tcp_ack = word(transport, 8);
            ip.tcp_flags = byte(transport, 13);
            ip.tcp_window = half(transport, 14);
            usize::from(transport.get(12).copied().unwrap_or(0) >> 4) * 4
        }
        Some(ICMP | ICMP6) => {
            ip.icmp_type = byte(transport, 0);
            ip.icmp_code = byte(transport, 1);
            8
        }
        _ => 8,
    };
    (Some(ip), transport.get(headers..).unwrap_or(&[]))
}

#[inline]
fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

#[inline]
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}
