//! `lwnflog report`: the page and the text say what is in the capture, the same each time, and what
//! stands in a capture cannot become a part of the page.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::made::{File, HOSTILE, START_US, ip, tcp};
use common::{LWNFLOG, output, run, temp_dir};

const SERVER: [u8; 4] = [198, 51, 100, 10];

/// A flood of 1,500 SYNs, a scan of 100 ports that are refused, 200 connections that are answered, 30
/// packets in two parts, and 7 packets that were lost.
fn capture(path: &Path) {
    let mut file = File::new();
    for number in 0..200_u16 {
        let (client, port) = ([192, 0, 2, 1], 20_000 + number);
        let at = u64::from(number) * 50;
        file.packet(at, &ip(client, SERVER, 6, 0, &tcp(port, 443, 2)), 0);
        file.packet(at, &ip(SERVER, client, 6, 0, &tcp(443, port, 0x12)), 0);
    }
    for number in 0..1500_u16 {
        let [high, low] = (number % 300).to_be_bytes();
        let from = [203, 0, high, low];
        let at = 10_000 + u64::from(number);
        file.packet(at, &ip(from, SERVER, 6, 0, &tcp(1024 + number, 80, 2)), 0);
    }
    for port in 1..=100 {
        let from = [192, 0, 2, 66];
        let at = 12_000 + u64::from(port);
        file.packet(at, &ip(from, SERVER, 6, 0, &tcp(55_555, port, 2)), 0);
        file.packet(at, &ip(SERVER, from, 6, 0, &tcp(port, 55_555, 0x14)), 0);
    }
    for number in 0..30 {
        let at = 13_000 + number;
        file.packet(at, &ip([192, 0, 2, 9], SERVER, 17, 0x2000, &[0; 64]), 0);
        let lost = if number == 29 { 7 } else { 0 };
        file.packet(at, &ip([192, 0, 2, 9], SERVER, 17, 8, &[0; 64]), lost);
    }
    fs::write(path, file.0).unwrap();
}

fn report(args: &[&str]) -> String {
    run(
        Command::new(LWNFLOG).args(["report", "--utc"]).args(args),
        "",
    )
}

/// Packets that tshark finds.
fn tshark(path: &Path, filter: &str) -> usize {
    let fields = ["-Y", filter, "-T", "fields", "-e", "frame.number"];
    let found = run(Command::new("tshark").arg("-nr").arg(path).args(fields), "");
    found.lines().count()
}

#[test]
fn it_says_what_is_there() {
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    capture(&path);
    let file = path.to_str().unwrap();
    let text = report(&["--text", file]);
    let line = |beginning: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines = text.lines().map(words);
        lines
            .find(|line| line.starts_with(beginning))
            .unwrap_or_else(|| panic!("{beginning}: {text}"))
    };
    let packets = tshark(&path, "ip");
    assert_eq!(
        line("packets "),
        format!("packets {},{:03}", packets / 1000, packets % 1000)
    );
    assert_eq!(line("from "), "from 2025-11-27 14:00:00");
    assert_eq!(line("lost, as the files say"), "lost, as the files say 7");
    let answered = tshark(&path, "tcp.flags.syn == 1 && tcp.flags.ack == 1");
    assert_eq!(answered, 200);
    // 1,800 were opened: 1,500 hear nothing, 100 are refused.
    assert!(
        line("Of 1,800 connections").contains("1,500 never went beyond it and 100 were refused")
    );
    assert!(line("* 1,500 connections to 198.51.100.10 port 80").contains("from 300 sources"));
    assert_eq!(
        line("* 192.0.2.66 tried"),
        "* 192.0.2.66 tried 100 ports of 198.51.100.10."
    );
    assert!(line("TCP 80").starts_with("TCP 80 1,501"), "{text}");
    assert_eq!(
        line("192.0.2.66 100 ports"),
        "192.0.2.66 100 ports 198.51.100.10"
    );
    // Each packet is in two parts.
    let later = tshark(&path, "ip.frag_offset > 0");
    assert_eq!(later, 30);
    assert_eq!(tshark(&path, "ip.flags.mf == 1"), 30);
    assert!(line("first parts").starts_with("first parts 30 "));
    assert!(line("later parts").starts_with("later parts 30 "));
    // A filter's report is on what it takes.
    let some = report(&["--text", file, "udp"]);
    assert!(
        some.contains("7 packets were lost, 10.4 % of all, in 1 gap:"),
        "{some}"
    );
    assert!(!some.contains("TCP"), "{some}");
}

