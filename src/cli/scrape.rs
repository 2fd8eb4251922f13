//! What a running capture shows to a scraper.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::metrics::Scrape;
use crate::session::{Session, disk_bound_bytes};

/// The figures of the moment.
pub(super) fn scrape(session: &mut Session) -> Scrape {
    let snapshot = session.snapshot();
    let settings = session.settings();
    let free = |dir: &Path| {
        let stat = rustix::fs::statvfs(dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    };
    let names: Vec<_> = settings
        .names()
        .iter()
        .map(|name| name.file_name())
        .collect();
    let dir = settings.output.as_ref().map(|output| &output.dir);
    Scrape {
        disk_ring_bytes: dir.and_then(|dir| ring_bytes(dir, &names).ok()),
        disk_free_bytes: dir.and_then(|dir| free(dir)),
        sources: names,
        granted_buffer_bytes: session.granted_buffer_bytes() as u64,
        paused: session.changeable().paused,
        disk_limit_bytes: disk_bound_bytes(settings),
        before_hook: session.before_hook(),
        snapshot,
    }
}

/// What the files of these rings take on the disk.
fn ring_bytes(dir: &Path, names: &[String]) -> io::Result<u64> {
    const BLOCK_BYTES: u64 = 512; // stat(2)
    let is_of = |file: &str, name: &String| {
        let visible = file.strip_prefix('.').unwrap_or(file);
        visible
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.starts_with('-'))
    };
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if names.iter().any(|name| is_of(&file, name)) {
            // It may have gone meanwhile.
            let blocks = entry.metadata().map_or(0, |meta| meta.blocks());
            bytes += blocks * BLOCK_BYTES;
        }
    }
    Ok(bytes)
}
