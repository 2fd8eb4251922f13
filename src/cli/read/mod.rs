//! `lwnflog read`: packets of captures as lines, objects, a count or a file.

#[cfg(feature = "parquet")]
mod dataset;
pub mod export;
mod live;
pub(in crate::cli) mod out;
pub mod path;
mod places;
mod print;
mod progress;
pub mod report;
mod threads;
pub(super) mod time;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::numbers::grouped;
use crate::read::Record;
use crate::read::anonymize::{Anonymizer, Keep, Key};
use crate::read::chain::{Merged, Span};
use crate::read::filter::Filter;
use crate::read::piece::Make as _;
use crate::read::plan::Selection;
use crate::read::write::{Kind, Writer};
use crate::ring::Compression;
use live::Live;
use out::{Output, named};
use places::{places_and_filter, places_to_follow};
use print::Lines;
use time::{Zone, moment};

/// How long after a time nothing of it is in the kernel any more.
const SETTLED_NS: u64 = 1_000_000_000;
/// How often it is looked for more, with --follow.
const LOOK: Duration = Duration::from_millis(100);

/// Which time is asked for, and how times are written.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct TimeArgs {
    /// Only packets from this time on: 14:03, 14:03:05.5, 'yesterday 14:03', 2026-11-27T14:03
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
            span.from_ns = begin(text, zone)?;
        }
        if let Some(text) = &self.to {
            span.to_ns = moment(text, zone)?.time_ns;
        }
        if let Some(text) = &self.last {
            let last = crate::session::settings::parse_duration(text)?;
            let from_ns = u64::try_from(last.as_nanos())
                .ok()
                .and_then(|last| now_ns().checked_sub(last));
            span.from_ns = from_ns.with_context(|| {
                format!("--last {text}: that is before 1970: leave it out to have all")
            })?;
        }
        if span.from_ns > span.to_ns {
            bail!("--from is later than --to: no packet is in between");
        }
        Ok(span)
    }
}

/// When a span begins. One that has not begun yet has no packets: that is told.
fn begin(text: &str, zone: &Zone) -> Result<u64> {
    let moment = moment(text, zone)?;
    if let Some(ahead) = moment.ahead {
        super::complain(&ahead);
    }
    Ok(moment.time_ns)
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
    pub words: Vec<OsString>,
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
    Lines(Lines, Vec<u8>),
    Count,
    File(Writer<Live>, Option<Box<Anonymizer>>),
}

/// `lwnflog read …`
///
/// # Errors
/// A filter or time that makes no sense; files that are not there, cannot be read, or are damaged.
pub fn run(args: &ReadArgs) -> Result<()> {
    let zone = Zone::of(args.times.utc);
    let named = if args.follow {
        places_to_follow
    } else {
        places_and_filter
    };
    let (places, filter) = named(&args.read, &args.words)?;
    let selection = Selection {
        filter: Filter::of_arguments(&filter)?,
        span: args.times.span(&zone)?,
        no_index: args.no_index,
    };
    // What comes bit by bit is shown as it comes.
    let streams = places
        .iter()
        .any(|place| !place.is_dir() && !place.is_file());
    if args.follow || streams {
        one_by_one(args, selection, &places, zone)
    } else {
        threads::run(args, selection, &places, zone)
    }
}

