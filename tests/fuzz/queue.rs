//! Fuzz target: the walk over a queue's datagrams finds what a reading by offsets finds, which
//! shares nothing with it; and the id that verdicts go by is the packet's.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::cell::RefCell;
use std::num::NonZeroU64;

use lwnflog::packet::Packet;
use lwnflog::source::nfqueue::Batch;
use lwnflog::source::nfqueue::message::{self as nfqueue, attribute, packet_id};
use lwnflog::source::{Item, Walk};
use lwnflog::sys::mmsg::{BATCH, Datagrams};

common::target!(seeds, check);

/// What fits a slot of a queue's buffer.
const DATAGRAM_BYTES_MAX: usize = 2048;

thread_local! {
    static ROOM: RefCell<Datagrams> = RefCell::new(Datagrams::new(DATAGRAM_BYTES_MAX).unwrap());
}

fn check(input: &[u8]) {
    let mut given = datagrams(input);
    given.truncate(BATCH);
    given
        .iter_mut()
        .for_each(|datagram| datagram.truncate(DATAGRAM_BYTES_MAX));
    ROOM.with_borrow_mut(|room| {
        assert!(room.put_back(given.clone()).is_empty());
        let mut batch = Batch::new(room);
        for datagram in room.iter() {
            let Some(expected) = plain(datagram) else {
                continue;
            };
            match (batch.next().unwrap(), expected) {
                (Item::Packet(packet), Some(expected)) => {
                    assert_eq!(packet, &expected);
                    for slice in [packet.payload, packet.hw_source, packet.message] {
                        common::assert_inside(slice, datagram);
                    }
                    assert_id(datagram, packet);
                }
                (Item::Malformed(_), None) => {}
                (item, expected) => panic!("{item:?}, but plainly {expected:?}"),
            }
        }
        assert!(batch.next().is_none());
    });
}

/// A packet whose header comes first and only once, as the kernel writes it, gets its verdict.
fn assert_id(datagram: &[u8], packet: &Packet<'_>) {
    let headers = lwnflog::netlink::Attributes::new(&packet.message[4..])
        .flatten()
        .filter(|attribute| attribute.kind == attribute::PACKET_HDR);
    if headers.count() == 1 && packet.message[6..8] == attribute::PACKET_HDR.to_ne_bytes() {
        assert_eq!(packet_id(datagram), packet.sequence);
    }
}

/// Reads a datagram by offsets. `None` is nobody's packet, `Some(None)` a malformed one.
fn plain(datagram: &[u8]) -> Option<Option<Packet<'_>>> {
    if datagram.is_empty() {
        return None;
    }
    let u16_at = |at: usize| u16::from_ne_bytes([datagram[at], datagram[at + 1]]);
    if datagram.len() < 16 {
        return Some(None);
    }
    let end = u32::from_ne_bytes(datagram[..4].try_into().unwrap()) as usize;
    if end < 16 || end > datagram.len() {
        return Some(None);
    }
    if u16_at(4) != nfqueue::PACKET {
        return None;
    }
    if end < 20 {
        return Some(None);
    }
    let mut packet = Packet {
        family: datagram[16],
        group: u16::from_be_bytes([datagram[18], datagram[19]]),
        hw_type: Packet::HW_TYPE_UNKNOWN,
        message: &datagram[16..end],
        ..Packet::default()
    };
    let (mut header, mut payload, mut port_out) = (false, false, 0);
    let mut at = 20;
    while at < end {
        if at + 4 > end || u16_at(at) < 4 || at + usize::from(u16_at(at)) > end {
            return Some(None);
        }
        let (length, kind) = (usize::from(u16_at(at)), u16_at(at + 2) & 0x3fff);
        let value = &datagram[at + 4..at + length];
        let needed = match kind {
            attribute::PACKET_HDR => 7,
            attribute::TIMESTAMP => 16,
            attribute::HWADDR => 2,
            attribute::MARK
            | attribute::IFINDEX_INDEV
            | attribute::IFINDEX_OUTDEV
            | attribute::IFINDEX_PHYSINDEV
            | attribute::IFINDEX_PHYSOUTDEV
            | attribute::CAP_LEN => 4,
            _ => 0,
        };
        if value.len() < needed {
            return Some(None);
        }
        let number = |from: usize, bytes: usize| {
            let all = value[from..from + bytes].iter();
            all.fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let be32 = || u32::try_from(number(0, 4)).unwrap();
        match kind {
            attribute::PACKET_HDR => {
                packet.sequence = Some(be32());
                packet.protocol = u16::try_from(number(4, 2)).unwrap();
                packet.hook = value[6];
                header = true;
            }
            attribute::TIMESTAMP => {
                let us = u128::from(number(0, 8)) * 1_000_000 + u128::from(number(8, 8));
                packet.stamp_ticks = u64::try_from(us).ok().and_then(NonZeroU64::new);
            }
            attribute::HWADDR => {
                let address_end = 4 + usize::try_from(number(0, 2)).unwrap();
                let there = address_end <= value.len();
                packet.hw_source = if there { &value[4..address_end] } else { &[] };
            }
            attribute::PAYLOAD => {
                packet.payload = value;
                payload = true;
            }
            attribute::MARK => packet.mark = be32(),
            attribute::IFINDEX_INDEV => packet.ifindex_in = be32(),
            attribute::IFINDEX_OUTDEV => packet.ifindex_out = be32(),
            attribute::IFINDEX_PHYSINDEV => packet.ifindex_port = be32(),
            attribute::IFINDEX_PHYSOUTDEV => port_out = be32(),
            attribute::VLAN => match vlan(value) {
                Some(tag) => packet.vlan = tag,
                None => return Some(None),
            },
            attribute::CAP_LEN => packet.network_len = Some(be32()),
            _ => {}
        }
        at += length.next_multiple_of(4);
    }
    // At egress, output and postrouting a port is of the bridge that the packet leaves by.
    let way_out = match packet.family {
        5 => packet.hook == 1,
        _ => packet.hook == 3 || packet.hook == 4,
    };
    let in_is_unknown = packet.ifindex_port == 0 && packet.ifindex_in == 0;
    if way_out && packet.ifindex_out != 0 || in_is_unknown {
        packet.ifindex_port = port_out;
    }
    if packet.network_len.is_none() {
        packet.network_len = u32::try_from(packet.payload.len()).ok();
    }
    Some((header && payload).then_some(packet))
}

