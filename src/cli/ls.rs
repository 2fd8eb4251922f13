//! `lwnflog ls`: the files of rings as a table.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::read::time::Zone;
use crate::index::Index;
use crate::numbers::grouped;
use crate::read::packets::Packets;
use crate::ring::ring_file;

/// A file, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    ring: String,
    number: u64,
    /// Nanoseconds since 1970; none of a file without packets.
    from_ns: Option<u64>,
    to_ns: Option<u64>,
    packets: u64,
    /// Packets that the file says were lost before those in it.
    lost: u64,
    bytes: u64,
    /// `live`, `finished`; `damaged` where it could not be read to its end.
    state: &'static str,
    /// It has another name: `ctl keep`.
    kept: bool,
}

/// `lwnflog ls [DIR...]`
///
/// # Errors
/// Directories that cannot be read, or hold no ring.
pub fn run(places: &[PathBuf], utc: bool, json: bool) -> Result<()> {
    let by_default = [PathBuf::from("lwnflog-capture")];
    let places = if places.is_empty() {
        &by_default
    } else {
        places
    };
    let mut text = String::new();
    for place in places {
        let rows = rows(place)?;
        if rows.is_empty() {
            bail!("{}: no file of a ring is there", place.display());
        }
        if json {
            for row in &rows {
                text += &serde_json::to_string(row)?;
                text.push('\n');
            }
        } else {
            text += &table(&rows, &Zone::of(utc));
        }
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.context("standard output"),
    }
}

/// The files of a directory, ring by ring, oldest first.
fn rows(dir: &Path) -> Result<Vec<Row>> {
    let said = || dir.display().to_string();
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(said)? {
        let path = entry.with_context(said)?.path();
        if let Some(name) = ring_file(&path) {
            files.insert((name.ring, name.sequence, name.live), path);
        }
    }
    let rows = files
        .into_iter()
        .map(|((ring, number, live), path)| row(ring, number, live, &path));
    Ok(rows.collect())
}

fn row(ring: String, number: u64, live: bool, path: &Path) -> Row {
    let meta = fs::metadata(path);
    let mut row = Row {
        file: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        ring,
        number,
        from_ns: None,
        to_ns: None,
        packets: 0,
        lost: 0,
        bytes: meta.as_ref().map_or(0, fs::Metadata::len),
        state: if live { "live" } else { "finished" },
        kept: meta.is_ok_and(|meta| std::os::unix::fs::MetadataExt::nlink(&meta) > 1),
    };
    match Index::load(path).filter(|_| !live) {
        Some(index) => sum(&index, &mut row),
        None if count(path, &mut row).is_err() => row.state = "damaged",
        None => {}
    }
    row
}

/// What the index says of each segment.
fn sum(index: &Index, row: &mut Row) {
    let segments = index.segments().iter();
    for segment in segments.filter(|segment| segment.packets != 0) {
        row.packets += u64::from(segment.packets);
        row.lost = row.lost.saturating_add(segment.lost);
        let from = row.from_ns.unwrap_or(u64::MAX);
        row.from_ns = Some(from.min(segment.from_ns));
        row.to_ns = row.to_ns.max(Some(segment.to_ns));
    }
}

fn count(path: &Path, row: &mut Row) -> Result<()> {
    let mut packets = Packets::open(path)?;
    while packets.advance()? {
        let Some(record) = packets.record() else {
            break;
        };
        row.packets += 1;
        row.lost = row.lost.saturating_add(record.lost_before);
        row.from_ns = Some(
            row.from_ns
                .map_or(record.time_ns, |from| from.min(record.time_ns)),
        );
        row.to_ns = row.to_ns.max(Some(record.time_ns));
    }
    Ok(())
}

fn table(rows: &[Row], zone: &Zone) -> String {
    let width = rows.iter().map(|row| row.file.len()).max().unwrap_or(4);
    let mut text = format!(
        "{:<width$}  {:<19}  {:<19}  {:>14}  {:>12}  {:>15}  state\n",
        "file", "from", "to", "packets", "lost", "bytes"
    );
    let time = |time: Option<u64>| match time {
        Some(time) => zone.show(i64::try_from(time / 1_000_000_000).unwrap_or(0), true),
        None => "-".to_owned(),
    };
    let mut before: Option<&Row> = None;
    for row in rows {
        if let Some(before) =
            before.filter(|before| before.ring == row.ring && before.number + 1 < row.number)
        {
            text += &format!(
                "  ({} files between are not there: numbers {} to {})\n",
                row.number - before.number - 1,
                before.number + 1,
                row.number - 1
            );
        }
        text += &format!(
            "{:<width$}  {:<19}  {:<19}  {:>14}  {:>12}  {:>15}  {}{}\n",
            row.file,
            time(row.from_ns),
            time(row.to_ns),
            grouped(row.packets),
            grouped(row.lost),
            grouped(row.bytes),
            row.state,
            if row.kept { ", kept" } else { "" }
        );
        before = Some(row);
    }
    text
}
