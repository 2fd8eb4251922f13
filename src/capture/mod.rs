//! The capturing thread's loop: receive, record, commit once a batch.
//!
//! ```text
//!   Capture::run          the loop: a batch, then what was asked of it meanwhile
//!      Sink::take_batch   the file ring (files.rs), or nothing (sink.rs)
//!         fast.rs         packets that hit a template: nearly all
//!         files.rs        any other packet, one by one
//!         stream.rs       or all of them into a stream, which a reader may be behind
//! ```
//!
//! What it may do between two receive calls is in `docs/ARCHITECTURE.md`, Rules of the hot path.

mod commands;
mod fast;
mod files;
mod sink;
mod stream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

pub use commands::{Answer, Command, Control};
pub use files::FileSink;
pub use sink::{Discard, Progress, Sink};
pub use stream::StreamSink;

use crate::account::{Account, Tally};
use crate::ring::Figures;
use crate::source::{Arrival, Change, Refused, Source};
use commands::Request;

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
        let mut tally = account.read();
        // What a stream's reader had not taken, nobody gives it any more.
        let unread = std::mem::take(&mut tally.unread);
        tally.written = tally.written.saturating_sub(unread);
        tally.writer += unread;
        Outcome {
            tally,
            files: Vec::new(),
            dropped_datagrams: 0,
            explained_datagrams: 0,
            truncated_datagrams: 0,
            detach_refused: None,
            error: Some(io::Error::other("its capturing thread panicked")),
        }
    }
}

/// One capture: a source, and what its packets go to.
#[derive(Debug)]
pub struct Capture<S, K> {
    source: S,
    sink: K,
    progress: Progress,
    /// Of the sink's lost records, those accounted for.
    lost_records: u64,
    explained_datagrams: u64,
    requests: Receiver<Request>,
    control: Arc<Control>,
    account: Arc<Account>,
}

impl<S: Source, K: Sink> Capture<S, K> {
    /// Puts a capture together. It does what `control` asks of it, and publishes its figures in
    /// `account`.
    pub fn new(source: S, sink: K, control: Arc<Control>, account: Arc<Account>) -> Self {
        Capture {
            progress: Progress::new(source.first_sequence()),
            requests: control.subscribe(source.waker()),
            source,
            sink,
            lost_records: 0,
            explained_datagrams: 0,
            control,
            account,
        }
    }

    /// Captures until it is asked to stop, then detaches, takes what is left and ends the files.
    pub fn run(mut self) -> Outcome {
        // The first file is there, and valid, before the first packet is.
        self.sink.begin();
        self.commit();
        let mut error = self.until_stopped().err();
        if error.is_none() {
            error = self.drain().err();
        }
        if let Some(next) = self.source.next_number() {
            self.progress.lose_until(next);
        }
        self.sink.end(self.progress.lost_before);
        self.commit();
        let error = error.or(self.sink.failure());
        let Capture {
            mut source,
            sink,
            mut progress,
            mut lost_records,
            explained_datagrams,
            account,
            ..
        } = self;
        // What of the last files is not there is known when they are finished.
        let (files, figures) = sink.close();
        note_figures(&mut progress, &mut lost_records, figures);
        note_ledger(&source, &mut progress.tally);
        if let Some(ledger) = source.ledger() {
            // Known now that everything is read.
            progress.tally.unreadable = ledger.unreadable;
        }
        account.publish(&progress.tally);
        Outcome {
            tally: progress.tally,
            files,
            dropped_datagrams: source.dropped_datagrams(),
            explained_datagrams,
            truncated_datagrams: source.truncated_datagrams(),
            detach_refused: source.detach_refused(),
            error,
        }
    }

    fn until_stopped(&mut self) -> io::Result<()> {
        while !self.control.stopping() {
            match self.source.receive(true)? {
                Arrival::Batch => self.take_batch()?,
                Arrival::Nothing => self.idle(),
            }
            while let Ok(request) = self.requests.try_recv() {
                self.obey(request);
            }
        }
        Ok(())
    }

    /// The end (the thesis's 3.3.3): what is waiting is taken first, so that the socket has room
    /// for what the kernel still collects and hands over when the source detaches.
    fn drain(&mut self) -> io::Result<()> {
        self.take_waiting()?;
        self.source.detach()?;
        self.account.set_detached();
        // Nothing is added any more, or it ends with the kernel's refusal.
        while self.source.receive(false)? == Arrival::Batch {
            self.take_batch()?;
        }
        Ok(())
    }

    /// Takes what is waiting, without waiting for more.
    fn take_waiting(&mut self) -> io::Result<()> {
        /// What waits in the largest buffer; under a flood there is always more.
        const BATCHES_MAX: usize = 4096;
        for _ in 0..BATCHES_MAX {
            if self.source.receive(false)? == Arrival::Nothing {
                break;
            }
            self.take_batch()?;
        }
        Ok(())
    }

