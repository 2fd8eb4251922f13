//! What a thread has made of packets that stand one behind the other.

use std::ops::Range;

use super::{Fault, Interface, Record};

/// What a thread makes of packets.
pub trait Make {
    /// Whether it matters of which packet what was made.
    const MARKS: bool = true;

    /// Appends what is made of one. `interface` is its number among [`Piece::interfaces`].
    fn make(&mut self, record: &Record<'_>, interface: u32, out: &mut Vec<u8>);
}

/// What was made of some packets that stand one behind the other.
#[derive(Debug, Default)]
pub struct Piece {
    /// All that was made.
    pub out: Vec<u8>,
    /// Of which packets, in order.
    pub marks: Vec<Mark>,
    /// What they came by.
    pub interfaces: Vec<Interface>,
    /// How those are numbered by who takes the piece, as far as he has looked.
    pub numbers: Vec<Option<u32>>,
    /// How many packets were taken.
    pub taken: u64,
    /// What could not be read of it.
    pub(super) faults: Vec<Fault>,
}

/// A packet of a piece.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Its time, nanoseconds since 1970.
    pub time_ns: u64,
    /// Where what was made of it ends.
    pub end: usize,
    /// What it came by, among the piece's.
    pub interface: u32,
}

impl Piece {
    /// Where what was made of some packets stands.
    pub fn bytes(&self, marks: Range<usize>) -> Range<usize> {
        let before = |mark: usize| mark.checked_sub(1).and_then(|last| self.marks.get(last));
        let end = |mark: usize| before(mark).map_or(0, |mark| mark.end);
        end(marks.start)..end(marks.end)
    }

    /// The same with nothing in it, and the room that it had.
    pub(super) fn emptied(mut self) -> Piece {
        self.out.clear();
        self.marks.clear();
        Piece {
            out: self.out,
            marks: self.marks,
            ..Piece::default()
        }
    }

    #[inline]
    pub(super) fn put(&mut self, record: &Record<'_>, make: &mut impl Make) {
        self.taken += 1;
        self.mark(record, make);
    }

    #[inline]
    fn mark<M: Make>(&mut self, record: &Record<'_>, make: &mut M) {
        if !M::MARKS {
            return;
        }
        let mut known = self.interfaces.iter();
        let interface = known.position(|known| known == record.interface);
        let interface = interface.unwrap_or_else(|| {
            self.interfaces.push(record.interface.clone());
            self.interfaces.len() - 1
        });
        let interface = u32::try_from(interface).unwrap_or(u32::MAX);
        make.make(record, interface, &mut self.out);
        self.marks.push(Mark {
            time_ns: record.time_ns,
            end: self.out.len(),
            interface,
        });
    }
}
