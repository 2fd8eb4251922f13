//! Clocks that were set back or forth, packets out of order, names and times of files that lie: what is
//! asked for in a time is found, with an index and without.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::rings::{
    Live, at_ns, frame, interface, is_tcp, numbers, packet, pcap, section, set_changed, source_port,
};
use common::{LWNFLOG, output, run, temp_dir};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3600 * SECOND_NS;
const T0_NS: u64 = 1_764_252_000 * SECOND_NS;
/// Segments of a file: some packets each.
const SEGMENTS: usize = 8;
const FRAME_BYTES: usize = 900;
/// Of a chain.
const PACKETS: u32 = 1000;
/// Of a file.
const IN_A_FILE: u32 = 400;

/// When, and which number.
type Stamped = (u64, u32);

/// The time of a packet, by its number.
type Clock = fn(u32) -> u64;

/// What clocks do.
const CLOCKS: [(&str, Clock); 6] = [
    ("steady", |n| steady(n)),
    ("an hour back", |n| {
        steady(n) - if n < 250 { 0 } else { HOUR_NS }
    }),
    ("an hour forth", |n| {
        steady(n) + if n < 650 { 0 } else { HOUR_NS }
    }),
    ("forth and back", |n| {
        steady(n) + if (200..500).contains(&n) { HOUR_NS } else { 0 }
    }),
    ("often", |n| steady(n) + u64::from(n / 90 * 7 % 5) * HOUR_NS),
    // As several queues' packets, but by more than a second.
    ("out of order", |n| {
        steady(n) + u64::from(n * 7919 % 13) * 3 * SECOND_NS
    }),
];

fn steady(n: u32) -> u64 {
    T0_NS + 2 * HOUR_NS + u64::from(n) * 50_000_000
}

/// A capture, and its packets in those chains that keep their order.
struct Store {
    name: String,
    places: Vec<PathBuf>,
    chains: Vec<Vec<Stamped>>,
    /// All of them are shown by time.
    by_time: bool,
}

/// Packets of a chain; the numbers of chain `chain` are its own.
fn stamped(chain: u32, clock: Clock) -> Vec<Stamped> {
    (0..PACKETS)
        .map(|n| (clock(n), chain * 10_000 + n))
        .collect()
}

/// A ring of several files, the last of them as it is: finished, or live.
fn write_ring(dir: &Path, ring: &str, packets: &[Stamped], live: bool) -> Vec<PathBuf> {
    fs::create_dir_all(dir).unwrap();
    let mut files = Vec::new();
    let mut pieces = (1..)
        .zip(packets.chunks(IN_A_FILE as usize))
        .collect::<Vec<_>>();
    let last = pieces.pop();
    let write = |number, packets: &[Stamped]| {
        // A chain's numbers begin at 10,000 times its own: each is another machine's.
        let boot = packets[0].1 / 10_000;
        let mut file = Live::begin_in(dir, ring, number, SEGMENTS, boot);
        for (time_ns, number) in packets {
            file.put(*time_ns, &frame(*number, FRAME_BYTES));
        }
        file
    };
    for (number, packets) in pieces {
        files.push(write(number, packets).finish());
    }
    let (number, packets) = last.unwrap();
    let file = write(number, packets);
    if live {
        files.push(file.path().to_owned());
    } else {
        files.push(file.finish());
    }
    files
}

/// Files of which nobody can know that they belong together.
fn by_file(packets: &[Stamped]) -> Vec<Vec<Stamped>> {
    let files = packets.chunks(IN_A_FILE as usize);
    files.map(<[Stamped]>::to_vec).collect()
}

fn frames(packets: &[Stamped]) -> Vec<(u64, Vec<u8>)> {
    let frame = |(time_ns, number): &Stamped| (*time_ns, frame(*number, FRAME_BYTES));
    packets.iter().map(frame).collect()
}

/// A pcapng that another tool wrote.
fn foreign(packets: &[Stamped]) -> Vec<u8> {
    let mut bytes = [section(""), interface(9, 0, &[])].concat();
    for (time_ns, data) in frames(packets) {
        bytes.extend(packet(time_ns, &data));
    }
    bytes
}

fn compress(how: &str, files: &[PathBuf]) {
    for file in files {
        // Its index is there by then, as of a ring's.
        read(&["--count", file.to_str().unwrap(), "host 10.0.0.1"]);
        let changed = fs::metadata(file).unwrap().modified().unwrap();
        let suffix = if how == "zstd" { "zst" } else { "lz4" };
        let to = format!("{}.{suffix}", file.display());
        run(Command::new(how).args(["-q", "-f"]).arg(file).arg(&to), "");
        fs::remove_file(file).unwrap();
        let to = fs::File::options().write(true).open(to).unwrap();
        to.set_modified(changed).unwrap();
    }
}

