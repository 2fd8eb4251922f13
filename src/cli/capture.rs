//! `lwnflog --group 5` and its like: a capture from its options to its report.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::args::CaptureArgs;
use super::desk::Desk;
use super::every::Every;
use super::finished::{Work, forget_chores};
use super::options::{chores, gid, settings};
use super::reporter::Reporter;
use super::scrape::scrape;
use super::service;
use super::signals;
use super::{NO_THREAD, complain};
use crate::chores::Chores;
use crate::control::{Call, Server, place};
use crate::metrics::{self, Place, Scrape};
use crate::ring::{Notice, wherever};
use crate::session::settings::{ConfigError, Settings, SourceSettings};
use crate::session::{End, Session, SessionError, Step, Wake};
use crate::source::SourceName;
use signal_hook::consts::{SIGHUP, SIGUSR1};

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
    let control = if args.no_control {
        None
    } else {
        Some(ControlOptions {
            name: match &args.name {
                Some(name) => control_name(name)?,
                None => default_name(&settings),
            },
            readers: args.control_group.as_deref().map(gid).transpose()?,
        })
    };
    let beside = Beside {
        quiet: args.quiet,
        json: args.json,
        control,
        chores: chores(args)?,
        metrics: args.metrics.clone(),
    };
    run_session(settings, beside)
}

/// A name that is a file's, too.
fn control_name(name: &str) -> Result<String, ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=64).contains(&name.len()) && !name.starts_with('.');
    if fits && name.bytes().all(allowed) {
        return Ok(name.to_owned());
    }
    Err(ConfigError::Name(name.to_owned()))
}

/// That of its files; of several groups the first and the last.
fn default_name(settings: &Settings) -> String {
    let names = settings.names();
    match (names.first(), names.last()) {
        (Some(first), Some(SourceName::Number(_, last))) if names.len() > 1 => {
            format!("{}-{last}", first.file_name())
        }
        (Some(first), _) => first.file_name(),
        (None, _) => String::new(),
    }
}

/// Starts a capture; where a program at the hook cannot be had, from the group named instead.
fn start(settings: Settings, quiet: bool, wake: &Wake) -> Result<Session> {
    let or_group = match &settings.source {
        SourceSettings::Hook(options) => options.or_group,
        SourceSettings::Numbers(..) => None,
    };
    match start_telling(settings.clone(), quiet, wake) {
        Err(error) => match (or_group, error.downcast_ref()) {
            (Some(group), Some(SessionError::Hook(cause))) => {
                complain(&format!(
                    "{cause}; capturing group {group} instead (--or-group)"
                ));
                start_telling(settings.with_group(group)?, quiet, wake)
            }
            _ => Err(error),
        },
        started => started,
    }
}

/// Starts a capture, and says what it is doing where that takes more than a second.
fn start_telling(settings: Settings, quiet: bool, wake: &Wake) -> Result<Session> {
    if quiet {
        return Ok(Session::start(settings, &mut |_| {}, Arc::clone(wake))?);
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
    let mut tell = |step: Step<'_>| {
        let _ = doing.send(step.to_string());
    };
    let session = Session::start(settings, &mut tell, Arc::clone(wake));
    drop(doing);
    let _ = teller.join();
    Ok(session?)
}

fn thread(body: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().spawn(body)
}

/// What the main thread waits for.
pub(super) enum Event {
    /// A signal has come.
    Signal(i32),
    /// A capturing thread may have ended.
    Look,
    /// Somebody asks through the control socket.
    Call(Call),
    /// Somebody reads the figures.
    Scrape(Sender<Scrape>),
    /// The process that finished files go to has something to say.
    Said(String),
}

/// What there is beside the capture itself.
#[derive(Default)]
pub(crate) struct Beside {
    /// No status line, no start-up lines.
    pub(crate) quiet: bool,
    /// Figures on standard output.
    pub(crate) json: bool,
    /// Control from outside.
    pub(crate) control: Option<ControlOptions>,
    /// What is done with finished files.
    pub(crate) chores: Option<Chores>,
    /// Where figures are served.
    pub(crate) metrics: Option<Place>,
}

/// How a capture is controlled from outside.
pub(crate) struct ControlOptions {
    /// Its name.
    name: String,
    /// The group of users that may look.
    readers: Option<u32>,
}

