//! The limitations of the prerouting hook, side by side with tcpdump on the same interface: what
//! tcpdump sees and lwnflog does not, or sees otherwise. `docs/LIMITS.md` states them.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;

use common::files::{Contents, read};
use common::{Running, lab, load_capture_rules, nft, number, temp_dir, until};
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder, UdpHeader,
};
use lwnflog::lab::{Lab, RX, TX};
use rustix::process::Signal;

/// Frames go out at one end; what tcpdump and lwnflog have at the other.
struct Sides {
    tcpdump: Contents,
    lwnflog: Contents,
}

/// Sends `frames`, and a witness behind them that both tools see.
fn both(lab: &Lab, options: &[&str], frames: &[Vec<u8>]) -> Sides {
    let dir = temp_dir();
    let theirs = dir.path().join("tcpdump.pcap");
    // As tcpdump does by default: in promiscuous mode.
    let tcpdump = Running::tcpdump(lab.receiver(), RX, &theirs, &["-Q", "in", "-s", "0"]);
    let options = [&["--group", "5", "-s", "0"], options].concat();
    let ours = Running::capture(lab.receiver(), &dir.path().join("ring"), &options);
    let mut all = frames.to_vec();
    all.push(udp_frame(lab, WITNESS));
    common::send_frames(lab.sender(), TX, &all);
    let seen = |path: &Path| {
        read(path)
            .packets
            .last()
            .is_some_and(|packet| is_witness(&packet.data))
    };
    until("tcpdump has seen all", || seen(&theirs).then_some(()));
    tcpdump.end_by(Signal::INT);
    let ended = ours.end();
    ended.assert_balanced();
    let mut sides = Sides {
        tcpdump: read(&theirs),
        lwnflog: read(&ended.files()[0]),
    };
    for side in [&mut sides.tcpdump, &mut sides.lwnflog] {
        assert!(is_witness(&side.packets.pop().unwrap().data));
    }
    sides
}

const WITNESS: &[u8] = b"the witness, which both tools see";

fn is_witness(frame: &[u8]) -> bool {
    frame.ends_with(WITNESS)
}

/// A valid frame to the other end.
fn udp_frame(lab: &Lab, payload: &[u8]) -> Vec<u8> {
    let source = Ipv4Addr::new(198, 18, 7, 7);
    let builder = PacketBuilder::ethernet2(lab.tx().mac, lab.rx().mac)
        .ipv4(source.octets(), lab.rx().address.octets(), 64)
        .udp(1, 2);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

fn ethernet(lab: &Lab, kind: EtherType, body: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source: lab.tx().mac,
        destination: lab.rx().mac,
        ether_type: kind,
    };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(body);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// tcpdump has the frame byte for byte, lwnflog has nothing.
fn only_tcpdump_sees(lab: &Lab, frame: &[u8]) {
    load_capture_rules(lab.receiver());
    let sides = both(lab, &[], &[frame.to_vec()]);
    assert_eq!(sides.tcpdump.packets.len(), 1);
    assert_eq!(sides.tcpdump.packets[0].data, frame);
    assert_eq!(sides.lwnflog.packets.len(), 0);
}

#[test]
fn arp_does_not_come_to_the_hook() {
    let lab = lab();
    // Who has 198.18.0.99? Tell nobody: there is no answer to it.
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend(lab.tx().mac);
    request.extend([198, 18, 0, 98, 0, 0, 0, 0, 0, 0, 198, 18, 0, 99]);
    only_tcpdump_sees(&lab, &ethernet(&lab, EtherType::ARP, &request));
}

#[test]
fn ipv6_does_not_come_to_the_hook() {
    let lab = lab();
    let builder = PacketBuilder::ethernet2(lab.tx().mac, lab.rx().mac)
        .ipv6([0xfd; 16], [0xfc; 16], 64)
        .udp(1, 2);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"version six").unwrap();
    only_tcpdump_sees(&lab, &frame);
}

#[test]
fn a_frame_to_another_station_does_not_come_to_the_hook() {
    let lab = lab();
    let mut frame = udp_frame(&lab, b"to somebody else, seen in promiscuous mode");
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
    only_tcpdump_sees(&lab, &frame);
}

