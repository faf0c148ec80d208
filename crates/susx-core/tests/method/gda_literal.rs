//! The discriminant read literally in float64: sums over rows, a covariance inverted by elimination, and a
//! scale of the cosines found by bisection.

use ndarray::{Array1, Array2, ArrayView2};
use susx_core::classifier::ClassifierParams;
use susx_core::sus::SupportSet;

pub struct Literal {
    /// N x C.
    pub scores: Array2<f64>,
    /// The part of the scores that is the support's, N x C.
    pub discriminant: Array2<f64>,
    /// C.
    pub reliability: Vec<f64>,
    /// What each support row adds to its own category's score, N x M.
    pub contributions: Array2<f64>,
}

fn wide(m: ArrayView2<f32>) -> Array2<f64> {
    m.mapv(f64::from)
}

fn softmax(row: &Array1<f64>, scale: f64) -> Array1<f64> {
    let largest = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let e = row.mapv(|x| (scale * (x - largest)).exp());
    let sum = e.sum();
    e / sum
}

/// The scale at which the largest share is so large on average, over the rows that nobody has labelled, or
/// all.
fn scale_of(set: &SupportSet, cosines: &Array2<f64>, target: f64) -> f64 {
    let unlabelled: Vec<usize> = (0..set.len()).filter(|&i| !set.labelled()[i]).collect();
    let rows = if unlabelled.is_empty() { (0..set.len()).collect() } else { unlabelled };
    let largest = |scale: f64| {
        let shares = rows.iter().map(|&i| softmax(&cosines.row(i).to_owned(), scale));
        shares.map(|shares| shares.fold(0.0f64, |a, &b| a.max(b))).sum::<f64>() / rows.len() as f64
    };
    let (mut low, mut high) = (1e-2f64, 1e5f64);
    for _ in 0..60 {
        let middle = (low * high).sqrt();
        if largest(middle) < target { low = middle } else { high = middle }
    }
    high
}

/// The confidence of every support row: 1 if it is labelled.
fn confidence(set: &SupportSet, cosines: &Array2<f64>, logit_scale: f32) -> Vec<f64> {
    let scale = scale_of(set, cosines, 0.7).min(0.8 * f64::from(logit_scale));
    (0..set.len())
        .map(|i| match set.labelled()[i] {
            true => 1.0,
            false => softmax(&cosines.row(i).to_owned(), scale)[set.category_of(i)],
        })
        .collect()
}

/// Gauss-Jordan elimination, with the largest pivot of each column.
fn inverse(matrix: &Array2<f64>) -> Array2<f64> {
    let n = matrix.nrows();
    let (mut a, mut b) = (matrix.clone(), Array2::<f64>::eye(n));
    for k in 0..n {
        let pivot = (k..n).fold(k, |best, i| if a[(i, k)].abs() > a[(best, k)].abs() { i } else { best });
        for j in 0..n {
            a.swap((k, j), (pivot, j));
            b.swap((k, j), (pivot, j));
        }
        let scale = a[(k, k)];
        for j in 0..n {
            a[(k, j)] /= scale;
            b[(k, j)] /= scale;
        }
        for i in (0..n).filter(|&i| i != k) {
            let factor = a[(i, k)];
            for j in 0..n {
                a[(i, j)] -= factor * a[(k, j)];
                b[(i, j)] -= factor * b[(k, j)];
            }
        }
    }
    b
}

fn spread(rows: &Array2<f64>) -> f64 {
    let spreads = rows.rows().into_iter().map(|row| {
        let mean = row.sum() / row.len() as f64;
        (row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / row.len() as f64).sqrt()
    });
    spreads.sum::<f64>() / rows.nrows() as f64
}

fn centred(mut rows: Array2<f64>) -> Array2<f64> {
    for mut row in rows.rows_mut() {
        let mean = row.sum() / row.len() as f64;
        row -= mean;
    }
    rows
}

