//! The discriminant against the same, read literally.

use std::error::Error;

use ndarray::{Array2, ArrayView2, Axis, s};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use susx_core::classifier::{Classifier, ClassifierParams, ValidParams, top_k};
use susx_core::method::Method;
use susx_core::method::gda::{Gda, GdaGrid, GdaGridSearch};
use susx_core::sus::{SupportSet, SupportSetBuilder};

use crate::gda_literal::{Literal, leave_one_out, literal};
use crate::literal::{Case, PARAMS, case, largest_difference, valid};

const START: ClassifierParams = ClassifierParams::START;

const GDA: [ClassifierParams; 3] = [
    ClassifierParams { lambda: 2.0, ridge: 3.0, ..START },
    ClassifierParams { lambda: 0.0, ridge: 0.1, ..START },
    ClassifierParams { lambda: 9.0, ridge: 20.0, ..START },
];

/// These parameters of the discriminant with another scale.
fn scaled(params: ClassifierParams, logit_scale: f32) -> ValidParams {
    valid(ClassifierParams { logit_scale, ..params })
}

/// The parameters of a classifier, with those of the discriminant replaced.
fn joined(params: ClassifierParams, gda: ClassifierParams) -> ValidParams {
    valid(ClassifierParams { lambda: gda.lambda, ridge: gda.ridge, ..params })
}

/// The case with every row for which `is_labelled` says so labelled, and no other.
fn relabelled(case: &Case, is_labelled: impl Fn(usize) -> bool) -> Result<SupportSet, Box<dyn Error>> {
    let set = &case.support_set;
    let mut builder = SupportSetBuilder::new(set.dimensions());
    for (name, weight) in set.categories().iter().zip(set.zeroshot_weights().rows()) {
        builder.push_prompt(name, &weight.to_vec())?;
    }
    for (i, feature) in set.features().rows().into_iter().enumerate() {
        let (name, feature) = (&set.categories()[set.category_of(i)], feature.to_vec());
        if is_labelled(i) {
            builder.push_image(name, set.ids()[i], &feature)?;
        } else {
            builder.push_unlabelled_image(name, set.ids()[i], &feature)?;
        }
    }
    Ok(builder.finish()?)
}

/// A fit that is there.
fn fit(set: &SupportSet, logit_scale: f32, params: ClassifierParams) -> Result<Gda, Box<dyn Error>> {
    Gda::fit(set, scaled(params, logit_scale)).ok_or_else(|| "it tells nothing apart".into())
}

/// The literal one.
fn expect(
    set: &SupportSet,
    queries: ArrayView2<f32>,
    logit_scale: f32,
    params: ClassifierParams,
) -> Result<Literal, Box<dyn Error>> {
    literal(set, queries, logit_scale, params).ok_or_else(|| "it tells nothing apart".into())
}

#[test]
fn every_score_is_the_formula() -> Result<(), Box<dyn Error>> {
    // More rows than dimensions and fewer, missing and single-row categories, two, and many.
    for (dimensions, counts) in [
        (12, vec![16; 5]),
        (48, vec![8; 5]),
        (24, vec![1, 40, 0, 7, 16, 2]),
        (24, vec![5, 3]),
        (7, vec![2; 20]),
        (16, vec![1, 1]),
    ] {
        for params in GDA {
            for labelled in [0, 3, 1] {
                let case = case(7, dimensions, &counts)?;
                let set = relabelled(&case, |i| labelled > 0 && i % labelled == 0)?;
                let expected = expect(&set, case.queries.view(), 30.0, params)?;
                let gda = fit(&set, 30.0, params)?;
                let difference = largest_difference(&gda.logits(case.queries.view()), &expected.scores);
                assert!(difference < 1e-3, "{dimensions} {counts:?} {params:?} {labelled}: {difference}");
                for (found, expected) in gda.reliability().iter().zip(expected.reliability) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5);
                }
            }
        }
    }
    Ok(())
}

