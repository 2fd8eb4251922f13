//! The tables of a report, for a page as for a terminal.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::Amount;
use super::flows::Scanned;
use super::hosts::Host;
use super::tally::{SIZES, Tally, protocol, shown};
use super::text::Clock;
use crate::numbers::grouped;

/// Rows of a table.
const ROWS: usize = 10;

/// A table: what stands over its columns, and its rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    /// What is not in it.
    pub(super) note: String,
}

/// A row, and what it is of the whole, between 0 and 1, where that makes sense.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) share: Option<f64>,
}

/// Tables that belong together, under one heading.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) tables: Vec<Table>,
}

/// All tables that have rows, in groups, which are always the same.
pub(super) fn groups(tally: &Tally, clock: Clock<'_>) -> Vec<Group> {
    let mut groups = vec![
        Group {
            title: "Connections, scans, fragments",
            tables: vec![unanswered(tally), scans(tally), fragments(tally)],
        },
        Group {
            title: "Who and what",
            tables: vec![
                protocols(tally),
                ports(tally),
                hosts(
                    "Sources",
                    tally.hosts.top_sources(ROWS),
                    tally.hosts.sent_beyond(),
                    tally.all,
                ),
                hosts(
                    "Destinations",
                    tally.hosts.top_destinations(ROWS),
                    tally.hosts.received_beyond(),
                    tally.all,
                ),
                sizes(tally),
                prefixes(tally),
            ],
        },
        Group {
            title: "How it was captured",
            tables: vec![places(tally), notes(tally, clock)],
        },
    ];
    for group in &mut groups {
        group.tables.retain(|table| !table.rows.is_empty());
    }
    groups
}

/// A part of a whole, between 0 and 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share has three digits")]
    let share = part as f64 / whole.max(1) as f64;
    share
}

/// A share as it is written.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn row(name: String, packets: u64, all: u64, more: impl IntoIterator<Item = String>) -> Row {
    let share = share(packets, all);
    let cells = [name, grouped(packets), percent(share)];
    Row {
        cells: cells.into_iter().chain(more).collect(),
        share: Some(share),
    }
}

