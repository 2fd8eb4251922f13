//! `lwnflog --hook`: the third source through the command line, with real traffic.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::contents::{Contents, read, read_all};
use common::{
    Ended, LWNFLOG, Mounted, Running, lab, left_out, load_capture_rules, namespace, nft, number,
    output, run, run_in, send_paced, temp_dir, until, with_own_mounts,
};
use lwnflog::lab::{Lab, Marker, RX, Traffic};
use rustix::process::Signal;
use serde_json::Value;

fn send(lab: &Lab, frame_len: usize, packets: u64, stream: u16) {
    Traffic::new(frame_len, packets)
        .stream(stream)
        .rate(Some(50_000))
        .send(lab, None)
        .unwrap();
}

fn only_file(ended: &Ended) -> Contents {
    let files = ended.files();
    assert_eq!(files.len(), 1, "{files:?}");
    read(&files[0])
}

/// tcpdump, a group and the hook see the same packets: the same bytes, the same lengths.
#[test]
fn frames_are_those_of_tcpdump_and_of_a_group() {
    const PACKETS: u64 = 500;
    for (frame_len, snaplen) in [
        (60, "0"),
        (1514, "0"),
        (1514, "96"),
        (300, "299"),
        (64, "14"),
    ] {
        let (lab, dir) = (lab(), temp_dir());
        load_capture_rules(lab.receiver());
        let theirs = dir.path().join("tcpdump.pcap");
        let args = ["-Q", "in", "-s", snaplen, "ip"];
        let tcpdump = Running::tcpdump(lab.receiver(), RX, &theirs, &args);
        let capture = |name: &str, source: &[&str]| {
            let args = [source, &["-s", snaplen]].concat();
            Running::capture(lab.receiver(), &dir.path().join(name), &args)
        };
        let mut hook = capture("hook", &["--hook"]);
        let mut group = capture("group", &["--group", "5"]);
        send(&lab, frame_len, PACKETS, 0);
        hook.wait_written(PACKETS);
        group.wait_written(PACKETS);
        let (hook, group) = (hook.end(), group.end());
        until("tcpdump has written all", || {
            let there = common::contents::parse(&fs::read(&theirs).unwrap()).ok()?;
            (there.packets.len() as u64 == PACKETS).then_some(())
        });
        tcpdump.end_by(Signal::INT);
        hook.assert_balanced();
        assert_eq!(hook.number("/detected"), PACKETS);
        let (hook, group, theirs) = (only_file(&hook), only_file(&group), read(&theirs));
        assert_eq!(hook.packets.len(), theirs.packets.len());
        for ((ours, group), theirs) in hook.packets.iter().zip(&group.packets).zip(&theirs.packets)
        {
            let (length, data) = (ours.original, &ours.data);
            assert_eq!((length, data), (theirs.original, &theirs.data));
            assert_eq!((length, data), (group.original, &group.data));
            // The kernel stamps a packet for each of them, for the hook last.
            let later_us = (ours.stamp_ticks / 1000).checked_sub(theirs.stamp_ticks);
            assert!(later_us.is_some_and(|us| us < 60_000_000), "{later_us:?}");
        }
        assert_eq!(hook.interfaces[0].tsresol, 9);
        assert_eq!(hook.interfaces[0].name, RX);
        assert!(hook.interfaces[0].description.contains("hook prerouting"));
    }
}

/// Both formats, read by programs that others wrote.
#[test]
fn every_reader_reads_it() {
    for format in ["pcapng", "pcap"] {
        for link_type in ["ethernet", "ip"] {
            let (lab, dir) = (lab(), temp_dir());
            let args = ["--hook", "--format", format, "--link-type", link_type];
            let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
            send_paced(&lab, 1000);
            capture.wait_written(1000);
            let ended = capture.end();
            common::files::assert_all_readers_find(&ended.files()[0], 1000);
        }
    }
}

