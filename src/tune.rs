//! Tuning a classifier's parameters on labelled images, or on the support set itself.

use std::cell::RefCell;

use ndarray::Axis;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::{ClassifierParams, ValidParams};
use susx_core::method::Method;
use susx_core::method::gda::{GdaGrid, GdaGridSearch, GdaTuned};
use susx_core::method::tip_x::{LeaveOneOut, TipX, TipXGrid, TipXGridSearch, TipXTuned};

use crate::fitted;
use crate::labelled_images::{self as labelled, Space};
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, ClassifierError, Settings};
use crate::pg::catalog::prevent_in_read_only;
use crate::pg::error::{Error, Result};
use crate::pg::message::note;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Affinities that are in memory at the same time, four bytes each.
const BLOCK: usize = 1 << 20;

/// Alpha, beta and gamma; the accuracies of zero-shot, Tip-Adapter and TIP-X; the numbers of images that were tried and
/// that failed; lambda and ridge; the accuracy of the discriminant; and the method that the classifier has now.
type Row = (f32, f32, f32, f64, f64, f64, i64, i64, f32, f32, f64, &'static str);

/// Results of the searches.
#[derive(Clone, Copy, Debug)]
struct Tuned {
    tip_x: TipXTuned,
    gda: GdaTuned,
}

/// The searches of all methods that have parameters to tune.
#[derive(Debug)]
struct Searches<'a> {
    tip_x: TipXGridSearch,
    gda: GdaGridSearch<'a>,
}

/// The grids to search.
#[derive(Debug)]
struct Grids {
    tip_x: TipXGrid,
    gda: GdaGrid,
}

/// Finds alpha, beta and gamma by the published grid search, and lambda and ridge by a small one, and stores them: on a
/// query of labelled images or, without one, on every support image as the classifier without it would label it.
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
    // The search weighs the terms itself. The fit only needs a KL term, so gamma must not be 0.
    let params = ClassifierParams { gamma: 1.0, ..settings.params }.check().map_err(Error::from)?;
    let tip_x = TipX::fit(support_set, params);
    let row = match validation_query {
        Some(query) => on_labelled_images(classifier, settings, &tip_x, params, query, progress)?,
        None => on_the_support_set(classifier, settings, &tip_x, params, progress)?,
    };
    Ok(TableIterator::once(row))
}

fn on_labelled_images(
    classifier: RegClass,
    settings: Settings,
    tip_x: &TipX,
    params: ValidParams,
    query: &str,
    progress: Progress,
) -> Result<Row> {
    let name = classifier.name()?;
    let space = Space::new(&name, &settings, tip_x.support_set());
    let mut searches = Searches::new(tip_x, params, Grids::full());
    let progress = RefCell::new(progress);
    let mut images = 0;
    // Images are tried while the query is read, so there is a single phase.
    let begin = |expected| progress.borrow_mut().phase(Phase::Searching, expected);
    let unreadable = labelled::read(&space, query, begin, |features, truth, failed| {
        let mut progress = progress.borrow_mut();
        progress.advance(failed, failed);
        images += truth.len();
        limits::check("the number of images to tune on", limits::TUNED, images)?;
        let rows = block_rows(tip_x);
        for (features, truth) in features.axis_chunks_iter(Axis(0), rows).zip(truth.chunks(rows)) {
            check_for_interrupts!();
            searches.tip_x.add(&tip_x.parts(features), truth);
            searches.gda.add(features, truth);
            progress.advance(truth.len() as u64, 0);
        }
        Ok(())
    })?;
    let tuned = searches.best()?;
    let method = store(classifier, settings, tuned, true)?;
    Ok(row(tuned, unreadable.total(), method))
}

fn on_the_support_set(
    classifier: RegClass,
    settings: Settings,
    tip_x: &TipX,
    params: ValidParams,
    mut progress: Progress,
) -> Result<Row> {
    let leave_one_out = LeaveOneOut::new(tip_x);
    let mut search = |grids| search_support_set(&leave_one_out, tip_x, params, grids, &mut progress);
    let mut tuned = search(Grids::full())?.best()?;
    // Retrieved images were chosen by the names of their categories. If the names classify as many of them correctly as
    // any parameters do, the result says nothing about other images.
    let is_chosen = catalog::has_chosen_support(classifier)?;
    let has_tip_x = is_chosen || tuned.tip_x.tip_x > tuned.tip_x.zero_shot;
    let has_gda = is_chosen || tuned.gda.gda > tuned.gda.zero_shot;
    if !(has_tip_x || has_gda) {
        note(
            "no setting is right about more of the retrieved images than their names alone, by which they \
             were retrieved: nothing was changed. Tune on a query of labelled images, or add some with \
             add_support.",
        );
    }
    if !(has_tip_x && has_gda) {
        let present = search(Grids::present(settings.params))?.present()?;
        tuned = Tuned {
            tip_x: if has_tip_x { tuned.tip_x } else { present.tip_x },
            gda: if has_gda { tuned.gda } else { present.gda },
        };
    }
    let method = store(classifier, settings, tuned, is_chosen)?;
    Ok(row(tuned, 0, method))
}

