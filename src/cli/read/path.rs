//! `lwnflog path`: which way packets went through the hooks.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write as _};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::time::Zone;
use super::{TimeArgs, places_and_filter, progress, went};
use crate::cli::{complain, stdout_is_open};
use crate::path::{Packet, Tracker, Ways};
use crate::read::chain::Merged;
use crate::read::filter::Filter;
use crate::read::plan::Selection;

/// Options of `lwnflog path`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lwnflog --group 5 --install-rule --trace -w trace      (or: lwnflog rules --group 5 --trace | nft -f -)\n  lwnflog path trace\n  lwnflog path trace host 192.0.2.7 and tcp port 443\n  lwnflog path trace -v -c 3\n\nA packet is known again by what no hook changes: its IP id, lengths, protocol, and numbers or first bytes behind the\nheader; so its way is followed through address translation. The filter takes a packet that it takes anywhere on its\nway. A rule of yours that logs to the same group with a prefix of its own is a place on the way, too: so the rule that\ndrops a packet can be seen. Where a way ends, the packet was dropped behind that place, or the host took it, or the\ncapture lost the record; `accepted` is behind all rules of input."
)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct PathArgs {
    /// Directories of rings and files (default: lwnflog-capture), and then a filter, as for `read`
    #[arg(value_name = "DIR|FILE... FILTER")]
    pub words: Vec<OsString>,
    #[command(flatten)]
    pub times: TimeArgs,
    /// Show each packet in full, and then the summary
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// End after so many packets
    #[arg(short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub packets: Option<u64>,
    /// One JSON object a line and packet
    #[arg(long, conflicts_with = "verbose")]
    pub json: bool,
}

/// A packet as an object; the names stay.
#[derive(Debug, Serialize)]
struct Object<'a> {
    time_ns: u64,
    info: &'a str,
    last: String,
    way: Vec<Station<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fragment: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    doubtful: bool,
}

#[derive(Debug, Serialize)]
struct Station<'a> {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ns: Option<u64>,
    interface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renamed: Option<&'a str>,
}

impl<'a> Object<'a> {
    fn of(packet: &'a Packet) -> Object<'a> {
        let stations = packet.sights.iter().map(|sight| Station {
            at: sight.place.to_string(),
            time_ns: sight.time_ns,
            interface: &sight.interface,
            mark: Some(sight.mark).filter(|mark| *mark != 0),
            renamed: sight.renamed.as_deref(),
        });
        let last = packet.sights.last().map(|sight| sight.place.to_string());
        Object {
            time_ns: packet.time_ns,
            info: &packet.line,
            last: last.unwrap_or_default(),
            way: stations.collect(),
            fragment: packet.fragment,
            doubtful: packet.doubtful,
        }
    }
}

/// `lwnflog path …`
///
/// # Errors
/// A filter or time that makes no sense; files that cannot be read, or are damaged; no packet.
pub fn run(args: &PathArgs) -> Result<()> {
    stdout_is_open()?;
    let zone = Zone::of(args.times.utc);
    let (places, words) = places_and_filter(&[], &args.words)?;
    // The filter says which packets, not which of their records.
    let filter = Filter::of_arguments(&words)?;
    let selection = Selection {
        filter: Filter::default(),
        span: args.times.span(&zone)?,
        no_index: false,
    };
    let mut shown = Shown {
        args,
        zone,
        ways: Ways::default(),
        to: BufWriter::new(io::stdout()),
        told: Ok(()),
    };
    let mut tracker = Tracker::default();
    // What was read before damage is shown, too.
    let done = progress::each(&mut Merged::select(&places, selection)?, |record| {
        let wanted = filter.takes(record);
        tracker.take(record, wanted, &mut |packet| shown.take(packet));
        Ok(shown.goes_on())
    });
    tracker.finish(&mut |packet| shown.take(packet));
    let Shown {
        zone,
        ways,
        mut to,
        mut told,
        ..
    } = shown;
    if told.is_ok() && !args.json {
        if ways.packets() == 0 {
            complain("no packet: `lwnflog read --count` says how many there are");
            return done;
        }
        let show = |packet: &Packet| packet.text(&clock(&zone, packet));
        told = to.write_all(ways.text(tracker.seen(), &show).as_bytes());
    }
    went(told.and_then(|()| to.flush()))?;
    done
}

/// What was shown, and of which ways it was.
struct Shown<'a> {
    args: &'a PathArgs,
    zone: Zone,
    ways: Ways,
    to: BufWriter<io::Stdout>,
    told: io::Result<()>,
}

impl Shown<'_> {
    fn goes_on(&self) -> bool {
        self.told.is_ok()
            && self
                .args
                .packets
                .is_none_or(|most| self.ways.packets() < most)
    }

    fn take(&mut self, packet: Packet) {
        if !packet.wanted || !self.goes_on() {
            return;
        }
        if self.args.json {
            self.told = serde_json::to_writer(&mut self.to, &Object::of(&packet))
                .map_err(io::Error::from)
                .and_then(|()| self.to.write_all(b"\n"));
        } else if self.args.verbose {
            let text = packet.text(&clock(&self.zone, &packet));
            self.told = writeln!(self.to, "{text}");
        }
        self.ways.add(packet);
    }
}

/// `14:03:05.123456`
fn clock(zone: &Zone, packet: &Packet) -> String {
    let second = i64::try_from(packet.time_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let mut clock = zone.show(second, false);
    let _ = write!(clock, ".{:06}", packet.time_ns / 1000 % 1_000_000);
    clock
}
