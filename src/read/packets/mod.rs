//! The packets of one file: pcapng of either byte order (draft-ietf-opsawg-pcapng), classic pcap
//! (draft-ietf-opsawg-pcap) of any.

mod declared;
mod noted;
mod runs;
mod turned;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::input::Input;
use super::options::{Options, half, word};
use super::{Interface, ReadError, Record, Tick};
use crate::format::pcapng::block::{
    ENHANCED_PACKET, INTERFACE_DESCRIPTION, PADDING, SECTION_HEADER,
};
use crate::format::pcapng::reader::Block;
pub use declared::Declared;
use noted::{Words, flags_alone, noted};
pub use runs::Each;

/// Simple Packet Block.
const SIMPLE_PACKET: u32 = 3;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Where an Enhanced Packet Block has the packet.
const DATA: usize = 28;
/// Records of a classic file.
const PCAP_RECORD_BYTES: usize = 16;
const PCAP_HEADER_BYTES: usize = 24;
/// The longest packet that is believed.
const PACKET_BYTES_MAX: usize = 16 << 20;
// Options.
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Pcapng,
    Pcap,
}

/// Goes through a file.
#[derive(Debug)]
pub struct Packets {
    path: PathBuf,
    input: Input,
    format: Format,
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Where they were declared.
    places: Vec<u64>,
    /// What others know of them.
    declared: Option<Arc<Declared>>,
    /// What is to be read still, and where what is read now ends.
    runs: VecDeque<Range<u64>>,
    until: u64,
    /// Bytes of what was lent last: they are passed when the next is asked for.
    lent: usize,
    /// It was read from another place than its start: interfaces may have been declared before.
    sought: bool,
    /// The packet that was found last.
    found: Option<Found>,
    /// Its bytes, where they are not as they stand in the file.
    turned: Option<Vec<u8>>,
    /// The file ended inside a block or record.
    cut: bool,
    /// A live file: its end is what has been written so far.
    padding_at: Option<u64>,
}

/// Where in the window a packet's parts stand.
#[derive(Debug)]
struct Found {
    time_ns: u64,
    interface: usize,
    data: (usize, usize),
    original_len: u32,
    lost_before: u64,
    flags: u32,
    words: Words,
}

impl Packets {
    /// Opens a capture file.
    ///
    /// # Errors
    /// What the system says, and a file that is no capture.
    pub fn open(path: &Path) -> Result<Packets, ReadError> {
        let input = Input::open(path).map_err(|error| ReadError {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
        Packets::of(path, input)
    }

    /// Reads what is open already; `path` is for messages.
    ///
    /// # Errors
    /// As of [`Packets::open`].
    pub fn of(path: &Path, mut input: Input) -> Result<Packets, ReadError> {
        let said = |what: String| ReadError {
            path: path.to_owned(),
            what,
        };
        let there = input
            .need(PCAP_HEADER_BYTES)
            .map_err(|error| said(error.to_string()))?;
        if !there {
            return Err(said(
                "this is no capture file: it is too short for one".to_owned(),
            ));
        }
        let magic = word(input.rest(), 0, false);
        let mut packets = Packets {
            path: path.to_owned(),
            input,
            format: Format::Pcapng,
            big_endian: false,
            interfaces: Vec::new(),
            places: Vec::new(),
            declared: None,
            runs: VecDeque::new(),
            until: u64::MAX,
            lent: 0,
            sought: false,
            found: None,
            turned: None,
            cut: false,
            padding_at: None,
        };
        if magic == SECTION_HEADER {
            return Ok(packets);
        }
        packets.format = Format::Pcap;
        let nanos = match (magic, magic.swap_bytes()) {
            (0xa1b2_c3d4, _) => 1000,
            (0xa1b2_3c4d, _) => 1,
            (_, 0xa1b2_c3d4) => {
                packets.big_endian = true;
                1000
            }
            (_, 0xa1b2_3c4d) => {
                packets.big_endian = true;
                1
            }
            _ => return Err(said("this is no pcapng or pcap file".to_owned())),
        };
        let link = word(packets.input.rest(), 20, packets.big_endian) & 0xffff;
        packets.interfaces.push(Interface {
            snaplen_bytes: word(packets.input.rest(), 16, packets.big_endian),
            link: u16::try_from(link).unwrap_or(0),
            tick: Tick::Nanos(nanos),
            ..Interface::default()
        });
        packets.lent = PCAP_HEADER_BYTES;
        Ok(packets)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file ended inside a block: it was cut, or is still written by another tool.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Where the next block or record stands.
    pub fn position(&self) -> u64 {
        self.input.position() + self.lent as u64
    }

    /// Goes to the place of a block. False where that cannot be.
    ///
    /// # Errors
    /// What the system says.
    pub fn seek(&mut self, position: u64) -> Result<bool, ReadError> {
        (self.lent, self.found) = (0, None);
        self.sought = true;
        let sought = self.input.seek(position);
        sought.map_err(|error| self.said(&error))
    }

    /// Goes on where an earlier reader of the file has ended. False where that cannot be.
    ///
    /// # Errors
    /// What the system says.
    pub fn go_on_at(&mut self, position: u64, interfaces: &[Interface]) -> Result<bool, ReadError> {
        self.interfaces = interfaces.to_vec();
        self.seek(position)
    }

    /// Where space without records was met first, since the last packet: there a live file goes on.
    pub fn padding_at(&self) -> Option<u64> {
        self.padding_at
    }

    /// The interfaces that were declared so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn said(&self, error: &io::Error) -> ReadError {
        ReadError {
            path: self.path.clone(),
            what: error.to_string(),
        }
    }

    fn damaged(&self) -> ReadError {
        ReadError {
            path: self.path.clone(),
            what: format!(
                "damaged at byte {}: `lwnflog repair` may make it readable",
                self.input.position()
            ),
        }
    }

    /// Goes on to the next packet. False at the end.
    ///
    /// # Errors
    /// What the system says, and damage: what comes behind it is not read.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        self.found = None;
        self.found = match self.format {
            Format::Pcapng => self.next_pcapng()?,
            Format::Pcap => self.next_pcap()?,
        };
        self.turn();
        Ok(self.found.is_some())
    }

    /// The time of the packet that was gone on to.
    #[inline]
    pub fn time_ns(&self) -> Option<u64> {
        self.found.as_ref().map(|found| found.time_ns)
    }

    /// The packet that was gone on to.
    #[inline]
    pub fn record(&self) -> Option<Record<'_>> {
        let found = self.found.as_ref()?;
        let window = self.input.rest();
        let part = |(from, to): (usize, usize)| window.get(from..to).unwrap_or(&[]);
        Some(Record {
            time_ns: found.time_ns,
            interface: self.interfaces.get(found.interface)?,
            data: self.turned_or(part(found.data)),
            original_len: found.original_len,
            lost_before: found.lost_before,
            flags: found.flags,
            comment: std::str::from_utf8(part(found.words.comment)).unwrap_or(""),
            note: std::str::from_utf8(part(found.words.note)).unwrap_or(""),
        })
    }

