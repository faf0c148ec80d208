//! Tuning a classifier's parameters on labelled images, or on the support set itself.

mod labelled_sample;
mod searches;

use std::cell::RefCell;
use std::sync::Arc;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::{ClassifierParams, ValidParams};
use susx_core::method::Method;
use susx_core::method::gated_tip_x::GatedTipX;
use susx_core::method::gda::GdaTuned;
use susx_core::method::likeness::Likeness;
use susx_core::method::tip_x::{LeaveOneOut, TipXTuned};

use crate::labelled_images::{self as labelled, Space, WithoutLikeness};
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, ClassifierError, Settings};
use crate::pg::catalog::prevent_in_read_only;
use crate::pg::error::{Error, Result};
use crate::pg::message::note;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::support_set;
use labelled_sample::LabelledSample;
use searches::{Fits, Grids, Searches, Tuned, block_rows};

/// Alpha, beta and gamma; the accuracies of zero-shot, Tip-Adapter and TIP-X; the numbers of images that were tried and
/// that failed; lambda and ridge; the accuracy of the discriminant; the method that the classifier has now; the accuracy
/// of gated TIP-X; the temperature of the probabilities; the calibration error before and after; the threshold below which
/// an image gets no label; and the accuracy by likeness.
type Row = (
    f32,
    f32,
    f32,
    f64,
    f64,
    f64,
    i64,
    i64,
    f32,
    f32,
    f64,
    &'static str,
    f64,
    f32,
    Option<f64>,
    Option<f64>,
    f32,
    Option<f64>,
);