fn stores(room: &Path) -> Vec<Store> {
    let mut stores = Vec::new();
    for (clock_name, clock) in CLOCKS {
        let packets = stamped(0, clock);
        let mut add = |what: &str, places: Vec<PathBuf>, chains: Vec<Vec<Stamped>>| {
            stores.push(Store {
                name: format!("{clock_name}, {what}"),
                places,
                by_time: chains.iter().all(|chain| chain.is_sorted()) && clock_name == "steady",
                chains,
            });
        };
        let dir = |what: &str| {
            let dir = room.join(format!("{clock_name}-{what}").replace(' ', "-"));
            fs::create_dir_all(&dir).unwrap();
            dir
        };
        let one = || vec![packets.clone()];

        let place = dir("finished");
        write_ring(&place, "g5", &packets, false);
        add("a finished ring", vec![place], one());

        let place = dir("live");
        let files = write_ring(&place, "g5", &packets, true);
        add("a ring with a live file", vec![place], one());
        add("a ring's files one by one", files, by_file(&packets));

        for how in ["zstd", "lz4"] {
            let place = dir(how);
            compress(how, &write_ring(&place, "g5", &packets, false));
            add(how, vec![place], one());
        }

        // Copied through FAT, in local time; restored without times; renamed.
        for (what, named_ns, changed_ns) in [
            ("changed an hour early", 0, -(HOUR_NS.cast_signed())),
            (
                "changed in 1980",
                0,
                -(T0_NS.cast_signed()) + 315_532_800_000_000_000,
            ),
            ("named an hour late", HOUR_NS.cast_signed(), 0),
        ] {
            let place = dir(what);
            let files = write_ring(&place, "g5", &packets, false);
            for (file, packets) in files.iter().zip(packets.chunks(IN_A_FILE as usize)) {
                let (first, last) = (packets[0].0, packets.last().unwrap().0);
                set_changed(file, last.checked_add_signed(changed_ns).unwrap());
                if named_ns != 0 {
                    let first = first.checked_add_signed(named_ns).unwrap();
                    let stamp = humantime::format_rfc3339_seconds(at_ns(first)).to_string();
                    let stamp = stamp.replace(['-', ':'], "");
                    let name = file.file_name().unwrap().to_str().unwrap();
                    let name = format!("{}-{stamp}.pcapng", name.rsplit_once('-').unwrap().0);
                    fs::rename(file, file.with_file_name(name)).unwrap();
                }
            }
            add(what, vec![place], one());
        }

        let place = dir("foreign");
        let file = place.join("a.pcap");
        fs::write(&file, pcap(&frames(&packets))).unwrap();
        add("pcap", vec![file], one());
        let file = place.join("a.pcapng");
        fs::write(&file, foreign(&packets)).unwrap();
        add("pcapng", vec![file.clone()], one());
        // It keeps the comment that names segments, but not the segments.
        let ring_files = write_ring(&dir("edited"), "g5", &packets[..IN_A_FILE as usize], false);
        let edited = place.join("edited.pcapng");
        run(Command::new("editcap").arg(&ring_files[0]).arg(&edited), "");
        let some = packets[..IN_A_FILE as usize].to_vec();
        add("editcap's copy", vec![edited], vec![some]);

        // Two files one behind the other, of one time.
        let other = stamped(1, clock);
        let both = [packets.clone(), other.clone()].concat();
        let place = dir("both");
        let files = [("a", &packets), ("b", &other)].map(|(name, packets)| {
            let dir = dir(&format!("cat-{name}"));
            let mut file = Live::begin(&dir, "g5", 1, 24);
            for (time_ns, number) in packets {
                file.put(*time_ns, &frame(*number, FRAME_BYTES));
            }
            file.finish()
        });
        let cat = place.join("cat.pcapng");
        let bytes = files
            .each_ref()
            .map(|file| fs::read(file).unwrap())
            .concat();
        fs::write(&cat, bytes).unwrap();
        add("cat", vec![cat], vec![both.clone()]);
        let merged = place.join("merged.pcapng");
        let mut mergecap = Command::new("mergecap");
        run(mergecap.args(["-a", "-w"]).arg(&merged).args(&files), "");
        add("mergecap -a", vec![merged], vec![both]);

        // Two hosts' rings of one name.
        let later: Vec<_> = other
            .iter()
            .map(|(time, n)| (time + 7 * SECOND_NS, *n))
            .collect();
        let chains = vec![packets.clone(), later.clone()];
        let place = dir("hosts");
        write_ring(&place, "g5", &packets, false);
        write_ring(&place, "g5", &later, false);
        add(
            "two hosts' files in one directory",
            vec![place],
            [by_file(&packets), by_file(&later)].concat(),
        );
        let places = [dir("host-a"), dir("host-b")];
        write_ring(&places[0], "g5", &packets, false);
        write_ring(&places[1], "g5", &later, true);
        add("two hosts' directories", places.to_vec(), chains);
    }
    stores
}

