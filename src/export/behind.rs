//! What a pcapng file says in sum behind its packets, in its statistics blocks (section 4.6 of the draft).

use std::collections::BTreeMap;
use std::path::Path;

use crate::format::pcapng::block::{
    BLOCK_MIN_BYTES, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, SECTION_HEADER,
};
use crate::read::input::Input;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// No block of these types that is believed is longer.
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Declarations that are remembered are no longer together.
const NAMES_BYTES_MAX: usize = 16 << 20;
// Options.
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const ISB_OSDROP: u16 = 7;

/// Of each interface, by its description and name, how many were lost; nothing of what is no pcapng file. What cannot be read is told by who
/// reads its packets.
pub(super) fn sums(path: &Path) -> BTreeMap<(String, String), u64> {
    let mut sums = Sums::default();
    // A pipe is read once.
    if path.is_file()
        && let Ok(mut input) = Input::open(path)
    {
        while sums.take(&mut input).is_some() {}
        sums.end_section();
    }
    sums.all
}

#[derive(Default)]
struct Sums {
    all: BTreeMap<(String, String), u64>,
    /// Those of the section, by their numbers there.
    section: Vec<((String, String), u64)>,
    names_bytes: usize,
    big_endian: bool,
    begun: bool,
}

impl Sums {
    /// Takes a block. `None` at the end.
    fn take(&mut self, input: &mut Input) -> Option<()> {
        input.need(12).ok()?.then_some(())?;
        if word(input.rest(), 0, false) == SECTION_HEADER {
            self.end_section();
            self.big_endian = word(input.rest(), 8, false) != BYTE_ORDER_MAGIC;
            self.begun = true;
        }
        let big = self.big_endian;
        let kind = word(input.rest(), 0, big);
        let total = word(input.rest(), 4, big) as usize;
        let fits = self.begun && total >= BLOCK_MIN_BYTES && total.is_multiple_of(4);
        fits.then_some(())?;
        if [INTERFACE_DESCRIPTION, INTERFACE_STATISTICS].contains(&kind) {
            (total <= BLOCK_BYTES_MAX && input.need(total).ok()?).then_some(())?;
            let block = input.rest().get(..total)?;
            if kind == INTERFACE_DESCRIPTION {
                self.names_bytes += total;
                (self.names_bytes <= NAMES_BYTES_MAX).then_some(())?;
                self.section.push((declared(block, big), 0));
            } else if let Some((_, sum)) = self.section.get_mut(word(block, 8, big) as usize) {
                // What stands there later counts from the beginning, too.
                *sum = lost(block, big).unwrap_or(*sum);
            }
        }
        input.pass(total).ok().map(drop)
    }

    fn end_section(&mut self) {
        for (interface, lost) in self.section.drain(..).filter(|(_, lost)| *lost != 0) {
            let sum = self.all.entry(interface).or_default();
            *sum = sum.saturating_add(lost);
        }
    }
}

/// An interface's description and name.
fn declared(block: &[u8], big_endian: bool) -> (String, String) {
    let mut declared = (String::new(), String::new());
    for (code, value) in options(block, 16, big_endian) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match code {
            IF_NAME => declared.1 = text(),
            IF_DESCRIPTION => declared.0 = text(),
            _ => {}
        }
    }
    declared
}

fn lost(block: &[u8], big_endian: bool) -> Option<u64> {
    let mut options = options(block, 20, big_endian);
    let (_, value) = options.find(|(code, _)| *code == ISB_OSDROP)?;
    let (one, two) = (word(value, 0, big_endian), word(value, 4, big_endian));
    let (high, low) = if big_endian { (one, two) } else { (two, one) };
    (value.len() == 8).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Options of a block, from here on.
fn options(
    block: &[u8],
    mut at: usize,
    big_endian: bool,
) -> impl Iterator<Item = (u16, &[u8])> + '_ {
    std::iter::from_fn(move || {
        let head = word(block, at, big_endian);
        let (one, two) = ((head >> 16) as u16, (head & 0xffff) as u16);
        let (code, len) = if big_endian { (one, two) } else { (two, one) };
        let begin = at + 4;
        at = begin + usize::from(len).next_multiple_of(4);
        let value = block.get(begin..begin + usize::from(len))?;
        (code != 0 && at + 4 <= block.len()).then_some((code, value))
    })
}

/// Four bytes as a number; 0 where they are not there.
fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        Some(word) if big_endian => u32::from_be_bytes(*word),
        Some(word) => u32::from_le_bytes(*word),
        None => 0,
    }
}
