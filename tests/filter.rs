//! What a filter means, and what it looks into: values without a word before them, texts with blanks, every
//! link type that tcpdump knows IP behind, and filters of any length.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use common::made::{File, ip, tcp};
use common::{LWNFLOG, output, run, temp_dir};
use lwnflog::index::{self, Segment};
use lwnflog::read::filter::Filter;
use lwnflog::read::{Interface, Record};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const C: [u8; 4] = [10, 0, 0, 3];

fn read(args: &[&str]) -> String {
    run(Command::new(LWNFLOG).args(["read", "--utc"]).args(args), "")
}

fn count(file: &Path, filter: &str) -> usize {
    let told = read(&["--count", "-r", file.to_str().unwrap(), filter]);
    told.trim().parse().unwrap()
}

fn udp(from: u16, to: u16) -> Vec<u8> {
    [from, to, 12, 0, 0, 0].map(u16::to_be_bytes).concat()
}

fn ip6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0, 0, len, protocol, 64];
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// A classic file of a link type, in either byte order.
fn pcap(path: &Path, link: u32, big_endian: bool, frames: &[Vec<u8>]) {
    let word = |number: u32| match big_endian {
        true => number.to_be_bytes(),
        false => number.to_le_bytes(),
    };
    let version = match big_endian {
        true => [0, 2, 0, 4],
        false => [2, 0, 4, 0],
    };
    let mut file = [word(0xa1b2_c3d4), version].concat();
    file.extend([0, 0, 65_535, link].map(word).concat());
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend([1_764_252_000, 0, len, len].map(word).concat());
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

#[test]
fn what_stands_before_a_value_holds_for_bare_ones_too() {
    let mut packets = Vec::new();
    for from in [A, B, C] {
        for to in [A, B, C] {
            packets.push(ip(from, to, 6, 0, &tcp(1000, 80, 2)));
            packets.push(ip(from, to, 17, 0, &udp(80, 443)));
            packets.push(ip(from, to, 47, 0, &[0; 8]));
        }
    }
    packets.push(ip6(6, &tcp(1000, 443, 2)));
    packets.push(ip6(17, &udp(53, 443)));
    let interfaces = ["eth0", "eth1", "eth2"].map(|name| Interface {
        name: name.to_owned(),
        link: 101,
        ..Interface::default()
    });
    let taken = |filter: &str| -> Vec<usize> {
        let filter = Filter::parse(filter).unwrap();
        let records = packets.iter().enumerate().filter(|(number, data)| {
            filter.takes(&Record {
                time_ns: 0,
                interface: &interfaces[number % 3],
                data,
                original_len: u32::try_from(data.len()).unwrap(),
                lost_before: 0,
                flags: 0,
                comment: ["mark=0x00000001", "mark=0x00000002", "prefix=a b"][number % 3],
                note: "",
            })
        });
        records.map(|(number, _)| number).collect()
    };
    for (short, long) in [
        (
            "tcp host 10.0.0.1 or 10.0.0.2",
            "tcp host 10.0.0.1 or tcp host 10.0.0.2",
        ),
        (
            "tcp host 10.0.0.1 or 10.0.0.2",
            "tcp and (host 10.0.0.1 or host 10.0.0.2)",
        ),
        (
            "udp src host 10.0.0.1 or 10.0.0.2",
            "udp and (src 10.0.0.1 or src 10.0.0.2)",
        ),
        ("udp dst 10.0.0.1 and not 10.0.0.2", "udp and dst 10.0.0.1"),
        (
            "tcp net 10.0.0.0/31 or 10.0.0.2/31",
            "tcp and net 10.0.0.0/30",
        ),
        (
            "gre src or dst net 10.0.0.0/31 or 10.0.0.2",
            "gre and (host 10.0.0.1 or host 10.0.0.2)",
        ),
        (
            "ip host 10.0.0.1 or 10.0.0.3",
            "host 10.0.0.1 or host 10.0.0.3",
        ),
        ("ip6 host fd00::1 or fd00::2", "ip6"),
        ("ip port 53 or 80", "ip and (port 53 or port 80)"),
        ("ip6 port 53 or 443", "ip6 and port 443"),
        ("udp port 53 or 80", "udp and (port 53 or port 80)"),
        (
            "tcp portrange 1-90 or 400-500",
            "tcp and (port 80 or port 443)",
        ),
        ("ip proto 6 or 17", "ip and (tcp or udp)"),
        ("port 53 or proto 47 or 17", "gre or udp"),
        ("port 53 or proto 47 or not 17", "udp port 53 or not udp"),
        ("port 53 or mark 1 or 2", "port 53 or mark 1 or mark 2"),
        (
            "port 53 or iface eth0 or eth1",
            "port 53 or iface eth0 or iface eth1",
        ),
        ("port 53 or less 30 or 28", "port 53 or less 30"),
        (
            "not (tcp host 10.0.0.1 or 10.0.0.2)",
            "not tcp or not (host 10.0.0.1 or host 10.0.0.2)",
        ),
        ("not not not tcp", "not tcp"),
        ("prefix 'a b'", "not iface eth0 and not iface eth1"),
    ] {
        let (short_takes, long_takes) = (taken(short), taken(long));
        assert_eq!(short_takes, long_takes, "{short}: {long}");
        assert!((1..packets.len()).contains(&short_takes.len()), "{short}");
    }
    // A test without a value says nothing of what follows: what is meant must be said.
    for unclear in ["port 80 or tcp or 443", "port 80 or lost or 443"] {
        assert!(Filter::parse(unclear).is_err(), "{unclear}");
    }
}

#[test]
fn a_prefix_is_found_as_nftables_writes_it() {
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    let mut file = File::new();
    let packet = ip(A, B, 6, 0, &tcp(1000, 80, 2));
    for prefix in [
        "prefix=ssh-scan: ",
        "prefix=ssh-scan:",
        "prefix= a  (b) and ",
    ] {
        file.packet_with(0, 0, &packet, 0, &[prefix]);
    }
    fs::write(&path, file.0).unwrap();
    let file = path.to_str().unwrap();
    for (words, found) in [
        (&["prefix", "ssh-scan: "][..], 1),
        (&["prefix", "ssh-scan:"], 1),
        (&["prefix", "\"ssh-scan: \""], 1),
        (&["prefix \"ssh-scan: \""], 1),
        (&["prefix 'ssh-scan: '", "or", "prefix", " a  (b) and "], 2),
        (&["(", "tcp", "and", "prefix", "ssh-scan: ", ")"], 1),
        (&["not", "prefix", "ssh-scan: ", "and", "tcp port 80"], 2),
        (&["prefix", "ssh-scan: ", "or", "ssh-scan:"], 2),
    ] {
        let told = read(&[&["--count", file], words].concat());
        assert_eq!(told.trim(), found.to_string(), "{words:?}");
        let told = run(
            Command::new(LWNFLOG)
                .args(["report", "--text", file])
                .args(words),
            "",
        );
        assert!(told.contains(&format!("  {found}\n")), "{words:?}: {told}");
    }
}

/// A filter is as long as somebody's list of addresses.
#[test]
fn a_filter_may_have_any_length() {
    const TERMS: u32 = 200_000;
    let all = |word: fn(u32) -> &'static str| {
        let mut text = "host 10.0.0.0".to_owned();
        for number in 1..TERMS {
            let [_, a, b, c] = number.to_be_bytes();
            text += &format!(" {} host 10.{a}.{b}.{c}", word(number));
        }
        text
    };
    // As little room as a thread may have: nothing in it may be as deep as the filter is long.
    let looked = thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let packet = ip([10, 3, 13, 63], [192, 0, 2, 1], 6, 0, &tcp(1, 2, 2)); // number 199,999
        let interface = Interface {
            link: 101,
            ..Interface::default()
        };
        let takes = |filter: &Filter| {
            filter.takes(&Record {
                time_ns: 0,
                interface: &interface,
                data: &packet,
                original_len: 40,
                lost_before: 0,
                flags: 0,
                comment: "",
                note: "",
            })
        };
        let or = Filter::parse(&all(|_| "or")).unwrap();
        assert!(takes(&or) && or.is_selective());
        assert!(or.may_take_of(&Segment::default(), &index::Filter::everything()));
        assert!(format!("{or:?}").len() > 1_000_000);
        assert!(or == or.clone());
        let and = Filter::parse(&all(|_| "and not")).unwrap();
        assert!(!takes(&and));
        let mixed = Filter::parse(&all(|number| match number % 2 {
            0 => "or",
            _ => "and not",
        }));
        let mixed = mixed.unwrap();
        assert!(!takes(&mixed) && mixed.is_selective());
        assert!(mixed.may_take_of(&Segment::default(), &index::Filter::everything()));
        // What is wrong with it is not lost in it.
        let wrong = Filter::parse(&format!("{} or host x or 10.0.0.1", all(|_| "or")));
        let said = wrong.unwrap_err().to_string();
        assert!(
            said.len() < 600 && said.contains("or host x or 10.0.0.1"),
            "{said}"
        );
        let place = said
            .lines()
            .nth(1)
            .unwrap()
            .chars()
            .position(|letter| letter == 'x');
        assert_eq!(said.lines().nth(2).unwrap().find('^'), place, "{said}");
        // What does nest has a limit.
        assert!(takes(
            &Filter::parse(&format!("{}tcp", "not ".repeat(100_000))).unwrap()
        ));
        let deep = |depth| format!("{}tcp{}", "(".repeat(depth), ")".repeat(depth));
        assert!(takes(&Filter::parse(&deep(200)).unwrap()));
        let said = Filter::parse(&deep(100_000)).unwrap_err().to_string();
        assert!(
            said.contains("parentheses stand in more than 200 others"),
            "{said}"
        );
    });
    looked.unwrap().join().unwrap();
    // By the command, too, in all of its threads.
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    let mut file = File::new();
    file.packet(0, &ip(A, B, 6, 0, &tcp(1000, 80, 2)), 0);
    fs::write(&path, file.0).unwrap();
    let words: Vec<String> = (0..20_000_u32)
        .rev()
        .flat_map(|number| {
            [
                "or".to_owned(),
                format!("10.0.{}.{}", number >> 8, number & 255),
            ]
        })
        .skip(1)
        .collect();
    let mut command = Command::new(LWNFLOG);
    let told = run(command.args(["read", "--count"]).arg(&path).args(words), "");
    assert_eq!(told.trim(), "1");
}

