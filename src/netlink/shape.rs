//! The fast way through a batch: one rule's messages look alike.
//!
//! The kernel writes the same attributes in the same order and size for every packet of one rule
//! and device; only values and the payload's length differ. Walking attribute by attribute is a
//! chain of dependent loads and a jump for each of them. So the first message of its kind is
//! walked ([`super::nflog::parse`]), and its *shape* learned: the bytes that stay (headers, device,
//! hook, prefix) and the places of those that do not. Each later message is compared with it under
//! a mask, a few instructions, all loads independent; if nothing differs, its packet is a twin, and its
//! values are where the shape says. If anything does, it is walked. The result is the same either way
//! (a test holds the two against each other), and so is the trust: no length is believed before it is
//! checked.

use std::num::NonZeroU64;

use super::attribute::HEADER_BYTES;
use super::nflog::{NFGENMSG_BYTES, attribute};
use super::{Attributes, align, message};
use crate::packet::{ETHERNET_HEADER_BYTES, Packet, Twin};

/// Bytes compared, from the message's header on: all up to the payload, and, under a mask of zeros, what
/// comes then, be it the next message. The kernel's messages have 128 before the payload at prerouting,
/// 164 at ingress (a socket's owner, the link layer's header again), and 8 more for a second device and
/// for a mark. Nearer to a datagram's end messages are walked.
const WINDOW_BYTES: usize = 192;
type Window = [u8; WINDOW_BYTES];
/// As vector instructions like it.
#[derive(Debug, Clone)]
#[repr(align(16))]
struct Aligned(Window);
/// Shapes known at a time: rules and devices side by side in one group.
pub const SHAPES: usize = 4;

/// The shapes of a batch's messages.
#[derive(Debug, Clone, Default)]
pub struct Shapes {
    known: [Option<Shape>; SHAPES],
    /// The one that fitted last.
    last: usize,
    /// Shapes learned: the next one goes where the oldest is.
    learned: usize,
}

/// A packet read by its shape.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its shape's place among the [`Shapes`].
    pub shape: usize,
    /// What it has of its own.
    pub twin: Twin<'a>,
    /// What follows its message in the datagram.
    pub rest: &'a [u8],
}

impl Shapes {
    /// Reads the first message of what is left of a datagram, if it has a known shape.
    #[inline]
    pub fn find<'a>(&mut self, datagram: &'a [u8]) -> Option<Found<'a>> {
        let window = datagram.first_chunk()?;
        let mut place = self.last % SHAPES;
        if !matches(&self.known[place], window) {
            place = self.position(window)?;
        }
        self.known[place].as_ref()?.read(place, datagram, window)
    }

    #[cold]
    #[inline(never)]
    fn position(&mut self, window: &Window) -> Option<usize> {
        let matches = |shape: &Option<Shape>| matches(shape, window);
        self.last = self.known.iter().position(matches)?;
        Some(self.last)
    }

    /// Learns the shape of a packet that was walked, and says its place. `datagram` begins with its
    /// message. `None` where that has no shape which later ones could share.
    pub fn learn(&mut self, datagram: &[u8], packet: &Packet<'_>) -> Option<usize> {
        let shape = Shape::learn(datagram.first_chunk()?, packet)?;
        self.last = self.learned % SHAPES;
        self.learned = self.learned.wrapping_add(1);
        self.known[self.last] = Some(shape);
        Some(self.last)
    }
}

/// A place inside a message: 0, where its length is, stands for "not there".
type Place = usize;

#[derive(Debug, Clone)]
struct Shape {
    /// What counts of the window's bytes, and what they are then.
    mask: Aligned,
    expected: Aligned,
    stamp: Place,
    sequence: Place,
    hw_header: Place,
    hw_source: Place,
    hw_source_bytes: usize,
    /// The payload's attribute header.
    payload: Place,
}

