//! The thesis's last test: a billion packets, and nothing that grows.

use crate::say::{self, say};
use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lwnflog::lab::{Lab, Progress, Traffic};

use crate::child::Tool;
use crate::cli::Common;
use crate::count::{self, Counter, files_since};
use crate::job::{Job, Test};
use crate::measure::{Memory, ToolTime, wait_for_idle};
use crate::results::Spread;
use crate::run::{Bench, WarmUp};
use crate::table::digits;
use crate::tools::{self, Contender};
use crate::{rules, workdir};

const STEPS: u64 = 100;
/// How often the sender is looked at: the exactness of the steps.
const POLL: Duration = Duration::from_millis(10);

/// What one hundredth cost.
#[derive(Debug, Clone, Copy)]
struct Step {
    packets: u64,
    cpu_ns: f64,
    memory: Memory,
}

impl Step {
    fn ns_per_packet(&self) -> f64 {
        self.cpu_ns / self.packets.max(1) as f64
    }
}

pub(crate) fn run(common: &Common, name: &str, packets: u64, frame_len: usize) -> Result<()> {
    let bench = Bench::new(common, None, WarmUp::None)?;
    let tool = lwnflog(common, name)?;
    if let Some(reason) = tools::missing(&*tool, bench.is_real_root) {
        bail!("{reason}");
    }
    let job = Job::new(Test::Writing, frame_len, 1, packets);
    let site = bench.site(&job, "soak")?;
    let lab = Lab::new()?;
    rules::load(lab.receiver(), &tool.rules(&site)?)?;
    let (sender_cores, tool_cores) = bench.share_cores(1);
    let started_at = std::time::SystemTime::now();
    let mut child = bench
        .start(&lab, &*tool, &site, &tool_cores)?
        .context("lwnflog cannot be started")?;

    say!(
        "{} packets of {frame_len} bytes to `{}`",
        digits(packets),
        bench.command_line(&*tool, &job)
    );
    let traffic = Traffic::new(frame_len, packets).rate(common.rate);
    let progress = Progress::default();
    let started = Instant::now();
    let (sent, steps) = thread::scope(|scope| -> Result<_> {
        let sender = scope.spawn(|| traffic.send_from(&lab, &sender_cores, &progress));
        let steps = watch(&bench, &mut child, &progress, packets, || {
            sender.is_finished()
        });
        progress.stop();
        let sent = sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((sent, steps?))
    })?;
    bench.interrupt.sleep(tool.delay())?;
    wait_for_idle(child.pid(), &bench.interrupt)?;
    let detected = rules::detected(lab.receiver())?;
    let status = child.stop(&bench.interrupt)?;
    let said = child.said();

    say!(
        "\nsent        {:>15} in {:.0} s, {:.2} Mpps",
        digits(sent.packets),
        started.elapsed().as_secs_f64(),
        sent.rate() / 1e6
    );
    say!("detected    {:>15}", digits(detected));
    let report = tools::lwnflog_report(&said)
        .with_context(|| format!("lwnflog ({status}) left no report: {}", said.tail()))?;
    let figure = |name: &str| tools::lwnflog_sum(&report[name]).unwrap_or(0);
    for name in ["received", "written", "dropped", "skipped", "stalls"] {
        say!(
            "{name:<11} {:>15}  (by lwnflog's account)",
            digits(figure(name))
        );
    }
    let lost = sent.packets.saturating_sub(figure("written"));
    say!(
        "lost        {:>15}  {:.6} %",
        digits(lost),
        100.0 * lost as f64 / sent.packets.max(1) as f64
    );
    say!("the thesis: turbo-tcpdump lost 389,069 of 1,052,783,600 (0.037 %)");
    summarize(&steps);

    let mut counters = [Counter::new(0, 1)];
    for file in files_since(&site.dir, started_at) {
        count::read(&file, &mut counters);
    }
    let [found] = counters.map(Counter::finish);
    say!(
        "the ring holds {} of them in {} MB: {} twice, {} out of order, {} complaints of another reader",
        digits(found.written),
        workdir::disk_usage(&site.dir) / 1_000_000,
        found.duplicates,
        found.reordered,
        found.errors.len()
    );
    if detected != figure("written") + figure("dropped") + figure("skipped") {
        bail!("the account does not hold: detected is not written + dropped + skipped");
    }
    Ok(())
}

