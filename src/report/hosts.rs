//! Addresses, what each sent and received, and a short number for each, by which other tables know it.

use std::collections::HashMap;

use super::Amount;
use super::bounded::largest;

/// Version, address.
pub(super) type Host = (u8, u128);
/// An address by its number: they are given one after the other.
pub(super) type Number = u32;

/// Addresses that are told apart. A table of so many takes 26 MB, and one more would double that: tables have
/// room for seven eighths of a power of two.
pub(super) const HOSTS_MAX: usize = 400_000;

#[derive(Debug, Default)]
pub(super) struct Hosts {
    numbers: HashMap<Host, Number>,
    /// By number.
    sent: Vec<Amount>,
    received: Vec<Amount>,
    sent_beyond: Amount,
    received_beyond: Amount,
    sources: usize,
}

impl Hosts {
    /// A packet from here. Says whether it is the first.
    pub(super) fn source(&mut self, host: Host, bytes: u64) -> (Option<Number>, bool) {
        let Some(number) = self.number(host) else {
            self.sent_beyond.add(bytes);
            return (None, false);
        };
        let sent = &mut self.sent[number as usize];
        sent.add(bytes);
        let is_new = sent.packets == 1;
        self.sources += usize::from(is_new);
        (Some(number), is_new)
    }

    /// A packet to here.
    pub(super) fn destination(&mut self, host: Host, bytes: u64) -> Option<Number> {
        let number = self.number(host);
        match number {
            Some(number) => self.received[number as usize].add(bytes),
            None => self.received_beyond.add(bytes),
        }
        number
    }

    /// `None` where there is no room.
    fn number(&mut self, host: Host) -> Option<Number> {
        if let Some(number) = self.numbers.get(&host) {
            return Some(*number);
        }
        if self.numbers.len() == HOSTS_MAX {
            return None;
        }
        let number = Number::try_from(self.numbers.len()).ok()?;
        self.numbers.insert(host, number);
        self.sent.push(Amount::default());
        self.received.push(Amount::default());
        Some(number)
    }

    /// How many have sent something.
    pub(super) fn sources(&self) -> usize {
        self.sources
    }

    /// Packets whose source found no room.
    pub(super) fn sent_beyond(&self) -> Amount {
        self.sent_beyond
    }

    /// Packets whose destination found no room.
    pub(super) fn received_beyond(&self) -> Amount {
        self.received_beyond
    }

    /// Those that sent the most; of equal ones the smaller address.
    pub(super) fn top_sources(&self, most: usize) -> Vec<(Host, Amount)> {
        self.top(&self.sent, most)
    }

    /// The same of those that received.
    pub(super) fn top_destinations(&self, most: usize) -> Vec<(Host, Amount)> {
        self.top(&self.received, most)
    }

    fn top(&self, amounts: &[Amount], most: usize) -> Vec<(Host, Amount)> {
        let all = self.numbers.iter().map(|(host, number)| {
            let amount = amounts.get(*number as usize).copied();
            (*host, amount.unwrap_or_default())
        });
        largest(all.filter(|(_, amount)| amount.packets != 0), most)
    }

    /// All addresses, by number.
    pub(super) fn all(&self) -> Vec<Host> {
        let mut all = vec![Host::default(); self.numbers.len()];
        for (host, number) in &self.numbers {
            if let Some(place) = all.get_mut(*number as usize) {
                *place = *host;
            }
        }
        all
    }
}
