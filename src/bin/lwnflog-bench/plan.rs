//! The comparison: which cells there are, and their runs in turn.

use crate::say::{self, tell};
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cli::{Cli, Output, Selection};
use crate::job::{Job, Test};
use crate::output::{write, write_json};
use crate::results::{Cell, Results, Run, ToolInfo};
use crate::run::{Bench, WarmUp};
use crate::tools::{self, Contender};
use crate::{host, markdown, plot, table};

/// Sizes of the thesis.
const SIZES: [usize; 3] = [64, 256, 1500];

/// How much to measure.
struct Extent {
    rounds: u64,
    /// Packets for each size, shrunk on machines that are slow to send.
    packets: fn(usize) -> u64,
    /// How long sending should take at most.
    seconds: f64,
    /// Size of the files of every tool's ring: the thesis's, or small ones, which are gone round
    /// soon.
    megabytes_per_file: u64,
    is_full: bool,
}

impl Extent {
    const QUICK: Self = Self {
        rounds: 1,
        packets: |_| 1_000_000,
        seconds: 1.2,
        megabytes_per_file: 50,
        is_full: false,
    };
    const FULL: Self = Self {
        rounds: 5,
        packets: |len| match len {
            0..=128 => 3_000_000,
            129..=512 => 2_000_000,
            _ => 1_500_000,
        },
        seconds: 0.8,
        megabytes_per_file: 200,
        is_full: true,
    };
}

/// The jobs that were asked for, in the order of the thesis.
fn jobs(selection: &Selection, extent: &Extent, rate: f64) -> Vec<Job> {
    let packets = |len| {
        let affordable = (rate * extent.seconds / 100_000.0).ceil() * 100_000.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few million"
        )]
        let affordable = affordable.max(100_000.0) as u64;
        selection
            .packets
            .unwrap_or_else(|| (extent.packets)(len).min(affordable))
    };
    // Test, sizes, senders: what the thesis measured first, then what it did not.
    let grid: &[(Test, &[usize], &[usize])] = if extent.is_full {
        &[
            (Test::Capacity, &SIZES, &[1]),
            (Test::Capacity, &[64], &[2]),
            (Test::Counting, &SIZES, &[1]),
            (Test::Writing, &SIZES, &[1]),
            (Test::Writing, &[64], &[2]),
            (Test::Whole, &[1500], &[1]),
        ]
    } else {
        &[(Test::Capacity, &[64], &[1]), (Test::Writing, &[64], &[1])]
    };
    let mut jobs = Vec::new();
    let mut add = |test, size, senders| {
        let job =
            Job::new(test, size, senders, packets(size)).with_files_of(extent.megabytes_per_file);
        if !jobs.contains(&job) {
            jobs.push(job);
        }
    };
    if selection.tests.is_empty() && selection.sizes.is_empty() && selection.senders.is_empty() {
        for &(test, sizes, senders) in grid {
            for &size in sizes {
                senders.iter().for_each(|&senders| add(test, size, senders));
            }
        }
        return jobs;
    }
    // A selection is a full product of its lists; a list that is not given has the grid's first.
    let or = |chosen: &[usize], default: usize| match chosen {
        [] => vec![default],
        chosen => chosen.to_vec(),
    };
    let mut tests = selection.tests.clone();
    if tests.is_empty() {
        tests.push(Test::Writing);
    }
    if !tests.contains(&Test::Capacity) {
        tests.insert(0, Test::Capacity); // what the others' busy time is compared with
    }
    let only_whole = tests
        .iter()
        .all(|test| matches!(test, Test::Whole | Test::Capacity));
    for &test in &tests {
        for size in or(
            &selection.sizes,
            if only_whole && tests.len() > 1 {
                1500
            } else {
                64
            },
        ) {
            for senders in or(&selection.senders, 1) {
                add(test, size, senders);
            }
        }
    }
    jobs
}

fn check(selection: &Selection) -> Result<()> {
    let range = lwnflog::lab::MIN_FRAME_LEN..=1514;
    if let Some(size) = selection.sizes.iter().find(|size| !range.contains(size)) {
        bail!(
            "--sizes {size}: frames have from {} to {} bytes",
            range.start(),
            range.end()
        );
    }
    if let Some(senders) = selection
        .senders
        .iter()
        .find(|senders| !(1..=64).contains(*senders))
    {
        bail!("--senders {senders}: from 1 to 64 are possible");
    }
    if selection.replay.is_some() && selection.senders.iter().any(|&senders| senders > 1) {
        bail!("--replay has one sender");
    }
    Ok(())
}