fn read(args: &[&str]) -> String {
    run(Command::new(LWNFLOG).arg("read").args(args), "")
}

/// A test, of numbers.
#[derive(Debug, Clone)]
enum Test {
    Host(u32),
    Net(u32),
    Port(u16),
    Tcp,
    Udp,
    Not(Box<Test>),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
}

impl Test {
    fn takes(&self, number: u32) -> bool {
        match self {
            Test::Host(host) => number == *host,
            Test::Net(net) => number >> 8 == *net >> 8,
            Test::Port(port) => source_port(number) == *port,
            Test::Tcp => is_tcp(number),
            Test::Udp => !is_tcp(number),
            Test::Not(test) => !test.takes(number),
            Test::And(one, other) => one.takes(number) && other.takes(number),
            Test::Or(one, other) => one.takes(number) || other.takes(number),
        }
    }

    fn text(&self) -> String {
        let address = |number: u32| std::net::Ipv4Addr::from(0x0a00_0000 | number);
        match self {
            Test::Host(host) => format!("host {}", address(*host)),
            Test::Net(net) => format!("net {}/24", address(*net & 0xff_ff00)),
            Test::Port(port) => format!("port {port}"),
            Test::Tcp => "tcp".to_owned(),
            Test::Udp => "udp".to_owned(),
            Test::Not(test) => format!("not ({})", test.text()),
            Test::And(one, other) => format!("({}) and ({})", one.text(), other.text()),
            Test::Or(one, other) => format!("({}) or ({})", one.text(), other.text()),
        }
    }
}

fn number() -> impl Strategy<Value = u32> {
    (0..2_u32, 0..PACKETS).prop_map(|(chain, n)| chain * 10_000 + n)
}

fn test() -> impl Strategy<Value = Test> {
    let one = prop_oneof![
        number().prop_map(Test::Host),
        number().prop_map(Test::Net),
        number().prop_map(|number| Test::Port(source_port(number))),
        Just(Test::Tcp),
        Just(Test::Udp),
    ];
    one.prop_recursive(2, 5, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|test| Test::Not(Box::new(test))),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| Test::And(Box::new(one), Box::new(other))),
            (inner.clone(), inner)
                .prop_map(|(one, other)| Test::Or(Box::new(one), Box::new(other))),
        ]
    })
}

/// From about one packet's time, so long; or all before, or all after it.
fn span() -> impl Strategy<Value = (prop::sample::Index, i64, Option<u64>, bool)> {
    let near = -3_i64..3;
    let long = prop_oneof![
        Just(Some(0)),
        (1..40_u64).prop_map(|tenths| Some(tenths * 100_000_000)),
        (1..100_u64).prop_map(|minutes| Some(minutes * 60 * SECOND_NS)),
        Just(None),
    ];
    (any::<prop::sample::Index>(), near, long, any::<bool>())
}

fn time(ns: u64) -> String {
    humantime::format_rfc3339_nanos(at_ns(ns)).to_string()
}

/// Each packet of the span that the filter takes, once, and those of a chain in its order.
fn wrong(store: &Store, taken: &dyn Fn(&Stamped) -> bool, shown: &[u32]) -> Option<String> {
    let wanted: usize = store
        .chains
        .iter()
        .map(|chain| chain.iter().filter(|packet| taken(packet)).count())
        .sum();
    if shown.len() != wanted {
        return Some(format!("{} packets instead of {wanted}", shown.len()));
    }
    for chain in &store.chains {
        let wanted = chain.iter().filter(|packet| taken(packet));
        let wanted: Vec<_> = wanted.map(|(_, number)| *number).collect();
        let numbers: std::collections::HashSet<_> = wanted.iter().copied().collect();
        let found: Vec<_> = shown
            .iter()
            .copied()
            .filter(|n| numbers.contains(n))
            .collect();
        if found != wanted {
            return Some("other packets, or another order".to_owned());
        }
    }
    let time = |number: &u32| {
        let mut all = store.chains.iter().flatten();
        all.find(|(_, n)| n == number).unwrap().0
    };
    (store.by_time && !shown.is_sorted_by_key(time)).then(|| "not by time".to_owned())
}

