//! What was written, held against what must be.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::model::{Ring, Run, Want, Why};
use crate::packets;
use crate::traffic::{Chunk, SECOND, SENDERS, Time, number_of};
use crate::walk::{self, State, Walked};
use crate::world::{Checked, wrong};

/// What a ring's files have.
#[derive(Debug, Default)]
pub struct Found {
    /// Of each run, its packets.
    pub of_run: Vec<u64>,
    pub lost: u64,
    pub files: Vec<u64>,
    /// Of each file, the first and the last packet.
    pub ends: BTreeMap<u64, (u64, u64)>,
    pub missing: Vec<u64>,
    pub comments: Vec<String>,
    pub packets: u64,
}

/// Of each sender, the first and the last packet.
type Ends = [Option<(u64, u64)>; SENDERS];

/// The packets of one output, whatever it is: each is known, byte for byte, in order, once.
pub struct Reader<'a> {
    ring: &'a Ring,
    chunks: &'a [Chunk],
    /// Of each chunk, a bit for each packet seen.
    pub seen: HashMap<usize, u64>,
    /// Of each sender, the first and the last packet seen.
    ends: Ends,
    /// Of the last file, the same.
    of_file: Ends,
    /// There may be packets that came later.
    pub open: bool,
    of_run: Vec<u64>,
    /// What was found out of the chunk that was looked at last.
    of_chunk: Option<OfChunk>,
}

struct OfChunk {
    at: usize,
    run: usize,
    /// To how many bytes its packets may have been cut.
    cuts: Vec<u32>,
}

/// The program's clock of a hook against ours.
const CLOCKS: Time = SECOND / 100;

