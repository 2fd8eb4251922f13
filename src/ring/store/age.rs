//! How old a file is: by time that passed, whatever the clock is set to meanwhile.
//!
//! A file that this run finished grows old by the clock that never jumps (and goes on while the
//! machine sleeps). One that is found has but its date, by a clock that may have been wrong then, or is
//! wrong now: a machine without a battery begins in the past or the future until its time daemon has
//! an answer. So a date counts once, as it was found, and again whenever it makes the file younger; one
//! in the future says nothing, and the file's age begins when it is found.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// What is found is left alone for so long: the clock may be about to be set right.
const FOUND_STAYS: Duration = Duration::from_secs(60);

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    since_boot: Duration,
    wall: SystemTime,
}

impl Now {
    pub(super) fn look() -> Now {
        let boot = clock_gettime(ClockId::Boottime);
        let nanos = u32::try_from(boot.tv_nsec).unwrap_or(0);
        Now {
            since_boot: Duration::new(u64::try_from(boot.tv_sec).unwrap_or(0), nanos),
            wall: SystemTime::now(),
        }
    }
}

/// The age of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age {
    /// How old it was at a moment since the machine's start.
    was: (Duration, Duration),
    /// When it was found, and its date.
    found: Option<(Duration, SystemTime)>,
}

impl Age {
    /// Of a file that is finished now.
    pub(super) fn begins(now: Now) -> Age {
        Age {
            was: (Duration::ZERO, now.since_boot),
            found: None,
        }
    }

    /// Of a file that was there, of this date.
    pub(super) fn of_found(now: Now, date: SystemTime) -> Age {
        Age {
            was: (by_date(now, date).unwrap_or_default(), now.since_boot),
            found: Some((now.since_boot, date)),
        }
    }

    /// Whether it is older than that.
    pub(super) fn is_beyond(&mut self, limit: Duration, now: Now) -> bool {
        let (age, at) = self.was;
        let mut age = age + now.since_boot.saturating_sub(at);
        if let Some((found, date)) = self.found {
            if let Some(younger) = by_date(now, date).filter(|by_date| *by_date < age) {
                age = younger;
                self.was = (age, now.since_boot);
            }
            if now.since_boot.saturating_sub(found) < FOUND_STAYS.min(limit) {
                return false;
            }
        }
        age > limit
    }
}

/// `None` of a date in the future, which says nothing.
fn by_date(now: Now, date: SystemTime) -> Option<Duration> {
    now.wall.duration_since(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const YEAR: u64 = 365 * 24 * HOUR;

    /// So long after the machine's start, with a clock that is so far ahead.
    fn at(since_boot: u64, ahead: u64) -> Now {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(50 * YEAR);
        Now {
            since_boot: Duration::from_secs(since_boot),
            wall: begun + Duration::from_secs(since_boot + ahead),
        }
    }

    fn beyond(age: &mut Age, hours: u64, now: Now) -> bool {
        age.is_beyond(Duration::from_secs(hours * HOUR), now)
    }

    #[test]
    fn a_clock_that_jumps_makes_no_file_of_this_run_old_and_none_young() {
        let mut age = Age::begins(at(100, YEAR));
        assert!(!beyond(&mut age, 1, at(200, 2 * YEAR)));
        assert!(!beyond(&mut age, 1, at(3600, 0)));
        assert!(beyond(&mut age, 1, at(3701, 0)));
        assert!(beyond(&mut age, 1, at(3702, YEAR)));
    }

    #[test]
    fn a_date_counts_as_it_was_found_and_when_it_makes_the_file_younger() {
        let date = at(0, 0).wall;
        // Two hours old when it is found.
        let mut age = Age::of_found(at(2 * HOUR, 0), date);
        assert!(!beyond(&mut age, 1, at(2 * HOUR + 59, 0)), "not at once");
        assert!(beyond(&mut age, 1, at(2 * HOUR + 61, 0)));
        assert!(!beyond(&mut age, 3, at(2 * HOUR + 61, 0)));
        assert!(!beyond(&mut age, 3, at(2 * HOUR + 61, YEAR)), "a jump");
        assert!(beyond(&mut age, 3, at(3 * HOUR + 61, 0)));
        // Found by a clock that was a year ahead, until the time daemon had an answer.
        let mut age = Age::of_found(at(30, YEAR), date);
        assert!(!beyond(&mut age, 1, at(60, YEAR)));
        assert!(!beyond(&mut age, 1, at(80, 0)));
        assert!(!beyond(&mut age, 1, at(300, 0)));
        assert!(beyond(&mut age, 1, at(HOUR + 1, 0)));
    }

    #[test]
    fn a_date_in_the_future_holds_nothing_up() {
        let mut age = Age::of_found(at(0, 0), at(0, YEAR).wall);
        assert!(!beyond(&mut age, 1, at(HOUR, 0)));
        assert!(beyond(&mut age, 1, at(HOUR + 1, 0)), "{age:?}");
    }
}
