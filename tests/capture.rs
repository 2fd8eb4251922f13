//! Real rules and real traffic: what arrives is in the files, as tcpdump sees it, whatever the
//! format, the link type and the way the capture ends.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::files::{Contents, assert_all_readers_find, read, read_all};
use common::{
    LWNFLOG, Running, detected, lab, load_capture_rules, load_rule, namespace, nft, number, run,
    run_in, temp_dir, under_traffic, until,
};
use etherparse::PacketBuilder;
use lwnflog::lab::{Marker, Namespace, Progress, RX, TX, Traffic};
use lwnflog::sys::tun::Tun;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn only_file(files: &[PathBuf]) -> Contents {
    assert_eq!(files.len(), 1, "{files:?}");
    read(&files[0])
}

/// UDP over the loopback interface, which answers nothing as nobody looks at the answers.
fn send_over_loopback(namespace: &Namespace, packets: usize) {
    let send = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        for _ in 0..packets {
            socket.send_to(b"loopback", address).unwrap();
        }
    };
    namespace.run(send).unwrap();
}

fn byte_for_byte(frame_len: usize, snaplen: &str) {
    const PACKETS: u64 = 500;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let theirs = dir.path().join("tcpdump.pcap");
    let tcpdump = Running::tcpdump(
        lab.receiver(),
        RX,
        &theirs,
        &["-Q", "in", "-s", snaplen, "ip"],
    );
    let mut ours = Running::capture(
        lab.receiver(),
        &dir.path().join("ring"),
        &["--group", "5", "-s", snaplen],
    );
    Traffic::new(frame_len, PACKETS)
        .rate(Some(20_000))
        .send(&lab, None)
        .unwrap();
    ours.wait_written(PACKETS);
    let ended = ours.end();
    ended.assert_balanced();
    until("tcpdump has written all", || {
        (read(&theirs).packets.len() as u64 == PACKETS).then_some(())
    });
    tcpdump.end_by(Signal::INT);

    let (ours, theirs) = (only_file(&ended.files()), read(&theirs));
    assert_eq!(ours.packets.len(), theirs.packets.len());
    for (ours, theirs) in ours.packets.iter().zip(&theirs.packets) {
        assert_eq!((ours.original, &ours.data), (theirs.original, &theirs.data));
        // The kernel stamps a packet for each of them, for tcpdump first.
        assert!(
            ours.stamp_ticks >= theirs.stamp_ticks
                && ours.stamp_ticks - theirs.stamp_ticks < 60_000_000
        );
    }
}

#[test]
fn whole_frames_are_byte_for_byte_those_of_tcpdump() {
    for frame_len in [60, 64, 300, 1514] {
        byte_for_byte(frame_len, "0");
    }
}

#[test]
fn cut_frames_are_byte_for_byte_those_of_tcpdump() {
    for (frame_len, snaplen) in [
        (64, "60"),
        (1514, "96"),
        (1514, "128"),
        (300, "299"),
        (300, "301"),
    ] {
        byte_for_byte(frame_len, snaplen);
    }
}

/// Shorter than the headers: the original length is still known, and nothing is written beyond.
#[test]
fn snap_lengths_below_the_headers() {
    for snaplen in [1, 13, 14, 15, 34] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let mut capture = Running::capture(
            lab.receiver(),
            dir.path(),
            &["--group", "5", "-s", &snaplen.to_string()],
        );
        Traffic::new(200, 10).send(&lab, None).unwrap();
        capture.wait_written(10);
        let ended = capture.end();
        for packet in only_file(&ended.files()).packets {
            assert_eq!((packet.data.len(), packet.original), (snaplen, 200));
        }
        assert_all_readers_find(&ended.files()[0], 10);
    }
}

#[test]
fn the_default_is_the_thesis_slot_of_128_bytes() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["-g", "5"]);
    Traffic::new(1000, 3).send(&lab, None).unwrap();
    capture.wait_written(3);
    let contents = only_file(&capture.end().files());
    assert_eq!(contents.interfaces[0].snaplen, 128);
    assert!(
        contents
            .packets
            .iter()
            .all(|packet| packet.data.len() == 128 && packet.original == 1000)
    );
}

/// Both formats and all link types, read by tshark, tcpdump, capinfos and pcap-parser.
#[test]
fn every_reader_reads_every_format_and_link_type() {
    const PACKETS: u64 = 200;
    for (format, link, number, header) in [
        ("pcapng", "ethernet", 1, 0),
        ("pcapng", "ip", 228, 14),
        ("pcapng", "nflog", 239, 0),
        ("pcap", "ethernet", 1, 0),
        ("pcap", "ip", 228, 14),
        ("pcap", "nflog", 239, 0),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        load_rule(lab.receiver(), "", "prefix \"lab \" group 5");
        let options = [
            "--group",
            "5",
            "--format",
            format,
            "--link-type",
            link,
            "-s",
            "0",
        ];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        Traffic::new(200, PACKETS)
            .rate(Some(20_000))
            .send(&lab, None)
            .unwrap();
        capture.wait_written(PACKETS);
        let ended = capture.end();
        ended.assert_balanced();
        let file = &ended.files()[0];
        assert_eq!(file.extension().unwrap(), format);
        assert_all_readers_find(file, PACKETS);
        let contents = only_file(&ended.files());
        assert_eq!(contents.interfaces[0].link, number, "{format} {link}");
        if link == "nflog" {
            let filter =
                "nflog.prefix == \"lab \" && udp && ip.dst == 198.18.0.2 && nflog.res_id == 5";
            let shown = run(
                Command::new("tshark")
                    .args(["-n", "-Y", filter, "-T", "fields", "-e", "udp.length", "-r"])
                    .arg(file),
                "",
            );
            assert_eq!(
                shown.lines().count() as u64,
                PACKETS,
                "what tshark dissects of it: {shown}"
            );
        } else {
            assert_eq!(contents.sequence_numbers(), Vec::from_iter(0..PACKETS));
            assert!(
                contents
                    .packets
                    .iter()
                    .all(|packet| packet.original == 200 - header),
                "{format} {link}"
            );
        }
    }
}