#[test]
fn a_wrong_header_checksum_does_not_come_to_the_hook() {
    let lab = lab();
    let mut frame = udp_frame(&lab, b"its header checksum is wrong");
    frame[14 + 10] ^= 0xff;
    only_tcpdump_sees(&lab, &frame);
}

#[test]
fn a_wrong_total_length_does_not_come_to_the_hook() {
    for length in [19, 1200] {
        let lab = lab();
        let mut header =
            Ipv4Header::from_slice(&udp_frame(&lab, b"its total length is wrong")[14..])
                .unwrap()
                .0;
        header.total_len = length;
        header.header_checksum = header.calc_header_checksum();
        let mut body = header.to_bytes().to_vec();
        body.resize(60, 0x55);
        only_tcpdump_sees(&lab, &ethernet(&lab, EtherType::IPV4, &body));
    }
}

#[test]
fn a_wrong_version_does_not_come_to_the_hook() {
    let lab = lab();
    let mut frame = udp_frame(&lab, b"an IPv4 frame that says version 5");
    frame[14] = 0x55;
    only_tcpdump_sees(&lab, &frame);
}

/// Behind the packet's end an Ethernet frame is padded: tcpdump has the padding, lwnflog the
/// packet.
#[test]
fn padding_is_not_part_of_the_packet() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let packet = udp_frame(&lab, b"x");
    let mut frame = packet.clone();
    frame.resize(60, 0);
    let sides = both(&lab, &[], &[frame.clone()]);
    assert_eq!(sides.tcpdump.packets[0].data, frame);
    assert_eq!(sides.lwnflog.packets[0].data, packet);
    assert_eq!(sides.lwnflog.packets[0].original as usize, packet.len());
}

/// A datagram of 2000 bytes in two fragments.
fn fragments(lab: &Lab) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (source, to) = (
        Ipv4Addr::new(198, 18, 7, 7).octets(),
        lab.rx().address.octets(),
    );
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(2000).collect();
    let udp = UdpHeader::with_ipv4_checksum(
        1,
        2,
        &Ipv4Header::new(0, 64, IpNumber::UDP, source, to).unwrap(),
        &payload,
    );
    let mut datagram = udp.unwrap().to_bytes().to_vec();
    datagram.extend_from_slice(&payload);
    let fragment = |range: std::ops::Range<usize>| {
        let length = u16::try_from(range.len()).unwrap();
        let mut header = Ipv4Header::new(length, 64, IpNumber::UDP, source, to).unwrap();
        header.identification = 4711;
        header.dont_fragment = false;
        header.more_fragments = range.end < datagram.len();
        header.fragment_offset =
            IpFragOffset::try_new(u16::try_from(range.start / 8).unwrap()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut body = header.to_bytes().to_vec();
        body.extend_from_slice(&datagram[range]);
        ethernet(lab, EtherType::IPV4, &body)
    };
    (
        vec![fragment(0..1200), fragment(1200..datagram.len())],
        datagram,
    )
}

/// A rule at a priority of its own, and connection tracking, which reassembles at -400.
fn load_rule_at(lab: &Lab, priority: i32) {
    nft(
        lab.receiver(),
        &format!(
            "table ip lwnflog-g5 {{ counter detected {{}}\n chain prerouting {{ \
             type filter hook prerouting priority {priority}; policy accept; \
             counter name detected log group 5; }}\n}}\n\
             table ip tracking {{ chain c {{ type filter hook prerouting priority 0; ct state new accept; }}\n}}"
        ),
    );
}