impl Shape {
    /// Learns from a packet that [`super::nflog::parse`] has read. `None` where it has not all that a
    /// twin has, or where the payload is not the last attribute, or stands too far behind.
    fn learn(window: &Window, packet: &Packet<'_>) -> Option<Shape> {
        let body = packet.message;
        let mut shape = Shape {
            mask: Aligned([0; WINDOW_BYTES]),
            expected: Aligned([0; WINDOW_BYTES]),
            stamp: 0,
            sequence: 0,
            hw_header: 0,
            hw_source: 0,
            hw_source_bytes: packet.hw_source.len(),
            payload: 0,
        };
        let mask = &mut shape.mask.0;
        let mut at = message::HEADER_BYTES + NFGENMSG_BYTES;
        mask[message::TYPE].fill(0xff);
        mask[message::HEADER_BYTES..at].fill(0xff);
        for found in Attributes::new(body.get(NFGENMSG_BYTES..)?) {
            let found = found.ok()?;
            let (value, end) = (at + HEADER_BYTES, at + HEADER_BYTES + found.value.len());
            if shape.payload != 0 {
                return None;
            }
            mask.get_mut(at..value)?.fill(0xff);
            match found.kind {
                attribute::PAYLOAD => {
                    mask[at..at + 2].fill(0); // its length
                    shape.payload = at;
                }
                attribute::TIMESTAMP => shape.stamp = value,
                attribute::SEQ => shape.sequence = value,
                // Not the address, but its length.
                attribute::HWADDR => {
                    shape.hw_source = value + 4;
                    mask.get_mut(value..value + 2)?.fill(0xff);
                }
                // Not the addresses, but what the header announces.
                attribute::HWHEADER => {
                    shape.hw_header = value;
                    let announced = value + ETHERNET_HEADER_BYTES - 2;
                    mask.get_mut(announced..announced + 2)?.fill(0xff);
                }
                // A mark too: packets of another one are no twins.
                attribute::PACKET_HDR
                | attribute::MARK
                | attribute::PREFIX
                | attribute::IFINDEX_INDEV
                | attribute::IFINDEX_OUTDEV
                | attribute::HWTYPE
                | attribute::HWLEN => mask.get_mut(value..end)?.fill(0xff),
                _ => {}
            }
            at += align(HEADER_BYTES + found.value.len());
        }
        let header_fits = match shape.hw_header {
            0 => true,
            _ => packet.hw_header.len() == ETHERNET_HEADER_BYTES,
        };
        // What stands before the payload's header is inside the window, as that is.
        if shape.payload == 0 || shape.stamp == 0 || shape.sequence == 0 || !header_fits {
            return None;
        }
        for (expected, (byte, mask)) in shape.expected.0.iter_mut().zip(window.iter().zip(mask)) {
            *expected = byte & *mask;
        }
        Some(shape)
    }

    /// Reads a message that matches. `None` where its lengths are not those of this shape.
    #[inline]
    fn read<'a>(&self, place: usize, datagram: &'a [u8], window: &'a Window) -> Option<Found<'a>> {
        let length = message::length(window.first_chunk()?);
        let payload = datagram.get(self.payload..length)?;
        let payload_bytes = usize::from(u16::from_ne_bytes(*payload.first_chunk()?));
        // Nothing follows the payload but its padding.
        if align(payload_bytes) < payload.len() {
            return None;
        }
        let stamp = u128::from_be_bytes(*value(window, self.stamp));
        #[expect(clippy::cast_possible_truncation, reason = "a half of it")]
        let (seconds, micros) = ((stamp >> 64) as u64, stamp as u64);
        // No time, and times that no clock shows, are left to the walk.
        if (seconds | micros) >> 40 != 0 {
            return None;
        }
        let message = datagram.get(message::HEADER_BYTES..length)?;
        let source = self.hw_source..self.hw_source + self.hw_source_bytes;
        Some(Found {
            shape: place,
            twin: Twin {
                payload: payload.get(HEADER_BYTES..payload_bytes)?,
                hw_header: (self.hw_header != 0).then(|| value(window, self.hw_header)),
                hw_source: window.get(source).unwrap_or(&[]),
                message,
                stamp_us: NonZeroU64::new(seconds * 1_000_000 + micros)?,
                sequence: u32::from_be_bytes(*value(window, self.sequence)),
            },
            rest: datagram.get(align(length)..).unwrap_or(&[]),
        })
    }
}

