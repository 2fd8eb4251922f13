//! The hook's program on the real kernel: loaded, attached, and held to the packet against what was
//! sent.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::HashSet;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::{Arc, mpsc};

use common::{lab, namespace, nft, run_in, send_frames, until};
use etherparse::{IpNumber, PacketBuilder};
use lwnflog::account::Account;
use lwnflog::capture::{Capture, Control, Discard, FileSink, Outcome};
use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::{Format, Interfaces, LinkType};
use lwnflog::lab::{Lab, Marker, Namespace, RX, Traffic};
use lwnflog::ring::{Access, Limits, Ring, RingConfig, Store, segment_bytes_for};
use lwnflog::source::hook::{Cutoff, Hook, HookConfig, HookError, HookPoint, PRIORITY_DEFAULT};
use lwnflog::source::{Arrival, Item, Ledger, Source, Walk};
use lwnflog::sys::capabilities::give_up;
use lwnflog::sys::hook::program_exists;

/// What came, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    frame: Vec<u8>,
    payload: Vec<u8>,
    original: u32,
    interface: u32,
    mark: u32,
    stamp_ns: u64,
    sequence: u32,
}

fn whole() -> HookConfig {
    HookConfig::new(HookPoint::Prerouting, 524_288)
}

fn open(namespace: &Namespace, config: HookConfig) -> Hook {
    namespace
        .run(|| Hook::open(config))
        .unwrap()
        .unwrap_or_else(|error| panic!("{error}"))
}

fn take(hook: &mut Hook, seen: &mut Vec<Seen>) {
    let mut batch = hook.batch();
    while let Some(item) = batch.next() {
        let Item::Packet(packet) = item else {
            panic!("{item:?}")
        };
        seen.push(Seen {
            frame: [packet.hw_header, packet.payload].concat(),
            payload: packet.payload.to_vec(),
            original: packet.network_len(),
            interface: packet.ifindex(),
            mark: packet.mark,
            stamp_ns: packet.stamp_ticks.unwrap().get(),
            sequence: packet.sequence.unwrap(),
        });
    }
    hook.finish_batch().unwrap();
}

/// Detaches, and reads what there is. The account has to come out to the packet.
fn finish(mut hook: Hook, mut seen: Vec<Seen>) -> (Vec<Seen>, Ledger) {
    hook.detach().unwrap();
    while hook.receive(false).unwrap() == Arrival::Batch {
        take(&mut hook, &mut seen);
    }
    let ledger = hook.ledger().unwrap();
    assert_eq!(ledger.unreadable, 0, "{ledger:?}");
    assert_eq!(
        ledger.detected,
        seen.len() as u64 + ledger.lost() + ledger.left_out(),
        "{ledger:?}"
    );
    (seen, ledger)
}

fn all_of(hook: Hook) -> (Vec<Seen>, Ledger) {
    finish(hook, Vec::new())
}

fn markers(seen: &[Seen]) -> HashSet<Marker> {
    seen.iter()
        .filter_map(|seen| Marker::of_packet(&seen.payload))
        .collect()
}

fn ifindex(namespace: &Namespace, name: &str) -> u32 {
    let index = namespace
        .run(|| lwnflog::sys::netlink::interface_index(name))
        .unwrap()
        .unwrap();
    index.try_into().unwrap()
}

#[test]
fn every_frame_is_there_byte_for_byte() {
    for (frame_len, copy) in [
        (60, 128),
        (64, 50),
        (300, 20),
        (300, 400),
        (1514, 2000),
        (1514, 300),
    ] {
        let lab = lab();
        let hook = open(lab.receiver(), HookConfig::new(HookPoint::Prerouting, copy));
        let before = std::time::SystemTime::now();
        Traffic::new(frame_len, 2_000).send(&lab, Some(0)).unwrap();
        let (seen, ledger) = all_of(hook);
        assert_eq!((seen.len(), ledger.detected), (2_000, 2_000));
        let interface = ifindex(lab.receiver(), RX);
        let captured = (frame_len - 14).min(copy as usize);
        let now = std::time::SystemTime::now();
        let ns = |time: std::time::SystemTime| {
            time.duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos()
        };
        for (number, packet) in seen.iter().enumerate() {
            assert_eq!(packet.payload.len(), captured);
            assert_eq!(packet.original as usize, frame_len - 14);
            assert_eq!((packet.interface, packet.mark), (interface, 0));
            assert_eq!(packet.sequence as usize, number);
            let stamp = u128::from(packet.stamp_ns);
            assert!(ns(before) - 1_000_000 <= stamp && stamp <= ns(now));
            assert_eq!(packet.frame[..6], lab.rx().mac);
            assert_eq!(packet.frame[6..12], lab.tx().mac);
            assert_eq!(packet.frame[12..14], [8, 0]);
            if captured >= 46 {
                let marker = Marker::of_packet(&packet.payload).unwrap();
                assert_eq!(marker.sequence, number as u64);
            }
        }
        assert!(seen.is_sorted_by_key(|seen| seen.stamp_ns));
    }
}

