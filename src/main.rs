//! The lwnflog command: options in, exit status out.

use std::process::ExitCode;

use clap::Parser;
use lwnflog::cli::{Cli, Command};
use lwnflog::{demo, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => run::capture(&cli.capture),
        Some(Command::Demo { write, secs }) => demo::run(&write, secs),
        Some(Command::Rules {
            source,
            iface,
            drop,
            prefix,
        }) => run::print_rules(&source, iface.as_deref(), drop, prefix.as_deref()),
        Some(Command::Repair { dry_run, files }) => run::repair(&files, dry_run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::complain(&run::error_text(&error));
            ExitCode::from(run::exit_status(&error))
        }
    }
}
