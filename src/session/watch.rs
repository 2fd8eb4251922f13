//! Looks out for interfaces that come, go or change, in a thread that sleeps until one does.
//!
//! What the kernel says of them is enough: nobody has to ask it again, however many there are.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, PipeWriter};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::Wake;
use crate::source::links::{self, Change, Changes, Link};
use crate::sys::capabilities;

/// What nobody has been told of yet: of each interface the last.
type News = Arc<Mutex<BTreeMap<u32, Change>>>;

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct LinkWatch {
    news: News,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl LinkWatch {
    /// Begins to look, in the calling thread's network namespace; `wake` is called when something
    /// has changed. All that there is now is news as well.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(wake: Wake) -> io::Result<LinkWatch> {
        let mut changes = Changes::listen()?;
        let mut known = Known::default();
        let news = News::default();
        tell(&news, known.compare(links::all()?));
        let (stopped, stop) = io::pipe()?;
        let heard = Arc::clone(&news);
        let thread = thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                while changes.wait(&stopped) {
                    let mut found = Vec::new();
                    let whole = changes.take(|change| found.extend(known.note(change)));
                    if !whole && let Ok(all) = links::all() {
                        found.extend(known.compare(all));
                    }
                    if tell(&heard, found) {
                        wake();
                    }
                }
            })?;
        Ok(LinkWatch {
            news,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What has changed since the last call, of each interface the last.
    pub(super) fn take(&self) -> Vec<Change> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *news).into_values().collect()
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// True if there is something to tell.
fn tell(news: &News, found: Vec<Change>) -> bool {
    let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
    for change in found {
        let (Change::There(link) | Change::Gone(link)) = &change;
        news.insert(link.index, change);
    }
    !news.is_empty()
}

/// The interfaces that are there. Most of what the kernel says (a flag, an alias, a figure) changes
/// nothing that anybody here wants to know.
#[derive(Debug, Default)]
struct Known(HashMap<u32, Link>);

impl Known {
    /// What is new in it.
    fn note(&mut self, change: Change) -> Option<Change> {
        match &change {
            Change::There(link) => {
                let before = self.0.insert(link.index, link.clone());
                let same = |before: Link| before.name == link.name && before.others == link.others;
                (!before.is_some_and(same)).then_some(change)
            }
            Change::Gone(link) => self.0.remove(&link.index).map(|_| change),
        }
    }

    /// What is new in all that there are.
    fn compare(&mut self, all: Vec<Link>) -> Vec<Change> {
        let mut gone = mem::take(&mut self.0);
        for link in &all {
            if let Some(before) = gone.remove(&link.index) {
                self.0.insert(link.index, before);
            }
        }
        let gone = gone.into_values().map(Change::Gone);
        let there = all.into_iter().map(Change::There);
        let there = there.filter_map(|change| self.note(change));
        gone.chain(there.collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            ..Link::default()
        }
    }

    #[test]
    fn only_what_has_another_name_is_news() {
        let mut known = Known::default();
        let all = || vec![link(1, "lo"), link(2, "eth0")];
        assert_eq!(known.compare(all()).len(), 2);
        assert_eq!(known.compare(all()), []);
        let flags = Link {
            dropped: 7,
            ..link(2, "eth0")
        };
        assert_eq!(known.note(Change::There(flags)), None);
        let renamed = Change::There(link(2, "wan"));
        assert_eq!(known.note(renamed.clone()), Some(renamed));
        let called = Link {
            others: vec!["uplink".to_owned()],
            ..link(2, "wan")
        };
        assert!(known.note(Change::There(called)).is_some());
        assert!(known.note(Change::Gone(link(2, "wan"))).is_some());
        assert_eq!(known.note(Change::Gone(link(2, "wan"))), None);
        // Missed: one went, one came.
        let found = known.compare(vec![link(5, "tun0")]);
        assert_eq!(
            found,
            [Change::Gone(link(1, "lo")), Change::There(link(5, "tun0"))]
        );
    }
}
