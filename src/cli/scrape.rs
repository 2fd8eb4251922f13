//! What a running capture shows to a scraper.

use crate::metrics::Scrape;
use crate::session::{Session, disk_bound_bytes};

/// The figures of the moment.
pub(super) fn scrape(session: &mut Session) -> Scrape {
    let snapshot = session.snapshot();
    let settings = session.settings();
    let free = |dir: &std::path::Path| {
        let stat = rustix::fs::statvfs(dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    };
    Scrape {
        sources: settings
            .names()
            .iter()
            .map(|name| name.file_name())
            .collect(),
        buffer_bytes: session.granted_buffer_bytes() as u64,
        paused: session.changeable().paused,
        disk_limit_bytes: disk_bound_bytes(settings),
        disk_free_bytes: settings
            .output
            .as_ref()
            .and_then(|output| free(&output.dir)),
        before_hook: session.before_hook(),
        snapshot,
    }
}
