//! Tables, as rows of words; and as text for the terminal.

use crate::job::Test;
use crate::results::{Cell, Results, Spread};

/// A table, whatever it is drawn with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

/// One table for each test, size and number of senders.
pub(crate) fn tables(results: &Results) -> Vec<Table> {
    results
        .groups()
        .into_iter()
        .map(|group| table(results, &group))
        .collect()
}

fn table(results: &Results, group: &[&Cell]) -> Table {
    let header = vec![
        "tool",
        "hook",
        "sent",
        "detected",
        "not detected",
        "written",
        "dropped",
        "lost %",
        "Mpps",
        "CPU ns",
        "user+sys",
        "machine ns",
        "MB memory",
        "MB disk",
        "claims lost",
    ];
    let mut notes = Vec::new();
    let rows = group
        .iter()
        .map(|cell| row(results, cell, &mut notes))
        .collect();
    let title = group.first().map_or_else(String::new, |cell| {
        let plural = if cell.senders == 1 { "" } else { "s" };
        format!(
            "{}: {} bytes, {} sender{plural}",
            heading(cell.test),
            cell.frame_len,
            cell.senders
        )
    });
    Table {
        title,
        header,
        rows,
        notes,
    }
}

fn heading(test: Test) -> &'static str {
    match test {
        Test::Capacity => "Capacity (the thesis's table 4.2)",
        Test::Counting => "Counting (the thesis's tables 4.3 and 4.4)",
        Test::Writing => "Writing the first 64 bytes (the thesis's tables 4.5 and 4.6)",
        Test::Whole => "Writing whole packets",
    }
}

fn row(results: &Results, cell: &Cell, notes: &mut Vec<String>) -> Vec<String> {
    let mut row = vec![cell.tool.clone(), cell.hook.short().to_owned()];
    if let Some(gap) = &cell.gap {
        notes.push(format!("GAP: {}: {gap}", cell.tool));
    }
    let Some(last) = cell.runs.last() else {
        row.push("GAP".to_owned());
        row.resize(15, String::new());
        return row;
    };
    let count =
        |spread: Option<Spread>| spread.map_or_else(|| "?".to_owned(), |it| digits_of(it.median));
    let some = |figure: Option<u64>| figure.map(|figure| figure as f64);
    let with_range = |spread: Option<Spread>, decimals: usize| {
        spread.map_or_else(|| "?".to_owned(), |it| range(it, decimals))
    };
    row.push(count(cell.spread(|run| run.sent as f64)));
    row.push(count(cell.spread(|run| run.detected as f64)));
    row.push(count(cell.spread(|run| run.not_detected() as f64)));
    row.push(count(cell.spread_some(|run| some(run.written))));
    row.push(count(cell.spread_some(|run| some(run.dropped()))));
    row.push(with_range(cell.spread_some(|run| run.lost_percent()), 2));
    row.push(with_range(cell.spread(|run| run.send_rate() / 1e6), 2));
    if cell.test == Test::Capacity {
        row.extend([String::new(), String::new()]);
    } else {
        row.push(with_range(cell.cpu_ns(), 0));
        let part = |spread: Option<Spread>| spread.map_or(0.0, |it| it.median);
        let user = part(cell.spread(|run| run.tool.user_ns / run.handled()));
        let system = part(cell.spread(|run| run.tool.system_ns / run.handled()));
        row.push(format!("{user:.0}+{system:.0}"));
    }
    row.push(with_range(results.busy_ns(cell), 0));
    if cell.test == Test::Capacity {
        row.push(String::new());
    } else {
        row.push(format!(
            "{}+{}",
            megabytes(last.memory.own),
            megabytes(last.memory.mapped)
        ));
    }
    row.push(if cell.test.writes() {
        megabytes(last.disk_bytes)
    } else {
        String::new()
    });
    row.push(
        last.false_claim()
            .map_or_else(String::new, |claim| format!("{} (!)", digits(claim))),
    );
    note_oddities(cell, notes);
    row
}

/// What the names of lwnflog's capturing threads begin with.
const CAPTURING: &str = "capture-";