#[test]
fn what_is_not_in_this_filter_is_said_to_be_in_tcpdumps() {
    for (filter, word) in [
        ("tcp[tcpflags] & (tcp-syn) != 0", "tcp[tcpflags]"),
        ("tcp[13]&2!=0", "tcp[13]&2!=0"),
        ("port 80 and ip[0] & 0xf != 5", "ip[0]"),
        ("vlan 7", "vlan"),
        ("arp", "arp"),
        ("not arp and port 53", "arp"),
        ("ether host 02:00:00:00:00:01", "ether"),
        ("ip broadcast", "broadcast"),
        ("wlan type mgt", "wlan"),
        ("len > 100", "len"),
        ("host 10.0.0.1 or gateway fw", "gateway"),
        ("net 10.0.0.0 mask 255.0.0.0", "mask"),
    ] {
        let said = Filter::parse(filter).unwrap_err().to_string();
        let wanted =
            format!("`{word}` is not in this filter: `lwnflog read -w - | tcpdump -r - 'EXPR'`");
        assert!(said.contains(&wanted), "{filter}: {said}");
    }
    // As it says.
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    let mut file = File::new();
    for flags in [2, 0x10, 2] {
        file.packet(0, &ip(A, B, 6, 0, &tcp(1000, 80, flags)), 0);
    }
    fs::write(&path, file.0).unwrap();
    let script = format!(
        "{LWNFLOG} read -w - {} | tcpdump -nr - 'tcp[tcpflags] & tcp-syn != 0' 2>/dev/null | wc -l",
        path.display()
    );
    assert_eq!(
        run(Command::new("sh").args(["-c", &script]), "").trim(),
        "2"
    );
}

