//! What is wrong with a filter, and where.

use std::fmt;

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// The filter, or what stands around the place in a long one.
    text: String,
    /// Letters before the place.
    before: usize,
    what: String,
}

/// So many bytes are shown before the place and behind it.
const AROUND: usize = 100;

impl FilterError {
    /// At this byte of the filter's text.
    pub(super) fn new(text: &str, at: usize, what: String) -> FilterError {
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at += 1;
            }
            at
        };
        let (from, before) = match at.checked_sub(AROUND) {
            Some(from) if from != 0 => (boundary(from), "…"),
            _ => (0, ""),
        };
        let (to, behind) = match at.saturating_add(AROUND) {
            to if to < text.len() => (boundary(to), "…"),
            _ => (text.len(), ""),
        };
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or("");
        FilterError {
            text: format!("{before}{}{behind}", part(from, to)).replace(char::is_control, " "),
            before: before.chars().count() + part(from, at).chars().count(),
            what,
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = " ".repeat(self.before);
        write!(f, "the filter: {}\n  {}\n  {indent}^", self.what, self.text)
    }
}

impl std::error::Error for FilterError {}
