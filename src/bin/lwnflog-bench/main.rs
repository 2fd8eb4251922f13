//! lwnflog-bench: chapter 4 of the thesis on today's kernel, against today's tools.
//!
//! ```text
//!   cli -> plan: cells (test x size x senders x tool), rounds alternate between the tools
//!            |
//!            v      one run, in namespaces of its own
//!   run: lab + rules -> tool started -> warm-up -> [ measure: send ] -> idle -> stop -> count
//!            |
//!            v
//!   results -> table, markdown, plot, JSON
//! ```

mod child;
mod cli;
mod count;
mod host;
mod job;
mod latency;
mod markdown;
mod measure;
mod output;
mod plan;
mod plot;
mod profile;
mod readers;
mod reading;
mod ready;
mod results;
mod rules;
mod run;
mod say;
mod smoke;
mod soak;
mod sys;
mod table;
mod thesis;
mod tools;
mod workdir;

use crate::say::tell;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(code) => code,
        Err(error) => {
            tell!("lwnflog-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Some(Command::Tools) => tools::describe(&cli.common)?,
        Some(Command::Render { results, output }) => plan::render(results, output)?,
        Some(Command::NullReader { group, copy }) => readers::null::run(*group, *copy)?,
        Some(Command::RingReader(options)) => readers::ring::run(options)?,
        Some(Command::Smoke { tools }) => smoke::run(&cli.common, tools)?,
        Some(Command::Soak {
            packets,
            frame_len,
            tool,
        }) => soak::run(&cli.common, tool, *packets, *frame_len)?,
        Some(Command::Reading { ring, rounds }) => reading::run(&cli.common, ring, *rounds)?,
        Some(Command::Latency(options)) => latency::run(&cli.common, options)?,
        Some(Command::Profile { selection }) => profile::run(&cli.common, selection)?,
        None => plan::run(cli)?,
    }
    Ok(ExitCode::SUCCESS)
}