#[test]
fn frames_of_any_length_and_content_are_those_that_were_sent() {
    let lab = lab();
    let mut frames = Vec::new();
    for len in (20..=1500usize).step_by(37) {
        let mut frame = Vec::new();
        frame.extend(lab.rx().mac);
        frame.extend(lab.tx().mac);
        frame.extend([8, 0]);
        let mut ip = vec![0u8; len];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        ip[8] = 64;
        ip[9] = 253;
        ip[12..16].copy_from_slice(&[198, 18, 1, 1]);
        ip[16..20].copy_from_slice(&lab.rx().address.octets());
        let sum: u32 = ip[..20]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        for (place, byte) in ip.iter_mut().enumerate().skip(20) {
            *byte = u8::try_from((place * 7 + len) % 251).unwrap();
        }
        frame.extend(ip);
        frames.push(frame);
    }
    let hook = open(lab.receiver(), whole());
    send_frames(lab.sender(), lwnflog::lab::TX, &frames);
    let (seen, _) = all_of(hook);
    let got: Vec<_> = seen.into_iter().map(|seen| seen.frame).collect();
    assert!(got == frames, "{} of {}", got.len(), frames.len());
}

/// Over the loopback interface, whose packets are long and in many pieces.
#[test]
fn long_packets_in_pieces_are_whole() {
    let space = namespace();
    let hook = open(&space, whole());
    let sent: Vec<Vec<u8>> = [65_507usize, 40_000, 9_000, 1]
        .iter()
        .map(|len| {
            (0..*len)
                .map(|at| u8::try_from(at * 31 % 256).unwrap())
                .collect()
        })
        .collect();
    space
        .run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = socket.local_addr().unwrap();
            for payload in &sent {
                socket.send_to(payload, to).unwrap();
            }
        })
        .unwrap();
    let (seen, _) = all_of(hook);
    // Loopback's MTU of 65536 holds each in one packet.
    let got: Vec<_> = seen
        .iter()
        .map(|seen| seen.payload[28..].to_vec())
        .collect();
    assert!(got == sent);
    for packet in seen {
        assert_eq!(packet.frame.len(), packet.payload.len() + 14);
        assert_eq!(packet.original as usize, packet.payload.len());
    }
}

/// What `ip link set INTERFACE gso_ipv4_max_size BYTES gro_ipv4_max_size BYTES` of a newer iproute2
/// does.
fn allow_merging(interface: &str, bytes: u32) {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 5;
    let index = lwnflog::sys::netlink::interface_index(interface).unwrap();
    let mut message = Vec::new();
    message.extend(48u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]); // number, port
    message.extend([0; 4]); // family, type
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]); // flags, change
    for attribute in [63u16, 64] {
        // IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE
        message.extend(8u16.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(bytes.to_ne_bytes());
    }
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    send(&netlink, &message, SendFlags::empty()).unwrap();
    let mut answer = [0u8; 256];
    recv(&netlink, &mut answer[..], RecvFlags::empty()).unwrap();
    assert_eq!(answer[16..20], [0; 4], "the interface takes no such size");
}

/// More than 65,535 bytes: merged TCP of an interface that is told to.
#[test]
fn what_the_interface_merges_beyond_64_kib_is_whole() {
    use std::io::{Read, Write};
    let space = namespace();
    space.run(|| allow_merging("lo", 200_000)).unwrap();
    let mut config = whole();
    config.buffer_bytes = 256 << 20;
    let hook = open(&space, config);
    space
        .run(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut stream = std::net::TcpStream::connect(to).unwrap();
                    let block = vec![7u8; 1 << 20];
                    for _ in 0..30 {
                        stream.write_all(&block).unwrap();
                    }
                });
                let mut stream = listener.accept().unwrap().0;
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), 30 << 20);
            });
        })
        .unwrap();
    let (seen, ledger) = all_of(hook);
    assert_eq!(ledger.dropped, 0);
    let longest = seen.iter().map(|seen| seen.original).max().unwrap();
    assert!(longest > 65_535, "the longest is {longest}");
    for packet in seen {
        assert_eq!(packet.original as usize, packet.payload.len());
        let data = &packet.payload[20 + usize::from(packet.payload[32] >> 4) * 4..];
        assert!(data.iter().all(|byte| *byte == 7));
    }
}

#[test]
fn what_a_full_ring_drops_is_counted_to_the_packet() {
    let lab = lab();
    let mut config = HookConfig::new(HookPoint::Prerouting, 1500);
    config.buffer_bytes = 1;
    let mut hook = open(lab.receiver(), config);
    let mut seen = Vec::new();
    // The reader stands still, then goes on, twice.
    for round in 1..=3u64 {
        Traffic::new(1500, 5_000)
            .stream(u16::try_from(round).unwrap())
            .send(&lab, Some(0))
            .unwrap();
        if round < 3 {
            while hook.receive(true).unwrap() == Arrival::Batch {
                take(&mut hook, &mut seen);
            }
        }
    }
    let (seen, ledger) = finish(hook, seen);
    assert_eq!(ledger.detected, 15_000);
    assert!(ledger.dropped > 5_000, "{ledger:?}");
    // The numbers show where: all gaps but those behind the last packet.
    let last = u64::from(seen.last().unwrap().sequence) + 1;
    let gaps = last - seen.len() as u64;
    assert!(gaps > 3_000 && gaps < ledger.dropped, "{gaps} {ledger:?}");
    assert!(seen.is_sorted_by(|a, b| a.sequence < b.sequence));
    assert_eq!(markers(&seen).len(), seen.len());
}

