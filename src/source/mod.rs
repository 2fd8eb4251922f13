//! Where packets come from: an NFLOG group or an NFQUEUE queue, one engine for both.

mod error;
pub mod holder;
pub mod hook;
pub mod ingress;
pub mod links;
pub mod nflog;
pub mod nfqueue;
mod socket;

pub use error::{SourceError, Which};
pub use hook::HookPoint;

use std::time::Duration;
use std::{fmt, io};

use crate::netlink::Malformed;
use crate::packet::{Packet, Resolution, TemplateHit};

/// Templates known at a time ([`Packet::template`]): rules side by side in one group.
pub const TEMPLATES_MAX: usize = 4;

/// Where a rule sends packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A copy to an NFLOG group.
    Group,
    /// The packet itself to an NFQUEUE queue, to wait for a verdict.
    Queue,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Group => "group",
            Target::Queue => "queue",
        })
    }
}

/// One source, as it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceName {
    /// A group or queue, by its number.
    Number(Target, u16),
    /// A program at this hook.
    Hook(HookPoint),
}

impl SourceName {
    /// What the names of its files start with: `g5`, `q5`, `prerouting`.
    pub fn file_name(&self) -> String {
        match self {
            SourceName::Number(Target::Group, number) => format!("g{number}"),
            SourceName::Number(Target::Queue, number) => format!("q{number}"),
            SourceName::Hook(hook) => hook.to_string(),
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceName::Number(target, number) => write!(f, "{target} {number}"),
            SourceName::Hook(hook) => write!(f, "hook {hook}"),
        }
    }
}

/// One thing found in a batch.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A packet.
    Packet(&'a Packet<'a>),
    /// Bytes that are no message as the kernel writes them; what follows in the datagram is not
    /// looked at.
    Malformed(Malformed),
}

/// Goes through a batch.
///
/// Not an [`Iterator`]: each packet is lent until the next one is asked for, because copying it
/// would cost more than reading it. `while let Some(item) = batch.next()`.
pub trait Walk {
    /// The packets that come next, for as long as they hit one template.
    type Hits<'h>: Hits
    where
        Self: 'h;

    /// The next packet.
    fn next(&mut self) -> Option<Item<'_>>;

    /// The [`Packet::template`] that the next packet hits, be it that of an earlier batch.
    #[inline]
    fn template(&mut self) -> Option<usize> {
        None
    }

    /// The packets that come next, for as long as they hit this template. [`Walk::next`] goes on
    /// with the first that was not passed. `None` where there is no such template.
    #[inline]
    fn hits(&mut self, _template: usize) -> Option<Self::Hits<'_>> {
        None
    }
}

/// Goes through packets that hit one template.
pub trait Hits {
    /// The next one, as often as it is asked for.
    fn peek(&mut self) -> Option<TemplateHit<'_>>;

    /// Goes on behind the one that was peeked at last.
    fn pass(&mut self);
}

/// No packets: of a source without templates.
#[derive(Debug)]
pub enum NoHits {}

impl Hits for NoHits {
    fn peek(&mut self) -> Option<TemplateHit<'_>> {
        None
    }

    fn pass(&mut self) {}
}

/// What a receive call brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Packets: [`Source::batch`] has them.
    Batch,
    /// Nothing in the time a receive call waits, or nothing for us.
    Nothing,
}

/// A batch without a look at its packets: what counting takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packet messages.
    pub packets: u64,
    /// Of them those before the first that has a number.
    pub unnumbered: u64,
    /// The sequence number of that one.
    pub first_sequence: Option<u32>,
    /// Whether the walk met something malformed.
    pub malformed: bool,
}

/// Every packet that came to the source's place, by what became of it there.
///
/// When the source is detached and read to its end: `detected` = those handed over here + what was
/// lost + `unreadable` + what was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Packets that came to the hook.
    pub detected: u64,
    /// Packets that found the buffer full.
    pub dropped: u64,
    /// Packets on processors that have no ring: they came online after the start.
    pub no_ring: u64,
    /// Packets that came while the program was at work on the ring of the same processor.
    pub nested: u64,
    /// Packets in what could not be read.
    pub unreadable: u64,
    /// Packets of another interface.
    pub left_interface: u64,
    /// Packets without the mark.
    pub left_mark: u64,
    /// Packets that the sample passes over.
    pub left_sample: u64,
    /// Packets of connections that have had their bytes.
    pub left_cutoff: u64,
    /// Packets that came while the capture was paused.
    pub left_paused: u64,
}

