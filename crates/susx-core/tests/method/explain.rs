//! Explanations against the literal terms.

use ndarray::s;
use susx_core::classifier::{Classifier, top_k};
use susx_core::method::Method;
use susx_core::sus::SupportError;

use crate::literal::{PARAMS, balance, case, literal, pairs, valid};

#[test]
fn terms_and_contributions_are_those_of_the_formula() -> Result<(), SupportError> {
    for counts in [vec![4, 9, 1], vec![3, 0, 5, 0]] {
        for params in PARAMS {
            let case = case(21, 32, &counts)?;
            let fitted = Classifier::fit(case.support_set.clone(), valid(params));
            let terms = literal(&case, params);
            let [affinity, kl] = pairs(&case, params);
            let balance = balance(&case);
            for n in 0..case.queries.nrows() {
                let query = case.queries.slice(s![n..n + 1, ..]);
                let found = fitted.explain(query, Method::TipX, 10, 100);
                let ranked = top_k(&fitted.logits(query, Method::TipX).row(0).to_vec(), 10, 1.0);
                assert_eq!(found.len(), counts.len());
                for (explanation, ranked) in found.iter().zip(ranked) {
                    let c = explanation.category;
                    assert_eq!((c, explanation.total), (ranked.category, ranked.score));
                    let own = ["zero_shot", "cache", "kl"].map(|term| explanation.term(term));
                    for (term, expected) in own.into_iter().zip(&terms) {
                        assert!((f64::from(term) - expected[(n, c)]).abs() < 1e-3);
                    }
                    let sum = own.iter().sum::<f32>();
                    assert!((sum - explanation.total).abs() < 1e-4);
                    let contributions: f32 =
                        explanation.support.iter().map(|weight| weight.contribution).sum();
                    assert!((contributions - own[1] - own[2]).abs() < 2e-3);
                    assert!(explanation.support.is_sorted_by(|a, b| a.contribution >= b.contribution));
                    for weight in &explanation.support {
                        let (i, own) = (weight.row, case.labels[weight.row]);
                        // A category without support shows the rows of the one whose terms it has.
                        assert!(own == c || counts[c] == 0);
                        assert!((f64::from(weight.affinity) - affinity[(n, i)]).abs() < 1e-5);
                        let sharpened = (f64::from(params.beta) * (affinity[(n, i)] - 1.0)).exp();
                        let expected = balance[own]
                            * (f64::from(params.alpha) * sharpened - f64::from(params.gamma) * kl[(n, i)]);
                        assert!((f64::from(weight.contribution) - expected).abs() < 1e-3);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn as_many_as_asked_for() -> Result<(), SupportError> {
    let case = case(22, 16, &[5, 5])?;
    let query = case.queries.slice(s![0..1, ..]);
    let fitted = Classifier::fit(case.support_set.clone(), valid(PARAMS[0]));
    let found = fitted.explain(query, Method::TipX, 1, 2);
    assert_eq!((found.len(), found[0].support.len()), (1, 2));
    let zero_shot = fitted.explain(query, Method::ZeroShot, 2, 2);
    assert!(zero_shot.iter().all(|e| e.support.is_empty() && e.term("cache") == 0.0 && e.term("kl") == 0.0));
    Ok(())
}

#[test]
fn a_method_explains_with_the_terms_of_its_row_in_the_table() -> Result<(), SupportError> {
    let case = case(23, 32, &[6, 5, 7])?;
    let query = case.queries.slice(s![0..1, ..]);
    let fitted = Classifier::fit(case.support_set.clone(), valid(PARAMS[0]));
    // Without likeness vectors, likeness has the terms of gated TIP-X.
    for method in Method::ALL.into_iter().filter(|&method| method != Method::Likeness) {
        for explanation in fitted.explain(query, method, 3, 2) {
            let names: Vec<&str> = explanation.terms.iter().map(|&(name, _)| name).collect();
            assert_eq!(names, method.terms(), "{method}");
        }
    }
    Ok(())
}
