//! The capturing thread's loop: receive, walk, encode, append; commit once a batch.
//!
//! Between two receive calls it allocates nothing, takes no lock, logs nothing and makes no other
//! system call, but where a device is met for the first time or a file is changed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::account::{Account, Sequence, Tally};
use crate::packet::Packet;
use crate::record::{Context, Format, Frame, LinkType, Plan};
use crate::ring::Ring;
use crate::source::{Arrival, Item, Source, Walk};

/// What other threads ask of the capturing threads. One value serves all of them.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    /// Grows by one with each request to go on to the next file.
    rotations: AtomicU64,
    /// Packets that may still be recorded, plus one; 0 is no limit.
    allowance: AtomicU64,
}

impl Control {
    /// A control that lets `count` packets be recorded in sum, or any number.
    pub fn new(count: Option<u64>) -> Self {
        let control = Control::default();
        control.allowance.store(
            count.map_or(0, |count| count.saturating_add(1)),
            Ordering::Relaxed,
        );
        control
    }

    /// Asks the capturing threads to detach, take what is left and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for, or the count is reached.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks each capturing thread to go on to the next file, if the live one holds packets.
    pub fn rotate(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any number of packets may be recorded.
    #[inline]
    fn unlimited(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    /// Takes the right to record one packet.
    #[inline]
    fn allow_one(&self) -> bool {
        self.allow(1) == 1
    }

    /// Takes the right to record up to `wanted` packets, and says of how many. The one who takes
    /// the last asks all to stop.
    #[inline]
    fn allow(&self, wanted: u64) -> u64 {
        if self.unlimited() {
            return wanted;
        }
        let take = |left: u64| (left > 1).then(|| left - wanted.min(left - 1));
        match self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(before) => {
                if wanted >= before - 1 {
                    self.stop();
                }
                wanted.min(before - 1)
            }
            Err(_) => 0,
        }
    }
}

/// Where packets go.
#[derive(Debug)]
pub struct Writer<F> {
    /// The format of its files.
    pub format: F,
    /// Its files.
    pub ring: Ring,
    /// What records hold.
    pub link: LinkType,
    /// Bytes of a frame that are written at the most.
    pub snaplen: u32,
}

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
    /// Why it ended before it was asked to.
    pub error: Option<io::Error>,
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
    explained_datagrams: u64,
    rotations: u64,
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
        let mut capture = Capture {
            source,
            writer,
            sequence,
            tally: Tally::default(),
            lost_before: 0,
            lost_records: 0,
            no_file: false,
            explained_datagrams: 0,
            rotations: 0,
            control,
            account,
        };
        // The first file is there, and valid, before the first packet is.
        capture.next_file();
        capture.commit();
        capture
    }

    /// Captures until it is asked to stop, then detaches, takes what is left and ends the files.
    pub fn run(mut self) -> Outcome {
        let mut error = self.until_stopped().err();
        if error.is_none() {
            error = self.drain().err();
        }
        let dropped_datagrams = self.source.dropped_datagrams();
        let truncated_datagrams = self.source.truncated_datagrams();
        self.end_file();
        let files = match self.writer.take() {
            Some(writer) => {
                self.note_ring(writer.ring.figures());
                writer.ring.close()
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
        // Nothing is added any more, so this ends.
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
        let source = &self.source;
        let mut recorder = Recorder {
            writer: &mut self.writer,
            tally: &mut self.tally,
            sequence: &mut self.sequence,
            lost_before: &mut self.lost_before,
            no_file: &mut self.no_file,
            control: &self.control,
            now_us: 0,
            planned: None,
        };
        let overrun_before = recorder.tally.overrun;
        let mut batch = source.batch();
        while let Some(item) = batch.next() {
            match item {
                Item::Packet(packet) => recorder.take(packet),
                Item::Malformed(_) => recorder.pass_over(),
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
        if let Some(first) = count.first_sequence {
            let missing = self
                .sequence
                .take(first, u32::try_from(count.packets).unwrap_or(u32::MAX));
            self.tally.overrun += missing;
            self.tally.numbered += missing + count.packets + u64::from(count.malformed);
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
        let asked = self.control.rotations.load(Ordering::Relaxed);
        if asked != self.rotations {
            self.rotations = asked;
            if self
                .writer
                .as_ref()
                .is_some_and(|writer| writer.ring.has_records())
            {
                self.next_file();
                self.commit();
                self.account.publish(&self.tally);
            }
        }
    }

    fn next_file(&mut self) {
        if let Some(writer) = &mut self.writer {
            next_file(writer);
        }
    }

    fn end_file(&mut self) {
        if let Some(writer) = &mut self.writer {
            end_file(writer);
        }
        self.commit();
    }
}

/// What recording one packet needs, borrowed apart from the source whose batch it walks.
struct Recorder<'a, F> {
    writer: &'a mut Option<Writer<F>>,
    tally: &'a mut Tally,
    sequence: &'a mut Sequence,
    lost_before: &'a mut u64,
    no_file: &'a mut bool,
    control: &'a Control,
    /// The time of the batch's arrival, once a packet without a time stamp has asked for it.
    now_us: u64,
    planned: Option<Planned>,
}

/// A plan for the packets of one shape, and those recorded by it that are not in the tally yet.
struct Planned {
    shape: u32,
    plan: Plan,
    records: u64,
    last_us: u64,
}

impl Planned {
    fn new(shape: u32, plan: Plan) -> Self {
        Planned {
            shape,
            plan,
            records: 0,
            last_us: 0,
        }
    }
}

impl<F: Format> Recorder<'_, F> {
    #[inline]
    fn take(&mut self, packet: &Packet<'_>) {
        if !self.record_planned(packet) {
            self.take_any(packet);
        }
    }

    /// The fast way, for one more packet of a shape that has a plan. False, and nothing done, where
    /// anything is out of the ordinary: no number or not the next one, no time stamp, no IPv4 header,
    /// no room in the segment.
    #[inline]
    fn record_planned(&mut self, packet: &Packet<'_>) -> bool {
        let (Some(planned), Some(writer)) = (&mut self.planned, self.writer.as_mut()) else {
            return false;
        };
        let (Some(sequence), Some(stamp_us)) = (packet.sequence, packet.stamp_us) else {
            return false;
        };
        if packet.shape != planned.shape || !packet.is_ipv4() || !self.sequence.is_next(sequence) {
            return false;
        }
        let body = planned.plan.body(packet);
        let len = F::planned_bytes(&planned.plan, body);
        let Some(space) = writer.ring.append_behind(len) else {
            return false;
        };
        F::encode_planned(&planned.plan, packet, stamp_us.get(), body, space);
        self.sequence.skip_one();
        planned.records += 1;
        planned.last_us = stamp_us.get();
        true
    }

    /// Enters into the books what was recorded by the plan.
    fn settle_planned(&mut self) {
        if let (Some(planned), Some(writer)) = (&mut self.planned, self.writer.as_mut()) {
            let records = std::mem::take(&mut planned.records);
            self.tally.received += records;
            self.tally.numbered += records;
            self.tally.written += records;
            if records != 0 {
                writer
                    .format
                    .note_planned(&planned.plan, records, planned.last_us);
            }
        }
    }

    /// The long way, for any packet. What it finds out serves the next ones of the same shape.
    #[inline(never)]
    fn take_any(&mut self, packet: &Packet<'_>) {
        self.settle_planned();
        self.planned = None;
        self.tally.received += 1;
        if let Some(sequence) = packet.sequence {
            let missing = self.sequence.take(sequence, 1);
            self.tally.overrun += missing;
            self.tally.numbered += missing + 1;
            *self.lost_before += missing;
        }
        if !packet.is_ipv4() {
            self.tally.not_ipv4 += 1;
        } else if !self.control.allow_one() {
            self.tally.beyond_count += 1;
        } else if self.record(packet) {
            self.tally.written += 1;
            *self.lost_before = 0;
        } else {
            self.tally.writer += 1;
            *self.lost_before += 1;
        }
    }

    /// A message that could not be read was one packet.
    #[cold]
    fn pass_over(&mut self) {
        self.tally.received += 1;
        self.tally.malformed += 1;
        self.tally.numbered += 1;
        self.sequence.skip_one();
    }

    #[inline]
    fn record(&mut self, packet: &Packet<'_>) -> bool {
        let stamp_us = match packet.stamp_us {
            Some(stamp_us) => stamp_us.get(),
            None => self.arrival_us(),
        };
        let Some(writer) = self.writer.as_mut() else {
            return false;
        };
        let interface = match writer.format.interface(packet) {
            Some(interface) => interface,
            None => declare(writer, packet),
        };
        let frame = Frame::new(packet, writer.link, writer.snaplen);
        let context = Context {
            stamp_us,
            lost_before: *self.lost_before,
            interface,
        };
        let len = writer.format.record_bytes(packet, &frame, &context);
        for last_try in [false, true] {
            if let Ok(mut slot) = writer.ring.slot(len) {
                let head = writer.format.encode(packet, &frame, &context, slot.bytes());
                slot.append(head);
                writer.ring.note_first(stamp_us);
                if self.control.unlimited() {
                    let plan = Plan::new(packet, writer.link, writer.snaplen, interface);
                    self.planned = plan.map(|plan| Planned::new(packet.shape, plan));
                }
                return true;
            }
            if last_try || *self.no_file || !next_file(writer) {
                break;
            }
        }
        *self.no_file = true;
        false
    }

    #[cold]
    fn arrival_us(&mut self) -> u64 {
        self.tally.unstamped += 1;
        if self.now_us == 0 {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            self.now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        }
        self.now_us
    }
}

/// Takes up a new device and writes its block. A file that begins meanwhile declares it by itself.
#[cold]
fn declare<F: Format>(writer: &mut Writer<F>, packet: &Packet<'_>) -> usize {
    let block = writer.format.declare(packet);
    writer.ring.keep_for_end(writer.format.end_bytes());
    if !writer.ring.append_block(&block) {
        next_file(writer);
    }
    writer.format.interface(packet).unwrap_or(0)
}

/// Ends the live file, if there is one, and begins the next.
#[cold]
fn next_file<F: Format>(writer: &mut Writer<F>) -> bool {
    end_file(writer);
    writer.ring.next_file() && begin_file(writer)
}

fn begin_file<F: Format>(writer: &mut Writer<F>) -> bool {
    let Writer { format, ring, .. } = writer;
    ring.keep_for_end(format.end_bytes());
    let mut fits = true;
    format.begin(&mut |block| fits &= ring.append_block(block));
    fits
}

fn end_file<F: Format>(writer: &mut Writer<F>) {
    let Writer { format, ring, .. } = writer;
    if ring.has_records() {
        format.end(&mut |block| ring.append_end(block));
    }
}
