//! Looks out for interfaces that come, go or change, in a thread that sleeps until one does.

use std::io::{self, PipeWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::Wake;
use crate::source::links::Changes;
use crate::sys::capabilities;

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct LinkWatch {
    changed: Arc<AtomicBool>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl LinkWatch {
    /// Begins to look, in the calling thread's network namespace; `wake` is called when something
    /// has changed.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(wake: Wake) -> io::Result<LinkWatch> {
        let changes = Changes::listen()?;
        let (stopped, stop) = io::pipe()?;
        let changed = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&changed);
        let thread = thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                while changes.wait(&stopped) {
                    if changes.any() {
                        noted.store(true, Ordering::Relaxed);
                        wake();
                    }
                }
            })?;
        Ok(LinkWatch {
            changed,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Whether anything has changed since the last call.
    pub(super) fn any(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
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
