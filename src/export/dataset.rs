//! A data set that many hosts write: tables `packets` and `loss`, in parts by day, hour and host. Each file of
//! a capture is in it once, however often it is exported.
//!
//! ```text
//!   OUT/packets/dt=2026-11-27/hour=14/host=fw1/FILE-IDENTITY.parquet
//!   OUT/loss/dt=2026-11-27/hour=14/host=fw1/FILE-IDENTITY.parquet
//!   OUT/_exported/fw1/FILE-IDENTITY     when all of a file's parts are there
//! ```
//!
//! A file's parts have names that follow from it, so that one that was interrupted is replaced by the next
//! try. Engines pass over what begins with `_` or a dot.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ::parquet::errors::ParquetError;

use super::hours::{Hours, PARTS_MAX, hour_of};
use super::loss::Losses;
use super::mark::Mark;
use super::out::Out;
use super::parquet::Parts;
use crate::read::anonymize::Anonymizer;
use crate::read::chain::{Merged, Span};
use crate::read::filter::Filter;
use crate::read::line::shown;
use crate::read::{Interface, ReadError, Record};
use crate::ring::{Compression, ring_file, wherever};

/// Gaps that are held, at the most.
const GAPS_HELD: usize = 1 << 16;
/// Faults that a mark names.
const FAULTS_MARKED: usize = 20;

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a capture cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file that is still written.
    #[error(
        "it is being written, or was left by a capture that was killed: a ring's file is exported once it is finished"
    )]
    Live,
    /// Its packets are of too many hours.
    #[error(
        "its packets are of more than {PARTS_MAX} hours, each of which is a file: --csv takes it"
    )]
    Hours,
    /// A part of the data set cannot be written.
    #[error("{path}: {source}", path = shown(path))]
    Write {
        /// The part.
        path: PathBuf,
        /// What the library or the system says.
        source: ParquetError,
    },
}

impl Error {
    pub(super) fn write(out: &Out, part: &str, source: impl Into<ParquetError>) -> Error {
        Error::Write {
            path: out.name(part),
            source: source.into(),
        }
    }
}

/// What has become of a file.
#[derive(Debug)]
pub enum Done {
    /// It is in the data set now.
    Exported(Exported),
    /// It was before: up to its damage, where there is any.
    Before(Vec<ReadError>),
    /// It is not there any more.
    Gone,
}

/// What was exported of a file.
#[derive(Debug, Default)]
pub struct Exported {
    /// Packets that are in the table.
    pub rows: u64,
    /// Packets that the file says were lost.
    pub lost: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// What could not be read.
    pub faults: Vec<ReadError>,
}

/// Where to, and what of each packet.
#[derive(Debug)]
pub struct Dataset {
    /// The directory or bucket.
    pub out: Out,
    /// Who captured: of letters, digits, `.`, `-` and `_`.
    pub host: String,
    /// Which packets become rows, and the filter's text, by which exports are told from each other.
    pub filter: (Filter, String),
    /// Changes addresses.
    pub anonymizer: Option<Anonymizer>,
    /// Bytes behind the headers that are kept.
    pub payload_bytes: usize,
    /// Files that were taken since this was emptied: one that lies there twice counts once.
    pub taken: Mutex<HashSet<String>>,
}

impl Dataset {
    /// Exports a file, unless that was done before.
    ///
    /// # Errors
    /// A file that cannot be read, or is still written; parts that cannot be written.
    pub fn export(&self, file: &Path) -> Result<Done, Error> {
        let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        if [file, &real]
            .iter()
            .any(|path| ring_file(path).is_some_and(|name| name.live))
        {
            return Err(Error::Live);
        }
        // It may have been compressed since it was listed.
        let file = wherever(file);
        let mut merged = Merged::open(std::slice::from_ref(&file), Span::default())?;
        if !merged.advance() {
            return match merged.take_faults().pop() {
                Some(fault) => Err(fault.into()),
                None if !file.exists() => Ok(Done::Gone),
                None => Ok(Done::Exported(Exported::default())),
            };
        }
        let Some(name) = merged.record().map(|first| self.name(&file, &first)) else {
            return Ok(Done::Exported(Exported::default()));
        };
        if !self.take(&name) {
            return Ok(Done::Before(Vec::new()));
        }
        let done = format!("_exported/{}/{name}", self.host);
        let failed = |part: &str, source: ParquetError| Error::write(&self.out, part, source);
        let then = self.out.text(&done);
        let then = then.and_then(|text| text.map(|text| Mark::parse(&text)).transpose());
        let then = then.map_err(|error| failed(&done, error.into()))?;
        let meta = fs::metadata(&file).ok().filter(fs::Metadata::is_file);
        let changed_ns = meta.as_ref().map_or(0, |meta| {
            meta.mtime()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(meta.mtime_nsec())
        });
        let mut mark = Mark {
            len: meta.as_ref().map_or(0, fs::Metadata::len),
            changed_ns,
            faults: Vec::new(),
        };
        // A ring's finished file stays as it is; of any other it matters whether it has grown.
        let finished = ring_file(&file).is_some_and(|name| !name.live);
        if let Some(then) = then.filter(|then| meta.is_some() && then.holds(&mark, finished)) {
            let fault = |what: String| ReadError {
                path: file.clone(),
                what: format!("{what} (exported before, without what could not be read)"),
            };
            return Ok(Done::Before(then.faults.into_iter().map(fault).collect()));
        }
        let exported = self.parts(&file, &name, merged)?;
        let faults = exported.faults.iter().take(FAULTS_MARKED);
        mark.faults = faults.map(|fault| fault.what.clone()).collect();
        let marked = self.out.put_text(&done, &mark.to_string());
        marked.map_err(|error| failed(&done, error.into()))?;
        Ok(Done::Exported(exported))
    }

