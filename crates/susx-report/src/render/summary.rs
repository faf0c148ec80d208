//! How many images got which label.

use std::cmp::Reverse;
use std::collections::HashSet;

use maud::{Markup, html};

use super::Page;
use super::text::{counted, name, number, percent, percent_or_dash};

/// Categories in the table.
const TABLE: usize = 200;
/// Further categories that are listed.
const LISTED: usize = 1_000;

/// The section.
pub(super) fn section<I>(page: &Page<I>) -> Markup {
    let counts = page.sheets.counts;
    let tallies = &page.sheets.tallies;
    let probability: f64 = tallies.iter().map(|tally| tally.probability).sum();
    let share = |n: u64| (counts.rows > 0).then(|| n as f64 / counts.rows as f64);
    let mean = (counts.labelled > 0).then(|| probability / counts.labelled as f64);
    html! {
        section #summary aria-labelledby="summary-title" {
            h2 #summary-title { "Summary" }
            dl.figures {
                (figure("Rows", number(counts.rows), None))
                (figure("Labelled", number(counts.labelled), share(counts.labelled)))
                @if page.reject > 0.0 || counts.rejected > 0 {
                    (figure("None of these", number(counts.rejected), share(counts.rejected)))
                }
                (figure("Unreadable", number(counts.unreadable), share(counts.unreadable)))
                @if counts.empty > 0 { (figure("Without an image", number(counts.empty), share(counts.empty))) }
                (figure("Mean probability", percent_or_dash(mean), None))
            }
            (table(page))
        }
    }
}

fn figure(what: &str, value: String, share: Option<f64>) -> Markup {
    html! {
        div {
            dt { (what) }
            dd { (value) @if let Some(share) = share { " " span.muted { (percent(share)) } } }
        }
    }
}

fn table<I>(page: &Page<I>) -> Markup {
    let tallies = &page.sheets.tallies;
    let mut order: Vec<usize> = (0..tallies.len()).collect();
    order.sort_by_key(|&category| (Reverse(tallies[category].n), category));
    let most = order.first().map_or(0, |&first| tallies[first].n).max(1);
    let (first, rest) = order.split_at(order.len().min(TABLE));
    let sheets: HashSet<usize> = page.sheets.shown_categories().collect();
    html! {
        div.scroll role="region" aria-labelledby="counts-title" tabindex="0" {
            table.counts {
                caption #counts-title { "Labels by category" }
                thead {
                    tr {
                        th scope="col" { "Category" }
                        th scope="col" { "Images" }
                        th.wide scope="col" { span.hidden { "Bar" } }
                        th scope="col" { "Share" }
                        th scope="col" { "Mean probability" }
                        th scope="col" { "Support images" }
                    }
                }
                tbody {
                    @for &category in first {
                        @let tally = tallies[category];
                        tr {
                            th scope="row" {
                                @if sheets.contains(&category) {
                                    a href={ "#c-" (category) } { (name(page.category(category))) }
                                } @else { (name(page.category(category))) }
                            }
                            td.number { (number(tally.n)) }
                            td.wide {
                                svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                                    rect width={ (format!("{:.2}", 100.0 * tally.n as f64 / most as f64)) } height="10" {}
                                }
                            }
                            td.number { (percent(tally.n as f64 / page.sheets.counts.labelled.max(1) as f64)) }
                            td.number {
                                (percent_or_dash((tally.n > 0).then(|| tally.probability / tally.n as f64)))
                            }
                            td.number { (number(page.support.get(category).copied().unwrap_or(0))) }
                        }
                    }
                }
            }
        }
        @if !rest.is_empty() {
            details {
                summary { (counted(rest.len() as u64, "category")) " more" }
                ul.names {
                    @for &category in rest.iter().take(LISTED) {
                        li { (name(page.category(category))) " " span.muted { (number(tallies[category].n)) } }
                    }
                }
                @if let Some(left) = rest.len().checked_sub(LISTED).filter(|&left| left > 0) {
                    p { "and " (counted(left as u64, "category")) " that this page leaves out." }
                }
            }
        }
    }
}
