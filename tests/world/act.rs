//! Doing a step, to the world and to the model.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::model::{Ring, Run, Span, Why};
use crate::play::{Follower, Held, Live, Outcome, Play, SLOTS};
use crate::steps::{Begin, Place, Source, Step};
use crate::traffic::{SENDERS, now};
use crate::walk::{self, State};
use crate::world::{Checked, Proc, tool, wrong};

use Outcome::{Done, Nothing};

fn slot_of(capture: u8) -> usize {
    usize::from(capture) % SLOTS
}

pub fn act(play: &mut Play, step: &Step) -> Checked<Outcome> {
    match step {
        Step::Begin(options) => begin(play, options),
        Step::End { capture, by } => end(play, slot_of(*capture), by),
        Step::Send { what, packets } => {
            let on = play.traffic.is_on();
            play.traffic.send(*what, *packets, None);
            if !on {
                play.fence();
            }
            Ok(Done)
        }
        Step::TrafficOn { what, rate } => {
            if play.traffic.senders() >= SENDERS - 1 {
                return Ok(Nothing);
            }
            play.traffic.begin(*what, *rate);
            Ok(Done)
        }
        Step::TrafficOff => {
            if !play.traffic.is_on() {
                return Ok(Nothing);
            }
            play.traffic.end();
            play.fence();
            Ok(Done)
        }
        Step::Flood { what, packets } => {
            play.happened(None, Why::Flooded);
            play.traffic.send(*what, *packets, None);
            play.fence();
            Ok(Done)
        }
        Step::Foreign { packets } => crate::ways::foreign(play, *packets),
        Step::Wait { ms } => {
            thread::sleep(Duration::from_millis(*ms));
            Ok(Done)
        }
        Step::Look { capture } => {
            if play.ring(slot_of(*capture)).is_none() {
                return Ok(Nothing);
            }
            play.look(slot_of(*capture))?;
            Ok(Done)
        }
        Step::Ctl {
            capture,
            order,
            confirm_secs,
        } => crate::orders::order(play, slot_of(*capture), order, *confirm_secs),
        Step::Confirm { capture } => crate::orders::confirm(play, slot_of(*capture)),
        Step::BadOrder { capture, order } => crate::orders::bad(play, slot_of(*capture), order),
        Step::Hup { capture } => signal(play, slot_of(*capture), Signal::HUP),
        Step::Usr1 { capture } => signal(play, slot_of(*capture), Signal::USR1),
        Step::Keep {
            capture,
            last_secs,
            next_secs,
        } => crate::orders::keep(play, slot_of(*capture), *last_secs, *next_secs),
        Step::Read { capture, how } => crate::readers::read(play, slot_of(*capture), how),
        Step::KillReader { capture, how, ms } => {
            crate::readers::kill(play, slot_of(*capture), how, *ms)
        }
        Step::Follow { capture } => follow(play, slot_of(*capture)),
        Step::FollowEnd { capture } => crate::readers::follow_end(play, slot_of(*capture)),
        Step::Tshark { capture } => crate::readers::tshark(play, slot_of(*capture)),
        Step::Export { capture, how } => crate::exports::export(play, slot_of(*capture), how),
        Step::Side(side) => crate::side::side(play, side),
        Step::Scrape { capture } => crate::scrape::scrape(play, slot_of(*capture)),
        Step::Doctor { capture } => crate::readers::doctor(play, slot_of(*capture)),
        Step::Kill { capture, settled } => kill(play, slot_of(*capture), *settled),
        Step::KillChores { capture } => kill_chores(play, slot_of(*capture)),
        Step::Stop { capture } => stop(play, slot_of(*capture), true),
        Step::Continue { capture } => stop(play, slot_of(*capture), false),
        Step::StopFollower { capture } => stop_follower(play, slot_of(*capture), true),
        Step::ContinueFollower { capture } => stop_follower(play, slot_of(*capture), false),
        Step::KillFollower { capture } => {
            let Some(mut follower) = play.slots[slot_of(*capture)].follower.take() else {
                return Ok(Nothing);
            };
            follower.proc.signal(Signal::KILL);
            follower.proc.wait("a follower that was killed", 10)?;
            Ok(Done)
        }
        Step::Fill { place, leave_kib } => fill(play, *place, *leave_kib),
        Step::Free { place } => {
            let Some(file) = play.filled.remove(place) else {
                return Ok(Nothing);
            };
            let _ = fs::remove_file(file);
            Ok(Done)
        }
        Step::Freeze { place, ms, packets } => freeze(play, *place, *ms, *packets),
        Step::RemoveLive { capture } => remove_live(play, slot_of(*capture)),
        Step::RemoveFinished { capture, nth } => {
            let slot = slot_of(*capture);
            let Some((number, path)) = finished(play, slot, *nth) else {
                return Ok(Nothing);
            };
            if fs::remove_file(&path).is_err() {
                return Ok(Nothing);
            }
            let ring = play.slots[slot].ring.as_mut().expect("it has files");
            ring.taken.push(number);
            if let Some(run) = ring.runs.last_mut() {
                run.why.insert(Why::FinishedTaken);
            }
            Ok(Done)
        }
        Step::CopyFile { capture, nth } => hold(play, slot_of(*capture), *nth, "copy"),
        Step::LinkFile { capture, nth } => hold(play, slot_of(*capture), *nth, "link"),
        Step::OpenFile { capture, nth } => hold(play, slot_of(*capture), *nth, "open"),
        Step::CloseFiles => {
            if play.held.is_empty() {
                return Ok(Nothing);
            }
            play.nothing_left()?;
            for held in play.held.drain(..) {
                if held.open.is_none() {
                    let _ = fs::remove_file(held.path);
                }
            }
            Ok(Done)
        }
        Step::RemoveIndexes { capture } => {
            let Some(ring) = play.ring(slot_of(*capture)) else {
                return Ok(Nothing);
            };
            for entry in fs::read_dir(&ring.dir).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().ends_with(".idx") {
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(Done)
        }
        Step::SecondCapture { capture } => second(play, slot_of(*capture)),
        Step::ReloadRule { capture } => {
            let slot = slot_of(*capture);
            if play.slots[slot].live.is_none() || play.run(slot).options.source != Source::Group {
                return Ok(Nothing);
            }
            play.fence();
            play.run(slot).why.insert(Why::RuleReloaded);
            let group = 5 + u16::try_from(slot).unwrap_or_default();
            crate::net::set_rule(play, slot, group, 0);
            Ok(Done)
        }
        Step::RenameInterface { back } => {
            if *back != (play.renamed != 0) {
                return Ok(Nothing);
            }
            let (from, to) = if *back {
                (format!("rx{}", play.renamed), "rx".to_owned())
            } else {
                ("rx".to_owned(), format!("rx{}", play.serial + 1))
            };
            play.renamed = if *back { 0 } else { play.serial + 1 };
            play.world.ip(&format!("link set {from} name {to}"));
            play.happened(None, Why::Interface);
            Ok(Done)
        }
        Step::NewInterface => {
            if play.interfaces >= 20 {
                return Ok(Nothing);
            }
            play.interfaces += 1;
            let n = play.interfaces;
            play.world
                .ip(&format!("link add va{n} type veth peer name vb{n}"));
            play.world.ip(&format!("link set va{n} up"));
            play.happened(None, Why::Interface);
            Ok(Done)
        }
        Step::RemoveInterface => {
            if play.interfaces == 0 {
                return Ok(Nothing);
            }
            let n = play.interfaces;
            play.interfaces -= 1;
            play.world.ip(&format!("link del va{n}"));
            play.happened(None, Why::Interface);
            Ok(Done)
        }
        Step::OtherRules { on } => {
            if *on == play.other_rules {
                return Ok(Nothing);
            }
            play.other_rules = *on;
            let text = if *on {
                "table inet other { chain c { type filter hook prerouting priority 0; counter; }\n}"
            } else {
                "delete table inet other"
            };
            play.world.nft(text);
            Ok(Done)
        }
        Step::CutFile { capture, nth } => {
            let slot = slot_of(*capture);
            let Some((number, path)) = finished(play, slot, *nth) else {
                return Ok(Nothing);
            };
            let linked = |data: fs::Metadata| std::os::unix::fs::MetadataExt::nlink(&data) > 1;
            if play
                .held
                .iter()
                .any(|held| held.open.is_some() && held.path == path)
                || fs::metadata(&path).is_ok_and(linked)
            {
                return Ok(Nothing); // it would be cut for those who hold it, too
            }
            let Ok(file) = fs::OpenOptions::new().write(true).open(&path) else {
                return Ok(Nothing);
            };
            let half = file.metadata().map_or(0, |data| data.len() / 2);
            let _ = file.set_len(half);
            let ring = play.slots[slot].ring.as_mut().expect("it has files");
            ring.taken.push(number);
            ring.spoiled.push(path);
            ring.runs
                .last_mut()
                .expect("it has files")
                .why
                .extend([Why::FinishedTaken, Why::Spoiled]);
            Ok(Done)
        }
        Step::MoveFile { capture, nth } => {
            let slot = slot_of(*capture);
            let Some((number, path)) = finished(play, slot, *nth) else {
                return Ok(Nothing);
            };
            let name = play.name("moved");
            let place = play.run(slot).options.place;
            let to = play.world.place(place).join(name);
            if play.held.len() >= 12 || fs::rename(&path, &to).is_err() {
                return Ok(Nothing);
            }
            play.held.push(Held {
                bytes: fs::read(&to).unwrap_or_default(),
                path: to,
                open: None,
            });
            let ring = play.slots[slot].ring.as_mut().expect("it has files");
            ring.taken.push(number);
            ring.runs
                .last_mut()
                .expect("it has files")
                .why
                .insert(Why::FinishedTaken);
            Ok(Done)
        }
        Step::TouchFile { capture, nth, date } => {
            let Some((_, path)) = finished(play, slot_of(*capture), *nth) else {
                return Ok(Nothing);
            };
            let _ = Command::new("touch")
                .args(["-c", "-d", date])
                .arg(path)
                .status();
            Ok(Done)
        }
        Step::Repair {
            capture,
            nth,
            dry_run,
        } => crate::readers::repair(play, slot_of(*capture), *nth, *dry_run),
        Step::PoorRead {
            capture,
            how,
            limit,
        } => crate::readers::poor(play, slot_of(*capture), how, limit),
        Step::Clients { capture } => crate::orders::clients(play, slot_of(*capture)),
        Step::ReadOnly { .. } | Step::Writable { .. } | Step::PowerLoss { .. } => {
            crate::power::act(play, step)
        }
        Step::More(fault) => crate::faults::act(play, fault),
    }
}

/// The hook of a capture.
pub fn hook(options: &Begin) -> &str {
    if options.at.is_empty() {
        "prerouting"
    } else {
        &options.at
    }
}

pub fn arguments(options: &Begin, slot: usize, dir: &std::path::Path) -> (String, Vec<String>) {
    let number = |base: usize| (base + slot).to_string();
    let (name, mut args) = match options.source {
        Source::Group => (
            format!("g{}", number(5)),
            vec!["--group".to_owned(), number(5)],
        ),
        Source::Installed => (
            format!("g{}", number(15)),
            vec![
                "--group".to_owned(),
                number(15),
                "--install-rule".to_owned(),
            ],
        ),
        Source::Hook => {
            let at = hook(options);
            (at.to_owned(), vec!["--hook".to_owned(), at.to_owned()])
        }
        Source::Queue => (
            format!("q{}", number(5)),
            vec!["--queue".to_owned(), number(5)],
        ),
    };
    let mut add = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
    add(&[
        "--json",
        "-w",
        &dir.display().to_string(),
        "-s",
        &options.snaplen.to_string(),
    ]);
    add(&[
        "--file-size",
        &format!("{}KiB", options.file_kib),
        "--files",
        &options.files.to_string(),
    ]);
    if options.max_kib != 0 {
        add(&["--max-bytes", &format!("{}KiB", options.max_kib)]);
    }
    add(&[
        "--format",
        &options.format,
        "--link-type",
        &options.link,
        "-B",
        &format!("{}MiB", options.buffer_mib),
    ]);
    if !options.compress.is_empty() {
        add(&["--compress", &options.compress]);
    }
    if !options.index {
        add(&["--no-index"]);
    }
    if options.both_families {
        add(&["--family", "both"]);
    }
    if options.only_port != 0 && options.source == Source::Installed {
        add(&["--match", &format!("udp dport {}", options.only_port)]);
    }
    if !options.at.is_empty() && options.source == Source::Installed {
        add(&["--at", &options.at]);
    }
    if !options.iface.is_empty() && matches!(options.source, Source::Hook | Source::Installed) {
        add(&["--iface", &options.iface]);
    }
    if !options.prefix.is_empty() && options.source == Source::Installed {
        add(&["--prefix", &options.prefix]);
    }
    if options.sample != 0 && options.source == Source::Hook {
        add(&["--sample", &options.sample.to_string()]);
    }
    if options.max_age_secs != 0 {
        add(&["--max-age", &format!("{}s", options.max_age_secs)]);
    }
    if options.on_rotate {
        let to = crate::handed::place(dir).display().to_string();
        add(&["--on-rotate", &format!("cp -t {to}")]);
    }
    if options.keep_on {
        add(&[
            "--keep-on",
            &number(25),
            "--last",
            "2s",
            "--next",
            "1s",
            "--keep-every",
            "1s",
            "--keep-bytes",
            "4MB",
        ]);
    }
    if options.rotate_secs != 0 {
        add(&["-G", &options.rotate_secs.to_string()]);
    }
    if !matches!(options.source, Source::Hook | Source::Queue) {
        add(&[
            "--flush-ms",
            &options.flush_ms.to_string(),
            "--batch",
            &options.batch.to_string(),
        ]);
    }
    (name, args)
}

fn begin(play: &mut Play, options: &Begin) -> Checked<Outcome> {
    let slot = slot_of(options.capture);
    if play.slots[slot].live.is_some() {
        return Ok(Nothing);
    }
    // Where its command puts files there must be a place.
    let no_place =
        play.failed.contains_key(&options.place) || play.filled.contains_key(&options.place);
    if options.on_rotate && no_place {
        return Ok(Nothing);
    }
    if !options.at.is_empty() && play.has_queue()
        || options.source == Source::Queue && play.any_runs(|other| !other.at.is_empty())
    {
        return Ok(Nothing);
    }
    let again = options.again
        && play.slots[slot].ring.as_ref().is_some_and(|ring| {
            ring.runs.last().is_some_and(|run| {
                let what = |begin: &Begin| (begin.source, begin.place, begin.at.clone());
                what(&run.options) == what(options) && run.options.format == options.format
            })
        });
    play.fence();
    if !again {
        if play.slots[slot].follower.is_some() {
            return Ok(Nothing);
        }
        crate::disk::unlock(play, slot)?;
        if let Some(old) = play.slots[slot].ring.take() {
            play.held
                .retain(|held| held.open.is_some() || !held.path.starts_with(&old.dir));
            let _ = fs::remove_dir_all(&old.dir);
            let _ = fs::remove_dir_all(crate::handed::place(&old.dir));
        }
        play.slots[slot].rings += 1;
        let dir = play.world.place(options.place).join(format!(
            "{}-{}",
            ["a", "b", "c"][slot],
            play.slots[slot].rings
        ));
        let (name, _) = arguments(options, slot, &dir);
        let mut ring = Ring::new(dir, name);
        ring.rules.push((0, play.slots[slot].rule));
        play.slots[slot].ring = Some(ring);
    }
    let first_number = play.traffic.next_number();
    let ring = play.slots[slot].ring.as_mut().expect("made above");
    let mut run = Run::new(options, now(), first_number);
    if let Some(before) = ring.runs.last() {
        if before.killed || before.has(Why::ChoresKilled) || before.has(Why::KilledBefore) {
            run.why.insert(Why::KilledBefore);
        }
        run.lost_files = before.lost_files || before.files != 0 || before.max_bytes != 0;
    }
    run.lost_files |= options.max_age_secs != 0;
    if options.on_rotate {
        fs::create_dir_all(crate::handed::place(&ring.dir)).unwrap();
        run.why.insert(Why::Compressed);
    }
    if play.filled.contains_key(&options.place) || options.place.is_small() {
        run.why.insert(Why::Full);
    }
    if options.keep_on {
        run.why.insert(Why::Kept);
    }
    if !options.compress.is_empty() {
        run.why.insert(Why::Compressed);
    }
    crate::disk::begins(play, slot, &mut run);
    let ring = play.slots[slot].ring.as_mut().expect("made above");
    if options.place == Place::Overlay && run.has(Why::KilledBefore) {
        run.why.insert(Why::Overlay);
    }
    let (_, mut args) = arguments(options, slot, &ring.dir);
    ring.numbers_begin();
    ring.runs.push(run);
    let name = play.name(&format!("capture-{slot}"));
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    if options.metrics {
        args.push("--metrics".to_owned());
        args.push(format!(
            "unix:{}",
            crate::scrape::socket(&runtime).display()
        ));
    }
    let proc = if options.boot_days == 0 {
        play.world.lwnflog(&name, &args, &runtime)
    } else {
        play.world.ahead(&name, options.boot_days, &args, &runtime)
    };
    play.slots[slot].live = Some(Live {
        proc,
        runtime,
        stopped: false,
    });
    let begun = Instant::now();
    loop {
        let live = play.slots[slot].live.as_mut().expect("just begun");
        let said = live.proc.said();
        if said.contains("lwnflog: capturing ") {
            break;
        }
        if let Some(status) = live.proc.ended() {
            let full = play.filled.contains_key(&options.place)
                || options.place.is_small()
                || crate::disk::may_refuse(play, slot, options.place);
            play.slots[slot].live = None;
            play.slots[slot]
                .ring
                .as_mut()
                .expect("made above")
                .runs
                .pop();
            if full && status.code() == Some(1) && !said.contains("panicked") {
                return Ok(Done);
            }
            return wrong("does not begin", format!("{args:?}: {status}\n{said}"));
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return wrong("hangs: begin", said);
        }
        thread::sleep(Duration::from_millis(2));
    }
    play.run(slot).begun.to = now();
    Ok(Done)
}

pub fn end(play: &mut Play, slot: usize, by: &str) -> Checked<Outcome> {
    if play.slots[slot]
        .live
        .as_ref()
        .is_none_or(|live| live.stopped)
    {
        return Ok(Nothing);
    }
    if crate::disk::is_failed(play, slot) {
        crate::disk::end_there(play, slot, false)?;
        return Ok(Done);
    }
    play.fence();
    play.run(slot).ended = Some(Span {
        from: now(),
        to: i64::MAX,
    });
    if by == "ctl" {
        crate::short::unlimit(play, slot)?;
        if let Err(why) = play.request(slot, "stop", &[], 0) {
            return wrong("does not stop", why);
        }
    } else {
        let signal = match by {
            "term" => Signal::TERM,
            "quit" => Signal::QUIT,
            _ => Signal::INT,
        };
        play.slots[slot]
            .live
            .as_mut()
            .expect("looked at above")
            .proc
            .signal(signal);
    }
    let live = play.slots[slot].live.as_mut().expect("looked at above");
    live.proc.wait("the end of a capture", 60)?;
    play.ended(slot)?;
    Ok(Done)
}

fn signal(play: &mut Play, slot: usize, signal: Signal) -> Checked<Outcome> {
    let Some(live) = play.slots[slot].live.as_mut() else {
        return Ok(Nothing);
    };
    live.proc.signal(signal);
    Ok(Done)
}

fn kill(play: &mut Play, slot: usize, settled: bool) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() {
        return Ok(Nothing);
    }
    if crate::disk::is_failed(play, slot) {
        crate::disk::end_there(play, slot, true)?;
        return Ok(Done);
    }
    if settled {
        play.settle(slot)?;
    }
    play.fence();
    let from = now();
    let run = play.run(slot);
    run.killed = true;
    run.ended = Some(Span { from, to: i64::MAX });
    let live = play.slots[slot].live.as_mut().expect("looked at above");
    live.proc.signal(Signal::KILL);
    live.proc.wait("a capture that was killed", 30)?;
    play.ended(slot)?;
    Ok(Done)
}

