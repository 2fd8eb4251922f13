//! The bytes of each block and record, written out from the specifications
//! (draft-ietf-opsawg-pcapng, draft-ietf-opsawg-pcap); and what another parser reads of any record.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::num::NonZeroU64;

use common::datagrams::hit_of;
use common::files::{Contents, Record, parse};
use lwnflog::format::pcap::Pcap;
use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::pcapng::block::put_padding;
use lwnflog::format::{Context, Format, Frame, HEAD_BYTES, Interfaces, LinkType};
use lwnflog::packet::Packet;
use proptest::prelude::*;

/// 2023-11-14 22:13:20.123456 UTC
const STAMP_US: u64 = 1_700_000_000_123_456;
/// The start of an IPv4 packet of 100 bytes; 24 of them are there.
const PAYLOAD: [u8; 24] = [
    0x45, 0, 0, 100, 0, 0, 0x40, 0, 64, 17, 0xab, 0xcd, 198, 18, 0, 1, 198, 18, 0, 2, 0xde, 0xad,
    0xbe, 0xef,
];
const HEADER: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];

/// Reads `0a 0b` and so on; whatever stands behind a `;` is a comment.
fn hex(text: &str) -> Vec<u8> {
    let code = text.lines().map(|line| line.split(';').next().unwrap());
    let digits: String = code
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn packet() -> Packet<'static> {
    Packet {
        payload: &PAYLOAD,
        hw_header: &HEADER,
        hw_type: 1,
        stamp_ticks: NonZeroU64::new(STAMP_US),
        sequence: Some(1),
        protocol: 0x0800,
        ifindex_in: 3,
        ..Packet::default()
    }
}

fn pcapng(link: LinkType, snaplen: u32) -> PcapNg {
    let interfaces = Interfaces::new(|index| Some(format!("if{index}")));
    PcapNg::new(
        link,
        snaplen,
        "NFLOG group 5".to_owned(),
        65_536,
        interfaces,
    )
}

/// The block that declares the packet's interface, if it is new, and its record.
fn record<F: Format>(
    format: &mut F,
    packet: &Packet<'_>,
    link: LinkType,
    snaplen: u32,
    lost_before: u64,
) -> (Vec<u8>, Vec<u8>) {
    let declaration = match format.interface(packet.ifindex()) {
        Some(_) => Vec::new(),
        None => format.declare(packet),
    };
    let frame = Frame::new(packet, link, snaplen);
    let interface = format.interface(packet.ifindex()).unwrap();
    let stamp_ticks = packet.stamp_ticks.map_or(0, u64::from);
    let context = Context {
        stamp_ticks,
        lost_before,
        interface,
    };
    // What was there before must not show through.
    let mut bytes = vec![0xee; format.record_bytes(packet, &frame, &context)];
    assert!(bytes.len() <= F::record_bytes_max(snaplen as usize));
    let head = format.encode(packet, &frame, &context, (&mut bytes).into());
    assert_eq!(
        bytes[..HEAD_BYTES],
        [0xee; HEAD_BYTES],
        "the head is left alone"
    );
    bytes[..HEAD_BYTES].copy_from_slice(&head);
    // The fast way, where there is one, makes the same bytes.
    if lost_before == 0
        && let Some(hit) = hit_of(packet)
        && let Some((template, options)) = format.template(packet, link, snaplen, interface)
    {
        let body = template.body(&hit);
        let mut out = vec![0xee; F::hit_bytes(&template, options.bytes(), body)];
        let head = F::encode_hit(&template, options.bytes(), &hit, body, (&mut out).into());
        out[..HEAD_BYTES].copy_from_slice(&head);
        assert_eq!(out, bytes);
    }
    (declaration, bytes)
}

fn begin<F: Format>(format: &mut F) -> Vec<u8> {
    let mut bytes = Vec::new();
    format.begin(&mut |block| bytes.extend_from_slice(block));
    bytes
}

