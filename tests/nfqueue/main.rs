//! NFQUEUE in a real kernel, with real traffic between two network namespaces: what is recorded,
//! what passes, and that a host goes on whatever becomes of its capturer.
//!
//! Nothing depends on speed, nothing is skipped: what cannot run fails and says what it lacks.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod disk;
mod scene;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use disk::Disk;
use lwnflog::lab::{Marker, Progress, RX, Traffic};
use lwnflog::sys::file::take_read_lease;
use rustix::process::Signal;
use scene::{Capturer, Recorded, Scene, until};

/// What the `nfq` crate saw of a packet.
type Seen = (Vec<u8>, usize, u32);

/// Reads queue 6 with the `nfq` crate: so many packets.
fn read_by_nfq(packets: usize, bound: &AtomicBool) -> Vec<Seen> {
    let mut queue = nfq::Queue::open().unwrap();
    queue.bind(6).unwrap();
    queue.set_nonblocking(true);
    bound.store(true, Ordering::Release);
    let mut seen = Vec::new();
    while seen.len() < packets {
        let mut received = None;
        until("a packet comes to the crate's queue", || {
            received = queue.recv().ok();
            received.is_some()
        });
        let mut message = received.unwrap();
        seen.push((
            message.get_payload().to_vec(),
            message.get_original_len(),
            message.get_nfmark(),
        ));
        message.set_verdict(nfq::Verdict::Accept);
        queue.verdict(message).unwrap();
    }
    seen
}

/// The crate reads a second queue behind ours: the same packets, with the mark that we gave.
#[test]
fn records_are_what_the_nfq_crate_sees_and_what_was_sent() {
    let scene = Scene::new(5);
    scene.run(
        "iptables-nft",
        &[
            "-t",
            "mangle",
            "-A",
            "PREROUTING",
            "-i",
            RX,
            "-j",
            "NFQUEUE",
            "--queue-num",
            "6",
            "--queue-bypass",
        ],
    );
    let capturer = scene.capture("--mark 0x2a -s 0");
    let bound = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let oracle = scope.spawn(|| {
            scene
                .lab
                .receiver()
                .run(|| read_by_nfq(500, &bound))
                .unwrap()
        });
        until("the crate's queue is bound", || {
            bound.load(Ordering::Acquire)
        });
        // The crate's socket is small: not more at once than it holds.
        for stream in 0..10 {
            scene.send_as(stream, 50);
            until("they passed both queues", || {
                scene.passed() == 50 * u64::from(stream + 1)
            });
        }
        oracle.join().unwrap()
    });
    let report = capturer.finish();
    assert_eq!(
        (
            report.figure("written"),
            report.figure("detected"),
            report.figure("unstamped")
        ),
        (500, 500, 0)
    );
    let records = scene.records();
    assert_eq!((records.len(), seen.len()), (500, 500));
    for (place, (record, (payload, original_len, mark))) in records.iter().zip(&seen).enumerate() {
        assert_eq!(&record.frame[14..], payload);
        assert_eq!((record.original_len, *original_len, *mark), (256, 242, 42));
        assert_eq!(
            record.marker(),
            Marker {
                stream: u16::try_from(place / 50).unwrap(),
                sequence: place as u64 % 50
            }
        );
        assert_eq!(record.frame[..6], [0; 6], "the destination is not known");
        assert_eq!(record.frame[6..12], scene.lab.tx().mac, "the source is");
        assert_eq!(record.frame[12..14], [8, 0]);
    }
    assert_eq!((scene.passed(), scene.counter("marked")), (500, 500));
}

#[test]
fn a_cut_packet_keeps_its_original_length_and_reaches_the_host_whole() {
    let scene = Scene::new(5);
    scene.nft("table ip whole { counter sizes {}; chain c { type filter hook prerouting priority -50; meta length 242 counter name sizes; }; }");
    let capturer = scene.capture("-s 60");
    scene.send(100);
    capturer.finish();
    let records = scene.records();
    assert_eq!(records.len(), 100);
    assert!(
        records
            .iter()
            .all(|record| (record.frame.len(), record.original_len) == (60, 256))
    );
    assert!(
        scene
            .run("nft", &["list", "counter", "ip", "whole", "sizes"])
            .contains("packets 100 bytes 24200")
    );
}

