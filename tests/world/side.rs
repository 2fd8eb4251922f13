//! Captures that a step begins and ends itself: streams and their readers, `--count` and `--duration`,
//! Wireshark's interfaces, one command's packets, the ways that packets took.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{PipeReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::{self, Reader, figure};
use crate::messages;
use crate::model::{Ring, Run, Span, Want, Why};
use crate::play::{Outcome, Play};
use crate::steps::{Begin, Source, Step};
use crate::traffic::{Kind, SECOND, What, now};
use crate::walk::{self, Walked};
use crate::world::{Checked, Proc, tool, wrong};

use Outcome::{Done, Nothing};

pub const HOWS: [&str; 10] = [
    "file", "slow", "gone", "full", "count", "duration", "extcap", "run", "path", "discard",
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

/// Its group, which has no rule of others.
const GROUP: usize = 40;

pub fn side(play: &mut Play, step: &Side) -> Checked<Outcome> {
    if !matches!(step.source, Source::Hook | Source::Installed) {
        return Ok(Nothing);
    }
    match step.how.as_str() {
        "file" | "slow" | "gone" | "full" => stream(play, step),
        "count" | "duration" | "discard" => ends_itself(play, step),
        "extcap" => extcap(play, step),
        "run" => one_command(play, step),
        "path" => path(play, step),
        _ => Ok(Nothing),
    }
}

/// One that runs, and its model.
struct Aside {
    proc: Proc,
    runtime: PathBuf,
    ring: Ring,
}

fn begin(play: &mut Play, step: &Side, more: &[&str], out: Option<File>) -> Checked<Aside> {
    let line = format!(
        "begin again=false batch=1024 both_families=true buffer_mib=16 capture=0 compress='' file_kib=2048 \
         files=0 flush_ms=50 format=pcapng index=true link=ethernet max_kib=0 only_port=0 place=tmpfs \
         rotate_secs=0 snaplen={} source={} at='{}'",
        step.snaplen,
        if step.source == Source::Hook {
            "hook"
        } else {
            "installed"
        },
        step.at,
    );
    let Ok(Step::Begin(options)) = Step::parse(&line) else {
        panic!("{line}");
    };
    let name = play.name(&format!("side-{}", step.how));
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    play.fence();
    let first = play.traffic.next_number();
    let run = Run::new(&options, now(), first);
    let mut ring = Ring::new(runtime.join("ring"), ring_name(&options));
    ring.runs.push(run);
    let mut args = arguments(&options);
    args.extend(more.iter().map(|word| (*word).to_owned()));
    let mut command = play
        .world
        .lab
        .receiver()
        .command(&play.world.program)
        .unwrap();
    command.args(&args).env("RUNTIME_DIRECTORY", &runtime);
    let proc = play.world.spawn_to(&name, &mut command, out);
    let mut aside = Aside {
        proc,
        runtime,
        ring,
    };
    let begun = Instant::now();
    while !aside.proc.said().contains("lwnflog: capturing ") {
        if let Some(status) = aside.proc.ended() {
            return wrong(
                &format!("does not begin: {}", step.how),
                format!("{args:?}: {status}\n{}", aside.proc.said()),
            );
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return wrong("hangs: begin", aside.proc.said());
        }
        thread::sleep(Duration::from_millis(2));
    }
    aside.ring.runs[0].begun.to = now();
    Ok(aside)
}

fn ring_name(options: &Begin) -> String {
    if options.source == Source::Hook {
        crate::act::hook(options).to_owned()
    } else {
        format!("g{GROUP}")
    }
}

fn arguments(options: &Begin) -> Vec<String> {
    let mut args = if options.source == Source::Hook {
        vec!["--hook".to_owned(), crate::act::hook(options).to_owned()]
    } else {
        let group = GROUP.to_string();
        let mut args = ["--group", &group, "--install-rule", "--at"]
            .map(str::to_owned)
            .to_vec();
        args.push(crate::act::hook(options).to_owned());
        args
    };
    let snaplen = options.snaplen.to_string();
    for word in [
        "--family", "both", "--name", "side", "-B", "16MiB", "-s", &snaplen,
    ] {
        args.push(word.to_owned());
    }
    args
}

/// Some of everything that goes through the receiver.
fn send(play: &mut Play, packets: u64) -> BTreeMap<Kind, u64> {
    let kinds = [
        Kind::Udp,
        Kind::Beyond,
        Kind::Tcp,
        Kind::Loop,
        Kind::Udp6,
        Kind::Icmp,
        Kind::Beyond6,
        Kind::Rest,
    ];
    let mut sent = BTreeMap::new();
    for (at, kind) in (0u64..).zip(kinds) {
        let share = (packets + 7 - at) / 8;
        if share > 0 {
            let what = What {
                kind,
                port: 9000,
                from: 60,
                to: 1514,
            };
            play.traffic.send(what, share, None);
            sent.insert(kind, share);
        }
    }
    play.fence();
    sent
}

impl Aside {
    fn run(&mut self) -> &mut Run {
        &mut self.ring.runs[0]
    }

    /// What it has said belongs to what has happened.
    fn judge(&mut self) -> Checked {
        let said = self.proc.said();
        for line in self.proc.new_lines() {
            if let Some(why) = messages::judge(&line, &self.ring.runs[0]) {
                return wrong(
                    &format!("a false message: {}", crate::play::shape(&line)),
                    format!("{why}\nall it said:\n{said}"),
                );
            }
        }
        Ok(())
    }

    /// Everything that had to come has come, as the account on its socket has it.
    fn settle(&mut self, play: &mut Play) -> Checked {
        play.fence();
        let must = self.count(play, &[Want::Must]);
        let socket = self.runtime.join("side.sock");
        let begun = Instant::now();
        loop {
            let answer =
                crate::play::ask(&socket, &serde_json::json!({"v": 1, "command": "stats"}));
            let stats = answer
                .as_ref()
                .map_or(&Value::Null, |answer| &answer["stats"]);
            if figure(stats, "/received") + check::sum(stats, "dropped") >= must {
                return Ok(());
            }
            if begun.elapsed() > crate::play::DEADLINE || self.proc.ended().is_some() {
                return wrong(
                    "not accounted for",
                    format!("{must} packets must be\n{answer:?}\n{}", self.proc.said()),
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn count(&self, play: &Play, wants: &[Want]) -> u64 {
        let run = &self.ring.runs[0];
        let chunks = play.traffic.chunks_from(run.first_number);
        chunks
            .iter()
            .filter(|chunk| wants.contains(&run.wants(chunk)))
            .map(|chunk| chunk.count)
            .sum()
    }

    /// Its end by a signal; what it leaves behind.
    fn end(&mut self, play: &mut Play) -> Checked {
        play.fence();
        self.run().ended = Some(Span {
            from: now(),
            to: i64::MAX,
        });
        self.proc.signal(Signal::INT);
        self.gone(play, 0)
    }

    fn gone(&mut self, play: &mut Play, code: i32) -> Checked {
        let status = self.proc.wait("the end of a capture", 60)?;
        if let Some(end) = &mut self.run().ended {
            end.to = now();
        }
        self.judge()?;
        if status.code() != Some(code) {
            return wrong(
                "ended otherwise than it must",
                format!("{status}, not {code}\n{}", self.proc.said()),
            );
        }
        if let Some(left) = fs::read_dir(&self.runtime)
            .into_iter()
            .flatten()
            .flatten()
            .find(|entry| entry.file_name() != "ring" && entry.path().extension().is_some())
        {
            return wrong("a socket is left", left.path().display().to_string());
        }
        play.nothing_left()
    }

    /// The figures of a report for people, as an object's.
    fn report(&self) -> Value {
        let mut figures = serde_json::json!({"dropped": {}, "left_out": {}});
        for line in self.proc.said().lines() {
            let Some((name, number)) = line.trim().split_once("  ") else {
                continue;
            };
            let Ok(number) = number.trim().replace(',', "").parse::<u64>() else {
                continue;
            };
            let name = name.trim().trim_start_matches("dropped:").trim();
            match name {
                "overrun" | "allocation" | "writer" => figures["dropped"][name] = number.into(),
                _ => figures[name] = number.into(),
            }
        }
        figures
    }

    /// Each packet of an output, and the account.
    fn check(&self, play: &mut Play, walked: &Walked, report: &Value, whole: bool) -> Checked {
        let chunks = play.traffic.chunks_from(self.ring.runs[0].first_number);
        let mut reader = Reader::new(&self.ring, &chunks);
        reader.take(walked, "beside")?;
        let records = walked.records.len() as u64;
        play.packets_checked += records;
        check::account(&self.ring, &chunks, report, true, play.traffic.is_on())?;
        let (written, dropped) = (figure(report, "/written"), check::sum(report, "dropped"));
        let told = |what: &str| format!("{what}\n{report}\n{}", self.proc.said());
        if records != written {
            return wrong(
                "written otherwise",
                told(&format!("{records} packets are there of {written}")),
            );
        }
        let missing = reader.missing(0, u64::MAX);
        if whole && missing.len() as u64 > dropped {
            return wrong("packets are missing", told(&check::runs(&missing)));
        }
        Ok(())
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

/// As Wireshark starts it: a fifo to write to, a signal at the end.
fn extcap(play: &mut Play, step: &Side) -> Checked<Outcome> {
    let name = play.name("side-extcap");
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    let fifo = runtime.join("fifo");
    tool(Command::new("mkfifo").arg(&fifo));
    let (group, snaplen) = (GROUP.to_string(), step.snaplen.to_string());
    let mut args = vec!["extcap", "--capture", "--extcap-interface"];
    let at = if step.at.is_empty() {
        "prerouting"
    } else {
        &step.at
    };
    if step.source == Source::Hook {
        args.extend(["lwnflog-hook", "--at", at]);
    } else if step.at.is_empty() {
        args.extend(["lwnflog-group", "--number", &group, "--install-rule"]);
    } else {
        return Ok(Nothing); // the group's dialogue has no hook
    }
    let fifo_text = fifo.display().to_string();
    args.extend([
        "--family",
        "both",
        "--snaplen",
        &snaplen,
        "--fifo",
        &fifo_text,
    ]);
    play.fence();
    let line = format!(
        "begin again=false batch=1024 both_families=true buffer_mib=64 capture=0 compress='' file_kib=2048 files=0 \
         flush_ms=100 format=pcapng index=true link=ethernet max_kib=0 only_port=0 place=tmpfs rotate_secs=0 \
         snaplen={snaplen} source={} at='{}'",
        if step.source == Source::Hook {
            "hook"
        } else {
            "installed"
        },
        step.at
    );
    let Ok(Step::Begin(options)) = Step::parse(&line) else {
        panic!("{line}");
    };
    let mut ring = Ring::new(runtime.clone(), ring_name(&options));
    ring.runs
        .push(Run::new(&options, now(), play.traffic.next_number()));
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let copy = runtime.join("copy");
    let mut copies = Command::new("cp").arg(&fifo).arg(&copy).spawn().unwrap();
    let begun = Instant::now();
    while fs::metadata(&copy).map_or(0, |data| data.len()) == 0 {
        if begun.elapsed() > Duration::from_secs(30) || proc.ended().is_some() {
            let _ = copies.kill();
            let _ = copies.wait();
            return wrong("hangs: extcap", format!("{args:?}\n{}", proc.said()));
        }
        send(play, 8);
        thread::sleep(Duration::from_millis(20));
    }
    ring.runs[0].begun.to = now();
    send(play, step.packets);
    // Wireshark ends it when it likes: what has come by then is there, if it waits so long.
    let chunks = play.traffic.chunks_from(ring.runs[0].first_number);
    let must = |ring: &Ring| -> u64 {
        let run = &ring.runs[0];
        chunks
            .iter()
            .filter(|chunk| run.wants(chunk) == Want::Must)
            .map(|chunk| chunk.count)
            .sum()
    };
    let least = must(&ring);
    let read = |whole: bool| walk::pcapng(fs::read(&copy).unwrap_or_default(), whole);
    let begun = Instant::now();
    while read(false).map_or(0, |walked| walked.records.len() as u64) < least {
        if begun.elapsed() > crate::play::DEADLINE {
            let have = read(false).map(|walked| walked.records.len());
            return wrong(
                "extcap shows too little",
                format!("{have:?} of {least}\n{}", proc.said()),
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
    ring.runs[0].ended = Some(Span {
        from: now(),
        to: i64::MAX,
    });
    proc.signal(Signal::TERM);
    let status = proc.wait("the end of extcap", 60)?;
    copies.wait().unwrap();
    if !status.success() || proc.said().contains("panicked") {
        return wrong(
            "extcap ends otherwise than well",
            format!("{status}\n{}", proc.said()),
        );
    }
    let walked = read(true).or_else(|why| wrong("a stream that cannot be read", why))?;
    let chunks = play.traffic.chunks_from(ring.runs[0].first_number);
    let mut reader = Reader::new(&ring, &chunks);
    reader.take(&walked, "extcap")?;
    let missing = reader.missing(0, u64::MAX);
    if !missing.is_empty() {
        return wrong("packets are missing", check::runs(&missing));
    }
    play.packets_checked += walked.records.len() as u64;
    let _ = fs::remove_file(&copy);
    play.nothing_left()?;
    Ok(Done)
}

/// `lwnflog run`: what one command sends, and nobody else's.
fn one_command(play: &mut Play, step: &Side) -> Checked<Outcome> {
    let packets = step.packets.clamp(1, 2000);
    let file = play.world.dir.join("run").join("own.pcapng");
    let _ = fs::remove_file(&file);
    let beyond = crate::ways::BEYOND.map(|byte| byte.to_string()).join(".");
    let talk = format!(
        "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         for i in range({packets}): s.sendto(i.to_bytes(4,'big'),('{beyond}',7))\nsys.exit(5)"
    );
    let mut args = ["run", "-q", "-w"].map(str::to_owned).to_vec();
    args.push(file.display().to_string());
    args.extend(["--", "python3", "-c", &talk].map(str::to_owned));
    let name = play.name("side-run");
    let runtime = play.world.dir.join("run");
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let status = proc.wait("lwnflog run", 60)?;
    let said = proc.said();
    if status.code() != Some(5) || !said.is_empty() {
        return wrong("lwnflog run", format!("{status}\n{said}"));
    }
    let walked = walk::file(&file).or_else(|why| wrong("a file that cannot be read", why))?;
    for (record, at) in walked.records.iter().zip(0u32..) {
        let packet = walked.packet(record);
        if packet.get(28..32) != Some(&at.to_be_bytes()) {
            return wrong(
                "lwnflog run has other packets",
                format!("{at}: {packet:02x?}"),
            );
        }
    }
    if walked.records.len() as u64 != packets {
        return wrong(
            "lwnflog run has other packets",
            format!("{} of {packets}", walked.records.len()),
        );
    }
    play.nothing_left()?;
    Ok(Done)
}

/// The way of each packet, as the rules at all hooks have seen it.
fn path(play: &mut Play, step: &Side) -> Checked<Outcome> {
    if play.traffic.is_on() {
        return Ok(Nothing);
    }
    let dir = play.world.place(crate::steps::Place::Tmpfs).join("trace");
    let _ = fs::remove_dir_all(&dir);
    let group = GROUP.to_string();
    let place = dir.display().to_string();
    let args = [
        "--group",
        &group,
        "--install-rule",
        "--trace",
        "--family",
        "both",
        "-w",
        &place,
        "-C",
        "8MiB",
        "-W",
        "0",
        "--name",
        "side",
    ]
    .map(str::to_owned);
    let name = play.name("side-path");
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let begun = Instant::now();
    while !proc.said().contains("lwnflog: capturing ") {
        if begun.elapsed() > Duration::from_secs(30) || proc.ended().is_some() {
            return wrong("hangs: begin", proc.said());
        }
        thread::sleep(Duration::from_millis(2));
    }
    let sent = send(play, step.packets);
    proc.signal(Signal::INT);
    let status = proc.wait("the end of a capture", 60)?;
    if !status.success() || proc.said().contains("panicked") {
        return wrong(
            "a trace ends otherwise than well",
            format!("{status}\n{}", proc.said()),
        );
    }
    let args = ["path", "--json", &place, "net 10.0.0.0/8 or net fd00::/64"].map(str::to_owned);
    let name = play.name("path");
    let mut reader = play.world.lwnflog(&name, &args, &runtime);
    let status = reader.wait("lwnflog path", 60)?;
    let shown = String::from_utf8_lossy(&reader.shown()).into_owned();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for line in shown.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let way: Vec<&str> = value["way"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|at| at["at"].as_str())
            .collect();
        *found.entry(way.join(" > ")).or_default() += 1;
    }
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for (kind, packets) in sent {
        let way = match kind.way() {
            crate::packets::Way::Here => "prerouting > input > accepted",
            crate::packets::Way::Pieces => "prerouting",
            crate::packets::Way::Beyond => "prerouting > forward > postrouting",
        };
        *wanted.entry(way.to_owned()).or_default() += packets;
    }
    if status.code() != Some(0) || found != wanted {
        return wrong(
            "path shows other ways",
            format!(
                "{status}: {found:?}, not {wanted:?}\n{}\n{}",
                reader.said(),
                proc.said()
            ),
        );
    }
    let _ = fs::remove_dir_all(&dir);
    let _: &Path = &runtime;
    play.nothing_left()?;
    Ok(Done)
}
