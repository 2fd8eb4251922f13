//! The account for Prometheus and what reads its format, over HTTP: `GET /metrics`.
//!
//! ```text
//!   scraper ──GET──> server (a thread a request, few at a time)
//!                      │ where the answer goes
//!                      v
//!                    the main thread: a Scrape ──> text ──> scraper
//! ```

pub mod place;
pub mod server;
pub mod text;

pub use place::Place;
pub use server::Server;

use crate::account::snapshot::Snapshot;

/// What a scrape shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// The account.
    pub snapshot: Snapshot,
    /// What each source is called, in the snapshot's order: `g5`, `q5`, `prerouting`.
    pub sources: Vec<String>,
    /// Packets lost before they came to the hook.
    pub before_hook: u64,
    /// The receive buffer of each source, or a hook's rings in sum.
    pub granted_buffer_bytes: u64,
    /// Nothing is copied.
    pub paused: bool,
    /// What files may take in sum; `None` without limit, or without files.
    pub disk_limit_bytes: Option<u64>,
    /// What the files take now, those that are prepared included; `None` without files.
    pub disk_ring_bytes: Option<u64>,
    /// What the file system of the files has left; `None` without files.
    pub disk_free_bytes: Option<u64>,
}
