//! What is due at intervals.

use std::time::Duration;

/// What is due every so often, counted from the beginning of the capture. However many times went
/// by unseen (a stopped process, a suspended machine), it is due once, and keeps its phase.
#[derive(Debug)]
pub(super) struct Every {
    every: Duration,
    next: Duration,
}

impl Every {
    pub(super) fn new(every: Duration) -> Every {
        Every { every, next: every }
    }

    /// From `elapsed` on.
    pub(super) fn since(every: Duration, elapsed: Duration) -> Every {
        Every {
            every,
            next: elapsed.saturating_add(every),
        }
    }

    /// How often.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// How long it is until then.
    pub(super) fn left(&self, elapsed: Duration) -> Duration {
        self.next.saturating_sub(elapsed)
    }

    /// Whether it is due at `elapsed`.
    pub(super) fn due(&mut self, elapsed: Duration) -> bool {
        if elapsed < self.next {
            return false;
        }
        let nanos = self.every.as_nanos().max(1);
        let passed = elapsed.as_nanos() % nanos;
        let left = u64::try_from(nanos - passed).unwrap_or(u64::MAX);
        self.next = elapsed.saturating_add(Duration::from_nanos(left));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_long_nobody_looked_it_is_due_once() {
        let at = Duration::from_millis;
        let mut second = Every::new(at(1000));
        assert!(!second.due(at(999)));
        assert!(second.due(at(1010)));
        assert!(!second.due(at(1060)));
        assert!(second.due(at(2000)));
        // Stopped for an hour: one, and the next at the next whole second.
        assert!(second.due(at(3_600_500)));
        assert!(!second.due(at(3_600_550)));
        assert!(!second.due(at(3_600_999)));
        assert!(second.due(at(3_601_000)));
    }
}
