//! How a template is learned from the first message of its kind.

use super::{COMPARED_BYTES, Compared, MessageTemplate, NEAR_BYTES, Place, Window, value};
use crate::netlink::attribute::HEADER_BYTES;
use crate::netlink::nfnetlink::NFGENMSG_BYTES;
use crate::netlink::{Attributes, align, message};
use crate::packet::{ETHERNET_HEADER_BYTES, NETDEV_EGRESS, NFPROTO_NETDEV, Packet};
use crate::source::nflog::message::attribute;

impl MessageTemplate {
    /// Learns from a packet that [`message::parse`](crate::source::nflog::message::parse) has
    /// read. `None` where it has not all that a hit has, or where the payload is not the last
    /// attribute, or stands too far behind.
    pub(super) fn learn(window: &Window, packet: &Packet<'_>) -> Option<MessageTemplate> {
        let mut template = MessageTemplate {
            mask: Compared([0; COMPARED_BYTES]),
            expected: Compared([0; COMPARED_BYTES]),
            far: false,
            stamp: 0,
            sequence: 0,
            ifindex_in: 0,
            hw_header: 0,
            hw_source: 0..0,
            prefix: 0..0,
            payload: 0,
            common: Packet {
                payload: &[],
                hw_header: &[],
                hw_source: &[],
                prefix: &[],
                message: &[],
                ..*packet
            },
        };
        // A tag to put back, or a header to take off: each packet by itself.
        let egress = packet.family == NFPROTO_NETDEV && packet.hook == NETDEV_EGRESS;
        if egress || packet.vlan.is_some() {
            return None;
        }
        let mask = &mut template.mask.0;
        let mut at = message::HEADER_BYTES + NFGENMSG_BYTES;
        mask[message::TYPE].fill(0xff);
        mask[message::HEADER_BYTES..at].fill(0xff);
        for found in Attributes::new(packet.message.get(NFGENMSG_BYTES..)?) {
            let found = found.ok()?;
            let (value, end) = (at + HEADER_BYTES, at + HEADER_BYTES + found.value.len());
            if template.payload != 0 {
                return None;
            }
            mask.get_mut(at..value)?.fill(0xff);
            let place = |at: usize| Place::try_from(at).ok();
            match found.kind {
                attribute::PAYLOAD => {
                    mask[at..at + 2].fill(0); // its length
                    template.payload = place(at)?;
                }
                // Seconds and microseconds of any time that a clock shows are below 2^40.
                attribute::TIMESTAMP => {
                    template.stamp = place(value)?;
                    for half in [value, value + 8] {
                        mask.get_mut(half..half + 3)?.fill(0xff);
                    }
                }
                attribute::SEQ => template.sequence = place(value)?,
                // A host with many interfaces has one template for all of them.
                attribute::IFINDEX_INDEV => template.ifindex_in = place(value)?,
                // Not the address, but its length.
                attribute::HWADDR => {
                    template.hw_source =
                        place(value + 4)?..place(value + 4 + packet.hw_source.len())?;
                    mask.get_mut(value..value + 2)?.fill(0xff);
                }
                // Not the addresses, but what the header announces.
                attribute::HWHEADER => {
                    template.hw_header = place(value)?;
                    let announced = value + ETHERNET_HEADER_BYTES - 2;
                    mask.get_mut(announced..announced + 2)?.fill(0xff);
                }
                attribute::PREFIX => {
                    template.prefix = place(value)?..place(value + packet.prefix.len())?;
                    mask.get_mut(value..end)?.fill(0xff);
                }
                // A mark too: packets of another one are no hits.
                attribute::PACKET_HDR
                | attribute::MARK
                | attribute::IFINDEX_OUTDEV
                | attribute::IFINDEX_PHYSINDEV
                | attribute::IFINDEX_PHYSOUTDEV
                | attribute::HWTYPE
                | attribute::HWLEN => mask.get_mut(value..end)?.fill(0xff),
                _ => {}
            }
            at += align(HEADER_BYTES + found.value.len());
        }
        let header_fits = match template.hw_header {
            0 => true,
            _ => packet.hw_header.len() == ETHERNET_HEADER_BYTES,
        };
        if template.payload == 0 || template.stamp == 0 || template.sequence == 0 || !header_fits {
            return None;
        }
        template.far = mask[NEAR_BYTES..].iter().any(|mask| *mask != 0);
        let expected = &mut template.expected.0;
        for (expected, (byte, mask)) in expected.iter_mut().zip(window.iter().zip(mask)) {
            *expected = byte & *mask;
        }
        // The time is read on these terms.
        let [0, 0, 0, .., 0, 0, 0, _, _, _, _, _] = value::<16>(window, template.stamp) else {
            return None;
        };
        Some(template)
    }
}