#[test]
fn several_senders_and_a_reader_lose_nothing() {
    let lab = lab();
    let config = HookConfig::new(HookPoint::Prerouting, 50);
    let mut hook = open(lab.receiver(), config);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let progress = lwnflog::lab::Progress::default();
        let lab = &lab;
        let sender = scope.spawn(move || {
            let traffic = Traffic::new(64, 60_000).rate(Some(50_000));
            traffic.send_from(lab, &[0, 1], &progress).unwrap()
        });
        while !sender.is_finished() {
            if hook.receive(true).unwrap() == Arrival::Batch {
                take(&mut hook, &mut seen);
            }
        }
    });
    let (seen, ledger) = finish(hook, seen);
    assert_eq!((ledger.detected, ledger.dropped), (60_000, 0));
    assert_eq!(markers(&seen).len(), 60_000);
    let disorder = seen
        .windows(2)
        .filter(|two| two[0].stamp_ns > two[1].stamp_ns);
    assert_eq!(disorder.count(), 0);
}

#[test]
fn a_processor_without_a_ring_is_counted() {
    let lab = lab();
    for processors in [vec![0], vec![1]] {
        let mut config = HookConfig::new(HookPoint::Prerouting, 50);
        config.processors = Some(processors.clone());
        let hook = open(lab.receiver(), config);
        for core in [0, 1] {
            Traffic::new(64, 100)
                .stream(core)
                .send(&lab, Some(core.into()))
                .unwrap();
        }
        let (seen, ledger) = all_of(hook);
        assert_eq!(ledger.detected, 200);
        assert_eq!((seen.len(), ledger.no_ring), (100, 100), "{processors:?}");
        assert_eq!((ledger.dropped, ledger.nested), (0, 0));
    }
}

/// `--drop` drops on every processor, be there a ring or not, and what is not wanted goes on there as
/// elsewhere.
#[test]
fn a_processor_without_a_ring_drops_what_it_would_capture() {
    for guard in [false, true] {
        let mut config = HookConfig::new(HookPoint::Prerouting, 50);
        config.priority = guard.then_some(-100);
        config.drop = true;
        let of_each = |config: &HookConfig| {
            let mut config = config.clone();
            config.processors = Some(vec![0]);
            let on_first = received(&lab(), config.clone());
            config.processors = Some(vec![1]);
            let without_ring = received(&lab(), config);
            let ledgers = (on_first.0, without_ring.0);
            (ledgers, [on_first.1, without_ring.1])
        };
        let ((_, late), behind) = of_each(&config);
        assert_eq!((late.no_ring, behind), (1_000, [0, 0]), "{late:?}");
        config.interfaces = vec!["lo".to_owned()];
        let ((_, late), behind) = of_each(&config);
        assert_eq!((late.no_ring, late.left_interface), (0, 1_000), "{late:?}");
        assert_eq!(behind, [1_000, 1_000]);
        config.interfaces = vec![RX.to_owned()];
        let ((_, late), behind) = of_each(&config);
        assert_eq!((late.no_ring, behind), (1_000, [0, 0]), "{late:?}");
        config.mark = Some((0x80, 0x80));
        let ((_, late), behind) = of_each(&config);
        assert_eq!((late.no_ring, late.left_mark), (0, 1_000), "{late:?}");
        assert_eq!(behind, [1_000, 1_000]);
    }
}

#[test]
fn nftables_decides_and_the_program_copies() {
    let lab = lab();
    nft(
        lab.receiver(),
        "table ip m {
            chain first { type filter hook prerouting priority -2147483648; \
                udp dport 443 meta mark set meta mark or 0x80000000; }
            chain behind { type filter hook prerouting priority -2147483646; \
                meta mark set meta mark and 0x7fffffff; }
            counter seen { }
            chain input { type filter hook input priority 0; \
                meta mark and 0x80000000 != 0 counter name seen; }
        }",
    );
    let mut config = HookConfig::new(HookPoint::Prerouting, 50);
    config.mark = Some((0x8000_0000, 0x8000_0000));
    config.priority = Some(PRIORITY_DEFAULT);
    let hook = open(lab.receiver(), config);
    Traffic::new(64, 256 * 4).send(&lab, None).unwrap();
    let (seen, ledger) = all_of(hook);
    // One of the eight destination ports.
    assert_eq!((seen.len(), ledger.left_mark), (128, 896));
    for packet in seen {
        assert_eq!(packet.payload[22..24], 443u16.to_be_bytes());
        assert_eq!(packet.mark, 0x8000_0000);
    }
    let left = run_in(
        lab.receiver(),
        "nft",
        &["list", "counter", "ip", "m", "seen"],
    );
    assert!(left.contains("packets 0 "), "{left}");
}

fn received(lab: &Lab, config: HookConfig) -> (Ledger, u64) {
    nft(
        lab.receiver(),
        "table ip behind { counter seen { }
            chain c { type filter hook prerouting priority 0; counter name seen; }
        }",
    );
    let hook = open(lab.receiver(), config);
    Traffic::new(64, 1_000).send(lab, Some(0)).unwrap();
    let (_, ledger) = all_of(hook);
    let text = run_in(
        lab.receiver(),
        "nft",
        &["list", "counter", "ip", "behind", "seen"],
    );
    let words: Vec<_> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "packets").unwrap();
    (ledger, words[at + 1].parse().unwrap())
}

