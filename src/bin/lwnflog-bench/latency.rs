//! What capturing adds to the way of a forwarded packet.
//!
//! ```text
//!   probe ── tx ════ rx ── router: rule, tool ── out ════ in ── echo
//!     ^                                                          │
//!     └─────────────────────── not captured <────────────────────┘
//! ```
//!
//! Set-ups take turns within each round, and each round begins with another one. Each run has
//! namespaces of its own.

mod probe;
mod route;

use std::thread;

use anyhow::{Context, Result, bail};
use lwnflog::lab::{Progress, Traffic};
use serde::{Deserialize, Serialize};

use crate::cli::{Common, Latency};
use crate::host::Host;
use crate::job::{Job, Ring, Test};
use crate::output::{write, write_json};
use crate::results::Spread;
use crate::run::{Bench, WarmUp};
use crate::say::{self, say, tell};
use crate::table::{Table, aligned, digits, range};
use crate::tools::{self, CAPACITY, Contender, Hook};
use crate::{markdown, rules};
use probe::{Plan, Times};
use route::Route;

/// Those compared: no capture, a group, the hook, a queue, and another tool's queue.
const TOOLS: [&str; 5] = [
    CAPACITY,
    "lwnflog",
    "lwnflog-hook",
    "lwnflog-nfqueue",
    "tcpdump-nfqueue",
];
const PROBES_PER_SECOND: u64 = 1_000;
const FRAME_BYTES: usize = 64;
const WARM_UP_PROBES: u64 = 100;
/// Small, so that the disk does not disturb.
const RING: Ring = Ring {
    files: 4,
    megabytes_per_file: 20,
};

const LEGEND: &str = "\
Round trip of a datagram of 64 bytes from a sender through a router to an echo and back, on one clock: the
wake-ups of echo and probe are in it. The router's rule hands what comes from the sender to the tool: each
probe is captured once. Medians of the rounds, [min-max] of the rounds; min and max: of all probes. added: to
the set-up without a capture, in the same round. captured: by the tool's own account, of all that was sent.";

/// One turn of a set-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Turn {
    times: Times,
    /// Packets that went by the rule: probes, those of the warm-up, the load.
    sent: u64,
    /// What the tool says of them; unknown without one.
    captured: Option<u64>,
}

/// All turns of one set-up.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SetUp {
    tool: String,
    hook: Hook,
    command: String,
    /// By round.
    turns: Vec<Turn>,
    /// Why there are none, or no more.
    gap: Option<String>,
}

/// Everything that was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Results {
    host: Host,
    command: String,
    probes_per_second: u64,
    load_per_second: Option<u64>,
    /// Whether the tool has processors of its own.
    apart: bool,
    set_ups: Vec<SetUp>,
}

pub(crate) fn run(common: &Common, options: &Latency) -> Result<()> {
    let probes_per_second = common.rate.unwrap_or(PROBES_PER_SECOND);
    if !(1..=100_000).contains(&probes_per_second) {
        bail!("--rate {probes_per_second}: from 1 to 100000 probes a second are possible");
    }
    let bench = Bench::new(common, None, WarmUp::None)?;
    let mut job = Job::new(Test::Writing, FRAME_BYTES, 1, options.probes);
    job.ring = RING;
    let all = tools::all(common);
    let chosen: Vec<_> = TOOLS
        .iter()
        .filter_map(|id| all.iter().find(|tool| tool.id() == *id))
        .collect();
    let mut results = Results {
        host: bench.host(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        probes_per_second,
        load_per_second: options.load,
        apart: options.apart,
        set_ups: Vec::new(),
    };
    tell!("{}", results.host.line());
    for tool in &chosen {
        let set_up = set_up(&***tool, &bench, &job);
        if let Some(reason) = &set_up.gap {
            tell!("GAP: no row for {}: {reason}", set_up.tool);
        }
        results.set_ups.push(set_up);
    }
    let mut went_wrong = Vec::new();
    'rounds: for round in 0..options.rounds {
        for place in 0..chosen.len() {
            let place = (place + usize::try_from(round).unwrap_or(0)) % chosen.len();
            let (tool, set_up) = (&**chosen[place], &mut results.set_ups[place]);
            if set_up.gap.is_some() {
                continue;
            }
            say::progress(format_args!(
                "  {}/{} {:<17}",
                round + 1,
                options.rounds,
                set_up.tool
            ));
            match turn(&bench, tool, &job, probes_per_second, options) {
                Ok(turn) => {
                    let times = turn.times;
                    tell!("{:.1} µs, 99 %: {:.1} µs", times.median_us, times.p99_us);
                    set_up.turns.push(turn);
                }
                Err(_) if bench.interrupt.happened() => {
                    tell!("interrupted: what has been measured follows");
                    break 'rounds;
                }
                Err(error) => {
                    tell!("GAP: {error:#}");
                    set_up.gap = Some(format!("{error:#}"));
                    went_wrong.push(set_up.tool.clone());
                }
            }
        }
    }
    let table = table(&results);
    say!("\n{}\n{}", table.title, aligned(&table).trim_end());
    for note in &table.notes {
        say!("  ! {note}");
    }
    say!("\n{LEGEND}");
    write_outputs(&results, &table, options)?;
    bench.interrupt.check()?;
    if !went_wrong.is_empty() {
        bail!("could not be measured: {}", went_wrong.join(", "));
    }
    Ok(())
}

