//! Readers, exporters, followers, doctor: what they show is what was captured.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::check::{self, Reader};
use crate::model::Why;
use crate::play::{Outcome, Play};
use crate::walk;
use crate::world::{Checked, Proc, wrong};

use Outcome::{Done, Nothing};

pub const WAYS: [&str; 9] = [
    "count",
    "json",
    "text",
    "write",
    "ls",
    "report",
    "csv",
    "export-json",
    "port",
];

fn arguments(play: &Play, slot: usize, how: &str, out: &str) -> Option<Vec<String>> {
    let dir = play.ring(slot)?.dir.display().to_string();
    let words: Vec<&str> = match how {
        "count" => vec!["read", "--count", &dir],
        "json" => vec!["read", "--json", &dir],
        "text" => vec!["read", &dir],
        "write" => vec!["read", "-w", out, &dir],
        "ls" => vec!["ls", "--json", &dir],
        "report" => vec!["report", "--text", &dir],
        "csv" => vec!["export", "--csv", "-", &dir],
        "export-json" => vec!["export", "--json", "-", &dir],
        "port" => vec!["read", "--count", &dir, "udp", "port", "9001"],
        _ => return None,
    };
    Some(words.into_iter().map(str::to_owned).collect())
}

pub fn start(play: &mut Play, slot: usize, how: &str) -> Option<(Proc, std::path::PathBuf)> {
    let name = play.name(&format!("read-{how}"));
    let out = play.world.dir.join("run").join(format!("{name}.pcapng"));
    let args = arguments(play, slot, how, &out.display().to_string())?;
    let runtime = play.world.dir.join("run");
    play.run(slot).why.insert(Why::ReaderOpen);
    Some((play.world.lwnflog(&name, &args, &runtime), out))
}

pub fn read(play: &mut Play, slot: usize, how: &str) -> Checked<Outcome> {
    let Some(ring) = play.ring(slot) else {
        return Ok(Nothing);
    };
    let Some(run) = ring.runs.last() else {
        return Ok(Nothing);
    };
    let pcap = run.options.format == "pcap";
    let stopped = play.slots[slot]
        .live
        .as_ref()
        .is_some_and(|live| live.stopped);
    let files = walk::ring_files(&ring.dir, &ring.name);
    if files.is_empty()
        || pcap
            && (play.slots[slot].live.is_some()
                || files.values().any(|(_, state)| *state == walk::State::Live))
    {
        return Ok(Nothing);
    }
    let exact = !play.traffic.is_on() && !stopped && !play.is_blind(slot);
    if exact {
        play.settle(slot)?;
    }
    let count = |play: &Play| -> Checked<u64> {
        let chunks = play.chunks(slot);
        let live = play.slots[slot].live.is_some();
        let ring = play.ring(slot).expect("looked at above");
        let mut reader = Reader::new(ring, &chunks);
        let mut packets = 0;
        let port = how == "port";
        for (path, state) in walk::ring_files(&ring.dir, &ring.name).values() {
            if ring.is_spoiled(path) {
                continue;
            }
            match walk::file(path) {
                Ok(walked) => {
                    reader.take(&walked, &path.display().to_string())?;
                    packets += if port {
                        of_port(&walked, 9001)
                    } else {
                        walked.records.len() as u64
                    };
                }
                Err(_) if live && (*state == walk::State::Live || !path.exists()) => {}
                Err(why) => return wrong("a file that cannot be read", why),
            }
        }
        Ok(packets)
    };
    let names = |play: &Play| -> Vec<u64> {
        let ring = play.ring(slot).expect("looked at above");
        walk::ring_files(&ring.dir, &ring.name)
            .into_keys()
            .collect()
    };
    let (before, files) = if exact {
        (count(play)?, names(play))
    } else {
        (0, Vec::new())
    };
    let Some((mut proc, out)) = start(play, slot, how) else {
        return Ok(Nothing);
    };
    let status = proc.wait(&format!("lwnflog read, {how}"), 60)?;
    let said = proc.said();
    let told = |what: &str| format!("{how}: {what}: {status}\n{said}");
    if said.contains("panicked") || status.code().is_none() {
        return wrong("a reader panics", told(""));
    }
    if !exact {
        let _ = fs::remove_file(&out);
        return Ok(Done);
    }
    // What is no plain file there is told, and an error.
    let gone = play
        .ring(slot)
        .is_some_and(|ring| ring.is_taken_from() || ring.is_foreign());
    let spoiled = play.ring(slot).is_some_and(|ring| {
        walk::ring_files(&ring.dir, &ring.name)
            .values()
            .any(|(path, _)| ring.is_spoiled(path))
    });
    if spoiled && status.code() == Some(0) && !matches!(how, "csv") {
        return wrong(&format!("damage is not told: {how}"), told(""));
    }
    if status.code() != Some(0) && !gone {
        return wrong(&format!("a reader fails: {how}"), told(""));
    }
    let odd: Vec<&str> = said.lines().filter(|line| !harmless(line)).collect();
    if !odd.is_empty() && !gone {
        return wrong(
            &format!("a reader's word: {}", crate::play::shape(odd[0])),
            told(""),
        );
    }
    let shown = String::from_utf8_lossy(&proc.shown()).into_owned();
    let packets = match how {
        "count" | "port" => shown.trim().replace(',', "").parse().ok(),
        "json" | "text" | "export-json" => Some(shown.lines().count() as u64),
        "csv" => Some((shown.lines().count() as u64).saturating_sub(1)),
        "ls" => Some(
            shown
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter_map(|value| value["packets"].as_u64())
                .sum(),
        ),
        "write" if before > 0 => {
            let chunks = play.chunks(slot);
            let ring = play.ring(slot).expect("looked at above");
            let mut reader = Reader::new(ring, &chunks);
            match fs::read(&out)
                .map_err(|error| error.to_string())
                .and_then(|bytes| walk::pcapng(bytes, true))
            {
                Ok(walked) => {
                    reader.take(&walked, "read -w")?;
                    Some(walked.records.len() as u64)
                }
                Err(why) => return wrong("what was written cannot be read", told(&why)),
            }
        }
        _ => None,
    };
    let _ = fs::remove_file(&out);
    let after = count(play)?;
    if files == names(play)
        && before == after
        && let Some(packets) = packets
        && packets != before
        && !gone
    {
        return wrong(
            &format!("a reader shows other packets: {how}"),
            told(&format!(
                "{packets} of {before}\n{}",
                &shown[..shown.len().min(2000)]
            )),
        );
    }
    Ok(Done)
}

