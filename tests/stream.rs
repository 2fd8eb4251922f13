//! `-w -`: packets as a stream. A reader that sleeps is a counted loss, one that goes ends the capture.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use common::contents::parse;
use common::{
    LWNFLOG, Mounted, lab, load_capture_rules, output, run, run_in, send_paced, temp_dir,
    under_traffic, until, with_own_mounts, with_runtime,
};
use lwnflog::lab::{Lab, Traffic};
use rustix::process::{Pid, Signal, kill_process};

/// A capture whose standard output is a pipe, and whose standard error is a file.
struct Streaming {
    child: std::process::Child,
    said: std::path::PathBuf,
    dir: tempfile::TempDir,
}

impl Streaming {
    fn start(lab: &Lab, args: &[&str]) -> Streaming {
        Streaming::to(Stdio::piped(), lab, args)
    }

    fn to(stdout: Stdio, lab: &Lab, args: &[&str]) -> Streaming {
        let dir = temp_dir();
        let said = dir.path().join("said");
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let child = with_runtime(&mut command, dir.path())
            .args(["-w", "-"])
            .args(args)
            .stdout(stdout)
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let streaming = Streaming { child, said, dir };
        until("it captures", || {
            streaming
                .said()
                .contains("to standard output")
                .then_some(())
        });
        streaming
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    fn wait_received(&self, packets: u64) {
        until("they have arrived", || {
            (self.stats()["stats"]["received"] == packets).then_some(())
        });
    }

    /// It ends with an error, and its report says how many the reader has taken.
    #[track_caller]
    fn assert_ends_with(&mut self, written: usize, dropped: Option<usize>, says: &str) {
        let status = until("it has ended", || self.child.try_wait().unwrap());
        let said = self.said();
        assert_eq!(status.code(), Some(1), "{said}");
        let line = |name: &str| {
            let lines = said.lines().map(|line| line.trim_start().split_once("  "));
            let found = lines.flatten().find(|(found, _)| *found == name);
            found.map(|(_, figure)| figure.replace(',', "").parse().unwrap())
        };
        assert_eq!(line("written"), Some(written), "{said}");
        // What comes when it is at its end already is nobody's.
        let dropped = dropped.or(line("received").map(|received: usize| received - written));
        assert_eq!(line("writer"), dropped, "{said}");
        assert!(said.contains(says), "{said}");
    }

    /// What the control socket says is written and dropped.
    fn stats(&self) -> serde_json::Value {
        let mut command = Command::new(LWNFLOG);
        command
            .args(["ctl", "--json", "--directory"])
            .arg(self.dir.path())
            .arg("stats");
        serde_json::from_str(&run(&mut command, "")).unwrap()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stream_is_a_whole_file() {
    for (source, format) in [
        (&["--group", "5"][..], "pcapng"),
        (&["--hook"], "pcapng"),
        (&["--group", "5"], "pcap"),
    ] {
        let lab = lab();
        load_capture_rules(lab.receiver());
        let args = [source, &["--format", format]].concat();
        let mut streaming = Streaming::start(&lab, &args);
        let mut stream = streaming.child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        send_paced(&lab, 3000);
        until("they are written", || {
            (streaming.stats()["stats"]["written"] == 3000).then_some(())
        });
        streaming.stop();
        assert!(streaming.child.wait().unwrap().success());
        let all = reader.join().unwrap();
        let contents = parse(&all).unwrap();
        assert_eq!(contents.packets.len(), 3000, "{format}");
        assert_eq!(contents.padding_blocks, 0);
        assert!(
            streaming.said().contains("written  3,000"),
            "{}",
            streaming.said()
        );
        // tshark finds nothing wrong with it.
        let file = streaming.dir.path().join("stream");
        fs::write(&file, &all).unwrap();
        let count = run(
            Command::new("tshark").arg("-nr").arg(&file).args([
                "-T",
                "fields",
                "-e",
                "frame.number",
            ]),
            "",
        );
        assert_eq!(count.lines().count(), 3000);
    }
}

/// It is read once a batch, not when a buffer is full.
#[test]
fn it_is_flushed_by_batch() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5"]);
    let mut stream = streaming.child.stdout.take().unwrap();
    send_paced(&lab, 3);
    let mut all = Vec::new();
    until("three packets have come", || {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).unwrap();
        all.extend(&some[..read]);
        (parse(&all).ok()?.packets.len() == 3).then_some(())
    });
}

#[test]
fn a_reader_that_sleeps_is_a_counted_loss() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5", "-s", "0"]);
    let mut stream = streaming.child.stdout.take().unwrap();
    // 45 MB: more than all buffers hold, and the pipe.
    let traffic = Traffic::new(1500, 30_000).rate(Some(20_000));
    traffic.send(&lab, None).unwrap();
    let stats = until("all have arrived", || {
        let stats = streaming.stats()["stats"].clone();
        (stats["received"] == 30_000).then_some(stats)
    });
    // What waits for it is not written.
    let (written, unread, dropped) = (
        stats["written"].as_u64().unwrap(),
        stats["unread"].as_u64().unwrap(),
        stats["dropped"]["writer"].as_u64().unwrap(),
    );
    assert_eq!((written, unread + dropped), (0, 30_000), "{stats}");
    assert!(dropped > 0 && unread > 10_000, "{stats}");
    // Then it reads on; what comes now says what was lost before.
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    until("there is room again", || {
        send_paced(&lab, 1);
        (streaming.stats()["stats"]["written"].as_u64().unwrap() > written).then_some(())
    });
    streaming.stop();
    assert!(streaming.child.wait().unwrap().success());
    let contents = parse(&reader.join().unwrap()).unwrap();
    let lost: u64 = contents.packets.iter().map(|packet| packet.dropcount).sum();
    assert!(lost >= dropped, "{lost} of {dropped}");
}

