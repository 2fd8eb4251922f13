//! `lwnflog read`: packets of captures as lines, objects, a count or a file.

#[cfg(feature = "parquet")]
mod dataset;
pub mod export;
pub mod path;
mod print;
mod progress;
pub mod report;
mod threads;
pub(super) mod time;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::read::Record;
use crate::read::anonymize::{Anonymizer, Keep, Key};
use crate::read::chain::{Merged, Span};
use crate::read::filter::Filter;
use crate::read::plan::Selection;
use crate::read::write::{Kind, Writer};
use print::{Lines, Printer};
use time::{Zone, moment};

/// The place that a capture writes to if nothing else is said.
const PLACE: &str = "lwnflog-capture";
/// How often it is looked for more, with --follow.
const LOOK: Duration = Duration::from_millis(100);

/// Which time is asked for, and how times are written.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct TimeArgs {
    /// Only packets from this time on: 14:03, 14:03:05.5, 2026-11-27T14:03
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only packets up to this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only packets of the last so long: 5m, 1h
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    pub last: Option<String>,
    /// Times in UTC, given and shown
    #[arg(long)]
    pub utc: bool,
}

impl TimeArgs {
    /// The time between --from and --to, or of --last.
    fn span(&self, zone: &Zone) -> Result<Span> {
        let mut span = Span::default();
        if let Some(text) = &self.from {
            span.from_ns = moment(text, zone)?;
        }
        if let Some(text) = &self.to {
            span.to_ns = moment(text, zone)?;
        }
        if let Some(text) = &self.last {
            let last = crate::session::settings::parse_duration(text)?;
            let now = std::time::SystemTime::now();
            let since = now
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            span.from_ns = u64::try_from(since.saturating_sub(last).as_nanos()).unwrap_or(0);
        }
        if span.from_ns > span.to_ns {
            bail!("--from is later than --to: no packet is in between");
        }
        Ok(span)
    }
}

/// Options of `lwnflog read`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lwnflog read host 192.0.2.1 and tcp port 443\n  lwnflog read /var/lib/lwnflog/wan --last 5m -w evidence.pcapng\n  lwnflog read --from 14:03 --to 14:05 --count net 198.51.100.0/24\n  lwnflog read -r capture.pcap 'lost or mark 0x80/0x80'\n\nA filter is written as tcpdump's: host, net, port, portrange, proto, tcp, udp, icmp, ip, ip6, src, dst, less, greater,\nand, or, not, parentheses; and iface NAME, mark V/M, prefix TEXT, lost. Times are local: 14:03, 2026-11-27T14:03:05."
)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct ReadArgs {
    /// Directories of rings and files (default: lwnflog-capture), and then a filter
    #[arg(value_name = "DIR|FILE... FILTER")]
    pub words: Vec<String>,
    /// Read this file: as tcpdump's -r; `-` is standard input
    #[arg(short = 'r', value_name = "FILE")]
    pub read: Vec<PathBuf>,
    #[command(flatten)]
    pub times: TimeArgs,
    /// Show the date as well
    #[arg(long)]
    pub date: bool,
    /// End after so many packets
    #[arg(short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub packets: Option<u64>,
    /// Write them to this file, pcap if it is called so, else pcapng; `-` is standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// With -w: addresses become others by the key in this file, the same each time, prefixes alike; link-layer addresses
    /// are cleared and what is behind the headers goes
    #[arg(long, value_name = "KEYFILE", requires = "write")]
    pub anonymize: Option<PathBuf>,
    /// With --anonymize: keep what is behind the headers, whatever it tells
    #[arg(long, requires = "anonymize")]
    pub keep_payload: bool,
    /// With --anonymize: keep link-layer addresses
    #[arg(long, requires = "anonymize")]
    pub keep_macs: bool,
    /// Count them
    #[arg(long, conflicts_with_all = ["write", "json"])]
    pub count: bool,
    /// One JSON object a line and packet
    #[arg(long, conflicts_with = "write")]
    pub json: bool,
    /// Go on with what is captured from now on, across files
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Show interface, mark, prefix, notes and what was lost before
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Show the bytes, from the IP header on
    #[arg(short = 'x')]
    pub hex: bool,
    /// Read with so many threads (default: as many as there are processors)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Do not use indexes, nor make those that are missing
    #[arg(long)]
    pub no_index: bool,
    /// No names: there are none anyway
    #[arg(short = 'n', hide = true, action = clap::ArgAction::Count)]
    pub numeric: u8,
}

/// What becomes of packets that are read one by one.
enum Sink {
    Lines(Printer),
    Count,
    File(Writer<Box<dyn Write>>, Option<Anonymizer>),
}