#[test]
fn the_page_stands_alone_and_is_the_same_each_time() {
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    capture(&path);
    let file = path.to_str().unwrap();
    let pages: Vec<String> = ["a.html", "b.html"]
        .map(|name| {
            let page = dir.path().join(name);
            report(&[file, "-o", page.to_str().unwrap()]);
            fs::read_to_string(page).unwrap()
        })
        .into();
    assert_eq!(pages[0], pages[1]);
    let page = &pages[0];
    assert_eq!(*page, report(&[file, "-o", "-"]));
    for forbidden in [
        "<script", "http:", "https:", " src=", "@import", "<link", " onload", " href",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let urls = page.matches("url(").count();
    assert_eq!(urls, page.matches("url(#").count(), "patterns of its own");
    assert!(page.contains("&lt;script&gt;"), "shown, as text");
    for told in [
        "1,500 connections to 198.51.100.10 port 80",
        "SYN: connections that are opened",
        "packets were lost",
        "Scans",
        "Fragments",
        "Places, and what was lost there",
    ] {
        assert!(page.contains(told), "{told}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    // Two side by side.
    let both = report(&[file, "--compare", file, "-o", "-"]);
    assert_eq!(both.matches("<h1>").count(), 2);
    assert!(both.matches("<svg").count() > page.matches("<svg").count());
}

/// Names and filters may have what no text has.
#[test]
fn no_control_character_is_in_a_report() {
    let dir = temp_dir();
    let path = dir.path().join("a\u{1b}[2J\u{85}.pcapng");
    let mut file = File(Vec::new());
    let header = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX];
    file.block(0x0a0d_0d0a, &header.map(u32::to_le_bytes).concat());
    let name = "eth\u{1b}[31m\0\u{7}\r\u{9b}x";
    file.interface(name, "NFLOG group \u{1b}]0;x\u{7}\0", 128);
    let prefix = format!("prefix={name}");
    let note = format!("lwnflog {name}");
    for number in 0..50 {
        let packet = ip([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, &[0; 8]);
        file.packet_with(0, number * 1000, &packet, number, &[&prefix, &note]);
    }
    fs::write(&path, file.0).unwrap();
    let file = path.to_str().unwrap();
    let filter = "prefix \"\u{1b}[31m\" or udp";
    for args in [
        &["-o", "-", file][..],
        &["-o", "-", file, filter],
        &["-o", "-", file, "--compare", file],
        &["--text", file],
        &["--text", file, filter],
    ] {
        let page = report(args);
        let control = page
            .chars()
            .find(|letter| letter.is_control() && *letter != '\n');
        assert_eq!(control, None, "{args:?}");
        assert!(page.contains("eth?[31m"), "{args:?}: {page}");
    }
}

#[test]
fn what_cannot_be_reported_is_said() {
    let dir = temp_dir();
    let path = dir.path().join("empty.pcapng");
    fs::write(&path, File::new().0).unwrap();
    let page = report(&[path.to_str().unwrap(), "-o", "-"]);
    assert!(page.contains("There is no packet."), "{page}");
    let refused = |args: &[&str]| {
        let done = output(Command::new(LWNFLOG).arg("report").args(args), "");
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let file = path.to_str().unwrap();
    assert!(refused(&[file]).contains("--output"));
    assert!(refused(&[file, "-o", "/no/such/place.html"]).contains("/no/such/place.html"));
    assert!(refused(&[file, "hots 1.2.3.4", "--text"]).contains("hots"));
    fs::write(dir.path().join("x.pcapng"), "no capture").unwrap();
    let said = refused(&[dir.path().join("x.pcapng").to_str().unwrap(), "--text"]);
    assert!(said.contains("no capture file"), "{said}");
}

#[test]
fn it_says_where_losses_were_and_what_was_left_out() {
    const NOTE: &str = "lwnflog 2025-11-27T14:00:01Z snaplen 64 -> 128 by uid 0";
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    let mut file = File::new();
    let sampled = "Netfilter hook prerouting, 1 packet of 10";
    file.interface("eth1", sampled, 128);
    file.interface(
        "eth2",
        &format!("Netfilter hook {HOSTILE}, 1 packet of 7"),
        0,
    );
    let packet = ip([192, 0, 2, 1], SERVER, 1, 0, &[8, 0, 0, 0]);
    for number in 0..60_u64 {
        let at = u32::try_from(number % 3).unwrap();
        let lost = if number % 20 == 0 { number } else { 0 };
        let note = if number == 30 { NOTE } else { "" };
        file.packet_at(at, number * 100, &packet, lost, note);
    }
    fs::write(&path, file.0).unwrap();
    let file = path.to_str().unwrap();
    let text = report(&["--text", file]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = text.lines().map(words).collect();
    let has = |wanted: &str| {
        assert!(
            lines.iter().any(|line| line.starts_with(wanted)),
            "{wanted}: {text}"
        )
    };
    // Of 0, 20 and 40, the second is lost at interface 2, and the third at 1.
    has(&format!("{sampled}, eth1 20 33.3 % 40 1 128"));
    has(&format!(
        "Netfilter hook {HOSTILE}, 1 packet of 7, eth2 20 33.3 % 20 1 all"
    ));
    has(&format!("{HOSTILE} 20 33.3 % 0 0 128"));
    has(&format!(
        "* {sampled}: figures are of what was captured there"
    ));
    has(&format!(
        "{} 2025-11-27 14:00:03",
        NOTE.trim_start_matches("lwnflog ")
    ));
    has("* The capture was changed meanwhile");
    let page = report(&[file, "-o", "-"]);
    assert!(page.contains(sampled) && !page.contains("<script"));
    // What is read and written again keeps its places and notes.
    let copy = dir.path().join("copy.pcapng");
    run(
        Command::new(LWNFLOG)
            .arg("read")
            .arg(file)
            .arg("-w")
            .arg(&copy),
        "",
    );
    let copied = report(&["--text", copy.to_str().unwrap()]);
    assert!(copied.contains("snaplen 64 -> 128") && copied.contains(&format!("* {sampled}: ")));
}

#[test]
fn two_times_and_two_hosts_stand_side_by_side() {
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    capture(&path);
    let file = path.to_str().unwrap();
    let day = |time: &str| format!("2025-11-27T14:00:{time}");
    let (from, to, other) = (day("00"), day("01.999"), day("10"));
    let asked = ["--from", &from, "--to", &to, file, "--text"];
    let packets = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim_start);
        let figures = lines.filter_map(|line| line.strip_prefix("packets  "));
        figures.map(str::to_owned).collect()
    };
    // 40 connections begin in two seconds, and are answered; then come the flood and, in part, the scan.
    let times = report(&[&asked[..], &["--compare-from", &other]].concat());
    let span = |from: u64, to: u64| {
        let from = format!("frame.time_epoch >= {}", START_US / 1_000_000 + from);
        tshark(
            &path,
            &format!("{from} && frame.time_epoch < {}", START_US / 1_000_000 + to),
        )
    };
    assert_eq!(span(0, 2), 80);
    let then = span(10, 12);
    assert_eq!(
        packets(&times),
        [
            "80".to_owned(),
            format!("{},{:03}", then / 1000, then % 1000)
        ]
    );
    assert!(
        times.contains("2025-11-27 14:00:10 to 2025-11-27 14:00:11"),
        "{times}"
    );
    // Another file has the same time.
    let hosts = report(&[&asked[..], &["--compare", file]].concat());
    assert_eq!(packets(&hosts), ["80", "80"]);
    let refused = output(
        Command::new(LWNFLOG).args(["report", file, "--text", "--compare-from", "14:00"]),
        "",
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--from"));
}

/// What answers is no scan, however much of it there is.
#[test]
fn what_is_answered_is_no_scan() {
    const BROWSER: [u8; 4] = [192, 0, 2, 1];
    const RESOLVER: [u8; 4] = [192, 0, 2, 2];
    const SCANNER: [u8; 4] = [192, 0, 2, 66];
    let udp = |from: u16, to: u16| [from, to, 8, 0].map(u16::to_be_bytes).concat();
    let mut file = File::new();
    for number in 0..60_u8 {
        let (server, at) = ([198, 51, 100, number], u64::from(number) * 100);
        let port = 40_000 + u16::from(number);
        let mut put = |from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]| {
            file.packet(at, &ip(from, to, protocol, 0, payload), 0);
        };
        // A browser's connections, from both sides; those of a host that sees its own side alone.
        put(BROWSER, server, 6, &tcp(port, 443, 2));
        put(server, BROWSER, 6, &tcp(443, port, 0x12));
        put(BROWSER, server, 6, &tcp(port, 443, 0x10));
        put([192, 0, 2, 3], server, 6, &tcp(port, 443, 2));
        put([192, 0, 2, 3], server, 6, &tcp(port, 443, 0x10));
        // A resolver's questions.
        put(RESOLVER, server, 17, &udp(port, 53));
        put(server, RESOLVER, 17, &udp(53, port));
        // Who looks for open ports: each second one is open, and closed by him at once; of UDP none.
        let [_, _, _, low] = server;
        put(SCANNER, SERVER, 6, &tcp(50_000, 100 + u16::from(low), 2));
        let answer = if number % 2 == 0 { 0x12 } else { 0x14 };
        put(
            SERVER,
            SCANNER,
            6,
            &tcp(100 + u16::from(low), 50_000, answer),
        );
        if number % 2 == 0 {
            put(SCANNER, SERVER, 6, &tcp(50_000, 100 + u16::from(low), 4));
        }
        put(SCANNER, [203, 0, 113, number], 17, &udp(50_000, 161));
    }
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    fs::write(&path, file.0).unwrap();
    let text = report(&["--text", path.to_str().unwrap()]);
    assert_eq!(text.matches(" tried 60 ").count(), 2, "{text}");
    assert!(
        text.contains("* 192.0.2.66 tried 60 ports of 198.51.100.10."),
        "{text}"
    );
    assert!(
        text.contains("* 192.0.2.66 tried 60 hosts at port 161."),
        "{text}"
    );
}

/// The memory of a report has a limit, whatever it is of: also where each packet is from another source to
/// another door.
#[test]
fn a_report_takes_no_more_memory_than_it_says() {
    const PACKETS: u32 = 480_000;
    const LIMIT_KIB: u64 = 128 << 10;
    let dir = temp_dir();
    let path = dir.path().join("f.pcap");
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101_u32] {
        file.extend(word.to_le_bytes());
    }
    for number in 0..PACKETS {
        let [_, a, b, c] = (number / 20).to_be_bytes();
        let [_, _, d, e] = number.wrapping_mul(40_503).to_be_bytes();
        // Some sources have many doors, and many hosts are met.
        let from = match number % 2 {
            0 => [10, a, b, c],
            _ => [11, d, e, c],
        };
        let port = u16::from_be_bytes([e, d]);
        let packet = ip(from, [12, c, e, d], 6, 0, &tcp(port, port ^ 0x5555, 2));
        let len = u32::try_from(packet.len()).unwrap();
        for word in [1_764_252_000 + number / 1000, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    fs::write(&path, file).unwrap();
    let script = "import resource, subprocess, sys\n\
                  subprocess.run(sys.argv[1:], check=True)\n\
                  print('KiB', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut command = Command::new("python3");
    command.args(["-c", script, LWNFLOG, "report", "--text"]);
    let told = run(command.arg(&path), "");
    assert!(
        told.contains("found no room in the table of scans"),
        "{told}"
    );
    assert!(
        told.contains("which came when the table was full"),
        "{told}"
    );
    let (_, taken) = told.rsplit_once("KiB ").unwrap();
    let taken: u64 = taken.trim().parse().unwrap();
    assert!(taken < LIMIT_KIB, "{taken} KiB of memory");
}

/// Names are as long as somebody writes them, and told apart by their beginnings.
#[test]
fn names_of_any_length_are_cut() {
    let dir = temp_dir();
    let path = dir.path().join("f.pcapng");
    let mut file = File::new();
    for number in 0..300_u32 {
        let name = format!("{number}{}", "ü".repeat(10_000));
        file.interface(&name, &name, 128);
        let prefix = format!("prefix={name}");
        let packet = ip([10, 0, 0, 1], SERVER, 1, 0, &[8, 0]);
        file.packet_with(number + 1, 0, &packet, 0, &[&prefix]);
    }
    fs::write(&path, file.0).unwrap();
    let text = report(&["--text", path.to_str().unwrap()]);
    assert!(text.contains("(others), "), "{text}");
    assert!(text.lines().all(|line| line.len() < 1000), "{text}");
}

/// What was lost behind the last packet is in a file's statistics alone.
#[test]
fn what_was_lost_behind_the_last_packet_is_counted() {
    let dir = temp_dir();
    let path = dir.path().join("made.pcapng");
    let mut file = File::new();
    file.packet(0, &ip([192, 0, 2, 1], SERVER, 6, 0, &tcp(1, 2, 16)), 3);
    file.packet(5, &ip([192, 0, 2, 1], SERVER, 6, 0, &tcp(1, 2, 16)), 0);
    let mut block = [0; 12].to_vec();
    common::made::option(&mut block, 7, &12_u64.to_le_bytes());
    block.extend([0; 4]);
    file.block(5, &block);
    fs::write(&path, file.0).unwrap();
    let name = path.to_str().unwrap();
    let lost = |args: &[&str]| {
        let text = report(args);
        let line = text.lines().find(|line| line.contains("lost")).unwrap();
        line.to_owned()
    };
    assert!(
        lost(&["--text", name]).contains("12"),
        "{}",
        lost(&["--text", name])
    );
    // What a filter does not take is not asked about.
    assert!(!lost(&["--text", name, "tcp"]).contains("12"));
}
