//! `lwnflog report`: a page, or text, on captures.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::time::{Zone, moment};
use super::{TimeArgs, places_and_filter, progress};
use crate::read::chain::Merged;
use crate::read::filter::Filter;
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
    pub words: Vec<String>,
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
    let filter = Filter::of_arguments(&words)?;
    let expression = words.join(" ");
    let select = |places: &[PathBuf], span| {
        let selection = Selection {
            filter: filter.clone(),
            span,
            no_index: false,
        };
        let mut tally = Tally::default();
        let read = progress::each(Merged::select(places, selection)?, |record| {
            tally.add(record);
            Ok(true)
        });
        anyhow::Ok((tally, read))
    };
    let span = args.times.span(&zone)?;
    let clock = |time_ns: u64| zone.show(i64::try_from(time_ns / 1_000_000_000).unwrap_or(0), true);
    let mut titles = vec![title(&places, &expression)];
    let (first, mut read) = select(&places, span)?;
    let mut tallies = vec![first];
    if args.compare.is_some() || args.compare_from.is_some() {
        let others = args
            .compare
            .as_ref()
            .map_or(places, |other| vec![other.clone()]);
        let mut other = span;
        titles.push(title(&others, &expression));
        if let Some(from) = &args.compare_from {
            other.from_ns = moment(from, &zone)?;
            other.to_ns = other.from_ns.saturating_add(span.to_ns - span.from_ns);
            for (title, span) in titles.iter_mut().zip([span, other]) {
                let _ = write!(title, ", {} to {}", clock(span.from_ns), clock(span.to_ns));
            }
        }
        let (second, other) = select(&others, other)?;
        tallies.push(second);
        read = read.and(other);
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
    match args
        .output
        .as_deref()
        .filter(|path| path.as_os_str() != "-")
    {
        None => super::went(io::stdout().write_all(out.as_bytes())).map(drop),
        Some(path) => write(path, &out).with_context(|| path.display().to_string()),
    }?;
    // What could be read is in the report all the same.
    read
}

/// All of it, or what was there before.
fn write(path: &Path, page: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    fs::write(&beside, page)?;
    fs::rename(&beside, path).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

fn title(places: &[PathBuf], filter: &str) -> String {
    let places: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    let places = places.join(", ");
    if filter.is_empty() {
        places
    } else {
        format!("{places}: {filter}")
    }
}
