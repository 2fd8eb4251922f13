//! What a report says in words and tables, for a page as for a terminal.

use std::fmt::Write as _;

use super::flows::Scanned;
use super::tally::{SIZES, Tally, protocol, shown};
use super::{Amount, series};
use crate::numbers::grouped;

/// Rows of a table.
const ROWS: usize = 10;
/// So many connections that never went on are told first of all.
const UNANSWERED_MANY: u64 = 1000;

/// Shows a time, given in nanoseconds since 1970.
pub type Clock<'a> = &'a dyn Fn(u64) -> String;

/// A table: what stands over its columns, and its rows.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// What is not in it.
    pub(super) note: String,
}

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
            at_least(tally.sources.len(), tally.sources.beyond()),
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
            "{} packets were lost at {} places: rates there are too low.",
            grouped(tally.lost),
            grouped(tally.gaps)
        ));
    }
    for at in tally.flows.unanswered(3) {
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
    for scan in tally.flows.scans(3) {
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

fn row(name: String, amount: Amount, all: Amount) -> Vec<String> {
    #[expect(clippy::cast_precision_loss, reason = "a share has three digits")]
    let share = amount.packets as f64 * 100.0 / all.packets.max(1) as f64;
    vec![
        name,
        grouped(amount.packets),
        format!("{share:.1} %"),
        grouped(amount.bytes),
    ]
}

const HEAD: [&str; 3] = ["packets", "share", "bytes"];

fn amounts(
    title: &'static str,
    what: &'static str,
    rows: impl IntoIterator<Item = (String, Amount)>,
    all: Amount,
) -> Table {
    let rows = rows
        .into_iter()
        .map(|(name, amount)| row(name, amount, all));
    Table {
        title,
        head: [what].into_iter().chain(HEAD).collect(),
        rows: rows.collect(),
        note: String::new(),
    }
}

/// What did not find room in a table.
fn not_told_apart(beyond: Amount) -> String {
    match beyond.packets {
        0 => String::new(),
        packets => format!(
            "{} packets of others, which came when the table was full, are not told apart.",
            grouped(packets)
        ),
    }
}

/// All tables that have rows.
pub(super) fn tables(tally: &Tally) -> Vec<Table> {
    let all = tally.all;
    let mut by_size: Vec<_> = tally.protocols.iter().collect();
    by_size.sort_by_key(|(key, amount)| (std::cmp::Reverse(**amount), **key));
    let protocols = by_size.into_iter().map(|((version, number), amount)| {
        let version = if *version == 6 { " over IPv6" } else { "" };
        (format!("{}{version}", protocol(*number)), *amount)
    });
    let sources = tally.sources.top(ROWS);
    let mut sources = amounts(
        "Sources",
        "address",
        sources
            .into_iter()
            .map(|(host, amount)| (shown(host), amount)),
        all,
    );
    sources.note = not_told_apart(tally.sources.beyond());
    let destinations = tally.destinations.top(ROWS);
    let mut destinations = amounts(
        "Destinations",
        "address",
        destinations
            .into_iter()
            .map(|(host, amount)| (shown(host), amount)),
        all,
    );
    destinations.note = not_told_apart(tally.destinations.beyond());
    let ports = tally.ports.top(ROWS);
    let ports = ports
        .into_iter()
        .map(|((number, port), amount)| (format!("{} {port}", protocol(number)), amount));
    let mut tables = vec![
        amounts("Protocols", "protocol", protocols, all),
        sources,
        destinations,
        amounts("Destination ports", "port", ports, all),
        sizes(tally),
    ];
    let named = |table: &std::collections::BTreeMap<String, Amount>| {
        let mut rows: Vec<_> = table
            .iter()
            .map(|(name, amount)| (name.clone(), *amount))
            .collect();
        rows.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        rows.truncate(ROWS);
        rows
    };
    tables.push(amounts(
        "Interfaces",
        "interface",
        named(&tally.interfaces),
        all,
    ));
    tables.push(amounts(
        "Prefixes of rules",
        "prefix",
        named(&tally.prefixes),
        all,
    ));
    tables.push(unanswered(tally));
    tables.push(scans(tally));
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn sizes(tally: &Tally) -> Table {
    let mut least = 0;
    let rows = SIZES.iter().zip(tally.sizes).map(|(most, packets)| {
        let name = match *most {
            u32::MAX => format!("{least} and more"),
            most => format!("{least} to {most}"),
        };
        least = most.saturating_add(1);
        let mut row = row(name, Amount { packets, bytes: 0 }, tally.all);
        row.pop();
        row
    });
    Table {
        title: "Packet sizes",
        head: vec!["bytes", "packets", "share"],
        rows: rows.collect(),
        note: String::new(),
    }
}

fn unanswered(tally: &Tally) -> Table {
    let doors = tally.flows.unanswered(ROWS).into_iter();
    let rows = doors.map(|at| {
        vec![
            format!("{} port {}", shown(at.door.0), at.door.1),
            grouped(at.connections),
            grouped(at.sources),
        ]
    });
    let opened = tally.flows.opened();
    let mut note = format!(
        "Of {} connections whose SYN is there, {} never went beyond it and {} were refused.",
        grouped(opened.all),
        grouped(opened.nothing),
        grouped(opened.refused)
    );
    if opened.beyond != 0 {
        let _ = write!(
            note,
            " {} more SYNs came when the table was full.",
            grouped(opened.beyond)
        );
    }
    Table {
        title: "Connections that never went beyond their SYN",
        head: vec!["at", "connections", "sources"],
        rows: rows.collect(),
        note,
    }
}

fn scans(tally: &Tally) -> Table {
    let rows = tally.flows.scans(ROWS).into_iter().map(|scan| {
        let (what, of) = match scan.of {
            Scanned::PortsOf(host) => ("ports", shown(host)),
            Scanned::HostsWith(port) => ("hosts", format!("port {port}")),
        };
        let least = if scan.at_least { "at least " } else { "" };
        vec![
            shown(scan.source),
            format!("{least}{} {what}", grouped(scan.count as u64)),
            of,
        ]
    });
    Table {
        title: "Scans",
        head: vec!["source", "tried", "of or at"],
        rows: rows.collect(),
        note: "A source that opened connections to 50 or more ports of a host, or 50 or more hosts at a port. UDP counts \
               where the destination's port is the smaller one."
            .to_owned(),
    }
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
        "Lost is what the files say was lost before packets that are in them; what was lost behind the last one, and \
         where, is in the capture's report. A capture with --sample or --cutoff holds as much as it was let."
            .to_owned(),
    ];
    if tally.not_ip != 0 {
        about.push(format!(
            "{} packets are not IP, or cut before their addresses.",
            grouped(tally.not_ip)
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
        let _ = writeln!(out, "* {finding}");
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
    for table in tables(tally) {
        let _ = write!(out, "\n{}\n{}", table.title, aligned(&table));
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
    let lines: Vec<&Vec<String>> = [&head].into_iter().chain(&table.rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for line in &lines {
        out.push_str("  ");
        for (column, cell) in line.iter().enumerate() {
            let cell: String = cell.chars().map(printable).collect();
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

/// What a terminal would take for a command is not shown to it.
fn printable(character: char) -> char {
    if character.is_control() {
        '?'
    } else {
        character
    }
}
