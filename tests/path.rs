//! `lwnflog path`: rules at several hooks, real packets of every fate, and each one's way as it was.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use common::made::{File, ip, tcp};
use common::{LWNFLOG, Running, lab, nft, output, run, run_in, temp_dir};
use lwnflog::lab::{Lab, Namespace, RX};
use serde_json::Value;

/// A router with a firewall: `out` leads to 10.2.0.0/24.
fn router(lab: &Lab) {
    run_in(
        lab.receiver(),
        "sh",
        &[
            "-ec",
            "sysctl -qw net.ipv4.ip_forward=1
             ip link set lo up
             ip link add out type veth peer name far
             ip link set out up
             ip link set far up
             ip address add 10.2.0.254/24 dev out
             ip neighbour add 10.2.0.1 lladdr 02:00:00:00:00:99 dev out",
        ],
    );
    run_in(
        lab.sender(),
        "ip",
        &["route", "add", "10.2.0.0/24", "via", "198.18.0.2"],
    );
    nft(
        lab.receiver(),
        "table ip firewall {
            chain raw { type filter hook prerouting priority raw; udp dport 7 drop; }
            chain in { type filter hook input priority filter; udp dport 9999 drop; }
            chain through {
                type filter hook forward priority filter
                udp dport 9 counter log prefix \"no discard\" group 5 drop
            }
            chain to { type nat hook prerouting priority dstnat; udp dport 8080 dnat to 10.2.0.1:80; }
            chain from { type nat hook postrouting priority srcnat; oifname \"out\" masquerade; }
         }",
    );
}

/// So many datagrams of so many bytes to a port, one by one.
fn send(namespace: &Namespace, to: &str, count: u32, bytes: usize) {
    let sent = namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for number in 0..count {
            let mut datagram = vec![0; bytes];
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&datagram, to)?;
        }
        std::io::Result::Ok(())
    });
    sent.unwrap().unwrap();
}

fn path(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new(LWNFLOG);
    run(command.arg("path").arg(dir).args(args).arg("--utc"), "")
}

