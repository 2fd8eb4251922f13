//! The capturing thread's loop: receive, walk, encode, append; commit once a batch.
//!
//! Between two receive calls it allocates nothing, takes no lock, logs nothing and makes no other
//! system call, but where a device is met for the first time, a file is changed, or packets were lost.

mod commands;
mod recorder;
mod sink;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use commands::Control;
pub use sink::Writer;

use crate::account::{Account, Sequence, Tally};
use crate::format::Format;
use crate::source::{Arrival, Item, Source, Walk};
use recorder::{Plans, Recorder};

/// How a capture ended.
#[derive(Debug)]
pub struct Outcome {
    /// The final figures.
    pub tally: Tally,
    /// The ring's files, oldest first.
    pub files: Vec<PathBuf>,
    /// Datagrams the socket had no room for.
    pub dropped_datagrams: u64,
    /// How many of them are explained by gaps in the sequence: any more came after the last packet.
    pub explained_datagrams: u64,
    /// Datagrams cut by the receive buffer.
    pub truncated_datagrams: u64,
    /// Why the kernel did not release the group: what came to it at the very end was not received.
    pub detach_refused: Option<io::Error>,
    /// Why it ended before it was asked to.
    pub error: Option<io::Error>,
}

impl Outcome {
    /// What is known of a capture whose thread has panicked: what it published last.
    pub fn of_panic(account: &Account) -> Outcome {
        Outcome {
            tally: account.read(),
            files: Vec::new(),
            dropped_datagrams: 0,
            explained_datagrams: 0,
            truncated_datagrams: 0,
            detach_refused: None,
            error: Some(io::Error::other("its capturing thread panicked")),
        }
    }
}

/// One capture: a source, and a writer or none (`--discard`).
#[derive(Debug)]
pub struct Capture<S, F> {
    source: S,
    writer: Option<Writer<F>>,
    sequence: Sequence,
    tally: Tally,
    /// Packets lost since the last one that was recorded.
    lost_before: u64,
    /// Of the ring's lost records, those accounted for.
    lost_records: u64,
    /// No file could be had for this batch: it is not tried again before the next.
    no_file: bool,
    plans: Plans,
    explained_datagrams: u64,
    rotations: u64,
    link_changes: u64,
    control: Arc<Control>,
    account: Arc<Account>,
}

impl<S: Source, F: Format> Capture<S, F> {
    /// Puts a capture together. Without a writer packets are counted and thrown away.
    pub fn new(
        source: S,
        writer: Option<Writer<F>>,
        control: Arc<Control>,
        account: Arc<Account>,
    ) -> Self {
        let sequence = Sequence::new(source.first_sequence());
        Capture {
            source,
            writer,
            sequence,
            tally: Tally::default(),
            lost_before: 0,
            lost_records: 0,
            no_file: false,
            plans: Plans::default(),
            explained_datagrams: 0,
            rotations: 0,
            link_changes: 0,
            control,
            account,
        }
    }

    /// Captures until it is asked to stop, then detaches, takes what is left and ends the files.
    pub fn run(mut self) -> Outcome {
        // The first file is there, and valid, before the first packet is.
        if let Some(writer) = &mut self.writer {
            writer.ring.take_over();
            writer.next_file();
        }
        self.commit();
        let mut error = self.until_stopped().err();
        if error.is_none() {
            error = self.drain().err();
        }
        let detach_refused = self.source.detach_refused();
        let dropped_datagrams = self.source.dropped_datagrams();
        let truncated_datagrams = self.source.truncated_datagrams();
        let files = match self.writer.take() {
            Some(mut writer) => {
                writer.append_end();
                writer.ring.commit();
                self.note_ring(writer.ring.figures());
                // What of the last files is not there is known when they are finished.
                let (files, figures) = writer.ring.close();
                self.note_ring(figures);
                files
            }
            None => Vec::new(),
        };
        self.account.publish(&self.tally);
        Outcome {
            tally: self.tally,
            files,
            dropped_datagrams,
            explained_datagrams: self.explained_datagrams,
            truncated_datagrams,
            detach_refused,
            error,
        }
    }

    fn until_stopped(&mut self) -> io::Result<()> {
        while !self.control.stopping() {
            match self.source.receive(true)? {
                Arrival::Batch => self.take_batch()?,
                Arrival::Nothing => self.no_file = false,
            }
            self.rotate_if_asked();
        }
        Ok(())
    }