/// An ARP request, and a bridge's message of STP, whose beginning is that of an IPv4 header.
fn arp() -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    packet.extend(A);
    packet.extend([0; 6]);
    packet.extend(B);
    packet
}

fn stp() -> Vec<u8> {
    let mut packet = vec![0x42, 0x42, 3, 0, 0, 0, 0, 0];
    packet.resize(38, 0x80);
    packet
}

/// What stands before a packet of this EtherType by this link type; `None` where the two do not go together.
fn header(link: u32, kind: u16) -> Option<Vec<u8>> {
    let [high, low] = kind.to_be_bytes();
    let family = match kind {
        0x0800 => Some(2),
        0x86dd => Some(if link == 108 || link == 109 || link == 117 {
            24
        } else {
            10
        }),
        _ => None,
    };
    let ppp = match kind {
        0x0800 => Some([0, 0x21]),
        0x86dd => Some([0, 0x57]),
        0x0806 => Some([0xc0, 0x21]), // LCP
        _ => None,
    };
    Some(match link {
        0 => vec![family?, 0, 0, 0],
        108 => vec![0, 0, 0, family?],
        109 => [vec![family?], vec![0; 11]].concat(),
        117 => [&[61, family?, 0, 0][..], b"em0", &[0; 57]].concat(),
        1 => [&[2; 12][..], &[high, low]].concat(),
        8 => [&[0; 16][..]].concat(),
        9 | 50 => [&[0xff, 3][..], &ppp?].concat(),
        51 => [&[0x11, 0, 0, 1, 0, 60][..], &ppp?].concat(),
        166 => [&[1, 3][..], &ppp?].concat(),
        10 => [&[0x50][..], &[2; 12], &[0xaa, 0xaa, 3, 0, 0, 0, high, low]].concat(),
        104 => vec![0x0f, 0, high, low],
        113 => [&[0, 0, 0, 1, 0, 6][..], &[2; 8], &[high, low]].concat(),
        276 => [&[high, low, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6][..], &[2; 8]].concat(),
        _ => Vec::new(), // the packet alone
    })
}

