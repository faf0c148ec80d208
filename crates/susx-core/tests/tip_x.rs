//! TIP-X against its formula, read literally in float64 with the KL divergence of every pair.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};
use susx_core::tip_x::{Method, Params, TipX};

/// A xorshift generator: the tests need many numbers, not good ones.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn around(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
        centre.iter().map(|x| x + spread * self.next()).collect()
    }

    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        self.around(&vec![0.0; dimensions], 1.0)
    }
}

struct Case {
    support_set: SupportSet,
    queries: Array2<f32>,
    labels: Vec<usize>,
}

/// Prompts near one direction, as CLIP's are; `counts[c]` images around each; 20 queries.
fn case(seed: u64, dimensions: usize, counts: &[usize]) -> Result<Case, SupportError> {
    let mut numbers = Numbers(seed);
    let mut builder = SupportSetBuilder::new(dimensions);
    let text = numbers.vector(dimensions);
    let mut labels = Vec::new();
    let mut centres = Vec::new();
    for (c, &count) in counts.iter().enumerate() {
        let name = format!("category {c}");
        let prompt = numbers.around(&text, 0.5);
        builder.push_prompt(&name, &prompt)?;
        let centre = numbers.around(&prompt, 1.0);
        for _ in 0..count {
            builder.push_image(&name, labels.len() as i64, &numbers.around(&centre, 0.7))?;
            labels.push(c);
        }
        centres.push(centre);
    }
    let mut queries = Array2::zeros((20, dimensions));
    for (i, mut row) in queries.rows_mut().into_iter().enumerate() {
        row.assign(&Array1::from(numbers.around(&centres[i % counts.len()], 0.8)));
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    Ok(Case { support_set: builder.finish()?, queries, labels })
}

fn log_softmax(row: &Array1<f64>) -> Array1<f64> {
    let largest = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    row - (row.mapv(|x| (x - largest).exp()).sum().ln() + largest)
}

/// The KL divergence of every pair of rows of log-probabilities, by its definition.
fn divergences(log_p: &Array2<f64>, log_q: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((log_p.nrows(), log_q.nrows()), |(n, i)| {
        log_p.row(n).iter().zip(log_q.row(i)).map(|(&p, &q)| p.exp() * (p - q)).sum()
    })
}

/// The zero-shot, cache and KL terms.
fn literal(case: &Case, params: Params) -> [Array2<f64>; 3] {
    let wide = |m: ArrayView2<f32>| m.mapv(f64::from);
    let (f, s, w) = (
        wide(case.queries.view()),
        wide(case.support_set.features()),
        wide(case.support_set.zeroshot_weights()),
    );
    let log_p = |x: &Array2<f64>| {
        let mut scaled = x.dot(&w.t()) / f64::from(params.temperature);
        for mut row in scaled.rows_mut() {
            let log = log_softmax(&row.to_owned());
            row.assign(&log);
        }
        scaled
    };
    let (p, q) = (log_p(&f), log_p(&s));
    let affinity = f.dot(&s.t());
    let kl = divergences(&p, &q);
    let (own_affinity, own_kl) = (s.dot(&s.t()), divergences(&q, &q));
    let range = |m: &Array2<f64>| {
        m.indexed_iter()
            .filter(|((i, j), _)| i != j)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, &x)| (low.min(x), high.max(x)))
    };
    let ((a_min, a_max), (kl_min, kl_max)) = (range(&own_affinity), range(&own_kl));
    let a = (a_max - a_min) / (kl_max - kl_min);
    let b = a_min - a * kl_min;
    let categories = w.nrows();
    let counts: Vec<f64> =
        (0..categories).map(|c| case.labels.iter().filter(|&&l| l == c).count() as f64).collect();
    let mean = counts.iter().sum::<f64>() / categories as f64;
    let mut cache = Array2::<f64>::zeros((f.nrows(), categories));
    let mut divergence = Array2::<f64>::zeros((f.nrows(), categories));
    for n in 0..f.nrows() {
        for (i, &c) in case.labels.iter().enumerate() {
            let weight = mean / counts[c];
            cache[(n, c)] +=
                f64::from(params.alpha) * weight * (-f64::from(params.beta) * (1.0 - affinity[(n, i)])).exp();
            divergence[(n, c)] -= f64::from(params.gamma) * weight * (a * kl[(n, i)] + b);
        }
        // Not of the paper: a category without support has the terms of the one that gains most.
        let supported: Vec<usize> = (0..categories).filter(|&c| counts[c] > 0.0).collect();
        let best = supported.into_iter().fold(None, |best: Option<usize>, c| match best {
            Some(b) if cache[(n, b)] + divergence[(n, b)] >= cache[(n, c)] + divergence[(n, c)] => Some(b),
            _ => Some(c),
        });
        for c in (0..categories).filter(|&c| counts[c] == 0.0) {
            if let Some(best) = best {
                cache[(n, c)] = cache[(n, best)];
                divergence[(n, c)] = divergence[(n, best)];
            }
        }
    }
    [f.dot(&w.t()) * f64::from(params.logit_scale), cache, divergence]
}

