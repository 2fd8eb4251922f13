//! What was done, how often, and what came of it: as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::pairs::{self, ENOUGH};

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Table {
    pub commit: String,
    pub worlds: u64,
    pub seconds: u64,
    pub packets: u64,
    pub checked: u64,
    pub steps: BTreeMap<String, u64>,
    pub faults: BTreeMap<String, u64>,
    /// `first, then second`, of kinds.
    pub pairs: BTreeMap<String, u64>,
    pub failures: BTreeMap<String, u64>,
}

impl Table {
    pub fn add(&mut self, other: &Table) {
        self.commit.clone_from(&other.commit);
        self.worlds += other.worlds;
        self.seconds += other.seconds;
        self.packets += other.packets;
        self.checked += other.checked;
        for (ours, theirs) in [
            (&mut self.steps, &other.steps),
            (&mut self.faults, &other.faults),
            (&mut self.pairs, &other.pairs),
            (&mut self.failures, &other.failures),
        ] {
            for (name, count) in theirs {
                *ours.entry(name.clone()).or_default() += count;
            }
        }
    }

    pub fn markdown(&self) -> String {
        let total: u64 = self.steps.values().sum::<u64>() + self.faults.values().sum::<u64>();
        let mut text = format!(
            "Commit {}: {} worlds, {} s, {total} steps, {} packets sent, {} records looked at, {} failures.\n",
            self.commit,
            self.worlds,
            self.seconds,
            grouped(self.packets),
            grouped(self.checked),
            self.failures.values().sum::<u64>()
        );
        for (title, of) in [("step", &self.steps), ("fault", &self.faults)] {
            let _ = write!(text, "\n| {title} | times |\n|---|---:|\n");
            for (name, count) in of {
                let _ = writeln!(text, "| `{name}` | {} |", grouped(*count));
            }
        }
        self.show_pairs(&mut text);
        if !self.failures.is_empty() {
            let _ = write!(text, "\n| failure | times |\n|---|---:|\n");
            for (name, count) in &self.failures {
                let _ = writeln!(text, "| {name} | {count} |");
            }
        }
        text
    }
}

impl Table {
    fn show_pairs(&self, text: &mut String) {
        let mut all = pairs::all();
        all.extend(self.pairs.keys().cloned());
        let met = |pair: &String| self.pairs.get(pair).copied().unwrap_or_default();
        let enough = all.iter().filter(|pair| met(pair) >= ENOUGH).count();
        let _ = write!(
            text,
            "\nPairs (of an order and a fault, or of two faults, of one capture and at most two steps apart): {} of {} \
             {ENOUGH} times or more.\n",
            grouped(enough as u64),
            grouped(all.len() as u64)
        );
        for times in 0..ENOUGH {
            let these: Vec<&str> = all
                .iter()
                .filter(|pair| met(pair) == times)
                .map(String::as_str)
                .collect();
            if !these.is_empty() {
                let _ = write!(
                    text,
                    "\nMet {times} times, {}: {}.\n",
                    grouped(these.len() as u64),
                    by_first(&these)
                );
            }
        }
    }
}

/// `kill: fill, stop; ...`
fn by_first(pairs: &[&str]) -> String {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (one, other) in pairs.iter().filter_map(|pair| pair.split_once(", ")) {
        found.entry(one).or_default().push(other);
    }
    let texts: Vec<String> = found
        .iter()
        .map(|(one, others)| format!("`{one}` and {}", others.join(", ")))
        .collect();
    texts.join("; ")
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
