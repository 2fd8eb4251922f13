//! The file ring as a sink: a format's records in a ring's files, and the blocks that every file
//! begins and ends with.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Control;
use super::fast::{KnownTemplate, append_hits};
use super::sink::{Progress, Sink, set_names};
use crate::format::{Context, Format, Frame, LinkType};
use crate::packet::{IpFamily, Packet};
use crate::ring::{Figures, Limits, Ring, segment_bytes_for};
use crate::source::{Item, Source, TEMPLATES_MAX, Walk, links};

/// Records packets in the files of a ring.
#[derive(Debug)]
pub struct FileSink<F> {
    format: F,
    ring: Ring,
    link: LinkType,
    snaplen: u32,
    family: IpFamily,
    /// Grows with each file, and with each note: what a template knows (an interface's id, the snap
    /// length) is of its file, and it carries no note.
    epoch: u64,
    /// By [`Packet::template`]: how hits are recorded.
    templates: [Option<KnownTemplate>; TEMPLATES_MAX],
    /// No file could be had for this batch: it is not tried again before the next.
    no_file: bool,
    /// The time of the batch's arrival, once a packet without a time stamp has asked for it; else
    /// 0.
    now_ticks: u64,
}

impl<F: Format> FileSink<F> {
    /// Records frames of `link`, cut to `snaplen` bytes, in the files of `ring`.
    pub fn new(format: F, ring: Ring, link: LinkType, snaplen: u32) -> Self {
        FileSink {
            format,
            ring,
            link,
            snaplen,
            family: IpFamily::default(),
            epoch: 0,
            templates: Default::default(),
            no_file: false,
            now_ticks: 0,
        }
    }

    /// Records packets of this family, instead of IPv4's.
    pub fn with_family(self, family: IpFamily) -> Self {
        FileSink { family, ..self }
    }

    /// The format and the ring, apart.
    pub fn into_parts(self) -> (F, Ring) {
        (self.format, self.ring)
    }

    /// The fast way, for packets that hit a template. It ends where anything is out of the
    /// ordinary: not the next number, no IP header, no room in the file.
    #[inline]
    fn take_hits(&mut self, batch: &mut impl Walk, progress: &mut Progress) {
        if progress.lost_before != 0 {
            return;
        }
        while let Some(template) = batch.template()
            && let Some(Some(known)) = self.templates.get_mut(template)
            && known.epoch() == self.epoch
        {
            let (Some(mut rest), Some(mut hits)) = (self.ring.rest(), batch.hits(template)) else {
                break;
            };
            let append = if known.has_options() {
                append_hits::<F, _, true>
            } else {
                append_hits::<F, _, false>
            };
            let sequence = &mut progress.sequence;
            let no_room_for = append(&mut self.format, known, &mut hits, sequence, &mut rest);
            drop(hits);
            let records = rest.appended();
            drop(rest);
            known.records += records;
            match no_room_for {
                Some(bytes) if self.ring.make_room(bytes).is_ok() => {}
                None if records != 0 => {}
                _ => break,
            }
        }
    }

    /// Accounts for what was recorded by template.
    fn finish_hits(&mut self, progress: &mut Progress) {
        for known in self.templates.iter_mut().flatten() {
            let records = std::mem::take(&mut known.records);
            progress.tally.received += records;
            progress.tally.numbered += records;
            progress.tally.written += records;
            known.count_interface(&mut self.format);
        }
    }

    /// The long way, for any packet. What it finds out is a template for those that are like it.
    #[inline(never)]
    fn take(&mut self, packet: &Packet<'_>, progress: &mut Progress, control: &Control) {
        self.finish_hits(progress);
        if let Some(known) = packet
            .template
            .and_then(|template| self.templates.get_mut(template))
        {
            *known = None;
        }
        progress.arrived(packet);
        if progress.was_paused && packet.payload.is_empty() {
            progress.tally.paused += 1;
        } else if !self.takes(packet) {
            progress.tally.other_family += 1;
        } else if !control.allow_one() {
            progress.tally.beyond_count += 1;
        } else if self.record(packet, progress, control) {
            progress.tally.written += 1;
            progress.lost_before = 0;
        } else {
            progress.tally.writer += 1;
            progress.lost_before += 1;
        }
    }

    /// Whether the packet is one of those to be recorded.
    #[inline]
    fn takes(&self, packet: &Packet<'_>) -> bool {
        packet
            .ip_version()
            .is_some_and(|version| self.family.takes(version))
    }

