//! Options of a capture and their help.

use std::path::PathBuf;

use clap::Args;

use super::values::{CompressArg, FamilyArg, FormatArg, LinkArg, SpreadArg, VerdictArg};
use crate::metrics::Place;
use crate::session::settings;

/// Options of a capture.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct CaptureArgs {
    #[command(flatten)]
    pub source: CaptureSourceArgs,
    /// Directory of the ring; `-` is a stream on standard output, whose reader may be 32 MiB behind
    /// before packets are dropped [default: lwnflog-capture; of a service, its name below
    /// $STATE_DIRECTORY]
    #[arg(
        short = 'w',
        long = "write",
        value_name = "DIR",
        help_heading = "Files"
    )]
    pub write: Option<PathBuf>,
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
    /// file is being prepared [default: 8]
    #[arg(short = 'W', long, value_name = "N", help_heading = "Files")]
    pub files: Option<usize>,
    /// Go on to the next file every so many seconds too, if there are packets, traffic or not
    #[arg(short = 'G', long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Files")]
    pub rotate_secs: Option<u64>,
    /// Bytes that the files may take in sum, per group, those being written included; without
    /// --files they alone are the limit
    #[arg(long, value_name = "SIZE", help_heading = "Files")]
    pub max_bytes: Option<String>,
    /// Remove files whose last packet is older: 30min, 12h, 7d. Each file then holds an eighth of it
    /// at the most, unless -G says otherwise
    #[arg(long, value_name = "TIME", help_heading = "Files")]
    pub max_age: Option<String>,
    /// Compress finished files, in a process of its own
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Files")]
    pub compress: Option<CompressArg>,
    /// Run this for each finished file, the last one included, with the file's path as its last
    /// argument: in a process of its own, two at a time. No shell sees it
    #[arg(short = 'z', long, value_name = "CMD", help_heading = "Files")]
    pub on_rotate: Option<String>,
    /// Have `sh -c` run what --on-rotate says; the file's path is $1
    #[arg(long, requires = "on_rotate", help_heading = "Files")]
    pub on_rotate_shell: bool,
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
    /// Which packets to record; of a rule that is there already, those of others are skipped and
    /// counted
    #[arg(
        long,
        value_enum,
        value_name = "FAMILY",
        default_value_t,
        help_heading = "Capture"
    )]
    pub family: FamilyArg,
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
    #[arg(long, value_name = "IF", value_delimiter = ',', help_heading = "Rule")]
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
    /// With --install-rule: the hook: prerouting, input, accepted (by input's rules), forward, output or
    /// postrouting; several give each packet's way, for `lwnflog path`
    #[arg(
        long,
        value_name = "HOOK",
        value_delimiter = ',',
        help_heading = "Rule"
    )]
    pub at: Vec<String>,
    /// With --install-rule: at all of them
    #[arg(long, conflicts_with = "at", help_heading = "Rule")]
    pub trace: bool,
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
    /// Keep files, out of the ring's reach, when a packet is logged to this group, which nothing else
    /// reads: in the directory `kept`
    #[arg(long, value_name = "GROUP", help_heading = "Keep")]
    pub keep_on: Option<u16>,
    /// With --keep-on: what came so long before
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10m",
        help_heading = "Keep"
    )]
    pub last: String,
    /// With --keep-on: what comes so long after
    #[arg(long, value_name = "TIME", default_value = "2m", help_heading = "Keep")]
    pub next: String,
    /// With --keep-on: not more often
    #[arg(long, value_name = "TIME", default_value = "5m", help_heading = "Keep")]
    pub keep_every: String,
    /// With --keep-on: what kept files may take in sum; beyond that nothing is kept
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "10GB",
        help_heading = "Keep"
    )]
    pub keep_bytes: String,
    /// No index beside finished files: what `lwnflog read` looks for is then found more slowly
    #[arg(long, help_heading = "Output")]
    pub no_index: bool,
    /// Serve the figures to Prometheus: 9753 (of the loopback), ADDR:PORT, unix:PATH
    #[arg(long, value_name = "ADDR", help_heading = "Output")]
    pub metrics: Option<Place>,
    /// Take options from this TOML file, such as `group = 5`; a leading `-`: if it is there
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub config: Option<PathBuf>,
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
