//! The lwnflog command: options in, exit status out.

use std::process::ExitCode;

use anyhow::Result;
use lwnflog::cli;
use lwnflog::cli::args::{Cli, Command};

fn main() -> ExitCode {
    cli::survive_file_limit();
    let done = cli::config::parse().and_then(run);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::service::failed(&cli::error_text(&error));
            cli::complain(&cli::error_text(&error));
            ExitCode::from(cli::exit_status(&error))
        }
    }
}

fn run(args: Cli) -> Result<()> {
    match args.command {
        None => cli::capture::run(&args.capture),
        Some(Command::Demo { write, secs }) => cli::demo::run(&write, secs),
        Some(Command::Rules {
            source,
            iface,
            matching,
            at,
            trace,
            family,
            spread,
            rate_limit,
            drop,
            prefix,
        }) => {
            let rule = cli::options::RuleArgs {
                ifaces: &iface,
                matching: matching.as_deref(),
                prefix: prefix.as_deref(),
                at: &at,
                trace,
                spread,
                rate_limit,
                drop,
                family,
            };
            cli::rules::run(&source, &rule)
        }
        Some(Command::Chores {
            compress,
            on_rotate,
            on_rotate_shell,
        }) => cli::chores::run(compress, on_rotate, on_rotate_shell),
        Some(Command::Doctor {
            group,
            hook,
            family,
            write,
            json,
        }) => cli::doctor::run(group, hook, family, write.as_deref(), json),
        Some(Command::Watch {
            name,
            every,
            directory,
        }) => cli::watch::run(name.as_deref(), &every, directory),
        Some(Command::Ls {
            places,
            utc,
            json,
            no_index,
        }) => cli::ls::run(&places, utc, json, no_index),
        Some(Command::Run(args)) => cli::run::run(&args),
        Some(Command::RunIn { cgroup, command }) => cli::run::run_in(&cgroup, &command),
        Some(Command::RunAfter { cgroup }) => cli::run::run_after(&cgroup),
        Some(Command::Extcap(args)) => cli::extcap::run(&args),
        Some(Command::Report(args)) => cli::read::report::run(&args),
        Some(Command::Path(args)) => cli::read::path::run(&args),
        Some(Command::Export(args)) => cli::read::export::run(&args),
        Some(Command::Read(args)) => cli::read::run(&args),
        Some(Command::Ctl(args)) => cli::ctl::run(&args),
        Some(Command::Man { command }) => cli::pages::man(command.as_deref()),
        Some(Command::Size {
            rate,
            hours,
            snaplen,
            file_size,
            buffer_size,
        }) => cli::size::run(&rate, hours, snaplen, &file_size, &buffer_size),
        Some(Command::Completions { shell }) => cli::pages::completions(shell),
        Some(Command::Repair { dry_run, files }) => cli::repair::run(&files, dry_run),
    }
}
