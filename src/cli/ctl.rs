//! `lwnflog ctl`: speaks to a running capture.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::args::CtlArgs;
use crate::control::request::COMMANDS;
use crate::control::{Request, VERSION, client, place};
use crate::session::settings::parse_duration;

/// `lwnflog ctl [NAME] COMMAND [VALUE...]`
///
/// # Errors
/// No capture, several where none is named, and whatever the capture says no to.
pub fn run(args: &CtlArgs) -> Result<()> {
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => place::directory().context("XDG_RUNTIME_DIR is not set: give --directory")?,
    };
    let running = place::names(&directory)
        .with_context(|| format!("{}: cannot be read", directory.display()))?;
    let is_command = |word: &str| COMMANDS.iter().any(|(name, _)| *name == word);
    let (name, words) = match &args.words[..] {
        [command] if command == "list" => {
            for name in running {
                println(&name)?;
            }
            return Ok(());
        }
        [first, rest @ ..] if running.contains(first) || !is_command(first) => {
            (Some(first.clone()), rest)
        }
        words => (None, words),
    };
    let name = match name {
        Some(name) => name,
        None => the_only(&directory, &running)?,
    };
    if !running.contains(&name) {
        bail!(
            "`{name}` is no command, and no capture of that name runs: `lwnflog ctl list` names those that do"
        );
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
    let answer = client::ask(&socket, &request)
        .with_context(|| format!("{}: no capture answers", socket.display()))?;
    if answer["ok"] != Value::Bool(true) {
        let error = answer["error"].as_str().unwrap_or("it says no");
        return Err(anyhow!("{name}: {error}"));
    }
    match answer["done"].as_str() {
        Some(done) if !args.json => println(done),
        _ => println(&answer.to_string()),
    }
}

/// The capture that runs, where there is one only.
///
/// # Errors
/// None runs, or several do.
pub(super) fn the_only(directory: &Path, running: &[String]) -> Result<String> {
    match running {
        [only] => Ok(only.clone()),
        [] => bail!(
            "no capture runs here: {} has no socket; `lwnflog --group 5` makes one",
            directory.display()
        ),
        several => bail!("several captures run: name one of {}", several.join(", ")),
    }
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
    super::say(format!("{line}\n").as_bytes())
}
