//! Bringing a discriminant into the range of the cosines, and removing its category bias.

use ndarray::{Array1, Array2, Axis};

use super::discriminant::Discriminant;
use super::sums::Sums;
use crate::linalg::product;
use crate::sus::SupportSet;

/// A smaller standard deviation is due to rounding: no two categories are separated.
const MIN_RANGE: f64 = 1e-12;

impl Discriminant {
    /// In the range of the cosines, and with the share `debias` of the support set's category bias removed; `None` if
    /// it, or the names, do not separate any two categories. As [`of`](Self::of), and O(n C d) for n = min(M, 4096)
    /// rows; O(n d (C + min(M, d))) if there is a bias to remove.
    pub fn calibrated(support_set: &SupportSet, sums: &Sums, debias: f64, ridge: f64) -> Option<Self> {
        let discriminant = Self::of(sums, ridge);
        let sample = support_set.sample();
        let range = range_of_cosines(support_set, &sample);
        let likeness = support_set.likeness().select(Axis(0), &sample).mapv(f64::from);
        let own = mean_deviation(discriminant.scaled(likeness.view()));
        if own <= MIN_RANGE || range <= MIN_RANGE {
            return None;
        }
        let mut discriminant = Discriminant { scale: range / own, range, ..discriminant };
        if debias > 0.0 {
            let mut sum = Array1::zeros(discriminant.bias.len());
            discriminant.each_without(support_set, sums, &sample, |_, g| sum += &g.sum_axis(Axis(0)));
            discriminant.shift = sum * (debias / sample.len() as f64);
        }
        Some(discriminant)
    }

    /// Scaled so that its support rows, each by the fit without it, have the range of their cosines; not shifted.
    /// `None` as for [`calibrated`](Self::calibrated).
    pub fn scaled_by_leave_one_out(mut self, support_set: &SupportSet, sums: &Sums) -> Option<Self> {
        let sample = support_set.sample();
        let (mut sum, range) = (0.0, range_of_cosines(support_set, &sample));
        self.each_without(support_set, sums, &sample, |rows, g| sum += mean_deviation(g) * rows.len() as f64);
        let own = sum / sample.len() as f64;
        (self.scale, self.range) = (range / own, range);
        (own > MIN_RANGE && range > MIN_RANGE).then_some(self)
    }
}

/// Standard deviation over the categories of the cosines of some support rows to the names, averaged over the rows.
fn range_of_cosines(support_set: &SupportSet, rows: &[usize]) -> f64 {
    let features = support_set.features().select(Axis(0), rows).mapv(f64::from);
    mean_deviation(product(features.view(), support_set.zeroshot_weights().mapv(f64::from).view()))
}

/// Standard deviation over the columns, averaged over the rows.
fn mean_deviation(rows: Array2<f64>) -> f64 {
    rows.std_axis(Axis(1), 0.0).mean().unwrap_or(0.0)
}
