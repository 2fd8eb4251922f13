//! `lwnflog watch`: a running capture at a glance, on a terminal or as plain lines.

mod draw;
mod sight;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use serde_json::Value;

use super::NO_THREAD;
use super::ctl::the_only;
use crate::control::{Request, VERSION, client, place};
use crate::session::settings::parse_duration;
use sight::{Sight, State};

/// A capture that says nothing for so long is said to.
const SILENT: Duration = Duration::from_secs(2);

/// `lwnflog watch [NAME]`
///
/// # Errors
/// No capture of that name; a terminal that cannot be used. That the capture ends is none.
pub fn run(name: Option<&str>, every: &str, directory: Option<PathBuf>) -> Result<()> {
    let every = parse_duration(every)?.max(Duration::from_millis(100));
    let directory = directory.unwrap_or_else(place::to_ask);
    let name = match name {
        Some(name) => name.to_owned(),
        None => the_only(&directory)?,
    };
    let socket = place::socket(&directory, &name);
    let ask = move || -> io::Result<Value> {
        let request = Request {
            v: VERSION,
            command: "stats".to_owned(),
            args: Vec::new(),
            confirm_secs: None,
        };
        client::ask(&socket, &request)
    };
    let first = ask().with_context(|| format!("{name}: no capture answers"))?;
    if first["ok"] != Value::Bool(true) {
        bail!(
            "{name}: {}",
            first["error"].as_str().unwrap_or("it says no")
        );
    }
    let mut sight = Sight::new(&name);
    sight.take(&first, Instant::now());
    if io::stdout().is_terminal() && io::stdin().is_terminal() {
        on_terminal(&mut sight, every, ask)
    } else {
        as_lines(&mut sight, every, ask)
    }
}

/// One line a look, until the capture or the reader has gone.
fn as_lines(sight: &mut Sight, every: Duration, ask: impl Fn() -> io::Result<Value>) -> Result<()> {
    loop {
        thread::sleep(every);
        let answer = match ask() {
            Ok(answer) => answer,
            Err(error) if has_ended(&error) => return Ok(()),
            Err(error) => return Err(error).with_context(|| sight.name.clone()),
        };
        if answer["ok"] != Value::Bool(true) {
            let error = answer["error"].as_str().unwrap_or("it says no");
            bail!("{}: {error}", sight.name);
        }
        sight.take(&answer, Instant::now());
        if writeln!(io::stdout(), "{}", sight.line()).is_err() {
            return Ok(());
        }
    }
}

/// Whether nobody is there any more.
fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    let gone = [
        NotFound,
        ConnectionRefused,
        UnexpectedEof,
        ConnectionReset,
        BrokenPipe,
    ];
    gone.contains(&error.kind())
}

/// A screen, until `q` is pressed. The last figures stay when the capture ends, until there is one of
/// its name again. Another thread asks: a capture that hangs holds no key up.
fn on_terminal(
    sight: &mut Sight,
    every: Duration,
    ask: impl Fn() -> io::Result<Value> + Send + 'static,
) -> Result<()> {
    /// A key is looked for so often, and what has been answered.
    const LOOK: Duration = Duration::from_millis(100);
    let (to_screen, answers) = mpsc::channel();
    let asking = move || {
        loop {
            thread::sleep(every);
            if to_screen.send((ask(), Instant::now())).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(asking).context(NO_THREAD)?;
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let mut heard = Instant::now();
    let looked = loop {
        if let Err(error) = terminal.draw(|frame| draw::draw(sight, frame)) {
            break Err(error);
        }
        match wants_to_leave(LOOK.min(every)) {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(error) => break Err(error),
        }
        for (answer, at) in answers.try_iter() {
            heard = at;
            match answer {
                Ok(answer) if answer["ok"] == Value::Bool(true) => sight.take(&answer, at),
                Err(error) if has_ended(&error) => sight.state = State::Ended,
                _ => sight.state = State::Silent,
            }
        }
        if heard.elapsed() > every + SILENT && sight.state == State::Runs {
            sight.state = State::Silent;
        }
    };
    ratatui::restore();
    looked.context("the terminal")
}

/// Waits for a key, or for the terminal to change its size.
fn wants_to_leave(longest: Duration) -> io::Result<bool> {
    if !event::poll(longest)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else {
        return Ok(false);
    };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
    Ok(interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}