    /// The hot path.
    #[inline]
    fn take_batch(&mut self) -> io::Result<()> {
        let Tally {
            received, overrun, ..
        } = self.progress.tally;
        self.sink
            .take_batch(&mut self.source, &mut self.progress, &self.control);
        let gap = self.progress.tally.overrun - overrun;
        if gap != 0 {
            // Each datagram that is missing from the numbers had a packet at least; others may have been lost
            // behind this one meanwhile.
            let dropped = self.source.dropped_datagrams();
            self.explained_datagrams = dropped.min(self.explained_datagrams + gap);
        }
        self.progress.tally.batches += u64::from(self.progress.tally.received != received);
        self.commit();
        self.source.finish_batch()?;
        note_ledger(&self.source, &mut self.progress.tally);
        self.account.publish(&self.progress.tally);
        if gap != 0 {
            self.explain_gap();
        }
        Ok(())
    }

    fn idle(&mut self) {
        self.sink.idle();
        // What others have done with what was written, too.
        let figures = self.sink.figures();
        note_figures(&mut self.progress, &mut self.lost_records, figures);
        // What the source counts may grow though no packet is handed over.
        note_ledger(&self.source, &mut self.progress.tally);
        self.account.publish(&self.progress.tally);
    }

    /// Says that the datagrams lost so far show as a gap: once the account has that. Whoever looks would
    /// take them for a loss that no number shows, and for long where the file's disk hangs.
    #[cold]
    fn explain_gap(&self) {
        self.account
            .set_explained_datagrams(self.explained_datagrams);
    }

    #[inline]
    fn commit(&mut self) {
        self.sink.commit();
        let figures = self.sink.figures();
        note_figures(&mut self.progress, &mut self.lost_records, figures);
    }

    #[cold]
    fn obey(&mut self, request: Request) {
        if request.command == Command::Finish {
            let _ = self.execute(&request.command);
            self.commit();
            self.account.publish(&self.progress.tally);
            let answer = move || request.answer(Answer::Done);
            return self.sink.when_finished(Box::new(answer));
        }
        let answer = match self.execute(&request.command) {
            Ok(true) => Answer::Done,
            Ok(false) => Answer::NothingToDo,
            Err(Refused(reason)) => Answer::Refused(reason),
        };
        if let (Answer::Done, Some(note)) = (&answer, &request.note) {
            self.sink.note(note);
        }
        self.commit();
        self.account.publish(&self.progress.tally);
        request.answer(answer);
    }

    /// Does what is asked. False where there is nothing to do.
    fn execute(&mut self, command: &Command) -> Result<bool, Refused> {
        match command {
            Command::Rotate | Command::Finish => {
                // The file that ends has what came before it was asked for. (An error is met again.)
                let _ = self.take_waiting();
                Ok(self.sink.rotate())
            }
            Command::Links(changes) => {
                self.source.note_links(changes);
                self.sink.note_links(changes);
                Ok(true)
            }
            Command::Source(Change::Paused(paused)) => self.pause(*paused),
            Command::Source(change) => self.source.change(change).map(|()| true),
            Command::Snaplen {
                snaplen,
                file_snaplen,
                copy_range_bytes,
            } => {
                self.source.change(&Change::CopyRange(*copy_range_bytes))?;
                self.sink.set_snaplen(*snaplen, *file_snaplen);
                Ok(true)
            }
            Command::Files { limits, file_bytes } => {
                self.sink.set_files(*limits, *file_bytes);
                Ok(true)
            }
            Command::Note => Ok(true),
        }
    }

    /// What was copied before is recorded all the same, whenever it comes.
    fn pause(&mut self, paused: bool) -> Result<bool, Refused> {
        // Also where it is so already, as far as is known here: it is asked for again where it is not
        // known whether the source has done what was asked before. Then, too, what comes without a
        // payload is no packet to record.
        self.progress.was_paused = true;
        self.source.change(&Change::Paused(paused))?;
        self.progress.paused = paused;
        Ok(true)
    }
}

/// Takes over what a source has counted itself, where it does.
#[inline]
fn note_ledger(source: &impl Source, tally: &mut Tally) {
    if let Some(ledger) = source.ledger() {
        tally.detected = ledger.detected;
        tally.dropped_by_source = ledger.dropped;
        tally.dropped_no_ring = ledger.no_ring;
        tally.dropped_nested = ledger.nested;
        tally.left_interface = ledger.left_interface;
        tally.left_mark = ledger.left_mark;
        tally.left_sample = ledger.left_sample;
        tally.left_cutoff = ledger.left_cutoff;
        tally.left_paused = ledger.left_paused;
    }
}

/// Takes over what a sink has counted.
#[inline]
fn note_figures(progress: &mut Progress, lost_records: &mut u64, figures: Figures) {
    let tally = &mut progress.tally;
    tally.bytes = figures.bytes;
    tally.stalls = figures.stalls;
    tally.stalled_us = u64::try_from(figures.stalled.as_micros()).unwrap_or(u64::MAX);
    tally.files_begun = figures.files_begun;
    tally.taken = figures.taken_records;
    tally.unread = figures.unread_records;
    // Records that a file could not keep were counted as written when they were appended.
    let lost = figures.lost_records - *lost_records;
    *lost_records = figures.lost_records;
    tally.written -= lost;
    tally.writer += lost;
    progress.lost_before += lost;
}
