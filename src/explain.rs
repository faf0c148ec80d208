//! Why an image has its label.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::{Contribution, Explanation};

use crate::classifiable::{Classifiable, given};
use crate::fitted::{self, Fitted};
use crate::limits;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Rank, category, TIP-X's three terms and the sum of all; of a support row its id, its category, its
/// affinity and what it adds to the sum; the discriminant's term and how reliable the category's support is; what a
/// claimed name loses; and the gate of the support terms, with the familiarity and the trust that it follows from.
type ExplanationRow = (
    i32,
    String,
    f32,
    f32,
    f32,
    f32,
    Option<i64>,
    Option<String>,
    Option<f32>,
    Option<f32>,
    f32,
    Option<f32>,
    f32,
    Option<f32>,
    Option<f32>,
    Option<f32>,
);

/// The function `susx.explain` for one type of argument: the terms of the `k` best categories, each with the support
/// rows that contribute most to it. One row per category and support row; no row for NULL.
macro_rules! explain {
    ($function:ident, $argument:ident: $type:ident $(, $likeness:ident)?; cost: $cost:tt) => {
        #[pg_extern(name = "explain", stable, parallel_safe, cost = $cost)]
        #[allow(clippy::type_complexity)]
        fn $function(
            _version: SameVersion,
            classifier: Option<RegClass>,
            $argument: Option<$type>,
            k: default!(Option<i32>, "3"),
            method: default!(Option<&str>, "NULL"),
            support_rows: default!(Option<i32>, "3"),
            $($likeness: default!(Option<Vector>, "NULL"),)?
        ) -> Result<
            TableIterator<
                'static,
                (
                    name!(rank, i32),
                    name!(category, String),
                    name!(zero_shot, f32),
                    name!(cache, f32),
                    name!(kl, f32),
                    name!(total, f32),
                    name!(support_id, Option<i64>),
                    name!(support_category, Option<String>),
                    name!(affinity, Option<f32>),
                    name!(contribution, Option<f32>),
                    name!(discriminant, f32),
                    name!(reliability, Option<f32>),
                    name!(claims, f32),
                    name!(gate, Option<f32>),
                    name!(familiarity, Option<f32>),
                    name!(trust, Option<f32>),
                ),
            >,
            ErrorReport,
        > {
            let (Some(classifier), Some(input)) = (classifier, $argument) else {
                return Ok(TableIterator::new([]));
            };
            let likeness = given!($($likeness)?);
            Ok(TableIterator::new(rows(classifier, input, likeness, k, method, support_rows)?))
        }
    };
}

explain!(explain_vector, embedding: Vector, likeness; cost: 10000);
explain!(explain_image, image: Image; cost: 100000);

fn rows(
    classifier: RegClass,
    input: impl Classifiable,
    likeness: Option<Vector>,
    k: Option<i32>,
    method: Option<&str>,
    support_rows: Option<i32>,
) -> Result<Vec<ExplanationRow>> {
    let fitted = fitted::get(classifier)?;
    let image = input.vectors(likeness, &fitted)?;
    let k = limits::count(k.unwrap_or(3), "k", limits::BEST)?;
    let support_rows = limits::count(support_rows.unwrap_or(3), "support_rows", limits::BEST)?;
    let method = fitted.method(method)?;
    let support_set = fitted.classifier.support_set();
    let rows = k.min(support_set.categories().len()).saturating_mul(support_rows.min(support_set.len()));
    limits::check("k times support_rows", limits::EXPLAINED, rows)?;
    let explanations = fitted.classifier.explain(fitted.query(&image)?.view(), method, k, support_rows);
    Ok((1..).zip(&explanations).flat_map(|(rank, category)| rows_of(&fitted, rank, category)).collect())
}

/// One row per support row; a category without any has one too.
fn rows_of(fitted: &Fitted, rank: i32, explanation: &Explanation) -> Vec<ExplanationRow> {
    let support_set = fitted.classifier.support_set();
    let name = |category: usize| support_set.categories()[category].clone();
    let &Explanation { category, reliability, gate, total, ref support, .. } = explanation;
    let (familiarity, trust) = (gate.map(|reading| reading.familiarity), gate.map(|reading| reading.trust));
    let gate = gate.map(|reading| reading.gate);
    let [zero_shot, cache, kl, discriminant, claims] =
        ["zero_shot", "cache", "kl", "discriminant", "claims"].map(|term| explanation.term(term));
    let contributions: Vec<Option<&Contribution>> =
        if support.is_empty() { vec![None] } else { support.iter().map(Some).collect() };
    let row = |support: Option<&Contribution>| {
        let id = support.map(|support| support_set.ids()[support.row]);
        let own = support.map(|support| name(support_set.category_of(support.row)));
        let (affinity, contribution) = (support.map(|s| s.affinity), support.map(|s| s.contribution));
        let name = name(category);
        (
            rank,
            name,
            zero_shot,
            cache,
            kl,
            total,
            id,
            own,
            affinity,
            contribution,
            discriminant,
            reliability,
            claims,
            gate,
            familiarity,
            trust,
        )
    };
    contributions.into_iter().map(row).collect()
}
