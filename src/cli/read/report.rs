//! `lwnflog report`: a page, or text, on captures.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::out::{Output, named};
use super::time::Zone;
use super::{TimeArgs, begin, places, places_and_filter, progress};
use crate::read::chain::Merged;
use crate::read::filter::Filter;
use crate::read::line::{printable, shown};
use crate::read::plan::Selection;
use crate::report::page::{Subject, page};
use crate::report::tally::Tally;
use crate::report::text::text;

/// Options of `lwnflog report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lwnflog report /var/lib/lwnflog/wan --last 1h -o report.html\n  lwnflog report --text tcp port 443\n  lwnflog report --last 1h /captures/fw1 --compare /captures/fw2 -o hosts.html\n  lwnflog report --from 14:00 --to 14:05 --compare-from 13:00 -o times.html\n\nThe page stands alone: it loads nothing and runs nothing. The same packets make the same bytes."
)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct ReportArgs {
    /// Directories of rings and files (default: lwnflog-capture), and then a filter, as for `read`
    #[arg(value_name = "DIR|FILE... FILTER")]
    pub words: Vec<OsString>,
    /// Write the page to this file; `-` is standard output
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FILE",
        required_unless_present = "text"
    )]
    pub output: Option<PathBuf>,
    /// Print text, for a terminal
    #[arg(long, conflicts_with = "output")]
    pub text: bool,
    /// Beside it another directory or file, with the same filter and times
    #[arg(long, value_name = "DIR|FILE")]
    pub compare: Option<PathBuf>,
    /// Beside it another time, from this one on, as long as from --from to --to; of the same files,
    /// or of those of --compare
    #[arg(long, value_name = "TIME", requires = "from", requires = "to")]
    pub compare_from: Option<String>,
    #[command(flatten)]
    pub times: TimeArgs,
}

/// `lwnflog report …`
///
/// # Errors
/// A filter or time that makes no sense; files that cannot be read, or are damaged; an output that
/// cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let zone = Zone::of(args.times.utc);
    let (places, words) = places_and_filter(&[], &args.words)?;
    if let Some(other) = &args.compare {
        places::check(other)?;
    }
    let filter = Filter::of_arguments(&words)?;
    let expression = words.join(" ");
    let span = args.times.span(&zone)?;
    let clock = |time_ns: u64| zone.show(i64::try_from(time_ns / 1_000_000_000).unwrap_or(0), true);
    let mut titles = vec![title(&places, &expression)];
    let others = args.compare.as_ref().map(|other| vec![other.clone()]);
    let others = others.unwrap_or_else(|| places.clone());
    let mut asked = vec![(places, span)];
    if args.compare.is_some() || args.compare_from.is_some() {
        let mut other = span;
        titles.push(title(&others, &expression));
        if let Some(from) = &args.compare_from {
            other.from_ns = begin(from, &zone)?;
            other.to_ns = other.from_ns.saturating_add(span.to_ns - span.from_ns);
            for (title, span) in titles.iter_mut().zip([span, other]) {
                let _ = write!(title, ", {} to {}", clock(span.from_ns), clock(span.to_ns));
            }
        }
        asked.push((others, other));
    }
    // Before minutes are spent on what cannot be written.
    let to = args.output.as_deref().unwrap_or(Path::new("-"));
    let inputs: Vec<_> = asked
        .iter()
        .flat_map(|(places, _)| places.clone())
        .collect();
    let mut output = Output::create(to, &inputs)?;
    let (mut tallies, mut packets, mut read) = (Vec::new(), 0_u64, Ok(()));
    for (places, span) in asked {
        let selection = Selection {
            filter: filter.clone(),
            span,
            no_index: false,
        };
        let mut tally = Tally::default();
        let mut merged = Merged::select(&places, selection)?;
        let done = progress::each(&mut merged, |record| {
            tally.add(record);
            packets += 1;
            Ok(true)
        });
        // As before a packet that the filter does not take, so behind it.
        if words.is_empty() {
            merged
                .take_tails()
                .iter()
                .for_each(|tail| tally.add_tail(tail));
        }
        tallies.push(tally);
        read = read.and(done);
    }
    if packets == 0 && read.is_err() {
        return read; // a page of nothing takes no other's place
    }
    let subjects: Vec<_> = titles.iter().zip(&tallies).collect();
    let out = if args.text {
        let texts = subjects
            .iter()
            .map(|(title, tally)| text(title, tally, &clock));
        texts.collect::<Vec<_>>().join("\n\n")
    } else {
        let subjects: Vec<_> = subjects
            .iter()
            .map(|(title, tally)| Subject { title, tally })
            .collect();
        page(&subjects, &clock)
    };
    let told = output.write_all(out.as_bytes());
    super::went(told.and_then(|()| output.finish())).with_context(|| named(to))?;
    // What could be read is in the report all the same.
    read
}

fn title(places: &[PathBuf], filter: &str) -> String {
    let places: Vec<_> = places.iter().map(|place| shown(place)).collect();
    let places = places.join(", ");
    if filter.is_empty() {
        places
    } else {
        format!("{places}: {}", printable(filter))
    }
}