/// Every row less its mean, and so long that its largest element is 1.
fn shapes(mut rows: Array2<f32>) -> Array2<f32> {
    for mut row in rows.rows_mut() {
        let mean = row.sum() / row.len() as f32;
        row -= mean;
        let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        row /= largest;
    }
    rows
}

fn nearly(a: &Array2<f32>, b: &Array2<f32>) -> bool {
    (a - b).iter().all(|x| x.abs() < 1e-4)
}

#[test]
fn without_weight_it_has_the_order_of_the_names() -> Result<(), Box<dyn Error>> {
    let case = case(5, 32, &[6, 0, 6])?;
    let scores = fit(&case.support_set, 10.0, GDA[1])?.logits(case.queries.view());
    let cosines = case.queries.dot(&case.support_set.zeroshot_weights().t());
    assert!(nearly(&shapes(scores), &shapes(cosines)));
    Ok(())
}

#[test]
fn images_that_the_names_disown_are_not_trusted() -> Result<(), Box<dyn Error>> {
    // Of `east`, images of it; of `north`, images of it and of something that has no name.
    let mut builder = SupportSetBuilder::new(3);
    builder.push_prompt("east", &[1.0, 0.0, 0.5])?;
    builder.push_prompt("north", &[0.0, 1.0, 0.5])?;
    for i in 0..8 {
        let shift = 0.01 * i as f32;
        builder.push_unlabelled_image("east", 0, &[1.0, shift, 0.3])?;
        builder.push_unlabelled_image("north", 0, &[shift + 0.4, 0.45, 1.0])?;
    }
    let set = builder.finish()?;
    let reliability = fit(&set, 100.0, GDA[0])?.reliability().to_vec();
    assert!(reliability[1] < 0.9 * reliability[0], "{reliability:?}");
    Ok(())
}

#[test]
fn what_tells_nothing_apart_is_zero_shot() -> Result<(), Box<dyn Error>> {
    let mut builder = SupportSetBuilder::new(2);
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        builder.push_prompt(name, &[1.0, i as f32])?;
        builder.push_image(name, 0, &[0.6, 0.8])?;
    }
    let mut of_one = SupportSetBuilder::new(2);
    of_one.push_prompt("a", &[1.0, 0.3])?;
    of_one.push_image("a", 0, &[0.6, 0.8])?;
    of_one.push_image("a", 0, &[0.8, 0.6])?;
    let one_image = case(4, 2, &[0, 1, 0])?.support_set;
    let one_category = case(4, 2, &[0, 5, 0])?.support_set;
    for set in [builder.finish()?, of_one.finish()?, one_image, one_category] {
        assert!(Gda::fit(&set, scaled(GDA[0], 10.0)).is_none());
        let query = ndarray::arr2(&[[0.6f32, 0.8]]);
        assert!(literal(&set, query.view(), 10.0, GDA[0]).is_none());
        let classifier = Classifier::fit(set, joined(PARAMS[0], GDA[0]));
        let [found, expected] =
            [Method::Gda, Method::ZeroShot].map(|method| classifier.explain(query.view(), method, 5, 5));
        assert_eq!(found, expected);
    }
    Ok(())
}

#[test]
fn a_fit_can_be_sent_elsewhere() -> Result<(), Box<dyn Error>> {
    let case = case(9, 24, &[5, 1, 0, 7])?;
    let gda = fit(&case.support_set, 30.0, GDA[0])?;
    let copy: Gda = serde_json::from_str(&serde_json::to_string(&gda)?)?;
    assert_eq!(copy.logits(case.queries.view()), gda.logits(case.queries.view()));
    Ok(())
}

