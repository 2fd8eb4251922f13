//! Others at the same time: clients that hang, two that order, chores and readers that are stopped.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::model::{Span, Why};
use crate::play::{Outcome, Play, ask};
use crate::traffic::now;
use crate::world::{Checked, wrong};

use Outcome::{Done, Nothing};

/// Two orders at one moment.
pub const TWO: [&str; 5] = [
    "snaplen 64|snaplen 96",
    "pause|resume",
    "files 3|files 8",
    "rotate|rotate",
    "rotate|snaplen 128",
];

fn socket(play: &Play, slot: usize) -> Option<PathBuf> {
    let live = play.slots[slot].live.as_ref()?;
    let mut entries = fs::read_dir(&live.runtime).ok()?.flatten();
    entries
        .find(|entry| entry.file_name().to_string_lossy().ends_with(".sock"))
        .map(|entry| entry.path())
}

pub fn hang(play: &mut Play, slot: usize, count: u64) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() || play.is_blind(slot) {
        return Ok(Nothing);
    }
    let Some(socket) = socket(play, slot) else {
        return wrong("no control socket", "");
    };
    for nth in 0..count {
        let Ok(mut stream) = UnixStream::connect(&socket) else {
            return wrong("a client cannot connect", format!("{nth} of {count}"));
        };
        // Every other one says half of something.
        if nth % 2 == 1 {
            let _ = stream.write_all(b"{\"v\":1,\"comm");
        }
        play.slots[slot].hanging.push(stream);
    }
    Ok(Done)
}

pub fn drop_clients(play: &mut Play, slot: usize) -> Checked<Outcome> {
    if play.slots[slot].hanging.is_empty() {
        return Ok(Nothing);
    }
    play.slots[slot].hanging.clear();
    Ok(Done)
}

fn request(order: &str) -> Value {
    let words: Vec<&str> = order.split(' ').collect();
    json!({"v": 1, "command": words[0], "args": &words[1..]})
}

pub fn two_orders(play: &mut Play, slot: usize, what: &str) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() || play.is_blind(slot) {
        return Ok(Nothing);
    }
    let Some((one, other)) = what.split_once('|') else {
        return Ok(Nothing);
    };
    let run = play.run(slot);
    let setting = one.split(' ').next().unwrap_or_default();
    let paused = run.is_paused();
    if run
        .pending
        .iter()
        .any(|pending| pending.setting == setting || pending.setting == "snaplen")
        || paused && what.contains("snaplen")
    {
        return Ok(Nothing);
    }
    let Some(socket) = socket(play, slot) else {
        return wrong("no control socket", "");
    };
    play.fence();
    let from = now();
    let answers: Vec<Result<Value, String>> = thread::scope(|scope| {
        let asked = [one, other].map(|order| {
            let socket = &socket;
            scope.spawn(move || ask(socket, &request(order), 20))
        });
        asked.map(|thread| thread.join().unwrap()).into()
    });
    let span = Span { from, to: now() };
    play.run(slot).why.insert(Why::Told);
    play.run(slot).orders += 2;
    for answer in &answers {
        if let Err(why) = answer
            && !why.contains("nothing to do")
            && !why.contains("already")
            && !why.contains("not paused")
        {
            return wrong("one of two orders is refused", format!("{what}: {why}"));
        }
    }
    let settings = match play.request(slot, "settings", &[], 0) {
        Ok(answer) => answer["settings"].clone(),
        Err(why) => return wrong("not answered after two orders", why),
    };
    let paused_now = play
        .request(slot, "stats", &[], 0)
        .is_ok_and(|answer| answer["paused"] == true);
    let run = play.run(slot);
    match setting {
        "snaplen" => {
            let now = settings["snaplen"].as_u64().unwrap_or_default();
            if now != 64 && now != 96 {
                return wrong("neither of two orders is in force", settings.to_string());
            }
            let now = u32::try_from(now).unwrap_or_default();
            run.snaplens.extend([(span, 160 - now), (span, now)]);
        }
        "files" => {
            let now = settings["files"].as_u64().unwrap_or_default();
            if now != 3 && now != 8 {
                return wrong("neither of two orders is in force", settings.to_string());
            }
            run.lost_files = true;
            (run.files, run.files_then) = (now, 0);
        }
        "pause" => {
            if paused && let Some((_, off)) = run.pauses.last_mut() {
                *off = Some(span);
            }
            if paused_now || !paused {
                run.pauses.push((span, (!paused_now).then_some(span)));
            }
        }
        _ if other.starts_with("snaplen") => run.snaplens.push((span, 128)),
        _ => {}
    }
    Ok(Done)
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

pub fn stop_chores(play: &mut Play, slot: usize, stop: bool) -> Checked<Outcome> {
    if !stop {
        let Some(pid) = play.slots[slot].chores_stopped.take() else {
            return Ok(Nothing);
        };
        signal(pid, Signal::CONT);
        return Ok(Done);
    }
    let Some(live) = &play.slots[slot].live else {
        return Ok(Nothing);
    };
    let found = crate::act::children(live.proc.pid());
    let Some(pid) = found.first().copied() else {
        return Ok(Nothing);
    };
    if play.slots[slot].chores_stopped.is_some() {
        return Ok(Nothing);
    }
    crate::faults::why(play, slot, &[Why::ChoresStopped]);
    signal(pid, Signal::STOP);
    play.slots[slot].chores_stopped = Some(pid);
    Ok(Done)
}

/// Chores are killed while they make a compressed file.
pub fn kill_packing(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let compressed = |play: &mut Play| !play.run(slot).options.compress.is_empty();
    if play.slots[slot].live.is_none() || play.is_blind(slot) || !compressed(play) {
        return Ok(Nothing);
    }
    let what = crate::traffic::What {
        kind: crate::traffic::Kind::Udp,
        port: 9000,
        from: 1400,
        to: 1514,
    };
    play.traffic.send(what, 3000, None);
    play.settle(slot)?;
    let dir = play.ring(slot).expect("it runs").dir.clone();
    let live = play.slots[slot].live.as_mut().expect("looked at above");
    let found = crate::act::children(live.proc.pid());
    let Some(pid) = found.first().copied() else {
        return Ok(Nothing);
    };
    live.proc.signal(Signal::HUP);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let packing = |name: &str| name.ends_with(".zst.part") || name.ends_with(".lz4.part");
        if entries
            .into_iter()
            .any(|entry| packing(&entry.file_name().to_string_lossy()))
        {
            break;
        }
    }
    signal(pid, Signal::KILL);
    crate::faults::why(play, slot, &[Why::ChoresKilled]);
    if play.slots[slot].chores_stopped == Some(pid) {
        play.slots[slot].chores_stopped = None;
    }
    Ok(Done)
}

pub fn pause_reader(play: &mut Play, slot: usize, how: &str, ms: u64) -> Checked<Outcome> {
    if play.ring(slot).is_none_or(|ring| ring.runs.is_empty()) || play.is_blind(slot) {
        return Ok(Nothing);
    }
    let Some((mut proc, out)) = crate::readers::start(play, slot, how) else {
        return Ok(Nothing);
    };
    thread::sleep(Duration::from_millis(ms % 20));
    proc.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(ms));
    proc.signal(Signal::CONT);
    let status = proc.wait(&format!("a reader that was stopped, {how}"), 60)?;
    let _ = fs::remove_file(&out);
    let said = proc.said();
    if said.contains("panicked")
        || status.code().is_none()
        || status.code() != Some(0) && said.trim().is_empty()
    {
        return wrong(
            "a reader that was stopped",
            format!("{how}: {status}\n{said}"),
        );
    }
    Ok(Done)
}