#[test]
fn count_duration_discard_and_rotation_are_those_of_a_group() {
    let (lab, dir) = (lab(), temp_dir());
    let run = |args: &[&str], packets: u64| {
        let args = [&["--hook"], args].concat();
        let capture = Running::capture(lab.receiver(), dir.path(), &args);
        send_paced(&lab, packets);
        capture
    };
    let ended = run(&["--count", "700"], 1000).wait_end();
    assert!(ended.status.success(), "{}", ended.said);
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 700);
    assert_eq!(only_file(&ended).packets.len(), 700);

    let ended = run(&["--discard", "--duration", "2"], 1000).wait_end();
    ended.assert_balanced();
    assert_eq!(
        (ended.number("/discarded"), ended.number("/written")),
        (1000, 0)
    );

    let small = ["--file-size", "256KiB", "--files", "3"];
    let mut capture = run(&small, 12_000);
    capture.wait_written(12_000);
    capture.signal(Signal::HUP);
    until("the live file is finished", || {
        let live = fs::read_dir(dir.path()).unwrap();
        let mut names = live.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        (!names.any(|name| name.contains("live"))).then_some(())
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 12_000);
    let files = ended.files();
    assert!((2..=3).contains(&files.len()), "{files:?}");
    let numbers = read_all(&files).sequence_numbers();
    assert_eq!(numbers, Vec::from_iter(numbers[0]..=11_999));
}