/// Whether a message has this shape, as far as the bytes before its payload tell.
#[inline]
fn matches(shape: &Option<Shape>, window: &Window) -> bool {
    let Some(shape) = shape else { return false };
    // Counted, because the compiler makes that a few vector instructions without a jump; of a comparison
    // it makes a jump for each word.
    let mut same = 0u8;
    for ((byte, mask), expected) in window.iter().zip(&shape.mask.0).zip(&shape.expected.0) {
        same += u8::from(byte & mask == *expected);
    }
    usize::from(same) == WINDOW_BYTES
}

/// The bytes at a place; learning has made sure that they are in the window.
#[inline]
fn value<const N: usize>(window: &Window, place: Place) -> &[u8; N] {
    let place = place.min(WINDOW_BYTES - N);
    window[place..].first_chunk().unwrap_or(&[0; N])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Messages, nflog};
    use super::*;

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

    /// Messages one behind the other, and the end of a datagram.
    fn datagram<'a>(bodies: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
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
        put(message::DONE, &[0; 4]);
        datagram
    }

    /// Holds shapes against the walk, learning as a batch does. Returns how many were twins.
    fn twins(datagram: &[u8]) -> usize {
        let mut shapes = Shapes::default();
        let mut firsts = [Packet::default(); SHAPES];
        let mut twins = 0;
        let mut walk = Messages::new(datagram);
        loop {
            let rest = walk.rest();
            let found = shapes.find(rest);
            let walked = match walk.next() {
                Some(Ok(message)) if message.kind == nflog::PACKET => nflog::parse(&message).ok(),
                Some(_) => None,
                None => break,
            };
            if let Some(found) = found {
                assert_eq!(Some(found.twin.packet(&firsts[found.shape])), walked);
                assert_eq!(found.rest.as_ptr_range(), walk.rest().as_ptr_range());
                twins += 1;
            } else if let Some(packet) = walked
                && let Some(shape) = shapes.learn(rest, &packet)
            {
                firsts[shape] = packet;
            }
        }
        twins
    }

    /// What a kernel 6.18 writes at ingress is the longest: with a socket's owner, and with the link
    /// layer's header twice.
    #[test]
    fn the_longest_messages_have_shapes() {
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
        assert_eq!(twins(&datagram([&message(1), &message(2)])), 1);
    }

    #[test]
    fn the_second_message_is_the_first_ones_twin() {
        let first = body(b"in\0", 7, 1, &[0x45; 50]);
        let second = body(b"in\0", 7, 2, &[0x46; 99]);
        assert_eq!(twins(&datagram([&first, &second])), 1);
        let other_prefix = body(b"on\0", 7, 3, &[0x45; 50]);
        assert_eq!(twins(&datagram([&first, &other_prefix])), 0);
        let other_mark = body(b"in\0", 8, 3, &[0x45; 50]);
        assert_eq!(twins(&datagram([&first, &other_mark, &second])), 1);
        let cut = second[..second.len() - 4].to_vec();
        assert_eq!(twins(&datagram([&first, &cut])), 0);
    }

    proptest! {
        /// Whatever the messages are, shapes make no difference.
        #[test]
        fn shapes_make_no_difference(
            messages in proptest::collection::vec(
                (0usize..3, 0u32..3, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..80),
                 proptest::option::of((any::<prop::sample::Index>(), any::<u8>()))),
                1..20)
        ) {
            let bodies: Vec<_> = messages.iter().map(|(prefix, mark, seq, payload, flip)| {
                let mut body = body([&b""[..], b"a\0", b"bc\0"][*prefix], *mark, *seq, payload);
                if let Some((at, value)) = flip {
                    let at = at.index(body.len());
                    body[at] = *value;
                }
                body
            }).collect();
            twins(&datagram(&bodies));
        }
    }
}