/// Generated spans and filters; `LWNFLOG_CASES` for more of them.
#[test]
fn what_is_in_a_time_is_found_whatever_clocks_did() {
    let cases = env::var("LWNFLOG_CASES").map_or(180, |cases| cases.parse().unwrap());
    let room = temp_dir();
    let stores = stores(room.path());
    let mut runner = TestRunner::new(Config::default());
    let strategy = (
        any::<prop::sample::Index>(),
        span(),
        proptest::option::of(test()),
    );
    let mut faults = Vec::new();
    for case in 0..cases {
        let drawn = strategy.new_tree(&mut runner).unwrap().current();
        let (_, (middle, near, long, before), filter) = drawn;
        // Each store in turn: a few cases have them all.
        let store = &stores[case % stores.len()];
        let all: Vec<_> = store.chains.iter().flatten().collect();
        let near = near * 20_000_000;
        let from_ns = middle.get(&all).0.checked_add_signed(near).unwrap();
        let (from_ns, to_ns) = match long {
            Some(long) => (from_ns, from_ns + long),
            None if before => (0, from_ns),
            None => (from_ns, u64::MAX),
        };
        let mut args = vec!["--json".to_owned(), "--utc".to_owned()];
        for (option, ns) in [("--from", from_ns), ("--to", to_ns)] {
            if ns != 0 && ns != u64::MAX {
                args.extend([option.to_owned(), time(ns)]);
            }
        }
        args.extend(store.places.iter().map(|place| place.display().to_string()));
        args.extend(filter.iter().map(Test::text));
        let taken = |packet: &Stamped| {
            (from_ns..=to_ns).contains(&packet.0)
                && filter.as_ref().is_none_or(|filter| filter.takes(packet.1))
        };
        for more in [&[][..], &["--no-index"], &["--threads", "1"]] {
            if more.len() == 2 && case % 3 != 0 {
                continue;
            }
            let mut command = Command::new(LWNFLOG);
            let told = output(command.arg("read").args(more).args(&args), "");
            let said = String::from_utf8_lossy(&told.stderr).into_owned();
            let shown = numbers(&String::from_utf8_lossy(&told.stdout));
            let fault = match said.as_str() {
                "" => wrong(store, &taken, &shown),
                _ => Some(said),
            };
            if let Some(fault) = fault {
                let args = &args[2..];
                faults.push(format!("{}: {more:?} {args:?}: {fault}", store.name));
            }
        }
    }
    let some: Vec<_> = faults.iter().take(30).map(String::as_str).collect();
    let stores: std::collections::BTreeSet<_> = faults
        .iter()
        .filter_map(|fault| fault.split(": ").next())
        .collect();
    assert!(
        faults.is_empty(),
        "{} of {cases} cases, in {stores:#?}:\n{}",
        faults.len(),
        some.join("\n")
    );
}

/// What others find in the same file.
#[test]
fn tshark_finds_as_many_behind_a_step() {
    let room = temp_dir();
    for (name, clock) in CLOCKS {
        let packets = stamped(0, clock);
        let some = &packets[..IN_A_FILE as usize];
        let ring = write_ring(&room.path().join(name.replace(' ', "-")), "g5", some, false);
        let classic = room.path().join("a.pcap");
        fs::write(&classic, pcap(&frames(some))).unwrap();
        let (from_ns, to_ns) = (some[300].0, some[300].0 + 2 * SECOND_NS);
        for file in [&ring[0], &classic] {
            let filter = format!(
                "frame.time_epoch >= {}.{:09} && frame.time_epoch <= {}.{:09}",
                from_ns / SECOND_NS,
                from_ns % SECOND_NS,
                to_ns / SECOND_NS,
                to_ns % SECOND_NS
            );
            let mut tshark = Command::new("tshark");
            let theirs = run(tshark.arg("-nr").arg(file).args(["-Y", &filter]), "");
            let theirs = theirs.lines().count();
            assert!(theirs > 10, "{name}");
            let (from, to) = (time(from_ns), time(to_ns));
            let path = file.to_str().unwrap();
            for more in [&[][..], &["--no-index"]] {
                let span = ["--count", "--from", &from, "--to", &to, path];
                let ours = read(&[more, &span].concat());
                assert_eq!(ours.trim(), theirs.to_string(), "{name}, {path}, {more:?}");
            }
        }
    }
}

