//! The fast way to a record: packets of one template differ in little.
//!
//! What [`Format::encode`](super::Format::encode) finds out about a packet (its interface's id,
//! which link-layer header, which options) is the same for all packets of its template. A
//! [`RecordTemplate`] keeps it, and a record is then a few stores. What differs by more than its
//! packet, such as a record behind lost packets, takes the long way; the bytes are the same either
//! way (a test holds the two against each other).

use super::block::{self, head, len_u32, option, pad4};
use super::comment::COMMENT_OPTION_BYTES_MAX;
use crate::format::frame::{copy_short, synthesized_header};
use crate::format::{Head, LinkType, Space};
use crate::packet::{Direction, ETHERNET_HEADER_BYTES, IpVersion, Packet, Resolution, TemplateHit};
use crate::sys::space::Chunk;

/// An Enhanced Packet Block's fields before the packet's data.
pub(super) const PACKET_FIXED_BYTES: usize = 28;
/// What a packet block ends in when nothing but its direction is to be said: `epb_flags`,
/// `opt_endofopt`. The total length follows.
pub(super) const OPTIONS_PLAIN_BYTES: usize = 12;
/// They and the total length.
const PLAIN_END_BYTES: usize = OPTIONS_PLAIN_BYTES + 4;
pub(super) const fn options_plain(direction: Direction) -> [u8; OPTIONS_PLAIN_BYTES] {
    let inbound_outbound = match direction {
        Direction::Inbound => 1,
        Direction::Outbound => 2,
    };
    let code = option::EPB_FLAGS.to_le_bytes();
    [
        code[0],
        code[1],
        4,
        0,
        inbound_outbound,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

/// What the records of one template's packets have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTemplate {
    /// The id of the interface.
    pub interface: u32,
    /// Which way the packets go.
    pub direction: Direction,
    /// What a tick of their times is.
    pub resolution: Resolution,
    /// Of which IP its packets are.
    pub version: IpVersion,
    header: Header,
    /// Bytes of the link-layer header.
    header_bytes: usize,
    /// Bytes behind it that are written at the most.
    body_max_bytes: usize,
}

/// The options that stand in all of a template's records, as the format writes them. Apart from the
/// template, which then fits into registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    bytes: [u8; OPTIONS_MAX_BYTES],
    len: usize,
}

/// The longest are pcapng's comment with a mark and a prefix.
const OPTIONS_MAX_BYTES: usize = COMMENT_OPTION_BYTES_MAX;

impl Options {
    /// Has them written, `len` bytes. `None` where there is no room for so many.
    pub(in crate::format) fn new(len: usize, write: impl FnOnce(&mut [u8])) -> Option<Options> {
        let mut bytes = [0; OPTIONS_MAX_BYTES];
        write(bytes.get_mut(..len)?);
        Some(Options { bytes, len })
    }

    /// Their bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The link-layer header of a hit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// None: link type IP.
    Absent,
    /// The packet's own, an Ethernet header without tags.
    Own,
    /// The same for all.
    Synthesized,
}

impl RecordTemplate {
    /// The template for this packet's hits. `None` where they differ in more than a template knows
    /// of.
    pub(in crate::format) fn new(
        packet: &Packet<'_>,
        link: LinkType,
        snaplen: u32,
        interface: usize,
        resolution: Resolution,
    ) -> Option<RecordTemplate> {
        let version = IpVersion::of_protocol(packet.protocol)?;
        if packet.network_len.is_some() || packet.vlan.is_some() {
            return None;
        }
        let header = match (link, packet.ethernet_header()) {
            (LinkType::Nflog, _) => return None,
            (LinkType::Ip | LinkType::RawIp, _) => Header::Absent,
            (LinkType::Ethernet, Some(own)) if own.len() == ETHERNET_HEADER_BYTES => Header::Own,
            (LinkType::Ethernet, None) if packet.link_source().is_none() => Header::Synthesized,
            (LinkType::Ethernet, _) => return None,
        };
        let header_bytes = match header {
            Header::Absent => 0,
            Header::Own | Header::Synthesized => ETHERNET_HEADER_BYTES,
        };
        Some(RecordTemplate {
            interface: u32::try_from(interface).ok()?,
            direction: packet.direction(),
            resolution,
            version,
            header,
            header_bytes,
            body_max_bytes: (snaplen as usize).checked_sub(header_bytes)?,
        })
    }

