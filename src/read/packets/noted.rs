//! What an Enhanced Packet Block says in its options.

use crate::read::options::{Options, half, word};

const COMMENT: u16 = 1;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;

/// Where comments stand in a block: the packet's own, and a note on the capture.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words {
    pub(super) comment: (usize, usize),
    pub(super) note: (usize, usize),
    /// There are others of which nothing is known here.
    pub(super) others: bool,
    /// Options are not what they say to be: there may have been more.
    pub(super) damaged: bool,
}

/// What an Enhanced Packet Block says in its options, which begin at `options`: packets that were lost
/// before it, its flags, and where its comments stand. lwnflog's notes are comments of their own, which it alone begins
/// with its name.
pub(super) fn noted(block: &[u8], options: usize, big: bool) -> (u64, u32, Words) {
    const NOTE: &[u8] = b"lwnflog ";
    let (mut lost_before, mut flags, mut words) = (0, 0, Words::default());
    let mut all = Options::new(block, options, block.len() - 4, big);
    for (code, from, to) in &mut all {
        match code {
            EPB_FLAGS if to - from == 4 => flags = word(block, from, big),
            EPB_DROPCOUNT if to - from == 8 => {
                let (one, two) = (word(block, from, big), word(block, from + 4, big));
                let (high, low) = if big { (one, two) } else { (two, one) };
                lost_before = u64::from(high) << 32 | u64::from(low);
            }
            EPB_FLAGS | EPB_DROPCOUNT => words.damaged = true,
            COMMENT if std::str::from_utf8(&block[from..to]).is_err() => words.others = true,
            COMMENT if block[from..to].starts_with(NOTE) => words.note = (from, to),
            COMMENT if words.comment == (0, 0) => words.comment = (from, to),
            _ => words.others = true,
        }
    }
    words.damaged |= all.is_damaged();
    (lost_before, flags, words)
}

/// Flags of a block whose only option they are; 0 where it has none. `None` where it has others.
#[inline]
pub(super) fn flags_alone(block: &[u8], options: usize, big: bool) -> Option<u32> {
    let rest = block.get(options..block.len() - 4)?;
    let ended = |at: usize| rest.len() == at || rest.len() == at + 4 && word(rest, at, big) == 0;
    if ended(0) {
        return Some(0);
    }
    let flags = half(rest, 0, big) == EPB_FLAGS && half(rest, 2, big) == 4 && ended(8);
    flags.then(|| word(rest, 4, big))
}