#[test]
fn a_dropping_verdict_keeps_the_records_and_nothing_else() {
    let scene = Scene::new(5);
    let capturer = scene.capture("--verdict drop");
    scene.send(1000);
    assert_eq!(capturer.finish().figure("written"), 1000);
    assert_eq!((scene.records().len(), scene.passed()), (1000, 0));
    scene.send(10);
    assert_eq!(scene.passed(), 10, "without a capturer they pass");
}

#[test]
fn counting_gives_verdicts_too() {
    let scene = Scene::new(5);
    let capturer = scene.capture("--discard");
    scene.send(1000);
    let report = capturer.finish();
    assert_eq!(
        (report.figure("discarded"), report.figure("detected")),
        (1000, 1000)
    );
    assert_eq!(scene.passed(), 1000);
}

#[test]
fn two_queues_share_the_packets_by_processor() {
    let scene = Scene::new(6);
    let capturer = scene.capture("");
    let cores: &[usize] = if thread::available_parallelism().unwrap().get() > 1 {
        &[0, 1]
    } else {
        &[0]
    };
    let sent = Traffic::new(256, 2000)
        .send_from(&scene.lab, cores, &Progress::default())
        .unwrap();
    assert_eq!(sent.packets, 2000);
    until("all packets passed", || scene.passed() == 2000);
    let report = capturer.finish();
    assert_eq!(
        (report.figure("detected"), report.figure("written")),
        (2000, 2000)
    );
    let mut markers: Vec<_> = scene
        .records()
        .iter()
        .map(|record| (record.marker().stream, record.marker().sequence))
        .collect();
    markers.sort_unstable();
    markers.dedup();
    assert_eq!(markers.len(), 2000);
    if cores.len() > 1 {
        assert_eq!(
            (
                report.figure("groups.0.written"),
                report.figure("groups.1.written")
            ),
            (1000, 1000)
        );
    }
}

/// Ctrl-Z: so many packets as the queue is long are held, the others pass, all are counted.
#[test]
fn traffic_flows_past_a_stopped_capturer_and_is_counted() {
    let scene = Scene::new(5);
    let capturer = scene.capture("--queue-len 100");
    capturer.stop();
    scene.send(1000);
    assert_eq!(scene.passed(), 900);
    assert_eq!(scene.status(5).unwrap().waiting, 100);
    capturer.signal(Signal::CONT);
    until("those that were held pass", || scene.passed() == 1000);
    scene.send_as(1, 50);
    let report = capturer.finish();
    assert_eq!(
        (report.figure("detected"), report.figure("written")),
        (1050, 150)
    );
    assert_eq!(
        (
            report.figure("dropped.queue"),
            report.figure("unrecorded.passed")
        ),
        (900, 900)
    );
    assert_eq!(scene.passed(), 1050);
}

/// The kernel goes on from the place of the chain a packet waits in: with one more before it, that is the same chain.
#[test]
fn a_chain_added_before_the_queue_brings_those_that_wait_once_more() {
    let scene = Scene::new(5);
    let capturer = scene.capture("");
    capturer.stop();
    scene.send(10);
    assert_eq!(scene.status(5).unwrap().waiting, 10);
    scene.nft(
        "table ip early {
            chain prerouting { type filter hook prerouting priority -2147483648; policy accept; }
        }",
    );
    capturer.signal(Signal::CONT);
    until("those that were held pass", || scene.passed() == 10);
    let report = capturer.finish();
    assert_eq!(
        (report.figure("detected"), report.figure("written")),
        (20, 20)
    );
    assert_eq!(scene.passed(), 10);
}

#[test]
fn fail_closed_lets_nothing_pass_unrecorded() {
    let scene = Scene::new(5);
    let capturer = scene.capture("--queue-len 100 --fail-closed");
    capturer.stop();
    scene.send(1000);
    assert_eq!(scene.passed(), 0);
    capturer.signal(Signal::CONT);
    until("those that were held pass", || scene.passed() == 100);
    let report = capturer.finish();
    assert_eq!(
        (report.figure("detected"), report.figure("written")),
        (1000, 100)
    );
    assert_eq!(
        (
            report.figure("dropped.queue"),
            report.figure("unrecorded.refused")
        ),
        (900, 900)
    );
    assert_eq!(scene.passed(), scene.records().len() as u64);
}