    /// Bytes of a segment, of a finished pcapng file of lwnflog's that can be read from any of them.
    /// Before the first packet was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn segment_bytes(&mut self) -> Result<Option<u64>, ReadError> {
        const BEGINNING_BYTES: usize = 512;
        let there = self.input.need(BEGINNING_BYTES);
        there.map_err(|error| self.said(&error))?;
        if self.format != Format::Pcapng || self.input.len().is_none() {
            return Ok(None);
        }
        let header = Block::read(self.input.rest());
        Ok(header.and_then(|header| Some(header.segment_bytes()? as u64)))
    }

    /// Bytes of the file, where that is known.
    pub fn len(&self) -> Option<u64> {
        self.input.len()
    }

    /// Whether the file holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Passes what was lent, and has so many bytes there. False at the end.
    #[inline]
    fn go_on(&mut self, bytes: usize) -> Result<bool, ReadError> {
        let lent = std::mem::take(&mut self.lent);
        let there = self.input.pass(lent).and_then(|()| self.input.need(bytes));
        there.map_err(|error| self.said(&error))
    }

    #[inline]
    fn next_pcapng(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            if self.position() >= self.until && !self.next_run()? {
                return Ok(None);
            }
            if !self.go_on(12)? {
                self.cut |= !self.input.rest().is_empty();
                return Ok(None);
            }
            let (kind, total) = self.head();
            if total < 12 || !total.is_multiple_of(4) {
                return Err(self.damaged());
            }
            if kind == PADDING {
                self.padding_at.get_or_insert(self.input.position());
                self.lent = total;
                continue;
            }
            let there = self.input.need(total);
            if !there.map_err(|error| self.said(&error))? {
                self.cut = true;
                return Ok(None);
            }
            self.lent = total;
            match kind {
                ENHANCED_PACKET => {
                    self.padding_at = None;
                    let mut found = self.enhanced(total);
                    if found.is_none() && self.sought {
                        self.declare_what_was_passed()?;
                        found = self.enhanced(total);
                    }
                    return found.map_or_else(|| Err(self.damaged()), |found| Ok(Some(found)));
                }
                SIMPLE_PACKET => {
                    if let Some(found) = self.simple(total) {
                        return Ok(Some(found));
                    }
                }
                SECTION_HEADER => {
                    self.interfaces.clear();
                    self.places.clear();
                }
                INTERFACE_DESCRIPTION => {
                    if self.sought {
                        self.declare_what_was_passed()?;
                    }
                    self.declare(total);
                }
                _ => {}
            }
        }
    }

    /// Takes over all interfaces that are declared before this place.
    #[cold]
    fn declare_what_was_passed(&mut self) -> Result<(), ReadError> {
        let declared = match &self.declared {
            Some(declared) => Arc::clone(declared),
            None => Arc::new(Declared::new(&self.path)),
        };
        (self.interfaces, self.places) = declared.before(self.input.position())?;
        self.declared = Some(declared);
        self.sought = false;
        Ok(())
    }

    /// Type and length of the block that comes next. A section's header says its byte order first.
    #[inline]
    fn head(&mut self) -> (u32, usize) {
        let rest = self.input.rest();
        if word(rest, 0, false) == SECTION_HEADER {
            self.big_endian = word(rest, 8, false) != BYTE_ORDER_MAGIC;
        }
        (
            word(rest, 0, self.big_endian),
            word(rest, 4, self.big_endian) as usize,
        )
    }

    #[inline]
    fn enhanced(&self, total: usize) -> Option<Found> {
        let (block, big) = (self.input.rest().get(..total)?, self.big_endian);
        let interface = word(block, 8, big) as usize;
        let ticks = u64::from(word(block, 12, big)) << 32 | u64::from(word(block, 16, big));
        let captured = word(block, 20, big) as usize;
        let options = DATA + captured.checked_next_multiple_of(4)?;
        if options > total - 4 {
            return None;
        }
        let mut found = Found {
            time_ns: self.interfaces.get(interface)?.tick.nanoseconds(ticks),
            interface,
            data: (DATA, DATA + captured),
            original_len: word(block, 24, big),
            lost_before: 0,
            flags: 0,
            words: Words::default(),
        };
        // Most have one, which is ours: the direction.
        if total - options > 16 {
            (found.lost_before, found.flags, found.words) = noted(block, options, big);
        } else {
            found.flags = flags_alone(block, options, big);
        }
        Some(found)
    }

    /// A packet without a time, of the first interface.
    fn simple(&self, total: usize) -> Option<Found> {
        const DATA: usize = 12;
        self.interfaces.first()?;
        let original_len = word(self.input.rest(), 8, self.big_endian);
        let captured = (original_len as usize).min(total - DATA - 4);
        Some(Found {
            time_ns: 0,
            interface: 0,
            data: (DATA, DATA + captured),
            original_len,
            lost_before: 0,
            flags: 0,
            words: Words::default(),
        })
    }

    fn declare(&mut self, total: usize) {
        let (block, big) = (self.input.rest(), self.big_endian);
        let mut interface = Interface {
            link: half(block, 8, big),
            snaplen_bytes: word(block, 12, big),
            ..Interface::default()
        };
        for (code, from, to) in Options::new(block, 16, total - 4, big) {
            let value = block.get(from..to).unwrap_or(&[]);
            match (code, value) {
                (IF_NAME, name) => interface.name = String::from_utf8_lossy(name).into_owned(),
                (IF_DESCRIPTION, text) => {
                    interface.description = String::from_utf8_lossy(text).into_owned();
                }
                (IF_TSRESOL, [exponent]) => interface.tick = tick(*exponent),
                _ => {}
            }
        }
        self.interfaces.push(interface);
        self.places.push(self.input.position());
    }

    fn next_pcap(&mut self) -> Result<Option<Found>, ReadError> {
        if !self.go_on(PCAP_RECORD_BYTES)? {
            self.cut |= !self.input.rest().is_empty();
            return Ok(None);
        }
        let (rest, big) = (self.input.rest(), self.big_endian);
        let [seconds, part, captured, original_len] = [0, 4, 8, 12].map(|at| word(rest, at, big));
        let captured = captured as usize;
        // Space of a live file of lwnflog's that is not written yet.
        if seconds == 0 && part == 0 && captured == 0 && original_len == 0 {
            return Ok(None);
        }
        if captured > PACKET_BYTES_MAX {
            return Err(self.damaged());
        }
        let total = PCAP_RECORD_BYTES + captured;
        let there = self.input.need(total);
        if !there.map_err(|error| self.said(&error))? {
            self.cut = true;
            return Ok(None);
        }
        self.lent = total;
        let nanos = self.interfaces[0].tick.nanoseconds(u64::from(part));
        Ok(Some(Found {
            time_ns: u64::from(seconds)
                .saturating_mul(1_000_000_000)
                .saturating_add(nanos),
            interface: 0,
            data: (PCAP_RECORD_BYTES, total),
            original_len,
            lost_before: 0,
            flags: 0,
            words: Words::default(),
        }))
    }
}

/// `if_tsresol`: a power of ten, or of two.
fn tick(exponent: u8) -> Tick {
    match exponent {
        0..=9 => Tick::Nanos(10_u64.pow(9 - u32::from(exponent))),
        10..=19 => Tick::ASecond(10_u64.pow(u32::from(exponent))),
        0x80..=0xbf => Tick::ASecond(1 << (exponent & 0x3f)),
        _ => Tick::default(),
    }
}