/// Processes of this program's that have this parent.
pub fn children(parent: u32) -> Vec<u32> {
    let list =
        fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn kill_chores(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let Some(live) = &play.slots[slot].live else {
        return Ok(Nothing);
    };
    let found = children(live.proc.pid());
    let Some(pid) = found.first() else {
        return Ok(Nothing);
    };
    play.run(slot).why.insert(Why::ChoresKilled);
    if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(Done)
}

fn stop(play: &mut Play, slot: usize, stop: bool) -> Checked<Outcome> {
    if play.slots[slot]
        .live
        .as_ref()
        .is_none_or(|live| live.stopped == stop)
    {
        return Ok(Nothing);
    }
    play.run(slot).why.insert(Why::Stopped);
    let live = play.slots[slot].live.as_mut().expect("looked at above");
    live.proc
        .signal(if stop { Signal::STOP } else { Signal::CONT });
    live.stopped = stop;
    Ok(Done)
}

fn follow(play: &mut Play, slot: usize) -> Checked<Outcome> {
    if play.slots[slot].follower.is_some() || play.slots[slot].live.is_none() {
        return Ok(Nothing);
    }
    let ring = play.ring(slot).expect("it runs");
    let options = &ring.runs.last().expect("it runs").options;
    if options.format == "pcap" {
        return Ok(Nothing);
    }
    let args = ["read", "-f", "-w", "-", &ring.dir.display().to_string()].map(str::to_owned);
    let from = play.traffic.next_number();
    play.run(slot).why.insert(Why::ReaderOpen);
    let name = play.name(&format!("follower-{slot}"));
    let runtime = play.world.dir.join("run");
    let proc = play.world.lwnflog(&name, &args, &runtime);
    play.slots[slot].follower = Some(Follower {
        proc,
        from,
        stopped: false,
    });
    Ok(Done)
}

fn stop_follower(play: &mut Play, slot: usize, stop: bool) -> Checked<Outcome> {
    let Some(follower) = play.slots[slot]
        .follower
        .as_mut()
        .filter(|follower| follower.stopped != stop)
    else {
        return Ok(Nothing);
    };
    follower
        .proc
        .signal(if stop { Signal::STOP } else { Signal::CONT });
    follower.stopped = stop;
    Ok(Done)
}

fn fill(play: &mut Play, place: Place, leave_kib: u64) -> Checked<Outcome> {
    if play.filled.contains_key(&place) || !place.is_small() || play.failed.contains_key(&place) {
        return Ok(Nothing);
    }
    play.happened(Some(place), Why::Full);
    let file = play.world.place(place).join("filler");
    let kib = (play.world.room(place) / 1024).saturating_sub(leave_kib);
    let _ = Command::new("dd")
        .args([
            "if=/dev/zero",
            "bs=1k",
            &format!("count={kib}"),
            &format!("of={}", file.display()),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    play.filled.insert(place, file);
    Ok(Done)
}

fn freeze(play: &mut Play, place: Place, ms: u64, packets: u64) -> Checked<Outcome> {
    if !crate::disk::has_device(place) || play.failed.contains_key(&place) {
        return Ok(Nothing);
    }
    play.happened(Some(place), Why::Frozen);
    let at = play.world.place(place);
    tool(Command::new("fsfreeze").arg("-f").arg(&at));
    if packets > 0 {
        let what = crate::traffic::What {
            kind: crate::traffic::Kind::Udp,
            port: 9000,
            from: 100,
            to: 1000,
        };
        play.traffic.send(what, packets, None);
    }
    thread::sleep(Duration::from_millis(ms));
    tool(Command::new("fsfreeze").arg("-u").arg(&at));
    play.fence();
    Ok(Done)
}

fn remove_live(play: &mut Play, slot: usize) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() {
        return Ok(Nothing);
    }
    let ring = play.slots[slot].ring.as_mut().expect("it runs");
    let files = walk::ring_files(&ring.dir, &ring.name);
    let Some((number, (path, _))) = files.iter().find(|(_, (_, state))| *state == State::Live)
    else {
        return Ok(Nothing);
    };
    if fs::remove_file(path).is_err() {
        return Ok(Nothing);
    }
    ring.taken.push(*number);
    ring.runs
        .last_mut()
        .expect("it runs")
        .why
        .insert(Why::LiveTaken);
    Ok(Done)
}

/// A finished file of a ring.
pub fn finished(play: &Play, slot: usize, nth: u64) -> Option<(u64, PathBuf)> {
    let ring = play.ring(slot)?;
    let files: Vec<_> = walk::ring_files(&ring.dir, &ring.name)
        .into_iter()
        .filter(|(_, (_, state))| *state == State::Finished)
        .collect();
    let at = usize::try_from(nth).unwrap_or_default() % files.len().max(1);
    files
        .get(at)
        .map(|(number, (path, _))| (*number, path.clone()))
}

fn hold(play: &mut Play, slot: usize, nth: u64, how: &str) -> Checked<Outcome> {
    if play.held.len() >= 12 {
        return Ok(Nothing);
    }
    let Some((_, path)) = finished(play, slot, nth) else {
        return Ok(Nothing);
    };
    let name = play.name("held");
    let held = match how {
        "open" => {
            let Ok(file) = File::open(&path) else {
                return Ok(Nothing);
            };
            let Ok(bytes) = fs::read(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&file)
            )) else {
                return Ok(Nothing);
            };
            Held {
                path,
                open: Some(file),
                bytes,
            }
        }
        "link" => {
            let ring = play.ring(slot).expect("it has files");
            let to = ring.dir.with_file_name(name);
            if fs::hard_link(&path, &to).is_err() {
                return Ok(Nothing);
            }
            let bytes = fs::read(&to).unwrap_or_default();
            Held {
                path: to,
                open: None,
                bytes,
            }
        }
        _ => {
            // Somebody reads it, as `cp` does: nothing may come of it.
            let _ = fs::read(&path);
            return Ok(Done);
        }
    };
    let run = play.run(slot);
    run.why.insert(Why::ReaderOpen);
    play.held.push(held);
    Ok(Done)
}

/// Another capture of the same ring is refused, and disturbs nothing.
fn second(play: &mut Play, slot: usize) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() {
        return Ok(Nothing);
    }
    let ring = play.ring(slot).expect("it runs");
    let mut options = ring.runs.last().expect("it runs").options.clone();
    options.compress = String::new();
    let (_, args) = arguments(&options, slot, &ring.dir);
    let name = play.name("second");
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    let mut proc: Proc = play.world.lwnflog(&name, &args, &runtime);
    let status = proc.wait("a second capture of one ring", 30)?;
    if status.code() != Some(1) {
        return wrong(
            "a second capture of one ring is not refused",
            format!("{status}\n{}", proc.said()),
        );
    }
    Ok(Done)
}
