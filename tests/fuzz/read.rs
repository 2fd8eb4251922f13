//! Fuzz target: reading any bytes as a capture ends, keeps to what is there, and neither a line, nor a
//! filter, nor a report, nor a table, nor a way, nor a copy of it fails; any text is a filter or has a place that is wrong.
//!
//! The first byte of an input says whether the rest is a capture, or a filter's text.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::path::Path;

use lwnflog::export::row::Table;
use lwnflog::path::{Packet, Tracker, Ways};
use lwnflog::read::anonymize::{Anonymizer, Keep, Key};
use lwnflog::read::filter::Filter;
use lwnflog::read::input::Input;
use lwnflog::read::line::{describe, hex};
use lwnflog::read::packets::Packets;
use lwnflog::read::write::{Kind, Writer};
use lwnflog::report::page::{Subject, page};
use lwnflog::report::tally::Tally;

common::target!(seeds, check);

/// Tests of every kind.
const FILTER: &str = "(host 10.0.0.1 or net 10.0.0.0/8 or ip6 host ::1 or portrange 20-100 or tcp port 80) and \
                      (less 1000 or lost or mark 0x1/0x1 or iface eth0 or prefix x or not icmp)";

const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3ca9f5ba40db214c3798f2e1c23456789a";

fn check(input: &[u8]) {
    match input.split_first() {
        Some((how, rest)) if how % 2 == 1 => check_filter(rest),
        Some((_, rest)) => check_capture(rest),
        None => {}
    }
}

fn check_filter(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match Filter::parse(text) {
        Ok(filter) => assert_eq!(Filter::parse(text).unwrap(), filter),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_capture(bytes: &[u8]) {
    let Ok(mut packets) = Packets::of(Path::new("fuzz"), Input::of_bytes(bytes.to_vec())) else {
        return;
    };
    let filter = Filter::parse(FILTER).unwrap();
    let kinds = [Kind::Pcapng, Kind::Pcap];
    let mut copies = kinds.map(|kind| Writer::begin(Vec::new(), kind).unwrap());
    let mut anonymizers = [false, true].map(|all| {
        let keep = Keep {
            macs: all,
            payload: all,
        };
        Anonymizer::new(&Key::parse(KEY).unwrap(), keep)
    });
    let mut tally = Tally::default();
    let (mut tracker, mut ways, mut table) = (Tracker::default(), Ways::default(), Table::new(8));
    let (mut line, mut read) = (String::new(), 0);
    while let Ok(true) = packets.advance() {
        let record = packets.record().unwrap();
        assert!(record.data.len() <= bytes.len());
        line.clear();
        describe(&record, &mut line);
        assert!(!line.is_empty());
        hex(&record, &mut line);
        let _ = (filter.takes(&record), record.mark(), record.prefix());
        tally.add(&record);
        table.add(&record);
        tracker.take(&record, true, &mut |packet| ways.add(packet));
        for anonymizer in &mut anonymizers {
            assert!(anonymizer.record(&record).data.len() <= record.data.len());
        }
        for copy in &mut copies {
            // A classic file has one link type.
            let _ = copy.write(&record);
        }
        read += 1;
        assert!(read <= bytes.len() / 12, "more packets than blocks");
    }
    tracker.finish(&mut |packet| ways.add(packet));
    assert_eq!(table.rows.len(), read);
    assert!(ways.packets() <= read as u64);
    let show = |packet: &Packet| packet.text("");
    assert!(ways.text(tracker.seen(), &show).contains("last seen at"));
    let clock = |time_ns: u64| time_ns.to_string();
    let subject = Subject {
        title: "fuzz",
        tally: &tally,
    };
    assert!(page(&[subject], &clock).ends_with("</html>"));
}

/// A capture of each format, and filters.
fn seeds() -> Vec<Vec<u8>> {
    let frame = |protocol: u8| {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 60, 0, 1, 0, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0, 80]);
        frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 2, 1, 0, 0, 0, 0, 0]);
        frame
    };
    let interface = lwnflog::read::Interface {
        name: "eth0".to_owned(),
        link: 1,
        ..Default::default()
    };
    let mut seeds = Vec::new();
    for kind in [Kind::Pcapng, Kind::Pcap] {
        let mut bytes = vec![0];
        let mut writer = Writer::begin(&mut bytes, kind).unwrap();
        for (number, protocol) in [6, 17, 1, 58].into_iter().enumerate() {
            let record = lwnflog::read::Record {
                time_ns: 1_764_252_000_000_000_000 + number as u64,
                interface: &interface,
                data: &frame(protocol),
                original_len: 74,
                lost_before: number as u64,
                flags: 0,
                comment: "mark=0x00000001 prefix=x",
                note: "lwnflog x",
            };
            writer.write(&record).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        seeds.push(bytes);
    }
    for text in [
        FILTER,
        "src net 10.0.0.0 mask 255.0.0.0",
        "port 80 or 443 or domain",
        "",
    ] {
        seeds.push([&[1], text.as_bytes()].concat());
    }
    seeds
}
