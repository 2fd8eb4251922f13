//! The fast way through a batch: one rule's messages look alike.
//!
//! The kernel writes the same attributes in the same order and size for every packet of one rule
//! and device; only values and the payload's length differ. Walking attribute by attribute is a
//! chain of dependent loads and a jump for each of them. So the first message of its kind is
//! walked ([`super::nflog::parse`]), and its *shape* learned: the bytes that stay (headers, device,
//! hook, prefix) and the places of those that do not. Each later message is compared with it under
//! a mask, a few instructions, all loads independent; if nothing differs, its values are where the
//! shape says. If anything does, it is walked. The result is the same either way (a test holds the
//! two against each other), and so is the trust: every place is checked to lie inside the message.

use super::attribute::HEADER_BYTES;
use super::nflog::{self, NFGENMSG_BYTES, attribute};
use super::{Attributes, Malformed, Message, align};
use crate::packet::Packet;

/// Bytes compared at a time, which the compiler puts into vector registers.
const CHUNK_BYTES: usize = 32;
type Chunk = [u8; CHUNK_BYTES];
/// Bytes before the payload that a shape can hold: all attributes and the longest prefix.
const SHAPE_BYTES_MAX: usize = 256;
const CHUNKS_MAX: usize = SHAPE_BYTES_MAX / CHUNK_BYTES;
/// Shapes known at a time: rules and devices side by side in one group.
const SHAPES: usize = 4;

/// Parses the packet messages of one datagram, learning as it goes.
///
/// Packets are lent, not given: a shape keeps one and renews what changes, because copying a whole
/// [`Packet`] costs more than reading it.
#[derive(Debug, Clone, Default)]
pub struct Parser<'a> {
    shapes: [Option<Shape<'a>>; SHAPES],
    /// The one that fitted last.
    last: usize,
    /// Shapes learned: the next one goes where the oldest is, and has this number plus one.
    learned: u32,
    /// A packet that no shape could be learned from.
    odd: Packet<'a>,
}

impl<'a> Parser<'a> {
    /// Reads a packet message, as [`nflog::parse`] does.
    ///
    /// # Errors
    /// Those of [`nflog::parse`].
    #[inline]
    pub fn parse(&mut self, message: &Message<'a>) -> Result<&Packet<'a>, Malformed> {
        let last = self.last % SHAPES;
        if self.shapes[last]
            .as_mut()
            .is_some_and(|shape| shape.fit(message.body))
        {
            return Ok(self.shapes[last]
                .as_ref()
                .map_or(&self.odd, |shape| &shape.packet));
        }
        self.walk(message)
    }

    #[cold]
    #[inline(never)]
    fn walk(&mut self, message: &Message<'a>) -> Result<&Packet<'a>, Malformed> {
        let fits = |shape: &mut Option<Shape<'a>>| {
            shape.as_mut().is_some_and(|shape| shape.fit(message.body))
        };
        if let Some(place) = self.shapes.iter_mut().position(fits) {
            self.last = place;
        } else {
            self.odd = nflog::parse(message)?;
            let Some(mut shape) = Shape::learn(message.body, self.odd) else {
                return Ok(&self.odd);
            };
            self.last = self.learned as usize % SHAPES;
            self.learned = self.learned.wrapping_add(1);
            // A mark is the packet's, not the shape's.
            shape.packet.shape = if shape.mark == 0 { self.learned } else { 0 };
            self.shapes[self.last] = Some(shape);
        }
        Ok(self.shapes[self.last]
            .as_ref()
            .map_or(&self.odd, |shape| &shape.packet))
    }
}

/// The whole chunks of these bytes, and the last one, which ends where they do.
#[inline]
fn chunks(bytes: &[u8]) -> Option<(&[Chunk], &Chunk)> {
    Some((bytes.as_chunks().0, bytes.last_chunk()?))
}

#[inline]
fn word_of(chunk: &Chunk, word: usize) -> u64 {
    u64::from_ne_bytes(chunk.as_chunks().0[word])
}

/// A place inside a message: 0, where the netfilter header is, stands for "not there".
type Place = usize;

#[derive(Debug, Clone)]
struct Shape<'a> {
    /// The last packet of this shape.
    packet: Packet<'a>,
    /// Bytes compared: up to the payload.
    len: usize,
    /// What counts of each chunk. The last chunk ends where the payload begins, so it may begin in the
    /// one before.
    mask: [Chunk; CHUNKS_MAX],
    expected: [Chunk; CHUNKS_MAX],
    stamp: Place,
    sequence: Place,
    mark: Place,
    hw_header: Place,
    hw_source: Place,
    /// The payload's attribute header.
    payload: Place,
}

