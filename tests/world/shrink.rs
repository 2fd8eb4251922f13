//! The shortest script that still fails, and how often it does.

use std::fs;
use std::time::{Duration, Instant};

use crate::steps::Step;
use crate::world::Failure;
use crate::{Options, run_inside};

/// Whether a script fails in the same way.
fn fails(options: &Options, steps: &[Step], kind: &str) -> bool {
    let dir = tempfile::Builder::new()
        .prefix("lwnflog-world-")
        .tempdir()
        .unwrap();
    let script = dir.path().join("script");
    let lines: Vec<String> = steps.iter().map(Step::line).collect();
    fs::write(&script, lines.join("\n")).unwrap();
    let options = Options {
        replay: Some(script),
        steps: u64::MAX,
        secs: 0,
        ..options.clone()
    };
    run_inside(dir.path(), &options).is_some_and(|failure| failure.kind == kind)
}

/// Prints how often it fails, and the shortest script that was found.
pub fn explain(options: &Options, failure: &Failure, script: &str) {
    let steps: Vec<Step> = script
        .lines()
        .filter_map(|line| Step::parse(line).ok())
        .collect();
    let again = (0..options.repeat)
        .filter(|_| fails(options, &steps, &failure.kind))
        .count();
    println!(
        "world: played again, {again} of {} fail the same way",
        options.repeat
    );
    if options.shrink_secs == 0 {
        return;
    }
    // One that fails now and then is tried that often.
    let tries = if again as u64 == options.repeat { 1 } else { 3 };
    let until = Instant::now() + Duration::from_secs(options.shrink_secs);
    let same = |steps: &[Step]| {
        Instant::now() < until && (0..tries).any(|_| fails(options, steps, &failure.kind))
    };
    let short = shrunk(steps, &same);
    println!(
        "world: the shortest script found, {} steps (`--replay FILE`):",
        short.len()
    );
    for step in &short {
        println!("{}", step.line());
    }
    let again = (0..options.repeat)
        .filter(|_| fails(options, &short, &failure.kind))
        .count();
    println!("world: {again} of {} fail the same way", options.repeat);
}

/// Leaves out pieces, large ones first, then makes single steps simpler.
pub fn shrunk(mut steps: Vec<Step>, fails: &dyn Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut piece = steps.len().div_ceil(2).max(1);
    loop {
        let mut at = steps.len();
        let before = steps.len();
        // From the end: what comes after the cause is the first to go.
        while at > 0 {
            let from = at.saturating_sub(piece);
            let mut fewer = steps.clone();
            fewer.drain(from..at);
            if !fewer.is_empty() && fails(&fewer) {
                steps = fewer;
            }
            at = from;
        }
        if piece == 1 && steps.len() == before {
            break;
        }
        piece = (piece / 2).max(1);
    }
    for at in 0..steps.len() {
        for simple in steps[at].simpler() {
            let mut other = steps.clone();
            other[at] = simple;
            if fails(&other) {
                steps = other;
            }
        }
    }
    steps
}