/// Frames of each link type, by tcpdump and by lwnflog: how many are IPv4, IPv6, and of some host.
#[test]
fn every_link_type_is_looked_into_as_tcpdump_does() {
    let dir = temp_dir();
    let path = dir.path().join("f.pcap");
    let four = || ip(A, B, 17, 0, &udp(1000, 53));
    let six = || ip6(6, &tcp(1000, 443, 2));
    let tagged = |packet: Vec<u8>, kind: u16| [&[0, 7][..], &kind.to_be_bytes(), &packet].concat();
    for link in [
        0, 1, 8, 9, 10, 12, 50, 51, 101, 104, 108, 109, 113, 117, 166, 228, 229, 276,
    ] {
        let is_raw = matches!(link, 8 | 12 | 101 | 228 | 229);
        let mut frames = Vec::new();
        for (kind, packet) in [
            (0x0800, four()),
            (0x86dd, six()),
            (0x0800, four()),
            (0x0806, arp()),
            (0x0004, stp()),
            (0x8100, tagged(four(), 0x0800)),
            (0x88a8, tagged(tagged(six(), 0x86dd), 0x8100)),
        ] {
            let stays = match link {
                228 => kind == 0x0800,
                229 => kind == 0x86dd,
                _ => !is_raw || matches!(kind, 0x0800 | 0x86dd),
            };
            let header = header(link, kind).filter(|_| stays);
            frames.extend(header.map(|header| [header, packet].concat()));
        }
        pcap(&path, link, false, &frames);
        let tcpdump = |filter: &str| {
            let mut command = Command::new("tcpdump");
            let done = output(command.args(["-nr"]).arg(&path).arg(filter), "");
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let rejected = said.contains("rejects all packets");
            assert!(done.status.success() || rejected, "{link}: {said}");
            String::from_utf8_lossy(&done.stdout).lines().count()
        };
        // Behind tags tcpdump looks only when told to, and not in all link types.
        let tags = matches!(link, 1 | 10 | 104 | 113 | 276);
        let more = usize::from(tags);
        for filter in [
            "ip",
            "host 10.0.0.1",
            "udp port 53",
            "src net 10.0.0.0/8",
            "proto 17",
        ] {
            let theirs = match filter {
                // On SLIP libpcap takes the direction for the first byte of the packet.
                _ if link == 8 => 2,
                "host 10.0.0.1" => tcpdump("ip host 10.0.0.1"),
                "src net 10.0.0.0/8" => tcpdump("ip src net 10.0.0.0/8"),
                filter => tcpdump(filter),
            };
            assert_eq!(count(&path, filter), theirs + more, "{link}: {filter}");
        }
        // What IPv6 is on a system's loopback, tcpdump knows of its own system alone.
        let sixes = frames
            .iter()
            .filter(|frame| frame.ends_with(&six()))
            .count();
        assert_eq!(count(&path, "ip6"), sixes, "{link}");
        assert_eq!(
            count(&path, "host fd00::2 and tcp port 443"),
            sixes,
            "{link}"
        );
        if !matches!(link, 0 | 8 | 108 | 109 | 117) {
            assert_eq!(tcpdump("ip6"), sixes - more, "{link}");
        }
        let lines = read(&[path.to_str().unwrap()]);
        let not_ip = lines.lines().filter(|line| line.contains("not IP")).count();
        let others = frames.len() - sixes - count(&path, "ip");
        assert_eq!(not_ip, others, "{link}: {lines}");
    }
}