impl<'a> Reader<'a> {
    pub fn new(ring: &'a Ring, chunks: &'a [Chunk]) -> Reader<'a> {
        Reader {
            ring,
            chunks,
            seen: HashMap::new(),
            ends: [None; SENDERS],
            of_file: [None; SENDERS],
            open: false,
            of_run: vec![0; ring.runs.len()],
            of_chunk: None,
        }
    }

    /// Takes the packets of a file; returns the first and the last number.
    pub fn take(&mut self, walked: &Walked, whose: &str) -> Checked<Option<(u64, u64)>> {
        let mut ends: Option<(u64, u64)> = None;
        self.of_file = [None; SENDERS];
        for record in &walked.records {
            let link = if record.link == 1 { 14 } else { 0 };
            let packet = walked.packet(record);
            // From where it is compared: of a kernel's message, the packet in it.
            let bytes = if record.link == 239 {
                packet
            } else {
                walked.frame(record)
            };
            let Some(number) = number_of(packet) else {
                return wrong(
                    "a packet nobody sent",
                    format!(
                        "{whose}: {record:?}: {:02x?}",
                        &bytes[..bytes.len().min(80)]
                    ),
                );
            };
            let at = self
                .chunks
                .partition_point(|chunk| chunk.first + chunk.count <= number);
            // Traffic goes on, and this came behind what is known here.
            if self.open && at == self.chunks.len() {
                break;
            }
            let Some(chunk) = self.chunks.get(at).filter(|chunk| chunk.has(number)) else {
                return wrong(
                    "a packet that was not sent to it",
                    format!("{whose}: number {number}: {record:?}"),
                );
            };
            let mut frame = chunk.frame(number);
            if let Some(run) = self.ring.runs.last() {
                packets::at_hook(&run.options.at, &mut frame);
            }
            // A queue hands over the source's address alone: NFQUEUE.md.
            if self
                .ring
                .runs
                .last()
                .is_some_and(|run| run.options.source == crate::steps::Source::Queue)
            {
                frame[..6].fill(0);
            }
            let sent = &frame[14 - link..];
            let said = |what: &str| {
                format!("{whose}: packet {number}, {what}\nrecord {record:?}\nchunk {chunk:?}")
            };
            if sent.get(..bytes.len()) != Some(bytes) {
                return wrong(
                    "other bytes",
                    said(&format!(
                        "{:02x?}\nsent {:02x?}",
                        &bytes[..bytes.len().min(100)],
                        &sent[..bytes.len().min(100).min(sent.len())]
                    )),
                );
            }
            let prefix = self.ring.runs.last().map_or("", |run| &run.options.prefix);
            if !prefix.is_empty()
                && self.ring.runs[0].options.prefix == prefix
                && self.ring.runs[0].options.source == crate::steps::Source::Installed
                && self.ring.runs.len() == 1
                && record.link != 239
                && !record.interface.is_empty()
                && !record
                    .comments
                    .iter()
                    .any(|text| text.ends_with(&format!("prefix={prefix}")))
            {
                return wrong(
                    "another prefix",
                    said(&format!("{:?}, not {prefix}", record.comments)),
                );
            }
            // Of a kernel's message it is the message's.
            if record.length as usize != sent.len() && record.link != 239 {
                return wrong(
                    "another length",
                    said(&format!("length {} of {}", record.length, sent.len())),
                );
            }
            if !record.interface.is_empty() && !record.interface.starts_with(chunk.kind.interface())
            {
                return wrong("another interface", said(&record.interface));
            }
            let known = self.of_chunk.take().filter(|known| known.at == at);
            let Some(known) = known.or_else(|| self.of_chunk(at, chunk)) else {
                let wants: Vec<Want> = self.ring.runs.iter().map(|run| run.wants(chunk)).collect();
                return wrong(
                    "recorded, though it must not be",
                    said(&format!("{wants:?}")),
                );
            };
            let (run, cuts) = (known.run, &known.cuts);
            let cuts = &self.ring.lowered(chunk, link, cuts.clone());
            let fits = |cut: u32| bytes.len() == sent.len().min(cut as usize);
            if !cuts.iter().any(|cut| fits(*cut)) {
                return wrong(
                    "cut otherwise",
                    said(&format!(
                        "{} bytes of {}, snap lengths {cuts:?}",
                        bytes.len(),
                        sent.len()
                    )),
                );
            }
            if record.stamp < chunk.at.0 - CLOCKS || record.stamp > chunk.at.1 + CLOCKS {
                return wrong(
                    "a time that is not",
                    said(&format!(
                        "stamp {} is not within {:?}",
                        record.stamp, chunk.at
                    )),
                );
            }
            let bit = 1 << (number - chunk.first);
            let mask = self.seen.entry(at).or_default();
            if *mask & bit != 0 && self.ring.runs[run].repeats(chunk, &self.ring.settled) != 0 {
                self.of_run[run] += 1;
                self.of_chunk = Some(known);
                continue;
            }
            if *mask & bit != 0 {
                return wrong("a packet twice", said(""));
            }
            *mask |= bit;
            let of_sender = &mut self.ends[usize::from(chunk.sender)];
            if of_sender.is_some_and(|(_, last)| last > number) {
                return wrong("out of order", said(&format!("behind {of_sender:?}")));
            }
            for of_sender in [of_sender, &mut self.of_file[usize::from(chunk.sender)]] {
                *of_sender = Some((of_sender.map_or(number, |(first, _)| first), number));
            }
            self.of_run[run] += 1;
            self.of_chunk = Some(known);
            ends = Some(ends.map_or((number, number), |(first, last)| {
                (number.min(first), number.max(last))
            }));
        }
        Ok(ends)
    }

    fn sender(&self, number: u64) -> usize {
        let at = self
            .chunks
            .partition_point(|chunk| chunk.first + chunk.count <= number);
        self.chunks
            .get(at)
            .map_or(0, |chunk| usize::from(chunk.sender))
    }

    /// Whether a packet came behind the first that is there of its sender.
    fn follows(&self, number: u64) -> bool {
        self.ends[self.sender(number)].is_some_and(|(first, _)| first < number)
    }

    fn of_chunk(&self, at: usize, chunk: &Chunk) -> Option<OfChunk> {
        let takes = |run: &Run| matches!(run.wants(chunk), Want::Must | Want::May);
        let run = self.ring.runs.iter().position(takes)?;
        let cuts = self.ring.runs[run].cuts(chunk, &self.ring.settled);
        Some(OfChunk {
            at,
            run,
            cuts: cuts.into_iter().collect(),
        })
    }

    /// Packets from a number on that are here and not there.
    pub fn beyond(&self, there: &Reader<'_>, from: u64) -> Vec<u64> {
        let mut beyond = Vec::new();
        for (at, mask) in &self.seen {
            let left = mask & !there.seen.get(at).copied().unwrap_or_default();
            let numbers = (0..64).filter(|bit| left & 1 << bit != 0);
            beyond.extend(numbers.map(|bit| self.chunks[*at].first + bit));
        }
        beyond.retain(|number| *number >= from);
        beyond.sort_unstable();
        beyond
    }

    /// Packets that must be there and are not.
    pub fn missing(&self, from: u64, below: u64) -> Vec<u64> {
        let mut missing = Vec::new();
        for (at, chunk) in self.chunks.iter().enumerate() {
            if chunk.first >= below || chunk.first + chunk.count <= from {
                continue;
            }
            if self
                .ring
                .runs
                .iter()
                .any(|run| run.wants(chunk) == Want::Must)
            {
                let mask = self.seen.get(&at).copied().unwrap_or_default();
                let numbers = (0..chunk.count)
                    .filter(|bit| mask & 1 << bit == 0)
                    .map(|bit| chunk.first + bit);
                missing.extend(numbers.filter(|number| (from..below).contains(number)));
            }
        }
        missing
    }
}

