//! Keeping the live file's pages ready ahead of the capturing thread.
//!
//! A page that was made writable does not stay so. The kernel writes dirty pages to disk when they
//! are old (`vm.dirty_expire_centisecs`, 30 s) or many, and has the next store to each of them
//! fault, so that it knows when the page is dirty again. A file that fills slowly would fault all
//! the way, and such a fault may wait for the file system's journal. So while the file fills, the
//! swapper makes ready again what comes next, as far as the pace of the packets asks for: pages
//! that are not needed soon are left clean, and are not written to disk for nothing.

use std::ops::Range;
use std::time::Duration;

/// How often the swapper looks how far the capturing thread is.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// So many ticks ahead, at the pace of the last one: packets come in bursts.
const TICKS_AHEAD: usize = 4;

/// Where the capturing thread was at the last look.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    position: usize,
}

impl Ahead {
    /// What is to be made ready now that the capturing thread is at `position`; nothing if it has
    /// written nothing since the last look.
    pub(super) fn range(&mut self, position: usize, capacity: usize) -> Option<Range<usize>> {
        let before = std::mem::replace(&mut self.position, position);
        // A position that went back is one in another file.
        let advanced = position.checked_sub(before).unwrap_or(position);
        let end = position.saturating_add(advanced.saturating_mul(TICKS_AHEAD));
        let range = position..end.min(capacity);
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_far_as_the_pace_asks_for() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.range(0, 1000), None);
        assert_eq!(ahead.range(100, 1000), Some(100..500));
        assert_eq!(ahead.range(100, 1000), None, "nobody writes");
        assert_eq!(ahead.range(110, 1000), Some(110..150));
        assert_eq!(ahead.range(900, 1000), Some(900..1000));
        assert_eq!(ahead.range(1000, 1000), None, "it is full");
        assert_eq!(ahead.range(50, 1000), Some(50..250), "the next file");
    }
}
