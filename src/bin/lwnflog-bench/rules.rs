//! The nftables tables of the receiving namespace, and their counters.
//!
//! Every table drops what it has counted and logged, as on the thesis's passive capture host: the
//! stack above costs the same nothing in every row. The latency test's do not: its packets are to
//! arrive.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use lwnflog::lab::{Namespace, RX};
use lwnflog::nft::{RuleSpec, table_text};
use lwnflog::source::Target;

/// The NFLOG group, or the first of them.
pub(crate) const GROUP: u16 = 5;

/// Counts and drops: for capacity, and under tools that tap in before Netfilter.
pub(crate) fn count_and_drop() -> String {
    ip_table("counter name detected drop")
}

/// The same behind a program that stands at the first priority.
pub(crate) fn count_and_drop_behind() -> String {
    count_and_drop().replace("priority -2147483647", "priority -2147483631")
}

/// Counts, logs to [`GROUP`] and drops. `snap_len` limits what the kernel copies, from the IPv4
/// header on, for tools that do not set a limit themselves.
pub(crate) fn log(snap_len: usize) -> String {
    ip_table(&format!(
        "counter name detected log group {GROUP} snaplen {snap_len} drop"
    ))
}

/// Counts and logs to [`GROUP`], and lets packets go on.
pub(crate) fn log_and_pass() -> String {
    ip_table(&format!("counter name detected log group {GROUP}"))
}

/// Counts and lets packets go on.
pub(crate) fn count_and_pass() -> String {
    ip_table("counter name detected")
}

/// Behind every rule that captures: drops what is for `address` itself.
pub(crate) fn drop_behind(address: Ipv4Addr) -> String {
    format!(
        "table ip behind {{
            chain prerouting {{
                type filter hook prerouting priority -100; policy accept;
                iifname \"{RX}\" ip daddr {address} drop
            }}
        }}"
    )
}

/// The table that `lwnflog rules` prints, for these groups, with the interface test.
pub(crate) fn lwnflog(groups: &[u16]) -> Result<String> {
    let spec = RuleSpec::new(Target::Group, groups)?
        .with_iface(RX)?
        .with_drop()?;
    Ok(table_text(&spec))
}

/// As [`lwnflog()`], at the interface's ingress hook: before the checks of the IPv4 layer.
pub(crate) fn lwnflog_at_ingress() -> String {
    format!(
        "table netdev lwnflog {{
            counter detected {{ }}
            chain ingress {{
                type filter hook ingress device \"{RX}\" priority -500; policy accept;
                counter name detected log group {GROUP} drop
            }}
        }}"
    )
}

/// As [`lwnflog()`], with the packets dealt out to the groups in turn.
pub(crate) fn lwnflog_in_turn(groups: &[u16]) -> String {
    let mut text = String::from("table ip lwnflog {\n");
    for group in groups {
        text += &format!("counter detected_{group} {{ }}\n");
    }
    for group in groups {
        text += &format!(
            "chain g{group} {{ counter name detected_{group} log group {group} drop; }}\n"
        );
    }
    let turns = (0..).zip(groups);
    let turns: Vec<_> = turns
        .map(|(turn, group)| format!("{turn} : goto g{group}"))
        .collect();
    text + &format!(
        "chain prerouting {{
            type filter hook prerouting priority -2147483647; policy accept;
            iifname != \"{RX}\" return
            numgen inc mod {} vmap {{ {} }}
        }}\n}}\n",
        groups.len(),
        turns.join(", ")
    )
}

fn ip_table(action: &str) -> String {
    // The thesis registered its hook with NF_IP_PRI_FIRST; ours is one step behind.
    format!(
        "table ip lwnflog {{
            counter detected {{ }}
            chain prerouting {{
                type filter hook prerouting priority -2147483647; policy accept;
                iifname \"{RX}\" {action}
            }}
        }}"
    )
}

/// Loads a table into a namespace that has none of its name yet.
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

/// The packets that the namespace's counters named `detected...` have seen.
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
    let is_ours = |counter: &&serde_json::Value| {
        counter["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("detected"))
    };
    let ours = counters.filter(is_ours);
    ours.filter_map(|counter| counter.get("packets")?.as_u64())
        .reduce(|sum, packets| sum + packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_loads() {
        let sixteen: Vec<u16> = (5..21).collect();
        for table in [
            count_and_drop(),
            log(50),
            log_and_pass(),
            count_and_pass(),
            count_and_drop() + "\n" + &drop_behind(Ipv4Addr::LOCALHOST),
            lwnflog(&[GROUP]).unwrap(),
            lwnflog(&sixteen).unwrap(),
            lwnflog_at_ingress(),
            lwnflog_in_turn(&sixteen[..8]),
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
