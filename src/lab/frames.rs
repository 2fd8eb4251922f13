//! Ethernet / IPv4 / UDP frames of an exact length, each marked with a sequence number.
//!
//! ```text
//! 0        14      34    42      46        48       50         58
//! | Ethernet | IPv4 | UDP | "LWNF" | stream | 0      | sequence | zeros ...
//! ```

use std::net::Ipv4Addr;
use std::ops::Range;

use super::{Endpoint, LabError};
use crate::checksum::{fold, sum};

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
const IPV4_AT: usize = ETHERNET_LEN;
const UDP_AT: usize = IPV4_AT + IPV4_LEN;
const PAYLOAD_AT: usize = UDP_AT + UDP_LEN;

const UDP_CHECKSUM: Range<usize> = UDP_AT + 6..UDP_AT + 8;
const MAGIC: [u8; 4] = *b"LWNF";
const STREAM: Range<usize> = PAYLOAD_AT + 4..PAYLOAD_AT + 6;
const SEQUENCE: Range<usize> = PAYLOAD_AT + 8..PAYLOAD_AT + 16;

const PROTOCOL_UDP: u8 = 17;
const FIRST_SOURCE_PORT: u16 = 10_000;
/// Destination ports in use, so that readers that sort by port have something to sort.
const DESTINATION_PORTS: [u16; 8] = [53, 123, 443, 500, 1194, 4500, 5060, 51820];

/// The shortest frame that holds a [`Marker`], without its frame check sequence.
pub const MIN_FRAME_LEN: usize = SEQUENCE.end;
/// The longest frame that IPv4's total length can describe.
pub(super) const MAX_FRAME_LEN: usize = ETHERNET_LEN + 65_535;

/// One flow's frame: everything but the sequence number is ready.
#[derive(Debug, Clone)]
pub struct FrameTemplate {
    bytes: Vec<u8>,
    /// The one's complement sum over the pseudo header and the datagram with sequence number 0.
    base_sum: u64,
}

impl FrameTemplate {
    /// Builds the frame of `frame_len` bytes (no frame check sequence) of flow number `flow`.
    pub fn new(
        frame_len: usize,
        from: &Endpoint,
        to: &Endpoint,
        stream: u16,
        flow: u8,
    ) -> Result<Self, LabError> {
        if !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&frame_len) {
            return Err(LabError::FrameLength(frame_len));
        }
        let length =
            |bytes: usize| u16::try_from(bytes).map_err(|_| LabError::FrameLength(frame_len));
        let ip_len = length(frame_len - IPV4_AT)?;
        let udp_len = length(frame_len - UDP_AT)?;
        // Each stream and flow has its own source: 198.18.<1 + stream>.<flow>.
        let [_, third] = stream.wrapping_add(1).to_be_bytes();
        let source = Ipv4Addr::new(198, 18, third, flow);
        let destination_port = DESTINATION_PORTS[usize::from(flow) % DESTINATION_PORTS.len()];

        let mut bytes = Vec::with_capacity(frame_len);
        bytes.extend(to.mac);
        bytes.extend(from.mac);
        bytes.extend([0x08, 0x00]);

        bytes.extend([0x45, 0]); // version 4, five words of header; no service class
        bytes.extend(ip_len.to_be_bytes());
        bytes.extend([0, 0, 0x40, 0]); // identification 0, do not fragment
        bytes.extend([64, PROTOCOL_UDP, 0, 0]); // time to live, protocol, checksum
        bytes.extend(source.octets());
        bytes.extend(to.address.octets());
        let checksum = complement(sum(&bytes[IPV4_AT..UDP_AT]));
        bytes[IPV4_AT + 10..IPV4_AT + 12].copy_from_slice(&checksum.to_be_bytes());

        bytes.extend((FIRST_SOURCE_PORT + u16::from(flow)).to_be_bytes());
        bytes.extend(destination_port.to_be_bytes());
        bytes.extend(udp_len.to_be_bytes());
        bytes.extend([0, 0]); // checksum
        bytes.extend(MAGIC);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(frame_len, 0);