/// Link types that are not looked into: it is said so, once, and a line does not say what nobody knows.
#[test]
fn a_link_type_that_is_not_known_is_named() {
    let dir = temp_dir();
    let path = dir.path().join("wlan.pcap");
    let frames = vec![[&[8, 1][..], &[0; 30], &ip(A, B, 6, 0, &tcp(1, 2, 2))].concat(); 50];
    pcap(&path, 105, false, &frames);
    let other = dir.path().join("user.pcap");
    pcap(&other, 150, false, &frames);
    let files = [path.to_str().unwrap(), other.to_str().unwrap()];
    for args in [
        &["read", "--count"][..],
        &["read", "--count", "--threads", "7"],
        &["read", "-c", "9"],
        &["report", "--text"],
        &["export", "--csv", "-"],
    ] {
        let mut command = Command::new(LWNFLOG);
        let done = output(command.args(args).args(files).arg("not host 10.0.0.9"), "");
        assert!(done.status.success());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        for name in ["link type 105 (IEEE 802.11)", "link type 150"] {
            let told = said.matches(&format!("{name} are not looked into")).count();
            assert_eq!(told, 1, "{args:?}: {said}");
        }
    }
    let lines = read(&files);
    assert_eq!(
        lines.matches("link type 105 (IEEE 802.11), length").count(),
        50,
        "{lines}"
    );
    assert_eq!(
        lines.matches("link type 150, length").count(),
        50,
        "{lines}"
    );
    assert!(!lines.contains("not IP"));
    // What does not ask what is in a packet is answered, and nothing is to be said.
    let mut command = Command::new(LWNFLOG);
    let done = output(
        command.args(["read", "--count", files[0], "less", "1000"]),
        "",
    );
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "50");
    assert!(done.stderr.is_empty());
    let report = run(
        Command::new(LWNFLOG).args(["report", "--text"]).args(files),
        "",
    );
    assert!(
        report.contains("50 packets are of link type 105 (IEEE 802.11), which is not looked into"),
        "{report}"
    );
}

