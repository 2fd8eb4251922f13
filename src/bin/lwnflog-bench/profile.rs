//! What a packet's journey costs, stage by stage, as differences between runs that add one stage
//! each.

use crate::say::{self, say, tell};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::child::Said;
use crate::cli::{Common, Selection};
use crate::job::{Job, Test};
use crate::results::{Run, Spread};
use crate::rules::{self, GROUP};
use crate::run::{Bench, WarmUp};
use crate::table::{Table, aligned, digits};
use crate::tools::{self, Claim, Contender, Hook, Invocation, Ready, Site};

/// A rule that logs to a group nobody listens to, or the null reader with a copy length of its own.
enum Stage {
    NoListener,
    Null { copy: usize },
}

impl Contender for Stage {
    fn id(&self) -> &'static str {
        match self {
            Self::NoListener => "no listener",
            Self::Null { .. } => "null reader",
        }
    }

    fn hook(&self) -> Hook {
        Hook::Prerouting
    }

    fn settings(&self) -> &'static str {
        ""
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        match self {
            Self::NoListener => None,
            Self::Null { .. } => std::env::current_exe()
                .ok()
                .map(|path| (path, "lwnflog-bench")),
        }
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        rules::lwnflog(&[GROUP])
    }

    fn invocation(&self, _site: &Site<'_>) -> Result<Option<Invocation>> {
        Ok(match self {
            Self::NoListener => None,
            Self::Null { copy } => Some(tools::null_reader(GROUP, *copy)?),
        })
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        match self {
            Self::NoListener => Ready::Now,
            Self::Null { .. } => Ready::Groups(1),
        }
    }

    fn delay(&self) -> std::time::Duration {
        std::time::Duration::from_millis(150)
    }

    fn claim(&self, said: &Said) -> Claim {
        tools::null_claim(said)
    }
}

/// One stage's medians, in nanoseconds a packet.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// The whole machine.
    machine: f64,
    /// The process that reads.
    process: f64,
    /// Its capturing threads.
    capture: f64,
    /// Its swapper threads.
    swapper: f64,
    /// Packets that were not read, in percent.
    lost: f64,
}

pub(crate) fn run(common: &Common, selection: &Selection) -> Result<()> {
    let bench = Bench::new(common, None, WarmUp::Turn)?;
    let frame_len = selection.sizes.first().copied().unwrap_or(64);
    let packets = selection.packets.unwrap_or(2_000_000);
    let rounds = selection.rounds.unwrap_or(5);
    let all = tools::all(common);
    let find = |id: &str| {
        all.iter()
            .find(|tool| tool.id() == id)
            .context("a tool is missing")
    };
    let (capacity, lwnflog) = (find(tools::CAPACITY)?, find("lwnflog")?);
    let hook = find("lwnflog-hook")?;
    let counting = Job::new(Test::Counting, frame_len, 1, packets);
    let capacity_job = Job::new(Test::Capacity, frame_len, 1, packets);
    let writing = Job::new(Test::Writing, frame_len, 1, packets);
    let (no_listener, meta, copy) = (
        Stage::NoListener,
        Stage::Null { copy: 0 },
        Stage::Null {
            copy: counting.ip_snap_len(),
        },
    );
    let mut stages: Vec<(&str, &dyn Contender, Job)> = vec![
        ("capacity", &**capacity, capacity_job),
        ("no listener", &no_listener, counting),
        ("null reader, no payload", &meta, counting),
        ("null reader", &copy, counting),
    ];
    match tools::missing(&**lwnflog, bench.is_real_root) {
        Some(reason) => say!("GAP: no stages of lwnflog itself: {reason}"),
        None => stages.extend([
            ("lwnflog --discard", &**lwnflog, counting),
            ("lwnflog writing", &**lwnflog, writing),
        ]),
    }
    match tools::missing(&**hook, bench.is_real_root) {
        Some(reason) => say!("GAP: no stages of the hook: {reason}"),
        None => stages.extend([
            ("lwnflog --hook --discard", &**hook, counting),
            ("lwnflog --hook writing", &**hook, writing),
        ]),
    }
    say!("{}", bench.host().line());
    say!(
        "{} packets of {frame_len} bytes, one sender, {rounds} rounds",
        digits(packets)
    );

    let mut runs: Vec<Vec<Run>> = stages.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for ((name, tool, job), runs) in stages.iter().zip(&mut runs) {
            tell!("  {round}/{rounds} {name}");
            runs.push(
                bench
                    .run(*tool, job)
                    .with_context(|| format!("{name} cannot be measured"))?,
            );
        }
    }
    let costs: Vec<Cost> = runs.iter().map(|runs| cost(runs)).collect();
    say::result(format_args!("{}", aligned(&measured(&stages, &costs))));
    say!("");
    let group: Vec<Cost> = costs.iter().take(6).copied().collect();
    say::result(format_args!("{}", aligned(&breakdown(&group))));
    if let [.., discard, writing] = costs[..]
        && stages.len() >= 6
        && hook_is_last(&stages)
    {
        say!("");
        say::result(format_args!(
            "{}",
            aligned(&hook_breakdown(costs[0], discard, writing))
        ));
    }
    say!(
        "\nEach line is a difference between the runs above, so that the noise of both is in it; what is\n\
         below zero is noise. The hook's share is soft interrupt time on the sender's processor."
    );
    Ok(())
}

