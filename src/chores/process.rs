//! The process itself.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::journal::Journals;
use super::{AT_A_TIME, Chores, DONE, END_MAX, compress, orphans};
use crate::ring::{uncompressed, wherever};
use crate::sys::capabilities;

/// A command that takes longer is said to, each time so much later.
const SLOW: Duration = Duration::from_secs(60);
/// So many files that wait are said to.
const WAITING_MANY: usize = 8;

/// Takes files from standard input, does what is to be done with each, and says on standard output
/// what did not go well. Returns when there are no more.
///
/// # Errors
/// Standard input that cannot be read.
pub fn run(chores: &Chores) -> io::Result<()> {
    // Not before the capture is over: its end is the end of the input.
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    let _ = capabilities::give_up();
    if let Err(error) = rustix::process::nice(19) {
        say(&format!(
            "what is done with finished files has the capture's own priority: {error} (a filter of system calls \
             that leaves out `setpriority`?)"
        ));
    }
    if let Err(error) = orphans::look_after() {
        say(&format!(
            "what commands of --on-rotate leave behind is not waited for: {error}"
        ));
    }
    let queue = Queue::default();
    let journals = Journals::default();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(file) = queue.next() {
                    work(chores, &journals, &file);
                    queue.done(&file);
                    say(DONE);
                }
            });
        }
        let mut input = io::stdin().lock();
        let read = loop {
            let mut name = Vec::new();
            match input.read_until(0, &mut name) {
                Ok(0) => break Ok(()),
                Ok(_) if name.pop() == Some(0) => queue.push(OsString::from_vec(name).into()),
                Ok(_) => break Ok(()), // whoever wrote it was killed
                Err(error) => break Err(error),
            }
        };
        queue.close();
        let _ = thread::Builder::new().spawn(end_at_last);
        read
    })
}

/// The capture has ended, and nobody waits for ever: commands end with this process, the group's
/// first. What is not done is left to the next start.
fn end_at_last() {
    thread::sleep(END_MAX);
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() == own {
        let _ = kill_process_group(own, Signal::KILL);
    }
    std::process::exit(1);
}

/// Files that wait.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    files: VecDeque<PathBuf>,
    /// Those that are being worked at.
    begun: Vec<PathBuf>,
    closed: bool,
    said: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was handed over twice is done once.
    fn push(&self, file: PathBuf) {
        let mut waiting = self.waiting();
        if waiting.files.contains(&file) || waiting.begun.contains(&file) {
            return say(DONE);
        }
        waiting.files.push_back(file);
        let many = waiting.files.len();
        if many >= WAITING_MANY && !std::mem::replace(&mut waiting.said, true) {
            say(&format!(
                "{many} finished files wait for what is done with them: it is slower than the capture, and what the \
                 ring gives up meanwhile is not done"
            ));
        }
        self.changed.notify_one();
    }

    fn done(&self, file: &Path) {
        self.waiting().begun.retain(|begun| begun != file);
    }

    fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<PathBuf> {
        let mut waiting = self.waiting();
        loop {
            if let Some(file) = waiting.files.pop_front() {
                waiting.said &= !waiting.files.is_empty();
                waiting.begun.push(file.clone());
                return Some(file);
            }
            if waiting.closed {
                return None;
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn say(line: &str) {
    // Nobody listens when the capture was killed.
    let _ = writeln!(io::stdout(), "{}", line.replace('\n', " "));
}

fn work(chores: &Chores, journals: &Journals, file: &Path) {
    let gone = || {
        say(&format!(
            "{}: the ring has given this file up before it was its turn",
            file.display()
        ));
    };
    // It may have been handed over before.
    let file = &*wherever(file);
    // Of a command alone, and of a file that was compressed before.
    let plain = uncompressed(file) == file;
    match journals.is_done(file) {
        Ok(true) if chores.compress.is_none() || !plain => return,
        Ok(_) => {}
        Err(error) => say(&format!(
            "{}: whether it is done is not written down, so that the next start does it again: {error}",
            file.display()
        )),
    }
    let file = match chores.compress.filter(|_| plain) {
        None => file.to_owned(),
        Some(form) => match compress::compress(file, form) {
            Ok(Some(compressed)) => compressed,
            Ok(None) => return gone(),
            Err(error) => {
                say(&format!(
                    "{}: it cannot be compressed, and stays as it is: {error}",
                    file.display()
                ));
                file.to_owned()
            }
        },
    };
    let words = match chores.words(&file) {
        Ok(Some(words)) => words,
        Ok(None) => return,
        Err(wrong) => return say(&wrong),
    };
    if !wherever(&file).exists() {
        return gone();
    }
    match execute(&words) {
        Ok(()) => _ = journals.note_done(&file),
        Err(what) => {
            let command = chores.command.as_deref().unwrap_or_default();
            say(&format!("`{command}` for {}: {what}", file.display()));
        }
    }
}

/// Runs a command to its end.
fn execute(words: &[OsString]) -> Result<(), String> {
    const LOOK: Duration = Duration::from_millis(50);
    let Some((program, args)) = words.split_first() else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()));
    let mut child = orphans::spawn(&mut command)
        .map_err(|error| format!("it cannot be run: {error}; the file stays as it is"))?;
    let begun = Instant::now();
    let mut next = SLOW;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                orphans::forget(&child);
                return match status.success() {
                    true => Ok(()),
                    false => Err(format!("it has failed ({status})")),
                };
            }
            Ok(None) => {}
            Err(error) => return Err(format!("what becomes of it is not known: {error}")),
        }
        if begun.elapsed() >= next {
            let command = program.to_string_lossy();
            say(&format!(
                "`{command}` has been running for {} s",
                next.as_secs()
            ));
            next += SLOW;
        }
        thread::sleep(LOOK);
    }
}
