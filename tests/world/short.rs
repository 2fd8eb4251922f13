//! Limits of a process that runs: descriptors, memory, lengths of files.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::model::Why;
use crate::play::{Outcome, Play};
use crate::world::Checked;

use Outcome::{Done, Nothing};

/// `nofile`: no further descriptor. `as`: no further mapping. `fsize`: no file beyond 64 KiB.
/// `memlock`: nothing more is locked.
pub const LIMITS: [&str; 4] = ["nofile", "as", "fsize", "memlock"];

/// What was before.
pub struct Limited {
    resource: Resource,
    before: Rlimit,
}

fn pid_of(play: &Play, slot: usize) -> Option<Pid> {
    let live = play.slots[slot].live.as_ref()?;
    Pid::from_raw(i32::try_from(live.proc.pid()).ok()?)
}

pub fn limit(play: &mut Play, slot: usize, what: &str) -> Checked<Outcome> {
    let Some(pid) = pid_of(play, slot).filter(|_| !play.is_blind(slot)) else {
        return Ok(Nothing);
    };
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let (resource, name, most) = match what {
        "nofile" => {
            let open = fs::read_dir(format!("{proc}/fd")).map_or(0, Iterator::count);
            (Resource::Nofile, "Max open files", open as u64)
        }
        "as" => {
            let status = fs::read_to_string(format!("{proc}/statm")).unwrap_or_default();
            let pages = status.split(' ').next().and_then(|word| word.parse().ok());
            (
                Resource::As,
                "Max address space",
                pages.unwrap_or(0u64) * 4096 + 65_536,
            )
        }
        "fsize" => (Resource::Fsize, "Max file size", 65_536),
        _ => (Resource::Memlock, "Max locked memory", 0),
    };
    // The hard one stays: not everywhere may root raise it again.
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap_or_default();
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1));
    let lower = Rlimit {
        current: Some(most),
        maximum: hard.and_then(|word| word.parse().ok()),
    };
    let Ok(before) = prlimit(Some(pid), resource, lower) else {
        return Ok(Nothing);
    };
    crate::faults::why(play, slot, &[Why::Short]);
    play.slots[slot].limited = Some(Limited { resource, before });
    Ok(Done)
}

pub fn unlimit(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let Some(limited) = play.slots[slot].limited.take() else {
        return Ok(Nothing);
    };
    let Some(pid) = pid_of(play, slot) else {
        return Ok(Nothing);
    };
    let _ = prlimit(Some(pid), limited.resource, limited.before);
    Ok(Done)
}
