//! Times as people write and read them.

use anyhow::{Context as _, Result, bail};
use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ZonedDateTime};

/// Local time, or UTC.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Zone(TimeZone);

impl Zone {
    pub(in crate::cli) fn of(utc: bool) -> Zone {
        Zone(if utc {
            TimeZone::UTC
        } else {
            TimeZone::system()
        })
    }

    /// `2026-11-27 14:03:05` of a second since 1970, with or without the date.
    pub(in crate::cli) fn show(&self, second: i64, date: bool) -> String {
        let Ok(stamp) = Timestamp::from_second(second) else {
            return second.to_string();
        };
        let shown = stamp.to_zoned_datetime(self.0.clone());
        let format = if date {
            "%Y-%m-%d %H:%M:%S"
        } else {
            "%H:%M:%S"
        };
        shown.strftime(format).to_string()
    }
}

/// A time that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Nanoseconds since 1970.
    pub(super) time_ns: u64,
    /// That it is a time of day that is still to come, and how yesterday's is written.
    pub(super) ahead: Option<String>,
}

/// A time as it was written: of day (today's, or `yesterday 14:03`), or with its date.
///
/// # Errors
/// What is none, and what the clock of this zone shows twice, or never, on that day.
pub(super) fn moment(text: &str, zone: &Zone) -> Result<Moment> {
    moment_at(text, &ZonedDateTime::now().with_time_zone(zone.0.clone()))
}

fn moment_at(text: &str, now: &ZonedDateTime) -> Result<Moment> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(Moment {
            time_ns: nanoseconds(stamp),
            ahead: None,
        });
    }
    let day = match text.trim().strip_prefix("yesterday ") {
        Some(time) => (now.date().yesterday()?, time.trim_start()),
        None => (now.date(), text),
    };
    // With its date first: a time of day is read from a text that has a date as well, without it.
    let (civil, today) = match (text.parse::<DateTime>(), day.1.parse::<Time>()) {
        (Ok(civil), _) => (civil, false),
        (_, Ok(time)) => (day.0.to_datetime(time), day.0 == now.date()),
        _ => bail!(
            "`{text}` is no time: write 14:03, 14:03:05.5, 'yesterday 14:03' or 2026-11-27T14:03:05"
        ),
    };
    let there = now.time_zone().to_ambiguous_zoned_datetime(civil);
    match there.offset() {
        AmbiguousOffset::Unambiguous { .. } => {}
        AmbiguousOffset::Fold { before, after } => bail!(
            "`{text}` comes twice that day, when the clock is set back: write {civil}{before} or {civil}{after}"
        ),
        AmbiguousOffset::Gap { before, after } => bail!(
            "`{text}` does not come that day, when the clock is set forward: write {civil}{before} or {civil}{after}"
        ),
    }
    let stamp = there
        .unambiguous()
        .with_context(|| format!("`{text}`"))?
        .timestamp();
    let ahead = if today && stamp > now.timestamp() {
        let before = civil.date().yesterday()?.to_datetime(civil.time());
        Some(format!(
            "`{text}` is today's, {civil}, and lies ahead: yesterday's is written {before}"
        ))
    } else {
        None
    };
    Ok(Moment {
        time_ns: nanoseconds(stamp),
        ahead,
    })
}

fn nanoseconds(stamp: Timestamp) -> u64 {
    u64::try_from(stamp.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_and_dates() {
        let utc = Zone::of(true);
        let moment = |text: &str, zone| super::moment(text, zone).map(|moment| moment.time_ns);
        assert_eq!(
            moment("2026-11-27T14:03:05.25", &utc).unwrap(),
            1_795_788_185_250_000_000
        );
        assert_eq!(
            moment("2026-11-27 14:03", &utc).unwrap(),
            1_795_788_180_000_000_000
        );
        assert_eq!(
            moment("2026-11-27T14:03:00Z", &utc).unwrap(),
            1_795_788_180_000_000_000
        );
        // Another day than this one, and another zone.
        assert_eq!(
            moment("1970-01-02T00:00:01", &utc).unwrap(),
            86_401_000_000_000
        );
        assert_eq!(
            moment("1970-01-02 00:00:01", &utc).unwrap(),
            86_401_000_000_000
        );
        assert_eq!(moment("1970-01-02", &utc).unwrap(), 86_400_000_000_000);
        assert_eq!(
            moment("1970-01-02T01:00+01:00", &utc).unwrap(),
            86_400_000_000_000
        );
        assert!(moment("14:03", &utc).unwrap() % 86_400_000_000_000 == 50_580_000_000_000);
        assert!(moment("yesterday", &utc).is_err());
        assert_eq!(utc.show(1_795_788_185, true), "2026-11-27 14:03:05");
        assert_eq!(utc.show(1_795_788_185, false), "14:03:05");
    }
    /// 02:30 comes twice on this day in Berlin, and on another one never.
    #[test]
    fn hours_that_come_twice_or_never() {
        let now: ZonedDateTime = "2026-11-27T12:00[Europe/Berlin]".parse().unwrap();
        let twice = moment_at("2026-10-25T02:30", &now).unwrap_err().to_string();
        let two = ["2026-10-25T02:30:00+02", "2026-10-25T02:30:00+01"];
        let both = two.map(|text| {
            assert!(twice.contains(text), "{twice}");
            moment_at(text, &now).unwrap().time_ns
        });
        assert_eq!(both[1] - both[0], 3_600_000_000_000);
        let never = moment_at("2026-03-29 02:30", &now).unwrap_err().to_string();
        assert!(never.contains("2026-03-29T02:30:00+01"), "{never}");
        assert!(moment_at("2026-10-25T03:30", &now).is_ok());
    }

    #[test]
    fn times_of_day_that_lie_ahead() {
        let now: ZonedDateTime = "2026-11-27T20:10[UTC]".parse().unwrap();
        let ahead = moment_at("23:00", &now).unwrap().ahead.unwrap();
        assert!(ahead.contains("2026-11-26T23:00:00"), "{ahead}");
        let yesterdays = moment_at("yesterday 23:00", &now).unwrap();
        assert_eq!(yesterdays, moment_at("2026-11-26T23:00:00", &now).unwrap());
        for text in ["20:09", "2026-12-24T18:00", "yesterday 20:30"] {
            assert_eq!(moment_at(text, &now).unwrap().ahead, None, "{text}");
        }
    }
}
