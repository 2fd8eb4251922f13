//! Which processors get a ring, and what else the host says of itself.

use std::fs;
use std::path::Path;

use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

use super::layout::NO_SLOT;
use super::program;

/// Processors and their rings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Processors {
    /// By ring: the processor.
    rings: Vec<u32>,
    /// By processor: its ring. Empty where the two are the same.
    table: Vec<u32>,
}

impl Processors {
    /// Those that are online.
    pub(super) fn online() -> Processors {
        let online = list("/sys/devices/system/cpu/online");
        if !online.is_empty() {
            return Processors::of(online);
        }
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Processors::of((0..u32::try_from(count).unwrap_or(1)).collect())
    }

    /// These.
    pub(super) fn of(mut processors: Vec<u32>) -> Processors {
        processors.sort_unstable();
        processors.dedup();
        let direct = (0..).zip(&processors).all(|(ring, of)| ring == *of);
        let mut table = Vec::new();
        if !direct {
            let last = processors.last().map_or(0, |last| *last as usize);
            table = vec![NO_SLOT; last + 1];
            for (ring, processor) in (0..).zip(&processors) {
                table[*processor as usize] = ring;
            }
        }
        Processors {
            rings: processors,
            table,
        }
    }

    pub(super) fn rings(&self) -> &[u32] {
        &self.rings
    }

    pub(super) fn table(&self) -> &[u32] {
        &self.table
    }

    /// How the program finds the ring.
    pub(super) fn way(&self) -> program::Processors {
        match u32::try_from(self.table.len()) {
            Ok(0) | Err(_) => program::Processors::Direct,
            Ok(count) => program::Processors::Table(count),
        }
    }
}

/// A list of the kernel's: `0-3,8`.
fn list(path: &str) -> Vec<u32> {
    parse(&fs::read_to_string(path).unwrap_or_default())
}

fn parse(text: &str) -> Vec<u32> {
    const PROCESSORS_MAX: u32 = 8192;
    let mut found = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            continue;
        };
        found.extend(first..=last.min(PROCESSORS_MAX));
    }
    found
}

/// Whether this kernel is PREEMPT_RT.
pub(super) fn is_realtime() -> bool {
    let said = fs::read_to_string(Path::new("/sys/kernel/realtime")).unwrap_or_default();
    let version = rustix::system::uname();
    said.trim() == "1" || version.version().to_string_lossy().contains("PREEMPT_RT")
}

/// What the kernel's atomic time is ahead of the time of day: whole seconds, 0 where nobody has
/// told it; `None` where the clocks cannot be compared just now.
pub(super) fn tai_ahead_ns() -> Option<u64> {
    const TRIES: usize = 8;
    let nanos = |time: Timespec| time.tv_sec * 1_000_000_000 + time.tv_nsec;
    for _ in 0..TRIES {
        let before = nanos(clock_gettime(ClockId::Realtime));
        let tai = clock_gettime_dynamic(DynamicClockId::Tai).ok()?;
        let after = nanos(clock_gettime(ClockId::Realtime));
        // Else the clock was set between the two, or this thread was stopped.
        if (0..100_000_000).contains(&(after - before)) {
            let ahead = (nanos(tai) - before + 500_000_000) / 1_000_000_000;
            return Some(u64::try_from(ahead).unwrap_or(0) * 1_000_000_000);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(parse("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse("0\n"), [0]);
        assert!(parse("").is_empty());
        assert!(parse("a-b").is_empty());
    }

    #[test]
    fn a_table_is_needed_where_there_are_holes() {
        let all = Processors::of(vec![1, 0, 2]);
        assert_eq!(
            (all.rings().len(), all.way()),
            (3, program::Processors::Direct)
        );
        let holes = Processors::of(vec![0, 2]);
        assert_eq!(holes.table(), [0, NO_SLOT, 1]);
        assert_eq!(holes.way(), program::Processors::Table(3));
    }

    #[test]
    fn the_atomic_time_is_ahead_by_whole_seconds() {
        let ahead = tai_ahead_ns().unwrap();
        assert_eq!(ahead % 1_000_000_000, 0);
        assert!(ahead < 60_000_000_000);
    }
}
