//! The world as it is: what runs, and the model of it. A step is done to both, and what must be is
//! looked at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::{self, figure, sum};
use crate::messages;
use crate::model::{Ring, Run, Want, Why};
use crate::steps::{Place, Step};
use crate::traffic::{Time, Traffic, now};
use crate::walk;
use crate::world::{Checked, Failure, Proc, World, wrong};

pub const SLOTS: usize = 3;
/// Longer than anything takes that is not a fault.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A capture that runs.
pub struct Live {
    pub proc: Proc,
    pub runtime: PathBuf,
    pub stopped: bool,
}

#[derive(Default)]
pub struct Slot {
    pub ring: Option<Ring>,
    pub live: Option<Live>,
    pub follower: Option<Follower>,
    pub rings: u64,
    pub limited: Option<crate::short::Limited>,
    pub hanging: Vec<std::os::unix::net::UnixStream>,
    pub chores_stopped: Option<u32>,
    /// What the rule of its group asks for of each packet; 0: all.
    pub rule: u32,
}

pub struct Follower {
    pub proc: Proc,
    pub from: u64,
    pub stopped: bool,
}

/// A file that has to stay as it is.
pub struct Held {
    pub path: PathBuf,
    pub open: Option<File>,
    pub bytes: Vec<u8>,
}

pub struct Play {
    pub world: World,
    pub traffic: Traffic,
    pub slots: [Slot; SLOTS],
    pub held: Vec<Held>,
    pub filled: BTreeMap<Place, PathBuf>,
    pub renamed: u64,
    pub interfaces: u64,
    pub other_rules: bool,
    /// Packets are dropped by others' rule: before the hook's captures?
    pub drops: Option<bool>,
    pub failed: BTreeMap<Place, String>,
    pub serial: u64,
    /// Packets that were lost before the hook, and are not waited for.
    pub lost_before: (u64, u64),
    fenced: u64,
    /// More has come than was sent.
    pub strange: Option<String>,
    pub packets_checked: u64,
    pub bounds: crate::bounds::Bounds,
}

/// Something was done, or there was nothing to do it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Nothing,
}

impl Play {
    pub fn new(world: World, core: usize) -> Play {
        let traffic = Traffic::new(std::sync::Arc::clone(&world.lab), core);
        Play {
            world,
            traffic,
            slots: Default::default(),
            held: Vec::new(),
            filled: BTreeMap::new(),
            renamed: 0,
            interfaces: 0,
            other_rules: false,
            drops: None,
            failed: BTreeMap::new(),
            serial: 0,
            lost_before: (0, 0),
            fenced: 0,
            strange: None,
            packets_checked: 0,
            bounds: crate::bounds::Bounds::default(),
        }
    }

    pub fn name(&mut self, of: &str) -> String {
        self.serial += 1;
        format!("{:05}-{of}", self.serial)
    }

