//! The benchmark, for correctness only. Needs root, and the tools it compares.
#![cfg(feature = "bench")]

mod common;

use std::fs;
use std::process::Command;

use common::made::{File, ip};

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwnflog-bench"));
    command
        .args(args)
        .arg("--dir")
        .arg(env!("CARGO_TARGET_TMPDIR"));
    command
}

#[test]
fn a_smoke_run_loses_nothing() {
    let tools = "nftables-counter,lwnflog,lwnflog-percpu,lwnflog-ingress,null-reader,ulogd2,tcpdump,\
                 netsniff-ng,ring-afpacket,xdpdump,ring-xdp";
    let output = bench(&["smoke", "--tools", tools]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains("GAP"), "a tool is not installed:\n{text}");
}

#[test]
fn a_run_writes_json_that_can_be_rendered_again() {
    let dir = tempfile::tempdir().unwrap();
    let (json, plots) = (dir.path().join("r.json"), dir.path().join("plots"));
    let output = bench(&["--tools", "tcpdump", "--packets", "20000"])
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut render = Command::new(env!("CARGO_BIN_EXE_lwnflog-bench"));
    render.arg("render").arg(&json).arg("--plot").arg(&plots);
    let output = render.arg("--markdown=-").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("| tcpdump | AF_PACKET | 20,000 | 20,000 | 0 | 20,000 | 0 |"),
        "{text}"
    );
    assert!(plots.join("writing-64-1.svg").is_file());
}

#[test]
fn readers_of_a_ring_count_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..3_u64 {
        let mut made = File::new();
        for number in 0..200 {
            let ports = [4, 0, 0, if number % 4 == 0 { 53 } else { 80 }, 0, 12, 0, 0];
            let packet = ip([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, &ports);
            made.packet(file * 10_000 + number, &packet, 0);
        }
        fs::write(dir.path().join(format!("{file}.pcapng")), made.0).unwrap();
    }
    let output = bench(&["reading", "--rounds", "1"])
        .arg(dir.path())
        .output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The middle file's last packet is of port 80, as three in four are.
    assert!(
        text.contains("| a port, counted in a full scan | 450 |"),
        "{text}"
    );
}

#[test]
fn bad_requests_are_refused_with_the_reason() {
    for (args, words) in [
        (&["--tools", "nonsense"][..], "no tool is called nonsense"),
        (&["--sizes", "9"], "frames have from"),
        (&["--senders", "0"], "from 1 to 64"),
        (&["--replay", "/nonexistent"], "/nonexistent"),
        (&["render", "/proc/version"], "is not what --json wrote"),
        (&["--rounds", "0"], "rounds"),
    ] {
        let output = bench(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(words),
            "{args:?}: {text}"
        );
    }
}

/// A few probes: that they come back, and that the tools capture them.
#[test]
fn latency_is_measured_of_captured_packets() {
    for load in [&[][..], &["--load", "2000"]] {
        let args = ["latency", "--probes", "50", "--rounds", "2", "--json", "-"];
        let output = bench(&args).args(load).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{said}");
        assert!(!text.contains("GAP"), "a tool is not installed:\n{text}");
        let json = &text[text.find("\n{").expect("JSON")..];
        let results: serde_json::Value = serde_json::from_str(json).unwrap();
        let set_ups = results["set_ups"].as_array().unwrap();
        let hooks: Vec<_> = set_ups.iter().map(|it| it["hook"].as_str()).collect();
        let expected = [
            "none",
            "Netfilter prerouting",
            "Netfilter prerouting, program",
            "Netfilter queue",
            "Netfilter queue",
        ];
        assert_eq!(hooks, expected.map(Some));
        for set_up in set_ups {
            let turns = set_up["turns"].as_array().unwrap();
            assert_eq!(turns.len(), 2, "{set_up}");
            for turn in turns {
                let times = &turn["times"];
                assert_eq!((&times["probes"], &times["lost"]), (&50.into(), &0.into()));
                let figure = |name: &str| times[name].as_f64().unwrap();
                assert!(figure("min_us") > 0.0, "{turn}");
                assert!(figure("min_us") <= figure("median_us"), "{turn}");
                assert!(figure("median_us") <= figure("p99_us"), "{turn}");
                assert!(figure("p99_us") <= figure("max_us"), "{turn}");
                assert!(turn["sent"].as_u64() >= Some(150), "{turn}");
                let captured = &turn["captured"];
                assert_eq!(captured.is_null(), set_up["hook"] == "none", "{turn}");
                if load.is_empty() && !captured.is_null() {
                    assert_eq!(captured, &turn["sent"]);
                }
            }
        }
    }
}