/// A record of NFLOG, as a host of this byte order has it.
fn nflog(big_endian: bool, family: u8, kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut record = vec![family, 0, 0, 5];
    let [high, low] = kind.to_be_bytes();
    let attributes = [
        (1_u16, &[high, low, 1, 0][..]),
        (5, &[0, 0, 0, 7]),
        (10, b"ssh-scan: \0"),
        (9, packet),
    ];
    for (number, value) in attributes {
        let len = u16::try_from(value.len() + 4).unwrap();
        for half in [len, number] {
            record.extend(match big_endian {
                true => half.to_be_bytes(),
                false => half.to_le_bytes(),
            });
        }
        record.extend(value);
        record.resize(record.len().next_multiple_of(4), 0);
    }
    record
}

#[test]
fn records_of_nflog_are_read_from_hosts_of_either_byte_order() {
    let dir = temp_dir();
    let frames = |big_endian| {
        [
            nflog(big_endian, 2, 0x0800, &ip(A, B, 17, 0, &udp(1000, 53))),
            nflog(big_endian, 10, 0x86dd, &ip6(6, &tcp(1000, 443, 2))),
            nflog(big_endian, 7, 0x0800, &ip(B, C, 6, 0, &tcp(1000, 80, 2))), // a bridge's
            nflog(big_endian, 7, 0x0027, &stp()),
            nflog(big_endian, 3, 0x0806, &arp()),
        ]
    };
    let little = dir.path().join("little.pcap");
    let big = dir.path().join("big.pcap");
    pcap(&little, 239, false, &frames(false));
    pcap(&big, 239, true, &frames(true));
    let (little, big) = (little.to_str().unwrap(), big.to_str().unwrap());
    let lines = read(&[little]);
    let wanted = [
        "IP 10.0.0.1.1000 > 10.0.0.2.53: UDP, length 4",
        "IP6 fd00::1.1000 > fd00::2.443: Flags [S]",
        "IP 10.0.0.2.1000 > 10.0.0.3.80: Flags [S]",
        "not IP",
        "not IP",
    ];
    assert_eq!(lines.lines().count(), wanted.len());
    for (line, wanted) in lines.lines().zip(wanted) {
        assert!(line.contains(wanted), "{line}");
    }
    assert_eq!(read(&[big]), lines);
    for filter in [
        "ip",
        "ip6",
        "host 10.0.0.1",
        "tcp port 80 or 443",
        "not ip",
        "",
    ] {
        let [one, other] = [little, big].map(|file| read(&["--json", file, filter]));
        assert_eq!(one, other, "{filter}");
        let [one, other] = [little, big].map(|file| read(&["--count", file, filter]));
        assert_eq!(one, other, "{filter}");
    }
    for args in [
        &["export", "--csv", "-"][..],
        &["report", "--text", "--utc"],
    ] {
        let [one, other] = [little, big].map(|file| {
            let told = run(Command::new(LWNFLOG).args(args).arg(file), "");
            told.replace(file, "")
        });
        assert!(one.contains("10.0.0.3"), "{one}");
        assert_eq!(one, other);
    }
    // Sections of both hosts in one file, one behind the other and back.
    let section = |big_endian: bool, frames: &[Vec<u8>]| {
        let word = |number: u32| match big_endian {
            true => number.to_be_bytes(),
            false => number.to_le_bytes(),
        };
        let link = if big_endian { 239 << 16 } else { 239 };
        let version = if big_endian { 1 << 16 } else { 1 };
        let block = |kind: u32, words: &[u32], data: &[u8]| {
            let total = u32::try_from(12 + words.len() * 4 + data.len().next_multiple_of(4));
            let total = total.unwrap();
            let mut block = [word(kind), word(total)].concat();
            block.extend(words.iter().flat_map(|number| word(*number)));
            block.extend(data);
            block.resize(total as usize - 4, 0);
            block.extend(word(total));
            block
        };
        let mut section = block(
            0x0a0d_0d0a,
            &[0x1a2b_3c4d, version, u32::MAX, u32::MAX],
            &[],
        );
        section.extend(block(1, &[link, 0], &[]));
        for frame in frames {
            let len = u32::try_from(frame.len()).unwrap();
            section.extend(block(6, &[0, 0x0006_4490, 0, len, len], frame));
        }
        section
    };
    let both = dir.path().join("both.pcapng");
    let sections = [true, false, true, false].map(|big| section(big, &frames(big)[..3]));
    fs::write(&both, sections.concat()).unwrap();
    let infos = |file: &str| {
        let lines = read(&["--json", file]);
        let info = |line: &str| line.split_once("\"info\":").unwrap().1.to_owned();
        lines.lines().map(info).collect::<Vec<_>>()
    };
    assert_eq!(
        infos(both.to_str().unwrap()),
        [&infos(little)[..3]; 4].concat()
    );
    // What is written of either is a file of this host's, and others find in it what they find in the other.
    let tshark = |file: &str| {
        let fields = ["ip.src", "ipv6.dst", "nflog.prefix", "udp.port", "tcp.port"];
        let fields = fields.iter().flat_map(|field| ["-e", field]);
        let mut command = Command::new("tshark");
        run(command.args(["-nr", file, "-T", "fields"]).args(fields), "")
    };
    let theirs = tshark(big);
    assert_eq!(theirs.matches("ssh-scan").count(), 5, "{theirs}");
    assert_eq!(tshark(little), theirs);
    for name in ["copy.pcap", "copy.pcapng"] {
        let copies = [little, big].map(|file| {
            let copy = dir.path().join(name);
            read(&["-w", copy.to_str().unwrap(), file]);
            assert_eq!(tshark(copy.to_str().unwrap()), theirs, "{file}: {name}");
            fs::read(copy).unwrap()
        });
        assert_eq!(copies[0], copies[1], "{name}");
    }
}

