//! Reading captures: what is read is what independent readers read, and the filter means what
//! libpcap's does.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{
    LWNFLOG, Running, lab, load_capture_rules, nft, output, run, send_paced, temp_dir, until,
};
use etherparse::PacketBuilder;
use lwnflog::read::chain::{Merged, Span};
use lwnflog::read::filter::Filter;
use lwnflog::read::packets::Packets;
use lwnflog::read::write::{Kind, Writer};
use lwnflog::read::{Interface, Record, Tick};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

fn read(words: &[&str]) -> String {
    run(Command::new(LWNFLOG).arg("read").args(words), "")
}

fn lines(words: &[&str]) -> Vec<String> {
    read(words).lines().map(str::to_owned).collect()
}

/// A pcapng file of these frames, a millisecond apart.
fn file_of(path: &Path, frames: &[Vec<u8>]) {
    let interface = Interface {
        name: "rx".to_owned(),
        link: 1,
        tick: Tick::Nanos(1),
        ..Interface::default()
    };
    let mut writer = Writer::begin(fs::File::create(path).unwrap(), Kind::Pcapng).unwrap();
    for (number, data) in frames.iter().enumerate() {
        let record = Record {
            time_ns: 1_795_788_185_000_000_000 + number as u64 * 1_000_000,
            interface: &interface,
            data,
            original_len: u32::try_from(data.len()).unwrap(),
            lost_before: 0,
            flags: 0,
            comment: "",
            note: "",
        };
        writer.write(&record).unwrap();
    }
    writer.flush().unwrap();
}

/// Packets of many kinds, over few addresses and ports, so that filters take some and not others.
fn zoo() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    for n in 0..6_u8 {
        let (a, b) = ([10, 0, n % 3, 1], [10, 0, 1, n % 2]);
        let (c, d) = (
            [0xfd, n % 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n % 3],
        );
        let (p, q) = ([53, 80, 443][usize::from(n % 3)], 1000 + u16::from(n));
        let payload = vec![0; usize::from(n) * 30 + 20];
        let mut put = |frame: Vec<u8>| frames.push(frame);
        let build = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = Vec::new();
            write(&mut frame);
            frame
        };
        put(build(&|out| {
            ethernet()
                .ipv4(a, b, 64)
                .tcp(p, q, 1, 2)
                .write(out, &payload)
                .unwrap()
        }));
        put(build(&|out| {
            ethernet()
                .ipv4(b, a, 64)
                .udp(q, p)
                .write(out, &payload)
                .unwrap()
        }));
        put(build(&|out| {
            ethernet()
                .ipv6(c, d, 64)
                .tcp(q, p, 1, 2)
                .write(out, &payload)
                .unwrap()
        }));
        put(build(&|out| {
            ethernet()
                .ipv6(d, c, 64)
                .udp(p, q)
                .write(out, &payload)
                .unwrap()
        }));
        put(build(&|out| {
            ethernet()
                .ipv4(a, b, 64)
                .icmpv4_echo_request(1, n.into())
                .write(out, &payload)
                .unwrap()
        }));
        put(build(&|out| {
            ethernet()
                .ipv6(c, d, 64)
                .icmpv6_echo_request(1, n.into())
                .write(out, &payload)
                .unwrap()
        }));
        // A later fragment, and another protocol.
        let mut fragment = build(&|out| {
            ethernet()
                .ipv4(a, b, 64)
                .udp(p, q)
                .write(out, &payload)
                .unwrap()
        });
        (fragment[20], fragment[21]) = (0, 9);
        put(fragment);
        let mut other = build(&|out| {
            ethernet()
                .ipv4(a, b, 64)
                .udp(p, q)
                .write(out, &payload)
                .unwrap()
        });
        other[23] = [47, 50, 132, 44, 0, 60][usize::from(n)];
        put(other);
        // Behind IPv6's fragment header, the first part and later ones, and behind other headers.
        let mut parts = build(&|out| {
            ethernet()
                .ipv6(d, c, 64)
                .udp(p, q)
                .write(out, &payload)
                .unwrap()
        });
        let kind = [44, 44, 0, 43, 60, 44][usize::from(n)];
        let what = [17, 17, 17, 6, 17, 44][usize::from(n)];
        let extension = [what, 0, 0, [1, 17, 0, 0, 0, 1][usize::from(n)], 0, 0, 0, 1];
        parts[20] = kind;
        parts[19] += 8;
        parts.splice(54..54, extension);
        put(parts);
    }
    frames
}

