//! Kinds of packets, and their bytes: each is known by its headers alone, and can be made again from its
//! number; and what a hook behind prerouting sees of it.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::rng::mix;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Udp,
    Tcp,
    Icmp,
    /// A first fragment.
    Fragment,
    /// A later one.
    Rest,
    Udp6,
    /// With options in its IPv4 header.
    Options,
    /// A packet in a packet, whose tunnel ends somewhere else.
    Ipip,
    Gre,
    Sctp,
    /// With a VLAN tag on the wire, of a priority alone: the kernel takes it off.
    Priority,
    /// IPv6 with options for each hop and for the destination before UDP.
    Hop6,
    /// A first fragment of IPv6.
    Fragment6,
    Icmp6,
    /// To a host beyond this one.
    Beyond,
    Beyond6,
    /// Of the loopback.
    Loop,
    /// A packet of a VXLAN whose tunnel ends here, and the one in it, which comes by the tunnel.
    Outer,
    Inner,
}

/// Where a packet goes, from prerouting on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Here,
    /// Waits before input for other fragments, which do not come. Those of IPv6 wait behind it.
    Pieces,
    Beyond,
}

pub const ETHERNET: usize = 14;
const VXLAN: usize = 20 + 8 + 8;
const TO: [u8; 6] = [0x02, 0x6c, 0x77, 0x6e, 0x66, 2];
const FROM: [u8; 6] = [0x02, 0x6c, 0x77, 0x6e, 0x66, 1];

impl Kind {
    pub fn is_ip6(self) -> bool {
        matches!(
            self,
            Kind::Udp6 | Kind::Hop6 | Kind::Fragment6 | Kind::Icmp6 | Kind::Beyond6
        )
    }

    pub fn way(self) -> Way {
        match self {
            Kind::Fragment | Kind::Rest => Way::Pieces,
            Kind::Beyond | Kind::Beyond6 => Way::Beyond,
            _ => Way::Here,
        }
    }

    /// Whether `udp dport` is true of it, which looks at what is behind the IP header.
    pub fn is_udp(self) -> bool {
        matches!(
            self,
            Kind::Udp
                | Kind::Udp6
                | Kind::Fragment
                | Kind::Options
                | Kind::Priority
                | Kind::Hop6
                | Kind::Fragment6
                | Kind::Beyond
                | Kind::Beyond6
                | Kind::Loop
                | Kind::Inner
        )
    }

    /// The shortest frame of its kind.
    pub fn headers(self) -> usize {
        ETHERNET
            + match self {
                Kind::Tcp => 20 + 20,
                Kind::Rest => 20,
                Kind::Udp6 | Kind::Icmp6 | Kind::Beyond6 => 40 + 8,
                Kind::Options => 20 + 12 + 8,
                Kind::Ipip => 20 + 20,
                Kind::Gre => 20 + 4 + 20,
                Kind::Sctp => 20 + 12,
                Kind::Hop6 => 40 + 8 + 8 + 8,
                Kind::Fragment6 => 40 + 8 + 8,
                _ => 20 + 8,
            }
    }

    /// The interface by which it comes, as its name begins.
    pub fn interface(self) -> &'static str {
        match self {
            Kind::Loop => "lo",
            Kind::Inner => "vx",
            _ => "rx",
        }
    }
}

pub fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        (0..4096 + 65536u64)
            .map(|at| mix(at).to_le_bytes()[0])
            .collect()
    })
}

pub fn be16(value: usize) -> [u8; 2] {
    u16::try_from(value & 0xffff)
        .unwrap_or_default()
        .to_be_bytes()
}

pub fn checksum(header: &[u8]) -> [u8; 2] {
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    be16(usize::try_from(!folded & 0xffff).unwrap_or_default())
}

