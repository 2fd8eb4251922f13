//! `lwnflog ctl`: speaks to a running capture.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::args::CtlArgs;
use super::on_terminal;
use crate::control::request::COMMANDS;
use crate::control::{Request, VERSION, client, place};
use crate::session::settings::parse_duration;

/// `lwnflog ctl [NAME] COMMAND [VALUE...]`
///
/// # Errors
/// No capture, several where none is named, and whatever the capture says no to.
pub fn run(args: &CtlArgs) -> Result<()> {
    let directory = args.directory.clone().unwrap_or_else(place::to_ask);
    let is_command = |word: &str| COMMANDS.iter().any(|(name, _)| *name == word);
    let is_there = |name: &str| place::socket(&directory, name).exists();
    let (name, words) = match &args.words[..] {
        [command] if command == "list" => {
            for name in running(&directory)? {
                println(&name)?;
            }
            return Ok(());
        }
        [first, rest @ ..] if !is_command(first) => (first.clone(), rest),
        // A capture that is called as a command is.
        [first, second, ..] if is_command(second) && is_there(first) => {
            (first.clone(), &args.words[1..])
        }
        words => (the_only(&directory)?, words),
    };
    let looked = place::socket(&directory, &name).symlink_metadata();
    if looked.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Err(nobody(&name));
    }
    let Some((command, values)) = words.split_first() else {
        bail!("{name}: what is it to do? `lwnflog ctl --help` has the commands");
    };
    let confirm = args.confirm.as_deref().map(parse_duration).transpose()?;
    let request = Request {
        v: VERSION,
        command: command.clone(),
        args: [values, &keep_words(args)?].concat(),
        confirm_secs: confirm.map(|time| time.as_secs().max(1)),
    };
    let socket: PathBuf = place::socket(&directory, &name);
    let answer = client::ask(&socket, &request).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => nobody(&name),
        _ => anyhow!(
            "{name}: no capture answers at {}: {error}",
            socket.display()
        ),
    })?;
    if answer["ok"] != Value::Bool(true) {
        let error = answer["error"].as_str().unwrap_or("it says no");
        return Err(anyhow!("{name}: {error}"));
    }
    match answer["done"].as_str() {
        Some(done) if !args.json => println(done),
        _ => println(&answer.to_string()),
    }
}

fn nobody(name: &str) -> anyhow::Error {
    anyhow!(
        "`{name}` is no command, and no capture of that name runs: `lwnflog ctl list` names those that do"
    )
}

/// The capture that runs, where there is one only.
///
/// # Errors
/// None runs, or several do.
pub(super) fn the_only(directory: &Path) -> Result<String> {
    match &running(directory)?[..] {
        [only] => Ok(only.clone()),
        [] => bail!(
            "no capture runs here: none answers in {}; `lwnflog --group 5` starts one",
            directory.display()
        ),
        several => bail!("several captures run: name one of {}", several.join(", ")),
    }
}

fn running(directory: &Path) -> Result<Vec<String>> {
    place::names(directory).with_context(|| format!("{}: cannot be read", directory.display()))
}

/// What `keep` is told by options.
fn keep_words(args: &CtlArgs) -> Result<Vec<String>> {
    let mut words = Vec::new();
    words.extend(args.last.iter().map(|time| format!("last={time}")));
    words.extend(args.next.iter().map(|time| format!("next={time}")));
    if let Some(dir) = &args.to {
        let whole = std::path::absolute(dir).context("--to")?;
        let whole = whole.to_str().context("--to: a name that is not UTF-8")?;
        words.push(format!("to={whole}"));
    }
    Ok(words)
}

fn println(line: &str) -> Result<()> {
    super::say(format!("{}\n", on_terminal(line)).as_bytes())
}
