//! The report as one page of HTML: nothing is fetched, and no script runs.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Axes, Part, bars, legend, patterns, round_up, scale, share, sums};
use super::series::Column;
use super::tables::{Group, Row, Table, groups};
use super::tally::Tally;
use super::text::{Clock, about, figures, findings};

const STYLE: &str = include_str!("page.css");
const HIGH: f64 = 120.0;
const LOW: f64 = 80.0;

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
    parts: [Option<(&'static str, &'static str, Value)>; 4],
}

const TRAFFIC: [Chart; 2] = [
    Chart {
        title: "Packets a second",
        height: HIGH,
        parts: [
            Some(("TCP", "a", |column| column.tcp)),
            Some(("UDP", "b", |column| column.udp)),
            Some(("ICMP", "c", |column| column.icmp)),
            Some(("others", "d", |column| {
                column.packets - column.tcp - column.udp - column.icmp
            })),
        ],
    },
    one("Bytes a second", HIGH, "a", |column| column.bytes),
];

const EVENTS: [Chart; 2] = [
    one("Packets lost a second", LOW, "bad", |column| column.lost),
    one("New sources a second", LOW, "a", |column| {
        column.new_sources
    }),
];

/// These stand on one scale: that is how a flood is seen.
const FLAGS: [Chart; 4] = [
    one("SYN: connections that are opened", LOW, "a", |column| {
        column.syn
    }),
    one(
        "SYN with ACK: connections that are answered",
        LOW,
        "a",
        |column| column.syn_ack,
    ),
    one("FIN: connections that end", LOW, "a", |column| column.fin),
    one(
        "RST: connections that are refused or broken off",
        LOW,
        "a",
        |column| column.rst,
    ),
];

const fn one(title: &'static str, height: f64, class: &'static str, value: Value) -> Chart {
    Chart {
        title,
        height,
        parts: [Some((title, class, value)), None, None, None],
    }
}

/// The page, of one subject or of two side by side.
pub fn page(subjects: &[Subject<'_>], clock: Clock<'_>) -> String {
    let title = subjects
        .iter()
        .map(|subject| subject.title)
        .collect::<Vec<_>>();
    let title = title.join(" | ");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "lwnflog: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (patterns()) main {
                (each(subjects, |subject| head(subject, clock)))
                @if subjects.iter().any(|subject| subject.tally.all.packets != 0) {
                    h2 { "Over time" }
                    @for chart in &TRAFFIC { (figure(chart, subjects, clock, None)) }
                    (small(subjects, EVENTS.iter().map(|chart| figure(chart, subjects, clock, None))))
                    (flags(subjects, clock))
                    (all_tables(subjects, clock))
                }
                footer.soft {
                    (each(subjects, |subject| html! {
                        @for line in about(subject.tally) { p { (line) } }
                    }))
                    p { "Written by lwnflog " (env!("CARGO_PKG_VERSION")) "." }
                }
            } }
        }
    };
    // Names that others chose may have what no text has.
    let is_text = |letter: char| !letter.is_control() || letter == '\n';
    page.into_string().replace(|letter| !is_text(letter), "?")
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