/// A socket that is full before its queue is: those packets have numbers, and show as gaps.
#[test]
fn what_a_small_socket_loses_is_counted_as_overrun() {
    for (option, flows) in [("", true), ("--fail-closed", false)] {
        let scene = Scene::new(5);
        let capturer = scene.capture(&format!("--queue-len 60000 -B 100KiB {option}"));
        capturer.stop();
        scene.send(3000);
        let held = u64::from(scene.status(5).unwrap().waiting);
        assert!(held < 3000, "a socket of 100 KiB holds 3000 packets");
        capturer.signal(Signal::CONT);
        until("those that were held pass", || {
            scene.passed() == if flows { 3000 } else { held }
        });
        let report = capturer.finish();
        assert_eq!(
            (report.figure("detected"), report.figure("written")),
            (3000, held)
        );
        assert_eq!(
            (
                report.figure("dropped.overrun"),
                report.figure("dropped.queue")
            ),
            (3000 - held, 0)
        );
        let place = if flows {
            "unrecorded.passed"
        } else {
            "unrecorded.refused"
        };
        assert_eq!(report.figure(place), 3000 - held);
    }
}

/// What waits in a killed process's queue the kernel drops, and no more than that.
#[test]
fn traffic_flows_past_a_killed_capturer() {
    let scene = Scene::new(5);
    let capturer = scene.capture("");
    scene.send(100);
    until("the first are through", || scene.passed() == 100);
    capturer.stop();
    scene.send_as(1, 60);
    assert_eq!(scene.status(5).unwrap().waiting, 60);
    capturer.kill();
    until("the queue is gone", || scene.status(5).is_none());
    scene.send_as(2, 500);
    assert_eq!(scene.passed(), 600, "all but the 60 that waited");
    assert_eq!(
        scene.records().len(),
        100,
        "the files of the killed process are whole"
    );
}

/// Bind, release, bind: not one packet of a flow may be lost on the way.
#[test]
fn coming_and_going_under_traffic_costs_no_packet() {
    let scene = Scene::new(5);
    let progress = Progress::default();
    let traffic = Traffic::new(64, u64::MAX).rate(Some(20_000));
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send_from(&scene.lab, &[0], &progress).unwrap());
        let mut recorded = 0;
        for _ in 0..5 {
            let capturer = scene.capture("");
            let so_far = progress.sent();
            until("there is traffic", || progress.sent() > so_far + 2000);
            recorded += capturer.finish_under_traffic();
        }
        progress.stop();
        assert!(recorded > 0);
        sender.join().unwrap()
    });
    until("all packets arrived", || {
        scene.lab.receiver_stats().unwrap().rx_packets >= sent.packets
    });
    assert_eq!(scene.passed(), sent.packets);
}

#[test]
fn overload_loses_no_traffic_and_no_count() {
    let scene = Scene::new(5);
    let capturer = scene.capture("--queue-len 64");
    let cores: &[usize] = &[0, 0];
    let sent = Traffic::new(64, 200_000)
        .send_from(&scene.lab, cores, &Progress::default())
        .unwrap();
    until("all packets passed", || scene.passed() == sent.packets);
    let report = capturer.finish();
    assert_eq!(report.figure("detected"), sent.packets);
    assert_eq!(report.figure("written"), scene.records().len() as u64);
    println!(
        "written {} of {}, passed unrecorded {}",
        report.figure("written"),
        sent.packets,
        report.figure("unrecorded.passed")
    );
}

/// A file system of 4 MB, of which the capturer alone knows, and a ring without a limit.
#[test]
fn a_full_disk_holds_no_traffic_up() {
    let scene = Scene::new(5);
    fs::create_dir(scene.ring()).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=4M,mode=0755 none \"$1\" || exit 9; shift; exec \"$@\"";
    command
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(scene.ring())
        .arg(env!("CARGO_BIN_EXE_lwnflog"));
    let capturer = scene.capture_by(command, "");
    scene.send(30_000);
    until("all packets passed", || scene.passed() == 30_000);
    let report = capturer.finish();
    assert_eq!(report.figure("detected"), 30_000);
    // What does not fit is dropped and counted: a ring without a limit throws nothing away for it.
    let dropped = report.figure("dropped.writer");
    assert!(dropped > 0, "30,000 packets fit into 4 MB: {}", report.0);
    assert_eq!(report.figure("written") + dropped, 30_000);
}