/// What a reader of the table must know of a row.
fn note_oddities(cell: &Cell, notes: &mut Vec<String>) {
    let duplicates: u64 = cell.runs.iter().map(|run| run.duplicates).sum();
    let reordered: u64 = cell.runs.iter().map(|run| run.reordered).sum();
    if duplicates > 0 {
        notes.push(format!(
            "{}: {} packets are in its files twice",
            cell.tool,
            digits(duplicates)
        ));
    }
    if reordered > 0 {
        notes.push(format!(
            "{}: {} packets stand behind later ones",
            cell.tool,
            digits(reordered)
        ));
    }
    if cell.runs.iter().any(|run| run.written.is_none()) {
        notes.push(format!(
            "{}: it does not say how many packets it counted",
            cell.tool
        ));
    }
    if cell
        .runs
        .iter()
        .any(|run| run.tool.threads_ns(CAPTURING) > 0.0)
        && cell.test != Test::Capacity
    {
        let part = |prefix: &str| {
            let spread = cell.spread(|run| run.tool.threads_ns(prefix) / run.handled());
            spread.map_or_else(|| "?".to_owned(), |it| range(it, 0))
        };
        notes.push(format!(
            "{}: of the CPU, its capturing threads {} ns, its swapper threads {} ns",
            cell.tool,
            part(CAPTURING),
            part("swapper-")
        ));
    }
    let mut complaints: Vec<&String> = cell.runs.iter().flat_map(|run| &run.complaints).collect();
    complaints.sort();
    complaints.dedup();
    notes.extend(
        complaints
            .into_iter()
            .map(|complaint| format!("{}: {complaint}", cell.tool)),
    );
}

/// What the columns mean.
pub(crate) const LEGEND: &str = "\
sent: accepted by the sender's kernel; detected: counted at the tool's hook (the rule's counter, or the
interface's); not detected = sent - detected; written: in the files, by the reader pcap-parser (counting
test: by the tool's own count); dropped = detected - written; lost = (not detected + dropped) / sent. CPU:
the tool's processor time for each packet written, all of its threads and children. machine: busy time of
all processors for each packet written, beyond the capacity row's, which stands there in full. memory: own
+ mapped. claims lost: what the tool says where it is not so. Medians; [min-max] of all runs.";

/// All tables for a terminal.
pub(crate) fn text(results: &Results) -> String {
    let mut text = String::new();
    for table in tables(results) {
        text.push_str(&format!("\n{}\n", table.title));
        text.push_str(&aligned(&table));
        for note in &table.notes {
            text.push_str(&format!("  ! {note}\n"));
        }
    }
    format!("{text}\n{LEGEND}\n")
}

/// Columns as wide as they need to be: words to the left, numbers to the right.
pub(crate) fn aligned(table: &Table) -> String {
    let width = |column: usize| {
        let cells = table
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([table.header.get(column).map_or(0, |title| title.len())])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                if column < 2 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(table.header.clone());
    for row in &table.rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// 1234567 as 1,234,567.
pub(crate) fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn digits_of(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of packets"
    )]
    digits(number.max(0.0) as u64)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

/// `12.3 [11.9-12.8]`, without the range if there is none.
pub(crate) fn range(spread: Spread, decimals: usize) -> String {
    let number = |value: f64| format!("{value:.decimals$}");
    let (median, min, max) = (
        number(spread.median),
        number(spread.min),
        number(spread.max),
    );
    if min == max {
        median
    } else {
        format!("{median} [{min}-{max}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(digits(0), "0");
        assert_eq!(digits(999), "999");
        assert_eq!(digits(52_639_180), "52,639,180");
        let spread = Spread {
            median: 1.25,
            min: 1.0,
            max: 2.0,
        };
        assert_eq!(range(spread, 1), "1.2 [1.0-2.0]");
        assert_eq!(
            range(
                Spread {
                    median: 1.0,
                    min: 1.0,
                    max: 1.0
                },
                0
            ),
            "1"
        );
    }
}
