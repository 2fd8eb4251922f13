//! The rules that log to the group, and what keeps packets from them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::reach::{Doubt, Reach};
use super::ruleset::Ruleset;
use super::way::Way;
use super::{Case, Finding, Severity, text};
use crate::nft::{self, Detected, LoggingRule, RuleFamily};
use crate::packet::IpFamily;
use crate::source::Target;

/// Fragments are put together at this priority, where somebody tracks connections
/// (`NF_IP_PRI_CONNTRACK_DEFRAG`, linux/netfilter_ipv4.h).
const PRIORITY_DEFRAG: i32 = -400;
/// More findings of a kind are not told one by one.
const TOLD_MAX: usize = 8;

/// `received` are the groups from which a capture of this namespace has had packets.
pub(super) fn examine(case: &Case, received: &[u16]) -> Vec<Finding> {
    let numbers: Vec<u16> = match case.group {
        Some(group) => vec![group],
        None => (0..=u16::MAX).collect(),
    };
    let mut findings: Vec<_> = legacy().into_iter().collect();
    let rules = match nft::logging_rules_of_all(Target::Group, &numbers) {
        Ok(rules) => rules,
        Err(error) => {
            let finding = Finding::warning(
                "rules-unknown",
                format!("the rules cannot be read: {error}"),
            );
            findings.push(
                finding.because("whether one logs to the group is not known, nor what it counts"),
            );
            return findings;
        }
    };
    if rules.is_empty() {
        findings.extend(without_rule(case, received));
        return findings;
    }
    let ruleset = Ruleset::listed();
    if ruleset.is_none() {
        findings.push(unlisted());
    }
    let way = ruleset.as_ref().map(Way::new);
    let mut looks: Vec<_> = rules
        .iter()
        .map(|rule| (rule, Reach::of(rule, way.as_ref(), case.family)))
        .collect();
    // What has logged is reached, whatever can be read in the rules.
    for (rule, reach) in &mut looks {
        let to_a_capture = received.contains(&rule.number);
        if to_a_capture || reach.doubt.is_some() && has_logged(rule) {
            reach.has_logged(to_a_capture);
        }
    }
    let hopeless = looks.iter().all(|(_, reach)| reach.doubt.is_some());
    let mut of_rules = Vec::new();
    for (rule, reach) in &looks {
        of_rules.extend(of_rule(rule, ruleset.as_ref()));
        of_rules.extend(of_reach(rule, reach, case, hopeless));
    }
    of_rules.extend(twice(&looks));
    of_rules.sort_by_key(|finding| finding.severity);
    findings.extend(first_of_each(of_rules));
    if case.group.is_none() {
        // What a firewall logs for others is nothing that a capture has to mend.
        for finding in &mut findings {
            finding.severity = finding.severity.max(Severity::Note);
        }
    }
    findings
}

/// Old iptables' rules are in no list of nftables'.
fn legacy() -> Option<Finding> {
    let names = text("/proc/thread-self/net/ip_tables_names")?;
    (!names.is_empty()).then(|| {
        let what = "rules of the old iptables are loaded as well";
        let finding = Finding::note("legacy-iptables", what);
        finding
            .because("nftables does not list them: one of them may log to the group, or drop packets before")
            .mend("iptables-legacy-save")
    })
}

fn without_rule(case: &Case, received: &[u16]) -> Option<Finding> {
    const WHY: &str = "a group has the packets that a rule logs to it, and no others";
    let Some(group) = case.group else {
        let what = "no nftables rule of this network namespace logs to any group";
        let finding = Finding::note("no-rule", what).because(WHY);
        return Some(
            finding.mend("lwnflog rules --group 5   # or --install-rule; --hook needs none"),
        );
    };
    let what = format!("no nftables rule of this network namespace logs to group {group}");
    let finding = match received.contains(&group) {
        // Of the old iptables, or gone meanwhile.
        true => Finding::note("no-rule", what),
        false => Finding::error("no-rule", what).mend(first_of_all(case, group)),
    };
    Some(finding.because(WHY))
}

/// A rule in a table of its own, before all others: it takes nothing away from any.
fn first_of_all(case: &Case, group: u16) -> String {
    let family = match case.family {
        IpFamily::Ip => "",
        IpFamily::Ip6 => " --family ip6",
        IpFamily::Both => " --family both",
    };
    format!("lwnflog rules --group {group}{family} | nft -f -")
}

