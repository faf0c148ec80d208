//! The discriminant against the same, read literally.

use std::error::Error;

use ndarray::{Array2, Axis, s};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use susx_core::classifier::{Classifier, Method, top_k};
use susx_core::gda::{Gda, Params};
use susx_core::sus::{SupportSet, SupportSetBuilder};

use crate::gda_literal::literal;
use crate::literal::{Case, PARAMS, case, largest_difference};

const GDA: [Params; 3] = [
    Params { lambda: 2.0, ridge: 3.0 },
    Params { lambda: 0.0, ridge: 0.1 },
    Params { lambda: 9.0, ridge: 20.0 },
];

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

#[test]
fn every_score_is_the_formula() -> Result<(), Box<dyn Error>> {
    // More rows than dimensions and fewer, missing and single-row categories, two, and many.
    for (dimensions, counts) in [
        (12, vec![16; 5]),
        (96, vec![16; 5]),
        (24, vec![1, 40, 0, 7, 16, 2]),
        (96, vec![5, 3]),
        (7, vec![2; 20]),
        (16, vec![0, 1, 0]),
        (16, vec![1, 1]),
        (16, vec![0, 5, 0]),
    ] {
        for params in GDA {
            for labelled in [0, 3, 1] {
                let case = case(7, dimensions, &counts)?;
                let set = relabelled(&case, |i| labelled > 0 && i % labelled == 0)?;
                let expected = literal(&set, case.queries.view(), 30.0, params);
                let gda = Gda::fit(&set, 30.0, params);
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

#[test]
fn a_category_without_trust_competes_by_its_name() -> Result<(), Box<dyn Error>> {
    let case = case(5, 32, &[6, 0, 6])?;
    let gda = Gda::fit(&case.support_set, 10.0, GDA[0]);
    let cosines = case.queries.dot(&case.support_set.zeroshot_weights().t());
    for (score, cosines) in gda.logits(case.queries.view()).rows().into_iter().zip(cosines.rows()) {
        assert!((score[1] - 10.0 * (cosines[1] - cosines.sum() / 3.0)).abs() < 1e-4);
    }
    assert_eq!(gda.reliability()[1], 0.0);
    // By the way, lambda 0 is that of all of them.
    let names = Gda::fit(&case.support_set, 10.0, GDA[1]).logits(case.queries.view());
    for (score, cosines) in names.rows().into_iter().zip(cosines.rows()) {
        let mean = cosines.sum() / 3.0;
        assert!(
            score.iter().zip(cosines).all(|(score, cosine)| (score - 10.0 * (cosine - mean)).abs() < 1e-4)
        );
    }
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
    let reliability = Gda::fit(&builder.finish()?, 1.0, GDA[0]).reliability().to_vec();
    assert!(reliability[1] < 0.9 * reliability[0], "{reliability:?}");
    Ok(())
}

#[test]
fn equal_images_tell_nothing_apart() -> Result<(), Box<dyn Error>> {
    let mut builder = SupportSetBuilder::new(2);
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        builder.push_prompt(name, &[1.0, i as f32])?;
        builder.push_image(name, 0, &[0.6, 0.8])?;
    }
    let set = builder.finish()?;
    let query = ndarray::arr2(&[[0.6f32, 0.8]]);
    let scores = Gda::fit(&set, 10.0, GDA[0]).logits(query.view());
    let cosines = query.dot(&set.zeroshot_weights().t());
    let mean = cosines.sum() / 3.0;
    assert!(scores.iter().zip(&cosines).all(|(score, cosine)| (score - 10.0 * (cosine - mean)).abs() < 1e-5));
    Ok(())
}

#[test]
fn a_fit_can_be_sent_elsewhere() -> Result<(), Box<dyn Error>> {
    let case = case(9, 24, &[5, 1, 0, 7])?;
    let gda = Gda::fit(&case.support_set, 30.0, GDA[0]);
    let copy: Gda = serde_json::from_str(&serde_json::to_string(&gda)?)?;
    assert_eq!(copy.logits(case.queries.view()), gda.logits(case.queries.view()));
    Ok(())
}

#[test]
fn only_who_asks_for_it_pays() -> Result<(), Box<dyn Error>> {
    let case = case(9, 24, &[5, 1, 0, 7])?;
    let classifier = Classifier::fit(case.support_set.clone(), PARAMS[0], GDA[0]);
    let before = classifier.size();
    classifier.logits(case.queries.view(), Method::TipX);
    assert_eq!(classifier.size(), before);
    let scores = classifier.logits(case.queries.view(), Method::Gda);
    let with_gda = classifier.size();
    assert!(with_gda >= before + 4 * 24 * 4);
    let expected = Gda::fit(&case.support_set, PARAMS[0].logit_scale, GDA[0]).logits(case.queries.view());
    assert_eq!(scores, expected);
    classifier.explain(case.queries.slice(s![..1, ..]), Method::Gda, 1, 1);
    assert!(classifier.size() > with_gda);
    Ok(())
}

#[test]
fn without_support_it_is_zero_shot() -> Result<(), Box<dyn Error>> {
    let case = case(5, 16, &[0, 0, 0])?;
    let classifier = Classifier::fit(case.support_set.clone(), PARAMS[0], GDA[0]);
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
            let classifier = Classifier::fit(set.clone(), PARAMS[2], params);
            let expected = literal(&set, case.queries.view(), PARAMS[2].logit_scale, params);
            for n in 0..case.queries.nrows() {
                let query = case.queries.slice(s![n..n + 1, ..]);
                let found = classifier.explain(query, Method::Gda, 10, 100);
                let ranked = top_k(&classifier.logits(query, Method::Gda).row(0).to_vec(), 10);
                assert_eq!(found.len(), counts.len());
                for (explanation, ranked) in found.iter().zip(ranked) {
                    let c = explanation.category;
                    assert_eq!((c, explanation.total), (ranked.category, ranked.score));
                    assert_eq!((explanation.cache, explanation.kl), (0.0, 0.0));
                    let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-3;
                    assert!(near(explanation.discriminant, expected.discriminant[(n, c)]));
                    assert!(near(explanation.zero_shot + explanation.discriminant, expected.scores[(n, c)]));
                    assert!(explanation.reliability.is_some_and(|r| near(r, expected.reliability[c])));
                    assert_eq!(explanation.support.len(), counts[c]);
                    let sum: f32 = explanation.support.iter().map(|weight| weight.contribution).sum();
                    assert!(near(sum, expected.discriminant[(n, c)]));
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
        let params = Params { lambda, ridge };
        let gda = Gda::fit(&set, 20.0, params);
        let scores = gda.logits(case.queries.view());
        let expected = literal(&set, case.queries.view(), 20.0, params).scores;
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
    let counts: Vec<usize> = (0..1000).map(|c| c % 3).collect();
    let case = case(3, 40, &counts)?;
    let gda = Gda::fit(&case.support_set, 100.0, GDA[0]);
    let scores: Array2<f32> = gda.logits(case.queries.view());
    let expected = literal(&case.support_set, case.queries.slice(s![..3, ..]), 100.0, GDA[0]);
    let found = scores.slice(s![..3, ..]).to_owned();
    assert!(largest_difference(&found, &expected.scores) < 5e-3);
    Ok(())
}
