//! What a filter asks of a packet: version, addresses, protocol, ports. As little as that, because it
//! is done for every packet.

use std::borrow::Cow;
use std::ops::Range;

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// `LINKTYPE_NFLOG`.
pub const NFLOG: u16 = 239;
/// Those that begin with an IP header, under whatever number a system has them; one system's 12 are frames
/// of a loopback interface.
const RAW: [u16; 4] = [14, 101, 228, 229];
const RAW_OR_LOOP: u16 = 12;
// Other link types (www.tcpdump.org/linktypes.html).
const NULL: u16 = 0;
const SLIP: u16 = 8;
const PPP: u16 = 9;
const FDDI: u16 = 10;
const PPP_HDLC: u16 = 50;
const PPP_ETHER: u16 = 51;
const C_HDLC: u16 = 104;
const LOOP: u16 = 108;
const ENC: u16 = 109;
const LINUX_SLL: u16 = 113;
const PFLOG: u16 = 117;
const PPP_PPPD: u16 = 166;
const PPP_WITH_DIR: u16 = 204;
const LINUX_SLL2: u16 = 276;

/// What stands in the place of a protocol's number (EtherType).
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// IPv6's fragment header, behind which filters look as libpcap's do.
pub const FRAGMENT: u8 = 44;

/// An address; of IPv4 in its lower half.
pub type Address = u128;

/// What is known of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields {
    /// 4 or 6; 0 is another protocol.
    pub version: u8,
    /// Where it comes from and goes to; of meaning with a version.
    pub source: Address,
    /// The other.
    pub destination: Address,
    /// What follows the IP header; `None` where that is cut off.
    pub protocol: Option<u8>,
    /// Ports of TCP, UDP or SCTP, where they are there.
    pub ports: Option<(u16, u16)>,
    /// Whether it is a later part of a packet.
    pub later_fragment: bool,
    /// Whether IPv6's fragment header stands before that protocol's.
    pub fragment_header: bool,
}

/// Whether frames of this link type are looked into.
pub fn is_known(link: u16) -> bool {
    RAW.contains(&link)
        || matches!(
            link,
            ETHERNET
                | NFLOG
                | RAW_OR_LOOP
                | NULL
                | SLIP
                | PPP
                | FDDI
                | PPP_HDLC
                | PPP_ETHER
                | C_HDLC
                | LOOP
                | ENC
                | LINUX_SLL
                | PFLOG
                | PPP_PPPD
                | PPP_WITH_DIR
                | LINUX_SLL2
        )
}

/// What a link type is called, where it is one that captures often have and that is not looked into; the
/// number alone of others.
pub fn link_name(link: u16) -> Cow<'static, str> {
    const NAMES: [(u16, &str); 15] = [
        (6, "IEEE 802.5"),
        (105, "IEEE 802.11"),
        (107, "Frame Relay"),
        (119, "IEEE 802.11 with Prism header"),
        (127, "IEEE 802.11 with radiotap header"),
        (163, "IEEE 802.11 with AVS header"),
        (189, "USB"),
        (192, "PPI"),
        (195, "IEEE 802.15.4"),
        (201, "Bluetooth HCI"),
        (220, "USB"),
        (227, "CAN"),
        (249, "USBPcap"),
        (251, "Bluetooth LE"),
        (253, "Netlink"),
    ];
    match NAMES.iter().find(|(number, _)| *number == link) {
        Some((_, name)) => format!("{link} ({name})").into(),
        None => link.to_string().into(),
    }
}

/// Where the IP packet begins in a frame, if there is one.
#[inline]
pub fn network(link: u16, data: &[u8]) -> Option<&[u8]> {
    match link {
        ETHERNET => behind_tags(two(data, 12)?, data.get(14..)?),
        link if RAW.contains(&link) => Some(data),
        NFLOG => nflog_payload(data),
        link => behind_other(link, data),
    }
}

