//! Accuracy of a classifier on labelled images.

use std::collections::BTreeMap;

use crate::calibration::Calibration;

/// Answers per image that count for top-5 accuracy.
const TOP: usize = 5;

/// Counts of labelled images by true and predicted category. Memory grows with the number of pairs that occur, not with
/// the square of the categories.
#[derive(Clone, Debug)]
pub struct Evaluation {
    confusion: BTreeMap<(usize, usize), u64>,
    tallies: Vec<Tally>,
    calibration: Calibration,
}

/// Counts of one category.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Images of the category that were classified.
    n: u64,
    /// Those with the true category first.
    top1: u64,
    /// Those with the true category among the first five.
    top5: u64,
    /// Images that were predicted as the category.
    predicted: u64,
    /// Images of the category that could not be read.
    failed: u64,
    /// Images of the category, of `n`, that got no label.
    rejected: u64,
}

/// Figures of one category, or of all. Fractions are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Images that were classified.
    pub n: u64,
    /// Images that could not be read.
    pub failed: u64,
    /// Share of the images whose true category comes first; `None` if `n` is 0.
    pub top1: Option<f64>,
    /// Share of the images whose true category is among the first five; `None` if `n` is 0.
    pub top5: Option<f64>,
    /// Share of the images predicted as the category that belong to it; `None` if there are none.
    pub precision: Option<f64>,
    /// Share of the images of the category that are predicted as it; `None` if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of the two, 0 if only one of them is defined; `None` if neither is.
    pub f1: Option<f64>,
    /// Expected calibration error of the best category's probability, for all images; `None` for one category.
    pub calibration_error: Option<f64>,
    /// Images, of `n`, that got no label: they are not right.
    pub rejected: u64,
}

impl Evaluation {
    /// How many categories of a ranking [`record`](Self::record) uses.
    pub const TOP: usize = TOP;

    /// Without images, for this number of categories.
    pub fn new(categories: usize) -> Self {
        Evaluation {
            confusion: BTreeMap::new(),
            tallies: vec![Tally::default(); categories],
            calibration: Calibration::new(Calibration::BINS),
        }
    }

    /// Counts an image of category `truth` that was ranked as these categories, best first, the best with this
    /// probability.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn record(&mut self, truth: usize, ranking: impl IntoIterator<Item = usize>, probability: f32) {
        let mut is_top5 = false;
        let mut best = None;
        for category in ranking.into_iter().take(TOP) {
            best.get_or_insert(category);
            is_top5 |= category == truth;
        }
        let Some(best) = best else { return self.record_failed(truth, 1) };
        self.calibration.record(probability, best == truth);
        *self.confusion.entry((truth, best)).or_default() += 1;
        self.tallies[best].predicted += 1;
        let tally = &mut self.tallies[truth];
        tally.n += 1;
        tally.top1 += u64::from(best == truth);
        tally.top5 += u64::from(is_top5);
    }

    /// Counts an image of category `truth` that got no label.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn record_rejected(&mut self, truth: usize) {
        let tally = &mut self.tallies[truth];
        tally.n += 1;
        tally.rejected += 1;
    }

    /// Counts images of category `truth` that could not be read.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn record_failed(&mut self, truth: usize, images: u64) {
        self.tallies[truth].failed += images;
    }

    /// The figures of each category, in the order of their indices.
    pub fn categories(&self) -> impl Iterator<Item = Figures> + '_ {
        self.tallies.iter().map(Tally::figures)
    }

    /// The figures of all images. Precision, recall and F1 are macro averages: means over the categories that have images,
    /// with the same weight for each category, where undefined values count as 0.
    pub fn overall(&self) -> Figures {
        let sum = |count: fn(&Tally) -> u64| self.tallies.iter().map(count).sum::<u64>();
        let n = sum(|tally| tally.n);
        let present: Vec<Figures> = self.categories().filter(|figures| figures.n > 0).collect();
        let mean = |figure: fn(&Figures) -> Option<f64>| {
            let sum: f64 = present.iter().filter_map(figure).sum();
            (!present.is_empty()).then(|| sum / present.len() as f64)
        };
        Figures {
            n,
            failed: sum(|tally| tally.failed),
            top1: share(sum(|tally| tally.top1), n),
            top5: share(sum(|tally| tally.top5), n),
            precision: mean(|figures| figures.precision),
            recall: mean(|figures| figures.recall),
            f1: mean(|figures| figures.f1),
            calibration_error: self.calibration.error(),
            rejected: sum(|tally| tally.rejected),
        }
    }

    /// The pairs of true and predicted category that occur, with their counts, ordered by true category, then by
    /// prediction. `None`, for images without a label and for those that could not be read, comes last.
    pub fn confusion(&self) -> impl Iterator<Item = (usize, Option<usize>, u64)> + '_ {
        self.tallies.iter().enumerate().flat_map(|(truth, tally)| {
            let pairs = self.confusion.range((truth, 0)..=(truth, usize::MAX));
            let unlabelled = tally.failed + tally.rejected;
            let unlabelled = (unlabelled > 0).then_some((truth, None, unlabelled));
            pairs.map(|(&(truth, predicted), &n)| (truth, Some(predicted), n)).chain(unlabelled)
        })
    }
}