/// Finds alpha, beta and gamma by the published grid search, and lambda and ridge by a small one (where images are
/// compared by likeness vectors, lambda by another), and stores them: on a query of labelled images or, without one, on
/// every support image as the classifier without it would label it. On a query, it also finds the temperature of the
/// probabilities, and if that has images of none of the categories, the threshold `reject`. These images count only for
/// `reject`, not in `n` and the accuracies.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn tune(
    _version: SameVersion,
    classifier: Option<RegClass>,
    validation_query: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(alpha, f32),
            name!(beta, f32),
            name!(gamma, f32),
            name!(zero_shot, f64),
            name!(tip_adapter, f64),
            name!(tip_x, f64),
            name!(n, i64),
            name!(failed, i64),
            name!(lambda, f32),
            name!(ridge, f32),
            name!(gda, f64),
            name!(method, &'static str),
            name!(gated_tip_x, f64),
            name!(probability_temperature, f32),
            name!(calibration_error_before, Option<f64>),
            name!(calibration_error, Option<f64>),
            name!(reject, f32),
            name!(likeness, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let classifier = Error::required(classifier, "classifier")?;
    classifier.open_for_updating()?;
    prevent_in_read_only();
    let progress = Progress::start(Command::Tune, classifier);
    let settings = catalog::settings(classifier)?;
    let support_set = support_set::of(classifier)?;
    if support_set.is_empty() {
        return Err(Error::from(ClassifierError::NoSupport(classifier.name()?)).into());
    }
    // The searches weigh the terms themselves. The fits only need all terms, so gamma and lambda must not be 0.
    let params = ClassifierParams { gamma: 1.0, lambda: 1.0, ..settings.params };
    let params = params.check().map_err(Error::from)?;
    let support_set = Arc::new(support_set);
    let likeness = support_set.has_likeness().then(|| Likeness::fit(Arc::clone(&support_set), params));
    let fits = Fits { gated: GatedTipX::fit(support_set, params), likeness };
    let row = match validation_query {
        Some(query) => on_labelled_images(classifier, settings, &fits, params, query, progress)?,
        None => on_the_support_set(classifier, settings, &fits, params, progress)?,
    };
    Ok(TableIterator::once(row))
}

fn on_labelled_images(
    classifier: RegClass,
    mut settings: Settings,
    fits: &Fits,
    params: ValidParams,
    query: &str,
    progress: Progress,
) -> Result<Row> {
    let name = classifier.name()?;
    let tip_x = fits.gated.tip_x();
    let without_likeness = WithoutLikeness::Refused;
    let space = Space { without_likeness, ..Space::new(&name, &settings, tip_x.support_set()) };
    let mut searches = Searches::new(fits, params, Grids::full());
    let mut sample = LabelledSample::new(tip_x.support_set());
    let progress = RefCell::new(progress);
    let mut count = 0;
    // Images are tried while the query is read, so there is a single phase.
    let begin = |expected| progress.borrow_mut().phase(Phase::Searching, expected);
    let unreadable = labelled::read(&space, query, begin, |images, truth, failed| {
        let mut progress = progress.borrow_mut();
        progress.advance(failed, failed);
        count += truth.len();
        limits::check("the number of images to tune on", limits::TUNED, count)?;
        sample.add(images, truth);
        let rows = block_rows(tip_x.support_set());
        for (images, truth) in images.chunks(rows).zip(truth.chunks(rows)) {
            check_for_interrupts!();
            searches.add(fits, images, truth);
            progress.advance(truth.len() as u64, 0);
        }
        Ok(())
    })?;
    let tuned = searches.best()?;
    let method = apply(&mut settings, tuned, true);
    let errors = sample.calibrate(&mut settings, tip_x.support_set(), method)?;
    // After the temperature, on which what is known of an image depends.
    sample.find_reject(&mut settings, tip_x.support_set())?;
    catalog::update_settings(classifier, &settings)?;
    Ok(row(tuned, unreadable.total(), method, settings.params, errors))
}

fn on_the_support_set(
    classifier: RegClass,
    mut settings: Settings,
    fits: &Fits,
    params: ValidParams,
    mut progress: Progress,
) -> Result<Row> {
    let tip_x = LeaveOneOut::new(fits.gated.tip_x());
    let mut search = |grids| search_support_set(&tip_x, fits, params, grids, &mut progress);
    let mut tuned = search(Grids::full())?.best()?;
    // Retrieved images were chosen by the names of their categories. If the names classify as many of them correctly as
    // any parameters do, the result says nothing about other images.
    let is_chosen = catalog::has_chosen_support(classifier)?;
    let best_of_tip_x = tuned.tip_x.tip_x.max(tuned.gated.tip_x);
    let has_tip_x = is_chosen || best_of_tip_x > tuned.tip_x.zero_shot;
    let has_gda = is_chosen || tuned.gda.gda > tuned.gda.zero_shot;
    let has_likeness = tuned
        .likeness
        .is_some_and(|tuned_likeness| is_chosen || tuned_likeness.likeness > tuned.gda.zero_shot);
    if !(has_tip_x || has_gda || has_likeness) {
        note(
            "no setting is right about more of the retrieved images than their names alone, by which they \
             were retrieved: nothing was changed. Tune on a query of labelled images, or add some with \
             add_support.",
        );
    }
    if !(has_tip_x && has_gda && (has_likeness || tuned.likeness.is_none())) {
        let present = search(Grids::present(settings.params))?.present()?;
        tuned = Tuned {
            tip_x: if has_tip_x { tuned.tip_x } else { present.tip_x },
            gated: if has_tip_x { tuned.gated } else { present.gated },
            gda: if has_gda { tuned.gda } else { present.gda },
            likeness: if has_likeness { tuned.likeness } else { present.likeness },
        };
    }
    let method = apply(&mut settings, tuned, is_chosen);
    catalog::update_settings(classifier, &settings)?;
    Ok(row(tuned, 0, method, settings.params, None))
}

/// Searches on every support image as the classifier without it would label it.
fn search_support_set<'a>(
    tip_x: &LeaveOneOut,
    fits: &'a Fits,
    params: ValidParams,
    grids: Grids,
    progress: &mut Progress,
) -> Result<Searches<'a>> {
    let support_set = fits.gated.tip_x().support_set();
    progress.phase(Phase::Searching, Some(support_set.len() as u64));
    let mut searches = Searches::new(fits, params, grids);
    let size = block_rows(support_set);
    for (block, truth) in tip_x.categories().chunks(size).enumerate() {
        check_for_interrupts!();
        searches.leave_out(&fits.gated, tip_x, block * size..block * size + truth.len(), truth);
        progress.advance(truth.len() as u64, 0);
    }
    Ok(searches)
}

