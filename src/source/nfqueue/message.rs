//! `NFQNL_MSG_PACKET` (`linux/netfilter/nfnetlink_queue.h`): one queued packet, and the verdict on
//! it.

use crate::netlink::attribute::HEADER_BYTES;
use crate::netlink::nfnetlink::{NFGENMSG_BYTES, hw_address, stamp_us, vlan_tag};
use crate::netlink::{ALIGN_BYTES, Attributes, Layer, Malformed, Message, message};
use crate::packet::Packet;

/// `nlmsg_type` of a queued packet: subsystem `NFNL_SUBSYS_QUEUE` (3), message `NFQNL_MSG_PACKET`
/// (0).
pub const PACKET: u16 = 3 << 8;
/// `nlmsg_type` of a configuration request: message `NFQNL_MSG_CONFIG` (2).
pub const CONFIG: u16 = (3 << 8) | 2;
/// `nlmsg_type` of a verdict on all packets up to one: message `NFQNL_MSG_VERDICT_BATCH` (3).
pub const VERDICT_BATCH: u16 = (3 << 8) | 3;
/// `NFQNL_MAX_COPY_RANGE`: the most a message can hold of one packet.
pub const COPY_RANGE_MAX_BYTES: u32 = 65531;
/// The id of the first packet of a queue; each packet sent to the socket takes the next.
pub const FIRST_ID: u32 = 1;

/// `NFQA_*`: the attributes of a packet message.
pub mod attribute {
    #![allow(
        missing_docs,
        reason = "the kernel header's names, without their prefix"
    )]
    pub const PACKET_HDR: u16 = 1;
    pub const VERDICT_HDR: u16 = 2;
    pub const MARK: u16 = 3;
    pub const TIMESTAMP: u16 = 4;
    pub const IFINDEX_INDEV: u16 = 5;
    pub const IFINDEX_OUTDEV: u16 = 6;
    pub const IFINDEX_PHYSINDEV: u16 = 7;
    pub const IFINDEX_PHYSOUTDEV: u16 = 8;
    pub const HWADDR: u16 = 9;
    pub const PAYLOAD: u16 = 10;
    pub const CAP_LEN: u16 = 13;
    /// Of the family bridge only, nested as NFLOG's.
    pub const VLAN: u16 = 19;
    pub const VLAN_PROTO: u16 = 1;
    pub const VLAN_TCI: u16 = 2;
}

/// `NFQA_CFG_*`: the attributes of a configuration request, and the values they take.
pub mod config {
    #![allow(
        missing_docs,
        reason = "the kernel header's names, without their prefix"
    )]
    pub const CMD: u16 = 1;
    pub const PARAMS: u16 = 2;
    pub const QUEUE_MAXLEN: u16 = 3;
    pub const MASK: u16 = 4;
    pub const FLAGS: u16 = 5;
    pub const CMD_BIND: u8 = 1;
    pub const CMD_UNBIND: u8 = 2;
    pub const COPY_META: u8 = 1;
    pub const COPY_PACKET: u8 = 2;
    pub const F_FAIL_OPEN: u32 = 1 << 0;
    pub const F_CONNTRACK: u32 = 1 << 1;
    pub const F_GSO: u32 = 1 << 2;
    pub const F_UID_GID: u32 = 1 << 3;
    pub const F_SECCTX: u32 = 1 << 4;
}

