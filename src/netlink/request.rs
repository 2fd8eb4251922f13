//! One Netfilter request over netlink: building its attributes and looking into them.
//!
//! The types are neli's; this file adds the header all Netfilter messages share (`struct
//! nfgenmsg`), which neli lacks, and short names for the attributes in use. Numbers in
//! nftables attributes are big-endian unless said otherwise.

use neli::{
    FromBytesWithInput, Header, Size, ToBytes,
    attr::Attribute,
    consts::nl::NlmF,
    err::{DeError, MsgError},
    genl::{AttrTypeBuilder, Nlattr, NlattrBuilder},
    nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder},
    types::{Buffer, GenlBuffer},
};

/// The version of every Netfilter message (`linux/netfilter/nfnetlink.h`).
const NFNETLINK_V0: u8 = 0;

/// Attributes, one after the other.
pub(crate) type Attrs = GenlBuffer<u16, Buffer>;

/// One attribute, or why it could not be built.
pub(crate) type AttrResult = Result<Nlattr<u16, Buffer>, MsgError>;

/// What follows the netlink header: `struct nfgenmsg` of `linux/netfilter/nfnetlink.h`, and
/// the attributes.
#[derive(Clone, Debug, Size, ToBytes, FromBytesWithInput, Header)]
pub(crate) struct NfMessage {
    /// `NFPROTO_*`.
    pub(crate) family: u8,
    version: u8,
    /// The subsystem of a batch, the low 16 bits of the generation in answers; big-endian.
    res_id: u16,
    #[neli(input = "input.checked_sub(Self::header_size()).ok_or(DeError::InvalidInput(input))?")]
    pub(crate) attrs: Attrs,
}

/// A whole netlink message.
pub(crate) type Message = Nlmsghdr<u16, NfMessage>;

/// Puts a message together; `res_id` is zero but for the brackets of a batch.
pub(crate) fn message(
    kind: u16,
    flags: NlmF,
    seq: u32,
    family: u8,
    res_id: u16,
    attrs: Attrs,
) -> Result<Message, MsgError> {
    NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(flags | NlmF::REQUEST)
        .nl_seq(seq)
        .nl_payload(NlPayload::Payload(NfMessage {
            family,
            version: NFNETLINK_V0,
            res_id: res_id.to_be(),
            attrs,
        }))
        .build()
        .map_err(|error| MsgError::new(error.to_string()))
}

/// Collects attributes; the first that failed is the error.
pub(crate) fn attrs(list: impl IntoIterator<Item = AttrResult>) -> Result<Attrs, MsgError> {
    list.into_iter().collect()
}

fn build<P: Size + ToBytes>(kind: u16, payload: P, nested: bool) -> AttrResult {
    let build = |payload| {
        let kind = AttrTypeBuilder::default()
            .nla_type(kind)
            .nla_nested(nested)
            .build()?;
        Ok::<_, neli::err::BuilderError>(
            NlattrBuilder::default()
                .nla_type(kind)
                .nla_payload(payload)
                .build()?,
        )
    };
    build(payload).map_err(|error| MsgError::new(error.to_string()))
}

/// An attribute of bytes as they are.
pub(crate) fn bytes(kind: u16, value: &[u8]) -> AttrResult {
    build(kind, Buffer::from(value), false)
}

/// An attribute that holds a string and its closing zero.
pub(crate) fn string(kind: u16, value: &str) -> AttrResult {
    let mut terminated = value.as_bytes().to_vec();
    terminated.push(0);
    bytes(kind, &terminated)
}

/// A 16-bit number.
pub(crate) fn be16(kind: u16, value: u16) -> AttrResult {
    bytes(kind, &value.to_be_bytes())
}

/// A 32-bit number.
pub(crate) fn be32(kind: u16, value: u32) -> AttrResult {
    bytes(kind, &value.to_be_bytes())
}

/// A 64-bit number.
pub(crate) fn be64(kind: u16, value: u64) -> AttrResult {
    bytes(kind, &value.to_be_bytes())
}

/// An attribute that holds attributes.
pub(crate) fn nested(kind: u16, list: impl IntoIterator<Item = AttrResult>) -> AttrResult {
    build(kind, attrs(list)?, true)
}

/// Looks attributes up; `None` where one is missing or has the wrong size.
pub(crate) trait Lookup {
    /// The bytes of the first attribute of this kind.
    fn bytes(&self, kind: u16) -> Option<&[u8]>;

    /// The attributes inside the first attribute of this kind.
    fn nested(&self, kind: u16) -> Option<Attrs> {
        parse(self.bytes(kind)?)
    }

    /// A string, up to its closing zero; what is not UTF-8 is replaced.
    fn string(&self, kind: u16) -> Option<String> {
        Some(c_string(self.bytes(kind)?))
    }

    /// A 16-bit number.
    fn be16(&self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(kind)?.try_into().ok()?))
    }

    /// A 32-bit number.
    fn be32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(kind)?.try_into().ok()?))
    }

    /// A 64-bit number.
    fn be64(&self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes(kind)?.try_into().ok()?))
    }
}

impl Lookup for Attrs {
    fn bytes(&self, kind: u16) -> Option<&[u8]> {
        let attr = self
            .iter()
            .find(|attr| *attr.nla_type().nla_type() == kind)?;
        Some(attr.payload().as_ref())
    }
}

/// Reads attributes; `None` if the lengths in them do not fit.
pub(crate) fn parse(bytes: &[u8]) -> Option<Attrs> {
    Attrs::from_bytes_with_input(&mut std::io::Cursor::new(bytes), bytes.len()).ok()
}

/// The text before the first zero byte.
pub(crate) fn c_string(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as `nft --debug=mnl` shows it: `NFT_MSG_DELRULE` of table `lwnflog`.
    #[test]
    #[cfg(target_endian = "little")] // netlink is in the machine's own order
    fn message_bytes() {
        let attrs = attrs([string(1, "lwnflog")]).unwrap();
        let message = message(0x0a08, NlmF::ACK, 9, 2, 0, attrs).unwrap();
        let mut buffer = std::io::Cursor::new(Vec::new());
        message.to_bytes(&mut buffer).unwrap();
        assert_eq!(
            buffer.into_inner(),
            b"\x20\0\0\0\x08\x0a\x05\0\x09\0\0\0\0\0\0\0\x02\0\0\0\x0c\0\x01\0lwnflog\0"
        );
    }

    #[test]
    fn nested_attributes_round_trip() {
        let outer = nested(4, [be32(1, 7), be16(2, 5), string(3, "g5"), be64(4, 9)]).unwrap();
        let list: Attrs = [outer].into_iter().collect();
        let inner = list.nested(4).unwrap();
        assert_eq!(inner.be32(1), Some(7));
        assert_eq!(inner.be16(2), Some(5));
        assert_eq!(inner.string(3).as_deref(), Some("g5"));
        assert_eq!(inner.be64(4), Some(9));
        assert_eq!(inner.be32(2), None, "wrong size");
        assert_eq!(inner.be32(9), None, "missing");
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(list) = parse(&bytes) {
                for kind in 0..8 {
                    let _ = (list.nested(kind), list.string(kind), list.be64(kind));
                }
            }
        }
    }
}