#[test]
fn mark_prefix_interface_and_direction_are_kept() {
    let (lab, dir) = (lab(), temp_dir());
    load_rule(
        lab.receiver(),
        "meta mark set 0x2a",
        "prefix \"in the lab\" group 5",
    );
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 5).send(&lab, None).unwrap();
    capture.wait_written(5);
    let ended = capture.end();
    let contents = only_file(&ended.files());
    assert_eq!(contents.interfaces.len(), 1);
    assert_eq!(
        (
            &*contents.interfaces[0].name,
            &*contents.interfaces[0].description
        ),
        (RX, "NFLOG group 5")
    );
    for packet in &contents.packets {
        assert_eq!(
            packet.comment.as_deref(),
            Some("mark=0x0000002a prefix=in the lab")
        );
        assert_eq!(packet.flags, 1, "inbound");
    }
    assert_eq!(contents.statistics.len(), 1);
    assert_eq!(
        (
            contents.statistics[0].accepted,
            contents.statistics[0].delivered
        ),
        (5, 5)
    );
    // What Wireshark shows of it.
    let fields = [
        "-T",
        "fields",
        "-e",
        "frame.comment",
        "-e",
        "frame.interface_name",
        "-e",
        "frame.packet_flags_direction",
        "-r",
    ];
    let shown = run(
        Command::new("tshark")
            .arg("-n")
            .args(fields)
            .arg(&ended.files()[0]),
        "",
    );
    assert!(
        shown.starts_with("mark=0x0000002a prefix=in the lab\trx\t"),
        "{shown}"
    );
}

/// A name belongs to an index at a time: what comes by an interface that was renamed is shown under
/// the new name, and its drops before that are no new ones.
#[test]
fn an_interface_that_is_renamed_is_shown_by_its_name() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 5).send(&lab, None).unwrap();
    capture.wait_written(5);
    // Drops with a history: 50 frames of a protocol that nobody takes.
    let mut frame = vec![0xff; 60];
    frame[6..12].copy_from_slice(&lab.tx().mac);
    frame[12..14].copy_from_slice(&[0x12, 0x34]);
    common::send_frames(lab.sender(), TX, &vec![frame; 50]);
    let dropped = || {
        let stats = lab.receiver_stats().unwrap();
        (stats.rx_dropped >= 50).then_some(())
    };
    until("they are dropped", dropped);
    run_in(lab.receiver(), "ip", &["link", "set", RX, "name", "wan0"]);
    // Looked up again within a tick, and before the next packet's batch is full.
    std::thread::sleep(Duration::from_millis(300));
    Traffic::new(64, 5).stream(1).send(&lab, None).unwrap();
    capture.wait_written(10);
    let ended = capture.end();
    let contents = only_file(&ended.files());
    let names: Vec<_> = contents
        .interfaces
        .iter()
        .map(|interface| &*interface.name)
        .collect();
    assert_eq!(names, [RX, "wan0"]);
    let shown: Vec<_> = contents
        .packets
        .iter()
        .map(|packet| packet.interface)
        .collect();
    assert_eq!(shown, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    assert_eq!(ended.number("/before_hook"), 50, "{:#}", ended.report);
}

/// A file declares the interfaces that are in it: an id says nothing of another file.
#[test]
fn interface_ids_are_a_file_s_own() {
    for source in [&["--group", "5"][..], &["--hook"]] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let mut capture = Running::capture(lab.receiver(), dir.path(), source);
        let to_itself = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        };
        lab.receiver().run(to_itself).unwrap();
        capture.wait_written(1);
        Traffic::new(64, 5).send(&lab, None).unwrap();
        capture.wait_written(6);
        capture.signal(Signal::HUP);
        capture.wait_stats("the file has changed", |stats| {
            number(stats, "/files_begun") == 2
        });
        Traffic::new(64, 5).stream(1).send(&lab, None).unwrap();
        capture.wait_written(11);
        let names = |file: &PathBuf| {
            let interfaces = read(file).interfaces.into_iter();
            interfaces
                .map(|interface| interface.name)
                .collect::<Vec<_>>()
        };
        let files: Vec<_> = capture.end().files().iter().map(names).collect();
        assert_eq!(files, [vec!["lo", RX], vec![RX]]);
    }
}

