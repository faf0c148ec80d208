//! Whether an image is of any category.

use ndarray::{Array2, ArrayView1, Axis};
use susx_core::classifier::{Classifier, ClassifierParams};
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Numbers, valid};

/// Categories and negatives around one direction, as CLIP's names are.
fn names(categories: usize, negatives: usize) -> Result<(SupportSet, Array2<f32>), SupportError> {
    let (dimensions, mut numbers) = (64, Numbers(5));
    let text = numbers.vector(dimensions);
    let mut builder = SupportSetBuilder::new(dimensions);
    for c in 0..categories {
        builder.push_prompt(&format!("category {c}"), &numbers.around(&text, 0.5))?;
    }
    for _ in 0..negatives {
        builder.push_negative(&numbers.around(&text, 0.5))?;
    }
    let mut queries = Array2::from_shape_fn((300, dimensions), |_| numbers.next());
    for mut row in queries.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    Ok((builder.finish()?, queries))
}

/// The formula in float64. No sum overflows at these scales.
fn literal(set: &SupportSet, query: ArrayView1<f32>, scale: f32) -> f64 {
    let of = |name: ArrayView1<f32>| {
        let cosine: f64 = name.iter().zip(query).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        (f64::from(scale) * cosine).exp()
    };
    let categories: Vec<f64> = set.zeroshot_weights().rows().into_iter().map(of).collect();
    let negatives: f64 = set.negatives().rows().into_iter().map(of).sum();
    let sum: f64 = categories.iter().sum();
    let probability = categories.into_iter().fold(0.0, f64::max) / sum;
    match set.negatives().is_empty() {
        true => probability,
        false => (probability * sum / (sum + negatives)).sqrt(),
    }
}

#[test]
fn known_is_the_formula() -> Result<(), SupportError> {
    for (categories, negatives) in [(7, 0), (1, 0), (7, 1), (1, 40), (40, 7)] {
        for scale in [1.0, 20.0, 100.0] {
            let (set, queries) = names(categories, negatives)?;
            let params = ClassifierParams { logit_scale: scale, ..ClassifierParams::START };
            let fitted = Classifier::fit(set.clone(), valid(params));
            for (found, query) in fitted.known(queries.view()).into_iter().zip(queries.rows()) {
                let expected = literal(&set, query, scale);
                assert!((f64::from(found) - expected).abs() < 1e-4, "{categories} {negatives} {scale}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_row_is_known_alone_as_in_a_batch() -> Result<(), SupportError> {
    let (set, queries) = names(7, 12)?;
    let shares = Classifier::fit(set.clone(), valid(ClassifierParams::START)).known(queries.view());
    for reject in shares.into_iter().step_by(30) {
        let params = ClassifierParams { reject, ..ClassifierParams::START };
        let fitted = Classifier::fit(set.clone(), valid(params));
        for (row, together) in fitted.known(queries.view()).into_iter().enumerate() {
            let alone = fitted.known(queries.select(Axis(0), &[row]).view());
            assert_eq!(alone, [together], "row {row} at {reject}");
        }
    }
    Ok(())
}

#[test]
fn negatives_change_no_answer() -> Result<(), SupportError> {
    let (set, queries) = names(7, 12)?;
    let (plain, _) = names(7, 0)?;
    let fits = [set, plain].map(|set| Classifier::fit(set, valid(ClassifierParams::START)));
    let [with, without] = fits.map(|fit| fit.logits(queries.view(), fit.default_method()));
    assert_eq!(with, without);
    Ok(())
}
