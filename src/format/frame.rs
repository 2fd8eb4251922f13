//! The frame that a record holds: which bytes of a packet, behind which link-layer header.

use super::Space;
use crate::packet::{
    ETHERNET_ADDRESS_BYTES, ETHERNET_HEADER_BYTES, ETHERTYPE_IPV6, IPV4_HEADER_BYTES, Packet,
    VLAN_TAG_BYTES,
};

/// What a record's bytes start with (<https://www.tcpdump.org/linktypes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// `LINKTYPE_ETHERNET`: the frame's own Ethernet header, or a synthesized one.
    Ethernet,
    /// `LINKTYPE_IPV4`: from the IPv4 header on.
    Ip,
    /// `LINKTYPE_RAW`: from the IP header on, whose version says which one it is.
    RawIp,
    /// `LINKTYPE_NFLOG`: the netlink message's body, all attributes as they came.
    Nflog,
}

/// The header written where the interface has none: zero addresses, EtherType IPv4 or IPv6. Of a
/// packet from a queue, the source address is filled in where the interface has one
/// ([`Packet::hw_source`]).
pub(super) const SYNTHESIZED_HEADER: [u8; ETHERNET_HEADER_BYTES] =
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const SYNTHESIZED_HEADER_IPV6: [u8; ETHERNET_HEADER_BYTES] =
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd];

/// That of packets of this protocol.
#[inline]
pub(super) fn synthesized_header(protocol: u16) -> &'static [u8; ETHERNET_HEADER_BYTES] {
    match protocol {
        ETHERTYPE_IPV6 => &SYNTHESIZED_HEADER_IPV6,
        _ => &SYNTHESIZED_HEADER,
    }
}

impl LinkType {
    /// The number in the file.
    pub const fn number(self) -> u16 {
        match self {
            LinkType::Ethernet => 1,
            LinkType::Ip => 228,
            LinkType::RawIp => 101,
            LinkType::Nflog => 239,
        }
    }

    /// How much of a packet to ask the kernel for, from the IP header on, so that `snaplen` bytes of
    /// frame can be written. What the fixed IPv4 header has is always asked for, because the
    /// packet's original length stands in it, or in as much of IPv6's.
    pub fn copy_range_bytes(self, snaplen: u32) -> u32 {
        let header = match self {
            LinkType::Ethernet => ETHERNET_HEADER_BYTES,
            LinkType::Ip | LinkType::RawIp | LinkType::Nflog => 0,
        };
        #[expect(clippy::cast_possible_truncation, reason = "14 and 20")]
        let (header, ip) = (header as u32, IPV4_HEADER_BYTES as u32);
        snaplen.saturating_sub(header).max(ip)
    }
}

/// The bytes of one frame, in two borrowed pieces, and its length before any cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The link-layer header; may be empty.
    pub header: &'a [u8],
    /// What follows it.
    pub body: &'a [u8],
    /// The source address to put into a synthesized header, where it is all that the source of the
    /// packet tells of the link (NFQUEUE); else none.
    source: Option<[u8; ETHERNET_ADDRESS_BYTES]>,
    /// The VLAN tag to put back behind the header's addresses.
    tag: Option<[u8; VLAN_TAG_BYTES]>,
    /// Bytes of header and tag that are written.
    header_bytes: usize,
    /// Bytes of the whole frame as it was on the link.
    pub original_len: u32,
}

