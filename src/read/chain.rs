//! Files one behind the other, and several such chains merged by time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::ops::Range;
use std::path::PathBuf;

use super::follow::Known;
use super::packets::{self, Packets, Passed, Tail};
use super::piece::{Make, Piece};
use super::places::{Files, Listed, Places, RingKey, look};
use super::plan::{Plan, Selection};
use super::scan::{Scanned, scan};
use super::{Fault, ReadError, Record};

pub use super::places::finished_in;
pub(crate) use super::places::is_named_as_capture;
pub use super::span::Span;

/// Windows of all files that are read at once, together.
const WINDOWS_BYTES: usize = 64 << 20;
const WINDOW_BYTES_MIN: usize = 4 << 10;

/// Files one behind the other.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) key: Option<RingKey>,
    pub(super) files: VecDeque<Listed>,
    pub(super) current: Option<Packets>,
    /// The number of a ring's file that is read now, and what is known of others.
    pub(super) known: Known,
    /// Its first packet's time, as far as it was looked for.
    pub(super) begins_ns: u64,
    /// More may come behind its last file.
    pub(super) follows: bool,
    /// What was lost behind the last packets of files.
    tails: Vec<Tail>,
    /// What is read now is complete: others stand behind it, and it was looked at since.
    pub(super) complete: bool,
}

impl Chain {
    pub(super) fn of(found: Files) -> Chain {
        Chain {
            key: found.key,
            known: Known::of(&found.files),
            files: found.files.into(),
            current: None,
            begins_ns: 0,
            follows: false,
            tails: Vec::new(),
            complete: false,
        }
    }

    /// Goes on to the next packet of the span.
    #[inline]
    fn advance(&mut self, looks_for: &Selection, window: usize, faults: &mut Vec<Fault>) {
        while let Err(error) = self.try_advance(looks_for, window, faults) {
            if let Some(mut packets) = self.current.take() {
                faults.append(&mut packets.take_faults());
            }
            faults.push(Fault::Error(error));
        }
    }

    #[inline]
    fn try_advance(
        &mut self,
        looks_for: &Selection,
        window: usize,
        faults: &mut Vec<Fault>,
    ) -> Result<(), ReadError> {
        let (span, filter) = (looks_for.span, &looks_for.filter);
        loop {
            if let Some(packets) = &mut self.current {
                while packets.advance()? {
                    if span.holds(packets.time_ns().unwrap_or_default())
                        && packets.record().is_some_and(|record| filter.takes(&record))
                    {
                        return Ok(());
                    }
                }
                faults.append(&mut packets.take_faults());
                if packets.has_crossed() {
                    packets.go_on_by_blocks();
                    continue;
                }
                if self.follows && !self.complete {
                    return Ok(());
                }
                self.tails.append(&mut packets.take_tails());
            }
            self.current = None;
            let Some(file) = self.files.pop_front() else {
                return Ok(());
            };
            self.complete = self.follows && !self.files.is_empty();
            let newest = self.follows && !self.complete;
            self.current = if newest {
                let mut packets = match &file.handle {
                    Some(handle) => Packets::of_handle(handle)?,
                    None => Packets::open(&file.path)?,
                };
                packets.set_grows();
                Some(packets)
            } else {
                match looks_for.plan(&file)? {
                    Plan::Not => None,
                    Plan::Whole(packets) => Some(*packets),
                    Plan::Parts(parts) => Some(parts.open()?),
                }
            };
            if let Some(packets) = &mut self.current {
                packets.set_window(window);
            }
        }
    }

    fn bytes_left(&self) -> u64 {
        let len = |file: &Listed| {
            let meta = file
                .handle
                .as_ref()
                .and_then(|handle| handle.metadata().ok());
            meta.map_or(0, |meta| meta.len())
        };
        let current = self.current.as_ref().map_or(0, |packets| {
            let len = packets.len().unwrap_or_default();
            len.saturating_sub(packets.position())
        });
        current + self.files.iter().map(len).sum::<u64>()
    }

    /// Looks for the time of the first packet.
    fn look_for_begin(&mut self) {
        let first = self.files.front().and_then(|file| file.handle.as_ref());
        let Some(handle) = first.filter(|handle| handle.is_plain()) else {
            return;
        };
        if let Ok(mut packets) = Packets::of_handle(handle) {
            packets.set_window(WINDOW_BYTES_MIN);
            if let Ok(true) = packets.advance() {
                self.begins_ns = packets.time_ns().unwrap_or_default();
            }
        }
    }
}

/// All packets of a span, by time.
#[derive(Debug)]
pub struct Merged {
    pub(super) chains: Vec<Chain>,
    pub(super) selection: Selection,
    /// Chains that have a packet, the earliest first.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// Chains that begin later than all that was asked for, the latest first.
    later: Vec<usize>,
    /// The chain whose packet was gone on to.
    last: Option<usize>,
    pub(super) faults: Vec<Fault>,
    /// Files that cannot be looked at, of who looks again and again.
    pub(super) told: HashSet<PathBuf>,
    passed: Passed,
}

