//! The index beside a finished file: what is found with it is what is found without, whatever it
//! says, and it comes and goes with its file.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{LWNFLOG, Running, lab, load_capture_rules, run, send_paced, temp_dir, until};
use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::{Context, Format, Frame, Interfaces, LinkType};
use lwnflog::index::{Index, beside};
use lwnflog::packet::{ETHERTYPE_IPV4, Packet};
use lwnflog::read::Record;
use lwnflog::read::chain::{Merged, Span};
use lwnflog::read::filter::Filter;
use lwnflog::read::packets::Packets;
use lwnflog::read::piece::Make;
use lwnflog::read::plan::Selection;
use lwnflog::ring::{Access, Limits, NoSlot, Ring, RingConfig, SEGMENT_BYTES_SMALL, Store};
use proptest::prelude::*;

const ETHERTYPE_IPV6: u16 = 0x86dd;
const BEGIN_NS: u64 = 1_764_000_000_000_000_000;
const STEP_NS: u64 = 5_000_000;
/// Of a frame: ports behind a long header are cut off.
const SNAPLEN: u32 = 60;
/// Packets of which hosts and ports are the same few, then come others.
const SCENE: u64 = 700;

/// Packet number `n` of a ring that is always the same: its payload and its EtherType.
fn payload(n: u64) -> (Vec<u8>, u16) {
    let scene = u8::try_from(n / SCENE % 250).unwrap();
    let small = u8::try_from(n % 7).unwrap();
    let (source, destination) = ([10, 0, scene, small], [10, 1, scene / 4, 1]);
    let ports = [
        1000 + u16::from(scene),
        [53, 80, 443, 2000 + u16::from(small)][usize::from(small % 4)],
    ];
    let transport = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    if n % 11 == 3 {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, 17, 64];
        if n % 22 == 3 {
            packet[6] = 44; // a fragment
        }
        packet.extend([0xfd, scene, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, small]);
        if n % 22 == 3 {
            packet.extend([6, 0, 0, 1, 0, 0, 0, 9]);
        }
        packet.extend(transport);
        packet.resize(60, 0);
        return (packet, ETHERTYPE_IPV6);
    }
    if n % 97 == 5 {
        return (vec![0; 30], 0x0806);
    }
    let protocol = [6, 17, 6, 1, 17, 50, 132][usize::from(small)];
    let words = if n % 13 == 1 { 15 } else { 5 }; // options: the ports are cut off
    let mut packet = vec![0x40 | words, 0, 0, 80, 0, 0, 0, 0, 64, protocol, 0, 0];
    if n % 17 == 2 {
        packet[7] = 9; // a later fragment
    }
    packet.extend(source);
    packet.extend(destination);
    packet.resize(usize::from(words) * 4, 0);
    packet.extend(transport);
    packet.resize(80, 0);
    (packet, ETHERTYPE_IPV4)
}

