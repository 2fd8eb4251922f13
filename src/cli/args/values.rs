//! Values that options take.

use clap::ValueEnum;

/// Values of `--spread`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpreadArg {
    /// By the processor that handles a packet: the least cost
    Cpu,
    /// By a hash of the flow: a connection stays in one file
    Flow,
}

/// Values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// pcapng: interfaces, directions, marks, prefixes and losses are kept
    Pcapng,
    /// classic pcap
    Pcap,
}

/// Values of `--verdict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    /// They go on their way
    Accept,
    /// They end here: for a host that only captures
    Drop,
}

/// Values of `--link-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinkArg {
    /// Ethernet: the frame's header, or a synthesized one where the interface has none
    Ethernet,
    /// From the IP header on
    Ip,
    /// NFLOG: all attributes as they came
    Nflog,
}

/// Values of `--family`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4
    #[default]
    Ip,
    /// IPv6
    Ip6,
    /// Both
    Both,
}

/// Values of `--compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressArg {
    /// Zstandard: smaller
    Zstd,
    /// LZ4: faster
    Lz4,
}