/// Interfaces come and go by the thousand where containers do. The kernel says what they are called
/// when they change, and nobody asks again: least of all the thread that captures. It may ask once
/// for the name of one that is met before it was told.
#[test]
fn interfaces_that_come_and_go_cost_the_capturing_thread_nothing() {
    const INTERFACES: usize = 50;
    let sources = [
        (&["--hook"][..], INTERFACES + 1),
        (&["--hook", "--iface", "rx,mv7"], 2),
        (&["--group", "5"], INTERFACES + 1),
    ];
    for (source, captured) in sources {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let args = [source, &["--file-size", "16MiB"]].concat();
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        let thread = capturing_thread(capture.pid());
        let trace = dir.path().join("trace");
        let mut strace = Running::spawn(
            Command::new("strace")
                .args(["-p", &thread, "-o"])
                .arg(&trace),
        );
        strace.wait_said("attached");
        let ip = |line: &dyn Fn(usize) -> String| {
            let lines: String = (0..INTERFACES).map(line).collect();
            run(
                lab.receiver().command("ip").unwrap().args(["-batch", "-"]),
                &lines,
            );
        };
        let asked = || {
            let trace = std::fs::read_to_string(&trace).unwrap();
            let sockets = trace.lines().filter(|line| line.starts_with("socket("));
            sockets.count()
        };
        let mut met = 0;
        for round in 0..2 {
            ip(&|n| {
                format!(
                    "link add link {RX} name mv{n} type macvlan mode bridge\nlink set mv{n} up\n"
                )
            });
            // A program that tells interfaces apart knows a new one after its reader's rest.
            std::thread::sleep(Duration::from_millis(300));
            // One frame to all of them, and to the one below.
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(lab.tx().mac, [0xff; 6])
                .ipv4([198, 18, 7, 7], [255; 4], 64)
                .udp(1, 2)
                .write(&mut frame, &[round; 20])
                .unwrap();
            common::send_frames(lab.sender(), TX, &[frame]);
            met += captured;
            capture.wait_written(met as u64);
            ip(&|n| format!("link set mv{n} alias changed\n"));
            ip(&|n| format!("link del mv{n}\n"));
        }
        // What comes now is behind all that.
        for n in 0..20 {
            let alias = format!("changed-{n}");
            run_in(lab.receiver(), "ip", &["link", "set", RX, "alias", &alias]);
        }
        Traffic::new(64, 5).send(&lab, None).unwrap();
        capture.wait_written(met as u64 + 5);
        strace.end_by(Signal::INT);
        assert!(asked() <= met, "{source:?}: {} questions", asked());
        let contents = only_file(&capture.end().files());
        let names = contents.interfaces.iter().map(|met| &*met.name);
        let mut names: Vec<_> = names.collect();
        assert_eq!(names.len(), met - 1, "{source:?}"); // what is below was met once
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), captured, "{source:?}: {names:?}");
        assert!(!names.iter().any(|name| name.starts_with("ifindex")));
    }
}

/// The kernel's number of the thread that captures.
fn capturing_thread(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let captures = |task: &PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap();
        name.starts_with("capture-")
    };
    let task = tasks.find(captures).unwrap();
    task.file_name().unwrap().to_str().unwrap().to_owned()
}

/// An interface that comes with a history of drops brings none of them.
#[test]
fn what_an_interface_had_dropped_before_it_came_is_not_counted() {
    let (lab, other, dir) = (lab(), common::namespace(), temp_dir());
    load_capture_rules(lab.receiver());
    let script = "ip link add h0 type veth peer name h1 && ip link set h0 up && ip link set h1 up";
    run_in(&other, "sh", &["-ec", script]);
    common::send_frames(
        &other,
        "h0",
        &vec![[&[0xff; 12][..], &[0x12, 0x34], &[0; 46]].concat(); 500],
    );
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let pid = capture.pid().to_string();
    run_in(&other, "ip", &["link", "set", "h1", "netns", &pid]);
    Traffic::new(64, 5).send(&lab, None).unwrap();
    capture.wait_written(5);
    let ended = capture.end();
    assert_eq!(ended.number("/before_hook"), 0, "{:#}", ended.report);
}

/// `--iface` takes an alternative name, and says where a rule for a port of a bridge sees nothing.
#[test]
fn iface_takes_other_names_and_hints_at_bridges() {
    let (lab, dir) = (lab(), temp_dir());
    let add = [
        "link",
        "property",
        "add",
        "dev",
        RX,
        "altname",
        "a-rather-long-name-of-it",
    ];
    run_in(lab.receiver(), "ip", &add);
    let options = [
        "-g",
        "5",
        "--install-rule",
        "--iface",
        "a-rather-long-name-of-it",
    ];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    Traffic::new(64, 5).send(&lab, None).unwrap();
    capture.wait_written(5);
    let ended = capture.end();
    assert!(
        ended.said.contains("is another name of `rx`"),
        "{}",
        ended.said
    );
    let printed = run_in(
        lab.receiver(),
        LWNFLOG,
        &["rules", "-g", "5", "--iface", options[4]],
    );
    assert!(printed.contains("iifname \"rx\""), "{printed}");
    let script = "ip link add br0 type bridge && ip link set br0 up && ip link set rx master br0";
    run_in(lab.receiver(), "sh", &["-ec", script]);
    let options = ["-g", "5", "--install-rule", "--iface", RX];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    capture.wait_said("`rx` is a port of the bridge `br0`");
    capture.end();
}

/// In a sandbox that has netlink and no other family, interfaces have their names all the same.
#[test]
fn names_need_no_other_socket_than_netlink() {
    let (lab, dir) = (lab(), temp_dir());
    let mut command = lab.receiver().command("strace").unwrap();
    command
        .args(["-f", "-qqq", "-o"])
        .arg(dir.path().join("calls"));
    command.args([
        "-e",
        "trace=socket",
        LWNFLOG,
        "--json",
        "-g",
        "5",
        "--install-rule",
    ]);
    let command = command.args(["--no-control", "--iface", RX, "--count", "5", "-w"]);
    let mut capture = Running::spawn(command.arg(dir.path().join("ring")));
    capture.wait_said("capturing group");
    Traffic::new(64, 5).send(&lab, None).unwrap();
    let ended = capture.wait_end();
    assert_eq!(only_file(&ended.files()).interfaces[0].name, RX);
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    let others: Vec<_> = calls
        .lines()
        .filter(|call| !call.contains("AF_NETLINK"))
        .collect();
    assert!(
        calls.contains("NETLINK_ROUTE") && others.is_empty(),
        "{others:?}"
    );
}

