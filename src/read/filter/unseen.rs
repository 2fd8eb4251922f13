//! Link types that a filter could not look into.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What copies of a filter have met, together. Filters that ask the same are equal whatever they met.
#[derive(Debug, Clone, Default)]
pub(super) struct Unseen(Arc<Met>);

#[derive(Debug, Default)]
struct Met {
    /// The link type that was noted last, and one more: most packets of a file have the same.
    last: AtomicU32,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    all: Vec<u16>,
    taken: usize,
}

impl PartialEq for Unseen {
    fn eq(&self, _: &Unseen) -> bool {
        true
    }
}

impl Eq for Unseen {}

impl Unseen {
    #[cold]
    pub(super) fn note(&self, link: u16) {
        let mark = u32::from(link) + 1;
        if self.0.last.load(Ordering::Relaxed) == mark {
            return;
        }
        self.0.last.store(mark, Ordering::Relaxed);
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        if !links.all.contains(&link) {
            links.all.push(link);
        }
    }

    /// Those that were not taken before.
    pub(super) fn take(&self) -> Vec<u16> {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        let from = links.taken;
        links.taken = links.all.len();
        links.all[from..].to_vec()
    }
}
