//! The fast way to a record: packets of one template differ in little.
//!
//! What [`Format::encode`](super::Format::encode) finds out about a packet (its device's id, which
//! link-layer header, which options) is the same for all packets of its template. A [`RecordTemplate`] keeps it, and a
//! record is then a few stores. What differs by more than its packet, such as a record behind lost
//! packets, takes the long way; the bytes are the same either way (a test holds the two against each
//! other).

use super::frame::{SYNTHESIZED_HEADER, copy_short};
use super::pcapng::COMMENT_OPTION_BYTES_MAX;
use super::{LinkType, Space};
use crate::packet::{Direction, ETHERNET_HEADER_BYTES, ETHERTYPE_IPV4, Packet, TemplateHit};

/// What the records of one template's packets have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTemplate {
    /// The id of the device.
    pub interface: u32,
    /// Which way the packets go.
    pub direction: Direction,
    header: Header,
    /// Bytes of the link-layer header.
    header_bytes: usize,
    /// Bytes behind it that are written at the most.
    body_max_bytes: usize,
}

/// The options that stand in all of a template's records, as the format writes them. Apart from the template,
/// which then fits into registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    bytes: [u8; OPTIONS_MAX_BYTES],
    len: usize,
}

/// The longest are pcapng's comment with a mark and a prefix.
const OPTIONS_MAX_BYTES: usize = COMMENT_OPTION_BYTES_MAX;

impl Options {
    /// Has them written, `len` bytes. `None` where there is no room for so many.
    pub(super) fn new(len: usize, write: impl FnOnce(&mut [u8])) -> Option<Options> {
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
    /// The template for this packet's hits. `None` where they differ in more than a template knows of.
    pub(super) fn new(
        packet: &Packet<'_>,
        link: LinkType,
        snaplen: u32,
        interface: usize,
    ) -> Option<RecordTemplate> {
        if packet.protocol != ETHERTYPE_IPV4
            || packet.network_len.is_some()
            || packet.vlan.is_some()
        {
            return None;
        }
        let header = match (link, packet.ethernet_header()) {
            (LinkType::Nflog, _) => return None,
            (LinkType::Ip, _) => Header::Absent,
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
        hit.network_len() + self.header_bytes as u32
    }

    /// Copies the frame to the start of `out`. False where it does not fit.
    #[inline]
    #[must_use]
    pub fn copy_frame(&self, hit: &TemplateHit<'_>, body: &[u8], mut out: Space<'_>) -> bool {
        let header = match self.header {
            Header::Absent => return copy_body(body, out),
            Header::Own => hit.hw_header,
            Header::Synthesized => Some(&SYNTHESIZED_HEADER),
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