/// Where in the bytes before an IP packet stands who sent and received it, or what else tells it.
pub fn who(link: u16, header_bytes: usize) -> Range<usize> {
    match link {
        ETHERNET => 0..12,
        LINUX_SLL => 6..14,
        LINUX_SLL2 => 12..20,
        FDDI => 1..13,
        PPP_ETHER => 2..4,        // the session
        ENC => 4..8,              // the index of the tunnel's keys
        SLIP => 1..header_bytes,  // the packet's header once more
        PFLOG => 4..header_bytes, // interface, rule, whose process
        _ => 0..0,
    }
}

#[inline]
fn two(data: &[u8], at: usize) -> Option<[u8; 2]> {
    data.get(at..)?.first_chunk().copied()
}

/// What stands behind an EtherType and the VLAN tags that may follow it, if that is IP.
#[inline]
fn behind_tags(mut kind: [u8; 2], mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match kind {
            IPV4 | IPV6 => return Some(rest),
            [0x81 | 0x91, 0x00] | [0x88, 0xa8] => {
                kind = two(rest, 2)?;
                rest = rest.get(4..)?;
            }
            _ => return None,
        }
    }
}

fn behind_other(link: u16, data: &[u8]) -> Option<&[u8]> {
    match link {
        RAW_OR_LOOP if data.first() == Some(&0) => behind_family(data, 4),
        RAW_OR_LOOP => Some(data),
        NULL | LOOP => behind_family(data, 4),
        ENC => behind_family(data, 12),
        // The direction, and fifteen bytes of what was sent, in case that it was compressed.
        SLIP => data.get(16..),
        FDDI => match data.get(13..)? {
            [0xaa, 0xaa, 3, 0, 0, 0, high, low, rest @ ..] => behind_tags([*high, *low], rest),
            _ => None,
        },
        C_HDLC => behind_tags(two(data, 2)?, data.get(4..)?),
        PPP_HDLC if matches!(data, [0x0f | 0x8f, ..]) => behind_tags(two(data, 2)?, data.get(4..)?),
        PPP | PPP_HDLC => ppp(data),
        PPP_ETHER => ppp(data.get(6..)?),
        PPP_PPPD => ppp(data.get(2..)?),
        PPP_WITH_DIR => ppp(data.get(1..)?),
        LINUX_SLL => behind_tags(two(data, 14)?, data.get(16..)?),
        LINUX_SLL2 => behind_tags(two(data, 0)?, data.get(20..)?),
        PFLOG => {
            let family = *data.get(1)?;
            let header = usize::from(*data.first()?).next_multiple_of(4);
            is_ip_family(family).then(|| data.get(header..))?
        }
        _ => None,
    }
}

/// `AF_INET`, and what `AF_INET6` is on Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS.
fn is_ip_family(family: u8) -> bool {
    matches!(family, 2 | 10 | 23 | 24 | 28 | 30)
}

/// What stands behind a header that begins with an address family, in the byte order of whoever captured.
fn behind_family(data: &[u8], header: usize) -> Option<&[u8]> {
    match data {
        [family, 0, 0, 0, ..] | [0, 0, 0, family, ..] if is_ip_family(*family) => {
            data.get(header..)
        }
        _ => None,
    }
}

/// What stands behind PPP's header (RFC 1661, 2; RFC 1662, 3.1), whose fields may be left out or be short.
fn ppp(data: &[u8]) -> Option<&[u8]> {
    const ADDRESS_AND_CONTROL: [u8; 2] = [0xff, 0x03];
    let data = data.strip_prefix(&ADDRESS_AND_CONTROL).unwrap_or(data);
    match data.strip_prefix(&[0]).unwrap_or(data) {
        [0x21 | 0x57, packet @ ..] => Some(packet),
        _ => None,
    }
}