/// Reads a packet message ([`PACKET`]). [`Packet::sequence`] is the packet's id.
///
/// # Errors
/// [`Malformed`] where a length does not fit, or where the packet header or the payload is missing.
#[inline]
pub fn parse<'a>(message: &Message<'a>) -> Result<Packet<'a>, Malformed> {
    let body = message.body;
    let Some((nfgenmsg, attributes)) = body.split_first_chunk::<NFGENMSG_BYTES>() else {
        return Err(Malformed::Short {
            layer: Layer::Netfilter,
            needed: NFGENMSG_BYTES,
            left: body.len(),
        });
    };
    let mut packet = Packet {
        family: nfgenmsg[0],
        group: u16::from_be_bytes([nfgenmsg[2], nfgenmsg[3]]),
        hw_type: Packet::HW_TYPE_UNKNOWN,
        message: body,
        ..Packet::default()
    };
    let (mut header_seen, mut payload_seen) = (false, false);
    let (mut port_in, mut port_out) = (0, 0);
    for found in Attributes::new(attributes) {
        let found = found?;
        match found.kind {
            attribute::PACKET_HDR => {
                // struct nfqnl_msg_packet_hdr: id, protocol, hook; packed.
                let [i0, i1, i2, i3, p0, p1, hook] = found.bytes()?;
                packet.sequence = Some(u32::from_be_bytes([i0, i1, i2, i3]));
                packet.protocol = u16::from_be_bytes([p0, p1]);
                packet.hook = hook;
                header_seen = true;
            }
            attribute::MARK => packet.mark = found.be32()?,
            attribute::TIMESTAMP => packet.stamp_ticks = stamp_us(found.bytes()?),
            attribute::IFINDEX_INDEV => packet.ifindex_in = found.be32()?,
            attribute::IFINDEX_OUTDEV => packet.ifindex_out = found.be32()?,
            attribute::IFINDEX_PHYSINDEV => port_in = found.be32()?,
            attribute::IFINDEX_PHYSOUTDEV => port_out = found.be32()?,
            attribute::VLAN => packet.vlan = vlan_tag(found.value)?,
            attribute::HWADDR => packet.hw_source = hw_address(found.bytes()?, found.value),
            attribute::CAP_LEN => packet.network_len = Some(found.be32()?),
            attribute::PAYLOAD => {
                packet.payload = found.value;
                payload_seen = true;
            }
            _ => {}
        }
    }
    if !header_seen {
        return Err(Malformed::Missing {
            kind: attribute::PACKET_HDR,
        });
    }
    if !payload_seen {
        return Err(Malformed::Missing {
            kind: attribute::PAYLOAD,
        });
    }
    packet.take_port(port_in, port_out);
    // The kernel says the length only of what it cut: the rest is here as a whole.
    if packet.network_len.is_none() {
        packet.network_len = u32::try_from(packet.payload.len()).ok();
    }
    Ok(packet)
}

/// The id of a packet message, whatever else is wrong with it: a verdict is due in any case.
///
/// It is in the first attribute, which a datagram cut by a short buffer still has.
#[inline]
pub fn packet_id(datagram: &[u8]) -> Option<u32> {
    const ID_AT: usize = message::HEADER_BYTES + NFGENMSG_BYTES + HEADER_BYTES;
    let kind = datagram.get(4..6)?;
    let attribute_kind = datagram.get(ID_AT - 2..ID_AT)?;
    let id = datagram.get(ID_AT..)?.first_chunk::<4>()?;
    let is_packet =
        kind == PACKET.to_ne_bytes() && attribute_kind == attribute::PACKET_HDR.to_ne_bytes();
    is_packet.then(|| u32::from_be_bytes(*id))
}

/// The request that gives one verdict on all packets of a queue up to an id, made once and sent
/// again and again with another id.
#[derive(Debug, Clone)]
pub struct VerdictBatch {
    bytes: [u8; Self::BYTES_WITH_MARK],
    len: usize,
}

impl VerdictBatch {
    const ID_AT: usize = Self::BYTES - 4;
    /// Headers of message and netfilter, and `struct nfqnl_msg_verdict_hdr`: verdict, id.
    const BYTES: usize = message::HEADER_BYTES + NFGENMSG_BYTES + HEADER_BYTES + 8;
    const BYTES_WITH_MARK: usize = Self::BYTES + HEADER_BYTES + 4;

    /// For this queue: `verdict` is `NF_ACCEPT` (1) or `NF_DROP` (0); with a mark, packets carry it
    /// on.
    pub fn new(queue: u16, verdict: u32, mark: Option<u32>) -> Self {
        const NLM_F_REQUEST: u16 = 1;
        let len = if mark.is_some() {
            Self::BYTES_WITH_MARK
        } else {
            Self::BYTES
        };
        let mut bytes = [0; Self::BYTES_WITH_MARK];
        let mut at = 0;
        let mut put = |piece: &[u8]| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        #[expect(clippy::cast_possible_truncation, reason = "40 bytes")]
        put(&(len as u32).to_ne_bytes());
        put(&VERDICT_BATCH.to_ne_bytes());
        put(&NLM_F_REQUEST.to_ne_bytes());
        put(&[0; 8]); // sequence and port id: the kernel fills in the port
        put(&[0, 0]); // family, version
        put(&queue.to_be_bytes());
        put(&12u16.to_ne_bytes());
        put(&attribute::VERDICT_HDR.to_ne_bytes());
        put(&verdict.to_be_bytes());
        put(&[0; 4]);
        put(&8u16.to_ne_bytes());
        put(&attribute::MARK.to_ne_bytes());
        put(&mark.unwrap_or(0).to_be_bytes());
        VerdictBatch { bytes, len }
    }