/// Small charts: two in a row, or where there are two subjects, each with both of them.
fn small(subjects: &[Subject<'_>], charts: impl Iterator<Item = Markup>) -> Markup {
    html! {
        div.side[subjects.len() == 1] { @for chart in charts { (chart) } }
    }
}

/// Group by group, those of each subject.
fn all_tables(subjects: &[Subject<'_>], clock: Clock<'_>) -> Markup {
    let groups: Vec<_> = subjects
        .iter()
        .map(|subject| groups(subject.tally, clock))
        .collect();
    let titles = groups.first().into_iter().flatten();
    let titles = titles.map(|group| group.title).enumerate();
    let tables = |group: &Group| {
        html! {
            @if group.tables.is_empty() { p.soft { "None." } }
            div.cols { @for table in &group.tables { (shown(table)) } }
        }
    };
    html! {
        @for (place, title) in titles {
            h2 { (title) }
            @match &groups[..] {
                [one] => (tables(&one[place])),
                several => div.side { @for groups in several { div { (tables(&groups[place])) } } },
            }
        }
    }
}

/// Flags of TCP over time, all on one scale.
fn flags(subjects: &[Subject<'_>], clock: Clock<'_>) -> Markup {
    let highest = |chart: &Chart| {
        let drawn = subjects.iter().map(|subject| parts(chart, subject));
        drawn.flat_map(|parts| sums(&parts)).fold(0.0, f64::max)
    };
    let most = FLAGS.iter().map(highest).fold(0.0, f64::max);
    html! {
        h2 { "TCP flags, packets a second" }
        @if most <= 0.0 {
            p.soft { "No TCP packet opens, answers, ends or refuses a connection." }
        } @else {
            p.soft { "All on one scale: where SYN is high and SYN with ACK is not, connections are opened that nobody answers." }
            (small(subjects, FLAGS.iter().map(|chart| figure(chart, subjects, clock, Some(most)))))
        }
    }
}

/// A chart of each subject, on one scale: its own, or one that is shared with other charts.
fn figure(chart: &Chart, subjects: &[Subject<'_>], clock: Clock<'_>, most: Option<f64>) -> Markup {
    let drawn: Vec<_> = subjects
        .iter()
        .map(|subject| parts(chart, subject))
        .collect();
    let highest = drawn
        .iter()
        .flat_map(|parts| sums(parts))
        .fold(0.0, f64::max);
    if highest <= 0.0 {
        return html! { figure { h3 { (chart.title) } p.soft { "None." } } };
    }
    let most = round_up(most.unwrap_or(highest));
    let draw = |subject: &Subject<'_>, parts: &[Part]| {
        let (_, columns) = subject.tally.series.columns();
        let marked = columns.iter().map(|column| column.lost != 0);
        let axes = Axes {
            most,
            times: times(subject, clock),
            marked: marked.filter(|_| chart.height >= HIGH).collect(),
        };
        html! { (peak(subject, parts, clock)) (bars(parts, chart.height, &axes)) }
    };
    let marked = chart.height >= HIGH && subjects.iter().any(|subject| subject.tally.lost != 0);
    html! {
        figure {
            h3 { (chart.title) }
            @if subjects.len() == 1 {
                (draw(&subjects[0], &drawn[0]))
            } @else {
                div.side { @for (subject, parts) in subjects.iter().zip(&drawn) { div { (draw(subject, parts)) } } }
            }
            (legend(&drawn[0], marked))
        }
    }
}

/// Its highest bar, and when that was.
fn peak(subject: &Subject<'_>, parts: &[Part], clock: Clock<'_>) -> Markup {
    let sums = sums(parts);
    let highest = sums.iter().copied().fold(0.0, f64::max);
    let Some(place) = sums.iter().position(|sum| *sum >= highest && highest > 0.0) else {
        return html! { p.soft { "None." } };
    };
    html! {
        p.soft { "Highest " (scale(highest)) ", from " (of_day(&clock(at(subject, place)))) ", over " (subject.tally.series.column_secs()) " s" }
    }
}

/// When a column begins.
fn at(subject: &Subject<'_>, column: usize) -> u64 {
    let (start, _) = subject.tally.series.columns();
    start.saturating_add((column as u64).saturating_mul(subject.tally.series.column_ns()))
}

/// What stands below a chart.
fn times(subject: &Subject<'_>, clock: Clock<'_>) -> [String; 3] {
    let (_, columns) = subject.tally.series.columns();
    let middle = at(subject, 0).midpoint(at(subject, columns.len()));
    let [left, middle, right] = [at(subject, 0), middle, at(subject, columns.len())].map(clock);
    // On the same day the date stands once.
    let day = |time: &str| time.split(' ').next().unwrap_or_default().to_owned();
    if day(&left) == day(&right) {
        [left, of_day(&middle), of_day(&right)]
    } else {
        [left, String::new(), right]
    }
}

/// A time without its date.
fn of_day(time: &str) -> String {
    time.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// A chart's values, a second.
fn parts(chart: &Chart, subject: &Subject<'_>) -> Vec<Part> {
    let (_, columns) = subject.tally.series.columns();
    let secs = subject.tally.series.column_secs();
    let part = |(name, class, value): &(&'static str, &'static str, Value)| {
        #[expect(clippy::cast_precision_loss, reason = "a bar has a few hundred steps")]
        let values = columns.iter().map(|column| value(column) as f64 / secs);
        Part {
            name,
            class,
            values: values.collect(),
        }
    };
    chart.parts.iter().flatten().map(part).collect()
}

fn shown(table: &Table) -> Markup {
    let cell = |row: &Row, place: usize, cell: &String| {
        html! {
            td {
                (cell)
                @if place == 0 { @if let Some(of_all) = row.share { (share(of_all)) } }
            }
        }
    };
    html! {
        section {
            h3 { (table.title) }
            div.wide { table {
                thead { tr { @for word in &table.head { th { (word) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for (place, text) in row.cells.iter().enumerate() { (cell(row, place, text)) } }
                    }
                }
            } }
            @if !table.note.is_empty() { p.note { (table.note) } }
        }
    }
}
