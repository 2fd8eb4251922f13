//! What rules have counted and no number shows, as far as it is known while the capture runs.
//!
//! A packet that was counted may wait: in the kernel's batch, in the socket, in the batch that is
//! being recorded. So a count is set against the numbers only when whatever was counted by then has
//! come through: the flush time is over, the socket was seen empty, and what the capturing thread had
//! in hand then is in the account. Packets that came meanwhile have numbers, too, and hide as many
//! losses: what is said is the least there is, and under steady traffic it comes late. It never
//! shrinks.

use std::time::{Duration, Instant};

/// A batch in hand, and what was kept while the kernel was asked for something.
const PUBLISHED_MIN: u64 = 2;

/// A look at one source, in this order.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// What the rules have counted at the least.
    pub counted: Option<u64>,
    /// Nothing waits in the socket.
    pub empty: bool,
    /// The socket has dropped datagrams that no gap shows yet.
    pub dropped: bool,
    /// How often the account has been published.
    pub published: u64,
    /// Sequence numbers used up, by the account.
    pub numbered: u64,
}

/// A count that is waited for.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    counted: u64,
    /// How often the account had been published when the socket was seen empty.
    empty: Option<u64>,
}

/// Follows one source.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unseen {
    waiting: Option<Waiting>,
    known: Option<u64>,
    behind_last: u64,
    /// The least of the last look, which the next one has to confirm.
    least: u64,
}

impl Unseen {
    /// Takes a look. `settled`: how long the kernel holds a packet back at the most.
    pub fn look(&mut self, look: &Look, settled: Duration) {
        let Some(counted) = look.counted else {
            self.waiting = None;
            return;
        };
        if self.behind_last != 0 && !look.dropped {
            self.behind_last = 0; // the gap shows them now
        }
        let fresh = Waiting {
            since: look.at,
            counted,
            empty: None,
        };
        let mut waiting = self.waiting.unwrap_or(fresh);
        match waiting.empty {
            None if look.at.duration_since(waiting.since) >= settled && look.empty => {
                waiting.empty = Some(look.published);
            }
            Some(before) if look.published >= before + PUBLISHED_MIN => {
                let lost = waiting.counted.saturating_sub(look.numbered);
                if look.dropped {
                    // The next number will say how many the socket had no room for.
                    self.behind_last = lost.saturating_sub(self.known.unwrap_or(0));
                } else {
                    self.known = Some(self.known.map_or(lost, |known| known.max(lost)));
                }
                waiting = fresh;
            }
            _ => {}
        }
        self.waiting = Some(waiting);
    }

    /// Takes note of what the source's own numbers say: of what was counted, so many had no number
    /// when they were read, behind the count. The next such note has to confirm it, because a packet
    /// may be between the two.
    pub fn note(&mut self, lost: u64) {
        let confirmed = lost.min(std::mem::replace(&mut self.least, lost));
        self.known = Some(self.known.map_or(confirmed, |known| known.max(confirmed)));
    }

    /// Packets that have no number and never will; `None`: not known yet.
    pub fn known(&self) -> Option<u64> {
        self.known
    }

    /// Packets that the socket had no room for behind the last one that came.
    pub fn behind_last(&self) -> u64 {
        self.behind_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED: Duration = Duration::from_millis(200);

    struct Looks(Unseen, Instant);

    impl Looks {
        fn new() -> Looks {
            Looks(Unseen::default(), Instant::now())
        }

        /// A look each second.
        fn look(
            &mut self,
            counted: u64,
            empty: bool,
            published: u64,
            numbered: u64,
        ) -> Option<u64> {
            self.look_at(Some(counted), empty, false, published, numbered)
        }

        fn look_at(
            &mut self,
            counted: Option<u64>,
            empty: bool,
            dropped: bool,
            published: u64,
            numbered: u64,
        ) -> Option<u64> {
            self.1 += Duration::from_secs(1);
            let look = Look {
                at: self.1,
                counted,
                empty,
                dropped,
                published,
                numbered,
            };
            self.0.look(&look, SETTLED);
            self.0.known()
        }
    }

    #[test]
    fn a_loss_is_known_once_all_that_was_counted_has_come_through() {
        let mut looks = Looks::new();
        assert_eq!(looks.look(1000, false, 5, 400), None);
        assert_eq!(
            looks.look(1000, false, 6, 500),
            None,
            "some waits in the socket"
        );
        assert_eq!(looks.look(1000, true, 7, 800), None, "some is in hand");
        assert_eq!(looks.look(1000, true, 8, 990), None, "or was kept");
        assert_eq!(looks.look(1000, true, 9, 990), Some(10));
        // More has been lost since, and what comes hides some of it: never more than there is.
        for round in 0..3 {
            looks.look(2000 + round, true, 20 + 4 * round, 1500);
        }
        assert_eq!(looks.look(2100, true, 40, 1985), Some(16));
        // Nothing makes it less.
        for round in 0..9 {
            let known = looks.look(3000 + round, true, 50 + 4 * round, 2990 + round);
            assert!(known >= Some(16));
        }
    }

    #[test]
    fn without_a_loss_it_is_known_that_there_is_none() {
        let mut looks = Looks::new();
        for published in [1, 2, 3] {
            assert_eq!(looks.look(0, true, published, 0), None);
        }
        assert_eq!(looks.look(0, true, 4, 0), Some(0));
        assert_eq!(looks.look_at(None, true, false, 5, 0), Some(0));
    }

    #[test]
    fn what_the_socket_dropped_last_is_told_apart_until_the_gap_shows_it() {
        let mut looks = Looks::new();
        for published in [1, 2, 3, 4] {
            looks.look_at(Some(500), true, true, published, 300);
        }
        assert_eq!((looks.0.known(), looks.0.behind_last()), (None, 200));
        looks.look_at(Some(501), true, false, 5, 501);
        assert_eq!(looks.0.behind_last(), 0);
    }

    #[test]
    fn a_queue_s_own_numbers_are_taken_when_they_are_confirmed() {
        let mut unseen = Unseen::default();
        unseen.note(7);
        assert_eq!(unseen.known(), Some(0));
        unseen.note(6);
        assert_eq!(unseen.known(), Some(6), "one was between the two");
        unseen.note(2);
        assert_eq!(unseen.known(), Some(6));
    }
}