    /// The request for all packets up to `id`.
    #[inline]
    pub fn up_to(&mut self, id: u32) -> &[u8] {
        self.bytes[Self::ID_AT..Self::BYTES].copy_from_slice(&id.to_be_bytes());
        &self.bytes[..self.len]
    }
}

const _: () = assert!(VerdictBatch::BYTES_WITH_MARK.is_multiple_of(ALIGN_BYTES));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Messages;

    /// A packet of 84 bytes cut to 24, as the kernel lays it out.
    fn datagram() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut attr = |kind: u16, value: &[u8]| {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        attr(1, &[0, 0, 1, 7, 8, 0, 0]);
        attr(5, &[0, 0, 0, 3]);
        attr(3, &[0, 0, 0, 42]);
        attr(9, &[0, 6, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0]);
        attr(4, &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5]);
        attr(13, &[0, 0, 0, 84]);
        attr(15, &[0, 0, 0, 2]);
        attr(10, &[0x45; 24]);
        let mut message = u32::try_from(bytes.len() + 20)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        message.extend(PACKET.to_ne_bytes());
        message.extend([0; 10]);
        message.extend([2, 0, 0, 5]);
        message.extend(bytes);
        message
    }

    #[test]
    fn a_packet_with_everything() {
        let bytes = datagram();
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        let packet = parse(&message).unwrap();
        assert_eq!(
            (packet.sequence, packet.group, packet.family),
            (Some(0x107), 5, 2)
        );
        assert_eq!(
            (packet.protocol, packet.hook, packet.ifindex_in, packet.mark),
            (0x0800, 0, 3, 42)
        );
        assert_eq!(packet.hw_source, [2, 0, 0, 0, 0, 1]);
        assert_eq!(packet.stamp_ticks.unwrap().get(), 2_000_005);
        assert_eq!((packet.payload.len(), packet.network_len()), (24, 84));
        assert_eq!(packet_id(&bytes), Some(0x107));
    }

    #[test]
    fn every_cut_and_every_flip_is_survived() {
        let bytes = datagram();
        for cut in 0..bytes.len() {
            let _ = packet_id(&bytes[..cut]);
            let body = &bytes[16.min(cut)..cut];
            let _ = parse(&Message {
                kind: PACKET,
                sequence: 0,
                body,
            });
        }
        for at in 16..bytes.len() {
            for value in [0, 1, 4, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = parse(&Message {
                    kind: PACKET,
                    sequence: 0,
                    body: &bytes[16..],
                });
            }
        }
        let no_payload = Message {
            kind: PACKET,
            sequence: 0,
            body: &bytes[16..bytes.len() - 28],
        };
        assert_eq!(
            parse(&no_payload).unwrap_err(),
            Malformed::Missing {
                kind: attribute::PAYLOAD
            }
        );
    }

    #[test]
    #[cfg(target_endian = "little")] // netlink is in the machine's own order
    fn verdict_bytes() {
        let mut verdict = VerdictBatch::new(5, 1, None);
        assert_eq!(
            verdict.up_to(0x0102_0304),
            b"\x20\0\0\0\x03\x03\x01\0\0\0\0\0\0\0\0\0\0\0\0\x05\x0c\0\x02\0\0\0\0\x01\x01\x02\x03\x04"
        );
        let mut marked = VerdictBatch::new(5, 0, Some(9));
        let bytes = marked.up_to(7);
        assert_eq!((bytes.len(), bytes[0]), (40, 40));
        assert_eq!(
            &bytes[20..],
            b"\x0c\0\x02\0\0\0\0\0\0\0\0\x07\x08\0\x03\0\0\0\0\x09"
        );
    }
}