/// Writes a ring `g5` of these packets, as a capture does.
fn write_ring(
    dir: &Path,
    packets: u64,
    file_bytes: u64,
    limits: Limits,
    index: bool,
) -> Vec<PathBuf> {
    let names = Interfaces::new(|ifindex| Some(format!("eth{ifindex}")));
    let mut format = PcapNg::new(
        LinkType::Ethernet,
        SNAPLEN,
        "a test".into(),
        SEGMENT_BYTES_SMALL,
        names,
    );
    let config = RingConfig {
        dir: dir.to_owned(),
        name: "g5".into(),
        extension: PcapNg::EXTENSION,
        file_bytes,
        limits,
        segment_bytes: SEGMENT_BYTES_SMALL,
        padding_blocks: true,
    };
    let mut store = Store::open(dir, "g5", PcapNg::EXTENSION, Access::default()).unwrap();
    if index {
        store = store.with_index();
    }
    let mut ring = Ring::open(config, store, mpsc::channel().0).unwrap();
    ring.take_over();
    ring.keep_for_end(format.end_bytes());
    assert!(ring.next_file());
    format.begin(&mut |block| assert!(ring.append_block(block)));
    for n in 0..packets {
        let (payload, protocol) = payload(n);
        // A tag of a VLAN stands in the header of Ethernet.
        let header: Vec<u8> = match n % 5 {
            0 => [&[2; 12][..], &[0x81, 0, 0, 7], &protocol.to_be_bytes()].concat(),
            _ => [&[2; 12][..], &protocol.to_be_bytes()].concat(),
        };
        let packet = Packet {
            payload: &payload,
            hw_header: &header,
            protocol,
            // The second one comes late in a file.
            ifindex_in: if n % 6000 > 4500 && n % 3 == 0 { 3 } else { 2 },
            mark: u32::from(n % 50 == 7),
            ..Packet::default()
        };
        let out_of_order = if n % 31 == 30 { 40 * STEP_NS } else { 0 };
        let stamp_ticks = (BEGIN_NS + 300_000_000 + n * STEP_NS - out_of_order) / 1000;
        loop {
            if format.interface(packet.ifindex()).is_none() {
                let block = format.declare(&packet);
                if !ring.append_block(&block) {
                    assert!(ring.next_file());
                    format.begin(&mut |block| assert!(ring.append_block(block)));
                    continue;
                }
            }
            let frame = Frame::new(&packet, LinkType::Ethernet, SNAPLEN);
            let context = Context {
                stamp_ticks,
                lost_before: if n % 9000 == 8999 { 3 } else { 0 },
                interface: format.interface(packet.ifindex()).unwrap(),
            };
            match ring.slot(format.record_bytes(&packet, &frame, &context)) {
                Ok(mut slot) => {
                    let head = format.encode(&packet, &frame, &context, slot.space());
                    slot.append(head);
                    ring.note_first(context.stamp_ticks);
                    break;
                }
                Err(NoSlot::FileFull | NoSlot::NoFile) => {
                    format.end(&mut |block| ring.append_end(block));
                    ring.keep_for_end(format.end_bytes());
                    assert!(ring.next_file());
                    format.begin(&mut |block| assert!(ring.append_block(block)));
                }
            }
        }
    }
    ring.commit();
    format.end(&mut |block| ring.append_end(block));
    let (files, _) = ring.close();
    files
}

/// What is said of a packet that was found.
fn said(record: &Record<'_>) -> String {
    format!(
        "{} {} {} {} {:?} {:02x?}\n",
        record.time_ns,
        record.interface.name,
        record.original_len,
        record.lost_before,
        record.comment,
        record.data
    )
}

#[derive(Clone)]
struct Said;

impl Make for Said {
    fn make(&mut self, record: &Record<'_>, interface: u32, out: &mut Vec<u8>) {
        assert_eq!(interface, u32::from(interface != 0));
        out.extend(said(record).as_bytes());
    }
}

/// By the library's plain means: every packet of every file.
fn by_hand(files: &[PathBuf], selection: &Selection) -> String {
    let mut all = String::new();
    for file in files {
        let mut packets = Packets::open(file).unwrap();
        while packets.advance().unwrap() {
            let record = packets.record().unwrap();
            if selection.span.holds(record.time_ns) && selection.filter.takes(&record) {
                all += &said(&record);
            }
        }
    }
    all
}

fn one_by_one(places: &[PathBuf], selection: &Selection) -> String {
    let mut merged = Merged::select(places, selection.clone()).unwrap();
    let mut all = String::new();
    while merged.advance() {
        all += &said(&merged.record().unwrap());
    }
    assert!(merged.take_faults().is_empty());
    all
}

fn by_threads(places: &[PathBuf], selection: &Selection, threads: usize) -> String {
    let mut merged = Merged::select(places, selection.clone()).unwrap();
    let mut all = Vec::new();
    merged.scan(
        threads,
        || Said,
        |piece, marks| {
            all.extend_from_slice(&piece.out[piece.bytes(marks)]);
            true
        },
    );
    assert!(merged.take_faults().is_empty());
    String::from_utf8(all).unwrap()
}