fn packets(dir: &Path, args: &[&str]) -> Vec<Value> {
    let args = [&["--json"], args].concat();
    let lines = path(dir, &args);
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn way(packet: &Value) -> String {
    let stations = packet["way"].as_array().unwrap().iter();
    let names: Vec<_> = stations.map(|at| at["at"].as_str().unwrap()).collect();
    names.join(" > ")
}

/// Packets by their ways.
fn ways(packets: &[Value]) -> BTreeMap<String, usize> {
    let mut ways = BTreeMap::new();
    for packet in packets {
        *ways.entry(way(packet)).or_default() += 1;
    }
    ways
}

#[test]
fn every_packet_s_way_is_as_it_was() {
    let (lab, dir) = (lab(), temp_dir());
    router(&lab);
    let capture = ["--group", "5", "--install-rule", "--trace"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &capture);
    let server = lab
        .receiver()
        .run(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    for (to, count, bytes) in [
        ("10.2.0.1:5000", 100, 40),   // passed on
        ("10.2.0.1:9", 50, 40),       // dropped by a rule that logs
        ("198.18.0.2:5001", 40, 40),  // received
        ("198.18.0.2:9999", 30, 40),  // dropped at input
        ("198.18.0.2:7", 20, 40),     // dropped before it is routed
        ("198.18.0.2:8080", 10, 40),  // sent on to another host and port
        ("198.18.0.2:5001", 3, 2000), // in two parts
    ] {
        send(lab.sender(), to, count, bytes);
    }
    send(lab.receiver(), "127.0.0.1:5001", 5, 40);
    drop(server);
    capture.wait_written(110 * 3 + 50 * 3 + 40 * 3 + 30 * 2 + 20 + 3 * 4 + 5 * 5);
    let ended = capture.end();
    ended.assert_balanced();

    let all = packets(dir.path(), &[]);
    let expected = [
        ("input > accepted", 3),
        ("output > postrouting > prerouting > input > accepted", 5),
        ("prerouting", 26),
        ("prerouting > forward > no discard", 50),
        ("prerouting > forward > postrouting", 110),
        ("prerouting > input", 30),
        ("prerouting > input > accepted", 40),
    ];
    let expected = expected.map(|(way, count)| (way.to_owned(), count));
    assert_eq!(ways(&all), BTreeMap::from(expected));

    // A reader of others finds as many records of each place.
    let records = run(
        Command::new("tshark")
            .arg("-nr")
            .arg(&ended.files()[0])
            .args(["-T", "fields", "-e", "frame.comment"]),
        "",
    );
    for place in [
        "prerouting",
        "input",
        "accepted",
        "forward",
        "postrouting",
        "no discard",
    ] {
        let prefix = format!("prefix={place}");
        let noted = records
            .lines()
            .filter(|line| line.ends_with(&prefix))
            .count();
        let stations = all
            .iter()
            .flat_map(|packet| packet["way"].as_array().unwrap());
        let seen = stations.filter(|station| station["at"] == place).count();
        assert_eq!(seen, noted, "{place}");
    }

    // Where they came in and left, and that the time there is not known.
    let on = all
        .iter()
        .find(|packet| way(packet).ends_with("forward > postrouting"))
        .unwrap();
    assert_eq!(on["way"][0]["interface"], RX);
    assert_eq!(on["way"][2]["interface"], "out");
    assert!(
        on["way"][0]["time_ns"].is_u64() && on["way"][1]["time_ns"].is_u64(),
        "{on}"
    );
    assert!(on["way"][2]["time_ns"].is_null(), "{on}");
    assert!(all.iter().all(|packet| packet["doubtful"].is_null()));
    assert_eq!(
        all.iter()
            .filter(|packet| packet["fragment"] == true)
            .count(),
        6
    );

    // Through translation, at both ends; the filter finds a packet by any of its names.
    for filter in [&["dst", "port", "8080"][..], &["dst", "port", "80"]] {
        let translated = packets(dir.path(), filter);
        assert_eq!(
            ways(&translated).into_iter().collect::<Vec<_>>(),
            [("prerouting > forward > postrouting".to_owned(), 10)]
        );
        let way = &translated[0]["way"];
        let renamed = |place: usize| way[place]["renamed"].as_str().unwrap();
        assert!(renamed(1).contains("> 10.2.0.1.80:"), "{way}");
        assert!(renamed(2).contains("IP 10.2.0.254."), "{way}");
    }

    let text = path(dir.path(), &[]);
    for part in [
        "264 packets, seen 717 times",
        "\nFragments: 6 packets.",
        "\nAddresses or ports were translated of 110 packets.",
        "\nprerouting                      26  (6 fragments)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let one = path(dir.path(), &["-v", "-c", "1", "udp", "port", "8080"]);
    assert!(one.contains(", as IP 10.2.0.254."), "{one}");
    let none = output(
        Command::new(LWNFLOG)
            .arg("path")
            .arg(dir.path())
            .args(["tcp"]),
        "",
    );
    // As with `read`: captures in which nothing matches are no error.
    assert!(none.status.success());
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("no packet"),
        "{none:?}"
    );
}

/// Three captures of programs at hooks: merged by time, and where that is the same in the hooks' order.
#[test]
fn captures_of_several_hooks_make_one_way() {
    let dir = temp_dir();
    for hook in ["forward", "input", "prerouting"] {
        let mut file = File::new();
        file.interface(
            "eth0",
            &format!("Netfilter hook {hook}, 1 packet of 2"),
            128,
        );
        for number in 0..10_u16 {
            for (port, passes) in [(80, "input"), (5, "forward")] {
                let mut packet = ip([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, &tcp(number, port, 2));
                packet[4..6].copy_from_slice(&number.to_be_bytes());
                if hook == "prerouting" || hook == passes {
                    file.packet_with(1, number.into(), &packet, 0, &[]);
                }
            }
        }
        fs::write(dir.path().join(format!("{hook}.pcapng")), file.0).unwrap();
    }
    let text = path(dir.path(), &[]);
    for part in [
        "20 packets, seen 40 times",
        "\nprerouting > forward            10   50.00 %  -\n",
        "\nprerouting > input              10   50.00 %  -\n",
        "\nThe same time at all places: 20 packets. They took",
        "\nA capture took one packet in so many only",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// What stands before damage is shown, and nothing of a file becomes a terminal's command.
#[test]
fn what_is_in_a_file_cannot_harm() {
    let dir = temp_dir();
    let file = dir.path().join("some.pcapng");
    let mut made = File::new();
    made.interface("e\x1b[2Jth", "x\ry", 128);
    let packet = ip([10, 0, 0, 1], [10, 0, 0, 2], 47, 0, &[1; 20]);
    made.packet_with(1, 0, &packet, 0, &["prefix=a\x1b[2Jb\nc"]);
    made.packet_with(1, 1, &packet, 0, &[]);
    made.0.extend([0x55; 64]);
    fs::write(&file, made.0).unwrap();
    for command in [&["path"][..], &["path", "-v"], &["read", "-v"]] {
        let told = output(Command::new(LWNFLOG).args(command).arg(&file), "");
        let (shown, said) = (
            String::from_utf8(told.stdout).unwrap(),
            String::from_utf8(told.stderr).unwrap(),
        );
        assert!(!told.status.success(), "{command:?}: {shown}{said}");
        assert!(said.contains("damaged, "), "{command:?}: {said}");
        assert!(shown.contains("a?[2Jb?c"), "{command:?}: {shown}");
        assert!(
            !shown.contains('\x1b') && !shown.contains('\r'),
            "{shown:?}"
        );
    }
    let shown = output(Command::new(LWNFLOG).arg("path").arg(&file), "");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("a?[2Jb?c > x?y"), "{shown}");
}

/// What was read before damage is shown, and that it was not all.
#[test]
fn damage_ends_neither_the_summary_nor_in_silence() {
    let dir = temp_dir();
    let mut file = File::new();
    for number in 0..20_u16 {
        let packet = ip(
            [10, 0, 0, 1],
            [10, 0, 0, 2],
            6,
            0,
            &tcp(1000 + number, 80, 2),
        );
        file.packet(number.into(), &packet, 0);
    }
    let middle = file.0.len() / 2;
    file.0[middle..middle + 300].fill(0xff);
    let path = dir.path().join("damaged.pcapng");
    fs::write(&path, file.0).unwrap();
    let done = output(Command::new(LWNFLOG).arg("path").arg(&path), "");
    let told = String::from_utf8_lossy(&done.stdout);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{told}{said}");
    assert!(told.contains("last seen at"), "{told}");
    assert!(said.contains("damaged, bytes"), "{said}");
}