fn primitive() -> impl Strategy<Value = String> {
    let way = prop_oneof![
        Just(""),
        Just("src "),
        Just("dst "),
        Just("src or dst "),
        Just("src and dst ")
    ];
    let host = prop_oneof![
        (0..3u8).prop_map(|n| format!("10.0.{n}.1")),
        (0..2u8).prop_map(|n| format!("10.0.1.{n}")),
        (0..2u8).prop_map(|n| format!("fd{n:02x}::1")),
        (0..3u8).prop_map(|n| format!("fd00::{n}")),
    ];
    let net = prop_oneof![
        Just("10.0.1.0/24".to_owned()),
        Just("10.0.0.0/15".to_owned()),
        Just("10.0.2".to_owned()),
        Just("10".to_owned()),
        Just("fd00::/16".to_owned()),
        Just("0.0.0.0/0".to_owned()),
    ];
    let port = prop_oneof![Just(53u16), Just(80), Just(443), 999..1007u16];
    let transport = prop_oneof![Just(""), Just("tcp "), Just("udp ")];
    let number = prop::sample::select(vec![0_u8, 6, 17, 43, 44, 47, 50, 58, 60, 132]);
    prop_oneof![
        (way.clone(), host.clone()).prop_map(|(way, host)| format!("{way}host {host}")),
        (way.clone(), net.clone()).prop_map(|(way, net)| format!("{way}net {net}")),
        (transport.clone(), way.clone(), port.clone())
            .prop_map(|(transport, way, port)| format!("{transport}{way}port {port}")),
        (transport.clone(), way.clone(), port.clone(), 0..20u16).prop_map(
            |(transport, way, port, more)| {
                format!("{transport}{way}portrange {port}-{}", port + more)
            }
        ),
        prop_oneof![
            Just("ip"),
            Just("ip6"),
            Just("tcp"),
            Just("udp"),
            Just("icmp"),
            Just("icmp6"),
            Just("sctp"),
            Just("esp"),
            Just("ip proto 47"),
            Just("port http"),
            Just("dst port ntp"),
            Just("tcp port https"),
            Just("portrange http-https"),
        ]
        .prop_map(str::to_owned),
        (
            prop_oneof![Just(""), Just("ip "), Just("ip6 ")],
            number.clone()
        )
            .prop_map(|(version, number)| format!("{version}proto {number}")),
        // Bare values, which are what the one before was.
        (
            prop_oneof![
                (way.clone(), host.clone(), host.clone())
                    .prop_map(|(way, one, other)| [format!("{way}host {one}"), other]),
                (way.clone(), net.clone(), net.clone())
                    .prop_map(|(way, one, other)| [format!("{way}net {one}"), other]),
                (transport.clone(), way.clone(), port.clone(), port.clone()).prop_map(
                    |(transport, way, one, other)| [
                        format!("{transport}{way}port {one}"),
                        other.to_string()
                    ]
                ),
                (transport.clone(), port.clone(), port.clone()).prop_map(
                    |(transport, one, other)| [
                        format!("{transport}portrange {one}-1003"),
                        format!("{other}-1005")
                    ]
                ),
                (
                    prop_oneof![Just(""), Just("ip "), Just("ip6 ")],
                    number.clone(),
                    number
                )
                    .prop_map(|(version, one, other)| [
                        format!("{version}proto {one}"),
                        other.to_string()
                    ]),
            ],
            prop_oneof![Just("or"), Just("and"), Just("or not"), Just("and not")]
        )
            .prop_map(|([one, other], word)| format!("{one} {word} {other}")),
        (40..200u32).prop_map(|bytes| format!("less {bytes}")),
        (40..200u32).prop_map(|bytes| format!("greater {bytes}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    primitive().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (
                inner.clone(),
                prop_oneof![Just("and"), Just("or"), Just("&&"), Just("||")],
                inner.clone()
            )
                .prop_map(|(one, word, other)| format!("{one} {word} {other}")),
            inner.clone().prop_map(|one| format!("not {one}")),
            inner.prop_map(|one| format!("({one})")),
        ]
    })
}

