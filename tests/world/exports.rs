//! What is made of rings: data sets, tables, reports, several rings in one. Their sums are those of the
//! files, by a walk of the world's own.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::model::{Want, Why};
use crate::play::{Outcome, Play, SLOTS};
use crate::walk::{self, State, Walked};
use crate::world::{Checked, Proc, wrong};

use Outcome::{Done, Nothing};

pub const HOWS: [&str; 6] = [
    "parquet",
    "csv-rows",
    "json-rows",
    "report",
    "merge",
    "follow-all",
];

/// What the packets of files sum up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    packets: u64,
    captured: u64,
    original: u64,
    lost: u64,
    /// Times, so that each is some packet's.
    times: u64,
}

impl Sums {
    fn add(&mut self, time: u64, captured: u64, original: u64, lost: u64) {
        self.packets += 1;
        self.captured += captured;
        self.original += original;
        self.lost += lost;
        self.times = self.times.wrapping_add(time);
    }

    fn of(walked: &Walked) -> Sums {
        let mut sums = Sums::default();
        for record in &walked.records {
            sums.add(
                u64::try_from(record.stamp).unwrap_or_default(),
                (record.bytes.1 - record.bytes.0) as u64,
                u64::from(record.length),
                record.lost_before,
            );
        }
        sums
    }

    fn plus(self, other: Sums) -> Sums {
        Sums {
            packets: self.packets + other.packets,
            captured: self.captured + other.captured,
            original: self.original + other.original,
            lost: self.lost + other.lost,
            times: self.times.wrapping_add(other.times),
        }
    }
}

/// A ring whose files are all to be read, and nothing of it is in doubt.
fn is_plain(play: &Play, slot: usize) -> bool {
    let Some(ring) = play.ring(slot) else {
        return false;
    };
    let stopped = play.slots[slot]
        .live
        .as_ref()
        .is_some_and(|live| live.stopped);
    let files = walk::ring_files(&ring.dir, &ring.name);
    let pcap = ring
        .runs
        .last()
        .is_some_and(|run| run.options.format == "pcap");
    !stopped
        && !play.traffic.is_on()
        && !files.is_empty()
        && !ring.is_taken_from()
        && ring.spoiled.is_empty()
        && !ring.runs.iter().any(|run| run.killed)
        && !(pcap && play.slots[slot].live.is_some())
}

/// The files of a ring, by their names, and their sums.
fn files(play: &Play, slot: usize, live: bool) -> Checked<(Vec<u64>, Sums)> {
    let ring = play.ring(slot).expect("looked at by the caller");
    let (mut names, mut sums) = (Vec::new(), Sums::default());
    for (number, (path, state)) in walk::ring_files(&ring.dir, &ring.name) {
        if state == State::Live && !live {
            continue;
        }
        match walk::file(&path) {
            Ok(walked) => sums = sums.plus(Sums::of(&walked)),
            // It was renamed or compressed meanwhile: the caller looks again.
            Err(_) if !path.exists() || state == State::Live => return Ok((Vec::new(), sums)),
            Err(why) => return wrong("a file that cannot be read", why),
        }
        names.push(number);
    }
    Ok((names, sums))
}

pub fn export(play: &mut Play, slot: usize, how: &str) -> Checked<Outcome> {
    match how {
        "merge" => return merge(play),
        "follow-all" => return follow_all(play),
        _ => {}
    }
    if !is_plain(play, slot) {
        return Ok(Nothing);
    }
    play.settle(slot)?;
    play.run(slot).why.insert(Why::ReaderOpen);
    let live = how != "parquet";
    let before = files(play, slot, live)?;
    let dir = play
        .ring(slot)
        .expect("looked at above")
        .dir
        .display()
        .to_string();
    let name = play.name(&format!("export-{how}"));
    let runtime = play.world.dir.join("run");
    let set = runtime.join(&name);
    let set_text = set.display().to_string();
    let args: Vec<&str> = match how {
        "parquet" => vec!["export", "--parquet", &set_text, "--host", "here", &dir],
        "csv-rows" => vec!["export", "--csv", "-", &dir],
        "json-rows" => vec!["export", "--json", "-", &dir],
        "report" => vec!["report", "--text", "--utc", &dir],
        _ => return Ok(Nothing),
    };
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let status = proc.wait(&format!("lwnflog {how}"), 60)?;
    let said = proc.said();
    let after = files(play, slot, live)?;
    if before != after || before.0.is_empty() {
        let _ = fs::remove_dir_all(&set);
        return Ok(Done);
    }
    let shown = String::from_utf8_lossy(&proc.shown()).into_owned();
    let found = match how {
        "parquet" => rows_of_set(&set).map(Some),
        "csv-rows" => csv_rows(&shown).map(Some),
        "json-rows" => json_rows(&shown).map(Some),
        _ => report(&shown, &after.1).map(|()| None),
    };
    let found = found.or_else(|why| {
        wrong(
            &format!("{how} cannot be read"),
            format!("{why}\n{status}\n{said}"),
        )
    })?;
    let _ = fs::remove_dir_all(&set);
    if !status.success() || found.is_some_and(|found| found != after.1) {
        return wrong(
            &format!("{how} has other packets"),
            format!("{status}: {found:?}, not {:?}\n{said}", after.1),
        );
    }
    Ok(Done)
}

