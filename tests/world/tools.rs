//! lwnflog as others start it: Wireshark, one command's packets, the ways that packets took.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::aside::{GROUP, ring_name, send};
use crate::check::{self, Reader};
use crate::model::{Ring, Run, Span, Want};
use crate::play::{Outcome, Play};
use crate::side::Side;
use crate::steps::Source;
use crate::traffic::now;
use crate::walk;
use crate::world::{Checked, tool, wrong};

use Outcome::{Done, Nothing};

/// As Wireshark starts it: a fifo to write to, a signal at the end.
pub fn extcap(play: &mut Play, step: &Side) -> Checked<Outcome> {
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
    let options = crate::aside::options(step);
    let mut ring = Ring::new(runtime.clone(), ring_name(&options));
    ring.runs
        .push(Run::new(&options, now(), play.traffic.next_number()));
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let copy = runtime.join("copy");
    let name = play.name("extcap-reader");
    let mut reads = Command::new("cp");
    let mut copies = play.world.spawn(&name, reads.arg(&fifo).arg(&copy));
    let begun = Instant::now();
    while fs::metadata(&copy).map_or(0, |data| data.len()) == 0 {
        if begun.elapsed() > Duration::from_secs(30) || proc.ended().is_some() {
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
    copies.wait("the reader of extcap", 20)?;
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
pub fn one_command(play: &mut Play, step: &Side) -> Checked<Outcome> {
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
pub fn path(play: &mut Play, step: &Side) -> Checked<Outcome> {
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
    play.nothing_left()?;
    Ok(Done)
}

/// One capture of several groups: each packet is in the ring of one of them, and the sums are those of all.
pub fn groups(play: &mut Play, step: &Side) -> Checked<Outcome> {
    let dir = play.world.place(crate::steps::Place::Tmpfs).join("groups");
    let _ = fs::remove_dir_all(&dir);
    let spread = if step.snaplen == 0 { "cpu" } else { "flow" };
    let line = format!(
        "{} -w {} -C 2MiB -W 0 --name side --json --spread {spread} -s {} -B 16MiB --family both",
        "--group 40-42 --install-rule",
        dir.display(),
        step.snaplen,
    );
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let name = play.name("side-groups");
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    play.fence();
    let options = crate::aside::options(&Side {
        source: Source::Installed,
        at: String::new(),
        ..step.clone()
    });
    let mut ring = Ring::new(dir.clone(), "g".to_owned());
    ring.runs
        .push(Run::new(&options, now(), play.traffic.next_number()));
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let begun = Instant::now();
    while !proc.said().contains("lwnflog: capturing ") {
        if begun.elapsed() > Duration::from_secs(30) || proc.ended().is_some() {
            return wrong("hangs: begin", format!("{args:?}\n{}", proc.said()));
        }
        thread::sleep(Duration::from_millis(2));
    }
    ring.runs[0].begun.to = now();
    send(play, step.packets);
    ring.runs[0].ended = Some(Span {
        from: now(),
        to: i64::MAX,
    });
    proc.signal(Signal::INT);
    let status = proc.wait("the end of a capture", 60)?;
    if !status.success() || proc.said().contains("panicked") {
        return wrong(
            "several groups end otherwise than well",
            format!("{status}\n{}", proc.said()),
        );
    }
    if let Some(end) = &mut ring.runs[0].ended {
        end.to = now();
    }
    let shown = String::from_utf8_lossy(&proc.shown()).into_owned();
    let report = shown
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .unwrap_or_default();
    let chunks = play.traffic.chunks_from(ring.runs[0].first_number);
    check::account(&ring, &chunks, &report, true, play.traffic.is_on())?;
    let (mut records, mut seen) = (0, std::collections::HashMap::<usize, u64>::new());
    for group in 40..43 {
        // Within a group they are in order.
        let mut reader = Reader::new(&ring, &chunks);
        for (path, _) in walk::ring_files(&dir, &format!("g{group}")).values() {
            let walked =
                walk::file(path).or_else(|why| wrong("a file that cannot be read", why))?;
            reader.take(&walked, &path.display().to_string())?;
            records += walked.records.len() as u64;
        }
        for (chunk, mask) in reader.seen {
            if *seen.entry(chunk).or_default() & mask != 0 {
                return wrong("a packet in two groups", format!("chunk {chunk}"));
            }
            *seen.entry(chunk).or_default() |= mask;
        }
    }
    let (written, lost) = (
        check::figure(&report, "/written"),
        check::sum(&report, "dropped"),
    );
    let missing: u64 = (0..)
        .zip(&chunks)
        .filter(|(_, chunk)| ring.runs[0].wants(chunk) == Want::Must)
        .map(|(at, chunk)| {
            let mask = seen.get(&at).copied().unwrap_or_default();
            chunk.count - u64::from(mask.count_ones())
        })
        .sum();
    if records != written || missing > lost {
        return wrong(
            "several groups have other packets",
            format!("{records} of {written}, {missing} missing, {lost} lost\n{report}"),
        );
    }
    let _ = fs::remove_dir_all(&dir);
    play.nothing_left()?;
    Ok(Done)
}
