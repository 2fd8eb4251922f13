//! What a report says in words and tables, for a page as for a terminal.

use std::fmt::Write as _;

use super::flows::Scanned;
use super::tables::{Table, groups, left_out, percent, share};
use super::tally::{Tally, shown};
use super::{Amount, series};
use crate::numbers::grouped;
use crate::read::decode::link_name;
use crate::read::line::printable;

/// So many connections that never went on are told first of all.
const UNANSWERED_MANY: u64 = 1000;

/// Link types that are told one by one.
const LINKS_SHOWN: usize = 8;

/// Shows a time, given in nanoseconds since 1970.
pub type Clock<'a> = &'a dyn Fn(u64) -> String;

/// The figures that stand first.
pub(super) fn figures(tally: &Tally, clock: Clock<'_>) -> Vec<(&'static str, String)> {
    if tally.all.packets == 0 {
        return vec![("packets", "0".to_owned())];
    }
    let elapsed = tally.elapsed_secs();
    let mut figures = vec![
        ("packets", grouped(tally.all.packets)),
        ("bytes", grouped(tally.all.bytes)),
        ("from", clock(tally.first_ns)),
        ("to", clock(tally.last_ns)),
        ("lasting", lasting(elapsed)),
        ("lost, as the files say", grouped(tally.lost)),
        (
            "sources",
            at_least(tally.hosts.sources(), tally.hosts.sent_beyond()),
        ),
    ];
    if elapsed > 0.0 {
        #[expect(clippy::cast_precision_loss, reason = "a rate has fewer digits")]
        let rate = tally.all.packets as f64 / elapsed;
        figures.insert(2, ("packets a second", format!("{rate:.1}")));
    }
    figures
}

fn lasting(secs: f64) -> String {
    match secs {
        ..120.0 => format!("{secs:.3} s"),
        120.0..7200.0 => format!("{:.1} min", secs / 60.0),
        _ => format!("{:.1} h", secs / 3600.0),
    }
}

fn at_least(count: usize, beyond: Amount) -> String {
    let more = if beyond.packets == 0 { "" } else { "at least " };
    format!("{more}{}", grouped(count as u64))
}

/// What one should know before one looks further; the gravest first.
pub(super) fn findings(tally: &Tally) -> Vec<String> {
    let mut findings = Vec::new();
    if tally.lost != 0 {
        findings.push(format!(
            "{} packets were lost, {} of all, in {} gap{}: rates there are too low.",
            grouped(tally.lost),
            percent(share(
                tally.lost,
                tally.lost.saturating_add(tally.all.packets)
            )),
            grouped(tally.gaps),
            if tally.gaps == 1 { "" } else { "s" }
        ));
    }
    for place in left_out(tally) {
        findings.push(format!(
            "{place}: figures are of what was captured there, not of all that passed."
        ));
    }
    if !tally.notes.is_empty() {
        findings.push(
            "The capture was changed meanwhile: what was, and when, is told below.".to_owned(),
        );
    }
    for at in tally.unanswered(3) {
        if at.connections >= UNANSWERED_MANY {
            findings.push(format!(
                "{} connections to {} port {}, from {} sources, never went beyond their SYN: a SYN flood, a scan, or a \
                 capture that sees nothing but their beginning.",
                grouped(at.connections),
                shown(at.door.0),
                at.door.1,
                grouped(at.sources)
            ));
        }
    }
    for scan in tally.scans(3) {
        let least = if scan.at_least { "at least " } else { "" };
        let what = match scan.of {
            Scanned::PortsOf(host) => format!("ports of {}", shown(host)),
            Scanned::HostsWith(port) => format!("hosts at port {port}"),
        };
        findings.push(format!(
            "{} tried {least}{} {what}.",
            shown(scan.source),
            grouped(scan.count as u64)
        ));
    }
    let (first, later) = tally.fragments;
    if later > 100 && later * 20 > tally.all.packets {
        findings.push(format!(
            "{} packets are later parts of others, and {} the first parts.",
            grouped(later),
            grouped(first)
        ));
    }
    if findings.is_empty() && tally.all.packets != 0 {
        findings.push("Nothing stands out.".to_owned());
    }
    findings
}