#[test]
fn only_who_asks_for_it_pays() -> Result<(), Box<dyn Error>> {
    let case = case(9, 24, &[5, 1, 0, 7])?;
    let classifier = Classifier::fit(case.support_set.clone(), joined(PARAMS[0], GDA[0]));
    let before = classifier.size();
    classifier.logits(case.queries.view(), Method::DEFAULT);
    assert_eq!(classifier.size(), before);
    let scores = classifier.logits(case.queries.view(), Method::Gda);
    let with_gda = classifier.size();
    assert!(with_gda >= before + 2 * 4 * 24 * 4);
    let expected = fit(&case.support_set, PARAMS[0].logit_scale, GDA[0])?.logits(case.queries.view());
    assert_eq!(scores, expected);
    classifier.explain(case.queries.slice(s![..1, ..]), Method::Gda, 1, 1);
    assert!(classifier.size() > with_gda);
    Ok(())
}

#[test]
fn without_support_it_is_zero_shot() -> Result<(), Box<dyn Error>> {
    let case = case(5, 16, &[0, 0, 0])?;
    let classifier = Classifier::fit(case.support_set.clone(), joined(PARAMS[0], GDA[0]));
    assert_eq!(classifier.default_method(), Method::ZeroShot);
    let zero_shot = classifier.logits(case.queries.view(), Method::ZeroShot);
    assert_eq!(classifier.logits(case.queries.view(), Method::Gda), zero_shot);
    assert_eq!(classifier.logits(case.queries.view(), Method::TipX), zero_shot);
    assert_eq!(
        classifier.rank(case.queries.view(), Method::Gda, 2),
        classifier.rank(case.queries.view(), Method::ZeroShot, 2)
    );
    Ok(())
}

#[test]
fn terms_and_contributions_are_those_of_the_formula() -> Result<(), Box<dyn Error>> {
    for (dimensions, counts) in [(32, vec![4, 9, 1]), (8, vec![7, 0, 5, 0])] {
        for params in GDA {
            let case = case(21, dimensions, &counts)?;
            let set = relabelled(&case, |i| i % 2 == 0)?;
            let classifier = Classifier::fit(set.clone(), joined(PARAMS[2], params));
            let expected = expect(&set, case.queries.view(), PARAMS[2].logit_scale, params)?;
            for n in 0..case.queries.nrows() {
                let query = case.queries.slice(s![n..n + 1, ..]);
                let found = classifier.explain(query, Method::Gda, 10, 100);
                let ranked = top_k(&classifier.logits(query, Method::Gda).row(0).to_vec(), 10, 1.0);
                assert_eq!(found.len(), counts.len());
                for (explanation, ranked) in found.iter().zip(ranked) {
                    let c = explanation.category;
                    assert_eq!((c, explanation.total), (ranked.category, ranked.score));
                    assert_eq!((explanation.term("cache"), explanation.term("kl")), (0.0, 0.0));
                    let (zero_shot, discriminant) =
                        (explanation.term("zero_shot"), explanation.term("discriminant"));
                    let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-3;
                    assert!(near(discriminant, expected.discriminant[(n, c)]));
                    assert!(near(zero_shot + discriminant, expected.scores[(n, c)]));
                    assert!(explanation.reliability.is_some_and(|r| near(r, expected.reliability[c])));
                    assert_eq!(explanation.support.len(), counts[c]);
                    let sum: f32 = explanation.support.iter().map(|weight| weight.contribution).sum();
                    // A category without rows is a Gaussian about the mean of all.
                    assert!(counts[c] == 0 || near(sum, expected.discriminant[(n, c)]));
                    assert!(explanation.support.is_sorted_by(|a, b| a.contribution >= b.contribution));
                    for weight in &explanation.support {
                        assert_eq!(case.labels[weight.row], c);
                        assert!(near(weight.contribution, expected.contributions[(n, weight.row)]));
                    }
                }
            }
        }
    }
    Ok(())
}

