//! What the commands do: options become settings, a session runs, people and programs are told.

mod options;
mod speaker;
mod voice;

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::cli::{CaptureArgs, SourceArgs};
use crate::config::{ConfigError, Settings};
use crate::numbers::grouped;
use crate::ring::Notice;
use crate::ring::repair::{self as ring_repair, Repaired};
use crate::rules::{RuleSpec, SpecError, iptables_queue_command, table_text};
use crate::session::{Session, SessionError, real_name};
pub(crate) use options::settings;
use options::source_numbers;
use voice::Voice;

/// How often the main thread looks around.
const TICK: Duration = Duration::from_millis(50);
/// Figures are shown so often.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// A start that takes longer says what it is doing.
const SLOW_START: Duration = Duration::from_secs(1);
/// A group that no rule feeds by then is said to be one.
const UNFED_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked for rules while no packet comes: they may have been taken away.
const UNFED_EVERY: Duration = Duration::from_secs(5);

/// Signals that end a capture, with its report: SIGXCPU comes before the limit of processor time ends it.
const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGQUIT, SIGXCPU];
/// Signals that would end the process if nobody cared. SIGUSR2 has tcpdump write what it holds back: lwnflog holds
/// nothing back.
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

/// What is due every so often, counted from the beginning of the capture. However many times went by
/// unseen (a stopped process, a suspended machine), it is due once, and keeps its phase.
#[derive(Debug)]
struct Every {
    every: Duration,
    next: Duration,
}

impl Every {
    fn new(every: Duration) -> Every {
        Every { every, next: every }
    }

    /// Whether it is due at `elapsed`.
    fn due(&mut self, elapsed: Duration) -> bool {
        if elapsed < self.next {
            return false;
        }
        let nanos = self.every.as_nanos().max(1);
        let passed = elapsed.as_nanos() % nanos;
        let left = u64::try_from(nanos - passed).unwrap_or(u64::MAX);
        self.next = elapsed.saturating_add(Duration::from_nanos(left));
        true
    }
}

/// The exit status for an error: 2 for options, 1 for anything else.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let bad_spec = matches!(error.downcast_ref(), Some(SessionError::Spec(_)));
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

/// `lwnflog --group …`
///
/// # Errors
/// Options that make no sense, and whatever keeps the capture from beginning or going on.
pub fn capture(args: &CaptureArgs) -> Result<()> {
    let settings = settings(args)?;
    run_session(settings, args.quiet, args.json)
}

/// `lwnflog rules …`
///
/// # Errors
/// Options that make no sense; standard output that cannot be written.
pub fn print_rules(
    source: &SourceArgs,
    iface: Option<&str>,
    drop: bool,
    prefix: Option<&str>,
) -> Result<()> {
    let (target, numbers) = source_numbers(source)?;
    let mut spec = RuleSpec::new(target, &numbers)?;
    if let Some(iface) = iface {
        spec = spec.with_iface(&real_name(iface))?;
    }
    if drop {
        spec = spec.with_drop()?;
    }
    if let Some(prefix) = prefix {
        spec = spec.with_prefix(prefix)?;
    }
    let mut text = String::new();
    if let Some(command) = iptables_queue_command(&spec) {
        text = format!(
            "# Where the kernel has no `queue` (CONFIG_NFT_QUEUE), this does the same:\n#   {command}\n"
        );
    }
    text.push_str(&table_text(&spec));
    io::stdout()
        .write_all(text.as_bytes())
        .context("standard output")
}

/// `lwnflog repair …`
///
/// # Errors
/// The first file that could not be repaired, or that it could not be told; the others are tried all the same.
pub fn repair(files: &[PathBuf], dry_run: bool) -> Result<()> {
    let (mut failed, mut untold) = (false, None);
    let mut out = io::stdout().lock();
    for file in files {
        match ring_repair::repair_unowned(file, dry_run) {
            Ok((done, copy)) => {
                let text = repaired_text(file, &done, copy.as_deref(), dry_run);
                if untold.is_none() {
                    untold = writeln!(out, "{text}").and_then(|()| out.flush()).err();
                }
            }
            Err(error) => {
                complain(&format!("{}: {error}", file.display()));
                failed = true;
            }
        }
    }
    if failed {
        return Err(anyhow!("not all files could be repaired"));
    }
    match untold {
        Some(error) => Err(error).context("all is done, but standard output cannot be written"),
        None => Ok(()),
    }
}

fn repaired_text(file: &Path, done: &Repaired, copy: Option<&Path>, dry_run: bool) -> String {
    let mut text = format!(
        "{}: {} packets, {} bytes",
        file.display(),
        grouped(done.packets),
        grouped(done.bytes_after)
    );
    let (cut, covered) = if dry_run {
        ("would be cut", "would be covered")
    } else {
        ("cut", "covered")
    };
    match done.bytes_before - done.bytes_after {
        0 => {}
        bytes => text += &format!(" ({} {cut})", grouped(bytes)),
    }
    match done.damaged_segments {
        0 => {}
        damaged => text += &format!(", {damaged} damaged segments {covered}"),
    }
    match done.orphans {
        0 => {}
        orphans => {
            text += &format!(", {orphans} blocks of a device whose declaration is lost {covered}");
        }
    }
    if let Some(loss) = done.loss {
        text += &format!("; at byte {} there is {}", grouped(loss.offset), loss.why);
    }
    if let Some(copy) = copy {
        text += &format!("; as it was: {}", copy.display());
    }
    text
}

