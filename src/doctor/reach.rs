//! Whether packets come to one rule that logs, and what keeps them from it.

use std::fmt;

use serde_json::Value;

use super::ruleset::{BaseChain, Place, Rule};
use super::way::Way;
use crate::nft::{Asleep, LoggingRule};
use crate::packet::IpFamily;
use crate::source::links::{self, Link};

/// Why no packet comes to a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Its table or chain is at no hook.
    Asleep(Asleep),
    /// Of packets that a capture does not take.
    Family(IpFamily),
    /// A chain or a rule before takes all packets.
    Ended(String),
    /// An interface of this number is not there, and none of it will be.
    Number(String),
    /// Packets of a port come by what it is a port of.
    Port {
        /// The port.
        port: String,
        /// What it is a port of.
        master: String,
        /// `bond`, `bridge`, ...
        kind: String,
    },
}

impl Doubt {
    /// A name for programs.
    pub(super) fn id(&self) -> &'static str {
        match self {
            Doubt::Asleep(Asleep::Dormant) => "dormant",
            Doubt::Asleep(Asleep::Uncalled) => "uncalled",
            Doubt::Family(_) => "other-family",
            Doubt::Ended(_) => "never-matches",
            Doubt::Number(_) => "no-interface",
            Doubt::Port { .. } => "port",
        }
    }

    /// Whether it is so whatever was logged before.
    pub(super) fn is_certain(&self) -> bool {
        matches!(self, Doubt::Asleep(_) | Doubt::Family(_))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Asleep(why) => write!(f, "logs nothing: {why}"),
            Doubt::Family(IpFamily::Ip6) => {
                write!(f, "has no packets of IPv6, which are those to be captured")
            }
            Doubt::Family(_) => write!(
                f,
                "has no packets of IPv4, and a capture takes no others unless it is told to (--family)"
            ),
            Doubt::Ended(by) => write!(f, "is never reached: {by}"),
            Doubt::Number(number) => write!(
                f,
                "is for the interface of number {number}, which is not there any more: one that is made anew has another \
                 number (`iifname` compares names)"
            ),
            Doubt::Port { port, master, kind } => write!(
                f,
                "is for `{port}`, a port of the {kind} `{master}`: its packets come by `{master}`"
            ),
        }
    }
}

/// What can be said of a rule's packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) doubt: Option<Doubt>,
    /// It, or its group, has had packets.
    pub(super) logged: bool,
    pub(super) missing_interface: Option<String>,
    /// Of its interfaces none is up.
    pub(super) down: Option<String>,
    /// Chains before that drop some packets.
    pub(super) drop_some: Vec<String>,
    /// The chains at hooks all of whose packets come to its chain, each as often as they do.
    points: Vec<BaseChain>,
    /// What selects among them.
    selection: Vec<Value>,
}

impl Reach {
    /// What the rules say of one that logs.
    pub(super) fn of(rule: &LoggingRule, way: Option<&Way<'_>>, wanted: IpFamily) -> Reach {
        let mut reach = Reach::default();
        let packets = packets(&rule.family.to_string(), wanted);
        if let Some(asleep) = rule.asleep {
            reach.doubt = Some(Doubt::Asleep(asleep));
            return reach;
        }
        if packets.is_empty() {
            reach.doubt = Some(Doubt::Family(wanted));
            return reach;
        }
        let Some(way) = way else {
            return reach;
        };
        let place = (
            rule.family.to_string(),
            rule.table.clone(),
            rule.chain.clone(),
        );
        let own = way.ruleset.rules_of(&place);
        if let Some(own) = own.iter().find(|own| own.handle == rule.handle) {
            let points = way.ruleset.points_to(&place);
            reach.points = points.into_iter().cloned().collect();
            reach.selection = own.selection().cloned().collect();
            reach.look_at_devices();
            reach.look_at_interfaces(own, rule.hook.is_some_and(|hook| hook.number <= 2));
        }
        let ways: Vec<_> = packets
            .iter()
            .map(|packets| to_rule(&place, rule.handle, way, packets))
            .collect();
        if reach.doubt.is_none() && ways.iter().all(|way| way.ended_by.is_some()) {
            let ended_by = ways.iter().find_map(|way| way.ended_by.clone());
            reach.doubt = ended_by;
        }
        reach.drop_some = ways.into_iter().flat_map(|way| way.drop_some).collect();
        reach.drop_some.sort();
        reach.drop_some.dedup();
        reach
    }

    /// It has counted packets, or a capture has had some from its group: what can be read in the rules
    /// is no proof against that.
    pub(super) fn has_logged(&mut self, to_a_capture: bool) {
        self.logged = true;
        let is_asleep = |doubt: &Doubt| matches!(doubt, Doubt::Asleep(_));
        self.doubt = self
            .doubt
            .take()
            .filter(|doubt| !to_a_capture || is_asleep(doubt));
    }

    /// Whether packets that it has come to it a second time, from another hook or another chain.
    pub(super) fn comes_twice(&self) -> bool {
        let rest = |at: usize| self.points.iter().skip(at + 1);
        let mut points = self.points.iter().enumerate();
        points.any(|(at, point)| rest(at).any(|other| point.meets(other)))
    }

