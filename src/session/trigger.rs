//! A group whose packets say that something has happened: nothing of them is recorded.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{SessionError, Wake};
use crate::account::counters::Watch;
use crate::source::nflog::{Group, GroupConfig};
use crate::source::{Arrival, Source, Target, Waker};
use crate::sys::capabilities;

/// Listens until it is dropped.
pub(super) struct Trigger {
    group: u16,
    /// A rule logged to it when it was bound, or that is not known.
    has_rule: bool,
    stop: Arc<AtomicBool>,
    fired: Arc<AtomicBool>,
    /// Why it ended.
    failure: Receiver<io::Error>,
    waker: Option<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Trigger {
    /// Binds the group; `wake` is called when packets have come to it.
    pub(super) fn start(group: u16, wake: Wake) -> Result<Trigger, SessionError> {
        let mut source = Group::open(GroupConfig {
            batch: 64,
            flush: Duration::from_millis(10),
            buffer_bytes: 1 << 20,
            ..GroupConfig::new(group, 64)
        })?;
        let without_rule = Watch::before_bind(Target::Group, &[group]).without_rule();
        let (stop, fired) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&fired));
        let (failed, failure) = mpsc::channel();
        let waker = source.waker();
        let thread = thread::Builder::new()
            .name(format!("trigger-{group}"))
            .spawn(move || {
                let _ = capabilities::give_up();
                // Its packets are copies, and a socket that overruns has had some all the same.
                while !stopped.load(Ordering::Relaxed) {
                    match source.receive(true) {
                        Ok(Arrival::Batch) if source.count().packets != 0 => {
                            if !noted.swap(true, Ordering::Relaxed) {
                                wake();
                            }
                        }
                        Ok(_) => {}
                        Err(error) => {
                            let _ = failed.send(error);
                            wake();
                            return;
                        }
                    }
                }
            })
            .map_err(SessionError::Thread)?;
        Ok(Trigger {
            group,
            has_rule: without_rule.is_empty(),
            stop,
            fired,
            failure,
            waker,
            thread: Some(thread),
        })
    }

    /// Its group, where no rule logged to it when it was bound.
    pub(super) fn without_rule(&self) -> Option<u16> {
        (!self.has_rule).then_some(self.group)
    }

    /// Why it cannot go on, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failure.try_recv().ok()
    }

    /// Whether packets have come since the last call.
    pub(super) fn has_fired(&self) -> bool {
        self.fired.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(waker) = &self.waker {
            waker();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