impl<'a> Frame<'a> {
    /// The frame of `packet` as `link` has it, cut to `snaplen` bytes. With [`LinkType::Nflog`],
    /// where the attributes come on top, the packet inside is what was cut (by the kernel).
    #[inline]
    pub fn new(packet: &Packet<'a>, link: LinkType, snaplen: u32) -> Frame<'a> {
        let (mut source, mut tag) = (None, None);
        let (header, body): (&[u8], &[u8]) = match link {
            LinkType::Ethernet => {
                let header = packet.ethernet_header().unwrap_or_else(|| {
                    source = packet.link_source();
                    synthesized_header(packet.protocol)
                });
                tag = packet.vlan;
                (header, packet.payload)
            }
            LinkType::Ip | LinkType::RawIp => (&[], packet.payload),
            LinkType::Nflog => {
                let cut = packet.network_len().saturating_sub(len_u32(packet.payload));
                let original_len = len_u32(packet.message).saturating_add(cut);
                return Frame {
                    header: &[],
                    body: packet.message,
                    source,
                    tag,
                    header_bytes: 0,
                    original_len,
                };
            }
        };
        let tag_bytes = tag.map_or(0, |tag| tag.len());
        let original_len = packet
            .network_len()
            .saturating_add(len_u32(header) + if tag.is_some() { 4 } else { 0 });
        let snaplen = snaplen as usize;
        let header_bytes = (header.len() + tag_bytes).min(snaplen);
        let body = &body[..body.len().min(snaplen - header_bytes)];
        Frame {
            header: &header[..header.len().min(snaplen)],
            body,
            source,
            tag,
            header_bytes,
            original_len,
        }
    }

    /// Bytes of the frame that are written.
    #[inline]
    pub fn captured_len(&self) -> usize {
        self.header_bytes + self.body.len()
    }

    /// Copies the frame to the start of `out`, which must be long enough.
    #[inline]
    pub fn copy_to(&self, mut out: Space<'_>) {
        let (Some(mut header), Some(body)) = (
            out.take_first(self.header_bytes),
            out.take_first(self.body.len()),
        ) else {
            debug_assert!(false, "no space for the frame");
            return;
        };
        copy_short(self.body, body);
        if let Some(tag) = self.tag {
            return self.copy_tagged(tag, header);
        }
        // The header is 14 bytes but for tagged frames: a fixed size is copied without a call.
        match self.header.first_chunk::<ETHERNET_HEADER_BYTES>() {
            Some(from) if self.header.len() == ETHERNET_HEADER_BYTES => {
                if let Some(mut to) = header.first_chunk() {
                    to.put(*from);
                }
            }
            _ => header.by_ref().put(self.header),
        }
        if let Some(source) = &self.source
            && header.take_first(ETHERNET_ADDRESS_BYTES).is_some()
        {
            let shown = source.len().min(header.len());
            if let Some(to) = header.take_first(shown) {
                to.put(&source[..shown]);
            }
        }
    }

    /// The addresses, the tag, and what follows it in the header: as much as there is room for.
    #[cold]
    fn copy_tagged(&self, tag: [u8; VLAN_TAG_BYTES], mut out: Space<'_>) {
        let addresses = self.header.len().min(2 * ETHERNET_ADDRESS_BYTES);
        let (addresses, rest) = self.header.split_at(addresses);
        for piece in [addresses, &tag, rest] {
            let fits = piece.len().min(out.len());
            if let Some(to) = out.take_first(fits) {
                to.put(&piece[..fits]);
            }
        }
    }
}

/// Copies; what has 32 to 128 bytes, as the first bytes of most packets have, without a call.
#[inline]
pub(super) fn copy_short(from: &[u8], to: Space<'_>) {
    assert_eq!(from.len(), to.len());
    match from.len() {
        32..=64 => copy_ends::<32>(from, to),
        65..=128 => copy_ends::<64>(from, to),
        _ => to.put(from),
    }
}

/// Copies the first and the last `N` bytes, which may overlap: all of `N` to twice as many.
#[inline]
fn copy_ends<const N: usize>(from: &[u8], mut to: Space<'_>) {
    if let (Some(first), Some(mut start)) = (from.first_chunk::<N>(), to.first_chunk()) {
        start.put(*first);
    }
    if let (Some(last), Some(mut end)) = (from.last_chunk::<N>(), to.last_chunk()) {
        end.put(*last);
    }
}

#[inline]
fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_s_source_address_goes_into_the_synthesized_header() {
        let packet = Packet {
            payload: &[0x45; 20],
            hw_source: &[2, 0, 0, 0, 0, 7],
            ..Packet::default()
        };
        let frame = Frame::new(&packet, LinkType::Ethernet, 128);
        let mut out = [0xff; 34];
        frame.copy_to((&mut out).into());
        assert_eq!(out[..14], [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 7, 8, 0]);
        for snaplen in 0..14u32 {
            let mut out = [0xff; 14];
            Frame::new(&packet, LinkType::Ethernet, snaplen).copy_to((&mut out).into());
            assert!(out[snaplen as usize..].iter().all(|byte| *byte == 0xff));
        }
        let other = Packet {
            hw_source: &[1; 8],
            ..packet
        };
        let mut out = [0xff; 34];
        Frame::new(&other, LinkType::Ethernet, 128).copy_to((&mut out).into());
        assert_eq!(out[..14], SYNTHESIZED_HEADER);
    }
}