fn of_port(walked: &walk::Walked, port: u16) -> u64 {
    let has = |record: &&walk::Record| {
        let packet = walked.packet(record);
        let at = match packet.first().map(|byte| byte >> 4) {
            Some(4)
                if packet.get(9) == Some(&17)
                    && packet.get(6..8).is_some_and(|word| {
                        u16::from_be_bytes([word[0], word[1]]) & 0x1fff == 0
                    }) =>
            {
                usize::from(packet[0] & 15) * 4
            }
            Some(6) if packet.get(6) == Some(&17) => 40,
            _ => return false,
        };
        [at, at + 2]
            .iter()
            .any(|at| packet.get(*at..at + 2) == Some(&port.to_be_bytes()))
    };
    walked.records.iter().filter(has).count() as u64
}

/// What a reader may say though all is well.
fn harmless(line: &str) -> bool {
    line.contains("statistics of losses")
        || line.contains("of no ring")
        || line.contains("without packets")
        || line.is_empty()
}

pub fn kill(play: &mut Play, slot: usize, how: &str, ms: u64) -> Checked<Outcome> {
    if play.ring(slot).is_none_or(|ring| ring.runs.is_empty()) {
        return Ok(Nothing);
    }
    let Some((mut proc, out)) = start(play, slot, how) else {
        return Ok(Nothing);
    };
    thread::sleep(Duration::from_millis(ms));
    proc.signal(Signal::KILL);
    proc.wait("a reader that was killed", 20)?;
    let _ = fs::remove_file(&out);
    Ok(Done)
}

