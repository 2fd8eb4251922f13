//! What stands in the data set of a file whose parts are all there.

use std::fmt;
use std::io;

/// Bytes of the file; where it was damaged, when it had been changed and what could not be read, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) len: u64,
    /// Nanoseconds since 1970.
    pub(super) changed_ns: i64,
    pub(super) faults: Vec<String>,
}

impl Mark {
    /// # Errors
    /// What no lwnflog has written.
    pub(super) fn parse(text: &str) -> io::Result<Mark> {
        let mut lines = text.lines();
        let mut mark = Mark::default();
        let len = lines.next().filter(|len| !len.starts_with('+'));
        let len = len.and_then(|len| len.parse().ok());
        let damaged = lines.next();
        let changed = damaged.map(|line| line.strip_prefix("damaged ")?.parse().ok());
        let (Some(len), None | Some(Some(_))) = (len, changed) else {
            return Err(io::Error::other(
                "this is not what lwnflog writes there: is it the store that answers? If so, remove it, and the file is exported again",
            ));
        };
        mark.len = len;
        mark.changed_ns = changed.flatten().unwrap_or(0);
        mark.faults = lines.map(str::to_owned).collect();
        Ok(mark)
    }

    /// Whether the file that `now` is of is in the data set, as far as it can be.
    pub(super) fn holds(&self, now: &Mark, finished: bool) -> bool {
        if self.faults.is_empty() {
            finished || self.len == now.len
        } else {
            // Repaired it holds more, or the rest has come.
            (self.len, self.changed_ns) == (now.len, now.changed_ns)
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.len)?;
        if !self.faults.is_empty() {
            write!(f, "\ndamaged {}", self.changed_ns)?;
        }
        for fault in &self.faults {
            write!(f, "\n{}", fault.replace(char::is_control, "?"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_mark() {
        for text in [
            "",
            "<html>Please log in</html>",
            "+1",
            "12 34",
            "12\nfoo",
            "12\ndamaged x",
        ] {
            assert!(Mark::parse(text).is_err(), "{text}");
        }
        let damaged = Mark {
            len: 12,
            changed_ns: -3,
            faults: vec!["a\nb".to_owned(), "c".to_owned()],
        };
        let read = Mark::parse(&damaged.to_string()).unwrap();
        assert_eq!(read.faults, ["a?b", "c"]);
        let (same, longer) = (
            Mark {
                len: 12,
                changed_ns: -3,
                ..Mark::default()
            },
            Mark {
                len: 13,
                changed_ns: -3,
                ..Mark::default()
            },
        );
        assert!(read.holds(&same, true) && !read.holds(&longer, true));
        let whole = Mark::parse("12").unwrap();
        assert!(whole.holds(&longer, true) && !whole.holds(&longer, false));
    }
}
