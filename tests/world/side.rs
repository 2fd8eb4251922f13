//! Captures that a step begins and ends itself: streams and their readers, `--count` and `--duration`,
//! Wireshark's interfaces, one command's packets, the ways that packets took.

use std::fs::{self, File};
use std::io::{PipeReader, Read};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aside::{begin, send};
use crate::check::{self, Reader, figure};
use crate::model::{Span, Want, Why};
use crate::play::{Outcome, Play};
use crate::steps::Source;
use crate::tools::{extcap, one_command, path};
use crate::traffic::{SECOND, now};
use crate::walk::{self, Walked};
use crate::world::{Checked, tool, wrong};

use Outcome::{Done, Nothing};

pub const HOWS: [&str; 11] = [
    "file", "slow", "gone", "full", "count", "duration", "extcap", "run", "path", "discard",
    "groups",
];

/// A capture beside those of the slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    pub how: String,
    pub source: Source,
    /// "" for prerouting, "input", "forward"
    pub at: String,
    pub snaplen: u32,
    pub packets: u64,
}

pub fn side(play: &mut Play, step: &Side) -> Checked<Outcome> {
    if !matches!(step.source, Source::Hook | Source::Installed) {
        return Ok(Nothing);
    }
    if play.has_queue() && (!step.at.is_empty() || step.how == "path") {
        return Ok(Nothing);
    }
    // These end with what comes, or show where all of it goes.
    if play.drops.is_some() && matches!(step.how.as_str(), "gone" | "full" | "count" | "path") {
        return Ok(Nothing);
    }
    match step.how.as_str() {
        "file" | "slow" | "gone" | "full" => stream(play, step),
        "count" | "duration" | "discard" => ends_itself(play, step),
        "extcap" => extcap(play, step),
        "run" => one_command(play, step),
        "path" => path(play, step),
        "groups" => crate::tools::groups(play, step),
        _ => Ok(Nothing),
    }
}

/// A reader of the stream, on a thread of its own: slow, or one that goes.
fn reads(mut pipe: PipeReader, slow: bool, most: usize) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), vec![0; 4096]);
        while all.len() < most {
            let room = some.len().min(most - all.len());
            match pipe.read(&mut some[..room]) {
                Ok(read) if read > 0 => all.extend(&some[..read]),
                _ => break,
            }
            if slow {
                thread::sleep(Duration::from_micros(300));
            }
        }
        all
    })
}

fn stream(play: &mut Play, step: &Side) -> Checked<Outcome> {
    let file = play.world.dir.join("run").join("stream.pcapng");
    let gone = step.how == "gone";
    let (out, reader) = match step.how.as_str() {
        "file" => (File::create(&file).unwrap(), None),
        "full" => {
            // A file system that has no room for it.
            let at = play.world.dir.join("run").join("full");
            fs::create_dir_all(&at).unwrap();
            let mut mount = Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", "size=64k", "none"])
                .arg(&at);
            tool(&mut mount);
            (File::create(at.join("stream.pcapng")).unwrap(), None)
        }
        how => {
            let (reader, writer) = std::io::pipe().unwrap();
            let most = if gone { 30_000 } else { usize::MAX };
            let writer = File::from(std::os::fd::OwnedFd::from(writer));
            (writer, Some(reads(reader, how == "slow", most)))
        }
    };
    let mut aside = begin(play, step, &["-w", "-"], Some(out))?;
    if gone || step.how == "full" {
        aside.run().why.insert(Why::Flooded);
    }
    let failing = gone || step.how == "full";
    let from = now();
    send(play, step.packets);
    if failing {
        // More than it takes, so that it does go.
        aside.run().ended = Some(Span { from, to: i64::MAX });
        let begun = Instant::now();
        while aside.proc.ended().is_none() {
            send(play, 200);
            if begun.elapsed() > crate::play::DEADLINE {
                return wrong("a capture outlives its reader", aside.proc.said());
            }
        }
        aside.gone(play, 1)?;
    } else {
        aside.settle(play)?;
        aside.end(play)?;
    }
    let bytes = match reader {
        Some(reader) => reader.join().unwrap(),
        None if step.how == "full" => {
            let at = play.world.dir.join("run").join("full");
            let bytes = fs::read(at.join("stream.pcapng")).unwrap();
            tool(Command::new("umount").arg(&at));
            bytes
        }
        None => fs::read(&file).unwrap(),
    };
    let walked =
        walk::pcapng(bytes, !failing).or_else(|why| wrong("a stream that cannot be read", why))?;
    let report = aside.report();
    aside.check(play, &walked, &report, !failing)?;
    Ok(Done)
}

