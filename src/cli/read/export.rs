//! `lwnflog export`: packets of captures as rows, for programs that ask questions of tables.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};
use clap::Args;

#[cfg(feature = "parquet")]
use super::dataset;
use super::out::{Output, named};
use super::time::Zone;
use super::{TimeArgs, anonymizer_of, places_and_filter, places_to_follow};
use crate::export::lines::{Format, Lines};
use crate::export::{S3, scheme};
#[cfg(not(feature = "parquet"))]
use crate::read::anonymize::Anonymizer;
use crate::read::anonymize::Keep;
use crate::read::chain::Merged;
use crate::read::filter::Filter;
use crate::read::piece::Make as _;
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
    pub words: Vec<OsString>,
    /// Add finished files to the data set in this directory, or in a bucket of an S3-compatible store
    /// (s3://BUCKET/PREFIX)
    #[arg(long, value_name = "DIR|S3")]
    pub parquet: Option<PathBuf>,
    /// Write a line a packet, and their names before; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a JSON object a packet; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Who captured [default: this host's name; with --anonymize `anonymous`]
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
    /// Make lines with so many threads (default: as many as there are processors)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub times: TimeArgs,
}

/// `lwnflog export …`
///
/// # Errors
/// A filter or time that makes no sense; files that cannot be read, or are damaged; an output that
/// cannot be written.
pub fn run(args: &ExportArgs) -> Result<()> {
    let looked_for = if args.follow {
        places_to_follow
    } else {
        places_and_filter
    };
    let (places, words) = looked_for(&[], &args.words)?;
    let filter = Filter::of_arguments(&words)?;
    let expression = words.join(" ");
    let keep = Keep {
        macs: args.keep_macs,
        payload: args.payload != 0,
    };
    let anonymizer = anonymizer_of(args.anonymize.as_deref(), keep)?;
    if let Some(host) = &args.host {
        anyhow::ensure!(
            host.chars().any(|letter| letter != '.'),
            "--host `{host}`: it is a directory's name in the data set, and this is none"
        );
    }
    let host = args.host.clone().unwrap_or_else(|| {
        if anonymizer.is_some() {
            return "anonymous".to_owned();
        }
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    });
    let span = args.times.span(&Zone::of(args.times.utc))?;
    for path in [&args.parquet, &args.csv, &args.json].into_iter().flatten() {
        if let Some(scheme) = scheme(path).filter(|scheme| args.parquet.is_none() || scheme != S3) {
            anyhow::bail!(
                "{}: lwnflog does not write to {scheme}://…: --parquet takes a directory or s3://BUCKET/PREFIX, --csv and --json a file",
                named(path)
            );
        }
    }
    let (path, format) = match (&args.parquet, &args.csv, &args.json) {
        (Some(out), ..) => {
            anyhow::ensure!(
                span == crate::read::chain::Span::default(),
                "--parquet takes whole files, each of them once: ask the data set for a time"
            );
            let filter = (filter, expression);
            return dataset::run(args, out, &places, &host, filter, anonymizer);
        }
        (_, Some(csv), _) => (csv, Format::Csv),
        (_, _, json) => (json.as_ref().context("nothing to write to")?, Format::Json),
    };
    let selection = Selection {
        filter,
        span,
        no_index: false,
    };
    let made = Lines::new(format, &host, args.payload, anonymizer);
    let merged = Merged::select(&places, selection)?;
    lines(args, path, made, &places, merged)
}

fn lines(
    args: &ExportArgs,
    path: &Path,
    lines: Lines,
    places: &[PathBuf],
    mut merged: Merged,
) -> Result<()> {
    let said = || named(path);
    let mut to = Output::create(path, places)?;
    let mut told = to.write_all(lines.head().as_bytes());
    // What comes bit by bit is read from its start to its end.
    let streams = places
        .iter()
        .any(|place| !place.is_dir() && !place.is_file());
    if streams {
        told = told.and_then(|()| one_by_one(lines, &mut merged, &mut to));
    } else if told.is_ok() {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.map_or_else(processors, usize::from);
        merged.scan(
            threads,
            || lines.clone(),
            |piece, marks| {
                told = to.write_all(&piece.out[piece.bytes(marks)]);
                told.is_ok()
            },
        );
    }
    if !super::went(told.and_then(|()| to.finish())).with_context(said)? {
        return Ok(());
    }
    super::tell_faults(&mut merged)
}

fn one_by_one(mut lines: Lines, merged: &mut Merged, to: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    while merged.advance() {
        let Some(record) = merged.record() else {
            break;
        };
        line.clear();
        lines.make(&record, 0, &mut line);
        to.write_all(&line)?;
    }
    Ok(())
}

#[cfg(not(feature = "parquet"))]
mod dataset {
    //! What is said where there is none.

    use super::*;

    pub(super) fn run(
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
}