fn cost(runs: &[Run]) -> Cost {
    let median = |figure: &dyn Fn(&Run) -> f64| {
        Spread::of(runs.iter().map(figure)).map_or(0.0, |spread| spread.median)
    };
    // By packets detected: every stage has seen those, whether they were read or not.
    let per = |run: &Run| run.detected.max(1) as f64;
    Cost {
        machine: median(&|run| run.busy_ns / per(run)),
        process: median(&|run| run.tool.total_ns() / per(run)),
        capture: median(&|run| run.tool.threads_ns("capture") / per(run)),
        swapper: median(&|run| run.tool.threads_ns("swapper") / per(run)),
        lost: median(&|run| run.lost_percent().unwrap_or(0.0)),
    }
}

fn measured(stages: &[(&str, &dyn Contender, Job)], costs: &[Cost]) -> Table {
    let rows = stages.iter().zip(costs).map(|((name, ..), cost)| {
        let figures = [cost.machine, cost.process, cost.capture, cost.swapper];
        let mut row = vec![(*name).to_owned(), String::new()];
        row.extend(figures.iter().map(|figure| format!("{figure:.0}")));
        row.push(format!("{:.2}", cost.lost));
        row
    });
    Table {
        title: String::new(),
        header: vec![
            "run, ns a packet",
            "",
            "machine",
            "process",
            "capture",
            "swapper",
            "lost %",
        ],
        rows: rows.collect(),
        notes: Vec::new(),
    }
}

fn hook_is_last(stages: &[(&str, &dyn Contender, Job)]) -> bool {
    stages
        .last()
        .is_some_and(|(_, tool, _)| tool.hook() == Hook::Program)
}

/// The same of the program at the hook: it has no message, no receive call and no wake-up.
fn hook_breakdown(capacity: Cost, discard: Cost, writing: Cost) -> Table {
    let kernel = |cost: Cost| cost.machine - cost.process;
    stages_of(vec![
        ("sending, cable, stack, rule that drops", capacity.machine),
        (
            "the program at the hook, copying included",
            kernel(discard) - capacity.machine,
        ),
        ("looks at the rings, account (--discard)", discard.process),
        (
            "encode into the ring of files (writing less --discard)",
            writing.capture - discard.capture,
        ),
        ("page preparation (swapper thread)", writing.swapper),
        (
            "writeback and the rest of the kernel",
            kernel(writing) - kernel(discard),
        ),
    ])
}

/// What each stage adds, and what all of it is a share of.
fn breakdown(costs: &[Cost]) -> Table {
    let at = |index: usize| costs.get(index).copied().unwrap_or_default();
    let kernel = |cost: Cost| cost.machine - cost.process;
    let [capacity, no_listener, meta, null, discard, writing] = [0, 1, 2, 3, 4, 5].map(at);
    let mut lines = vec![
        ("sending, cable, stack, rule that drops", capacity.machine),
        (
            "log statement without a listener",
            no_listener.machine - capacity.machine,
        ),
        (
            "hook: building the message",
            kernel(meta) - no_listener.machine,
        ),
        ("hook: copying the payload", kernel(null) - kernel(meta)),
        ("receive call (null reader)", null.process),
    ];
    if costs.len() > 4 {
        lines.extend([
            (
                "walk and account (--discard less null)",
                discard.capture - null.process,
            ),
            (
                "encode into the ring (writing less --discard)",
                writing.capture - discard.capture,
            ),
            ("page preparation (swapper thread)", writing.swapper),
            (
                "other threads of lwnflog",
                writing.process - writing.capture - writing.swapper,
            ),
            (
                "writeback and the rest of the kernel",
                kernel(writing) - kernel(discard),
            ),
        ]);
    }
    stages_of(lines)
}

fn stages_of(lines: Vec<(&str, f64)>) -> Table {
    let total = lines.iter().map(|(_, cost)| cost).sum::<f64>().max(1.0);
    let row = |(name, cost): (&str, f64)| {
        vec![
            name.to_owned(),
            String::new(),
            format!("{cost:.0}"),
            format!("{:.0}", 100.0 * cost / total),
        ]
    };
    let mut rows: Vec<Vec<String>> = lines.into_iter().map(row).collect();
    rows.push(row(("all", total)));
    Table {
        title: String::new(),
        header: vec!["stage", "", "ns a packet", "%"],
        rows,
        notes: Vec::new(),
    }
}
