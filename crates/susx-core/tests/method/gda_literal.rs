//! The discriminant read literally in float64: sums over rows, a covariance inverted by elimination, and a
//! scale of the cosines found by bisection.

use ndarray::{Array1, Array2, ArrayView2};
use susx_core::gda::Params;
use susx_core::sus::SupportSet;

pub struct Literal {
    /// N x C.
    pub scores: Array2<f64>,
    /// The part of the scores that is not the names', N x C.
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

/// The confidence of every support row: 1 if it is labelled.
fn confidence(set: &SupportSet, cosines: &Array2<f64>) -> Vec<f64> {
    let largest = |scale: f64| {
        let sum: f64 = cosines
            .rows()
            .into_iter()
            .map(|row| softmax(&row.to_owned(), scale).fold(0.0f64, |a, &b| a.max(b)))
            .sum();
        sum / set.len() as f64
    };
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if largest(middle) < 0.6 { low = middle } else { high = middle }
    }
    (0..set.len())
        .map(|i| match set.labelled()[i] {
            true => 1.0,
            false => softmax(&cosines.row(i).to_owned(), high)[set.category_of(i)],
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

/// Of a support set that is not empty.
pub fn literal(set: &SupportSet, queries: ArrayView2<f32>, logit_scale: f32, params: Params) -> Literal {
    let (w, x, f) = (wide(set.zeroshot_weights()), wide(set.features()), wide(queries));
    let (categories, dimensions) = w.dim();
    let own: Vec<usize> = (0..set.len()).map(|i| set.category_of(i)).collect();
    let support_cosines = x.dot(&w.t());
    let conf = confidence(set, &support_cosines);
    let total: f64 = conf.iter().sum();

    let mut mu = Array2::<f64>::zeros((categories, dimensions));
    let mut mass = vec![0.0; categories];
    let mut reliability = vec![0.0; categories];
    for c in 0..categories {
        let rows: Vec<usize> = (0..set.len()).filter(|&i| own[i] == c).collect();
        let every: Vec<usize> = (0..set.len()).collect();
        let these = if rows.is_empty() { &every } else { &rows };
        let sum: f64 = these.iter().map(|&i| conf[i]).sum();
        for &i in these {
            mu.row_mut(c).scaled_add(conf[i] / sum, &x.row(i));
        }
        mass[c] = rows.iter().map(|&i| conf[i]).sum();
        let n = rows.len() as f64;
        reliability[c] = if rows.is_empty() { 0.0 } else { mass[c] / n * n / (n + 4.0) };
    }
    let mut scatter = Array2::<f64>::zeros((dimensions, dimensions));
    for i in 0..set.len() {
        let apart = &x.row(i) - &mu.row(own[i]);
        for a in 0..dimensions {
            for b in 0..dimensions {
                scatter[(a, b)] += conf[i] * apart[a] * apart[b];
            }
        }
    }
    scatter /= (total - categories as f64).max(0.2 * total);
    let trace = scatter.diag().sum();
    // Without any scatter the categories are told apart by their means alone.
    let p = if trace < 1e-12 {
        Array2::eye(dimensions)
    } else {
        let ridge = f64::from(params.ridge) * trace / dimensions as f64;
        inverse(&(&scatter + &(Array2::<f64>::eye(dimensions) * ridge)))
    };
    let own_g = |rows: &Array2<f64>| {
        Array2::from_shape_fn((rows.nrows(), categories), |(n, c)| {
            let pull = p.dot(&mu.row(c));
            rows.row(n).dot(&pull) - 0.5 * mu.row(c).dot(&pull)
        })
    };
    let support_g = own_g(&x);
    let mut ratio = spread(&support_cosines) / spread(&support_g);
    if spread(&support_g) < 1e-9 {
        ratio = 0.0;
        reliability.fill(0.0);
    }
    let z = centred(f.dot(&w.t()));
    let raw = own_g(&f);
    let g = centred(raw.clone()) * ratio;
    let (scale, lambda) = (f64::from(logit_scale), f64::from(params.lambda));
    let part = |n: usize, c: usize| scale / (1.0 + lambda) * lambda * reliability[c] * g[(n, c)];
    let discriminant = Array2::from_shape_fn(z.dim(), |(n, c)| part(n, c));
    let scores = Array2::from_shape_fn(z.dim(), |(n, c)| {
        let (r, z) = (reliability[c], z[(n, c)]);
        scale / (1.0 + lambda) * (z + lambda * (r * g[(n, c)] + (1.0 - r) * z))
    });
    let contributions = Array2::from_shape_fn((f.nrows(), set.len()), |(n, i)| {
        let c = own[i];
        let pull = p.dot(&x.row(i));
        let own = f.row(n).dot(&pull) - 0.5 * mu.row(c).dot(&pull);
        let mean = raw.row(n).sum() / categories as f64;
        let share = conf[i] / mass[c];
        scale / (1.0 + lambda) * lambda * reliability[c] * ratio * share * (own - mean)
    });
    Literal { scores, discriminant, reliability, contributions }
}
