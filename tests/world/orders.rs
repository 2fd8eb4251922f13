//! Orders through the control socket, and what is in force after them.

use std::fs;
use std::path::Path;

use crate::check;
use crate::model::{Pending, Span, Why};
use crate::play::{Outcome, Play};
use crate::traffic::{SECOND, now};
use crate::walk;
use crate::world::{Checked, wrong};

use Outcome::{Done, Nothing};

/// What is in force of a setting, as the model has it.
fn in_force(play: &mut Play, slot: usize, setting: &str) -> u64 {
    let run = play.run(slot);
    match setting {
        "pause" => u64::from(run.is_paused()),
        "snaplen" => u64::from(run.snaplen()),
        "files" => run.files,
        "max-bytes" => run.max_bytes,
        "file-size" => run.file_bytes,
        _ => 0,
    }
}

/// A setting has another value, not before the span and from its end on.
fn set(play: &mut Play, slot: usize, setting: &str, value: u64, span: Span) {
    let run = play.run(slot);
    match setting {
        "pause" if value == 1 && !run.is_paused() => run.pauses.push((span, None)),
        "pause" if value == 0 => {
            if let Some((_, off)) = run.pauses.last_mut()
                && off.is_none()
            {
                *off = Some(span);
            }
        }
        "snaplen" => run
            .snaplens
            .push((span, u32::try_from(value).unwrap_or(u32::MAX))),
        "files" => {
            run.lost_files |= run.files != 0;
            (run.files, run.files_then) = (value, 0);
        }
        "max-bytes" => {
            run.lost_files |= run.max_bytes != 0;
            run.max_bytes = value;
        }
        "file-size" => run.file_bytes = value,
        "batch" if value != 0 => run.batch = run.batch.min(value),
        _ => {}
    }
}

/// What nobody has confirmed goes back when its time has come; this waits where that is soon.
pub fn due(play: &mut Play) -> Checked {
    for slot in 0..crate::play::SLOTS {
        loop {
            if play.slots[slot]
                .live
                .as_ref()
                .is_none_or(|live| live.stopped)
            {
                break;
            }
            let run = play.run(slot);
            let Some(first) = run
                .pending
                .iter()
                .map(|pending| pending.due)
                .min()
                .filter(|due| *due < now() + 2 * SECOND)
            else {
                break;
            };
            let at = run
                .pending
                .iter()
                .position(|pending| pending.due == first)
                .unwrap_or_default();
            let gone = run.pending.remove(at);
            let left = first + SECOND - now();
            if left > 0 {
                std::thread::sleep(std::time::Duration::from_nanos(
                    u64::try_from(left).unwrap_or_default(),
                ));
            }
            let value = gone.back_to;
            set(
                play,
                slot,
                &gone.setting,
                value,
                Span {
                    from: first - SECOND,
                    to: now(),
                },
            );
        }
    }
    Ok(())
}

