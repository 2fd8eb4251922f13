//! Fuzz target: a group's fast walk, by the messages' templates, finds what the plain one finds,
//! each slice inside the datagram; and counting counts as many.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use lwnflog::netlink::Messages;
use lwnflog::packet::Packet;
use lwnflog::source::nflog::message as nflog;
use lwnflog::source::nflog::template::Templates;
use lwnflog::source::nflog::{Batch, count};
use lwnflog::source::{Hits, Item, TEMPLATES_MAX, Walk};

common::target!(common::nflog_seeds, check);

fn check(input: &[u8]) {
    let datagram = &common::nflog_datagram(input)[..];
    let mut templates = Templates::default();
    // By template, the packet that it was learned from.
    let mut learned = [None; TEMPLATES_MAX];
    // The second time with what was learned in the first, as from an earlier datagram.
    for _ in 0..2 {
        check_walk(datagram, &mut templates, &mut learned);
    }
}

fn check_walk<'a>(
    datagram: &'a [u8],
    templates: &mut Templates,
    learned: &mut [Option<Packet<'a>>; TEMPLATES_MAX],
) {
    let walk = || {
        Messages::new(datagram)
            .filter(|message| !matches!(message, Ok(message) if message.kind != nflog::PACKET))
            .map(|message| nflog::parse(&message?))
    };
    let mut plain = walk();
    let mut batch = Batch::new(datagram, templates);
    let mut items = 0;
    loop {
        let mut room = items % 5;
        while let Some(template) = batch.template() {
            let items_before = items;
            let mut hits = batch.hits(template).unwrap();
            // Where there is no more room the walk goes on with it.
            while let Some(hit) = hits.peek()
                && room != 0
            {
                room -= 1;
                items += 1;
                let packet = hit.packet(&learned[template].unwrap());
                assert_same(&packet, plain.next().unwrap().unwrap(), datagram);
                hits.pass();
            }
            drop(hits);
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
                if let Some(template) = packet.template {
                    learned[template] = expected.ok();
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
        template: None, // which the plain walk does not know
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
