//! What a filter asks of a packet: version, addresses, protocol, ports. As little as that, because it
//! is done for every packet.

/// `LINKTYPE_ETHERNET`, and those that begin with an IP header.
const ETHERNET: u16 = 1;
const RAW: [u16; 4] = [12, 101, 228, 229];
/// `LINKTYPE_NULL`, `LINKTYPE_LINUX_SLL`, `LINKTYPE_NFLOG`, `LINKTYPE_LINUX_SLL2`.
const NULL: u16 = 0;
const LINUX_SLL: u16 = 113;
const NFLOG: u16 = 239;
const LINUX_SLL2: u16 = 276;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// IPv6's fragment header, behind which filters look as libpcap's do.
const FRAGMENT: u8 = 44;

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
}

/// Where the IP packet begins in a frame, if there is one.
#[inline]
pub fn network(link: u16, data: &[u8]) -> Option<&[u8]> {
    match link {
        ETHERNET => {
            let mut at = 12;
            loop {
                match data.get(at..at + 2)? {
                    [0x81, 0x00] | [0x88, 0xa8] => at += 4,
                    [0x08, 0x00] | [0x86, 0xdd] => return data.get(at + 2..),
                    _ => return None,
                }
            }
        }
        link if RAW.contains(&link) => Some(data),
        NULL => data.get(4..),
        LINUX_SLL => data.get(16..),
        LINUX_SLL2 => data.get(20..),
        NFLOG => nflog_payload(data),
        _ => None,
    }
}

/// The payload among NFLOG's attributes, behind a header of four bytes.
fn nflog_payload(data: &[u8]) -> Option<&[u8]> {
    const PAYLOAD: u16 = 9;
    let mut rest = data.get(4..)?;
    loop {
        let head = rest.first_chunk::<4>()?;
        let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let kind = u16::from_le_bytes([head[2], head[3]]);
        let value = rest.get(4..len)?;
        if kind == PAYLOAD {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

impl Fields {
    /// Looks into a frame.
    #[inline]
    pub fn of(link: u16, data: &[u8]) -> Fields {
        let Some(packet) = network(link, data) else {
            return Fields::default();
        };
        match packet.first().map(|first| first >> 4) {
            Some(4) => ipv4(packet).unwrap_or_default(),
            Some(6) => ipv6(packet).unwrap_or_default(),
            _ => Fields::default(),
        }
    }
}

#[inline]
fn ipv4(packet: &[u8]) -> Option<Fields> {
    let header = packet.first_chunk::<20>()?;
    let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let destination = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let transport = packet.get(usize::from(header[0] & 15) * 4..);
    Some(Fields {
        version: 4,
        source: source.into(),
        destination: destination.into(),
        protocol: Some(header[9]),
        ports: transport
            .filter(|_| !later_fragment)
            .and_then(|rest| ports(header[9], rest)),
        later_fragment,
    })
}

#[inline]
fn ipv6(packet: &[u8]) -> Option<Fields> {
    let header = packet.first_chunk::<40>()?;
    let address = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk::<16>());
        bytes.map_or(0, |bytes| u128::from_be_bytes(*bytes))
    };
    let (mut protocol, mut behind, mut later_fragment) = (Some(header[6]), packet.get(40..), false);
    if header[6] == FRAGMENT {
        let fragment = behind.and_then(|rest| rest.first_chunk::<8>());
        protocol = fragment.map(|fragment| fragment[0]);
        later_fragment =
            fragment.is_some_and(|part| u16::from_be_bytes([part[2], part[3]]) & 0xfff8 != 0);
        behind = None; // as libpcap: no ports in any of its parts
    }
    let ports = protocol
        .zip(behind)
        .and_then(|(protocol, rest)| ports(protocol, rest));
    Some(Fields {
        version: 6,
        source: address(8),
        destination: address(24),
        protocol,
        ports,
        later_fragment,
    })
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
