//! Classic pcap (draft-ietf-opsawg-pcap), little endian, microseconds: for tools that read no
//! pcapng. It has no place for devices, marks, prefixes or losses, and no way to cover space that
//! is not used yet: a live file is valid only after its zero-filled rest is cut.

use super::{Context, Format, Frame, Head, LinkType};
use crate::packet::Packet;

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
/// Bytes of the file header.
pub const FILE_HEADER_BYTES: usize = 24;
/// Bytes of a record before the frame.
pub const RECORD_HEADER_BYTES: usize = 16;

/// The pcap writer.
#[derive(Debug)]
pub struct Pcap {
    link: LinkType,
    snaplen: u32,
}

impl Pcap {
    /// A writer for frames of `link`, cut to `snaplen` bytes.
    pub fn new(link: LinkType, snaplen: u32) -> Self {
        Pcap { link, snaplen }
    }
}

impl Format for Pcap {
    const EXTENSION: &'static str = "pcap";
    const SKIPPABLE: bool = false;

    fn begin(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        header.extend_from_slice(&MAGIC_MICROSECONDS.to_le_bytes());
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
    fn interface(&mut self, _packet: &Packet<'_>) -> Option<usize> {
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
        out: &mut [u8],
    ) -> Head {
        let captured = u32::try_from(frame.captured_len()).unwrap_or(u32::MAX);
        out[8..12].copy_from_slice(&captured.to_le_bytes());
        out[12..16].copy_from_slice(&frame.original_len.to_le_bytes());
        frame.copy_to(&mut out[RECORD_HEADER_BYTES..]);
        // The format's seconds have 32 bits: they end in 2106.
        let seconds = u32::try_from(context.stamp_us / 1_000_000).unwrap_or(u32::MAX);
        let micros = (context.stamp_us % 1_000_000) as u32;
        let mut head = [0; 8];
        head[..4].copy_from_slice(&seconds.to_le_bytes());
        head[4..].copy_from_slice(&micros.to_le_bytes());
        head
    }

    fn record_bytes_max(snaplen: usize) -> usize {
        RECORD_HEADER_BYTES + snaplen
    }
}