pub fn follow_end(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let on = play.traffic.is_on();
    if play.slots[slot].follower.is_none() || on || play.is_blind(slot) {
        return Ok(Nothing);
    }
    play.settle(slot)?;
    let mut follower = play.slots[slot].follower.take().expect("looked at above");
    if follower.stopped {
        follower.proc.signal(Signal::CONT);
    }
    if play.ring(slot).is_some_and(|ring| !ring.spoiled.is_empty()) {
        // A file that somebody cut is shown from its start, and that is said.
        follower.proc.signal(Signal::INT);
        follower.proc.wait("the end of a follower", 20)?;
        return Ok(Done);
    }
    let chunks = play.chunks(slot);
    let ring = play.ring(slot).expect("it has a follower");
    // The last packet that is in the ring has to be shown.
    let mut last = None;
    let mut in_ring = Reader::new(ring, &chunks);
    for (path, _) in walk::ring_files(&ring.dir, &ring.name).values() {
        if let Ok(walked) = walk::file(path)
            && let Some((_, end)) = in_ring.take(&walked, &path.display().to_string())?
        {
            last = Some(end);
        }
    }
    let begun = Instant::now();
    let shown = |follower: &Proc| -> Checked<walk::Walked> {
        walk::pcapng(follower.shown(), false)
            .or_else(|why| wrong("a follower's output cannot be read", why))
    };
    loop {
        let walked = shown(&follower.proc)?;
        let mut reader = Reader::new(ring, &chunks);
        let ends = reader.take(&walked, "a follower")?;
        if last.is_none() || ends.is_some_and(|ends| Some(ends.1) >= last) {
            break;
        }
        if begun.elapsed() > Duration::from_secs(20) {
            if ring.is_taken_from() || !follower.proc.said().is_empty() {
                break;
            }
            return wrong(
                "a follower does not show the last packet",
                format!("{last:?}, shown to {ends:?}\n{}", follower.proc.said()),
            );
        }
        thread::sleep(Duration::from_millis(30));
    }
    follower.proc.signal(Signal::INT);
    let status = follower.proc.wait("the end of a follower", 20)?;
    let said = follower.proc.said();
    if status.code() != Some(0) && said.is_empty() {
        return wrong(
            "a follower ends otherwise than well",
            format!("{status}\n{said}"),
        );
    }
    let walked = shown(&follower.proc)?;
    let mut reader = Reader::new(ring, &chunks);
    reader.take(&walked, "a follower")?;
    let below = last.map_or(0, |last| last + 1);
    // What a capture has lost is in no file. What is in one has to be shown, whatever else has happened.
    let lossy = ring.runs.iter().any(|run| run.is_lossy());
    let missing = if lossy {
        in_ring.beyond(&reader, follower.from)
    } else {
        reader.missing(follower.from, below)
    };
    if !missing.is_empty() && said.is_empty() && !ring.is_taken_from() {
        return wrong(
            "a follower leaves out packets, and does not say so",
            check::runs(&missing),
        );
    }
    Ok(Done)
}

pub fn tshark(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let Some((_, path)) = crate::act::finished(play, slot, play.serial) else {
        return Ok(Nothing);
    };
    let Ok(walked) = walk::file(&path) else {
        return Ok(Nothing);
    };
    let output = Command::new("tshark")
        .args(["-n", "-T", "fields", "-e", "frame.number", "-r"])
        .arg(&path)
        .output()
        .expect("the world needs tshark");
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    let said = String::from_utf8_lossy(&output.stderr);
    let lz4 = path.extension().is_some_and(|extension| extension == "lz4");
    let odd = said
        .lines()
        .any(|line| !line.starts_with("Running as user"));
    if !lz4 && path.exists() && (odd || lines != walked.records.len()) {
        return wrong(
            "tshark finds other packets",
            format!(
                "{}: {lines} of {}: {said}",
                path.display(),
                walked.records.len()
            ),
        );
    }
    Ok(Done)
}

pub fn doctor(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let Some(run) = play.ring(slot).and_then(|ring| ring.runs.last()) else {
        return Ok(Nothing);
    };
    let group = match run.options.source {
        crate::steps::Source::Group => 5 + slot,
        crate::steps::Source::Installed => 15 + slot,
        _ => 0,
    };
    let mut args = vec!["doctor".to_owned(), "--json".to_owned()];
    if group == 0 {
        args.push("--hook".to_owned())
    } else {
        args.extend(["--group".to_owned(), group.to_string()])
    }
    let name = play.name("doctor");
    let runtime = play.world.dir.join("run");
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let status = proc.wait("doctor", 30)?;
    if !matches!(status.code(), Some(0 | 10 | 20)) || proc.said().contains("panicked") {
        return wrong("doctor", format!("{status}: {}", proc.said()));
    }
    Ok(Done)
}

