//! A group whose packets say that something has happened: nothing of them is recorded.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use super::settings::KeepOptions;
use super::times::{Span, Times};
use super::{SessionError, Wake};
use crate::account::counters::Watch;
use crate::source::nflog::{Group, GroupConfig};
use crate::source::{Arrival, Source, Target, Waker};
use crate::sys::capabilities;

/// So long packets may wait in the kernel.
const FLUSH: Duration = Duration::from_millis(10);
/// Its timer may be so late, and this process behind that.
const LATE: Duration = Duration::from_millis(50);

/// Listens until it is dropped.
pub(super) struct Trigger {
    group: u16,
    /// A rule logged to it when it was bound, or that is not known.
    has_rule: bool,
    stop: Arc<AtomicBool>,
    /// What is to be kept for the packets that have come.
    times: Arc<Mutex<Times>>,
    /// Why it ended.
    failure: Receiver<io::Error>,
    waker: Option<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Trigger {
    /// Binds the group; `wake` is called when packets have come to it.
    pub(super) fn start(options: &KeepOptions, wake: Wake) -> Result<Trigger, SessionError> {
        let KeepOptions {
            group, last, next, ..
        } = *options;
        let mut source = Group::open(GroupConfig {
            batch: 64,
            flush: FLUSH,
            buffer_bytes: 1 << 20,
            ..GroupConfig::new(group, 64)
        })?;
        let without_rule = Watch::before_bind(Target::Group, &[group]).without_rule();
        let (stop, times) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Times::default())),
        );
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&times));
        let (failed, failure) = mpsc::channel();
        let waker = source.waker();
        let note = move |source: &Group| {
            if source.count().packets != 0 {
                let span = Span::around(SystemTime::now(), FLUSH + LATE + last, next);
                let mut times = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let first = times.is_empty();
                times.add(span);
                return first;
            }
            false
        };
        let thread = thread::Builder::new()
            .name(format!("trigger-{group}"))
            .spawn(move || {
                let _ = capabilities::give_up();
                // Its packets are copies, and a socket that overruns has had some all the same.
                while !stopped.load(Ordering::Relaxed) {
                    match source.receive(true) {
                        Ok(Arrival::Batch) => {
                            if note(&source) {
                                wake();
                            }
                        }
                        Ok(Arrival::Nothing) => {}
                        Err(error) => {
                            let _ = failed.send(error);
                            wake();
                            return;
                        }
                    }
                }
                // What the kernel has of it yet comes by itself: this thread has no right to ask for it.
                thread::sleep(FLUSH + LATE);
                while matches!(source.receive(false), Ok(Arrival::Batch)) {
                    note(&source);
                }
            })
            .map_err(SessionError::Thread)?;
        Ok(Trigger {
            group,
            has_rule: without_rule.is_empty(),
            stop,
            times,
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

    /// What is to be kept for packets that have come since the last call.
    pub(super) fn take(&self) -> Times {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Listens no more. What is to be kept for packets that came until now.
    pub(super) fn end(mut self) -> Times {
        self.stop();
        self.take()
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(waker) = &self.waker {
            waker();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.stop();
    }
}
