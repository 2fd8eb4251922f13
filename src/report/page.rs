//! The report as one page of HTML: nothing is fetched, and no script runs.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Part, bars, legend, most};
use super::series::Column;
use super::tally::Tally;
use super::text::{Clock, Table, about, figures, findings, tables};

const STYLE: &str = include_str!("page.css");
const LOST: &str = "Packets lost a second";
const HIGH: f64 = 110.0;
const LOW: f64 = 44.0;

/// What is reported on, and what it is called.
pub struct Subject<'a> {
    /// Its places and filter, as they were given.
    pub title: &'a str,
    /// Its figures.
    pub tally: &'a Tally,
}

/// What is drawn of a column.
type Value = fn(&Column) -> u64;

/// One chart: what it is called, its height and its parts.
struct Chart {
    title: &'static str,
    height: f64,
    parts: &'static [(&'static str, &'static str, Value)],
}

const CHARTS: [Chart; 8] = [
    Chart {
        title: "Packets a second",
        height: HIGH,
        parts: &[
            ("TCP", "a", |column| column.tcp),
            ("UDP", "b", |column| column.udp),
            ("ICMP", "c", |column| column.icmp),
            ("others", "d", |column| {
                column.packets - column.tcp - column.udp - column.icmp
            }),
        ],
    },
    Chart {
        title: "Bytes a second",
        height: HIGH,
        parts: &[("bytes", "a", |column| column.bytes)],
    },
    Chart {
        title: LOST,
        height: LOW,
        parts: &[("lost", "bad", |column| column.lost)],
    },
    Chart {
        title: "SYN a second: connections that are opened",
        height: LOW,
        parts: &[("SYN", "a", |column| column.syn)],
    },
    Chart {
        title: "SYN with ACK a second: connections that are answered",
        height: LOW,
        parts: &[("SYN, ACK", "a", |column| column.syn_ack)],
    },
    Chart {
        title: "FIN a second: connections that end",
        height: LOW,
        parts: &[("FIN", "a", |column| column.fin)],
    },
    Chart {
        title: "RST a second: connections that are refused or broken off",
        height: LOW,
        parts: &[("RST", "a", |column| column.rst)],
    },
    Chart {
        title: "New sources a second",
        height: LOW,
        parts: &[("new sources", "a", |column| column.new_sources)],
    },
];

/// The page, of one subject or of two side by side.
pub fn page(subjects: &[Subject<'_>], clock: Clock<'_>) -> String {
    let title = subjects
        .iter()
        .map(|subject| subject.title)
        .collect::<Vec<_>>();
    let title = title.join(" | ");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "lwnflog: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                (each(subjects, |subject| head(subject, clock)))
                @if subjects.iter().any(|subject| subject.tally.all.packets != 0) {
                    h2 { "Over time" }
                    @for chart in CHARTS.iter().filter(|chart| chart.height >= HIGH) {
                        (figure(chart, subjects, clock))
                    }
                    div.side {
                        @for chart in CHARTS.iter().filter(|chart| chart.height < HIGH) {
                            (figure(chart, subjects, clock))
                        }
                    }
                    h2 { "Who and what" }
                    (each(subjects, |subject| html! {
                        div.side { @for table in tables(subject.tally) { (shown(&table)) } }
                    }))
                }
                footer.soft {
                    (each(subjects, |subject| html! {
                        @for line in about(subject.tally) { p { (line) } }
                    }))
                    p { "Written by lwnflog " (env!("CARGO_PKG_VERSION")) "." }
                }
            } }
        }
    }
    .into_string()
}

/// The same of each subject; of two side by side.
fn each(subjects: &[Subject<'_>], part: impl Fn(&Subject<'_>) -> Markup) -> Markup {
    match subjects {
        [subject] => part(subject),
        subjects => html! {
            div.side { @for subject in subjects { div { (part(subject)) } } }
        },
    }
}

fn head(subject: &Subject<'_>, clock: Clock<'_>) -> Markup {
    html! {
        header {
            h1 { (subject.title) }
            @if subject.tally.all.packets == 0 { p { "There is no packet." } }
            dl {
                @for (name, value) in figures(subject.tally, clock) {
                    div { dt { (name) } dd { (value) } }
                }
            }
            @let findings = findings(subject.tally);
            @if !findings.is_empty() {
                div.findings { ul { @for finding in findings { li { (finding) } } } }
            }
        }
    }
}

/// A chart of each subject, on one scale. What is nowhere is not drawn, but of losses it is said.
fn figure(chart: &Chart, subjects: &[Subject<'_>], clock: Clock<'_>) -> Markup {
    let drawn: Vec<_> = subjects
        .iter()
        .map(|subject| parts(chart, subject))
        .collect();
    let scale = drawn.iter().map(|parts| most(parts)).fold(0.0, f64::max);
    if scale <= 0.0 {
        return html! {
            @if chart.title == LOST { div { h3 { (chart.title) } p.soft { "None." } } }
        };
    }
    let draw = |subject: &Subject<'_>, parts: &[Part]| {
        let (start, columns) = subject.tally.series.columns();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a time of day to the second"
        )]
        let end = start + (columns.len() as f64 * subject.tally.series.column_secs() * 1e9) as u64;
        bars(parts, chart.height, scale, &clock(start), &clock(end))
    };
    html! {
        figure {
            h3 { (chart.title) }
            @if subjects.len() == 1 {
                (draw(&subjects[0], &drawn[0]))
            } @else {
                div.side { @for (subject, parts) in subjects.iter().zip(&drawn) { (draw(subject, parts)) } }
            }
            @if chart.parts.len() > 1 { (legend(&drawn[0])) }
        }
    }
}

/// A chart's values, a second.
fn parts(chart: &Chart, subject: &Subject<'_>) -> Vec<Part> {
    let (_, columns) = subject.tally.series.columns();
    let secs = subject.tally.series.column_secs();
    let part = |(name, class, value): &(&'static str, &'static str, Value)| {
        #[expect(clippy::cast_precision_loss, reason = "a bar has a few hundred steps")]
        let values = columns.iter().map(|column| value(column) as f64 / secs);
        Part::new(name, class, values.collect())
    };
    chart.parts.iter().map(part).collect()
}

fn shown(table: &Table) -> Markup {
    html! {
        section {
            h3 { (table.title) }
            div.wide { table {
                thead { tr { @for word in &table.head { th { (word) } } } }
                tbody { @for row in &table.rows { tr { @for cell in row { td { (cell) } } } } }
            } }
            @if !table.note.is_empty() { p.note { (table.note) } }
        }
    }
}
