//! Packets lost before they came to the hook.

/// Packets that devices or the backlog of this network namespace dropped on the way in.
///
/// `/proc/net/softnet_stat` counts the backlog's drops for the whole host, but each of them is in
/// its device's figure as well, which is of this namespace alone: that one is read.
pub(super) fn drops_before_hook() -> u64 {
    let Ok(table) = std::fs::read_to_string("/proc/thread-self/net/dev") else {
        return 0;
    };
    table.lines().filter_map(received_drops).sum()
}

/// `/proc/net/dev`: behind the name bytes, packets, errs, drop, fifo of the receiving side.
fn received_drops(line: &str) -> Option<u64> {
    let (_, columns) = line.split_once(':')?;
    let mut columns = columns.split_whitespace();
    let drop: u64 = columns.nth(3)?.parse().ok()?;
    let fifo: u64 = columns.next()?.parse().ok()?;
    Some(drop + fifo)
}