/// Thousands of expressions: many of them compiled by tcpdump, all the packets taken by either.
#[test]
fn the_filter_takes_what_libpcaps_takes() {
    const EXPRESSIONS: u32 = 1500;
    let dir = temp_dir();
    let file = dir.path().join("zoo.pcap");
    let all = zoo();
    let interface = Interface {
        name: String::new(),
        link: 1,
        tick: Tick::Nanos(1),
        ..Interface::default()
    };
    let record = |data| Record {
        time_ns: 0,
        interface: &interface,
        data,
        original_len: u32::try_from(<[u8]>::len(data)).unwrap(),
        lost_before: 0,
        flags: 0,
        comment: "",
        note: "",
    };
    let mut writer = Writer::begin(fs::File::create(&file).unwrap(), Kind::Pcap).unwrap();
    for frame in &all {
        writer.write(&record(frame)).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    // One tcpdump an expression is most of the time: they are given to a shell together.
    let mut runner = TestRunner::new(Config::default());
    let strategy = expression();
    let texts: Vec<String> = (0..EXPRESSIONS)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let script: String = texts
        .iter()
        .map(|text| {
            format!(
                "tcpdump -r '{}' -w - '{text}' 2>/dev/null | wc -c\n",
                file.display()
            )
        })
        .collect();
    let told = run(&mut Command::new("sh"), &script);
    let bytes: Vec<usize> = told
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(bytes.len(), texts.len());
    let mut refused = 0;
    for (text, bytes) in texts.iter().zip(bytes) {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let taken: usize = all
            .iter()
            .filter(|frame| filter.takes(&record(frame)))
            .map(|frame| frame.len() + 16)
            .sum();
        if bytes == 0 {
            refused += 1; // libpcap finds out that it can never be true, or mixes IPv4 and IPv6, and says so
            assert_eq!(taken, 0, "{text}");
            continue;
        }
        assert_eq!(taken, bytes - 24, "{text}");
    }
    assert!(refused < EXPRESSIONS / 2, "{refused}");
}

#[test]
fn a_wrong_filter_points_at_the_place() {
    let dir = temp_dir();
    let file = dir.path().join("a.pcapng");
    file_of(&file, &zoo()[..1]);
    for (text, what, column) in [
        ("tcp port abc", "`abc` is no port", 9),
        ("host 10.0.0.1 tcp", "does not belong here", 14),
        ("host example.org", "names are not looked up", 5),
        ("(tcp or udp", "`)` is wanted", 11),
        ("net 10.0.0.1/8", "bits are set behind its length", 4),
        ("port 80 and", "it ends where a test is wanted", 11),
        ("mark 0xzz", "is no mark", 5),
    ] {
        let mut command = Command::new(LWNFLOG);
        let refused = output(command.arg("read").arg("-r").arg(&file).arg(text), "");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(what), "{text}: {said}");
        let pointer = said.lines().last().unwrap();
        assert_eq!(pointer.find('^'), Some(column + 2), "{text}: {said}");
    }
    // Whatever it is, it is an error and no panic.
    let mut runner = TestRunner::default();
    runner
        .run(&"[a-z0-9 ().:/!&|\"'-]{0,40}", |text| {
            let _ = Filter::parse(&text);
            Ok(())
        })
        .unwrap();
    assert!(Filter::parse(&"(".repeat(10_000)).is_err());
    assert!(Filter::parse(&"not ".repeat(10_000)).is_err());
}

/// Lines as tcpdump has them, of packets that tcpdump's user knows by heart.
#[test]
fn lines_are_in_tcpdumps_manner() {
    let dir = temp_dir();
    let file = dir.path().join("zoo.pcapng");
    file_of(&file, &zoo());
    let path = file.to_str().unwrap();
    let ours = lines(&["--utc", "-r", path, "icmp or udp and ip and not port 53"]);
    let mut tcpdump = Command::new("tcpdump");
    tcpdump
        .env("TZ", "UTC")
        .args(["-nr", path, "icmp or udp and ip and not port 53"]);
    let theirs = String::from_utf8(output(&mut tcpdump, "").stdout).unwrap();
    let theirs: Vec<_> = theirs.lines().collect();
    assert_eq!(ours.len(), theirs.len());
    // A later fragment has no ports, and tcpdump words it otherwise.
    for (ours, theirs) in ours
        .iter()
        .zip(theirs)
        .filter(|(_, theirs)| !theirs.contains("ip-proto"))
    {
        assert_eq!(ours, theirs);
    }
    let first = &lines(&["--utc", "-r", path, "tcp"])[0];
    assert!(
        first.starts_with(
            "14:03:05.000000 IP 10.0.0.1.53 > 10.0.1.0.1000: Flags [none], seq 1, win 2, length 20"
        ),
        "{first}"
    );
}