/// The bytes of a packet as it comes to prerouting.
pub fn frame(number: u64, kind: Kind, port: u16, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    if kind == Kind::Loop {
        bytes.extend([0; 12]);
    } else {
        bytes.extend(TO);
        bytes.extend(FROM);
    }
    if kind.is_ip6() {
        let (next, to) = match kind {
            Kind::Hop6 => (0, 0),
            Kind::Fragment6 => (44, 0),
            Kind::Icmp6 => (58, 0),
            Kind::Beyond6 => (17, 1),
            _ => (17, 0),
        };
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend(be16(len - ETHERNET - 40));
        bytes.extend([next, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(number.to_be_bytes());
        bytes.extend([0xfd, to, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        let (protocol, fragment) = match kind {
            Kind::Tcp => (6, 0x4000),
            Kind::Icmp => (1, 0x4000),
            Kind::Fragment => (17, 0x2000),
            Kind::Rest => (17, 185),
            Kind::Ipip => (4, 0x4000),
            Kind::Gre => (47, 0x4000),
            Kind::Sctp => (132, 0x4000),
            _ => (17, 0x4000),
        };
        let options: &[u8] = if kind == Kind::Options {
            &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
        } else {
            &[]
        };
        let words = u8::try_from(5 + options.len() / 4).unwrap_or_default();
        bytes.extend([0x08, 0x00, 0x40 | words, 0]);
        bytes.extend(be16(len - ETHERNET));
        bytes.extend(be16(usize::try_from(number & 0xffff).unwrap_or_default()));
        bytes.extend(be16(fragment));
        bytes.extend([64, protocol, 0, 0, 10]);
        bytes.extend(&number.to_be_bytes()[3..6]);
        bytes.extend(if kind == Kind::Beyond {
            crate::ways::BEYOND
        } else {
            [198, 18, 0, 2]
        });
        bytes.extend(options);
        let sum = checksum(&bytes[ETHERNET..]);
        bytes[24..26].copy_from_slice(&sum);
    }
    behind_ip(&mut bytes, number, kind, port, len);
    let from = usize::try_from(mix(number) % 4096).unwrap_or_default();
    let left = len - bytes.len();
    bytes.extend(&noise()[from..from + left]);
    bytes
}

fn behind_ip(bytes: &mut Vec<u8>, number: u64, kind: Kind, port: u16, len: usize) {
    let source_port = be16(10_000 + usize::try_from(number % 256).unwrap_or_default());
    let udp = |bytes: &mut Vec<u8>| {
        bytes.extend(source_port);
        bytes.extend(port.to_be_bytes());
        bytes.extend(be16(len - bytes.len() + 4));
        bytes.extend([0, 0]);
    };
    // The header of a packet in a packet, which nobody looks for.
    let inside = |bytes: &mut Vec<u8>| {
        let from = bytes.len();
        bytes.extend([0x45, 0]);
        bytes.extend(be16(len - from));
        bytes.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 172, 16, 0, 1, 172, 16, 0, 2]);
        let sum = checksum(&bytes[from..]);
        bytes[from + 10..from + 12].copy_from_slice(&sum);
    };
    match kind {
        Kind::Tcp => {
            bytes.extend(source_port);
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        }
        Kind::Icmp => bytes.extend([0, 0, 0, 0, 0, 1, 0, 1]),
        Kind::Icmp6 => bytes.extend([128, 0, 0, 0, 0, 1, 0, 1]),
        Kind::Rest | Kind::Outer => {}
        Kind::Ipip => inside(bytes),
        Kind::Gre => {
            bytes.extend([0, 0, 8, 0]);
            inside(bytes);
        }
        Kind::Sctp => {
            bytes.extend(source_port);
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        }
        Kind::Hop6 => {
            bytes.extend([60, 0, 1, 4, 0, 0, 0, 0]);
            bytes.extend([17, 0, 1, 4, 0, 0, 0, 0]);
            udp(bytes);
        }
        Kind::Fragment6 => {
            bytes.extend([17, 0, 0, 1]);
            bytes.extend(&number.to_be_bytes()[4..]);
            udp(bytes);
        }
        _ => udp(bytes),
    }
}

/// The outer packet of a VXLAN around this frame.
pub fn around(number: u64, inner: &[u8]) -> Vec<u8> {
    let len = ETHERNET + VXLAN + inner.len();
    let mut bytes = frame(number, Kind::Outer, 0, len);
    bytes.truncate(ETHERNET + 20);
    bytes.extend(be16(20_000));
    bytes.extend(be16(4789));
    bytes.extend(be16(len - ETHERNET - 20));
    bytes.extend([0, 0, 8, 0, 0, 0, 0, 0, crate::ways::VNI, 0]);
    bytes.extend(inner);
    bytes
}

/// How much longer the outer packet is.
pub const AROUND: usize = ETHERNET + VXLAN;

/// What goes on the wire for this packet.
pub fn wire(kind: Kind, mut frame: Vec<u8>) -> Vec<u8> {
    if kind == Kind::Priority {
        frame.splice(12..12, [0x81, 0, 0x60, 0]);
    }
    frame
}

/// The frame as a hook sees it: at forward the host has counted itself.
pub fn at_hook(hook: &str, frame: &mut [u8]) {
    if hook != "forward" {
        return;
    }
    match frame[ETHERNET] >> 4 {
        4 => {
            frame[22] -= 1;
            frame[24..26].copy_from_slice(&[0, 0]);
            let words = usize::from(frame[ETHERNET] & 15);
            let sum = checksum(&frame[ETHERNET..ETHERNET + words * 4]);
            frame[24..26].copy_from_slice(&sum);
        }
        _ => frame[21] -= 1,
    }
}

/// The number of a packet, from its IP header on.
pub fn number_of(packet: &[u8]) -> Option<u64> {
    let tail = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    match packet.first()? >> 4 {
        4 => {
            let source = packet.get(12..16)?;
            (source[0] == 10).then(|| tail(&source[1..]) << 16 | tail(&packet[4..6]))
        }
        6 => {
            let source = packet.get(8..24)?;
            (source[..8] == [0xfd, 0, 0, 0, 0, 0, 0, 0]).then(|| tail(&source[8..]))
        }
        _ => None,
    }
}
