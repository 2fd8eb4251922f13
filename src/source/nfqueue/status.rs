//! What the kernel tells of a queue in `/proc/net/netfilter/nfnetlink_queue`.

use std::sync::{Arc, Mutex};

/// What the kernel counted of a queue (`/proc/net/netfilter/nfnetlink_queue`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Packets that wait for a verdict.
    pub waiting: u32,
    /// Packets dropped because the queue was full: with fail-open none.
    pub queue_dropped: u32,
    /// Packets dropped because the socket was full: with fail-open none.
    pub user_dropped: u32,
    /// The id given last.
    pub last_id: u32,
}

impl QueueStatus {
    /// Reads it, in the calling thread's network namespace; `None` if the queue is not bound.
    pub fn read(queue: u16) -> Option<QueueStatus> {
        let table =
            std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue").ok()?;
        table.lines().find_map(|line| Self::parse(line, queue))
    }

    /// Packets that the queue has given a number, given how many of them have arrived or are known to
    /// be missing: the kernel's number has 32 bits.
    pub fn numbered(&self, arrived: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half is what is meant"
        )]
        let ahead = self.last_id.wrapping_sub(arrived as u32);
        if ahead > u32::MAX / 2 {
            arrived
        } else {
            arrived + u64::from(ahead)
        }
    }

    /// Packets that the kernel says it dropped.
    pub fn refused(&self) -> u64 {
        u64::from(self.queue_dropped) + u64::from(self.user_dropped)
    }

    /// Queue, port id, waiting, copy mode, copy range, queue dropped, user dropped, id, 1.
    fn parse(line: &str, queue: u16) -> Option<QueueStatus> {
        let mut columns = line
            .split_whitespace()
            .map(|column| column.parse::<u32>().ok());
        let mut next = || columns.next().flatten();
        if next()? != u32::from(queue) {
            return None;
        }
        let (_port, waiting, _mode, _range) = (next()?, next()?, next()?, next()?);
        Some(QueueStatus {
            waiting,
            queue_dropped: next()?,
            user_dropped: next()?,
            last_id: next()?,
        })
    }
}

/// Where a queue leaves what the kernel counted when it is released: it cannot be read afterwards.
pub type LastStatus = Arc<Mutex<Option<QueueStatus>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_table() {
        let line = "    5  31620    12 2 65531    77     3  1000012  1";
        let status = QueueStatus {
            waiting: 12,
            queue_dropped: 77,
            user_dropped: 3,
            last_id: 1_000_012,
        };
        assert_eq!(QueueStatus::parse(line, 5), Some(status));
        assert_eq!(QueueStatus::parse(line, 6), None);
        assert_eq!(QueueStatus::parse("5 1 2", 5), None);
    }
}
