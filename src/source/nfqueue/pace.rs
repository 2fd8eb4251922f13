//! When it pays to let packets gather before they are received.
//!
//! A queue hands over each packet by itself, so a reader that is fast enough gets them one by one,
//! at two system calls each, and the sender of each has a sleeping thread to wake. Under heavy
//! traffic a short rest before each call makes the calls few and large. Light traffic is never kept
//! waiting.

use std::time::{Duration, Instant};

/// So many packets within [`HEAVY_WITHIN`] are heavy traffic: 64,000 a second.
const HEAVY_PACKETS: usize = 64;
const HEAVY_WITHIN: Duration = Duration::from_millis(1);
/// A rest that brought fewer packets was not worth it: traffic is light again.
const WORTH_PACKETS: usize = 4;
/// How long a rest takes. The kernel adds its timer slack, 50 microseconds.
const REST: Duration = Duration::from_micros(50);

/// Follows how fast packets come.
#[derive(Debug)]
pub(super) struct Pace {
    heavy: bool,
    rested: bool,
    counted: usize,
    since: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace {
            heavy: false,
            rested: false,
            counted: 0,
            since: Instant::now(),
        }
    }

    /// Rests, if traffic is heavy.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.heavy {
            std::thread::sleep(REST);
            self.rested = true;
        }
    }

    /// Notes how many packets a receive call brought.
    #[inline]
    pub(super) fn note(&mut self, packets: usize) {
        self.note_at(packets, Instant::now);
    }

    #[inline]
    fn note_at(&mut self, packets: usize, now: impl FnOnce() -> Instant) {
        if std::mem::take(&mut self.rested) && packets < WORTH_PACKETS {
            self.heavy = false;
        }
        self.counted += packets;
        if self.counted >= HEAVY_PACKETS {
            let now = now();
            self.heavy = now.duration_since(self.since) < HEAVY_WITHIN;
            (self.counted, self.since) = (0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_traffic_rests_until_a_rest_brings_little() {
        let mut pace = Pace::new();
        let start = pace.since;
        pace.note_at(1, || start);
        assert!(!pace.heavy);
        pace.note_at(HEAVY_PACKETS, || start);
        assert!(pace.heavy);
        pace.rest();
        pace.note_at(WORTH_PACKETS, || start);
        assert!(pace.heavy);
        pace.rest();
        pace.note_at(1, || start);
        assert!(!pace.heavy);
    }

    #[test]
    fn light_traffic_is_not_heavy() {
        let mut pace = Pace::new();
        let later = pace.since + HEAVY_WITHIN;
        pace.note_at(HEAVY_PACKETS, || later);
        assert!(!pace.heavy);
    }
}
