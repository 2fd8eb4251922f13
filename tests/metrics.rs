//! The figures for Prometheus: what they say, by its own tools, and read by a real one.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Running, output, run, run_in, send_paced, temp_dir, until};
use lwnflog::lab::{Lab, Namespace};
use serde_json::Value;

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus");

/// What is asked and answered by the loopback is not captured.
const GROUP: [&str; 7] = [
    "--group",
    "5",
    "--install-rule",
    "--iface",
    "rx",
    "--metrics",
    "0",
];

fn lab() -> Lab {
    let lab = common::lab();
    run_in(lab.receiver(), "ip", &["link", "set", "lo", "up"]);
    lab
}

fn request(mut stream: impl Read + Write, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> String {
    let stream = namespace
        .run(|| TcpStream::connect(address))
        .unwrap()
        .unwrap();
    request(
        stream,
        &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"),
    )
}

fn place(capture: &mut Running) -> SocketAddr {
    let line = capture.wait_said("figures are served at http://");
    let (_, place) = line.split_once("http://").unwrap();
    place.trim_end_matches("/metrics").parse().unwrap()
}

fn sample(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_account_is_what_is_served() {
    let (lab, dir) = (lab(), temp_dir());
    let args = GROUP;
    let mut capture = Running::capture(lab.receiver(), dir.path(), &args);
    let address = place(&mut capture);
    assert!(address.ip().is_loopback());
    send_paced(&lab, 500);
    capture.wait_written(500);
    let answer = get(lab.receiver(), address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        sample(text, "lwnflog_written_packets_total{source=\"g5\"}"),
        Some(500.0)
    );
    assert_eq!(
        sample(text, "lwnflog_detected_packets_total{source=\"g5\"}"),
        Some(500.0)
    );
    assert_eq!(
        sample(text, "lwnflog_detected_known{source=\"g5\"}"),
        Some(1.0)
    );
    assert!(sample(text, "lwnflog_disk_free_bytes").unwrap() > 0.0);
    assert_eq!(sample(text, "lwnflog_disk_limit_bytes"), Some(1.8e9));
    // The live file and the one that is prepared, or that is being made.
    let ring = sample(text, "lwnflog_disk_ring_bytes").unwrap();
    assert!((1e8..=4.1e8).contains(&ring), "{ring}");
    let file = dir.path().join("scrape");
    fs::write(&file, text).unwrap();
    let checked = run(Command::new("promtool").args(["check", "metrics"]), text);
    assert_eq!(checked, "", "promtool has nothing to say");
    // What others have taken of what was written.
    let files = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let live = files
        .into_iter()
        .find(|path| path.to_string_lossy().contains(".live."));
    fs::remove_file(live.unwrap()).unwrap();
    until("it is served", || {
        let answer = get(lab.receiver(), address, "/metrics");
        let taken = sample(&answer, "lwnflog_taken_packets_total{source=\"g5\"}")?;
        assert!([0.0, 500.0].contains(&taken), "{answer}");
        (taken != 0.0).then_some(())
    });
    // What is no request, and what is asked for and not there.
    assert!(get(lab.receiver(), address, "/").starts_with("HTTP/1.1 404"));
    let connect = || {
        lab.receiver()
            .run(|| TcpStream::connect(address))
            .unwrap()
            .unwrap()
    };
    assert!(request(connect(), "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(request(connect(), "garbage\r\n\r\n").starts_with("HTTP/1.1 400"));
    // Clients that hang are left; the capture goes on, and so do the figures of others in time.
    let hanging: Vec<_> = (0..20).map(|_| connect()).collect();
    send_paced(&lab, 500);
    capture.wait_written(1000);
    drop(hanging);
    until("figures are served again", || {
        let stream = lab
            .receiver()
            .run(|| TcpStream::connect(address))
            .unwrap()
            .ok()?;
        let mut answer = String::new();
        let mut stream = stream;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
        stream.read_to_string(&mut answer).ok()?;
        (sample(&answer, "lwnflog_written_packets_total{source=\"g5\"}") == Some(1000.0))
            .then_some(())
    });
    capture.end().assert_balanced();
}

#[test]
fn a_hook_and_a_socket() {
    let (lab, dir) = (lab(), temp_dir());
    let socket = dir.path().join("metrics.sock");
    let place = format!("unix:{}", socket.display());
    let args = ["--hook", "--sample", "2", "--metrics", &place];
    let capture = Running::capture(lab.receiver(), dir.path(), &args);
    send_paced(&lab, 100);
    let left = "lwnflog_left_out_packets_total{reason=\"sample\",source=\"prerouting\"}";
    let written = "lwnflog_written_packets_total{source=\"prerouting\"}";
    until("each packet was written or left out", || {
        let stream = UnixStream::connect(&socket).ok()?;
        let answer = request(stream, "GET /metrics HTTP/1.0\r\n\r\n");
        let (left, written) = (sample(&answer, left)?, sample(&answer, written)?);
        // One in two by each processor's own count.
        (left + written >= 100.0 && left >= 48.0).then_some(())
    });
    capture.end().assert_balanced();
    assert!(!socket.exists());
}

/// A Prometheus of Debian's, in the capture's namespace, reads them and knows the alerts.
#[test]
fn prometheus_reads_them() {
    let (lab, dir, scene) = (lab(), temp_dir(), temp_dir());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &GROUP);
    let address = place(&mut capture);
    let config = scene.path().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s}}\nrule_files: [{ALERTS}/lwnflog-alerts.yml]\n\
             scrape_configs: [{{job_name: lwnflog, static_configs: [{{targets: ['{address}']}}]}}]\n"
        ),
    )
    .unwrap();
    send_paced(&lab, 300);
    capture.wait_written(300);
    let mut command = lab.receiver().command("prometheus").unwrap();
    let _prometheus = Running::spawn(
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                scene.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:9999"),
    );
    let prometheus: SocketAddr = "127.0.0.1:9999".parse().unwrap();
    let ask = |query: &str| {
        let stream = lab
            .receiver()
            .run(|| TcpStream::connect(prometheus))
            .unwrap()
            .ok()?;
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let line = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        Some(request(stream, &line))
    };
    until("it has read the figures", || {
        let answer = ask("lwnflog_written_packets_total")?;
        answer.contains("\"300\"").then_some(())
    });
    // Whatever the dashboard asks has an answer, but for what only the hook leaves out, or a limit.
    let queries = dashboard_queries();
    assert!(queries.len() > 10, "{queries:?}");
    for query in queries
        .iter()
        .filter(|query| !query.contains("left_out") && !query.contains("beyond_rate"))
    {
        until(query, || ask(query)?.contains("\"value\":[").then_some(()));
    }
    capture.end();
}

