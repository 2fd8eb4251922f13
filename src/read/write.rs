//! Packets that were read, written again: pcapng with all that is known of them, or classic pcap.

use std::io::{self, Write};
use std::ops::Range;

use super::piece::Piece;
use super::{Interface, Record};
use crate::format::pcapng::block::{ENHANCED_PACKET, INTERFACE_DESCRIPTION, SECTION_HEADER};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// pcapng, in nanoseconds.
    Pcapng,
    /// Classic pcap, in nanoseconds: one link type, no interfaces, no comments.
    Pcap,
}

/// Writes records to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    kind: Kind,
    interfaces: Vec<Interface>,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What the stream says.
    pub fn begin(mut to: W, kind: Kind) -> io::Result<Writer<W>> {
        if kind == Kind::Pcapng {
            let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
            body.extend([1, 0, 0, 0]); // version 1.0
            body.extend(u64::MAX.to_le_bytes()); // the section's length is not known
            option(
                &mut body,
                4,
                concat!("lwnflog ", env!("CARGO_PKG_VERSION")).as_bytes(),
            );
            option(&mut body, 0, &[]);
            let mut block = Vec::new();
            put_block(&mut block, SECTION_HEADER, &body);
            to.write_all(&block)?;
        }
        Ok(Writer {
            to,
            kind,
            interfaces: Vec::new(),
            block: Vec::new(),
        })
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// What the stream says; packets of several link types for a classic file.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let interface = self.number(record.interface)?;
        self.check_time(record.time_ns)?;
        self.block.clear();
        encode(self.kind, record, len(interface), &mut self.block);
        self.to.write_all(&self.block)
    }

    /// Writes packets of which [`encode`] has made records.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_encoded(&mut self, piece: &mut Piece, marks: Range<usize>) -> io::Result<()> {
        piece.numbers.resize(piece.interfaces.len(), None);
        let mut begin = piece.bytes(marks.start..marks.start).start;
        let all = piece.bytes(marks.clone());
        for mark in &piece.marks[marks] {
            self.check_time(mark.time_ns)?;
            let own = mark.interface as usize;
            let number = match piece.numbers[own] {
                Some(number) => number,
                None => len(self.number(&piece.interfaces[own])?),
            };
            piece.numbers[own] = Some(number);
            if number != mark.interface
                && self.kind == Kind::Pcapng
                && let Some(place) = piece.out.get_mut(begin + 8..begin + 12)
            {
                place.copy_from_slice(&number.to_le_bytes());
            }
            begin = mark.end;
        }
        self.to.write_all(&piece.out[all])
    }

    fn check_time(&self, time_ns: u64) -> io::Result<()> {
        if self.kind == Kind::Pcap && seconds(time_ns).is_none() {
            return Err(io::Error::other(
                "a pcap file has times up to the year 2106, and these are later: write pcapng",
            ));
        }
        Ok(())
    }

    /// The number of an interface, which is declared if it was not.
    fn number(&mut self, interface: &Interface) -> io::Result<usize> {
        if let Some(known) = self.interfaces.iter().position(|known| known == interface) {
            return Ok(known);
        }
        self.block.clear();
        let number = self.declare(interface)?;
        self.to.write_all(&self.block)?;
        Ok(number)
    }

    /// Has all of it written, at the end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn flush(&mut self) -> io::Result<()> {
        // tcpdump takes no file that declares none.
        if self.interfaces.is_empty() {
            self.number(&Interface {
                link: 1,
                ..Interface::default()
            })?;
        }
        self.to.flush()
    }

    fn declare(&mut self, interface: &Interface) -> io::Result<usize> {
        match self.kind {
            Kind::Pcapng => {
                let mut body = interface.link.to_le_bytes().to_vec();
                body.extend([0, 0]);
                // The same for all: libpcap reads no file whose interfaces differ in it.
                body.extend(262_144_u32.to_le_bytes());
                if !interface.name.is_empty() {
                    option(&mut body, 2, interface.name.as_bytes());
                }
                if !interface.description.is_empty() {
                    option(&mut body, 3, interface.description.as_bytes());
                }
                option(&mut body, 9, &[9]);
                option(&mut body, 0, &[]);
                put_block(&mut self.block, INTERFACE_DESCRIPTION, &body);
            }
            Kind::Pcap => match self.interfaces.first() {
                None => {
                    for word in [
                        0xa1b2_3c4d_u32,
                        4 << 16 | 2,
                        0,
                        0,
                        262_144,
                        interface.link.into(),
                    ] {
                        self.block.extend(word.to_le_bytes());
                    }
                }
                Some(first) if first.link == interface.link => {}
                Some(_) => {
                    return Err(io::Error::other(
                        "a pcap file has packets of one link type, and these have several: write pcapng",
                    ));
                }
            },
        }
        self.interfaces.push(interface.clone());
        Ok(self.interfaces.len() - 1)
    }
}

