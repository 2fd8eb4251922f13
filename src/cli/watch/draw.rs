//! The screen. It is drawn for 80 columns and 24 lines, and takes what there is.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

use super::sight::{Sight, State};
use crate::numbers::grouped;

pub(super) fn draw(sight: &Sight, frame: &mut Frame<'_>) {
    if frame.area().height < LINES || frame.area().width < COLUMNS {
        return draw_small(sight, frame);
    }
    let [head, rates, middle, fill, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(4),
        Constraint::Length(12),
        Constraint::Length(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title(sight), head);
    draw_rates(sight, frame, rates);
    let [account, ring] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(middle);
    draw_account(sight, frame, account);
    draw_settings(sight, frame, ring);
    draw_fill(sight, frame, fill);
    frame.render_widget(
        Paragraph::new("q: leave   `lwnflog ctl --help`: change what is captured"),
        foot,
    );
}

/// What the boxes need.
const LINES: u16 = 21;
const COLUMNS: u16 = 66;

/// On a terminal without room for boxes: the figures alone, as many as there are lines, the most
/// telling first.
fn draw_small(sight: &Sight, frame: &mut Frame<'_>) {
    let [head, rows] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(frame.area());
    frame.render_widget(title(sight), head);
    let figure = |name: &str| sight.known(&format!("/stats/{name}"));
    let alarm = match sight.new_drops {
        0 => Style::new(),
        _ => Style::new().add_modifier(Modifier::REVERSED),
    };
    let figures = vec![
        row("packets/s", Some(sight.rate())),
        row("dropped", Some(sight.dropped())).style(alarm),
        row("detected", figure("detected")),
        row("written", figure("written")),
        row("skipped", figure("skipped")),
        row("bytes/s written", Some(sight.bytes_rate)),
        row("files begun", figure("files_begun")),
        row("packets a batch", Some(sight.batch_fill)),
    ];
    frame.render_widget(Table::new(figures, COLUMNS_OF_A_ROW), rows);
}

fn title(sight: &Sight) -> Paragraph<'static> {
    let state = match (sight.state, sight.last["paused"].as_bool()) {
        (State::Ended, _) => "  ENDED",
        (State::Silent, _) => "  DOES NOT ANSWER",
        (State::Runs, Some(true)) => "  PAUSED",
        _ => "",
    };
    let since =
        humantime::format_duration(std::time::Duration::from_secs(sight.elapsed().as_secs()));
    let text = format!("lwnflog {}, running for {since}{state}", sight.name);
    Paragraph::new(Line::styled(
        text,
        Style::new().add_modifier(Modifier::BOLD),
    ))
}

fn draw_rates(sight: &Sight, frame: &mut Frame<'_>, area: Rect) {
    let title = format!(
        " {} packets/s, {} bytes/s written ",
        grouped(sight.rate()),
        grouped(sight.bytes_rate)
    );
    let block = Block::bordered().title(title);
    let columns = usize::from(block.inner(area).width);
    let shown = sight.rates.len().min(columns);
    let newest: Vec<u64> = sight
        .rates
        .iter()
        .skip(sight.rates.len() - shown)
        .copied()
        .collect();
    frame.render_widget(Sparkline::default().block(block).data(&newest), area);
}

/// Columns of a row's name.
const NAME_COLUMNS: u16 = 18;
const COLUMNS_OF_A_ROW: [Constraint; 2] = [Constraint::Length(NAME_COLUMNS), Constraint::Min(8)];

