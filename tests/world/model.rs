//! What must be, as the documents say: of each capture when it began, what it was told, what others did
//! to it. From that follows of each packet whether it must have been recorded, may have, or must not.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::packets::Way;
use crate::steps::{Begin, Source};
use crate::traffic::{Chunk, Time};

/// Something that was not so before `from`, and is so from `to` on.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Time,
    pub to: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Must,
    May,
    /// Came to the capture and was left out, as it was told.
    Skipped,
    /// Left out, or not seen at all.
    MaySkip,
    Not,
}

/// What has happened to a capture that explains something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// It was stopped, frozen, or had no room: it may lose packets, counted.
    Stopped,
    Full,
    ReadOnly,
    Frozen,
    /// More came at a time than its buffer holds.
    Flooded,
    /// Others removed or changed the live file.
    LiveTaken,
    FinishedTaken,
    /// The last one of this ring was killed.
    KilledBefore,
    ChoresKilled,
    RuleReloaded,
    OtherRules,
    Kept,
    Interface,
    ReaderOpen,
    Compressed,
    Overlay,
    Spoiled,
    Told,
    Confirmed,
    /// The directory took no new file, or gave none up; its place failed; it had another name.
    Locked,
    Failed,
    Away,
    Foreign,
    /// Descriptors, memory or lengths of files were short.
    Short,
    RuleChanged,
    ChoresStopped,
}

/// With these it may lose packets, counted.
const LOSSY: [Why; 8] = [
    Why::Stopped,
    Why::Full,
    Why::ReadOnly,
    Why::Frozen,
    Why::Locked,
    Why::Failed,
    Why::Short,
    Why::Flooded,
];

/// One run of a capture.
#[derive(Debug)]
pub struct Run {
    pub options: Begin,
    pub begun: Span,
    pub ended: Option<Span>,
    pub killed: bool,
    pub pauses: Vec<(Span, Option<Span>)>,
    pub snaplens: Vec<(Span, u32)>,
    pub why: BTreeSet<Why>,
    /// When all that had come was accounted for.
    pub settled: Time,
    /// Packets below this number were accounted for then.
    pub settled_below: u64,
    /// Packets that it has said to have lost, when it was asked last.
    pub dropped: u64,
    pub first_number: u64,
    /// The smallest number of packets at a time that was in force.
    pub batch: u64,
    /// Limits that may be in force: of files, of bytes.
    pub files: u64,
    /// Files that were there when the limit was set.
    pub files_then: u64,
    pub max_bytes: u64,
    pub file_bytes: u64,
    /// Orders that take themselves back: what, before, when.
    pub pending: Vec<Pending>,
    pub orders: u64,
    /// It may have rotated so often that files went by the limit.
    pub lost_files: bool,
    /// When others came to the hooks while packets may have waited in a queue.
    pub hooked: Vec<Span>,
}

#[derive(Debug, Clone)]
pub struct Pending {
    pub setting: String,
    pub back_to: u64,
    pub due: Time,
}

impl Run {
    pub fn new(options: &Begin, from: Time, first_number: u64) -> Run {
        let snaplen = if options.snaplen == 0 {
            65535
        } else {
            options.snaplen
        };
        Run {
            options: options.clone(),
            begun: Span {
                from,
                to: Time::MAX,
            },
            ended: None,
            killed: false,
            pauses: Vec::new(),
            snaplens: vec![(Span { from: 0, to: 0 }, snaplen)],
            why: BTreeSet::new(),
            settled: from,
            settled_below: first_number,
            dropped: 0,
            first_number,
            batch: options.batch,
            files: options.files,
            files_then: 0,
            max_bytes: options.max_kib * 1024,
            file_bytes: options.file_kib * 1024,
            pending: Vec::new(),
            orders: 0,
            lost_files: false,
            hooked: Vec::new(),
        }
    }

