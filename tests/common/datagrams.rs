//! What a real kernel sent, and what a packet is to the fast way.

use lwnflog::packet::{Packet, TemplateHit};

/// NFLOG datagrams of a kernel 6.18, recorded by tests/walk.rs: each behind its length.
pub fn real_datagrams() -> Vec<&'static [u8]> {
    let mut rest = &include_bytes!("../data/nflog-datagrams.bin")[..];
    let mut datagrams = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (datagram, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        datagrams.push(datagram);
        rest = behind;
    }
    datagrams
}

/// A packet as its own hit, if it can have one.
pub fn hit_of<'a>(packet: &Packet<'a>) -> Option<TemplateHit<'a>> {
    Some(TemplateHit {
        payload: packet.payload,
        hw_header: match packet.hw_header {
            [] => None,
            header => Some(header.try_into().ok()?),
        },
        hw_source: packet.hw_source,
        message: packet.message,
        stamp_ticks: packet.stamp_ticks?,
        sequence: packet.sequence?,
        ifindex_in: packet.ifindex_in,
    })
}