    /// What of the packet is written behind the link-layer header.
    #[inline]
    pub fn body<'a>(&self, hit: &TemplateHit<'a>) -> &'a [u8] {
        let payload = hit.payload;
        payload.get(..self.body_max_bytes).unwrap_or(payload)
    }

    /// Bytes of the frame with this body that are written.
    #[inline]
    pub fn captured_len(&self, body: &[u8]) -> usize {
        self.header_bytes + body.len()
    }

    /// Bytes of the whole frame as it was on the link.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "0 or 14")]
    pub fn original_len(&self, hit: &TemplateHit<'_>) -> u32 {
        hit.network_len(self.version) + self.header_bytes as u32
    }

    /// Copies the frame to the start of `out`. False where it does not fit.
    #[inline]
    #[must_use]
    pub fn copy_frame(&self, hit: &TemplateHit<'_>, body: &[u8], mut out: Space<'_>) -> bool {
        let header = match self.header {
            Header::Absent => return copy_body(body, out),
            Header::Own => hit.hw_header,
            Header::Synthesized => Some(synthesized_header(self.version.protocol())),
        };
        let (Some(header), Some(mut to)) = (header, out.take_first_chunk()) else {
            return false;
        };
        to.put(*header);
        copy_body(body, out)
    }
}

#[inline]
fn copy_body(body: &[u8], mut out: Space<'_>) -> bool {
    let Some(space) = out.take_first(body.len()) else {
        return false;
    };
    copy_short(body, space);
    true
}

/// Bytes of the packet block of a hit with this body.
#[inline]
pub(super) fn hit_bytes(template: &RecordTemplate, options: &[u8], body: &[u8]) -> usize {
    PACKET_FIXED_BYTES + pad4(template.captured_len(body)) + options.len() + PLAIN_END_BYTES
}

/// Writes the packet block of a hit, all but its head: the same bytes as
/// [`Format::encode`](crate::format::Format::encode).
#[inline]
pub(super) fn encode_hit(
    template: &RecordTemplate,
    options: &[u8],
    hit: &TemplateHit<'_>,
    body: &[u8],
    mut out: Space<'_>,
) -> Head {
    let total = len_u32(out.len()).to_le_bytes();
    let captured = template.captured_len(body);
    let head = head(block::ENHANCED_PACKET, total);
    let (Some(fixed), Some(mut end)) = (
        out.take_first_chunk(),
        out.take_last_chunk::<PLAIN_END_BYTES>(),
    ) else {
        return head;
    };
    let original_len = template.original_len(hit);
    put_fields(
        fixed,
        template.interface,
        hit.stamp_ticks.get(),
        captured,
        original_len,
    );

    if !options.is_empty()
        && let Some(place) = out.take_last(options.len())
    {
        place.put(options);
    }
    if let Some(mut padding) = out.last_chunk::<4>() {
        padding.put([0; 4]); // of which the frame's end overwrites its part
    }
    let fits = template.copy_frame(hit, body, out);
    debug_assert!(fits, "hit_bytes() made room");
    end.put_at::<0, OPTIONS_PLAIN_BYTES>(options_plain(template.direction));
    end.put_at::<OPTIONS_PLAIN_BYTES, 4>(total);
    head
}

/// A packet block's fields between its head and its data.
#[inline]
pub(super) fn put_fields(
    mut out: Chunk<'_, PACKET_FIXED_BYTES>,
    interface: u32,
    stamp_ticks: u64,
    captured: usize,
    original_len: u32,
) {
    out.put_at::<8, 4>(interface.to_le_bytes());
    // The upper half of the time comes first, each half little endian.
    out.put_at::<12, 8>(stamp_ticks.rotate_left(32).to_le_bytes());
    out.put_at::<20, 4>(len_u32(captured).to_le_bytes());
    out.put_at::<24, 4>(original_len.to_le_bytes());
}