#[test]
fn two_interfaces_share_a_file() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 3).send(&lab, None).unwrap();
    capture.wait_written(3);
    send_over_loopback(lab.receiver(), 4);
    capture.wait_written(7);
    let ended = capture.end();
    ended.assert_balanced();
    let contents = only_file(&ended.files());
    let names: Vec<_> = contents
        .interfaces
        .iter()
        .map(|interface| &*interface.name)
        .collect();
    assert_eq!(names, [RX, "lo"]);
    let places: Vec<_> = contents
        .packets
        .iter()
        .map(|packet| packet.interface)
        .collect();
    assert_eq!(places, [0, 0, 0, 1, 1, 1, 1]);
    // The loopback interface has Ethernet headers of its own: all zero but the type.
    assert_eq!(
        contents.packets[3].data[..14],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]
    );
    let delivered: Vec<_> = contents
        .statistics
        .iter()
        .map(|statistics| statistics.delivered)
        .collect();
    assert_eq!(delivered, [3, 4]);
    assert_all_readers_find(&ended.files()[0], 7);
}

/// A tun interface has no Ethernet header: one is synthesized, so that the file has one link type.
#[test]
fn an_interface_without_ethernet_header_shares_the_file() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut tun = lab.receiver().run(|| Tun::open("tun0")).unwrap().expect(
        "this test needs a tun interface: root in the namespace, /dev/net/tun and CONFIG_TUN (`modprobe tun`)",
    );
    run_in(
        lab.receiver(),
        "ip",
        &["addr", "add", "10.9.9.1/24", "dev", "tun0"],
    );
    run_in(lab.receiver(), "ip", &["link", "set", "tun0", "up"]);
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5", "-s", "0"]);
    Traffic::new(64, 1).send(&lab, None).unwrap();
    capture.wait_written(1);
    let packet = ipv4_udp(
        Ipv4Addr::new(10, 9, 9, 2),
        Ipv4Addr::new(10, 9, 9, 1),
        b"by the tunnel",
    );
    tun.inject(&packet).unwrap();
    capture.wait_written(2);
    let ended = capture.end();
    ended.assert_balanced();
    let contents = only_file(&ended.files());
    assert_eq!(contents.interfaces[1].name, "tun0");
    let by_tunnel = &contents.packets[1];
    assert_eq!(
        by_tunnel.data[..14],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]
    );
    assert_eq!(by_tunnel.data[14..], packet);
    assert_eq!(by_tunnel.original as usize, packet.len() + 14);
    assert_all_readers_find(&ended.files()[0], 2);
}

fn ipv4_udp(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(from.octets(), to.octets(), 64)
        .udp(4000, 4001)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

#[test]
fn count_ends_the_capture_and_the_rest_is_skipped() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5", "-c", "100"]);
    Traffic::new(64, 250).send(&lab, None).unwrap();
    let ended = capture.wait_end();
    assert!(ended.status.success(), "{}", ended.said);
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/written"), ended.number("/detected")),
        (100, 250)
    );
    assert_eq!(ended.number("/skipped_beyond_count"), 150);
    assert_eq!(
        only_file(&ended.files()).sequence_numbers(),
        Vec::from_iter(0..100)
    );
}

/// The rule goes on counting when the count is reached: that is no loss.
#[test]
fn count_ends_a_capture_in_the_middle_of_traffic() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    under_traffic(&lab, 20_000, || {
        for _ in 0..3 {
            let options = ["--group", "5", "-c", "1000"];
            let ended = Running::capture(lab.receiver(), dir.path(), &options).wait_end();
            assert!(ended.status.success(), "{}", ended.said);
            assert_eq!(ended.number("/written"), 1000);
            assert_eq!(ended.number("/dropped/allocation"), 0, "{}", ended.said);
        }
    });
}

#[test]
fn count_ends_a_capture_that_discards_too() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(
        lab.receiver(),
        dir.path(),
        &["--group", "5", "--discard", "-c", "100"],
    );
    Traffic::new(64, 250).send(&lab, None).unwrap();
    let ended = capture.wait_end();
    ended.assert_balanced();
    assert_eq!(
        (
            ended.number("/discarded"),
            ended.number("/skipped_beyond_count")
        ),
        (100, 150)
    );
}

#[test]
fn discard_counts_and_writes_nothing() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let ring = dir.path().join("ring");
    let mut capture = Running::capture(lab.receiver(), &ring, &["--group", "5", "--discard"]);
    Traffic::new(64, 5000).send(&lab, None).unwrap();
    capture.wait_stats("all are counted", |stats| {
        number(stats, "/discarded") == 5000
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/discarded"), ended.number("/written")),
        (5000, 0)
    );
    assert!(!ring.exists());
}

/// A counter that begins anew cannot say what was detected before; if it has gone beyond where it
/// was by the time somebody looks, only its table or the packets' numbers tell.
#[test]
fn a_counter_that_begins_anew_is_told() {
    let reset = "reset counters table ip lwnflog-g5\n";
    for anew in [include_str!("../nft-rules/capture.nft"), reset] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        Traffic::new(64, 100).send(&lab, None).unwrap();
        capture.wait_written(100);
        nft(lab.receiver(), anew);
        Traffic::new(64, 300).send(&lab, None).unwrap();
        capture.wait_written(400);
        let report = capture.end().report;
        assert_eq!(number(&report, "/written"), 400);
        assert_eq!(number(&report, "/detected"), 400, "{report:#}");
        let remarks = report["remarks"].to_string();
        assert!(remarks.contains("reset, reloaded or removed"), "{report:#}");
    }
}

#[test]
fn duration_ends_the_capture() {
    let (namespace, dir) = (namespace(), temp_dir());
    load_capture_rules(&namespace);
    let begun = Instant::now();
    let ended = Running::capture(
        &namespace,
        dir.path(),
        &["--group", "5", "--duration", "1.2s"],
    )
    .wait_end();
    assert!(ended.status.success(), "{}", ended.said);
    assert!(begun.elapsed() >= Duration::from_millis(1200));
    let elapsed = ended.report["elapsed_secs"].as_f64().unwrap();
    assert!(elapsed >= 1.2, "{elapsed}");
}