/// Runs a capture until a signal, its count, its duration or an error ends it, and prints the
/// report.
pub(crate) fn run_session(settings: Settings, beside: Beside) -> Result<()> {
    let Beside {
        quiet,
        json,
        control,
        chores,
        metrics,
    } = beside;
    let (to_main, events) = mpsc::channel();
    let from_signals = to_main.clone();
    let _watched = signals::watch(move |signal| {
        let _ = from_signals.send(Event::Signal(signal));
    })?;
    let mut reporter = Reporter::new(quiet, json).context(NO_THREAD)?;
    let work = chores.map(|chores| Work::start(chores, &settings, to_main.clone()));
    let mut work = work.transpose()?;
    let from_session = to_main.clone();
    let wake: Wake = Arc::new(move || {
        let _ = from_session.send(Event::Look);
    });
    let mut session = start(settings, quiet, &wake)?;
    // Whoever reads that it captures may speak to it.
    let server = control.and_then(|options| listen(&options, to_main.clone(), &mut reporter));
    reporter.greet(&session);
    match &mut work {
        Some(work) => work.take_up(&mut reporter),
        None => forget_chores(session.settings()),
    }
    let figures_server = match &metrics {
        Some(place) => Some(serve_figures(place, to_main.clone(), &mut reporter)?),
        None => None,
    };
    drop(to_main);
    service::ready();
    let mut desk = Desk::default();
    let duration = session.settings().duration;
    let mut rotate = session.settings().rotate_every().map(Every::new);
    let mut figures = Every::new(FIGURES_EVERY);
    // The first look comes whatever arrives: one of several groups may be without_rule.
    let (mut next_look_for_rules, mut received) = (WITHOUT_RULE_AFTER, None);
    let mut links_changed = false;
    loop {
        let elapsed = session.elapsed();
        let rotate_every = session.settings().rotate_every();
        if rotate.as_ref().map(Every::every) != rotate_every {
            rotate = rotate_every.map(|every| Every::since(every, elapsed));
        }
        let waits = [
            rotate.as_ref().map(|rotate| rotate.left(elapsed)),
            duration.map(|duration| duration.saturating_sub(elapsed)),
            desk.left(),
            session.left_to_keep(),
        ];
        let wait = waits.into_iter().flatten().min();
        let wait = wait.map_or(figures.left(elapsed), |wait| {
            wait.min(figures.left(elapsed))
        });
        match events.recv_timeout(wait) {
            Ok(Event::Signal(SIGHUP)) => session.rotate(),
            Ok(Event::Signal(SIGUSR1)) => reporter.figures_now(&mut session),
            Ok(Event::Signal(_)) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Call(call)) => {
                if desk.take(call, &mut session, &mut reporter) {
                    break;
                }
            }
            Ok(Event::Scrape(to)) => {
                let _ = to.send(scrape(&mut session));
            }
            Ok(Event::Said(line)) => reporter.say(&line),
            Ok(Event::Look) | Err(RecvTimeoutError::Timeout) => {}
        }
        match session.look_at_kept() {
            Some(Ok(kept)) => reporter.say(&kept),
            Some(Err(why)) => reporter.say(&format!("not kept: {why}")),
            None => {}
        }
        desk.take_back_due(&mut session, &mut reporter);
        let mut removed = false;
        for notice in session.notices() {
            removed |= matches!(notice, Notice::Removed { .. });
            if let Some(work) = &mut work {
                work.hand_over(&notice, &mut reporter);
            }
            reporter.notice(&notice);
        }
        links_changed |= session.look_at_links();
        let elapsed = session.elapsed();
        if figures.due(elapsed) {
            session.look_at_rules();
            session.look_at_rate();
            if std::mem::take(&mut links_changed) {
                reporter.interfaces(&session);
            }
            if let Some(collapsed) = session.look_at_fill() {
                reporter.say(&collapsed);
            }
            for line in session.look_at_rings() {
                reporter.say(&line);
            }
            reporter.figures(&mut session);
            if let Some(work) = &mut work {
                work.look(&mut reporter);
            }
            service::alive();
        }
        if removed || rotate.as_mut().is_some_and(|rotate| rotate.due(elapsed)) {
            session.rotate();
        }
        if elapsed >= next_look_for_rules {
            // One that is set down, or becomes a port, is no news that wakes anybody.
            links_changed = true;
            next_look_for_rules = elapsed + WITHOUT_RULE_EVERY;
            let now = session.received();
            if received.replace(now).is_none_or(|before| before == now) {
                reporter.without_rule(&session);
            }
        }
        let over = duration.is_some_and(|duration| elapsed >= duration);
        if over || session.is_over() {
            break;
        }
    }
    service::stopping();
    drop(server);
    drop(figures_server);
    let End {
        mut report,
        error,
        finished,
    } = session.finish();
    let mut done = true;
    if let Some(work) = &mut work {
        for path in finished {
            work.hand_over(&Notice::Finished { path }, &mut reporter);
        }
        done = work.wait_shortly(&events, &mut reporter);
        for file in &mut report.files {
            *file = wherever(file);
        }
    }
    let told = reporter.report(&report);
    if let Some(work) = work {
        work.end(done, &events, &mut reporter);
    }
    match error {
        Some(error) => Err(error).context("the capture ended early"),
        None => told.context("the report could not be written to standard output"),
    }
}

/// Serves the figures.
fn serve_figures(
    place: &Place,
    to_main: Sender<Event>,
    reporter: &mut Reporter,
) -> Result<metrics::Server> {
    let deliver = move |to| {
        let _ = to_main.send(Event::Scrape(to));
    };
    let server = metrics::Server::start(place, Arc::new(deliver))
        .with_context(|| format!("--metrics {place}: nothing can listen there"))?;
    reporter.inform(&format!("figures are served at {}", server.place()));
    Ok(server)
}

/// Listens for control. Where that cannot be, the capture goes on without.
fn listen(
    options: &ControlOptions,
    to_main: Sender<Event>,
    reporter: &mut Reporter,
) -> Option<Server> {
    let directory = place::directory()?;
    let deliver = move |call| {
        let _ = to_main.send(Event::Call(call));
    };
    match Server::start(
        &directory,
        &options.name,
        options.readers,
        Arc::new(deliver),
    ) {
        Ok(server) => Some(server),
        Err(why) => {
            reporter.say(&format!("no control of this capture: {why}"));
            None
        }
    }
}