fn primitive() -> impl Strategy<Value = String> {
    let way = prop_oneof![Just(""), Just("src "), Just("dst "), Just("src and dst ")];
    let host = prop_oneof![
        (0..30u8, 0..8u8).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b).to_string()),
        (0..9u8).prop_map(|a| Ipv4Addr::new(10, 1, a, 1).to_string()),
        (0..30u16).prop_map(|a| Ipv6Addr::new(0xfd00 | a, 0, 0, 0, 0, 0, 0, 1).to_string()),
    ];
    let net = (
        0..30u8,
        prop_oneof![Just(32u8), Just(28), Just(24), Just(20), Just(8), Just(0)],
    )
        .prop_map(|(a, bits)| {
            let address = u32::from(Ipv4Addr::new(10, 0, a, 0));
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            format!("{}/{bits}", Ipv4Addr::from(address & mask))
        });
    let port = prop_oneof![1000..1030u16, Just(53), Just(80), 2000..2008u16];
    let transport = prop_oneof![Just(""), Just("tcp "), Just("udp ")];
    prop_oneof![
        (way.clone(), host).prop_map(|(way, host)| format!("{way}host {host}")),
        (way.clone(), net).prop_map(|(way, net)| format!("{way}net {net}")),
        Just("net fd05::/16".to_owned()),
        Just("net fd05::/64".to_owned()),
        (transport.clone(), way.clone(), port.clone())
            .prop_map(|(transport, way, port)| format!("{transport}{way}port {port}")),
        (transport, way, port, 0..40u16).prop_map(|(transport, way, port, more)| {
            format!("{transport}{way}portrange {port}-{}", port + more)
        }),
        prop_oneof![
            Just("ip"),
            Just("ip6"),
            Just("tcp"),
            Just("icmp"),
            Just("sctp"),
            Just("esp"),
            Just("proto 47"),
            Just("lost"),
            Just("mark 1"),
            Just("iface eth3"),
            Just("less 70"),
            Just("greater 70"),
        ]
        .prop_map(str::to_owned),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    primitive().prop_recursive(3, 8, 3, |inner| {
        let word = prop_oneof![Just("and"), Just("or")];
        prop_oneof![
            (inner.clone(), word, inner.clone())
                .prop_map(|(one, word, other)| format!("{one} {word} {other}")),
            inner.clone().prop_map(|one| format!("not {one}")),
            inner.prop_map(|one| format!("({one})")),
        ]
    })
}

fn selection(filter: &str, span: Span, no_index: bool) -> Selection {
    Selection {
        span,
        filter: Filter::parse(filter).unwrap(),
        no_index,
    }
}

const PACKETS: u64 = 20_000;

fn ring(index: bool) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = temp_dir();
    let files = write_ring(dir.path(), PACKETS, 640 << 10, Limits::default(), index);
    assert!(files.len() >= 3, "{files:?}");
    // Their packets are old, and so are they.
    for (number, file) in files.iter().enumerate() {
        let last = BEGIN_NS + PACKETS * STEP_NS + number as u64;
        let time = UNIX_EPOCH + Duration::from_nanos(last);
        File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    (dir, files)
}

#[test]
fn what_is_found_is_the_same_with_and_without_an_index() {
    let (dir, files) = ring(false);
    let places = [dir.path().to_owned()];
    assert_eq!(indexes(dir.path()), BTreeSet::new());
    // Made by the first who looks for something.
    let first = selection("host 10.0.3.3", Span::default(), false);
    assert_eq!(one_by_one(&places, &first), by_hand(&files, &first));
    assert_eq!(indexes(dir.path()), names_of(&files));
    let strategy = (
        expression(),
        prop_oneof![Just(None), (0..PACKETS, 1..6000u64).prop_map(Some)],
    );
    proptest!(ProptestConfig::with_cases(120), |((text, time) in strategy)| {
        let span = time.map_or(Span::default(), |(begin, len)| Span {
            from_ns: BEGIN_NS + begin * STEP_NS,
            to_ns: BEGIN_NS + (begin + len) * STEP_NS,
        });
        let (with, without) = (selection(&text, span, false), selection(&text, span, true));
        let wanted = by_hand(&files, &with);
        prop_assert!(one_by_one(&places, &without) == wanted, "without, {text}");
        prop_assert!(one_by_one(&places, &with) == wanted, "with, {text}");
        prop_assert!(by_threads(&places, &with, 3) == wanted, "threads, {text}");
        prop_assert!(by_threads(&places, &without, 2) == wanted, "threads without, {text}");
    });
}