#[test]
fn a_reader_that_goes_ends_the_capture() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5"]);
    drop(streaming.child.stdout.take());
    let status = until("it has ended", || {
        send_paced(&lab, 10);
        streaming.child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(1), "{}", streaming.said());
}

/// What was in the pipe when it went it has not taken.
#[test]
fn what_a_reader_that_goes_has_not_taken_is_not_written() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5"]);
    let mut stream = streaming.child.stdout.take().unwrap();
    send_paced(&lab, 20);
    let mut all = Vec::new();
    until("20 packets have come", || {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).unwrap();
        all.extend(&some[..read]);
        (parse(&all).ok()?.packets.len() == 20).then_some(())
    });
    send_paced(&lab, 500);
    streaming.wait_received(520);
    drop(stream);
    streaming.assert_ends_with(20, Some(500), "its reader has gone");
}

/// Under traffic, and with its rule counting on: what comes until the capture has ended is received, and the
/// reader has not taken it.
#[test]
fn what_comes_when_the_reader_has_gone_is_the_writers_loss() {
    for source in [
        &["--group", "5", "--install-rule"][..],
        &["--queue", "5"],
        &["--hook"],
    ] {
        let lab = lab();
        let queue = [
            "-t",
            "raw",
            "-A",
            "PREROUTING",
            "-j",
            "NFQUEUE",
            "--queue-num",
            "5",
            "--queue-bypass",
        ];
        run_in(lab.receiver(), "iptables-nft", &queue);
        let mut streaming = Streaming::start(&lab, source);
        let mut stream = streaming.child.stdout.take().unwrap();
        let mut read = 0;
        let status = under_traffic(&lab, 30_000, || {
            let mut some = [0; 4096];
            while read < 100_000 {
                read += stream.read(&mut some).unwrap();
            }
            drop(stream);
            until("it has ended", || streaming.child.try_wait().unwrap())
        });
        let said = streaming.said();
        assert_eq!(status.code(), Some(1), "{said}");
        let line = |name: &str| -> u64 {
            let lines = said.lines().map(|line| line.trim_start().split_once("  "));
            let found = lines.flatten().find(|(found, _)| *found == name);
            found.map_or(0, |(_, figure)| figure.replace(',', "").parse().unwrap())
        };
        assert_eq!((line("allocation"), line("queue full")), (0, 0), "{said}");
        let lost = line("writer");
        assert_eq!(line("received"), line("written") + lost, "{said}");
        assert!(lost > 0 && said.contains("its reader has gone"), "{said}");
    }
}

/// Whatever waits in front of a reader that sleeps, the end comes.
#[test]
fn a_reader_that_never_reads_does_not_hold_the_end_up() {
    for packets in [20, 2_000] {
        let lab = lab();
        load_capture_rules(lab.receiver());
        let mut streaming = Streaming::start(&lab, &["--group", "5"]);
        let sleeping = streaming.child.stdout.take().unwrap();
        send_paced(&lab, packets);
        streaming.wait_received(packets);
        streaming.stop();
        let packets = usize::try_from(packets).unwrap();
        streaming.assert_ends_with(0, Some(packets), "its reader does not take what is there");
        drop(sleeping);
    }
}

/// A reader that is slow, and reads, gets all of it.
#[test]
fn a_slow_reader_is_waited_for_at_the_end() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5"]);
    let mut stream = streaming.child.stdout.take().unwrap();
    send_paced(&lab, 2_000);
    streaming.wait_received(2_000);
    streaming.stop();
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some).unwrap() {
            0 => break,
            read => all.extend(&some[..read]),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(
        streaming.child.wait().unwrap().success(),
        "{}",
        streaming.said()
    );
    assert_eq!(parse(&all).unwrap().packets.len(), 2_000);
}

