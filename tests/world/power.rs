//! Machines that lose power: the image of a file system as it lies on the device, mounted beside, and a
//! capture that goes on there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::check::Reader;
use crate::model::Ring;
use crate::play::{Outcome, Play, SLOTS};
use crate::steps::{Place, Step};
use crate::walk;
use crate::world::{Checked, tool, wrong};

use Outcome::{Done, Nothing};

pub fn act(play: &mut Play, step: &Step) -> Checked<Outcome> {
    match step {
        Step::PowerLoss { capture, sync } => power_loss(play, usize::from(*capture) % SLOTS, *sync),
        _ => Ok(Nothing),
    }
}

fn power_loss(play: &mut Play, slot: usize, sync: bool) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() {
        return Ok(Nothing);
    }
    let options = play.run(slot).options.clone();
    if !crate::disk::has_device(options.place)
        || crate::disk::is_failed(play, slot)
        || play.filled.contains_key(&options.place)
    {
        return Ok(Nothing);
    }
    if sync {
        tool(
            Command::new("sync")
                .arg("-f")
                .arg(play.world.place(options.place)),
        );
    }
    let image = play.world.image(options.place);
    let (copy, at) = (
        play.world.dir.join("power.img"),
        play.world.dir.join("power"),
    );
    // What changed while it was copied was never on a device at one moment.
    let taken = (0..8).find_map(|_| {
        let first = pieces(&image).ok()?;
        (pieces(&image).ok()? == first).then_some(first)
    });
    let Some(taken) = taken else {
        return Ok(Nothing);
    };
    let put = || -> std::io::Result<()> {
        let file = fs::File::create(&copy)?;
        file.set_len(fs::metadata(&image)?.len())?;
        for (at, bytes) in &taken {
            file.write_all_at(bytes, *at)?;
        }
        Ok(())
    };
    put().unwrap();
    drop(taken);
    fs::create_dir_all(&at).unwrap();
    tool(
        Command::new("mount")
            // A copy of an XFS has the identity of the one that is mounted.
            .args([
                "-o",
                if options.place == Place::Xfs {
                    "loop,nouuid"
                } else {
                    "loop"
                },
            ])
            .arg(&copy)
            .arg(&at),
    );
    // Another machine's administrator has unlocked it.
    let there = play.ring(slot).and_then(|ring| ring.dir.file_name());
    let _ = Command::new("chattr")
        .args(["-i", "-a"])
        .arg(at.join(there.unwrap_or_default()))
        .stderr(std::process::Stdio::null())
        .status();
    let done = start_again(play, slot, &at);
    let _ = Command::new("umount").arg(&at).status();
    let _ = fs::remove_file(&copy);
    done
}

/// What an image has, without its holes.
fn pieces(image: &std::path::Path) -> std::io::Result<Vec<(u64, Vec<u8>)>> {
    use rustix::fs::{SeekFrom, seek};
    let (file, mut found, mut at) = (fs::File::open(image)?, Vec::new(), 0);
    while let Ok(from) = seek(&file, SeekFrom::Data(at)) {
        let to = seek(&file, SeekFrom::Hole(from))?;
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
        file.read_exact_at(&mut bytes, from)?;
        found.push((from, bytes));
        at = to;
    }
    Ok(found)
}

pub fn start_again(play: &mut Play, slot: usize, at: &std::path::Path) -> Checked<Outcome> {
    let chunks = play.chunks(slot);
    let ring = play.ring(slot).expect("it runs");
    let (name, there) = (
        ring.name.clone(),
        at.join(ring.dir.file_name().unwrap_or_default()),
    );
    if !there.exists() {
        return Ok(Done);
    }
    let options = ring.runs.last().expect("it runs").options.clone();
    let (_, mut args) = crate::act::arguments(&options, slot, &there);
    // Another source under the same name: none comes here, and nothing is taken from the one that runs.
    let drop = |args: &mut Vec<String>, word: &str, values: usize| {
        if let Some(at) = args.iter().position(|arg| arg == word) {
            args.drain(at..=at + values);
        }
    };
    for (word, values) in [
        ("--hook", 1),
        ("--group", 1),
        ("--queue", 1),
        ("--install-rule", 0),
        ("--match", 1),
        ("--keep-on", 1),
        ("--last", 1),
        ("--next", 1),
        ("--keep-every", 1),
        ("--keep-bytes", 1),
    ] {
        drop(&mut args, word, values);
    }
    let mut command = std::process::Command::new("unshare");
    // In a network of its own, so that the same group, queue or hook is free.
    command.args(["--net"]).arg(&play.world.program);
    match options.source {
        crate::steps::Source::Hook => command.args(["--hook", crate::act::hook(&options)]),
        crate::steps::Source::Queue => command.args(["--queue", &(5 + slot).to_string()]),
        crate::steps::Source::Group => command.args(["--group", &(5 + slot).to_string()]),
        crate::steps::Source::Installed => {
            command.args(["--group", &(15 + slot).to_string(), "--install-rule"])
        }
    };
    let runtime = play.world.dir.join("run").join(play.name("power"));
    fs::create_dir_all(&runtime).unwrap();
    command.args(&args).env("RUNTIME_DIRECTORY", &runtime);
    let label = play.name("after-power");
    let mut proc = play.world.spawn(&label, &mut command);
    let begun = Instant::now();
    while !proc.said().contains("lwnflog: capturing ") {
        if let Some(status) = proc.ended() {
            let said = proc.said();
            if status.code() == Some(1)
                && (said.contains("are free") || said.contains("No space"))
                && !said.contains("panicked")
            {
                return Ok(Done);
            }
            return wrong(
                "does not begin after a power loss",
                format!("{args:?}: {status}\n{said}"),
            );
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return wrong("hangs: the start after a power loss", proc.said());
        }
        thread::sleep(Duration::from_millis(5));
    }
    // It goes on: to the next file, too.
    proc.signal(Signal::HUP);
    proc.signal(Signal::INT);
    let status = proc.wait("the end of a capture after a power loss", 60)?;
    if status.code() != Some(0) || proc.said().contains("panicked") {
        return wrong(
            "a capture after a power loss",
            format!("{status}\n{}", proc.said()),
        );
    }
    // Nothing is synced (LIMITS.md): of finished files there is what had been written back. What the start
    // has repaired can be read, and has packets of ours, whole.
    let ring: &Ring = play.ring(slot).expect("it runs");
    for (number, (path, state)) in walk::ring_files(&there, &name) {
        if state == walk::State::Damaged || ring.taken.contains(&number) {
            continue;
        }
        let walked = match walk::file(&path) {
            Ok(walked) => walked,
            // Named before, and its packets not yet on the disk.
            Err(_)
                if !proc
                    .said()
                    .contains(&format!("finished {} of a run", path.display())) =>
            {
                continue;
            }
            Err(why) => {
                return wrong(
                    "a file cannot be read after a power loss",
                    format!("{why}\n{}", proc.said()),
                );
            }
        };
        let mut reader = Reader::new(ring, &chunks);
        reader.open = true;
        reader.take(&walked, "after a power loss")?;
    }
    Ok(Done)
}