fn names_of(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    files.iter().map(|file| beside(file)).collect()
}

/// The indexes in a directory, those that are being made included.
fn indexes(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.to_str().unwrap().contains(".idx"))
        .collect()
}

#[test]
fn an_index_says_what_is_in_its_file_and_is_small() {
    let dir = temp_dir();
    let files = write_ring(dir.path(), 60_000, 4 << 20, Limits::default(), true);
    assert_eq!(indexes(dir.path()), names_of(&files));
    let (mut packets, mut lost) = (0, 0);
    for file in &files {
        let index = Index::load(file).unwrap();
        let bytes = fs::metadata(file).unwrap().len();
        assert_eq!(fs::metadata(beside(file)).unwrap().len(), index.bytes());
        assert!(index.bytes() <= bytes / 100, "{} of {bytes}", index.bytes());
        for segment in index.segments() {
            packets += u64::from(segment.packets);
            lost += segment.lost;
            assert!(segment.from_ns <= segment.to_ns);
        }
        // A host of a few segments is looked for in a few.
        let filter = Filter::parse("host 10.0.3.3").unwrap();
        let runs = index.runs(
            0,
            u64::MAX,
            Some(&|segment, keys| filter.may_take_of(segment, keys)),
        );
        let read: u64 = runs.iter().map(|run| run.end - run.start).sum();
        assert!(read <= bytes / 2, "{read} of {bytes}");
    }
    assert_eq!((packets, lost), (60_000, 60_000 / 9000 * 3));
}

#[test]
fn an_index_that_is_not_of_its_file_is_made_anew() {
    let (dir, files) = ring(false);
    let places = [dir.path().to_owned()];
    let wanted = selection("host 10.0.3.3 or port 1009", Span::default(), false);
    let found = by_hand(&files, &wanted);
    let file = &files[1];
    assert_eq!(one_by_one(&places, &wanted), found);
    let whole = fs::read(beside(file)).unwrap();
    assert!(Index::load(file).is_some());
    // Of another time.
    let now = SystemTime::now();
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_modified(now)
        .unwrap();
    assert!(Index::load(file).is_none());
    assert_eq!(one_by_one(&places, &wanted), found);
    assert!(Index::load(file).is_some());
    // Of another size, nothing, a part.
    for other in [
        fs::read(beside(&files[0])).unwrap(),
        Vec::new(),
        whole[..60].to_vec(),
    ] {
        fs::write(beside(file), other).unwrap();
        assert!(Index::load(file).is_none());
        assert_eq!(by_threads(&places, &wanted, 2), found);
        assert!(Index::load(file).is_some());
    }
    // Damaged anywhere, it leaves nothing out.
    let whole = fs::read(beside(file)).unwrap();
    for at in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(beside(file), damaged).unwrap();
        assert_eq!(one_by_one(&places, &wanted), found, "byte {at}");
    }
}

