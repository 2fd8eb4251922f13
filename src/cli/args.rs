//! Options and their help, nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::session::settings;

/// Captures IPv4 packets at the Netfilter prerouting hook.
///
/// An nftables rule copies packets to an NFLOG group; lwnflog receives them in batches of a
/// thousand and appends them to a ring of memory-mapped files that Wireshark opens at any moment.
/// Every packet the rule counted is accounted for: written, dropped (and where), or skipped (and
/// why).
#[derive(Debug, Parser)]
#[command(
    name = "lwnflog",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  nft -f nft-rules/capture.nft && lwnflog --group 5\n  lwnflog --hook\n  lwnflog --queue 5 --fail-closed\n  lwnflog --group 5 --install-rule --iface eth0 -w /var/capture -W 16\n  lwnflog rules --group 5-8 | nft -f -\n  lwnflog demo\n\nSignals: SIGINT, SIGTERM and SIGQUIT end the capture, SIGUSR1 prints figures, SIGHUP goes on to the next file;\nno other ends it without its report.\nExit status: 0 done, 1 an error, 2 wrong options, 130 after a second SIGINT or SIGTERM."
)]
pub struct Cli {
    /// What else there is to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The capture.
    #[command(flatten)]
    pub capture: CaptureArgs,
}

/// Options of a capture.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct CaptureArgs {
    #[command(flatten)]
    pub source: CaptureSourceArgs,
    /// Directory of the ring
    #[arg(
        short = 'w',
        long = "write",
        value_name = "DIR",
        default_value = "lwnflog-capture",
        help_heading = "Files"
    )]
    pub write: PathBuf,
    /// Size of a file: 200MB, 200MiB, 2G; a bare number is in millions of bytes, as tcpdump's -C
    #[arg(
        short = 'C',
        long,
        value_name = "SIZE",
        default_value = "200MB",
        help_heading = "Files"
    )]
    pub file_size: String,
    /// Files that hold packets, per group; then the oldest is overwritten. 0: no limit. One more
    /// file is being prepared
    #[arg(short = 'W', long, value_name = "N", default_value_t = settings::FILES_DEFAULT, help_heading = "Files")]
    pub files: usize,
    /// Go on to the next file every so many seconds too, if there are packets, traffic or not
    #[arg(short = 'G', long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Files")]
    pub rotate_secs: Option<u64>,
    /// Group of users that may read the directory (if it is made) and the files: a name or a number
    #[arg(long, value_name = "GROUP", help_heading = "Files")]
    pub group_owner: Option<String>,
    /// Format of the files
    ///
    /// pcapng files are valid at every moment, also while they grow and after kill -9. pcap files
    /// are valid when they are finished, or repaired; they hold no interfaces, marks, prefixes or
    /// losses.
    #[arg(long, value_enum, default_value_t = FormatArg::Pcapng, help_heading = "Files")]
    pub format: FormatArg,
    /// What a record starts with
    #[arg(long, value_enum, default_value_t = LinkArg::Ethernet, help_heading = "Files")]
    pub link_type: LinkArg,
    /// Bytes of each frame to write (with --link-type nflog, of its packet); 0: whole packets
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = settings::SNAPLEN_DEFAULT, help_heading = "Capture")]
    pub snaplen: u32,
    /// End after so many packets
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Capture")]
    pub count: Option<u64>,
    /// End after so long: 30s, 5min, 1h; a bare number is in seconds
    #[arg(long, value_name = "TIME", help_heading = "Capture")]
    pub duration: Option<String>,
    /// Count packets and throw them away: write nothing
    #[arg(long, help_heading = "Capture")]
    pub discard: bool,
    /// Install the rule for as long as the capture lasts, in a table that vanishes with this
    /// process
    #[arg(long, help_heading = "Rule")]
    pub install_rule: bool,
    /// With --install-rule or --hook: only packets that come in by this interface, or by one of
    /// several; a rule takes `eth*`, too (--hook: up to 8)
    #[arg(long, value_name = "IF", help_heading = "Rule")]
    pub iface: Vec<String>,
    /// With --install-rule or --hook: drop packets once they are captured. THIS HOST THEN RECEIVES
    /// NONE OF THEM
    #[arg(long, help_heading = "Rule")]
    pub drop: bool,
    /// With --install-rule: only packets that this nftables expression matches, such as 'tcp dport
    /// 443'
    #[arg(long = "match", value_name = "EXPR", help_heading = "Rule")]
    pub matching: Option<String>,
    /// With --install-rule: text for `log prefix`, kept in each record
    #[arg(long, value_name = "TEXT", help_heading = "Rule")]
    pub prefix: Option<String>,
    /// With --install-rule: the hook: prerouting, input, forward, output or postrouting
    #[arg(long, value_name = "HOOK", help_heading = "Rule")]
    pub at: Option<String>,
    /// With --install-rule: how several groups share packets
    #[arg(long, value_enum, value_name = "BY", help_heading = "Rule")]
    pub spread: Option<SpreadArg>,
    /// With --install-rule: at most so many packets a second; others go on unseen, and the counter
    /// beyond_rate of the table counts them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rule")]
    pub rate_limit: Option<u32>,
    /// With --hook: only packets whose mark is V under the mask M, as nft-rules/mark.nft sets it
    #[arg(long, value_name = "V/M", help_heading = "Hook")]
    pub from_mark: Option<String>,
    /// With --hook: one packet in N, by count, on each processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Hook")]
    pub sample: Option<u32>,
    /// With --hook: of each connection only the first so many bytes, both directions together: 64k,
    /// 1MB; a bare number is in bytes
    #[arg(long, value_name = "SIZE", help_heading = "Hook")]
    pub cutoff: Option<String>,
    /// With --hook: the priority among what else is at the hook [default: the first that is free
    /// from -2147483647 on]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = "Hook"
    )]
    pub priority: Option<i32>,
    /// With --hook: capture this NFLOG group where the program cannot be had, and say so
    #[arg(long, value_name = "GROUP", help_heading = "Hook")]
    pub or_group: Option<u16>,
    /// With --queue: what becomes of packets when they are recorded. drop: THIS HOST RECEIVES NONE
    /// OF THEM
    #[arg(long, value_enum, default_value_t = VerdictArg::Accept, help_heading = "Queue")]
    pub verdict: VerdictArg,
    /// With --queue: the mark (7, 0x2a) that accepted packets carry on
    #[arg(long, value_name = "N", help_heading = "Queue")]
    pub mark: Option<String>,
    /// With --queue: drop packets that find the queue full, so that nothing passes unrecorded
    ///
    /// By default they pass unrecorded and are counted. With this option A STOPPED OR SLOW CAPTURE
    /// STOPS THE TRAFFIC.
    #[arg(long, help_heading = "Queue")]
    pub fail_closed: bool,
    /// With --queue: packets that may wait for their verdict. So many does a stopped capture hold
    /// back
    ///
    /// 65536 are reached after 0.1 s at 700,000 packets a second, 6.6 s at 10,000, 11 minutes at
    /// 100; then packets pass unrecorded.
    #[arg(long, value_name = "N", default_value_t = settings::QUEUE_LEN_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(settings::QUEUE_LEN_MAX)), help_heading = "Queue")]
    pub queue_len: u32,
    /// Receive buffer of each socket, or the rings of --hook in sum; a bare number is in KiB, as
    /// tcpdump's -B
    #[arg(
        short = 'B',
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        help_heading = "Tuning (the defaults need none)"
    )]
    pub buffer_size: String,
    /// Packets that the kernel hands over at a time
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Tuning (the defaults need none)")]
    pub batch: u32,
    /// How long the kernel waits for a batch to fill, 10 to 100 milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 100,
        help_heading = "Tuning (the defaults need none)"
    )]
    pub flush_ms: u64,
    /// The name that `lwnflog ctl` knows this capture by [default: g5, q5, prerouting, as its files]
    #[arg(long, value_name = "NAME", help_heading = "Control")]
    pub name: Option<String>,
    /// Group of users that may read figures and settings through the control socket
    #[arg(long, value_name = "GROUP", help_heading = "Control")]
    pub control_group: Option<String>,
    /// No control socket
    #[arg(long, help_heading = "Control")]
    pub no_control: bool,
    /// No status line, no start-up lines; errors and the report stay
    #[arg(short = 'q', long, help_heading = "Output")]
    pub quiet: bool,
    /// One JSON object a line on standard output: "stats" each second, "report" at the end
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Where a capture's packets come from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct CaptureSourceArgs {
    /// NFLOG groups: 5, 5-8 or 5,7. One thread and one socket each
    #[arg(short = 'g', long, value_name = "LIST")]
    pub group: Option<String>,
    /// NFQUEUE queues: 5 or 5-8. Packets wait until they are recorded. One thread and one socket
    /// each
    #[arg(long, value_name = "LIST")]
    pub queue: Option<String>,
    /// The hook itself: prerouting, input or forward. No rule is needed; a verified program copies
    /// packets into rings that are mapped (Linux 6.4)
    #[arg(long, value_name = "HOOK", num_args = 0..=1, default_missing_value = "prerouting")]
    pub hook: Option<String>,
}

