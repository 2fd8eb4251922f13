//! The table as text: what `lwnflog rules` prints for `nft -f -`.

use std::fmt::Write as _;

use super::plan::{Part, Plan, burst};
use super::{At, RuleSpec, Target};

/// The rules for `nft -f -`: they replace the table of that name, whatever it held, and no other.
///
/// One group (or any queues) is one rule:
///
/// ```text
/// iifname "eth0" counter name "detected" log group 5 drop
/// ```
///
/// Several groups share the CPUs ([`RuleSpec::spread`]), which removes the lock that all CPUs
/// would take for one group. Each group has a chain and a counter of its own:
///
/// ```text
/// iifname != "eth0" return
/// meta cpu vmap { 0 : goto g5, 1 : goto g6, ... }
/// goto g5
/// ```
///
/// A CPU that the map does not hold falls through to the last line; with `jump` in place of
/// `goto`, every packet would come back from its chain, reach that line too and be logged twice.
pub fn table_text(spec: &RuleSpec) -> String {
    let (family, table) = (spec.family(), spec.table());
    let plan = Plan::new(spec);
    let mut text = String::new();
    // Declared first, so that deleting it cannot fail.
    let _ = writeln!(
        text,
        "table {family} {table} {{}}\ndelete table {family} {table}\ntable {family} {table} {{"
    );
    for counter in &plan.counters {
        let _ = writeln!(text, "\tcounter {counter} {{}}\n");
    }
    let last = plan.chains.len().saturating_sub(1);
    for (place, chain) in plan.chains.iter().enumerate() {
        let _ = writeln!(text, "\tchain {} {{", chain.name);
        if let Some(at) = chain.hook {
            let _ = writeln!(
                text,
                "\t\ttype filter hook {} priority {}; policy accept;",
                at.hook(),
                at.priority()
            );
        }
        for rule in &chain.rules {
            let parts: Vec<_> = rule.iter().map(part).collect();
            let _ = writeln!(text, "\t\t{}", parts.join(" "));
        }
        text.push_str(if place == last { "\t}\n" } else { "\t}\n\n" });
    }
    text.push_str("}\n");
    text
}

fn part(part: &Part<'_>) -> String {
    let vmap = |map: &[(u32, String)]| {
        let targets = map
            .iter()
            .map(|(key, chain)| format!("{key} : goto {chain}"));
        targets.collect::<Vec<_>>().join(", ")
    };
    match part {
        Part::Interface { name, out, not } => {
            let key = if *out { "oifname" } else { "iifname" };
            let not = if *not { "!= " } else { "" };
            format!("{key} {not}\"{name}\"")
        }
        Part::Cgroup { level, id } => format!("socket cgroupv2 level {level} {id}"),
        Part::Match(matching) => matching.text().to_owned(),
        Part::Over(rate) => format!(
            "limit rate over {rate}/second burst {} packets",
            burst(*rate)
        ),
        Part::Count(name) => format!("counter name \"{name}\""),
        Part::Log { group, prefix } => {
            let prefix = prefix.map(|text| format!(" prefix \"{text}\""));
            format!("log{} group {group}", prefix.unwrap_or_default())
        }
        Part::Queue(numbers) => match numbers {
            [first, .., last] => format!("queue num {first}-{last} bypass,fanout"),
            numbers => format!("queue num {} bypass", numbers.first().unwrap_or(&0)),
        },
        Part::Drop => "drop".to_owned(),
        Part::Return => "return".to_owned(),
        Part::Goto(chain) => format!("goto {chain}"),
        Part::ByCpu(map) => format!("meta cpu vmap {{ {} }}", vmap(map)),
        Part::ByFlow(map) => format!("symhash mod {} vmap {{ {} }}", map.len(), vmap(map)),
    }
}

