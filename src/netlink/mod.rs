//! Bytes in, borrowed views out: netlink messages, their attributes, and the packets inside.
//!
//! Nothing here does I/O, allocates or trusts a length: each step checks that what it is about to
//! hand out lies inside the bytes it was given, and says [`Malformed`] where it does not. Integers
//! of the netlink headers are in host byte order, those inside `NFULA_*`/`NFQA_*` attributes in
//! network byte order (`linux/netlink.h`, `linux/netfilter/nfnetlink_log.h`).

pub mod attribute;
pub mod message;
pub mod nfnetlink;
pub(crate) mod request;

pub use attribute::{Attribute, Attributes};
pub use message::{Message, Messages};

/// Netlink aligns headers and attributes to this many bytes (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
pub const ALIGN_BYTES: usize = 4;

/// Rounds a length up to the netlink alignment.
#[inline]
pub(crate) const fn align(len: usize) -> usize {
    (len + (ALIGN_BYTES - 1)) & !(ALIGN_BYTES - 1)
}

/// Why bytes from the kernel could not be read as what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes are left than the smallest header takes.
    #[error("{layer}: a header of {needed} bytes in the {left} bytes that are left")]
    Short {
        /// What was being read.
        layer: Layer,
        /// Bytes its header takes.
        needed: usize,
        /// Bytes that were there.
        left: usize,
    },
    /// A length field points before its own header or past the end.
    #[error("{layer}: its length field says {length} of {left} bytes")]
    Length {
        /// What was being read.
        layer: Layer,
        /// The length field.
        length: usize,
        /// Bytes that were there.
        left: usize,
    },
    /// An attribute of a fixed size has another.
    #[error("attribute {kind}: {length} bytes where {needed} are needed")]
    AttributeSize {
        /// The attribute's type.
        kind: u16,
        /// Bytes it needs at the least.
        needed: usize,
        /// Bytes it has.
        length: usize,
    },
    /// A packet message without its packet header or payload.
    #[error("a packet message without attribute {kind}")]
    Missing {
        /// The attribute's type.
        kind: u16,
    },
}

/// The layer at which a [`Malformed`] message went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// `struct nlmsghdr`.
    Message,
    /// `struct nfgenmsg`.
    Netfilter,
    /// `struct nlattr`.
    Attribute,
    /// A record of a hook's ring.
    Ring,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layer::Message => "netlink message",
            Layer::Netfilter => "netfilter header",
            Layer::Attribute => "netlink attribute",
            Layer::Ring => "record of the hook's ring",
        })
    }
}