/// What stands before a packet tells who it was, too.
#[test]
fn headers_of_all_link_types_are_anonymised() {
    let dir = temp_dir();
    let (path, key) = (dir.path().join("f.pcap"), dir.path().join("key"));
    let digits: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    fs::write(&key, digits).unwrap();
    let packet = ip(A, B, 17, 0, &udp(1000, 53));
    let mac = [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    let slip = [&[1][..], &packet[..15]].concat(); // what a compressed header was made of
    for (link, header) in [
        (1, [&mac[..], &mac, &[8, 0]].concat()),
        (8, slip),
        (
            10,
            [&[0x50][..], &mac, &mac, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]].concat(),
        ),
        (109, [&[2, 0, 0, 0][..], &mac[..4], &[0; 4]].concat()),
        (113, [&[0, 0, 0, 1, 0, 6][..], &mac, &[0, 0, 8, 0]].concat()),
        (117, [&[61, 2, 0, 0][..], &mac, b"em0", &[0; 51]].concat()),
    ] {
        pcap(&path, link, false, &[[&header[..], &packet].concat()]);
        let copy = dir.path().join("copy.pcap");
        let mut command = Command::new(LWNFLOG);
        command.args(["read", "-r"]).arg(&path).arg("-w").arg(&copy);
        run(command.arg("--anonymize").arg(&key), "");
        let bytes = fs::read(&copy).unwrap();
        for secret in [&mac[..4], &A, &B, b"em0"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{link}: {secret:?} in {bytes:x?}");
        }
        assert_eq!(count(&copy, "udp port 53 and ip"), 1, "{link}");
    }
}
