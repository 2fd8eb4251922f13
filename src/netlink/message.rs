//! `struct nlmsghdr` (`linux/netlink.h`): the messages of one datagram, one after the other.

use std::ops::Range;

use super::{Layer, Malformed, align};

/// One netlink message: its header's fields and the bytes behind the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_seq`: of the request that an answer belongs to.
    pub sequence: u32,
    /// What follows the header, without the padding.
    pub body: &'a [u8],
}

/// Bytes of `struct nlmsghdr`.
pub const HEADER_BYTES: usize = 16;
/// Where in it `nlmsg_type` is.
pub(crate) const TYPE: Range<usize> = 4..6;
const SEQUENCE: Range<usize> = 8..12;
/// `NLMSG_ERROR`: an acknowledgement or an error.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a datagram of several messages.
pub const DONE: u16 = 3;

/// Walks the messages of one datagram. After an error it ends.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages in `datagram`, as received.
    #[inline]
    pub fn new(datagram: &'a [u8]) -> Self {
        Messages { rest: datagram }
    }

    /// What has not been walked yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        let Some((header, _)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            self.rest = &[];
            return Some(Err(Malformed::Short {
                layer: Layer::Message,
                needed: HEADER_BYTES,
                left: rest.len(),
            }));
        };
        let length = length(header);
        if length < HEADER_BYTES || length > rest.len() {
            self.rest = &[];
            return Some(Err(Malformed::Length {
                layer: Layer::Message,
                length,
                left: rest.len(),
            }));
        }
        self.rest = rest.get(align(length)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind: u16::from_ne_bytes([header[TYPE.start], header[TYPE.start + 1]]),
            sequence: u32_at(header, SEQUENCE),
            body: &rest[HEADER_BYTES..length],
        }))
    }
}

/// `nlmsg_len`: bytes of the message with its header, without the padding behind.
#[inline]
pub(crate) fn length(header: &[u8; HEADER_BYTES]) -> usize {
    u32_at(header, 0..4) as usize
}

#[inline]
fn u32_at(header: &[u8; HEADER_BYTES], at: Range<usize>) -> u32 {
    let at = at.start;
    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// The first acknowledgement or error in a datagram: the sequence number of its request, and the
/// error number, which is 0 for an acknowledgement.
pub fn answer(datagram: &[u8]) -> Option<(u32, i32)> {
    let answer = Messages::new(datagram)
        .flatten()
        .find(|message| message.kind == ERROR)?;
    let errno = i32::from_ne_bytes(*answer.body.first_chunk()?).wrapping_neg();
    Some((answer.sequence, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, kind: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&7u32.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn two_messages_with_padding_between() {
        let mut bytes = header(17, 0x0400);
        bytes.extend_from_slice(&[0xaa, 0, 0, 0]);
        bytes.extend_from_slice(&header(16, DONE));
        let all: Vec<_> = Messages::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].body), (0x0400, &[0xaa][..]));
        assert_eq!((all[1].kind, all[1].sequence), (DONE, 7));
    }

    #[test]
    fn a_last_message_may_lack_its_padding() {
        let mut bytes = header(17, 1);
        bytes.push(9);
        let all: Vec<_> = Messages::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(all[0].body, [9]);
    }

    #[test]
    fn lengths_are_not_trusted() {
        for length in [0, 15, 17, u32::MAX] {
            let bytes = header(length, 1);
            let mut walk = Messages::new(&bytes);
            assert!(matches!(
                walk.next(),
                Some(Err(Malformed::Length {
                    layer: Layer::Message,
                    ..
                }))
            ));
            assert!(walk.next().is_none(), "the walk ends after an error");
        }
        assert!(matches!(
            Messages::new(&[0; 15]).next(),
            Some(Err(Malformed::Short {
                needed: 16,
                left: 15,
                ..
            }))
        ));
    }
}
