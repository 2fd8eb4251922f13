//! `lwnflog export --parquet`: files of captures are added to a data set, by several threads, once or as they are
//! finished.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::export::ExportArgs;
use crate::cli::complain;
use crate::export::dataset::{Dataset, Error, word};
use crate::export::out::Out;
use crate::numbers::grouped;
use crate::read::ReadError;
use crate::read::anonymize::Anonymizer;
use crate::read::chain::finished_in;
use crate::read::filter::Filter;
use crate::ring::ring_file;

/// How often it is looked for finished files, with --follow.
const LOOK: Duration = Duration::from_secs(1);

/// Adds files to a data set, by several threads.
pub(super) fn run(
    args: &ExportArgs,
    out: &Path,
    places: &[PathBuf],
    host: &str,
    filter: (Filter, String),
    anonymizer: Option<Anonymizer>,
) -> Result<()> {
    let dataset = Dataset {
        out: Out::of(out).with_context(|| out.display().to_string())?,
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
            complain(&format!(
                "{} files of rings are not there any more: what was in them is in no table, nor counted as lost",
                grouped(missing)
            ));
        }
        let sum = work_off(&dataset, &files);
        if !args.follow || sum.files != 0 {
            complain(&format!(
                "{} files exported, {} before: {} packets, {} lost, {} bytes",
                grouped(sum.files),
                grouped(sum.before),
                grouped(sum.rows),
                grouped(sum.lost),
                grouped(sum.bytes)
            ));
        }
        for fault in &sum.faults {
            complain(&fault.to_string());
        }
        for (file, error) in &sum.failed {
            let text = format!("{}: not exported: {error}", file.display());
            if told.insert(text.clone()) {
                complain(&text);
            }
        }
        if !args.follow {
            anyhow::ensure!(
                sum.failed.is_empty() && sum.faults.is_empty(),
                "{} of {} files could not be exported, or not to their ends",
                sum.failed.len() + sum.faults.len(),
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
fn missing(files: &[PathBuf], last: &mut HashMap<(PathBuf, String), u64>) -> u64 {
    let mut missing = 0;
    for file in files {
        let Some(name) = ring_file(file) else {
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

#[derive(Debug, Default)]
struct Sum {
    files: u64,
    before: u64,
    rows: u64,
    lost: u64,
    bytes: u64,
    faults: Vec<ReadError>,
    failed: Vec<(PathBuf, Error)>,
}

/// Each file by one of as many threads as there are processors.
fn work_off(dataset: &Dataset, files: &[PathBuf]) -> Sum {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, sum) = (Mutex::new(files.iter()), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(|| {
                loop {
                    let taken = locked(&next).next();
                    let Some(file) = taken else { break };
                    let done = dataset.export(file);
                    // One that a ring has recycled meanwhile is gone, and no fault.
                    let gone = matches!(&done, Err(Error::Read(_)) if !file.exists());
                    let mut sum = locked(&sum);
                    match done {
                        _ if gone => {}
                        Ok(None) => sum.before += 1,
                        Ok(Some(exported)) => {
                            sum.files += 1;
                            sum.rows += exported.rows;
                            sum.lost = sum.lost.saturating_add(exported.lost);
                            sum.bytes += exported.bytes;
                            sum.faults.extend(exported.faults);
                        }
                        Err(error) => sum.failed.push((file.clone(), error)),
                    }
                }
            });
        }
    });
    std::mem::take(&mut locked(&sum))
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
