//! `lwnflog export --parquet`: files of captures are added to a data set, by several threads, once or as they are
//! finished.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::export::ExportArgs;
use super::out::named;
use crate::cli::complain;
use crate::export::dataset::{Dataset, Done, Error, word};
use crate::export::out::Out;
use crate::numbers::grouped;
use crate::read::ReadError;
use crate::read::anonymize::Anonymizer;
use crate::read::chain::finished_in;
use crate::read::filter::Filter;
use crate::ring::{Compression, ring_file};

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
    // Two that became one word would be one host.
    anyhow::ensure!(
        word(host) == host,
        "the host `{host}` is to be a directory's name in the data set: give it one of letters, digits, `.`, `-` and \
         `_` (--host {})",
        word(host)
    );
    let dataset = Dataset {
        out: Out::of(out, complain).with_context(|| named(out))?,
        host: host.to_owned(),
        filter,
        anonymizer,
        payload_bytes: args.payload,
        taken: Mutex::default(),
    };
    let begun = dataset.out.begin_writing(&dataset.host);
    let _writing = match begun.with_context(|| named(out)) {
        Err(error) if !args.follow => return Err(error),
        Err(error) => {
            complain(&format!("{error:#}"));
            None
        }
        Ok(writing) => writing,
    };
    let threads = args.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let mut looks = Looks::new(places);
    let mut told = HashSet::new();
    loop {
        let (files, missing, mut troubles) = looks.look();
        locked(&dataset.taken).clear();
        let sum = work_off(&dataset, &files, threads);
        let missing = missing + sum.gone;
        if missing != 0 {
            complain(&format!(
                "{} files of rings are not there any more: what was in them is in no table, nor counted as lost",
                grouped(missing)
            ));
        }
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
        let failed = sum.failed.iter().map(|(file, error)| {
            let what = match error {
                Error::Read(error) => error.what.clone(),
                other => other.to_string(),
            };
            format!("{}: not exported: {what}", named(file))
        });
        troubles.extend(failed);
        for trouble in troubles.iter().filter(|trouble| !told.contains(*trouble)) {
            complain(trouble);
        }
        if !args.follow {
            let all = files.len() + (troubles.len() - sum.failed.len());
            anyhow::ensure!(
                troubles.is_empty() && sum.faults.is_empty(),
                "{} of {all} files could not be exported, or not to their ends",
                troubles.len() + sum.damaged
            );
            return Ok(());
        }
        // What goes on is told once.
        told = troubles.into_iter().collect();
        // What could not be written is tried again: a disk may have room by then.
        let write = |(_, error): &&(PathBuf, Error)| matches!(error, Error::Write { .. });
        let again: HashSet<_> = sum
            .failed
            .iter()
            .filter(write)
            .map(|(file, _)| file)
            .collect();
        looks.done(files.iter().filter(|file| !again.contains(file)));
        std::thread::sleep(LOOK);
    }
}

/// What there is to export, look by look.
struct Looks {
    /// Directories, which may go and come, and files.
    places: Vec<(PathBuf, bool)>,
    /// Files that were exported, as they were called before they were compressed, and how they were then.
    done: HashMap<PathBuf, State>,
    /// How they were when they were looked at last.
    seen: HashMap<PathBuf, State>,
    /// The latest number of each ring, and when that file was begun.
    last: HashMap<(PathBuf, String), (u64, String)>,
}

impl Looks {
    fn new(places: &[PathBuf]) -> Looks {
        let place = |place: &PathBuf| (place.clone(), place.is_dir());
        Looks {
            places: places.iter().map(place).collect(),
            done: HashMap::new(),
            seen: HashMap::new(),
            last: HashMap::new(),
        }
    }

