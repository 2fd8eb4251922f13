//! What was lost behind the last packet of an interface: what a statistics block (section 4.6 of the draft)
//! says was lost, less what its packets say.

use std::sync::Arc;

use super::{Options, Packets, word};
use crate::read::Interface;

const ISB_OSDROP: u16 = 7;
const BLOCK_BYTES_MIN: usize = 24;

/// Packets that were lost behind the last one of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// What they would have come by.
    pub interface: Arc<Interface>,
    /// When the statistics are of, nanoseconds since 1970.
    pub time_ns: u64,
    /// How many.
    pub lost: u64,
}

/// Of an interface.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses {
    /// Lost before its packets.
    counted: u64,
    /// Lost in all, by its last statistics block, and when that is of.
    said: Option<(u64, u64)>,
}

impl Packets {
    /// Counts what was lost before a packet.
    pub(super) fn count_lost(&mut self, interface: usize, lost: u64) {
        if let Some(losses) = self.losses_of(interface) {
            losses.counted = losses.counted.saturating_add(lost);
        }
    }

    /// Takes a statistics block.
    pub(super) fn take_statistics(&mut self, total: usize) {
        let (block, big) = (self.input.rest(), self.big_endian);
        if total < BLOCK_BYTES_MIN {
            return;
        }
        let id = word(block, 8, big) as usize;
        let ticks = u64::from(word(block, 12, big)) << 32 | u64::from(word(block, 16, big));
        let mut options = Options::new(block, 20, total - 4, big);
        let lost = options.by_ref().find_map(|(code, from, to)| {
            let halves = (word(block, from, big), word(block, from + 4, big));
            let (high, low) = if big { halves } else { (halves.1, halves.0) };
            (code == ISB_OSDROP && to - from == 8).then_some(u64::from(high) << 32 | u64::from(low))
        });
        options.by_ref().for_each(drop);
        self.doubts.options += u64::from(options.is_damaged());
        self.passed.losses += u64::from(lost.is_some_and(|lost| lost != 0));
        let time_ns = self.interfaces.get(id).map(|of| of.time_ns(ticks));
        if let (Some(lost), Some(time_ns)) = (lost, time_ns)
            && let Some(losses) = self.losses_of(id)
        {
            losses.said = Some((lost, time_ns));
        }
    }

    fn losses_of(&mut self, interface: usize) -> Option<&mut Losses> {
        if interface >= self.interfaces.len() || self.skipped {
            return None;
        }
        let needed = self.losses.len().max(interface + 1);
        self.losses.resize(needed, Losses::default());
        self.losses.get_mut(interface)
    }

    /// Ends what was counted of the interfaces of a section.
    pub(super) fn end_losses(&mut self) {
        for (interface, losses) in self.interfaces.iter().zip(self.losses.drain(..)) {
            let Some((said, time_ns)) = losses.said else {
                continue;
            };
            if said > losses.counted {
                self.tails.push(Tail {
                    interface: Arc::clone(interface),
                    time_ns,
                    lost: said - losses.counted,
                });
            }
        }
    }

    /// What was lost behind the last packets, once all of the file has been read from its start.
    pub(in crate::read) fn take_tails(&mut self) -> Vec<Tail> {
        self.end_losses();
        std::mem::take(&mut self.tails)
    }
}
