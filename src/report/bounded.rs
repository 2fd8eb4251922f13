//! Tables of amounts that grow no further than they may.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
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

    /// Adds a packet.
    pub(super) fn add(&mut self, key: K, bytes: u64) {
        if let Some(amount) = self.amounts.get_mut(&key) {
            amount.add(bytes);
        } else if self.amounts.len() == self.keys_max {
            self.beyond.add(bytes);
        } else {
            self.amounts.insert(key, Amount { packets: 1, bytes });
        }
    }

    pub(super) fn beyond(&self) -> Amount {
        self.beyond
    }

    /// The largest by packets; of equal ones the smaller key.
    pub(super) fn top(&self, most: usize) -> Vec<(K, Amount)> {
        let all = self.amounts.iter().map(|(key, amount)| (*key, *amount));
        largest(all, most)
    }
}

/// The largest amounts, and of equal ones the smaller keys, in this order.
pub(super) fn largest<K: Ord>(
    all: impl Iterator<Item = (K, Amount)>,
    most: usize,
) -> Vec<(K, Amount)> {
    let some = first(all.map(|(key, amount)| (Reverse(amount), key)), most);
    let some = some.into_iter().map(|(Reverse(amount), key)| (key, amount));
    some.collect()
}

/// The first of all, in order, without room for the others.
pub(super) fn first<T: Ord>(all: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    let mut some = BinaryHeap::with_capacity(most + 1);
    for item in all {
        some.push(item);
        if some.len() > most {
            some.pop();
        }
    }
    some.into_sorted_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_summed_up() {
        let mut table = Bounded::new(2);
        for (key, bytes) in [(1, 10), (2, 10), (1, 5), (3, 7)] {
            table.add(key, bytes);
        }
        let amount = |packets, bytes| Amount { packets, bytes };
        assert_eq!(table.beyond(), amount(1, 7));
        assert_eq!(table.top(9), [(1, amount(2, 15)), (2, amount(1, 10))]);
        assert_eq!(table.top(1), [(1, amount(2, 15))]);
    }

    #[test]
    fn the_first_are_in_order() {
        assert_eq!(first([5, 1, 4, 1, 3].into_iter(), 3), [1, 1, 3]);
        assert_eq!(first([2, 1].into_iter(), 3), [1, 2]);
    }
}