/// Ctrl-C and SIGTERM: what the kernel still holds is taken, the report is printed.
#[test]
fn signals_end_the_capture_with_nothing_lost() {
    for signal in [Signal::INT, Signal::TERM] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        // Stopped when they come and when it is told to end: what it has then is in the kernel.
        capture.signal(Signal::STOP);
        Traffic::new(64, 700).send(&lab, None).unwrap();
        until("the rule has seen them", || {
            (detected(lab.receiver()) == 700).then_some(())
        });
        capture.signal(signal);
        capture.signal(Signal::CONT);
        let ended = capture.wait_end();
        assert!(ended.status.success(), "{}", ended.said);
        ended.assert_balanced();
        assert_eq!(
            (ended.number("/detected"), ended.number("/written")),
            (700, 700)
        );
        assert_eq!(
            only_file(&ended.files()).sequence_numbers(),
            Vec::from_iter(0..700)
        );
        assert_all_readers_find(&ended.files()[0], 700);
        assert!(
            ended.said.contains("detected  700"),
            "the report for people: {}",
            ended.said
        );
    }
}

/// As `timeout` sends them: one to the process, one to its group.
#[test]
fn two_signals_at_once_are_one() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    capture.signal(Signal::STOP);
    Traffic::new(64, 100).send(&lab, None).unwrap();
    capture.signal(Signal::TERM);
    capture.signal(Signal::INT);
    capture.signal(Signal::CONT);
    let ended = capture.wait_end();
    assert!(ended.status.success(), "{}", ended.status);
    assert_eq!(ended.number("/written"), 100);
}

/// No signal that somebody may send ends a capture without its report.
#[test]
fn no_signal_takes_the_report_away() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let harmless = [
        Signal::USR2,
        Signal::PIPE,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::POWER,
        Signal::STKFLT,
        Signal::XFSZ,
        Signal::CHILD,
        Signal::URG,
        Signal::WINCH,
    ];
    for (sent, signal) in (1..).zip(harmless) {
        capture.signal(signal);
        Traffic::new(64, 1).send(&lab, None).unwrap();
        capture.wait_written(sent);
    }
    for number in 35..=64 {
        let kill = ["-c", &format!("kill -{number} {}", capture.pid())];
        common::run(Command::new("sh").args(kill), "");
    }
    Traffic::new(64, 1).send(&lab, None).unwrap();
    capture.wait_written(13);
    assert_eq!(capture.end().number("/written"), 13);
    for signal in [Signal::QUIT, Signal::XCPU, Signal::TERM] {
        let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
        let ended = capture.end_by(signal);
        assert!(
            ended.status.success(),
            "{signal:?}: {} {}",
            ended.status,
            ended.said
        );
        assert_eq!(ended.number("/detected"), 0);
    }
}

#[test]
fn sigusr1_prints_figures() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 1234).send(&lab, None).unwrap();
    capture.wait_written(1234);
    capture.signal(Signal::USR1);
    let line = capture.wait_said("packets/s");
    assert!(
        line.contains("1,234 written, 0 dropped, 0 skipped"),
        "{line}"
    );
    capture.end();
}

#[test]
fn sighup_goes_on_to_the_next_file_when_there_are_packets() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    capture.signal(Signal::HUP); // with no packet yet: nothing to rotate
    for round in 1..=3 {
        Traffic::new(64, 10).send(&lab, None).unwrap();
        capture.wait_written(10 * round);
        capture.signal(Signal::HUP);
        capture.wait_stats("the file has changed", |stats| {
            number(stats, "/files_begun") == round + 1
        });
    }
    let ended = capture.end();
    ended.assert_balanced();
    let files = ended.files();
    assert_eq!(
        files.len(),
        3,
        "the fourth held no packet and is gone: {files:?}"
    );
    for file in &files {
        assert_eq!(read(file).packets.len(), 10);
    }
}

/// A file with packets ends when its time has come, though nothing arrives.
#[test]
fn rotate_secs_fires_when_idle_too() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5", "-G", "1"]);
    Traffic::new(64, 10).send(&lab, None).unwrap();
    capture.wait_written(10);
    let finished = until("the file is finished without traffic", || {
        let mut entries = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries.find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".pcapng") && !name.contains("live") && !name.starts_with('.')
        })
    });
    assert_eq!(read(&finished).packets.len(), 10);
    capture.wait_stats("two seconds more", |stats| {
        stats["elapsed_secs"].as_f64().unwrap() > 3.5
    });
    let ended = capture.end();
    assert_eq!(
        ended.number("/files_begun"),
        2,
        "files without packets do not rotate"
    );
}

/// However long a capture was stopped (a signal, a frozen container, a suspended machine), what
/// passed is one rotation: one for each second missed would throw the whole ring away.
#[test]
fn a_capture_that_was_stopped_rotates_once() {
    const MISSED_SECS: f64 = 8.0;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5", "-G", "1"]);
    let elapsed = |stats: &Value| stats["elapsed_secs"].as_f64().unwrap();
    under_traffic(&lab, 1000, || {
        let before = capture.wait_stats("packets arrive", |stats| number(stats, "/written") > 0);
        capture.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs_f64(MISSED_SECS + 1.0));
        capture.signal(Signal::CONT);
        let missed = elapsed(&before) + MISSED_SECS;
        let again = capture.wait_stats("it goes on", |stats| elapsed(stats) > missed);
        let seen_until = elapsed(&again) + 2.0;
        let after = capture.wait_stats("seconds pass", |stats| elapsed(stats) > seen_until);
        let files = number(&after, "/files_begun") - number(&before, "/files_begun");
        // Those of the seconds that it saw, the one for what it missed, and two at the edges.
        let seen_secs = elapsed(&after) - elapsed(&again);
        assert!(
            files as f64 <= seen_secs + 3.0,
            "{files} files, {seen_secs} s"
        );
    });
    capture.end().assert_balanced();
}