/// `record` compares the fast way with the other where there is one: here it has to be.
#[test]
fn plain_marked_and_prefixed_packets_have_templates() {
    let marked = Packet {
        mark: 0x2a,
        prefix: &[b'p'; 127],
        ..packet()
    };
    let headerless = Packet {
        hw_header: &[],
        hw_type: 65_534,
        ..packet()
    };
    for packet in [packet(), marked, headerless] {
        for link in [LinkType::Ethernet, LinkType::Ip] {
            assert!(pcapng(link, 128).template(&packet, link, 128, 0).is_some());
            assert!(
                Pcap::new(link, 128)
                    .template(&packet, link, 128, 0)
                    .is_some()
            );
            record(&mut pcapng(link, 128), &packet, link, 128, 0);
            record(&mut Pcap::new(link, 128), &packet, link, 128, 0);
        }
    }
}

#[test]
fn section_header_block() {
    let mut expected = hex(
        "0a0d0d0a 5c000000 ; type, total length
         4d3c2b1a 0100 0000 ffffffffffffffff ; byte order, version 1.0, length not said
         0100 1500 6c776e666c6f67207365676d656e743d3635353336 000000 ; comment: lwnflog segment=65536
         0300 0500 6c696e7578 000000 ; OS: linux
         0400 0d00 6c776e666c6f6720 302e312e30 000000 ; application: lwnflog 0.1.0
         0000 0000
         5c000000",
    );
    // The version is the package's.
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    assert_eq!(version.len(), 5, "write this test's length anew");
    expected[76..81].copy_from_slice(version);
    assert_eq!(begin(&mut pcapng(LinkType::Ethernet, 128)), expected);

    let mut noting = pcapng(LinkType::Ethernet, 128).with_boot_id(Some("0c5b".to_owned()));
    let (noting, note) = (begin(&mut noting), b"lwnflog segment=65536 boot=0c5b\0\x03");
    assert_eq!(noting[28..28 + note.len()], note[..]);
}

