//! Manual pages and completions, from the definition of the command line.

use anyhow::{Context as _, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::say;

/// `lwnflog completions SHELL`
///
/// # Errors
/// Standard output that cannot be written.
pub fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lwnflog", &mut script);
    say(&script)
}

/// `lwnflog man [COMMAND]`: the page of lwnflog, or of one of its commands.
///
/// # Errors
/// A command that is not there; standard output that cannot be written.
pub fn man(command: Option<&str>) -> Result<()> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let command = match command {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            found.with_context(|| format!("there is no command `{name}`"))?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .context("the page cannot be made")?;
    say(&page)
}
