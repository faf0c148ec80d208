//! TIP-X read literally in float64, with the KL divergence of every pair, and cases to try it on.

use ndarray::{Array1, Array2, ArrayView2};
use susx_core::classifier::{ClassifierParams, ParamError, ValidParams};
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

/// A xorshift generator: the tests need many numbers, not good ones.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn around(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
        centre.iter().map(|x| x + spread * self.next()).collect()
    }

    pub fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        self.around(&vec![0.0; dimensions], 1.0)
    }
}

pub struct Case {
    pub support_set: SupportSet,
    pub queries: Array2<f32>,
    /// The categories of the support rows.
    pub labels: Vec<usize>,
}

/// Prompts near one direction, as CLIP's are; `counts[c]` images around each; 20 queries.
pub fn case(seed: u64, dimensions: usize, counts: &[usize]) -> Result<Case, SupportError> {
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
pub fn literal(case: &Case, params: ClassifierParams) -> [Array2<f64>; 3] {
    let (categories, weight) = (case.support_set.categories().len(), balance(case));
    let queries = case.queries.nrows();
    let [affinity, kl] = pairs(case, params);
    let mut cache = Array2::<f64>::zeros((queries, categories));
    let mut divergence = Array2::<f64>::zeros((queries, categories));
    for n in 0..queries {
        for (i, &c) in case.labels.iter().enumerate() {
            cache[(n, c)] += f64::from(params.alpha)
                * weight[c]
                * (-f64::from(params.beta) * (1.0 - affinity[(n, i)])).exp();
            divergence[(n, c)] -= f64::from(params.gamma) * weight[c] * kl[(n, i)];
        }
        // Not of the paper: a category without support has the terms of the one that gains most.
        let supported: Vec<usize> = (0..categories).filter(|c| case.labels.contains(c)).collect();
        let best = supported.into_iter().fold(None, |best: Option<usize>, c| match best {
            Some(b) if cache[(n, b)] + divergence[(n, b)] >= cache[(n, c)] + divergence[(n, c)] => Some(b),
            _ => Some(c),
        });
        for c in (0..categories).filter(|c| !case.labels.contains(c)) {
            if let Some(best) = best {
                cache[(n, c)] = cache[(n, best)];
                divergence[(n, c)] = divergence[(n, best)];
            }
        }
    }
    let cosines = wide(case.queries.view()).dot(&wide(case.support_set.zeroshot_weights()).t());
    [cosines * f64::from(params.logit_scale), cache, divergence]
}

/// `n/n_c` of every category that has support.
pub fn balance(case: &Case) -> Vec<f64> {
    let categories = case.support_set.categories().len();
    let count = |c: usize| case.labels.iter().filter(|&&label| label == c).count() as f64;
    let mean = case.labels.len() as f64 / categories as f64;
    (0..categories).map(|c| if count(c) > 0.0 { mean / count(c) } else { 0.0 }).collect()
}

/// The affinity and the scaled divergence `a KL + b` of every query and support row.
pub fn pairs(case: &Case, params: ClassifierParams) -> [Array2<f64>; 2] {
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
    let (own_affinity, own_kl) = (s.dot(&s.t()), divergences(&q, &q));
    let range = |m: &Array2<f64>| {
        m.indexed_iter()
            .filter(|((i, j), _)| i != j)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, &x)| (low.min(x), high.max(x)))
    };
    let ((a_min, a_max), (kl_min, kl_max)) = (range(&own_affinity), range(&own_kl));
    // Two rows or equal ones have one affinity; a single row has none.
    let (a, b) = if a_max - a_min <= 1e-6 && a_min.is_finite() {
        (0.0, a_min)
    } else if kl_max - kl_min <= 1e-7 || !a_min.is_finite() {
        (0.0, 0.0)
    } else {
        let a = (a_max - a_min) / (kl_max - kl_min);
        (a, a_min - a * kl_min)
    };
    [f.dot(&s.t()), divergences(&p, &q).mapv(|kl| a * kl + b)]
}

fn wide(m: ArrayView2<f32>) -> Array2<f64> {
    m.mapv(f64::from)
}

pub fn largest_difference(ours: &Array2<f32>, literal: &Array2<f64>) -> f64 {
    ours.iter().zip(literal).map(|(&x, &y)| (f64::from(x) - y).abs()).fold(0.0, f64::max)
}

const START: ClassifierParams = ClassifierParams::START;

pub const PARAMS: [ClassifierParams; 3] = [
    ClassifierParams { alpha: 1.0, beta: 5.5, gamma: 1.0, temperature: 0.5, logit_scale: 100.0, ..START },
    ClassifierParams { alpha: 10.0, beta: 20.0, gamma: 0.1, temperature: 0.5, logit_scale: 100.0, ..START },
    ClassifierParams { alpha: 3.0, beta: 1.0, gamma: 8.0, temperature: 0.1, logit_scale: 20.0, ..START },
];

/// Parameters of a test, which are valid.
pub fn valid(params: ClassifierParams) -> ValidParams {
    params.check().unwrap_or_else(|error: ParamError| panic!("{error}"))
}