/// What is known of a support set before anything is asked.
struct Fit {
    x: Array2<f64>,
    own: Vec<usize>,
    weights: Vec<f64>,
    trust: Vec<f64>,
    ridge: f64,
    gate: f64,
    lambda: f64,
    /// What is taken off the discriminants in the range of the cosines, C.
    shift: Array1<f64>,
    p: Array2<f64>,
    mu: Array2<f64>,
    mass: Vec<f64>,
    reliability: Vec<f64>,
    /// The spreads of the cosines and of the discriminant over the categories.
    spreads: (f64, f64),
}

/// The means of the rows but one (C x d), and the sums of their weights.
fn means(
    x: &Array2<f64>,
    own: &[usize],
    weights: &[f64],
    categories: usize,
    without: Option<usize>,
) -> (Array2<f64>, Vec<f64>) {
    let mut mu = Array2::<f64>::zeros((categories, x.ncols()));
    let mut mass = vec![0.0; categories];
    let every: Vec<usize> = (0..x.nrows()).filter(|&i| Some(i) != without).collect();
    for (c, mass) in mass.iter_mut().enumerate() {
        let rows: Vec<usize> = every.iter().copied().filter(|&i| own[i] == c).collect();
        *mass = rows.iter().map(|&i| weights[i]).sum();
        let these = if *mass < 1e-9 { &every } else { &rows };
        let sum: f64 = these.iter().map(|&i| weights[i]).sum();
        for &i in these.iter().filter(|_| sum > 0.0) {
            mu.row_mut(c).scaled_add(weights[i] / sum, &x.row(i));
        }
    }
    (mu, mass)
}

/// How far the rows of each category, but one, can be trusted: 0 of a category without rows.
fn reliability(own: &[usize], trust: &[f64], categories: usize, without: Option<usize>) -> Vec<f64> {
    let of_category = |c: usize| {
        let rows: Vec<usize> = (0..own.len()).filter(|&i| own[i] == c && Some(i) != without).collect();
        let n = rows.len() as f64;
        let sum: f64 = rows.iter().map(|&i| trust[i]).sum();
        if rows.is_empty() { 0.0 } else { sum / n * n / (n + 4.0) }
    };
    (0..categories).map(of_category).collect()
}

/// `sum of weights (x - mu) (x - mu)^T` of the rows but one.
fn scatter(
    x: &Array2<f64>,
    own: &[usize],
    conf: &[f64],
    mu: &Array2<f64>,
    without: Option<usize>,
) -> Array2<f64> {
    let dimensions = x.ncols();
    let mut scatter = Array2::<f64>::zeros((dimensions, dimensions));
    for i in (0..x.nrows()).filter(|&i| Some(i) != without) {
        let apart = &x.row(i) - &mu.row(own[i]);
        for a in 0..dimensions {
            for b in 0..dimensions {
                scatter[(a, b)] += conf[i] * apart[a] * apart[b];
            }
        }
    }
    scatter
}

/// `x . P mu_c - mu_c . P mu_c / 2`, n x C.
fn discriminant(rows: &Array2<f64>, p: &Array2<f64>, mu: &Array2<f64>) -> Array2<f64> {
    let pulls = mu.dot(&p.t());
    let mut g = rows.dot(&pulls.t());
    for ((_, c), g) in g.indexed_iter_mut() {
        *g -= 0.5 * mu.row(c).dot(&pulls.row(c));
    }
    g
}

/// `(S / variance + ridge I)^-1`, or without variance its limit.
fn precision(scatter: &Array2<f64>, variance: f64, ridge: f64) -> Array2<f64> {
    let identity = Array2::<f64>::eye(scatter.nrows());
    if variance == 0.0 { identity / ridge } else { inverse(&(scatter / variance + identity * ridge)) }
}

fn variance(scatter: &Array2<f64>) -> f64 {
    let variance = scatter.diag().sum() / scatter.nrows() as f64;
    if variance <= 1e-12 { 0.0 } else { variance }
}

