//! The rules as nft lists them: as JSON, and as text for what its JSON leaves out or has wrong (nft
//! 1.0.6: dormant tables, the devices of ingress chains).

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::printed;

/// Where a chain is: family, table and name.
pub(super) type Place = (String, String, String);

/// A chain at a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BaseChain {
    pub(super) place: Place,
    pub(super) hook: String,
    pub(super) priority: i64,
    pub(super) drops_by_policy: bool,
    /// At ingress and egress.
    pub(super) devices: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) handle: u64,
    pub(super) expressions: Vec<Value>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ruleset {
    /// Of tables that are not dormant.
    pub(super) bases: Vec<BaseChain>,
    chains: HashMap<Place, Vec<Rule>>,
    /// Named maps of verdicts: family, table and name.
    maps: HashMap<Place, Vec<Value>>,
    /// Each rule as nft has it, by its chain and handle.
    texts: HashMap<(Place, u64), String>,
}

impl Rule {
    /// As nft would have it addressed.
    pub(super) fn named(&self) -> String {
        let (family, table, chain) = &self.place;
        format!("{family} {table} {chain} handle {}", self.handle)
    }

    /// What of it selects among packets.
    pub(super) fn selection(&self) -> impl Iterator<Item = &Value> {
        let selects = |expression: &&Value| {
            let word = expression.as_object().and_then(|map| map.iter().next());
            word.is_none_or(|(name, data)| !selects_nothing(name, data))
        };
        self.expressions.iter().filter(selects)
    }
}

/// Whether every packet comes by an expression, or its way ends there, whatever it is.
fn selects_nothing(name: &str, data: &Value) -> bool {
    matches!(name, "drop" | "accept" | "return" | "continue") || lets_all_by(name, data)
}

/// Whether every packet comes by an expression that is no verdict.
pub(super) fn lets_all_by(name: &str, data: &Value) -> bool {
    const STATEMENTS: [&str; 9] = [
        "counter",
        "log",
        "comment",
        "mangle",
        "notrack",
        "dup",
        "flow",
        "ct helper",
        "tproxy",
    ];
    match name {
        // Of a quota or a limit that is named, nothing is known; of a counter all.
        "match" => data["op"] == "==" && is_everything(&data["right"]),
        name => STATEMENTS.contains(&name),
    }
}

/// `0.0.0.0/0`, `0-255`, `*`
pub(super) fn is_everything(key: &Value) -> bool {
    let range = &key["range"];
    key == "*" || key["prefix"]["len"] == 0 || (range[0] == 0 && range[1] == 255)
}

impl BaseChain {
    pub(super) fn named(&self) -> String {
        let (family, table, chain) = &self.place;
        format!("{family} {table} {chain}")
    }

    /// Whether one packet may pass both.
    pub(super) fn meets(&self, other: &BaseChain) -> bool {
        /// In which order a packet passes hooks: to this host, through it, from it.
        const WAYS: [&[&str]; 3] = [
            &["ingress", "prerouting", "input"],
            &["ingress", "prerouting", "forward", "postrouting", "egress"],
            &["output", "postrouting", "egress"],
        ];
        let (one, two) = (&*self.place.0, &*other.place.0);
        let covers = |wide: &str, narrow: &str| match wide {
            "netdev" => true,
            "inet" => narrow.starts_with("ip"),
            _ => false,
        };
        let families = one == two || covers(one, two) || covers(two, one);
        let elsewhere = self.hook == other.hook
            && !self.devices.is_empty()
            && !other.devices.is_empty()
            && !self
                .devices
                .iter()
                .any(|device| other.devices.contains(device));
        let on = |way: &&[&str]| {
            [self, other]
                .iter()
                .all(|chain| way.contains(&&*chain.hook))
        };
        families && !elsewhere && (self.hook == other.hook || WAYS.iter().any(on))
    }
}

