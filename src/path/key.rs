//! What tells packets apart and no hook changes: not the addresses and ports, which may be translated, nor
//! TTL, TOS, DF, checksums and options.

use crate::decode::{Fields, network};
use crate::read::Record;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;
const IPV6_HEADER_BYTES: usize = 40;

/// A packet's content, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    version: u8,
    protocol: u8,
    /// What IPv4 numbers packets by, and where in its packet a fragment stands; IPv6's flow label.
    id: u64,
    len: u16,
    content: [u64; 2],
}

/// A packet's key and ends, and whether it is a fragment. `None` where it is no IP packet, or is cut within its
/// header.
pub(super) fn key(record: &Record<'_>) -> Option<(Key, Fields, bool)> {
    let packet = network(record.interface.link, record.data)?;
    let fields = Fields::of(record.interface.link, record.data);
    let protocol = fields.protocol?;
    let half = |at: usize| number(packet, at, 2);
    let (id, len, fragment, transport) = if fields.version == 4 {
        let place = half(6) & 0x3fff;
        let header_bytes = usize::from(packet.first()? & 15) * 4;
        let transport = packet.get(header_bytes..).filter(|_| place & 0x1fff == 0);
        (half(4) << 16 | place, half(2), place != 0, transport)
    } else {
        let behind = packet.get(IPV6_HEADER_BYTES..);
        let fragment = number(packet, 6, 1) == u64::from(FRAGMENT);
        (number(packet, 0, 4) & 0xf_ffff, half(4), fragment, behind)
    };
    let whole = (!fragment).then_some(protocol);
    let content = content(whole, transport.unwrap_or_default());
    let key = Key {
        version: fields.version,
        protocol,
        id,
        len: u16::try_from(len).unwrap_or(0),
        content,
    };
    Some((key, fields, fragment))
}

/// What is looked at behind the IP header, which begins with a header of this protocol, or another one.
fn content(protocol: Option<u8>, bytes: &[u8]) -> [u64; 2] {
    let at = |at, len| number(bytes, at, len);
    match protocol {
        // Numbers, flags without those of congestion, and window.
        Some(TCP) => [at(4, 8), (at(13, 1) & 0x3f) << 16 | at(14, 2)],
        Some(UDP) => [at(8, 8), 0],
        // The tag; the first chunk's header and number.
        Some(SCTP) => [at(4, 4), at(12, 8)],
        // Of a message that quotes a packet, what of that is no address: length, id, protocol.
        Some(ICMP) if matches!(at(0, 1), 3 | 4 | 5 | 11 | 12) => {
            [at(0, 2), at(10, 4) << 8 | at(17, 1)]
        }
        // Not the identifier.
        Some(ICMP) => [at(0, 2) << 16 | at(6, 2), at(8, 8)],
        Some(ICMP6) if at(0, 1) < 128 => [at(0, 2), at(8, 7)],
        Some(ICMP6) => [at(0, 2) << 16 | at(6, 2), at(8, 8)],
        _ => [at(0, 8), at(8, 8)],
    }
}

/// So many bytes as a number, most significant first; those that are not there are 0.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let there = bytes.iter().skip(at).chain(&[0; 8]).take(len);
    there.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
