//! Filters as tcpdump's users write them: `host 192.0.2.1 and (tcp port 80 or 443)`.
//!
//! What is there in libpcap means the same here (the tests hold the two against each other). Beyond
//! it: `iface`, `mark`, `prefix`, `lost`. Names of hosts are not looked up. A packet that is cut
//! before what is asked for does not have it: `not port 53` is true of it, where libpcap says no to
//! the whole.

mod error;
mod needs;
mod parse;
mod program;
mod unseen;
mod values;
mod words;

use super::Record;
use super::decode::{self, Address, Fields};
use program::{Step, TAKEN};
use unseen::Unseen;

pub use error::FilterError;

/// One way a packet may go, as a filter asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Source,
    Destination,
    Either,
    Both,
}

/// A test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// Version, address under mask.
    Net(Way, u8, Address, Address),
    /// First and last; of which protocols (none: of all that have ports).
    Ports(Way, u16, u16, Option<u8>),
    Version(u8),
    /// Version (0: either) and what follows its header.
    Protocol(u8, u8),
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
    steps: Vec<Step>,
    /// Whether any of them looks into packets.
    looks_in: bool,
    unseen: Unseen,
}

impl Filter {
    /// Reads a filter; an empty one takes every packet.
    ///
    /// # Errors
    /// [`FilterError`], which shows the place.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let steps = parse::parse(text, words::words(text))?;
        Ok(Filter::of(steps))
    }

    /// Reads a filter that stands in several arguments. One that is a rule's prefix or an interface's name
    /// may have blanks in it, at its ends too.
    ///
    /// # Errors
    /// [`FilterError`], which shows the place.
    pub fn of_arguments(arguments: &[String]) -> Result<Filter, FilterError> {
        let text = arguments.join(" ");
        let steps = parse::parse(&text, words::words_of(arguments, &text))?;
        Ok(Filter::of(steps))
    }

    fn of(steps: Vec<Step>) -> Filter {
        Filter {
            looks_in: steps.iter().any(|step| step.test.looks_in()),
            steps,
            unseen: Unseen::default(),
        }
    }

    /// Whether it takes every packet.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether it takes this one.
    #[inline]
    pub fn takes(&self, record: &Record<'_>) -> bool {
        if self.steps.is_empty() {
            return true;
        }
        let link = record.interface.link;
        let mut fields = Fields::default();
        if self.looks_in {
            fields.look(link, record.data);
            if fields.version == 0 && !decode::is_known(link) {
                self.unseen.note(link);
            }
        }
        let mut next = 0_u32;
        while let Some(step) = self.steps.get(next as usize) {
            next = match step.test.is_true(record, &fields) {
                true => step.if_true,
                false => step.if_false,
            };
        }
        next == TAKEN
    }

    /// Link types of packets that it was asked about and could not look into, since this was asked last.
    pub fn take_unseen(&self) -> Vec<u16> {
        self.unseen.take()
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

impl Test {
    fn looks_in(&self) -> bool {
        matches!(
            self,
            Test::Net(..) | Test::Ports(..) | Test::Version(_) | Test::Protocol(..)
        )
    }

    /// (Not inlined: all that any test looks at would be loaded for each packet.)
    #[inline(never)]
    fn is_true(&self, record: &Record<'_>, fields: &Fields) -> bool {
        match self {
            Test::Net(way, version, address, mask) => {
                fields.version == *version
                    && way.any(fields.source, fields.destination, |found| {
                        found & mask == *address
                    })
            }
            Test::Ports(way, first, last, protocol) => {
                let Some((source, destination)) = fields.ports else {
                    return false;
                };
                let right = protocol.is_none_or(|wanted| fields.protocol == Some(wanted));
                right && way.any(source, destination, |port| (*first..=*last).contains(&port))
            }
            Test::Version(version) => fields.version == *version,
            Test::Protocol(version, protocol) => {
                let of_version = match version {
                    0 => fields.version != 0,
                    version => fields.version == *version,
                };
                of_version && fields.has_protocol(*protocol)
            }
            Test::Interface(name) => record.interface.name == *name,
            Test::Mark(value, mask) => record.mark() & mask == *value,
            Test::Prefix(text) => record.prefix() == text,
            Test::Lost => record.lost_before != 0,
            Test::AtMost(bytes) => record.original_len <= *bytes,
            Test::AtLeast(bytes) => record.original_len >= *bytes,
        }
    }
}
