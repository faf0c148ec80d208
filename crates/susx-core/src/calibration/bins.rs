//! Probabilities against the share of right answers.

use std::ops::AddAssign;

/// Answers with about the same probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Answers.
    pub n: u64,
    /// Those that are right.
    pub right: u64,
    /// Sum of their probabilities.
    sum: f64,
}

impl Bin {
    /// Mean probability; `None` without answers.
    pub fn probability(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }

    /// Share of right answers; `None` without answers.
    pub fn accuracy(&self) -> Option<f64> {
        (self.n > 0).then(|| self.right as f64 / self.n as f64)
    }
}

impl AddAssign for Bin {
    fn add_assign(&mut self, other: Bin) {
        self.n += other.n;
        self.right += other.right;
        self.sum += other.sum;
    }
}

/// Counts answers in equally wide bins of their probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    bins: Vec<Bin>,
}

impl Calibration {
    /// The number of bins in the literature (Guo et al., ICML 2017, arXiv 1706.04599).
    pub const BINS: usize = 15;

    /// Without answers. There is at least one bin.
    pub fn new(bins: usize) -> Self {
        Calibration { bins: vec![Bin::default(); bins.max(1)] }
    }

    /// Counts an answer that was given this probability, 0 to 1.
    pub fn record(&mut self, probability: f32, is_right: bool) {
        let place = (f64::from(probability) * self.bins.len() as f64) as usize;
        let place = place.min(self.bins.len() - 1);
        self.bins[place] += Bin { n: 1, right: u64::from(is_right), sum: probability.into() };
    }

    /// The bins, lowest probabilities first: that at `i` of `n` is from `i/n` to below `(i + 1)/n`, and the last
    /// includes 1.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// The expected calibration error: the difference between mean probability and share of right answers in a bin,
    /// averaged over the answers. `None` without answers.
    pub fn error(&self) -> Option<f64> {
        let n: u64 = self.bins.iter().map(|bin| bin.n).sum();
        let sum: f64 = self.bins.iter().map(|bin| (bin.sum - bin.right as f64).abs()).sum();
        (n > 0).then(|| sum / n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_over_the_answers() {
        let mut calibration = Calibration::new(10);
        assert_eq!(calibration.error(), None);
        for is_right in [true, true, true, false] {
            calibration.record(0.95, is_right);
        }
        calibration.record(1.0, true);
        calibration.record(0.25, false);
        // The last bin is too sure by (4 * 0.95 + 1 - 4) / 5, the other by 0.25.
        let error = calibration.error().unwrap_or(f64::NAN);
        assert!((error - (0.8 + 0.25) / 6.0).abs() < 1e-6, "{error}");
        let counts: Vec<u64> = calibration.bins().iter().map(|bin| bin.n).collect();
        assert_eq!(counts, [0, 0, 1, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(calibration.bins()[9].accuracy(), Some(0.8));
        assert_eq!(calibration.bins()[0].probability(), None);
    }

    #[test]
    fn there_is_always_a_bin() {
        let mut calibration = Calibration::new(0);
        calibration.record(0.5, true);
        assert_eq!(calibration.error(), Some(0.5));
    }
}
