//! Classic pcap (draft-ietf-opsawg-pcap), little endian: for tools that read no
//! pcapng. It has no place for interfaces, marks, prefixes or losses, and no padding block for
//! space that is not used yet: a live file is valid only after its zero-filled rest is cut.

use super::{Context, Format, Frame, Head, LinkType, Options, RecordTemplate, Space};
use crate::packet::{Packet, Resolution, TemplateHit};

/// The first word of a file, by what the fraction of a second counts: microseconds, nanoseconds.
pub const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
/// Nanoseconds.
pub const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// Bytes of the file header.
pub const FILE_HEADER_BYTES: usize = 24;
/// Bytes of a record before the frame.
pub const RECORD_HEADER_BYTES: usize = 16;

/// The pcap writer.
#[derive(Debug)]
pub struct Pcap {
    link: LinkType,
    snaplen: u32,
    resolution: Resolution,
}

impl Pcap {
    /// A writer for frames of `link`, cut to `snaplen` bytes.
    pub fn new(link: LinkType, snaplen: u32) -> Self {
        Pcap {
            link,
            snaplen,
            resolution: Resolution::Micros,
        }
    }

    /// Has packets' times in ticks of `resolution` (microseconds, if this is not called).
    pub fn with_resolution(mut self, resolution: Resolution) -> Self {
        self.resolution = resolution;
        self
    }
}

impl Format for Pcap {
    const EXTENSION: &'static str = "pcap";
    const PADDING_BLOCKS: bool = false;

    fn resolution(&self) -> Resolution {
        self.resolution
    }

    fn begin(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        let magic = match self.resolution {
            Resolution::Micros => MAGIC_MICROS,
            Resolution::Nanos => MAGIC_NANOS,
        };
        header.extend_from_slice(&magic.to_le_bytes());
        header.extend_from_slice(&2u16.to_le_bytes());
        header.extend_from_slice(&4u16.to_le_bytes());
        header.extend_from_slice(&[0; 8]); // time zone and accuracy: always 0
        header.extend_from_slice(&self.snaplen.to_le_bytes());
        header.extend_from_slice(&u32::from(self.link.number()).to_le_bytes());
        emit(&header);
    }

    fn end(&mut self, _emit: &mut dyn FnMut(&[u8])) {}

    fn end_bytes(&self) -> usize {
        0
    }

    #[inline]
    fn set_snaplen(&mut self, snaplen: u32, _segment_bytes: usize) {
        self.snaplen = snaplen;
    }

    fn interface(&mut self, _ifindex: u32) -> Option<usize> {
        Some(0)
    }

    fn declare(&mut self, _packet: &Packet<'_>) -> Vec<u8> {
        Vec::new()
    }

    #[inline]
    fn record_bytes(&self, _packet: &Packet<'_>, frame: &Frame<'_>, _context: &Context) -> usize {
        RECORD_HEADER_BYTES + frame.captured_len()
    }

    #[inline]
    fn encode(
        &mut self,
        _packet: &Packet<'_>,
        frame: &Frame<'_>,
        context: &Context,
        mut out: Space<'_>,
    ) -> Head {
        put_lengths(&mut out, frame.captured_len(), frame.original_len);
        frame.copy_to(out);
        head(context.stamp_ticks, self.resolution)
    }

    fn template(
        &self,
        packet: &Packet<'_>,
        link: LinkType,
        snaplen: u32,
        interface: usize,
    ) -> Option<(RecordTemplate, Options)> {
        let template = RecordTemplate::new(packet, link, snaplen, interface, self.resolution)?;
        Some((template, Options::new(0, |_| {})?))
    }

    #[inline]
    fn hit_bytes(template: &RecordTemplate, _options: &[u8], body: &[u8]) -> usize {
        RECORD_HEADER_BYTES + template.captured_len(body)
    }

    #[inline]
    fn encode_hit(
        template: &RecordTemplate,
        _options: &[u8],
        hit: &TemplateHit<'_>,
        body: &[u8],
        mut out: Space<'_>,
    ) -> Head {
        put_lengths(
            &mut out,
            template.captured_len(body),
            template.original_len(hit),
        );
        let fits = template.copy_frame(hit, body, out);
        debug_assert!(fits, "hit_bytes() made room");
        head(hit.stamp_ticks.get(), template.resolution)
    }

    fn count_hits(&mut self, _plan: &RecordTemplate, _records: u64, _last_us: u64) {}

    fn record_bytes_max(snaplen: usize) -> usize {
        RECORD_HEADER_BYTES + snaplen
    }
}

/// Takes a record's header, and writes what of it is not its head.
#[inline]
fn put_lengths(out: &mut Space<'_>, captured: usize, original: u32) {
    let captured = u32::try_from(captured).unwrap_or(u32::MAX);
    let header = out.take_first_chunk::<RECORD_HEADER_BYTES>();
    debug_assert!(header.is_some(), "record_bytes() made room");
    if let Some(mut header) = header {
        header.put_at::<8, 4>(captured.to_le_bytes());
        header.put_at::<12, 4>(original.to_le_bytes());
    }
}

/// Seconds and the fraction. The format's seconds have 32 bits: they end in 2106.
#[inline]
fn head(stamp_ticks: u64, resolution: Resolution) -> Head {
    let (seconds, fraction) = match resolution {
        Resolution::Micros => (stamp_ticks / 1_000_000, stamp_ticks % 1_000_000),
        Resolution::Nanos => (stamp_ticks / 1_000_000_000, stamp_ticks % 1_000_000_000),
    };
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    (fraction << 32 | u64::from(seconds)).to_le_bytes()
}
