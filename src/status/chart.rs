//! Small charts of the last minutes, as SVG without inline styles.

use std::fmt::Write;

use maud::{Markup, html};

/// The size of a chart, in its own units.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// Draws a chart of a series, oldest first, with its maximum, formatted by `shown`.
pub(super) fn chart(title: &str, values: &[f64], shown: impl Fn(f64) -> String) -> Markup {
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let now = values.last().copied().unwrap_or_default();
    let words = format!("{title}: now {}, peak {} in the last minutes", shown(now), shown(greatest));
    html! {
        figure class="chart" {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(words) {
                line class="axis" x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                @if values.len() > 1 {
                    polyline class="series" points=(points(values, greatest)) {}
                }
            }
            figcaption { (title) ": " strong { (shown(now)) } ", peak " (shown(greatest)) }
        }
    }
}

fn points(values: &[f64], greatest: f64) -> String {
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let mut points = String::new();
    for (number, value) in values.iter().enumerate() {
        let height = if greatest > 0.0 { value / greatest } else { 0.0 };
        // Writing to a string does not fail. A pixel stays free, so that the line is visible at its maximum.
        let _ = write!(points, "{:.1},{:.1} ", number as f64 * step, 1.0 + (HEIGHT - 2.0) * (1.0 - height));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_fills_its_chart() {
        assert_eq!(points(&[0.0, 5.0, 10.0], 10.0), "0.0,47.0 120.0,24.0 240.0,1.0 ");
        assert_eq!(points(&[0.0, 0.0], 0.0), "0.0,47.0 240.0,47.0 ");
        let chart = chart("<b>", &[1.0], |value| format!("{value}")).into_string();
        assert!(chart.contains("&lt;b&gt;: now 1, peak 1") && !chart.contains("<b>"), "{chart}");
    }
}
