//! Options and their help, nothing else.

mod capture;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use capture::{CaptureArgs, CaptureSourceArgs};
pub use values::{CompressArg, FamilyArg, FormatArg, LinkArg, SpreadArg, VerdictArg};

use super::extcap::ExtcapArgs;
use super::read::ReadArgs;
use super::read::path::PathArgs;
use super::read::report::ReportArgs;
use crate::cli::read::export::ExportArgs;
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
    after_help = "Examples:\n  nft -f nft-rules/capture.nft && lwnflog --group 5\n  lwnflog --hook\n  lwnflog --queue 5 --fail-closed\n  lwnflog --group 5 --install-rule --iface eth0 -w /var/capture -W 16\n  lwnflog rules --group 5-8 | nft -f -\n  lwnflog demo\n\nSignals: SIGINT, SIGTERM and SIGQUIT end the capture, SIGUSR1 prints figures, SIGHUP goes on to the next file;\nno other ends it without its report.\nEach option is taken from the environment, too (LWNFLOG_GROUP=5, LWNFLOG_FILE_SIZE=2G, LWNFLOG_QUIET=true), and\nfrom the file of --config. The command line goes before the environment, that before the file.\nExit status: 0 done, 1 an error, 2 wrong options, 130 after a second SIGINT or SIGTERM."
)]
pub struct Cli {
    /// What else there is to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The capture.
    #[command(flatten)]
    pub capture: CaptureArgs,
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
        /// The hook: prerouting, input, accepted (by input's rules), forward, output or postrouting;
        /// several give each packet's way, for `lwnflog path`
        #[arg(long, value_name = "HOOK", value_delimiter = ',')]
        at: Vec<String>,
        /// At all of them
        #[arg(long, conflicts_with = "at")]
        trace: bool,
        /// Which packets
        #[arg(long, value_enum, value_name = "FAMILY", default_value_t)]
        family: FamilyArg,
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
    /// List the files of rings
    Ls {
        /// Directories of rings (default: lwnflog-capture)
        #[arg(value_name = "DIR")]
        places: Vec<PathBuf>,
        /// Times in UTC
        #[arg(long)]
        utc: bool,
        /// One JSON object a line and file
        #[arg(long)]
        json: bool,
        /// Read each file instead of what its index says of it
        #[arg(long)]
        no_index: bool,
    },
    /// Read captures: as lines, as objects, counted, or into a file
    Read(ReadArgs),
    /// Show which hooks packets passed, with what times between, and where they were seen last
    Path(PathArgs),
    /// Report on captures: a page to look at, or text
    Report(ReportArgs),
    /// Export captures: as CSV, JSON, or a data set in Parquet, with the losses in a table beside
    Export(ExportArgs),
    /// Record what one command sends and receives, its children included, and nothing else
    #[command(
        after_help = "Examples:\n  lwnflog run -- curl -s https://example.org\n  lwnflog run -w - -- ./client | tshark -r -\n\nThe command runs in a cgroup of its own, whose sockets a rule selects where packets come in and go out; that takes\nroot, cgroups of version 2 and Linux 5.13. Replies to ping are not those of a socket, and are not there; nor is what\nthe kernel sends by itself once a connection is closed. With -w - the command's standard output is standard error. What of the command is left when it ends goes on, unseen.\nSIGTERM and SIGHUP are handed on; SIGINT is the terminal's to give.\nExit status: the command's, 128+N where signal N ended it, 126 or 127 where it could not be started."
    )]
    Run(RunArgs),
    /// What `run` starts: goes into a cgroup, and becomes the command
    #[command(hide = true)]
    RunIn {
        cgroup: PathBuf,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// What `run` starts: removes the cgroup when standard input ends
    #[command(hide = true)]
    RunAfter { cgroup: PathBuf },
    /// Say what keeps packets from being captured, or has them lost, and what mends it
    Doctor {
        /// What is to be captured: this NFLOG group
        #[arg(short = 'g', long, value_name = "GROUP", conflicts_with = "hook")]
        group: Option<u16>,
        /// Or the hook itself
        #[arg(long)]
        hook: bool,
        /// Which packets
        #[arg(long, value_enum, default_value_t = FamilyArg::Ip)]
        family: FamilyArg,
        /// Directory of the ring
        #[arg(short = 'w', long = "write", value_name = "DIR")]
        write: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Watch a running capture
    Watch {
        /// The capture's name (not needed where one runs)
        name: Option<String>,
        /// How often to look
        #[arg(long, value_name = "TIME", default_value = "1s")]
        every: String,
        /// Where the sockets are [default: /run/lwnflog, or $XDG_RUNTIME_DIR/lwnflog with captures of one's own]
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// What --compress and --on-rotate start
    #[command(hide = true)]
    Chores {
        #[arg(long, value_enum)]
        compress: Option<CompressArg>,
        #[arg(long)]
        on_rotate: Option<String>,
        #[arg(long)]
        on_rotate_shell: bool,
    },
    /// Be an interface of Wireshark: its extcap program
    Extcap(ExtcapArgs),
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

/// Options of `lwnflog run`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct RunArgs {
    /// Write to this file, pcap if it is called so, else pcapng; `-` is standard output [default:
    /// COMMAND.pcapng, which must not be there]
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Bytes of each packet to write; 0: whole packets
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 0)]
    pub snaplen: u32,
    /// Which packets
    #[arg(long, value_enum, value_name = "FAMILY", default_value_t = FamilyArg::Both)]
    pub family: FamilyArg,
    /// Do not say at the end what was written
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}

/// Options of `lwnflog ctl`.
#[derive(Debug, Args)]
#[command(
    after_help = "Commands:\n  stats, settings            figures and settings of the moment, as JSON\n  pause, resume              copy nothing meanwhile\n  rotate                     go on to the next file\n  snaplen BYTES              of each frame, from a new file on\n  batch PACKETS, flush-ms MS\n  buffer-size SIZE           of a socket\n  files N, file-size SIZE    of the ring\n  max-bytes SIZE, max-age TIME\n  keep --last TIME           take the files that hold this time out of the ring\n  iface IF... | all, match EXPR | all\n  sample N, cutoff SIZE      of a hook that was begun with them\n  confirm                    what --confirm was said with stays\n  stop                       end the capture\n  list                       the captures that run"
)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct CtlArgs {
    /// The capture's name (not needed where one runs), a command and its values
    #[arg(required = true, value_name = "[NAME] COMMAND [VALUE]")]
    pub words: Vec<String>,
    /// The change takes itself back after this time, unless `ctl confirm` comes: 60s, 5min
    #[arg(long, value_name = "TIME")]
    pub confirm: Option<String>,
    /// With keep: what came so long before: 10m
    #[arg(long, value_name = "TIME")]
    pub last: Option<String>,
    /// With keep: what comes so long after: 2m
    #[arg(long, value_name = "TIME")]
    pub next: Option<String>,
    /// With keep: the directory, on the ring's file system [default: a new one in its `kept`]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Print the answer as it came
    #[arg(long)]
    pub json: bool,
    /// Where the sockets are [default: /run/lwnflog, or $XDG_RUNTIME_DIR/lwnflog with captures of one's own]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}