/// Appends the record of a packet that came by interface number `interface`.
pub fn encode(kind: Kind, record: &Record<'_>, interface: u32, out: &mut Vec<u8>) {
    match kind {
        Kind::Pcapng => put_enhanced(record, interface, out),
        Kind::Pcap => put_classic(record, out),
    }
}

fn put_enhanced(record: &Record<'_>, interface: u32, out: &mut Vec<u8>) {
    let begin = out.len();
    let mut head = [0; 28];
    for (at, word) in [
        (0, ENHANCED_PACKET),
        (8, interface),
        (20, len(record.data.len())),
        (24, record.original_len),
    ] {
        head[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    head[12..20].copy_from_slice(&record.time_ns.rotate_left(32).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(record.data);
    // A block begins at a multiple of 4 of its own.
    let pad = |out: &mut Vec<u8>| {
        let left = (begin.wrapping_sub(out.len())) & 3;
        out.extend_from_slice(&[0; 3][..left]);
    };
    pad(out);
    let words = [record.comment, record.note];
    for text in words.into_iter().filter(|text| !text.is_empty()) {
        out.extend([1, 0]);
        out.extend(option_len(text.as_bytes()));
        out.extend_from_slice(text.as_bytes());
        pad(out);
    }
    if record.flags != 0 {
        out.extend_from_slice(&[2, 0, 4, 0]);
        out.extend_from_slice(&record.flags.to_le_bytes());
    }
    if record.lost_before != 0 {
        out.extend_from_slice(&[4, 0, 8, 0]);
        out.extend_from_slice(&record.lost_before.to_le_bytes());
    }
    let said = words.iter().any(|text| !text.is_empty());
    if said || record.flags != 0 || record.lost_before != 0 {
        out.extend_from_slice(&[0; 4]);
    }
    let total = len(out.len() - begin + 4).to_le_bytes();
    out.extend_from_slice(&total);
    out[begin + 4..begin + 8].copy_from_slice(&total);
}

fn put_classic(record: &Record<'_>, out: &mut Vec<u8>) {
    let seconds = seconds(record.time_ns).unwrap_or(u32::MAX);
    let nanos = u32::try_from(record.time_ns % 1_000_000_000).unwrap_or(0);
    for word in [seconds, nanos, len(record.data.len()), record.original_len] {
        out.extend(word.to_le_bytes());
    }
    out.extend(record.data);
}

/// Of a time in a classic file, which has no more of them.
fn seconds(time_ns: u64) -> Option<u32> {
    u32::try_from(time_ns / 1_000_000_000).ok()
}

fn len(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(option_len(value));
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option_len(value: &[u8]) -> [u8; 2] {
    u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes()
}

fn put_block(to: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let total = len(body.len() + 12).to_le_bytes();
    to.extend(kind.to_le_bytes());
    to.extend(total);
    to.extend(body);
    to.extend(total);
}
