//! The nftables tables of the receiving namespace, and their counters.
//!
//! Every table drops what it has counted and logged, as on the thesis's passive capture host: the
//! stack above costs the same nothing in every row.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use lwnflog::lab::{Namespace, RX};

/// The NFLOG group, or the first of them.
pub(crate) const GROUP: u16 = 5;

/// Counts and drops: for capacity, and under tools that tap in before Netfilter.
pub(crate) fn count_and_drop() -> String {
    ip_table("", "")
}

/// Counts, logs to [`GROUP`] and drops. `snap_len` limits what the kernel copies, from the IPv4
/// header on, for tools that do not set a limit themselves.
pub(crate) fn log(snap_len: Option<usize>) -> String {
    let limit = snap_len.map_or_else(String::new, |len| format!(" snaplen {len}"));
    ip_table("", &format!("log group {GROUP}{limit}"))
}

/// As [`log`], with one group for each processor.
pub(crate) fn log_per_cpu(cpus: usize) -> String {
    let groups = (0..cpus).map(|cpu| (cpu, usize::from(GROUP) + cpu));
    let chains: String = groups
        .clone()
        .map(|(cpu, group)| format!("chain cpu{cpu} {{ log group {group}; }}\n"))
        .collect();
    let jumps: Vec<_> = groups
        .map(|(cpu, _)| format!("{cpu} : jump cpu{cpu}"))
        .collect();
    ip_table(
        &chains,
        &format!("meta cpu vmap {{ {} }}", jumps.join(", ")),
    )
}

/// As [`log`], at the device's ingress hook: before the checks of the IPv4 layer.
pub(crate) fn log_at_ingress() -> String {
    format!(
        "table netdev lwnflog {{
            counter detected {{ }}
            chain ingress {{
                type filter hook ingress device \"{RX}\" priority -500; policy accept;
                counter name detected
                log group {GROUP}
                drop
            }}
        }}"
    )
}

fn ip_table(chains: &str, action: &str) -> String {
    // The thesis registered its hook with NF_IP_PRI_FIRST.
    format!(
        "table ip lwnflog {{
            counter detected {{ }}
            {chains}
            chain prerouting {{
                type filter hook prerouting priority -2147483648; policy accept;
                iifname != \"{RX}\" return
                counter name detected
                {action}
                drop
            }}
        }}"
    )
}

/// Loads a table into a namespace that has none yet.
pub(crate) fn load(namespace: &Namespace, table: &str) -> Result<()> {
    let mut command = namespace.command("nft")?;
    command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .context("cannot start nft: install the package nftables")?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(table.as_bytes())
            .context("cannot hand nft its rules")?;
    }
    let output = child.wait_with_output().context("cannot wait for nft")?;
    if !output.status.success() {
        bail!(
            "nft refused the rules: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The packets that the namespace's counters named `detected` have seen.
pub(crate) fn detected(namespace: &Namespace) -> Result<u64> {
    let mut command = namespace.command("nft")?;
    let output = command
        .args(["-j", "list", "counters"])
        .output()
        .context("cannot start nft: install the package nftables")?;
    if !output.status.success() {
        bail!(
            "nft cannot list counters: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let answer = serde_json::from_slice(&output.stdout).context("cannot read nft's answer")?;
    sum_of_counters(&answer).context("nft's answer has no counter named detected")
}

fn sum_of_counters(answer: &serde_json::Value) -> Option<u64> {
    let objects = answer.get("nftables")?.as_array()?;
    let counters = objects.iter().filter_map(|object| object.get("counter"));
    let ours = counters
        .filter(|counter| counter.get("name").and_then(|name| name.as_str()) == Some("detected"));
    ours.filter_map(|counter| counter.get("packets")?.as_u64())
        .reduce(|sum, packets| sum + packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_loads() {
        for table in [
            count_and_drop(),
            log(None),
            log(Some(50)),
            log_per_cpu(16),
            log_at_ingress(),
        ] {
            let namespace = lwnflog::lab::Lab::new().unwrap();
            load(namespace.receiver(), &table).unwrap();
            assert_eq!(detected(namespace.receiver()).unwrap(), 0, "{table}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused_with_the_reason() {
        let namespace = Namespace::new().unwrap();
        let error = load(&namespace, "nonsense").unwrap_err();
        assert!(error.to_string().contains("syntax error"), "{error}");
        assert!(detected(&namespace).is_err());
    }
}
