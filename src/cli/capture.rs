//! `lwnflog --group 5` and its like: a capture from its options to its report.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::args::CaptureArgs;
use super::every::Every;
use super::options::settings;
use super::reporter::Reporter;
use super::signals;
use super::{NO_THREAD, complain};
use crate::ring::Notice;
use crate::session::settings::{Settings, SourceSettings};
use crate::session::{Session, SessionError};
use signal_hook::consts::{SIGHUP, SIGUSR1};

/// How often the main thread looks around.
const TICK: Duration = Duration::from_millis(50);
/// Figures are shown so often.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// A start that takes longer says what it is doing.
const SLOW_START: Duration = Duration::from_secs(1);
/// A group that no rule logs to by then is said to be one.
const WITHOUT_RULE_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked for rules while no packet comes: they may have been removed.
const WITHOUT_RULE_EVERY: Duration = Duration::from_secs(5);

/// `lwnflog --group …`
///
/// # Errors
/// Options that make no sense, and whatever keeps the capture from beginning or going on.
pub fn run(args: &CaptureArgs) -> Result<()> {
    let settings = settings(args)?;
    run_session(settings, args.quiet, args.json)
}

/// Starts a capture; where a program at the hook cannot be had, from the group named instead.
fn start(settings: Settings, quiet: bool) -> Result<Session> {
    let or_group = match &settings.source {
        SourceSettings::Hook(options) => options.or_group,
        SourceSettings::Numbers(..) => None,
    };
    match start_telling(settings.clone(), quiet) {
        Err(error) => match (or_group, error.downcast_ref()) {
            (Some(group), Some(SessionError::Hook(cause))) => {
                complain(&format!(
                    "{cause}; capturing group {group} instead (--or-group)"
                ));
                start_telling(settings.with_group(group)?, quiet)
            }
            _ => Err(error),
        },
        started => started,
    }
}

/// Starts a capture, and says what it is doing where that takes more than a second.
fn start_telling(settings: Settings, quiet: bool) -> Result<Session> {
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

fn thread(body: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().spawn(body)
}

/// Runs a capture until a signal, its count, its duration or an error ends it, and prints the
/// report.
pub(crate) fn run_session(settings: Settings, quiet: bool, json: bool) -> Result<()> {
    let from_signals = signals::watch()?;
    let mut reporter = Reporter::new(quiet, json).context(NO_THREAD)?;
    let mut session = start(settings, quiet)?;
    reporter.greet(&session);
    let duration = session.settings().duration;
    let mut rotate = session.settings().rotate.map(Every::new);
    let mut figures = Every::new(FIGURES_EVERY);
    // The first look comes whatever arrives: one of several groups may be without_rule.
    let (mut next_look_for_rules, mut received) = (WITHOUT_RULE_AFTER, None);
    loop {
        match from_signals.recv_timeout(TICK) {
            Ok(SIGHUP) => session.rotate(),
            Ok(SIGUSR1) => reporter.figures_now(&mut session),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut removed = false;
        for notice in session.notices() {
            removed |= matches!(notice, Notice::Removed { .. });
            reporter.notice(&notice);
        }
        session.look_at_links();
        let elapsed = session.elapsed();
        if figures.due(elapsed) {
            session.look_at_rules();
            reporter.figures(&mut session);
        }
        if removed || rotate.as_mut().is_some_and(|rotate| rotate.due(elapsed)) {
            session.rotate();
        }
        if elapsed >= next_look_for_rules {
            next_look_for_rules = elapsed + WITHOUT_RULE_EVERY;
            let now = session.received();
            if received.replace(now).is_none_or(|before| before == now) {
                reporter.without_rule(&session);
            }
        }
        let over = duration.is_some_and(|duration| elapsed >= duration);
        if over || session.control().count_reached() || session.has_ended() {
            break;
        }
    }
    let (report, error) = session.finish();
    let told = reporter.report(&report);
    match error {
        Some(error) => Err(error).context("the capture ended early"),
        None => told.context("the report could not be written to standard output"),
    }
}
