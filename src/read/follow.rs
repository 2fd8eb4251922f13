//! Following: what is written behind the end of what was read, in the same files, in the next ones, and
//! in new rings.
//!
//! A ring's file is read to its end once more after the next one has been seen: it was complete before
//! the next one got its name. Its descriptor is kept from the first look on, so that it may be renamed,
//! compressed and removed meanwhile.

use std::collections::HashSet;
use std::path::PathBuf;

use super::chain::{Chain, Merged};
use super::packets::Packets;
use super::places::{GONE, Listed, RingKey, look_for};
use super::plan::Selection;
use super::{Fault, ReadError};
use crate::numbers::grouped;

/// What is known of a ring's files: an inode alone comes again when a file is recycled or another removed, so
/// it counts as long as it is open.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The highest number that was seen.
    last: u64,
    stems: HashSet<String>,
    /// Those that were live when they were found, until they are seen under their finished names.
    live: Vec<Listed>,
}

impl Known {
    pub(super) fn of(files: &[Listed]) -> Known {
        let mut known = Known::default();
        for file in files {
            known.put(file);
        }
        known
    }

    fn put(&mut self, file: &Listed) {
        self.last = file.sequence();
        match file.stem() {
            Some(stem) => {
                self.stems.insert(stem);
            }
            None => self.live.push(file.clone()),
        }
    }

    fn holds(&self, file: &Listed) -> bool {
        let stem = file.stem().is_some_and(|stem| self.stems.contains(&stem));
        stem || self.live.iter().any(|live| live.is_same(file))
    }

    /// Takes in the files that have come, of all that are there, and says how many have gone unseen before
    /// the first.
    fn take(&mut self, all: Vec<Listed>) -> (Vec<Listed>, u64) {
        let oldest = all.iter().map(Listed::sequence).min();
        let newest = all.iter().map(Listed::sequence).max().unwrap_or(0);
        let live = all.iter().find(|file| file.stem().is_none());
        let begun_anew = newest < self.last
            || live.is_some_and(|live| live.sequence() <= self.last && !self.holds(live));
        let last = self.last;
        // What is there by the names of before is read, or will be. Who begins a ring anew begins with 1.
        let mut new: Vec<_> = all
            .iter()
            .filter(|file| !self.holds(file) && (begun_anew || file.sequence() > last))
            .cloned()
            .collect();
        new.sort_by_key(Listed::sequence);
        // The oldest go first. Other numbers that are missing are of files that never had a packet.
        let missing = match oldest {
            Some(oldest) if !begun_anew => oldest.saturating_sub(last + 1),
            _ => 0,
        };
        // Finished by now, or compressed.
        let stems = &mut self.stems;
        self.live.retain(|live| {
            let mut finished = all.iter().filter(|file| file.stem().is_some());
            let now = finished.find(|file| {
                let same_number = !begun_anew && file.sequence() == live.sequence();
                same_number || live.is_same(file)
            });
            stems.extend(now.and_then(Listed::stem));
            now.is_none()
        });
        for file in &new {
            self.put(file);
        }
        (new, missing)
    }
}

impl Merged {
    /// As [`Merged::select`], and then what comes: [`Merged::advance`] says no where there is nothing more
    /// for now.
    pub fn follow(places: &[PathBuf], selection: Selection) -> Merged {
        // A directory in which nothing is yet is one to wait for.
        let mut found = look_for(places, &|_| true);
        found
            .faults
            .retain(|fault| !matches!(fault, Fault::Empty(_)));
        let mut merged = Merged::of(found, selection);
        let told = merged.faults.iter().filter_map(unreadable);
        merged.told = told.map(|error| error.path.clone()).collect();
        for chain in &mut merged.chains {
            chain.follows = true;
        }
        merged
    }

    /// Looks for what was written since all was read.
    pub fn look_for_more(&mut self, places: &[PathBuf]) {
        let dirs: Vec<_> = places
            .iter()
            .filter(|place| place.is_dir())
            .cloned()
            .collect();
        let is_known = |file: &Listed| {
            let mut chains = self.chains.iter();
            file.stem().is_some() && chains.any(|chain| chain.known.holds(file))
        };
        let found = look_for(&dirs, &|file| !is_known(file));
        for fault in found.faults {
            // Once: it stays as it is. What has gone is told by numbers that are missing.
            if unreadable(&fault).is_some_and(|error| self.told.insert(error.path.clone())) {
                self.faults.push(fault);
            }
        }
        for found in found.chains {
            let place = self.chain_of(found.key.as_ref());
            match place {
                Some(place) => {
                    let chain = &mut self.chains[place];
                    let before = chain.known.last;
                    let (new, missing) = chain.known.take(found.files);
                    if let Some(first) = new.first().filter(|_| missing != 0) {
                        self.faults.push(Fault::Error(ReadError {
                            path: first.path.clone(),
                            what: format!(
                                "what came before it has gone and is not shown: {} files, numbers {} to {}",
                                grouped(missing),
                                before + 1,
                                before + missing
                            ),
                        }));
                    }
                    chain.files.extend(new);
                }
                None if found.key.is_some() || self.is_new(&found.files) => {
                    let mut chain = Chain::of(found);
                    chain.follows = true;
                    self.chains.push(chain);
                }
                None => {}
            }
        }
        for chain in &mut self.chains {
            let Some(current) = &mut chain.current else {
                continue;
            };
            if !chain.files.is_empty() {
                current.set_ended();
                chain.complete = true;
            }
            if let Err(error) = look_again(current, &mut self.faults) {
                self.faults.push(Fault::Error(error));
            }
        }
        self.begin_again();
    }

    /// The chain of a ring: that of the same start of the machine, if these are told from each other.
    fn chain_of(&self, key: Option<&RingKey>) -> Option<usize> {
        let key = key?;
        let one = |chain: &Chain| chain.key.as_ref() == Some(key);
        let all = |chain: &Chain| {
            let own = chain.key.as_ref().filter(|own| own.boot.is_none());
            own.is_some_and(|own| (&own.dir, &own.ring) == (&key.dir, &key.ring))
        };
        let mut chains = self.chains.iter();
        chains
            .position(one)
            .or_else(|| self.chains.iter().position(all))
    }

    fn is_new(&self, files: &[Listed]) -> bool {
        let known = |file: &Listed| self.chains.iter().any(|chain| chain.known.holds(file));
        !files.iter().any(known)
    }
}

/// What is wrong with a file that is there.
fn unreadable(fault: &Fault) -> Option<&ReadError> {
    match fault {
        Fault::Error(error) if error.what != GONE => Some(error),
        _ => None,
    }
}

/// Looks behind the end of a file that is followed, or reads it from its start where it was begun anew.
fn look_again(current: &mut Packets, faults: &mut Vec<Fault>) -> Result<(), ReadError> {
    if !current.was_begun_anew()? {
        return current.look_again().map(drop);
    }
    // It may be so short by now that nothing can be said of it.
    let begun = current.handle().cloned();
    if let Some(Ok(mut anew)) = begun.map(|handle| Packets::of_handle(&handle)) {
        faults.push(Fault::Error(ReadError {
            path: current.path().to_owned(),
            what: "it was begun anew: what it held before and was not read yet is not shown"
                .to_owned(),
        }));
        anew.set_grows();
        *current = anew;
    }
    Ok(())
}