fn failed(error: Box<dyn Error>) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_support_set(
        seed in 1u64..,
        counts in prop::collection::vec(0usize..7, 2..7),
        dimensions in 2usize..24,
        labelled in 0usize..4,
        lambda in 0.0f32..20.0,
        ridge in 0.01f32..50.0,
    ) {
        prop_assume!(counts.iter().any(|&count| count > 0));
        let case = case(seed, dimensions, &counts).map_err(|error| failed(error.into()))?;
        let set = relabelled(&case, |i| labelled > 0 && i % labelled == 0).map_err(failed)?;
        let params = ClassifierParams { lambda, ridge, ..START };
        let (Some(gda), Some(expected)) =
            (Gda::fit(&set, scaled(params, 20.0)), literal(&set, case.queries.view(), 20.0, params))
        else {
            prop_assert!(Gda::fit(&set, scaled(params, 20.0)).is_none());
            prop_assert!(literal(&set, case.queries.view(), 20.0, params).is_none());
            return Ok(());
        };
        let (scores, expected) = (gda.logits(case.queries.view()), expected.scores);
        let size = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        let difference = largest_difference(&scores, &expected);
        prop_assert!(difference <= 1e-4 * size, "{difference} of {size}");
        // A row alone is that row of a batch.
        for (i, query) in case.queries.axis_chunks_iter(Axis(0), 1).enumerate() {
            let alone = gda.logits(query);
            let difference = largest_difference(&alone, &scores.select(Axis(0), &[i]).mapv(f64::from));
            prop_assert!(difference <= 1e-5 * size);
        }
    }
}

#[test]
fn a_thousand_categories() -> Result<(), Box<dyn Error>> {
    // Few rows, which makes the literal one quick.
    let counts: Vec<usize> = (0..1000).map(|c| if c % 20 == 0 { 1 + c % 3 } else { 0 }).collect();
    let case = case(3, 40, &counts)?;
    let set = relabelled(&case, |i| i % 3 == 0)?;
    let queries = case.queries.slice(s![..3, ..]);
    let expected = expect(&set, queries, 100.0, GDA[0])?;
    assert!(largest_difference(&fit(&set, 100.0, GDA[0])?.logits(queries), &expected.scores) < 5e-3);
    Ok(())
}

fn grid() -> GdaGrid {
    GdaGrid { lambda: vec![2.0, 0.0, 0.7, 30.0], ridge: vec![3.0, 0.1] }
}