/// A row: a name, and its figure or that it is not known.
fn row(name: &'static str, value: Option<u64>) -> Row<'static> {
    let text = value.map_or("unknown".to_owned(), grouped);
    Row::new([Cell::new(name), Cell::new(Line::raw(text).right_aligned())])
}

fn figures(rows: Vec<Row<'static>>, title: String) -> Table<'static> {
    Table::new(rows, COLUMNS_OF_A_ROW).block(Block::bordered().title(title))
}

fn draw_account(sight: &Sight, frame: &mut Frame<'_>, area: Rect) {
    let figure = |name: &str| sight.known(&format!("/stats/{name}"));
    let mut rows = vec![
        row("detected", figure("detected")),
        row("written", figure("written")),
        row("skipped", figure("skipped")),
    ];
    if let Some(left) = sight
        .last
        .pointer("/stats/left_out")
        .and_then(Value::as_object)
    {
        rows.push(row(
            "left out",
            Some(left.values().filter_map(Value::as_u64).sum()),
        ));
    }
    let mut lost = vec![
        row("dropped: overrun", figure("dropped/overrun")),
        row("  allocation", figure("dropped/allocation")),
        row("  writer", figure("dropped/writer")),
    ];
    if sight.last.pointer("/stats/dropped/queue").is_some() {
        lost.push(row("  queue", figure("dropped/queue")));
    }
    // Seldom, and room is short.
    let seldom = |name: &str| figure(name).filter(|packets| *packets != 0);
    for (shown, name) in [("  no ring", "no_ring"), ("  nested", "nested")] {
        let packets = seldom(&format!("dropped/{name}"));
        lost.extend(packets.map(|packets| row(shown, Some(packets))));
    }
    let alarm = match sight.new_drops {
        0 => Style::new(),
        _ => Style::new().add_modifier(Modifier::REVERSED),
    };
    rows.extend(lost.into_iter().map(|row| row.style(alarm)));
    rows.push(row("stalls", figure("stalls")));
    for name in ["taken", "unread"] {
        rows.extend(seldom(name).map(|packets| row(name, Some(packets))));
    }
    frame.render_widget(figures(rows, " account ".to_owned()), area);
}

fn draw_settings(sight: &Sight, frame: &mut Frame<'_>, area: Rect) {
    let setting = |name: &str| sight.last.pointer(&format!("/settings/{name}"));
    let number = |name: &str| setting(name).and_then(Value::as_u64);
    let begun = sight.known("/stats/files_begun");
    let (files, rings) = (number("files"), sight.number("/rings").max(1));
    let place = match (begun, files) {
        (Some(begun), Some(files)) if files != 0 && rings == 1 && begun != 0 => {
            format!("file {} of {files}", (begun - 1) % files + 1)
        }
        (Some(begun), Some(_)) => format!("{} files", grouped(begun)),
        _ => "nothing is written".to_owned(),
    };
    let interfaces = setting("interfaces").and_then(Value::as_array);
    let names: Vec<_> = interfaces
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let text = |name: &'static str, text: String| {
        Row::new([Cell::new(name), Cell::new(Line::raw(text).right_aligned())])
    };
    // Beside the name, the space behind it and the frame.
    let room = usize::from(area.width.saturating_sub(NAME_COLUMNS + 3));
    let rows = vec![
        text("place in the ring", place),
        row("files begun", begun),
        row("bytes in files", sight.known("/stats/bytes")),
        row("bytes of a file", number("file_bytes")),
        row("snaplen", number("snaplen")),
        text(
            "interfaces",
            if names.is_empty() {
                "as the rule says".to_owned()
            } else {
                beginning(&names.join(","), room)
            },
        ),
        text(
            "match",
            beginning(
                setting("match").and_then(Value::as_str).unwrap_or("-"),
                room,
            ),
        ),
        row("buffer", sight.known("/granted_buffer_bytes")),
    ];
    frame.render_widget(figures(rows, " ring ".to_owned()), area);
}

/// As much of a text as there is room for, and that there is more.
fn beginning(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let shown: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{shown}\u{2026}")
}

/// How full a batch comes: the kernel waits for it to fill, and a batch of few is what costs.
fn draw_fill(sight: &Sight, frame: &mut Frame<'_>, area: Rect) {
    let most = sight.number("/settings/batch").max(1);
    let percent = (sight.batch_fill.saturating_mul(100) / most).min(100);
    let gauge = Gauge::default()
        .block(Block::bordered().title(" fill of a batch "))
        .percent(u16::try_from(percent).unwrap_or(100))
        .label(format!(
            "{} of {} packets",
            grouped(sight.batch_fill),
            grouped(most)
        ));
    frame.render_widget(gauge, area);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn screen(columns: u16, lines: u16) -> String {
        let mut sight = Sight::new("g5");
        let begun = Instant::now();
        for second in 0..30_u64 {
            let answer = json!({
                "ok": true, "elapsed_secs": second as f64, "paused": false, "rings": 1,
                "granted_buffer_bytes": 67_108_864,
                "settings": {"files": 8, "file_bytes": 200_000_000, "snaplen": 128, "batch": 1024,
                    "interfaces": [], "match": "ip saddr { 198.18.0.1, 198.18.0.2 } udp dport { 1000-2000 }"},
                "stats": {"detected": second * second * 1000, "received": second * second * 1000,
                    "written": second * second * 1000, "skipped": 3, "bytes": second * second * 90_000,
                    "batches": second * second, "files_begun": 11, "stalls": 0,
                    "taken": 4_321, "unread": 0,
                    "dropped": {"overrun": second, "allocation": null, "no_ring": 0, "nested": 77,
                        "writer": 0}},
            });
            sight.take(&answer, begun + Duration::from_secs(second));
        }
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| draw(&sight, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn eighty_by_twenty_four_show_all_of_it() {
        let screen = screen(80, 24);
        for text in [
            "lwnflog g5, running for 29s",
            "57,000 packets/s",
            "841,000",
            "unknown",
            "file 3 of 8",
            "200,000,000",
            "1,000 of 1,024 packets",
            "ip saddr { 198.18",
            "buffer",
            "stalls",
            "nested",
            "4,321",
            "q: leave",
        ] {
            assert!(screen.contains(text), "{text}:\n{screen}");
        }
        for text in ["no ring", "unread"] {
            assert!(!screen.contains(text), "there is none: {text}");
        }
    }

    #[test]
    fn forty_by_ten_show_what_tells_most() {
        let screen = screen(40, 10);
        for text in ["57,000", "841,000", "dropped", "written", "files begun"] {
            assert!(screen.contains(text), "{text}:\n{screen}");
        }
    }

    #[test]
    fn any_terminal_is_large_enough_not_to_fail() {
        for (columns, lines) in [(1, 1), (20, 5), (79, 24), (200, 60)] {
            screen(columns, lines);
        }
    }
}
