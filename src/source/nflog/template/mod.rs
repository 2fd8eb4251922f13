//! The fast way through a batch: one rule's messages look alike.
//!
//! The kernel writes the same attributes in the same order and size for every packet of one rule;
//! only values and the payload's length differ. Walking attribute by attribute is a chain of
//! dependent loads and a jump for each of them. So the first message of its kind is walked
//! ([`super::message::parse`]), and its *template* learned: the bytes that stay (headers, hook,
//! prefix) and the places of those that do not. Each later message is compared with it under a
//! mask, a few instructions, all loads independent; if nothing differs, its packet is a hit, and
//! its values are where the template says. If anything does, it is walked. The result is the same
//! either way (a test holds the two against each other), and so is the trust: no length is believed
//! before it is checked.

mod learn;

use std::num::NonZeroU64;
use std::ops::Range;

use crate::netlink::attribute::HEADER_BYTES;
use crate::netlink::{align, message};
use crate::packet::{Packet, TemplateHit};
use crate::source::TEMPLATES_MAX;

/// Bytes that a message is compared in, from its header on: what stands before the payload, and,
/// under a mask of zeros, what comes then, be it the next message. The kernel's messages have 128
/// before the payload at prerouting, 164 at ingress (a socket's owner, the link layer's header
/// again), and 8 more for a second interface and for a mark.
const COMPARED_BYTES: usize = 192;
/// Of them those that every template is compared in.
const NEAR_BYTES: usize = 128;
/// As vector instructions like it.
#[derive(Debug, Clone)]
#[repr(align(16))]
struct Compared([u8; COMPARED_BYTES]);

/// A place inside a message: 0, where its length is, stands for "not there".
type Place = u8;
/// Bytes behind a message's start in which any value is, wherever it begins: nothing is to be
/// checked then. Nearer to a datagram's end messages are walked.
const WINDOW_BYTES: usize = Place::MAX as usize + VALUE_BYTES_MAX;
const VALUE_BYTES_MAX: usize = 16;
type Window = [u8; WINDOW_BYTES];

/// The templates of a group's messages.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    known: [Option<MessageTemplate>; TEMPLATES_MAX],
    /// The one that fitted last.
    last: usize,
    /// Templates learned: the next one goes where the oldest is.
    learned: usize,
}

impl Templates {
    /// The place of the template that the first message of what is left of a datagram has.
    #[inline]
    pub fn find(&mut self, datagram: &[u8]) -> Option<usize> {
        let window = datagram.first_chunk()?;
        let fits = |template: &Option<MessageTemplate>| {
            template
                .as_ref()
                .is_some_and(|template| template.fits(window))
        };
        if !fits(&self.known[self.last % TEMPLATES_MAX]) {
            self.last = self.known.iter().position(fits)?;
        }
        Some(self.last)
    }

    /// The template at a place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&MessageTemplate> {
        self.known.get(place)?.as_ref()
    }

    /// Learns the template of a packet that was walked, and says its place. `datagram` begins with
    /// its message. `None` where that has no template which later ones could share.
    pub fn learn(&mut self, datagram: &[u8], packet: &Packet<'_>) -> Option<usize> {
        let template = MessageTemplate::learn(datagram.first_chunk()?, packet)?;
        self.last = self.learned % TEMPLATES_MAX;
        self.learned = self.learned.wrapping_add(1);
        self.known[self.last] = Some(template);
        Some(self.last)
    }
}

/// What the messages of one rule have in common.
#[derive(Debug, Clone)]
pub struct MessageTemplate {
    /// What counts of the window's bytes, and what they are then.
    mask: Compared,
    expected: Compared,
    /// Whether any counts that is not near.
    far: bool,
    stamp: Place,
    sequence: Place,
    ifindex_in: Place,
    hw_header: Place,
    hw_source: Range<Place>,
    prefix: Range<Place>,
    /// The payload's attribute header.
    payload: Place,
    /// What is the same in all packets, without what they borrow.
    common: Packet<'static>,
}

