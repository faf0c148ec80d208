//! Tuning a classifier's parameters on labelled images, or on the support set itself.

mod labelled_sample;

use std::cell::RefCell;
use std::sync::Arc;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::{ClassifierParams, ValidParams};
use susx_core::method::Method;
use susx_core::method::gated_tip_x::GatedTipX;
use susx_core::method::gda::{GdaGrid, GdaGridSearch, GdaTuned};
use susx_core::method::likeness::{Likeness, LikenessGridSearch, LikenessTuned};
use susx_core::method::tip_x::{LeaveOneOut, TipXGrid, TipXGridSearch, TipXTuned};
use susx_core::queries::{OwnedQueries, Queries};
use susx_core::sus::SupportSet;

use crate::fitted;
use crate::labelled_images::{self as labelled, Space, WithoutLikeness};
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, ClassifierError, Settings};
use crate::pg::catalog::prevent_in_read_only;
use crate::pg::error::{Error, Result};
use crate::pg::message::note;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use labelled_sample::LabelledSample;

/// Affinities that are in memory at the same time, four bytes each.
const BLOCK: usize = 1 << 20;

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

/// Results of the searches.
#[derive(Clone, Copy, Debug)]
struct Tuned {
    tip_x: TipXTuned,
    /// The same for gated TIP-X.
    gated: TipXTuned,
    gda: GdaTuned,
    /// `None` for a support set without likeness vectors.
    likeness: Option<LikenessTuned>,
}

/// The fits that are searched.
#[derive(Debug)]
struct Fits {
    gated: GatedTipX,
    likeness: Option<Likeness>,
}

/// The searches of all methods that have parameters to tune.
#[derive(Debug)]
struct Searches<'a> {
    tip_x: TipXGridSearch,
    gated: TipXGridSearch,
    gda: GdaGridSearch<'a>,
    likeness: Option<LikenessGridSearch<'a>>,
}

/// The grids to search.
#[derive(Debug)]
struct Grids {
    tip_x: TipXGrid,
    gda: GdaGrid,
    /// Lambdas of likeness.
    likeness: Vec<f32>,
}

/// Finds alpha, beta and gamma by the published grid search, and lambda and ridge by a small one (where images are compared by
/// likeness vectors, lambda by another), and stores them: on a
/// query of labelled images or, without one, on every support image as the classifier without it would label it. On a
/// query, it also finds the temperature of the probabilities, and if that has images of none of the categories, the
/// threshold `reject`, for which alone these images count. They are no part of `n` and the accuracies.
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
    let support_set = fitted::support_set(classifier)?;
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
    let gated = &fits.gated;
    let support_set = gated.tip_x().support_set();
    progress.phase(Phase::Searching, Some(support_set.len() as u64));
    let mut searches = Searches::new(fits, params, grids);
    let size = block_rows(support_set);
    for (block, truth) in tip_x.categories().chunks(size).enumerate() {
        check_for_interrupts!();
        let rows = block * size..block * size + truth.len();
        let numbers: Vec<usize> = rows.clone().collect();
        let parts = tip_x.parts(&numbers);
        searches.tip_x.add(&parts, truth);
        searches.gated.add(&gated.parts_without(&numbers, parts), truth);
        searches.gda.leave_out(rows);
        if let Some(search) = &mut searches.likeness {
            search.leave_out(&numbers);
        }
        progress.advance(truth.len() as u64, 0);
    }
    Ok(searches)
}

/// Number of images that are processed together.
fn block_rows(support_set: &SupportSet) -> usize {
    (BLOCK / support_set.len().max(support_set.categories().len()).max(1)).clamp(1, 64)
}

impl Grids {
    fn full() -> Self {
        Grids {
            tip_x: TipXGrid::published(),
            gda: GdaGrid::standard(),
            likeness: LikenessGridSearch::standard(),
        }
    }