fn unlisted() -> Finding {
    let what = "what stands before the rules is not known: `nft -j list ruleset` fails";
    let finding = Finding::note("nft-missing", what);
    match super::printed("nft", &["--version"]) {
        Some(_) => finding.because("it takes the rights that a capture takes"),
        None => finding
            .because("nft is not there")
            .mend("apt install nftables"),
    }
}

fn has_logged(rule: &LoggingRule) -> bool {
    let counted = Detected::new(std::slice::from_ref(rule)).and_then(|mut counter| counter.read());
    counted.is_ok_and(|counted| counted.is_some_and(|packets| packets != 0))
}

fn of_rule(rule: &LoggingRule, ruleset: Option<&Ruleset>) -> Vec<Finding> {
    let at = match rule.hook {
        Some(hook) => format!("at hook {} with priority {}", hook.number, hook.priority),
        None => "where another chain leads to it".to_owned(),
    };
    let counted = match &rule.counter {
        Some(_) => "and is counted",
        None => "and is not counted",
    };
    let mut findings = vec![Finding::note(
        "rule",
        format!("{rule} logs to group {}, {at}, {counted}", rule.number),
    )];
    let replaced = ruleset.and_then(|ruleset| replaced(rule, ruleset));
    let mended = |finding: Finding| match &replaced {
        Some(command) => finding.mend(command),
        None => finding,
    };
    if rule.counter.is_none() {
        let what = format!("{rule} has no counter of its own before its `log`");
        findings.push(mended(Finding::warning("no-counter", what).because(
            "how many packets it logged, and so how many were lost, cannot be known",
        )));
    }
    let options = [
        ("snaplen", rule.snaplen.map(u64::from)),
        ("queue-threshold", rule.queue_threshold.map(u64::from)),
    ];
    for (option, value) in options {
        let Some(value) = value else { continue };
        let what = format!("{rule} has `{option} {value}`");
        findings.push(mended(Finding::warning("rule-limits", what).because(
            "it limits the capture: few packets at a time cost a wake-up each, and no snap length gets more bytes than \
             the rule lets",
        )));
    }
    let defrag = Path::new("/sys/module/nf_defrag_ipv4").exists()
        || Path::new("/proc/thread-self/net/nf_conntrack").exists();
    let of_ip = RuleFamily::of(rule.family).is_some();
    let late = |hook: nft::Hook| hook.number == 0 && hook.priority > PRIORITY_DEFRAG;
    if defrag && of_ip && rule.hook.is_some_and(late) {
        let what = format!("{rule} comes after fragments are put together");
        findings.push(Finding::note("defrag", what).because(
            "where connections are tracked, it sees whole packets instead of the fragments that came; a chain of a \
             priority below -400 sees them",
        ));
    }
    for asks in &rule.early {
        let what = format!("{rule} asks for {asks}");
        findings.push(Finding::warning("asks-early", what).because(
            "what is decided behind a rule selects all packets there, or none: it belongs in a chain behind that, or at a \
             later hook",
        ));
    }
    findings
}

/// The rule as it is, with a counter, and without what limits the capture; `None` where nft's text does
/// not hold it (a target of iptables, a set over several lines).
fn replaced(rule: &LoggingRule, ruleset: &Ruleset) -> Option<String> {
    let place = (
        rule.family.to_string(),
        rule.table.clone(),
        rule.chain.clone(),
    );
    let text = ruleset.text_of(&place, rule.handle)?;
    let (before, log) = text.split_once("log ")?;
    let mut words = Vec::new();
    let mut all = log.split(' ');
    while let Some(word) = all.next() {
        if ["snaplen", "queue-threshold"].contains(&word) {
            all.next();
        } else {
            words.push(word);
        }
    }
    let counter = if rule.counter.is_none() {
        "counter "
    } else {
        ""
    };
    let whole = !text.contains(['\'', '#']) && !before.contains("log") && !before.contains("xt ");
    let text = format!("{before}{counter}log {}", words.join(" "));
    whole.then(|| format!("nft replace rule {rule} '{text}'"))
}

