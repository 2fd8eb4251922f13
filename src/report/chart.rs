//! Charts as SVG: bars over time, in parts or alone.

use maud::{Markup, html};

use crate::numbers::grouped;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 8.0;
const TOP: f64 = 18.0;
const BELOW: f64 = 20.0;

/// One part of each bar: its name, its class in the style sheet, a value a column.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) values: Vec<f64>,
}

impl Part {
    /// A value a column.
    pub(super) fn new(name: &'static str, class: &'static str, values: Vec<f64>) -> Part {
        Part {
            name,
            class,
            values,
        }
    }
}

/// The highest bar of all parts, one on the other.
pub(super) fn most(parts: &[Part]) -> f64 {
    let columns = parts
        .iter()
        .map(|part| part.values.len())
        .max()
        .unwrap_or(0);
    let sums = (0..columns).map(|column| {
        let values = parts.iter().filter_map(|part| part.values.get(column));
        values.sum::<f64>()
    });
    sums.fold(0.0, f64::max)
}

/// Bars of parts, the first below. `most` is the height of the scale; `from` and `to` stand below it.
pub(super) fn bars(parts: &[Part], height: f64, most: f64, from: &str, to: &str) -> Markup {
    let columns = parts
        .iter()
        .map(|part| part.values.len())
        .max()
        .unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
    let step = (WIDTH - 2.0 * LEFT) / columns.max(1) as f64;
    let bottom = TOP + height;
    let mut below = vec![0.0; columns];
    let paths: Vec<String> = parts
        .iter()
        .map(|part| {
            let mut path = String::new();
            let mut x = LEFT;
            for (value, below) in part.values.iter().zip(&mut below) {
                if *value > 0.0 && most > 0.0 {
                    let bar = value / most * height;
                    let base = bottom - *below / most * height;
                    let wide = (step * 0.9).max(0.5);
                    path += &format!("M{x:.1} {base:.1}v-{bar:.1}h{wide:.1}v{bar:.1}z");
                    *below += value;
                }
                x += step;
            }
            path
        })
        .collect();
    let label = parts
        .iter()
        .map(|part| part.name)
        .collect::<Vec<_>>()
        .join(", ");
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (bottom + BELOW) } role="img" aria-label=(label) {
            line class="axis" x1=(LEFT) x2=(WIDTH - LEFT) y1=(bottom) y2=(bottom) {}
            line class="grid" x1=(LEFT) x2=(WIDTH - LEFT) y1=(TOP) y2=(TOP) {}
            @for (part, path) in parts.iter().zip(&paths) {
                path class=(part.class) d=(path) {}
            }
            text x=(LEFT) y=(TOP - 5.0) { (scale(most)) }
            text x=(LEFT) y=(bottom + 14.0) { (from) }
            text x=(WIDTH - LEFT) y=(bottom + 14.0) text-anchor="end" { (to) }
        }
    }
}

/// A number at an axis.
pub(super) fn scale(value: f64) -> String {
    const WHOLE_FROM: f64 = 100.0;
    if value >= WHOLE_FROM {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number that is shown without its fraction"
        )]
        return grouped(value.round() as u64);
    }
    let text = format!("{value:.1}");
    text.strip_suffix(".0")
        .map_or(text.clone(), ToOwned::to_owned)
}

/// What the parts are, where there are several.
pub(super) fn legend(parts: &[Part]) -> Markup {
    html! {
        p.legend {
            @for part in parts {
                span {
                    svg.key viewBox="0 0 10 10" aria-hidden="true" { rect class=(part.class) width="10" height="10" {} }
                    (part.name)
                }
            }
        }
    }
}