/// Puts the parameters into the settings; returns the method that the classifier has now. If `may_switch` is set and no
/// method was set by hand, this is the most accurate one.
///
/// Both kinds of TIP-X have the same alpha, beta and gamma, which are those of the more accurate one.
fn apply(settings: &mut Settings, tuned: Tuned, may_switch: bool) -> Method {
    let is_gated = tuned.gated.tip_x >= tuned.tip_x.tip_x;
    let best_of_tip_x = if is_gated { Method::GatedTipX } else { Method::TipX };
    // A method that was set by hand, and stays, gets the parameters that are best for it.
    let TipXTuned { alpha, beta, gamma, .. } = match settings.method {
        Some(Method::TipX) => tuned.tip_x,
        Some(Method::GatedTipX) => tuned.gated,
        _ if is_gated => tuned.gated,
        _ => tuned.tip_x,
    };
    let default = if tuned.likeness.is_some() { Method::DEFAULT_BY_LIKENESS } else { Method::DEFAULT };
    let current = settings.method.unwrap_or(default);
    let candidates = [Some(best_of_tip_x), Some(Method::Gda), tuned.likeness.map(|_| Method::Likeness)];
    let best = candidates.into_iter().flatten().fold(best_of_tip_x, |best, method| {
        if tuned.correct(method) > tuned.correct(best) { method } else { best }
    });
    // Both have a lambda. The method that stays gets its own.
    let uses_gda = [settings.method, Some(best)].contains(&Some(Method::Gda));
    let GdaTuned { lambda, ridge, .. } = tuned.gda;
    settings.params = match tuned.likeness {
        // That search does not include the ridge.
        Some(likeness) if !uses_gda => {
            ClassifierParams { alpha, beta, gamma, lambda: likeness.lambda, ..settings.params }
        }
        _ => ClassifierParams { alpha, beta, gamma, lambda, ridge, ..settings.params },
    };
    let is_better = tuned.correct(current).is_some_and(|current| tuned.correct(best) > Some(current));
    if may_switch && is_better {
        match settings.method {
            None => settings.method = Some(best),
            Some(set) => note(format!(
                "{best} labels more images correctly than {set}, the method that is set; to change it: \
                 alter_classifier(method => '{best}')"
            )),
        }
    }
    settings.method.unwrap_or(default)
}

/// The calibration errors before and after a change of the temperature; `None` if it was not changed.
type Errors = Option<(f64, f64)>;

fn row(tuned: Tuned, failed: u64, method: Method, params: ClassifierParams, errors: Errors) -> Row {
    let Tuned { tip_x, gated, gda, likeness } = tuned;
    let accuracy = |correct: u32| f64::from(correct) / f64::from(tip_x.rows);
    let failed = i64::try_from(failed).unwrap_or(i64::MAX);
    let ClassifierParams { alpha, beta, gamma, lambda, ridge, probability_temperature, reject, .. } = params;
    (
        alpha,
        beta,
        gamma,
        accuracy(tip_x.zero_shot),
        accuracy(tip_x.tip_adapter),
        accuracy(tip_x.tip_x),
        i64::from(tip_x.rows),
        failed,
        lambda,
        ridge,
        accuracy(gda.gda),
        method.name(),
        accuracy(gated.tip_x),
        probability_temperature,
        errors.map(|(before, _)| before),
        errors.map(|(_, after)| after),
        reject,
        likeness.map(|tuned| accuracy(tuned.likeness)),
    )
}