impl Merged {
    /// Files, and directories of rings.
    ///
    /// # Errors
    /// Where nothing of it can be read: why. What is missing beside others is among the faults.
    pub fn open(places: &[PathBuf], span: Span) -> Result<Merged, ReadError> {
        let selection = Selection {
            span,
            ..Selection::default()
        };
        Merged::select(places, selection)
    }

    /// The same, and what a filter takes of it alone.
    ///
    /// # Errors
    /// As [`Merged::open`].
    pub fn select(places: &[PathBuf], selection: Selection) -> Result<Merged, ReadError> {
        let mut merged = Merged::of(look(places), selection);
        if merged.chains.is_empty() && merged.faults.len() == 1 {
            let fault = merged.take_faults().pop();
            return fault.map_or(Ok(merged), Err);
        }
        Ok(merged)
    }

    pub(super) fn of(found: Places, selection: Selection) -> Merged {
        /// So many may be begun without knowing which is the first.
        const AT_ONCE: usize = 16;
        let mut chains: Vec<_> = found.chains.into_iter().map(Chain::of).collect();
        if chains.len() > AT_ONCE {
            for chain in chains.iter_mut().filter(|chain| chain.key.is_none()) {
                chain.look_for_begin();
            }
            chains.sort_by_key(|chain| chain.begins_ns);
        }
        Merged {
            later: (0..chains.len()).rev().collect(),
            chains,
            selection,
            heads: BinaryHeap::new(),
            last: None,
            faults: found.faults,
            told: HashSet::new(),
            passed: Passed::default(),
        }
    }

    /// Looks through all of it with so many threads: see [`scan`].
    pub fn scan<M: Make>(
        &mut self,
        threads: usize,
        make: impl Fn() -> M + Sync,
        take: impl FnMut(&mut Piece, Range<usize>) -> bool,
    ) -> Scanned {
        let chains = self
            .chains
            .drain(..)
            .map(|chain| (chain.begins_ns, chain.files));
        let mut scanned = scan(chains.collect(), &self.selection, threads, make, take);
        self.later.clear();
        self.faults.append(&mut scanned.faults);
        scanned
    }

    /// Goes on to the next packet. False at the end. What could not be read is passed, and told by
    /// [`Merged::take_faults`].
    #[inline]
    pub fn advance(&mut self) -> bool {
        if let Some(last) = self.last.take() {
            self.advance_chain(last);
        }
        loop {
            let first = self.heads.peek().map(|Reverse((time, _))| *time);
            match self.later.last() {
                Some(next) if first.is_none_or(|first| self.chains[*next].begins_ns <= first) => {
                    let next = *next;
                    self.later.pop();
                    self.advance_chain(next);
                }
                _ => break,
            }
        }
        self.last = self.heads.pop().map(|Reverse((_, chain))| chain);
        self.last.is_some()
    }

    #[inline]
    fn advance_chain(&mut self, number: usize) {
        let window = (WINDOWS_BYTES / self.chains.len().max(1)).max(WINDOW_BYTES_MIN);
        let chain = &mut self.chains[number];
        chain.advance(&self.selection, window, &mut self.faults);
        if let Some(time_ns) = chain.current.as_ref().and_then(Packets::time_ns) {
            self.heads.push(Reverse((time_ns, number)));
        }
    }

    /// Has all chains looked at again.
    pub(super) fn begin_again(&mut self) {
        (self.last, self.later) = (None, (0..self.chains.len()).rev().collect());
        self.heads.clear();
    }

    /// The packet that was gone on to.
    #[inline]
    pub fn record(&self) -> Option<Record<'_>> {
        self.chains.get(self.last?)?.current.as_ref()?.record()
    }

    /// Bytes of files that are still to be read, as far as files have a length.
    pub fn bytes_left(&self) -> u64 {
        self.chains.iter().map(Chain::bytes_left).sum()
    }

    /// Link types of packets that the filter could not look into, since this was asked last.
    pub fn take_unseen(&self) -> Vec<u16> {
        self.selection.filter.take_unseen()
    }

    /// What was lost behind the last packets of files in the time that is asked for, as their statistics say;
    /// of files that were read from their start to their end.
    pub fn take_tails(&mut self) -> Vec<Tail> {
        let tails = self
            .chains
            .iter_mut()
            .map(|chain| std::mem::take(&mut chain.tails));
        let span = self.selection.span;
        let tails = tails.flatten().filter(|tail| span.holds(tail.time_ns));
        tails.collect()
    }

    /// What could not be read since this was asked last: few lines for a file.
    pub fn take_faults(&mut self) -> Vec<ReadError> {
        let faults = std::mem::take(&mut self.faults);
        for fault in &faults {
            if let Fault::Passed(passed) = fault {
                self.passed.add(passed);
            }
        }
        packets::told(faults)
    }

    /// What stood beside packets and is in no copy, as far as faults were taken.
    pub fn passed(&self) -> Passed {
        self.passed
    }
}