/// What keeps packets from a rule: an error where no other rule of the group has any either.
fn of_reach(rule: &LoggingRule, reach: &Reach, case: &Case, hopeless: bool) -> Vec<Finding> {
    const WHY: &str =
        "packets whose way ends before the rule are neither captured nor counted by it";
    let mut findings = Vec::new();
    if let Some(doubt) = &reach.doubt {
        let what = format!("{rule} {doubt}");
        let mut finding = Finding::error(doubt.id(), what).because(WHY);
        if !hopeless {
            finding.severity = Severity::Note;
        } else if reach.logged && !doubt.is_certain() {
            finding.severity = Severity::Warning;
        }
        findings.push(match doubt {
            Doubt::Port { master, .. } if hopeless => finding.mend(format!(
                "lwnflog rules --group {} --iface {master} | nft -f -",
                rule.number
            )),
            _ if hopeless => finding.mend(format!(
                "{}   # all that arrives, before all other chains; --match selects",
                first_of_all(case, rule.number)
            )),
            _ => finding,
        });
    }
    if let Some(name) = &reach.missing_interface {
        let what = format!("{rule} is for the interface `{name}`, which is not there");
        findings.push(
            Finding::warning("no-interface", what)
                .because("it logs nothing until there is one of this name"),
        );
    }
    if let Some(name) = &reach.down {
        let what = format!("{rule} is for the interface `{name}`, which is down");
        findings.push(
            Finding::warning("interface-down", what)
                .because("no packet comes by it until it is up")
                .mend(format!("ip link set {name} up")),
        );
    }
    if !reach.drop_some.is_empty() {
        let what = format!(
            "chains that come before {rule} drop packets: {}",
            reach.drop_some.join(", ")
        );
        findings.push(Finding::note("rules-before", what).because(WHY));
    }
    findings
}

/// Rules that log the same packets to one group, or one that has them twice.
fn twice(looks: &[(&LoggingRule, Reach)]) -> Vec<Finding> {
    let live: Vec<_> = looks
        .iter()
        .filter(|(_, reach)| reach.doubt.is_none())
        .collect();
    let (mut findings, mut told) = (Vec::new(), HashSet::new());
    for (at, (one, reach)) in live.iter().enumerate() {
        let others = live.iter().enumerate().skip(at + 1);
        let others: Vec<_> = others
            .filter(|(_, (other, theirs))| {
                one.number == other.number && !are_told_apart(one, other) && reach.shares(theirs)
            })
            .collect();
        let number = one.number;
        let what = match &others[..] {
            _ if told.contains(&at) => continue,
            [] if reach.comes_twice() => {
                format!("{one} logs to group {number}, and its chain has the same packets twice")
            }
            [] => continue,
            [(_, (other, _))] => format!("{one} and {other} both log to group {number}"),
            [(_, (other, _)), more @ ..] => format!(
                "{one}, {other} and {} more rules log the same packets to group {number}",
                more.len()
            ),
        };
        told.extend(others.iter().map(|(at, _)| *at));
        findings.push(
            Finding::warning("twice", what)
                .because(
                    "each packet that passes both is captured twice: one rule for a group is enough",
                )
                .mend("nft -a list ruleset | grep 'group'   # which of them is whose"),
        );
    }
    findings
}

/// Each says in its packets which it is, as the rules of several hooks do (`lwnflog path`).
fn are_told_apart(one: &LoggingRule, other: &LoggingRule) -> bool {
    one.prefix.is_some() && other.prefix.is_some() && one.prefix != other.prefix
}

/// Of each kind so many one by one, and how many more there are: the worst of them is as bad.
fn first_of_each(findings: Vec<Finding>) -> Vec<Finding> {
    let mut left: BTreeMap<&str, (usize, Severity)> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut told = Vec::new();
    for finding in findings {
        let count = counts.entry(finding.id).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            told.push(finding);
        } else {
            let (more, worst) = left.entry(finding.id).or_insert((0, finding.severity));
            (*more, *worst) = (*more + 1, finding.severity.min(*worst));
        }
    }
    told.extend(left.into_iter().map(|(id, (more, severity))| {
        let what = format!("and {more} more of this kind (`{id}`)");
        Finding::new(severity, id, what)
            .because("the rules of a kind are told a few at a time: mended ones make room")
    }));
    told
}
