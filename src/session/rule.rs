//! The rule that a request asks for.

use std::time::{Duration, Instant};

use super::SessionError;
use super::settings::RuleRequest;
use crate::nft::{At, Match, RuleSpec, logging_rules_beside};
use crate::source::{SourceName, Target, links};

/// What the table is to do. With `compile`, `nft` translates the request's expression; else it is
/// taken as it is, for a table that becomes text.
///
/// # Errors
/// What makes no sense, and an expression that `nft` does not take.
pub fn spec(
    target: Target,
    numbers: &[u16],
    request: &RuleRequest,
    compile: bool,
) -> Result<RuleSpec, SessionError> {
    if let Some(cgroup) = &request.cgroup {
        return Ok(RuleSpec::new(target, numbers)?
            .with_table(&cgroup.table)
            .with_family(request.family)
            .with_hooks(At::Input, At::Output)
            .with_cgroup(cgroup.id, cgroup.level));
    }
    let mut spec = RuleSpec::new(target, numbers)?
        .with_family(request.family)
        .with_spread(request.spread);
    for iface in &request.ifaces {
        spec = spec.with_iface(&real_name(iface))?;
    }
    if let Some(text) = &request.matching {
        spec = spec.with_match(if compile {
            Match::compile(text, request.family)?
        } else {
            Match::unchecked(text)?
        });
    }
    if let Some(rate) = request.rate_limit {
        spec = spec.with_rate_limit(rate);
    }
    if request.drop {
        spec = spec.with_drop()?;
    }
    if let Some(prefix) = &request.prefix {
        spec = spec.with_prefix(prefix)?;
    }
    Ok(spec.with_trace(&request.at)?.checked()?)
}

/// The name that rules know an interface by, of one that may be an alternative name: `iifname`
/// compares with the former alone. One that is not there has the name that was given.
pub fn real_name(iface: &str) -> String {
    match links::by_name(iface) {
        Ok(Some(link)) => link.name,
        Ok(None) | Err(_) => iface.to_owned(),
    }
}

/// Why more packets came than the rules have counted, as far as it can be known: `own` is the table
/// that this capture has brought.
pub(super) fn cause_of_more(name: SourceName, own: Option<&RuleSpec>) -> String {
    const LOOK_MAX: Duration = Duration::from_millis(300);
    if let (Some(own), SourceName::Number(target, number)) = (own, name) {
        let table = (own.rule_family(), own.table());
        let others = logging_rules_beside(target, &[number], table, Instant::now() + LOOK_MAX);
        if let Some(other) = others.unwrap_or_default().first() {
            return format!("{other} hands packets to it as well");
        }
    }
    // Their own tables, of which nftables knows nothing.
    let legacy = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    if legacy.is_ok_and(|names| !names.trim().is_empty()) {
        return "rules of the old iptables, which nftables does not show, may hand packets to it as well".to_owned();
    }
    "a counter was reset, reloaded or removed, or came late".to_owned()
}