pub fn order(play: &mut Play, slot: usize, order: &str, confirm_secs: u64) -> Checked<Outcome> {
    if play.slots[slot]
        .live
        .as_ref()
        .is_none_or(|live| live.stopped)
    {
        return Ok(Nothing);
    }
    let words: Vec<&str> = order.split(' ').collect();
    let (command, args) = (words[0], &words[1..]);
    let setting = if command == "resume" {
        "pause"
    } else {
        command
    };
    let value = match command {
        "pause" => 1,
        "resume" => 0,
        _ => args
            .first()
            .map_or(0, |word| match word.strip_suffix("KiB") {
                Some(kib) => kib.parse::<u64>().unwrap_or_default() * 1024,
                None => word.parse().unwrap_or_default(),
            }),
    };
    let value = if command == "snaplen" && value == 0 {
        65535
    } else {
        value
    };
    // Of several to one setting, one at a time is enough here.
    if play
        .run(slot)
        .pending
        .iter()
        .any(|pending| pending.setting == setting)
    {
        return Ok(Nothing);
    }
    play.fence();
    let before = in_force(play, slot, setting);
    if matches!(command, "snaplen" | "batch" | "flush-ms") && play.run(slot).is_paused() {
        return Ok(Nothing);
    }
    let from = now();
    let answer = play.request(slot, command, args, confirm_secs);
    let span = Span { from, to: now() };
    play.run(slot).why.insert(Why::Told);
    if let Err(why) = &answer {
        let same = before == value && setting != "rotate" || why.contains("--max-bytes");
        if same || why.contains("nothing to do") || play.is_blind(slot) {
            return Ok(Done);
        }
        return wrong(
            &format!("an order is refused: {command}"),
            format!("{order}: {why}"),
        );
    }
    play.run(slot).orders += 1;
    if command == "rotate" {
        return Ok(Done);
    }
    if before != value {
        set(play, slot, setting, value, span);
    }
    if confirm_secs != 0 {
        play.run(slot).why.insert(Why::Confirmed);
        let due = span.to + i64::try_from(confirm_secs).unwrap_or_default() * SECOND;
        play.run(slot).pending.push(Pending {
            setting: setting.to_owned(),
            back_to: before,
            due,
        });
    }
    Ok(Done)
}

pub fn confirm(play: &mut Play, slot: usize) -> Checked<Outcome> {
    if play.slots[slot]
        .live
        .as_ref()
        .is_none_or(|live| live.stopped)
        || play.run(slot).pending.is_empty()
    {
        return Ok(Nothing);
    }
    if let Err(why) = play.request(slot, "confirm", &[], 0) {
        if play.is_blind(slot) {
            return Ok(Nothing);
        }
        return wrong("a change cannot be confirmed", why);
    }
    play.run(slot).why.insert(Why::Told);
    play.run(slot).pending.clear();
    Ok(Done)
}

pub fn bad(play: &mut Play, slot: usize, order: &str) -> Checked<Outcome> {
    if play.slots[slot]
        .live
        .as_ref()
        .is_none_or(|live| live.stopped)
    {
        return Ok(Nothing);
    }
    let settings = |play: &Play| {
        play.request(slot, "settings", &[], 0)
            .map(|answer| answer["settings"].to_string())
    };
    let words: Vec<&str> = order.split(' ').collect();
    let before = settings(play);
    let answer = play.request(slot, words[0], &words[1..], 0);
    if let Ok(answer) = answer {
        return wrong("nonsense is obeyed", format!("{order}: {answer}"));
    }
    let after = settings(play);
    if play.run(slot).pending.is_empty() && before != after {
        return wrong(
            "nonsense has changed something",
            format!("{order}: {before:?} {after:?}"),
        );
    }
    Ok(Done)
}

