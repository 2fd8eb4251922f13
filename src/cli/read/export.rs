//! `lwnflog export`: packets of captures as rows, for programs that ask questions of tables.

#[cfg(feature = "parquet")]
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::time::Zone;
use super::{TimeArgs, anonymizer_of, places_and_filter};
use crate::export::text::{Format, Writer};
use crate::read::anonymize::{Anonymizer, Keep};
use crate::read::chain::Merged;
use crate::read::filter::Filter;
use crate::read::plan::Selection;

/// Options of `lwnflog export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lwnflog export /var/lib/lwnflog/wan --parquet /srv/packets\n  lwnflog export --last 5m --csv - tcp port 443\n  duckdb -c \"select src, count(*) from '/srv/packets/packets/**/*.parquet' group by 1 order by 2 desc limit 10\"\n\nThe data set of --parquet has parts by day, hour (UTC) and host, a table `packets` and a table `loss`, and each finished\nfile of a capture once, however often it is exported: an export that was interrupted is repeated. The columns, and\nhow many hosts are asked at once, are in docs/FLEET.md."
)]
#[command(group = clap::ArgGroup::new("form").required(true).args(["parquet", "csv", "json"]))]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct ExportArgs {
    /// Directories of rings and files (default: lwnflog-capture), and then a filter, as for `read`
    #[arg(value_name = "DIR|FILE... FILTER")]
    pub words: Vec<String>,
    /// Add finished files to the data set in this directory
    #[arg(long, value_name = "DIR")]
    pub parquet: Option<PathBuf>,
    /// Write a line a packet, and their names before; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a JSON object a packet; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Who captured [default: this host's name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Keep so many bytes of what is behind the headers
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub payload: usize,
    /// Addresses become others by the key in this file, as with `read -w`
    #[arg(long, value_name = "KEYFILE")]
    pub anonymize: Option<PathBuf>,
    /// With --anonymize: keep link-layer addresses
    #[arg(long, requires = "anonymize")]
    pub keep_macs: bool,
    /// With --parquet: go on with files as they are finished
    #[arg(short = 'f', long, requires = "parquet")]
    pub follow: bool,
    #[command(flatten)]
    pub times: TimeArgs,
}

/// `lwnflog export …`
///
/// # Errors
/// A filter or time that makes no sense; files that cannot be read, or are damaged; an output that
/// cannot be written.
pub fn run(args: &ExportArgs) -> Result<()> {
    let (places, expression) = places_and_filter(&[], &args.words)?;
    let filter = Filter::parse(&expression)?;
    let keep = Keep {
        macs: args.keep_macs,
        payload: args.payload != 0,
    };
    let anonymizer = anonymizer_of(args.anonymize.as_deref(), keep)?;
    let host = args.host.clone().unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    });
    let span = args.times.span(&Zone::of(args.times.utc))?;
    let (path, format) = match (&args.parquet, &args.csv, &args.json) {
        (Some(out), ..) => {
            anyhow::ensure!(
                span == crate::read::chain::Span::default(),
                "--parquet takes whole files, each of them once: ask the data set for a time"
            );
            return dataset(args, out, &places, &host, (filter, expression), anonymizer);
        }
        (_, Some(csv), _) => (csv, Format::Csv),
        (_, _, json) => (json.as_ref().context("nothing to write to")?, Format::Json),
    };
    let selection = Selection {
        filter,
        span,
        no_index: false,
    };
    lines(
        args,
        path,
        format,
        &host,
        Merged::select(&places, selection)?,
        anonymizer,
    )
}

fn lines(
    args: &ExportArgs,
    path: &Path,
    format: Format,
    host: &str,
    mut merged: Merged,
    mut anonymizer: Option<Anonymizer>,
) -> Result<()> {
    let said = || path.display().to_string();
    let to: Box<dyn Write> = if path.as_os_str() == "-" {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(path).with_context(said)?)
    };
    let to = BufWriter::with_capacity(1 << 20, to);
    let told = Writer::begin(to, format, host, args.payload);
    let mut writer = match told {
        Ok(writer) => writer,
        Err(error) => return super::went(Err(error)).map(drop),
    };
    let done = loop {
        match merged.advance() {
            Err(error) => break Err(error.into()),
            Ok(false) => break Ok(()),
            Ok(true) => {}
        }
        let Some(record) = merged.record() else {
            break Ok(());
        };
        let told = match &mut anonymizer {
            None => writer.add(&record),
            Some(anonymizer) => writer.add(&anonymizer.record(&record)),
        };
        if !super::went(told).with_context(said)? {
            return Ok(());
        }
    };
    super::tell_cut(&merged);
    super::went(writer.flush()).with_context(said)?;
    done
}