/// Runs the comparison.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let selection = &cli.selection;
    check(selection)?;
    let mut extent = if selection.full {
        Extent::FULL
    } else {
        Extent::QUICK
    };
    extent.rounds = selection.rounds.unwrap_or(extent.rounds);
    let bench = Bench::new(&cli.common, selection.replay.as_deref(), WarmUp::Turn)?;
    let tools = tools::chosen(&cli.common, &selection.tools)?;
    let started = Instant::now();

    let calibration = Job::new(Test::Capacity, 64, 1, 200_000);
    let capacity = tools.first().context("the capacity row is missing")?;
    let rate = bench
        .run(&**capacity, &calibration)
        .context("cannot measure capacity")?
        .send_rate();
    let jobs = jobs(selection, &extent, rate);
    let are_chosen = !selection.tools.is_empty();

    let mut results = Results {
        host: bench.host(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        rounds: extent.rounds,
        tools: tools.iter().map(|tool| info(&**tool, &bench)).collect(),
        cells: Vec::new(),
    };
    tell!("{}", results.host.line());
    tell!(
        "one sender reaches {:.2} Mpps here when nothing captures",
        rate / 1e6
    );
    if results.host.file_system == "tmpfs" {
        tell!("WARNING: captures go to memory, not to a disk: choose another --dir");
    }
    for info in &results.tools {
        if let Some(reason) = &info.missing {
            tell!("GAP: no row for {}: {reason}", info.id);
        }
    }
    for job in &jobs {
        let outcome = measure(&bench, &tools, are_chosen, job, &mut results);
        if bench.interrupt.happened() {
            tell!("interrupted: what has been measured follows");
            break;
        }
        outcome?;
    }
    tell!("measured in {:.0} s", started.elapsed().as_secs_f64());
    say::result(format_args!("{}", table::text(&results)));
    write_outputs(&results, &cli.output)?;
    bench.interrupt.check()
}

/// All rounds of one job: A B C, A B C, ...
fn measure(
    bench: &Bench,
    tools: &[Box<dyn Contender>],
    are_chosen: bool,
    job: &Job,
    results: &mut Results,
) -> Result<()> {
    let rounds = results.rounds;
    let first = results.cells.len();
    let mut running = Vec::new();
    for tool in tools {
        let skipped = match job.test {
            Test::Capacity => tool.program().map(|_| "not a capacity row"),
            _ => tool.refuses(job),
        };
        if skipped.is_some() || (!are_chosen && job.senders < tool.senders_min()) {
            continue;
        }
        let gap = tools::missing(&**tool, bench.is_real_root);
        results.cells.push(Cell {
            test: job.test,
            frame_len: job.frame_len,
            senders: job.senders,
            packets: job.packets,
            tool: tool.id().to_owned(),
            hook: tool.hook(),
            command: bench.command_line(&**tool, job),
            runs: Vec::new(),
            gap,
        });
        running.push(tool);
    }
    tell!("\n{}, {} packets", job.title(), table::digits(job.packets));
    for round in 1..=rounds {
        for (tool, index) in running.iter().zip(first..) {
            let Some(cell) = results
                .cells
                .get_mut(index)
                .filter(|cell| cell.gap.is_none())
            else {
                continue;
            };
            bench.interrupt.check()?;
            say::progress(format_args!("  {round}/{rounds} {:<17}", tool.id()));
            match bench.run(&***tool, job) {
                Ok(run) => {
                    tell!("{}", progress(&run));
                    cell.runs.push(run);
                }
                Err(error) if bench.interrupt.happened() => return Err(error),
                Err(error) => {
                    tell!("GAP: {error:#}");
                    cell.gap = Some(format!("{error:#}"));
                }
            }
        }
    }
    Ok(())
}

fn progress(run: &Run) -> String {
    let lost = run
        .lost_percent()
        .map_or_else(|| "?".to_owned(), |lost| format!("{lost:.2}"));
    let mut line = format!(
        "{:.2} Mpps, {lost} % lost, {:.0} ns a packet",
        run.send_rate() / 1e6,
        run.tool.total_ns() / run.handled()
    );
    for complaint in &run.complaints {
        line.push_str(&format!("; {complaint}"));
    }
    line
}

fn info(tool: &dyn Contender, bench: &Bench) -> ToolInfo {
    let version = tool
        .program()
        .and_then(|(program, _)| tools::find(&program));
    let version = version.map(|path| host::version(&path, tool.version_flag()));
    ToolInfo {
        id: tool.id().to_owned(),
        hook: tool.hook(),
        version: version.unwrap_or_default(),
        settings: tool.settings().to_owned(),
        missing: tools::missing(tool, bench.is_real_root),
    }
}

/// Makes tables and plots from an earlier run.
pub(crate) fn render(path: &Path, output: &Output) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what --json wrote", path.display()))?;
    say::result(format_args!("{}", table::text(&results)));
    write_outputs(&results, output)
}

fn write_outputs(results: &Results, output: &Output) -> Result<()> {
    if let Some(path) = &output.json {
        write_json(path, results)?;
    }
    if let Some(path) = &output.markdown {
        write(path, &markdown::document(results))?;
    }
    if let Some(dir) = &output.plot {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (name, svg) in plot::all(results) {
            write(&dir.join(name), &svg)?;
        }
    }
    Ok(())
}