/// What limits what is said.
pub(super) fn about(tally: &Tally) -> Vec<String> {
    let mut about = vec![
        format!(
            "{} of {} packets are there in part: sizes are those that they had, and {} bytes of them were captured.",
            grouped(tally.cut),
            grouped(tally.all.packets),
            grouped(tally.captured_bytes)
        ),
        "Lost is what the files say was lost before packets that are in this report: with a filter, losses before packets \
         that it does not take are not in it. What was lost behind the last packet is in the capture's own report. Classic \
         pcap has no place for losses: such a file counts as one without."
            .to_owned(),
    ];
    let tries = tally.flows.tries_beyond();
    if tries != 0 {
        about.push(format!(
            "{} packets that opened connections found no room in the table of scans.",
            grouped(tries)
        ));
    }
    let not_drawn = tally.series.not_drawn();
    if not_drawn != 0 {
        about.push(format!(
            "{} packets have times that are years after the first: they are in the tables, and in no chart.",
            grouped(not_drawn)
        ));
    }
    if tally.not_ip != 0 {
        about.push(format!(
            "{} packets are not IP, or cut before their addresses.",
            grouped(tally.not_ip)
        ));
    }
    for (link, packets) in tally.unknown.iter().take(LINKS_SHOWN) {
        about.push(format!(
            "{} packets are of link type {}, which is not looked into.",
            grouped(*packets),
            link_name(*link)
        ));
    }
    let more: u64 = tally.unknown.values().skip(LINKS_SHOWN).sum();
    if more != 0 {
        about.push(format!(
            "{} packets are of still others, which are not looked into.",
            grouped(more)
        ));
    }
    about
}

/// The report for a terminal.
pub fn text(title: &str, tally: &Tally, clock: Clock<'_>) -> String {
    let mut out = format!("{title}\n\n");
    for (name, value) in figures(tally, clock) {
        let _ = writeln!(out, "{name:>22}  {value}");
    }
    out.push('\n');
    for finding in findings(tally) {
        let _ = writeln!(out, "* {}", printable(&finding));
    }
    let (_, columns) = tally.series.columns();
    if columns.len() > 1 {
        let _ = writeln!(
            out,
            "\npackets, each character {} s\n{}",
            tally.series.column_secs() * per_character(&columns),
            spark(&columns)
        );
    }
    for table in groups(tally, clock).iter().flat_map(|group| &group.tables) {
        let _ = write!(out, "\n{}\n{}", table.title, aligned(table));
        if !table.note.is_empty() {
            let _ = writeln!(out, "  {}", table.note);
        }
    }
    out.push('\n');
    for line in about(tally) {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Characters of a line of history.
const SPARK_MAX: usize = 76;

fn merged(columns: &[series::Column]) -> usize {
    columns.len().div_ceil(SPARK_MAX)
}

#[expect(clippy::cast_precision_loss, reason = "at most a few")]
fn per_character(columns: &[series::Column]) -> f64 {
    merged(columns) as f64
}

/// A line of blocks, as high as there are packets.
fn spark(columns: &[series::Column]) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let sums = columns.chunks(merged(columns));
    let sums: Vec<u64> = sums
        .map(|chunk| chunk.iter().map(|column| column.packets).sum())
        .collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let block = |sum: u64| {
        let eighths = usize::try_from(u128::from(sum) * 8 / u128::from(most)).unwrap_or(8);
        BLOCKS[eighths.max(usize::from(sum != 0)).min(8)]
    };
    sums.into_iter().map(block).collect()
}

/// Columns one beside the other: the first to the left, numbers to the right.
fn aligned(table: &Table) -> String {
    let head: Vec<String> = table.head.iter().map(|word| (*word).to_owned()).collect();
    let rows = table.rows.iter().map(|row| &row.cells);
    let lines: Vec<&Vec<String>> = [&head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for line in &lines {
        out.push_str("  ");
        for (column, cell) in line.iter().enumerate() {
            let cell = printable(cell);
            let width = width(column);
            let _ = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    out
}