/// Which rows have others in their category, and the discriminants of every row by the fit without it (M x C): a
/// category that was only this row is worth the mean of the others.
fn left_out(
    x: &Array2<f64>,
    own: &[usize],
    weights: &[f64],
    categories: usize,
    ridge: f64,
) -> (Vec<bool>, Array2<f64>) {
    let (all, mass) = means(x, own, weights, categories, None);
    let variance = variance(&scatter(x, own, weights, &all, None));
    let mut scores = Array2::zeros((own.len(), categories));
    let mut has_others = Vec::new();
    for (i, &c) in own.iter().enumerate() {
        let (mut mu, left) = means(x, own, weights, categories, Some(i));
        // The categories that had no rows of any weight keep their mean.
        for c in (0..categories).filter(|&c| mass[c] < 1e-9) {
            mu.row_mut(c).assign(&all.row(c));
        }
        let p = precision(&scatter(x, own, weights, &mu, Some(i)), variance, ridge);
        let mut g = discriminant(&x.slice(ndarray::s![i..i + 1, ..]).to_owned(), &p, &mu);
        has_others.push(left[c] >= 1e-9);
        if !has_others[i] {
            let others: f64 = (0..categories).filter(|&k| k != c).map(|k| g[(0, k)]).sum();
            g[(0, c)] = others / (categories - 1).max(1) as f64;
        }
        scores.row_mut(i).assign(&g.row(0));
    }
    (has_others, centred(scores))
}

/// Of every row that nobody has labelled and that is not alone in its category: the probability of its category by
/// the names and the fit without it. 1 of the others, and of all where nothing is told apart.
fn agreement(
    set: &SupportSet,
    x: &Array2<f64>,
    cosines: &Array2<f64>,
    conf: &[f64],
    logit_scale: f32,
    ridge: f64,
) -> Vec<f64> {
    let own: Vec<usize> = (0..set.len()).map(|i| set.category_of(i)).collect();
    let categories = cosines.ncols();
    let (mu, mass) = means(x, &own, conf, categories, None);
    let supported = mass.iter().filter(|&&mass| mass >= 1e-9).count();
    if variance(&scatter(x, &own, conf, &mu, None)) == 0.0 || supported < 2 {
        return vec![1.0; set.len()];
    }
    let (has_others, g) = left_out(x, &own, conf, categories, ridge);
    let (sigma_z, sigma_g) = (spread(cosines), spread(&g));
    let probability = |i: usize| {
        let both = &cosines.row(i) + &(&g.row(i) * (sigma_z / sigma_g));
        softmax(&both, 2.0 * f64::from(logit_scale))[own[i]]
    };
    let is_judged = |i: usize| !set.labelled()[i] && has_others[i] && sigma_z > 1e-12 && sigma_g > 1e-12;
    (0..set.len()).map(|i| if is_judged(i) { probability(i) } else { 1.0 }).collect()
}

impl Fit {
    fn new(set: &SupportSet, logit_scale: f32, params: ClassifierParams) -> Fit {
        let (w, x) = (wide(set.zeroshot_weights()), wide(set.features()));
        let categories = w.nrows();
        let own: Vec<usize> = (0..set.len()).map(|i| set.category_of(i)).collect();
        let cosines = x.dot(&w.t());
        let conf = confidence(set, &cosines, logit_scale);
        let ridge = f64::from(params.ridge);
        let agrees = agreement(set, &x, &cosines, &conf, logit_scale, ridge);
        let weights: Vec<f64> = conf.iter().zip(&agrees).map(|(conf, a)| conf * a).collect();
        let trust: Vec<f64> = (0..set.len())
            .map(|i| match set.labelled()[i] {
                true => 1.0,
                false => softmax(&cosines.row(i).to_owned(), logit_scale.into())[own[i]] * agrees[i],
            })
            .collect();
        let reliability = reliability(&own, &trust, categories, None);
        let (mu, mass) = means(&x, &own, &weights, categories, None);
        let scatter = scatter(&x, &own, &weights, &mu, None);
        let variance = variance(&scatter);
        let p = precision(&scatter, variance, ridge);
        let spreads = (spread(&cosines), spread(&discriminant(&x, &p, &mu)));
        let gate = scale_of(set, &cosines, 0.9);
        // Names that are less sure have less to say.
        let range = f64::from(logit_scale) * spreads.0;
        let lambda = f64::from(params.lambda) * (2.0 / range).powi(2).min(4.0);
        // What is wrong in the support set makes it prefer some categories.
        let wrong = 1.0 - trust.iter().sum::<f64>() / set.len() as f64;
        let unlabelled = set.labelled().iter().filter(|&&labelled| !labelled).count() as f64;
        let unsettled = unlabelled / set.len() as f64 * (2.0 * wrong).min(1.0);
        let (_, g) = left_out(&x, &own, &weights, categories, ridge);
        let mean = g.sum_axis(ndarray::Axis(0)) / set.len() as f64 * (spreads.0 / spreads.1);
        let shift = mean * unsettled;
        Fit { x, own, weights, trust, ridge, gate, lambda, shift, p, mu, mass, reliability, spreads }
    }

