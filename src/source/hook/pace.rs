//! How long to rest between two looks at the rings. The program does not wake the reader.
//!
//! A rest must not outlast the ring: it is at most what the fastest traffic takes to fill half of
//! it. Under traffic it is what it takes to gather a batch that has left the cache of the processor
//! that wrote it.

use std::time::{Duration, Instant};

/// What one processor can be handed at the most: packets a second, and bytes.
const PACKETS_PER_SECOND: u64 = 2_000_000;
const BYTES_PER_SECOND: u64 = 2_500_000_000;
/// How much of one ring is gathered under traffic: more than a processor's own cache holds of it.
/// What is still in the cache of the processor that wrote it costs the reader twice as much as what
/// has gone to the shared one (18 to 48 ns a packet, where 128 KiB were gathered).
const GATHER_BYTES: u64 = 1 << 20;
const REST_MIN: Duration = Duration::from_micros(200);
const REST_MAX: Duration = Duration::from_millis(100);

/// Follows how fast the rings fill.
#[derive(Debug)]
pub(super) struct Pace {
    rest: Duration,
    longest: Duration,
    looked: Instant,
}

impl Pace {
    /// For rings of so many bytes, and records of so many at the most.
    pub(super) fn new(ring_bytes: usize, record_bytes: usize) -> Pace {
        let a_second = (record_bytes as u64 * PACKETS_PER_SECOND).clamp(1, BYTES_PER_SECOND);
        let longest = Duration::from_nanos((ring_bytes as u64 / 2) * 1_000_000_000 / a_second);
        Pace {
            rest: REST_MIN,
            longest: longest.clamp(REST_MIN, REST_MAX),
            looked: Instant::now(),
        }
    }

    /// Records are of so many bytes at the most from now on.
    pub(super) fn set_record(&mut self, ring_bytes: usize, record_bytes: usize) {
        self.longest = Pace::new(ring_bytes, record_bytes).longest;
        self.rest = self.rest.min(self.longest);
    }

    /// The longest rest.
    #[cfg(test)]
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// How long to rest now.
    #[inline]
    pub(super) fn rest(&self) -> Duration {
        self.rest
    }

    /// Notes what came to the busiest ring since the last look.
    #[inline]
    pub(super) fn note(&mut self, bytes: u64, now: Instant) {
        let since = now.duration_since(self.looked);
        self.looked = now;
        self.rest = self.after(bytes, since);
    }

    fn after(&self, bytes: u64, since: Duration) -> Duration {
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        match since.saturating_mul(GATHER_BYTES).checked_div(bytes) {
            // Grows step by step: what was a pause of a flow may end at once.
            Some(nanos) => Duration::from_nanos(nanos)
                .clamp(REST_MIN, self.longest)
                .min(self.rest * 2),
            None => (self.rest * 2).min(self.longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_as_long_as_ring_and_pace_allow() {
        // 64 bytes of each packet, 32 MiB a processor; then whole packets; then a large ring.
        assert_eq!(Pace::new(32 << 20, 104).longest().as_millis(), 80);
        assert_eq!(Pace::new(32 << 20, 1560).longest().as_millis(), 6);
        assert_eq!(Pace::new(256 << 20, 104).longest(), REST_MAX);
        assert_eq!(Pace::new(4 << 20, 1 << 20).longest().as_micros(), 838);

        let mut pace = Pace::new(32 << 20, 104);
        let mut now = pace.looked;
        // A million packets a second: a batch is gathered in ten milliseconds.
        for _ in 0..10 {
            now += Duration::from_millis(1);
            pace.note(104_000, now);
        }
        assert_eq!(pace.rest().as_micros(), 10_082);
        for _ in 0..10 {
            now += Duration::from_millis(80);
            pace.note(0, now);
        }
        assert_eq!(pace.rest(), pace.longest());
        now += Duration::from_millis(80);
        pace.note(u64::MAX, now);
        assert_eq!(pace.rest(), REST_MIN);
    }
}