    /// Files that are to be exported, how many are missing between those of rings, and what cannot be looked at.
    fn look(&mut self) -> (Vec<PathBuf>, u64, Vec<String>) {
        let (mut there, mut ring_files, mut troubles) = (HashMap::new(), Vec::new(), Vec::new());
        let mut order = Vec::new();
        for (place, is_dir) in &self.places {
            let (files, faults) = match is_dir {
                true => finished_in(place),
                false => (vec![place.clone()], Vec::new()),
            };
            troubles.extend(faults.iter().map(ToString::to_string));
            for file in files {
                let plain = plain(&file);
                // One that lies there twice, or was named twice, counts once: as it is, rather than compressed.
                let known = there.insert(plain.clone(), file.clone());
                match known {
                    None => order.push(plain.clone()),
                    Some(known) if Compression::by_name(&known).is_none() => {
                        there.insert(plain.clone(), known);
                    }
                    Some(_) => {}
                }
                if *is_dir {
                    ring_files.push(plain);
                }
            }
        }
        self.done.retain(|file, _| there.contains_key(file));
        let states: HashMap<_, _> = there
            .iter()
            .map(|(plain, file)| (plain.clone(), state(file)))
            .collect();
        let is_due = |plain: &PathBuf| match self.done.get(plain) {
            None => true,
            // One that has changed is due once it rests: another program's, a copy that was not complete.
            Some(then) => {
                let now = states.get(plain);
                now != Some(then) && now == self.seen.get(plain)
            }
        };
        order.retain(is_due);
        ring_files.retain(is_due);
        self.seen = states;
        let missing = missing(&ring_files, &mut self.last);
        let files = order.iter().filter_map(|plain| there.remove(plain));
        (files.collect(), missing, troubles)
    }

    fn done<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        let done = files.map(|file| {
            let plain = plain(file);
            let state = self.seen.get(&plain).copied().unwrap_or((0, None));
            (plain, state)
        });
        self.done.extend(done);
    }
}

/// What a file was called before it was compressed, and where that is, by whatever way.
fn plain(file: &Path) -> PathBuf {
    let plain = match Compression::by_name(file) {
        Some(_) => file.with_extension(""),
        None => file.to_owned(),
    };
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    match (
        fs::canonicalize(dir.unwrap_or(Path::new("."))),
        plain.file_name(),
    ) {
        (Ok(dir), Some(name)) => dir.join(name),
        _ => plain,
    }
}

/// What changes with a file's content.
type State = (u64, Option<SystemTime>);

fn state(file: &Path) -> State {
    let meta = fs::metadata(file);
    meta.map_or((0, None), |meta| (meta.len(), meta.modified().ok()))
}

/// Files of rings that should be there by their numbers, between those that are, and behind the `last` ones of
/// an earlier look. A ring may begin anew.
fn missing(files: &[PathBuf], last: &mut HashMap<(PathBuf, String), (u64, String)>) -> u64 {
    let named = files.iter().filter_map(|file| {
        let name = ring_file(file)?;
        let stem = file.file_stem()?.to_string_lossy();
        let begun = stem.rsplit('-').next()?.to_owned();
        let dir = file.parent().map(Path::to_owned).unwrap_or_default();
        Some((begun, name.sequence, (dir, name.ring)))
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    let mut missing = 0;
    for (begun, sequence, ring) in named {
        let before = last.entry(ring).or_insert((sequence, begun.clone()));
        if sequence > before.0 {
            missing += sequence - before.0 - 1;
            *before = (sequence, begun);
        } else if begun > before.1 {
            *before = (sequence, begun);
        }
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
    /// Files that are not there any more.
    gone: u64,
    /// Files that have faults, and those.
    damaged: usize,
    faults: Vec<ReadError>,
    failed: Vec<(PathBuf, Error)>,
}

/// Each file by one of so many threads.
fn work_off(dataset: &Dataset, files: &[PathBuf], threads: usize) -> Sum {
    let (next, sum) = (Mutex::new(files.iter()), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(|| {
                loop {
                    let taken = locked(&next).next();
                    let Some(file) = taken else { break };
                    let done = dataset.export(file);
                    let mut sum = locked(&sum);
                    let faults = match done {
                        Ok(Done::Gone) => {
                            sum.gone += 1;
                            Vec::new()
                        }
                        Ok(Done::Before(faults)) => {
                            sum.before += 1;
                            faults
                        }
                        Ok(Done::Exported(exported)) => {
                            sum.files += 1;
                            sum.rows += exported.rows;
                            sum.lost = sum.lost.saturating_add(exported.lost);
                            sum.bytes += exported.bytes;
                            exported.faults
                        }
                        Err(error) => {
                            sum.failed.push((file.clone(), error));
                            Vec::new()
                        }
                    };
                    sum.damaged += usize::from(!faults.is_empty());
                    sum.faults.extend(faults);
                }
            });
        }
    });
    std::mem::take(&mut locked(&sum))
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