/// The tag in a nested attribute; the outer `None`: malformed.
fn vlan(nested: &[u8]) -> Option<Option<[u8; 4]>> {
    let u16_at = |at: usize| u16::from_ne_bytes([nested[at], nested[at + 1]]);
    let (mut protocol, mut tci, mut at) = (None, None, 0);
    while at < nested.len() {
        if nested.len() - at < 4 {
            return None;
        }
        let (length, kind) = (usize::from(u16_at(at)), u16_at(at + 2) & 0x3fff);
        let value = nested.get(at..at + length)?.get(4..)?;
        match kind {
            attribute::VLAN_PROTO => protocol = Some([*value.first()?, *value.get(1)?]),
            attribute::VLAN_TCI => tci = Some([*value.first()?, *value.get(1)?]),
            _ => {}
        }
        at += length.next_multiple_of(4);
    }
    let both = protocol.zip(tci);
    Some(both.map(|([p0, p1], [t0, t1])| [p0, p1, t0, t1]))
}

/// The datagrams that an input stands for: by a recipe, or as they stand, each behind its length.
fn datagrams(input: &[u8]) -> Vec<Vec<u8>> {
    let Some((how, rest)) = input.split_first() else {
        return Vec::new();
    };
    if how % 2 == 1 {
        let bodies = common::bodies(rest);
        return bodies
            .iter()
            .map(|body| common::message(nfqueue::PACKET, body))
            .collect();
    }
    let mut rest = rest;
    let mut datagrams = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        datagrams.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    datagrams
}

fn seeds() -> Vec<Vec<u8>> {
    use common::op::{AGAIN, END};
    let recipe = [
        &[1, 1, 7, 0, 0, 0, 1, 8, 0, 0, 5, 4, 0, 0, 0, 2][..],
        &[9, 12, 0, 6, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 3, 4, 0, 0, 0, 42],
        &[
            4, 16, 0, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0, 0, 0, 1, 226, 64, 13, 4, 0, 0, 0, 84,
        ],
        &[10, 8, 0x45, 0, 0, 84, 0, 0, 0, 0, END],
        &[
            1, 7, 0, 0, 0, 2, 8, 0, 4, 6, 4, 0, 0, 0, 3, 10, 1, 0x45, AGAIN, 2, 0x45, 0,
        ],
    ]
    .concat();
    let mut raw = vec![0];
    for datagram in datagrams(&recipe) {
        raw.extend(u16::try_from(datagram.len()).unwrap().to_le_bytes());
        raw.extend(datagram);
    }
    vec![recipe, raw]
}
