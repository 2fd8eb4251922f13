//! The laboratory on the real kernel. Needs root, or a system that lets users make namespaces.

use std::fs;
use std::process::Command;

use lwnflog::lab::{Lab, Namespace, Progress, RX, TX, Traffic};

/// A test that cannot run fails: it never passes in silence.
fn lab() -> Lab {
    Lab::new().expect("tests need root: run them as root, or under `unshare -Ur`")
}

fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is mounted");
    text.lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

#[test]
fn every_frame_sent_arrives_and_nothing_else_does() {
    for frame_len in [64, 256, 1500] {
        let lab = lab();
        let sent = Traffic::new(frame_len, 10_000).send(&lab, Some(0)).unwrap();
        assert_eq!(sent.packets, 10_000);
        assert_eq!(sent.bytes, 10_000 * frame_len as u64);
        let stats = lab.receiver_stats().unwrap();
        assert_eq!(
            (stats.rx_packets, stats.rx_dropped),
            (10_000, 0),
            "{frame_len} bytes"
        );
        assert_eq!(stats.rx_bytes, 10_000 * frame_len as u64);
        assert_eq!(lab.sender_stats().unwrap().tx_packets, 10_000);
    }
}

#[test]
fn two_senders_share_the_packets() {
    let lab = lab();
    let progress = Progress::default();
    let sent = Traffic::new(64, 10_001)
        .send_from(&lab, &[0, 0], &progress)
        .unwrap();
    assert_eq!(sent.packets, 10_001);
    assert_eq!(progress.sent(), 10_001);
    assert_eq!(lab.receiver_stats().unwrap().rx_packets, 10_001);
}

#[test]
fn a_rate_is_kept() {
    let lab = lab();
    let sent = Traffic::new(64, 2_000)
        .rate(Some(10_000))
        .send(&lab, None)
        .unwrap();
    assert_eq!(sent.packets, 2_000);
    assert!(sent.elapsed.as_secs_f64() > 0.19, "{:?}", sent.elapsed);
}

#[test]
fn a_stopped_sender_says_how_far_it_got() {
    let lab = lab();
    let progress = Progress::default();
    progress.stop();
    let sent = Traffic::new(64, u64::MAX)
        .send_from(&lab, &[0], &progress)
        .unwrap();
    assert_eq!(sent.packets, lab.receiver_stats().unwrap().rx_packets);
    assert_eq!(sent.packets, 0);
}

#[test]
fn the_rules_of_the_receiver_see_the_traffic() {
    let lab = lab();
    let table = "table ip t { counter seen { }
        chain c { type filter hook prerouting priority raw; counter name seen drop; }
    }";
    let mut load = lab.receiver().command("nft").unwrap();
    let status = load
        .arg(table)
        .status()
        .expect("nft is needed: install the package nftables");
    assert!(status.success());
    Traffic::new(64, 5_000).send(&lab, None).unwrap();
    let mut list = lab.receiver().command("nft").unwrap();
    let output = list
        .args(["list", "counter", "ip", "t", "seen"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("packets 5000 "), "{text}");
}

#[test]
fn the_caller_stays_where_it_is_and_nothing_is_left_behind() {
    let before = interfaces();
    let host = fs::read_link("/proc/thread-self/ns/net").unwrap();
    {
        let lab = lab();
        assert!(
            lab.receiver()
                .run(interfaces)
                .unwrap()
                .contains(&RX.to_owned())
        );
        assert!(
            lab.sender()
                .run(interfaces)
                .unwrap()
                .contains(&TX.to_owned())
        );
        let inside = lab
            .receiver()
            .run(|| fs::read_link("/proc/thread-self/ns/net"))
            .unwrap();
        assert_ne!(inside.unwrap(), host);
    }
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), host);
    assert_eq!(interfaces(), before);
}

#[test]
fn a_child_runs_inside_and_dies_with_its_parent_thread() {
    let namespace = Namespace::new().unwrap();
    let output = namespace
        .command("cat")
        .unwrap()
        .arg("/proc/self/net/dev")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("lo:") && text.lines().count() == 3, "{text}");

    let start = || {
        namespace
            .command("sleep")
            .unwrap()
            .arg("600")
            .spawn()
            .unwrap()
    };
    let mut child = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    let status = child.wait().unwrap();
    assert!(
        !status.success(),
        "the child outlived the thread that started it"
    );
}

#[test]
fn bad_requests_are_errors() {
    let lab = lab();
    assert!(Traffic::new(10, 1).send(&lab, None).is_err());
    assert!(Traffic::new(70_000, 1).send(&lab, None).is_err());
    assert!(
        Traffic::new(9_000, 1).send(&lab, None).is_err(),
        "longer than the MTU"
    );
    let error = Traffic::new(64, 1).send(&lab, Some(100_000)).unwrap_err();
    assert!(error.to_string().contains("processor 100000"), "{error}");
    assert!(
        lab.receiver()
            .command("no-such-program")
            .unwrap()
            .spawn()
            .is_err()
    );
}

#[test]
fn an_ordinary_user_can_have_a_laboratory() {
    // `nobody` enters a user namespace of its own, and makes the laboratory there.
    let test = std::env::current_exe().unwrap();
    let copy = tempfile::Builder::new()
        .prefix("lwnflog-lab-")
        .tempfile()
        .unwrap()
        .into_temp_path();
    // `cp`, not `fs::copy`: a test beside this one that starts a program meanwhile would inherit
    // the copy's descriptor, and a file that is open for writing cannot be started ("Text file
    // busy").
    let copied = Command::new("cp")
        .args([test.as_os_str(), copy.as_os_str()])
        .status()
        .unwrap();
    assert!(copied.success());
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "unshare",
            "-Urn",
        ])
        .arg(&copy)
        .args(["--exact", "two_senders_share_the_packets"])
        .output()
        .expect("setpriv and unshare are needed: install the package util-linux");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[cfg(feature = "bench")]
#[test]
fn a_trace_is_replayed_whole() {
    use lwnflog::lab::Replay;

    // A classic pcap of two raw IPv4 packets (one cut to 20 bytes of 100) and one IPv6 packet.
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend(word.to_le_bytes());
    }
    for (first, captured, original) in [(0x45, 20u32, 100u32), (0x45, 60, 60), (0x60, 60, 60)] {
        for word in [1, 2, captured, original] {
            file.extend(word.to_le_bytes());
        }
        file.push(first);
        file.resize(file.len() + captured as usize - 1, 0);
    }
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&path, file).unwrap();

    let lab = lab();
    let replay = Replay::open(&path, &lab, 1500).unwrap();
    assert_eq!((replay.packets(), replay.skipped()), (2, 1));
    let sent = replay
        .send(&lab, 5, None, None, &Progress::default())
        .unwrap();
    assert_eq!((sent.packets, sent.bytes), (5, 3 * 114 + 2 * 74));
    assert_eq!(lab.receiver_stats().unwrap().rx_packets, 5);
    assert!(Replay::open(std::path::Path::new("/dev/null"), &lab, 1500).is_err());
    assert!(Replay::open(std::path::Path::new("/proc/version"), &lab, 1500).is_err());
}