/// A file in whose place another one stands, of the same size and time.
#[test]
fn an_index_of_what_stood_there_before_is_not_believed() {
    let (dir, files) = ring(false);
    let places = [dir.path().to_owned()];
    let wanted = selection("host 10.99.98.97", Span::default(), false);
    let file = &files[1];
    assert_eq!(one_by_one(&places, &wanted), "");
    assert!(Index::load(file).is_some());
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    let mut bytes = fs::read(file).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut at = 0;
    while at < bytes.len() {
        if word(&bytes, at) == 6 {
            // A minute later, of another host.
            let later = word(&bytes, at + 16).wrapping_add(60_000_000);
            bytes[at + 16..at + 20].copy_from_slice(&later.to_le_bytes());
            if bytes[at + 28 + 12..].starts_with(&[8, 0, 0x45]) {
                bytes[at + 28 + 26..at + 28 + 30].copy_from_slice(&[10, 99, 98, 97]);
            }
        }
        at += word(&bytes, at + 4) as usize;
    }
    let len = bytes.len() as u64;
    fs::write(file, bytes).unwrap();
    let open = File::options().write(true).open(file).unwrap();
    open.set_modified(modified).unwrap();
    assert_eq!(fs::metadata(file).unwrap().len(), len);
    assert!(
        Index::load(file).is_some(),
        "by size and time it is the same"
    );
    let found = by_hand(&files, &wanted);
    assert!(found.lines().count() > 100);
    assert_eq!(one_by_one(&places, &wanted), found);
    assert_eq!(by_threads(&places, &wanted, 2), found);
}

#[test]
fn an_index_goes_with_its_file() {
    let dir = temp_dir();
    // Left by others: one without a file, one half made.
    let left = dir.path().join(".g5-000001-20251124T160000Z.pcapng.idx");
    fs::write(&left, "nothing").unwrap();
    fs::write(left.with_extension("idx.part"), "nothing").unwrap();
    let files = write_ring(dir.path(), 40_000, 320 << 10, Limits::files(3), true);
    assert_eq!(files.len(), 3);
    assert!(!left.exists());
    let left = indexes(dir.path());
    assert!(left.is_subset(&names_of(&files)), "{left:?} of {files:?}");
    assert!(left.contains(&beside(&files[2])), "{left:?}");
    // Without one where none is wanted, and a limit in bytes counts them.
    let dir = temp_dir();
    write_ring(dir.path(), 40_000, 320 << 10, Limits::files(3), false);
    assert_eq!(indexes(dir.path()), BTreeSet::new());
    let dir = temp_dir();
    let bytes = 5 * (320 << 10);
    let limits = Limits {
        bytes: Some(bytes),
        ..Limits::default()
    };
    write_ring(dir.path(), 40_000, 320 << 10, limits, true);
    let entries = fs::read_dir(dir.path()).unwrap();
    let there: u64 = entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(there <= bytes, "{there}");
}

#[test]
fn an_index_that_cannot_be_stored_is_not_there() {
    let dir = temp_dir();
    // Whatever is to become one has this name, which something else has.
    let files = write_ring(dir.path(), 20_000, 640 << 10, Limits::default(), false);
    let taken = |file: &PathBuf| {
        let mut name = beside(file).into_os_string();
        name.push(".part");
        PathBuf::from(name)
    };
    for file in &files {
        fs::create_dir(taken(file)).unwrap();
    }
    let wanted = selection("host 10.0.3.3", Span::default(), false);
    let places = [dir.path().to_owned()];
    assert_eq!(by_threads(&places, &wanted, 2), by_hand(&files, &wanted));
    assert!(files.iter().all(|file| !beside(file).exists()));
}