fn word(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

impl Ruleset {
    /// What `nft` lists; `None` where it is missing, or has not the right.
    pub(super) fn listed() -> Option<Ruleset> {
        let json = printed("nft", &["-j", "-a", "list", "ruleset"])?;
        Ruleset::of(&json, &printed("nft", &["-a", "list", "ruleset"])?)
    }

    pub(super) fn of(json: &str, text: &str) -> Option<Ruleset> {
        let all: Value = serde_json::from_str(json).ok()?;
        let mut ruleset = Ruleset::default();
        for item in all["nftables"].as_array()? {
            if let Some(chain) = item.get("chain") {
                let place = place(chain, "name")?;
                ruleset.chains.entry(place.clone()).or_default();
                ruleset.bases.extend(base_chain(chain, place));
            }
            if let Some(rule) = item.get("rule") {
                let rule = the_rule(rule)?;
                let rules = ruleset.chains.entry(rule.place.clone()).or_default();
                rules.push(rule);
            }
            if let Some(map) = item.get("map") {
                let elements = map["elem"].as_array().cloned().unwrap_or_default();
                ruleset.maps.insert(place(map, "name")?, elements);
            }
        }
        ruleset.read_text(text);
        Some(ruleset)
    }

    fn read_text(&mut self, text: &str) {
        let mut dormant = HashSet::new();
        let mut here: Place = Place::default();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match &words[..] {
                ["table", family, table, ..] => {
                    here = ((*family).to_owned(), (*table).to_owned(), String::new());
                }
                ["flags", flags @ ..] if flags.iter().any(|flag| flag.contains("dormant")) => {
                    dormant.insert((here.0.clone(), here.1.clone()));
                }
                ["chain", chain, ..] => (*chain).clone_into(&mut here.2),
                ["type", _, "hook", ..] => {
                    let devices = devices(line);
                    let base = self.bases.iter_mut().find(|base| base.place == here);
                    if let Some(base) = base {
                        base.devices = devices;
                    }
                }
                [.., "#", "handle", handle] => {
                    let rule = line.rsplit_once(" # handle ").map(|(rule, _)| rule.trim());
                    if let (Some(rule), Ok(handle)) = (rule, handle.parse()) {
                        self.texts.insert((here.clone(), handle), rule.to_owned());
                    }
                }
                _ => {}
            }
        }
        self.bases
            .retain(|base| !dormant.contains(&(base.place.0.clone(), base.place.1.clone())));
    }

    /// A chain, as it is kept here, and its rules.
    pub(super) fn chain(&self, chain: &Place) -> Option<(&Place, &[Rule])> {
        let (place, rules) = self.chains.get_key_value(chain)?;
        Some((place, rules.as_slice()))
    }

    /// The rules of a chain, in order.
    pub(super) fn rules_of(&self, chain: &Place) -> &[Rule] {
        self.chains.get(chain).map_or(&[], Vec::as_slice)
    }

    /// A chain's place, where there is such a chain in the rule's table.
    pub(super) fn chain_of(&self, rule: &Rule, name: &str) -> Option<&Place> {
        let (family, table, _) = rule.place.clone();
        let found = self.chains.get_key_value(&(family, table, name.to_owned()));
        found.map(|(place, _)| place)
    }

    /// The elements of a map that a rule of this table names `@name`.
    pub(super) fn map(&self, (family, table, _): &Place, name: &str) -> &[Value] {
        let place = (
            family.clone(),
            table.clone(),
            name.trim_start_matches('@').to_owned(),
        );
        self.maps.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The chains at hooks all of whose packets come to a chain, each as often as they do.
    pub(super) fn points_to(&self, place: &Place) -> Vec<&BaseChain> {
        /// As deep as the kernel lets chains lead to one another.
        const DEPTH_MAX: usize = 16;
        /// Twice is as much as anybody asks for.
        const POINTS_MAX: usize = 32;
        let (mut points, mut next) = (Vec::new(), vec![(place, 0)]);
        while let Some((place, depth)) = next.pop() {
            if let Some(base) = self.bases.iter().find(|base| base.place == *place) {
                points.push(base);
            } else if depth < DEPTH_MAX && next.len() + points.len() < POINTS_MAX {
                next.extend(
                    self.callers_of(place)
                        .map(|caller| (&caller.place, depth + 1)),
                );
            }
        }
        points
    }

    /// The rules by which all packets that come to them are led to a chain.
    fn callers_of<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Rule> {
        let same_table = |rule: &&Rule| (&rule.place.0, &rule.place.1) == (&place.0, &place.1);
        let leads = |rule: &&Rule| {
            let target = |expression: &Value| {
                let jump = expression.get("jump").or_else(|| expression.get("goto"));
                jump.is_some_and(|jump| jump["target"] == place.2.as_str())
            };
            rule.expressions.iter().any(target) && rule.selection().all(target)
        };
        let rules = self.chains.values().flatten();
        rules.filter(same_table).filter(leads)
    }

    /// A rule as nft has it.
    pub(super) fn text_of(&self, chain: &Place, handle: u64) -> Option<&str> {
        self.texts.get(&(chain.clone(), handle)).map(String::as_str)
    }

    /// Base chains whose packets come to `base` later, of one family of packets (`ip`, `ip6`, or
    /// another that has hooks of its own), in order.
    pub(super) fn before(&self, base: &BaseChain, packets: &str) -> Vec<&BaseChain> {
        let hooks: &[&str] = match &*base.hook {
            "input" => &["prerouting", "input"],
            "forward" => &["prerouting", "forward"],
            other => &[other],
        };
        let turn = |chain: &BaseChain| hooks.iter().position(|hook| *hook == chain.hook);
        let own = (turn(base), base.priority);
        let sees = |chain: &&BaseChain| {
            let inet = chain.place.0 == "inet" && packets.starts_with("ip");
            let same_devices = chain.devices == base.devices;
            (chain.place.0 == packets || inet) && same_devices
        };
        let earlier =
            |chain: &&BaseChain| turn(chain).is_some() && (turn(chain), chain.priority) < own;
        let mut chains: Vec<_> = self.bases.iter().filter(sees).filter(earlier).collect();
        chains.sort_by_key(|chain| (turn(chain), chain.priority));
        chains
    }
}

/// `device "eth0"`, `devices = { eth0, eth1 }`
fn devices(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once(" device") else {
        return Vec::new();
    };
    let rest = rest.split(" priority").next().unwrap_or_default();
    let names = rest.split(|c: char| c.is_whitespace() || "{},=\"".contains(c));
    names
        .filter(|name| !name.is_empty() && *name != "s")
        .map(ToOwned::to_owned)
        .collect()
}

fn place(object: &Value, name: &str) -> Option<Place> {
    Some((
        word(object, "family")?,
        word(object, "table")?,
        word(object, name)?,
    ))
}

fn base_chain(chain: &Value, place: Place) -> Option<BaseChain> {
    Some(BaseChain {
        place,
        hook: word(chain, "hook")?,
        priority: chain["prio"].as_i64()?,
        drops_by_policy: chain["policy"] == "drop",
        devices: Vec::new(),
    })
}

fn the_rule(rule: &Value) -> Option<Rule> {
    Some(Rule {
        place: place(rule, "chain")?,
        handle: rule["handle"].as_u64()?,
        expressions: rule["expr"].as_array().cloned().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_chain() {
        let of = |rest: &str| devices(&format!("\t\ttype filter hook ingress {rest}"));
        assert_eq!(of("device \"eth0\" priority 0; policy accept;"), ["eth0"]);
        assert_eq!(of("devices = { lan, \"s\" } priority -1;"), ["lan"]);
        assert_eq!(of("priority 0"), [""; 0]);
    }
}
