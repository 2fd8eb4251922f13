//! Reads all there is, and says at a terminal how far it is.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::numbers::grouped;
use crate::read::Record;
use crate::read::chain::Merged;

/// Hands over each packet, as long as `take` wants more.
///
/// # Errors
/// What the system says, damage, and what `take` says.
pub(super) fn each(
    merged: &mut Merged,
    mut take: impl FnMut(&Record<'_>) -> Result<bool>,
) -> Result<()> {
    let mut progress = Progress::begin(merged.bytes_left());
    let mut read = 0_u64;
    while merged.advance() {
        let Some(record) = merged.record() else {
            break;
        };
        if !take(&record)? {
            break;
        }
        read += 1;
        if read.is_multiple_of(1 << 14) {
            progress.show(read, || merged.bytes_left());
        }
    }
    progress.end();
    super::tell_faults(merged)
}

/// How far it is, for who waits at a terminal.
struct Progress {
    next: Instant,
    terminal: bool,
    bytes: u64,
    shown: bool,
}

impl Progress {
    const PAUSE: Duration = Duration::from_millis(250);

    fn begin(bytes: u64) -> Progress {
        Progress {
            next: Instant::now() + 2 * Progress::PAUSE,
            terminal: io::stderr().is_terminal(),
            bytes,
            shown: false,
        }
    }

    fn show(&mut self, packets: u64, bytes_left: impl FnOnce() -> u64) {
        if !self.terminal || Instant::now() < self.next {
            return;
        }
        // A live file grows meanwhile.
        let left = bytes_left().min(self.bytes);
        let line = bar(self.bytes - left, self.bytes);
        let _ = write!(io::stderr(), "\r{line} {} packets\x1b[K", grouped(packets));
        (self.shown, self.next) = (true, Instant::now() + Progress::PAUSE);
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A bar of so much of all, with what that is in per cent; nothing where all is not known.
fn bar(done: u64, all: u64) -> String {
    const WIDTH: usize = 30;
    let percent = |part: u64| u128::from(part) * 100 / u128::from(all.max(1));
    if all == 0 {
        return String::new();
    }
    let percent = usize::try_from(percent(done)).unwrap_or(100).min(100);
    let filled = percent * WIDTH / 100;
    format!(
        "[{}{}] {percent:3} %",
        "#".repeat(filled),
        " ".repeat(WIDTH - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_was_read() {
        assert_eq!(bar(0, 0), "");
        assert_eq!(
            bar(1, 2),
            format!("[{}{}]  50 %", "#".repeat(15), " ".repeat(15))
        );
        assert_eq!(bar(9, 9), format!("[{}] 100 %", "#".repeat(30)));
    }
}
