//! What packets go to: the file ring ([`FileSink`](super::FileSink)), or nothing ([`Discard`]).

use std::path::PathBuf;

use super::Control;
use crate::account::{Sequence, Tally};
use crate::format::Format;
use crate::netlink::Malformed;
use crate::packet::Packet;
use crate::ring::{Figures, Limits};
use crate::source::nfqueue::message::attribute::PAYLOAD;
use crate::source::{Count, Source, links};

/// A capture's figures so far, and where it is in its source's numbers.
#[derive(Debug)]
pub struct Progress {
    /// What became of the packets.
    pub tally: Tally,
    /// The next number of the source.
    pub sequence: Sequence,
    /// Packets lost since the last one that was recorded.
    pub lost_before: u64,
    /// Nothing is copied.
    pub paused: bool,
    /// The capture is or has been paused: packets may come of which nothing was copied.
    pub was_paused: bool,
}

impl Progress {
    /// Nothing yet of a source whose first number is `first_sequence`.
    pub(super) fn new(first_sequence: u32) -> Progress {
        Progress {
            tally: Tally::default(),
            sequence: Sequence::new(first_sequence),
            lost_before: 0,
            paused: false,
            was_paused: false,
        }
    }

    /// Accounts for the arrival of a packet, and for those that its number shows to be missing.
    #[inline]
    pub(super) fn arrived(&mut self, packet: &Packet<'_>) {
        self.tally.received += 1;
        self.tally.numbered += 1;
        if let Some(sequence) = packet.sequence {
            let missing = self.sequence.take(sequence, 1);
            self.tally.overrun += missing;
            self.tally.numbered += missing;
            self.lost_before += missing;
        }
    }

    /// Accounts for packets that are missing behind the last one: the next would have this number.
    pub(super) fn lose_until(&mut self, next: u32) {
        let missing = self.sequence.take(next, 0);
        self.tally.overrun += missing;
        self.tally.numbered += missing;
        self.lost_before += missing;
    }

    /// A message that could not be read was one packet. One of a queue without a packet in it came
    /// while the capture was paused.
    #[cold]
    pub(super) fn pass_over(&mut self, why: Malformed) {
        self.tally.received += 1;
        let empty = matches!(why, Malformed::Missing { kind } if kind == PAYLOAD);
        if self.was_paused && empty {
            self.tally.paused += 1;
        } else {
            self.tally.malformed += 1;
        }
        self.tally.numbered += 1;
        self.sequence.skip_one();
    }

    /// Accounts for a batch without a look into its packets: within one datagram the kernel numbers
    /// them without a gap (it holds the group's lock), so the first number and the count say it all.
    /// Returns how many packets it has; what becomes of them is for the caller to count.
    pub(super) fn count(&mut self, count: &Count) -> u64 {
        let tally = &mut self.tally;
        tally.received += count.packets;
        if count.malformed {
            // What follows it in the datagram shows as a gap.
            tally.received += 1;
            tally.malformed += 1;
        }
        tally.numbered += count.packets + u64::from(count.malformed);
        if let Some(first) = count.first_sequence {
            let numbered = count.packets - count.unnumbered;
            let numbered = u32::try_from(numbered).unwrap_or(u32::MAX);
            let missing = self.sequence.take(first, numbered);
            tally.overrun += missing;
            tally.numbered += missing;
            if count.malformed {
                self.sequence.skip_one();
            }
        }
        count.packets
    }
}

/// Tells a format what interfaces are called now. One that has gone is called what it was last, for
/// what is still to come of it.
pub(super) fn set_names(format: &mut impl Format, changes: &[links::Change]) {
    for change in changes {
        match change {
            links::Change::There(link) => format.set_name(link.index, Some(&link.name)),
            links::Change::Gone(link) => {
                format.set_name(link.index, Some(&link.name));
                format.set_name(link.index, None);
            }
        }
    }
}

/// What packets go to. The capturing thread owns it.
pub trait Sink {
    /// Makes ready for the first packet.
    fn begin(&mut self);

    /// Takes the packets of the source's batch, and accounts for each of them.
    fn take_batch<S: Source>(&mut self, source: &mut S, progress: &mut Progress, control: &Control);

    /// Nothing came for a while.
    fn idle(&mut self) {}

    /// Makes what was taken visible to readers.
    fn commit(&mut self) {}

    /// Goes on to the next file. False where there is nothing that would end.
    fn rotate(&mut self) -> bool {
        false
    }

    /// Calls `then` when all files that have ended by now are finished.
    fn when_finished(&mut self, then: Box<dyn FnOnce() + Send>) {
        then();
    }

    /// Takes note of interfaces that have come, gone or changed.
    fn note_links(&mut self, _changes: &[links::Change]) {}

    /// Cuts frames to another length from now on, in another file.
    fn set_snaplen(&mut self, _snaplen: u32, _file_snaplen: u32) {}

    /// Keeps another number of files, of another size.
    fn set_files(&mut self, _limits: Limits, _file_bytes: u64) {}

    /// Has the next record carry a note.
    fn note(&mut self, _text: &str) {}

    /// Ends what packets went to: so many were lost behind the last one that was recorded.
    fn end(&mut self, lost: u64);

    /// Why packets did not get where they were to go, once it has ended.
    fn failure(&mut self) -> Option<std::io::Error> {
        None
    }

    /// What it has counted; nothing where it has nothing to count.
    fn figures(&self) -> Figures;

    /// Gives up what packets went to: its files, oldest first, and its last figures.
    fn close(self) -> (Vec<PathBuf>, Figures);
}

/// Counts packets and throws them away (`--discard`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    fn begin(&mut self) {}

    fn take_batch<S: Source>(
        &mut self,
        source: &mut S,
        progress: &mut Progress,
        control: &Control,
    ) {
        let packets = progress.count(&source.count());
        if progress.paused {
            progress.tally.paused += packets;
            return;
        }
        let allowed = control.allow(packets);
        progress.tally.discarded += allowed;
        progress.tally.beyond_count += packets - allowed;
    }

    fn end(&mut self, _lost: u64) {}

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn close(self) -> (Vec<PathBuf>, Figures) {
        (Vec::new(), Figures::default())
    }
}
