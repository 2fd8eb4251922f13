//! The results as a Markdown document, with the thesis's figures beside.

use crate::job::Test;
use crate::results::{Cell, Results};
use crate::table::{LEGEND, Table, digits, tables};
use crate::thesis;

/// Everything, for a file in docs/bench.
pub(crate) fn document(results: &Results) -> String {
    let host = &results.host;
    let mut text = format!(
        "<!-- made by `{}` -->\n\n## Machine\n\n{}; lwnflog-bench {}. {} rounds, tools in turn.\n\n",
        results.command,
        host.line(),
        host.lwnflog_bench,
        results.rounds
    );
    text.push_str(&format!("{}\n", LEGEND.replace('\n', " ")));
    for table in tables(results) {
        text.push_str(&format!("\n## {}\n\n{}", table.title, pipe_table(&table)));
    }
    text.push_str(&then_and_now(results));
    text.push_str(&settings(results));
    text
}

pub(crate) fn pipe_table(table: &Table) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<&str> = (0..table.header.len())
        .map(|column| if column < 2 { "---" } else { "---:" })
        .collect();
    let mut text = line(&table.header) + &line(&rule);
    for row in &table.rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text.push_str(&line(&cells));
    }
    for note in &table.notes {
        text.push_str(&format!("\n* {note}"));
    }
    if !table.notes.is_empty() {
        text.push('\n');
    }
    text
}

/// The thesis's rows above today's.
fn then_and_now(results: &Results) -> String {
    let mut text =
        "\n## Then and now\n\nThe thesis sent 241,325 (64 bytes), 146,315 (256) and 66,982 \
                    (1500) packets a second from two Athlon PCs to a dual Opteron."
            .to_owned();
    text.push_str("\n\n| packets sent (thesis, table 4.1) | 64 bytes | 256 bytes | 1500 bytes |\n");
    text.push_str("| --- | ---: | ---: | ---: |\n");
    let sent = thesis::SENT.map(digits).join(" | ");
    text.push_str(&format!("| packets | {sent} |\n"));
    for (name, figures) in [
        ("Mb/s", thesis::MEGABITS_PER_SEC),
        ("packets/s", thesis::PACKETS_PER_SEC),
        ("seconds", thesis::SECONDS),
    ] {
        text.push_str(&format!("| {name} | {} |\n", figures.join(" | ")));
    }
    for (test, title) in [
        (Test::Capacity, "Lost on the way to the hook, %"),
        (Test::Counting, "Lost while counting, %"),
        (Test::Writing, "Lost while writing the first 64 bytes, %"),
    ] {
        let today = today(results, test);
        if today.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "\n| {title} | kernel | 64 bytes | 256 bytes | 1500 bytes |\n"
        ));
        text.push_str("| --- | --- | ---: | ---: | ---: |\n");
        for (tool, kernel, lost) in then(test) {
            text.push_str(&format!(
                "| thesis: {tool} | {kernel} | {} |\n",
                lost.join(" | ")
            ));
        }
        for (tool, lost) in today {
            let kernel = &results.host.kernel;
            text.push_str(&format!("| {tool} | {kernel} | {} |\n", lost.join(" | ")));
        }
    }
    text
}

/// Tool, kernel and percentages as in the thesis.
fn then(test: Test) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let percent = |(size, lost): (usize, u64)| format!("{:.3}", thesis::percent(lost, size));
    match test {
        Test::Capacity => ["2.4.24", "2.6.0"]
            .map(|kernel| ("NIC driver counter", kernel, vec!["0.000".to_owned(); 3]))
            .into(),
        Test::Counting => thesis::COUNTING
            .iter()
            .map(|row| {
                (
                    row.tool,
                    row.kernel,
                    row.lost.into_iter().enumerate().map(percent).collect(),
                )
            })
            .collect(),
        Test::Writing => thesis::WRITING
            .iter()
            .map(|row| {
                let lost = row.lost.iter().map(|(missed, dropped)| missed + dropped);
                (
                    row.tool,
                    row.kernel,
                    lost.enumerate().map(percent).collect(),
                )
            })
            .collect(),
        Test::Whole => Vec::new(),
    }
}

/// Tool and percentages with one sender, today.
fn today(results: &Results, test: Test) -> Vec<(String, Vec<String>)> {
    let mut tools: Vec<&Cell> = Vec::new();
    for cell in results
        .cells
        .iter()
        .filter(|cell| cell.test == test && cell.senders == 1)
    {
        if !tools.iter().any(|known| known.tool == cell.tool) {
            tools.push(cell);
        }
    }
    let lost = |tool: &str, size: usize| {
        let cell = results.cells.iter().find(|cell| {
            cell.test == test && cell.senders == 1 && cell.tool == tool && cell.frame_len == size
        });
        let spread = cell.and_then(|cell| cell.spread_some(|run| run.lost_percent()));
        spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.3}", spread.median))
    };
    tools
        .iter()
        .map(|cell| {
            let name = format!("{} ({})", cell.tool, cell.hook.name());
            (
                name,
                thesis::SIZES.map(|size| lost(&cell.tool, size)).into(),
            )
        })
        .collect()
}

fn settings(results: &Results) -> String {
    let mut text = "\n## Tools, settings and command lines\n".to_owned();
    for tool in &results.tools {
        text.push_str(&format!("\n**{}** ({})", tool.id, tool.hook.name()));
        if !tool.version.is_empty() {
            text.push_str(&format!(", {}", tool.version));
        }
        text.push_str(&format!(". {}\n", tool.settings));
        if let Some(missing) = &tool.missing {
            text.push_str(&format!("\nGAP: {missing}\n"));
        }
        let mut commands: Vec<&str> = results
            .cells
            .iter()
            .filter(|cell| cell.tool == tool.id && !cell.command.is_empty())
            .map(|cell| cell.command.as_str())
            .collect();
        commands.dedup();
        if !commands.is_empty() {
            text.push_str(&format!("\n```\n{}\n```\n", commands.join("\n")));
        }
    }
    text
}