#[test]
fn a_host_that_only_captures_drops_what_it_captures() {
    let mut config = HookConfig::new(HookPoint::Prerouting, 50);
    let (_, behind) = received(&lab(), config.clone());
    assert_eq!(behind, 1_000);
    config.drop = true;
    let (ledger, behind) = received(&lab(), config.clone());
    assert_eq!((ledger.detected, behind), (1_000, 0));
    // Another interface's packets go on.
    config.interfaces = vec!["lo".to_owned()];
    let (ledger, behind) = received(&lab(), config);
    assert_eq!((ledger.left_interface, behind), (1_000, 1_000));
}

#[test]
fn interfaces_are_told_apart_and_a_later_one_is_found() {
    let lab = lab();
    let send_on_loopback = |packets: usize| {
        let send = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = socket.local_addr().unwrap();
            for _ in 0..packets {
                socket.send_to(b"x", to).unwrap();
            }
        };
        lab.receiver().run(send).unwrap();
    };
    let mut config = HookConfig::new(HookPoint::Prerouting, 50);
    config.interfaces = vec!["later".to_owned(), RX.to_owned()];
    let mut hook = open(lab.receiver(), config);
    let mut seen = Vec::new();
    Traffic::new(64, 100).send(&lab, None).unwrap();
    send_on_loopback(50);
    // `rx` becomes the interface that comes later.
    run_in(lab.receiver(), "ip", &["link", "set", RX, "down"]);
    run_in(lab.receiver(), "ip", &["link", "set", RX, "name", "later"]);
    run_in(lab.receiver(), "ip", &["link", "set", "later", "up"]);
    lab.receiver()
        .run(|| {
            for _ in 0..5 {
                std::thread::sleep(std::time::Duration::from_millis(110));
                if hook.receive(true).unwrap() == Arrival::Batch {
                    take(&mut hook, &mut seen);
                }
            }
        })
        .unwrap();
    Traffic::new(64, 70).stream(1).send(&lab, None).unwrap();
    let (seen, ledger) = finish(hook, seen);
    assert_eq!((seen.len(), ledger.left_interface), (170, 50), "{ledger:?}");
}

/// Chance decides, with the mean that was asked for: what comes in a beat (every second packet is an
/// answer) is in the sample by its share.
#[test]
fn a_sample_is_one_in_so_many_and_keeps_no_beat() {
    for every in [2, 10] {
        let lab = lab();
        let mut config = HookConfig::new(HookPoint::Prerouting, 50);
        config.sample = Some(every);
        let hook = open(lab.receiver(), config);
        Traffic::new(64, 20_000)
            .rate(Some(100_000))
            .send(&lab, Some(0))
            .unwrap();
        let (seen, ledger) = all_of(hook);
        assert_eq!(ledger.left_sample, 20_000 - seen.len() as u64);
        // Ten standard deviations: of 2,000, with gaps that are alike between 1 and 19, some 250.
        let near = |count: usize, expected: u32| {
            let off = f64::from(u32::try_from(count).unwrap()) - f64::from(expected);
            off.abs() <= 10.0 * f64::from(expected).sqrt()
        };
        assert!(near(seen.len(), 20_000 / every), "{every}: {}", seen.len());
        for beat in [2, 3, 10] {
            for place in 0..beat {
                let of_beat = seen.iter().filter(|packet| {
                    let marker = Marker::of_packet(&packet.payload).unwrap();
                    marker.sequence % beat == place
                });
                let of_beat = of_beat.count();
                let expected = 20_000 / every / u32::try_from(beat).unwrap();
                assert!(
                    near(of_beat, expected),
                    "{every}, {place} of {beat}: {of_beat}"
                );
            }
        }
    }
}

#[test]
fn of_each_connection_only_the_first_bytes() {
    let lab = lab();
    let mut config = HookConfig::new(HookPoint::Prerouting, 50);
    // 50 bytes each: of 256 flows the first four packets.
    config.cutoff = Some(Cutoff::new(200));
    let hook = open(lab.receiver(), config.clone());
    Traffic::new(64, 256 * 10).send(&lab, Some(0)).unwrap();
    let (seen, ledger) = all_of(hook);
    assert_eq!((seen.len(), ledger.left_cutoff), (256 * 4, 256 * 6));
    // A map with room for few errs towards capturing.
    config.cutoff = Some(Cutoff {
        bytes: 200,
        connections: 8,
    });
    let hook = open(lab.receiver(), config);
    Traffic::new(64, 256 * 10).send(&lab, Some(0)).unwrap();
    let (seen, _) = all_of(hook);
    assert!(seen.len() > 256 * 4, "{}", seen.len());
}

