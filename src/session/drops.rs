//! Packets lost before they came to the hook.

use std::collections::HashMap;
use std::fs;

/// What the devices of this network namespace had dropped on the way in when it was looked at, the backlog's drops
/// among it.
///
/// `/proc/net/softnet_stat` counts the backlog's drops for the whole host, but each of them is in
/// its device's figure as well, which is of this namespace alone: that one is read.
pub(super) struct Drops(HashMap<String, u64>);

impl Drops {
    pub(super) fn now() -> Drops {
        let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        Drops::parse(&table)
    }

    fn parse(table: &str) -> Drops {
        Drops(table.lines().filter_map(received_drops).collect())
    }

    /// Packets dropped since. A device that has gone took its figure with it.
    pub(super) fn since(&self) -> u64 {
        self.until(&Drops::now())
    }

    fn until(&self, now: &Drops) -> u64 {
        let before = |device| self.0.get(device).copied().unwrap_or(0);
        let devices = now.0.iter();
        devices
            .map(|(device, drops)| drops.saturating_sub(before(device)))
            .sum()
    }
}

/// `/proc/net/dev`: behind the name bytes, packets, errs, drop, fifo of the receiving side.
fn received_drops(line: &str) -> Option<(String, u64)> {
    let (device, columns) = line.split_once(':')?;
    let mut columns = columns.split_whitespace();
    let drop: u64 = columns.nth(3)?.parse().ok()?;
    let fifo: u64 = columns.next()?.parse().ok()?;
    Some((device.trim().to_owned(), drop + fifo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_goes_takes_nothing_from_the_others() {
        let before = Drops::parse(
            "Inter-|   Receive\n face |bytes    packets errs drop fifo\n\
             a: 9 9 0 300 0 0 0 0 0 0\n  b: 9 9 0 5 1 0 0 0 0 0\n",
        );
        let now = Drops::parse("  b: 9 9 0 100 7 0\n  new: 9 9 0 2 0 0\n");
        assert_eq!(before.until(&now), 101 + 2);
    }
}
