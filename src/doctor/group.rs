//! Whether the group can be had, and what its socket gets.

use rustix::thread::{CapabilitySet, capabilities};

use super::{Case, Finding, text};
use crate::numbers::grouped;
use crate::source::holder::group_holder;

/// What a capture asks for by default.
const BUFFER_BYTES: u64 = 64 << 20;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(group) = case.group {
        findings.push(match group_holder(group) {
            None => Finding::fine("group-free", format!("group {group} is free")),
            Some(holder) => {
                let since = holder
                    .since
                    .map_or(String::new(), |since| format!(", running since {since}"));
                let finding = Finding::error(
                    "group-taken",
                    format!("group {group} is held by {}{since}", holder.who),
                );
                let finding = finding.because("a group has one reader: another one is refused");
                match holder.pid {
                    Some(pid) => finding.mend(format!(
                        "kill {pid}   # or another group: lwnflog rules --group {}",
                        group.wrapping_add(1)
                    )),
                    None => finding,
                }
            }
        });
    }
    let limit = text("/proc/sys/net/core/rmem_max").and_then(|text| text.parse::<u64>().ok());
    let beyond =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    // (A limit is of the host; in a user namespace nobody goes beyond it.)
    let own = text("/proc/self/uid_map").is_some_and(|map| !map.contains("4294967295"));
    if let Some(limit) = limit.filter(|limit| *limit < BUFFER_BYTES && (!beyond || own)) {
        findings.push(
            Finding::warning(
                "receive-buffer",
                format!(
                    "net.core.rmem_max lets a socket have {} bytes",
                    grouped(limit)
                ),
            )
            .because("a pause of the reader overruns a small buffer")
            .mend(format!("sysctl -w net.core.rmem_max={BUFFER_BYTES}")),
        );
    }
    findings
}