/// Rows by the names of their columns.
fn row(column: impl Fn(&str) -> Option<u64>) -> Result<(u64, u64, u64, u64), String> {
    let take = |name: &str| column(name).ok_or(format!("no {name}"));
    Ok((
        take("time_ns")?,
        take("captured_len")?,
        take("original_len")?,
        column("lost_before").unwrap_or_default(),
    ))
}

fn csv_rows(shown: &str) -> Result<Sums, String> {
    let mut lines = shown.lines();
    let names: Vec<&str> = lines.next().ok_or("no names")?.split(',').collect();
    let mut sums = Sums::default();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let column = |name: &str| {
            let at = names.iter().position(|other| *other == name)?;
            cells.get(at)?.parse().ok()
        };
        let (time, captured, original, lost) =
            row(column).map_err(|why| format!("{why}: {line}"))?;
        sums.add(time, captured, original, lost);
    }
    Ok(sums)
}

fn json_rows(shown: &str) -> Result<Sums, String> {
    let mut sums = Sums::default();
    for line in shown.lines() {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let (time, captured, original, lost) =
            row(|name| value[name].as_u64()).map_err(|why| format!("{why}: {line}"))?;
        sums.add(time, captured, original, lost);
    }
    Ok(sums)
}

#[cfg(feature = "parquet")]
fn rows_of_set(set: &Path) -> Result<Sums, String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let mut sums = Sums::default();
    let mut open = vec![set.join("packets")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path()),
            );
            continue;
        }
        if path.extension().is_none_or(|end| end != "parquet") {
            continue;
        }
        let file = fs::File::open(&path).map_err(|error| error.to_string())?;
        let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
        for row_of in reader
            .get_row_iter(None)
            .map_err(|error| error.to_string())?
        {
            let columns = row_of.map_err(|error| error.to_string())?.into_columns();
            let column = |name: &str| {
                let (_, value) = columns.iter().find(|(other, _)| other == name)?;
                match value {
                    Field::Int(number) => u64::try_from(*number).ok(),
                    Field::Long(number) => u64::try_from(*number).ok(),
                    _ => None,
                }
            };
            let (time, captured, original, lost) = row(column)?;
            sums.add(time, captured, original, lost);
        }
    }
    Ok(sums)
}

#[cfg(not(feature = "parquet"))]
fn rows_of_set(_: &Path) -> Result<Sums, String> {
    Err("the world is played with all features".to_owned())
}

/// The first figures of a report.
fn report(shown: &str, sums: &Sums) -> Result<(), String> {
    let figure = |name: &str| -> Option<u64> {
        let line = shown
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix("  "));
        line?.trim().replace(',', "").parse().ok()
    };
    let wanted = [
        ("packets", sums.packets),
        ("bytes", sums.original),
        ("lost, as the files say", sums.lost),
    ];
    for (name, value) in wanted {
        // A report on nothing may leave out what there is none of.
        let found = figure(name);
        if found != Some(value) && !(sums.packets == 0 && found.is_none()) {
            return Err(format!("{name}: {found:?}, not {value}\n{shown}"));
        }
    }
    Ok(())
}

/// Rings that can be read side by side now, settled.
fn plain_rings(play: &mut Play) -> Checked<Vec<usize>> {
    let slots: Vec<usize> = (0..SLOTS).filter(|slot| is_plain(play, *slot)).collect();
    for slot in &slots {
        play.settle(*slot)?;
        play.run(*slot).why.insert(Why::ReaderOpen);
    }
    Ok(slots)
}