#[test]
fn a_ring_is_read_across_files_with_what_they_say() {
    let (lab, dir) = (lab(), temp_dir());
    nft(
        lab.receiver(),
        "table ip lwnflog-g5 { counter detected {}\nchain prerouting { type filter hook prerouting priority -2147483647; \
         meta mark set 0x2a counter name detected log prefix \"here\" group 5; }\n}",
    );
    let args = [
        "--group",
        "5",
        "--file-size",
        "256KiB",
        "--compress",
        "zstd",
    ];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 5000);
    capture.wait_written(5000);
    let place = dir.path().to_str().unwrap();
    // Live: what is written by now is read.
    assert_eq!(read(&["--count", place]).trim(), "5000");
    capture.end();
    assert_eq!(read(&["--count", place]).trim(), "5000");
    assert_eq!(
        read(&["--count", place, "mark 0x2a and prefix here and iface rx"]).trim(),
        "5000"
    );
    assert_eq!(read(&["--count", place, "mark 0x2b or lost"]).trim(), "0");
    assert_eq!(lines(&["-c", "7", place]).len(), 7);
    let line = &lines(&["-v", "-c", "1", place])[0];
    assert!(
        line.ends_with(", iface rx, mark=0x0000002a prefix=here"),
        "{line}"
    );
    let object: Value = serde_json::from_str(&lines(&["--json", "-c", "1", place])[0]).unwrap();
    assert_eq!(
        (&object["mark"], &object["prefix"]),
        (&Value::from(42), &Value::from("here"))
    );
    assert_eq!(object["protocol"], 17);
    // Written again, both formats: independent readers find the same packets.
    for (name, link) in [("again.pcapng", "pcapng"), ("again.pcap", "pcap")] {
        let again = temp_dir();
        let file = again.path().join(name);
        read(&["-w", file.to_str().unwrap(), place, "udp"]);
        let count = run(
            Command::new("capinfos")
                .args(["-c", "-M", "-T", "-r"])
                .arg(&file),
            "",
        );
        assert!(count.trim().ends_with("5000"), "{link}: {count}");
        assert_eq!(
            read(&["--count", "-r", file.to_str().unwrap()]).trim(),
            "5000"
        );
    }
    // A table of it.
    let table = run(Command::new(LWNFLOG).args(["ls", place]), "");
    let files: Vec<_> = table.lines().skip(1).collect();
    assert!(
        files.len() >= 2 && files.iter().all(|line| line.ends_with("finished")),
        "{table}"
    );
    let rows = run(Command::new(LWNFLOG).args(["ls", "--json", place]), "");
    let packets = rows.lines().map(|row| {
        serde_json::from_str::<Value>(row).unwrap()["packets"]
            .as_u64()
            .unwrap()
    });
    assert_eq!(packets.sum::<u64>(), 5000);
}

/// A time is found by the files' names and by their segments, and is exact.
#[test]
fn a_time_is_found_and_is_exact() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = ["--group", "5", "--file-size", "1MiB", "--files", "20"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 30_000);
    capture.wait_written(30_000);
    capture.end();
    let all = |span: Span| {
        let mut merged = Merged::open(&[dir.path().to_owned()], span).unwrap();
        let mut times = Vec::new();
        while merged.advance() {
            times.push(merged.record().unwrap().time_ns);
        }
        times
    };
    let every = all(Span::default());
    assert_eq!(every.len(), 30_000);
    for (from, to) in [
        (0, 10),
        (10_000, 10_001),
        (29_990, 29_999),
        (5, 29_000),
        (14_000, 15_000),
    ] {
        let span = Span {
            from_ns: every[from],
            to_ns: every[to],
        };
        let wanted: Vec<_> = every
            .iter()
            .copied()
            .filter(|time| span.holds(*time))
            .collect();
        assert_eq!(all(span), wanted, "{from} to {to}");
    }
}

