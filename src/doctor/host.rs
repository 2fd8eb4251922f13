//! The host: its clock, its backlog, what its processors' mitigations cost.

use super::{Finding, text};
use crate::numbers::grouped;

pub(super) fn examine() -> Vec<Finding> {
    [clock(), backlog(), mitigations()]
        .into_iter()
        .flatten()
        .collect()
}

fn clock() -> Option<Finding> {
    const SLOW: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];
    let source = text("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    if !SLOW.contains(&source.as_str()) {
        return Some(Finding::fine(
            "clock",
            format!("the clock source is {source}"),
        ));
    }
    let others = text("/sys/devices/system/clocksource/clocksource0/available_clocksource")?;
    Some(
        Finding::warning(
            "clock",
            format!("the clock source is {source} (there are: {others})"),
        )
        .because("every packet is stamped: this clock takes a microsecond or more each time")
        .mend("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
    )
}

/// `/proc/net/softnet_stat`: a line a processor; the second number is packets dropped.
fn backlog() -> Option<Finding> {
    let stat = text("/proc/net/softnet_stat")?;
    let dropped: u64 = stat
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok())
        .sum();
    if dropped == 0 {
        return Some(Finding::fine(
            "backlog",
            "the backlog has dropped nothing since this host began",
        ));
    }
    let limit = text("/proc/sys/net/core/netdev_max_backlog")?;
    let more = limit.parse::<u64>().unwrap_or(1000).saturating_mul(10);
    let what = format!(
        "the backlog (netdev_max_backlog {limit}) has dropped {} packets",
        grouped(dropped)
    );
    Some(
        Finding::warning("backlog", what)
            .because("they were lost before any hook, of this namespace or another: the figure is the host's")
            .mend(format!("sysctl -w net.core.netdev_max_backlog={more}")),
    )
}

fn mitigations() -> Option<Finding> {
    let spectre = text("/sys/devices/system/cpu/vulnerabilities/spectre_v2")?;
    (spectre.contains("Retpolines") || spectre.contains("IBRS")).then(|| {
        Finding::note("mitigations", format!("the processors' mitigations cost indirect calls: {spectre}"))
            .because("every hook and every rule is called by one: rates measured elsewhere may not be reached here")
    })
}
