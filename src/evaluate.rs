//! Accuracy of a classifier on labelled images.

use std::cell::RefCell;

use ndarray::Axis;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::top_k;
use susx_core::evaluate::{Evaluation, Figures};

use crate::fitted::{self, Fitted};
use crate::labelled_images::{self as labelled, Space};
use crate::pg::error::Result;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Category, images, images that could not be read, and the figures.
type Row = (Option<String>, i64, i64, Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>);

/// Accuracy, precision, recall and F1 on a labelled query, for all its rows and for each category; no row for NULL.
/// Parallel unsafe, because the query may do anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn evaluate(
    _version: SameVersion,
    classifier: Option<RegClass>,
    labelled_query: Option<&str>,
    method: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(category, Option<String>),
            name!(n, i64),
            name!(failed, i64),
            name!(top1, Option<f64>),
            name!(top5, Option<f64>),
            name!(precision, Option<f64>),
            name!(recall, Option<f64>),
            name!(f1, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let (Some(classifier), Some(query)) = (classifier, labelled_query) else {
        return Ok(TableIterator::new([]));
    };
    let progress = Progress::start(Command::Evaluate, classifier);
    let fitted = fitted::get(classifier)?;
    let evaluation = classify(&fitted, query, method, progress)?;
    let names = fitted.classifier.categories().iter().cloned().map(Some);
    let mut rows = vec![row(None, evaluation.overall())];
    rows.extend(names.zip(evaluation.categories()).map(|(name, figures)| row(name, figures)));
    Ok(TableIterator::new(rows))
}

/// How often each category of a labelled query was predicted as which; no row for NULL. Parallel unsafe, because the query
/// may do anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn confusion_matrix(
    _version: SameVersion,
    classifier: Option<RegClass>,
    labelled_query: Option<&str>,
    method: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<'static, (name!(truth, String), name!(predicted, Option<String>), name!(n, i64))>,
    ErrorReport,
> {
    let (Some(classifier), Some(query)) = (classifier, labelled_query) else {
        return Ok(TableIterator::new([]));
    };
    let progress = Progress::start(Command::ConfusionMatrix, classifier);
    let fitted = fitted::get(classifier)?;
    let evaluation = classify(&fitted, query, method, progress)?;
    let name = |category: usize| fitted.classifier.categories()[category].clone();
    let rows: Vec<_> = evaluation
        .confusion()
        .map(|(truth, predicted, n)| (name(truth), predicted.map(name), count(n)))
        .collect();
    Ok(TableIterator::new(rows))
}

/// Classifies every row of a query.
fn classify(fitted: &Fitted, query: &str, method: Option<&str>, progress: Progress) -> Result<Evaluation> {
    let method = fitted.method(method)?;
    let space = Space::new(&fitted.name, &fitted.settings, fitted.classifier.support_set());
    let mut evaluation = Evaluation::new(space.categories.len());
    let progress = RefCell::new(progress);
    let begin = |expected| progress.borrow_mut().phase(Phase::Classifying, expected);
    let unreadable = labelled::read(&space, query, begin, |features, truths, failed| {
        let rows = fitted.classifier.max_queries();
        for (features, truths) in features.axis_chunks_iter(Axis(0), rows).zip(truths.chunks(rows)) {
            let logits = fitted.classifier.logits(features, method);
            for (logits, &truth) in logits.rows().into_iter().zip(truths) {
                let best = top_k(&logits.to_vec(), Evaluation::TOP);
                evaluation.record(truth, best.into_iter().map(|ranked| ranked.category));
            }
        }
        progress.borrow_mut().advance(truths.len() as u64 + failed, failed);
        Ok(())
    })?;
    for (truth, &images) in unreadable.per_category.iter().enumerate() {
        evaluation.record_failed(truth, images);
    }
    Ok(evaluation)
}

fn row(category: Option<String>, figures: Figures) -> Row {
    let Figures { n, failed, top1, top5, precision, recall, f1 } = figures;
    (category, count(n), count(failed), top1, top5, precision, recall, f1)
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