    #[inline]
    fn record(&mut self, packet: &Packet<'_>, progress: &mut Progress, control: &Control) -> bool {
        let stamp_ticks = match packet.stamp_ticks {
            Some(stamp_ticks) => stamp_ticks.get(),
            None => self.arrival_ticks(progress),
        };
        let frame = Frame::new(packet, self.link, self.snaplen);
        for last_try in [false, true] {
            let known = self.format.interface(packet.ifindex());
            if let Some(interface) = known.or_else(|| self.declare(packet)) {
                let context = Context {
                    stamp_ticks,
                    lost_before: progress.lost_before,
                    interface,
                };
                let len = self.format.record_bytes(packet, &frame, &context);
                if let Ok(mut slot) = self.ring.slot(len) {
                    let head = self.format.encode(packet, &frame, &context, slot.space());
                    slot.append(head);
                    let ticks_per_us = self.format.resolution().ticks_per_us();
                    self.ring.note_first(stamp_ticks / ticks_per_us);
                    if control.unlimited() {
                        self.learn(packet, interface);
                    }
                    return true;
                }
            }
            if last_try || self.no_file || !self.next_file() {
                break;
            }
        }
        self.no_file = true;
        false
    }

    /// Has packets that are like this one recorded the fast way.
    fn learn(&mut self, packet: &Packet<'_>, interface: usize) {
        if let Some(known) = packet
            .template
            .and_then(|template| self.templates.get_mut(template))
        {
            *known = KnownTemplate::learn(
                &self.format,
                packet,
                self.link,
                self.snaplen,
                interface,
                self.epoch,
            );
        }
    }

    #[cold]
    fn arrival_ticks(&mut self, progress: &mut Progress) -> u64 {
        progress.tally.unstamped += 1;
        if self.now_ticks == 0 {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            self.now_ticks = self.format.resolution().ticks(now);
        }
        self.now_ticks
    }

    /// Declares the interface of a packet in the live file: its block stands before its first
    /// record there. Where there is no room for it, in the next file. `None` where there is no
    /// file.
    #[cold]
    fn declare(&mut self, packet: &Packet<'_>) -> Option<usize> {
        for last_try in [false, true] {
            let block = self.format.declare(packet);
            self.ring.keep_for_end(self.format.end_bytes());
            if self.ring.append_block(&block) {
                return self.format.interface(packet.ifindex());
            }
            if last_try || !self.next_file() {
                break;
            }
        }
        None
    }

    /// Ends the live file, if there is one, and begins the next.
    #[cold]
    fn next_file(&mut self) -> bool {
        self.append_end();
        self.ring.next_file() && self.begin_file()
    }

    fn begin_file(&mut self) -> bool {
        self.epoch += 1;
        let FileSink { format, ring, .. } = self;
        ring.keep_for_end(format.end_bytes());
        let mut fits = true;
        format.begin(&mut |block| fits &= ring.append_block(block));
        fits
    }

    /// Appends the blocks that end a file.
    fn append_end(&mut self) {
        let FileSink { format, ring, .. } = self;
        if ring.has_records() {
            format.end(&mut |block| ring.append_end(block));
        }
    }
}

impl<F: Format> Sink for FileSink<F> {
    fn begin(&mut self) {
        self.ring.take_over();
        self.next_file();
    }

    #[inline]
    fn take_batch<S: Source>(
        &mut self,
        source: &mut S,
        progress: &mut Progress,
        control: &Control,
    ) {
        (self.no_file, self.now_ticks) = (false, 0);
        let mut batch = source.batch();
        loop {
            self.take_hits(&mut batch, progress);
            match batch.next() {
                Some(Item::Packet(packet)) => self.take(packet, progress, control),
                Some(Item::Malformed(why)) => progress.pass_over(why),
                None => break,
            }
        }
        self.finish_hits(progress);
    }

    fn idle(&mut self) {
        self.no_file = false;
    }

    #[inline]
    fn commit(&mut self) {
        self.ring.commit();
    }

    /// Ends the live file, if it holds a packet, and begins the next. Where that is not there yet,
    /// the next packet waits for it.
    #[cold]
    fn rotate(&mut self) -> bool {
        let holds_records = self.ring.has_records();
        if holds_records {
            self.append_end();
            if self.ring.rotate() {
                self.begin_file();
            }
        }
        holds_records
    }

    fn when_finished(&mut self, then: Box<dyn FnOnce() + Send>) {
        self.ring.when_finished(then);
    }

    fn note_links(&mut self, changes: &[links::Change]) {
        set_names(&mut self.format, changes);
    }

    /// What the file says of its records' length holds for the whole of it, so another one begins.
    #[cold]
    fn set_snaplen(&mut self, snaplen: u32, file_snaplen: u32) {
        self.append_end();
        let segment_bytes = segment_bytes_for(F::record_bytes_max(file_snaplen as usize));
        self.format.set_snaplen(file_snaplen, segment_bytes);
        self.ring.lay_out(segment_bytes);
        self.snaplen = snaplen;
        self.next_file();
    }

    fn set_files(&mut self, limits: Limits, file_bytes: u64) {
        self.ring.set_limits(limits, file_bytes);
    }

    /// Records by template carry no note: the next record is made the long way.
    #[cold]
    fn note(&mut self, text: &str) {
        self.epoch += 1;
        self.format.note(text);
    }

    fn end(&mut self, lost: u64) {
        self.format.lose(lost);
        self.append_end();
    }

    #[inline]
    fn figures(&self) -> Figures {
        self.ring.figures()
    }

    fn close(self) -> (Vec<PathBuf>, Figures) {
        self.ring.close()
    }
}
