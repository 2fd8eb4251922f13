//! What is seen of a capture: the last answer, and what has changed since the one before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::numbers::grouped;

/// Rates of the past that are shown.
const HISTORY: usize = 240;

/// A capture, as its answers show it.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) name: String,
    pub(super) last: Value,
    /// Packets a second, the newest last.
    pub(super) rates: VecDeque<u64>,
    /// Bytes written a second.
    pub(super) bytes_rate: u64,
    /// Packets in a batch, since the look before.
    pub(super) batch_fill: u64,
    /// Packets dropped since the look before.
    pub(super) new_drops: u64,
    pub(super) state: State,
    before: Option<(Instant, Before)>,
}

/// What is known of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    /// It does not answer.
    Silent,
    /// It is gone.
    Ended,
}

/// The figures that become rates.
#[derive(Debug, Clone, Copy)]
struct Before {
    received: u64,
    bytes: u64,
    batches: u64,
    dropped: u64,
}

impl Sight {
    pub(super) fn new(name: &str) -> Sight {
        Sight {
            name: name.to_owned(),
            last: Value::Null,
            rates: VecDeque::new(),
            bytes_rate: 0,
            batch_fill: 0,
            new_drops: 0,
            state: State::Runs,
            before: None,
        }
    }

    /// Takes an answer to `stats`.
    pub(super) fn take(&mut self, answer: &Value, at: Instant) {
        let before = self.elapsed();
        self.last = answer.clone();
        self.state = State::Runs;
        if self.elapsed() < before {
            // Another one of its name: nothing goes on from the one before.
            (self.before, self.new_drops) = (None, 0);
            self.rates.clear();
        }
        let now = Before {
            received: self.number("/stats/received"),
            bytes: self.number("/stats/bytes"),
            batches: self.number("/stats/batches"),
            dropped: self.dropped(),
        };
        if let Some((then, before)) = self.before.replace((at, now)) {
            let since = at.saturating_duration_since(then);
            let packets = now.received.saturating_sub(before.received);
            self.rates.push_back(a_second(packets, since));
            if self.rates.len() > HISTORY {
                self.rates.pop_front();
            }
            self.bytes_rate = a_second(now.bytes.saturating_sub(before.bytes), since);
            let batches = now.batches.saturating_sub(before.batches);
            self.batch_fill = packets.checked_div(batches).unwrap_or(0);
            self.new_drops = now.dropped.saturating_sub(before.dropped);
        }
    }

    /// A figure; 0 where there is none.
    pub(super) fn number(&self, pointer: &str) -> u64 {
        self.known(pointer).unwrap_or(0)
    }

    /// A figure, where it is known.
    pub(super) fn known(&self, pointer: &str) -> Option<u64> {
        self.last.pointer(pointer)?.as_u64()
    }

    /// Packets dropped, as far as it is known.
    pub(super) fn dropped(&self) -> u64 {
        let places = [
            "overrun",
            "allocation",
            "queue",
            "no_ring",
            "nested",
            "writer",
        ];
        let places = places.map(|place| self.number(&format!("/stats/dropped/{place}")));
        places.iter().sum()
    }

    pub(super) fn rate(&self) -> u64 {
        self.rates.back().copied().unwrap_or(0)
    }

    pub(super) fn elapsed(&self) -> Duration {
        let seconds = self.last["elapsed_secs"].as_f64().unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let detected = self.known("/stats/detected");
        format!(
            "{} {} s: {} packets/s, {} bytes/s, detected {}, written {}, dropped {}, skipped {}, {} packets a batch{}",
            self.name,
            self.elapsed().as_secs(),
            grouped(self.rate()),
            grouped(self.bytes_rate),
            detected.map_or("unknown".to_owned(), grouped),
            grouped(self.number("/stats/written") + self.number("/stats/discarded")),
            grouped(self.dropped()),
            grouped(self.number("/stats/skipped")),
            grouped(self.batch_fill),
            if self.last["paused"] == Value::Bool(true) {
                ", PAUSED"
            } else {
                ""
            }
        )
    }
}

fn a_second(count: u64, since: Duration) -> u64 {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_that_is_started_again_begins_anew() {
        let mut sight = Sight::new("g5");
        let answer = |elapsed: f64, received: u64| json!({"elapsed_secs": elapsed, "stats": {"received": received}});
        let begun = Instant::now();
        sight.take(&answer(100.0, 5000), begun);
        sight.take(&answer(101.0, 6000), begun + Duration::from_secs(1));
        sight.state = State::Ended;
        sight.take(&answer(1.0, 70), begun + Duration::from_secs(9));
        assert_eq!((sight.state, sight.rate()), (State::Runs, 0));
        sight.take(&answer(2.0, 80), begun + Duration::from_secs(10));
        assert_eq!(sight.rate(), 10);
    }

    #[test]
    fn rates_are_between_two_looks() {
        let mut sight = Sight::new("g5");
        let answer = |received: u64, batches: u64, dropped: u64| {
            json!({"elapsed_secs": 2.0, "stats": {"received": received, "batches": batches,
                "detected": null, "dropped": {"overrun": dropped, "allocation": null}}})
        };
        let begun = Instant::now();
        sight.take(&answer(1000, 10, 5), begun);
        assert_eq!(sight.rate(), 0, "nothing is known of before");
        sight.take(&answer(4000, 13, 7), begun + Duration::from_millis(1500));
        assert_eq!(
            (sight.rate(), sight.batch_fill, sight.new_drops),
            (2000, 1000, 2)
        );
        assert!(
            sight.line().contains("detected unknown"),
            "{}",
            sight.line()
        );
    }
}
