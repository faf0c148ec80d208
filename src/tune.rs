//! Settings found on labelled images, or on the support set itself.

use std::cell::RefCell;

use ndarray::Axis;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::Method;
use susx_core::gda;
use susx_core::tip_x::{LeaveOneOut, Params, TipX};
use susx_core::tune::{Grid, Search, Tuned};

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

/// Affinities that are in memory at a time, four bytes each.
const BLOCK: usize = 1 << 20;

/// The settings of TIP-X, the share of images that every method of its formula has right, how many images
/// there were and could not be used, the same of the discriminant, and the method that answers from now on.
type Row = (f32, f32, f32, f64, f64, f64, i64, i64, f32, f32, f64, &'static str);

/// What the searches found.
#[derive(Clone, Copy, Debug)]
struct Found {
    tip_x: Tuned,
    gda: gda::Tuned,
}

/// Finds alpha, beta and gamma by the published grid search, and lambda and the ridge by a small one, and
/// stores them: on a query of labelled images, or, without one, on every support image as the classifier
/// without it would label it.
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
    // The search itself weighs the terms: all that is needed here is that there is a KL term.
    let tip_x =
        TipX::fit(support_set, Params { gamma: 1.0, ..settings.params.check().map_err(Error::from)? });
    let row = match validation_query {
        Some(query) => on_labelled_images(classifier, settings, &tip_x, query, progress)?,
        None => on_the_support_set(classifier, settings, &tip_x, progress)?,
    };
    Ok(TableIterator::once(row))
}

fn on_labelled_images(
    classifier: RegClass,
    settings: Settings,
    tip_x: &TipX,
    query: &str,
    progress: Progress,
) -> Result<Row> {
    let name = classifier.name()?;
    let space = Space::new(&name, &settings, tip_x.support_set());
    let mut search = Search::new(Grid::published());
    let mut gda_search = gda_search(tip_x, gda::Grid::standard());
    let progress = RefCell::new(progress);
    let mut images = 0;
    // The query is read while its images are tried: there is no other phase.
    let begin = |expected| progress.borrow_mut().phase(Phase::Searching, expected);
    let unreadable = labelled::read(&space, query, begin, |features, truth, failed| {
        let mut progress = progress.borrow_mut();
        progress.advance(failed, failed);
        images += truth.len();
        limits::check("the number of images to tune on", limits::TUNED, images)?;
        let rows = block_rows(tip_x);
        for (features, truth) in features.axis_chunks_iter(Axis(0), rows).zip(truth.chunks(rows)) {
            check_for_interrupts!();
            search.add(&tip_x.parts(features), truth);
            gda_search.add(features, truth);
            progress.advance(truth.len() as u64, 0);
        }
        Ok(())
    })?;
    let found = Found::of((search, gda_search))?;
    let method = store(classifier, settings, found, true)?;
    Ok(row(found, unreadable.total(), method))
}

fn on_the_support_set(
    classifier: RegClass,
    settings: Settings,
    tip_x: &TipX,
    mut progress: Progress,
) -> Result<Row> {
    let leave_one_out = LeaveOneOut::new(tip_x);
    let grids = (Grid::published(), gda::Grid::standard());
    let mut found = Found::of(search_support_set(&leave_one_out, tip_x, grids, &mut progress)?)?;
    // Retrieved images were chosen by their names. Where these are right about as many of them as any
    // setting is, that says nothing about other images.
    let is_chosen = catalog::has_chosen_support(classifier)?;
    let has_tip_x = is_chosen || found.tip_x.tip_x > found.tip_x.zero_shot;
    let has_gda = is_chosen || found.gda.gda > found.gda.zero_shot;
    if !(has_tip_x || has_gda) {
        note(
            "no setting is right about more of the retrieved images than their names alone, by which they \
             were retrieved: nothing was changed. Tune on a query of labelled images, or add some with \
             add_support.",
        );
    }
    if !(has_tip_x && has_gda) {
        let grids = present_grids(&settings);
        let present = Found::present(search_support_set(&leave_one_out, tip_x, grids, &mut progress)?)?;
        found = Found {
            tip_x: if has_tip_x { found.tip_x } else { present.tip_x },
            gda: if has_gda { found.gda } else { present.gda },
        };
    }
    let method = store(classifier, settings, found, is_chosen)?;
    Ok(row(found, 0, method))
}