#[test]
fn json_has_the_fields_that_are_promised() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    let options = ["--group", "5", "-q", "--json", "--duration", "2500ms", "-w"];
    let mut capture = Running::spawn(command.args(options).arg(dir.path()));
    capture.wait_stats("the first second", |_| true);
    Traffic::new(64, 50).send(&lab, None).unwrap();
    let ended = capture.wait_end();
    let events: Vec<_> = ended
        .json
        .iter()
        .map(|object| object["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["stats", "stats", "report"]);
    for field in [
        "groups",
        "detected",
        "received",
        "written",
        "dropped",
        "skipped",
        "before_hook",
        "lost_percent",
        "bytes",
        "files",
        "elapsed_secs",
        "stalls",
    ] {
        assert!(
            ended
                .report
                .get(field)
                .is_some_and(|value| !value.is_null()),
            "{field}: {:#}",
            ended.report
        );
    }
    for place in ["overrun", "allocation", "writer"] {
        assert_eq!(number(&ended.report["dropped"], &format!("/{place}")), 0);
    }
    assert_eq!(
        (
            ended.number("/detected"),
            ended.number("/received"),
            ended.number("/written")
        ),
        (50, 50, 50)
    );
    assert_eq!(ended.number("/groups/0/group"), 5);
    assert_eq!(ended.report["lost_percent"], 0.0);
    assert_eq!(ended.said, "", "--quiet");
}

fn has_table(namespace: &Namespace) -> bool {
    run_in(namespace, "nft", &["list", "tables"]).contains("lwnflog")
}

#[test]
fn an_installed_rule_captures_and_vanishes_with_the_process() {
    for kill in [false, true] {
        let (lab, dir) = (lab(), temp_dir());
        let options = ["--group", "5", "--install-rule", "--iface", RX];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
        assert!(has_table(lab.receiver()));
        send_over_loopback(lab.receiver(), 5);
        Traffic::new(64, 300).send(&lab, None).unwrap();
        capture.wait_written(300);
        if kill {
            capture.kill();
        } else {
            let ended = capture.end();
            ended.assert_balanced();
            assert_eq!(
                (ended.number("/detected"), ended.number("/written")),
                (300, 300),
                "not the loopback's"
            );
        }
        until("the rule is gone", || {
            (!has_table(lab.receiver())).then_some(())
        });
    }
}

/// The thesis's passive capture host: logged, then dropped.
#[test]
fn an_installed_rule_can_drop() {
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(
        lab.receiver(),
        dir.path(),
        &["--group", "5", "--install-rule", "--drop"],
    );
    let bind = || {
        let socket = UdpSocket::bind((lab.rx().address, 53)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let socket = lab.receiver().run(bind).unwrap();
    Traffic::new(64, 300).send(&lab, None).unwrap();
    capture.wait_written(300);
    assert!(
        socket.recv(&mut [0; 100]).is_err(),
        "dropped behind the rule"
    );
    let ended = capture.end();
    ended.assert_balanced();
    Traffic::new(64, 300).send(&lab, None).unwrap();
    until("without the rule they arrive", || {
        socket.recv(&mut [0; 100]).ok()
    });
}

/// The account is exact under traffic that does not end: a rule of its own counts nothing that no
/// group was bound for.
#[test]
fn an_installed_rule_makes_the_account_exact_in_the_middle_of_traffic() {
    let (lab, dir) = (lab(), temp_dir());
    under_traffic(&lab, 20_000, || {
        for _ in 0..3 {
            let mut capture = Running::capture(
                lab.receiver(),
                dir.path(),
                &["--group", "5", "--install-rule"],
            );
            capture.wait_written(5_000);
            let ended = capture.end();
            ended.assert_balanced();
            assert_eq!(ended.number("/written"), ended.number("/detected"));
        }
    });
}

/// A rule that was there first counts on while its group is bound and released: how much, nobody
/// can say, and the report gives the bounds.
#[test]
fn without_a_rule_of_its_own_the_report_says_how_far_it_is_uncertain() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    under_traffic(&lab, 60_000, || {
        until("packets pass between two looks at the counter", || {
            let before = detected(lab.receiver());
            let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
            capture.wait_written(5_000);
            let ended = capture.end();
            let after = detected(lab.receiver());
            let report = &ended.report;
            let uncertain = ended.number("/detected_uncertain");
            let (told, received) = (ended.number("/detected"), ended.number("/received"));
            assert!(
                received <= told && told + uncertain <= after - before,
                "{before} {after} {report:#}"
            );
            assert_eq!(
                told,
                ended.number("/written") + common::dropped(report),
                "{report:#}"
            );
            let text = format!("(up to {} more)", lwnflog::numbers::grouped(uncertain));
            assert_eq!(ended.said.contains(&text), uncertain != 0, "{}", ended.said);
            (uncertain != 0).then_some(())
        });
    });
}

/// The settings that make batches of a thousand hold in the kernel: what is handed over is full, or
/// as old as `--flush-ms` says.
#[test]
fn the_kernel_hands_over_full_batches() {
    const PACKETS: u64 = 200_000;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "-s", "0", "--flush-ms", "50"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    let table = bound_groups(lab.receiver());
    // Group, port id, packets waiting, mode (2: packets), bytes to copy, flush timeout in 1/100 s,
    // users.
    let columns: Vec<_> = table.split_whitespace().collect();
    assert_eq!(
        (columns[0], columns[3], columns[5]),
        ("5", "2", "5"),
        "{table}"
    );
    Traffic::new(64, PACKETS).send(&lab, None).unwrap();
    capture.wait_written(PACKETS);
    let ended = capture.end();
    ended.assert_balanced();
    // A message of 64 bytes takes some 200, so that the kernel's 128 KiB and more hold over 600.
    let full = PACKETS / 600 + 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "twentieths of a second"
    )]
    let timeouts = (ended.report["elapsed_secs"].as_f64().unwrap() * 20.0) as u64 + 1;
    let batches = ended.number("/batches");
    assert!(
        batches <= full + timeouts,
        "{batches} batches, {full} full ones and {timeouts} times 50 ms"
    );
}

