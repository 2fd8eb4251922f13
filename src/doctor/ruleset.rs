//! The rules as `nft -j list ruleset` has them: what comes before a rule, and whether it lets
//! packets by.

use serde_json::Value;

use super::printed;

/// One base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) hook: String,
    pub(super) priority: i64,
    pub(super) drops_by_policy: bool,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) handle: u64,
    expressions: Vec<Value>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ruleset {
    pub(super) chains: Vec<Chain>,
    pub(super) rules: Vec<Rule>,
    /// Flowtables, and whether the device forwards for them.
    pub(super) flowtables: Vec<(String, bool)>,
}

/// What a rule does to packets that meet it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// All of them go no further in this chain.
    All,
    /// Those that it matches do not.
    Some,
    /// None of them.
    Nothing,
}

impl Rule {
    /// Whether it has a word of the language, such as `drop`.
    pub(super) fn has(&self, word: &str) -> bool {
        self.expressions
            .iter()
            .any(|expression| expression.get(word).is_some())
    }

    pub(super) fn ends(&self) -> Ends {
        const VERDICTS: [&str; 6] = ["accept", "drop", "reject", "return", "goto", "queue"];
        if !VERDICTS.iter().any(|verdict| self.has(verdict)) {
            return Ends::Nothing;
        }
        // Whatever stands beside a verdict and counts, logs or marks lets all packets by.
        let harmless = |expression: &Value| {
            let passes = ["counter", "log", "comment", "mangle", "notrack"];
            let words = VERDICTS.iter().chain(&passes);
            words.into_iter().any(|word| expression.get(word).is_some())
        };
        match self.expressions.iter().all(harmless) {
            true => Ends::All,
            false => Ends::Some,
        }
    }

    pub(super) fn drops(&self) -> bool {
        self.has("drop") || self.has("reject")
    }

    /// As nft would have it addressed.
    pub(super) fn named(&self) -> String {
        format!(
            "{} {} {} handle {}",
            self.family, self.table, self.chain, self.handle
        )
    }
}

fn word(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

impl Ruleset {
    /// What `nft` lists; `None` where it is missing, or has not the right.
    pub(super) fn listed() -> Option<Ruleset> {
        Ruleset::of(&printed("nft", &["-j", "-a", "list", "ruleset"])?)
    }

    fn of(json: &str) -> Option<Ruleset> {
        let all: Value = serde_json::from_str(json).ok()?;
        let mut ruleset = Ruleset::default();
        for item in all["nftables"].as_array()? {
            if let Some(chain) = item.get("chain") {
                ruleset.chains.extend(base_chain(chain));
            }
            if let Some(rule) = item.get("rule") {
                ruleset.rules.extend(the_rule(rule));
            }
            if let Some(flowtable) = item.get("flowtable") {
                let offload = flowtable["flags"].to_string().contains("offload");
                ruleset
                    .flowtables
                    .extend(word(flowtable, "name").map(|name| (name, offload)));
            }
        }
        Some(ruleset)
    }

    /// The rules of a chain, in order.
    pub(super) fn rules_of(&self, family: &str, table: &str, chain: &str) -> Vec<&Rule> {
        let of = |rule: &&Rule| rule.family == family && rule.table == table && rule.chain == chain;
        self.rules.iter().filter(of).collect()
    }

    /// Base chains at the same hook that IPv4 packets meet before this one, in order.
    pub(super) fn before(&self, family: &str, table: &str, chain: &str) -> Vec<&Chain> {
        let is_it =
            |other: &&Chain| other.family == family && other.table == table && other.name == chain;
        let Some(own) = self.chains.iter().find(is_it) else {
            return Vec::new();
        };
        let same_way = |other: &&Chain| {
            let here = other.hook == own.hook && other.priority < own.priority;
            here && ["ip", "inet"].contains(&other.family.as_str()) || is_ingress(other)
        };
        let mut chains: Vec<_> = self.chains.iter().filter(same_way).collect();
        chains.sort_by_key(|chain| (!is_ingress(chain), chain.priority));
        chains
    }
}

/// Before all the others, of one device.
fn is_ingress(chain: &Chain) -> bool {
    chain.hook == "ingress"
}

fn base_chain(chain: &Value) -> Option<Chain> {
    Some(Chain {
        family: word(chain, "family")?,
        table: word(chain, "table")?,
        name: word(chain, "name")?,
        hook: word(chain, "hook")?,
        priority: chain["prio"].as_i64()?,
        drops_by_policy: chain["policy"] == "drop",
    })
}

fn the_rule(rule: &Value) -> Option<Rule> {
    Some(Rule {
        family: word(rule, "family")?,
        table: word(rule, "table")?,
        chain: word(rule, "chain")?,
        handle: rule["handle"].as_u64()?,
        expressions: rule["expr"].as_array()?.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_packets_way_is_told_from_what_does_not() {
        let rule = |expr: &str| {
            let json = format!(
                r#"{{"nftables":[{{"rule":{{"family":"ip","table":"t","chain":"c","handle":4,"expr":{expr}}}}}]}}"#
            );
            Ruleset::of(&json).unwrap().rules[0].ends()
        };
        assert_eq!(
            rule(r#"[{"counter":{"packets":1}},{"drop":null}]"#),
            Ends::All
        );
        assert_eq!(rule(r#"[{"match":{"op":"=="}},{"drop":null}]"#), Ends::Some);
        assert_eq!(
            rule(r#"[{"limit":{"rate":1}},{"accept":null}]"#),
            Ends::Some
        );
        assert_eq!(rule(r#"[{"log":{"group":5}}]"#), Ends::Nothing);
    }
}