fn ends_itself(play: &mut Play, step: &Side) -> Checked<Outcome> {
    let dir = play.world.place(crate::steps::Place::Tmpfs).join("side");
    let _ = fs::remove_dir_all(&dir);
    let (place, count) = (
        dir.display().to_string(),
        (step.packets / 3).max(1).to_string(),
    );
    let args: &[&str] = match step.how.as_str() {
        "count" => &[
            "--json", "-w", &place, "-C", "2MiB", "-W", "0", "-c", &count,
        ],
        "duration" => &[
            "--json",
            "-w",
            &place,
            "-C",
            "2MiB",
            "-W",
            "0",
            "--duration",
            "1s",
        ],
        _ => &["--json", "--discard"],
    };
    let mut aside = begin(play, step, args, None)?;
    let from = now();
    send(play, step.packets);
    match step.how.as_str() {
        // What comes behind the last is skipped, or not seen any more.
        "count" => {
            let wanted: u64 = count.parse().unwrap_or(1);
            aside.run().ended = Some(Span { from, to: i64::MAX });
            let begun = Instant::now();
            while aside.proc.ended().is_none() {
                if begun.elapsed() > crate::play::DEADLINE {
                    return wrong(
                        "does not end by --count",
                        format!("{wanted}\n{}", aside.proc.said()),
                    );
                }
                send(play, 8);
            }
        }
        "duration" => {
            let from = aside.run().begun.from + SECOND;
            aside.run().ended = Some(Span { from, to: i64::MAX });
        }
        _ => {
            aside.settle(play)?;
            aside.end(play)?;
        }
    }
    aside.gone(play, 0)?;
    let shown = String::from_utf8_lossy(&aside.proc.shown()).into_owned();
    let report = shown
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .unwrap_or_default();
    if report["event"] != "report" {
        return wrong("no report", shown);
    }
    if step.how == "discard" {
        let chunks = play.traffic.chunks_from(aside.ring.runs[0].first_number);
        check::account(&aside.ring, &chunks, &report, true, play.traffic.is_on())?;
        let must = aside.count(play, &[Want::Must]);
        if figure(&report, "/discarded") < must || figure(&report, "/written") != 0 {
            return wrong("discarded otherwise", format!("{must} must be\n{report}"));
        }
        return Ok(Done);
    }
    let mut all = Walked::default();
    let chunks = play.traffic.chunks_from(aside.ring.runs[0].first_number);
    let mut reader = Reader::new(&aside.ring, &chunks);
    for (path, _) in walk::ring_files(&dir, &aside.ring.name).values() {
        let walked = walk::file(path).or_else(|why| wrong("a file that cannot be read", why))?;
        reader.take(&walked, &path.display().to_string())?;
        all.records.extend(walked.records);
    }
    let (records, written) = (all.records.len() as u64, figure(&report, "/written"));
    if records != written || step.how == "count" && count != written.to_string() {
        return wrong(
            "written otherwise",
            format!("{records} are there, {written} written of {count}\n{report}"),
        );
    }
    if step.how == "duration" {
        check::account(&aside.ring, &chunks, &report, true, play.traffic.is_on())?;
    }
    let _ = fs::remove_dir_all(&dir);
    Ok(Done)
}
