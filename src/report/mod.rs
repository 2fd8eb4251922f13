//! A report on captures: what one looks at first, as a page or as text.
//!
//! ```text
//!   records ──> tally (series by time, flows, bounded tables) ──> page (HTML with SVG)
//!                                                            └──> text
//! ```
//!
//! One pass, and bounded memory whatever is read: tables that are full say how much they left out.

mod bounded;
mod chart;
mod flows;
mod hosts;
pub mod page;
mod series;
mod tables;
pub mod tally;
pub mod text;

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    /// How many.
    pub packets: u64,
    /// Their bytes as they were.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
    }
}
