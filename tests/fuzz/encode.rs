//! Fuzz target: what a datagram's packets are encoded to, `pcap-parser` reads back, every field of
//! every record, whatever the link type, the snap length and what stood in the file before.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::num::NonZeroU64;

use common::contents::{Record, parse};
use lwnflog::format::pcap::Pcap;
use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::{Context, Format, Frame, HEAD_BYTES, Interfaces, LinkType, Space};
use lwnflog::packet::{Direction, Packet};
use lwnflog::source::nflog::Batch;
use lwnflog::source::nflog::template::Templates;
use lwnflog::source::{Item, Walk};

common::target!(seeds, check);

/// Larger than anything that an input describes: a file of one segment.
const SEGMENT_BYTES: usize = 1 << 22;
/// Times of classic pcap end in 2106.
const SECONDS_MAX: u64 = 0xffff_ffff;

/// Two bytes say what to encode, the rest is an input of NFLOG.
fn check(input: &[u8]) {
    let Some((&[settings, snaplen], input)) = input.split_first_chunk::<2>() else {
        return;
    };
    let link = [LinkType::Ethernet, LinkType::Ip, LinkType::Nflog][usize::from(settings % 3)];
    let snaplen = match snaplen {
        0 => 0xffff,
        snaplen => u32::from(snaplen),
    };
    let datagram = common::nflog_datagram(input);
    if settings / 3 % 2 == 0 {
        let interfaces = Interfaces::new(|index| Some(format!("if{index}")));
        let format = PcapNg::new(link, snaplen, "fuzz".to_owned(), SEGMENT_BYTES, interfaces);
        check_format(format, link, snaplen, &datagram);
    } else {
        check_format(Pcap::new(link, snaplen), link, snaplen, &datagram);
    }
}

fn check_format<F: Format>(mut format: F, link: LinkType, snaplen: u32, datagram: &[u8]) {
    let mut file = Vec::new();
    let (mut expected, mut interfaces) = (Vec::new(), Vec::new());
    format.begin(&mut |block| file.extend_from_slice(block));
    let mut templates = Templates::default();
    let mut batch = Batch::new(datagram, &mut templates);
    while let Some(item) = batch.next() {
        let Item::Packet(packet) = item else { continue };
        if !interfaces.contains(&packet.ifindex()) {
            interfaces.push(packet.ifindex());
        }
        let record = expect::<F>(packet, link, snaplen, &interfaces);
        // Classic pcap has no record for what no frame is left of: the capture makes none.
        if F::PADDING_BLOCKS || !record.data.is_empty() {
            encode(&mut format, packet, link, snaplen, &record, &mut file);
            expected.push(record);
        }
    }
    let before_end = file.len();
    format.end(&mut |block| file.extend_from_slice(block));
    assert!(file.len() - before_end <= format.end_bytes());
    let found = parse(&file).unwrap();
    assert_eq!(found.packets, expected);
    if F::PADDING_BLOCKS {
        let names = interfaces.iter().map(|index| format!("if{index}"));
        assert!(
            found
                .interfaces
                .iter()
                .map(|interface| interface.name.clone())
                .eq(names)
        );
        let sum = |figure: fn(&common::contents::Statistics) -> u64| -> u64 {
            found.statistics.iter().map(figure).sum()
        };
        assert_eq!(
            sum(|statistics| statistics.delivered),
            expected.len() as u64
        );
        let lost: u64 = expected.iter().map(|record| record.dropcount).sum();
        assert_eq!(sum(|statistics| statistics.dropped), lost);
    }
}

/// Some packets have lost ones before them.
fn lost_before(packet: &Packet<'_>) -> u64 {
    u64::from(packet.sequence.unwrap_or(0) & 3)
}

fn stamp_ticks(packet: &Packet<'_>) -> u64 {
    packet.stamp_ticks.map_or(0, NonZeroU64::get)
}

