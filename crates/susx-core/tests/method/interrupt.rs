//! Whatever takes long can be left, often enough and without harm.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::Array2;
use susx_core::classifier::{Classifier, ClassifierParams, ValidParams};
use susx_core::interrupt;
use susx_core::method::gated_tip_x::GatedTipX;
use susx_core::method::likeness::Likeness;
use susx_core::method::tip_x::{LeaveOneOut, TipX, TipXGrid, TipXGridSearch};
use susx_core::method::{Method, gated_tip_x, gda};
use susx_core::sus::{Retrieval, SupportError, SupportSet, SupportSetBuilder, parse_cupl, unit};

use crate::literal::valid;

thread_local! {
    /// How often this thread was asked, and at which time it wants to leave.
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static LEAVES_AT: Cell<u64> = const { Cell::new(u64::MAX) };
}

fn asked() {
    ASKED.set(ASKED.get() + 1);
    assert!(ASKED.get() < LEAVES_AT.get(), "left");
}

/// Runs `work`, which must ask at least so often, and then leaves it at its first question and in its middle.
fn can_be_left<T>(what: &str, least: usize, work: impl Fn() -> T) {
    interrupt::register(asked);
    ASKED.set(0);
    work();
    let all = ASKED.get();
    assert!(all >= least as u64, "{what} asked {all} times, not {least}");
    for place in [1, all / 2 + 1] {
        ASKED.set(0);
        LEAVES_AT.set(place);
        let left = catch_unwind(AssertUnwindSafe(&work));
        LEAVES_AT.set(u64::MAX);
        assert!(left.is_err() && ASKED.get() == place, "{what} went on");
    }
    work();
}

fn vector(place: usize, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|i| ((place * 7919 + i * 104_729) % 1009) as f32 / 1009.0 - 0.45).collect()
}

fn support_set(categories: usize, per_class: usize, dimensions: usize) -> Result<SupportSet, SupportError> {
    let mut builder = SupportSetBuilder::new(dimensions);
    for c in 0..categories {
        let name = format!("c{c}");
        builder.push_prompt(&name, &vector(c, dimensions))?;
        for i in 0..per_class {
            builder.push_unlabelled_image(&name, 0, &vector(categories + c * per_class + i, dimensions))?;
        }
    }
    builder.finish()
}

fn matrix(rows: usize, dimensions: usize) -> Result<Array2<f32>, SupportError> {
    let mut elements = Vec::new();
    for row in 0..rows {
        elements.extend(unit(&vector(row + 17, dimensions))?);
    }
    Ok(Array2::from_shape_vec((rows, dimensions), elements).unwrap_or_default())
}

fn params() -> ValidParams {
    valid(ClassifierParams::START)
}

/// The same with likeness vectors.
fn with_likeness(categories: usize, per_class: usize, dimensions: usize) -> Result<SupportSet, SupportError> {
    let mut builder = SupportSetBuilder::new(dimensions);
    for c in 0..categories {
        let name = format!("c{c}");
        builder.push_prompt(&name, &vector(c, dimensions))?;
        for i in 0..per_class {
            let row = categories + c * per_class + i;
            builder.push_unlabelled_image(&name, 0, &vector(row, dimensions))?;
            builder.push_likeness(&vector(row + 5, dimensions / 2))?;
        }
    }
    builder.finish()
}

/// Multiplications of a few milliseconds.
const PIECE: usize = 1 << 25;

#[test]
fn a_fit() -> Result<(), SupportError> {
    let (categories, per_class, dimensions) = (60, 8, 32);
    let set = support_set(categories, per_class, dimensions)?;
    let rows = categories * per_class;
    // Every support row against every other.
    can_be_left("TIP-X", rows, || TipX::fit(set.clone(), params()));
    can_be_left("gated TIP-X", rows, || GatedTipX::fit(set.clone(), params()));
    can_be_left("the discriminant", rows, || gda::Gda::fit(&set, params()));
    let likeness = with_likeness(categories, per_class, dimensions)?;
    can_be_left("likeness", rows, || Likeness::fit(likeness.clone(), params()));
    can_be_left("the reliability", rows, || gated_tip_x::reliability(&set, params()));
    let tip_x = TipX::fit(set, params());
    can_be_left("leaving out", rows, || LeaveOneOut::new(&tip_x));
    Ok(())
}

/// The inverse of a large covariance, in whichever form.
#[test]
fn many_dimensions() -> Result<(), SupportError> {
    for (categories, per_class, dimensions) in [(2, 200, 450), (2, 250, 350)] {
        let set = support_set(categories, per_class, dimensions)?;
        let size = dimensions.min(categories * per_class);
        let least = size * size * size / PIECE + size / 64;
        can_be_left("the discriminant", least, || gda::Gda::fit(&set, params()));
    }
    Ok(())
}

#[test]
fn answers() -> Result<(), SupportError> {
    let set = support_set(200, 3, 32)?;
    let classifier = Classifier::fit(set, params());
    // What is fitted when it is first asked for.
    for method in Method::ALL {
        classifier.explain(matrix(1, 32)?.view(), method, 1, 1);
    }
    let queries = matrix(100, 32)?;
    for method in Method::ALL {
        can_be_left(method.name(), queries.nrows(), || classifier.rank(queries.view(), method, 3));
        let one = matrix(1, 32)?;
        // Names alone have no support rows to show.
        let least = if method == Method::ZeroShot { 1 } else { 100 };
        can_be_left(method.name(), least, || classifier.explain(one.view(), method, 100, 2));
    }
    Ok(())
}

#[test]
fn a_retrieval() -> Result<(), SupportError> {
    let set = support_set(200, 0, 32)?;
    let pool = matrix(500, 32)?;
    let keys: Vec<String> = (0..pool.nrows()).map(|key| key.to_string()).collect();
    let prompts = set.zeroshot_weights().to_owned();
    let owner: Vec<usize> = (0..prompts.nrows()).collect();
    can_be_left("a retrieval", pool.nrows() + owner.len(), || {
        let mut retrieval = Retrieval::new(&set, prompts.clone(), owner.clone(), 10, false);
        retrieval.offer(&keys, pool.view(), &[]);
        retrieval.select()
    });
    Ok(())
}

#[test]
fn a_search() -> Result<(), SupportError> {
    let tip_x = TipX::fit(support_set(20, 4, 16)?, params());
    let queries = matrix(40, 16)?;
    let truth: Vec<usize> = (0..40).map(|row| row % 20).collect();
    let betas = TipXGrid::published().beta.len();
    can_be_left("the grid search", betas * truth.len() / 8, || {
        let mut search = TipXGridSearch::new(TipXGrid::published());
        search.add(&tip_x.parts(queries.view()), &truth);
        search.best()
    });
    let grid = gda::GdaGrid::standard();
    can_be_left("the other search", truth.len() * grid.ridge.len(), || {
        let mut search = gda::GdaGridSearch::new(tip_x.support_set(), 100.0, grid.clone());
        search.add(queries.view(), &truth);
        search.leave_out(0..40);
        search.best()
    });
    Ok(())
}

#[test]
fn a_file_of_prompts() {
    let sentences: Vec<String> = (0..100_000).map(|i| format!("\"sentence number {i}\"")).collect();
    let file = format!("{{\"dog\": [{}]}}", sentences.join(", "));
    can_be_left("the file", file.len() >> 16, || parse_cupl(&file));
}
