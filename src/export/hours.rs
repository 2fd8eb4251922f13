//! A file's rows, in parts by hour, in memory that does not depend on how many hours there are.
//!
//! ```text
//!   row ──> table of its hour ──> group of rows in the hour's part ──> part
//!           (all together at      (when the table is full, or the      (at the end, or when too many
//!            most HELD_BYTES)      largest of too many)                  are open: the oldest hour's)
//! ```

use std::collections::BTreeMap;

use ::parquet::errors::ParquetError;

use super::dataset::Error;
use super::out::{Batch, Out};
use super::parquet::Parts;
use super::row::Table;
use crate::read::Record;

/// Rows of a group, at the most.
pub(super) const GROUP_ROWS: usize = 1 << 16;
/// Bytes of tables that are held, at the most.
const HELD_BYTES: usize = 32 << 20;
/// Parts that are open at the same time, at the most.
const OPEN_MAX: usize = 64;
/// Parts of a file, at the most: of half a year. Each is a file, and takes the better part of a millisecond.
pub(super) const PARTS_MAX: usize = 4_096;

const HOUR_NS: u64 = 3_600_000_000_000;

/// Where an hour's part is: its table, the hour, and which of several.
pub(super) type Place<'a> = &'a dyn Fn(u64, u32) -> String;

/// The hours of a file.
pub(super) struct Hours<'a> {
    out: &'a Out,
    batch: Batch<'a>,
    place: Place<'a>,
    payload_bytes: usize,
    held_bytes: usize,
    open: BTreeMap<u64, Hour>,
    /// Parts that are ended, of each hour: one that comes again later has several.
    ended: BTreeMap<u64, u32>,
    parts: usize,
    bytes: u64,
}

struct Hour {
    table: Table,
    parts: Option<Parts>,
}

impl<'a> Hours<'a> {
    pub(super) fn new(out: &'a Out, payload_bytes: usize, place: Place<'a>) -> Hours<'a> {
        Hours {
            out,
            batch: out.batch(),
            place,
            payload_bytes,
            held_bytes: 0,
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            parts: 0,
            bytes: 0,
        }
    }

    /// Appends a packet.
    pub(super) fn add(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let hour = hour_of(record.time_ns);
        if !self.open.contains_key(&hour) {
            self.parts += 1;
            if self.parts > PARTS_MAX {
                return Err(Error::Hours);
            }
            let table = Table::new(self.payload_bytes);
            self.held_bytes += table.bytes();
            self.open.insert(hour, Hour { table, parts: None });
        }
        let Some(Hour { table, .. }) = self.open.get_mut(&hour) else {
            return Ok(());
        };
        self.held_bytes -= table.bytes();
        table.add(record);
        self.held_bytes += table.bytes();
        if table.rows.len() == GROUP_ROWS {
            self.write(hour)?;
        }
        while self.held_bytes > HELD_BYTES {
            let largest = self.open.iter().max_by_key(|(_, hour)| hour.table.bytes());
            let Some((hour, _)) = largest.filter(|(_, hour)| !hour.table.rows.is_empty()) else {
                break;
            };
            self.write(*hour)?;
        }
        Ok(())
    }

    /// Writes what is held of an hour, and ends the oldest where too many are open.
    fn write(&mut self, hour: u64) -> Result<(), Error> {
        self.flush(hour)?;
        let open = self.open.iter().filter(|(_, hour)| hour.parts.is_some());
        if open.clone().count() > OPEN_MAX {
            let oldest = open.map(|(other, _)| *other).find(|other| *other != hour);
            oldest.map_or(Ok(()), |oldest| self.end(oldest))?;
        }
        Ok(())
    }

    fn flush(&mut self, hour: u64) -> Result<(), Error> {
        let part = self.part(hour);
        let Some(Hour { table, parts }) = self.open.get_mut(&hour) else {
            return Ok(());
        };
        if table.rows.is_empty() {
            return Ok(());
        }
        let mut table = std::mem::replace(table, Table::new(self.payload_bytes));
        self.held_bytes -= table.bytes() - Table::EMPTY_BYTES;
        table.sort();
        let mut write = || -> Result<(), ParquetError> {
            let parts = match parts {
                Some(parts) => parts,
                None => parts.insert(Parts::packets(self.out.begin(&part)?)?),
            };
            parts.write(&table)
        };
        write().map_err(|source| Error::write(self.out, &part, source))
    }

    /// Ends an hour's part.
    fn end(&mut self, hour: u64) -> Result<(), Error> {
        self.flush(hour)?;
        let part = self.part(hour);
        let Some(Hour { table, parts }) = self.open.remove(&hour) else {
            return Ok(());
        };
        self.held_bytes -= table.bytes();
        *self.ended.entry(hour).or_default() += 1;
        let mut end = |parts: Parts| -> Result<u64, ParquetError> {
            Ok(self.batch.end(&part, parts.finish()?)?)
        };
        let ended = parts.map_or(Ok(0), &mut end);
        self.bytes += ended.map_err(|source| Error::write(self.out, &part, source))?;
        Ok(())
    }

    /// Ends all of them. Returns the parts, which have not got their names, and their bytes.
    pub(super) fn finish(mut self) -> Result<(Batch<'a>, u64), Error> {
        while let Some((hour, _)) = self.open.first_key_value() {
            self.end(*hour)?;
        }
        Ok((self.batch, self.bytes))
    }

    fn part(&self, hour: u64) -> String {
        (self.place)(hour, self.ended.get(&hour).copied().unwrap_or(0))
    }
}

/// The hour of a time, since 1970.
pub(super) fn hour_of(time_ns: u64) -> u64 {
    time_ns / HOUR_NS
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::read::Interface;

    #[test]
    fn what_is_held_does_not_grow_with_the_hours() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let name = format!("lwnflog-hours-{}", since.unwrap_or_default().as_nanos());
        let dir = std::env::temp_dir().join(name);
        let out = Out::Directory(dir.clone());
        let place = |hour: u64, several: u32| format!("hour={hour}/{several}");
        let mut hours = Hours::new(&out, usize::MAX, &place);
        let interface = Interface {
            link: 101,
            ..Interface::default()
        };
        let mut data = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        data.resize(1 << 20, 1);
        // In turn through more hours than are open, then on.
        for number in 0..80_u64 {
            let record = Record {
                time_ns: (number % 3 + number / 3) * HOUR_NS,
                interface: &interface,
                data: &data,
                original_len: 0,
                lost_before: 0,
                flags: 0,
                comment: "",
                note: "",
            };
            hours.add(&record).unwrap();
            let held: usize = hours.open.values().map(|hour| hour.table.bytes()).sum();
            assert_eq!(held, hours.held_bytes);
            assert!(held <= HELD_BYTES);
        }
        assert!(hours.bytes == 0 && hours.open.values().any(|hour| hour.parts.is_some()));
        let (batch, bytes) = hours.finish().unwrap();
        assert!(bytes != 0);
        batch.commit().unwrap();
        let _ = std::fs::remove_dir_all(dir);
    }
}
