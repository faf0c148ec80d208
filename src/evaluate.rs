//! Accuracy of a classifier on labelled images.

use std::cell::RefCell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::calibration::{Bin, Calibration};
use susx_core::classifier::Ranked;
use susx_core::evaluate::{Evaluation, Figures};

use crate::fitted::{self, Fitted};
use crate::labelled_images::{self as labelled, Space, Unreadable};
use crate::limits;
use crate::pg::error::Result;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Category, images, images that could not be read, the figures, images that got no label, and images of none of the
/// categories.
type Row = (
    Option<String>,
    i64,
    i64,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    i64,
    i64,
);

/// Bin, its limits, answers, their mean probability, and the share of right ones.
type BinRow = (i32, f64, f64, i64, Option<f64>, Option<f64>);

/// Accuracy, precision, recall, F1 and calibration error on a labelled query, for all its rows and for each category; no
/// row for NULL. Parallel unsafe, because the query may do anything.
///
/// The first row, whose category is NULL, is of all images. Images of none of the categories, whose category in the
/// query is NULL, have no separate row: the first row counts them in `n` and in `none`, and counts those that got no
/// label as right. A label that one of them got is wrong, and makes the precision of that category worse. `rejected`
/// counts all images that got no label, right or wrong.
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
            name!(calibration_error, Option<f64>),
            name!(rejected, i64),
            name!(none, i64),
        ),
    >,
    ErrorReport,
> {
    let (Some(classifier), Some(query)) = (classifier, labelled_query) else {
        return Ok(TableIterator::new([]));
    };
    let progress = Progress::start(Command::Evaluate, classifier);
    let fitted = fitted::get(classifier)?;
    let evaluation = evaluated(&fitted, query, method, progress)?;
    let names = fitted.classifier.categories().iter().cloned().map(Some);
    let mut rows = vec![row(None, evaluation.overall())];
    rows.extend(names.zip(evaluation.categories()).map(|(name, figures)| row(name, figures)));
    Ok(TableIterator::new(rows))
}

/// How often each category of a labelled query was predicted as which; no row for NULL. `truth` is NULL for images of none
/// of the categories, `predicted` for those that got no label or could not be read. Parallel unsafe, because the query may
/// do anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn confusion_matrix(
    _version: SameVersion,
    classifier: Option<RegClass>,
    labelled_query: Option<&str>,
    method: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<'static, (name!(truth, Option<String>), name!(predicted, Option<String>), name!(n, i64))>,
    ErrorReport,
> {
    let (Some(classifier), Some(query)) = (classifier, labelled_query) else {
        return Ok(TableIterator::new([]));
    };
    let progress = Progress::start(Command::ConfusionMatrix, classifier);
    let fitted = fitted::get(classifier)?;
    let evaluation = evaluated(&fitted, query, method, progress)?;
    let name = |category: usize| fitted.classifier.categories()[category].clone();
    let rows: Vec<_> = evaluation
        .confusion()
        .map(|(truth, predicted, n)| (truth.map(name), predicted.map(name), count(n)))
        .collect();
    Ok(TableIterator::new(rows))
}

/// Whether the probabilities of a labelled query are correct: in equally wide bins of the best category's probability,
/// how high it is on average and how many answers are right; no row for NULL. A label of an image of none of the
/// categories is a wrong answer; an image that gets no label has no answer. Parallel unsafe, because the query may do
/// anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn calibration(
    _version: SameVersion,
    classifier: Option<RegClass>,
    labelled_query: Option<&str>,
    method: default!(Option<&str>, "NULL"),
    bins: default!(Option<i32>, "15"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(bin, i32),
            name!(low, f64),
            name!(high, f64),
            name!(n, i64),
            name!(probability, Option<f64>),
            name!(accuracy, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let (Some(classifier), Some(query)) = (classifier, labelled_query) else {
        return Ok(TableIterator::new([]));
    };
    let bins = limits::count(bins.unwrap_or(Calibration::BINS as i32), "bins", limits::BINS)?;
    let progress = Progress::start(Command::Calibration, classifier);
    let fitted = fitted::get(classifier)?;
    let mut calibration = Calibration::new(bins);
    classify(&fitted, query, method, progress, |truth, ranked| {
        if let Some(best) = ranked.and_then(<[_]>::first) {
            calibration.record(best.probability, Some(best.category) == truth);
        }
    })?;
    let width = 1.0 / calibration.bins().len() as f64;
    let row = |(i, bin): (usize, &Bin)| -> BinRow {
        let (low, high) = (i as f64 * width, (i + 1) as f64 * width);
        (i as i32 + 1, low, high, count(bin.n), bin.probability(), bin.accuracy())
    };
    let rows: Vec<BinRow> = calibration.bins().iter().enumerate().map(row).collect();
    Ok(TableIterator::new(rows))
}

/// Classifies every row of a query, and compares the answers with the labels.
fn evaluated(fitted: &Fitted, query: &str, method: Option<&str>, progress: Progress) -> Result<Evaluation> {
    let mut evaluation = Evaluation::new(fitted.classifier.categories().len());
    let unreadable = classify(fitted, query, method, progress, |truth, ranked| {
        let Some(ranked) = ranked else { return evaluation.record_rejected(truth) };
        let probability = ranked.first().map_or(0.0, |best| best.probability);
        evaluation.record(truth, ranked.iter().map(|ranked| ranked.category), probability);
    })?;
    for (truth, &images) in unreadable.per_category.iter().enumerate() {
        evaluation.record_failed(Some(truth), images);
    }
    evaluation.record_failed(None, unreadable.of_none);
    Ok(evaluation)
}

/// Classifies every row of a query: passes the true category, if it has one, and the best categories, unless the row gets no
/// label, to `each`. Returns the rows that could not be read.
fn classify(
    fitted: &Fitted,
    query: &str,
    method: Option<&str>,
    progress: Progress,
    mut each: impl FnMut(Option<usize>, Option<&[Ranked]>),
) -> Result<Unreadable> {
    let method = fitted.method(method)?;
    let space = Space::new(&fitted.name, &fitted.settings, fitted.classifier.support_set());
    let progress = RefCell::new(progress);
    let begin = |expected| progress.borrow_mut().phase(Phase::Classifying, expected);
    labelled::read(&space, query, begin, |images, truths, failed| {
        let rows = fitted.classifier.max_queries();
        for (images, truths) in images.chunks(rows).zip(truths.chunks(rows)) {
            let accepted = fitted.classifier.accepted(images, method, Evaluation::TOP);
            for (ranked, &truth) in accepted.iter().zip(truths) {
                each(truth, ranked.as_deref());
            }
        }
        progress.borrow_mut().advance(truths.len() as u64 + failed, failed);
        Ok(())
    })
}

fn row(category: Option<String>, figures: Figures) -> Row {
    let Figures { n, failed, top1, top5, precision, recall, f1, calibration_error, rejected, none } = figures;
    let (n, failed, rejected, none) = (count(n), count(failed), count(rejected), count(none));
    (category, n, failed, top1, top5, precision, recall, f1, calibration_error, rejected, none)
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
