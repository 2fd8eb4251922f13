//! Whether the group can be had, and what its socket gets.

use rustix::thread::{CapabilitySet, capabilities};

use super::running::{Heard, is_lwnflog};
use super::{Case, Finding, text};
use crate::nft;
use crate::numbers::grouped;
use crate::source::Target;
use crate::source::holder::{Holder, group_holder};

/// What a capture asks for by default.
const BUFFER_BYTES: u64 = 64 << 20;

pub(super) fn examine(case: &Case, heard: &Heard) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(group) = case.group {
        findings.push(match group_holder(group) {
            None => Finding::fine("group-free", format!("group {group} is free")),
            Some(holder) => taken(group, &holder, heard),
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

/// Who has the group: a capture of ours, which is as it should be, or another program.
fn taken(group: u16, holder: &Holder, heard: &Heard) -> Finding {
    let since = holder
        .since
        .as_ref()
        .map_or(String::new(), |since| format!(", running since {since}"));
    let capture = holder.pid.and_then(|pid| heard.of_process(pid));
    if let Some(capture) = capture {
        return Finding::fine(
            "group-captured",
            format!(
                "group {group} is captured by {} ({}{since}): {}",
                capture.name(),
                holder.who,
                capture.told()
            ),
        );
    }
    if holder.pid.is_some_and(is_lwnflog) {
        let what = format!("group {group} is captured by {}{since}", holder.who);
        let finding = Finding::note("group-captured", what);
        return finding.because("it does not answer here (--no-control, or another directory of sockets): its losses are not known");
    }
    let what = format!("group {group} is held by {}{since}", holder.who);
    let finding = Finding::error("group-taken", what)
        .because("a group has one reader: another one is refused");
    let free = (group.wrapping_add(1)..=u16::MAX).find(|other| is_free(*other));
    match free {
        Some(free) => finding.mend(format!(
            "lwnflog --group {free} --install-rule   # another group: each has all that is logged to it"
        )),
        None => finding,
    }
}

/// Whether nobody has a group, nor a rule logs to it.
fn is_free(group: u16) -> bool {
    let rules = nft::logging_rules(Target::Group, group);
    group_holder(group).is_none() && rules.is_ok_and(|rules| rules.is_empty())
}