/// Both directions of TCP on the loopback interface have one entry; a new connection of the same
/// ports is new.
#[test]
fn both_directions_count_and_a_new_connection_starts_anew() {
    use std::io::{Read, Write};
    let space = namespace();
    let mut config = whole();
    config.cutoff = Some(Cutoff::new(3_000));
    let mut hook = open(&space, config);
    let mut seen = Vec::new();
    let before = std::cell::Cell::new(0);
    for round in 1..=2u64 {
        space
            .run(|| {
                let listener = std::net::TcpListener::bind("127.0.0.1:7001").unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut stream = listener.accept().unwrap().0;
                        let mut byte = [0u8; 1000];
                        for _ in 0..20 {
                            stream.read_exact(&mut byte).unwrap();
                            stream.write_all(&byte).unwrap();
                        }
                    });
                    let mut stream = std::net::TcpStream::connect("127.0.0.1:7001").unwrap();
                    let mut block = [9u8; 1000];
                    for _ in 0..20 {
                        stream.write_all(&block).unwrap();
                        stream.read_exact(&mut block).unwrap();
                    }
                });
            })
            .unwrap();
        while hook.receive(true).unwrap() == Arrival::Batch {
            take(&mut hook, &mut seen);
        }
        let bytes: u64 = seen.iter().map(|seen| u64::from(seen.original)).sum();
        let more = bytes - before.replace(bytes);
        // Up to the limit, and the packet that goes beyond.
        assert!((3_000..4_100).contains(&more), "round {round}: {more}");
    }
    let (_, ledger) = finish(hook, seen);
    assert!(ledger.left_cutoff > 50, "{ledger:?}");
}

/// An error or a redirect is about another connection: it is captured whatever came between the two
/// hosts before. Echoes of one program are a connection.
#[test]
fn icmp_about_other_connections_is_never_cut_off() {
    let lab = lab();
    let mut config = whole();
    config.cutoff = Some(Cutoff::new(100));
    let hook = open(lab.receiver(), config);
    let icmp = |kind: u8, identifier: u8| {
        let mut payload = vec![kind, 0, 0, 0, 0, identifier, 0, 1];
        payload.extend([7; 40]);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(lab.tx().mac, lab.rx().mac)
            .ipv4([198, 18, 7, 7], lab.rx().address.octets(), 64)
            .write(&mut frame, IpNumber::ICMP, &payload)
            .unwrap();
        frame
    };
    let (echo, reply, unreachable, redirect) = (8, 0, 3, 5);
    let mut frames = vec![icmp(echo, 1); 10];
    frames.extend(vec![icmp(reply, 1); 10]);
    for kind in [unreachable, redirect, 4, 11, 12] {
        frames.extend(vec![icmp(kind, 1); 5]);
    }
    frames.extend(vec![icmp(echo, 2); 10]);
    send_frames(lab.sender(), lwnflog::lab::TX, &frames);
    let (seen, ledger) = all_of(hook);
    let of = |kind: u8, identifier: u8| {
        let wanted = |seen: &&Seen| seen.payload[20] == kind && seen.payload[25] == identifier;
        seen.iter().filter(wanted).count()
    };
    // 68 bytes each: the second goes beyond.
    assert_eq!((of(echo, 1), of(reply, 1), of(echo, 2)), (2, 0, 2));
    assert_eq!(ledger.left_cutoff, 8 + 10 + 8);
    assert_eq!(
        (of(unreachable, 1), of(redirect, 1), seen.len()),
        (5, 5, 29)
    );
}

#[test]
fn input_and_forward_are_hooks_too() {
    let lab = lab();
    let prerouting = open(lab.receiver(), whole());
    let input = open(lab.receiver(), HookConfig::new(HookPoint::Input, 50));
    let forward = open(lab.receiver(), HookConfig::new(HookPoint::Forward, 50));
    Traffic::new(64, 100).send(&lab, None).unwrap();
    assert_eq!(all_of(prerouting).0.len(), 100);
    // Their sources have no route back, which is asked for behind prerouting.
    let (input, forward) = (all_of(input).0.len(), all_of(forward).0.len());
    assert!(input + forward <= 100);

    let space = namespace();
    let input = open(&space, HookConfig::new(HookPoint::Input, 50));
    let send = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        }
    };
    space.run(send).unwrap();
    assert_eq!(all_of(input).0.len(), 10);
}

#[test]
fn a_later_priority_has_a_guard_and_captures_the_same() {
    let lab = lab();
    let mut config = whole();
    config.priority = Some(100);
    let hook = open(lab.receiver(), config);
    assert!(hook.listing().contains("xchg"));
    Traffic::new(300, 1_000).send(&lab, None).unwrap();
    let (seen, ledger) = all_of(hook);
    assert_eq!((seen.len(), ledger.dropped), (1_000, 0));
}

/// At forward a process may be inside the program when softirq comes (a multicast route that it
/// resolves: ipmr_cache_resolve), at any priority. When is chance: what shows is the guard, in both
/// families' programs, and that it is given back.
#[test]
fn forward_has_a_guard_at_any_priority() {
    let is_guarded = |hook: &Hook| hook.listing().contains("xchg(&r->busy, 1)");
    for (point, guarded) in [
        (HookPoint::Prerouting, false),
        (HookPoint::Input, false),
        (HookPoint::Forward, true),
    ] {
        for priority in [None, Some(PRIORITY_DEFAULT)] {
            let mut config = HookConfig::new(point, 50);
            config.priority = priority;
            let hook = open(&namespace(), config);
            assert_eq!(is_guarded(&hook), guarded, "{point} {priority:?}");
        }
    }
    let router = namespace();
    let hook = open(&router, HookConfig::new(HookPoint::Forward, 50));
    let packet = [[0x45, 0, 0, 40].as_slice(), &[0; 36]].concat();
    hook.test_run(&packet, 1_000).unwrap();
    let (seen, ledger) = all_of(hook);
    assert_eq!((seen.len(), ledger.nested), (1_000, 0));
}