fn set_up(tool: &dyn Contender, bench: &Bench, job: &Job) -> SetUp {
    SetUp {
        tool: match tool.hook() {
            Hook::None => "no capture".to_owned(),
            _ => tool.id().to_owned(),
        },
        hook: tool.hook(),
        command: bench.command_line(tool, job),
        turns: Vec::new(),
        gap: tools::missing(tool, bench.is_real_root),
    }
}

/// A fresh route, the tool on it, and all probes.
fn turn(
    bench: &Bench,
    tool: &dyn Contender,
    job: &Job,
    probes_per_second: u64,
    options: &Latency,
) -> Result<Turn> {
    let site = bench.site(job, &format!("latency-{}", tool.id()))?;
    let route = Route::new()?;
    let router = route.lab.receiver();
    rules::load(router, &rules::drop_behind(route.router_address()))?;
    match tool.hook() {
        Hook::Prerouting => rules::load(router, &rules::log_and_pass())?,
        Hook::Queue => {
            rules::load(router, &rules::count_and_pass())?;
            bench.prepare(&route.lab, tool, &site)?;
        }
        _ => {}
    }
    let (probe_cores, mut tool_cores) = bench.share_cores(1);
    let first_core = *probe_cores.first().context("there is no processor")?;
    if !options.apart {
        tool_cores.extend(probe_cores);
    }
    let child = bench.start(&route.lab, tool, &site, &tool_cores)?;
    let plan = Plan {
        probes: job.packets,
        probes_per_second,
        warm_up: WARM_UP_PROBES,
        core: options.apart.then_some(first_core),
    };
    let (times, load_sent) = under_load(&route, options.load, first_core, || {
        probe::round(&route, plan, &bench.interrupt)
    })?;
    let sent = plan.probes + plan.warm_up + load_sent;
    let captured = match child {
        None => None,
        Some(mut child) => {
            bench.interrupt.sleep(tool.delay())?;
            let status = child.stop(&bench.interrupt)?;
            let captured = tool.claim(&child.said()).captured.with_context(|| {
                format!(
                    "it ({status}) does not say what it captured: {}",
                    child.said().tail()
                )
            })?;
            // With a load packets may pass a full queue. Without one, the way that was measured is
            // not the one of captured packets.
            if options.load.is_none() && captured + times.lost < sent {
                bail!("it captured {captured} of {sent} packets");
            }
            Some(captured)
        }
    };
    site.remove_captures()?;
    Ok(Turn {
        times,
        sent,
        captured,
    })
}

/// Does `work` while other packets come to the router. Says how many.
fn under_load<T>(
    route: &Route,
    load: Option<u64>,
    core: usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let Some(load) = load else {
        return Ok((work()?, 0));
    };
    let traffic = Traffic::new(FRAME_BYTES, u64::MAX).rate(Some(load));
    let progress = Progress::default();
    thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send_from(&route.lab, &[core], &progress));
        let done = work();
        progress.stop();
        let sent = sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((done?, sent.packets))
    })
}

