//! Overload: the capturer is stopped while traffic goes on, its socket overruns, and the account is
//! exact all the same.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::time::Duration;

use common::files::read_all;
use common::{Ended, Running, detected, lab, load_capture_rules, number, run_in, temp_dir, until};
use lwnflog::lab::{Lab, Marker, RX, Traffic};
use rustix::process::Signal;
use serde_json::Value;

/// Stops a capture with a small buffer, lets `while_stopped` packets come, goes on, and lets
/// `afterwards` packets come. Returns how it ended, and the sum of `epb_dropcount`.
fn overrun(options: &[&str], while_stopped: u64, afterwards: u64) -> (Ended, u64, Vec<u64>) {
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = [&["--group", "5", "--buffer-size", "512KiB"], options].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    Traffic::new(64, 1_000)
        .rate(Some(5_000))
        .send(&lab, None)
        .unwrap();
    capture.wait_stats("it captures", |stats| number(stats, "/received") == 1_000);
    capture.signal(Signal::STOP);
    send(&lab, while_stopped, 1);
    // The kernel hands over what it has collected after a tenth of a second.
    std::thread::sleep(Duration::from_secs(2));
    capture.signal(Signal::CONT);
    if afterwards != 0 {
        // What the gap ends with has to find room.
        capture.wait_stats("the buffer is read empty", |stats| {
            number(stats, "/received") > 1_000
        });
        send(&lab, afterwards, 2);
    }
    let sum = 1_000 + while_stopped + afterwards;
    until("the rule has counted all", || {
        (detected(lab.receiver()) == sum).then_some(())
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/detected"), sum);
    assert_eq!(
        ended.number("/received") + ended.number("/dropped/overrun"),
        sum,
        "{:#}",
        ended.report
    );
    assert!(
        ended.number("/dropped/overrun") > 1_000,
        "this was to overrun: {:#}",
        ended.report
    );
    let all = read_all(&ended.files());
    assert_eq!(
        all.packets.len() as u64,
        ended.number("/written"),
        "packets in the files"
    );
    let stopped = all
        .packets
        .iter()
        .filter_map(|packet| Marker::of_frame(&packet.data));
    let stopped = stopped
        .filter(|marker| marker.stream == 1)
        .map(|marker| marker.sequence)
        .collect();
    (ended, all.dropcounts(), stopped)
}

fn send(lab: &Lab, packets: u64, stream: u16) {
    Traffic::new(64, packets)
        .stream(stream)
        .send(lab, None)
        .unwrap();
}

#[test]
fn what_the_socket_loses_is_counted_and_noted_in_the_file() {
    let (ended, dropcounts, kept) = overrun(&[], 60_000, 1_000);
    assert_eq!(
        ended.number("/written") + ended.number("/dropped/overrun"),
        62_000
    );
    assert_eq!(ended.number("/dropped/allocation"), 0);
    assert_eq!(
        dropcounts,
        ended.number("/dropped/overrun"),
        "the gaps in the file, summed up"
    );
    assert!(kept.is_sorted() && !kept.is_empty());
    let lost = ended.report["lost_percent"].as_f64().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let expected = ended.number("/dropped/overrun") as f64 / 620.0;
    assert!((lost - expected).abs() < 1e-9, "{lost} {expected}");
}

/// Losses behind the last packet show in no gap: the rule's counter knows them.
#[test]
fn what_is_lost_after_the_last_packet_is_counted_too() {
    // One packet a datagram: when one finds no room, no smaller one comes after it that does.
    let (ended, dropcounts, _) = overrun(&["--batch", "1"], 60_000, 0);
    assert_eq!(
        ended.number("/written") + ended.number("/dropped/overrun"),
        61_000
    );
    assert_eq!(ended.number("/dropped/allocation"), 0, "it was the socket");
    assert_eq!(dropcounts, 0, "no packet came after the gap");
}

#[test]
fn counting_is_exact_under_overload_too() {
    let (ended, _, _) = overrun(&["--discard"], 60_000, 1_000);
    assert_eq!(
        ended.number("/discarded") + ended.number("/dropped/overrun"),
        62_000
    );
}

/// As fast as the machine can, with a buffer for a few batches, and stopped in between: whatever is
/// lost, the account, the notes in the files and the numbers that the packets themselves carry say
/// the same.
#[test]
fn the_account_is_exact_at_full_speed() {
    const PACKETS: u64 = 300_000;
    let (lab, dir) = (lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["-g", "5", "-B", "256KiB", "-C", "2MiB", "-W", "0"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    capture.wait_stats("the first second", |_| true);
    send(&lab, PACKETS / 2, 0);
    capture.signal(Signal::STOP);
    send(&lab, PACKETS / 2, 1);
    let elapsed = |stats: &Value| stats["elapsed_secs"].as_f64().unwrap();
    let stopped = elapsed(&capture.wait_stats("a line before the stop", |_| true));
    capture.signal(Signal::CONT);
    // What the last gap ends with has to find room.
    capture.wait_stats("the buffer is read empty", |stats| {
        elapsed(stats) > stopped && stats["packets_per_sec"] == 0.0
    });
    Traffic::new(64, 1_000)
        .rate(Some(5_000))
        .stream(2)
        .send(&lab, None)
        .unwrap();
    let sum = PACKETS + 1_000;
    until("the rule has counted all", || {
        (detected(lab.receiver()) == sum).then_some(())
    });
    let ended = capture.end();
    ended.assert_balanced();
    assert_eq!(ended.number("/detected"), sum);
    let all = read_all(&ended.files());
    assert_eq!(all.packets.len() as u64, ended.number("/written"));
    let overrun = ended.number("/dropped/overrun");
    assert!(overrun > 0, "this was to overrun: {:#}", ended.report);
    assert_eq!(
        all.dropcounts(),
        overrun,
        "the gaps in the files, summed up"
    );
    // By the numbers that were sent: what is in no file is what the account has lost.
    let mut missing = 0;
    for (stream, sent) in [(0, PACKETS / 2), (1, PACKETS / 2), (2, 1_000)] {
        let markers = all
            .packets
            .iter()
            .filter_map(|packet| Marker::of_frame(&packet.data));
        let numbers: Vec<_> = markers
            .filter(|marker| marker.stream == stream)
            .map(|marker| marker.sequence)
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "each once, in order"
        );
        missing += sent - numbers.len() as u64;
    }
    let allocation = ended.number("/dropped/allocation");
    assert_eq!(missing, overrun + allocation, "{:#}", ended.report);
}

/// What no number shows is told while the capture runs, at its place, and is what the report says.
#[test]
fn losses_show_while_the_capture_runs() {
    let none_is_missing = |stats: &Value| {
        number(stats, "/detected")
            == number(stats, "/written") + number(stats, "/skipped") + common::dropped(stats)
    };
    // A queue that is full: what it does not take passes.
    let (lab, dir) = (lab(), temp_dir());
    let rule = ["-t", "raw", "-I", "PREROUTING", "-i", RX, "-j", "NFQUEUE"];
    let rule = [&rule[..], &["--queue-num", "5", "--queue-bypass"]].concat();
    run_in(lab.receiver(), "iptables-nft", &rule);
    let options = ["--queue", "5", "--queue-len", "4"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    capture.signal(Signal::STOP);
    send(&lab, 5_000, 1);
    capture.signal(Signal::CONT);
    let stats = capture.wait_stats("the queue's losses are told", |stats| {
        number(stats, "/detected") == 5_000 && none_is_missing(stats)
    });
    let lost = number(&stats, "/dropped/queue");
    assert!(lost > 4_000, "{stats:#}");
    assert_eq!(number(&stats, "/unrecorded/passed"), lost);
    let ended = capture.end();
    assert_eq!(ended.number("/dropped/queue"), lost);

    // A socket that was full at the end of a flood.
    let (lab, dir) = (self::lab(), temp_dir());
    load_capture_rules(lab.receiver());
    let options = ["--group", "5", "--buffer-size", "512KiB", "--batch", "1"];
    let mut capture = Running::capture(lab.receiver(), dir.path(), &options);
    // Unknown, until it is known that nothing was lost.
    capture.wait_stats("it is known that nothing is lost", |stats| {
        stats["dropped"]["allocation"].as_u64() == Some(0)
    });
    capture.signal(Signal::STOP);
    send(&lab, 60_000, 1);
    capture.signal(Signal::CONT);
    let stats = capture.wait_stats("the socket's losses are told", |stats| {
        number(stats, "/detected") == 60_000 && none_is_missing(stats)
    });
    let lost = number(&stats, "/dropped/overrun");
    assert!(lost > 1_000, "{stats:#}");
    // The next packet's number says the same, and nothing is told twice.
    send(&lab, 10, 2);
    let stats = capture.wait_stats("it goes on", |stats| {
        number(stats, "/detected") == 60_010 && none_is_missing(stats)
    });
    assert_eq!(number(&stats, "/dropped/overrun"), lost);
    let ended = capture.end();
    assert_eq!(ended.number("/dropped/overrun"), lost);
    assert_eq!(ended.number("/dropped/allocation"), 0);
}