/// Several rings in one file: each packet of each, in the order of time.
fn merge(play: &mut Play) -> Checked<Outcome> {
    let slots = plain_rings(play)?;
    let links: Vec<String> = slots
        .iter()
        .filter_map(|slot| {
            play.ring(*slot)?
                .runs
                .last()
                .map(|run| run.options.link.clone())
        })
        .collect();
    // A file has one link type for libpcap's sake.
    let mixed = links.iter().any(|link| *link != links[0]);
    if slots.len() < 2 {
        return Ok(Nothing);
    }
    let sums = |play: &Play| -> Checked<(Vec<Vec<u64>>, Sums)> {
        let (mut names, mut all) = (Vec::new(), Sums::default());
        for slot in &slots {
            let (of, sums) = files(play, *slot, true)?;
            names.push(of);
            all = all.plus(sums);
        }
        Ok((names, all))
    };
    let before = sums(play)?;
    let name = play.name("merge");
    let runtime = play.world.dir.join("run");
    let out = runtime.join(format!("{name}.pcapng"));
    let mut args = if mixed {
        vec!["read".to_owned(), "--count".to_owned()]
    } else {
        vec![
            "read".to_owned(),
            "-w".to_owned(),
            out.display().to_string(),
        ]
    };
    for slot in &slots {
        args.push(
            play.ring(*slot)
                .expect("it is there")
                .dir
                .display()
                .to_string(),
        );
    }
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let status = proc.wait("rings side by side", 60)?;
    let after = sums(play)?;
    if before != after || before.0.iter().any(Vec::is_empty) {
        let _ = fs::remove_file(&out);
        return Ok(Done);
    }
    let told = |what: String| format!("{args:?}: {status}: {what}\n{}", proc.said());
    if !status.success() {
        return wrong("rings side by side are not read", told(String::new()));
    }
    if mixed {
        let shown = String::from_utf8_lossy(&proc.shown())
            .trim()
            .replace(',', "");
        if shown != after.1.packets.to_string() {
            return wrong(
                "rings side by side have other packets",
                told(format!("{shown} of {:?}", after.1)),
            );
        }
        return Ok(Done);
    }
    if after.1.packets == 0 {
        return Ok(Done);
    }
    let walked = walk::file(&out).or_else(|why| wrong("what was written cannot be read", why))?;
    let _ = fs::remove_file(&out);
    let found = Sums::of(&walked);
    if found != after.1 {
        return wrong(
            "rings side by side have other packets",
            told(format!("{found:?}, not {:?}", after.1)),
        );
    }
    // Within a ring stamps may step back by microseconds.
    let back = walked
        .records
        .windows(2)
        .find(|two| two[1].stamp + 1_000_000 < two[0].stamp);
    if let Some(two) = back {
        return wrong(
            "rings side by side are out of order",
            told(format!("{two:?}")),
        );
    }
    Ok(Done)
}

/// One follower of all rings that are written: what comes from now on, of each.
fn follow_all(play: &mut Play) -> Checked<Outcome> {
    let slots: Vec<usize> = plain_rings(play)?
        .into_iter()
        .filter(|slot| play.slots[*slot].live.is_some())
        .filter(|slot| {
            let run = play.ring(*slot).and_then(|ring| ring.runs.last());
            // What its limit takes away meanwhile is there or not.
            run.is_some_and(|run| {
                let limited = run.files != 0 || run.max_bytes != 0 || run.lost_files;
                run.options.format != "pcap" && !run.has(Why::Full) && !limited
            })
        })
        .collect();
    if slots.is_empty() {
        return Ok(Nothing);
    }
    let mut args = vec!["read".to_owned(), "-f".to_owned(), "--json".to_owned()];
    for slot in &slots {
        args.push(
            play.ring(*slot)
                .expect("it is there")
                .dir
                .display()
                .to_string(),
        );
    }
    let name = play.name("follow-all");
    let runtime = play.world.dir.join("run");
    let mut proc = play.world.lwnflog(&name, &args, &runtime);
    let there: u64 = {
        let mut all = 0;
        for slot in &slots {
            all += files(play, *slot, true)?.1.packets;
        }
        all
    };
    let lines = |proc: &Proc| proc.shown().iter().filter(|byte| **byte == b'\n').count() as u64;
    wait_for(&proc, there, &lines)?;
    let first = play.traffic.next_number();
    let what = crate::traffic::What {
        kind: crate::traffic::Kind::Udp,
        port: 9000,
        from: 60,
        to: 1514,
    };
    play.traffic.send(what, 700, None);
    let mut more = 0;
    for slot in &slots {
        play.settle(*slot)?;
        let run = play.run(*slot);
        let (of, lossy) = (run.first_number, run.dropped);
        let _ = of;
        for chunk in play.traffic.chunks_from(first) {
            match play.run(*slot).wants(&chunk) {
                Want::Must => more += chunk.count,
                Want::May => return end_follower(proc),
                _ => {}
            }
        }
        if lossy != play.run(*slot).dropped {
            return end_follower(proc);
        }
    }
    wait_for(&proc, there + more, &lines)?;
    proc.signal(Signal::INT);
    let status = proc.wait("the end of a follower", 20)?;
    let shown = lines(&proc);
    // Ctrl-C ends lines where they are.
    use std::os::unix::process::ExitStatusExt;
    if !status.success() && status.signal() != Some(2) || shown != there + more {
        return wrong(
            "a follower of several rings shows other packets",
            format!("{status}: {shown} of {there} and {more}\n{}", proc.said()),
        );
    }
    Ok(Done)
}

fn end_follower(mut proc: Proc) -> Checked<Outcome> {
    proc.signal(Signal::INT);
    proc.wait("the end of a follower", 20)?;
    Ok(Done)
}

fn wait_for(proc: &Proc, packets: u64, lines: &dyn Fn(&Proc) -> u64) -> Checked {
    let begun = Instant::now();
    while lines(proc) < packets {
        if begun.elapsed() > Duration::from_secs(30) {
            return wrong(
                "a follower of several rings shows too little",
                format!("{} of {packets}\n{}", lines(proc), proc.said()),
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
