//! Writing without waiting: a stream whose reader sleeps does not hold the capture up.

use std::io::{self, Write};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use crate::sys::capabilities;

/// Lines that may wait for a reader. Those that find no room are left out while the capture runs.
const WAITING_MAX: usize = 256;

/// Writes to one stream, in a thread of its own. When it is dropped, what waits is written first.
pub(super) struct LineWriter {
    to_thread: Option<SyncSender<Vec<u8>>>,
    /// Ends with the error that ended the stream.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl LineWriter {
    /// Starts to write to `stream`. Once that fails there is no reader left: `on_failure` is
    /// called, and that was all.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn new(
        mut stream: impl Write + Send + 'static,
        on_failure: impl FnOnce(&io::Error) + Send + 'static,
    ) -> io::Result<LineWriter> {
        let (to_thread, lines) = mpsc::sync_channel::<Vec<u8>>(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                for line in lines {
                    if let Err(error) = stream.write_all(&line).and_then(|()| stream.flush()) {
                        on_failure(&error);
                        return Err(error);
                    }
                }
                Ok(())
            })?;
        Ok(LineWriter {
            to_thread: Some(to_thread),
            thread: Some(thread),
        })
    }

    /// Waits until all is written, and says whether it was.
    pub(super) fn close(mut self) -> io::Result<()> {
        drop(self.to_thread.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            _ => Err(io::Error::other("the thread that writes it has panicked")),
        }
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

impl Drop for LineWriter {
    fn drop(&mut self) {
        drop(self.to_thread.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
