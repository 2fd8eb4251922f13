//! What control, figures and a watcher cost a capture: its processor time a packet with them and
//! without, in turn. A measurement, and no test: `cargo test --release --test beside -- --ignored
//! --nocapture`, on a quiet machine.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{LWNFLOG, Running, lab, run_in, temp_dir};
use lwnflog::lab::Traffic;

const PACKETS: u64 = 1_000_000;
const RATE: u64 = 200_000;
const ROUNDS: usize = 5;
const IDLE: Duration = Duration::from_secs(5);

/// Processor time of a process and all its threads, in nanoseconds (`/proc/PID/schedstat` of each).
fn cpu_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(of).sum()
}

/// Nanoseconds a packet of one capture, and a second without packets.
fn measure(args: &[&str], beside: bool) -> (f64, f64) {
    let (lab, dir) = (lab(), temp_dir());
    run_in(lab.receiver(), "ip", &["link", "set", "lo", "up"]);
    let common = [
        "--install-rule",
        "--iface",
        "rx",
        "--file-size",
        "50MB",
        "--files",
        "3",
        "-s",
        "64",
    ];
    let more: &[&str] = if beside {
        &["--metrics", "0"]
    } else {
        &["--no-control"]
    };
    let hook = args.contains(&"--hook");
    let args = [args, if hook { &common[1..] } else { &common[..] }, more].concat();
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    let stop = AtomicBool::new(false);
    let (ns, idle) = thread::scope(|scope| {
        let mut watcher = None;
        if beside {
            let line = capture.wait_said("figures are served at http://");
            let (_, place) = line.split_once("http://").unwrap();
            let address: SocketAddr = place.trim_end_matches("/metrics").parse().unwrap();
            let mut command = Command::new(LWNFLOG);
            command
                .arg("watch")
                .arg("--directory")
                .arg(capture.runtime());
            watcher = Some(command.stdout(Stdio::null()).spawn().unwrap());
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let connect = || TcpStream::connect(address);
                    let mut stream = lab.receiver().run(connect).unwrap().unwrap();
                    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    thread::sleep(Duration::from_secs(1));
                }
            });
        }
        // Once round the ring, then what counts.
        Traffic::new(64, PACKETS / 2)
            .rate(Some(RATE))
            .send(&lab, None)
            .unwrap();
        let before = cpu_ns(capture.pid());
        Traffic::new(64, PACKETS)
            .rate(Some(RATE))
            .send(&lab, None)
            .unwrap();
        capture.wait_written(PACKETS + PACKETS / 2);
        let ns = cpu_ns(capture.pid()) - before;
        // Without packets there is nothing else that takes time.
        let idle_before = cpu_ns(capture.pid());
        thread::sleep(IDLE);
        let idle = cpu_ns(capture.pid()) - idle_before;
        stop.store(true, Ordering::Relaxed);
        if let Some(mut watcher) = watcher {
            watcher.kill().unwrap();
            watcher.wait().unwrap();
        }
        (ns, idle)
    });
    capture.end().assert_balanced();
    (ns as f64 / PACKETS as f64, idle as f64 / IDLE.as_secs_f64())
}

#[test]
#[ignore = "a measurement"]
fn control_metrics_and_watch() {
    for source in [&["--group", "5"][..], &["--hook"]] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        measure(source, true);
        for _ in 0..ROUNDS {
            without.push(measure(source, false));
            with.push(measure(source, true));
        }
        let idle = |rounds: &[(f64, f64)]| {
            let mut idle: Vec<f64> = rounds.iter().map(|(_, idle)| *idle).collect();
            idle.sort_by(f64::total_cmp);
            idle[ROUNDS / 2]
        };
        let more_a_second = idle(&with) - idle(&without);
        let median = |rounds: &[(f64, f64)]| {
            let mut rounds: Vec<f64> = rounds.iter().map(|(packet, _)| *packet).collect();
            rounds.sort_by(f64::total_cmp);
            (rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1])
        };
        let ((plain, least, most), (beside, least_beside, most_beside)) =
            (median(&without), median(&with));
        println!(
            "{source:?}: {plain:.1} [{least:.1}-{most:.1}] ns a packet without, {beside:.1} [{least_beside:.1}-{most_beside:.1}] with \
             control, a scrape and a watcher a second: {:+.1} %",
            (beside / plain - 1.0) * 100.0
        );
        println!(
            "  without packets they take {:.0} us a second: of {RATE} packets a second {:.2} ns each, {:.1} %",
            more_a_second / 1000.0,
            more_a_second / RATE as f64,
            more_a_second / RATE as f64 / plain * 100.0
        );
    }
}
