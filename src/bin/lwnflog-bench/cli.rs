//! Options and their help, nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::job::Test;
use crate::readers::ring::Options;

/// Compares lwnflog with other capture tools, as chapter 4 of the thesis did.
///
/// Everything happens in network namespaces of its own; without root, in a user namespace. Without
/// a command the comparison runs.
#[derive(Debug, Parser)]
#[command(
    name = "lwnflog-bench",
    version,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What every command needs to know.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The lwnflog to measure [default: the one beside lwnflog-bench]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) lwnflog: Option<PathBuf>,
    /// Where captures are written, and removed again: on a disk, not in memory [default: ./target,
    /// or else the directory for temporary files]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Send at this many packets a second from each sender, instead of at full speed
    #[arg(long, value_name = "PPS", global = true)]
    pub(crate) rate: Option<u64>,
    /// Print what the tools said
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

/// Which part of the comparison to run.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// All tests with all sizes and 5 rounds, within half an hour [default: --quick]
    #[arg(long, conflicts_with = "quick")]
    pub(crate) full: bool,
    /// 64-byte frames, one sender, one round: within two minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Tests to run
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TEST")]
    pub(crate) tests: Vec<Test>,
    /// Frame sizes in bytes, without frame check sequence
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    pub(crate) sizes: Vec<usize>,
    /// Numbers of sending cores
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub(crate) senders: Vec<usize>,
    /// Tools to run, as `lwnflog-bench tools` names them; the capacity row always runs
    #[arg(long, value_delimiter = ',', value_name = "TOOL")]
    pub(crate) tools: Vec<String>,
    /// Runs of each tool, in turn with the others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) rounds: Option<u64>,
    /// Packets to send and measure in each run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) packets: Option<u64>,
    /// Send the packets of this pcap or pcapng file instead, as tcpreplay does
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<PathBuf>,
}

/// How latency is measured.
#[derive(Debug, Args)]
pub(crate) struct Latency {
    /// Probes of each set-up and round, --rate of them a second [default rate: 1000]
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) probes: u64,
    /// Rounds; in each, every set-up has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) rounds: u64,
    /// Send so many other packets a second meanwhile, of 64 bytes, to the router itself: they are
    /// captured as the probes are, and dropped behind that
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) load: Option<u64>,
    /// Bind probe and echo to the first processor and the tool to the others, instead of leaving
    /// all three to the scheduler: then a queue always costs a wake-up of another processor, there
    /// and back
    #[arg(long)]
    pub(crate) apart: bool,
    /// Write all figures as JSON (`-`: standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the table as Markdown (`-`: standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// Where results go, beside the terminal.
#[derive(Debug, Default, Args)]
pub(crate) struct Output {
    /// Write all figures as JSON (`-`: standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write tables as Markdown, with the thesis's own figures beside (`-`: standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Write plots as SVG files into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tools, their settings and why they are the best ones, and what is missing
    Tools,
    /// Try every tool with a few packets: correctness only, in seconds
    Smoke {
        /// Tools to try [default: all]
        #[arg(long, value_delimiter = ',', value_name = "TOOL")]
        tools: Vec<String>,
    },
    /// Send packets without end and watch that neither memory nor cost grows
    Soak {
        /// How many packets
        #[arg(long, default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(100..))]
        packets: u64,
        /// Frame size in bytes
        #[arg(long, default_value_t = 64)]
        frame_len: usize,
        /// lwnflog or lwnflog-hook
        #[arg(long, default_value = "lwnflog")]
        tool: String,
    },
    /// Ask a ring of pcapng files questions, by `lwnflog read` and by `tcpdump -r`
    ///
    /// In turn, after one round to warm up; the files should fit into memory.
    Reading {
        /// The ring's directory
        ring: PathBuf,
        /// Rounds of each question
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
        rounds: u64,
    },
    /// Measure how much later a forwarded packet arrives: no capture, a group, the hook, a queue,
    /// tcpdump's queue
    ///
    /// Three namespaces: a probe sends a datagram of 64 bytes through a router to an echo, and
    /// waits for it to come back through the router. The time of this round trip is measured, on
    /// one clock. In the router a rule of the prerouting hook hands packets from the sender to the
    /// tool: each probe is captured once, on its way there. Wake-ups of the probe and of the echo
    /// are part of every figure.
    Latency(Latency),
    /// Break the cost of a packet down by stage
    Profile {
        #[command(flatten)]
        selection: Selection,
    },
    /// Make tables and plots again from a file that --json wrote
    Render {
        /// The file
        results: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Receive one group's messages, count them and do nothing else
    #[command(hide = true)]
    NullReader {
        #[arg(long)]
        group: u16,
        /// Bytes of each packet to copy; 0: none
        #[arg(long)]
        copy: u32,
    },
    /// Capture at another hook with lwnflog's own ring writer
    #[command(hide = true)]
    RingReader(Options),
}
