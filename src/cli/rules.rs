//! `lwnflog rules`: prints the table that a capture needs.

use std::io::{self, Write};

use anyhow::{Context as _, Result};

use super::args::SourceArgs;
use super::options::source_numbers;
use crate::nft::{RuleSpec, iptables_queue_command, table_text};
use crate::session::real_name;

/// `lwnflog rules …`
///
/// # Errors
/// Options that make no sense; standard output that cannot be written.
pub fn run(
    source: &SourceArgs,
    iface: Option<&str>,
    drop: bool,
    prefix: Option<&str>,
) -> Result<()> {
    let (target, numbers) = source_numbers(source.group.as_deref(), source.queue.as_deref())?;
    let mut spec = RuleSpec::new(target, &numbers)?;
    if let Some(iface) = iface {
        spec = spec.with_iface(&real_name(iface))?;
    }
    if drop {
        spec = spec.with_drop()?;
    }
    if let Some(prefix) = prefix {
        spec = spec.with_prefix(prefix)?;
    }
    let mut text = String::new();
    if let Some(command) = iptables_queue_command(&spec) {
        text = format!(
            "# Where the kernel has no `queue` (CONFIG_NFT_QUEUE), this does the same:\n#   {command}\n"
        );
    }
    text.push_str(&table_text(&spec));
    io::stdout()
        .write_all(text.as_bytes())
        .context("standard output")
}
