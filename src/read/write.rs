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
        match self.kind {
            Kind::Pcapng => self.put_enhanced(record, interface),
            Kind::Pcap => self.put_classic(record),
        }
        self.to.write_all(&self.block)
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
                body.extend(262_144_u32.to_le_bytes());
                if !interface.name.is_empty() {
                    option(&mut body, 2, interface.name.as_bytes());
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

    fn put_enhanced(&mut self, record: &Record<'_>, interface: usize) {
        let mut body = len(interface).to_le_bytes().to_vec();
        body.extend(record.time_ns.rotate_left(32).to_le_bytes());
        body.extend(len(record.data.len()).to_le_bytes());
        body.extend(record.original_len.to_le_bytes());
        body.extend(record.data);
        body.resize(body.len().next_multiple_of(4), 0);
        if !record.comment.is_empty() {
            option(&mut body, 1, record.comment.as_bytes());
        }
        if record.lost_before != 0 {
            option(&mut body, 4, &record.lost_before.to_le_bytes());
        }
        if !record.comment.is_empty() || record.lost_before != 0 {
            option(&mut body, 0, &[]);
        }
        put_block(&mut self.block, ENHANCED_PACKET, &body);
    }

    fn put_classic(&mut self, record: &Record<'_>) {
        let seconds = u32::try_from(record.time_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let nanos = u32::try_from(record.time_ns % 1_000_000_000).unwrap_or(0);
        for word in [seconds, nanos, len(record.data.len()), record.original_len] {
            self.block.extend(word.to_le_bytes());
        }
        self.block.extend(record.data);
    }
}

fn len(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn put_block(to: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let total = len(body.len() + 12).to_le_bytes();
    to.extend(kind.to_le_bytes());
    to.extend(total);
    to.extend(body);
    to.extend(total);
}
