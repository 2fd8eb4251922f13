//! What was done, how often, and what came of it: as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

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
        let fewest = |count: u64| self.pairs.values().filter(|times| **times >= count).count();
        let _ = write!(
            text,
            "\nPairs (one of an order and a fault, or two faults, at most two steps apart): {} met, {} of them 5 times or more.\n",
            self.pairs.len(),
            fewest(5)
        );
        if !self.failures.is_empty() {
            let _ = write!(text, "\n| failure | times |\n|---|---:|\n");
            for (name, count) in &self.failures {
                let _ = writeln!(text, "| {name} | {count} |");
            }
        }
        text
    }
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
