//! The command line: one file a command, what they share, and what they print.

pub mod args;
pub mod capture;
pub mod chores;
pub mod config;
pub mod ctl;
pub mod demo;
mod desk;
pub mod doctor;
mod every;
pub mod extcap;
mod finished;
pub mod ls;
pub mod options;
mod output;
pub mod pages;
pub mod read;
pub mod repair;
mod report;
mod reporter;
pub mod rules;
pub mod run;
mod scrape;
pub mod service;
mod signals;
pub use signals::survive_file_limit;
pub mod size;
mod taken;
pub mod watch;
mod wireshark;

use std::borrow::Cow;
use std::io::{self, Write};

use anyhow::{Context as _, Result};

use crate::nft::{MatchError, SpecError};
use crate::session::SessionError;
use crate::session::settings::ConfigError;
use crate::sys::standard;

/// What is wrong where a thread cannot be started, and what helps.
pub(crate) const NO_THREAD: &str = "cannot start a thread: raise the limit of processes and threads (`ulimit -u`, the cgroup's pids.max)";

/// The exit status for an error: 2 for options, 1 for anything else.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let bad_spec = matches!(
        error.downcast_ref(),
        Some(SessionError::Spec(_) | SessionError::Match(MatchError::NoSelection { .. }))
    );
    if bad_spec || error.is::<ConfigError>() || error.is::<SpecError>() {
        2
    } else {
        1
    }
}

/// An error and its causes in one line. A cause that the error names already is not said twice.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for part in error.chain().map(ToString::to_string) {
        if !text.contains(&part) {
            let between = if text.is_empty() { "" } else { ": " };
            text.push_str(between);
            text.push_str(&part);
        }
    }
    text
}

/// Says what is wrong on standard error, if that is open. Names that others chose, of files above all, give a
/// terminal no commands.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "lwnflog: {}", on_terminal(text));
}

/// A text that may hold what others chose (names of processes and files), as a terminal may see it.
pub(crate) fn on_terminal(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.contains(is_command) {
        true => Cow::Owned(text.replace(is_command, "?")),
        false => Cow::Borrowed(text),
    }
}

/// # Errors
/// Standard output was closed when the program began.
pub(crate) fn stdout_is_open() -> Result<()> {
    anyhow::ensure!(
        !standard::output_was_closed(),
        "standard output is closed: there is nowhere to write to"
    );
    Ok(())
}

/// Writes to standard output. That its reader has gone ends the program's work quietly.
///
/// # Errors
/// What the system says, a full disk's error among it.
pub fn say(text: &[u8]) -> Result<()> {
    stdout_is_open()?;
    let mut out = io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.context("standard output"),
    }
}