impl Tally {
    fn figures(&self) -> Figures {
        let recall = share(self.top1, self.n);
        Figures {
            n: self.n,
            failed: self.failed,
            top1: recall,
            top5: share(self.top5, self.n),
            precision: share(self.top1, self.predicted),
            recall,
            f1: share(2 * self.top1, self.n + self.predicted),
            calibration_error: None,
            rejected: self.rejected,
        }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seven categories. 0 is correct twice and predicted as 1 once; 1 is always predicted as 0; 2 is only predicted;
    /// 3 does not occur; 4 is never predicted; 5 has only images that cannot be read.
    fn mixed() -> Evaluation {
        let mut evaluation = Evaluation::new(7);
        evaluation.record(0, [0, 1, 2, 3, 4], 0.5);
        evaluation.record(0, [0, 1], 0.5);
        evaluation.record(0, [1, 2, 3, 4, 0], 0.5);
        evaluation.record(1, [0, 1, 2, 3, 4], 0.5);
        evaluation.record(4, [2, 3, 0, 1, 5, 4], 0.5);
        evaluation.record_failed(0, 1);
        evaluation.record_failed(5, 3);
        evaluation
    }

    #[test]
    fn figures_of_every_category() {
        let figures: Vec<Figures> = mixed().categories().collect();
        let third = 1.0 / 3.0;
        let expected = Figures {
            n: 3,
            failed: 1,
            top1: Some(2.0 * third),
            top5: Some(1.0),
            precision: Some(2.0 * third),
            recall: Some(2.0 * third),
            f1: Some(2.0 * third),
            calibration_error: None,
            rejected: 0,
        };
        assert_eq!(figures[0], expected);
        let missed = Figures {
            n: 1,
            failed: 0,
            top1: Some(0.0),
            top5: Some(1.0),
            precision: Some(0.0),
            recall: Some(0.0),
            f1: Some(0.0),
            calibration_error: None,
            rejected: 0,
        };
        assert_eq!(figures[1], missed);
        let absent = Figures {
            n: 0,
            failed: 0,
            top1: None,
            top5: None,
            precision: None,
            recall: None,
            f1: None,
            calibration_error: None,
            rejected: 0,
        };
        assert_eq!(figures[2], Figures { precision: Some(0.0), f1: Some(0.0), ..absent });
        assert_eq!(figures[3], absent);
        // The true category is ranked sixth.
        assert_eq!(figures[4], Figures { top5: Some(0.0), precision: None, ..missed });
        assert_eq!(figures[5], Figures { failed: 3, ..absent });
    }

    #[test]
    fn figures_of_all() {
        let all = mixed().overall();
        assert_eq!((all.n, all.failed), (5, 4));
        assert_eq!((all.top1, all.top5), (Some(0.4), Some(0.8)));
        // Two of five are right, and all had a probability of one half.
        assert!(all.calibration_error.is_some_and(|error| (error - 0.1).abs() < 1e-9));
        // Three categories occur; only the first has correct images.
        let mean = Some(2.0 / 3.0 / 3.0);
        assert_eq!((all.precision, all.recall, all.f1), (mean, mean, mean));
    }

    #[test]
    fn images_without_a_label_are_not_right() {
        let mut evaluation = Evaluation::new(2);
        evaluation.record(0, [0, 1], 1.0);
        evaluation.record_rejected(0);
        evaluation.record_failed(0, 2);
        let all = evaluation.overall();
        assert_eq!((all.n, all.failed, all.rejected), (2, 2, 1));
        assert_eq!(
            (all.top1, all.top5, all.precision, all.recall),
            (Some(0.5), Some(0.5), Some(1.0), Some(0.5))
        );
        assert_eq!(all.calibration_error, Some(0.0), "of the labels that were given");
        assert_eq!(evaluation.confusion().collect::<Vec<_>>(), [(0, Some(0), 1), (0, None, 3)]);
    }

    #[test]
    fn pairs_in_order() {
        let pairs: Vec<_> = mixed().confusion().collect();
        let expected =
            [(0, Some(0), 2), (0, Some(1), 1), (0, None, 1), (1, Some(0), 1), (4, Some(2), 1), (5, None, 3)];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn nothing_at_all() {
        for categories in [0, 3] {
            let evaluation = Evaluation::new(categories);
            let all = evaluation.overall();
            assert_eq!((all.n, all.failed), (0, 0));
            let fractions = [all.top1, all.top5, all.precision, all.recall, all.f1];
            assert_eq!(fractions, [None; 5]);
            assert_eq!(evaluation.categories().count(), categories);
            assert_eq!(evaluation.confusion().count(), 0);
        }
    }
}