/// Somebody puts a file in the directory's place: no ring's file can be had any more.
#[test]
fn a_lost_disk_holds_no_traffic_up() {
    let scene = Scene::new(5);
    let capturer = scene.capture("");
    scene.send(100);
    until("the first are through", || scene.passed() == 100);
    fs::remove_dir_all(scene.ring()).unwrap();
    fs::write(scene.ring(), "").unwrap();
    scene.send_as(1, 30_000);
    until("all packets passed", || scene.passed() == 30_100);
    let report = capturer.finish();
    assert_eq!(report.figure("detected"), 30_100);
    assert!(report.figure("dropped.writer") > 0, "{}", report.0);
}

/// The capturing thread is held in the middle of a record: no store to the live file goes on.
#[test]
fn a_disk_that_hangs_holds_one_queue_s_length_and_no_more() {
    let scene = Scene::new(5);
    let mut disk = Disk::new(scene.dir.path(), &scene.ring());
    let command = disk.command(env!("CARGO_BIN_EXE_lwnflog"));
    let capturer = scene.capture_by(command, "--queue-len 100");
    scene.send(100);
    until("the first are through", || scene.passed() == 100);
    let frozen = disk.freeze();
    scene.send_as(1, 1000);
    assert_eq!(scene.passed(), 1000, "all but those that wait");
    scene.send_as(2, 500);
    assert_eq!(scene.passed(), 1500, "all of the second lot");
    assert_eq!(scene.status(5).unwrap().waiting, 100);
    drop(frozen);
    until("those that were held pass", || scene.passed() == 1600);
    scene.send_as(3, 50);
    until("the last are through", || scene.passed() == 1650);
    let report = capturer.finish();
    assert_eq!(
        (report.figure("detected"), report.figure("written")),
        (1650, 250)
    );
    assert_eq!(
        (
            report.figure("dropped.queue"),
            report.figure("unrecorded.passed")
        ),
        (1400, 1400)
    );
    let streams: Vec<_> = Scene::records_in(&disk.path())
        .iter()
        .map(|record| record.marker().stream)
        .collect();
    let of = |stream| streams.iter().filter(|one| **one == stream).count();
    assert_eq!((of(0), of(1), of(2), of(3)), (100, 100, 0, 50));
}

/// Traffic in portions, each a stream of its own.
struct Portions<'a> {
    scene: &'a Scene,
    stream: u16,
    sent: u64,
}

impl Portions<'_> {
    /// Sends one more, and says how many packets it makes in sum.
    fn send(&mut self, packets: u64) -> u64 {
        self.stream += 1;
        self.scene.send_as(self.stream, packets);
        self.sent += packets;
        self.sent
    }
}

/// The queue's length in front of a ring that stalls.
const STALL_LEN: u64 = 200;
const STALL_OPTIONS: &str = "--queue-len 200 --files 2 --file-size 256KiB -s 0";

/// Has the swapper wait for the file that it is to recycle: a reader holds a lease on it, as a file
/// server does for its clients. Then packets come until the capturing thread waits for its next
/// file and the queue is full. The ring goes on when the file returned is closed; the kernel waits
/// `fs.lease-break-time` at the most, 45 s.
fn stall(capturer: &Capturer<'_>, portions: &mut Portions<'_>) -> fs::File {
    let scene = portions.scene;
    let mut leased = None;
    until("a finished file can be held", || {
        let sent = portions.send(STALL_LEN / 2);
        until("they passed", || scene.passed() == sent);
        leased = scene.oldest_finished().and_then(|oldest| {
            let file = fs::File::open(oldest).ok()?; // it may just have been recycled
            take_read_lease(&file).ok().map(|()| file)
        });
        leased.is_some()
    });
    // The live file and the one that is ready still take packets.
    while !capturer.waits_for_file() {
        let sent = portions.send(STALL_LEN / 2);
        until("they passed, or the ring waits", || {
            scene.passed() == sent || capturer.waits_for_file()
        });
    }
    let sent = portions.send(STALL_LEN);
    assert_eq!(u64::from(scene.status(5).unwrap().waiting), STALL_LEN);
    assert_eq!(scene.passed(), sent - STALL_LEN);
    leased.unwrap()
}

