//! Times that are to be kept, by the clock: that of files' names and dates.

use std::time::{Duration, SystemTime};

use crate::ring::FinishedFile;

/// So many are told apart; what comes later prolongs the last.
const SPANS_MAX: usize = 1024;

/// From a moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Span {
    /// So long before a moment, and so long after it.
    pub(super) fn around(moment: SystemTime, last: Duration, next: Duration) -> Span {
        Span {
            from: moment.checked_sub(last).unwrap_or(SystemTime::UNIX_EPOCH),
            until: moment.checked_add(next).unwrap_or(moment),
        }
    }
}

/// Spans, as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times(Vec<Span>);

impl Times {
    /// One more.
    pub(super) fn add(&mut self, span: Span) {
        let many = self.0.len() >= SPANS_MAX;
        match self.0.last_mut() {
            Some(last) if many || (span.from <= last.until && last.from <= span.until) => {
                last.from = last.from.min(span.from);
                last.until = last.until.max(span.until);
            }
            _ => self.0.push(span),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first begins.
    pub(super) fn begin(&self) -> Option<SystemTime> {
        self.0.iter().map(|span| span.from).min()
    }

    /// When the last is over.
    pub(super) fn end(&self) -> Option<SystemTime> {
        self.0.iter().map(|span| span.until).max()
    }

    /// Whether a file may hold packets of one of them: its name has whole seconds. Where the clock was
    /// set back, a file is dated ahead of now, or ends before it begins: of which time its packets are
    /// is not known.
    pub(super) fn are_in(&self, file: &FinishedFile, now: SystemTime) -> bool {
        const UNSURE: Duration = Duration::from_secs(1);
        let latest = |time: SystemTime| time.checked_add(UNSURE).unwrap_or(time);
        file.begun > latest(now)
            || file.begun > latest(file.ended)
            || self.overlap(file.begun, file.ended)
    }

    fn overlap(&self, begun: SystemTime, ended: SystemTime) -> bool {
        let mut spans = self.0.iter();
        spans.any(|span| begun <= span.until && ended >= span.from)
    }

    /// Whether a file that begins so may hold packets of one of them.
    pub(super) fn may_go_on_in(&self, begun: SystemTime) -> bool {
        self.end().is_some_and(|end| begun <= end)
    }

    /// The clock was set forward: what is to come is dated later.
    pub(super) fn set_forward(&mut self, by: Duration) {
        if let Some(last) = self.0.iter_mut().max_by_key(|span| span.until) {
            last.until = last.until.checked_add(by).unwrap_or(last.until);
        }
    }

    /// The clock was set back: what is to come is dated earlier.
    pub(super) fn set_back(&mut self, by: Duration) {
        if let Some(last) = self.0.iter_mut().max_by_key(|span| span.until) {
            last.from = last.from.checked_sub(by).unwrap_or(last.from);
            last.until = last.until.checked_sub(by).unwrap_or(last.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + secs)
    }

    fn file(begun: u64, ended: u64) -> FinishedFile {
        FinishedFile {
            path: PathBuf::new(),
            begun: at(begun),
            ended: at(ended),
            bytes: 0,
        }
    }

    fn times(moments: &[u64]) -> Times {
        let mut times = Times::default();
        for moment in moments {
            let secs = Duration::from_secs;
            times.add(Span::around(at(*moment), secs(10), secs(5)));
        }
        times
    }

    #[test]
    fn each_event_has_its_own_time() {
        let times = times(&[100, 110, 500]);
        assert_eq!(times.0.len(), 2);
        let holds = |begun, ended| times.are_in(&file(begun, ended), at(600));
        for (begun, ended) in [(0, 90), (95, 96), (115, 300), (0, 1000), (505, 505)] {
            assert!(holds(begun, ended), "{begun} {ended}");
        }
        for (begun, ended) in [(0, 89), (116, 489), (506, 600)] {
            assert!(!holds(begun, ended), "{begun} {ended}");
        }
        let mut many = Times::default();
        for moment in 0..3 * SPANS_MAX as u64 {
            many.add(Span::around(
                at(100 * moment),
                Duration::ZERO,
                Duration::ZERO,
            ));
        }
        assert_eq!(many.0.len(), SPANS_MAX);
        assert!(many.may_go_on_in(at(100 * (3 * SPANS_MAX as u64 - 1))));
    }

    #[test]
    fn a_clock_that_is_set_leaves_nothing_out() {
        // Set back by an hour: files of before are dated ahead, one ends before it begins.
        let times = times(&[100]);
        assert!(times.are_in(&file(3700, 3710), at(100)));
        assert!(times.are_in(&file(3690, 95), at(100)));
        let (mut back, mut forward) = (times.clone(), times);
        back.set_back(Duration::from_secs(90));
        assert!(back.are_in(&file(5, 20), at(30)));
        assert!(!back.are_in(&file(16, 20), at(30)));
        forward.set_forward(Duration::from_secs(3600));
        assert!(forward.are_in(&file(3701, 3710), at(3710)));
        assert!(!forward.are_in(&file(3706, 3710), at(3710)));
    }
}