/// Another process may send to our socket, if it has the right. Nothing that it says counts, nor
/// does it end anything.
#[test]
fn a_stranger_s_datagrams_are_passed_over() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let table = bound_groups(lab.receiver());
    let port: u32 = table.split_whitespace().nth(1).unwrap().parse().unwrap();
    capture.signal(Signal::STOP);
    // A packet message of group 5, as the kernel sent one; and what is no message at all.
    let forged = common::datagrams::real_datagrams()[0];
    lab.receiver()
        .run(|| {
            for datagram in [forged, b"nonsense", &forged[..forged.len() / 2]] {
                common::send_netlink(port, datagram);
            }
        })
        .unwrap();
    Traffic::new(64, 700).send(&lab, None).unwrap();
    until("the rule has seen them", || {
        (detected(lab.receiver()) == 700).then_some(())
    });
    capture.signal(Signal::INT);
    capture.signal(Signal::CONT);
    let ended = capture.wait_end();
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/received"), ended.number("/written")),
        (700, 700),
        "{:#}",
        ended.report
    );
}

/// Bound groups, as the kernel lists them.
fn bound_groups(namespace: &Namespace) -> String {
    run_in(
        namespace,
        "cat",
        &["/proc/thread-self/net/netfilter/nfnetlink_log"],
    )
}

/// Ends a process with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nobody reads what is said: the capture ends all the same when it is told to, its files are
/// whole, and a second signal ends the process as well.
#[test]
fn a_reader_that_sleeps_holds_nothing_up() {
    for stream in ["stdout", "stderr"] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        while writer.write(&[b'x'; 512]).is_ok() {}
        rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        command.args(["-g", "5", "--json", "-w"]).arg(dir.path());
        let (out, err): (Stdio, Stdio) = match stream {
            "stdout" => (writer.into(), Stdio::null()),
            _ => (Stdio::null(), writer.into()),
        };
        let mut child = Ends(command.stdout(out).stderr(err).spawn().unwrap());
        until("the group is bound", || {
            (!bound_groups(lab.receiver()).is_empty()).then_some(())
        });
        Traffic::new(64, 700).send(&lab, None).unwrap();
        let pid = Pid::from_child(&child.0);
        let signal = |signal| kill_process(pid, signal).unwrap();
        // More than the stream and its queue hold.
        for _ in 0..300 {
            signal(Signal::USR1);
            std::thread::sleep(Duration::from_millis(1));
        }
        until("the rule has seen them", || {
            (detected(lab.receiver()) == 700).then_some(())
        });
        signal(Signal::INT);
        let finished = until("the capture has ended", || {
            let mut names = std::fs::read_dir(dir.path()).unwrap();
            names.find_map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name()?.to_string_lossy().into_owned();
                (name.ends_with("Z.pcapng")).then_some(path)
            })
        });
        assert_eq!(bound_groups(lab.receiver()), "");
        assert_all_readers_find(&finished, 700);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(child.0.try_wait().unwrap(), None, "it has a report to tell");
        // Two that come close together are one, and how quick the readers were is not known.
        let status = until("it ends", || {
            signal(Signal::TERM);
            child.0.try_wait().unwrap()
        });
        assert_eq!(status.code(), Some(130), "{status}");
        drop(reader);
    }
}

/// A capturing thread that ends with an error: what its rule counts until that is noticed was not received.
#[test]
fn what_comes_behind_an_error_is_said_to_be_so() {
    let (lab, dir) = (lab(), temp_dir());
    let args = ["--group", "5", "--install-rule"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", capture.pid())).unwrap();
    let is_capturing = |task: &std::path::PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap();
        name.trim() == "capture-g5"
    };
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(is_capturing).unwrap();
    let task = task.file_name().unwrap().to_str().unwrap();
    let ended = under_traffic(&lab, 20_000, || {
        capture.wait_written(1_000);
        let inject = "inject=recvfrom:error=EIO:when=3";
        let strace = [
            "-e",
            "trace=recvfrom",
            "-e",
            inject,
            "-o",
            "/dev/null",
            "-p",
            task,
        ];
        let mut strace = Running::spawn(Command::new("strace").args(strace));
        let ended = capture.wait_end();
        let _ = strace.has_ended();
        ended
    });
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    ended.assert_balanced();
    assert_eq!(ended.number("/dropped/allocation"), 0, "{:#}", ended.report);
    let remarks = ended.report["remarks"].to_string();
    assert!(
        remarks.contains("ended by itself (Input/output error"),
        "{remarks}"
    );
}

/// Rules come and go while a capture runs; that none is left is said within seconds, and what they
/// have counted is kept.
#[test]
fn a_rule_that_goes_is_told() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 100).send(&lab, None).unwrap();
    capture.wait_written(100);
    capture.wait_stats("it has looked at the counter", |stats| {
        stats["detected"] == 100
    });
    nft(lab.receiver(), "delete table ip lwnflog-g5");
    let said = capture.wait_said("no nftables rule");
    assert!(said.contains("hands packets to group 5"), "{said}");
    let report = capture.end().report;
    assert_eq!(number(&report, "/detected"), 100, "{report:#}");
    assert_eq!(number(&report, "/written"), 100, "{report:#}");
    assert_eq!(report["lost_percent"], 0.0);
    let remarks = report["remarks"].to_string();
    assert!(remarks.contains("reset, reloaded or removed"), "{report:#}");
}