#[test]
fn interface_description_block() {
    let (declaration, _) = record(
        &mut pcapng(LinkType::Ethernet, 128),
        &packet(),
        LinkType::Ethernet,
        128,
        0,
    );
    let expected = hex("01000000 54000000
         0100 0000 80000000 ; Ethernet, snap length 128
         0200 0300 696633 00 ; name: if3
         0300 0d00 4e464c4f472067726f75702035 000000 ; description: NFLOG group 5
         0900 0100 06 000000 ; microseconds
         0100 1300 6c776e666c6f6720 696e746572666163653d30 00 ; comment: lwnflog interface=0
         0000 0000
         54000000");
    assert_eq!(declaration, expected);
}

#[test]
fn enhanced_packet_block() {
    let (_, bytes) = record(
        &mut pcapng(LinkType::Ethernet, 128),
        &packet(),
        LinkType::Ethernet,
        128,
        0,
    );
    let expected = hex("06000000 54000000
         00000000 240a0600 40222018 ; interface 0, time 0x00060a24_18202240
         26000000 72000000 ; 38 bytes of 114
         020000000002020000000001 0800
         45000064000040004011abcdc6120001c6120002deadbeef 0000
         0200 0400 01000000 ; flags: inbound
         0000 0000
         54000000");
    assert_eq!(bytes, expected);
}

#[test]
fn enhanced_packet_block_with_everything() {
    let packet = Packet {
        mark: 0x2a,
        prefix: b"in: \xff",
        hook: 4,
        ..packet()
    };
    let (_, bytes) = record(
        &mut pcapng(LinkType::Ip, 22),
        &packet,
        LinkType::Ip,
        22,
        1000,
    );
    let expected = hex(
        "06000000 70000000
         00000000 240a0600 40222018
         16000000 64000000 ; 22 bytes of 100
         45000064000040004011abcdc6120001c6120002dead 0000
         0100 1c00 6d61726b3d3078303030303030326120 7072656669783d696e3a203f ; mark=0x0000002a prefix=in: ?
         0400 0800 e803000000000000 ; 1000 lost before
         0200 0400 02000000 ; flags: outbound
         0000 0000
         70000000",
    );
    assert_eq!(bytes, expected);
}

#[test]
fn interface_statistics_block() {
    let mut format = pcapng(LinkType::Ethernet, 128);
    record(&mut format, &packet(), LinkType::Ethernet, 128, 0);
    let later = Packet {
        stamp_ticks: NonZeroU64::new(STAMP_US + 1),
        ..packet()
    };
    record(&mut format, &later, LinkType::Ethernet, 128, 5);
    let mut bytes = Vec::new();
    format.end(&mut |block| bytes.extend_from_slice(block));
    let expected = hex("05000000 58000000
         00000000 240a0600 41222018
         0200 0800 240a0600 40222018 ; start
         0300 0800 240a0600 41222018 ; end
         0600 0800 0700000000000000 ; accepted by the rule: 2 and 5
         0700 0800 0500000000000000 ; lost
         0800 0800 0200000000000000 ; delivered
         0000 0000
         58000000");
    assert_eq!(bytes, expected);
    // Beside it there is room for a note that no record has carried.
    assert_eq!(bytes.len() + 260, format.end_bytes());
    format.note(&"x".repeat(1000));
    bytes.clear();
    format.end(&mut |block| bytes.extend_from_slice(block));
    assert_eq!(bytes.len(), format.end_bytes());
    let note = format!(
        "{} ... (more was noted than a record holds)",
        "x".repeat(256 - 41)
    );
    assert!(bytes.windows(256).any(|text| text == note.as_bytes()));
    bytes.clear();
    format.end(&mut |block| bytes.extend_from_slice(block));
    assert_eq!(bytes, expected, "it is said once");
}

#[test]
fn padding_blocks() {
    let mut space = [0xaa; 16];
    put_padding(&mut space);
    assert_eq!(space[..], hex("776c0080 10000000 aaaaaaaa 10000000"));
    let mut smallest = [0xaa; 12];
    put_padding(&mut smallest);
    assert_eq!(smallest[..], hex("776c0080 0c000000 0c000000"));
    put_padding(&mut []);
}

#[test]
fn pcap_file_header_and_record() {
    let mut format = Pcap::new(LinkType::Ip, 128);
    assert_eq!(
        begin(&mut format),
        hex("d4c3b2a1 0200 0400 00000000 00000000 80000000 e4000000")
    );
    let (_, bytes) = record(&mut format, &packet(), LinkType::Ip, 128, 7);
    let expected = hex("00f15365 40e20100 ; seconds, microseconds
         18000000 64000000 ; 24 bytes of 100
         45000064000040004011abcdc6120001c6120002deadbeef");
    assert_eq!(bytes, expected);
}

#[test]
fn link_types_have_the_registered_numbers() {
    let numbers = [LinkType::Ethernet, LinkType::Ip, LinkType::Nflog].map(LinkType::number);
    assert_eq!(numbers, [1, 228, 239]);
}

/// The parts of a packet, owned.
#[derive(Debug, Clone)]
struct Parts {
    payload: Vec<u8>,
    ethernet: bool,
    prefix: Vec<u8>,
    mark: u32,
    ifindex: u32,
    stamp_ticks: u64,
    total_len: u16,
    outbound: bool,
    lost_before: u64,
}

impl Parts {
    fn packet(&self) -> Packet<'_> {
        Packet {
            payload: &self.payload,
            hw_header: if self.ethernet { &HEADER } else { &[] },
            hw_type: if self.ethernet { 1 } else { 65_534 },
            prefix: &self.prefix,
            message: &self.payload,
            stamp_ticks: NonZeroU64::new(self.stamp_ticks),
            sequence: Some(1),
            mark: self.mark,
            ifindex_in: self.ifindex,
            protocol: 0x0800,
            // Of the bridge, whose hooks have the header on the way out as well.
            family: 7,
            hook: if self.outbound { 4 } else { 0 },
            ..Packet::default()
        }
    }

    /// What a reader is to find.
    fn expected(&self, interface: u32, link: LinkType, snaplen: usize) -> Record {
        let header: &[u8] = match (link, self.ethernet) {
            (LinkType::Ethernet, true) => &HEADER,
            (LinkType::Ethernet, false) => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0],
            _ => &[],
        };
        let mut data = [header, &self.payload].concat();
        let whole = usize::from(self.total_len).max(self.payload.len()) + header.len();
        if link != LinkType::Nflog {
            data.truncate(snaplen);
        }
        let prefix: String = self
            .prefix
            .iter()
            .take(127)
            .map(|byte| {
                if byte.is_ascii() {
                    char::from(*byte)
                } else {
                    '?'
                }
            })
            .collect();
        let comment = match (self.mark, prefix.as_str()) {
            (0, "") => None,
            (0, prefix) => Some(format!("prefix={prefix}")),
            (mark, "") => Some(format!("mark=0x{mark:08x}")),
            (mark, prefix) => Some(format!("mark=0x{mark:08x} prefix={prefix}")),
        };
        Record {
            interface,
            stamp_ticks: self.stamp_ticks,
            original: u32::try_from(whole).unwrap(),
            data,
            comment,
            dropcount: self.lost_before,
            flags: if self.outbound { 2 } else { 1 },
        }
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        (
            prop::collection::vec(any::<u8>(), 20..300),
            any::<bool>(),
            any::<u16>(),
        ),
        (
            prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..140)],
            prop_oneof![Just(0), any::<u32>()],
        ),
        (
            0u32..4,
            1..u64::from(u32::MAX) * 1_000_000,
            any::<bool>(),
            prop_oneof![Just(0), any::<u64>()],
        ),
    )
        .prop_map(
            |(
                (mut payload, ethernet, total_len),
                (prefix, mark),
                (ifindex, stamp_ticks, outbound, lost_before),
            )| {
                payload[0] = 0x45;
                payload[2..4].copy_from_slice(&total_len.to_be_bytes());
                Parts {
                    payload,
                    ethernet,
                    prefix,
                    mark,
                    ifindex,
                    stamp_ticks,
                    total_len,
                    outbound,
                    lost_before: lost_before >> 8,
                }
            },
        )
}