#[test]
fn impossible_priorities_are_refused() {
    let space = namespace();
    for priority in [i32::MIN, i32::MAX] {
        let mut config = whole();
        config.priority = Some(priority);
        let error = space.run(|| Hook::open(config)).unwrap().unwrap_err();
        assert!(matches!(error, HookError::Priority(_)), "{error}");
    }
}

#[test]
fn a_priority_that_is_taken_is_refused() {
    let space = namespace();
    let asked = || HookConfig {
        priority: Some(PRIORITY_DEFAULT),
        ..whole()
    };
    let first = open(&space, asked());
    let tried = |config: HookConfig| space.run(|| Hook::open(config)).unwrap();
    let error = tried(asked()).unwrap_err();
    assert!(matches!(error, HookError::PriorityTaken(_)), "{error}");
    drop(first);
    drop(tried(asked()).unwrap());
    nft(
        &space,
        "table ip t { chain c { type filter hook prerouting priority -2147483647;\n }\n }",
    );
    let error = tried(asked()).unwrap_err();
    assert!(matches!(error, HookError::PriorityTaken(_)), "{error}");
    // Where none is asked for, the next one that is free.
    let behind = tried(whole()).unwrap();
    assert_eq!(behind.priority(), PRIORITY_DEFAULT + 1);
}

#[test]
fn a_missing_type_file_is_said() {
    let space = namespace();
    for (path, says) in [
        ("/nowhere/vmlinux", "No such file"),
        ("/proc/version", "magic number"),
    ] {
        let mut config = whole();
        config.types = path.into();
        let error = space
            .run(|| Hook::open(config))
            .unwrap()
            .unwrap_err()
            .to_string();
        assert!(error.contains(path) && error.contains(says), "{error}");
        assert!(error.contains("--group 5"), "{error}");
    }
}

#[test]
fn the_kernel_runs_the_program_without_traffic() {
    let space = namespace();
    let hook = open(&space, HookConfig::new(HookPoint::Prerouting, 50));
    let mut frame = Vec::from([
        0x45, 0, 0, 50, 0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
    ]);
    frame.resize(50, 0x5a);
    let run = hook.test_run(&frame, 1).unwrap();
    assert_eq!(run.verdict, 1);
    let (seen, _) = all_of(hook);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].payload, frame);
}

/// Said with `--nocapture`.
#[test]
fn what_a_run_takes() {
    let space = namespace();
    let mut frame = Vec::from([
        0x45, 0, 0, 50, 0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
    ]);
    frame.resize(50, 0x5a);
    let mut config = HookConfig::new(HookPoint::Prerouting, 50);
    config.buffer_bytes = 256 << 20;
    let hook = open(&space, config.clone());
    eprintln!("plain: {:?}", hook.test_run(&frame, 500_000).unwrap());
    drop(hook);
    config.interfaces = vec!["lo".to_owned()];
    config.mark = Some((1, 1));
    let hook = open(&space, config);
    eprintln!("left out: {:?}", hook.test_run(&frame, 500_000).unwrap());
}

/// The kernel's verifier takes the program however it is put together.
#[test]
fn the_verifier_takes_every_combination() {
    let space = namespace();
    for bits in 0..64u32 {
        let on = |bit: u32| bits >> bit & 1 != 0;
        let mut config = HookConfig::new(HookPoint::Prerouting, if on(0) { 524_288 } else { 20 });
        config.buffer_bytes = 1;
        config.cutoff = on(1).then_some(Cutoff {
            bytes: u64::MAX,
            connections: 1,
        });
        config.processors = on(2).then(|| vec![1]);
        if on(3) {
            config.interfaces = vec!["lo".to_owned(); 16];
            config.mark = Some((0, 0));
        }
        config.sample = on(4).then_some(u32::MAX);
        config.priority = Some(PRIORITY_DEFAULT + i32::from(on(5)));
        let tried = space.run(|| Hook::open(config.clone())).unwrap();
        if let Err(error) = tried {
            panic!("{config:?}: {error}");
        }
    }
}

const SNAPLEN: u32 = 128;

/// What the engine needs to write files.
fn sink(dir: &std::path::Path, file_bytes: u64) -> FileSink<PcapNg> {
    let segment_bytes = segment_bytes_for(PcapNg::record_bytes_max(SNAPLEN as usize));
    let names = Interfaces::new(|_| Some("rx".to_owned()));
    let format = PcapNg::new(
        LinkType::Ethernet,
        SNAPLEN,
        "x".into(),
        segment_bytes,
        names,
    );
    let config = RingConfig {
        dir: dir.to_path_buf(),
        name: "hook".into(),
        extension: PcapNg::EXTENSION,
        file_bytes,
        limits: Limits::files(10),
        segment_bytes,
        padding_blocks: PcapNg::PADDING_BLOCKS,
    };
    let store = Store::open(dir, "hook", PcapNg::EXTENSION, Access::default()).unwrap();
    let (to_me, notices) = mpsc::channel();
    std::mem::forget(notices);
    let ring = Ring::open(config, store, to_me).unwrap();
    FileSink::new(format, ring, LinkType::Ethernet, SNAPLEN)
}

