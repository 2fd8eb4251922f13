//! `lwnflog ctl`: speaks to a running capture.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::args::CtlArgs;
use super::options::parse_duration;
use crate::control::request::COMMANDS;
use crate::control::{Request, VERSION, client, place};

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
    let name = match (name, &running[..]) {
        (Some(name), _) => name,
        (None, [only]) => only.clone(),
        (None, []) => bail!(
            "no capture runs here: {} has no socket; `lwnflog --group 5` makes one",
            directory.display()
        ),
        (None, several) => bail!("several captures run: name one of {}", several.join(", ")),
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
        args: values.to_vec(),
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

fn println(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("standard output")
}
