//! Cosines made comparable: SPARC's double z-score (arXiv 2502.16911), with frozen means and deviations.
//!
//! Each name (or look) is first compared with what is usual for it: its mean cosine with the support images, each category
//! of them counting the same. Then an image's numbers are standardised over all names, and each name's over the support
//! images. Ten names that say nothing are added to every image: otherwise, of two names, an image would always show just one.

use ndarray::{Array2, ArrayViewMut1, Axis};

use crate::interrupt;

/// Names that say nothing, which count among those of every image.
const NEUTRAL: f64 = 10.0;
/// Deviations below this are due to rounding.
const MIN_DEVIATION: f64 = 1e-6;

/// How cosines with D names become comparable.
#[derive(Debug)]
pub struct Reading {
    /// The usual cosine of each name, D.
    usual: Vec<f64>,
    /// How many names that say nothing are added, and the square of how far a name is usually from its usual cosine.
    neutral: (f64, f64),
    /// Mean and deviation of what is standardised over the names, D.
    scale: Vec<(f64, f64)>,
}

impl Reading {
    /// Without anything that is usual: numbers are standardised over the names alone.
    pub fn of_names_alone(names: usize) -> Self {
        Reading { usual: vec![0.0; names], neutral: (0.0, 0.0), scale: vec![(0.0, 1.0); names] }
    }

    /// From the cosines of support rows (M × D) and the category of each row. `judged`: the first names, which are
    /// standardised.
    pub fn fit(cosines: Array2<f32>, categories: &[usize], judged: usize) -> Self {
        let weights = balanced(categories);
        let cosines = cosines.mapv(f64::from);
        let names = cosines.ncols();
        let mean = |matrix: &Array2<f64>, of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut means = vec![0.0; matrix.ncols()];
            for (row, weight) in matrix.rows().into_iter().zip(&weights) {
                interrupt::check();
                for (j, (sum, &x)) in means.iter_mut().zip(row).enumerate() {
                    *sum += weight * of(j, x);
                }
            }
            means
        };
        let usual = mean(&cosines, &|_, x| x);
        let squares = mean(&cosines, &|j, x| (x - usual[j]).powi(2));
        let square = squares.iter().sum::<f64>() / names.max(1) as f64;
        let scale = vec![(0.0, 1.0); names];
        let mut reading = Reading { usual, neutral: (NEUTRAL, square), scale };
        let standard = reading.read_all(cosines);
        let means = mean(&standard, &|_, x| x);
        let variances = mean(&standard, &|j, x| (x - means[j]).powi(2));
        let scale = means
            .into_iter()
            .zip(variances)
            .map(|(mean, variance)| (mean, variance.sqrt().max(MIN_DEVIATION)));
        reading.scale = scale.take(judged).collect();
        reading
    }

    /// What cosines with the names (N × D) say of the images, N × D. Only the first names that were to be judged are
    /// standardised over the support images.
    pub fn read(&self, cosines: Array2<f32>) -> Array2<f64> {
        self.read_all(cosines.mapv(f64::from))
    }

    fn read_all(&self, mut numbers: Array2<f64>) -> Array2<f64> {
        for row in numbers.axis_iter_mut(Axis(0)) {
            interrupt::check();
            self.read_row(row);
        }
        numbers
    }

    fn read_row(&self, mut row: ArrayViewMut1<f64>) {
        for (x, usual) in row.iter_mut().zip(&self.usual) {
            *x -= usual;
        }
        let (neutral, square) = self.neutral;
        let count = row.len() as f64 + neutral;
        let mean = row.sum() / count;
        let squares = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() + neutral * square;
        let deviation = (squares / (count - 1.0)).sqrt();
        for x in row.iter_mut() {
            *x = if deviation > 0.0 { (*x - mean) / deviation } else { 0.0 };
        }
        for (x, (mean, deviation)) in row.iter_mut().zip(&self.scale) {
            *x = (*x - mean) / deviation;
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.usual.len() * size_of::<f64>() + self.scale.len() * size_of::<(f64, f64)>()
    }
}

/// Weights of rows, of sum 1, so that each category that has any counts the same.
fn balanced(categories: &[usize]) -> Vec<f64> {
    let mut counts = std::collections::HashMap::new();
    for category in categories {
        *counts.entry(category).or_insert(0.0) += 1.0;
    }
    let shown = counts.len() as f64;
    categories.iter().map(|category| 1.0 / (shown * counts[category])).collect()
}
