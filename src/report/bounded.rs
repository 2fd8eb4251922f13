//! A table of amounts that grows no further than it may.

use std::collections::HashMap;
use std::hash::Hash;

use super::Amount;

/// Amounts by key. Once it is full, keys that are not in it are summed up.
#[derive(Debug)]
pub(super) struct Bounded<K> {
    amounts: HashMap<K, Amount>,
    keys_max: usize,
    /// What keys had that found no room.
    beyond: Amount,
}

impl<K: Hash + Eq + Ord + Copy> Bounded<K> {
    pub(super) fn new(keys_max: usize) -> Bounded<K> {
        Bounded {
            amounts: HashMap::new(),
            keys_max,
            beyond: Amount::default(),
        }
    }

    /// Adds a packet. True where its key is new, as far as there is room to know it.
    pub(super) fn add(&mut self, key: K, bytes: u64) -> bool {
        if let Some(amount) = self.amounts.get_mut(&key) {
            amount.add(bytes);
            return false;
        }
        if self.amounts.len() == self.keys_max {
            self.beyond.add(bytes);
            return false;
        }
        self.amounts.insert(key, Amount { packets: 1, bytes });
        true
    }

    pub(super) fn len(&self) -> usize {
        self.amounts.len()
    }

    pub(super) fn beyond(&self) -> Amount {
        self.beyond
    }

    /// The largest by packets; of equal ones the smaller key.
    pub(super) fn top(&self, most: usize) -> Vec<(K, Amount)> {
        let mut all: Vec<_> = self
            .amounts
            .iter()
            .map(|(key, amount)| (*key, *amount))
            .collect();
        all.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_summed_up() {
        let mut table = Bounded::new(2);
        assert!(table.add(1, 10));
        assert!(table.add(2, 10));
        assert!(!table.add(1, 5));
        assert!(!table.add(3, 7));
        let amount = |packets, bytes| Amount { packets, bytes };
        assert_eq!(table.beyond(), amount(1, 7));
        assert_eq!(table.top(9), [(1, amount(2, 15)), (2, amount(1, 10))]);
    }
}
