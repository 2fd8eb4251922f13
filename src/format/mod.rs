//! Bytes out: a packet becomes a record of a capture file. No I/O: records are written into space
//! that the ring hands out.

pub mod frame;
pub mod pcap;
pub mod pcapng;

pub use frame::{Frame, LinkType};
pub use pcapng::interfaces::Interfaces;
pub use pcapng::template::{Options, RecordTemplate};

use crate::packet::{Packet, Resolution, TemplateHit};
pub use crate::sys::space::Space;

/// The first eight bytes of a block or record. The ring stores them last, so that a record is
/// there as a whole or not at all.
pub type Head = [u8; 8];
/// Bytes of a [`Head`].
pub const HEAD_BYTES: usize = 8;

/// What is known of a packet beyond the packet itself when it is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The record's time since 1970, in ticks of [`Format::resolution`].
    pub stamp_ticks: u64,
    /// Packets of this source lost between the one recorded before and this one.
    pub lost_before: u64,
    /// The id of its interface ([`Format::interface`]).
    pub interface: usize,
}

/// A capture file format: how long a record is, and its bytes.
///
/// One value serves one capture, over all the files of its ring.
pub trait Format {
    /// What file names end in, without the dot.
    const EXTENSION: &'static str;
    /// Whether there are padding blocks, which readers skip, for unused space. If not, the
    /// unwritten rest of a file must be zero, and a live file is not valid until it is cut.
    const PADDING_BLOCKS: bool;

    /// What a tick of a record's time is.
    fn resolution(&self) -> Resolution;

    /// The blocks that every file starts with, each as (head, rest).
    fn begin(&mut self, emit: &mut dyn FnMut(&[u8]));

    /// Has the end of the file say that so many packets were lost behind the last one, where it can.
    fn lose(&mut self, _packets: u64) {}

    /// The blocks that end a file.
    fn end(&mut self, emit: &mut dyn FnMut(&[u8]));

    /// Bytes that [`Format::end`] takes at the most.
    fn end_bytes(&self) -> usize;

    /// Frames are cut to `snaplen` bytes from the next file on, whose segments are of
    /// `segment_bytes`.
    fn set_snaplen(&mut self, snaplen: u32, segment_bytes: usize);

    /// Has the next record carry a note, where records can; else the end of the file.
    fn note(&mut self, _text: &str) {}

    /// The id of the interface of this index; `None` if it was not met in this file.
    fn interface(&mut self, ifindex: u32) -> Option<usize>;

    /// Takes note of what an interface is called now; `None` where it has gone.
    fn set_name(&mut self, _ifindex: u32, _name: Option<&str>) {}

    /// Takes up a new interface. Returns the block that has to stand in the file before the first
    /// record of it; it may be empty.
    fn declare(&mut self, packet: &Packet<'_>) -> Vec<u8>;

    /// Bytes of the record of this packet.
    fn record_bytes(&self, packet: &Packet<'_>, frame: &Frame<'_>, context: &Context) -> usize;

    /// Writes the record: `out` is exactly [`Format::record_bytes`] long. Its first
    /// [`HEAD_BYTES`] are left alone and returned instead.
    fn encode(
        &mut self,
        packet: &Packet<'_>,
        frame: &Frame<'_>,
        context: &Context,
        out: Space<'_>,
    ) -> Head;

    /// How the hits of this packet are recorded. `None` where each takes [`Format::encode`].
    fn template(
        &self,
        packet: &Packet<'_>,
        link: LinkType,
        snaplen: u32,
        interface: usize,
    ) -> Option<(RecordTemplate, Options)>;

    /// Bytes of a hit record with this body.
    fn hit_bytes(template: &RecordTemplate, options: &[u8], body: &[u8]) -> usize;

    /// Writes a hit record: the same bytes as [`Format::encode`]. `out` is exactly
    /// [`Format::hit_bytes`] long; its first [`HEAD_BYTES`] are left alone and returned instead.
    /// The interface's figures are left to [`Format::count_hits`].
    fn encode_hit(
        template: &RecordTemplate,
        options: &[u8],
        hit: &TemplateHit<'_>,
        body: &[u8],
        out: Space<'_>,
    ) -> Head;

    /// Adds hit records to their interface's figures.
    fn count_hits(&mut self, template: &RecordTemplate, records: u64, last_ticks: u64);

    /// Bytes of the longest record this format can make of a frame of `snaplen` bytes.
    fn record_bytes_max(snaplen: usize) -> usize;
}
