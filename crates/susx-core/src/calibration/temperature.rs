//! The temperature at which labelled images are most likely.

use crate::linalg::bisect;

/// Temperatures that are searched, and how often the interval is halved.
const RANGE: (f64, f64) = (1e-2, 1e2);
const HALVINGS: usize = 40;

/// Collects logits of labelled images.
#[derive(Clone, Debug, Default)]
pub struct TemperatureFit {
    /// The logits of one image after the other, minus the largest, with the true category first.
    rows: Vec<Vec<f32>>,
}

impl TemperatureFit {
    /// Adds the logits of an image (C) and its true category.
    ///
    /// # Panics
    ///
    /// If `truth` is not the index of a logit.
    pub fn add(&mut self, logits: &[f32], truth: usize) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut row: Vec<f32> = logits.iter().map(|logit| logit - largest).collect();
        row.swap(0, truth);
        self.rows.push(row);
    }

    /// The temperature T at which `softmax(logits / T)` gives the true categories the largest likelihood (Guo et al.,
    /// ICML 2017); `None` without images. O(n C).
    ///
    /// As in Platt's scaling, of n images `1/(n + 2)` of each belongs to all categories alike. Without that, the
    /// likelihood of images that are all right grows without end as T approaches 0.
    pub fn best(&self) -> Option<f32> {
        let smoothing = 1.0 / (self.rows.len() as f64 + 2.0);
        let target = |row: &[f32]| {
            let mean = row.iter().map(|&logit| f64::from(logit)).sum::<f64>() / row.len() as f64;
            (1.0 - smoothing) * f64::from(row[0]) + smoothing * mean
        };
        let targets: f64 = self.rows.iter().map(|row| target(row)).sum();
        // The likelihood is concave in 1/T. Its slope is the targets minus the logits that the softmax expects.
        let slope =
            |temperature: f64| targets - self.rows.iter().map(|row| expected(row, temperature)).sum::<f64>();
        let best = || bisect(RANGE, HALVINGS, |temperature| slope(temperature) <= 0.0) as f32;
        (!self.rows.is_empty()).then(best)
    }
}

/// The mean of some logits, the largest of which is 0, weighted by their softmax.
fn expected(logits: &[f32], temperature: f64) -> f64 {
    let (mut sum, mut weighted) = (0.0, 0.0);
    for &logit in logits {
        let logit = f64::from(logit);
        let share = (logit / temperature).exp();
        sum += share;
        weighted += share * logit;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of images with two categories and a margin of 2, three quarters are right: the probability is 3/4 at
    /// T = 2 / ln 3.
    #[test]
    fn the_probability_is_the_share_of_right_answers() {
        let mut fit = TemperatureFit::default();
        for i in 0..4000 {
            fit.add(&[1.0, 3.0], usize::from(i % 4 > 0));
        }
        let found = fit.best().unwrap_or(f32::NAN);
        assert!((found - 2.0 / 3.0f32.ln()).abs() < 2e-3, "{found}");
    }

    #[test]
    fn images_that_are_all_right_make_no_probability_certain() {
        let mut fit = TemperatureFit::default();
        assert_eq!(fit.best(), None);
        for _ in 0..8 {
            fit.add(&[5.0, 0.0, 0.0], 0);
        }
        let found = fit.best().unwrap_or(f32::NAN);
        let probability = 1.0 / (1.0 + 2.0 * (-5.0 / found).exp());
        // 9/10 of each image is of its category, and a third of the rest.
        assert!((probability - (0.9 + 0.1 / 3.0)).abs() < 1e-3, "{probability}");
    }
}
