//! What must hold for any support set.

use ndarray::{Array2, Axis};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use susx_core::classifier::{Classifier, ClassifierParams};
use susx_core::method::Method;
use susx_core::method::tip_x::TipX;
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Case, case, literal, valid};

fn params() -> impl Strategy<Value = ClassifierParams> {
    (0.0f32..20.0, 0.0f32..20.0, 0.0f32..8.0, 0.3f32..1.0, 1.0f32..100.0).prop_map(
        |(alpha, beta, gamma, temperature, logit_scale)| ClassifierParams {
            alpha,
            beta,
            gamma,
            temperature,
            logit_scale,
            ..ClassifierParams::START
        },
    )
}

/// Seeds and the numbers of support rows of two to six categories.
fn shape() -> impl Strategy<Value = (u64, Vec<usize>)> {
    (1u64.., prop::collection::vec(0usize..7, 2..7))
}

fn any_case((seed, counts): (u64, Vec<usize>)) -> Result<Case, TestCaseError> {
    case(seed, 20, &counts).map_err(failed)
}

fn failed(error: SupportError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// The same rows in another order: categories and rows where `order` says.
fn rebuilt(case: &Case, categories: &[usize], rows: &[usize]) -> Result<SupportSet, TestCaseError> {
    let set = &case.support_set;
    let mut builder = SupportSetBuilder::new(set.dimensions());
    for &c in categories {
        let weight = set.zeroshot_weights().row(c).to_vec();
        builder.push_prompt(&set.categories()[c], &weight).map_err(failed)?;
    }
    for &i in rows {
        let feature = set.features().row(i).to_vec();
        builder.push_image(&set.categories()[case.labels[i]], i as i64, &feature).map_err(failed)?;
    }
    builder.finish().map_err(failed)
}

/// Cosines are of float32, and the scale of the KL term magnifies their last digit. The scale itself is a quotient of
/// ranges: the narrower that of the divergences is, the larger the scale, and the larger its relative error.
fn near(
    fitted: &Classifier,
    params: ClassifierParams,
    found: &Array2<f32>,
    expected: &Array2<f32>,
) -> Result<(), TestCaseError> {
    let size = expected.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    let set = fitted.support_set();
    let mean_count = set.len() as f32 / set.categories().len() as f32;
    let scale = TipX::fit(set.clone(), valid(params)).affinity_scale().map_or(0.0, |scale| scale.a as f32);
    let tolerance = (2e-5 + 5e-7 * scale) * size + 1e-5 * scale * params.gamma * mean_count;
    for (a, b) in found.iter().zip(expected) {
        prop_assert!((a - b).abs() <= tolerance, "{a} is not {b} to within {tolerance}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_method_of_tip_x_is_its_formula(shape in shape(), params in params()) {
        let case = any_case(shape)?;
        let fitted = Classifier::fit(case.support_set.clone(), valid(params));
        let without = [ClassifierParams { alpha: 0.0, gamma: 0.0, ..params }, ClassifierParams { gamma: 0.0, ..params }, params];
        for (method, params) in [Method::ZeroShot, Method::TipAdapter, Method::TipX].into_iter().zip(without) {
            let [zero_shot, cache, kl] = literal(&case, params);
            near(&fitted, params, &fitted.logits(case.queries.view(), method), &(zero_shot + cache + kl).mapv(|x| x as f32))?;
        }
    }

    /// Of categories of equal size each support row weighs 1, as in the published code.
    #[test]
    fn equal_counts_need_no_balance(seed in 1u64.., categories in 2usize..6, count in 1usize..6, params in params()) {
        let case = any_case((seed, vec![count; categories]))?;
        let fitted = Classifier::fit(case.support_set.clone(), valid(params));
        let [affinity, kl] = crate::literal::pairs(&case, params);
        let mut expected = literal(&case, ClassifierParams { alpha: 0.0, gamma: 0.0, ..params })[0].clone();
        for ((n, i), affinity) in affinity.indexed_iter() {
            expected[(n, case.labels[i])] += f64::from(params.alpha)
                * (-f64::from(params.beta) * (1.0 - affinity)).exp() - f64::from(params.gamma) * kl[(n, i)];
        }
        near(&fitted, params, &fitted.logits(case.queries.view(), Method::TipX), &expected.mapv(|x| x as f32))?;
    }

    #[test]
    fn a_row_alone_is_that_row_of_a_batch(shape in shape(), params in params()) {
        let case = any_case(shape)?;
        let fitted = Classifier::fit(case.support_set.clone(), valid(params));
        let together = fitted.logits(case.queries.view(), Method::TipX);
        for (i, query) in case.queries.axis_chunks_iter(Axis(0), 1).enumerate() {
            prop_assert_eq!(fitted.logits(query, Method::TipX), together.select(Axis(0), &[i]));
        }
    }

    #[test]
    fn no_order_matters(shape in shape(), params in params(), shift in 1usize..40) {
        let case = any_case(shape)?;
        let expected = Classifier::fit(case.support_set.clone(), valid(params)).logits(case.queries.view(), Method::TipX);
        let turned = |n: usize| -> Vec<usize> { (0..n).rev().map(|i| (i + shift) % n).collect() };
        let categories = turned(case.support_set.categories().len());
        let other = Classifier::fit(rebuilt(&case, &categories, &turned(case.labels.len()))?, valid(params));
        near(&other, params, &other.logits(case.queries.view(), Method::TipX), &expected.select(Axis(1), &categories))?;
    }

    /// The terms are sums over the support rows, as in the paper: every row twice is every weight twice,
    /// and with half the weights nothing changes. (Every row is there twice to begin with: a second
    /// copy is a pair of affinity 1 and divergence 0, which the scale would notice.)
    #[test]
    fn every_row_twice_is_every_weight_twice(shape in shape(), params in params()) {
        let case = any_case(shape)?;
        let categories: Vec<usize> = (0..case.support_set.categories().len()).collect();
        let times = |n: usize| -> Vec<usize> { (0..n).flat_map(|_| 0..case.labels.len()).collect() };
        let twice = Classifier::fit(rebuilt(&case, &categories, &times(2))?, valid(params));
        let half = ClassifierParams { alpha: params.alpha / 2.0, gamma: params.gamma / 2.0, ..params };
        let four_times = Classifier::fit(rebuilt(&case, &categories, &times(4))?, valid(half));
        near(
            &twice,
            params,
            &four_times.logits(case.queries.view(), Method::TipX),
            &twice.logits(case.queries.view(), Method::TipX),
        )?;
    }

    #[test]
    fn without_alpha_and_gamma_it_is_zero_shot(shape in shape(), params in params()) {
        let case = any_case(shape)?;
        let fitted = Classifier::fit(case.support_set.clone(), valid(ClassifierParams { alpha: 0.0, gamma: 0.0, ..params }));
        let zero_shot = fitted.logits(case.queries.view(), Method::ZeroShot);
        prop_assert_eq!(fitted.logits(case.queries.view(), Method::TipX), zero_shot);
    }
}
