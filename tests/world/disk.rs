//! Directories and devices that do not do what they did.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::model::{Run, Why};
use crate::play::{Outcome, Play, SLOTS};
use crate::steps::Place;
use crate::walk;
use crate::world::{Checked, tool, wrong};

use Outcome::{Done, Nothing};

pub fn has_device(place: Place) -> bool {
    matches!(place, Place::Ext4 | Place::Xfs | Place::SmallExt4)
}

fn chattr(how: &str, at: &Path) {
    tool(Command::new("chattr").arg(how).arg(at));
}

pub fn lock(play: &mut Play, slot: usize, what: &str) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() || play.is_blind(slot) {
        return Ok(Nothing);
    }
    let ring = play.slots[slot].ring.as_mut().expect("it runs");
    if ring.locked.is_some() {
        return Ok(Nothing);
    }
    chattr(&format!("+{what}"), &ring.dir);
    ring.locked = Some(what.to_owned());
    crate::faults::why(play, slot, &[Why::Locked]);
    Ok(Done)
}

/// Its directory is as it was, and what is none of its is taken away.
pub fn unlock(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let Some(ring) = play.slots[slot].ring.as_mut() else {
        return Ok(Nothing);
    };
    if ring.locked.is_none() && ring.foreign.is_empty() {
        return Ok(Nothing);
    }
    if let Some(what) = ring.locked.take() {
        let _ = Command::new("chattr")
            .arg(format!("-{what}"))
            .arg(&ring.dir)
            .stderr(Stdio::null())
            .status();
    }
    for path in ring.foreign.drain(..) {
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
    }
    Ok(Done)
}

/// What a capture that begins has to expect of what others did to its directory.
pub fn begins(play: &Play, slot: usize, run: &mut Run) {
    let Some(ring) = play.ring(slot) else { return };
    if let Some(before) = ring.runs.last()
        && [Why::Locked, Why::Away, Why::Foreign, Why::Short]
            .iter()
            .any(|why| before.has(*why))
    {
        run.why.insert(Why::KilledBefore);
    }
    if ring.locked.is_some() {
        run.why.insert(Why::Locked);
    }
    if ring.is_foreign() {
        run.why.insert(Why::Foreign);
    }
    if play.slots[slot].rule != 0 {
        run.why.insert(Why::RuleChanged);
    }
}

/// Whether a capture may be refused its directory.
pub fn may_refuse(play: &Play, slot: usize, place: Place) -> bool {
    play.failed.contains_key(&place) || play.ring(slot).is_some_and(|ring| ring.locked.is_some())
}

/// Whether what a capture has written cannot be looked at.
pub fn is_failed(play: &Play, slot: usize) -> bool {
    let run = play.ring(slot).and_then(|ring| ring.runs.last());
    run.is_some_and(|run| play.failed.contains_key(&run.options.place))
}

/// The device fails, or the file system finds an error and becomes read-only.
pub fn fail(play: &mut Play, place: Place, what: &str) -> Checked<Outcome> {
    if !has_device(place) || play.failed.contains_key(&place) {
        return Ok(Nothing);
    }
    let at = play.world.place(place);
    if what == "error" && place != Place::Xfs {
        let device = tool(
            Command::new("findmnt")
                .args(["-n", "-o", "SOURCE"])
                .arg(&at),
        );
        let device = device.trim().rsplit('/').next().unwrap_or_default();
        tool(
            Command::new("mount")
                .args(["-o", "remount,errors=remount-ro"])
                .arg(&at),
        );
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        if fs::write(&trigger, "the world").is_err() {
            return wrong("the world needs a trigger of errors", trigger);
        }
    } else {
        tool(
            Command::new("xfs_io")
                .args(["-x", "-c", "shutdown"])
                .arg(&at),
        );
    }
    play.failed.insert(place, what.to_owned());
    play.happened(Some(place), Why::Failed);
    play.happened(Some(place), Why::ReadOnly);
    Ok(Done)
}

fn there(play: &Play, slot: usize, place: Place) -> bool {
    play.ring(slot)
        .and_then(|ring| ring.runs.last())
        .is_some_and(|run| run.options.place == place)
}

/// Whoever captures there ends; the file system is mounted anew, and has what its device has: as after a
/// power loss.
pub fn mend(play: &mut Play, place: Place) -> Checked<Outcome> {
    if play.failed.remove(&place).is_none() {
        return Ok(Nothing);
    }
    let at = play.world.place(place);
    for slot in 0..SLOTS {
        if !there(play, slot, place) {
            continue;
        }
        if let Some(follower) = play.slots[slot].follower.as_mut() {
            follower.proc.signal(Signal::KILL);
            follower
                .proc
                .wait("a follower of a device that failed", 20)?;
            play.slots[slot].follower = None;
        }
        if play.slots[slot].live.is_some() {
            end_there(play, slot, false)?;
        }
        if let Some(ring) = play.slots[slot].ring.as_mut() {
            ring.locked = None;
            ring.foreign.clear();
        }
    }
    play.held.retain(|held| !held.path.starts_with(&at));
    // Chores of a capture that was killed may be there for half a minute.
    let begun = Instant::now();
    while !Command::new("umount")
        .arg(&at)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        if begun.elapsed() > Duration::from_secs(60) {
            return wrong("a file system stays in use", at.display().to_string());
        }
        thread::sleep(Duration::from_millis(100));
    }
    play.world.mount_again(place);
    for slot in 0..SLOTS {
        if there(play, slot, place) {
            unlock_all(play, slot);
            crate::power::start_again(play, slot, &at)?;
            play.slots[slot].ring = None;
        }
    }
    Ok(Done)
}

