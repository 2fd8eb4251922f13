//! Signals: which end a capture, which rotate it or print its figures, and which are ignored.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use super::NO_THREAD;
use crate::sys::capabilities;

/// Signals that end a capture, with its report: SIGXCPU comes before the limit of processor time
/// ends it.
const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGQUIT, SIGXCPU];
/// Signals whose default action would end the process. SIGUSR2 has tcpdump write what it holds
/// back: lwnflog holds nothing back.
const MEANINGLESS: [i32; 8] = [
    SIGUSR2,
    SIGALRM,
    SIGVTALRM,
    SIGPROF,
    SIGIO,
    SIGXFSZ,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];
/// The real-time signals that a C library leaves to its users (`signal(7)`).
const REAL_TIME: RangeInclusive<i32> = 35..=64;

/// Signals as they come: those that end a capture, SIGHUP and SIGUSR1. While the value is there,
/// they are watched.
pub(super) struct Watched {
    handle: Handle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.handle.close(); // the thread ends with it, or with the process
    }
}

/// Two that end a capture within so long are one: `timeout` sends one to the process, and one to its
/// group.
const ONE: Duration = Duration::from_millis(500);

/// Has a file that grows beyond the limit for this process (`ulimit -f`) be an error of whoever writes it,
/// which is told, and not the end of the process. What it starts has its own.
pub fn survive_file_limit() {
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// Begins to watch, before anything is opened, so that no signal ends the process without its
/// report. A second signal that ends a capture ends the process at once: files are valid as they
/// are.
///
/// # Errors
/// What `sigaction(2)` answers; no thread could be started.
///
/// `tell` is called with each, from a thread of its own.
pub(super) fn watch(tell: impl Fn(i32) + Send + 'static) -> anyhow::Result<Watched> {
    // (A file that grows beyond the limit for this process, SIGXFSZ, is an error.)
    for signal in MEANINGLESS.into_iter().chain(REAL_TIME) {
        flag::register(signal, Arc::default()).context("watching signals")?;
    }
    let watched = ENDING.into_iter().chain([SIGHUP, SIGUSR1]);
    let mut signals = Signals::new(watched).context("watching signals")?;
    let handle = signals.handle();
    let forward = move || {
        let _ = capabilities::give_up();
        let mut ending: Option<Instant> = None;
        for signal in signals.forever() {
            if is_ending(signal) {
                match ending {
                    Some(since) if since.elapsed() >= ONE => signal_hook::low_level::exit(130),
                    Some(_) => continue,
                    None => ending = Some(Instant::now()),
                }
            }
            tell(signal);
        }
    };
    thread::Builder::new().spawn(forward).context(NO_THREAD)?;
    Ok(Watched { handle })
}

/// Whether a capture ends by it.
pub(super) fn is_ending(signal: i32) -> bool {
    ENDING.contains(&signal)
}