/// `lwnflog read …`
///
/// # Errors
/// A filter or time that makes no sense; files that cannot be read, or are damaged.
pub fn run(args: &ReadArgs) -> Result<()> {
    let zone = Zone::of(args.times.utc);
    let (places, filter) = places_and_filter(&args.read, &args.words)?;
    let selection = Selection {
        filter: Filter::of_arguments(&filter)?,
        span: args.times.span(&zone)?,
        no_index: args.no_index,
    };
    let merged = Merged::select(&places, selection)?;
    // What comes bit by bit is shown as it comes.
    let streams = places
        .iter()
        .any(|place| !place.is_dir() && !place.is_file());
    if args.follow || streams {
        one_by_one(args, merged, &places, zone)
    } else {
        threads::run(args, merged, zone)
    }
}

fn one_by_one(args: &ReadArgs, mut merged: Merged, places: &[PathBuf], zone: Zone) -> Result<()> {
    let mut sink = match &args.write {
        Some(path) => Sink::File(writer(path)?, anonymizer(args)?),
        None if args.count => Sink::Count,
        None => Sink::Lines(Printer::new(args, Lines::new(args, zone))),
    };
    let mut taken = 0_u64;
    let most = args.packets.unwrap_or(u64::MAX);
    loop {
        if !merged.advance() {
            if !args.follow {
                break;
            }
            if !sink.flush()? {
                return Ok(());
            }
            tell_unseen(merged.take_unseen());
            std::thread::sleep(LOOK);
            merged.look_for_more(places)?;
            continue;
        }
        let Some(record) = merged.record() else {
            continue;
        };
        taken += 1;
        if !sink.take(&record)? {
            return Ok(()); // whoever read it has gone
        }
        if taken == most {
            break;
        }
    }
    if args.count {
        println!("{taken}");
    }
    sink.flush()?;
    tell_faults(&mut merged)
}

/// What --anonymize asks for.
fn anonymizer(args: &ReadArgs) -> Result<Option<Anonymizer>> {
    let keep = Keep {
        macs: args.keep_macs,
        payload: args.keep_payload,
    };
    anonymizer_of(args.anonymize.as_deref(), keep)
}

fn anonymizer_of(path: Option<&Path>, keep: Keep) -> Result<Option<Anonymizer>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let (key, others) =
        Key::read(path).with_context(|| format!("--anonymize {}", path.display()))?;
    if others {
        super::complain(&format!(
            "{}: others can read this key, and with it whose addresses are whose: `chmod 600` it",
            path.display()
        ));
    }
    Ok(Some(Anonymizer::new(&key, keep)))
}

/// Says what could not be read: a line each.
///
/// # Errors
/// Where there was something.
fn tell_faults(merged: &mut Merged) -> Result<()> {
    tell_unseen(merged.take_unseen());
    let faults = merged.take_faults();
    for fault in &faults {
        super::complain(&fault.to_string());
    }
    anyhow::ensure!(faults.is_empty(), "not all could be read: see above");
    Ok(())
}

/// Says which link types a filter could not look into, each once.
fn tell_unseen(links: Vec<u16>) {
    for link in links {
        super::complain(&format!(
            "packets of link type {} are not looked into: the filter takes none by what is in them; `tcpdump -r` may know it",
            crate::decode::link_name(link)
        ));
    }
}

impl Sink {
    /// False where the reader has gone.
    fn take(&mut self, record: &Record<'_>) -> Result<bool> {
        let told = match self {
            Sink::Count => return Ok(true),
            Sink::Lines(printer) => printer.print(record),
            Sink::File(writer, None) => writer.write(record),
            Sink::File(writer, Some(anonymizer)) => writer.write(&anonymizer.record(record)),
        };
        went(told)
    }

    fn flush(&mut self) -> Result<bool> {
        went(match self {
            Sink::Count => Ok(()),
            Sink::Lines(printer) => printer.flush(),
            Sink::File(writer, _) => writer.flush(),
        })
    }
}

fn went(told: io::Result<()>) -> Result<bool> {
    match told {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("writing"),
    }
}

/// Words that name what is there are places; the rest is the filter.
fn places_and_filter(files: &[PathBuf], words: &[String]) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let mut places = files.to_vec();
    let named = words
        .iter()
        .take_while(|word| Path::new(word).exists())
        .count();
    let (there, filter) = words.split_at(named);
    places.extend(there.iter().map(PathBuf::from));
    if places.is_empty() {
        if !Path::new(PLACE).exists() {
            let first = filter.first().map_or(PLACE, String::as_str);
            bail!("{first}: there is no such file or directory; `lwnflog read DIR` reads a ring");
        }
        places.push(PLACE.into());
    }
    Ok((places, filter.to_vec()))
}

/// What a file of this name is to be.
fn kind(path: &Path) -> Kind {
    let classic = path
        .extension()
        .is_some_and(|extension| extension == "pcap");
    if classic { Kind::Pcap } else { Kind::Pcapng }
}

fn writer(path: &Path) -> Result<Writer<Box<dyn Write>>> {
    let to: Box<dyn Write> = if path.as_os_str() == "-" {
        Box::new(BufWriter::with_capacity(1 << 20, io::stdout()))
    } else {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Box::new(BufWriter::with_capacity(1 << 20, file))
    };
    Writer::begin(to, kind(path)).with_context(|| path.display().to_string())
}
