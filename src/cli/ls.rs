//! `lwnflog ls`: the files of rings as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use super::read::time::Zone;
use super::{complain, say};
use crate::index::{Index, Of};
use crate::numbers::grouped;
use crate::read::chain::{Merged, Span};
use crate::read::handle::Handle;
use crate::read::line::{printable, shown};
use crate::read::plan::index_of;
use crate::ring::{Compression, ring_file};

/// How often it is looked where files are that were renamed meanwhile.
const LOOKS_MAX: u32 = 10;

/// A file, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    dir: String,
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
    /// The figures are its index's, and it was not read.
    by_index: bool,
    /// What could not be read, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
}

/// `lwnflog ls [DIR...]`
///
/// # Errors
/// Directories that cannot be read, or hold no ring; damaged files. All others are shown.
pub fn run(places: &[PathBuf], utc: bool, json: bool, no_index: bool) -> Result<()> {
    let by_default = [PathBuf::from("lwnflog-capture")];
    let places = if places.is_empty() {
        &by_default
    } else {
        places
    };
    let (mut text, mut all) = (String::new(), true);
    for place in places {
        let rows = match rows(place, no_index) {
            Ok(rows) if !rows.is_empty() => rows,
            other => {
                let why = match other {
                    Err(error) => error.to_string(),
                    Ok(_) => "no file of a ring is there".to_owned(),
                };
                complain(&format!("{}: {why}", shown(place)));
                all = false;
                continue;
            }
        };
        all &= rows.iter().all(|row| row.faults.is_empty());
        if json {
            for row in &rows {
                text += &serde_json::to_string(row)?;
                text.push('\n');
            }
        } else {
            if places.len() > 1 {
                let between = if text.is_empty() { "" } else { "\n" };
                text += &format!("{between}{}:\n", shown(place));
            }
            text += &table(&rows, &Zone::of(utc));
        }
    }
    say(text.as_bytes())?;
    anyhow::ensure!(all, "not all could be read: see above");
    Ok(())
}

/// A file of a ring: ring, number, whether it is live, and its name before it was compressed, which tells those of
/// two hosts in one directory apart.
type Key = (String, u64, bool, PathBuf);

/// The files of a directory, ring by ring, oldest first. One that lies there twice, because it has just been
/// compressed, is one.
fn list(dir: &Path) -> io::Result<BTreeMap<Key, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = ring_file(&path) else {
            continue;
        };
        let is_compressed = Compression::by_name(&path).is_some();
        let plain = match is_compressed {
            true => path.with_extension(""),
            false => path.clone(),
        };
        let key = (name.ring, name.sequence, name.live, plain);
        if is_compressed {
            files.entry(key).or_insert(path);
        } else {
            files.insert(key, path);
        }
    }
    Ok(files)
}

/// A row for each file. One that is renamed meanwhile, because it is finished or compressed, is looked for under
/// its new name; one that is recycled has gone.
fn rows(dir: &Path, no_index: bool) -> io::Result<Vec<Row>> {
    let mut files = list(dir)?;
    let mut seen: BTreeSet<_> = files.values().cloned().collect();
    let mut rows = BTreeMap::new();
    for _ in 0..LOOKS_MAX {
        let mut lost = BTreeSet::new();
        for (key, path) in files {
            match row(dir, &key, &path, no_index) {
                Some(row) => drop(rows.insert(key, row)),
                None => drop(lost.insert((key.0, key.1))),
            }
        }
        if lost.is_empty() {
            break;
        }
        files = list(dir)?;
        files.retain(|(ring, number, ..), path| {
            lost.contains(&(ring.clone(), *number)) && !seen.contains(path)
        });
        seen.extend(files.values().cloned());
    }
    Ok(rows.into_values().collect())
}

/// `None` where the file is not there under this name any more.
fn row(dir: &Path, (ring, number, live, _): &Key, path: &Path, no_index: bool) -> Option<Row> {
    let meta = fs::metadata(path);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    if meta.as_ref().is_err_and(gone) {
        return None;
    }
    let name = path.file_name().unwrap_or_default();
    let mut row = Row {
        dir: dir.display().to_string(),
        file: name.to_string_lossy().into_owned(),
        ring: ring.clone(),
        number: *number,
        from_ns: None,
        to_ns: None,
        packets: 0,
        lost: 0,
        bytes: meta.as_ref().map_or(0, fs::Metadata::len),
        state: if *live { "live" } else { "finished" },
        kept: meta.as_ref().is_ok_and(|meta| meta.nlink() > 1),
        by_index: false,
        faults: Vec::new(),
    };
    let index = || {
        let handle = Arc::new(Handle::open_plain(path).ok()?);
        match index_of(&handle, &(0..=u64::MAX)).filter(|_| !live && !no_index)? {
            Of::Some(index) => Some(index),
            Of::NoneOfIt => None,
        }
    };
    // A pipe is not waited for.
    if meta.as_ref().is_ok_and(|meta| !meta.is_file()) {
        row.faults.push("not a plain file".to_owned());
    } else if let Some(index) = index() {
        row.by_index = true;
        sum(&index, &mut row);
    } else {
        count(path, &mut row);
    }
    if !row.faults.is_empty() {
        row.state = "damaged";
    }
    // What was read of a file that has another name now may be another file's.
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    let now = fs::metadata(path);
    (now.as_ref().ok().map(id) == meta.as_ref().ok().map(id)).then_some(row)
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

/// What there is to be read, and what there is not.
fn count(path: &Path, row: &mut Row) {
    let mut merged = match Merged::open(&[path.to_owned()], Span::default()) {
        Ok(merged) => merged,
        Err(error) => return row.faults.push(error.what),
    };
    while merged.advance() {
        let Some(record) = merged.record() else {
            break;
        };
        row.packets += 1;
        row.lost = row.lost.saturating_add(record.lost_before);
        let from = row.from_ns.unwrap_or(u64::MAX);
        row.from_ns = Some(from.min(record.time_ns));
        row.to_ns = row.to_ns.max(Some(record.time_ns));
    }
    let faults = merged.take_faults().into_iter();
    row.faults.extend(faults.map(|fault| fault.what));
}

fn table(rows: &[Row], zone: &Zone) -> String {
    let names: Vec<_> = rows.iter().map(|row| printable(&row.file)).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(4);
    let mut text = format!(
        "{:<width$}  {:<19}  {:<19}  {:>14}  {:>12}  {:>15}  state\n",
        "file", "from", "to", "packets", "lost", "bytes"
    );
    let time = |time: Option<u64>| match time {
        Some(time) => zone.show(i64::try_from(time / 1_000_000_000).unwrap_or(0), true),
        None => "-".to_owned(),
    };
    let mut before: Option<&Row> = None;
    for (row, name) in rows.iter().zip(names) {
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
            "{name:<width$}  {:<19}  {:<19}  {:>14}  {:>12}  {:>15}  {}{}",
            time(row.from_ns),
            time(row.to_ns),
            grouped(row.packets),
            grouped(row.lost),
            grouped(row.bytes),
            row.state,
            if row.kept { ", kept" } else { "" }
        );
        if let Some(fault) = row.faults.first() {
            text += &format!(": {}", printable(fault.trim_start_matches("damaged, ")));
        }
        if row.faults.len() > 1 {
            text += &format!(", and at {} more places", row.faults.len() - 1);
        }
        text.push('\n');
        before = Some(row);
    }
    text
}
