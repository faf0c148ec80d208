//! Every logit of every method.

use ndarray::Axis;
use susx_core::classifier::Classifier;
use susx_core::method::Method;
use susx_core::method::tip_x::TipX;
use susx_core::sus::{SupportError, SupportSetBuilder};

use crate::literal::{PARAMS, case, largest_difference, literal, valid};

#[test]
fn every_term_is_the_formula() -> Result<(), SupportError> {
    // The last has more categories than dimensions: the KL term's other product.
    for (dimensions, counts) in
        [(96, vec![16; 30]), (96, vec![1, 40, 0, 7, 16, 2]), (96, vec![5, 3]), (7, vec![2; 20])]
    {
        for params in PARAMS {
            let case = case(7, dimensions, &counts)?;
            let terms = TipX::fit(case.support_set.clone(), valid(params)).terms(case.queries.view());
            let [zero_shot, cache, kl] = literal(&case, params);
            let differences = [
                largest_difference(&terms.zero_shot, &zero_shot),
                terms.cache.as_ref().map_or(f64::NAN, |term| largest_difference(term, &cache)),
                terms.kl.as_ref().map_or(f64::NAN, |term| largest_difference(term, &kl)),
            ];
            assert!(differences.iter().all(|d| *d < 1e-3), "{counts:?} {params:?}: {differences:?}");
        }
    }
    Ok(())
}

#[test]
fn a_method_has_its_terms_and_no_other() -> Result<(), SupportError> {
    let case = case(3, 32, &[4, 4, 4])?;
    let fitted = Classifier::fit(case.support_set.clone(), valid(PARAMS[0]));
    let [zero_shot, cache, kl] = literal(&case, PARAMS[0]);
    for (method, expected) in [
        (Method::ZeroShot, zero_shot.clone()),
        (Method::TipAdapter, &zero_shot + &cache),
        (Method::TipX, &zero_shot + &cache + &kl),
    ] {
        assert!(
            largest_difference(&fitted.logits(case.queries.view(), method), &expected) < 1e-3,
            "{method}"
        );
    }
    Ok(())
}

#[test]
fn a_row_has_its_logits_alone_and_in_a_batch() -> Result<(), SupportError> {
    let case = case(11, 64, &[3, 9, 0, 4])?;
    let fitted = Classifier::fit(case.support_set.clone(), valid(PARAMS[0]));
    let together = fitted.logits(case.queries.view(), Method::TipX);
    for (i, row) in together.rows().into_iter().enumerate() {
        let alone = fitted.logits(case.queries.view().select(Axis(0), &[i]).view(), Method::TipX);
        assert_eq!(alone.row(0), row, "row {i}");
    }
    Ok(())
}

#[test]
fn without_support_every_method_is_zero_shot() -> Result<(), SupportError> {
    let case = case(5, 16, &[0, 0, 0])?;
    let fitted = Classifier::fit(case.support_set.clone(), valid(PARAMS[0]));
    let zero_shot = fitted.logits(case.queries.view(), Method::ZeroShot);
    assert_eq!(fitted.logits(case.queries.view(), Method::TipX), zero_shot);
    Ok(())
}

#[test]
fn equal_rows_have_one_affinity_to_scale_to() -> Result<(), SupportError> {
    for categories in [&["a", "b"][..], &["a"]] {
        let mut builder = SupportSetBuilder::new(2);
        for (i, category) in categories.iter().enumerate() {
            builder.push_prompt(category, &[1.0, i as f32])?;
        }
        for _ in 0..3 {
            builder.push_image("a", 0, &[0.9, 0.1])?;
        }
        let fitted = Classifier::fit(builder.finish()?, valid(PARAMS[0]));
        let query = ndarray::arr2(&[[0.6, 0.8]]);
        let term =
            fitted.logits(query.view(), Method::TipX) - fitted.logits(query.view(), Method::TipAdapter);
        // Gamma times the mean number of rows, of an affinity of 1: no category gains by it.
        let expected = -PARAMS[0].gamma * 3.0 / categories.len() as f32;
        assert!(term.iter().all(|x| (x - expected).abs() < 1e-4), "{term}");
    }
    Ok(())
}