/// The searches on every support image as the classifier without it would label it.
fn search_support_set<'a>(
    leave_one_out: &LeaveOneOut,
    tip_x: &'a TipX,
    (grid, gda_grid): (Grid, gda::Grid),
    progress: &mut Progress,
) -> Result<(Search, gda::Search<'a>)> {
    progress.phase(Phase::Searching, Some(tip_x.support_set().len() as u64));
    let mut search = Search::new(grid);
    let mut gda_search = gda_search(tip_x, gda_grid);
    let truth = leave_one_out.categories();
    for (block, truth) in truth.chunks(block_rows(tip_x)).enumerate() {
        check_for_interrupts!();
        let start = block * block_rows(tip_x);
        let rows = start..start + truth.len();
        search.add(&leave_one_out.parts(rows.clone()), truth);
        gda_search.leave_out(rows);
        progress.advance(truth.len() as u64, 0);
    }
    Ok((search, gda_search))
}

fn gda_search(tip_x: &TipX, grid: gda::Grid) -> gda::Search<'_> {
    gda::Search::new(tip_x.support_set(), tip_x.params().logit_scale, grid)
}

/// Images that are looked at together.
fn block_rows(tip_x: &TipX) -> usize {
    let support_set = tip_x.support_set();
    (BLOCK / support_set.len().max(support_set.categories().len()).max(1)).clamp(1, 64)
}

/// Of the settings that the classifier has: whatever gives its counts.
fn present_grids(settings: &Settings) -> (Grid, gda::Grid) {
    let Params { alpha, beta, gamma, .. } = settings.params;
    let gda::Params { lambda, ridge } = settings.gda;
    let grid = Grid { alpha: vec![0.0, alpha], beta: vec![beta], gamma: vec![0.0, gamma] };
    (grid, gda::Grid { lambda: vec![lambda], ridge: vec![ridge] })
}

impl Found {
    /// The best of two searches that have seen images.
    fn of((search, gda_search): (Search, gda::Search)) -> Result<Self> {
        match (search.best(), gda_search.best()) {
            (Some(tip_x), Some(gda)) => Ok(Found { tip_x, gda }),
            _ => Err(Error::argument("the query gave no image to tune on")),
        }
    }

    /// What the present settings are worth, of searches of [`present_grids`].
    fn present(searches: (Search, gda::Search)) -> Result<Self> {
        let triples: Vec<_> = searches.0.counts().collect();
        let [(.., zero_shot), _, (.., tip_adapter), (alpha, beta, gamma, tip_x)] = triples[..] else {
            return Err(Error::internal("a grid of two by two has four counts"));
        };
        let Found { tip_x: Tuned { rows, .. }, gda } = Found::of(searches)?;
        Ok(Found { tip_x: Tuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, tip_x }, gda })
    }
}

/// Stores the settings, and returns the method that the classifier has now. It goes over to the one that is
/// right most often if that `counts` and nobody has set one.
fn store(classifier: RegClass, mut settings: Settings, found: Found, counts: bool) -> Result<Method> {
    let Tuned { alpha, beta, gamma, .. } = found.tip_x;
    settings.params = Params { alpha, beta, gamma, ..settings.params };
    settings.gda = found.gda.params;
    let own = Method::with_support();
    let right = |method: Method| match method {
        Method::ZeroShot => found.tip_x.zero_shot,
        Method::TipAdapter => found.tip_x.tip_adapter,
        Method::TipX => found.tip_x.tip_x,
        Method::Gda => found.gda.gda,
    };
    let best = if right(Method::Gda) > right(Method::TipX) { Method::Gda } else { Method::TipX };
    if counts && right(best) > right(settings.method.unwrap_or(own)) {
        match settings.method {
            None => settings.method = Some(best),
            Some(set) => note(format!(
                "{best} is right about more images than {set}, the method that was set: \
                 alter_classifier(method => '{best}') changes it"
            )),
        }
    }
    catalog::update_settings(classifier, &settings)?;
    Ok(settings.method.unwrap_or(own))
}

fn row(Found { tip_x, gda }: Found, failed: u64, method: Method) -> Row {
    let share = |right: u32| f64::from(right) / f64::from(tip_x.rows);
    let failed = i64::try_from(failed).unwrap_or(i64::MAX);
    let Tuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, .. } = tip_x;
    let gda::Params { lambda, ridge } = gda.params;
    let (zero_shot, tip_adapter) = (share(zero_shot), share(tip_adapter));
    let (tip_x, gda) = (share(tip_x.tip_x), share(gda.gda));
    let rows = i64::from(rows);
    (alpha, beta, gamma, zero_shot, tip_adapter, tip_x, rows, failed, lambda, ridge, gda, method.name())
}