#[test]
fn fragments_are_seen_as_they_came_below_priority_400() {
    for priority in [i32::MIN, i32::MIN + 1, -401] {
        let lab = lab();
        load_rule_at(&lab, priority);
        let (frames, _) = fragments(&lab);
        let sides = both(&lab, &[], &frames);
        let data = |side: &Contents| {
            side.packets
                .iter()
                .map(|packet| packet.data.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(data(&sides.tcpdump), frames);
        assert_eq!(data(&sides.lwnflog), frames);
    }
}

#[test]
fn fragments_are_one_packet_above_priority_400() {
    let lab = lab();
    load_rule_at(&lab, -399);
    let (frames, datagram) = fragments(&lab);
    let sides = both(&lab, &[], &frames);
    assert_eq!(sides.tcpdump.packets.len(), 2, "the wire carried two");
    assert_eq!(sides.lwnflog.packets.len(), 1, "the hook sees one");
    let packet = &sides.lwnflog.packets[0];
    assert_eq!(packet.original as usize, 14 + 20 + datagram.len());
    assert_eq!(packet.data[34..], datagram);
}

/// NFLOG's time stamps count microseconds, and the files say so; those of AF_PACKET count
/// nanoseconds.
#[test]
fn stamps_are_microseconds() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let frames: Vec<_> = (0..50).map(|_| udp_frame(&lab, b"some packet")).collect();
    let theirs = dir.path().join("nano.pcap");
    let nano = ["-Q", "in", "--time-stamp-precision=nano"];
    let tcpdump = Running::tcpdump(lab.receiver(), RX, &theirs, &nano);
    let sides = both(&lab, &[], &frames);
    tcpdump.end_by(Signal::INT);
    let bytes = std::fs::read(&theirs).unwrap();
    assert_eq!(bytes[..4], 0xa1b2_3c4d_u32.to_le_bytes(), "nanoseconds");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut finer) = (24, 0);
    while at < bytes.len() {
        finer += u32::from(word(at + 4) % 1000 != 0);
        at += 16 + word(at + 8) as usize;
    }
    assert!(finer > 0, "tcpdump's stamps are as coarse as ours");
    let stamps: Vec<_> = sides
        .lwnflog
        .packets
        .iter()
        .map(|packet| packet.stamp_ticks)
        .collect();
    assert!(stamps.is_sorted());
    // A capture that rounded to more would end in zeros: once in ten by chance, not 50 times.
    assert!(stamps.iter().any(|stamp| stamp % 10 != 0), "{stamps:?}");
    assert!(stamps.iter().any(|stamp| stamp % 1000 != 0), "{stamps:?}");
}

/// One message holds at most 65531 bytes of a packet; its original length is known all the same.
#[test]
fn a_packet_of_65535_bytes_lacks_its_last_four() {
    let lab = Lab::with_mtu(65_535).unwrap();
    load_capture_rules(lab.receiver());
    let frame = udp_frame(&lab, &vec![0x5a; 65_535 - 28]);
    let sides = both(&lab, &["--link-type", "ip"], std::slice::from_ref(&frame));
    assert_eq!(sides.tcpdump.packets[0].data, frame);
    let packet = &sides.lwnflog.packets[0];
    assert_eq!((packet.data.len(), packet.original), (65_531, 65_535));
    assert_eq!(packet.data[..], frame[14..][..65_531]);
}

/// The hook sees what the stack made of the wire's frames: segments that were merged (GRO), or, as
/// here, were never cut (TSO over a veth pair), are one packet longer than any frame.
#[test]
fn merged_segments_are_one_packet() {
    const BYTES: usize = 4 << 20;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let listener = lab
        .receiver()
        .run(|| TcpListener::bind((lab.rx().address, 4000)).unwrap())
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut received = Vec::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_end(&mut received)
                .unwrap();
            assert_eq!(received.len(), BYTES);
        });
        let connect = || TcpStream::connect((lab.rx().address, 4000)).unwrap();
        lab.sender()
            .run(connect)
            .unwrap()
            .write_all(&vec![1; BYTES])
            .unwrap();
    });
    capture.wait_stats("packets are written", |stats| {
        number(stats, "/written") > 10
    });
    let ended = capture.end();
    ended.assert_balanced();
    let longest = read(&ended.files()[0])
        .packets
        .iter()
        .map(|packet| packet.original)
        .max()
        .unwrap();
    assert!(
        longest > 1514,
        "the longest packet has {longest} bytes, the longest frame 1514"
    );
}

/// The hook has no interface of its own: the rule tests the interface's name.
#[test]
fn the_rule_says_which_interface() {
    let lab = lab();
    common::load_rule(lab.receiver(), "iifname \"rx\"", "group 5");
    let dir = temp_dir();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let over_loopback = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.send_to(b"by no cable", address).unwrap();
        socket.recv(&mut [0; 100]).unwrap();
    };
    lab.receiver().run(over_loopback).unwrap();
    common::send_frames(lab.sender(), TX, &[udp_frame(&lab, b"by the cable")]);
    capture.wait_written(1);
    let ended = capture.end();
    let contents = read(&ended.files()[0]);
    assert_eq!(contents.packets.len(), 1);
    assert!(contents.packets[0].data.ends_with(b"by the cable"));
}

