//! Telling without waiting: a stream whose reader sleeps does not hold the capture up.

use std::io::{self, Write};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

/// Lines that may wait for a reader. Those that find no room are left out while the capture runs.
const WAITING_MAX: usize = 256;

/// Writes to one stream, in a thread of its own. When it is dropped, what waits is written first.
pub(super) struct Speaker {
    to_thread: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Speaker {
    /// Starts to write to `stream`. Once that fails nobody is there to tell: `on_failure` is called, and that was
    /// all.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn new(
        mut stream: impl Write + Send + 'static,
        on_failure: impl FnOnce() + Send + 'static,
    ) -> io::Result<Speaker> {
        let (to_thread, lines) = mpsc::sync_channel::<Vec<u8>>(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("speaker".to_owned())
            .spawn(move || {
                let mut lines = lines.into_iter();
                let mut write =
                    |line: Vec<u8>| stream.write_all(&line).and_then(|()| stream.flush());
                if lines.any(|line| write(line).is_err()) {
                    on_failure();
                }
            })?;
        Ok(Speaker {
            to_thread: Some(to_thread),
            thread: Some(thread),
        })
    }

    /// Whether there is somebody to tell.
    pub(super) fn is_open(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Has a line written, if there is room for it.
    pub(super) fn say(&self, line: Vec<u8>) {
        if let Some(to_thread) = &self.to_thread {
            let _ = to_thread.try_send(line);
        }
    }

    /// Has a line written, whenever there is room for it.
    pub(super) fn insist(&self, line: Vec<u8>) {
        if let Some(to_thread) = &self.to_thread {
            let _ = to_thread.send(line);
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        drop(self.to_thread.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