/// The record of a packet, put together the simple way.
fn expect<F: Format>(
    packet: &Packet<'_>,
    link: LinkType,
    snaplen: u32,
    interfaces: &[u32],
) -> Record {
    let mut header = match (link, packet.ethernet_header()) {
        (LinkType::Ethernet, Some(header)) => header.to_vec(),
        (LinkType::Ethernet, None) => {
            // On the way out of IP there is no header yet.
            let leaves = matches!(packet.hook, 3 | 4) && !matches!(packet.family, 5 | 7);
            let source = match packet.hw_source.len() {
                6 if !leaves => packet.hw_source,
                _ => &[0; 6],
            };
            let protocol: &[u8] = if packet.protocol == 0x86dd {
                &[0x86, 0xdd]
            } else {
                &[8, 0]
            };
            [&[0; 6], source, protocol].concat()
        }
        (LinkType::Ip | LinkType::RawIp | LinkType::Nflog, _) => Vec::new(),
    };
    if let (LinkType::Ethernet, Some(tag)) = (link, packet.vlan) {
        header.splice(12..12, tag);
    }
    let mut original = u32::try_from(header.len()).unwrap() + packet.network_len();
    let data = if link == LinkType::Nflog {
        let cut = original - u32::try_from(packet.payload.len()).unwrap();
        original = u32::try_from(packet.message.len()).unwrap() + cut;
        packet.message.to_vec()
    } else {
        header.extend_from_slice(packet.payload);
        header.truncate(snaplen as usize);
        header
    };
    let mut record = Record {
        stamp_ticks: stamp_ticks(packet),
        original,
        data,
        ..Record::default()
    };
    if !F::PADDING_BLOCKS {
        let seconds = (record.stamp_ticks / 1_000_000).min(SECONDS_MAX);
        record.stamp_ticks = seconds * 1_000_000 + record.stamp_ticks % 1_000_000;
        return record;
    }
    let place = interfaces
        .iter()
        .position(|index| *index == packet.ifindex());
    record.interface = u32::try_from(place.unwrap()).unwrap();
    record.dropcount = lost_before(packet);
    record.flags = match packet.direction() {
        Direction::Inbound => 1,
        Direction::Outbound => 2,
    };
    let mark = (packet.mark != 0).then(|| format!("mark=0x{:08x}", packet.mark));
    let text = packet.prefix.iter().take(127).map(|byte| match byte {
        0..=127 => char::from(*byte),
        _ => '?',
    });
    let prefix = (!packet.prefix.is_empty()).then(|| format!("prefix={}", String::from_iter(text)));
    let comment: Vec<String> = mark.into_iter().chain(prefix).collect();
    record.comment = (!comment.is_empty()).then(|| comment.join(" "));
    record
}

/// Encodes one record at the end of `file`, behind the block of its interface if that is new.
fn encode<F: Format>(
    format: &mut F,
    packet: &Packet<'_>,
    link: LinkType,
    snaplen: u32,
    record: &Record,
    file: &mut Vec<u8>,
) {
    if format.interface(packet.ifindex()).is_none() {
        let block = format.declare(packet);
        file.extend(block);
    }
    let frame = Frame::new(packet, link, snaplen);
    assert_eq!(frame.captured_len(), record.data.len());
    let context = Context {
        stamp_ticks: stamp_ticks(packet),
        lost_before: lost_before(packet),
        interface: format.interface(packet.ifindex()).unwrap(),
    };
    let len = format.record_bytes(packet, &frame, &context);
    assert!(len <= F::record_bytes_max(frame.captured_len()));
    // A recycled file's bytes: none of them may show through.
    let at = file.len();
    file.resize(at + len, 0xee);
    let head = format.encode(packet, &frame, &context, Space::from(&mut file[at..]));
    assert_eq!(
        file[at..at + HEAD_BYTES],
        [0xee; HEAD_BYTES],
        "the head is left alone"
    );
    file[at..at + HEAD_BYTES].copy_from_slice(&head);
    // The fast way, where there is one, makes the same bytes.
    if context.lost_before == 0
        && let Some(hit) = common::datagrams::hit_of(packet)
        && let Some((template, options)) = format.template(packet, link, snaplen, context.interface)
    {
        let body = template.body(&hit);
        let mut out = vec![0xee; F::hit_bytes(&template, options.bytes(), body)];
        let head = F::encode_hit(&template, options.bytes(), &hit, body, (&mut out).into());
        out[..HEAD_BYTES].copy_from_slice(&head);
        assert_eq!(out, file[at..]);
    }
    if F::PADDING_BLOCKS {
        let data = at + 28;
        let padding = data + record.data.len()..data + record.data.len().next_multiple_of(4);
        assert!(file[padding].iter().all(|byte| *byte == 0));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let settings = [[0, 0], [0, 10], [1, 60], [2, 128], [3, 96], [4, 0], [5, 0]];
    common::nflog_seeds()
        .into_iter()
        .zip(settings.into_iter().cycle())
        .map(|(seed, settings)| [&settings[..], &seed].concat())
        .collect()
}