impl MessageTemplate {
    /// Reads the first message of what is left of a datagram, and returns what follows it there.
    /// `None` where the message has another template.
    // Always, because the compiler finds it too long to repeat in each of its few callers, and a
    // call hands a `TemplateHit` over in memory: 3 of 28 ns a packet.
    #[inline(always)]
    pub fn read<'a>(&self, datagram: &'a [u8]) -> Option<(TemplateHit<'a>, &'a [u8])> {
        let window = datagram.first_chunk()?;
        if !self.fits(window) {
            return None;
        }
        let (message, rest) = datagram.split_at_checked(message::length(window.first_chunk()?))?;
        let (attribute, padded) = message
            .get(usize::from(self.payload)..)?
            .split_first_chunk::<HEADER_BYTES>()?;
        let attribute_bytes = usize::from(u16::from_ne_bytes([attribute[0], attribute[1]]));
        let payload = padded.get(..attribute_bytes.checked_sub(HEADER_BYTES)?)?;
        // Nothing follows the payload but its padding, which is there.
        if align(payload.len()) != padded.len() {
            return None;
        }
        let stamp = u128::from_be_bytes(*value(window, self.stamp));
        #[expect(clippy::cast_possible_truncation, reason = "a half of it")]
        let (seconds, micros) = ((stamp >> 64) as u64, stamp as u64);
        let hit = TemplateHit {
            payload,
            hw_header: (self.hw_header != 0).then(|| value(window, self.hw_header)),
            hw_source: slice(datagram, &self.hw_source),
            message: message.get(message::HEADER_BYTES..).unwrap_or(&[]),
            stamp_ticks: NonZeroU64::new(seconds * 1_000_000 + micros)?,
            sequence: u32::from_be_bytes(*value(window, self.sequence)),
            ifindex_in: match self.ifindex_in {
                0 => 0,
                place => u32::from_be_bytes(*value(window, place)),
            },
        };
        Some((hit, rest))
    }

    /// The whole packet of a hit that [`MessageTemplate::read`] read from the start of `datagram`.
    pub fn packet<'a>(&self, hit: &TemplateHit<'a>, datagram: &'a [u8]) -> Packet<'a> {
        Packet {
            prefix: slice(datagram, &self.prefix),
            ..hit.packet(&self.common)
        }
    }

    /// Whether a message has this template, as far as the bytes before its payload tell.
    #[inline]
    fn fits(&self, window: &Window) -> bool {
        let same = |part: Range<usize>| {
            // Counted, because the compiler makes that a few vector instructions without a jump; of
            // a comparison it makes a jump for each word.
            let mut same = 0u8;
            for at in part.clone() {
                same += u8::from(window[at] & self.mask.0[at] == self.expected.0[at]);
            }
            usize::from(same) == part.len()
        };
        same(0..NEAR_BYTES) && (!self.far || same(NEAR_BYTES..COMPARED_BYTES))
    }
}

/// The bytes at a place.
#[inline]
fn value<const N: usize>(window: &Window, place: Place) -> &[u8; N] {
    const { assert!(N <= VALUE_BYTES_MAX) };
    window[usize::from(place)..]
        .first_chunk()
        .unwrap_or(&[0; N])
}

