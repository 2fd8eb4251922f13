//! Filters as tcpdump's users write them: `host 192.0.2.1 and (tcp port 80 or 443)`.
//!
//! What is there in libpcap means the same here (the tests hold the two against each other). Beyond
//! it: `iface`, `mark`, `prefix`, `lost`. Names of hosts are not looked up. A packet that is cut
//! before what is asked for does not have it: `not port 53` is true of it, where libpcap says no to
//! the whole.

mod needs;
mod parse;
mod words;

use super::Record;
use super::decode::{Address, Fields};

pub use parse::FilterError;

/// One way a packet may go, as a filter asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Source,
    Destination,
    Either,
    Both,
}

/// A test, or tests put together.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    /// Version, address under mask.
    Net(Way, u8, Address, Address),
    /// First and last; of which protocols (none: of all that have ports).
    Ports(Way, u16, u16, Option<u8>),
    /// Version (0: either) and what follows its header (none: anything).
    Protocol(u8, Option<u8>),
    Interface(String),
    /// Value and mask.
    Mark(u32, u32),
    Prefix(String),
    /// Packets were lost before it.
    Lost,
    AtMost(u32),
    AtLeast(u32),
}

/// A filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    root: Option<Node>,
}

impl Filter {
    /// Reads a filter; an empty one takes every packet.
    ///
    /// # Errors
    /// [`FilterError`], which shows the place.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        parse::parse(text).map(|root| Filter { root })
    }

    /// Whether it takes every packet.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Whether it takes this one.
    #[inline]
    pub fn takes(&self, record: &Record<'_>) -> bool {
        match &self.root {
            None => true,
            Some(root) => {
                let fields = Fields::of(record.interface.link, record.data);
                root.takes(record, &fields)
            }
        }
    }
}

impl Way {
    #[inline]
    fn any<T>(self, source: T, destination: T, test: impl Fn(T) -> bool) -> bool {
        match self {
            Way::Source => test(source),
            Way::Destination => test(destination),
            Way::Either => test(source) || test(destination),
            Way::Both => test(source) && test(destination),
        }
    }
}

impl Node {
    fn takes(&self, record: &Record<'_>, fields: &Fields) -> bool {
        match self {
            Node::And(one, other) => one.takes(record, fields) && other.takes(record, fields),
            Node::Or(one, other) => one.takes(record, fields) || other.takes(record, fields),
            Node::Not(one) => !one.takes(record, fields),
            Node::Net(way, version, address, mask) => {
                fields.version == *version
                    && way.any(fields.source, fields.destination, |found| {
                        found & mask == *address
                    })
            }
            Node::Ports(way, first, last, protocol) => {
                let Some((source, destination)) = fields.ports else {
                    return false;
                };
                let right = protocol.is_none_or(|wanted| fields.protocol == Some(wanted));
                right && way.any(source, destination, |port| (*first..=*last).contains(&port))
            }
            Node::Protocol(version, protocol) => {
                let of_version = match version {
                    0 => fields.version != 0,
                    version => fields.version == *version,
                };
                of_version && protocol.is_none_or(|wanted| fields.protocol == Some(wanted))
            }
            Node::Interface(name) => record.interface.name == *name,
            Node::Mark(value, mask) => record.mark() & mask == *value,
            Node::Prefix(text) => record.prefix() == text,
            Node::Lost => record.lost_before != 0,
            Node::AtMost(bytes) => record.original_len <= *bytes,
            Node::AtLeast(bytes) => record.original_len >= *bytes,
        }
    }
}