    /// The present parameters, and what [`Searches::present`] needs to count the methods without some terms.
    fn present(params: ClassifierParams) -> Self {
        let ClassifierParams { alpha, beta, gamma, lambda, ridge, .. } = params;
        Grids {
            tip_x: TipXGrid { alpha: vec![0.0, alpha], beta: vec![beta], gamma: vec![0.0, gamma] },
            gda: GdaGrid { lambda: vec![lambda], ridge: vec![ridge] },
            likeness: vec![lambda],
        }
    }
}

impl<'a> Searches<'a> {
    fn new(fits: &'a Fits, params: ValidParams, grids: Grids) -> Self {
        let likeness = fits.likeness.as_ref();
        Searches {
            tip_x: TipXGridSearch::new(grids.tip_x.clone()),
            gated: TipXGridSearch::new(grids.tip_x),
            gda: GdaGridSearch::new(fits.gated.tip_x().support_set(), params.logit_scale, grids.gda),
            likeness: likeness.map(|fit| LikenessGridSearch::new(fit, params, grids.likeness)),
        }
    }

    /// Tries images of these categories. Images of none have no right answer that a search could look for.
    fn add(&mut self, Fits { gated, .. }: &Fits, images: Queries, truth: &[Option<usize>]) {
        let (images, truth) = of_categories(images, truth);
        if truth.is_empty() {
            return;
        }
        let parts = gated.tip_x().parts(images.view());
        self.tip_x.add(&parts, &truth);
        self.gated.add(&gated.parts(images.view(), parts), &truth);
        self.gda.add(images.view(), &truth);
        if let Some(search) = &mut self.likeness {
            search.add(images.view(), &truth);
        }
    }

    /// The best parameters; an error if no image was tried.
    fn best(&self) -> Result<Tuned> {
        let likeness = self.likeness.as_ref().and_then(LikenessGridSearch::best);
        match (self.tip_x.best(), self.gated.best(), self.gda.best()) {
            (Some(tip_x), Some(gated), Some(gda)) => Ok(Tuned { tip_x, gated, gda, likeness }),
            _ => Err(Error::argument("the query gave no image to tune on")),
        }
    }

    /// How the present parameters do, from a search of [`Grids::present`].
    fn present(&self) -> Result<Tuned> {
        let Tuned { tip_x: TipXTuned { rows, .. }, gda, likeness, .. } = self.best()?;
        Ok(Tuned { tip_x: present(&self.tip_x, rows)?, gated: present(&self.gated, rows)?, gda, likeness })
    }
}

/// The rows of images that are of some category, with their categories.
fn of_categories(images: Queries, truth: &[Option<usize>]) -> (OwnedQueries, Vec<usize>) {
    let (rows, truth): (Vec<usize>, Vec<usize>) =
        truth.iter().enumerate().filter_map(|(row, truth)| Some((row, (*truth)?))).unzip();
    (images.select(&rows), truth)
}

/// The counts of the present parameters, without and with each term.
fn present(search: &TipXGridSearch, rows: u32) -> Result<TipXTuned> {
    let triples: Vec<_> = search.counts().collect();
    let [(.., zero_shot), _, (.., tip_adapter), (alpha, beta, gamma, tip_x)] = triples[..] else {
        return Err(Error::internal("a grid of two by two has four counts"));
    };
    Ok(TipXTuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, tip_x })
}

impl Tuned {
    /// Images that a method classifies correctly with the tuned parameters; `None` for a method that is not tuned.
    fn correct(&self, method: Method) -> Option<u32> {
        match method {
            Method::ZeroShot => Some(self.tip_x.zero_shot),
            Method::TipAdapter => Some(self.tip_x.tip_adapter),
            Method::TipX => Some(self.tip_x.tip_x),
            Method::GatedTipX => Some(self.gated.tip_x),
            Method::Gda => Some(self.gda.gda),
            Method::Likeness => self.likeness.map(|tuned| tuned.likeness),
        }
    }
}

/// Puts the parameters into the settings; returns the method that the classifier has now. If `may_switch` and no method
/// was set by hand, that is the most accurate one.
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
        // The ridge is no part of that search.
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
                "{best} is right about more images than {set}, the method that was set: \
                 alter_classifier(method => '{best}') changes it"
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