        let addresses = sum(&bytes[IPV4_AT + 12..IPV4_AT + 20]);
        let pseudo_header = addresses + u64::from(PROTOCOL_UDP) + u64::from(udp_len);
        let base_sum = fold(pseudo_header + sum(&bytes[UDP_AT..])).into();
        let mut template = Self { bytes, base_sum };
        let base_sum = template.base_sum;
        set_sequence(&mut template.bytes, base_sum, 0);
        Ok(template)
    }

    /// The frame, with sequence number 0.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What [`set_sequence`] needs to know of the rest of the datagram.
    pub(super) fn base_sum(&self) -> u64 {
        self.base_sum
    }
}

/// Writes a sequence number into a copy of a template's frame, and the checksum that goes with it.
pub(super) fn set_sequence(frame: &mut [u8], base_sum: u64, sequence: u64) {
    let number = sequence.to_be_bytes();
    // A UDP checksum of zero would mean that there is none: its other representation is sent.
    let checksum = match complement(base_sum + sum(&number)) {
        0 => 0xffff,
        checksum => checksum,
    };
    frame[SEQUENCE].copy_from_slice(&number);
    frame[UDP_CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
}

/// What a frame says about its place in the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marker {
    /// The stream: one sending thread of one call.
    pub stream: u16,
    /// The packet's number in its stream, from 0.
    pub sequence: u64,
}

impl Marker {
    /// Reads the marker of an Ethernet frame that a [`FrameTemplate`] made, also a truncated one.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        Self::of_packet(frame.get(ETHERNET_LEN..)?)
    }

    /// As [`Marker::of_frame`], for a packet that begins with its IPv4 header.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        let field = |at: Range<usize>| packet.get(at.start - ETHERNET_LEN..at.end - ETHERNET_LEN);
        if field(PAYLOAD_AT..PAYLOAD_AT + MAGIC.len())? != MAGIC {
            return None;
        }
        Some(Self {
            stream: u16::from_be_bytes(field(STREAM)?.try_into().ok()?),
            sequence: u64::from_be_bytes(field(SEQUENCE)?.try_into().ok()?),
        })
    }
}

fn complement(sum: u64) -> u16 {
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice, checksum};

    use super::*;

    fn ends() -> (Endpoint, Endpoint) {
        let end = |last| Endpoint {
            name: "x".to_owned(),
            mac: [2, 0, 0, 0, 0, last],
            address: Ipv4Addr::new(198, 18, 0, last),
            prefix_len: 15,
        };
        (end(1), end(2))
    }

    #[test]
    fn frames_are_valid_by_another_parser() {
        let (from, to) = ends();
        for frame_len in [MIN_FRAME_LEN, 64, 65, 256, 1500, MAX_FRAME_LEN] {
            for sequence in [0, 1, 0xffff, 0x1_0000, u64::MAX] {
                let template = FrameTemplate::new(frame_len, &from, &to, 3, 200).unwrap();
                let mut frame = template.bytes().to_vec();
                set_sequence(&mut frame, template.base_sum(), sequence);
                assert_eq!(frame.len(), frame_len);
                assert_eq!(
                    Marker::of_frame(&frame),
                    Some(Marker {
                        stream: 3,
                        sequence
                    })
                );
                assert_eq!(
                    Marker::of_packet(&frame[14..]),
                    Some(Marker {
                        stream: 3,
                        sequence
                    })
                );

                let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else {
                    panic!("not IPv4")
                };
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let Some(TransportSlice::Udp(udp)) = packet.transport else {
                    panic!("not UDP")
                };
                let expected = udp
                    .to_header()
                    .calc_checksum_ipv4_raw(header.source, header.destination, udp.payload())
                    .unwrap();
                assert_eq!(udp.checksum(), expected);
            }
        }
        // The oracle itself: a sum that everyone knows.
        assert_eq!(checksum::Sum16BitWords::new().ones_complement(), 0xffff);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let (from, to) = ends();
        for frame_len in [0, MIN_FRAME_LEN - 1, MAX_FRAME_LEN + 1] {
            assert!(FrameTemplate::new(frame_len, &from, &to, 0, 0).is_err());
        }
    }

    #[test]
    fn foreign_frames_have_no_marker() {
        assert_eq!(Marker::of_frame(&[0; 64]), None);
        assert_eq!(Marker::of_frame(b"LWNF"), None);
        assert_eq!(Marker::of_packet(&[]), None);
    }
}