fn lwnflog(common: &Common, name: &str) -> Result<Box<dyn Contender>> {
    tools::all(common)
        .into_iter()
        .find(|tool| tool.id() == name && name.starts_with("lwnflog"))
        .with_context(|| format!("no tool of lwnflog's is called {name}"))
}

/// Takes the tool's time and memory at each hundredth.
fn watch(
    bench: &Bench,
    child: &mut Tool,
    progress: &Progress,
    packets: u64,
    is_finished: impl Fn() -> bool,
) -> Result<Vec<Step>> {
    let pid = child.pid();
    let is_terminal = std::io::stdout().is_terminal();
    let mut steps: Vec<Step> = Vec::new();
    let (mut sent_before, mut time_before) = (0, ToolTime::of(pid));
    let mut next = 1;
    loop {
        let finished = is_finished();
        let sent = progress.sent();
        if sent >= packets / STEPS * next || (finished && sent > sent_before) {
            let time = ToolTime::of(pid);
            let step = Step {
                packets: sent - sent_before,
                cpu_ns: time.since(&time_before).total_ns(),
                memory: Memory::of(pid),
            };
            (sent_before, time_before) = (sent, time);
            next = sent / (packets / STEPS).max(1) + 1;
            steps.push(step);
            show(is_terminal, sent, packets, &step);
        }
        if finished {
            return Ok(steps);
        }
        if let Some(status) = child.ended()? {
            bail!(
                "lwnflog ended by itself ({status}): {}",
                child.said().tail()
            );
        }
        bench.interrupt.sleep(POLL)?;
    }
}

fn show(is_terminal: bool, sent: u64, packets: u64, step: &Step) {
    let done = usize::try_from(sent * 40 / packets.max(1))
        .unwrap_or(40)
        .min(40);
    let line = format!(
        "[{}{}] {:>13}  {:.1} ns a packet, {:.1} MB own + {:.0} MB mapped",
        "#".repeat(done),
        ".".repeat(40 - done),
        digits(sent),
        step.ns_per_packet(),
        step.memory.own as f64 / 1e6,
        step.memory.mapped as f64 / 1e6
    );
    if is_terminal {
        say::result(format_args!("\r{line}"));
        // A progress bar that cannot be shown is no reason to stop.
        let _ = std::io::stdout().flush();
    } else {
        say!("{line}");
    }
}

/// The first tenth against the last: what grows shows.
fn summarize(steps: &[Step]) {
    let tenth = (steps.len() / 10).max(1);
    let median = |part: &[Step], figure: fn(&Step) -> f64| {
        Spread::of(part.iter().map(figure)).map_or(0.0, |spread| spread.median)
    };
    let (Some(first), Some(last)) = (steps.get(..tenth), steps.get(steps.len() - tenth..)) else {
        return;
    };
    type Figure = fn(&Step) -> f64;
    let figures: [(&str, Figure); 3] = [
        ("CPU a packet, ns", Step::ns_per_packet),
        ("own memory, MB", |step| step.memory.own as f64 / 1e6),
        ("mapped memory, MB", |step| step.memory.mapped as f64 / 1e6),
    ];
    say!("median of    the first tenth   the last tenth   change");
    for (name, figure) in figures {
        let (before, after) = (median(first, figure), median(last, figure));
        let change = if before > 0.0 {
            100.0 * (after - before) / before
        } else {
            0.0
        };
        say!("{name:<18} {before:>10.1} {after:>16.1} {change:>+7.1} %");
    }
    let all = Spread::of(steps.iter().map(Step::ns_per_packet));
    if let Some(all) = all {
        say!(
            "all hundredths     {:.1} to {:.1} ns a packet, median {:.1}",
            all.min,
            all.max,
            all.median
        );
    }
}
