//! What there is to read in the places that were named: chains of files, each opened as it is found.
//!
//! A ring is what its directory and its name say, as long as its numbers and its times go the same way.
//! Where they do not, rings of several machines lie there, or a clock was set back: then the files of
//! one start of a machine are a chain.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::handle::Handle;
use super::packets::Packets;
use super::{Fault, ReadError};
use crate::ring::{Compression, RingFile, begun, by_number, ring_file};

/// What is said of a ring's file that is not there any more.
pub(super) const GONE: &str = "it has gone before it was read";

/// A file that is to be read.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    /// Of a ring's file, what its name says.
    pub(super) name: Option<RingFile>,
    /// It was named, not found in a directory.
    is_named: bool,
    /// `None` of standard input.
    pub(super) handle: Option<Arc<Handle>>,
}

/// Which ring it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RingKey {
    pub(super) dir: PathBuf,
    pub(super) ring: String,
    /// In which start of the machine it was written, where that tells rings from each other.
    pub(super) boot: Option<String>,
}

/// Files one behind the other.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) key: Option<RingKey>,
    pub(super) files: Vec<Listed>,
}

/// All there is.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) chains: Vec<Files>,
    pub(super) faults: Vec<Fault>,
}

impl Listed {
    pub(super) fn of(path: PathBuf, is_named: bool) -> Listed {
        Listed {
            is_named,
            name: ring_file(&path),
            path,
            handle: None,
        }
    }

    /// Opens it, under the name that it has by now. False where it is not there any more.
    fn open(&mut self) -> Result<bool, ReadError> {
        let said = |error: &io::Error| ReadError::of(&self.path, error);
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let open = match self.is_named {
            true => Handle::open,
            false => Handle::open_plain,
        };
        let mut opened = open(&self.path);
        // It may be renamed once more meanwhile.
        for _ in 0..3 {
            let Err(error) = &opened else { break };
            let Some(name) = self.name.as_ref().filter(|_| gone(error)) else {
                break;
            };
            match by_number(&self.path, name) {
                Some(path) => opened = open(&path),
                None => break,
            }
        }
        match opened {
            Ok(handle) => {
                self.handle = Some(Arc::new(handle));
                Ok(true)
            }
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(said(&error)),
        }
    }

    /// What a ring's finished file is called before the ending that tells how it is written.
    pub(super) fn stem(&self) -> Option<String> {
        if self.name.as_ref()?.live {
            return None;
        }
        let plain = match Compression::by_name(&self.path) {
            Some(_) => self.path.with_extension(""),
            None => self.path.clone(),
        };
        Some(plain.file_stem()?.to_str()?.to_owned())
    }

    /// Whether both are the same file, of which one at least is open.
    pub(super) fn is_same(&self, other: &Listed) -> bool {
        let identity = |file: &Listed| file.handle.as_ref().map(|handle| handle.identity());
        identity(self).is_some() && identity(self) == identity(other)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.name.as_ref().map_or(0, |name| name.sequence)
    }
}

/// Looks for what there is in places: files, and directories of rings and other captures.
pub(super) fn look(places: &[PathBuf]) -> Places {
    look_for(places, &|_| true)
}

/// The same, but files of rings are not opened of which `is_wanted` says no.
pub(super) fn look_for(places: &[PathBuf], is_wanted: &dyn Fn(&Listed) -> bool) -> Places {
    let mut found = Places::default();
    let mut rings: BTreeMap<(PathBuf, String), BTreeMap<PathBuf, Listed>> = BTreeMap::new();
    let mut others = Vec::new();
    let mut put = |file: Listed| match &file.name {
        Some(name) => {
            let key = (dir_of(&file.path), name.ring.clone());
            let path = file.path.clone();
            rings.entry(key).or_default().insert(path, file);
        }
        None => others.push(file),
    };
    for place in places {
        if place.as_os_str() == "-" {
            put(Listed::of(place.clone(), true));
            continue;
        }
        match fs::metadata(place) {
            // A ring's file may have another name by now.
            Err(_) if ring_file(place).is_some() => put(Listed::of(place.clone(), true)),
            Err(error) => found.fault(ReadError::of(place, &error)),
            Ok(meta) if !meta.is_dir() => put(Listed::of(place.clone(), true)),
            Ok(_) => match list(place) {
                Err(error) => found.fault(ReadError::of(place, &error)),
                Ok(files) if files.is_empty() => found.faults.push(Fault::Empty(place.clone())),
                Ok(files) => files.into_iter().for_each(&mut put),
            },
        }
    }
    let mut seen = HashSet::new();
    for ((dir, ring), files) in rings {
        let files = opened(
            files.into_values().collect(),
            is_wanted,
            &mut seen,
            &mut found,
        );
        let key = |boot| RingKey {
            dir: dir.clone(),
            ring: ring.clone(),
            boot,
        };
        let chains = by_boot(files).into_iter();
        found.chains.extend(chains.map(|(boot, files)| Files {
            key: Some(key(boot)),
            files,
        }));
    }
    let twins: HashSet<_> = others.iter().map(|file| file.path.clone()).collect();
    others.retain(|file| {
        let plain = Compression::by_name(&file.path).map(|_| file.path.with_extension(""));
        plain.is_none_or(|plain| !twins.contains(&plain))
    });
    for file in others {
        let files = opened(vec![file], &|_| true, &mut seen, &mut found);
        if !files.is_empty() {
            found.chains.push(Files { key: None, files });
        }
    }
    found
}

