//! Tuning against a loop over every triple that computes every logit.

use ndarray::{Array2, Axis, s};
use susx_core::classifier::ClassifierParams;
use susx_core::method::tip_x::{LeaveOneOut, TipX, TipXGrid, TipXGridSearch};
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Case, case, literal, valid};

const PARAMS: ClassifierParams = ClassifierParams {
    alpha: 1.0,
    beta: 5.5,
    gamma: 1.0,
    temperature: 0.5,
    logit_scale: 10.0,
    ..ClassifierParams::START
};

fn grid() -> TipXGrid {
    TipXGrid {
        alpha: vec![0.0, 0.3, 2.0, 9.0],
        beta: vec![0.0, 5.5, 20.0],
        gamma: vec![0.0, 0.1, 0.7, 2.0, 30.0],
    }
}

/// Whether the first of the largest logits is the true category's, and by how much it is nearest to
/// being another's.
fn verdict(logits: &[f64], truth: usize) -> (bool, f64) {
    let first = (0..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best });
    let others = (0..logits.len()).filter(|&c| c != truth).map(|c| (logits[truth] - logits[c]).abs());
    (first == truth, others.fold(f64::INFINITY, f64::min))
}

/// Rows right, and rows too near to call in float32, for every triple; each row with its own case.
fn naive(grid: &TipXGrid, rows: &[(Case, usize)]) -> Vec<(u32, u32)> {
    let mut counts = Vec::new();
    for &alpha in &grid.alpha {
        for &beta in &grid.beta {
            for &gamma in &grid.gamma {
                let (mut right, mut close) = (0, 0);
                for (case, truth) in rows {
                    let terms = literal(case, ClassifierParams { alpha, beta, gamma, ..PARAMS });
                    let logits = &(&terms[0] + &terms[1]) + &terms[2];
                    let (is_right, margin) = verdict(&logits.row(0).to_vec(), *truth);
                    if margin < 1e-3 {
                        close += 1;
                    } else {
                        right += u32::from(is_right);
                    }
                }
                counts.push((right, close));
            }
        }
    }
    counts
}

fn check(search: &TipXGridSearch, expected: &[(u32, u32)]) {
    let found: Vec<_> = search.counts().collect();
    assert_eq!(found.len(), expected.len());
    for (&(alpha, beta, gamma, right), &(sure, close)) in found.iter().zip(expected) {
        assert!(
            (sure..=sure + close).contains(&right),
            "alpha {alpha}, beta {beta}, gamma {gamma}: {right} right, not {sure} (of {close} nobody can tell)"
        );
    }
    assert!(expected.iter().map(|(_, close)| close).sum::<u32>() < 60, "most rows can be told");
    let most = found.iter().map(|triple| triple.3).max();
    let best = search.best();
    assert_eq!(best.map(|best| best.tip_x), most);
    // The first of the best, of the zero-shot one, and of the best without gamma.
    let first = found.iter().find(|triple| Some(triple.3) == most);
    assert_eq!(first.map(|t| (t.0, t.1, t.2)), best.map(|best| (best.alpha, best.beta, best.gamma)));
    assert_eq!(best.map(|best| best.zero_shot), Some(found[0].3));
    let without_gamma = found.iter().filter(|t| t.2 == 0.0).map(|t| t.3).max();
    assert_eq!(best.map(|best| best.tip_adapter), without_gamma);
    assert!(best.is_some_and(|best| best.tip_x >= best.tip_adapter && best.tip_adapter >= best.zero_shot));
}

/// As the case, of one query.
fn alone(case: &Case, query: usize) -> Case {
    Case {
        support_set: case.support_set.clone(),
        queries: case.queries.slice(s![query..query + 1, ..]).to_owned(),
        labels: case.labels.clone(),
    }
}

#[test]
fn every_triple_is_counted_as_by_the_loop() -> Result<(), SupportError> {
    for (seed, counts) in [(1, vec![4; 7]), (2, vec![1, 9, 3, 5]), (3, vec![3, 0, 6, 0, 2]), (4, vec![2, 2])]
    {
        let case = case(seed, 24, &counts)?;
        // Not the generator's categories: a test of a search wants rows that are hard.
        let truth: Vec<usize> = (0..20).map(|i| (i * 3 + i / 6) % counts.len()).collect();
        let fitted = TipX::fit(case.support_set.clone(), valid(PARAMS));
        let mut search = TipXGridSearch::new(grid());
        for (rows, truth) in case.queries.axis_chunks_iter(Axis(0), 6).zip(truth.chunks(6)) {
            search.add(&fitted.parts(rows), truth);
        }
        let rows: Vec<_> = truth.iter().enumerate().map(|(i, &truth)| (alone(&case, i), truth)).collect();
        check(&search, &naive(&grid(), &rows));
    }
    Ok(())
}