/// Says what is wrong on standard error, if anybody listens there.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "lwnflog: {text}");
}

/// Starts a capture, and says what it is doing where that takes more than a second.
fn start(settings: Settings, quiet: bool) -> Result<Session> {
    if quiet {
        return Ok(Session::start(settings, &mut |_| {})?);
    }
    let (doing, steps) = mpsc::channel::<String>();
    let tell = move || {
        let begun = Instant::now();
        let mut now = None;
        loop {
            let left = SLOW_START.saturating_sub(begun.elapsed());
            match (steps.recv_timeout(left), &now) {
                (Ok(step), _) if left.is_zero() => complain(&format!("still starting: {step}")),
                (Ok(step), _) => now = Some(step),
                (Err(RecvTimeoutError::Disconnected), _) => break,
                (Err(RecvTimeoutError::Timeout), Some(step)) => {
                    complain(&format!("still starting: {step}"));
                    now = None;
                }
                (Err(RecvTimeoutError::Timeout), None) => match steps.recv() {
                    Ok(step) => complain(&format!("still starting: {step}")),
                    Err(_) => break,
                },
            }
        }
    };
    let teller = thread(tell).context(NO_THREAD)?;
    let session = Session::start(settings, &mut |step| {
        let _ = doing.send(step.to_string());
    });
    drop(doing);
    let _ = teller.join();
    Ok(session?)
}

/// What is wrong where a thread cannot be started, and what helps.
pub(crate) const NO_THREAD: &str = "cannot start a thread: raise the limit of processes and threads (`ulimit -u`, the cgroup's pids.max)";

fn thread(body: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().spawn(body)
}

/// Runs a capture until a signal, its count, its duration or an error ends it, and prints the report.
pub(crate) fn run_session(settings: Settings, quiet: bool, json: bool) -> Result<()> {
    // A second one does not wait, whatever goes on: files are valid as they are.
    let asked = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked))
            .and_then(|_| flag::register(signal, Arc::clone(&asked)))
            .context("watching signals")?;
    }
    // What has no meaning here does not end a capture without its report. (A file that grows beyond the limit
    // for this process, SIGXFSZ, is an error.)
    for signal in MEANINGLESS.into_iter().chain(REAL_TIME) {
        flag::register(signal, Arc::default()).context("watching signals")?;
    }
    // Signals are watched before anything is opened, so that none finds nobody at home.
    let watched = ENDING.into_iter().chain([SIGHUP, SIGUSR1]);
    let mut signals = Signals::new(watched).context("watching signals")?;
    let handle = signals.handle();
    let (to_main, from_signals) = mpsc::channel();
    let watch = move || {
        for signal in signals.forever() {
            if to_main.send(signal).is_err() {
                break;
            }
        }
    };
    thread(watch).context(NO_THREAD)?;
    let mut voice = Voice::new(quiet, json).context(NO_THREAD)?;
    let mut session = start(settings, quiet)?;
    voice.greet(&session);
    let duration = session.settings().duration;
    let mut rotate = session.settings().rotate.map(Every::new);
    let mut figures = Every::new(FIGURES_EVERY);
    // The first look comes whatever arrives: one of several groups may be unfed.
    let (mut next_unfed, mut received) = (UNFED_AFTER, None);
    loop {
        match from_signals.recv_timeout(TICK) {
            Ok(SIGHUP) => session.control().rotate(),
            Ok(SIGUSR1) => voice.figures_now(&mut session),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut taken = false;
        for notice in session.notices() {
            taken |= matches!(notice, Notice::Taken { .. });
            voice.notice(&notice);
        }
        session.look_at_links();
        let elapsed = session.elapsed();
        if figures.due(elapsed) {
            session.look_at_rules();
            voice.figures(&mut session);
        }
        if taken || rotate.as_mut().is_some_and(|rotate| rotate.due(elapsed)) {
            session.control().rotate();
        }
        if elapsed >= next_unfed {
            next_unfed = elapsed + UNFED_EVERY;
            let now = session.received();
            if received.replace(now).is_none_or(|before| before == now) {
                voice.unfed(&session);
            }
        }
        let over = duration.is_some_and(|duration| elapsed >= duration);
        if over || session.control().count_reached() || session.has_ended() {
            break;
        }
    }
    let (report, error) = session.finish();
    // The watcher ends with it, or with the process.
    handle.close();
    let told = voice.report(&report);
    match error {
        Some(error) => Err(error).context("the capture ended early"),
        None => told.context("the report could not be written to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_long_nobody_looked_it_is_due_once() {
        let at = Duration::from_millis;
        let mut second = Every::new(at(1000));
        assert!(!second.due(at(999)));
        assert!(second.due(at(1010)));
        assert!(!second.due(at(1060)));
        assert!(second.due(at(2000)));
        // Stopped for an hour: one, and the next at the next whole second.
        assert!(second.due(at(3_600_500)));
        assert!(!second.due(at(3_600_550)));
        assert!(!second.due(at(3_600_999)));
        assert!(second.due(at(3_601_000)));
    }
}