/// Frames of a protocol that this host does not speak count as dropped by the interface
/// (`/proc/net/dev`), and so as lost before the hook: the one figure that is not exact.
#[test]
fn frames_of_unknown_protocols_count_before_the_hook() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let dir = temp_dir();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let unknown = ethernet(&lab, EtherType(0x88b5), b"a local experiment");
    common::send_frames(
        lab.sender(),
        TX,
        &[unknown.clone(), unknown, udp_frame(&lab, WITNESS)],
    );
    capture.wait_written(1);
    let ended = capture.end();
    assert_eq!(
        (ended.number("/written"), ended.number("/before_hook")),
        (1, 2)
    );
}

/// The receiver's interface becomes a port of a bridge that has its address, and bridged packets
/// come to IP's hooks.
fn make_bridge(lab: &Lab) {
    let script = format!(
        "ip link add br0 type bridge && ip link set br0 address {} up && \
         ip address flush dev {RX} && ip link set {RX} master br0 && ip address add {}/24 dev br0 && \
         echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables",
        lab.rx().mac.map(|byte| format!("{byte:02x}")).join(":"),
        lab.rx().address
    );
    common::run_in(lab.receiver(), "sh", &["-ec", &script]);
}

/// br_netfilter takes a bridged packet out of its second way through prerouting, at
/// NF_IP_PRI_FIRST: a rule of that priority sees it twice, ours once.
#[test]
fn a_bridged_packet_comes_once() {
    for (options, rule, times) in [
        (&["--group", "5"][..], None, 2),
        (&["--group", "5"], Some(()), 1),
        (&["--group", "5", "--install-rule"], None, 1),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        make_bridge(&lab);
        match rule {
            Some(()) => load_capture_rules(lab.receiver()),
            None if times == 2 => load_rule_at(&lab, i32::MIN),
            None => {}
        }
        let mut capture = Running::capture(lab.receiver(), dir.path(), options);
        common::send_frames(lab.sender(), TX, &vec![udp_frame(&lab, b"once"); 10]);
        capture.wait_stats("they have come", |stats| {
            number(stats, "/received") >= 10 * times
        });
        let ended = capture.end();
        ended.assert_balanced();
        let contents = read(&ended.files()[0]);
        let once = contents
            .packets
            .iter()
            .filter(|packet| packet.data.ends_with(b"once"));
        assert_eq!(once.count() as u64, 10 * times, "{options:?} {rule:?}");
    }
}

fn tagged(lab: &Lab, payload: &[u8]) -> Vec<u8> {
    let plain = udp_frame(lab, payload);
    [&plain[..12], &[0x81, 0x00, 0x20, 0x2a], &plain[12..]].concat()
}

/// At netdev ingress and in the family bridge the tag and the port are in the message: the record
/// has the frame as it was on the wire, and names the port.
#[test]
fn tag_and_port_are_in_the_record() {
    let ingress = format!(
        "table netdev t {{ chain c {{ type filter hook ingress device \"{RX}\" priority 0; log group 5; }}\n}}"
    );
    let bridge =
        "table bridge t { chain c { type filter hook prerouting priority 0; log group 5; }\n}";
    for (rule, bridged) in [(&*ingress, false), (bridge, true)] {
        let lab = lab();
        if bridged {
            make_bridge(&lab);
        }
        nft(lab.receiver(), rule);
        let dir = temp_dir();
        let mut ours = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        let frames = [
            tagged(&lab, b"with a tag"),
            udp_frame(&lab, b"without"),
            tagged(&lab, b"more"),
        ];
        common::send_frames(lab.sender(), TX, &frames);
        ours.wait_written(3);
        let contents = read(&ours.end().files()[0]);
        let data: Vec<_> = contents
            .packets
            .iter()
            .map(|packet| packet.data.clone())
            .collect();
        assert_eq!(data, frames, "{rule}");
        for (packet, frame) in contents.packets.iter().zip(&frames) {
            assert_eq!(packet.original as usize, frame.len(), "{rule}");
            assert_eq!(packet.flags, 1, "inbound");
        }
        let names: Vec<_> = contents
            .interfaces
            .iter()
            .map(|interface| &*interface.name)
            .collect();
        assert_eq!(names, [RX], "{rule}");
        let description = &contents.interfaces[0].description;
        assert_eq!(
            description.ends_with("port of the bridge br0"),
            bridged,
            "{description}"
        );
    }
}

