//! The labels, compared with what the images really show.

use maud::{Markup, html};

use super::Page;
use super::cards::{Why, grid};
use super::matrix::{cell_id, matrix};
use super::reliability::diagram;
use super::text::{counted, name, number, percent_or_dash};
use crate::sheets::{Cell, Compared};

/// Categories in the table of figures.
const TABLE: usize = 200;

/// The section.
pub(super) fn section<I>(page: &Page<I>, compared: &Compared<I>) -> Markup {
    let figures = compared.evaluation.overall();
    let mistakes = &compared.mistakes;
    html! {
        section #truth aria-labelledby="truth-title" {
            h2 #truth-title { "Compared with the truth" }
            dl.figures {
                (figure("Compared", number(figures.n)))
                (figure("Right", percent_or_dash(figures.top1)))
                (figure("Among the first five", percent_or_dash(figures.top5)))
                (figure("Mean precision", percent_or_dash(figures.precision)))
                (figure("Mean recall", percent_or_dash(figures.recall)))
                (figure("Calibration error", percent_or_dash(figures.calibration_error)))
            }
            @if figures.n > 0 {
                h3 #matrix { "Confusion matrix" }
                (matrix(page, compared))
                (categories(page, compared))
                h3 #reliability { "Do the probabilities come true?" }
                (diagram(&compared.calibration))
            }
            @if mistakes.cards().any(|card| card.is_shown) {
                h3 #mistakes { "The most confident mistakes" }
                @for part in &mistakes.parts { (grid(page, &part.cards, Why::Mistake)) }
            }
            (behind(page, compared))
        }
    }
}

fn figure(what: &str, value: String) -> Markup {
    html! { div { dt { (what) } dd { (value) } } }
}

/// The images behind the cells of the matrix.
fn behind<I>(page: &Page<I>, compared: &Compared<I>) -> Markup {
    let is_shown = |cell: &&Cell<I>| cell.cards.iter().any(|card| card.is_shown);
    let n = |cell: &Cell<I>| {
        let all = compared.evaluation.confusion();
        all.filter(|(truth, predicted, _)| (*truth, *predicted) == (cell.truth, cell.predicted))
            .map(|it| it.2)
            .sum()
    };
    html! {
        @if compared.cells.iter().any(|cell| is_shown(&cell)) {
            h3 { "Images behind the matrix" }
            @for cell in compared.cells.iter().filter(is_shown) {
                section.cell id=(cell_id(cell.truth, cell.predicted)) tabindex="-1" {
                    h4 {
                        (page.named(cell.truth)) ", labelled "
                        @match cell.predicted { Some(category) => (name(page.category(category))), None => "with nothing" }
                    }
                    p.muted {
                        (counted(n(cell), "image")) ". " a href="#matrix" { "Back to the matrix" }
                    }
                    (grid(page, &cell.cards, Why::Mistake))
                }
            }
        }
    }
}

/// The figures of each category.
fn categories<I>(page: &Page<I>, compared: &Compared<I>) -> Markup {
    let mut rows: Vec<_> = compared.evaluation.categories().enumerate().filter(|(_, it)| it.n > 0).collect();
    rows.sort_by(|(i, one), (j, other)| {
        let worst = |share: Option<f64>| share.unwrap_or(0.0);
        worst(one.f1).total_cmp(&worst(other.f1)).then_with(|| i.cmp(j))
    });
    html! {
        details {
            summary { "Figures per category, the worst first" }
            div.scroll role="region" aria-labelledby="figures-title" tabindex="0" {
                table {
                    caption #figures-title {
                        "Precision and recall of categories"
                        @if rows.len() > TABLE { ": the worst " (TABLE) " of " (number(rows.len() as u64)) }
                    }
                    thead {
                        tr {
                            @for heading in ["Category", "Images", "Precision", "Recall", "F1"] {
                                th scope="col" { (heading) }
                            }
                        }
                    }
                    tbody {
                        @for (category, figures) in rows.iter().take(TABLE) {
                            tr {
                                th scope="row" { (name(page.category(*category))) }
                                td.number { (number(figures.n)) }
                                td.number { (percent_or_dash(figures.precision)) }
                                td.number { (percent_or_dash(figures.recall)) }
                                td.number { (percent_or_dash(figures.f1)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
