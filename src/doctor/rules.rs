//! The rules that log to the group, and what keeps packets from them.

use std::path::Path;

use super::ruleset::{Chain, Ends, Ruleset};
use super::{Case, Finding, text};
use crate::nft::{self, LoggingRule};
use crate::source::Target;

/// Fragments are put together at this priority, where somebody tracks connections
/// (`NF_IP_PRI_CONNTRACK_DEFRAG`, linux/netfilter_ipv4.h).
const PRIORITY_DEFRAG: i32 = -400;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let numbers: Vec<u16> = match case.group {
        Some(group) => vec![group],
        None => (0..=u16::MAX).collect(),
    };
    let rules = match nft::logging_rules_of_all(Target::Group, &numbers) {
        Ok(rules) => rules,
        Err(error) => {
            let finding = Finding::warning(
                "rules-unknown",
                format!("the rules cannot be read: {error}"),
            );
            return vec![
                finding.because("whether one logs to the group is not known, nor what it counts"),
            ];
        }
    };
    let mut findings = Vec::new();
    if rules.is_empty() {
        let group = case.group.unwrap_or(5);
        let which = case
            .group
            .map_or("any group".to_owned(), |group| format!("group {group}"));
        findings.push(
            Finding::error(
                "no-rule",
                format!("no nftables rule of this network namespace logs to {which}"),
            )
            .because("a group has the packets that a rule logs to it, and no others")
            .mend(format!("lwnflog rules --group {group} | nft -f -")),
        );
    }
    if text("/proc/thread-self/net/ip_tables_names").is_some_and(|names| !names.is_empty()) {
        let finding = Finding::note(
            "legacy-iptables",
            "rules of the old iptables are loaded as well",
        );
        findings.push(
            finding
                .because("nftables does not list them: one of them may log to the group, or drop packets before")
                .mend("iptables-legacy-save"),
        );
    }
    let ruleset = Ruleset::listed();
    if ruleset.is_none() && !rules.is_empty() {
        findings.push(
            Finding::note(
                "nft-missing",
                "what stands before the rules is not known: `nft -j list ruleset` fails",
            )
            .mend("apt install nftables"),
        );
    }
    for rule in &rules {
        findings.extend(of_rule(rule));
        if let Some(ruleset) = &ruleset {
            findings.extend(before(rule, ruleset));
        }
    }
    for (name, offload) in ruleset.iter().flat_map(|ruleset| &ruleset.flowtables) {
        let how = if *offload {
            "in the device itself"
        } else {
            "without passing the hooks"
        };
        findings.push(
            Finding::warning(
                "flowtable",
                format!("the flowtable `{name}` has packets of known connections forwarded {how}"),
            )
            .because("of such a connection only the first packets are captured, whatever tool captures at a hook")
            .mend(format!("nft list flowtables   # then: nft delete flowtable FAMILY TABLE {name}")),
        );
    }
    findings
}

fn of_rule(rule: &LoggingRule) -> Vec<Finding> {
    let at = match rule.hook {
        Some(hook) => format!("at hook {} with priority {}", hook.number, hook.priority),
        None => "where another chain leads to it".to_owned(),
    };
    let mut findings = vec![Finding::note(
        "rule",
        format!(
            "{rule} logs to group {}, {at}, {}",
            rule.number,
            match &rule.counter {
                Some(_) => "and is counted",
                None => "and is not counted",
            }
        ),
    )];
    if rule.counter.is_none() {
        findings.push(
            Finding::warning(
                "no-counter",
                format!("{rule} has no counter before its `log`"),
            )
            .because("how many packets it logged, and so how many were lost, cannot be known")
            .mend(format!(
                "lwnflog rules --group {}   # how a rule with one looks",
                rule.number
            )),
        );
    }
    let options = [
        ("snaplen", rule.snaplen.map(u64::from)),
        ("queue-threshold", rule.queue_threshold.map(u64::from)),
    ];
    for (option, value) in options {
        let Some(value) = value else { continue };
        findings.push(
            Finding::error("rule-limits", format!("{rule} has `{option} {value}`"))
                .because(
                    "it limits the capture: few packets at a time cost a wake-up each, and no snap length gets more \
                     bytes than the rule lets",
                )
                .mend(format!(
                    "nft replace rule {rule} counter log group {}   # with what else it matches",
                    rule.number
                )),
        );
    }
    let defrag = Path::new("/sys/module/nf_defrag_ipv4").exists()
        || Path::new("/proc/thread-self/net/nf_conntrack").exists();
    if defrag
        && rule
            .hook
            .is_some_and(|hook| hook.number == 0 && hook.priority > PRIORITY_DEFRAG)
    {
        findings.push(
            Finding::note("defrag", format!("{rule} comes after fragments are put together"))
                .because("where connections are tracked, it sees whole packets instead of the fragments that came")
                .mend(format!("lwnflog rules --group {} | nft -f -   # a chain before all others", rule.number)),
        );
    }
    findings
}

/// What keeps packets from this rule.
fn before(rule: &LoggingRule, ruleset: &Ruleset) -> Vec<Finding> {
    const WHY: &str =
        "packets whose way ends before the rule are neither captured nor counted by it";
    let family = rule.family.to_string();
    let mut findings = Vec::new();
    let earlier = ruleset.rules_of(&family, &rule.table, &rule.chain);
    let own = earlier.iter().position(|other| other.handle == rule.handle);
    let mut some = 0;
    for other in earlier.iter().take(own.unwrap_or(0)) {
        match other.ends() {
            Ends::All => findings.push(
                Finding::error(
                    "never-matches",
                    format!(
                        "{rule} is never reached: {} ends every packet's way in this chain",
                        other.named()
                    ),
                )
                .because(WHY)
                .mend(format!("nft delete rule {}", other.named())),
            ),
            Ends::Some => some += 1,
            Ends::Nothing => {}
        }
    }
    if some != 0 {
        findings.push(
            Finding::note(
                "rules-before",
                format!("{some} rules of its chain come before {rule}, and end some packets' way"),
            )
            .because(WHY)
            .mend(format!(
                "nft -a list chain {family} {} {}",
                rule.table, rule.chain
            )),
        );
    }
    for chain in ruleset.before(&family, &rule.table, &rule.chain) {
        findings.extend(chain_before(rule, chain, ruleset).map(|finding| finding.because(WHY)));
    }
    findings
}

fn chain_before(rule: &LoggingRule, chain: &Chain, ruleset: &Ruleset) -> Option<Finding> {
    let named = format!("{} {} {}", chain.family, chain.table, chain.name);
    let rules = ruleset.rules_of(&chain.family, &chain.table, &chain.name);
    let look = format!("nft -a list chain {named}");
    let mut some = 0;
    for other in &rules {
        match (other.ends(), other.drops()) {
            (Ends::All, true) => {
                let what = format!(
                    "{rule} is never reached: {} drops every packet before",
                    other.named()
                );
                let finding = Finding::error("never-matches", what);
                return Some(finding.mend(format!("nft delete rule {}", other.named())));
            }
            // What this chain accepts goes on to the next one.
            (Ends::All, false) => break,
            (Ends::Some, true) => some += 1,
            _ => {}
        }
    }
    if chain.drops_by_policy && !rules.iter().any(|rule| rule.ends() == Ends::All) {
        let what =
            format!("the chain {named}, which comes before {rule}, drops what it does not accept");
        return Some(Finding::warning("policy-before", what).mend(look));
    }
    (some != 0).then(|| {
        let what =
            format!("{some} rules of the chain {named}, which comes before {rule}, drop packets");
        Finding::note("rules-before", what).mend(look)
    })
}