#[inline]
fn slice<'a>(datagram: &'a [u8], range: &Range<Place>) -> &'a [u8] {
    datagram
        .get(usize::from(range.start)..usize::from(range.end))
        .unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message as nflog;
    use super::super::message::attribute;
    use super::*;
    use crate::netlink::Messages;

    /// A message as prerouting writes it.
    fn body(prefix: &[u8], mark: u32, seq: u32, payload: &[u8]) -> Vec<u8> {
        let mut body = vec![2, 0, 0, 5];
        let mut put = |kind: u16, value: &[u8]| {
            body.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(align(body.len()), 0);
        };
        put(attribute::PACKET_HDR, &[8, 0, 0, 0]);
        if !prefix.is_empty() {
            put(attribute::PREFIX, prefix);
        }
        put(attribute::IFINDEX_INDEV, &[0, 0, 0, 2]);
        if mark != 0 {
            put(attribute::MARK, &mark.to_be_bytes());
        }
        put(attribute::HWADDR, &[0, 6, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0]);
        put(attribute::HWTYPE, &[0, 1]);
        put(attribute::HWLEN, &[0, 14]);
        put(
            attribute::HWHEADER,
            &[9, 9, 9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 8, 0],
        );
        put(
            attribute::TIMESTAMP,
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2],
        );
        put(attribute::SEQ, &seq.to_be_bytes());
        put(attribute::PAYLOAD, payload);
        body
    }

    /// Messages one behind the other, and the end of a datagram: a long one, so that all of them
    /// may be hits, or the kernel's.
    fn datagram<'a>(bodies: impl IntoIterator<Item = &'a Vec<u8>>, long: bool) -> Vec<u8> {
        let mut datagram = Vec::new();
        let mut put = |kind: u16, body: &[u8]| {
            let length = u32::try_from(message::HEADER_BYTES + body.len()).unwrap();
            datagram.extend_from_slice(&length.to_ne_bytes());
            datagram.extend_from_slice(&kind.to_ne_bytes());
            datagram.extend_from_slice(&[0; 10]);
            datagram.extend_from_slice(body);
            datagram.resize(align(datagram.len()), 0);
        };
        bodies.into_iter().for_each(|body| put(nflog::PACKET, body));
        put(
            message::DONE,
            if long { &[0; WINDOW_BYTES] } else { &[0; 4] },
        );
        datagram
    }

    /// Holds templates against the walk, learning as a batch does. Returns how many were hits.
    fn hits(datagram: &[u8]) -> usize {
        let mut templates = Templates::default();
        let mut hits = 0;
        let mut walk = Messages::new(datagram);
        loop {
            let rest = walk.rest();
            let place = templates.find(rest);
            let found = place.and_then(|place| templates.get(place)?.read(rest));
            let walked = match walk.next() {
                Some(Ok(message)) if message.kind == nflog::PACKET => nflog::parse(&message).ok(),
                Some(_) => None,
                None => break,
            };
            if let Some((hit, behind)) = found {
                let template = templates.get(place.unwrap()).unwrap();
                assert_eq!(Some(template.packet(&hit, rest)), walked);
                assert_eq!(behind.as_ptr_range(), walk.rest().as_ptr_range());
                hits += 1;
            } else if let Some(packet) = walked {
                templates.learn(rest, &packet);
            }
        }
        hits
    }

    /// What a kernel 6.18 writes at ingress is the longest: with a socket's owner, and with the
    /// link layer's header twice.
    #[test]
    fn the_longest_messages_have_templates() {
        const UID: u16 = 11;
        const GID: u16 = 14;
        const L2HDR: u16 = 21;
        let message = |seq: u32| {
            let plain = body(b"\0", 0x2a, seq, &[]);
            let mut body = plain[..plain.len() - 4].to_vec();
            for (kind, value) in [
                (UID, &[0; 4][..]),
                (GID, &[0; 4]),
                (attribute::IFINDEX_OUTDEV, &[0, 0, 0, 3]),
                (L2HDR, &[9; 14]),
                (attribute::PAYLOAD, &[0x45; 50]),
            ] {
                body.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
                body.extend_from_slice(&kind.to_ne_bytes());
                body.extend_from_slice(value);
                body.resize(align(body.len()), 0);
            }
            body
        };
        assert_eq!(hits(&datagram([&message(1), &message(2)], true)), 1);
    }

    #[test]
    fn the_second_message_hits_the_first_ones_template() {
        let first = body(b"in\0", 7, 1, &[0x45; 50]);
        let second = body(b"in\0", 7, 2, &[0x46; 99]);
        assert_eq!(hits(&datagram([&first, &second], true)), 1);
        let other_prefix = body(b"on\0", 7, 3, &[0x45; 50]);
        assert_eq!(hits(&datagram([&first, &other_prefix], true)), 0);
        let other_mark = body(b"in\0", 8, 3, &[0x45; 50]);
        assert_eq!(hits(&datagram([&first, &other_mark, &second], true)), 1);
        let cut = second[..second.len() - 4].to_vec();
        assert_eq!(hits(&datagram([&first, &cut], true)), 0);
    }

    proptest! {
        /// Whatever the messages are, templates make no difference.
        #[test]
        fn templates_make_no_difference(
            messages in proptest::collection::vec(
                (0usize..3, 0u32..3, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..80),
                 proptest::option::of((any::<prop::sample::Index>(), any::<u8>()))),
                1..20),
            long in any::<bool>(),
        ) {
            let bodies: Vec<_> = messages.iter().map(|(prefix, mark, seq, payload, flip)| {
                let mut body = body([&b""[..], b"a\0", b"bc\0"][*prefix], *mark, *seq, payload);
                if let Some((at, value)) = flip {
                    let at = at.index(body.len());
                    body[at] = *value;
                }
                body
            }).collect();
            hits(&datagram(&bodies, long));
        }
    }
}
