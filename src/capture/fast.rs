//! The fast path: packets that hit a template become records.
//!
//! ```text
//!   source::nflog::template   a message is compared with its template; its values are lent: a hit
//!   capture::fast             is it the next one, is its interface declared?
//!   format::pcapng::template  its record, by the record template
//!   ring::rest                in what is left of the segment
//! ```
//!
//! A loop of nothing else: what is not a hit, not the next number or has no room ends it, and is
//! handled one by one (`files.rs`).

use crate::account::Sequence;
use crate::format::{Format, LinkType, Options, RecordTemplate};
use crate::packet::Packet;
use crate::ring::Rest;
use crate::source::Hits;

/// How the hits of one message template are recorded, and those recorded so that are not accounted
/// for yet.
#[derive(Debug)]
pub(super) struct KnownTemplate {
    record: RecordTemplate,
    options: Options,
    /// Whether it still holds is for the sink to say.
    epoch: u64,
    /// The index of the interface where it is not each hit's
    /// [`ifindex_in`](crate::packet::TemplateHit::ifindex_in).
    ifindex: Option<u32>,
    pub(super) records: u64,
    /// Of the interface that the template names, those that are not counted yet.
    uncounted: u64,
    last_ticks: u64,
}

impl KnownTemplate {
    /// How packets that are like this one are recorded. `None` where each is recorded by itself.
    pub(super) fn learn<F: Format>(
        format: &F,
        packet: &Packet<'_>,
        link: LinkType,
        snaplen: u32,
        interface: usize,
        epoch: u64,
    ) -> Option<KnownTemplate> {
        let (record, options) = format.template(packet, link, snaplen, interface)?;
        let own = packet.ifindex_port == 0 && !packet.is_of_its_way_out();
        Some(KnownTemplate {
            record,
            options,
            epoch,
            ifindex: (!own).then_some(packet.ifindex()),
            records: 0,
            uncounted: 0,
            last_ticks: 0,
        })
    }

    /// When it was learned.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether its records have options: most have none.
    pub(super) fn has_options(&self) -> bool {
        !self.options.bytes().is_empty()
    }

    /// Adds what was recorded to the figures of its interface.
    pub(super) fn count_interface<F: Format>(&mut self, format: &mut F) {
        let uncounted = std::mem::take(&mut self.uncounted);
        if uncounted != 0 {
            format.count_hits(&self.record, uncounted, self.last_ticks);
        }
    }
}

/// Appends the hits that come next to the rest of the segment. Returns how long the record is that
/// did not fit, if that was what ended it. It ends, too, where an interface is met that the file
/// does not declare yet.
///
/// Most records have no options: `OPTIONS` keeps the question out of their loop, which is a tenth
/// shorter without it.
pub(super) fn append_hits<F: Format, H: Hits, const OPTIONS: bool>(
    format: &mut F,
    known: &mut KnownTemplate,
    hits: &mut H,
    next: &mut Sequence,
    rest: &mut Rest<'_>,
) -> Option<usize> {
    let mut template = known.record;
    let options = if OPTIONS { known.options.bytes() } else { &[] };
    let (mut sequence, mut last_ticks, mut run) = (*next, known.last_ticks, known.uncounted);
    // Either the hit's own index or the template's, without a question.
    let (fixed, own) = known.ifindex.map_or((0, u32::MAX), |ifindex| (ifindex, 0));
    // What the id in the template stands for is not kept from batch to batch.
    let mut named = NO_INTERFACE;
    let mut no_room_for = None;
    while let Some(hit) = hits.peek() {
        if !hit.is_of(template.version) || !sequence.is_next(hit.sequence) {
            break;
        }
        let ifindex = fixed | hit.ifindex_in & own;
        if u64::from(ifindex) != named {
            if !name_interface(format, &mut template, ifindex, &mut run, last_ticks) {
                break;
            }
            named = u64::from(ifindex);
        }
        let body = template.body(&hit);
        let bytes = F::hit_bytes(&template, options, body);
        let Some(mut slot) = rest.slot(bytes) else {
            no_room_for = Some(bytes);
            break;
        };
        let head = F::encode_hit(&template, options, &hit, body, slot.space());
        slot.append(head);
        last_ticks = hit.stamp_ticks.get();
        sequence.skip_one();
        run += 1;
        hits.pass();
    }
    *next = sequence;
    (known.record, known.last_ticks, known.uncounted) = (template, last_ticks, run);
    no_room_for
}

/// No interface's index.
const NO_INTERFACE: u64 = u64::MAX;

/// Has a template name the interface of this index, and counts what was recorded of the one before.
/// False where the file does not declare it yet.
#[inline(never)]
fn name_interface<F: Format>(
    format: &mut F,
    template: &mut RecordTemplate,
    ifindex: u32,
    run: &mut u64,
    last_ticks: u64,
) -> bool {
    let Some(id) = format.interface(ifindex) else {
        return false;
    };
    let id = u32::try_from(id).unwrap_or(u32::MAX);
    if id != template.interface {
        if *run != 0 {
            format.count_hits(template, std::mem::take(run), last_ticks);
        }
        template.interface = id;
    }
    true
}