/// Captures into files, or into nothing.
fn capture(hook: Hook, sink: Option<FileSink<PcapNg>>, control: Arc<Control>) -> Outcome {
    let account = Arc::new(Account::default());
    match sink {
        Some(sink) => Capture::new(hook, sink, control, account).run(),
        None => Capture::new(hook, Discard, control, account).run(),
    }
}

/// The engine that writes files takes it as any other source: fast way, long way, account.
#[test]
fn the_engine_writes_it_into_a_ring_of_files() {
    for discard in [false, true] {
        let (lab, tmp) = (lab(), common::temp_dir());
        let sink = (!discard).then(|| sink(tmp.path(), 4 << 20));
        let copy = LinkType::Ethernet.copy_range_bytes(SNAPLEN);
        let hook = open(lab.receiver(), HookConfig::new(HookPoint::Prerouting, copy));
        let control = Arc::new(Control::new(None));
        let asked = Arc::clone(&control);
        let thread = std::thread::spawn(move || capture(hook, sink, asked));
        Traffic::new(200, 10_000)
            .rate(Some(50_000))
            .send(&lab, None)
            .unwrap();
        control.stop();
        let outcome = thread.join().unwrap();
        assert!(outcome.error.is_none());
        assert_eq!(outcome.tally.overrun, 0);
        assert_eq!(outcome.tally.received, 10_000);
        if discard {
            assert_eq!(outcome.tally.discarded, 10_000);
            continue;
        }
        assert_eq!(outcome.tally.written, 10_000);
        let packets: Vec<_> = outcome
            .files
            .iter()
            .flat_map(|file| common::files::read(file).packets)
            .collect();
        assert_eq!(packets.len(), 10_000);
        for (number, packet) in packets.iter().enumerate() {
            assert_eq!((packet.data.len(), packet.original), (128, 200));
            let marker = Marker::of_frame(&packet.data).unwrap();
            assert_eq!(marker.sequence, number as u64);
        }
    }
}

/// For people, with `--release --ignored --nocapture`: what the capturing thread takes.
#[test]
#[ignore = "a measurement"]
fn what_the_reader_takes() {
    const PACKETS: u64 = 3_000_000;
    for round in 0..6 {
        let (lab, tmp) = (lab(), common::temp_dir());
        let discard = round % 3 == 2;
        let sink = (!discard).then(|| sink(tmp.path(), 100 << 20));
        let copy = LinkType::Ethernet.copy_range_bytes(64);
        let hook = open(lab.receiver(), HookConfig::new(HookPoint::Prerouting, copy));
        let control = Arc::new(Control::new(None));
        let asked = Arc::clone(&control);
        let thread = std::thread::spawn(move || {
            lwnflog::sys::cpu::pin_thread(1).unwrap();
            let outcome = capture(hook, sink, asked);
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            (outcome, time.tv_sec * 1_000_000_000 + time.tv_nsec)
        });
        let sent = Traffic::new(64, PACKETS).send(&lab, Some(0)).unwrap();
        control.stop();
        let (outcome, nanos) = thread.join().unwrap();
        eprintln!(
            "{} {:.2} Mpps, received {}, dropped {}, {} batches, {} ns a packet",
            if discard { "discarding" } else { "writing" },
            sent.rate() / 1e6,
            outcome.tally.received,
            outcome.tally.overrun,
            outcome.tally.batches,
            nanos / i64::try_from(outcome.tally.received).unwrap(),
        );
    }
}

/// What of a frame that tcpdump saw comes to the hook: the packet without what pads it, if its
/// header is right.
fn at_the_hook(frame: &[u8]) -> Option<Vec<u8>> {
    let ip = frame.get(14..)?;
    let header = usize::from(ip.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let sum: u32 = ip
        .get(..header)?
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let right = (sum & 0xffff) + (sum >> 16) == 0xffff && ip[0] >> 4 == 4;
    (right && header >= 20 && total >= header && total <= ip.len())
        .then(|| frame[..14 + total].to_vec())
}

fn beside_tcpdump(lab: &Lab, packets: u64, send: impl FnOnce()) {
    let tmp = common::temp_dir();
    let file = tmp.path().join("tcpdump.pcap");
    let tcpdump = common::Running::tcpdump(
        lab.receiver(),
        RX,
        &file,
        &["-Q", "in", "-s", "0", "-B", "65536", "ip"],
    );
    let hook = open(lab.receiver(), whole());
    send();
    let theirs = until("tcpdump has written all", || {
        // The file grows: its last packet may be there in part.
        let there = common::contents::parse(&std::fs::read(&file).unwrap()).ok()?;
        (there.packets.len() as u64 == packets).then_some(there.packets)
    });
    tcpdump.end_by(rustix::process::Signal::INT);
    let (seen, _) = all_of(hook);
    let expected: Vec<_> = theirs
        .iter()
        .filter_map(|packet| at_the_hook(&packet.data))
        .collect();
    assert!(expected.len() > 1000);
    let ours: Vec<_> = seen.into_iter().map(|seen| seen.frame).collect();
    assert!(
        ours == expected,
        "{} packets, of {} that tcpdump saw",
        ours.len(),
        expected.len()
    );
}

#[test]
fn frames_are_byte_for_byte_those_of_tcpdump() {
    for frame_len in [60, 64, 300, 1514] {
        let lab = lab();
        beside_tcpdump(&lab, 2_000, || {
            let traffic = Traffic::new(frame_len, 2_000).rate(Some(20_000));
            traffic.send(&lab, None).unwrap();
        });
    }
}

/// A trace of one's own:
/// `LWNFLOG_TRACE=file cargo test --all-features --test hook -- --ignored trace`.
#[cfg(feature = "bench")]
#[test]
#[ignore = "needs a trace, named by LWNFLOG_TRACE"]
fn a_trace_is_byte_for_byte_that_of_tcpdump() {
    use lwnflog::lab::{Progress, Replay};
    let path = std::env::var_os("LWNFLOG_TRACE").expect("LWNFLOG_TRACE names the trace");
    let lab = lab();
    let replay = Replay::open(path.as_ref(), &lab, 1500).unwrap();
    beside_tcpdump(&lab, replay.packets(), || {
        replay
            .send(
                &lab,
                replay.packets(),
                None,
                Some(20_000),
                &Progress::default(),
            )
            .unwrap();
    });
}

/// Set in a process that a test starts for itself.
const INSIDE: &str = "LWNFLOG_TEST_HOOK";

fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    command
}

