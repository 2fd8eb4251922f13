//! A world that plays itself against lwnflog, by a seed: real kernel, real file systems, real traffic,
//! and a model that knows the documents and nothing of the code.
//!
//! ```text
//!   main ---- seed, or a script ---> a process of its own mounts, processes and networks
//!    ^                                  draw: which step?      act: do it, to world and model
//!    |  failure: repeat, shrink         check: is what was written what must be?
//!    '----------------------------------'
//! ```
//!
//! `tests/world/run --seed N --steps M` plays one, `--short` some short ones.
#![allow(missing_docs, unreachable_pub, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod act;
mod aside;
mod bounds;
mod check;
mod company;
mod disk;
mod draw;
mod exports;
mod faults;
mod handed;
mod messages;
mod model;
mod net;
mod orders;
mod packets;
mod pairs;
mod play;
mod power;
mod readers;
mod rng;
mod scrape;
mod short;
mod shrink;
mod side;
mod steps;
mod table;
mod tools;
mod traffic;
mod walk;
mod ways;
mod world;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use play::{Outcome, Play};
use steps::Step;
use table::Table;
use world::{Failure, World};

/// Somebody wants it to end: the world is taken down first.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What one world is to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    seed: u64,
    steps: u64,
    secs: u64,
    replay: Option<PathBuf>,
    shrink_secs: u64,
    repeat: u64,
    table: Option<PathBuf>,
    keep_on: bool,
    inside: Option<PathBuf>,
    program: Option<PathBuf>,
}

/// No step takes so long, but for one that hangs.
const STEP_SECS: u64 = 150;

