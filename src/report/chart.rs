//! Charts as SVG: bars over time, in parts or alone.

use maud::{Markup, html};

use crate::numbers::grouped;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 4.0;
const TOP: f64 = 20.0;
const BELOW: f64 = 32.0;
/// Half the width, and the height, of what marks a loss.
const MARK: (f64, f64) = (3.5, 6.0);

/// One part of each bar: its name, its class in the style sheet, a value a column.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) values: Vec<f64>,
}

/// What is below and above the bars.
pub(super) struct Axes {
    /// The height of the scale.
    pub(super) most: f64,
    /// What stands at its left end, in its middle, at its right end.
    pub(super) times: [String; 3],
    /// Columns that are marked: packets were lost there.
    pub(super) marked: Vec<bool>,
}

/// The height of each bar.
pub(super) fn sums(parts: &[Part]) -> Vec<f64> {
    let columns = parts.iter().map(|part| part.values.len()).max();
    let sum = |column: usize| {
        let values = parts.iter().filter_map(|part| part.values.get(column));
        values.sum::<f64>()
    };
    (0..columns.unwrap_or(0)).map(sum).collect()
}

/// The next number above that is easily read.
pub(super) fn round_up(most: f64) -> f64 {
    const STEPS: [f64; 8] = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];
    if most <= 0.0 {
        return 0.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let step = STEPS.into_iter().find(|step| step * power >= most);
    step.unwrap_or(10.0) * power
}

/// Bars of parts, the first below.
pub(super) fn bars(parts: &[Part], height: f64, axes: &Axes) -> Markup {
    let columns = parts.iter().map(|part| part.values.len()).max();
    #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
    let step = (WIDTH - 2.0 * LEFT) / columns.unwrap_or(1).max(1) as f64;
    let bottom = TOP + height;
    let paths = paths(parts, height, axes.most, step);
    let names: Vec<_> = parts.iter().map(|part| part.name).collect();
    let [left, middle, right] = &axes.times;
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (bottom + BELOW) } role="img" aria-label=(names.join(", ")) {
            @for part in [1.0, 0.5] {
                @let y = bottom - height * part;
                line class="grid" x1=(LEFT) x2=(WIDTH - LEFT) y1=(y) y2=(y) {}
            }
            @for part in [0.25, 0.5, 0.75] {
                @let x = LEFT + (WIDTH - 2.0 * LEFT) * part;
                line class="grid" x1=(x) x2=(x) y1=(bottom) y2=(bottom + 5.0) {}
            }
            @for (part, path) in parts.iter().zip(&paths) {
                path class=(part.class) d=(path) {}
            }
            line class="axis" x1=(LEFT) x2=(WIDTH - LEFT) y1=(bottom) y2=(bottom) {}
            @if axes.marked.contains(&true) { path class="bad" d=(marks(&axes.marked, bottom, step)) {} }
            text x=(LEFT) y=(TOP - 4.0) { (scale(axes.most)) }
            text x=(LEFT) y=(bottom + 26.0) { (left) }
            text x=(WIDTH / 2.0) y=(bottom + 26.0) text-anchor="middle" { (middle) }
            text x=(WIDTH - LEFT) y=(bottom + 26.0) text-anchor="end" { (right) }
        }
    }
}

/// The bars of each part, as a path.
fn paths(parts: &[Part], height: f64, most: f64, step: f64) -> Vec<String> {
    let bottom = TOP + height;
    let mut below = vec![0.0; sums(parts).len()];
    let path = |part: &Part| {
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
    };
    parts.iter().map(path).collect()
}

/// Triangles that point up at columns.
fn marks(marked: &[bool], bottom: f64, step: f64) -> String {
    let mut path = String::new();
    let mut middle = LEFT + step / 2.0;
    for marked in marked {
        if *marked {
            let (half, high) = MARK;
            let (left, right) = (middle - half, middle + half);
            let base = bottom + high + 1.5;
            path += &format!(
                "M{left:.1} {base:.1}L{middle:.1} {:.1}L{right:.1} {base:.1}z",
                bottom + 1.5
            );
        }
        middle += step;
    }
    path
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
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What the parts are, where there are several, and what the marks are.
pub(super) fn legend(parts: &[Part], marked: bool) -> Markup {
    html! {
        @if parts.len() > 1 || marked {
            p.legend {
                @for part in parts.iter().filter(|_| parts.len() > 1) {
                    span {
                        svg.key viewBox="0 0 14 14" aria-hidden="true" { rect class=(part.class) width="14" height="14" {} }
                        (part.name)
                    }
                }
                @if marked {
                    span {
                        svg.key viewBox="0 0 14 14" aria-hidden="true" { path class="bad" d="M1 13L7 2L13 13z" {} }
                        "packets were lost"
                    }
                }
            }
        }
    }
}

/// A line as long as a share.
pub(super) fn share(share: f64) -> Markup {
    html! {
        svg.share viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
            rect class="all" width="100" height="4" {}
            rect class="a" width={ (format!("{:.1}", share * 100.0)) } height="4" {}
        }
    }
}

/// What tells parts from each other without colour: stripes, points, a grid.
pub(super) fn patterns() -> Markup {
    html! {
        svg.patterns width="0" height="0" aria-hidden="true" { defs {
            pattern id="stripes" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect class="under-b" width="5" height="5" {}
                rect class="over" width="1.6" height="5" {}
            }
            pattern id="points" width="4" height="4" patternUnits="userSpaceOnUse" {
                rect class="under-c" width="4" height="4" {}
                circle class="dark" cx="2" cy="2" r="0.9" {}
            }
            pattern id="lines" width="4" height="4" patternUnits="userSpaceOnUse" {
                rect class="under-d" width="4" height="4" {}
                rect class="over" width="4" height="1.4" {}
            }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_easily_read() {
        for (most, up) in [
            (706.0, 800.0),
            (0.4, 0.4),
            (1.0, 1.0),
            (96.0, 100.0),
            (0.0, 0.0),
            (65_456.0, 80_000.0),
        ] {
            assert!((round_up(most) - up).abs() < 1e-9, "{most}");
        }
        assert_eq!(scale(0.05), "0.05");
        assert_eq!(scale(50.0), "50");
        assert_eq!(scale(1500.0), "1,500");
    }
}