fn largest_difference(ours: &Array2<f32>, literal: &Array2<f64>) -> f64 {
    ours.iter().zip(literal).map(|(&x, &y)| (f64::from(x) - y).abs()).fold(0.0, f64::max)
}

const PARAMS: [Params; 3] = [
    Params { alpha: 1.0, beta: 5.5, gamma: 1.0, temperature: 0.5, logit_scale: 100.0 },
    Params { alpha: 10.0, beta: 20.0, gamma: 0.1, temperature: 0.5, logit_scale: 100.0 },
    Params { alpha: 3.0, beta: 1.0, gamma: 8.0, temperature: 0.1, logit_scale: 20.0 },
];

#[test]
fn every_term_is_the_formula() -> Result<(), SupportError> {
    for counts in [vec![16; 30], vec![1, 40, 0, 7, 16, 2], vec![5, 3]] {
        for params in PARAMS {
            let case = case(7, 96, &counts)?;
            let terms = TipX::fit(case.support_set.clone(), params).terms(case.queries.view(), Method::TipX);
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
    let fitted = TipX::fit(case.support_set.clone(), PARAMS[0]);
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
    let fitted = TipX::fit(case.support_set.clone(), PARAMS[0]);
    let together = fitted.logits(case.queries.view(), Method::TipX);
    for (i, row) in together.rows().into_iter().enumerate() {
        let alone = fitted.logits(case.queries.view().select(Axis(0), &[i]).view(), Method::TipX);
        let difference = largest_difference(&alone, &row.insert_axis(Axis(0)).mapv(f64::from));
        assert!(difference < 2e-5, "row {i}: {difference}");
    }
    Ok(())
}

#[test]
fn without_support_every_method_is_zero_shot() -> Result<(), SupportError> {
    let case = case(5, 16, &[0, 0, 0])?;
    let fitted = TipX::fit(case.support_set.clone(), PARAMS[0]);
    assert_eq!(fitted.default_method(), Method::ZeroShot);
    let zero_shot = fitted.logits(case.queries.view(), Method::ZeroShot);
    assert_eq!(fitted.logits(case.queries.view(), Method::TipX), zero_shot);
    Ok(())
}

#[test]
fn one_category_or_equal_rows_have_no_divergence_to_scale() -> Result<(), SupportError> {
    for categories in [&["a", "b"][..], &["a"]] {
        let mut builder = SupportSetBuilder::new(2);
        for (i, category) in categories.iter().enumerate() {
            builder.push_prompt(category, &[1.0, i as f32])?;
        }
        for _ in 0..3 {
            builder.push_image("a", 0, &[0.9, 0.1])?;
        }
        let fitted = TipX::fit(builder.finish()?, PARAMS[0]);
        let query = ndarray::arr2(&[[0.6, 0.8]]);
        assert_eq!(
            fitted.logits(query.view(), Method::TipX),
            fitted.logits(query.view(), Method::TipAdapter)
        );
    }
    Ok(())
}