/// As runs of numbers, for people.
pub fn runs(numbers: &[u64]) -> String {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => found.push((*number, *number)),
        }
    }
    let shown: Vec<String> = found
        .iter()
        .take(20)
        .map(|(from, to)| format!("{from}-{to}"))
        .collect();
    format!(
        "{} packets, {} runs: {}",
        numbers.len(),
        found.len(),
        shown.join(" ")
    )
}

/// All files of a ring. `live`: it is being written. Chores of a capture that was killed may go on for a
/// moment: what they took away is looked for again.
pub fn ring(ring: &Ring, chunks: &[Chunk], live: bool) -> Checked<Found> {
    let begun = std::time::Instant::now();
    loop {
        match ring_once(ring, chunks, live) {
            Err(failure)
                if failure.text.contains("No such file") && begun.elapsed().as_secs() < 10 =>
            {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            Err(failure) if failure.text.contains("No such file") => {
                let there = crate::play::listing(&ring.dir);
                return wrong(&failure.kind, format!("{}\n{there}", failure.text));
            }
            found => return found,
        }
    }
}

fn ring_once(ring: &Ring, chunks: &[Chunk], live: bool) -> Checked<Found> {
    let mut reader = Reader::new(ring, chunks);
    let (mut found, mut of_senders) = (Found::default(), BTreeMap::new());
    let mut files = walk::ring_files(&ring.dir, &ring.name);
    let pcap = ring
        .runs
        .last()
        .is_some_and(|run| run.options.format == "pcap");
    let unfinished = ring.runs.last().is_some_and(|run| run.killed);
    let locked = ring
        .runs
        .iter()
        .any(|run| run.has(Why::Locked) || run.has(Why::Short));
    if unfinished || locked || ring.left_as_it_is() {
        for (number, file) in walk::unnamed_files(&ring.dir, &ring.name) {
            files.entry(number).or_insert(file);
        }
    }
    for (number, (path, state)) in &files {
        if *state == State::Damaged {
            return wrong("a damaged file", path.display().to_string());
        }
        if ring.is_spoiled(path) {
            continue;
        }
        if *state == State::Live && !live && !unfinished && !locked && !ring.left_as_it_is() {
            return wrong("a live file without a capture", path.display().to_string());
        }
        if *state == State::Live
            && (pcap
                || ring.left_as_it_is()
                    && ring
                        .runs
                        .last()
                        .is_some_and(|run| run.options.format == "pcap"))
        {
            continue; // not valid while it is live
        }
        let mut tries = 0;
        let walked = loop {
            match walk::file(path) {
                Ok(walked) => break walked,
                // FORMAT.md, the window: read again.
                Err(_) if *state == State::Live && live && tries < 5 => tries += 1,
                Err(_) if *state == State::Next => break Walked::default(),
                Err(why) => return wrong("a file that cannot be read", why),
            }
        };
        let whose = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let lost: u64 = walked.records.iter().map(|record| record.lost_before).sum();
        found.lost += lost;
        if !walked.statistics.is_empty() {
            let delivered: u64 = walked
                .statistics
                .iter()
                .map(|(delivered, _)| delivered)
                .sum();
            let dropped: u64 = walked.statistics.iter().map(|(_, dropped)| dropped).sum();
            if delivered != walked.records.len() as u64 || dropped < lost {
                return wrong(
                    "statistics that are not so",
                    format!(
                        "{whose}: {delivered} delivered of {}, {dropped} dropped of {lost}",
                        walked.records.len()
                    ),
                );
            }
            found.lost += dropped - lost;
        }
        for record in &walked.records {
            found.comments.extend(record.comments.iter().cloned());
        }
        found.comments.extend(walked.late_comments.iter().cloned());
        found.packets += walked.records.len() as u64;
        if let Some(ends) = reader.take(&walked, &whose)? {
            found.ends.insert(*number, ends);
            of_senders.insert(*number, reader.of_file);
        }
        found.files.push(*number);
    }
    found.of_run = reader.of_run.clone();
    // What went with the oldest files need not be there.
    let gone_before = match found.files.first() {
        Some(first) if *first > 1 => found.ends.get(first).map_or(u64::MAX, |ends| ends.0),
        None if ring.runs.iter().any(|run| run.lost_files) => u64::MAX,
        _ => 0,
    };
    let allowed = ring
        .runs
        .iter()
        .any(|run| run.files != 0 || run.max_bytes != 0 || run.lost_files);
    // A file without packets is removed: a number that is missing is no file that is.
    let first = found.files.first().copied();
    let taken_first = ring.taken.iter().any(|taken| Some(*taken) < first)
        || ring.taken_behind.iter().any(|last| Some(*last) < first);
    let gone_before = if allowed || taken_first {
        gone_before
    } else {
        0
    };
    found.missing = reader.missing(gone_before, u64::MAX);
    if gone_before != 0 {
        found.missing.retain(|number| reader.follows(*number));
    }
    // What others have taken out of the middle, or at the end: behind files below a number, before others.
    let holes = ring.taken.iter().map(|taken| (*taken, *taken + 1));
    let holes = holes.chain(ring.taken_behind.iter().map(|last| (*last + 1, *last + 1)));
    for (below, beyond) in holes {
        found.missing.retain(|number| {
            let sender = reader.sender(*number);
            let mut before = of_senders.range(..below).rev();
            let mut behind = of_senders.range(beyond..);
            let before = before.find_map(|(_, ends): (_, &Ends)| ends[sender]);
            let behind = behind.find_map(|(_, ends): (_, &Ends)| ends[sender]);
            before.is_some_and(|(_, last)| *number <= last)
                || behind.is_some_and(|(first, _)| *number >= first)
        });
    }
    // What a killed run left on an overlay is no file of the ring: those behind it go by the limit.
    if pcap && (live || unfinished || locked) || ring.left_as_it_is() && allowed {
        found.missing.clear();
    }
    Ok(found)
}

pub fn figure(value: &Value, name: &str) -> u64 {
    value
        .pointer(name)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

pub fn sum(value: &Value, name: &str) -> u64 {
    let all = value[name].as_object();
    all.map_or(0, |all| all.values().filter_map(Value::as_u64).sum())
}

/// The account against the model: what came since the run began.
pub fn account(
    ring: &Ring,
    chunks: &[Chunk],
    figures: &Value,
    at_end: bool,
    open: bool,
) -> Checked<()> {
    let Some(run) = ring.runs.last() else {
        return Ok(());
    };
    let (mut must, mut skipped, mut may) = (0, 0, 0);
    for chunk in chunks
        .iter()
        .filter(|chunk| chunk.first + chunk.count > run.first_number)
    {
        let want = run.wants(chunk);
        if want != Want::Not {
            may += chunk.count * run.repeats(chunk, &ring.settled);
        }
        match want {
            Want::Must => must += chunk.count,
            Want::Skipped => skipped += chunk.count,
            Want::May => may += chunk.count,
            Want::MaySkip => may += chunk.count,
            Want::Not => {}
        }
    }
    let get = |name: &str| figure(figures, name);
    let told = |what: &str| format!("{what}\nmust {must}, skipped {skipped}, may {may}\n{figures}");
    let (dropped, left_out) = (sum(figures, "dropped"), sum(figures, "left_out"));
    let accounted = get("/written") + get("/discarded") + dropped + get("/skipped") + left_out;
    // The rule was loaded anew in one transaction: its counter is lost, and no packet.
    if run.has(Why::RuleReloaded) {
        let all = must + skipped;
        if at_end && accounted < all || accounted > all + may && !open {
            return wrong(
                "accounted for otherwise, with rules that were loaded anew",
                told(&format!("accounted {accounted}")),
            );
        }
        return Ok(());
    }
    if figures["detected"].is_null() {
        return wrong("detected is not known", told(""));
    }
    let detected = get("/detected");
    let unsure = get("/detected_uncertain");
    if at_end && detected != accounted {
        return wrong(
            "the account does not add up",
            told(&format!("detected {detected}, accounted {accounted}")),
        );
    }
    if detected + unsure < must + skipped || detected > must + skipped + may + unsure && !open {
        return wrong("detected otherwise", told(&format!("detected {detected}")));
    }
    // Rules that others have loaded count before it binds, and behind.
    use crate::steps::Source::{Group, Queue};
    if unsure != 0 && !matches!(run.options.source, Group | Queue) {
        return wrong("uncertain without a reason", told(""));
    }
    let paused = get("/skipped") + left_out;
    if at_end && !(skipped.saturating_sub(dropped)..=skipped + may).contains(&paused) {
        return wrong("paused otherwise", told(&format!("paused {paused}")));
    }
    if dropped != 0 && !run.is_lossy() {
        return wrong("lost without a reason", told(""));
    }
    if get("/taken") != 0 && !run.has(Why::LiveTaken) {
        return wrong("taken without a reason", told(""));
    }
    Ok(())
}