/// A reader that is stopped: what finds the rings full is counted by the program, to the packet,
/// and noted in the file where it is missing.
#[test]
fn what_a_stopped_reader_loses_is_exact() {
    const STOPPED: u64 = 400_000;
    let (lab, dir) = (lab(), temp_dir());
    // From one processor: a gap shows with the next packet of the same.
    let send = |packets: u64, stream: u16| {
        let traffic = Traffic::new(64, packets).stream(stream);
        traffic.send(&lab, Some(0)).unwrap();
    };
    let args = ["--hook", "--buffer-size", "4096", "-s", "64"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    send(1000, 0);
    capture.wait_written(1000);
    capture.signal(Signal::STOP);
    send(STOPPED, 1);
    capture.signal(Signal::CONT);
    capture.wait_stats("the rings are read empty", |stats| {
        let there = number(stats, "/received") + number(stats, "/dropped/overrun");
        there == STOPPED + 1000
    });
    send(1000, 2);
    capture.wait_stats("it goes on", |stats| {
        number(stats, "/detected") == STOPPED + 2000
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/detected"), STOPPED + 2000);
    let lost = ended.number("/dropped/overrun");
    assert!(lost > 1000, "this was to overrun: {:#}", ended.report);
    let all = read_all(&ended.files());
    assert_eq!(all.packets.len() as u64 + lost, STOPPED + 2000);
    assert_eq!(all.dropcounts(), lost, "the gaps in the file, summed up");
    let kept = all
        .packets
        .iter()
        .filter_map(|packet| Marker::of_frame(&packet.data));
    let kept: Vec<_> = kept.filter(|marker| marker.stream == 1).collect();
    assert!(kept.is_sorted_by_key(|marker| marker.sequence) && !kept.is_empty());
}

/// What a flood loses at its end is in the file all the same: in the next packet of whatever
/// processor, and where none comes, in the statistics at the end.
#[test]
fn what_is_lost_at_the_end_of_a_flood_is_in_the_file() {
    const FLOOD: u64 = 300_000;
    for more in [false, true] {
        let (lab, dir) = (lab(), temp_dir());
        let args = ["--hook", "--buffer-size", "4096", "-s", "64"];
        let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
        capture.signal(Signal::STOP);
        Traffic::new(64, FLOOD).send(&lab, Some(0)).unwrap();
        capture.signal(Signal::CONT);
        capture.wait_stats("the rings are read empty", |stats| {
            number(stats, "/received") + number(stats, "/dropped/overrun") == FLOOD
        });
        if more {
            // By the other processor, whose ring has lost nothing.
            Traffic::new(64, 10).stream(1).send(&lab, Some(1)).unwrap();
            capture.wait_stats("it goes on", |stats| {
                number(stats, "/detected") == FLOOD + 10
            });
        }
        let ended = capture.end();
        ended.assert_balanced();
        let lost = ended.number("/dropped/overrun");
        let all = read_all(&ended.files());
        assert!(lost > 1000, "this was to overrun: {:#}", ended.report);
        let by_statistics: u64 = all.statistics.iter().map(|of| of.dropped).sum();
        assert_eq!(by_statistics, lost);
        let at_next = all.packets.iter().find(|packet| packet.dropcount != 0);
        let stream = at_next.map(|packet| Marker::of_frame(&packet.data).unwrap().stream);
        assert_eq!(stream, more.then_some(1));
        assert_eq!(all.dropcounts(), if more { lost } else { 0 });
    }
}

/// No report, but nothing is lost that was written: the next run finishes the file. And nothing is
/// left in the kernel.
#[test]
fn kill_9_leaves_a_file_and_no_program() {
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--hook"]);
    send_paced(&lab, 3000);
    let stats = capture.wait_stats("all is written", |stats| number(stats, "/written") == 3000);
    assert_eq!(number(&stats, "/detected"), 3000, "the last statistics");
    capture.kill();
    // Its place is free at once.
    let mut again = Running::capture(lab.receiver(), dir.path(), &["--hook"]);
    again.wait_said("finished");
    again.wait_said("3,000 packets");
    send_paced(&lab, 10);
    again.wait_written(10);
    let ended = again.end();
    assert!(
        ended.said.contains("priority -2147483647"),
        "{}",
        ended.said
    );
    let files = ended.files();
    let packets: Vec<_> = files.iter().map(|file| read(file).packets.len()).collect();
    assert_eq!(packets, [3000, 10]);
}

#[test]
fn a_full_disk_is_counted() {
    with_own_mounts("a_full_disk_is_counted", || {
        let disk = Mounted::tmpfs("size=3m");
        let lab = lab();
        let args = ["--hook", "-s", "0", "--file-size", "1MiB", "-W", "0"];
        let mut capture = Running::capture(lab.receiver(), &disk.path().join("ring"), &args);
        send(&lab, 1000, 6000, 0);
        capture.wait_stats("the disk is full", |stats| {
            number(stats, "/detected") == 6000
                && number(stats, "/written") + number(stats, "/dropped/writer") == 6000
        });
        let ended = capture.end();
        ended.assert_balanced();
        assert!(ended.number("/dropped/writer") > 0, "{:#}", ended.report);
        let all = read_all(&ended.files());
        assert_eq!(all.packets.len() as u64, ended.number("/written"));
    });
}

/// The program has its own place beside lwnflog's rules, which stand at the first one.
#[test]
fn it_stands_beside_the_rules_and_itself() {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let capture =
        |name: &str, args: &[&str]| Running::capture(lab.receiver(), &dir.path().join(name), args);
    let mut first = capture("first", &["--hook"]);
    assert!(
        first.said().contains("priority -2147483646"),
        "{}",
        first.said()
    );
    let mut second = capture("second", &["--hook"]);
    assert!(
        second.said().contains("priority -2147483645"),
        "{}",
        second.said()
    );
    let mut later = capture("later", &["--hook", "--priority", "-300"]);
    send_paced(&lab, 500);
    for capture in [&mut first, &mut second, &mut later] {
        capture.wait_written(500);
    }
    // One that is asked for and not free is an error.
    let refused = attempt(&lab, &["--hook", "--priority", "-300", "-w", "elsewhere"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.said.contains("priority -300 is taken"),
        "{}",
        refused.said
    );
    for capture in [first, second, later] {
        capture.end().assert_balanced();
    }
}

fn attempt(lab: &Lab, args: &[&str]) -> Ended {
    let dir = temp_dir();
    let mut command = lab.receiver().command(LWNFLOG).unwrap();
    Running::spawn(command.current_dir(dir.path()).args(args)).wait_end()
}

#[test]
fn what_is_left_out_is_told_by_reason() {
    let (lab, dir) = (lab(), temp_dir());
    let args = ["--hook", "--iface", RX, "--sample", "10"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    // Of another interface: this host's own. A test beside this one that floods its processor's
    // backlog, which all namespaces share, may lose them before the hook.
    until("a ping is answered", || {
        let mut ping = lab.receiver().command("ping").unwrap();
        let answered = output(ping.args(["-q", "-c", "1", "-W", "1", "127.0.0.1"]), "");
        answered.status.success().then_some(())
    });
    send_paced(&lab, 5000);
    let others = |figures: &Value| number(figures, "/left_out/interface");
    capture.wait_stats("all has come", |stats| {
        others(stats) >= 2 && number(stats, "/detected") == 5000 + others(stats)
    });
    let ended = capture.end();
    ended.assert_balanced();
    let others = others(&ended.report);
    let sampled = ended.number("/left_out/sample");
    assert_eq!(ended.number("/written") + sampled, 5000);
    // One in ten, left to chance: ten standard deviations.
    assert!((4370..=4630).contains(&sampled), "{sampled}");
    assert_eq!(left_out(&ended.report), sampled + others);
    reported(
        dir.path(),
        ", 1 packet of 10: figures are of what was captured there",
    );
    let text = ended
        .said
        .lines()
        .find(|line| line.contains("left out"))
        .unwrap();
    assert!(
        text.contains(&format!("{others} other interfaces")) && text.contains("not sampled"),
        "{text}"
    );
}

/// nftables decides, the program copies, and behind it no packet shows that it was marked.
#[test]
fn a_mark_of_nftables_decides() {
    let (lab, dir) = (lab(), temp_dir());
    nft(lab.receiver(), include_str!("../nft-rules/mark.nft"));
    nft(
        lab.receiver(),
        "table ip look { counter marked {}; counter every {}; chain c { type filter hook prerouting \
         priority 0; counter name every; meta mark != 0 counter name marked; }; }",
    );
    // Only UDP to this port: the rule file's rule is the user's.
    nft(lab.receiver(), "flush chain ip lwnflog-mark set_mark");
    nft(
        lab.receiver(),
        "add rule ip lwnflog-mark set_mark meta l4proto udp meta mark set meta mark | 0x40000000",
    );
    let args = ["--hook", "--from-mark", "0x40000000/0x40000000"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    run_in(
        lab.receiver(),
        "ping",
        &["-q", "-c", "3", "-i", "0.01", "127.0.0.1"],
    );
    send_paced(&lab, 300);
    capture.wait_written(300);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 300);
    assert_eq!(ended.number("/left_out/mark"), 6);
    let counted = run_in(lab.receiver(), "nft", &["list", "counters"]);
    let packets = |name: &str| {
        let behind = counted.split_once(&format!("counter {name} {{")).unwrap().1;
        behind
            .split_once("packets ")
            .unwrap()
            .1
            .split_once(' ')
            .unwrap()
            .0
            .to_owned()
    };
    assert_eq!(
        (packets("every"), packets("marked")),
        ("306".into(), "0".into()),
        "{counted}"
    );
}

#[test]
fn a_cut_off_keeps_the_beginning_of_each_connection() {
    let (lab, dir) = (lab(), temp_dir());
    let args = ["--hook", "--cutoff", "200"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    // 256 flows, each packet of 50 bytes from its IPv4 header on: of each flow the first four.
    Traffic::new(64, 2560).send(&lab, Some(0)).unwrap();
    capture.wait_stats("all has come", |stats| number(stats, "/detected") == 2560);
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/written"), 1024);
    assert_eq!(ended.number("/left_out/cutoff"), 1536);
    reported(
        dir.path(),
        ", the first 200 bytes of each connection: figures are of",
    );
}

/// The files say what was left out, and the report on them says it again.
fn reported(dir: &Path, what: &str) {
    let mut report = Command::new(LWNFLOG);
    report.args(["report", "--text"]).arg(dir);
    let text = run(&mut report, "");
    let told = |line: &str| line.starts_with("* Netfilter hook ") && line.contains(what);
    assert!(text.lines().any(told), "{text}");
}

#[test]
fn drop_is_the_thesis_dedicated_host() {
    let (namespace, dir) = (namespace(), temp_dir());
    let capture = Running::capture(&namespace, dir.path(), &["--hook", "--drop"]);
    let ping = namespace
        .command("ping")
        .unwrap()
        .args(["-q", "-c", "2", "-i", "0.01", "-W", "1", "127.0.0.1"])
        .output()
        .unwrap();
    assert!(!ping.status.success(), "nothing arrives");
    let ended = capture.end();
    assert_eq!(ended.number("/written"), 2);
    // And all arrives when it has gone.
    run_in(&namespace, "ping", &["-q", "-c", "1", "127.0.0.1"]);
}

/// Capabilities are for loading and attaching: no thread has them afterwards.
#[test]
fn no_thread_keeps_a_capability() {
    const GIVEN_UP: u64 = 1 << 12 | 1 << 21 | 1 << 38 | 1 << 39; // NET_ADMIN SYS_ADMIN PERFMON BPF
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &["--hook"]);
    let tasks = format!("/proc/{}/task", capture.pid());
    let mut names = Vec::new();
    for task in fs::read_dir(tasks).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        for set in ["CapEff:", "CapPrm:"] {
            let held = u64::from_str_radix(&field(set), 16).unwrap();
            assert_eq!(held & GIVEN_UP, 0, "{} {set}", field("Name:"));
        }
        names.push(field("Name:"));
    }
    assert!(
        names.len() >= 5,
        "main, signals, output, swapper, capture: {names:?}"
    );
    send_paced(&lab, 100);
    capture.wait_written(100);
    capture.end().assert_balanced();
}

/// Without the right, and in a user namespace: one line with the cause and the way out;
/// `--or-group` takes it.
#[test]
fn where_it_cannot_be_had_a_group_can() {
    let dir = temp_dir();
    let output = |args: &[&str]| {
        let args = [&["-Urn", LWNFLOG], args].concat();
        let mut command = Command::new("unshare");
        Running::spawn(command.current_dir(dir.path()).args(args))
    };
    let ended = output(&["--hook", "-w", "first"]).wait_end();
    assert_eq!(ended.status.code(), Some(1));
    let lines: Vec<_> = ended.said.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("user namespace") && lines[0].contains("`--group 5`"),
        "{lines:?}"
    );
    let mut capture = output(&[
        "--hook",
        "--or-group",
        "5",
        "--duration",
        "1",
        "-w",
        "second",
    ]);
    capture.wait_said("capturing group 5 instead (--or-group)");
    capture.wait_said("capturing group 5 to second");
    let ended = capture.wait_end();
    assert!(ended.status.success(), "{}", ended.said);
}

/// Each cause that can be made here, and the way out of it.
#[test]
fn each_cause_is_told_in_one_line() {
    with_own_mounts("each_cause_is_told_in_one_line", || {
        let dir = temp_dir();
        let hook = |wrapper: &[&str]| {
            let (program, args) = wrapper.split_first().unwrap_or((&LWNFLOG, &[]));
            let mut command = Command::new(program);
            command.args(args);
            if !wrapper.is_empty() {
                command.arg(LWNFLOG);
            }
            let args = ["--hook", "-w", "ring", "--file-size", "1MB"];
            let ended = Running::spawn(command.args(args).current_dir(dir.path())).wait_end();
            assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
            let lines: Vec<_> = ended
                .said
                .lines()
                .filter(|line| line.starts_with("lwnflog:"))
                .collect();
            assert_eq!(lines.len(), 1, "{}", ended.said);
            assert!(lines[0].contains("`--group 5`"), "{lines:?}");
            lines[0].to_owned()
        };
        let denied = |flags: &[&'static str], inject: &'static str| {
            let strace = [
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=bpf",
                "-e",
                inject,
            ];
            hook(&[&strace[..], flags].concat())
        };
        for (said, part) in [
            // strace filters system calls itself then, and answers for the kernel.
            (
                denied(&["--seccomp-bpf"], "inject=bpf:error=EPERM"),
                "a filter of system calls is in force",
            ),
            (
                denied(&[], "inject=bpf:error=EPERM"),
                "the cause is not known",
            ),
            (
                hook(&["setpriv", "--bounding-set", "-bpf,-sys_admin"]),
                "needs CAP_BPF",
            ),
            (
                hook(&["setpriv", "--bounding-set", "-net_admin,-sys_admin"]),
                "needs CAP_NET_ADMIN",
            ),
        ] {
            assert!(said.contains(part), "no `{part}`: {said}");
        }
        // The same with a kernel that is locked down, as far as it shows in a file.
        let cover = |path: &str| {
            run(
                Command::new("mount").args(["-t", "tmpfs", "none", path]),
                "",
            );
        };
        cover("/sys/kernel/security");
        let lockdown = "none integrity [confidentiality]\n";
        fs::write("/sys/kernel/security/lockdown", lockdown).unwrap();
        // The fourth call loads the program, behind a question about the only interface and the two maps.
        let said = denied(&["unshare", "-n"], "inject=bpf:error=EPERM:when=4+");
        assert!(said.contains("locked down (confidentiality)"), "{said}");
        cover("/sys/kernel/btf");
        let said = hook(&[]);
        assert!(said.contains("CONFIG_DEBUG_INFO_BTF"), "{said}");
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = lab();
    for (args, part) in [
        (&["--hook", "output"][..], "softirq"),
        (&["--hook", "ingress"], "no IPv4 hook `ingress`"),
        (&["--hook", "--link-type", "nflog"], "which a hook has not"),
        (&["--hook", "--install-rule"], "captures without a rule"),
        (&["--hook", "--group", "5"], "cannot be used with"),
        (&["--hook", "--verdict", "drop"], "are for --queue"),
        (&["--hook", "-s", "262145"], "262144"),
        (
            &["--hook", "-s", "0", "--file-size", "300kB"],
            "at least 524288",
        ),
        (&["--hook", "--from-mark", "x"], "is no mark"),
        (&["--hook", "--sample", "0"], "0 is not in 1.."),
        (&["--group", "5", "--sample", "2"], "--hook"),
        (&["--group", "5", "--or-group", "6"], "--hook"),
        (&["--group", "5", "--drop"], "--install-rule and --hook"),
    ] {
        let ended = attempt(&lab, args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", ended.said);
        assert!(ended.said.contains(part), "{args:?}: {}", ended.said);
    }
}

/// A lone packet waits for the reader's rest, a tenth of a second at the most; an idle capture
/// hardly wakes.
#[test]
fn an_idle_reader_rests_and_a_lone_packet_is_not_late() {
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(
        lab.receiver(),
        dir.path(),
        &["--hook", "--priority", "-400"],
    );
    std::thread::sleep(Duration::from_millis(500));
    send_paced(&lab, 1);
    capture.wait_written(1);
    let file = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| is_capture(path)).unwrap();
    assert_eq!(read_live(&file), 1);
    capture.end().assert_balanced();
}

fn is_capture(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with("prerouting-") && name.ends_with(".pcapng")
}

/// By tcpdump, while the file grows.
fn read_live(path: &Path) -> usize {
    let text = run(Command::new("tcpdump").arg("-nr").arg(path), "");
    text.lines().count()
}
