//! One packet after the other into the ring: the fast way, and the way for all.

use std::time::{SystemTime, UNIX_EPOCH};

use super::control::Control;
use super::writer::Writer;
use crate::account::{Sequence, Tally};
use crate::netlink::shape::SHAPES;
use crate::packet::Packet;
use crate::record::{Context, Format, Frame, Options, Plan};
use crate::ring::Rest;
use crate::source::Walk;

/// What recording one packet needs, borrowed apart from the source whose batch it walks.
pub(super) struct Recorder<'a, F> {
    pub(super) writer: &'a mut Option<Writer<F>>,
    pub(super) tally: &'a mut Tally,
    pub(super) sequence: &'a mut Sequence,
    pub(super) lost_before: &'a mut u64,
    pub(super) no_file: &'a mut bool,
    pub(super) control: &'a Control,
    /// The time of the batch's arrival, once a packet without a time stamp has asked for it.
    pub(super) now_us: u64,
    pub(super) plans: &'a mut Plans,
}

/// By [`Packet::shape`]: the plans for twins.
pub(super) type Plans = [Option<Planned>; SHAPES];

/// A plan, and those recorded by it that are not in the books yet.
#[derive(Debug)]
pub(super) struct Planned {
    plan: Plan,
    options: Options,
    records: u64,
    last_us: u64,
}

/// Appends the twins that come next to the rest of the segment. Returns how long the record is that did not
/// fit, if that was what ended it.
///
/// Most records have no options: `OPTIONS` keeps the question out of their loop, which is a tenth shorter
/// without it.
fn append_twins<F: Format, W: Walk, const OPTIONS: bool>(
    planned: &mut Planned,
    shape: usize,
    batch: &mut W,
    next: &mut Sequence,
    rest: &mut Rest<'_>,
) -> Option<usize> {
    let plan = planned.plan;
    let options = if OPTIONS {
        planned.options.bytes()
    } else {
        &[]
    };
    let (mut sequence, mut last_us) = (*next, planned.last_us);
    let mut no_room_for = None;
    batch.twins(shape, |twin| {
        if !twin.is_ipv4() || !sequence.is_next(twin.sequence) {
            return false;
        }
        let body = plan.body(&twin);
        let bytes = F::planned_bytes(&plan, options, body);
        let fits = rest.append(bytes, |out| {
            F::encode_planned(&plan, options, &twin, body, out)
        });
        if !fits {
            no_room_for = Some(bytes);
            return false;
        }
        sequence.skip_one();
        last_us = twin.stamp_us.get();
        true
    });
    *next = sequence;
    planned.last_us = last_us;
    no_room_for
}

impl<F: Format> Recorder<'_, F> {
    /// The fast way, for packets that are like earlier ones. It ends where anything is out of the
    /// ordinary: not the next number, no IPv4 header, no room in the file.
    #[inline]
    pub(super) fn take_twins(&mut self, batch: &mut impl Walk) {
        let Some(writer) = self.writer.as_mut().filter(|_| *self.lost_before == 0) else {
            return;
        };
        while let Some(shape) = batch.shape()
            && let Some(Some(planned)) = self.plans.get_mut(shape)
        {
            let Some(mut rest) = writer.ring.rest() else {
                break;
            };
            let append = if planned.options.bytes().is_empty() {
                append_twins::<F, _, false>
            } else {
                append_twins::<F, _, true>
            };
            let no_room_for = append(planned, shape, batch, self.sequence, &mut rest);
            let records = rest.appended();
            drop(rest);
            planned.records += records;
            match no_room_for {
                Some(bytes) if writer.ring.make_room(bytes).is_ok() => {}
                None if records != 0 => {}
                _ => break,
            }
        }
    }

    /// Enters into the books what was recorded by plan.
    pub(super) fn settle_planned(&mut self) {
        let Some(writer) = self.writer.as_mut() else {
            return;
        };
        for planned in self.plans.iter_mut().flatten() {
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

    /// The long way, for any packet. What it finds out serves its twins.
    #[inline(never)]
    pub(super) fn take(&mut self, packet: &Packet<'_>) {
        self.settle_planned();
        if let Some(planned) = packet.shape.and_then(|shape| self.plans.get_mut(shape)) {
            *planned = None;
        }
        self.tally.received += 1;
        self.tally.numbered += 1;
        if let Some(sequence) = packet.sequence {
            let missing = self.sequence.take(sequence, 1);
            self.tally.overrun += missing;
            self.tally.numbered += missing;
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
    pub(super) fn pass_over(&mut self) {
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
            None => writer.declare(packet),
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
                if self.control.unlimited()
                    && let Some(planned) = packet.shape.and_then(|shape| self.plans.get_mut(shape))
                {
                    let plan = F::plan(packet, writer.link, writer.snaplen, interface);
                    *planned = plan.map(|(plan, options)| Planned {
                        plan,
                        options,
                        records: 0,
                        last_us: 0,
                    });
                }
                return true;
            }
            if last_try || *self.no_file || !writer.next_file() {
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
