//! IPv6 where it is asked for, from every source; IPv4 alone where nothing is.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::path::Path;
use std::process::Command;

use common::files::read;
use common::{
    Ended, LWNFLOG, Running, lab, nft, output, run, run_in, send_frames, temp_dir, until,
};
use etherparse::PacketBuilder;
use lwnflog::lab::{Lab, TX};

/// Of each version: long enough to be cut, and short.
const PAYLOADS: [usize; 2] = [300, 5];

fn frames(lab: &Lab, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for _ in 0..count {
        for bytes in PAYLOADS {
            let ethernet = || PacketBuilder::ethernet2(lab.tx().mac, lab.rx().mac);
            let payload = vec![7; bytes];
            let mut frame = Vec::new();
            let v6 = ethernet().ipv6([0xfd; 16], [0xfc; 16], 64).udp(1000, 2000);
            v6.write(&mut frame, &payload).unwrap();
            frames.push(frame);
            let mut frame = Vec::new();
            let v4 = ethernet()
                .ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
                .udp(1000, 2000);
            v4.write(&mut frame, &payload).unwrap();
            frames.push(frame);
        }
    }
    frames
}

/// IPv6 is off in a laboratory, because it has things of its own to say: on at the receiver alone.
fn quiet_lab() -> Lab {
    let lab = lab();
    run_in(
        lab.receiver(),
        "sysctl",
        &["-qw", "net.ipv6.conf.all.disable_ipv6=0"],
    );
    lab
}

fn capture(lab: &Lab, dir: &Path, args: &[&str], wanted: usize) -> Ended {
    let mut capture = Running::capture(lab.receiver(), dir, args);
    send_frames(lab.sender(), TX, &frames(lab, 50));
    capture.wait_written(wanted as u64);
    let ended = capture.end();
    ended.assert_balanced();
    ended
}

/// Our packets of each version, by their EtherType, among what else IPv6 says on a cable.
fn count(ended: &Ended, sent: &[Vec<u8>], snaplen: usize, skip: usize) -> (usize, usize) {
    let (mut v4, mut v6) = (0, 0);
    for file in ended.files() {
        for packet in read(&file).packets {
            let of = sent.iter().find(|frame| {
                let frame = &frame[skip..];
                frame[..snaplen.min(frame.len())] == packet.data[..]
                    && packet.original as usize == frame.len()
            });
            match of.map(|frame| u16::from_be_bytes([frame[12], frame[13]])) {
                Some(0x0800) => v4 += 1,
                Some(_) => v6 += 1,
                None => {}
            }
        }
    }
    (v4, v6)
}

#[test]
fn ipv6_is_captured_where_it_is_asked_for() {
    for source in [&["--group", "5", "--install-rule"][..], &["--hook"]] {
        for (family, wanted) in [("ip", (100, 0)), ("ip6", (0, 100)), ("both", (100, 100))] {
            let (lab, dir) = (quiet_lab(), temp_dir());
            let args = [source, &["--family", family, "--iface", "rx"]].concat();
            let ended = capture(&lab, dir.path(), &args, wanted.0 + wanted.1);
            let found = count(&ended, &frames(&lab, 1), 128, 0);
            assert_eq!(found, wanted, "{args:?}");
            assert_eq!(ended.number("/skipped_other_family"), 0, "{args:?}");
            // Wireshark finds nothing wrong with any of them.
            let file = &ended.files()[0];
            let fields = ["-T", "fields", "-e", "frame.protocols"];
            let protocols = run(Command::new("tshark").arg("-nr").arg(file).args(fields), "");
            let whole = |version: &str| {
                let udp = format!("eth:ethertype:{version}:udp");
                protocols
                    .lines()
                    .filter(|line| line.starts_with(&udp))
                    .count()
            };
            assert_eq!((whole("ip"), whole("ipv6")), wanted, "{args:?}");
        }
    }
}

/// A queue of `ip6tables-nft`: not every kernel has nftables' own.
#[test]
fn a_queue_of_ipv6() {
    let (lab, dir) = (quiet_lab(), temp_dir());
    for program in ["iptables-nft", "ip6tables-nft"] {
        let rule = "-t raw -I PREROUTING -i rx -j NFQUEUE --queue-num 5 --queue-bypass";
        run_in(
            lab.receiver(),
            program,
            &rule.split(' ').collect::<Vec<_>>(),
        );
    }
    let ended = capture(&lab, dir.path(), &["--queue", "5", "--family", "both"], 200);
    // A queue's messages have the source's address, and not the destination's.
    let sent: Vec<_> = frames(&lab, 1)
        .into_iter()
        .map(|mut frame| {
            frame[..6].fill(0);
            frame
        })
        .collect();
    assert_eq!(count(&ended, &sent, 128, 0), (100, 100));
}

/// A rule for both, and a capture that wants one: the other is skipped, and told to be.
#[test]
fn what_is_not_asked_for_is_skipped_and_counted() {
    let (lab, dir) = (quiet_lab(), temp_dir());
    nft(
        lab.receiver(),
        "table inet t { counter c {}\nchain p { type filter hook prerouting priority 0; udp dport 2000 counter name c log group 5; }\n}",
    );
    let ended = capture(&lab, dir.path(), &["--group", "5"], 100);
    assert_eq!(
        (
            ended.number("/written"),
            ended.number("/skipped_other_family")
        ),
        (100, 100)
    );
    let (lab, dir) = (quiet_lab(), temp_dir());
    nft(
        lab.receiver(),
        "table inet t { counter c {}\nchain p { type filter hook prerouting priority 0; udp dport 2000 counter name c log group 5; }\n}",
    );
    let ended = capture(&lab, dir.path(), &["--group", "5", "--family", "ip6"], 100);
    assert_eq!(
        (
            ended.number("/written"),
            ended.number("/skipped_other_family")
        ),
        (100, 100)
    );
}

/// From the IP header on: LINKTYPE_RAW, whose records may be of either.
#[test]
fn records_that_begin_with_the_ip_header() {
    let (lab, dir) = (quiet_lab(), temp_dir());
    let args = [
        "--hook",
        "--iface",
        "rx",
        "--family",
        "both",
        "--link-type",
        "ip",
        "-s",
        "60",
    ];
    let ended = capture(&lab, dir.path(), &args, 200);
    let sent: Vec<_> = frames(&lab, 1);
    assert_eq!(count(&ended, &sent, 60, 14), (100, 100));
    assert_eq!(read(&ended.files()[0]).interfaces[0].link, 101);
}

#[test]
fn rules_are_printed_for_each_family() {
    for (family, table) in [
        ("ip", "table ip lwnflog-g5"),
        ("ip6", "table ip6 lwnflog"),
        ("both", "table inet lwnflog"),
    ] {
        let lab = lab();
        let mut command = Command::new(LWNFLOG);
        let printed = output(
            command.args(["rules", "--group", "5", "--family", family]),
            "",
        );
        let text = String::from_utf8(printed.stdout).unwrap();
        assert!(text.contains(table), "{text}");
        nft(lab.receiver(), &text);
        until("the rule is there", || {
            run_in(lab.receiver(), "nft", &["list", "ruleset"])
                .contains("log group 5")
                .then_some(())
        });
    }
}