#[cfg(not(feature = "parquet"))]
fn dataset(
    _: &ExportArgs,
    _: &Path,
    _: &[PathBuf],
    _: &str,
    _: (Filter, String),
    _: Option<Anonymizer>,
) -> Result<()> {
    anyhow::bail!(
        "--parquet: this program was built without it: `cargo install --features parquet`"
    )
}

/// Adds files to a data set, by several threads.
#[cfg(feature = "parquet")]
fn dataset(
    args: &ExportArgs,
    out: &Path,
    places: &[PathBuf],
    host: &str,
    filter: (Filter, String),
    anonymizer: Option<Anonymizer>,
) -> Result<()> {
    use crate::export::dataset::{Dataset, Error, word};
    use crate::numbers::grouped;
    use crate::read::chain::finished_in;
    use std::collections::HashSet;
    use std::time::Duration;

    /// How often it is looked for finished files, with --follow.
    const LOOK: Duration = Duration::from_secs(1);
    let dataset = Dataset {
        out: out.to_owned(),
        host: word(host),
        filter,
        anonymizer,
        payload_bytes: args.payload,
    };
    let (mut followed, mut told) = (HashSet::new(), HashSet::new());
    let mut last = HashMap::new();
    loop {
        let mut files = Vec::new();
        for place in places {
            if place.is_dir() {
                files.extend(finished_in(place)?);
            } else {
                files.push(place.clone());
            }
        }
        files.retain(|file| !followed.contains(file));
        let missing = missing(&files, &mut last);
        if missing != 0 {
            super::super::complain(&format!(
                "{} files of rings are not there any more: what was in them is in no table, nor counted as lost",
                grouped(missing)
            ));
        }
        let sum = work_off(&dataset, &files);
        if !args.follow || sum.files != 0 {
            super::super::complain(&format!(
                "{} files exported, {} before: {} packets, {} lost, {} bytes",
                grouped(sum.files),
                grouped(sum.before),
                grouped(sum.rows),
                grouped(sum.lost),
                grouped(sum.bytes)
            ));
        }
        super::complain_cut(&sum.cut);
        for (file, error) in &sum.failed {
            let text = format!("{}: not exported: {error}", file.display());
            if told.insert(text.clone()) {
                super::super::complain(&text);
            }
        }
        if !args.follow {
            anyhow::ensure!(
                sum.failed.is_empty(),
                "{} of {} files could not be exported",
                sum.failed.len(),
                files.len()
            );
            return Ok(());
        }
        // What could not be written is tried again: a disk may have room by then.
        let again: HashSet<_> = sum
            .failed
            .into_iter()
            .filter(|(_, error)| matches!(error, Error::Write { .. }))
            .map(|(file, _)| file)
            .collect();
        followed.extend(files.into_iter().filter(|file| !again.contains(file)));
        std::thread::sleep(LOOK);
    }
}

/// Files of rings that should be there by their numbers, between those that are, and behind the `last` ones of
/// an earlier look.
#[cfg(feature = "parquet")]
fn missing(files: &[PathBuf], last: &mut HashMap<(PathBuf, String), u64>) -> u64 {
    let mut missing = 0;
    for file in files {
        let Some(name) = crate::ring::ring_file(file) else {
            continue;
        };
        let ring = (
            file.parent().map(Path::to_owned).unwrap_or_default(),
            name.ring,
        );
        let before = last.entry(ring).or_insert(name.sequence);
        missing += name.sequence.saturating_sub(*before + 1);
        *before = name.sequence.max(*before);
    }
    missing
}

#[cfg(feature = "parquet")]
#[derive(Debug, Default)]
struct Sum {
    files: u64,
    before: u64,
    rows: u64,
    lost: u64,
    bytes: u64,
    cut: Vec<PathBuf>,
    failed: Vec<(PathBuf, crate::export::dataset::Error)>,
}

/// Each file by one of as many threads as there are processors.
#[cfg(feature = "parquet")]
fn work_off(dataset: &crate::export::dataset::Dataset, files: &[PathBuf]) -> Sum {
    use crate::export::dataset::Error;
    use std::sync::Mutex;

    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, sum) = (Mutex::new(files.iter()), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(|| {
                loop {
                    let taken = next
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .next();
                    let Some(file) = taken else { break };
                    let done = dataset.export(file);
                    // One that a ring has recycled meanwhile is gone, and no fault.
                    let gone = matches!(&done, Err(Error::Read(_)) if !file.exists());
                    let mut sum = sum
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    match done {
                        _ if gone => {}
                        Ok(None) => sum.before += 1,
                        Ok(Some(exported)) => {
                            sum.files += 1;
                            sum.rows += exported.rows;
                            sum.lost = sum.lost.saturating_add(exported.lost);
                            sum.bytes += exported.bytes;
                            sum.cut.extend(exported.cut.then(|| file.clone()));
                        }
                        Err(error) => sum.failed.push((file.clone(), error)),
                    }
                }
            });
        }
    });
    sum.into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