pub fn keep(play: &mut Play, slot: usize, last_secs: u64, next_secs: u64) -> Checked<Outcome> {
    if play.slots[slot]
        .live
        .as_ref()
        .is_none_or(|live| live.stopped)
    {
        return Ok(Nothing);
    }
    if play.is_blind(slot) {
        return Ok(Nothing);
    }
    play.settle(slot)?;
    play.run(slot).why.insert(Why::Kept);
    let below = play.traffic.next_number();
    let (last, next) = (format!("last={last_secs}s"), format!("next={next_secs}s"));
    let mut args = vec![last.as_str()];
    if next_secs != 0 {
        args.push(next.as_str());
    }
    let answer = match play.request(slot, "keep", &args, 0) {
        Ok(answer) => answer,
        Err(why) => {
            if play.run(slot).is_lossy()
                || play.run(slot).has(Why::Away)
                || play.run(slot).options.keep_on && why.contains("--keep-bytes")
            {
                return Ok(Done);
            }
            return wrong("nothing is kept", why);
        }
    };
    let chunks = play.chunks(slot);
    let ring = play.ring(slot).expect("it runs");
    if ring.left_as_it_is()
        || ring
            .runs
            .last()
            .is_some_and(|run| run.is_lossy() || run.has(Why::Spoiled) || run.has(Why::Away))
    {
        return Ok(Done);
    }
    // `kept 2 files (1,234 bytes) in DIR for uid 0`
    let said = answer["done"].as_str().unwrap_or_default();
    let number = said
        .split(' ')
        .nth(1)
        .and_then(|word| word.replace(',', "").parse().ok());
    let dir = said
        .split_once(" bytes) in ")
        .and_then(|(_, behind)| behind.split_once(" for "));
    let files = dir.map_or_else(Default::default, |(dir, _)| {
        walk::ring_files(Path::new(dir), &ring.name)
    });
    if number
        .is_none_or(|number: usize| number > files.len() || next_secs == 0 && number != files.len())
    {
        return wrong(
            "as many files are not kept as it says",
            format!("{said}\n{files:?}"),
        );
    }
    if said.contains(" not: ")
        && said.contains("(--keep-bytes ")
        && ring.runs.last().is_some_and(|run| run.options.keep_on)
    {
        return Ok(Done);
    }
    // All that is in the ring and came in this time is in what is kept.
    let since = now() - i64::try_from(last_secs).unwrap_or_default() * SECOND;
    let mut reader = check::Reader::new(ring, &chunks);
    reader.open = play.traffic.is_on();
    for (path, _) in files.values() {
        let name = path.file_name().unwrap_or_default();
        if ring.is_spoiled(&ring.dir.join(name)) {
            continue;
        }
        let walked = match walk::file(path) {
            Ok(walked) => walked,
            Err(why) => return wrong("a kept file that cannot be read", why),
        };
        reader.take(&walked, &path.display().to_string())?;
    }
    let missing = {
        let first = chunks
            .iter()
            .find(|chunk| chunk.at.0 >= since)
            .map_or(below, |chunk| chunk.first);
        reader.missing(first, below)
    };
    let in_ring = {
        let mut reader = check::Reader::new(ring, &chunks);
        reader.open = play.traffic.is_on();
        for (path, _) in walk::ring_files(&ring.dir, &ring.name).values() {
            if let Ok(walked) = walk::file(path) {
                reader.take(&walked, &path.display().to_string())?;
            }
        }
        reader
    };
    let not_kept: Vec<u64> = missing
        .into_iter()
        .filter(|number| {
            let at = chunks.partition_point(|chunk| chunk.first + chunk.count <= *number);
            in_ring
                .seen
                .get(&at)
                .is_some_and(|mask| mask & 1 << (number - chunks[at].first) != 0)
        })
        .collect();
    if !not_kept.is_empty() {
        return wrong(
            "not kept, though it came in that time",
            format!(
                "{}\n{answer}\n{}",
                check::runs(&not_kept),
                crate::play::listing(&ring.dir)
            ),
        );
    }
    Ok(Done)
}

/// Clients at once: each gets its answer, and nothing is disturbed.
pub fn clients(play: &mut Play, slot: usize) -> Checked<Outcome> {
    if play.is_blind(slot) {
        return Ok(Nothing);
    }
    let Some(live) = play.slots[slot].live.as_ref() else {
        return Ok(Nothing);
    };
    let socket = fs::read_dir(&live.runtime)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "sock"));
    let Some(socket) = socket else {
        return wrong("no control socket", live.runtime.display().to_string());
    };
    let words = ["stats", "settings", "stats", "rotate"];
    let answers: Vec<Result<serde_json::Value, String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = words
            .iter()
            .map(|word| {
                let socket = &socket;
                scope.spawn(move || {
                    let mut last = Ok(serde_json::Value::Null);
                    for _ in 0..5 {
                        last = crate::play::ask(
                            socket,
                            &serde_json::json!({"v": 1, "command": word}),
                            20,
                        );
                        if last.is_err() {
                            break;
                        }
                    }
                    last
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    play.run(slot).why.insert(Why::Told);
    for (word, answer) in words.iter().zip(answers) {
        if let Err(why) = answer {
            return wrong(
                "a client of several is not answered",
                format!("{word}: {why}"),
            );
        }
    }
    Ok(Done)
}
