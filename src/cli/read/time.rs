//! Times as people write and read them.

use anyhow::{Result, bail};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
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

/// Nanoseconds since 1970 of a time: of day (today's), or with its date.
///
/// # Errors
/// What is none.
pub(super) fn moment(text: &str, zone: &Zone) -> Result<u64> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(u64::try_from(stamp.as_nanosecond()).unwrap_or(0));
    }
    let now = ZonedDateTime::now().with_time_zone(zone.0.clone());
    // With its date first: a time of day is read from a text that has a date as well, without it.
    let civil = match (text.parse::<DateTime>(), text.parse::<Time>()) {
        (Ok(civil), _) => civil,
        (_, Ok(time)) => now.date().to_datetime(time),
        _ => bail!("`{text}` is no time: write 14:03, 14:03:05.5 or 2026-11-27T14:03:05"),
    };
    let there = civil.to_zoned_datetime(zone.0.clone())?;
    Ok(u64::try_from(there.timestamp().as_nanosecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_and_dates() {
        let utc = Zone::of(true);
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
}
