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

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ::parquet::errors::ParquetError;

use super::loss::Losses;
use super::out::Out;
use super::parquet::Parts;
use super::row::Table;
use crate::read::ReadError;
use crate::read::anonymize::Anonymizer;
use crate::read::chain::{Merged, Span};
use crate::read::filter::Filter;
use crate::read::packets::Packets;
use crate::ring::{Compression, ring_file};

/// Rows of a group, at the most: some ten megabytes of memory each.
const GROUP_ROWS: usize = 1 << 18;

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a capture cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A part of the data set cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// The part.
        path: PathBuf,
        /// What the library or the system says.
        source: ParquetError,
    },
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
}

impl Dataset {
    /// Exports a file; `None` where that was done before.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged; parts that cannot be written.
    pub fn export(&self, file: &Path) -> Result<Option<Exported>, Error> {
        let Some(name) = self.name(file)? else {
            return Ok(Some(Exported::default()));
        };
        let done = format!("_exported/{}/{name}", self.host);
        // A ring's finished file stays as it is; of any other it matters whether it has grown.
        let finished = ring_file(file).is_some_and(|name| !name.live);
        let len = fs::metadata(file).map_or(0, |meta| meta.len()).to_string();
        let said = |part: &str| {
            let path = self.out.name(part);
            move |source: ParquetError| Error::Write { path, source }
        };
        let then = self
            .out
            .text(&done)
            .map_err(|error| said(&done)(error.into()))?;
        if then.is_some_and(|then| finished || then == len) {
            return Ok(None);
        }
        let mut hours: BTreeMap<u64, (Table, Option<Parts>)> = BTreeMap::new();
        let (mut losses, mut exported) = (Losses::default(), Exported::default());
        let mut anonymizer = self.anonymizer.clone();
        let mut merged = Merged::open(&[file.to_owned()], Span::default())?;
        while merged.advance() {
            let Some(record) = merged.record() else {
                break;
            };
            let takes = self.filter.0.takes(&record);
            let record = match &mut anonymizer {
                None => record,
                Some(anonymizer) => anonymizer.record(&record),
            };
            losses.add(&record);
            if !takes {
                continue;
            }
            exported.rows += 1;
            let hour = record.time_ns / 3_600_000_000_000;
            let (table, parts) = hours
                .entry(hour)
                .or_insert_with(|| (Table::new(self.payload_bytes), None));
            table.add(&record);
            if table.rows.len() == GROUP_ROWS {
                let part = self.part("packets", hour, &name);
                self.flush(table, parts, &part).map_err(said(&part))?;
            }
        }
        for (hour, (mut table, mut parts)) in hours {
            let part = self.part("packets", hour, &name);
            exported.bytes += self
                .flush(&mut table, &mut parts, &part)
                .and_then(|()| parts.map_or(Ok(0), |parts| self.finish(parts, &part)))
                .map_err(said(&part))?;
        }
        exported.lost = losses.lost();
        exported.faults = merged.take_faults();
        if let Some(begin) = losses.begin_ns() {
            let part = self.part("loss", begin / 3_600_000_000_000, &name);
            let file = match self.hides_name(file) {
                true => "".into(),
                false => file.file_name().unwrap_or_default().to_string_lossy(),
            };
            let begun = self.out.begin(&part).map_err(ParquetError::from);
            let written = begun.and_then(Parts::losses).and_then(|mut parts| {
                parts.write_losses(&losses.all(), &file)?;
                self.finish(parts, &part)
            });
            exported.bytes += written.map_err(said(&part))?;
        }
        let marked = self.out.put_text(&done, &len);
        marked.map_err(|error| said(&done)(error.into()))?;
        Ok(Some(exported))
    }

    /// A file's name in the data set: what it is called, and what tells it from others: its first packet, and
    /// what was asked of it. `None` without a packet.
    fn name(&self, file: &Path) -> Result<Option<String>, ReadError> {
        let mut packets = Packets::open(file)?;
        packets.advance()?;
        let Some(first) = packets.record() else {
            return Ok(None);
        };
        // A sum of addresses and names would tell them to who tries all of them: where they are changed it is of
        // the others.
        let mut anonymizer = self.anonymizer.clone();
        let first = match &mut anonymizer {
            None => first,
            Some(anonymizer) => anonymizer.record(&first),
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
        Ok(Some(format!("{}-{identity:016x}", word(&name))))
    }

    /// Whether a file's name may tell whose it is.
    fn hides_name(&self, file: &Path) -> bool {
        self.anonymizer.is_some() && !Anonymizer::is_own_name(file)
    }

    fn part(&self, table: &str, hour: u64, name: &str) -> String {
        let seconds = i64::try_from(hour.saturating_mul(3600)).unwrap_or(0);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        format!(
            "{table}/{}/host={}/{name}.parquet",
            time.strftime("dt=%Y-%m-%d/hour=%H"),
            self.host
        )
    }

    fn flush(
        &self,
        table: &mut Table,
        parts: &mut Option<Parts>,
        part: &str,
    ) -> Result<(), ParquetError> {
        if table.rows.is_empty() {
            return Ok(());
        }
        let parts = match parts {
            Some(parts) => parts,
            None => parts.insert(Parts::packets(self.out.begin(part)?)?),
        };
        table.sort();
        parts.write(table)?;
        table.clear();
        Ok(())
    }

    fn finish(&self, parts: Parts, part: &str) -> Result<u64, ParquetError> {
        Ok(self.out.end(part, parts.finish()?)?)
    }
}

/// What may stand in a name of a directory or file of the data set.
pub fn word(text: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    text.chars()
        .map(|letter| if fits(letter) { letter } else { '_' })
        .collect()
}
