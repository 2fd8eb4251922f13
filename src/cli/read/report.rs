//! `lwnflog report`: a page, or text, on captures.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use super::time::{Zone, moment};
use super::{TimeArgs, places_and_filter};
use crate::numbers::grouped;
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
    let (places, expression) = places_and_filter(&[], &args.words)?;
    let filter = Filter::parse(&expression)?;
    let select = |places: &[PathBuf], span| {
        let selection = Selection {
            filter: filter.clone(),
            span,
            no_index: false,
        };
        tally(Merged::select(places, selection)?)
    };
    let span = args.times.span(&zone)?;
    let clock = |time_ns: u64| zone.show(i64::try_from(time_ns / 1_000_000_000).unwrap_or(0), true);
    let mut titles = vec![title(&places, &expression)];
    let mut tallies = vec![select(&places, span)?];
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
        tallies.push(select(&others, other)?);
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
    }
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

fn tally(mut merged: Merged) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut progress = Progress::begin(merged.bytes_left());
    let mut read = 0_u64;
    while merged.advance()? {
        let Some(record) = merged.record() else {
            break;
        };
        tally.add(&record);
        read += 1;
        if read.is_multiple_of(1 << 14) {
            progress.show(read, || merged.bytes_left());
        }
    }
    progress.end();
    super::tell_cut(&merged);
    Ok(tally)
}

/// How far it is, for who waits at a terminal.
struct Progress {
    next: Instant,
    terminal: bool,
    bytes: u64,
    shown: bool,
}

impl Progress {
    const PAUSE: Duration = Duration::from_millis(250);

    fn begin(bytes: u64) -> Progress {
        Progress {
            next: Instant::now() + 2 * Progress::PAUSE,
            terminal: io::stderr().is_terminal(),
            bytes,
            shown: false,
        }
    }

    fn show(&mut self, packets: u64, bytes_left: impl FnOnce() -> u64) {
        if !self.terminal || Instant::now() < self.next {
            return;
        }
        // A live file grows meanwhile.
        let left = bytes_left().min(self.bytes);
        let line = bar(self.bytes - left, self.bytes);
        let _ = write!(io::stderr(), "\r{line} {} packets\x1b[K", grouped(packets));
        (self.shown, self.next) = (true, Instant::now() + Progress::PAUSE);
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A bar of so much of all, with what that is in per cent; nothing where all is not known.
fn bar(done: u64, all: u64) -> String {
    const WIDTH: usize = 30;
    let percent = |part: u64| u128::from(part) * 100 / u128::from(all.max(1));
    if all == 0 {
        return String::new();
    }
    let percent = usize::try_from(percent(done)).unwrap_or(100).min(100);
    let filled = percent * WIDTH / 100;
    format!(
        "[{}{}] {percent:3} %",
        "#".repeat(filled),
        " ".repeat(WIDTH - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_was_read() {
        assert_eq!(bar(0, 0), "");
        assert_eq!(
            bar(1, 2),
            format!("[{}{}]  50 %", "#".repeat(15), " ".repeat(15))
        );
        assert_eq!(bar(9, 9), format!("[{}] 100 %", "#".repeat(30)));
    }
}