    /// Whether packets that one rule has come to the other as well: all, or those that both select.
    pub(super) fn shares(&self, other: &Reach) -> bool {
        let is_known = |selection: &[Value]| !selection.iter().any(is_hidden);
        let same = self.selection.is_empty()
            || other.selection.is_empty()
            || self.selection == other.selection && is_known(&self.selection);
        let meet = |point: &BaseChain| other.points.iter().any(|other| point.meets(other));
        same && self.points.iter().any(meet)
    }

    /// Where its chain is one of devices that are not there.
    fn look_at_devices(&mut self) {
        let devices = || self.points.iter().flat_map(|point| &point.devices);
        let is_there = |name: &String| !matches!(links::by_name(name), Ok(None));
        if !devices().any(is_there) {
            self.missing_interface = devices().next().cloned();
        }
    }

    fn look_at_interfaces(&mut self, rule: &Rule, inbound: bool) {
        for expression in &rule.expressions {
            let matched = &expression["match"];
            let key = matched["left"]["meta"]["key"].as_str();
            if matched["op"] != "==" || !matches!(key, Some("iif" | "iifname")) {
                continue;
            }
            let right = &matched["right"];
            let one = [right.clone()];
            let names = right["set"].as_array().map_or(&one[..], Vec::as_slice);
            let names: Vec<_> = names.iter().filter_map(name).collect();
            let exact = names.iter().all(|name| !name.ends_with('*'));
            let found: Vec<Option<Link>> = names
                .iter()
                .map(|name| links::by_name(name).ok().flatten())
                .collect();
            let [first, ..] = &names[..] else { continue };
            if !exact {
                continue;
            }
            if found.iter().all(Option::is_none) {
                if key == Some("iif") {
                    self.doubt = Some(Doubt::Number(first.clone()));
                } else {
                    self.missing_interface = Some(first.clone());
                }
            } else if found.iter().flatten().all(|link| !link.is_up) {
                self.down = found.iter().flatten().next().map(|link| link.name.clone());
            } else if inbound {
                let ports: Vec<_> = found.iter().flatten().filter_map(port).collect();
                if ports.len() == found.iter().flatten().count() {
                    self.doubt = ports.into_iter().next();
                }
            }
        }
    }
}

/// nft does not say what it is: a condition of iptables.
fn is_hidden(expression: &Value) -> bool {
    let word = expression.as_object().and_then(|map| map.iter().next());
    word.is_none_or(|(name, data)| name == "xt" || data.is_null())
}

fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A port whose packets come to the IP hooks by what it is a port of.
fn port(link: &Link) -> Option<Doubt> {
    let (master, kind) = link.takes_over()?;
    Some(Doubt::Port {
        port: link.name.clone(),
        master: links::name_of(master).unwrap_or_else(|| format!("ifindex-{master}")),
        kind: kind.to_owned(),
    })
}

/// Families of packets that a rule's chain has and a capture takes.
fn packets(family: &str, wanted: IpFamily) -> Vec<&'static str> {
    let (ip, ip6) = (
        matches!(wanted, IpFamily::Ip | IpFamily::Both),
        matches!(wanted, IpFamily::Ip6 | IpFamily::Both),
    );
    let candidates = match family {
        "ip" => vec![("ip", ip)],
        "ip6" => vec![("ip6", ip6)],
        "inet" => vec![("ip", ip), ("ip6", ip6)],
        "netdev" => vec![("netdev", true)],
        "bridge" => vec![("bridge", true)],
        _ => vec![("arp", true)],
    };
    let taken = candidates.into_iter().filter(|(_, taken)| *taken);
    taken.map(|(packets, _)| packets).collect()
}

/// The ways to a rule, of packets of one family.
#[derive(Default)]
struct Ways {
    ended_by: Option<Doubt>,
    drop_some: Vec<String>,
}

fn to_rule(place: &Place, handle: u64, way: &Way<'_>, packets: &str) -> Ways {
    let ruleset = way.ruleset;
    let same_table = |base: &&BaseChain| (&base.place.0, &base.place.1) == (&place.0, &place.1);
    let bases: Vec<_> = ruleset.bases.iter().filter(same_table).collect();
    let mut ways = Ways::default();
    let mut open = false;
    for base in bases.iter().filter(|base| way.reaches(base, place, handle)) {
        let mut blocked = false;
        for chain in ruleset.before(base, packets) {
            if !way.lets_by(chain) {
                blocked = true;
                ways.ended_by = Some(Doubt::Ended(match way.fate(&chain.place).ended_by {
                    Some(rule) => format!("{} takes every packet before", rule.named()),
                    None => format!(
                        "the chain {} comes before, and drops every packet",
                        chain.named()
                    ),
                }));
            } else if way.fate(&chain.place).drops || chain.drops_by_policy {
                ways.drop_some.push(chain.named());
            }
        }
        open |= !blocked;
    }
    if open {
        ways.ended_by = None;
        return ways;
    }
    if ways.ended_by.is_none() {
        // No base chain leads to it: something in its own chain comes before, or in one that leads there.
        let stopper = way.stopper_in(place, handle).or_else(|| {
            let mut stoppers = bases
                .iter()
                .filter_map(|base| way.fate(&base.place).ended_by);
            stoppers.next()
        });
        ways.ended_by = Some(match stopper {
            Some(rule) => Doubt::Ended(format!("{} takes every packet before", rule.named())),
            None => Doubt::Asleep(Asleep::Uncalled),
        });
    }
    ways
}
