//! Output of what comes bit by bit: it can be read where it goes soon after it came, and is whole
//! when a signal ends the program.

use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use signal_hook::consts::SIGUSR1;

use super::out::Output;
use crate::cli::signals::{self, Watched};
use crate::cli::{NO_THREAD, complain};

/// How long what was written may wait for more.
const SOON: Duration = Duration::from_millis(100);

/// An output that a thread beside this one flushes.
#[derive(Clone)]
pub(super) struct Live(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to be flushed, or nothing will be any more.
    wakes: Condvar,
    /// Packets so far, of who counts them until he is told to end.
    counted: AtomicU64,
}

#[derive(Default)]
struct State {
    /// `None` once it is finished.
    output: Option<Output>,
    waiting: bool,
    /// What the other thread met.
    failed: Option<io::Error>,
    /// Something could not be read, and was told.
    faulty: bool,
    /// How many packets there were is written at the end, a signal's too.
    counts: bool,
    signals: Option<Watched>,
}

impl Live {
    /// Has `output` flushed by a thread; `ends_whole`, a plain file is finished on a signal that ends the
    /// program, too.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn begin(output: Output, ends_whole: bool) -> Result<Live> {
        let ends_whole = ends_whole && output.is_plain();
        let live = Live(Arc::default());
        live.state().output = Some(output);
        let other = live.clone();
        thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || other.flush_soon())
            .context(NO_THREAD)?;
        if ends_whole {
            live.end_on_signal()?;
        }
        Ok(live)
    }

    /// Gives a plain file its name, if it has none yet.
    pub(super) fn appear(&self) -> io::Result<()> {
        match &mut self.state().output {
            Some(output) => {
                output.flush()?;
                output.appear()
            }
            None => Ok(()),
        }
    }

    /// Has the number of packets written when a signal ends the program.
    ///
    /// # Errors
    /// What `sigaction(2)` answers; no thread could be started.
    pub(super) fn count_until_signal(&self) -> Result<()> {
        self.state().counts = true;
        self.end_on_signal()
    }

    /// There was one more packet.
    pub(super) fn count_one(&self) {
        self.0.counted.fetch_add(1, Relaxed);
    }

    fn end_on_signal(&self) -> Result<()> {
        let other = self.clone();
        let watched = signals::watch(move |signal| {
            if signal != SIGUSR1 {
                other.end_by_signal();
            }
        })?;
        self.state().signals = Some(watched);
        Ok(())
    }

    /// That something could not be read counts, however this ends.
    pub(super) fn set_faulty(&self) {
        self.state().faulty = true;
    }

    /// Ends the output; one that was to be given up is left as it is.
    pub(super) fn finish(&self, give_up: bool) -> io::Result<()> {
        let mut state = self.state();
        let output = state.output.take().filter(|_| !give_up);
        self.0.wakes.notify_one();
        match (output, state.failed.take()) {
            (_, Some(error)) => Err(error),
            (Some(output), None) => output.finish(),
            (None, None) => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_soon(&self) {
        loop {
            let state = self.0.wakes.wait_while(self.state(), |state| {
                state.output.is_some() && !state.waiting
            });
            drop(state.unwrap_or_else(PoisonError::into_inner));
            thread::sleep(SOON);
            let mut state = self.state();
            state.waiting = false;
            let Some(output) = &mut state.output else {
                return;
            };
            if let Err(error) = output.flush() {
                state.failed = Some(error);
                return;
            }
        }
    }

    /// What was written stays, as a whole file; one in which nothing is has no name, and goes.
    fn end_by_signal(&self) -> ! {
        let mut state = self.state();
        let counted = state.counts.then(|| self.0.counted.load(Relaxed));
        let finished = match state.output.take() {
            Some(output) if output.is_unnamed() => Ok(()),
            Some(mut output) => {
                let told = counted.map_or(Ok(()), |counted| writeln!(output, "{counted}"));
                told.and_then(|()| output.finish())
            }
            None => Ok(()),
        };
        if let Err(error) = &finished {
            complain(&format!("writing: {error}"));
        }
        process::exit(i32::from(finished.is_err() || state.faulty))
    }
}

impl Write for Live {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    /// All of it or nothing stands before what is flushed.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if let Some(output) = &mut state.output {
            output.write_all(bytes)?;
        }
        if !std::mem::replace(&mut state.waiting, true) {
            self.0.wakes.notify_one();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state().output {
            Some(output) => output.flush(),
            None => Ok(()),
        }
    }
}
