//! Fuzz target: a group's fast walk, by the messages' shapes, finds what the plain one finds, each slice
//! inside the datagram; and counting counts as many.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use lwnflog::netlink::Messages;
use lwnflog::packet::Packet;
use lwnflog::source::SHAPES;
use lwnflog::source::nflog::message as nflog;
use lwnflog::source::nflog::template::Shapes;
use lwnflog::source::nflog::{Batch, count};
use lwnflog::source::{Item, Walk};

common::target!(common::nflog_seeds, check);

fn check(input: &[u8]) {
    let datagram = &common::nflog_datagram(input)[..];
    let mut shapes = Shapes::default();
    // By shape, the packet that it was learned from.
    let mut learned = [None; SHAPES];
    // The second time with what was learned in the first, as from an earlier datagram.
    for _ in 0..2 {
        check_walk(datagram, &mut shapes, &mut learned);
    }
}

fn check_walk<'a>(
    datagram: &'a [u8],
    shapes: &mut Shapes,
    learned: &mut [Option<Packet<'a>>; SHAPES],
) {
    let walk = || {
        Messages::new(datagram)
            .filter(|message| !matches!(message, Ok(message) if message.kind != nflog::PACKET))
            .map(|message| nflog::parse(&message?))
    };
    let mut plain = walk();
    let mut batch = Batch::new(datagram, shapes);
    let mut items = 0;
    loop {
        let mut room = items % 5;
        while let Some(shape) = batch.shape() {
            let items_before = items;
            batch.twins(shape, |twin| {
                if room == 0 {
                    return false; // the walk goes on with it
                }
                room -= 1;
                items += 1;
                let packet = twin.packet(&learned[shape].unwrap());
                assert_same(&packet, plain.next().unwrap().unwrap(), datagram);
                true
            });
            if items == items_before {
                break;
            }
        }
        let Some(item) = batch.next() else { break };
        let expected = plain.next().unwrap();
        items += 1;
        match item {
            Item::Packet(packet) => {
                assert_same(packet, expected.unwrap(), datagram);
                if let Some(shape) = packet.shape {
                    learned[shape] = expected.ok();
                }
            }
            Item::Malformed(error) => assert_eq!(Err(error), expected),
        }
    }
    assert_eq!(plain.next(), None);
    let count = count(datagram);
    assert_eq!(count.packets + u64::from(count.malformed), items);
    let numbers = walk().map(|packet| packet.ok()?.sequence);
    let first = numbers.enumerate().find(|(_, number)| number.is_some());
    assert_eq!(count.first_sequence, first.and_then(|(_, number)| number));
    if let Some((unnumbered, _)) = first {
        assert_eq!(count.unnumbered, unnumbered as u64);
    }
}

fn assert_same(packet: &Packet<'_>, expected: Packet<'_>, datagram: &[u8]) {
    let same = Packet {
        shape: None, // which the plain walk does not know
        ..*packet
    };
    assert_eq!(same, expected);
    for slice in [
        packet.payload,
        packet.hw_header,
        packet.hw_source,
        packet.prefix,
        packet.message,
    ] {
        common::assert_inside(slice, datagram);
    }
    // Of equal bytes, those of this message.
    assert_eq!(packet.message.as_ptr(), expected.message.as_ptr());
    common::assert_inside(packet.payload, packet.message);
}