/// At netdev egress the payload begins at the link-layer header: the record is the frame that
/// tcpdump has at the other end, outbound.
#[test]
fn egress_is_recorded_as_it_leaves() {
    let (lab, dir) = (lab(), temp_dir());
    let rule = format!(
        "table netdev t {{ chain c {{ type filter hook egress device \"{RX}\" priority 0; \
         ip protocol udp log group 5; }}\n}}"
    );
    nft(lab.receiver(), &rule);
    let theirs = dir.path().join("tcpdump.pcap");
    let tcpdump = Running::tcpdump(
        lab.receiver(),
        RX,
        &theirs,
        &["-Q", "out", "-s", "0", "udp"],
    );
    let options = ["--group", "5", "-s", "60"];
    let mut ours = Running::capture(lab.receiver(), &dir.path().join("ring"), &options);
    // To addresses that begin with a 4, which is an IPv4 header's first half byte, and with
    // something else.
    let near = lab.rx().address.octets();
    for (host, mac) in [(77, "44:00:00:00:00:01"), (78, "02:00:00:00:00:01")] {
        let to = Ipv4Addr::new(near[0], near[1], near[2], host);
        let neighbour = [
            "neighbour",
            "replace",
            &to.to_string(),
            "lladdr",
            mac,
            "dev",
            RX,
        ];
        common::run_in(lab.receiver(), "ip", &neighbour);
        let send = || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(&[7; 100], (to, 9)).unwrap();
        };
        lab.receiver().run(send).unwrap();
    }
    ours.wait_written(2);
    until("tcpdump has seen them", || {
        (read(&theirs).packets.len() == 2).then_some(())
    });
    tcpdump.end_by(Signal::INT);
    let (ours, theirs) = (read(&ours.end().files()[0]), read(&theirs));
    for (ours, theirs) in ours.packets.iter().zip(&theirs.packets) {
        // The kernel copies so many bytes from the link-layer header on there.
        assert_eq!(ours.data, theirs.data[..60 - 14]);
        assert_eq!(ours.original, theirs.original);
        assert_eq!(ours.flags, 2, "outbound");
    }
    assert_eq!(ours.packets.len(), 2);
}

/// A rule may copy nothing of its packets, or less than a header: they are packets all the same,
/// recorded with what they have, and none is lost.
#[test]
fn packets_without_payload_are_packets() {
    for discard in [false, true] {
        let (lab, dir) = (lab(), temp_dir());
        nft(
            lab.receiver(),
            "table ip lwnflog-g5 { counter detected {}\n chain prerouting { \
             type filter hook prerouting priority -2147483647; policy accept; \
             udp sport 1 counter name detected log group 5 snaplen 0 return\n \
             udp sport 2 counter name detected log group 5 snaplen 10 return\n \
             counter name detected log group 5; }\n}",
        );
        let mut options = vec!["--group", "5"];
        if discard {
            options.push("--discard");
        }
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        let frame = |port: u8| {
            let mut frame = udp_frame(&lab, b"some payload");
            frame[14 + 20 + 1] = port;
            frame
        };
        let ports = [1, 3, 1, 1, 2, 3, 1, 2, 3, 3, 1, 1, 2, 1];
        common::send_frames(lab.sender(), TX, &ports.map(frame));
        capture.wait_stats("all have come", |stats| number(stats, "/received") == 14);
        let ended = capture.end();
        ended.assert_balanced();
        assert_eq!(ended.number("/skipped"), 0, "{:#}", ended.report);
        assert_eq!(common::dropped(&ended.report), 0, "{:#}", ended.report);
        if discard {
            assert_eq!(ended.number("/discarded"), 14);
            continue;
        }
        assert_eq!(ended.number("/written"), 14);
        let contents = read(&ended.files()[0]);
        for (packet, port) in contents.packets.iter().zip(ports) {
            let whole = frame(port);
            let bytes = match port {
                1 => 14,
                2 => 24,
                _ => whole.len(),
            };
            assert_eq!(packet.data, whole[..bytes], "of rule {port}");
        }
    }
}