    /// The end (the thesis's 3.3.3): what is waiting is taken first, so that the socket has room
    /// for what the kernel still collects and hands over when the source detaches.
    fn drain(&mut self) -> io::Result<()> {
        /// What waits in the largest buffer; under a flood there is always more.
        const BATCHES_MAX: usize = 4096;
        for _ in 0..BATCHES_MAX {
            if self.source.receive(false)? == Arrival::Nothing {
                break;
            }
            self.take_batch()?;
        }
        self.source.detach()?;
        self.account.set_detached();
        // Nothing is added any more, or it ends with the kernel's refusal.
        while self.source.receive(false)? == Arrival::Batch {
            self.take_batch()?;
        }
        Ok(())
    }

    /// The hot path.
    #[inline]
    fn take_batch(&mut self) -> io::Result<()> {
        self.no_file = false;
        if self.writer.is_some() {
            self.write_batch();
        } else {
            self.count_batch();
        }
        self.source.settle()?;
        self.account.publish(&self.tally);
        Ok(())
    }

    fn write_batch(&mut self) {
        let received_before = self.tally.received;
        let mut recorder = Recorder {
            writer: &mut self.writer,
            tally: &mut self.tally,
            sequence: &mut self.sequence,
            lost_before: &mut self.lost_before,
            no_file: &mut self.no_file,
            control: &self.control,
            now_us: 0,
            plans: &mut self.plans,
        };
        let overrun_before = recorder.tally.overrun;
        let mut batch = self.source.batch();
        loop {
            recorder.take_twins(&mut batch);
            match batch.next() {
                Some(Item::Packet(packet)) => recorder.take(packet),
                Some(Item::Malformed(_)) => recorder.pass_over(),
                None => break,
            }
        }
        recorder.settle_planned();
        drop(batch);
        if self.tally.overrun != overrun_before {
            self.explain_gap();
        }
        self.tally.batches += u64::from(self.tally.received != received_before);
        self.commit();
    }

    /// Notes that the datagrams lost so far show as a gap.
    #[cold]
    fn explain_gap(&mut self) {
        self.explained_datagrams = self.source.dropped_datagrams();
    }

    /// Counting takes no look into packets: within one datagram the kernel numbers them without a
    /// gap (it holds the group's lock), so the first number and the count say it all.
    fn count_batch(&mut self) {
        let count = self.source.count();
        self.tally.received += count.packets;
        let allowed = self.control.allow(count.packets);
        self.tally.discarded += allowed;
        self.tally.beyond_count += count.packets - allowed;
        if count.malformed {
            // What follows it in the datagram shows as a gap.
            self.tally.received += 1;
            self.tally.malformed += 1;
        }
        self.tally.batches += u64::from(count.packets != 0);
        self.tally.numbered += count.packets + u64::from(count.malformed);
        if let Some(first) = count.first_sequence {
            let numbered = count.packets - count.unnumbered;
            let missing = self
                .sequence
                .take(first, u32::try_from(numbered).unwrap_or(u32::MAX));
            self.tally.overrun += missing;
            self.tally.numbered += missing;
            if count.malformed {
                self.sequence.skip_one();
            }
            if missing != 0 {
                self.explain_gap();
            }
        }
    }

    #[inline]
    fn commit(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.ring.commit();
            let figures = writer.ring.figures();
            self.note_ring(figures);
        }
    }

    fn note_ring(&mut self, figures: crate::ring::Figures) {
        self.tally.bytes = figures.bytes;
        self.tally.stalls = figures.stalls;
        self.tally.stalled_us = u64::try_from(figures.stalled.as_micros()).unwrap_or(u64::MAX);
        self.tally.files_begun = figures.files_begun;
        // Records that a file could not keep were counted as written when they were appended.
        let lost = figures.lost_records - self.lost_records;
        self.lost_records = figures.lost_records;
        self.tally.written -= lost;
        self.tally.writer += lost;
        self.lost_before += lost;
    }

    #[inline]
    fn rotate_if_asked(&mut self) {
        let changes = self.control.link_changes();
        if changes != self.link_changes {
            self.link_changes = changes;
            if let Some(writer) = &mut self.writer {
                writer.format.check_names();
            }
        }
        let asked = self.control.rotations();
        if asked != self.rotations {
            self.rotations = asked;
            if let Some(writer) = &mut self.writer {
                writer.rotate();
                self.commit();
                self.account.publish(&self.tally);
            }
        }
    }
}