/// Whether the counts are those of the scores, but for rows that are too near to call.
fn check(
    search: &GdaGridSearch,
    scores: impl Fn(ClassifierParams) -> Option<Array2<f64>>,
    truth: &[usize],
) -> Result<(), Box<dyn Error>> {
    let mut undecided = 0;
    for (lambda, ridge, right) in search.counts() {
        let params = ClassifierParams { lambda, ridge, ..START };
        let (mut sure, mut close) = (0, 0);
        for (row, &truth) in scores(params).ok_or("nothing is told apart")?.rows().into_iter().zip(truth) {
            let first = (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
            let others = (0..row.len()).filter(|&c| c != truth).map(|c| (row[truth] - row[c]).abs());
            if others.fold(f64::INFINITY, f64::min) < 1e-6 {
                close += 1;
            } else {
                sure += u32::from(first == truth);
            }
        }
        assert!((sure..=sure + close).contains(&right), "{params:?}: {right} right, not {sure} (of {close})");
        undecided += close;
    }
    assert!(undecided < 5, "most rows can be told");
    Ok(())
}

#[test]
fn every_pair_is_counted_as_by_the_formula() -> Result<(), Box<dyn Error>> {
    for (seed, dimensions, counts) in [(1, 24, vec![4; 7]), (2, 12, vec![1, 9, 0, 5]), (3, 40, vec![2, 2])] {
        let case = case(seed, dimensions, &counts)?;
        let set = relabelled(&case, |i| i % 3 == 0)?;
        // Not the generator's categories: a test of a search wants rows that are hard.
        let truth: Vec<usize> = (0..20).map(|i| (i + i / 6) % counts.len()).collect();
        let mut search = GdaGridSearch::new(&set, 30.0, grid());
        for (queries, truth) in case.queries.axis_chunks_iter(Axis(0), 6).zip(truth.chunks(6)) {
            search.add(queries, truth);
        }
        let scores = |params| literal(&set, case.queries.view(), 30.0, params).map(|fit| fit.scores);
        check(&search, scores, &truth)?;
        let most = search.counts().map(|(.., right)| right).max();
        let best = search.best();
        assert_eq!(best.map(|best| Some(best.gda)), Some(most));
        let first = search.counts().find(|&(.., right)| Some(right) == most);
        assert_eq!(
            best.map(|best| (best.lambda, best.ridge)),
            first.map(|(lambda, ridge, _)| (lambda, ridge))
        );
        let names = search.counts().find(|&(lambda, ..)| lambda == 0.0).map(|(.., right)| right);
        assert_eq!(best.map(|best| best.zero_shot), names);
        assert_eq!(best.map(|best| best.rows), Some(20));
    }
    Ok(())
}

#[test]
fn leaving_a_row_out_is_the_fit_without_it() -> Result<(), Box<dyn Error>> {
    for (seed, dimensions, counts) in [
        (5, 16, vec![3; 4]),
        (6, 5, vec![4; 3]),
        (7, 16, vec![1, 7, 0, 3]),
        (8, 16, vec![1, 1, 1]),
        (9, 16, vec![2, 1]),
    ] {
        let case = case(seed, dimensions, &counts)?;
        for labelled in [0, 3] {
            let set = relabelled(&case, |i| labelled > 0 && i % labelled == 0)?;
            let mut search = GdaGridSearch::new(&set, 30.0, grid());
            for start in (0..set.len()).step_by(4) {
                search.leave_out(start..(start + 4).min(set.len()));
            }
            check(&search, |params| Some(leave_one_out(&set, 30.0, params)), &case.labels)?;
            assert_eq!(search.best().map(|best| best.rows), Some(set.len() as u32));
        }
    }
    Ok(())
}

/// The constants that leaving a row out does not touch are sums over all rows.
#[test]
fn leaving_a_row_out_is_nearly_fitting_without_it() -> Result<(), Box<dyn Error>> {
    let case = case(12, 16, &[12; 5])?;
    let set = relabelled(&case, |i| i % 2 == 0)?;
    let in_closed_form = shapes(leave_one_out(&set, 30.0, GDA[0]).mapv(|x| x as f32));
    for i in (0..set.len()).step_by(7) {
        let mut builder = SupportSetBuilder::new(set.dimensions());
        for (name, weight) in set.categories().iter().zip(set.zeroshot_weights().rows()) {
            builder.push_prompt(name, &weight.to_vec())?;
        }
        for j in (0..set.len()).filter(|&j| j != i) {
            let (name, feature) = (&set.categories()[case.labels[j]], set.features().row(j).to_vec());
            if set.labelled()[j] {
                builder.push_image(name, 0, &feature)?;
            } else {
                builder.push_unlabelled_image(name, 0, &feature)?;
            }
        }
        let row = set.features().slice_move(s![i..i + 1, ..]);
        let refitted = shapes(expect(&builder.finish()?, row, 30.0, GDA[0])?.scores.mapv(|x| x as f32));
        let apart = (&refitted.row(0) - &in_closed_form.row(i)).mapv(f32::abs).sum();
        assert!(apart < 0.05 * refitted.mapv(f32::abs).sum(), "row {i}: {apart}");
    }
    Ok(())
}

#[test]
fn no_query_is_no_result() -> Result<(), Box<dyn Error>> {
    let case = case(5, 16, &[3, 3])?;
    assert_eq!(GdaGridSearch::new(&case.support_set, 30.0, grid()).best(), None);
    let standard = GdaGrid::standard();
    assert_eq!((standard.lambda[0], standard.ridge[0]), (START.lambda, START.ridge));
    assert!(standard.lambda.contains(&0.0));
    Ok(())
}