impl Places {
    fn fault(&mut self, error: ReadError) {
        self.faults.push(Fault::Error(error));
    }
}

fn dir_of(path: &Path) -> PathBuf {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned())
}

/// The captures in a directory. While a ring goes on, a listing may miss a file that is being renamed: it
/// is asked again where numbers are missing.
fn list(dir: &Path) -> io::Result<Vec<Listed>> {
    let mut files: BTreeMap<PathBuf, Listed> = BTreeMap::new();
    for _ in 0..3 {
        let before = files.len();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if ring_file(&path).is_some() || is_named_as_capture(&path) && !path.is_dir() {
                files.insert(path.clone(), Listed::of(path, false));
            }
        }
        let mut numbers: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for name in files.values().filter_map(|file| file.name.as_ref()) {
            numbers.entry(&name.ring).or_default().insert(name.sequence);
        }
        let whole = numbers.values().all(|numbers| {
            let (first, last) = (numbers.first(), numbers.last());
            let all = first.zip(last).map_or(0, |(first, last)| last - first + 1);
            all == numbers.len() as u64
        });
        if whole || files.len() == before {
            break;
        }
    }
    Ok(files.into_values().collect())
}

/// Opens files, in order of their numbers. Each is there once, whatever its names; of one that is there
/// compressed and as it was, it is the latter.
fn opened(
    mut files: Vec<Listed>,
    is_wanted: &dyn Fn(&Listed) -> bool,
    seen: &mut HashSet<(u64, u64)>,
    found: &mut Places,
) -> Vec<Listed> {
    let plain: HashSet<_> = files
        .iter()
        .filter(|file| Compression::by_name(&file.path).is_none())
        .filter_map(Listed::stem)
        .collect();
    files.retain(|file| {
        let is_twin = || file.stem().is_some_and(|stem| plain.contains(&stem));
        Compression::by_name(&file.path).is_none() || !is_twin()
    });
    files.sort_by_key(|file| {
        (
            file.sequence(),
            file.name.as_ref().is_some_and(|name| name.live),
        )
    });
    let mut all: Vec<Listed> = Vec::new();
    for mut file in files {
        if file.path.as_os_str() == "-" || !is_wanted(&file) {
            all.push(file);
            continue;
        }
        match file.open() {
            Ok(true) => {
                let identity = file.handle.as_ref().map(|handle| handle.identity());
                if identity.is_none_or(|identity| seen.insert(identity)) {
                    all.push(file);
                }
            }
            // A ring's oldest go while it is looked at.
            Ok(false) if all.is_empty() && file.name.is_some() && !file.is_named => {}
            Ok(false) => found.fault(ReadError {
                what: if file.is_named {
                    "there is no such file".to_owned()
                } else {
                    GONE.to_owned()
                },
                path: file.path,
            }),
            Err(error) => found.fault(error),
        }
    }
    all
}

/// The files of a directory with one ring's name as chains: one, if their times go with their numbers.
fn by_boot(files: Vec<Listed>) -> Vec<(Option<String>, Vec<Listed>)> {
    let in_order = files.windows(2).all(|pair| match pair {
        [before, after] => {
            let times = (begun(&before.path), begun(&after.path));
            before.sequence() < after.sequence()
                && times.1.is_none_or(|after| times.0 <= Some(after))
        }
        _ => true,
    });
    if in_order {
        return vec![(None, files)];
    }
    let mut boots: BTreeMap<Option<String>, Vec<Listed>> = BTreeMap::new();
    for mut file in files {
        if file.handle.is_none() {
            let _ = file.open();
        }
        let boot = file.handle.as_ref().and_then(|handle| {
            let packets = Packets::of_handle(handle).ok()?;
            packets.boot()
        });
        boots.entry(boot).or_default().push(file);
    }
    let mut chains = Vec::new();
    for (boot, files) in boots {
        let numbered = files
            .windows(2)
            .all(|pair| pair.first().map(Listed::sequence) < pair.last().map(Listed::sequence));
        if boot.is_some() && numbered {
            chains.push((boot, files));
        } else {
            // Nothing tells which of them belong together.
            chains.extend(files.into_iter().map(|file| (None, vec![file])));
        }
    }
    chains
}

/// The files of rings and other captures in a directory, without those that are still written; and what cannot be
/// looked at.
pub fn finished_in(dir: &Path) -> (Vec<PathBuf>, Vec<ReadError>) {
    let found = look(&[dir.to_owned()]);
    let files = found.chains.into_iter().flat_map(|chain| chain.files);
    let files = files
        .filter(|file| file.name.as_ref().is_none_or(|name| !name.live))
        .map(|file| file.path);
    let faults = found.faults.into_iter().filter_map(|fault| match fault {
        Fault::Error(error) => Some(error),
        _ => None,
    });
    (files.collect(), faults.collect())
}

/// Whether a file of this name is read where its directory is.
pub(crate) fn is_named_as_capture(path: &Path) -> bool {
    let plain = match Compression::by_name(path) {
        Some(_) => path.with_extension(""),
        None => path.to_owned(),
    };
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let named = plain
        .extension()
        .is_some_and(|extension| extension == "pcap" || extension == "pcapng");
    named && !hidden
}
