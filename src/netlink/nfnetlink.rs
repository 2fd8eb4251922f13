//! What the messages of NFLOG and NFQUEUE have in common (`linux/netfilter/nfnetlink.h`,
//! `nfnetlink_log.h`, `nfnetlink_queue.h`).

use std::num::NonZeroU64;

use super::{Attributes, Malformed};
use crate::packet::VLAN_TAG_BYTES;

/// Bytes of `struct nfgenmsg`: family, version, resource id (the group, network byte order).
pub const NFGENMSG_BYTES: usize = 4;
/// `NFULNL_COPY_RANGE_MAX`: the most a message can hold of one packet.
pub const COPY_RANGE_MAX_BYTES: u32 = 65531;

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

/// Inside `NFULA_VLAN` and `NFQA_VLAN`: the protocol of a tag.
pub const VLAN_PROTO: u16 = 1;
/// Its TCI.
pub const VLAN_TCI: u16 = 2;

/// The tag of `NFULA_VLAN` or `NFQA_VLAN`, if both of its parts are there.
#[cold]
pub(crate) fn vlan_tag(nested: &[u8]) -> Result<Option<[u8; VLAN_TAG_BYTES]>, Malformed> {
    let (mut protocol, mut tci) = (None, None);
    for found in Attributes::new(nested) {
        let found = found?;
        match found.kind {
            VLAN_PROTO => protocol = Some(found.bytes::<2>()?),
            VLAN_TCI => tci = Some(found.bytes::<2>()?),
            _ => {}
        }
    }
    Ok(protocol
        .zip(tci)
        .map(|([p0, p1], [t0, t1])| [p0, p1, t0, t1]))
}