fn one_by_one(args: &ReadArgs, selection: Selection, places: &[PathBuf], zone: Zone) -> Result<()> {
    let until_ns = selection.span.to_ns;
    let to = args.write.as_deref().unwrap_or(Path::new("-"));
    let said = || named(to);
    let output = Output::create(to, &inputs(args, places))?;
    let mut live = Live::begin(output, args.write.is_some())?;
    let mut sink = match &args.write {
        Some(path) => Sink::File(
            Writer::begin(live.clone(), kind(path))?,
            anonymizer(args)?.map(Box::new),
        ),
        None if args.count => {
            if args.follow {
                live.count_until_signal()?;
            }
            Sink::Count
        }
        None => Sink::Lines(Lines::new(args, zone), Vec::new()),
    };
    // A reader of lines sees each as it comes; a file is flushed soon after.
    let at_once = args.write.is_none() && (args.follow || io::stdout().is_terminal());
    // A file of one link type begins with the first packet, which says which.
    let begins_empty = args.follow && kind(to) == Kind::Pcapng;
    let mut merged = if args.follow {
        Merged::follow(places, selection)
    } else {
        Merged::select(places, selection)?
    };
    let (mut taken, mut faulty, mut over) = (0_u64, false, false);
    let most = args.packets.unwrap_or(u64::MAX);
    loop {
        if !merged.advance() {
            if !args.follow || over {
                break;
            }
            if begins_empty && !went(live.appear()).with_context(said)? {
                return Ok(());
            }
            if tell(&mut merged) {
                faulty = true;
                live.set_faulty();
            }
            // Once more behind the end of what is asked for: what was still in the kernel then.
            over = until_ns.saturating_add(SETTLED_NS) < now_ns();
            std::thread::sleep(LOOK);
            merged.look_for_more(places);
            continue;
        }
        let Some(record) = merged.record() else {
            continue;
        };
        let mut told = sink.take(&record, &mut live);
        taken += 1;
        if taken == 1 {
            told = told.and_then(|()| live.appear());
        } else if at_once {
            told = told.and_then(|()| live.flush());
        }
        if !went(told).with_context(said)? {
            return Ok(()); // whoever read it has gone
        }
        if taken == most {
            break;
        }
    }
    faulty |= tell(&mut merged);
    tell_passed(args, &merged);
    let mut told = Ok(());
    if args.count {
        told = writeln!(live, "{taken}");
    } else if let Sink::File(writer, _) = &mut sink {
        told = writer.flush();
    }
    // Nothing that could be read takes no other's place.
    let give_up = faulty && taken == 0 && args.write.is_some();
    went(told.and_then(|()| live.finish(give_up))).with_context(said)?;
    all_read(faulty)
}

/// All that is read.
fn inputs(args: &ReadArgs, places: &[PathBuf]) -> Vec<PathBuf> {
    places.iter().chain(&args.anonymize).cloned().collect()
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
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
    let (key, others) = Key::read(path).with_context(|| format!("--anonymize {}", named(path)))?;
    if others {
        super::complain(&format!(
            "{}: others can read this key, and with it whose addresses are whose: `chmod 600` it",
            named(path)
        ));
    }
    Ok(Some(Anonymizer::new(&key, keep)))
}

/// Says what could not be read: a line each. Whether there was something.
fn tell(merged: &mut Merged) -> bool {
    tell_unseen(merged.take_unseen());
    let faults = merged.take_faults();
    for fault in &faults {
        super::complain(&fault.to_string());
    }
    !faults.is_empty()
}

fn all_read(faulty: bool) -> Result<()> {
    anyhow::ensure!(!faulty, "not all could be read: see above");
    Ok(())
}

/// Says what of the files is not in the copy that was written of their packets. Who is to know nothing is told of
/// nothing that could be kept.
fn tell_passed(args: &ReadArgs, merged: &Merged) {
    let passed = merged.passed();
    if args.write.is_none() || args.anonymize.is_some() {
        return;
    }
    let counted = [
        (passed.names, "blocks of names"),
        (passed.secrets, "blocks of keys"),
        (passed.others, "other blocks that are no packets"),
        (
            passed.losses,
            "statistics of losses (those before a packet are)",
        ),
        (passed.options, "packets' further comments and options"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count != 0);
    let counted: Vec<_> = counted
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    if !counted.is_empty() {
        super::complain(&format!("not in what was written: {}", counted.join(", ")));
    }
}

/// The same at the end.
///
/// # Errors
/// Where there was something.
fn tell_faults(merged: &mut Merged) -> Result<()> {
    all_read(tell(merged))
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
    fn take(&mut self, record: &Record<'_>, live: &mut Live) -> io::Result<()> {
        match self {
            Sink::Count => {
                live.count_one();
                Ok(())
            }
            Sink::Lines(lines, line) => {
                line.clear();
                lines.make(record, 0, line);
                live.write_all(line)
            }
            Sink::File(writer, None) => writer.write(record),
            Sink::File(writer, Some(anonymizer)) => writer.write(&anonymizer.record(record)),
        }
    }
}

fn went(told: io::Result<()>) -> Result<bool> {
    match told {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("writing"),
    }
}

/// What a file of this name is to be, compressed or not.
fn kind(path: &Path) -> Kind {
    let plain = match Compression::by_name(path) {
        Some(_) => path.with_extension(""),
        None => path.to_owned(),
    };
    let classic = plain
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("pcap"));
    if classic { Kind::Pcap } else { Kind::Pcapng }
}