/// `--last` counts from now: by packets' times, not by those of files.
#[test]
fn the_last_minutes_are_found_whatever_files_say_of_themselves() {
    let now = std::time::SystemTime::now();
    let now_ns = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let now_ns = u64::try_from(now_ns).unwrap();
    // Two hours ago; then the clock, which was ahead by an hour, is set right.
    let ages_min = |n: u32| {
        if n < 500 {
            120
        } else if n < 800 {
            70
        } else {
            5
        }
    };
    let old: Vec<_> = (0..PACKETS)
        .map(|n| {
            (
                now_ns - ages_min(n) * 60 * SECOND_NS + u64::from(n) * 1000,
                n,
            )
        })
        .collect();
    let back: Vec<_> = (0..PACKETS)
        .map(|n| {
            let minutes = if n < 500 { 5 } else { 70 };
            (now_ns - minutes * 60 * SECOND_NS + u64::from(n) * 1000, n)
        })
        .collect();
    for (what, packets, changed_ns) in [
        ("true", &old, 0),
        ("changed a day ago", &old, 24 * HOUR_NS),
        ("set back", &back, 0),
        ("set back, changed a day ago", &back, 24 * HOUR_NS),
    ] {
        let dir = temp_dir();
        let files = write_ring(dir.path(), "g5", packets, false);
        for (file, packets) in files.iter().zip(packets.chunks(IN_A_FILE as usize)) {
            set_changed(file, packets.last().unwrap().0 - changed_ns);
        }
        fs::write(dir.path().join("foreign.pcap"), pcap(&frames(packets))).unwrap();
        let since = now_ns - 30 * 60 * SECOND_NS;
        let wanted = packets.iter().filter(|(time, _)| *time >= since).count() * 2;
        let place = dir.path().to_str().unwrap();
        for more in [&[][..], &["--no-index"], &["--threads", "1"]] {
            let count = read(&[more, &["--count", "--last", "30m", place]].concat());
            assert_eq!(count.trim(), wanted.to_string(), "{what}, {more:?}");
        }
    }
}

/// What reads the same spans by other ways: reports, exports, and what is followed.
#[test]
fn other_commands_find_the_same_time() {
    let packets = stamped(0, CLOCKS[3].1);
    let dir = temp_dir();
    write_ring(dir.path(), "g5", &packets, true);
    let (from_ns, to_ns) = (packets[850].0, packets[990].0);
    let wanted = packets
        .iter()
        .filter(|(time, _)| (from_ns..=to_ns).contains(time));
    let wanted: Vec<_> = wanted.map(|(_, number)| *number).collect();
    assert_eq!(wanted.len(), 141);
    let (from, to) = (time(from_ns), time(to_ns));
    let place = dir.path().to_str().unwrap();
    let span = ["--from", &from, "--to", &to, place];
    let followed = read(&[&["--json", "-f", "-c", "141"], &span[..]].concat());
    assert_eq!(numbers(&followed), wanted, "read -f");
    let elsewhere = temp_dir();
    let copy = elsewhere.path().join("copy.pcap");
    read(&[&["-w", copy.to_str().unwrap()], &span[..]].concat());
    assert_eq!(common::files::count_by_tcpdump(&copy), Ok(141), "read -w");
    let mut export = Command::new(LWNFLOG);
    let rows = run(export.args(["export", "--csv", "-"]).args(span), "");
    assert_eq!(rows.lines().count(), 142, "export");
    let mut report = Command::new(LWNFLOG);
    let report = run(report.args(["report", "--text"]).args(span), "");
    assert!(report.contains("141"), "report: {report}");
}

/// Two hosts' files in one directory are all listed.
#[test]
fn files_of_one_name_and_number_are_all_listed() {
    let dir = temp_dir();
    let packets = stamped(0, CLOCKS[0].1);
    write_ring(dir.path(), "g5", &packets, false);
    let later = stamped(1, |n| steady(n) + 9 * SECOND_NS);
    write_ring(dir.path(), "g5", &later, false);
    let mut ls = Command::new(LWNFLOG);
    let rows = run(ls.args(["ls", "--json"]).arg(dir.path()), "");
    let packets = rows.lines().map(|row| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        row["packets"].as_u64().unwrap()
    });
    assert_eq!(packets.sum::<u64>(), 2 * u64::from(PACKETS), "{rows}");
}
