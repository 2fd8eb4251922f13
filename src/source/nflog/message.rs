//! `NFULNL_MSG_PACKET` (`linux/netfilter/nfnetlink_log.h`): one logged packet.

use crate::netlink::nfnetlink::{NFGENMSG_BYTES, hw_address, stamp_us, vlan_tag};
use crate::netlink::{Attributes, Layer, Malformed, Message};
use crate::packet::{ARPHRD_ETHER, NETDEV_EGRESS, NFPROTO_NETDEV, Packet};

/// `nlmsg_type` of a logged packet: subsystem `NFNL_SUBSYS_ULOG` (4), message `NFULNL_MSG_PACKET`
/// (0).
pub const PACKET: u16 = 4 << 8;
/// `nlmsg_type` of a configuration request: message `NFULNL_MSG_CONFIG` (1).
pub const CONFIG: u16 = (4 << 8) | 1;

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
    pub const IFINDEX_PHYSINDEV: u16 = 6;
    pub const IFINDEX_PHYSOUTDEV: u16 = 7;
    pub const HWADDR: u16 = 8;
    pub const PAYLOAD: u16 = 9;
    pub const PREFIX: u16 = 10;
    pub const SEQ: u16 = 12;
    pub const HWTYPE: u16 = 15;
    pub const HWHEADER: u16 = 16;
    pub const HWLEN: u16 = 17;
    /// Of the families netdev and bridge only: nested, protocol and TCI.
    pub const VLAN: u16 = 20;
    /// Of those only, too: what stands before the network header.
    pub const L2HDR: u16 = 21;
}

/// Reads a packet message ([`PACKET`]).
///
/// # Errors
/// [`Malformed`] where a length does not fit, or where the packet header is missing. A message
/// without a payload is one of a rule with `snaplen 0`.
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
    let (mut header_seen, mut l2_header) = (false, &[][..]);
    let (mut port_in, mut port_out) = (0, 0);
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
            attribute::TIMESTAMP => packet.stamp_ticks = stamp_us(found.bytes()?),
            attribute::IFINDEX_INDEV => packet.ifindex_in = found.be32()?,
            attribute::IFINDEX_OUTDEV => packet.ifindex_out = found.be32()?,
            attribute::HWADDR => packet.hw_source = hw_address(found.bytes()?, found.value),
            attribute::IFINDEX_PHYSINDEV => port_in = found.be32()?,
            attribute::IFINDEX_PHYSOUTDEV => port_out = found.be32()?,
            attribute::PAYLOAD => packet.payload = found.value,
            attribute::PREFIX => packet.prefix = without_nul(found.value),
            attribute::SEQ => packet.sequence = Some(found.be32()?),
            attribute::HWTYPE => packet.hw_type = found.be16()?,
            attribute::HWHEADER => packet.hw_header = found.value,
            attribute::HWLEN => hw_header_bytes = usize::from(found.be16()?),
            attribute::VLAN => packet.vlan = vlan_tag(found.value)?,
            attribute::L2HDR => l2_header = found.value,
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
    packet.take_port(port_in, port_out);
    if packet.family == NFPROTO_NETDEV && packet.hook == NETDEV_EGRESS {
        take_link_header_off(&mut packet, l2_header);
    }
    Ok(packet)
}

/// At netdev egress the payload begins at the link-layer header, as `NFULA_L2HDR` has it whole.
#[cold]
fn take_link_header_off<'a>(packet: &mut Packet<'a>, l2_header: &'a [u8]) {
    if l2_header.is_empty() {
        return; // an interface without one
    }
    (packet.hw_header, packet.hw_type) = (l2_header, ARPHRD_ETHER);
    packet.payload = match packet.payload.strip_prefix(l2_header) {
        Some(payload) => payload,
        // Cut within it.
        None if l2_header.starts_with(packet.payload) => &[],
        None => {
            packet.protocol = 0; // what it is, is not known
            packet.payload
        }
    };
}
#[inline]
fn without_nul(value: &[u8]) -> &[u8] {
    match value {
        [text @ .., 0] => text,
        text => text,
    }
}
