//! What is missing: by file and interface, and each gap.

use crate::read::{Interface, Record};

/// A gap, or what a file says of an interface in sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// `file` or `gap`.
    pub kind: &'static str,
    /// Where the interface stands, as the file says it: `NFLOG group 5`.
    pub source: String,
    /// Its name.
    pub interface: String,
    /// Of a file its first packet; of a gap the latest one before it, where there is one in the file.
    pub from_ns: Option<u64>,
    /// Of a file its last packet; of a gap the packet behind it.
    pub to_ns: u64,
    /// Packets of a file that were recorded; of a gap none.
    pub packets: u64,
    /// Packets that were lost.
    pub lost: u64,
}

/// Sums up a file.
#[derive(Debug, Default)]
pub struct Losses {
    /// What was recorded and lost by each interface.
    files: Vec<Loss>,
    gaps: Vec<Loss>,
}

impl Losses {
    /// Takes a packet, of those of the file in their order.
    pub fn add(&mut self, record: &Record<'_>) {
        let Interface {
            name, description, ..
        } = record.interface;
        let known = self
            .files
            .iter()
            .position(|file| file.interface == *name && file.source == *description);
        let place = known.unwrap_or_else(|| {
            self.files.push(Loss {
                kind: "file",
                source: description.clone(),
                interface: name.clone(),
                from_ns: None,
                to_ns: record.time_ns,
                packets: 0,
                lost: 0,
            });
            self.files.len() - 1
        });
        let file = &mut self.files[place];
        if record.lost_before != 0 {
            self.gaps.push(Loss {
                kind: "gap",
                from_ns: file.from_ns.map(|_| file.to_ns),
                to_ns: record.time_ns,
                packets: 0,
                lost: record.lost_before,
                ..file.clone()
            });
        }
        let from = file.from_ns.unwrap_or(u64::MAX);
        file.from_ns = Some(from.min(record.time_ns));
        file.to_ns = file.to_ns.max(record.time_ns);
        file.packets += 1;
        file.lost = file.lost.saturating_add(record.lost_before);
    }

    /// All of it: the file's sums first.
    pub fn all(&self) -> Vec<&Loss> {
        self.files.iter().chain(&self.gaps).collect()
    }

    /// Packets that were lost.
    pub fn lost(&self) -> u64 {
        let lost = self.files.iter().map(|file| file.lost);
        lost.fold(0, u64::saturating_add)
    }

    /// When its first packet was.
    pub fn begin_ns(&self) -> Option<u64> {
        self.files.iter().filter_map(|file| file.from_ns).min()
    }
}