    /// Whether the rule, or the program, takes this packet.
    pub fn selects(&self, chunk: &Chunk) -> bool {
        if chunk.kind.is_ip6() && !self.options.both_families {
            return false;
        }
        if self.options.source == Source::Queue && chunk.kind.is_ip6() {
            return false;
        }
        let comes = match self.options.at.as_str() {
            "input" => chunk.kind.way() == Way::Here && !chunk.dropped_behind,
            "forward" => chunk.kind.way() == Way::Beyond && !chunk.dropped_behind,
            _ => true,
        };
        let port = self.options.only_port;
        comes
            && (self.options.source != Source::Installed || self.is_by(chunk))
            && (port == 0
                || self.options.source != Source::Installed
                || (chunk.kind.is_udp() && chunk.port == port))
    }

    /// Whether it comes by the interface that was asked for.
    fn is_by(&self, chunk: &Chunk) -> bool {
        let iface = &self.options.iface;
        iface.is_empty() || iface.starts_with(chunk.kind.interface())
    }

    pub fn wants(&self, chunk: &Chunk) -> Want {
        let (from, to) = chunk.at;
        // What other rules send to the group counts as skipped.
        let other_family = chunk.kind.is_ip6()
            && !self.options.both_families
            && self.options.source == Source::Group;
        if !self.selects(chunk) && !other_family || to < self.begun.from || chunk.dropped {
            return Want::Not;
        }
        if self.ended.is_some_and(|end| end.to < from) {
            return Want::Not;
        }
        let mut want = Want::Must;
        if from < self.begun.to || self.ended.is_some_and(|end| end.from <= to) || chunk.doubtful {
            want = Want::May;
        }
        for (on, off) in &self.pauses {
            let after = off.is_some_and(|off| off.to < from);
            if to < on.from || after {
                continue;
            }
            if from > on.to && off.is_none_or(|off| to < off.from) {
                return if want == Want::Must {
                    Want::Skipped
                } else {
                    Want::May
                };
            }
            want = Want::May;
        }
        // A program at the hook has all packets, and leaves these out.
        let by_another = self.options.source == Source::Hook && !self.is_by(chunk);
        if self.options.source == Source::Hook && self.options.sample > 1 && want == Want::Must {
            want = Want::May;
        }
        if other_family || by_another {
            return if want == Want::Must {
                Want::Skipped
            } else {
                Want::MaySkip
            };
        }
        if self.killed && want == Want::Must && to >= self.settled {
            want = Want::May;
        }
        want
    }

    /// How often it may have had a packet beyond the first time. NFQUEUE.md: those that wait in a queue
    /// while chains are added come to it once more, and to those before it where several are.
    pub fn repeats(&self, chunk: &Chunk, settled: &[Time]) -> u64 {
        if self.hooked.is_empty() {
            return 0;
        }
        let (from, to) = chunk.at;
        let mut after = settled.iter().copied().filter(|time| *time > to);
        let recorded = after.next().unwrap_or(Time::MAX);
        let during = |span: &&Span| span.from <= recorded && span.to >= from;
        let times = self.hooked.iter().filter(during).count() as u64;
        if self.options.source == Source::Queue {
            times
        } else {
            times.saturating_sub(1)
        }
    }

    /// To how many bytes a packet may have been cut: values in force when it came, or until it was
    /// recorded.
    pub fn cuts(&self, chunk: &Chunk, settled: &[Time]) -> BTreeSet<u32> {
        let (from, to) = chunk.at;
        // It was recorded before this.
        let recorded = settled
            .iter()
            .copied()
            .filter(|time| *time > to)
            .min()
            .unwrap_or(Time::MAX);
        let mut found = BTreeSet::new();
        for (at, (span, value)) in self.snaplens.iter().enumerate() {
            let next = self
                .snaplens
                .get(at + 1)
                .map_or(Time::MAX, |(next, _)| next.to);
            if span.from <= recorded && next >= from {
                found.insert(*value);
            }
        }
        found
    }

    pub fn snaplen(&self) -> u32 {
        self.snaplens.last().map_or(128, |(_, value)| *value)
    }

    pub fn is_paused(&self) -> bool {
        self.pauses.last().is_some_and(|(_, off)| off.is_none())
    }