#[test]
fn nothing_is_left_when_it_is_dropped_or_killed() {
    let space = namespace();
    if std::env::var_os(INSIDE).is_some() {
        let hook = open(&space, whole());
        println!("program {}", hook.program_id().unwrap());
        std::thread::sleep(std::time::Duration::from_secs(600));
    }
    let hook = open(&space, whole());
    let id = hook.program_id().unwrap();
    assert!(program_exists(id).unwrap());
    drop(hook);
    until("the program is gone", || {
        (!program_exists(id).unwrap()).then_some(())
    });

    use std::io::{BufRead, BufReader};
    let mut child = again("nothing_is_left_when_it_is_dropped_or_killed")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("program ")?.1.parse::<u32>().ok())
        .unwrap();
    assert!(program_exists(id).unwrap());
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    until("the program is gone", || {
        (!program_exists(id).unwrap()).then_some(())
    });
}

#[test]
fn without_rights_it_says_what_is_missing() {
    if std::env::var_os(INSIDE).is_some() {
        println!("error: {}", Hook::open(whole()).unwrap_err());
        return;
    }
    let test = std::env::current_exe().unwrap();
    let copy = tempfile::Builder::new()
        .prefix("lwnflog-hook-")
        .tempfile()
        .unwrap()
        .into_temp_path();
    let copied = Command::new("cp")
        .args([test.as_os_str(), copy.as_os_str()])
        .status()
        .unwrap();
    assert!(copied.success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&copy, mode).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let says = |command: &mut Command| {
        let output = command
            .arg(&copy)
            .args([
                "--exact",
                "without_rights_it_says_what_is_missing",
                "--nocapture",
            ])
            .env(INSIDE, "1")
            .output()
            .expect("setpriv and unshare are needed: install the package util-linux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = says(Command::new("setpriv").args(nobody));
    assert!(
        said.contains("needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"),
        "{said}"
    );
    let said = says(
        Command::new("setpriv")
            .args(nobody)
            .args(["unshare", "-Urn"]),
    );
    assert!(said.contains("user namespace"), "{said}");
    // One of them is not enough.
    let kept = ["--bounding-set=-perfmon,-sys_admin"];
    let said = says(Command::new("setpriv").args(kept));
    assert!(said.contains("needs CAP_PERFMON;"), "{said}");
}

/// Loaded and attached, it needs no right any more: not even to find an interface that comes later.
#[test]
fn no_capability_is_needed_after_the_start() {
    let lab = lab();
    let mut config = HookConfig::new(HookPoint::Prerouting, 50);
    config.interfaces = vec![RX.to_owned()];
    let mut hook = lab
        .receiver()
        .run(|| {
            let mut hook = Hook::open(config).unwrap();
            give_up().unwrap();
            let error = Hook::open(whole()).unwrap_err().to_string();
            assert!(error.contains("needs CAP_BPF"), "{error}");
            hook.receive(true).unwrap();
            hook
        })
        .unwrap();
    Traffic::new(64, 100).send(&lab, None).unwrap();
    let mut seen = Vec::new();
    lab.receiver()
        .run(|| {
            give_up().unwrap();
            while hook.receive(true).unwrap() == Arrival::Batch {
                take(&mut hook, &mut seen);
            }
            hook.detach().unwrap();
        })
        .unwrap();
    assert_eq!(finish(hook, seen).0.len(), 100);
}

#[test]
fn two_captures_stand_beside_each_other() {
    let lab = lab();
    let first = open(lab.receiver(), whole());
    let mut config = whole();
    config.priority = Some(PRIORITY_DEFAULT + 1);
    let second = open(lab.receiver(), config);
    Traffic::new(64, 100).send(&lab, None).unwrap();
    assert_eq!(all_of(first).0.len(), 100);
    assert_eq!(all_of(second).0.len(), 100);
}
