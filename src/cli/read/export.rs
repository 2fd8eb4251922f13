//! `lwnflog export`: packets of captures as rows, for programs that ask questions of tables.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

#[cfg(feature = "parquet")]
use super::dataset;
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
    let (places, words) = places_and_filter(&[], &args.words)?;
    let filter = Filter::of_arguments(&words)?;
    let expression = words.join(" ");
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
    while merged.advance() {
        let Some(record) = merged.record() else {
            break;
        };
        let told = match &mut anonymizer {
            None => writer.add(&record),
            Some(anonymizer) => writer.add(&anonymizer.record(&record)),
        };
        if !super::went(told).with_context(said)? {
            return Ok(());
        }
    }
    super::went(writer.flush()).with_context(said)?;
    super::tell_faults(&mut merged)
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