fn table(results: &Results) -> Table {
    let load = results.load_per_second.map_or_else(
        || "no other traffic".to_owned(),
        |load| format!("{} other packets a second", digits(load)),
    );
    let title = format!(
        "Round trip through a router: {} probes a second, {load}, processors {}",
        digits(results.probes_per_second),
        if results.apart { "apart" } else { "shared" }
    );
    let base = results
        .set_ups
        .iter()
        .find(|set_up| set_up.hook == Hook::None)
        .map_or(&[][..], |set_up| &set_up.turns);
    let gaps = results.set_ups.iter();
    let gaps = gaps.filter_map(|it| Some(format!("GAP: {}: {}", it.tool, it.gap.as_ref()?)));
    Table {
        title,
        header: vec![
            "set-up",
            "hook",
            "rounds",
            "probes",
            "lost",
            "median µs",
            "99 % µs",
            "min µs",
            "max µs",
            "added, median µs",
            "added, 99 % µs",
            "captured %",
        ],
        rows: results.set_ups.iter().map(|it| row(it, base)).collect(),
        notes: gaps.collect(),
    }
}

fn row(set_up: &SetUp, base: &[Turn]) -> Vec<String> {
    let turns = &set_up.turns;
    let mut row = vec![set_up.tool.clone(), set_up.hook.short().to_owned()];
    if turns.is_empty() {
        row.push("GAP".to_owned());
        row.resize(12, String::new());
        return row;
    }
    let sum = |figure: fn(&Turn) -> u64| turns.iter().map(figure).sum::<u64>();
    let spread = |values: Vec<f64>| Spread::of(values);
    let shown = |spread: Option<Spread>| spread.map_or_else(String::new, |it| range(it, 1));
    let all =
        |figure: fn(&Times) -> f64| spread(turns.iter().map(|it| figure(&it.times)).collect());
    // Turns of one place in both lists are of one round.
    let added = |figure: fn(&Times) -> f64| {
        let pairs = turns.iter().zip(base);
        let added = pairs.map(|(it, base)| figure(&it.times) - figure(&base.times));
        spread(added.collect()).filter(|_| set_up.hook != Hook::None)
    };
    let extreme =
        |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
    row.push(turns.len().to_string());
    row.push(digits(sum(|it| it.times.probes)));
    row.push(digits(sum(|it| it.times.lost)));
    row.push(shown(all(|it| it.median_us)));
    row.push(shown(all(|it| it.p99_us)));
    row.push(extreme(all(|it| it.min_us).map(|it| it.min)));
    row.push(extreme(all(|it| it.max_us).map(|it| it.max)));
    row.push(shown(added(|it| it.median_us)));
    row.push(shown(added(|it| it.p99_us)));
    let percent = |it: &Turn| Some(100.0 * it.captured? as f64 / it.sent as f64);
    row.push(shown(spread(turns.iter().filter_map(percent).collect())));
    row
}

fn write_outputs(results: &Results, table: &Table, options: &Latency) -> Result<()> {
    if let Some(path) = &options.json {
        write_json(path, results)?;
    }
    if let Some(path) = &options.markdown {
        let mut text = format!("<!-- made by `{}` -->\n\n", results.command);
        text.push_str(&format!("{}\n\n", results.host.line()));
        text.push_str(&format!("{}\n\n", LEGEND.replace('\n', " ")));
        text.push_str(&format!(
            "## {}\n\n{}",
            table.title,
            markdown::pipe_table(table)
        ));
        write(path, &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_up(hook: Hook, medians: &[f64], captured: Option<u64>) -> SetUp {
        let turn = |median_us: &f64| Turn {
            times: Times {
                probes: 100,
                lost: 1,
                min_us: median_us - 5.0,
                median_us: *median_us,
                p99_us: median_us * 2.0,
                max_us: median_us * 3.0,
            },
            sent: 200,
            captured,
        };
        SetUp {
            tool: "x".to_owned(),
            hook,
            command: String::new(),
            turns: medians.iter().map(turn).collect(),
            gap: None,
        }
    }

    #[test]
    fn rounds_are_compared_with_their_own() {
        let base = set_up(Hook::None, &[20.0, 100.0, 30.0], None);
        let queue = set_up(Hook::Queue, &[31.0, 109.0, 40.0], Some(199));
        let row = row(&queue, &base.turns);
        assert_eq!(
            row[2..],
            [
                "3",
                "300",
                "3",
                "40.0 [31.0-109.0]",
                "80.0 [62.0-218.0]",
                "26.0",
                "327.0",
                "10.0 [9.0-11.0]",
                "20.0 [18.0-22.0]",
                "99.5"
            ]
        );
        assert_eq!(super::row(&base, &base.turns)[9..], ["", "", ""]);
        assert_eq!(super::row(&set_up(Hook::Queue, &[], None), &[])[2], "GAP");
    }
}