/// What each panel of the dashboard asks, of any instance.
fn dashboard_queries() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/grafana-lwnflog.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    let queries = targets
        .flatten()
        .map(|target| target["expr"].as_str().unwrap());
    queries
        .map(|query| query.replace("$instance", ".*"))
        .collect()
}

#[test]
fn the_alerts_do_what_they_say() {
    let checked = output(
        Command::new("promtool")
            .args(["test", "rules", "lwnflog-alerts-test.yml"])
            .current_dir(ALERTS),
        "",
    );
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn a_place_that_is_taken_is_said() {
    let (lab, dir) = (lab(), temp_dir());
    let mut first = Running::capture(lab.receiver(), dir.path(), &GROUP);
    let address = place(&mut first).to_string();
    let mut second = lab.receiver().command(common::LWNFLOG).unwrap();
    let second = output(
        second
            .args(["--group", "6", "--metrics", &address, "-w"])
            .arg(dir.path()),
        "",
    );
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("nothing can listen there"), "{said}");
    assert_eq!(second.status.code(), Some(1));
    first.end();
}

/// What is at the place of a socket, and is none that this user's captures have left, stays.
#[test]
fn nothing_but_an_own_socket_is_replaced() {
    let (lab, dir) = (lab(), temp_dir());
    let at = |name: &str| dir.path().join(name);
    let attempt = |path: &Path| {
        let mut command = lab.receiver().command(common::LWNFLOG).unwrap();
        let place = format!("unix:{}", path.display());
        command.args([
            "--group",
            "5",
            "--duration",
            "0.2",
            "--metrics",
            &place,
            "-w",
        ]);
        output(command.arg(dir.path().join("ring")), "")
    };
    fs::write(at("file"), "of the user's").unwrap();
    let datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
    let listener = UnixListener::bind(at("listener")).unwrap();
    drop(UnixListener::bind(at("of another user")).unwrap());
    std::os::unix::fs::chown(at("of another user"), Some(65534), None).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
    for name in ["file", "datagrams", "listener", "of another user", "link"] {
        let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
        let before = inode(&at(name));
        let refused = attempt(&at(name));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains("is there") || said.contains("listens there"),
            "{name}: {said}"
        );
        assert_eq!(inode(&at(name)), before, "{name}");
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "of the user's");
    drop((datagrams, listener));
    // What a killed one has left is replaced, and a directory is made where there is none.
    drop(UnixListener::bind(at("stale")).unwrap());
    for name in ["stale", "a/new/place"] {
        let done = attempt(&at(name));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{name}: {said}");
        assert!(!at(name).exists(), "{name}");
    }
}

/// Clients that say a byte now and then do not keep the figures from others.
#[test]
fn clients_that_drip_keep_no_scraper_away() {
    let (lab, dir) = (lab(), temp_dir());
    let mut capture = Running::capture(lab.receiver(), dir.path(), &GROUP);
    let address = place(&mut capture);
    let connect = || {
        lab.receiver()
            .run(|| TcpStream::connect(address))
            .unwrap()
            .unwrap()
    };
    let dripping: Vec<_> = (0..8).map(|_| connect()).collect();
    let begun = Instant::now();
    until("a scraper is answered", || {
        for mut stream in &dripping {
            let _ = stream.write_all(b"G");
        }
        let mut stream = connect();
        let mut answer = String::new();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("200 OK").then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
    capture.end();
}
