//! Values of options, from the text that was given.

use std::time::Duration;

use super::ConfigError;

/// The largest group or queue number.
const NUMBER_MAX: u32 = 65_535;
/// One thread each: more would not be of use.
pub(super) const NUMBERS_MAX: usize = 128;

/// Reads `5`, `5-8`, `5,7`, and mixtures. A number named twice counts once.
///
/// # Errors
/// [`ConfigError::Numbers`], [`ConfigError::TooMany`].
pub fn parse_numbers(list: &str, what: &'static str) -> Result<Vec<u16>, ConfigError> {
    let bad = || ConfigError::Numbers {
        list: list.to_owned(),
        what,
    };
    let number = |text: &str| -> Result<u16, ConfigError> {
        let value: u32 = text.trim().parse().map_err(|_| bad())?;
        u16::try_from(value.min(NUMBER_MAX + 1)).map_err(|_| bad())
    };
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(bad());
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > NUMBERS_MAX {
        return Err(ConfigError::TooMany {
            count: numbers.len(),
        });
    }
    Ok(numbers)
}

/// Reads a size: a number and a unit, `k`, `M`, `G`, `T` for powers of 1000 (with or without `B`),
/// `KiB` and so on for powers of 1024. A bare number counts in `bare_unit` bytes.
///
/// # Errors
/// [`ConfigError::Size`].
pub fn parse_size(text: &str, bare_unit: u64) -> Result<u64, ConfigError> {
    let bad = || ConfigError::Size {
        text: text.to_owned(),
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => bare_unit,
        "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

/// The longest duration: a hundred years.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads a duration: `30s`, `5min`, `1h`, or a number of seconds. More than a hundred years is none.
///
/// # Errors
/// [`ConfigError::Duration`].
pub fn parse_duration(text: &str) -> Result<Duration, ConfigError> {
    let bad = || ConfigError::Duration {
        text: text.to_owned(),
    };
    let duration = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| bad())?,
        Err(_) => humantime::parse_duration(text).map_err(|_| bad())?,
    };
    if duration.is_zero() || duration > DURATION_MAX {
        Err(bad())
    } else {
        Ok(duration)
    }
}

/// The same, or 0 for none.
///
/// # Errors
/// [`ConfigError::Duration`].
pub fn parse_duration_or_none(text: &str) -> Result<Duration, ConfigError> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        text => parse_duration(text),
    }
}

/// A snap length as given, 0 for whole packets, of which a record holds `most` bytes.
///
/// # Errors
/// [`ConfigError::Snaplen`].
pub fn snaplen(given: u32, most: u32) -> Result<u32, ConfigError> {
    match given {
        0 => Ok(most),
        snaplen if snaplen <= most => Ok(snaplen),
        snaplen => Err(ConfigError::Snaplen { snaplen, most }),
    }
}

/// `V/M`: a mark and the mask under which it is compared; without a mask all bits count.
///
/// # Errors
/// [`ConfigError::Mark`].
pub fn mark_and_mask(text: &str) -> Result<(u32, u32), ConfigError> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((self::mark(value)?, self::mark(mask)?)),
        None => Ok((self::mark(text)?, u32::MAX)),
    }
}

/// A packet mark: decimal, or hexadecimal behind `0x`.
///
/// # Errors
/// [`ConfigError::Mark`].
pub fn mark(text: &str) -> Result<u32, ConfigError> {
    let parsed = match text.trim().strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.trim().parse(),
    };
    parsed.map_err(|_| ConfigError::Mark {
        text: text.to_owned(),
    })
}

/// A flush timeout in milliseconds, as the kernel can keep it.
///
/// # Errors
/// [`ConfigError::Flush`].
pub fn flush(ms: u64) -> Result<Duration, ConfigError> {
    match ms {
        10..=100 => Ok(Duration::from_millis(ms)),
        _ => Err(ConfigError::Flush { ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_numbers("5", "groups"), Ok(vec![5]));
        assert_eq!(parse_numbers("5-8", "groups"), Ok(vec![5, 6, 7, 8]));
        assert_eq!(parse_numbers("7,5, 5", "groups"), Ok(vec![5, 7]));
        assert_eq!(parse_numbers("0,65535", "groups"), Ok(vec![0, 65535]));
        for bad in ["", "x", "5-", "8-5", "65536", "4294967301", "-1", "5,,6"] {
            assert!(
                matches!(
                    parse_numbers(bad, "groups"),
                    Err(ConfigError::Numbers { .. })
                ),
                "{bad}"
            );
        }
        assert_eq!(
            parse_numbers("0-65535", "groups"),
            Err(ConfigError::TooMany { count: 65536 })
        );
    }

    #[test]
    fn marks() {
        assert_eq!(mark("7"), Ok(7));
        assert_eq!(mark("0xffffffff"), Ok(u32::MAX));
        for bad in ["", "x", "0x", "-1", "4294967296", "0x1ffffffff"] {
            assert!(matches!(mark(bad), Err(ConfigError::Mark { .. })), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("200MB", 200_000_000),
            ("200mb", 200_000_000),
            ("200MiB", 200 << 20),
            ("2G", 2_000_000_000),
            ("512 KiB", 512 << 10),
            ("1b", 1),
            ("3", 3_000_000),
        ] {
            assert_eq!(parse_size(text, 1_000_000), Ok(bytes), "{text}");
        }
        for bad in ["", "MB", "1.5G", "-1", "1XB", "99999999999G", "1 M M"] {
            assert!(parse_size(bad, 1).is_err(), "{bad}");
        }
    }
}
