//! `lwnflog rules`: prints the table that a capture needs.

use anyhow::Result;

use super::args::SourceArgs;
use super::complain;
use super::options::{RuleArgs, source_numbers};
use crate::nft::{check_table, iptables_queue_command, table_text};
use crate::session::{SessionError, rule_spec};

/// `lwnflog rules …`
///
/// # Errors
/// Options that make no sense; standard output that cannot be written.
pub fn run(source: &SourceArgs, rule: &RuleArgs<'_>) -> Result<()> {
    let (target, numbers) = source_numbers(source.group.as_deref(), source.queue.as_deref())?;
    let request = rule.request()?;
    let spec = rule_spec(target, &numbers, &request, false)?;
    let mut text = String::new();
    if let Some(command) = iptables_queue_command(&spec) {
        text = format!(
            "# Where the kernel has no `queue` (CONFIG_NFT_QUEUE), this does the same:\n#   {command}\n"
        );
    }
    text.push_str(&table_text(&spec));
    if let Some(expression) = &request.matching
        && let Some(why) = check_table(&text, expression).map_err(SessionError::from)?
    {
        complain(&format!("--match `{expression}` is not checked: {why}"));
    }
    super::say(text.as_bytes())
}