/// The payload among NFLOG's attributes, behind a header of four bytes that begins with the family: of other
/// families than IP's the kernel says what protocol it is.
fn nflog_payload(data: &[u8]) -> Option<&[u8]> {
    const PACKET_HEADER: u16 = 1;
    const PAYLOAD: u16 = 9;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let mut kind = match *data.first()? {
        AF_INET => IPV4,
        AF_INET6 => IPV6,
        _ => [0, 0],
    };
    let mut rest = data.get(4..)?;
    loop {
        let head = rest.first_chunk::<4>()?;
        let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let value = rest.get(4..len)?;
        match u16::from_le_bytes([head[2], head[3]]) {
            PAYLOAD => return behind_tags(kind, value),
            PACKET_HEADER if kind == [0, 0] => kind = two(value, 0)?,
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// Turns the heads of NFLOG's attributes around, which are in the byte order of the host that captured them.
/// Nothing else of a record is: what the kernel says in them is in network order.
pub fn turn_nflog(data: &mut [u8]) {
    let mut at = 4;
    while let Some(head) = data
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<4>())
    {
        let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        head[..2].reverse();
        head[2..].reverse();
        if len < 4 {
            return;
        }
        at += len.next_multiple_of(4);
    }
}

impl Fields {
    /// Looks into a frame.
    #[inline]
    pub fn of(link: u16, data: &[u8]) -> Fields {
        let mut fields = Fields::default();
        fields.look(link, data);
        fields
    }

    /// Looks into a frame, where nothing is known yet. (In its place: they are not copied.)
    #[inline]
    pub fn look(&mut self, link: u16, data: &[u8]) {
        let Some(packet) = network(link, data) else {
            return;
        };
        match packet.first().map(|first| first >> 4) {
            Some(4) => self.ipv4(packet),
            Some(6) => self.ipv6(packet),
            _ => {}
        }
    }

    /// Whether a header of this protocol follows the IP header, or its fragment header; that is one, too.
    #[inline]
    pub fn has_protocol(&self, protocol: u8) -> bool {
        self.protocol == Some(protocol) || self.fragment_header && protocol == FRAGMENT
    }
    #[inline]
    fn ipv4(&mut self, packet: &[u8]) {
        let Some(header) = packet.first_chunk::<20>() else {
            return;
        };
        let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        let destination = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
        self.version = 4;
        self.source = source.into();
        self.destination = destination.into();
        self.protocol = Some(header[9]);
        self.later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
        if !self.later_fragment {
            let transport = packet.get(usize::from(header[0] & 15) * 4..);
            self.ports = transport.and_then(|rest| ports(header[9], rest));
        }
    }

    #[inline(never)]
    fn ipv6(&mut self, packet: &[u8]) {
        let Some(header) = packet.first_chunk::<40>() else {
            return;
        };
        let address = |at: usize| {
            let bytes = header.get(at..).and_then(|rest| rest.first_chunk::<16>());
            bytes.map_or(0, |bytes| u128::from_be_bytes(*bytes))
        };
        self.version = 6;
        self.source = address(8);
        self.destination = address(24);
        self.protocol = Some(header[6]);
        self.fragment_header = header[6] == FRAGMENT;
        let behind = packet.get(40..);
        if self.fragment_header {
            let fragment = behind.and_then(|rest| rest.first_chunk::<8>());
            self.protocol = fragment.map(|fragment| fragment[0]);
            self.later_fragment =
                fragment.is_some_and(|part| u16::from_be_bytes([part[2], part[3]]) & 0xfff8 != 0);
            // As libpcap: no ports in any of its parts.
        } else {
            self.ports = behind.and_then(|rest| ports(header[6], rest));
        }
    }
}

#[inline]
fn ports(protocol: u8, transport: &[u8]) -> Option<(u16, u16)> {
    if !matches!(protocol, TCP | UDP | SCTP) {
        return None;
    }
    let ports = transport.first_chunk::<4>()?;
    Some((
        u16::from_be_bytes([ports[0], ports[1]]),
        u16::from_be_bytes([ports[2], ports[3]]),
    ))
}
