//! The time that is asked for.

/// Nanoseconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From here on.
    pub from_ns: u64,
    /// Up to here.
    pub to_ns: u64,
}

impl Default for Span {
    fn default() -> Span {
        Span {
            from_ns: 0,
            to_ns: u64::MAX,
        }
    }
}

impl Span {
    /// Whether this time is in it.
    #[inline]
    pub fn holds(&self, time_ns: u64) -> bool {
        (self.from_ns..=self.to_ns).contains(&time_ns)
    }
}