#[test]
fn a_ring_that_waits_for_its_next_file_holds_one_queue_s_length_and_no_more() {
    let scene = Scene::new(5);
    let capturer = scene.capture(STALL_OPTIONS);
    let mut portions = Portions {
        scene: &scene,
        stream: 0,
        sent: 0,
    };
    let leased = stall(&capturer, &mut portions);
    let sent = portions.send(1000);
    assert_eq!(scene.passed(), sent - STALL_LEN, "all but those that wait");
    until("the lease still holds", || capturer.waits_for_file());
    drop(leased);
    until("those that were held pass", || scene.passed() == sent);
    let sent = portions.send(50);
    until("the last are through", || scene.passed() == sent);
    let report = capturer.finish();
    assert_eq!(report.figure("detected"), sent);
    let unrecorded = report.figure("dropped.queue");
    assert!(unrecorded >= 1000, "{}", report.0);
    assert_eq!(report.figure("unrecorded.passed"), unrecorded);
    assert_eq!(report.figure("written"), sent - unrecorded);
    assert!(report.figure("stalls") > 0, "{}", report.0);
    let records = scene.records();
    let last = records.iter().rev().take(50);
    assert!(
        last.map(Recorded::marker)
            .all(|it| it.stream == portions.stream)
    );
}

/// The first Ctrl-C waits for the ring, the second does not: what waits is dropped by the kernel.
#[test]
fn a_second_signal_ends_a_capture_whose_ring_stalls() {
    let scene = Scene::new(5);
    let mut capturer = scene.capture(STALL_OPTIONS);
    let mut portions = Portions {
        scene: &scene,
        stream: 0,
        sent: 0,
    };
    let leased = stall(&capturer, &mut portions);
    let mut ended = None;
    until("it ends", || {
        capturer.signal(Signal::INT);
        ended = capturer.ended();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(130));
    until("the queue is gone", || scene.status(5).is_none());
    let sent = portions.send(500);
    assert_eq!(
        scene.passed(),
        sent - STALL_LEN,
        "all but those that waited"
    );
    drop(leased);
}

/// The same stop and the same traffic, and no packet passes: for comparison.
#[test]
fn tcpdump_on_a_queue_takes_the_host_s_traffic_with_it() {
    let scene = Scene::new(5);
    let file = scene.dir.path().join("tcpdump.pcap");
    let mut tcpdump = scene.lab.receiver().command("tcpdump").unwrap();
    tcpdump
        .args(["-Z", "root", "-i", "nfqueue:5", "-w"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut tcpdump = tcpdump.spawn().expect("these tests need `tcpdump`");
    until("tcpdump has the queue", || scene.status(5).is_some());
    scene.send(100);
    until("the first are through", || scene.passed() == 100);
    let pid = rustix::process::Pid::from_child(&tcpdump);
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    scene.send_as(1, 3000);
    assert_eq!(scene.passed(), 100, "not one of 3000");
    tcpdump.kill().unwrap();
    tcpdump.wait().unwrap();
}

#[test]
fn errors_name_the_cause_and_the_remedy() {
    let scene = Scene::new(5);
    let program = env!("CARGO_BIN_EXE_lwnflog");
    let capturer = scene.capture("");
    let taken = scene.attempt(program, &["--queue", "5", "--discard"]);
    let message = String::from_utf8(taken.stderr).unwrap();
    assert!(
        message.contains("queue 5 is taken by process") && message.contains("(lwnflog)"),
        "{message}"
    );
    capturer.finish();
    for (options, part) in [
        (
            &["--queue", "5", "--verdict", "drop", "--mark", "1"][..],
            "carries no mark",
        ),
        (
            &["--queue", "5", "--link-type", "nflog"],
            "use ethernet or ip",
        ),
        (&["--queue", "5", "--queue-len", "0"], "1..=65536"),
        (&["--queue", "5", "--mark", "red"], "0x"),
        (&["--queue", "5", "--group", "5"], "cannot be used with"),
        (&["--group", "5", "--fail-closed"], "--queue"),
        (&["--queue", "5,7", "--discard", "--install-rule"], "6"),
    ] {
        let output = scene.attempt(program, options);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {message}");
        assert!(message.contains(part), "{options:?}: {message}");
    }
}
