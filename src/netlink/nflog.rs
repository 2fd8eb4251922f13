//! `NFULNL_MSG_PACKET` (`linux/netfilter/nfnetlink_log.h`): one logged packet.

use std::num::NonZeroU64;

use super::{Attributes, Layer, Malformed, Message};
use crate::packet::Packet;

/// `nlmsg_type` of a logged packet: subsystem `NFNL_SUBSYS_ULOG` (4), message `NFULNL_MSG_PACKET` (0).
pub const PACKET: u16 = 4 << 8;
/// `nlmsg_type` of a configuration request: message `NFULNL_MSG_CONFIG` (1).
pub const CONFIG: u16 = (4 << 8) | 1;
/// Bytes of `struct nfgenmsg`: family, version, resource id (the group, network byte order).
pub const NFGENMSG_BYTES: usize = 4;
/// `NFULNL_COPY_RANGE_MAX`: the most a message can hold of one packet.
pub const COPY_RANGE_MAX_BYTES: u32 = 65531;

/// `NFULA_*`: the attributes of a packet message, in the order the kernel writes them.
pub mod attribute {
    #![allow(
        missing_docs,
        reason = "the kernel header's names, without their prefix"
    )]
    pub const PACKET_HDR: u16 = 1;
    pub const MARK: u16 = 2;
    pub const TIMESTAMP: u16 = 3;
    pub const IFINDEX_INDEV: u16 = 4;
    pub const IFINDEX_OUTDEV: u16 = 5;
    pub const HWADDR: u16 = 8;
    pub const PAYLOAD: u16 = 9;
    pub const PREFIX: u16 = 10;
    pub const SEQ: u16 = 12;
    pub const HWTYPE: u16 = 15;
    pub const HWHEADER: u16 = 16;
    pub const HWLEN: u16 = 17;
}

/// Reads a packet message ([`PACKET`]).
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
    let mut hw_header_bytes = usize::MAX;
    let (mut header_seen, mut payload_seen) = (false, false);
    for found in Attributes::new(attributes) {
        let found = found?;
        match found.kind {
            attribute::PACKET_HDR => {
                let [p0, p1, hook] = found.bytes()?;
                packet.protocol = u16::from_be_bytes([p0, p1]);
                packet.hook = hook;
                header_seen = true;
            }
            attribute::MARK => packet.mark = found.be32()?,
            attribute::TIMESTAMP => packet.stamp_us = stamp_us(found.bytes()?),
            attribute::IFINDEX_INDEV => packet.ifindex_in = found.be32()?,
            attribute::IFINDEX_OUTDEV => packet.ifindex_out = found.be32()?,
            attribute::HWADDR => packet.hw_source = hw_address(found.bytes()?, found.value),
            attribute::PAYLOAD => {
                packet.payload = found.value;
                payload_seen = true;
            }
            attribute::PREFIX => packet.prefix = without_nul(found.value),
            attribute::SEQ => packet.sequence = Some(found.be32()?),
            attribute::HWTYPE => packet.hw_type = found.be16()?,
            attribute::HWHEADER => packet.hw_header = found.value,
            attribute::HWLEN => hw_header_bytes = usize::from(found.be16()?),
            _ => {}
        }
    }
    // NFULA_HWLEN says how many bytes of NFULA_HWHEADER are the header.
    packet.hw_header = packet
        .hw_header
        .get(..hw_header_bytes)
        .unwrap_or(packet.hw_header);
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
    Ok(packet)
}

/// `struct nfulnl_msg_packet_timestamp`: seconds and microseconds, 64 bits each, network order.
///
/// `None` for a time of zero, and for one that no clock shows (it would overflow).
#[inline]
pub(crate) fn stamp_us(value: [u8; 16]) -> Option<NonZeroU64> {
    let both = u128::from_be_bytes(value);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is what is meant"
    )]
    let (seconds, micros) = ((both >> 64) as u64, both as u64);
    NonZeroU64::new(seconds.checked_mul(1_000_000)?.checked_add(micros)?)
}

/// `struct nfulnl_msg_packet_hw`: length (network order), two bytes of padding, up to 8 of address.
#[inline]
pub(crate) fn hw_address(length: [u8; 2], value: &[u8]) -> &[u8] {
    value
        .get(4..4 + usize::from(u16::from_be_bytes(length)))
        .unwrap_or(&[])
}

#[inline]
fn without_nul(value: &[u8]) -> &[u8] {
    match value {
        [text @ .., 0] => text,
        text => text,
    }
}
