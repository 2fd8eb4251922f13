//! `struct nlattr` (`linux/netlink.h`): type, length, value.

use super::{Layer, Malformed, align};

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type` without the nested and byte-order flags.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

/// Bytes of `struct nlattr`.
pub const HEADER_BYTES: usize = 4;
/// `NLA_TYPE_MASK`: the two upper bits are flags.
const TYPE_MASK: u16 = 0x3fff;

/// Walks attributes laid one after the other. After an error it ends.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Attributes { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        let Some((header, _)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            self.rest = &[];
            return Some(Err(Malformed::Short {
                layer: Layer::Attribute,
                needed: HEADER_BYTES,
                left: rest.len(),
            }));
        };
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        if length < HEADER_BYTES || length > rest.len() {
            self.rest = &[];
            return Some(Err(Malformed::Length {
                layer: Layer::Attribute,
                length,
                left: rest.len(),
            }));
        }
        self.rest = rest.get(align(length)..).unwrap_or(&[]);
        Some(Ok(Attribute {
            kind: u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK,
            value: &rest[HEADER_BYTES..length],
        }))
    }
}

impl Attribute<'_> {
    /// The first `N` bytes of the value.
    #[inline]
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.value
            .first_chunk::<N>()
            .copied()
            .ok_or(Malformed::AttributeSize {
                kind: self.kind,
                needed: N,
                length: self.value.len(),
            })
    }

    /// The value as a 16-bit number in network byte order.
    #[inline]
    pub fn be16(&self) -> Result<u16, Malformed> {
        self.bytes().map(u16::from_be_bytes)
    }

    /// The value as a 32-bit number in network byte order.
    #[inline]
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.bytes().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")] // netlink is in the machine's own order
    fn types_lengths_and_padding() {
        let bytes = [5, 0, 10, 0x80, b'x', 0, 0, 0, 8, 0, 9, 0, 1, 2, 3, 4];
        let all: Vec<_> = Attributes::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(
            all[0],
            Attribute {
                kind: 10,
                value: b"x"
            }
        );
        assert_eq!(all[1].be32(), Ok(0x0102_0304));
        assert!(matches!(
            all[0].be16(),
            Err(Malformed::AttributeSize { kind: 10, .. })
        ));
    }

    #[test]
    fn lengths_are_not_trusted() {
        for bytes in [&[3, 0, 1, 0][..], &[5, 0, 1, 0], &[1], &[255, 255, 0, 0, 0]] {
            let mut walk = Attributes::new(bytes);
            assert!(walk.next().unwrap().is_err());
            assert!(walk.next().is_none());
        }
    }
}