#[test]
fn following_goes_on_across_files() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = ["--group", "5", "--file-size", "256KiB"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 100);
    capture.wait_written(100);
    let mut command = Command::new(LWNFLOG);
    let mut reader = Running::spawn(
        command
            .args(["read", "-f", "-c", "6000", "--json"])
            .arg(dir.path()),
    );
    send_paced(&lab, 5900);
    until("it has read them all", || reader.has_ended().then_some(()));
    let ended = reader.wait_end();
    assert!(ended.status.success(), "{}", ended.said);
    let times: Vec<u64> = ended
        .json
        .iter()
        .map(|object| object["time_ns"].as_u64().unwrap())
        .collect();
    assert_eq!(times.len(), 6000);
    let marks: std::collections::BTreeSet<_> = times.iter().collect();
    assert!(marks.len() > 5000, "nothing is read twice");
    capture.end();
}

/// Others' files, of either byte order, cut and damaged ones.
#[test]
fn foreign_cut_and_damaged_files() {
    let dir = temp_dir();
    let file = dir.path().join("zoo.pcapng");
    file_of(&file, &zoo());
    let count = |path: &Path| {
        read(&["--count", "-r", path.to_str().unwrap()])
            .trim()
            .to_owned()
    };
    let all = zoo().len().to_string();
    for format in ["pcap", "nsecpcap", "pcapng"] {
        let other = dir.path().join(format!("other.{format}"));
        run(
            Command::new("editcap")
                .args(["-F", format])
                .args([&file, &other]),
            "",
        );
        assert_eq!(count(&other), all, "{format}");
    }
    // Big endian: the classic header and records turned around.
    let plain = fs::read(dir.path().join("other.pcap")).unwrap();
    let mut turned = Vec::new();
    let turn = |out: &mut Vec<u8>, bytes: &[u8], widths: &[usize]| {
        let mut at = 0;
        for width in widths {
            out.extend(bytes[at..at + width].iter().rev());
            at += width;
        }
    };
    turn(&mut turned, &plain, &[4, 2, 2, 4, 4, 4, 4]);
    let mut at = 24;
    while at < plain.len() {
        turn(&mut turned, &plain[at..], &[4, 4, 4, 4]);
        let len = u32::from_le_bytes(plain[at + 8..at + 12].try_into().unwrap()) as usize;
        turned.extend(&plain[at + 16..at + 16 + len]);
        at += 16 + len;
    }
    let big = dir.path().join("big.pcap");
    fs::write(&big, turned).unwrap();
    assert_eq!(count(&big), all);
    // Cut anywhere: no panic, and never more than there was.
    let whole = fs::read(&file).unwrap();
    let cut = dir.path().join("cut.pcapng");
    for at in (0..whole.len()).step_by(97) {
        fs::write(&cut, &whole[..at]).unwrap();
        let Ok(mut packets) = Packets::open(&cut) else {
            assert!(at < 28, "{at}");
            continue;
        };
        let mut found = 0;
        while packets.advance().unwrap() {
            found += 1;
        }
        assert!(found < zoo().len());
    }
    // Any byte changed: an error or packets, and no panic.
    for at in (0..whole.len()).step_by(13) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs::write(&cut, damaged).unwrap();
        if let Ok(mut packets) = Packets::open(&cut) {
            while packets.advance().unwrap_or(false) {}
        }
    }
    let mut command = Command::new(LWNFLOG);
    let nothing = dir.path().join("nothing.pcap");
    fs::write(&nothing, b"this is no capture, but it is long enough").unwrap();
    let refused = output(command.args(["read", "-r"]).arg(&nothing), "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no pcapng or pcap file"));
    let mut command = Command::new(LWNFLOG);
    let missing = output(command.args(["read", "nowhere"]), "");
    assert_eq!(missing.status.code(), Some(1));
}

/// From a pipe, into a pipe whose reader goes away.
#[test]
fn pipes() {
    let dir = temp_dir();
    let file = dir.path().join("zoo.pcapng");
    file_of(&file, &zoo());
    let all = zoo().len().to_string();
    let script = format!(
        "cat {0} | {1} read -r - --count; {1} read -r {0} -w - udp | tcpdump -nr - 2>/dev/null | wc -l; {1} read -r {0} | head -1 >/dev/null; echo ok",
        file.display(),
        LWNFLOG
    );
    let told = run(Command::new("sh").args(["-c", &script]), "");
    let told: Vec<_> = told.split_whitespace().collect();
    assert_eq!((told[0], told[2]), (all.as_str(), "ok"));
    assert!(told[1].parse::<usize>().unwrap() > 5);
    let _: PathBuf = file;
}