    /// Makes a file's parts, of its packets from the first one on.
    fn parts(&self, file: &Path, name: &str, mut merged: Merged) -> Result<Exported, Error> {
        let place = |hour: u64, several: u32| self.part("packets", hour, name, several);
        let mut hours = Hours::new(&self.out, self.payload_bytes, &place);
        let (mut losses, mut exported) = (Losses::default(), Exported::default());
        let mut loss_parts = None;
        let mut anonymizer = self.anonymizer.clone();
        let shown = |interface: &Interface| match self.anonymizer {
            None => interface.clone(),
            Some(_) => Anonymizer::interface(interface),
        };
        let shown_file = match self.hides_name(file) {
            true => "".into(),
            false => file.file_name().unwrap_or_default().to_string_lossy(),
        };
        while let Some(record) = merged.record() {
            losses.add(&record, shown);
            if losses.gaps().len() == GAPS_HELD {
                self.write_gaps(&mut losses, &mut loss_parts, name, &shown_file)?;
            }
            if self.filter.0.takes(&record) {
                exported.rows += 1;
                match &mut anonymizer {
                    None => hours.add(&record)?,
                    Some(anonymizer) => hours.add(&anonymizer.record(&record))?,
                }
            }
            if !merged.advance() {
                break;
            }
        }
        losses.end(&merged.take_tails(), shown);
        exported.faults = merged.take_faults();
        exported.lost = losses.lost();
        let (mut batch, bytes) = hours.finish()?;
        exported.bytes = bytes;
        let part = self.loss_part(&losses, name);
        let mut end = || -> Result<u64, ParquetError> {
            let mut parts = match loss_parts.take() {
                Some(parts) => parts,
                None => Parts::losses(self.out.begin(&part)?)?,
            };
            parts.write_losses(losses.sources(), None, &shown_file)?;
            parts.write_losses(losses.sources(), Some(losses.gaps()), &shown_file)?;
            Ok(batch.end(&part, parts.finish()?)?)
        };
        exported.bytes += end().map_err(|source| Error::write(&self.out, &part, source))?;
        let named = batch.commit();
        named.map_err(|error| Error::write(&self.out, &part, error))?;
        Ok(exported)
    }

    fn write_gaps(
        &self,
        losses: &mut Losses,
        parts: &mut Option<Parts>,
        name: &str,
        file: &str,
    ) -> Result<(), Error> {
        let part = self.loss_part(losses, name);
        let gaps = losses.take_gaps();
        let mut write = || -> Result<(), ParquetError> {
            let parts = match parts {
                Some(parts) => parts,
                None => parts.insert(Parts::losses(self.out.begin(&part)?)?),
            };
            parts.write_losses(losses.sources(), Some(&gaps), file)
        };
        write().map_err(|source| Error::write(&self.out, &part, source))
    }

    fn loss_part(&self, losses: &Losses, name: &str) -> String {
        self.part("loss", hour_of(losses.begin_ns().unwrap_or(0)), name, 0)
    }

    /// Whether nobody has taken the file of this name yet.
    fn take(&self, name: &str) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(name.to_owned())
    }

    /// A file's name in the data set: what it is called, and what tells it from others: its first packet, and
    /// what was asked of it.
    fn name(&self, file: &Path, first: &Record<'_>) -> String {
        // A sum of addresses and names would tell them to who tries all of them: where they are changed it is of
        // the others.
        let mut anonymizer = self.anonymizer.clone();
        let first = match &mut anonymizer {
            None => *first,
            Some(anonymizer) => anonymizer.record(first),
        };
        let asked = format!(
            "\0{}\0{}\0{}\0{}\0{}\0{}",
            first.interface.description,
            first.interface.name,
            first.time_ns,
            self.filter.1,
            self.anonymizer.is_some(),
            self.payload_bytes
        );
        let bytes = first.data.iter().chain(asked.as_bytes());
        // FNV-1a, of 64 bits.
        let identity = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let plain = match Compression::by_name(file) {
            Some(_) => file.with_extension(""),
            None => file.to_owned(),
        };
        let name = match self.hides_name(file) {
            true => "capture".into(),
            false => plain.file_stem().unwrap_or_default().to_string_lossy(),
        };
        format!("{}-{identity:016x}", word(&name))
    }

    /// Whether a file's name may tell whose it is.
    fn hides_name(&self, file: &Path) -> bool {
        self.anonymizer.is_some() && !Anonymizer::is_own_name(file)
    }

    /// Where a part is. An hour that comes again has `several`.
    fn part(&self, table: &str, hour: u64, name: &str, several: u32) -> String {
        let seconds = i64::try_from(hour.saturating_mul(3600)).unwrap_or(0);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let again = match several {
            0 => String::new(),
            several => format!("-{several}"),
        };
        format!(
            "{table}/{}/host={}/{name}{again}.parquet",
            time.strftime("dt=%Y-%m-%d/hour=%H"),
            self.host
        )
    }
}

/// What may stand in a name of a directory or file of the data set.
pub fn word(text: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    text.chars()
        .map(|letter| if fits(letter) { letter } else { '_' })
        .collect()
}