/// Searches on every support image as the classifier without it would label it.
fn search_support_set<'a>(
    leave_one_out: &LeaveOneOut,
    tip_x: &'a TipX,
    params: ValidParams,
    grids: Grids,
    progress: &mut Progress,
) -> Result<Searches<'a>> {
    progress.phase(Phase::Searching, Some(tip_x.support_set().len() as u64));
    let mut searches = Searches::new(tip_x, params, grids);
    let truth = leave_one_out.categories();
    for (block, truth) in truth.chunks(block_rows(tip_x)).enumerate() {
        check_for_interrupts!();
        let start = block * block_rows(tip_x);
        let rows = start..start + truth.len();
        searches.tip_x.add(&leave_one_out.parts(rows.clone()), truth);
        searches.gda.leave_out(rows);
        progress.advance(truth.len() as u64, 0);
    }
    Ok(searches)
}

/// Number of images that are processed together.
fn block_rows(tip_x: &TipX) -> usize {
    let support_set = tip_x.support_set();
    (BLOCK / support_set.len().max(support_set.categories().len()).max(1)).clamp(1, 64)
}

impl Grids {
    fn full() -> Self {
        Grids { tip_x: TipXGrid::published(), gda: GdaGrid::standard() }
    }

    /// The present parameters, and what [`Searches::present`] needs to count the methods without some terms.
    fn present(params: ClassifierParams) -> Self {
        let ClassifierParams { alpha, beta, gamma, lambda, ridge, .. } = params;
        Grids {
            tip_x: TipXGrid { alpha: vec![0.0, alpha], beta: vec![beta], gamma: vec![0.0, gamma] },
            gda: GdaGrid { lambda: vec![lambda], ridge: vec![ridge] },
        }
    }
}

impl<'a> Searches<'a> {
    fn new(tip_x: &'a TipX, params: ValidParams, grids: Grids) -> Self {
        Searches {
            tip_x: TipXGridSearch::new(grids.tip_x),
            gda: GdaGridSearch::new(tip_x.support_set(), params.logit_scale, grids.gda),
        }
    }

    /// The best parameters; an error if no image was tried.
    fn best(&self) -> Result<Tuned> {
        match (self.tip_x.best(), self.gda.best()) {
            (Some(tip_x), Some(gda)) => Ok(Tuned { tip_x, gda }),
            _ => Err(Error::argument("the query gave no image to tune on")),
        }
    }

    /// How the present parameters do, from a search of [`Grids::present`].
    fn present(&self) -> Result<Tuned> {
        let triples: Vec<_> = self.tip_x.counts().collect();
        let [(.., zero_shot), _, (.., tip_adapter), (alpha, beta, gamma, tip_x)] = triples[..] else {
            return Err(Error::internal("a grid of two by two has four counts"));
        };
        let Tuned { tip_x: TipXTuned { rows, .. }, gda } = self.best()?;
        Ok(Tuned { tip_x: TipXTuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, tip_x }, gda })
    }
}

impl Tuned {
    /// Images that a method classifies correctly with the tuned parameters; `None` for a method that is not tuned.
    fn correct(&self, method: Method) -> Option<u32> {
        match method {
            Method::ZeroShot => Some(self.tip_x.zero_shot),
            Method::TipAdapter => Some(self.tip_x.tip_adapter),
            Method::TipX => Some(self.tip_x.tip_x),
            Method::Gda => Some(self.gda.gda),
        }
    }
}

/// Stores the parameters; returns the method that the classifier has now. If `may_switch` and no method was set by hand,
/// that is the most accurate one.
fn store(classifier: RegClass, mut settings: Settings, tuned: Tuned, may_switch: bool) -> Result<Method> {
    let TipXTuned { alpha, beta, gamma, .. } = tuned.tip_x;
    let GdaTuned { lambda, ridge, .. } = tuned.gda;
    settings.params = ClassifierParams { alpha, beta, gamma, lambda, ridge, ..settings.params };
    let best = if tuned.gda.gda > tuned.tip_x.tip_x { Method::Gda } else { Method::TipX };
    let current = settings.method.unwrap_or(Method::DEFAULT);
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
    catalog::update_settings(classifier, &settings)?;
    Ok(settings.method.unwrap_or(Method::DEFAULT))
}

fn row(Tuned { tip_x, gda }: Tuned, failed: u64, method: Method) -> Row {
    let accuracy = |correct: u32| f64::from(correct) / f64::from(tip_x.rows);
    let failed = i64::try_from(failed).unwrap_or(i64::MAX);
    let TipXTuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, .. } = tip_x;
    let GdaTuned { lambda, ridge, .. } = gda;
    let (zero_shot, tip_adapter) = (accuracy(zero_shot), accuracy(tip_adapter));
    let (tip_x, gda) = (accuracy(tip_x.tip_x), accuracy(gda.gda));
    let rows = i64::from(rows);
    (alpha, beta, gamma, zero_shot, tip_adapter, tip_x, rows, failed, lambda, ridge, gda, method.name())
}
