//! Every tool with a few packets: that the benchmark itself is right, not how fast anything is.

use crate::say::say;
use anyhow::{Result, bail};

use crate::cli::Common;
use crate::job::{Job, Test};
use crate::results::Run;
use crate::run::{Bench, WarmUp};
use crate::table::digits;
use crate::tools;

const PACKETS: u64 = 5_000;
/// Slow enough for every tool, so that what is missing is a mistake.
const RATE: u64 = 20_000;

pub(crate) fn run(common: &Common, names: &[String]) -> Result<()> {
    let common = Common {
        lwnflog: common.lwnflog.clone(),
        dir: common.dir.clone(),
        rate: Some(common.rate.unwrap_or(RATE)),
        verbose: common.verbose,
    };
    let bench = Bench::new(&common, None, WarmUp::None)?;
    let mut wrong = Vec::new();
    let mut ran = 0;
    for tool in tools::chosen(&common, names)? {
        if let Some(reason) = tools::missing(&*tool, bench.is_real_root) {
            say!("{:<17} GAP: {reason}", tool.id());
            continue;
        }
        let tests = [Test::Capacity, Test::Counting, Test::Writing];
        let able = |test: &Test| {
            let job = Job::new(*test, 64, 1, PACKETS);
            let is_capacity = *test == Test::Capacity;
            is_capacity == tool.program().is_none() && tool.refuses(&job).is_none()
        };
        for test in tests.into_iter().filter(able) {
            let outcome = bench.run(&*tool, &Job::new(test, 64, 1, PACKETS));
            bench.interrupt.check()?;
            ran += 1;
            let verdict = match &outcome {
                Ok(run) => verdict(run),
                Err(error) => Err(format!("{error:#}")),
            };
            match verdict {
                Ok(words) => say!("{:<17} {:<9} {words}", tool.id(), test.name()),
                Err(words) => {
                    say!("{:<17} {:<9} WRONG: {words}", tool.id(), test.name());
                    if !is_known_to_lose(tool.id()) {
                        wrong.push(format!("{} {}", tool.id(), test.name()));
                    }
                }
            }
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} of {ran} runs went wrong: {}",
            wrong.len(),
            wrong.join(", ")
        );
    }
    say!("{ran} runs as they should be");
    Ok(())
}

/// Those whose own bugs lose packets at any rate (FACTS: the tail of the last message, or all).
fn is_known_to_lose(tool: &str) -> bool {
    matches!(tool, "dumpcap-nflog")
}

fn verdict(run: &Run) -> std::result::Result<String, String> {
    let written = run.written.map_or_else(|| "?".to_owned(), digits);
    let words = format!(
        "sent {}, detected {}, written {written}",
        digits(run.sent),
        digits(run.detected)
    );
    let complete = run.sent == PACKETS
        && run.detected == run.sent
        && run.written.is_none_or(|written| written == run.sent)
        && run.duplicates + run.reordered == 0
        && run.complaints.is_empty();
    if complete {
        return Ok(words);
    }
    Err(format!(
        "{words}, {} twice, {} reordered {:?}",
        run.duplicates, run.reordered, run.complaints
    ))
}