fn amounts(
    title: &'static str,
    what: &'static str,
    rows: impl IntoIterator<Item = (String, Amount)>,
    all: Amount,
) -> Table {
    let rows = rows
        .into_iter()
        .map(|(name, amount)| row(name, amount.packets, all.packets, [grouped(amount.bytes)]));
    Table {
        title,
        head: vec![what, "packets", "share", "bytes"],
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

fn protocols(tally: &Tally) -> Table {
    let mut by_packets: Vec<_> = tally.protocols.iter().collect();
    by_packets.sort_by_key(|(key, amount)| (Reverse(**amount), **key));
    let rows = by_packets.into_iter().map(|((version, number), amount)| {
        let version = if *version == 6 { " over IPv6" } else { "" };
        (format!("{}{version}", protocol(*number)), *amount)
    });
    amounts("Protocols", "protocol", rows, tally.all)
}

fn hosts(title: &'static str, top: Vec<(Host, Amount)>, beyond: Amount, all: Amount) -> Table {
    let rows = top.into_iter().map(|(host, amount)| (shown(host), amount));
    Table {
        note: not_told_apart(beyond),
        ..amounts(title, "address", rows, all)
    }
}

fn ports(tally: &Tally) -> Table {
    let top = tally.ports.top(ROWS).into_iter();
    let rows = top.map(|((number, port), amount)| (format!("{} {port}", protocol(number)), amount));
    Table {
        note: not_told_apart(tally.ports.beyond()),
        ..amounts("Destination ports", "port", rows, tally.all)
    }
}

fn sizes(tally: &Tally) -> Table {
    let mut least = 0;
    let rows = SIZES.iter().zip(tally.sizes).map(|(most, packets)| {
        let name = match *most {
            u32::MAX => format!("{least} and more"),
            most => format!("{least} to {most}"),
        };
        least = most.saturating_add(1);
        row(name, packets, tally.all.packets, [])
    });
    Table {
        title: "Packet sizes",
        head: vec!["bytes", "packets", "share"],
        rows: rows.collect(),
        note: "As they were, with what the file has of the link layer.".to_owned(),
    }
}

fn prefixes(tally: &Tally) -> Table {
    let mut rows: Vec<_> = tally.prefixes.iter().collect();
    rows.sort_by_key(|(name, amount)| (Reverse(**amount), *name));
    let rows = rows.into_iter().take(ROWS);
    let rows = rows.map(|(name, amount)| (name.clone(), *amount));
    amounts("Prefixes of rules", "prefix", rows, tally.all)
}

fn places(tally: &Tally) -> Table {
    let described = tally.places.iter();
    let mut places: Vec<_> = described
        .flat_map(|(description, by_name)| {
            by_name
                .iter()
                .map(move |(name, at)| (description, name, at))
        })
        .collect();
    places.sort_by_key(|(description, name, at)| (Reverse(at.amount), *description, *name));
    let more = places.len().saturating_sub(2 * ROWS);
    places.truncate(2 * ROWS);
    let rows = places.into_iter().map(|(description, name, at)| {
        let said = [&**description, &**name];
        let said: Vec<_> = said.into_iter().filter(|said| !said.is_empty()).collect();
        let name = if said.is_empty() {
            "(the file does not say)".to_owned()
        } else {
            said.join(", ")
        };
        let snaplen = match at.snaplen_bytes {
            0 => "all".to_owned(),
            bytes => grouped(bytes.into()),
        };
        let lost = [grouped(at.lost), grouped(at.gaps), snaplen];
        row(name, at.amount.packets, tally.all.packets, lost)
    });
    let mut note =
        "Snap length: bytes of a packet that were kept at the most, as the file says.".to_owned();
    if more != 0 {
        let _ = write!(note, " {more} more places with fewer packets.");
    }
    Table {
        title: "Places, and what was lost there",
        head: vec!["at", "packets", "share", "lost", "gaps", "snap length"],
        rows: rows.collect(),
        note,
    }
}

fn notes(tally: &Tally, clock: Clock<'_>) -> Table {
    let rows = tally.notes.iter().map(|(time_ns, note)| Row {
        cells: vec![
            note.strip_prefix("lwnflog ").unwrap_or(note).to_owned(),
            clock(*time_ns),
        ],
        share: None,
    });
    let note = match tally.notes_beyond {
        0 => String::new(),
        more => format!("{} more changes are not shown.", grouped(more)),
    };
    Table {
        title: "What was changed meanwhile",
        head: vec!["change", "before the packet of"],
        rows: rows.collect(),
        note,
    }
}

fn unanswered(tally: &Tally) -> Table {
    let doors = tally.unanswered(ROWS).into_iter();
    let opened = tally.flows.opened();
    let rows = doors.map(|at| Row {
        cells: vec![
            format!("{} port {}", shown(at.door.0), at.door.1),
            grouped(at.connections),
            grouped(at.sources),
        ],
        share: Some(share(at.connections, opened.nothing)),
    });
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
    let rows = tally.scans(ROWS).into_iter().map(|scan| {
        let (what, of) = match scan.of {
            Scanned::PortsOf(host) => ("ports", shown(host)),
            Scanned::HostsWith(port) => ("hosts", format!("port {port}")),
        };
        let least = if scan.at_least { "at least " } else { "" };
        Row {
            cells: vec![
                shown(scan.source),
                format!("{least}{} {what}", grouped(scan.count as u64)),
                of,
            ],
            share: None,
        }
    });
    Table {
        title: "Scans",
        head: vec!["source", "tried", "of or at"],
        rows: rows.collect(),
        note: "A source that came to 50 or more ports of a host, or 50 or more hosts at a port, and at each of them no \
               connection went on: it was not answered, refused, or ended by the source at once. UDP counts where the \
               destination's port is the smaller one and nothing came back. What the capture has no part of is not known: \
               of SYNs alone, and of UDP in one direction, all is in vain."
            .to_owned(),
    }
}

fn fragments(tally: &Tally) -> Table {
    let (first, later) = tally.fragments;
    let mut table = Table {
        title: "Fragments",
        head: vec!["part", "packets", "share"],
        ..Table::default()
    };
    if first + later != 0 {
        let all = tally.all.packets;
        table.rows = vec![
            row("first parts".to_owned(), first, all, []),
            row("later parts".to_owned(), later, all, []),
        ];
        table.note =
            "Later parts have no ports: they are in no table of ports or connections.".to_owned();
    }
    table
}

/// Places at which not all was captured, as lwnflog's files say it.
pub(super) fn left_out(tally: &Tally) -> impl Iterator<Item = &String> {
    tally.places.keys().filter(|place| {
        place.starts_with("Netfilter hook ")
            && (place.contains(", 1 packet of ") || place.contains(", the first "))
    })
}
