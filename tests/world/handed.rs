//! What is done with finished files, and what stands in them beside packets: copies by a command, comments,
//! counts of losses.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::Found;
use crate::model::{Ring, Why};
use crate::play::Play;
use crate::walk::{self, State};
use crate::world::{Checked, wrong};

/// Where the command copies files to: beside the ring, in the same file system.
pub fn place(dir: &Path) -> PathBuf {
    dir.with_extension("handed")
}

/// A capture has ended: what its files say of it, and what was done with them.
pub fn ended(play: &mut Play, slot: usize, found: &Found, said: &str) -> Checked {
    let ring = play.ring(slot).expect("it ran");
    let run = ring.runs.last().expect("it ran");
    if run.killed || ring.left_as_it_is() {
        return Ok(());
    }
    notes(ring, found, said)?;
    // Files of a run that had no command are not handed to that of a later one.
    let always = ring.runs.iter().all(|run| run.options.on_rotate);
    if always && !run.has(Why::ChoresKilled) && !run.has(Why::Full) {
        copies(ring, said)?;
    }
    Ok(())
}

/// Losses and orders are in the files, where all of them are there.
fn notes(ring: &Ring, found: &Found, said: &str) -> Checked {
    let gone = |run: &crate::model::Run| {
        run.killed
            || run.lost_files
            || run.files != 0
            || run.max_bytes != 0
            || run.options.format == "pcap"
            || [Why::Full, Why::ReadOnly, Why::LiveTaken, Why::Frozen]
                .iter()
                .any(|why| run.has(*why))
    };
    let first = found.files.first().is_none_or(|first| *first == 1);
    if !first || ring.is_taken_from() || !ring.spoiled.is_empty() || ring.runs.iter().any(gone) {
        return Ok(());
    }
    let dropped: u64 = ring.runs.iter().map(|run| run.dropped).sum();
    if found.lost != dropped && found.packets != 0 {
        return wrong(
            "the files say other losses than the report",
            format!("{} of {dropped}\n{said}", found.lost),
        );
    }
    let told = found
        .comments
        .iter()
        .filter(|comment| comment.contains("by uid 0"));
    let (told, orders) = (
        told.count() as u64,
        ring.runs.iter().map(|run| run.orders).sum::<u64>(),
    );
    let may_be_more = ring.runs.iter().any(|run| run.has(Why::Confirmed));
    if told > orders && !may_be_more {
        return wrong(
            "the files say more orders than there were",
            format!("{told} of {orders}: {:?}\n{said}", found.comments),
        );
    }
    Ok(())
}

/// Each finished file was handed to the command, or that is said.
fn copies(ring: &Ring, said: &str) -> Checked {
    let to = place(&ring.dir);
    let begun = Instant::now();
    for (path, state) in walk::ring_files(&ring.dir, &ring.name).values() {
        if *state != State::Finished || ring.is_spoiled(path) {
            continue;
        }
        let copy = to.join(path.file_name().unwrap_or_default());
        let same = || fs::read(&copy).unwrap_or_default() == fs::read(path).unwrap_or_default();
        while !same() {
            if begun.elapsed() > Duration::from_secs(45) {
                return wrong(
                    "a finished file was not handed over",
                    format!("{}\n{said}", path.display()),
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}
