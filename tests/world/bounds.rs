//! What a capture may take while it runs, and leave when it has gone: descriptors, threads, memory, programs
//! in the kernel, files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lwnflog::sys::hook::program_exists;

use crate::act::children;
use crate::model::Why;
use crate::play::Play;
use crate::steps::Source;
use crate::world::{Checked, wrong};

/// Files, sockets and maps of one group, with 16 clients, 8 scrapers, and what is being rotated.
const DESCRIPTORS: usize = 72;
/// Buffers beside those that the kernel has, and what compressing takes.
const ANONYMOUS_KIB: u64 = 48 * 1024;
const CHORES_KIB: u64 = 192 * 1024;
/// ARCHITECTURE.md, "Threads": names, as far as the kernel keeps them, and how many of each.
const THREADS: &[(&str, usize)] = &[
    // main, and the one that hands it signals.
    ("lwnflog", 2),
    ("output", 2),
    ("links", 1),
    ("control", 1),
    ("control-client", 16),
    ("metrics", 1),
    ("metrics-client", 8),
    ("trigger-", 1),
    ("stream", 1),
    ("chores", 1),
    ("capture-", 1),
    ("swapper-", 1),
];

/// Programs in the kernel, by the process whose they are.
#[derive(Default)]
pub struct Bounds {
    programs: BTreeMap<u32, BTreeSet<u32>>,
}

fn kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// The programs that a process has descriptors of.
fn programs(pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let ids = text
            .lines()
            .filter_map(|line| line.strip_prefix("prog_id:"));
        found.extend(ids.filter_map(|id| id.trim().parse::<u32>().ok()));
    }
    found
}

/// Threads, by the documents.
fn threads(pid: u32, name: &str) -> Checked {
    let mut threads: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let comm = comm.trim();
        if comm.is_empty() {
            continue; // it has just ended
        }
        let known = THREADS
            .iter()
            .find(|(known, _)| match known.strip_suffix('-') {
                Some(_) => comm.starts_with(known),
                None => comm == *known,
            });
        let Some((known, most)) = known else {
            return wrong("a thread that no document knows", format!("{name}: {comm}"));
        };
        let count = threads.entry(known).or_default();
        *count += 1;
        if *count > *most {
            return wrong(
                "more threads than documented",
                format!("{name}: {count} of {known}"),
            );
        }
    }
    Ok(())
}

/// What a capture that runs has of everything.
pub fn look(play: &mut Play, slot: usize) -> Checked {
    let Some(live) = &play.slots[slot].live else {
        return Ok(());
    };
    let (pid, name) = (live.proc.pid(), live.proc.name.clone());
    let entries = |what: &str| {
        fs::read_dir(format!("/proc/{pid}/{what}"))
            .into_iter()
            .flatten()
            .flatten()
    };
    let open: Vec<String> = entries("fd")
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|to| to.display().to_string())
        .collect();
    if open.len() > DESCRIPTORS {
        return wrong("many descriptors are open", format!("{name}: {open:#?}"));
    }
    // A thread has the name of the one that made it until it has given itself one.
    let begun = Instant::now();
    while let Err(failure) = threads(pid, &name) {
        if begun.elapsed() > Duration::from_secs(2) {
            return Err(failure);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let anonymous = kib(pid, "RssAnon:");
    if anonymous > ANONYMOUS_KIB {
        return wrong("much memory is taken", format!("{name}: {anonymous} KiB"));
    }
    for child in children(pid) {
        // Until it is what it is to be, it has all that its parent has.
        let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        if !line.split('\0').any(|word| word == "chores") {
            continue;
        }
        let taken = kib(child, "RssAnon:");
        if taken > CHORES_KIB {
            return wrong(
                "much memory is taken by chores",
                format!("{name}: {taken} KiB"),
            );
        }
        if !programs(child).is_empty() {
            return wrong("chores have a program's descriptor", name);
        }
    }
    if play.run(slot).options.source == Source::Hook {
        let of = programs(pid);
        play.bounds.programs.entry(pid).or_default().extend(of);
    }
    disk(play, slot)
}

/// With a limit of files a ring takes so many, one that is prepared, and for a moment one that goes.
fn disk(play: &mut Play, slot: usize) -> Checked {
    let ring = play.ring(slot).expect("it runs");
    let run = ring.runs.last().expect("it runs");
    if ring.runs.len() != 1
        || run.files == 0
        || run.has(Why::Told)
        || !run.options.compress.is_empty()
    {
        return Ok(());
    }
    let most = (run.files + 2) * run.file_bytes;
    let (mut sum, mut indexes) = (0, 0);
    for entry in fs::read_dir(&ring.dir).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if entry.file_name().to_string_lossy().contains(".idx") {
            indexes += data.len();
        } else if data.is_file() {
            sum += data.len();
        }
    }
    // OPERATIONS.md: a hundredth of the disk, and what each one takes at the least.
    if sum > most || indexes > most / 20 + run.files * 16 * 1024 {
        return wrong(
            "more bytes than the files may take",
            format!(
                "{sum} and {indexes} of {most}\n{}",
                crate::play::listing(&ring.dir)
            ),
        );
    }
    Ok(())
}

/// A capture has gone: no program of its is left.
pub fn gone(play: &mut Play, pid: u32, runtime: &Path, killed: bool) -> Checked {
    let socket = crate::scrape::socket(runtime);
    if socket.exists() {
        if !killed {
            return wrong("a socket is left", socket.display().to_string());
        }
        let _ = fs::remove_file(socket);
    }
    let begun = Instant::now();
    for id in play.bounds.programs.remove(&pid).unwrap_or_default() {
        while program_exists(id).unwrap_or(false) {
            if begun.elapsed() > Duration::from_secs(10) {
                return wrong("a program is left in the kernel", id.to_string());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Where everything was started there is what the world put there, and no more.
pub fn strays(dir: &Path) -> Checked {
    let known = [
        "mnt",
        "run",
        "said",
        "below",
        "power",
        "rules.nft",
        "steps",
        "log",
        "script",
        "table.json",
        "failure",
    ];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let image = Path::new(&name).extension().is_some_and(|end| end == "img");
        if !image && !known.contains(&name.as_str()) {
            return wrong("something is left where it was started", name);
        }
    }
    Ok(())
}
