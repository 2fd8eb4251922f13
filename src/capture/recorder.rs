//! One packet after the other into the ring: the fast way, and the way for all.

use std::time::{SystemTime, UNIX_EPOCH};

use super::commands::Control;
use super::sink::Writer;
use crate::account::{Sequence, Tally};
use crate::format::{Context, Format, Frame, Options, Plan};
use crate::packet::Packet;
use crate::ring::Rest;
use crate::source::SHAPES;
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
    /// The index of the interface where it is not each packet's [`Twin::ifindex_in`].
    ifindex: Option<u32>,
    records: u64,
    /// Of the interface that the plan names, those that are not counted yet.
    uncounted: u64,
    last_us: u64,
}

/// Appends the twins that come next to the rest of the segment. Returns how long the record is that did not
/// fit, if that was what ended it. It ends, too, where an interface is met that the file does not declare yet.
///
/// Most records have no options: `OPTIONS` keeps the question out of their loop, which is a tenth shorter
/// without it.
fn append_twins<F: Format, W: Walk, const OPTIONS: bool>(
    format: &mut F,
    planned: &mut Planned,
    shape: usize,
    batch: &mut W,
    next: &mut Sequence,
    rest: &mut Rest<'_>,
) -> Option<usize> {
    let Planned {
        plan: planned_plan,
        options,
        ifindex,
        uncounted,
        last_us: planned_last_us,
        ..
    } = planned;
    let mut plan = *planned_plan;
    let options = if OPTIONS { options.bytes() } else { &[] };
    let (mut sequence, mut last_us, mut run) = (*next, *planned_last_us, *uncounted);
    // Either the twin's own index or the plan's, without a question.
    let (fixed, own) = ifindex.map_or((0, u32::MAX), |ifindex| (ifindex, 0));
    // What the id in the plan stands for: another file may have given it to another interface.
    let mut named = NO_INTERFACE;
    let mut no_room_for = None;
    batch.twins(shape, |twin| {
        if !twin.is_ipv4() || !sequence.is_next(twin.sequence) {
            return false;
        }
        let ifindex = fixed | twin.ifindex_in & own;
        if u64::from(ifindex) != named {
            if !name_interface(format, &mut plan, ifindex, &mut run, last_us) {
                return false;
            }
            named = u64::from(ifindex);
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
        run += 1;
        true
    });
    *next = sequence;
    *planned_plan = plan;
    *planned_last_us = last_us;
    *uncounted = run;
    no_room_for
}

/// No interface's index.
const NO_INTERFACE: u64 = u64::MAX;

/// Has a plan name the interface of this index, and counts what was recorded of the one before. False where the file
/// does not declare it yet.
#[inline(never)]
fn name_interface<F: Format>(
    format: &mut F,
    plan: &mut Plan,
    ifindex: u32,
    run: &mut u64,
    last_us: u64,
) -> bool {
    let Some(id) = format.interface(ifindex) else {
        return false;
    };
    let id = len_u32(id);
    if id != plan.interface {
        if *run != 0 {
            format.note_planned(plan, std::mem::take(run), last_us);
        }
        plan.interface = id;
    }
    true
}

/// An interface's id in a file.
fn len_u32(id: usize) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
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
            let no_room_for = append(
                &mut writer.format,
                planned,
                shape,
                batch,
                self.sequence,
                &mut rest,
            );
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
            let uncounted = std::mem::take(&mut planned.uncounted);
            if uncounted != 0 {
                writer
                    .format
                    .note_planned(&planned.plan, uncounted, planned.last_us);
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
        let frame = Frame::new(packet, writer.link, writer.snaplen);
        for last_try in [false, true] {
            let known = writer.format.interface(packet.ifindex());
            if let Some(interface) = known.or_else(|| writer.declare(packet)) {
                let context = Context {
                    stamp_us,
                    lost_before: *self.lost_before,
                    interface,
                };
                let len = writer.format.record_bytes(packet, &frame, &context);
                if let Ok(mut slot) = writer.ring.slot(len) {
                    let head = writer.format.encode(packet, &frame, &context, slot.space());
                    slot.append(head);
                    writer.ring.note_first(stamp_us);
                    self.plan(packet, interface);
                    return true;
                }
            }
            if last_try || *self.no_file || !writer.next_file() {
                break;
            }
        }
        *self.no_file = true;
        false
    }

    /// Has the twins of this packet recorded the fast way.
    fn plan(&mut self, packet: &Packet<'_>, interface: usize) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.control.unlimited()) else {
            return;
        };
        let Some(planned) = packet.shape.and_then(|shape| self.plans.get_mut(shape)) else {
            return;
        };
        let plan = F::plan(packet, writer.link, writer.snaplen, interface);
        let by_twin = packet.ifindex_port == 0 && packet.ifindex_in != 0;
        *planned = plan.map(|(plan, options)| Planned {
            plan,
            options,
            ifindex: (!by_twin).then_some(packet.ifindex()),
            records: 0,
            uncounted: 0,
            last_us: 0,
        });
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
