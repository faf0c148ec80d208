//! Which categories were confused with which.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use maud::{Markup, html};

use super::Page;
use super::text::{counted, name, number, plain};
use crate::sheets::Compared;

/// Categories that the matrix has at most.
const SIDE: usize = 30;
/// Shades of a cell, from a few images of its row to all of them.
const SHADES: u64 = 5;

/// The id of the images behind a cell.
pub(super) fn cell_id(truth: Option<usize>, predicted: Option<usize>) -> String {
    let part = |category: Option<usize>| category.map_or("none".to_owned(), |category| category.to_string());
    format!("m-{}-{}", part(truth), part(predicted))
}

/// The matrix as a table, whose cells link to the images behind them.
pub(super) fn matrix<I>(page: &Page<I>, compared: &Compared<I>) -> Markup {
    let mut counts: BTreeMap<(Option<usize>, Option<usize>), u64> = BTreeMap::new();
    // Those that could not be read have no label either, but nothing was predicted.
    for (truth, predicted, n) in compared.evaluation.confusion() {
        *counts.entry((truth, predicted)).or_default() += n;
    }
    let mut totals: BTreeMap<usize, u64> = BTreeMap::new();
    for (&(truth, predicted), &n) in &counts {
        for category in [truth, predicted].into_iter().flatten() {
            *totals.entry(category).or_default() += n;
        }
    }
    let occurring = totals.len();
    let mut categories: Vec<(usize, u64)> = totals.into_iter().collect();
    categories.sort_by_key(|&(category, n)| (Reverse(n), category));
    categories.truncate(SIDE);
    let mut categories: Vec<usize> = categories.into_iter().map(|(category, _)| category).collect();
    categories.sort_unstable();
    let has_none = counts.keys().any(|(truth, _)| truth.is_none());
    let has_rejected = counts.keys().any(|(_, predicted)| predicted.is_none());
    let with = |extra: bool| -> Vec<Option<usize>> {
        categories.iter().copied().map(Some).chain(extra.then_some(None)).collect()
    };
    let (rows, columns) = (with(has_none), with(has_rejected));
    let sheets: HashSet<usize> = page.sheets.shown_categories().collect();
    let behind: HashSet<_> = compared
        .cells
        .iter()
        .filter(|cell| cell.cards.iter().any(|card| card.is_shown))
        .map(|cell| (cell.truth, cell.predicted))
        .collect();
    html! {
        div.scroll role="region" aria-labelledby="matrix-title" tabindex="0" {
            table.matrix {
                caption #matrix-title {
                    "Confusion matrix: rows are the true categories, columns the labels."
                    @if has_rejected { " Images without a label were rejected, or could not be read." }
                    @if occurring > SIDE {
                        " Only the " (SIDE) " most frequent of " (counted(occurring as u64, "category")) " are in it."
                    }
                }
                thead {
                    tr {
                        td {}
                        @for &predicted in &columns {
                            th scope="col" { span.turned { (label(page, predicted, "no label")) } }
                        }
                    }
                }
                tbody {
                    @for &truth in &rows {
                        @let total: u64 = counts.range((truth, None)..=(truth, Some(usize::MAX))).map(|(_, n)| n).sum();
                        tr {
                            th scope="row" { (label(page, truth, "none of these")) }
                            @for &predicted in &columns {
                                @let n = counts.get(&(truth, predicted)).copied().unwrap_or(0);
                                (cell(page, truth, predicted, n, total, &sheets, &behind))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn label<I>(page: &Page<I>, category: Option<usize>, none: &str) -> Markup {
    html! {
        @match category {
            Some(category) => (name(page.category(category))),
            None => em { (none) },
        }
    }
}

fn cell<I>(
    page: &Page<I>,
    truth: Option<usize>,
    predicted: Option<usize>,
    n: u64,
    total: u64,
    sheets: &HashSet<usize>,
    behind: &HashSet<(Option<usize>, Option<usize>)>,
) -> Markup {
    if n == 0 {
        return html! { td { span.muted { "·" } } };
    }
    let shade = (n * SHADES).div_ceil(total.max(1)).clamp(1, SHADES);
    let is_right = truth == predicted;
    let target = match predicted.filter(|_| is_right) {
        Some(category) => sheets.contains(&category).then(|| format!("#c-{category}")),
        None => behind.contains(&(truth, predicted)).then(|| format!("#{}", cell_id(truth, predicted))),
    };
    let text = |category: Option<usize>, none: &str| {
        category.map_or(none.to_owned(), |category| plain(page.category(category)))
    };
    let about = format!(
        "{}: {} labelled {}",
        number(n),
        text(truth, "none of these"),
        text(predicted, "with nothing")
    );
    html! {
        td class={ (if is_right { "right" } else { "wrong" }) (shade) } {
            @match target {
                Some(target) => a href=(target) aria-label=(about) { (number(n)) },
                None => (number(n)),
            }
        }
    }
}