/// The support set without a row, and the labels of the others.
fn without(case: &Case, row: usize) -> Result<(SupportSet, Vec<usize>), SupportError> {
    let set = &case.support_set;
    let mut builder = SupportSetBuilder::new(set.dimensions());
    for (name, weight) in set.categories().iter().zip(set.zeroshot_weights().rows()) {
        builder.push_prompt(name, &weight.to_vec())?;
    }
    let mut labels = Vec::new();
    for (i, feature) in set.features().rows().into_iter().enumerate().filter(|(i, _)| *i != row) {
        builder.push_image(&set.categories()[case.labels[i]], set.ids()[i], &feature.to_vec())?;
        labels.push(case.labels[i]);
    }
    Ok((builder.finish()?, labels))
}

#[test]
fn leaving_a_row_out_is_fitting_without_it() -> Result<(), SupportError> {
    for (seed, counts) in [(5, vec![4; 5]), (6, vec![1, 7, 0, 3]), (7, vec![1, 1, 1]), (8, vec![2, 1])] {
        let case = case(seed, 24, &counts)?;
        let fitted = TipX::fit(case.support_set.clone(), valid(PARAMS));
        let leave_one_out = LeaveOneOut::new(&fitted);
        assert_eq!(leave_one_out.categories(), case.labels);
        let parts = leave_one_out.parts(&(0..case.labels.len()).collect::<Vec<_>>());
        let mut search = TipXGridSearch::new(grid());
        search.add(&parts, &case.labels);
        let mut rows = Vec::new();
        for (i, &label) in case.labels.iter().enumerate() {
            let query = case.support_set.features().slice(s![i..i + 1, ..]).to_owned();
            let (support_set, labels) = without(&case, i)?;
            let refitted = TipX::fit(support_set.clone(), valid(PARAMS)).parts(query.view());
            let near = |a: f32, b: f32| (a - b).abs() < 1e-4 * (1.0 + b.abs());
            for c in 0..counts.len() {
                assert!(near(parts.balance[(i, c)], refitted.balance[(0, c)]), "balance {i} {c}");
                assert!(near(parts.zero_shot[(i, c)], refitted.zero_shot[(0, c)]), "zero-shot {i} {c}");
                if refitted.balance[(0, c)] > 0.0 {
                    assert!(near(parts.kl[(i, c)], refitted.kl[(0, c)]), "kl {i} {c}");
                }
            }
            assert_eq!(parts.affinities[(i, i)], f32::NEG_INFINITY);
            let others: Vec<f32> =
                (0..case.labels.len()).filter(|&j| j != i).map(|j| parts.affinities[(i, j)]).collect();
            assert!(others.iter().zip(refitted.affinities.row(0)).all(|(&a, &b)| near(a, b)));
            rows.push((Case { support_set, queries: query, labels }, label));
        }
        check(&search, &naive(&grid(), &rows));
    }
    Ok(())
}

#[test]
fn evenly_spaced_betas() -> Result<(), SupportError> {
    let grid = TipXGrid {
        alpha: vec![0.0, 3.0],
        beta: (0..40).map(|i| 1.0 + 0.245 * i as f32).collect(),
        gamma: vec![0.0, 1.0],
    };
    let case = case(9, 24, &[3, 5, 4])?;
    let fitted = TipX::fit(case.support_set.clone(), valid(PARAMS));
    let truth: Vec<usize> = (0..20).map(|i| (i * 2 + i / 7) % 3).collect();
    let mut search = TipXGridSearch::new(grid.clone());
    search.add(&fitted.parts(case.queries.view()), &truth);
    let rows: Vec<_> = truth.iter().enumerate().map(|(i, &truth)| (alone(&case, i), truth)).collect();
    check(&search, &naive(&grid, &rows));
    Ok(())
}

#[test]
fn equal_categories_are_told_apart_as_by_ranking() -> Result<(), SupportError> {
    // The first of equal logits wins: a row of the second of two equal categories is never right.
    let mut builder = SupportSetBuilder::new(2);
    for name in ["a", "b"] {
        builder.push_prompt(name, &[1.0, 0.0])?;
        builder.push_image(name, 0, &[0.8, 0.6])?;
    }
    let fitted = TipX::fit(builder.finish()?, valid(PARAMS));
    let mut search = TipXGridSearch::new(grid());
    search.add(&fitted.parts(Array2::from_elem((2, 2), 0.5f32.sqrt()).view()), &[0, 1]);
    assert!(search.counts().all(|(.., right)| right == 1));
    Ok(())
}

#[test]
fn the_published_grid() {
    let grid = TipXGrid::published();
    assert_eq!([grid.alpha.len(), grid.beta.len(), grid.gamma.len()], [21, 200, 51]);
    assert_eq!(
        (grid.alpha[0], grid.alpha[1], grid.beta[0], grid.gamma[0], grid.gamma[1]),
        (0.0, 0.1, 1.0, 0.0, 0.1)
    );
    let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
    assert!(near(grid.alpha[20], 0.1 + 49.9 * 19.0 / 20.0) && near(grid.gamma[50], 0.1 + 29.9 * 49.0 / 50.0));
    assert!(near(grid.beta[199], 1.0 + 49.0 * 199.0 / 200.0));
    assert_eq!(TipXGridSearch::new(grid).best(), None);
}