/// A capture: files that are given up, compressed and kept.
#[test]
fn a_capture_leaves_no_index_without_its_file() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let args = [
        "--group",
        "5",
        "--file-size",
        "256KiB",
        "-W",
        "3",
        "--compress",
        "lz4",
    ];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 3000);
    capture.wait_written(3000);
    let mut ctl = Command::new(LWNFLOG);
    ctl.args(["ctl", "--directory"]).arg(capture.runtime());
    run(ctl.args(["keep", "--last", "10m"]), "");
    send_paced(&lab, 6000);
    capture.wait_written(9000);
    let ended = capture.end();
    ended.assert_balanced();
    until("files that are compressed", || {
        let mut files = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let waits = files.any(|path| {
            path.extension()
                .is_some_and(|e| e == "pcapng" || e == "part")
        });
        (!waits).then_some(())
    });
    let there = indexes(dir.path());
    assert!(!there.is_empty());
    for index in &there {
        let name = index.file_name().unwrap().to_str().unwrap();
        let name = name
            .strip_prefix('.')
            .unwrap()
            .strip_suffix(".idx")
            .unwrap();
        assert!(dir.path().join(format!("{name}.lz4")).exists(), "{name}");
    }
    // A host that nobody is: no file has to be unpacked for it, and a host that is there is found.
    let count = |places: &Path, words: &[&str]| {
        let mut read = Command::new(LWNFLOG);
        run(
            read.args(["read", "--count"])
                .args(words)
                .arg(places)
                .arg("udp"),
            "",
        )
    };
    assert_eq!(count(dir.path(), &[]), count(dir.path(), &["--no-index"]));
    let kept = fs::read_dir(dir.path().join("kept"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(count(&kept, &[]), count(&kept, &["--no-index"]));
    // And none where none is wanted.
    let dir = temp_dir();
    let args = ["--group", "5", "--file-size", "256KiB", "--no-index"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 3000);
    capture.wait_written(3000);
    capture.end().assert_balanced();
    assert_eq!(indexes(dir.path()), BTreeSet::new());
}

/// What an index says of a file's size and segments cannot make a reader take more memory than a file of that
/// size needs.
#[test]
fn an_index_that_claims_too_much_is_not_read() {
    let (_dir, files) = ring(true);
    let (file, index) = (&files[0], beside(&files[0]));
    Index::build(file).unwrap().unwrap().write(file).unwrap();
    let right = fs::read(&index).unwrap();
    let count = |at: usize| u32::from_le_bytes(right[at..at + 4].try_into().unwrap());
    let (interfaces, segments) = (count(28), count(32));
    assert!(Index::load(file).is_some());
    for (interfaces, segments) in [
        (interfaces, 128 << 20),
        (768 << 20, segments),
        (interfaces, segments + 1),
    ] {
        let mut claims = right[..72].to_vec();
        claims[28..32].copy_from_slice(&interfaces.to_le_bytes());
        claims[32..36].copy_from_slice(&segments.to_le_bytes());
        fs::write(&index, claims).unwrap();
        // On the disk it takes nothing.
        File::options()
            .write(true)
            .open(&index)
            .unwrap()
            .set_len(7 << 30)
            .unwrap();
        let script = "import resource, subprocess, sys\n\
                      subprocess.run(sys.argv[1:], check=True)\n\
                      print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
        let mut command = Command::new("python3");
        command.args(["-c", script, LWNFLOG, "read", "--count", "--threads", "1"]);
        let told = run(command.arg(file).arg("host 10.0.3.3"), "");
        let told: Vec<u64> = told.lines().map(|line| line.parse().unwrap()).collect();
        assert!(told[0] > 0, "{told:?}");
        assert!(told[1] < 64 << 10, "{} KiB of memory", told[1]);
        // And it was made anew.
        assert_eq!(fs::read(&index).unwrap(), right);
    }
}

/// What an index of an earlier version does not know of is found nevertheless.
#[test]
fn an_index_of_an_earlier_version_is_made_anew() {
    let (_dir, files) = ring(true);
    let (file, index) = (&files[0], beside(&files[0]));
    Index::build(file).unwrap().unwrap().write(file).unwrap();
    let right = fs::read(&index).unwrap();
    assert_eq!(&right[..8], b"lwnfidx2");
    let mut old = right.clone();
    old[7] = b'1';
    fs::write(&index, old).unwrap();
    assert!(Index::load(file).is_none());
    let found = |no_index| {
        let asked = selection("ip6 proto 44", Span::default(), no_index);
        one_by_one(&files, &asked)
    };
    assert_eq!(found(false), found(true));
    assert!(!found(true).is_empty());
    assert_eq!(fs::read(&index).unwrap(), right);
}