impl Ledger {
    /// Packets lost at the hook.
    pub fn lost(&self) -> u64 {
        self.dropped + self.no_ring + self.nested
    }

    /// Packets left out on purpose.
    pub fn left_out(&self) -> u64 {
        let by_packet = self.left_interface + self.left_mark + self.left_sample;
        by_packet + self.left_cutoff + self.left_paused
    }
}

/// A setting of a source that can be changed while it is read. What it takes is the source's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bytes to copy of each packet, from its network header on.
    CopyRange(u32),
    /// Packets handed over at a time.
    Batch(u32),
    /// Bytes that they are collected in; it can only be lowered.
    BatchBytes(u32),
    /// How long a batch may take to fill.
    Flush(Duration),
    /// The socket's receive buffer.
    BufferBytes(usize),
    /// The interfaces captured, by name; none is all.
    Interfaces(Vec<String>),
    /// One packet in so many.
    Sample(u32),
    /// Bytes captured of each connection.
    CutoffBytes(u64),
    /// Whether nothing is copied. Packets that come meanwhile are counted as paused.
    Paused(bool),
}

/// Why a setting stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    /// A program does not test what it was not begun with.
    fn not_begun_with(option: &str) -> Refused {
        Refused(format!(
            "this capture was begun without {option}, so that its program has no test for it: start it with {option} \
             to change it later"
        ))
    }

    fn by_system(error: &io::Error) -> Refused {
        Refused(format!("the kernel says: {error}"))
    }
}

/// Wakes a thread that waits in [`Source::receive`].
pub type Waker = Box<dyn Fn() + Send + Sync>;

/// A source of packets. The capturing thread owns it.
pub trait Source {
    /// The packets of a batch, in order, borrowed from the receive buffer.
    type Batch<'a>: Walk
    where
        Self: 'a;

    /// Waits (with `wait`, up to a second) for packets, or until it is woken. The batch before is
    /// gone then.
    ///
    /// # Errors
    /// What the system says; the source cannot go on then.
    fn receive(&mut self, wait: bool) -> io::Result<Arrival>;

    /// What the last [`Source::receive`] brought.
    fn batch(&mut self) -> Self::Batch<'_>;

    /// Counts the batch without looking into its packets.
    fn count(&self) -> Count;

    /// Called when the batch has been recorded, for what is due then: the verdict, where there is
    /// one to give.
    ///
    /// # Errors
    /// What the system says.
    fn finish_batch(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Changes a setting. On an error it is as it was.
    ///
    /// # Errors
    /// [`Refused`], with the reason.
    fn change(&mut self, _change: &Change) -> Result<(), Refused> {
        Err(Refused("this source has no such setting".to_owned()))
    }

    /// Takes note of interfaces that have come, gone or changed: from the first call on it is told of
    /// all of them.
    fn note_links(&mut self, _changes: &[links::Change]) {}

    /// What ends a wait early; `None` where waits are short.
    fn waker(&self) -> Option<Waker> {
        None
    }

    /// Detaches from the hook: no packet comes to the source any more, what it has is still to be
    /// received.
    ///
    /// # Errors
    /// What the system says.
    fn detach(&mut self) -> io::Result<()>;

    /// What the kernel said against detaching, once nothing comes any more that it has sent before
    /// it said so. Packets may come then until the source is dropped.
    fn detach_refused(&mut self) -> Option<io::Error> {
        None
    }

    /// Datagrams that the socket had no room for.
    fn dropped_datagrams(&self) -> u64;

    /// Datagrams that did not fit the receive buffer: none, if this program is right.
    fn truncated_datagrams(&self) -> u64;

    /// What the source itself has counted of every packet, where it does: then what is lost is
    /// known to the packet, also behind the last one that came.
    fn ledger(&self) -> Option<Ledger> {
        None
    }

    /// What a tick of its packets' time stamps is.
    fn resolution(&self) -> Resolution {
        Resolution::Micros
    }

    /// The number that the next packet would have, where that is known when everything is received:
    /// what is missing before it was lost behind the last packet.
    fn next_number(&self) -> Option<u32> {
        None
    }

    /// The first sequence number that the source gives.
    fn first_sequence(&self) -> u32 {
        0
    }
}
