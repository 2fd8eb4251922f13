//! Packets lost before they came to the hook.

use std::collections::HashMap;

use crate::source::links::{self, Change, Link};

/// What the interfaces of this network namespace drop on the way in, the backlog's drops among it.
///
/// `/proc/net/softnet_stat` counts the backlog's drops for the whole host, but each of them is in
/// its interface's figure as well, which is of this namespace alone: that one is read. By index,
/// and from first sight: an interface that is renamed is the same one, and what one had dropped
/// before it came here is not ours.
#[derive(Debug, Default)]
pub struct Drops {
    interfaces: HashMap<u32, Seen>,
    /// Of interfaces that have gone.
    gone: u64,
}

/// One interface's figure, when it was seen first and last.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: u64,
    last: u64,
}

impl Seen {
    fn dropped(self) -> u64 {
        self.last - self.first
    }
}

impl Drops {
    /// Looks for the first time.
    pub fn begin() -> Drops {
        let mut drops = Drops::default();
        drops.look();
        drops
    }

    /// Looks again.
    pub fn look(&mut self) {
        if let Ok(links) = links::all() {
            self.take(&links);
        }
    }

    /// Takes note of interfaces that have come or gone since.
    pub fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::There(link) => {
                    let seen = Seen {
                        first: link.dropped,
                        last: link.dropped,
                    };
                    self.interfaces.entry(link.index).or_insert(seen);
                }
                Change::Gone(link) => {
                    if let Some(seen) = self.interfaces.remove(&link.index) {
                        let last = link.dropped.max(seen.last);
                        self.gone += Seen { last, ..seen }.dropped();
                    }
                }
            }
        }
    }

    /// Packets dropped since the beginning.
    pub fn since(&mut self) -> u64 {
        self.look();
        let interfaces = self.interfaces.values().map(|seen| seen.dropped());
        self.gone + interfaces.sum::<u64>()
    }

    fn take(&mut self, links: &[Link]) {
        let mut now = HashMap::new();
        for link in links {
            let before = self.interfaces.remove(&link.index);
            let seen = match before {
                Some(before) if link.dropped >= before.last => Seen {
                    last: link.dropped,
                    ..before
                },
                // New, or another one that has got the index.
                other => {
                    self.gone += other.map_or(0, Seen::dropped);
                    Seen {
                        first: link.dropped,
                        last: link.dropped,
                    }
                }
            };
            now.insert(link.index, seen);
        }
        self.gone += self
            .interfaces
            .values()
            .map(|seen| seen.dropped())
            .sum::<u64>();
        self.interfaces = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_counts_from_first_sight_by_index() {
        let link = |index, name: &str, dropped| Link {
            index,
            name: name.to_owned(),
            dropped,
            ..Link::default()
        };
        let mut drops = Drops::default();
        drops.take(&[link(2, "a", 300), link(3, "b", 6)]);
        // Renamed; and one comes with a history.
        drops.take(&[link(2, "wan", 310), link(3, "b", 6), link(9, "moved", 5000)]);
        assert_eq!(
            drops.gone
                + drops
                    .interfaces
                    .values()
                    .map(|seen| seen.dropped())
                    .sum::<u64>(),
            10
        );
        // One goes and keeps what it had; another has the index of one that went unseen.
        drops.take(&[link(3, "other", 2), link(9, "moved", 5007)]);
        drops.take(&[link(3, "other", 5), link(9, "moved", 5007)]);
        assert_eq!(drops.gone, 10);
        assert_eq!(
            drops
                .interfaces
                .values()
                .map(|seen| seen.dropped())
                .sum::<u64>(),
            3 + 7
        );
    }
}
