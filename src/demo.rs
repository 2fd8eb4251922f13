//! The newcomer's minute.

use std::path::Path;

/// `lwnflog demo`
///
/// # Errors
/// What keeps it from running.
pub fn run(_dir: &Path, _secs: u64) -> anyhow::Result<()> {
    anyhow::bail!("later")
}