/// The same for a kernel without nftables' `queue`: a shell command that adds one
/// iptables-nft rule, in table `raw`, the first of iptables' tables at prerouting. `None` for
/// groups, which every kernel with nftables has.
///
/// The command adds a rule of iptables; `-D` in place of `-I` removes it again.
pub fn iptables_queue_command(spec: &RuleSpec) -> Option<String> {
    let plain =
        spec.ifaces().len() <= 1 && spec.matching().is_none() && spec.rate_limit().is_none();
    if spec.hooks() != [At::Prerouting] || !plain || spec.family() != "ip" {
        return None;
    }
    let (first, last) = match (spec.target(), spec.numbers()) {
        (Target::Queue, [first, .., last]) => (*first, Some(*last)),
        (Target::Queue, [only]) => (*only, None),
        _ => return None,
    };
    let iface = spec
        .ifaces()
        .first()
        .map(|name| format!(" -i {}", name.replace('*', "+")))
        .unwrap_or_default();
    let queues = match last {
        Some(last) => format!("--queue-balance {first}:{last} --queue-cpu-fanout"),
        None => format!("--queue-num {first}"),
    };
    Some(format!(
        "iptables-nft -t raw -I PREROUTING{iface} -j NFQUEUE {queues} --queue-bypass"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(numbers: &[u16]) -> RuleSpec {
        RuleSpec::new(Target::Group, numbers).unwrap()
    }

    #[test]
    fn one_group() {
        assert_eq!(
            table_text(&groups(&[5])),
            "table ip lwnflog-g5 {}\n\
             delete table ip lwnflog-g5\n\
             table ip lwnflog-g5 {\n\
             \tcounter detected {}\n\
             \n\
             \tchain prerouting {\n\
             \t\ttype filter hook prerouting priority -2147483647; policy accept;\n\
             \t\tcounter name \"detected\" log group 5\n\
             \t}\n\
             }\n"
        );
    }

    #[test]
    fn interface_prefix_and_drop() {
        let spec = groups(&[7]).with_iface("eth0").unwrap();
        let spec = spec.with_prefix("in eth0").unwrap().with_drop().unwrap();
        let rule = "\t\tiifname \"eth0\" counter name \"detected\" log prefix \"in eth0\" \
                    group 7 drop\n";
        assert!(table_text(&spec).contains(rule));
    }

    #[test]
    fn a_group_per_cpu() {
        let text = table_text(&groups(&[5, 6]).with_iface("eth0").unwrap());
        let map: Vec<String> = (0..16)
            .map(|cpu| format!("{cpu} : goto g{}", 5 + cpu % 2))
            .collect();
        assert_eq!(
            text,
            format!(
                "table ip lwnflog-g5 {{}}\n\
                 delete table ip lwnflog-g5\n\
                 table ip lwnflog-g5 {{\n\
                 \tcounter detected_5 {{}}\n\
                 \n\
                 \tcounter detected_6 {{}}\n\
                 \n\
                 \tchain g5 {{\n\
                 \t\tcounter name \"detected_5\" log group 5\n\
                 \t}}\n\
                 \n\
                 \tchain g6 {{\n\
                 \t\tcounter name \"detected_6\" log group 6\n\
                 \t}}\n\
                 \n\
                 \tchain prerouting {{\n\
                 \t\ttype filter hook prerouting priority -2147483647; policy accept;\n\
                 \t\tiifname != \"eth0\" return\n\
                 \t\tmeta cpu vmap {{ {} }}\n\
                 \t\tgoto g5\n\
                 \t}}\n\
                 }}\n",
                map.join(", ")
            )
        );
    }

    #[test]
    fn queues() {
        let one = RuleSpec::new(Target::Queue, &[5]).unwrap();
        assert!(table_text(&one).contains("\t\tcounter name \"detected\" queue num 5 bypass\n"));
        let four = RuleSpec::new(Target::Queue, &[5, 6, 7, 8])
            .unwrap()
            .with_iface("eth0")
            .unwrap();
        assert!(table_text(&four).contains(
            "\t\tiifname \"eth0\" counter name \"detected\" queue num 5-8 bypass,fanout\n"
        ));
        assert_eq!(table_text(&four).matches("counter detected").count(), 1);
        assert_eq!(
            iptables_queue_command(&one).as_deref(),
            Some("iptables-nft -t raw -I PREROUTING -j NFQUEUE --queue-num 5 --queue-bypass")
        );
        assert_eq!(
            iptables_queue_command(&four).as_deref(),
            Some(
                "iptables-nft -t raw -I PREROUTING -i eth0 -j NFQUEUE \
                 --queue-balance 5:8 --queue-cpu-fanout --queue-bypass"
            )
        );
        assert_eq!(iptables_queue_command(&groups(&[5])), None);
    }
}
