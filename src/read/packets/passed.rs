//! What stands in a file beside packets as they are known here, and is in no copy of them.

use super::Packets;

/// Name Resolution Block, and Decryption Secrets Block (sections 4.5 and 4.7 of the draft).
const NAMES: u32 = 4;
const SECRETS: u32 = 10;

/// How much of it there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Blocks of names.
    pub names: u64,
    /// Blocks of keys.
    pub secrets: u64,
    /// Other blocks, statistics not among them.
    pub others: u64,
    /// Statistics of interfaces that have lost packets.
    pub losses: u64,
    /// Packets with options beside their direction, their losses, their first comment and lwnflog's note.
    pub options: u64,
}

impl Passed {
    pub(in crate::read) fn add(&mut self, other: &Passed) {
        self.names += other.names;
        self.secrets += other.secrets;
        self.others += other.others;
        self.losses += other.losses;
        self.options += other.options;
    }
}

impl Packets {
    pub(super) fn count_passed(&mut self, kind: u32) {
        match kind {
            NAMES => self.passed.names += 1,
            SECRETS => self.passed.secrets += 1,
            _ => self.passed.others += 1,
        }
    }
}
