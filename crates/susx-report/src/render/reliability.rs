//! Whether the probabilities are correct, as a diagram and as a table.

use maud::{Markup, html};
use susx_core::calibration::{Bin, Calibration};

use super::text::{number, percent, percent_or_dash};

/// Where the axes are, in units of the drawing.
const LEFT: f64 = 68.0;
const TOP: f64 = 12.0;
/// Length of either axis.
const SIDE: f64 = 280.0;
/// Radius of the circle of the bin with the most images.
const RADIUS: f64 = 13.0;

/// The diagram and its numbers.
pub(super) fn diagram(calibration: &Calibration) -> Markup {
    let bins = calibration.bins();
    html! {
        (drawing(bins))
        details {
            summary { "Numbers of the diagram" }
            (table(bins))
        }
    }
}

fn x(share: f64) -> String {
    format!("{:.1}", LEFT + SIDE * share)
}

fn y(share: f64) -> String {
    format!("{:.1}", TOP + SIDE * (1.0 - share))
}

fn drawing(bins: &[Bin]) -> Markup {
    let most = bins.iter().map(|bin| bin.n).max().unwrap_or(0).max(1) as f64;
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0];
    let points = bins.iter().filter_map(|bin| Some((bin.probability()?, bin.accuracy()?, bin.n)));
    html! {
        svg.diagram viewBox="0 0 368 350" role="img" aria-labelledby="reliability-name reliability-about" {
            title #reliability-name { "Reliability diagram" }
            desc #reliability-about {
                "Each circle stands for a range of probabilities: the mean probability, and the share of correct \
                 labels. On the diagonal they are equal. The table below has the numbers."
            }
            @for tick in ticks {
                line.rule x1=(x(tick)) x2=(x(tick)) y1=(y(0.0)) y2=(y(1.0)) {}
                line.rule x1=(x(0.0)) x2=(x(1.0)) y1=(y(tick)) y2=(y(tick)) {}
                text.tick x=(x(tick)) y=(format!("{:.1}", TOP + SIDE + 18.0)) text-anchor="middle" {
                    (format!("{:.0}\u{a0}%", tick * 100.0))
                }
                text.tick x=(format!("{:.1}", LEFT - 8.0)) y=(y(tick)) text-anchor="end" dominant-baseline="middle" {
                    (format!("{:.0}\u{a0}%", tick * 100.0))
                }
            }
            line.ideal x1=(x(0.0)) y1=(y(0.0)) x2=(x(1.0)) y2=(y(1.0)) {}
            @for (probability, accuracy, n) in points {
                line.gap x1=(x(probability)) x2=(x(probability)) y1=(y(probability)) y2=(y(accuracy)) {}
                circle.bin cx=(x(probability)) cy=(y(accuracy))
                    r=(format!("{:.1}", (RADIUS * (n as f64 / most).sqrt()).max(2.5))) {}
            }
            text.axis x=(x(0.5)) y=(format!("{:.1}", TOP + SIDE + 40.0)) text-anchor="middle" { "Probability" }
            text.axis x="12" y=(y(0.5)) text-anchor="middle" transform={ "rotate(-90 12 " (y(0.5)) ")" } {
                "Share of correct labels"
            }
        }
    }
}

fn table(bins: &[Bin]) -> Markup {
    let width = 1.0 / bins.len().max(1) as f64;
    html! {
        div.scroll role="region" aria-labelledby="bins-title" tabindex="0" {
            table {
                caption #bins-title { "Probabilities and shares of correct labels" }
                thead {
                    tr {
                        th scope="col" { "Range" }
                        th scope="col" { "Images" }
                        th scope="col" { "Mean probability" }
                        th scope="col" { "Right" }
                    }
                }
                tbody {
                    @for (i, bin) in bins.iter().enumerate() {
                        tr {
                            th scope="row" {
                                (percent(i as f64 * width)) " to " (percent((i + 1) as f64 * width))
                            }
                            td.number { (number(bin.n)) }
                            td.number { (percent_or_dash(bin.probability())) }
                            td.number { (percent_or_dash(bin.accuracy())) }
                        }
                    }
                }
            }
        }
    }
}
