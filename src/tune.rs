//! Settings found on labelled images, or on the support set itself.

use std::cell::RefCell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::tip_x::{LeaveOneOut, Params, TipX};
use susx_core::tune::{Grid, Search, Tuned};

use crate::fitted;
use crate::labelled::{self, Space};
use crate::pg::catalog::classifier::{self as catalog, Settings};
use crate::pg::catalog::prevent_in_read_only;
use crate::pg::error::{Error, Result};
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Affinities that are in memory at a time, four bytes each.
const BLOCK: usize = 1 << 20;

/// The settings, the share of images that every method has right, and how many images there were and
/// could not be used.
type Row = (f32, f32, f32, f64, f64, f64, i64, i64);

/// Finds alpha, beta and gamma by the published grid search and stores them: on a query of labelled
/// images, or, without one, on every support image as the classifier without it would label it.
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
        return Err(Error::NoSupport(classifier.name()?).into());
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
    let space = Space::new(&name, &settings, tip_x);
    let mut search = Search::new(Grid::published());
    let progress = RefCell::new(progress);
    // The query is read while its images are tried: there is no other phase.
    let begin = |expected| progress.borrow_mut().phase(Phase::Searching, expected);
    let unreadable = labelled::read(&space, query, begin, |features, truth, failed| {
        let mut progress = progress.borrow_mut();
        progress.advance(failed, failed);
        let rows = block_rows(tip_x);
        for (features, truth) in features.axis_chunks_iter(ndarray::Axis(0), rows).zip(truth.chunks(rows)) {
            check_for_interrupts!();
            search.add_in_steps(&tip_x.parts(features), truth, || {
                check_for_interrupts!();
            });
            progress.advance(truth.len() as u64, 0);
        }
        Ok(())
    })?;
    let best = search.best().ok_or_else(|| Error::argument("the query gave no image to tune on"))?;
    store(classifier, settings, best)?;
    Ok(row(best, unreadable.total()))
}

fn on_the_support_set(
    classifier: RegClass,
    settings: Settings,
    tip_x: &TipX,
    mut progress: Progress,
) -> Result<Row> {
    let leave_one_out = LeaveOneOut::new(tip_x);
    progress.phase(Phase::Searching, Some(tip_x.support_set().len() as u64));
    let best = search_support_set(&leave_one_out, tip_x, Grid::published(), &mut progress)?.best();
    let best = best.ok_or_else(|| Error::Internal("a support set without rows".to_owned()))?;
    // Retrieved images were chosen by their names. Where these are right about as many of them as any
    // setting is, that says nothing about other images.
    if best.tip_x > best.zero_shot || catalog::has_chosen_support(classifier)? {
        store(classifier, settings, best)?;
        return Ok(row(best, 0));
    }
    notice!(
        "no setting is right about more of the retrieved images than their names alone, by which they were \
         retrieved: nothing was changed. Tune on a query of labelled images, or add some with add_support."
    );
    let Params { alpha, beta, gamma, .. } = settings.params;
    let present = Grid { alpha: vec![0.0, alpha], beta: vec![beta], gamma: vec![0.0, gamma] };
    progress.phase(Phase::Searching, Some(tip_x.support_set().len() as u64));
    let search = search_support_set(&leave_one_out, tip_x, present, &mut progress)?;
    let right: Vec<u32> = search.counts().map(|c| c.3).collect();
    let [zero_shot, _, tip_adapter, tip_x] = right[..] else {
        return Err(Error::Internal("a grid of two by two has four counts".to_owned()));
    };
    Ok(row(Tuned { alpha, beta, gamma, rows: best.rows, zero_shot, tip_adapter, tip_x }, 0))
}

fn search_support_set(
    leave_one_out: &LeaveOneOut,
    tip_x: &TipX,
    grid: Grid,
    progress: &mut Progress,
) -> Result<Search> {
    let mut search = Search::new(grid);
    let truth = leave_one_out.categories();
    for (block, truth) in truth.chunks(block_rows(tip_x)).enumerate() {
        check_for_interrupts!();
        let start = block * block_rows(tip_x);
        let parts = leave_one_out.parts(start..start + truth.len());
        search.add_in_steps(&parts, truth, || {
            check_for_interrupts!();
        });
        progress.advance(truth.len() as u64, 0);
    }
    Ok(search)
}

/// Images that are looked at together.
fn block_rows(tip_x: &TipX) -> usize {
    (BLOCK / tip_x.support_set().len().max(1)).clamp(1, 64)
}

fn store(classifier: RegClass, mut settings: Settings, best: Tuned) -> Result<()> {
    let Tuned { alpha, beta, gamma, .. } = best;
    settings.params = Params { alpha, beta, gamma, ..settings.params };
    catalog::update_settings(classifier, &settings)
}

fn row(tuned: Tuned, failed: u64) -> Row {
    let share = |right: u32| f64::from(right) / f64::from(tuned.rows);
    let Tuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, tip_x } = tuned;
    let failed = i64::try_from(failed).unwrap_or(i64::MAX);
    (alpha, beta, gamma, share(zero_shot), share(tip_adapter), share(tip_x), i64::from(rows), failed)
}