/// One of two tables is loaded anew: what the other's counter showed before the capture is still
/// not of it.
#[test]
fn a_table_that_is_reloaded_leaves_other_counters_alone() {
    let (lab, dir) = (lab(), temp_dir());
    let table = |name: &str| {
        format!(
            "table ip {name} {{}}\n delete table ip {name}\n table ip {name} {{ chain prerouting {{\n \
             type filter hook prerouting priority -300;\n counter log group 5;\n }}\n }}\n"
        )
    };
    nft(lab.receiver(), &(table("one") + &table("two")));
    Traffic::new(64, 1_000).send(&lab, None).unwrap();
    until("the rules have seen them", || {
        let rules = run_in(lab.receiver(), "nft", &["list", "ruleset"]);
        (rules.matches("packets 1000 ").count() == 2).then_some(())
    });
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    Traffic::new(64, 100).send(&lab, None).unwrap();
    capture.wait_written(200);
    capture.wait_stats("it has looked at the counters", |stats| {
        stats["detected"] == 200
    });
    nft(lab.receiver(), &table("one"));
    Traffic::new(64, 100).send(&lab, None).unwrap();
    capture.wait_written(400);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/detected"), 400, "{:#}", ended.report);
}

/// On a terminal: rate, packets, and the place in the ring, once a second.
#[test]
fn a_terminal_has_a_status_line() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let command = format!(
        "{LWNFLOG} -g 5 -w {} -C 1MiB -W 3 --duration 2500ms",
        dir.path().display()
    );
    let mut script = lab.receiver().command("script").unwrap();
    script.args(["-qec", &command, "/dev/null"]);
    let capture = Running::spawn(&mut script);
    until("the group is bound", || {
        (!bound_groups(lab.receiver()).is_empty()).then_some(())
    });
    Traffic::new(64, 1_234).send(&lab, None).unwrap();
    let ended = capture.wait_end();
    assert!(ended.status.success(), "{ended:?}");
    let shown = ended.shown.join("\n");
    assert!(
        shown.contains("1,234 written, 0 dropped, 0 skipped, file 1 of 3, "),
        "{shown}"
    );
    assert!(shown.contains("\r\u{1b}[K"), "it is one line: {shown:?}");
}

#[test]
fn one_group_a_processor() {
    const PACKETS: u64 = 20_000;
    let (lab, dir) = (lab(), temp_dir());
    let rules = run(Command::new(LWNFLOG).args(["rules", "--group", "5-6"]), "");
    common::nft(lab.receiver(), &rules);
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5,6"]);
    let cores = Vec::from_iter(0..std::thread::available_parallelism().unwrap().get().min(2));
    let traffic = Traffic::new(64, PACKETS).rate(Some(50_000));
    traffic
        .send_from(&lab, &cores, &Progress::default())
        .unwrap();
    capture.wait_written(PACKETS);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/detected"), ended.number("/written")),
        (PACKETS, PACKETS)
    );
    assert_eq!(
        (
            ended.number("/groups/0/group"),
            ended.number("/groups/1/group")
        ),
        (5, 6)
    );
    let sum = ended.number("/groups/0/written") + ended.number("/groups/1/written");
    assert_eq!(sum, PACKETS);
    if cores.len() == 2 {
        assert!(ended.number("/groups/0/written") > 0 && ended.number("/groups/1/written") > 0);
    }
    // Every packet once, in order in its stream and group.
    let mut markers = Vec::new();
    for group in ["g5-", "g6-"] {
        let in_group = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(group)
        };
        let files: Vec<_> = ended.files().into_iter().filter(in_group).collect();
        let of_group: Vec<_> = read_all(&files)
            .packets
            .iter()
            .filter_map(|packet| Marker::of_frame(&packet.data))
            .collect();
        for core in 0..2 {
            let stream: Vec<_> = of_group
                .iter()
                .filter(|marker| marker.stream == core)
                .map(|marker| marker.sequence)
                .collect();
            assert!(stream.is_sorted(), "stream {core} in {group}");
        }
        markers.extend(of_group);
    }
    let mut seen: Vec<_> = markers
        .iter()
        .map(|marker| (marker.stream, marker.sequence))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len() as u64, PACKETS);
}

/// Oldest first, whichever group they are of.
#[test]
fn files_of_several_groups_are_listed_by_age() {
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5,6"]);
    for (round, group) in ["group 6", "group 5", "group 6"].iter().enumerate() {
        common::nft(
            lab.receiver(),
            "table ip lwnflog-g5 {}; delete table ip lwnflog-g5;",
        );
        common::load_rule(lab.receiver(), "", group);
        Traffic::new(64, 10).send(&lab, None).unwrap();
        capture.wait_written(10 * (round as u64 + 1));
        capture.signal(Signal::HUP);
        // Names tell seconds.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let ended = capture.end();
    let files = ended.files();
    let groups: Vec<_> = files
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy()[..2].to_owned())
        .collect();
    assert_eq!(groups, ["g6", "g5", "g6"], "{files:?}");
}

/// The live file is whole at every moment that its writer rests.
#[test]
fn the_live_file_is_read_while_it_grows() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--group", "5"]);
    let live = dir.path().join("g5-000001.live.pcapng");
    assert!(
        !live.exists(),
        "before the first packet there is nothing to read"
    );
    for round in 1..=5 {
        Traffic::new(64, 1500).send(&lab, None).unwrap();
        capture.wait_written(1500 * round);
        until("the live file has its name", || live.exists().then_some(()));
        assert_all_readers_find(&live, 1500 * round);
    }
    capture.end();
}
