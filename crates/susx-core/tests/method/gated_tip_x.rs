//! The gate, the claims and the probabilities of gated TIP-X. tests/test_gated_tip_x.py has the formula in float64.

use ndarray::{Array2, ArrayView1, Axis};
use susx_core::classifier::{Classifier, ClassifierParams};
use susx_core::method::Method;
use susx_core::method::gated_tip_x::{GatedTipX, looks_absent, reliability};
use susx_core::method::tip_x::{LeaveOneOut, TipXGrid, TipXGridSearch};
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Numbers, valid};

const DIMENSIONS: usize = 24;
const PARAMS: ClassifierParams = ClassifierParams {
    alpha: 2.0,
    beta: 4.0,
    gamma: 1.0,
    temperature: 0.5,
    logit_scale: 20.0,
    ..ClassifierParams::START
};

/// Categories with so many images each, scattered around the name or, where `elsewhere`, around other directions.
struct Table {
    names: Vec<Vec<f32>>,
    /// Category and image.
    images: Vec<(usize, Vec<f32>)>,
}

impl Table {
    fn new(seed: u64, counts: &[usize]) -> Self {
        let mut numbers = Numbers(seed);
        let names: Vec<Vec<f32>> = counts.iter().map(|_| numbers.vector(DIMENSIONS)).collect();
        let mut images = Vec::new();
        for (c, &count) in counts.iter().enumerate() {
            images.extend((0..count).map(|_| (c, numbers.around(&names[c], 0.8))));
        }
        Table { names, images }
    }

    fn support_set(&self, is_labelled: impl Fn(usize) -> bool) -> Result<SupportSet, SupportError> {
        let mut builder = SupportSetBuilder::new(DIMENSIONS);
        let name = |c: usize| format!("category {c}");
        for (c, vector) in self.names.iter().enumerate() {
            builder.push_prompt(&name(c), vector)?;
        }
        for (i, (c, image)) in self.images.iter().enumerate() {
            if is_labelled(i) {
                builder.push_image(&name(*c), i as i64, image)?;
            } else {
                builder.push_unlabelled_image(&name(*c), i as i64, image)?;
            }
        }
        builder.finish()
    }
}

fn queries(seed: u64, rows: usize) -> Array2<f32> {
    let mut numbers = Numbers(seed);
    let mut queries = Array2::from_shape_fn((rows, DIMENSIONS), |_| numbers.next());
    for mut row in queries.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    queries
}

fn best(row: ArrayView1<f32>) -> usize {
    (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best })
}

#[test]
fn with_labels_it_is_tip_x() -> Result<(), SupportError> {
    for counts in [vec![5, 5, 5], vec![1, 1, 1, 1], vec![9, 1, 4]] {
        let set = Table::new(3, &counts).support_set(|_| true)?;
        let classifier = Classifier::fit(set, valid(PARAMS));
        let queries = queries(4, 50);
        let gated = classifier.logits(queries.view(), Method::GatedTipX);
        let tip_x = classifier.logits(queries.view(), Method::TipX);
        assert!((gated - tip_x).iter().all(|x| x.abs() < 2e-4), "{counts:?}");
    }
    Ok(())
}

/// All names are closer to these images than their support images are.
#[test]
fn what_is_more_like_its_name_than_the_support_is_gets_the_logits_of_the_names() -> Result<(), SupportError> {
    let table = Table::new(5, &[6, 6, 6]);
    let set = table.support_set(|_| false)?;
    let names = set.zeroshot_weights().to_owned();
    let classifier = Classifier::fit(set, valid(PARAMS));
    let gated = classifier.logits(names.view(), Method::GatedTipX);
    assert_eq!(gated, classifier.logits(names.view(), Method::ZeroShot));
    for name in names.axis_chunks_iter(Axis(0), 1) {
        let gate = classifier.explain(name, Method::GatedTipX, 1, 0)[0].gate;
        assert!(gate.is_some_and(|reading| reading.gate == 0.0 && reading.familiarity < 0.1), "{gate:?}");
    }
    Ok(())
}

/// Some queries have an open gate, others a closed one.
#[test]
fn a_query_alone_is_that_query_of_a_batch() -> Result<(), SupportError> {
    let table = Table::new(6, &[6, 7, 5, 6]);
    let set = table.support_set(|i| i % 7 == 0)?;
    let mut queries = queries(7, 60);
    for (i, name) in set.zeroshot_weights().rows().into_iter().enumerate() {
        queries.row_mut(10 * i).assign(&name);
    }
    let classifier = Classifier::fit(set, valid(PARAMS));
    let together = classifier.logits(queries.view(), Method::GatedTipX);
    for (query, together) in queries.axis_chunks_iter(Axis(0), 1).zip(together.rows()) {
        let alone = classifier.logits(query, Method::GatedTipX);
        assert_eq!(alone.row(0), together);
    }
    Ok(())
}

fn grid() -> TipXGrid {
    TipXGrid { alpha: vec![0.0, 1.0, 4.0], beta: vec![2.0, 6.0], gamma: vec![0.0, 0.5, 2.0] }
}