#[test]
fn a_disk_that_is_full_is_counted_and_said() {
    let name = "a_disk_that_is_full_is_counted_and_said";
    with_own_mounts(name, || {
        let lab = lab();
        load_capture_rules(lab.receiver());
        let disk = Mounted::tmpfs("size=64k");
        let file = disk.path().join("stream");
        let to = fs::File::create(&file).unwrap();
        let mut streaming = Streaming::to(to.into(), &lab, &["--group", "5"]);
        send_paced(&lab, 3_000);
        until("it has ended", || streaming.child.try_wait().unwrap());
        // Its end is cut; what is before is whole.
        let all = fs::read(&file).unwrap();
        let whole = (0..=all.len())
            .rev()
            .find_map(|len| parse(&all[..len]).ok())
            .unwrap();
        let written = whole.packets.len();
        assert!(written > 100, "{written}");
        streaming.assert_ends_with(written, None, "No space left on device");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut streaming = Streaming::to(full.into(), &lab, &["--group", "5"]);
        until("it has ended", || streaming.child.try_wait().unwrap());
        streaming.assert_ends_with(0, Some(0), "No space left on device");
    });
}

#[test]
fn a_reader_that_goes_ends_a_capture_of_nothing() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5"]);
    drop(streaming.child.stdout.take());
    let status = until("it has ended", || streaming.child.try_wait().unwrap());
    assert!(status.success(), "{}", streaming.said());
}

#[test]
fn what_makes_no_sense_with_a_stream() {
    let lab = lab();
    for what in [&["--group", "5"][..], &["run"]] {
        let mut shell = lab.receiver().command("sh").unwrap();
        shell.args(["-c", "exec \"$@\" >&-", "sh", LWNFLOG]);
        shell.args(what).args(["-w", "-"]);
        shell.args(&["--", "true"][..if what == ["run"] { 2 } else { 0 }]);
        let refused = output(&mut shell, "");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("standard output is closed"), "{said}");
        assert_ne!(refused.status.code(), Some(0));
    }
    for (args, says) in [
        (&["--json"][..], "--json with -w -"),
        (&["--compress", "lz4"], "--compress with -w -"),
        (
            &["--group", "5-6"],
            "one stream has the packets of one group",
        ),
    ] {
        let mut command = lab.receiver().command(LWNFLOG).unwrap();
        let group: &[&str] = if args[0] == "--group" {
            &[]
        } else {
            &["--group", "5"]
        };
        let refused = output(command.args(["-w", "-"]).args(group).args(args), "");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(says), "{said}");
        assert_eq!(refused.status.code(), Some(2));
    }
}

/// Batches of one packet, as `lwnflog run` has them: a reader that is late for a moment loses none of them.
#[test]
fn small_batches_find_as_much_room() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let mut streaming = Streaming::start(&lab, &["--group", "5", "--batch", "1"]);
    let mut stream = streaming.child.stdout.take().unwrap();
    send_paced(&lab, 20_000);
    streaming.wait_received(20_000);
    let dropped = streaming.stats()["stats"]["dropped"]["writer"].clone();
    assert_eq!(dropped, 0);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    streaming.stop();
    assert!(streaming.child.wait().unwrap().success());
    let contents = parse(&reader.join().unwrap()).unwrap();
    assert_eq!(contents.packets.len(), 20_000);
}

/// A socket in the pipe's place, as some programs have it: what its other end has not read is not written.
#[test]
fn a_socket_is_a_stream_too() {
    for (reads, goes) in [(true, false), (false, true), (false, false)] {
        let lab = lab();
        load_capture_rules(lab.receiver());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let theirs = std::os::fd::OwnedFd::from(theirs);
        let mut streaming = Streaming::to(theirs.into(), &lab, &["--group", "5"]);
        send_paced(&lab, 5_000);
        streaming.wait_received(5_000);
        if reads {
            let reader = std::thread::spawn(move || {
                let (mut all, mut ours) = (Vec::new(), ours);
                ours.read_to_end(&mut all).unwrap();
                all
            });
            streaming.stop();
            let status = until("it has ended", || streaming.child.try_wait().unwrap());
            assert!(status.success(), "{}", streaming.said());
            let contents = parse(&reader.join().unwrap()).unwrap();
            assert_eq!(contents.packets.len(), 5_000);
        } else if goes {
            drop(ours);
            streaming.assert_ends_with(0, Some(5_000), "its reader has gone");
        } else {
            streaming.stop();
            streaming.assert_ends_with(0, Some(5_000), "its reader does not take what is there");
            drop(ours);
        }
    }
}
