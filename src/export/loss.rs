//! What is missing: by file and interface, and each gap.

use std::collections::HashMap;
use std::mem;

use crate::read::packets::Tail;
use crate::read::{Interface, Record};

/// Where packets came from, as rows say it, and what a file says of it in sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the interface stands, as the file says it: `NFLOG group 5`.
    pub source: String,
    /// Its name.
    pub interface: String,
    /// When its first packet was; `None` where it has none.
    pub from_ns: Option<u64>,
    /// When its last one was.
    pub to_ns: u64,
    /// Packets that were recorded.
    pub packets: u64,
    /// Packets that were lost.
    pub lost: u64,
}

/// A gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Which of the sources it is of.
    pub source: usize,
    /// When the latest packet before it was, where there is one in the file.
    pub from_ns: Option<u64>,
    /// When the packet behind it was; where there is none the last one before it.
    pub to_ns: u64,
    /// Packets that were lost.
    pub lost: u64,
}

/// Sums up a file.
#[derive(Debug, Default)]
pub struct Losses {
    sources: Vec<Source>,
    gaps: Vec<Gap>,
    /// Which of the sources an interface is, by its description and name.
    known: HashMap<(String, String), usize>,
    /// The interface of the last packet.
    last: Option<(Interface, usize)>,
}

impl Losses {
    /// Takes a packet, of those of the file in their order. `shown` is what rows say of its interface.
    pub fn add(&mut self, record: &Record<'_>, shown: impl Fn(&Interface) -> Interface) {
        let place = match &self.last {
            Some((last, place)) if last == record.interface => *place,
            _ => {
                let place = self.place(record.interface, record.time_ns, shown);
                self.last = Some((record.interface.clone(), place));
                place
            }
        };
        let source = &mut self.sources[place];
        if record.lost_before != 0 {
            self.gaps.push(Gap {
                source: place,
                from_ns: source.from_ns.map(|_| source.to_ns),
                to_ns: record.time_ns,
                lost: record.lost_before,
            });
        }
        let from = source.from_ns.unwrap_or(u64::MAX);
        source.from_ns = Some(from.min(record.time_ns));
        source.to_ns = source.to_ns.max(record.time_ns);
        source.packets += 1;
        source.lost = source.lost.saturating_add(record.lost_before);
    }

    #[cold]
    fn place(
        &mut self,
        interface: &Interface,
        time_ns: u64,
        shown: impl Fn(&Interface) -> Interface,
    ) -> usize {
        let key = (interface.description.clone(), interface.name.clone());
        let sources = &mut self.sources;
        *self.known.entry(key).or_insert_with(|| {
            let shown = shown(interface);
            sources.push(Source {
                source: shown.description,
                interface: shown.name,
                from_ns: None,
                to_ns: time_ns,
                packets: 0,
                lost: 0,
            });
            sources.len() - 1
        })
    }

    /// Takes what was lost behind the last packets.
    pub fn end(&mut self, tails: &[Tail], shown: impl Fn(&Interface) -> Interface) {
        let ended = self.sources.iter().map(|source| source.to_ns).max();
        for tail in tails {
            let time_ns = ended.unwrap_or(tail.time_ns);
            let place = self.place(&tail.interface, time_ns, &shown);
            let source = &mut self.sources[place];
            self.gaps.push(Gap {
                source: place,
                from_ns: source.from_ns.map(|_| source.to_ns),
                to_ns: source.to_ns,
                lost: tail.lost,
            });
            source.lost = source.lost.saturating_add(tail.lost);
        }
    }

    /// What was seen of each interface.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Gaps that were not taken yet.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Takes them.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        mem::take(&mut self.gaps)
    }

    /// Packets that were lost.
    pub fn lost(&self) -> u64 {
        let lost = self.sources.iter().map(|source| source.lost);
        lost.fold(0, u64::saturating_add)
    }

    /// When its first packet was.
    pub fn begin_ns(&self) -> Option<u64> {
        let begins = self.sources.iter().filter_map(|source| source.from_ns);
        begins.min()
    }
}