    /// Whether something has happened to it that may have cost packets.
    /// So many packets its buffer holds, if it is kept from running. Of a group a datagram takes 256 KiB
    /// at the most, whatever is in it; of a queue each packet has one; a hook's buffer is in rings, one a
    /// processor.
    pub fn holds(&self) -> u64 {
        const DATAGRAM_BYTES: u64 = 256 << 10;
        let buffer = self.options.buffer_mib << 20;
        let longest = self.snaplens.iter().map(|(_, value)| *value).max();
        let record = u64::from(longest.unwrap_or(128)) + 128;
        match self.options.source {
            Source::Group | Source::Installed => {
                buffer / DATAGRAM_BYTES * self.batch.min((DATAGRAM_BYTES / 2) / record)
            }
            Source::Queue => buffer / (2 * record + 1024),
            Source::Hook => buffer / 2 / record,
        }
    }

    pub fn has(&self, why: Why) -> bool {
        self.why.contains(&why)
    }

    pub fn is_lossy(&self) -> bool {
        LOSSY.iter().any(|why| self.has(*why))
    }
}

/// A ring, over all its runs.
#[derive(Debug)]
pub struct Ring {
    pub dir: PathBuf,
    pub name: String,
    pub runs: Vec<Run>,
    /// Times at which all was recorded.
    pub settled: Vec<Time>,
    /// Files that others took away, so that packets are missing that must be there.
    pub taken: Vec<u64>,
    /// The same of numbers that were given again: what is missing is behind the file with this number.
    pub taken_behind: Vec<u64>,
    /// Files that others have cut: not to be read whole.
    pub spoiled: Vec<PathBuf>,
    /// How its directory is locked, and what in it is none of its.
    pub locked: Option<String>,
    pub foreign: Vec<PathBuf>,
    /// From when on the rule of its group asks for so much of each packet (0: all).
    pub rules: Vec<(Time, u32)>,
}

impl Ring {
    /// Whether others have taken files away.
    pub fn is_taken_from(&self) -> bool {
        !self.taken.is_empty() || !self.taken_behind.is_empty()
    }

    /// A run begins. FORMAT.md: numbers grow as long as the newest file stays; those of files that were
    /// taken from behind it are given again.
    pub fn numbers_begin(&mut self) {
        let files = crate::walk::ring_files(&self.dir, &self.name);
        let newest = files.keys().last().copied().unwrap_or_default();
        if self.taken.iter().any(|taken| *taken > newest) {
            self.taken_behind.push(newest);
        }
        let unnamed = crate::walk::unnamed_files(&self.dir, &self.name);
        let newest = newest.max(unnamed.keys().last().copied().unwrap_or_default());
        self.taken.retain(|taken| *taken <= newest);
    }

    pub fn is_foreign(&self) -> bool {
        !self.foreign.is_empty()
    }

    /// What the rule leaves of a cut: LIMITS.md, a rule's snap length counts from the IP header on.
    pub fn lowered(&self, chunk: &Chunk, link: usize, cuts: Vec<u32>) -> Vec<u32> {
        let rule = self
            .rules
            .iter()
            .rev()
            .find(|(from, _)| *from <= chunk.at.0);
        match rule {
            Some((_, snaplen)) if *snaplen != 0 => {
                let most = u32::try_from(link).unwrap_or_default() + snaplen;
                cuts.into_iter().map(|cut| cut.min(most)).collect()
            }
            _ => cuts,
        }
    }

    pub fn new(dir: PathBuf, name: String) -> Ring {
        Ring {
            dir,
            name,
            runs: Vec::new(),
            settled: Vec::new(),
            taken: Vec::new(),
            taken_behind: Vec::new(),
            spoiled: Vec::new(),
            locked: None,
            foreign: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Whether somebody has cut it, under this name or before it was compressed.
    pub fn is_spoiled(&self, path: &std::path::Path) -> bool {
        let path = path.to_string_lossy();
        self.spoiled
            .iter()
            .any(|spoiled| path.starts_with(&*spoiled.to_string_lossy()))
    }

    /// On an overlay, what a killed run left stays as it is.
    pub fn left_as_it_is(&self) -> bool {
        let killed = self.runs.iter().any(|run| run.killed);
        killed
            && self
                .runs
                .last()
                .is_some_and(|run| run.options.place == crate::steps::Place::Overlay)
    }
}