impl<'a> Shape<'a> {
    /// Learns from a message that [`nflog::parse`] has read as `packet`. `None` where the payload is
    /// not the last attribute, or stands too far behind.
    fn learn(body: &[u8], packet: Packet<'a>) -> Option<Shape<'a>> {
        let mut shape = Shape {
            packet,
            len: 0,
            mask: [[0; CHUNK_BYTES]; CHUNKS_MAX],
            expected: [[0; CHUNK_BYTES]; CHUNKS_MAX],
            stamp: 0,
            sequence: 0,
            mark: 0,
            hw_header: 0,
            hw_source: 0,
            payload: 0,
        };
        let mut mask = [0u8; SHAPE_BYTES_MAX];
        mask.get_mut(..NFGENMSG_BYTES)?.fill(0xff);
        let mut at = NFGENMSG_BYTES;
        for found in Attributes::new(body.get(NFGENMSG_BYTES..)?) {
            let found = found.ok()?;
            let (value, end) = (at + HEADER_BYTES, at + HEADER_BYTES + found.value.len());
            if shape.payload != 0 {
                return None;
            }
            mask.get_mut(at..value)?.fill(0xff);
            match found.kind {
                attribute::PAYLOAD => {
                    mask.get_mut(at..at + 2)?.fill(0); // its length
                    shape.payload = at;
                }
                attribute::TIMESTAMP => shape.stamp = value,
                attribute::SEQ => shape.sequence = value,
                attribute::MARK => shape.mark = value,
                attribute::HWADDR => {
                    mask.get_mut(value..value + 2)?.fill(0xff); // the address's length
                    shape.hw_source = value + 4;
                }
                // Not the addresses, but what the header announces.
                attribute::HWHEADER => {
                    shape.hw_header = value;
                    mask.get_mut(end.saturating_sub(2).max(value)..end)?
                        .fill(0xff);
                }
                attribute::PACKET_HDR
                | attribute::PREFIX
                | attribute::IFINDEX_INDEV
                | attribute::IFINDEX_OUTDEV
                | attribute::HWTYPE
                | attribute::HWLEN => mask.get_mut(value..end)?.fill(0xff),
                _ => {}
            }
            at += align(HEADER_BYTES + found.value.len());
        }
        if shape.payload == 0 {
            return None;
        }
        shape.len = shape.payload + HEADER_BYTES;
        let (whole, last) = chunks(body.get(..shape.len)?)?;
        let (whole_masks, last_mask) = chunks(&mask[..shape.len])?;
        for (place, (chunk, mask)) in whole
            .iter()
            .chain([last])
            .zip(whole_masks.iter().chain([last_mask]))
            .enumerate()
        {
            *shape.mask.get_mut(place)? = *mask;
            shape.expected[place] = std::array::from_fn(|byte| chunk[byte] & mask[byte]);
        }
        Some(shape)
    }

    /// Reads a message of this shape into [`Shape::packet`]. False, and nothing read that counts, if
    /// the message has another shape.
    #[inline]
    fn fit(&mut self, body: &'a [u8]) -> bool {
        self.matches(body) && self.renew(body).is_some()
    }

    #[inline]
    fn matches(&self, body: &[u8]) -> bool {
        let Some((whole, last)) = body.get(..self.len).and_then(chunks) else {
            return false;
        };
        let mut differs = [0; CHUNK_BYTES / 8];
        let mut compare = |chunk: &Chunk, mask: &Chunk, expected: &Chunk| {
            for (word, differs) in differs.iter_mut().enumerate() {
                *differs |= (word_of(chunk, word) & word_of(mask, word)) ^ word_of(expected, word);
            }
        };
        let mut known = self.mask.iter().zip(&self.expected);
        for (chunk, (mask, expected)) in whole.iter().zip(&mut known) {
            compare(chunk, mask, expected);
        }
        let Some((mask, expected)) = known.next() else {
            return false;
        };
        compare(last, mask, expected);
        differs.iter().fold(0, |all, word| all | word) == 0
    }

    #[inline]
    fn renew(&mut self, body: &'a [u8]) -> Option<()> {
        let payload = body.get(self.payload..)?;
        let length = usize::from(u16::from_ne_bytes(*payload.first_chunk::<2>()?));
        // Nothing follows the payload but its padding.
        if align(length) < payload.len() {
            return None;
        }
        let packet = &mut self.packet;
        packet.message = body;
        packet.payload = payload.get(HEADER_BYTES..length)?;
        if self.stamp != 0 {
            packet.stamp_us = nflog::stamp_us(*body.get(self.stamp..)?.first_chunk()?);
        }
        if self.sequence != 0 {
            packet.sequence = Some(u32::from_be_bytes(
                *body.get(self.sequence..)?.first_chunk()?,
            ));
        }
        if self.mark != 0 {
            packet.mark = u32::from_be_bytes(*body.get(self.mark..)?.first_chunk()?);
        }
        if self.hw_header != 0 {
            packet.hw_header = body.get(self.hw_header..self.hw_header + packet.hw_header.len())?;
        }
        if self.hw_source != 0 {
            packet.hw_source = body.get(self.hw_source..self.hw_source + packet.hw_source.len())?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    fn message(body: &[u8]) -> Message<'_> {
        Message {
            kind: nflog::PACKET,
            sequence: 0,
            body,
        }
    }

    fn same(shaped: Result<&Packet<'_>, Malformed>, walked: &Result<Packet<'_>, Malformed>) {
        let shaped = shaped.map(|packet| Packet {
            shape: 0, // which the walk does not know
            ..*packet
        });
        assert_eq!(format!("{shaped:?}"), format!("{walked:?}"));
    }

    #[test]
    fn the_second_message_fits_the_first_ones_shape() {
        let (first, second) = (
            body(b"in\0", 7, 1, &[0x45; 50]),
            body(b"in\0", 8, 2, &[0x46; 99]),
        );
        let mut parser = Parser::default();
        parser.parse(&message(&first)).unwrap();
        let mut shape = parser.shapes[0].clone().unwrap();
        assert!(shape.fit(&second));
        let packet = shape.packet;
        assert_eq!(
            (packet.mark, packet.sequence, packet.payload.len()),
            (8, Some(2), 99)
        );
        same(Ok(&packet), &nflog::parse(&message(&second)));
        let other = body(b"on\0", 7, 3, &[0x45; 50]);
        assert!(!shape.fit(&other), "another prefix");
        assert!(!shape.fit(&second[..second.len() - 2]), "cut short");
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
            let mut parser = Parser::default();
            for body in &bodies {
                same(parser.parse(&message(body)), &nflog::parse(&message(body)));
            }
        }
    }
}
