//! Packets that were read, written again: pcapng with all that is known of them, or classic pcap.

use std::io::{self, Write};

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
        self.block.clear();
        let known = self
            .interfaces
            .iter()
            .position(|known| known == record.interface);
        let interface = match known {
            Some(interface) => interface,
            None => self.declare(record.interface)?,
        };
        encode(self.kind, record, len(interface), &mut self.block);
        self.to.write_all(&self.block)
    }

    /// Writes a packet that [`encode`] has made a record of.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_encoded(&mut self, record: &mut [u8], interface: &Interface) -> io::Result<()> {
        let known = self.interfaces.iter().position(|known| known == interface);
        let number = match known {
            Some(number) => number,
            None => {
                self.block.clear();
                let number = self.declare(interface)?;
                self.to.write_all(&self.block)?;
                number
            }
        };
        if self.kind == Kind::Pcapng
            && let Some(place) = record.get_mut(8..12)
        {
            place.copy_from_slice(&len(number).to_le_bytes());
        }
        self.to.write_all(record)
    }

    /// Has all of it written.
    ///
    /// # Errors
    /// What the stream says.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.kind == Kind::Pcap && self.interfaces.is_empty() {
            self.declare(&Interface {
                link: 1,
                ..Interface::default()
            })?;
            self.to.write_all(&self.block)?;
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
                // lwnflog's own: what others say there nobody has looked at.
                const OWN: [&str; 3] = ["NFLOG group ", "NFQUEUE queue ", "Netfilter hook "];
                let description = &interface.description;
                if OWN.iter().any(|own| description.starts_with(own)) {
                    option(&mut body, 3, description.as_bytes());
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
    for word in [ENHANCED_PACKET, 0, interface] {
        out.extend(word.to_le_bytes());
    }
    out.extend(record.time_ns.rotate_left(32).to_le_bytes());
    out.extend(len(record.data.len()).to_le_bytes());
    out.extend(record.original_len.to_le_bytes());
    out.extend(record.data);
    // A block begins at a multiple of 4 of its own.
    let pad = |out: &mut Vec<u8>| out.resize(begin + (out.len() - begin).next_multiple_of(4), 0);
    pad(out);
    let words = [record.comment, record.note];
    for text in words.into_iter().filter(|text| !text.is_empty()) {
        out.extend([1, 0]);
        out.extend(option_len(text.as_bytes()));
        out.extend(text.as_bytes());
        pad(out);
    }
    if record.flags != 0 {
        out.extend([2, 0, 4, 0]);
        out.extend(record.flags.to_le_bytes());
    }
    if record.lost_before != 0 {
        out.extend([4, 0, 8, 0]);
        out.extend(record.lost_before.to_le_bytes());
    }
    let said = words.iter().any(|text| !text.is_empty());
    if said || record.flags != 0 || record.lost_before != 0 {
        out.extend([0; 4]);
    }
    let total = len(out.len() - begin + 4).to_le_bytes();
    out.extend(total);
    out[begin + 4..begin + 8].copy_from_slice(&total);
}

fn put_classic(record: &Record<'_>, out: &mut Vec<u8>) {
    let seconds = u32::try_from(record.time_ns / 1_000_000_000).unwrap_or(u32::MAX);
    let nanos = u32::try_from(record.time_ns % 1_000_000_000).unwrap_or(0);
    for word in [seconds, nanos, len(record.data.len()), record.original_len] {
        out.extend(word.to_le_bytes());
    }
    out.extend(record.data);
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