fn unlock_all(play: &Play, slot: usize) {
    let Some(ring) = play.ring(slot) else { return };
    let _ = Command::new("chattr")
        .args(["-i", "-a"])
        .arg(&ring.dir)
        .stderr(Stdio::null())
        .status();
}

/// A capture on a device that failed ends well, with an account that closes: its files are not to be had.
pub fn end_there(play: &mut Play, slot: usize, kill: bool) -> Checked {
    crate::short::unlimit(play, slot)?;
    crate::company::stop_chores(play, slot, false)?;
    play.fence();
    let from = crate::traffic::now();
    play.run(slot).ended = Some(crate::model::Span { from, to: i64::MAX });
    let mut live = play.slots[slot]
        .live
        .take()
        .expect("looked at by the caller");
    if live.stopped {
        live.proc.signal(Signal::CONT);
    }
    if kill {
        play.run(slot).killed = true;
        live.proc.signal(Signal::KILL);
        live.proc
            .wait("a capture that was killed on a device that failed", 60)?;
        return Ok(());
    }
    live.proc.signal(Signal::INT);
    let status = live
        .proc
        .wait("the end of a capture on a device that failed", 60)?;
    let to = crate::traffic::now();
    play.run(slot).ended = Some(crate::model::Span { from, to });
    let said = live.proc.said();
    if said.contains("panicked") || status.code() != Some(0) {
        return wrong(
            "a capture on a device that failed",
            format!("{status}\n{said}"),
        );
    }
    let chunks = play.chunks(slot);
    let ring = play.ring(slot).expect("it ran");
    let run = ring.runs.last().expect("it ran");
    for line in live.proc.new_lines() {
        if let Some(why) = crate::messages::judge(&line, run) {
            return wrong(
                &format!("a false message: {}", crate::play::shape(&line)),
                format!("{why}\nall it said:\n{said}"),
            );
        }
    }
    let shown = String::from_utf8_lossy(&live.proc.shown()).into_owned();
    let report = shown.lines().rev().find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        (value["event"] == "report").then_some(value)
    });
    match report {
        Some(report) => crate::check::account(ring, &chunks, &report, true, false),
        None => wrong("no report", said),
    }
}

/// The ring's directory is renamed, and renamed back if none was made in its place meanwhile.
pub fn move_dir(play: &mut Play, slot: usize, ms: u64, packets: u64) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() || play.is_blind(slot) {
        return Ok(Nothing);
    }
    let ring = play.slots[slot].ring.as_mut().expect("it runs");
    if ring.locked.is_some() || ring.is_foreign() {
        return Ok(Nothing);
    }
    let (dir, away) = (ring.dir.clone(), ring.dir.with_extension("away"));
    let numbers: Vec<u64> = walk::ring_files(&dir, &ring.name).into_keys().collect();
    let last = numbers.last().copied().unwrap_or_default();
    if fs::rename(&dir, &away).is_err() {
        return Ok(Nothing);
    }
    ring.taken.extend(numbers);
    ring.taken.extend([last + 1, last + 2]);
    crate::faults::why(play, slot, &[Why::Away, Why::LiveTaken, Why::FinishedTaken]);
    let what = crate::traffic::What {
        kind: crate::traffic::Kind::Udp,
        port: 9000,
        from: 100,
        to: 1500,
    };
    play.traffic.send(what, packets, None);
    thread::sleep(Duration::from_millis(ms));
    play.fence();
    if fs::rename(&away, &dir).is_err() {
        let _ = fs::remove_dir_all(&away);
    }
    Ok(Done)
}

pub fn rename_file(play: &mut Play, slot: usize, nth: u64) -> Checked<Outcome> {
    let Some((number, path)) =
        crate::act::finished(play, slot, nth).filter(|_| !play.is_blind(slot))
    else {
        return Ok(Nothing);
    };
    let name = play.name("evidence");
    let to = path.with_file_name(format!("{name}.pcapng"));
    if fs::rename(&path, &to).is_err() {
        return Ok(Nothing);
    }
    let ring = play.slots[slot].ring.as_mut().expect("it has files");
    // A reader of the directory, and a follower, have it as another capture there.
    ring.spoiled.push(to);
    ring.taken.push(number);
    crate::faults::why(play, slot, &[Why::FinishedTaken]);
    Ok(Done)
}

/// Something stands where the ring will want a file of its own.
pub fn foreign(play: &mut Play, slot: usize, what: &str, name: &str) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() || play.is_blind(slot) {
        return Ok(Nothing);
    }
    let ring = play.slots[slot].ring.as_mut().expect("it runs");
    if ring.locked.is_some() || ring.is_foreign() {
        return Ok(Nothing);
    }
    let mut numbers: Vec<u64> = walk::ring_files(&ring.dir, &ring.name)
        .into_keys()
        .collect();
    numbers.extend(walk::unnamed_files(&ring.dir, &ring.name).into_keys());
    let last = numbers.into_iter().max().unwrap_or_default();
    for number in [last + 1, last + 2] {
        let file = match name {
            "live" => format!("{}-{number:06}.live.pcapng", ring.name),
            name => format!(".{}-{number:06}.{name}.pcapng", ring.name),
        };
        let path = ring.dir.join(file);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        let made = match what {
            "dir" => fs::create_dir(&path).is_ok(),
            "fifo" => Command::new("mkfifo")
                .arg(&path)
                .status()
                .is_ok_and(|status| status.success()),
            "link" => std::os::unix::fs::symlink("/dev/null", &path).is_ok(),
            _ => fs::write(&path, b"none of its").is_ok(),
        };
        if made {
            ring.foreign.push(path.clone());
            if what == "file" {
                ring.spoiled.push(path);
            }
        }
    }
    crate::faults::why(play, slot, &[Why::Foreign]);
    Ok(Done)
}
