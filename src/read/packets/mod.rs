//! The packets of one file: pcapng of either byte order (draft-ietf-opsawg-pcapng), classic pcap
//! (draft-ietf-opsawg-pcap) of any.
//!
//! ```text
//!   bytes ──> blocks (pcapng) ──┬──> a packet
//!         ──> classic (pcap)  ──┘
//!              │ what is damaged is passed, and told: damage
//!              └ where a live file ends for now: growing
//! ```

mod blocks;
mod classic;
mod damage;
mod declared;
mod growing;
mod noted;
mod passed;
mod runs;
mod tails;
mod turned;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::handle::Handle;
use super::input::Input;
use super::options::{Options, half, word};
use super::{Interface, ReadError, Record};
use crate::format::pcapng::block::SECTION_HEADER;
use crate::format::pcapng::reader::Block;
pub(super) use damage::told;
pub use damage::{Damage, Doubts};
pub use declared::Declared;
use noted::{Words, flags_alone, noted};
pub use passed::Passed;
pub use runs::Each;
pub use tails::Tail;

/// Where an Enhanced Packet Block has the packet.
const DATA: usize = 28;
/// What a file has to have.
const BEGINNING_BYTES: usize = 24;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Pcapng,
    Pcap(classic::Variant),
}

/// Goes through a file.
#[derive(Debug)]
pub struct Packets {
    path: PathBuf,
    /// The file, where it is one that others can read beside this.
    handle: Option<Arc<Handle>>,
    input: Input,
    format: Format,
    big_endian: bool,
    interfaces: Vec<Arc<Interface>>,
    /// Where they were declared.
    places: Vec<u64>,
    /// Bytes of their names and descriptions.
    interface_bytes: usize,
    /// What others know of them.
    declared: Option<Arc<Declared>>,
    /// What is to be read still, and where what is read now ends.
    runs: VecDeque<Range<u64>>,
    until: u64,
    /// It ends where another section begins: only who has read all before knows its interfaces.
    one_section: bool,
    /// A block went beyond the end of a run: there are no segments as they are said to be.
    crossed: bool,
    /// Bytes of what was lent last: they are passed when the next is asked for.
    lent: usize,
    /// It was read from another place than its start: interfaces may have been declared before.
    sought: bool,
    /// Something of it was not read.
    skipped: bool,
    /// The packet that was found last.
    found: Option<Found>,
    /// Of each interface what was lost, and of those before what was lost behind their packets.
    losses: Vec<tails::Losses>,
    tails: Vec<Tail>,
    /// Its bytes, where they are not as they stand in the file.
    turned: Option<Vec<u8>>,
    /// Bytes of a segment, as lwnflog's own files say.
    segment_bytes: Option<u64>,
    /// The last border of segments that blocks before it have led to.
    proven: u64,
    /// More can come behind its end.
    grows: bool,
    /// It was when reading began: its writer may not have cut it yet.
    grew: bool,
    /// Where its end was when it was met last, and what stood before.
    mark: Option<(u64, [u8; growing::MARK_BYTES])>,
    /// Nothing more can be read of it.
    over: bool,
    damage: Vec<Damage>,
    doubts: Doubts,
    passed: Passed,
    was_damaged: bool,
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
        let said = |error: io::Error| ReadError::of(path, &error);
        if path.as_os_str() == "-" {
            return Packets::of(path, Input::open(path).map_err(said)?);
        }
        Packets::of_handle(&Arc::new(Handle::open(path).map_err(said)?))
    }

    /// Reads a file that was opened, from its start on.
    ///
    /// # Errors
    /// As of [`Packets::open`].
    pub fn of_handle(handle: &Arc<Handle>) -> Result<Packets, ReadError> {
        let path = handle.path();
        let input = Input::of_handle(Arc::clone(handle));
        let mut packets = Packets::of(path, input.map_err(|error| ReadError::of(path, &error))?)?;
        packets.handle = Some(Arc::clone(handle)).filter(|_| packets.input.len().is_some());
        Ok(packets)
    }

    /// Reads what is open already; `path` is for messages.
    ///
    /// # Errors
    /// As of [`Packets::open`].
    pub fn of(path: &Path, mut input: Input) -> Result<Packets, ReadError> {
        let there = input.need(BEGINNING_BYTES);
        let there = there.map_err(|error| ReadError::of(path, &error))?;
        let begins = input.rest();
        let is_pcapng = word(begins, 0, false) == SECTION_HEADER;
        if !there || !is_pcapng && classic::Variant::of(begins).is_none() {
            return Err(ReadError {
                path: path.to_owned(),
                what: damage::no_capture(begins),
            });
        }
        let mut packets = Packets {
            path: path.to_owned(),
            handle: None,
            input,
            format: Format::Pcapng,
            big_endian: false,
            interfaces: Vec::new(),
            places: Vec::new(),
            interface_bytes: 0,
            declared: None,
            runs: VecDeque::new(),
            until: u64::MAX,
            one_section: false,
            crossed: false,
            lent: 0,
            sought: false,
            skipped: false,
            found: None,
            losses: Vec::new(),
            tails: Vec::new(),
            turned: None,
            segment_bytes: None,
            proven: 0,
            grows: false,
            grew: false,
            mark: None,
            over: false,
            damage: Vec::new(),
            doubts: Doubts::default(),
            passed: Passed::default(),
            was_damaged: false,
        };
        if let Some(variant) = classic::Variant::of(packets.input.rest()) {
            packets.begin_classic(variant)?;
        } else {
            packets.segment_bytes = packets.said_segment_bytes()?;
        }
        Ok(packets)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The opened file, for others who read it as well; none of a stream.
    pub(super) fn handle(&self) -> Option<&Arc<Handle>> {
        self.handle.as_ref()
    }

    /// Has smaller windows, for who reads many files at once.
    pub(super) fn set_window(&mut self, bytes: usize) {
        self.input.set_window(bytes);
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
        (self.sought, self.skipped) = (true, true);
        let sought = self.input.seek(position);
        sought.map_err(|error| self.said(&error))
    }

    /// The interfaces that were declared so far.
    pub fn interfaces(&self) -> &[Arc<Interface>] {
        &self.interfaces
    }

    fn said(&self, error: &io::Error) -> ReadError {
        ReadError::of(&self.path, error)
    }

    /// Goes on to the next packet. False at the end, which may be the end for now of a file that grows.
    ///
    /// # Errors
    /// What the system says. Damage is passed, as far as that can be, and told by
    /// [`Packets::take_damage`].
    #[inline]
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        (self.found, self.turned) = (None, None);
        if self.over {
            return Ok(false);
        }
        self.found = match self.format {
            Format::Pcapng => self.next_pcapng()?,
            Format::Pcap(variant) => self.next_pcap(variant)?,
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

    /// Bytes of a segment, of lwnflog's own pcapng files, as they say themselves. What other programs have
    /// written anew says it, too, so nothing is believed of it that blocks do not show.
    pub fn segment_bytes(&self) -> Option<u64> {
        self.segment_bytes
    }

    /// In which start of the machine the file was begun, as lwnflog's own say.
    pub fn boot(mut self) -> Option<String> {
        const HEADER_BYTES: usize = 512;
        self.input.need(HEADER_BYTES).ok()?;
        let header = Block::read(self.input.rest())?;
        header.segment_bytes()?;
        let said = header.noted(" boot=").iter();
        let boot: Vec<u8> = said
            .take_while(|byte| byte.is_ascii_hexdigit() || **byte == b'-')
            .copied()
            .collect();
        String::from_utf8(boot).ok().filter(|boot| !boot.is_empty())
    }

    fn said_segment_bytes(&mut self) -> Result<Option<u64>, ReadError> {
        /// A segment is at most so long.
        const SEGMENT_BYTES_MAX: u64 = 1 << 30;
        const HEADER_BYTES: usize = 512;
        // No more than the header itself: what is behind it may take its time in a stream.
        let header = self
            .input
            .need(12)
            .map(|_| word(self.input.rest(), 4, false));
        let bytes = header.map_err(|error| self.said(&error))? as usize;
        let there = self.input.need(bytes.min(HEADER_BYTES));
        there.map_err(|error| self.said(&error))?;
        let header = Block::read(self.input.rest());
        let said = header.and_then(|header| Some(header.segment_bytes()? as u64));
        Ok(said.filter(|bytes| *bytes <= SEGMENT_BYTES_MAX))
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
        let there = self
            .input
            .pass(lent)
            .and_then(|passed| Ok(passed && self.input.need(bytes)?));
        there.map_err(|error| self.said(&error))
    }

    fn has(&mut self, bytes: usize) -> Result<bool, ReadError> {
        let there = self.input.need(bytes);
        there.map_err(|error| self.said(&error))
    }
}