fn main() -> ExitCode {
    let mut options = Options {
        shrink_secs: 600,
        repeat: 5,
        ..Options::default()
    };
    let (mut played, mut short, mut words) = (false, false, std::env::args().skip(1));
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let mut number = || {
            value()
                .parse()
                .unwrap_or_else(|_| panic!("{word} takes a number"))
        };
        match word.as_str() {
            "--short" => (played, short) = (true, true),
            "--seed" => (options.seed, played) = (number(), true),
            "--steps" => options.steps = number(),
            "--secs" => options.secs = number(),
            "--shrink-secs" => options.shrink_secs = number(),
            "--repeat" => options.repeat = number(),
            "--keep-on" => options.keep_on = true,
            "--replay" => (options.replay, played) = (Some(value().into()), true),
            "--table" => options.table = Some(value().into()),
            "--inside" => options.inside = Some(value().into()),
            "--program" => options.program = Some(value().into()),
            "--list" => {
                println!("world: test\n\n1 test, 0 benchmarks");
                return ExitCode::SUCCESS;
            }
            // Those of `cargo test`: names of tests, of which this is one.
            word if word.starts_with('-') => {}
            word if "world".contains(word) => {}
            _ => return ExitCode::SUCCESS,
        }
    }
    if let Some(dir) = options.inside.clone() {
        return inside(&dir, &options);
    }
    if !played {
        println!("\nNOTHING PLAYED: for that, tests/world/run --short, or --seed N --steps M");
        return ExitCode::SUCCESS;
    }
    thread::spawn(|| {
        let ending = [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ];
        let mut signals = signal_hook::iterator::Signals::new(ending).unwrap();
        if signals.forever().next().is_some() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    if options.steps == 0 {
        options.steps = if options.secs == 0 { 300 } else { u64::MAX };
    }
    let done = if short {
        short_form(&options)
    } else {
        one_or_more(&options)
    };
    if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Fixed seeds, and one that changes by the day: within 90 s in all.
fn short_form(options: &Options) -> bool {
    let day = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / 86_400;
    println!("\nrunning 1 test");
    let mut total = Table::default();
    for seed in [1, 2, 3, day] {
        let one = Options {
            seed,
            steps: 120,
            secs: 18,
            shrink_secs: 0,
            repeat: 2,
            ..options.clone()
        };
        println!("world: seed {seed}");
        let (table, failure) = outside(&one);
        total.add(&table);
        if failure.is_some() || INTERRUPTED.load(Ordering::Relaxed) {
            println!("test world ... FAILED");
            return false;
        }
    }
    println!("{}", total.markdown().lines().next().unwrap_or_default());
    println!("test world ... ok\n\ntest result: ok. 1 passed; 0 failed");
    true
}

fn one_or_more(options: &Options) -> bool {
    let (begun, mut total, mut good) = (Instant::now(), Table::default(), true);
    let mut one = options.clone();
    loop {
        let (table, failure) = outside(&one);
        total.add(&table);
        good &= failure.is_none();
        if let Some(path) = &options.table {
            add_to(path, &table);
        }
        let over = begun.elapsed().as_secs() >= options.secs || INTERRUPTED.load(Ordering::Relaxed);
        if options.replay.is_some() || options.secs == 0 || over || !good && !options.keep_on {
            break;
        }
        one.seed += 1;
    }
    println!("{}", total.markdown());
    good
}

/// What earlier worlds have met.
fn table_of(path: Option<&Path>) -> Table {
    let text = path.and_then(|path| fs::read_to_string(path).ok());
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Adds to the table in a file, which several may share.
fn add_to(path: &Path, table: &Table) {
    let lock = fs::File::create(path.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let mut total = table_of(Some(path));
    total.add(table);
    let text = serde_json::to_string(&total).unwrap_or_default();
    fs::write(path, text).unwrap();
    fs::write(path.with_extension("md"), total.markdown()).unwrap();
}

/// Plays a world in a process of its own; a failure is repeated and shrunk.
fn outside(options: &Options) -> (Table, Option<Failure>) {
    let dir = tempfile::Builder::new()
        .prefix("lwnflog-world-")
        .tempdir()
        .unwrap();
    let failure = run_inside(dir.path(), options);
    let text = fs::read_to_string(dir.path().join("table.json")).unwrap_or_default();
    let mut table: Table = serde_json::from_str(&text).unwrap_or_default();
    let commit = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    table.commit = commit
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .unwrap_or_default();
    table.worlds = 1;
    if let Some(failure) = &failure {
        *table.failures.entry(failure.kind.clone()).or_default() += 1;
        let script = fs::read_to_string(dir.path().join("steps")).unwrap_or_default();
        println!(
            "\nworld: FAILURE with seed {}: {}\n{}\n",
            options.seed, failure.kind, failure.text
        );
        println!("world: the steps:\n{script}");
        shrink::explain(options, failure, &script);
    }
    (table, failure)
}

/// One world, from its beginning to its end. `dir` has what is told of it.
pub fn run_inside(dir: &Path, options: &Options) -> Option<Failure> {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--mount-proc",
        "--propagation",
        "private",
    ]);
    command
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(exe)
        .arg("--inside")
        .arg(dir);
    command.args([
        "--seed",
        &options.seed.to_string(),
        "--steps",
        &options.steps.to_string(),
        "--secs",
        &options.secs.to_string(),
    ]);
    if let Some(path) = &options.replay {
        command.arg("--replay").arg(path);
    }
    if let Some(path) = &options.table {
        command.arg("--table").arg(path);
    }
    if let Some(path) = &options.program {
        command.arg("--program").arg(path);
    }
    let log = fs::File::create(dir.join("log")).unwrap();
    command
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    lwnflog::sys::netns::die_with_parent(&mut command);
    command.process_group(0);
    let child = command.spawn();
    let mut child = child.expect("the world needs unshare (util-linux) and root");
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            let _ = child.kill(); // and with it all that is inside
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    if status.success() {
        return None;
    }
    let text = fs::read_to_string(dir.join("failure")).unwrap_or_default();
    let (kind, text) = text
        .split_once('\n')
        .unwrap_or(("the world itself failed", ""));
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let text = if text.is_empty() {
        format!("{status}\n{log}")
    } else {
        text.to_owned()
    };
    Some(Failure {
        kind: kind.to_owned(),
        text,
    })
}

/// In namespaces of its own.
fn inside(dir: &Path, options: &Options) -> ExitCode {
    let fail = |failure: &Failure| {
        let _ = fs::write(
            dir.join("failure"),
            format!("{}\n{}", failure.kind, failure.text),
        );
        World::thaw(dir);
    };
    let at: Arc<Mutex<(String, Instant)>> =
        Arc::new(Mutex::new(("the beginning".to_owned(), Instant::now())));
    let (theirs, watched) = (Arc::clone(&at), dir.to_owned());
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let (line, since) = theirs.lock().unwrap().clone();
            if since.elapsed().as_secs() > STEP_SECS {
                World::thaw(&watched);
                let text = format!(
                    "hangs: {}\n`{line}` has not ended in {STEP_SECS} s",
                    line.split(' ').next().unwrap_or_default()
                );
                let _ = fs::write(watched.join("failure"), text);
                std::process::exit(2);
            }
        }
    });
    // Worlds side by side send on different processors.
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    let nth = options.seed % u64::from(set.count()).max(1);
    let core = cores
        .nth(usize::try_from(nth).unwrap_or_default())
        .unwrap_or_default();
    let program = options
        .program
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_lwnflog")));
    let script: Option<Vec<Step>> = options.replay.as_ref().map(|path| {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| Step::parse(line).unwrap_or_else(|why| panic!("{why}")))
            .collect()
    });
    let mut played = Play::new(World::new(dir, &program), core);
    let met = table_of(options.table.as_deref());
    let mut pairs = pairs::Pairs::new(met.pairs);
    let mut draw = draw::Draw::new(options.seed);
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("steps"))
        .unwrap();
    let (begun, mut table) = (Instant::now(), Table::default());
    let (mut number, mut done) = (0usize, 0);
    let result = loop {
        if done >= options.steps || options.secs != 0 && begun.elapsed().as_secs() >= options.secs {
            break Ok(());
        }
        if let Err(failure) = orders::due(&mut played) {
            break Err(failure);
        }
        let step = match &script {
            Some(script) => match script.get(number) {
                Some(step) => step.clone(),
                None => break Ok(()),
            },
            None => draw.step(&played, &pairs),
        };
        number += 1;
        *at.lock().unwrap() = (step.line(), Instant::now());
        let written = log.write_all(format!("{}\n", step.line()).as_bytes());
        written.unwrap();
        match play::play(&mut played, &step) {
            Ok(Outcome::Nothing) => pairs.nothing(step.kind()),
            Ok(Outcome::Done) => {
                done += 1;
                count(&mut table, &mut pairs, &step, &played);
            }
            Err(failure) => break Err(failure),
        }
    };
    *at.lock().unwrap() = ("the end".to_owned(), Instant::now());
    let result = result.and_then(|()| finish(&mut played));
    table.seconds = begun.elapsed().as_secs();
    table.packets = played.traffic.next_number();
    table.checked = played.packets_checked;
    let _ = fs::write(
        dir.join("table.json"),
        serde_json::to_string(&table).unwrap_or_default(),
    );
    played.traffic.end();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            fail(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Everything ends well.
fn finish(play: &mut Play) -> world::Checked {
    play::play(play, &Step::TrafficOff)?;
    faults::end_all(play)?;
    for place in steps::PLACES {
        play::play(play, &Step::Free { place })?;
    }
    for capture in 0..u8::try_from(play::SLOTS).unwrap_or_default() {
        for step in [
            Step::Continue { capture },
            Step::Look { capture },
            Step::FollowEnd { capture },
            Step::End {
                capture,
                by: "int".to_owned(),
            },
        ] {
            play::play(play, &step)?;
        }
    }
    play.nothing_left()?;
    bounds::strays(&play.world.dir)?;
    // Chores may go on for half a minute behind a capture that was killed.
    let begun = Instant::now();
    loop {
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if exe == play.world.program {
                left.push(
                    fs::read_to_string(entry.path().join("cmdline"))
                        .unwrap_or_default()
                        .replace('\0', " "),
                );
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(60) {
            return world::wrong("a process is left", format!("{left:?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn count(table: &mut Table, pairs: &mut pairs::Pairs, step: &Step, play: &Play) {
    let of = if step.is_fault() {
        &mut table.faults
    } else {
        &mut table.steps
    };
    *of.entry(step.kind()).or_default() += 1;
    for pair in pairs.done(step, play) {
        *table.pairs.entry(pair).or_default() += 1;
    }
}
