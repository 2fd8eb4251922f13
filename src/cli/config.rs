//! Options from a file and from the environment.
//!
//! The command line goes before the environment, that before the file, that before what is built in.
//! What the file says becomes words of the command line, where neither of the others says it.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::Value;

use super::args::Cli;
use super::error_text;
use crate::session::settings::ConfigError;

/// One of them is where packets come from: who names one on the command line does not want that of
/// the file.
const SOURCES: [&str; 3] = ["group", "queue", "hook"];

/// The command line's definition, with a variable of the environment for each option of a capture.
pub fn command() -> Command {
    Cli::command().mut_args(|arg| match arg.get_long().map(str::to_owned) {
        Some(long) if long != "help" && long != "version" => {
            let variable = format!("LWNFLOG_{}", long.replace('-', "_").to_uppercase());
            arg.env(variable).hide_env(true)
        }
        _ => arg,
    })
}

/// The command line, and what the environment and the file add to it. What is wrong with the options
/// ends the program, as clap does it.
///
/// # Errors
/// A file that cannot be read, or that says what no option is.
pub fn parse() -> Result<Cli> {
    let words = with_file(env::args_os().collect())
        .map_err(|error| ConfigError::File(error_text(&error)))?;
    let matches = without_source_of_environment(&words, command()).get_matches_from(words);
    Ok(Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

/// The words, with those of the file behind the program's name.
fn with_file(mut words: Vec<OsString>) -> Result<Vec<OsString>> {
    let lenient = command().ignore_errors(true).subcommand_negates_reqs(true);
    let Ok(matches) = lenient.try_get_matches_from(&words) else {
        return Ok(words);
    };
    if matches.subcommand_name().is_some() {
        return Ok(words);
    }
    let Some(path) = matches.get_one::<PathBuf>("config") else {
        return Ok(words);
    };
    let more = words_of(path, &matches)?;
    let behind = 1.min(words.len());
    words.splice(behind..behind, more);
    Ok(words)
}

/// Who names a source on the command line does not want that of the environment.
fn without_source_of_environment(words: &[OsString], command: Command) -> Command {
    let lenient = command
        .clone()
        .ignore_errors(true)
        .subcommand_negates_reqs(true);
    let given = lenient.try_get_matches_from(words).is_ok_and(|matches| {
        let on_line = |source| matches.value_source(source) == Some(ValueSource::CommandLine);
        SOURCES.into_iter().any(on_line)
    });
    match given {
        true => command.mut_args(|arg| match SOURCES.contains(&arg.get_id().as_str()) {
            true => arg.env(Resettable::Reset),
            false => arg,
        }),
        false => command,
    }
}

/// What a file says and nobody else does.
fn words_of(path: &Path, matches: &ArgMatches) -> Result<Vec<OsString>> {
    let (path, may_be_missing) = match path.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(path) => (Path::new(path), true),
        None => (path, false),
    };
    let named = || format!("--config {}", path.display());
    let text = match read(path) {
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        text => text.with_context(named)?,
    };
    let table: toml::Table = text.parse().with_context(named)?;
    let command = command();
    let is_given = |id: &str| {
        matches!(
            matches.value_source(id),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    };
    let source_given = SOURCES.iter().any(|source| is_given(source));
    let mut words = Vec::new();
    for (key, value) in &table {
        let mut options = command.get_arguments();
        let Some(option) = options.find(|option| option.get_long() == Some(key.as_str())) else {
            bail!(
                "{}: there is no option `{key}`: `lwnflog --help` has them all",
                named()
            );
        };
        let id = option.get_id().as_str();
        if key == "config" || key == "help" || key == "version" {
            bail!("{}: `{key}` makes no sense in the file", named());
        }
        if is_given(id) || source_given && SOURCES.contains(&id) {
            continue;
        }
        let takes_value = option.get_action().takes_values();
        match (value, takes_value) {
            (Value::Boolean(true), _) => words.push(format!("--{key}").into()),
            (Value::Boolean(false), true) if !may_stand_alone(option) => {
                bail!("{}: `{key}`: a text or a number is wanted here", named())
            }
            (Value::Boolean(false), _) => {}
            (_, false) => bail!("{}: `{key}` is true or false", named()),
            (Value::Array(values), true) if matches!(option.get_action(), ArgAction::Append) => {
                for value in values {
                    words.push(word(key, one(key, value).with_context(named)?));
                }
            }
            // Several of them are one list there.
            (Value::Array(values), true) if SOURCES.contains(&id) => {
                let texts: Result<Vec<_>> = values.iter().map(|value| one(key, value)).collect();
                words.push(word(key, texts.with_context(named)?.join(",")));
            }
            (Value::Array(_), true) => bail!("{}: `{key}` takes one value, and no list", named()),
            (value, true) => words.push(word(key, one(key, value).with_context(named)?)),
        }
    }
    Ok(words)
}

/// Whether an option that takes a value may be given without one.
fn may_stand_alone(option: &Arg) -> bool {
    let values = option.get_num_args();
    values.is_some_and(|values| values.min_values() == 0)
}

fn word(key: &str, text: impl std::fmt::Display) -> OsString {
    format!("--{key}={text}").into()
}

fn one(key: &str, value: &Value) -> Result<String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => bail!("`{key}`: a text or a number is wanted here"),
    })
}

/// What a file says. What has no end is none of options.
fn read(path: &Path) -> io::Result<String> {
    const BYTES_MAX: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 {
        ..=BYTES_MAX => Ok(text),
        _ => Err(io::Error::other(
            "this is too long for a file of options: more than a megabyte",
        )),
    }
}
