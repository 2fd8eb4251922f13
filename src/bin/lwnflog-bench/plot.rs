//! Bar charts as SVG: black and white, every bar with its name and its figure beside it.

use crate::job::Test;
use crate::results::{Cell, Results, Spread};

const WIDTH: f64 = 860.0;
const NAME_WIDTH: f64 = 290.0;
const BAR_WIDTH: f64 = 400.0;
const ROW_HEIGHT: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;
const PANEL_HEAD: f64 = 44.0;
const MARGIN: f64 = 16.0;

/// A chart: one bar for each tool.
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

struct Bar {
    name: String,
    is_ours: bool,
    /// None: it was not measured.
    value: Option<Spread>,
    label: String,
}

/// File names and contents, one for each test that captures, size and number of senders.
pub(crate) fn all(results: &Results) -> Vec<(String, String)> {
    let captures = |group: &Vec<&Cell>| group.iter().any(|cell| cell.test != Test::Capacity);
    let groups = results.groups().into_iter().filter(captures);
    groups
        .filter_map(|group| {
            let first = *group.first()?;
            let name = format!(
                "{}-{}-{}.svg",
                first.test.name(),
                first.frame_len,
                first.senders
            );
            Some((name, svg(&title(first, results), &panels(results, &group))))
        })
        .collect()
}

fn title(cell: &Cell, results: &Results) -> String {
    let plural = if cell.senders == 1 { "" } else { "s" };
    format!(
        "{}, {} bytes, {} sender{plural} (Linux {})",
        cell.test.name(),
        cell.frame_len,
        cell.senders,
        results.host.kernel
    )
}

fn panels(results: &Results, group: &[&Cell]) -> Vec<Panel> {
    let panel = |title: &str, decimals: usize, figure: &dyn Fn(&Cell) -> Option<Spread>| Panel {
        title: title.to_owned(),
        bars: group
            .iter()
            .map(|cell| bar(cell, figure(cell), decimals))
            .collect(),
    };
    vec![
        panel(
            "packets lost, % of those sent (less is better)",
            2,
            &|cell| cell.spread_some(|run| run.lost_percent()),
        ),
        panel(
            "the tool's CPU time a packet written, ns (less is better)",
            0,
            &Cell::cpu_ns,
        ),
        panel(
            "the machine's busy time a packet beyond capacity, ns (less is better)",
            0,
            &|cell| results.busy_ns(cell),
        ),
        panel(
            "million packets written a second of sending (more is better)",
            2,
            &|cell| cell.spread_some(|run| run.write_rate().map(|rate| rate / 1e6)),
        ),
    ]
}

fn bar(cell: &Cell, value: Option<Spread>, decimals: usize) -> Bar {
    let label = match (value, &cell.gap) {
        (Some(it), _) if it.min == it.max => format!("{:.decimals$}", it.median),
        (Some(it), _) => {
            format!(
                "{:.decimals$}  ({:.decimals$} to {:.decimals$})",
                it.median, it.min, it.max
            )
        }
        (None, Some(_)) => "not measured".to_owned(),
        (None, None) => "unknown".to_owned(),
    };
    Bar {
        name: format!("{} - {}", cell.tool, cell.hook.name()),
        is_ours: cell.tool.starts_with("lwnflog"),
        value,
        label,
    }
}

fn svg(title: &str, panels: &[Panel]) -> String {
    let height = panels.iter().fold(3.0 * MARGIN, |sum, panel| {
        sum + PANEL_HEAD + panel.bars.len() as f64 * ROW_HEIGHT
    });
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"black\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    svg.push_str(&text(MARGIN, 2.0 * MARGIN, "start", "bold", title));
    let mut top = 2.0 * MARGIN;
    for panel in panels {
        svg.push_str(&text(MARGIN, top + 30.0, "start", "bold", &panel.title));
        top += PANEL_HEAD;
        svg.push_str(&bars(panel, top));
        top += panel.bars.len() as f64 * ROW_HEIGHT;
    }
    svg + "</svg>\n"
}

fn bars(panel: &Panel, top: f64) -> String {
    let largest = panel
        .bars
        .iter()
        .filter_map(|bar| bar.value)
        .map(|it| it.median)
        .fold(0.0, f64::max);
    let scale = if largest > 0.0 {
        BAR_WIDTH / largest
    } else {
        0.0
    };
    let left = MARGIN + NAME_WIDTH;
    let mut svg = String::new();
    for (index, bar) in panel.bars.iter().enumerate() {
        let y = top + index as f64 * ROW_HEIGHT;
        let baseline = y + BAR_HEIGHT - 3.0;
        let weight = if bar.is_ours { "bold" } else { "normal" };
        svg.push_str(&text(left - 8.0, baseline, "end", weight, &bar.name));
        let width = bar.value.map_or(0.0, |it| (it.median * scale).max(0.0));
        let fill = if bar.is_ours { "black" } else { "white" };
        svg.push_str(&format!(
            "<rect x=\"{left}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" \
             fill=\"{fill}\" stroke=\"black\"/>\n"
        ));
        svg.push_str(&text(
            left + width + 6.0,
            baseline,
            "start",
            weight,
            &bar.label,
        ));
    }
    svg
}

fn text(x: f64, y: f64, anchor: &str, weight: &str, words: &str) -> String {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{words}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_scaled_and_labelled() {
        let bar = |name: &str, value: Option<f64>| Bar {
            name: name.to_owned(),
            is_ours: name == "lwnflog",
            value: value.map(|it| Spread {
                median: it,
                min: it,
                max: it,
            }),
            label: value.map_or_else(|| "not measured".to_owned(), |it| it.to_string()),
        };
        let bars = vec![
            bar("lwnflog", Some(50.0)),
            bar("a<b", Some(100.0)),
            bar("c", None),
        ];
        let svg = svg(
            "title",
            &[Panel {
                title: "p".to_owned(),
                bars,
            }],
        );
        assert!(svg.contains("width=\"200.0\""), "{svg}");
        assert!(svg.contains("width=\"400.0\""));
        assert!(svg.contains("a&lt;b") && svg.contains("not measured"));
    }
}
