//! Interfaces: bridges, what they put together, on how many processors their packets come, what
//! they drop; and other network namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Finding, printed, text};
use crate::numbers::grouped;
use crate::source::links::{self, Link};

/// Below so many packets a processor's part says nothing.
const PACKETS_MIN: u64 = 100_000;

pub(super) fn examine() -> Vec<Finding> {
    let links = match links::all() {
        Ok(links) => links,
        Err(error) => {
            return vec![Finding::note(
                "links",
                format!("the interfaces are not known: {error}"),
            )];
        }
    };
    let mut findings: Vec<_> = bridges(&links).into_iter().collect();
    findings.extend(drops(&links));
    findings.extend(merging(&links));
    findings.extend(spread());
    findings.extend(namespaces());
    findings
}

fn bridges(links: &[Link]) -> Option<Finding> {
    // With one port there is nothing to pass on to.
    let passes_on = |bridge: &&Link| {
        let ports = links
            .iter()
            .filter(|link| link.bridge == Some(bridge.index));
        ports.count() > 1
    };
    let names: Vec<_> = links
        .iter()
        .filter(passes_on)
        .map(|link| link.name.as_str())
        .collect();
    let passed = text("/proc/sys/net/bridge/bridge-nf-call-iptables").as_deref() == Some("1");
    if names.is_empty() || passed {
        return None;
    }
    let what = format!(
        "packets that the bridge {} passes on between its ports do not come to the hooks of IP",
        names.join(", ")
    );
    Some(Finding::note("bridge", what).because(
        "they stay in the bridge family: a rule of that family sees them (docs/LIMITS.md). br_netfilter would bring them \
         here, and to the firewall as well",
    ))
}

fn drops(links: &[Link]) -> Vec<Finding> {
    let dropping = links.iter().filter(|link| link.dropped != 0);
    dropping
        .map(|link| {
            let what = format!(
                "`{}` has dropped {} packets on the way in",
                link.name,
                grouped(link.dropped)
            );
            Finding::note("device-drops", what)
                .because("they came to no hook: lwnflog counts such as `before the hook`. Frames of a protocol that nobody here takes are among them")
                .mend(format!(
                    "ethtool -S {0} | grep -i drop; ethtool -g {0}",
                    link.name
                ))
        })
        .collect()
}

/// Packets that are put together on the way in, as ethtool says it.
fn merging(links: &[Link]) -> Option<Finding> {
    let merges = |link: &&Link| {
        let features = printed("ethtool", &["-k", &link.name]).unwrap_or_default();
        let on = |name: &str| {
            features
                .lines()
                .any(|line| line.trim() == format!("{name}: on"))
        };
        link.name != "lo" && (on("generic-receive-offload") || on("large-receive-offload"))
    };
    // Asking takes a process each.
    const ASKED_MAX: usize = 16;
    let names: Vec<_> = links
        .iter()
        .take(ASKED_MAX)
        .filter(merges)
        .map(|link| link.name.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    let what = format!(
        "packets of one flow may be put together (GRO) on {}",
        names.join(", ")
    );
    Some(
        Finding::note("gro", what)
            .because("a record may then hold several packets as they came on the wire, as with any tool above the driver")
            .mend(format!("ethtool -K {} gro off lro off", names[0])),
    )
}

/// Whether one processor handles all packets.
fn spread() -> Option<Finding> {
    let stat = text("/proc/net/softnet_stat")?;
    let handled: Vec<u64> = stat
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .collect();
    one_for_all(&handled).map(|processor| {
        let what = format!("processor {processor} has handled nearly all of this host's packets");
        Finding::note("one-processor", what)
            .because("a hook runs where the packet is handled: the others have no part in it")
            .mend("ethtool -L DEVICE combined N; or echo f > /sys/class/net/DEVICE/queues/rx-0/rps_cpus")
    })
}

fn one_for_all(handled: &[u64]) -> Option<usize> {
    let sum: u64 = handled.iter().sum();
    let (processor, most) = handled
        .iter()
        .enumerate()
        .max_by_key(|(_, count)| **count)?;
    let nearly_all = *most >= sum / 100 * 95;
    (handled.len() > 1 && sum >= PACKETS_MIN && nearly_all).then_some(processor)
}

/// Other network namespaces have traffic of their own, and perhaps that which is looked for.
fn namespaces() -> Option<Finding> {
    let own = fs::read_link("/proc/thread-self/ns/net").ok()?;
    let mut others = BTreeMap::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let namespace = fs::read_link(process.path().join("ns/net"));
        if let Ok(namespace) = namespace
            && namespace != own
        {
            others.entry(namespace).or_insert_with(|| process.path());
        }
    }
    let received = |process: &Path| arrived(&text(process.join("net/dev").to_str()?)?);
    let busiest = others
        .values()
        .filter_map(|process| Some((received(process)?, process)))
        .max()?;
    let (packets, process) = busiest;
    let ours = received(Path::new("/proc/thread-self")).unwrap_or_default();
    let pid = process.file_name()?.display();
    let name = text(process.join("comm").to_str()?).unwrap_or_default();
    let what = format!(
        "{} other network namespaces are in use; the interfaces of that of process {pid} ({name}) have received {} \
         packets, those of this one {}",
        others.len(),
        grouped(packets),
        grouped(ours)
    );
    let finding = if ours == 0 && packets != 0 {
        Finding::warning("namespaces", what)
    } else {
        Finding::note("namespaces", what)
    };
    Some(
        finding
            .because("each has rules, groups and traffic of its own: a capture sees those of the one it was started in")
            .mend(format!("nsenter --net --target {pid} lwnflog doctor")),
    )
}

/// Packets that the interfaces of `/proc/PID/net/dev` have received, without loopback.
fn arrived(dev: &str) -> Option<u64> {
    const PACKETS: usize = 1;
    let lines = dev.lines().skip(2);
    let devices = lines.filter_map(|line| line.split_once(':'));
    devices
        .filter(|(name, _)| name.trim() != "lo")
        .map(|(_, figures)| figures.split_whitespace().nth(PACKETS)?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_all_interfaces_but_loopback() {
        let dev = "Inter-|   Receive\n face |bytes    packets errs\n    lo:  840      10    0\n  eth0: 9000   70 1\n wg0:1 2 3\n";
        assert_eq!(arrived(dev), Some(72));
        assert_eq!(arrived("a\nb\n"), Some(0));
    }

    #[test]
    fn one_processor_for_all() {
        assert_eq!(one_for_all(&[10, 1_000_000]), Some(1));
        assert_eq!(one_for_all(&[500_000, 500_000]), None);
        assert_eq!(one_for_all(&[0, 10]), None, "too few to say");
        assert_eq!(one_for_all(&[1_000_000]), None, "there is no other");
    }
}
