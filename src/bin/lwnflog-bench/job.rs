//! What one measurement is about.

use serde::{Deserialize, Serialize};

/// The thesis's tests, and one of today.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Test {
    /// Table 4.2: packets are counted and dropped, nothing captures
    Capacity,
    /// Tables 4.3, 4.4: packets are counted and thrown away by the tool
    Counting,
    /// Tables 4.5, 4.6: the first 64 bytes of each packet are written
    Writing,
    /// Whole packets are written; not in the thesis
    Whole,
}

impl Test {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Counting => "counting",
            Self::Writing => "writing",
            Self::Whole => "whole",
        }
    }

    /// Whether the tool writes files.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Writing | Self::Whole)
    }
}

/// The thesis's "first 64 bytes of every packet".
pub(crate) const SNAP_LEN: usize = 64;
/// What precedes the IPv4 header, which NFLOG counts its snap length from.
pub(crate) const ETHERNET_LEN: usize = 14;

/// The files a tool may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) files: u64,
    pub(crate) megabytes_per_file: u64,
}

impl Ring {
    /// The thesis's file size.
    const MEGABYTES_PER_FILE: u64 = 200;
    /// Space that no reader's view of the ring may lose: the file being written when it stops is
    /// partly filled, and the next one is already emptied.
    const RESERVE_FILES: u64 = 2;
    /// The costliest record: a pcapng block with its options.
    const RECORD_OVERHEAD: u64 = 64;

    pub(crate) fn bytes(self) -> u64 {
        self.files * self.megabytes_per_file * 1_000_000
    }

    /// How many packets surely stay in the ring until they have been counted.
    pub(crate) fn capacity(self, captured_len: usize) -> u64 {
        let files = self.files.saturating_sub(Self::RESERVE_FILES).max(1);
        files * self.megabytes_per_file * 1_000_000 / (captured_len as u64 + Self::RECORD_OVERHEAD)
    }

    /// How many packets go once round it at least: with the smallest records, pcap's.
    pub(crate) fn one_turn(self, captured_len: usize) -> u64 {
        self.bytes() / (captured_len as u64 + 16)
    }
}

/// One kind of measurement, the same for each tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) test: Test,
    pub(crate) frame_len: usize,
    pub(crate) senders: usize,
    pub(crate) packets: u64,
    pub(crate) ring: Ring,
}

impl Job {
    pub(crate) fn new(test: Test, frame_len: usize, senders: usize, packets: u64) -> Self {
        let files = if test == Test::Whole { 8 } else { 4 };
        let ring = Ring {
            files,
            megabytes_per_file: Ring::MEGABYTES_PER_FILE,
        };
        let job = Self {
            test,
            frame_len,
            senders,
            packets,
            ring,
        };
        job.within_ring()
    }

    /// The same with a ring of other files.
    pub(crate) fn with_files_of(mut self, megabytes: u64) -> Self {
        self.ring.megabytes_per_file = megabytes;
        self.within_ring()
    }

    /// The same with no more packets than its ring can hold, if it writes at all.
    fn within_ring(mut self) -> Self {
        if self.test.writes() {
            self.packets = self.packets.min(self.ring.capacity(self.captured_len()));
        }
        self
    }

    /// Bytes of a frame to capture.
    pub(crate) fn snap_len(&self) -> usize {
        if self.test == Test::Whole {
            self.frame_len.max(1514)
        } else {
            SNAP_LEN
        }
    }

    /// The same, from the IPv4 header.
    pub(crate) fn ip_snap_len(&self) -> usize {
        self.snap_len() - ETHERNET_LEN
    }

    /// Bytes of each frame that end in a file.
    pub(crate) fn captured_len(&self) -> usize {
        self.snap_len().min(self.frame_len)
    }

    /// The most that the measured packets and `more` take in files.
    pub(crate) fn file_bytes(&self, more: u64) -> u64 {
        (self.packets + more) * (self.captured_len() as u64 + Ring::RECORD_OVERHEAD)
    }

    /// For people: `writing, 64 bytes, 1 sender`.
    pub(crate) fn title(&self) -> String {
        let plural = if self.senders == 1 { "" } else { "s" };
        format!(
            "{}, {} bytes, {} sender{plural}",
            self.test.name(),
            self.frame_len,
            self.senders
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_fits_in_the_ring() {
        let job = Job::new(Test::Writing, 64, 1, u64::MAX);
        assert_eq!(job.packets, 2 * 200_000_000 / 128);
        let job = Job::new(Test::Whole, 1500, 1, u64::MAX);
        assert!(job.packets * (1500 + 64) <= 6 * 200_000_000);
        let job = Job::new(Test::Counting, 64, 1, 50_000_000);
        assert_eq!(job.packets, 50_000_000, "nothing is written: no limit");
    }
}