/// Where a rule sends packets.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SourceArgs {
    /// NFLOG groups: 5, 5-8 or 5,7. One thread and one socket each
    #[arg(short = 'g', long, value_name = "LIST")]
    pub group: Option<String>,
    /// NFQUEUE queues: 5 or 5-8. Packets wait until they are recorded. One thread and one socket
    /// each
    #[arg(long, value_name = "LIST")]
    pub queue: Option<String>,
}

/// What there is to do beside capturing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A first minute: capture some traffic in namespaces of its own, without touching this host
    Demo {
        /// Directory of the ring
        #[arg(
            short = 'w',
            long = "write",
            value_name = "DIR",
            default_value = "lwnflog-capture/demo"
        )]
        write: PathBuf,
        /// How long to capture
        #[arg(long, value_name = "SECS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
        secs: u64,
    },
    /// Print the rules that a capture needs, for `nft -f -`
    Rules {
        /// Where packets are to go.
        #[command(flatten)]
        source: SourceArgs,
        /// Only packets that come in by this interface, or by one of several; `eth*` is any such
        #[arg(long, value_name = "IF")]
        iface: Vec<String>,
        /// Only packets that this nftables expression matches, such as 'tcp dport 443'
        #[arg(long = "match", value_name = "EXPR")]
        matching: Option<String>,
        /// The hook: prerouting, input, forward, output or postrouting
        #[arg(long, value_name = "HOOK")]
        at: Option<String>,
        /// How several groups share packets
        #[arg(long, value_enum, value_name = "BY")]
        spread: Option<SpreadArg>,
        /// At most so many packets a second; others go on unseen, and the counter beyond_rate counts
        /// them
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate_limit: Option<u32>,
        /// Drop packets once they are logged. THIS HOST THEN RECEIVES NONE OF THEM
        #[arg(long)]
        drop: bool,
        /// Text for `log prefix`, kept in each record
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
    },
    /// Ask a running capture, or change it
    Ctl(CtlArgs),
    /// Print a manual page, for `man -l -`
    Man {
        /// Of this command; lwnflog's own otherwise
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
    /// Say how much disk a rate of packets takes
    Size {
        /// Packets a second: 500k, 1M
        #[arg(long, value_name = "PPS")]
        rate: String,
        /// How many hours the ring is to reach back
        #[arg(long, value_name = "H", default_value_t = 24.0)]
        hours: f64,
        /// Bytes of each frame to write; 0: whole packets, all of the longest
        #[arg(short = 's', long, value_name = "BYTES", default_value_t = settings::SNAPLEN_DEFAULT)]
        snaplen: u32,
        /// Size of a file
        #[arg(short = 'C', long, value_name = "SIZE", default_value = "2GB")]
        file_size: String,
        /// Rings of --hook in sum
        #[arg(short = 'B', long, value_name = "SIZE", default_value = "64MiB")]
        buffer_size: String,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Make capture files readable whose writer was killed or lost power, and cut them to their
    /// length
    ///
    /// What can be read stays as it is. Where more than unused space is lost, the file is copied to
    /// FILE.orig before it is changed.
    Repair {
        /// Change nothing, say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// The files, changed in place
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Options of `lwnflog ctl`.
#[derive(Debug, Args)]
#[command(
    after_help = "Commands:\n  stats, settings            figures and settings of the moment, as JSON\n  pause, resume              copy nothing meanwhile\n  rotate                     go on to the next file\n  snaplen BYTES              of each frame, from a new file on\n  batch PACKETS, flush-ms MS\n  buffer-size SIZE           of a socket\n  files N, file-size SIZE    of the ring\n  iface IF... | all, match EXPR | all\n  sample N, cutoff SIZE      of a hook that was begun with them\n  confirm                    what --confirm was said with stays\n  stop                       end the capture\n  list                       the captures that run"
)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct CtlArgs {
    /// The capture's name (not needed where one runs), a command and its values
    #[arg(required = true, value_name = "[NAME] COMMAND [VALUE]")]
    pub words: Vec<String>,
    /// The change takes itself back after this time, unless `ctl confirm` comes: 60s, 5min
    #[arg(long, value_name = "TIME")]
    pub confirm: Option<String>,
    /// Print the answer as it came
    #[arg(long)]
    pub json: bool,
    /// Where the sockets are [default: /run/lwnflog, or $XDG_RUNTIME_DIR/lwnflog]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

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
    /// IPv4: from the IP header on
    Ip,
    /// NFLOG: all attributes as they came
    Nflog,
}