fn link() -> impl Strategy<Value = LinkType> {
    prop_oneof![
        Just(LinkType::Ethernet),
        Just(LinkType::Ip),
        Just(LinkType::Nflog)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 500 }))]

    #[test]
    fn any_record_is_read_back(all in prop::collection::vec(parts(), 1..8), link in link(), snaplen in prop_oneof![1u32..60, 60u32..400]) {
        let mut format = pcapng(link, snaplen);
        let mut file = begin(&mut format);
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        for parts in &all {
            // With link type NFLOG the attributes come on top: the kernel has cut the packet.
            let longest = if link == LinkType::Nflog { 400 } else { snaplen };
            let (declaration, bytes) = record(&mut format, &parts.packet(), link, longest, parts.lost_before);
            file.extend(declaration);
            file.extend(bytes);
            if !seen.contains(&parts.ifindex) {
                seen.push(parts.ifindex);
            }
            let interface = seen.iter().position(|index| *index == parts.ifindex).unwrap();
            expected.push(parts.expected(u32::try_from(interface).unwrap(), link, snaplen as usize));
        }
        format.end(&mut |block| file.extend_from_slice(block));
        let found: Contents = parse(&file).unwrap();
        prop_assert_eq!(found.packets, expected);
        prop_assert_eq!(found.statistics.len(), seen.len());
        let delivered: u64 = found.statistics.iter().map(|statistics| statistics.delivered).sum();
        prop_assert_eq!(delivered, all.len() as u64);
    }

    #[test]
    fn any_classic_record_is_read_back(all in prop::collection::vec(parts(), 1..8), snaplen in 1u32..400) {
        let mut format = Pcap::new(LinkType::Ethernet, snaplen);
        let mut file = begin(&mut format);
        for parts in &all {
            file.extend(record(&mut format, &parts.packet(), LinkType::Ethernet, snaplen, parts.lost_before).1);
        }
        let found = parse(&file).unwrap();
        let expected: Vec<_> = all.iter().map(|parts| {
            let record = parts.expected(0, LinkType::Ethernet, snaplen as usize);
            Record { comment: None, dropcount: 0, flags: 0, ..record }
        }).collect();
        prop_assert_eq!(found.packets, expected);
    }
}