    /// Waits until what was sent has come to the hook.
    pub fn fence(&mut self) {
        let (totals, below) = (self.traffic.totals(), self.traffic.next_number());
        let begun = Instant::now();
        let mut doubtful = false;
        loop {
            let seen = self.world.seen();
            let (ip, ip6) = (seen.0 + self.lost_before.0, seen.1 + self.lost_before.1);
            if ip >= totals.ip && ip6 >= totals.ip6 {
                // What was late was not lost.
                let (more, more6) = (ip - totals.ip, ip6 - totals.ip6);
                if !self.traffic.is_on()
                    && (more > self.lost_before.0 || more6 > self.lost_before.1)
                {
                    self.strange = Some(format!("{seen:?} of {totals:?}"));
                } else if !self.traffic.is_on() {
                    self.lost_before.0 -= more;
                    self.lost_before.1 -= more6;
                }
                break;
            }
            if begun.elapsed() > Duration::from_secs(3) {
                self.lost_before.0 += totals.ip.saturating_sub(ip);
                self.lost_before.1 += totals.ip6.saturating_sub(ip6);
                doubtful = true;
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.traffic.seen(self.fenced, below, now(), doubtful);
        self.fenced = below;
    }

    pub fn ring(&self, slot: usize) -> Option<&Ring> {
        self.slots[slot].ring.as_ref()
    }

    /// Whether a queue holds packets, so that hooks behind prerouting have them when it likes.
    pub fn has_queue(&self) -> bool {
        self.any_runs(|options| options.source == crate::steps::Source::Queue)
    }

    /// Since then, chains may have come before a queue's.
    fn hooked(&mut self, from: Time) {
        let span = crate::model::Span { from, to: now() };
        for slot in (0..SLOTS)
            .filter(|slot| self.slots[*slot].live.is_some())
            .collect::<Vec<_>>()
        {
            self.run(slot).hooked.push(span);
        }
    }

    /// Whether any capture that runs was begun so.
    pub fn any_runs(&self, so: impl Fn(&crate::steps::Begin) -> bool) -> bool {
        let mut slots = self.slots.iter().filter(|slot| slot.live.is_some());
        slots.any(|slot| {
            let run = slot.ring.as_ref().and_then(|ring| ring.runs.last());
            run.is_some_and(|run| so(&run.options))
        })
    }

    pub fn run(&mut self, slot: usize) -> &mut Run {
        let ring = self.slots[slot].ring.as_mut();
        ring.and_then(|ring| ring.runs.last_mut())
            .expect("a capture has a run")
    }

    /// Something has happened to all captures in a place.
    pub fn happened(&mut self, place: Option<Place>, why: Why) {
        for slot in 0..SLOTS {
            if self.slots[slot].live.is_some() {
                let run = self.run(slot);
                if place.is_none_or(|place| place == run.options.place) {
                    run.why.insert(why);
                }
            }
        }
    }

    pub fn chunks(&self, slot: usize) -> Vec<crate::traffic::Chunk> {
        let first = self
            .ring(slot)
            .and_then(|ring| ring.runs.first())
            .map_or(0, |run| run.first_number);
        self.traffic.chunks_from(first)
    }

    /// Nothing can be asked of a capture, or read of its files.
    pub fn is_blind(&self, slot: usize) -> bool {
        let slot = &self.slots[slot];
        let place = slot.ring.as_ref().and_then(|ring| ring.runs.last());
        slot.live.as_ref().is_some_and(|live| live.stopped)
            || slot.limited.is_some()
            || place.is_some_and(|run| self.failed.contains_key(&run.options.place))
    }

    /// All that has come to a capture is accounted for, or it is said what is not.
    pub fn settle(&mut self, slot: usize) -> Checked {
        self.settle_since(slot, Instant::now())
    }

    fn settle_since(&mut self, slot: usize, begun: Instant) -> Checked {
        if self.slots[slot].live.is_none() || self.is_blind(slot) {
            return Ok(());
        }
        let on = self.traffic.is_on();
        self.fence();
        let (chunks, below) = (self.chunks(slot), self.fenced);
        let run = self.run(slot);
        let uncounted = run.has(Why::RuleReloaded);
        let open = on;
        let mut must = 0;
        for chunk in chunks
            .iter()
            .filter(|chunk| chunk.first + chunk.count > run.first_number)
        {
            if matches!(run.wants(chunk), Want::Must | Want::Skipped) {
                must += chunk.count;
            }
        }
        // Some may come twice: all have come when no more do.
        let twice = !on && !run.hooked.is_empty();
        let (since, mut last, mut before) = (Instant::now(), Value::Null, u64::MAX);
        let at = now();
        loop {
            if let Ok(answer) = self.request(slot, "stats", &[], 0) {
                let stats = &answer["stats"];
                let done = figure(stats, "/written")
                    + figure(stats, "/discarded")
                    + sum(stats, "dropped")
                    + figure(stats, "/skipped")
                    + sum(stats, "left_out");
                let detected = figure(stats, "/detected");
                let still = !twice || std::mem::replace(&mut before, done) == done;
                if twice {
                    thread::sleep(Duration::from_millis(100));
                }
                if done >= must
                    && still
                    && (uncounted || stats["detected"].is_null() || detected >= must)
                {
                    last = answer;
                    break;
                }
                last = answer;
            }
            self.alive(slot)?;
            // Losses show in the numbers of the packet behind them: of the last ones, there is none yet.
            let waits = since.elapsed() > Duration::from_secs(2) && begun.elapsed() < DEADLINE;
            if waits && !on && self.run(slot).is_lossy() {
                crate::ways::one_of_each(self);
                return self.settle_since(slot, begun);
            }
            if begun.elapsed() > DEADLINE {
                let said = self.slots[slot]
                    .live
                    .as_ref()
                    .map(|live| live.proc.said())
                    .unwrap_or_default();
                return wrong(
                    "not accounted for",
                    format!("{must} packets must be; the capture has\n{last}\n{said}"),
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.alive(slot)?;
        let ring = self.slots[slot].ring.as_mut();
        if let Some(ring) = ring {
            // What comes from a queue or ring in one piece is committed with it.
            ring.settled.push(at);
            if let Some(run) = ring.runs.last_mut() {
                (run.settled, run.settled_below) = (at, below);
                run.dropped = sum(&last["stats"], "dropped");
            }
            if !uncounted {
                check::account(ring, &chunks, &last["stats"], false, open)?;
            }
        }
        Ok(())
    }

    /// A request on the control socket.
    pub fn request(
        &self,
        slot: usize,
        command: &str,
        args: &[&str],
        confirm_secs: u64,
    ) -> Result<Value, String> {
        let live = self.slots[slot].live.as_ref().ok_or("no capture")?;
        let socket = fs::read_dir(&live.runtime)
            .map_err(|error| error.to_string())?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().ends_with(".sock"))
            .ok_or("no socket")?;
        let mut request = serde_json::json!({"v": 1, "command": command, "args": args});
        if confirm_secs != 0 {
            request["confirm_secs"] = Value::from(confirm_secs);
        }
        let short = self.slots[slot].limited.is_some();
        ask(&socket.path(), &request, if short { 1 } else { 20 })
    }

    /// It runs, and what it said since belongs to something.
    pub fn alive(&mut self, slot: usize) -> Checked {
        let Slot { ring, live, .. } = &mut self.slots[slot];
        let run = ring.as_mut().and_then(|ring| ring.runs.last_mut());
        let (Some(run), Some(live)) = (run, live) else {
            return Ok(());
        };
        // Half: load may have kept it from running before.
        if self.traffic.next_number() - run.settled_below > run.holds() / 2 {
            run.why.insert(Why::Flooded);
        }
        for line in live.proc.new_lines() {
            if let Some(why) = messages::judge(&line, run) {
                return wrong(
                    &format!("a false message: {}", shape(&line)),
                    format!("{why}\nall it said:\n{}", live.proc.said()),
                );
            }
        }
        if let Some(status) = live.proc.ended() {
            return wrong("ended by itself", format!("{status}\n{}", live.proc.said()));
        }
        Ok(())
    }

    /// What is looked at after each step.
    pub fn after_step(&mut self) -> Checked {
        if let Some(strange) = self.strange.take() {
            return wrong("more packets came than were sent", strange);
        }
        for slot in 0..SLOTS {
            self.alive(slot)?;
            self.limits(slot)?;
            let failed = crate::disk::is_failed(self, slot);
            crate::bounds::look(self, slot)?;
            if let Some(follower) = self.slots[slot].follower.as_mut()
                && let Some(status) = follower.proc.ended()
            {
                if failed && !follower.proc.said().is_empty() {
                    self.slots[slot].follower = None;
                    continue;
                }
                return wrong(
                    "a follower ended by itself",
                    format!("{}: {status}\n{}", follower.proc.name, follower.proc.said()),
                );
            }
        }
        Ok(())
    }

    fn limits(&mut self, slot: usize) -> Checked {
        if self.slots[slot].live.is_none() {
            return Ok(());
        }
        let ring = self.slots[slot]
            .ring
            .as_mut()
            .expect("a capture has a ring");
        let mut files = walk::ring_files(&ring.dir, &ring.name);
        // On an overlay files of killed runs stay as they are, and are none of the ring's.
        if ring.left_as_it_is() {
            let newest = files.keys().next_back().copied();
            files.retain(|number, (_, state)| {
                *state != walk::State::Live || Some(*number) == newest
            });
        }
        // What an earlier run left, or was there when the limit was set, goes as files are needed.
        let new = ring.runs.len() == 1;
        let run = ring.runs.last_mut().expect("a capture has a run");
        let count = files.len() as u64;
        if run.files_then == 0 || count < run.files_then {
            run.files_then = if count > run.files { count } else { run.files };
        }
        // A compressed file and the plain one stand side by side for a moment; a file is finished before
        // the oldest goes.
        if run.files != 0
            && count > run.files.max(run.files_then) + 1
            && run.options.compress.is_empty()
        {
            return wrong(
                "more files than the limit",
                format!("{} of {}\n{}", files.len(), run.files, listing(&ring.dir)),
            );
        }
        if run.max_bytes != 0 {
            let mut bytes = 0;
            for entry in fs::read_dir(&ring.dir).into_iter().flatten().flatten() {
                if let Ok(data) = entry.metadata()
                    && data.is_file()
                {
                    bytes += data.len();
                }
            }
            if new && !run.has(Why::Told) && bytes > run.max_bytes {
                return wrong(
                    "more bytes than the limit",
                    format!("{bytes} of {}\n{}", run.max_bytes, listing(&ring.dir)),
                );
            }
        }
        Ok(())
    }

    /// Every file of a ring, and its account.
    pub fn look(&mut self, slot: usize) -> Checked {
        if self.is_blind(slot) || self.ring(slot).is_none() {
            return Ok(());
        }
        self.settle(slot)?;
        let live = self.slots[slot].live.is_some();
        if live && self.traffic.is_on() {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let looked = self.look_once(slot, live);
            // A file is about to get its name, or another one: FORMAT.md, "Names".
            if looked.is_ok() || !live || begun.elapsed() > Duration::from_secs(5) {
                return looked;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn look_once(&mut self, slot: usize, live: bool) -> Checked {
        let chunks = self.chunks(slot);
        let ring = self.ring(slot).expect("looked at by the caller");
        let found = check::ring(ring, &chunks, live)?;
        missing(ring, &found)?;
        self.packets_checked += found.packets;
        Ok(())
    }

    /// A capture has ended: its report, its files, and what it may not leave behind.
    pub fn ended(&mut self, slot: usize) -> Checked {
        let mut live = self.slots[slot].live.take().expect("it ran");
        self.slots[slot].limited = None;
        self.slots[slot].hanging.clear();
        let to = now();
        self.run(slot).ended = self.run(slot).ended.map(|span| crate::model::Span {
            from: span.from,
            to,
        });
        let chunks = self.chunks(slot);
        let ring = self.slots[slot].ring.as_mut().expect("it ran");
        let run = ring.runs.last_mut().expect("it ran");
        for line in live.proc.new_lines() {
            if let Some(why) = messages::judge(&line, run) {
                return wrong(
                    &format!("a false message: {}", shape(&line)),
                    format!("{why}\nall it said:\n{}", live.proc.said()),
                );
            }
        }
        let (killed, said) = (run.killed, live.proc.said());
        if !killed && live.proc.status.and_then(|status| status.code()) != Some(0) {
            return wrong(
                "ended otherwise than well",
                format!("{:?}\n{said}", live.proc.status),
            );
        }
        let report = String::from_utf8_lossy(&live.proc.shown())
            .lines()
            .rev()
            .find_map(|line| {
                let value: Value = serde_json::from_str(line).ok()?;
                (value["event"] == "report").then_some(value)
            });
        let found = check::ring(ring, &chunks, false)?;
        self.packets_checked += found.packets;
        if let Some(report) = &report {
            self.run(slot).dropped = sum(report, "dropped");
            let ring = self.ring(slot).expect("it ran");
            check::account(ring, &chunks, report, true, false)?;
            let run = ring.runs.last().expect("it ran");
            let written = figure(report, "/written");
            let here = found.of_run.last().copied().unwrap_or_default();
            let whole = found.files.first().is_none_or(|first| *first == 1)
                && !ring.is_taken_from()
                && !run.lost_files
                && run.files == 0
                && run.max_bytes == 0;
            if here > written || whole && here != written {
                return wrong(
                    "written otherwise",
                    format!("{here} packets are in the files of {written}\n{report}\n{said}"),
                );
            }
        } else if !killed {
            return wrong("no report", said);
        }
        let ring = self.ring(slot).expect("it ran");
        missing(ring, &found)?;
        let was_stopped = ring
            .runs
            .last()
            .is_some_and(|run| run.has(Why::ChoresStopped));
        let was_locked = ring
            .runs
            .iter()
            .any(|run| run.has(Why::Locked) || run.has(Why::Short));
        for entry in fs::read_dir(&live.runtime).into_iter().flatten().flatten() {
            if !killed {
                return wrong("a socket is left", entry.path().display().to_string());
            }
        }
        let left = fs::read_dir(&ring.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let odd: Vec<String> = left
            .filter(|name| {
                let locked = was_locked && (name.contains(".next.") || ring.locked.is_some())
                    || was_stopped && name.ends_with(".part");
                let others = ring.foreign.iter().any(|path| path.ends_with(name));
                (name.contains(".new.") || name.contains(".next.") || name.ends_with(".part"))
                    && !locked
                    && !others
            })
            // What chores that were killed had half made, the next start takes away.
            .filter(|name| !name.ends_with(".part") || !run_has(ring, Why::ChoresKilled))
            .collect();
        let left_as_it_is = ring.left_as_it_is();
        if !killed && !left_as_it_is && !odd.is_empty() {
            return wrong("files are left", format!("{odd:?}\n{said}"));
        }
        crate::bounds::gone(self, live.proc.pid(), &live.runtime, killed)?;
        crate::handed::ended(self, slot, &found, &said)?;
        self.nothing_left()
    }

    /// No rule, program or process of captures that have ended.
    pub fn nothing_left(&mut self) -> Checked {
        let mut command = self.world.lab.receiver().command("nft").unwrap();
        let tables = crate::world::tool(command.args(["list", "tables"]));
        for line in tables.lines().filter(|line| line.contains("lwnflog")) {
            let whose = (0..SLOTS).any(|slot| {
                let group = format!("lwnflog-g{}", 15 + slot);
                line.contains(&group) && self.slots[slot].live.is_some()
            });
            if !whose {
                return wrong("a rule is left", tables);
            }
        }
        let failed: Vec<PathBuf> = self
            .failed
            .keys()
            .map(|place| self.world.place(*place))
            .collect();
        for held in &self.held {
            if failed.iter().any(|place| held.path.starts_with(place)) {
                continue;
            }
            let now = match &held.open {
                Some(file) => {
                    use std::os::unix::fs::FileExt;
                    let mut bytes =
                        vec![
                            0;
                            usize::try_from(file.metadata().map_or(0, |data| data.len()))
                                .unwrap_or_default()
                        ];
                    let _ = file.read_exact_at(&mut bytes, 0);
                    bytes
                }
                None => fs::read(&held.path).unwrap_or_default(),
            };
            if now != held.bytes {
                return wrong(
                    "a file that was kept has changed",
                    format!(
                        "{}: {} bytes, {} before",
                        held.path.display(),
                        now.len(),
                        held.bytes.len()
                    ),
                );
            }
        }
        Ok(())
    }
}

fn run_has(ring: &Ring, why: Why) -> bool {
    ring.runs.last().is_some_and(|run| run.has(why))
}

/// Packets that must be there and are not are those that were said to be lost.
fn missing(ring: &Ring, found: &check::Found) -> Checked {
    let dropped: u64 = ring.runs.iter().map(|run| run.dropped).sum();
    if found.missing.len() as u64 > dropped {
        return wrong(
            "packets are missing",
            format!(
                "{}; {dropped} were said to be lost; files {:?}\n{}",
                check::runs(&found.missing),
                found.ends,
                listing(&ring.dir)
            ),
        );
    }
    Ok(())
}

/// What is in a directory, for people.
pub fn listing(dir: &Path) -> String {
    let list = std::process::Command::new("ls")
        .args(["-lan", "--time-style=full-iso"])
        .arg(dir)
        .output();
    list.map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        .unwrap_or_default()
}

/// A message without its names and numbers.
pub fn shape(line: &str) -> String {
    let words = line
        .split_whitespace()
        .filter(|word| !word.contains('/') && !word.contains(|c: char| c.is_ascii_digit()));
    words.take(12).collect::<Vec<_>>().join(" ")
}

/// One request, one answer; where others have all places, until one has hung for a second (CONTROL.md).
pub fn ask(socket: &Path, request: &Value, secs: u64) -> Result<Value, String> {
    let begun = Instant::now();
    loop {
        match ask_once(socket, request, secs) {
            Err(why)
                if why.contains("too many clients") && begun.elapsed() < Duration::from_secs(3) =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

fn ask_once(socket: &Path, request: &Value, secs: u64) -> Result<Value, String> {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    let mut stream = UnixStream::connect(socket).map_err(|error| format!("connect: {error}"))?;
    let limit = Some(Duration::from_secs(secs));
    stream
        .set_read_timeout(limit)
        .and_then(|()| stream.set_write_timeout(limit))
        .map_err(|error| error.to_string())?;
    // One for whom there is no place is told so, and left: what he is told is there, though he cannot write.
    let sent = stream.write_all(format!("{request}\n").as_bytes());
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(|error| format!("read: {error}, {sent:?}"))?;
    let answer: Value = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
    if answer["ok"] == true {
        Ok(answer)
    } else {
        Err(answer["error"].as_str().unwrap_or(&line).to_owned())
    }
}

/// Does a step.
pub fn play(play: &mut Play, step: &Step) -> Checked<Outcome> {
    let begun: Time = now();
    let queue = play.has_queue();
    let outcome = crate::act::act(play, step)?;
    if queue && step.adds_chains() {
        play.hooked(begun);
    }
    if outcome == Outcome::Done {
        play.after_step().map_err(|failure| Failure {
            text: format!(
                "{}\n(looked at after a step of {} ms)",
                failure.text,
                (now() - begun) / 1_000_000
            ),
            ..failure
        })?;
    }
    Ok(outcome)
}