/// What the search counts for a triple is what a classifier with these parameters gets right.
#[test]
fn the_grid_search_counts_what_a_fit_gets_right() -> Result<(), SupportError> {
    for (seed, counts) in [(8, vec![6, 6, 6]), (9, vec![8, 0, 5, 1]), (10, vec![12, 12, 1, 9])] {
        let set = Table::new(seed, &counts).support_set(|i| i % 5 == 0)?;
        let queries = queries(seed + 100, 80);
        let truth: Vec<usize> = (0..80).map(|row| row % counts.len()).collect();
        let gated = GatedTipX::fit(set.clone(), valid(PARAMS));
        let mut search = TipXGridSearch::new(grid());
        search.add(&gated.parts(queries.view(), gated.tip_x().parts(queries.view())), &truth);
        for (alpha, beta, gamma, correct) in search.counts() {
            let params = valid(ClassifierParams { alpha, beta, gamma, ..PARAMS });
            let logits = Classifier::fit(set.clone(), params).logits(queries.view(), Method::GatedTipX);
            let expected =
                logits.rows().into_iter().zip(&truth).filter(|(row, truth)| best(row.view()) == **truth);
            assert_eq!(correct as usize, expected.count(), "{counts:?} {alpha} {beta} {gamma}");
        }
    }
    Ok(())
}

/// A row that is left out is judged by the others: nearly as a fit without it judges it.
#[test]
fn leaving_a_row_out_is_nearly_fitting_without_it() -> Result<(), SupportError> {
    let mut table = Table::new(11, &[12, 12, 12]);
    let set = table.support_set(|_| false)?;
    let gated = GatedTipX::fit(set.clone(), valid(PARAMS));
    let rows: Vec<usize> = (0..set.len()).collect();
    let parts = gated.parts_without(&rows, LeaveOneOut::new(gated.tip_x()).parts(&rows));
    let one =
        TipXGrid { alpha: vec![0.0, PARAMS.alpha], beta: vec![PARAMS.beta], gamma: vec![0.0, PARAMS.gamma] };
    let mut search = TipXGridSearch::new(one);
    let labels: Vec<usize> = rows.iter().map(|&row| set.category_of(row)).collect();
    search.add(&parts, &labels);
    let mut correct = 0;
    for row in rows {
        let left_out = table.images.remove(row);
        let query = set.features().select(Axis(0), &[row]);
        let fitted = Classifier::fit(table.support_set(|_| false)?, valid(PARAMS));
        correct += usize::from(best(fitted.logits(query.view(), Method::GatedTipX).row(0)) == left_out.0);
        table.images.insert(row, left_out);
    }
    let found = search.best().map_or(0, |best| best.tip_x as usize);
    assert!(found.abs_diff(correct) <= 1, "{found} {correct}");
    Ok(())
}

/// Images of one name that lie among the images of another one.
#[test]
fn images_that_another_name_claims_are_worth_less() -> Result<(), SupportError> {
    let mut table = Table::new(12, &[16, 16, 0]);
    let mut numbers = Numbers(13);
    let first = table.names[0].clone();
    table.images.extend((0..3).map(|_| (2, numbers.around(&first, 0.8))));
    let set = table.support_set(|_| false)?;
    let found = reliability(&set, valid(PARAMS));
    assert!(looks_absent(found[2]) && !looks_absent(found[0]) && !looks_absent(found[1]), "{found:?}");
    // A query that is one of the support images loses what the claims take from the name.
    let classifier = Classifier::fit(set, valid(PARAMS));
    let query = classifier.support_set().features().select(Axis(0), &[0]);
    let explained = classifier.explain(query.view(), Method::GatedTipX, 3, 0);
    let claims =
        |c: usize| explained.iter().find(|one| one.category == c).map_or(0.0, |one| one.term("claims"));
    assert!(claims(2) < -0.5 && claims(0) == 0.0, "{}", claims(2));
    Ok(())
}

/// The support set's terms are as large as alpha makes them. The probabilities follow the agreement of the support rows.
#[test]
fn a_large_alpha_makes_no_answer_certain() -> Result<(), SupportError> {
    let set = Table::new(14, &[20; 6]).support_set(|_| false)?;
    let queries = queries(15, 300);
    let mean_of = |alpha: f32| -> f32 {
        let params = valid(ClassifierParams { alpha, ..PARAMS });
        let ranked = Classifier::fit(set.clone(), params).rank(queries.view(), Method::GatedTipX, 1);
        ranked.iter().map(|best| best[0].probability).sum::<f32>() / 300.0
    };
    let (usual, large) = (mean_of(2.0), mean_of(200.0));
    assert!(large < usual + 0.1, "{usual} {large}");
    let tip_x = Classifier::fit(set.clone(), valid(ClassifierParams { alpha: 200.0, ..PARAMS }));
    let certain = tip_x.rank(queries.view(), Method::TipX, 1);
    assert!(certain.iter().map(|best| best[0].probability).sum::<f32>() / 300.0 > 0.95);
    Ok(())
}

/// A temperature changes every probability, and no rank.
#[test]
fn the_temperature_changes_no_rank() -> Result<(), SupportError> {
    let set = Table::new(16, &[6, 6, 6]).support_set(|_| false)?;
    let queries = queries(17, 40);
    let with = |probability_temperature: f32| {
        let params = valid(ClassifierParams { probability_temperature, ..PARAMS });
        Classifier::fit(set.clone(), params).rank(queries.view(), Method::GatedTipX, 3)
    };
    for (one, other) in with(1.0).iter().zip(with(3.0)) {
        for (one, other) in one.iter().zip(&other) {
            assert_eq!((one.category, one.score), (other.category, other.score));
        }
        assert!(one[0].probability > other[0].probability);
    }
    Ok(())
}
