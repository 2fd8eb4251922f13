//! pcapng, block by block.

use std::sync::Arc;

use super::{DATA, Declared, Found, Options, Packets, Words, flags_alone, half, noted, word};
use crate::format::pcapng::block::{
    ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, PADDING, SECTION_HEADER,
};
use crate::format::pcapng::reader::Block;
use crate::read::{Interface, ReadError, Tick};

/// Simple Packet Block (section 4.4), and the obsolete Packet Block (appendix A).
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 2;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Blocks that hold no packet and are longer than this are passed without being read.
const READ_BYTES_MAX: usize = 1 << 20;
/// The parts of Interface Description Blocks that are kept: Linux's names have 15 bytes, and nobody is
/// to fill the memory with them.
const NAME_BYTES_MAX: usize = 256;
const DESCRIPTION_BYTES_MAX: usize = 1024;
const INTERFACES_BYTES_MAX: usize = 16 << 20;
const INTERFACES_MAX: usize = 1 << 19;
// Options.
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// What has become of a block without a packet.
pub(super) enum Passed {
    /// It was passed.
    Yes,
    /// It is to be looked at once more: it was being written.
    Again,
    /// The file ends in it, or there, for now.
    End,
    /// Its two lengths differ.
    Damaged,
}

impl Packets {
    #[inline]
    pub(super) fn next_pcapng(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            let ended = self.crossed || self.over;
            if ended || self.position() >= self.until && !self.next_run()? {
                return Ok(None);
            }
            if !self.go_on(12)? {
                if !self.input.rest().is_empty() {
                    self.ends_inside();
                }
                return Ok(None);
            }
            let (kind, total) = self.head();
            if total < 12 || !total.is_multiple_of(4) {
                if self.passes_damage()? {
                    continue;
                }
                return Ok(None);
            }
            let is_read = matches!(
                kind,
                ENHANCED_PACKET | SIMPLE_PACKET | PACKET | SECTION_HEADER | INTERFACE_DESCRIPTION
            );
            if !is_read {
                match self.pass_block(kind, total)? {
                    Passed::Yes | Passed::Again => continue,
                    Passed::End => return Ok(None),
                    Passed::Damaged if self.passes_damage()? => continue,
                    Passed::Damaged => return Ok(None),
                }
            }
            if !self.has(total)? {
                if self.ends_or_is_damaged(total)? {
                    continue;
                }
                return Ok(None);
            }
            let rest = self.input.rest();
            let is_whole = word(rest, total - 4, self.big_endian) as usize == total;
            let found = if is_whole {
                self.lent = total;
                self.block(kind, total)?
            } else {
                Seen::Damage
            };
            match found {
                Seen::Packet(found) => return Ok(Some(found)),
                Seen::Other => {}
                Seen::Damage => {
                    self.lent = 0;
                    let passed = is_whole && self.passes_block(total)?;
                    if !passed && !self.passes_damage()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Looks into a whole block.
    #[inline]
    fn block(&mut self, kind: u32, total: usize) -> Result<Seen, ReadError> {
        Ok(match kind {
            ENHANCED_PACKET => {
                let mut found = self.enhanced(total, word(self.input.rest(), 8, self.big_endian));
                if found.is_none() {
                    self.knows_interface(word(self.input.rest(), 8, self.big_endian))?;
                    found = self.enhanced(total, word(self.input.rest(), 8, self.big_endian));
                }
                if let Some(found) = found.as_ref().filter(|found| found.lost_before != 0) {
                    self.count_lost(found.interface, found.lost_before);
                }
                self.look_closer(found.as_ref());
                self.passed.options +=
                    u64::from(found.as_ref().is_some_and(|found| found.words.others));
                found.map_or(Seen::Damage, Seen::Packet)
            }
            PACKET => {
                let block = self.input.rest();
                let interface = half(block, 8, self.big_endian).into();
                let drops = half(block, 10, self.big_endian);
                self.knows_interface(interface)?;
                let found = self.enhanced(total, interface);
                self.look_closer(found.as_ref());
                found.map_or(Seen::Damage, |found| {
                    Seen::Packet(Found {
                        // All ones: not known.
                        lost_before: if drops == u16::MAX { 0 } else { drops.into() },
                        ..found
                    })
                })
            }
            SIMPLE_PACKET => self.simple(total).map_or(Seen::Damage, Seen::Packet),
            SECTION_HEADER => self.section(total),
            _ if total < 20 || self.interfaces.len() >= INTERFACES_MAX => Seen::Damage,
            _ => {
                if self.sought {
                    self.declare_what_was_passed()?;
                }
                self.declare(total);
                Seen::Other
            }
        })
    }

    /// A new section: its interfaces are its own.
    fn section(&mut self, total: usize) -> Seen {
        let block = self.input.rest();
        let magic = word(block, 8, self.big_endian);
        if total < 28 || magic != BYTE_ORDER_MAGIC {
            return Seen::Damage;
        }
        if self.one_section && self.input.position() != 0 {
            (self.lent, self.crossed) = (0, true);
            return Seen::Other;
        }
        self.end_losses();
        self.interfaces.clear();
        self.places.clear();
        self.interface_bytes = 0;
        let mut options = Options::new(self.input.rest(), 24, total - 4, self.big_endian);
        (&mut options).for_each(drop);
        self.doubts.options += u64::from(options.is_damaged());
        let major = half(self.input.rest(), 12, self.big_endian);
        if major != 1 {
            self.lent = 0;
            self.ends_with(format!(
                "a section of pcapng's version {major} begins, which is not known here"
            ));
        }
        Seen::Other
    }

    /// Knows an interface that is named here and was not declared so far: others may have been declared
    /// before the place from which it is read, or where it is damaged.
    #[cold]
    fn knows_interface(&mut self, id: u32) -> Result<(), ReadError> {
        if self.sought && id as usize >= self.interfaces.len() {
            self.declare_what_was_passed()?;
        }
        self.make_up_interfaces(id as usize + 1);
        Ok(())
    }

    /// In place of those whose declarations were lost. All of lwnflog's are of one link type and
    /// resolution.
    fn make_up_interfaces(&mut self, count: usize) {
        /// More than a file of lwnflog's has.
        const MADE_UP_MAX: usize = 1 << 16;
        let Some(first) = self.interfaces.first() else {
            return;
        };
        if !self.was_damaged || self.segment_bytes.is_none() || count > MADE_UP_MAX {
            return;
        }
        let unknown = Arc::new(Interface {
            name: String::new(),
            ..Interface::clone(first)
        });
        while self.interfaces.len() < count {
            self.interfaces.push(Arc::clone(&unknown));
            self.places.push(self.input.position());
        }
    }

    /// Takes over all interfaces that are declared before this place.
    #[cold]
    pub(super) fn declare_what_was_passed(&mut self) -> Result<(), ReadError> {
        let declared = match (&self.declared, &self.handle) {
            (Some(declared), _) => Arc::clone(declared),
            (None, Some(handle)) => Arc::new(Declared::new(handle)),
            (None, None) => return Ok(()),
        };
        let before = declared.before(self.input.position())?;
        (self.interfaces, self.places, self.was_damaged) = before;
        self.declared = Some(declared);
        self.sought = false;
        Ok(())
    }

    /// Type and length of the block that comes next. A section's header says its byte order first.
    #[inline]
    pub(super) fn head(&mut self) -> (u32, usize) {
        let rest = self.input.rest();
        if word(rest, 0, false) == SECTION_HEADER {
            self.big_endian = word(rest, 8, true) == BYTE_ORDER_MAGIC;
        }
        (
            word(rest, 0, self.big_endian),
            word(rest, 4, self.big_endian) as usize,
        )
    }

    /// Passes a block that holds no packet, which need not be read.
    fn pass_block(&mut self, kind: u32, total: usize) -> Result<Passed, ReadError> {
        if kind == PADDING && self.grows {
            match self.padding_of_live(total)? {
                Passed::Yes => {}
                other => return Ok(other),
            }
        }
        let begin = self.input.position();
        let trailer = if total <= READ_BYTES_MAX {
            let there = self.has(total)?;
            there.then(|| word(self.input.rest(), total - 4, self.big_endian))
        } else if self.handle.is_some() {
            let end = begin.saturating_add(total as u64);
            let trailer = self.input.now_at::<4>(end.saturating_sub(4));
            let trailer = trailer.map_err(|error| self.said(&error))?;
            trailer.map(|bytes| word(&bytes, 0, self.big_endian))
        } else {
            // A stream cannot be gone back in.
            let passed = self.input.pass(total - 4);
            let there = passed.and_then(|passed| Ok(passed && self.input.need(4)?));
            let there = there.map_err(|error| self.said(&error))?;
            let trailer = there.then(|| word(self.input.rest(), 0, self.big_endian));
            if trailer.is_some_and(|trailer| trailer as usize == total) {
                self.lent = 4;
                return Ok(Passed::Yes);
            }
            trailer
        };
        match trailer {
            Some(trailer) if trailer as usize == total => {
                self.lent = total;
                match kind {
                    PADDING => self.was_led_to(begin + total as u64),
                    INTERFACE_STATISTICS if total <= READ_BYTES_MAX => self.take_statistics(total),
                    INTERFACE_STATISTICS => {}
                    _ => self.count_passed(kind),
                }
                Ok(Passed::Yes)
            }
            Some(_) => Ok(Passed::Damaged),
            None if self.ends_or_is_damaged(total)? => Ok(Passed::Again),
            None => Ok(Passed::End),
        }
    }

    #[inline]
    fn enhanced(&self, total: usize, interface: u32) -> Option<Found> {
        let (block, big) = (self.input.rest().get(..total)?, self.big_endian);
        let interface = interface as usize;
        let ticks = u64::from(word(block, 12, big)) << 32 | u64::from(word(block, 16, big));
        let captured = word(block, 20, big) as usize;
        let options = DATA + captured.checked_next_multiple_of(4)?;
        if options > total - 4 {
            return None;
        }
        let mut found = Found {
            time_ns: self.interfaces.get(interface)?.time_ns(ticks),
            interface,
            data: (DATA, DATA + captured),
            original_len: word(block, 24, big),
            lost_before: 0,
            flags: 0,
            words: Words::default(),
        };
        // Most have one, which is ours: the direction.
        match flags_alone(block, options, big) {
            Some(flags) => found.flags = flags,
            None => (found.lost_before, found.flags, found.words) = noted(block, options, big),
        }
        Some(found)
    }

    /// Counts what of a packet cannot be told.
    #[inline]
    fn look_closer(&mut self, found: Option<&Found>) {
        let Some(found) = found else {
            return;
        };
        self.doubts.options += u64::from(found.words.damaged);
        if is_extreme(found.time_ns) {
            let (block, big) = (self.input.rest(), self.big_endian);
            let ticks = u64::from(word(block, 12, big)) << 32 | u64::from(word(block, 16, big));
            let interface = self.interfaces.get(found.interface);
            self.doubts.times += u64::from(interface.is_some_and(|of| of.is_beyond(ticks)));
        }
    }

    /// A packet without a time, of the first interface, whose snap length says how much of it is there.
    fn simple(&self, total: usize) -> Option<Found> {
        const DATA: usize = 12;
        let snaplen = self.interfaces.first()?.snaplen_bytes;
        let original_len = word(self.input.rest(), 8, self.big_endian);
        let captured = match snaplen {
            0 => original_len,
            snaplen => original_len.min(snaplen),
        } as usize;
        (DATA + captured.checked_next_multiple_of(4)? + 4 == total).then_some(Found {
            time_ns: 0,
            interface: 0,
            data: (DATA, DATA + captured),
            original_len,
            lost_before: 0,
            flags: 0,
            words: Words::default(),
        })
    }

    pub(super) fn declare(&mut self, total: usize) {
        // One of lwnflog's says which it is: those between were lost with what was damaged.
        if self.was_damaged && self.segment_bytes.is_some() {
            let block = self.input.rest().get(..total).and_then(Block::read);
            if let Some(id) = block.and_then(|block| block.interface()) {
                self.make_up_interfaces(id as usize);
            }
        }
        let (block, big) = (self.input.rest(), self.big_endian);
        let mut interface = Interface {
            link: half(block, 8, big),
            snaplen_bytes: word(block, 12, big),
            ..Interface::default()
        };
        let text = |value: &[u8], most: usize| {
            let value = value.get(..most).unwrap_or(value);
            String::from_utf8_lossy(value).into_owned()
        };
        let mut options = Options::new(block, 16, total - 4, big);
        for (code, from, to) in &mut options {
            let value = block.get(from..to).unwrap_or(&[]);
            match (code, value) {
                (IF_NAME, name) => interface.name = text(name, NAME_BYTES_MAX),
                (IF_DESCRIPTION, said) => interface.description = text(said, DESCRIPTION_BYTES_MAX),
                (IF_TSRESOL, [resolution]) => interface.tick = Tick::of(*resolution),
                (IF_TSOFFSET, value) => {
                    if let Some(value) = value.first_chunk::<8>() {
                        interface.offset_secs = if big {
                            i64::from_be_bytes(*value)
                        } else {
                            i64::from_le_bytes(*value)
                        };
                    }
                }
                _ => {}
            }
        }
        self.doubts.options += u64::from(options.is_damaged());
        self.interface_bytes += interface.name.len() + interface.description.len();
        if self.interface_bytes > INTERFACES_BYTES_MAX {
            (interface.name, interface.description) = (String::new(), String::new());
        }
        self.interfaces.push(Arc::new(interface));
        self.places.push(self.input.position());
    }
}

/// What a whole block was.
enum Seen {
    Packet(Found),
    Other,
    Damage,
}

/// Whether a time may be another one that could not be told.
#[inline]
pub(super) fn is_extreme(time_ns: u64) -> bool {
    matches!(time_ns, 0 | u64::MAX)
}
