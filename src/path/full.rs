//! One packet in full.

use std::fmt::Write as _;

use super::Packet;
use crate::numbers::grouped;

impl Packet {
    /// Whether its times are those at each hook, and not all that of its arrival.
    pub fn is_timed_at_hooks(&self) -> bool {
        let mut times = self.sights.iter().filter_map(|sight| sight.time_ns);
        let first = times.next();
        times.any(|time| Some(time) != first)
    }

    /// Whether it has a time at more than one place, and the same at all.
    pub(super) fn is_stamped_once(&self) -> bool {
        let times = self.sights.iter().filter(|sight| sight.time_ns.is_some());
        times.count() > 1 && !self.is_timed_at_hooks()
    }

    /// The packet behind its time, which `clock` is, and a line for each place.
    pub fn text(&self, clock: &str) -> String {
        let mut text = format!("{clock} {}\n", self.line);
        let timed = self.is_timed_at_hooks();
        let mut begin = None;
        for sight in &self.sights {
            let after = sight.time_ns.filter(|_| timed).map(|time| {
                let begin = *begin.get_or_insert(time);
                format!("+{} µs", micros(time.saturating_sub(begin)))
            });
            let _ = write!(
                text,
                "{:>14}  {:<12} {}",
                after.as_deref().unwrap_or("-"),
                sight.place.to_string(),
                sight.interface
            );
            if sight.mark != 0 {
                let _ = write!(text, ", mark 0x{:x}", sight.mark);
            }
            if let Some(renamed) = &sight.renamed {
                let _ = write!(text, ", as {renamed}");
            }
            text.push('\n');
        }
        text
    }
}

/// Nanoseconds as microseconds, with a tenth where they are few.
pub(super) fn micros(ns: u64) -> String {
    const NS: u64 = 1000;
    let tenths = (ns + NS / 20) / (NS / 10);
    if tenths < 100 && !tenths.is_multiple_of(10) {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        grouped((ns + NS / 2) / NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_where_they_matter() {
        let shown = [0, 49, 50, 2_000, 5_949, 5_960, 9_940, 9_960, 101_119].map(micros);
        assert_eq!(
            shown,
            ["0", "0", "0.1", "2", "5.9", "6", "9.9", "10", "101"]
        );
    }
}