/// `repair` changes nothing of a finished file, and refuses one that is written.
pub fn repair(play: &mut Play, slot: usize, nth: u64, dry_run: bool) -> Checked<Outcome> {
    let Some(ring) = play.ring(slot) else {
        return Ok(Nothing);
    };
    let files: Vec<_> = walk::ring_files(&ring.dir, &ring.name)
        .into_iter()
        .collect();
    let Some((number, (path, state))) = files
        .get(usize::try_from(nth).unwrap_or_default() % files.len().max(1))
        .cloned()
    else {
        return Ok(Nothing);
    };
    // Its directory had another name for a while: the capture may have given it up.
    let given_up = ring.taken.contains(&number);
    let packed = path
        .extension()
        .is_some_and(|end| end == "zst" || end == "lz4");
    let live = play.slots[slot].live.is_some();
    if ring.is_spoiled(&path)
        || play.is_blind(slot)
        || ring.locked.is_some()
        || ring.left_as_it_is()
        || packed
        || state == walk::State::Live && !live
    {
        return Ok(Nothing);
    }
    let before = fs::read(&path).unwrap_or_default();
    let mut args = vec!["repair".to_owned()];
    if dry_run {
        args.push("--dry-run".to_owned());
    }
    args.push(path.display().to_string());
    play.run(slot).why.insert(Why::ReaderOpen);
    let name = play.name("repair");
    let runtime = play.world.dir.join("run");
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let status = proc.wait("repair", 30)?;
    let said = proc.said();
    if said.contains("panicked") {
        return wrong("repair panics", said);
    }
    if state == walk::State::Live {
        if status.code() == Some(0) && path.exists() && !dry_run && !given_up {
            return wrong(
                "repair of a file that is written is not refused",
                format!("{status}\n{said}"),
            );
        }
        return Ok(Done);
    }
    // Chores, a follower or a reader may have it open: then it is refused.
    let open = said.contains("has it open");
    if path.exists()
        && (fs::read(&path).unwrap_or_default() != before || status.code() != Some(0) && !open)
    {
        return wrong(
            "repair of a finished file",
            format!("{}: {status}\n{said}", path.display()),
        );
    }
    Ok(Done)
}

/// A reader that has too little of something does all of it, or says that it does not.
pub fn poor(play: &mut Play, slot: usize, how: &str, limit: &str) -> Checked<Outcome> {
    let Some(ring) = play.ring(slot) else {
        return Ok(Nothing);
    };
    let live = play.slots[slot].live.is_some();
    if ring.runs.is_empty()
        || ring.is_taken_from()
        || walk::ring_files(&ring.dir, &ring.name).is_empty()
        || play.traffic.is_on()
        || play.is_blind(slot)
    {
        return Ok(Nothing);
    }
    if live
        && (play.run(slot).options.format == "pcap"
            || play.slots[slot]
                .live
                .as_ref()
                .is_some_and(|live| live.stopped))
    {
        return Ok(Nothing);
    }
    play.settle(slot)?;
    let name = play.name(&format!("poor-{how}"));
    let out = play.world.dir.join("run").join(format!("{name}.pcapng"));
    let Some(args) = arguments(play, slot, how, &out.display().to_string()) else {
        return Ok(Nothing);
    };
    play.run(slot).why.insert(Why::ReaderOpen);
    let count = |play: &Play| -> Option<u64> {
        let ring = play.ring(slot)?;
        let files = walk::ring_files(&ring.dir, &ring.name);
        files
            .values()
            .map(|(path, _)| {
                walk::file(path)
                    .ok()
                    .map(|walked| walked.records.len() as u64)
            })
            .sum()
    };
    let before = count(play);
    let mut command = play.world.lab.receiver().command("sh").unwrap();
    command
        .args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"])
        .arg(&play.world.program)
        .args(&args);
    let mut proc = play.world.spawn(&name, &mut command);
    let status = proc.wait(&format!("a reader with little, {how}"), 60)?;
    let said = proc.said();
    let _ = fs::remove_file(&out);
    if said.contains("panicked") || status.code().is_none() && !limit.starts_with("-v") {
        return wrong(
            "a reader panics",
            format!("{how}, {limit}: {status}\n{said}"),
        );
    }
    let after = count(play);
    if status.code() == Some(0) && before == after {
        let shown = String::from_utf8_lossy(&proc.shown()).into_owned();
        let packets = match how {
            "count" => shown.trim().replace(',', "").parse().ok(),
            "json" | "text" | "export-json" => Some(shown.lines().count() as u64),
            _ => None,
        };
        if before.is_some() && packets.is_some() && packets != before {
            return wrong(
                "a reader with little leaves out packets, and does not say so",
                format!("{how}, {limit}: {packets:?} of {before:?}\n{said}"),
            );
        }
    } else if status.code() != Some(0) && said.trim().is_empty() && status.code().is_some() {
        return wrong(
            "a reader with little fails without a word",
            format!("{how}, {limit}: {status}"),
        );
    }
    Ok(Done)
}