    /// `R` of a query with these cosines and categories of these reliabilities.
    fn say(&self, cosines: &Array1<f64>, reliability: &[f64]) -> f64 {
        let trust: f64 = softmax(cosines, self.gate).iter().zip(reliability).map(|(p, r)| p * r).sum();
        self.lambda * trust.powi(3)
    }
}

/// Of a support set that is not empty. `None` where it tells nothing apart.
pub fn literal(
    set: &SupportSet,
    queries: ArrayView2<f32>,
    logit_scale: f32,
    params: ClassifierParams,
) -> Option<Literal> {
    let fit = Fit::new(set, logit_scale, params);
    let (sigma_z, sigma_g) = fit.spreads;
    if sigma_z <= 1e-12 || sigma_g <= 1e-12 {
        return None;
    }
    let (w, f) = (wide(set.zeroshot_weights()), wide(queries));
    let s = f.dot(&w.t());
    let say: Vec<f64> = s.rows().into_iter().map(|row| fit.say(&row.to_owned(), &fit.reliability)).collect();
    let z = centred(s);
    let raw = discriminant(&f, &fit.p, &fit.mu);
    let scale = sigma_z / sigma_g;
    let g = centred(raw.clone()) * scale - &fit.shift;
    let factor = |n: usize| 1.75 * f64::from(logit_scale) / (1.0 + say[n]);
    let scores = Array2::from_shape_fn(z.dim(), |(n, c)| factor(n) * (z[(n, c)] + say[n] * g[(n, c)]));
    let of_support = Array2::from_shape_fn(z.dim(), |(n, c)| factor(n) * say[n] * g[(n, c)]);
    let contributions = Array2::from_shape_fn((f.nrows(), set.len()), |(n, i)| {
        let c = fit.own[i];
        let pull = fit.p.dot(&fit.x.row(i));
        let own = f.row(n).dot(&pull) - 0.5 * fit.mu.row(c).dot(&pull);
        let mean = raw.row(n).sum() / raw.ncols() as f64;
        if fit.mass[c] < 1e-9 {
            return 0.0;
        }
        factor(n) * say[n] * fit.weights[i] / fit.mass[c] * ((own - mean) * scale - fit.shift[c])
    });
    Some(Literal { discriminant: of_support, scores, reliability: fit.reliability, contributions })
}

/// The scores of every support row (M x C), but for their factor, by the fit without it, with the weights, the
/// mean variance, the spreads and the shift of the fit with it.
pub fn leave_one_out(set: &SupportSet, logit_scale: f32, params: ClassifierParams) -> Array2<f64> {
    let fit = Fit::new(set, logit_scale, params);
    let cosines = fit.x.dot(&wide(set.zeroshot_weights()).t());
    let (sigma_z, sigma_g) = fit.spreads;
    let categories = cosines.ncols();
    let (_, g) = left_out(&fit.x, &fit.own, &fit.weights, categories, fit.ridge);
    let g = g * (sigma_z / sigma_g) - &fit.shift;
    let z = centred(cosines.clone());
    let mut scores = Array2::zeros(cosines.dim());
    for i in 0..set.len() {
        let reliability = reliability(&fit.own, &fit.trust, categories, Some(i));
        let say = fit.say(&cosines.row(i).to_owned(), &reliability);
        for c in 0..categories {
            scores[(i, c)] = z[(i, c)] + say * g[(i, c)];
        }
    }
    scores
}
