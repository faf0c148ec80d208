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
    /// Counts of the images of none of the categories. Those that got no label are right.
    none: Tally,
    calibration: Calibration,
}

/// Counts of one category, or of none of them.
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
    /// Those of them that are of none of the categories.
    predicted_none: u64,
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
    /// Share of the images whose true category comes first, or that are of none and got no label; `None` if `n` is 0.
    pub top1: Option<f64>,
    /// The same with the true category among the first five; `None` if `n` is 0.
    pub top5: Option<f64>,
    /// Share of the images predicted as the category that belong to it; `None` if there are none.
    pub precision: Option<f64>,
    /// Share of the images of the category that are predicted as it; `None` if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of the two, 0 if only one of them is defined; `None` if neither is.
    pub f1: Option<f64>,
    /// Expected calibration error of the best category's probability, for all images; `None` for one category.
    pub calibration_error: Option<f64>,
    /// Images, of `n`, that got no label: they are right if they are of none of the categories, and only then.
    pub rejected: u64,
    /// Images, of `n`, that are of none of the categories; 0 for one category.
    pub none: u64,
}

impl Evaluation {
    /// How many categories of a ranking [`record`](Self::record) uses.
    pub const TOP: usize = TOP;

    /// Without images, for this number of categories.
    pub fn new(categories: usize) -> Self {
        Evaluation {
            confusion: BTreeMap::new(),
            tallies: vec![Tally::default(); categories],
            none: Tally::default(),
            calibration: Calibration::new(Calibration::BINS),
        }
    }

    /// Counts an image of category `truth`, or of none, that was ranked as these categories, best first, the best with
    /// this probability.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn record(
        &mut self,
        truth: Option<usize>,
        ranking: impl IntoIterator<Item = usize>,
        probability: f32,
    ) {
        let mut is_top5 = false;
        let mut best = None;
        for category in ranking.into_iter().take(TOP) {
            best.get_or_insert(category);
            is_top5 |= Some(category) == truth;
        }
        let Some(best) = best else { return self.record_failed(truth, 1) };
        let is_right = Some(best) == truth;
        self.calibration.record(probability, is_right);
        let predicted = &mut self.tallies[best];
        predicted.predicted += 1;
        match truth {
            Some(truth) => *self.confusion.entry((truth, best)).or_default() += 1,
            None => predicted.predicted_none += 1,
        }
        let tally = self.tally(truth);
        tally.n += 1;
        tally.top1 += u64::from(is_right);
        tally.top5 += u64::from(is_top5);
    }

    /// Counts an image of category `truth`, or of none, that got no label. If it is of none, that is right.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn record_rejected(&mut self, truth: Option<usize>) {
        let is_right = u64::from(truth.is_none());
        let tally = self.tally(truth);
        tally.n += 1;
        tally.rejected += 1;
        tally.top1 += is_right;
        tally.top5 += is_right;
    }

    /// Counts images of category `truth`, or of none, that could not be read.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn record_failed(&mut self, truth: Option<usize>, images: u64) {
        self.tally(truth).failed += images;
    }

    fn tally(&mut self, truth: Option<usize>) -> &mut Tally {
        match truth {
            Some(category) => &mut self.tallies[category],
            None => &mut self.none,
        }
    }

    /// The figures of each category, in the order of their indices.
    pub fn categories(&self) -> impl Iterator<Item = Figures> + '_ {
        self.tallies.iter().map(Tally::figures)
    }

    /// The figures of all images. Precision, recall and F1 are macro averages: means over the categories that have images,
    /// with the same weight for each category, where undefined values count as 0. Images of none of the categories count
    /// in them only by making the precision of what they were predicted as worse.
    pub fn overall(&self) -> Figures {
        let tallies = || self.tallies.iter().chain([&self.none]);
        let sum = |count: fn(&Tally) -> u64| tallies().map(count).sum::<u64>();
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
            none: self.none.n,
        }
    }

    /// The pairs of true and predicted category that occur, with their counts, ordered by true category, then by
    /// prediction. A prediction of `None`, for images without a label and for those that could not be read, comes last,
    /// and so do images of none of the categories.
    pub fn confusion(&self) -> impl Iterator<Item = (Option<usize>, Option<usize>, u64)> + '_ {
        let of_categories = self.tallies.iter().enumerate().flat_map(|(truth, tally)| {
            let pairs = self.confusion.range((truth, 0)..=(truth, usize::MAX));
            let pairs = pairs.map(|(&(truth, predicted), &n)| (Some(truth), Some(predicted), n));
            pairs.chain([(Some(truth), None, tally.unlabelled())])
        });
        let of_none = self.tallies.iter().enumerate();
        let of_none = of_none.map(|(predicted, tally)| (None, Some(predicted), tally.predicted_none));
        let of_none = of_none.chain([(None, None, self.none.unlabelled())]);
        of_categories.chain(of_none).filter(|&(.., n)| n > 0)
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
            none: 0,
        }
    }

    /// Images that got no label, or could not be read.
    fn unlabelled(&self) -> u64 {
        self.failed + self.rejected
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
        evaluation.record(Some(0), [0, 1, 2, 3, 4], 0.5);
        evaluation.record(Some(0), [0, 1], 0.5);
        evaluation.record(Some(0), [1, 2, 3, 4, 0], 0.5);
        evaluation.record(Some(1), [0, 1, 2, 3, 4], 0.5);
        evaluation.record(Some(4), [2, 3, 0, 1, 5, 4], 0.5);
        evaluation.record_failed(Some(0), 1);
        evaluation.record_failed(Some(5), 3);
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
            none: 0,
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
            none: 0,
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
            none: 0,
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
        evaluation.record(Some(0), [0, 1], 1.0);
        evaluation.record_rejected(Some(0));
        evaluation.record_failed(Some(0), 2);
        let all = evaluation.overall();
        assert_eq!((all.n, all.failed, all.rejected), (2, 2, 1));
        assert_eq!(
            (all.top1, all.top5, all.precision, all.recall),
            (Some(0.5), Some(0.5), Some(1.0), Some(0.5))
        );
        assert_eq!(all.calibration_error, Some(0.0), "of the labels that were given");
        assert_eq!(evaluation.confusion().collect::<Vec<_>>(), [(Some(0), Some(0), 1), (Some(0), None, 3)]);
    }

    #[test]
    fn images_of_none_are_right_without_a_label() {
        let mut evaluation = Evaluation::new(2);
        evaluation.record(Some(0), [0, 1], 1.0);
        evaluation.record(Some(1), [1, 0], 1.0);
        evaluation.record(None, [1, 0], 1.0);
        evaluation.record_rejected(None);
        evaluation.record_rejected(None);
        evaluation.record_rejected(Some(0));
        evaluation.record_failed(None, 4);
        let all = evaluation.overall();
        assert_eq!((all.n, all.failed, all.rejected, all.none), (6, 4, 3, 3));
        assert_eq!((all.top1, all.top5), (Some(4.0 / 6.0), Some(4.0 / 6.0)));
        // Of the three labels, the one of the image that shows no category is wrong.
        assert!(all.calibration_error.is_some_and(|error| (error - 1.0 / 3.0).abs() < 1e-9));
        // The means are over the two categories.
        assert_eq!((all.precision, all.recall), (Some(0.75), Some(0.75)));
        let figures: Vec<Figures> = evaluation.categories().collect();
        assert_eq!((figures[1].n, figures[1].none, figures[1].recall), (1, 0, Some(1.0)));
        assert_eq!((figures[1].precision, figures[1].f1), (Some(0.5), Some(2.0 / 3.0)));
        let expected = [
            (Some(0), Some(0), 1),
            (Some(0), None, 1),
            (Some(1), Some(1), 1),
            (None, Some(1), 1),
            (None, None, 6),
        ];
        assert_eq!(evaluation.confusion().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn images_of_none_alone() {
        let mut evaluation = Evaluation::new(1);
        evaluation.record_rejected(None);
        let all = evaluation.overall();
        assert_eq!((all.n, all.none, all.top1, all.top5), (1, 1, Some(1.0), Some(1.0)));
        assert_eq!((all.precision, all.recall, all.f1), (None, None, None));
    }

    #[test]
    fn pairs_in_order() {
        let pairs: Vec<_> = mixed().confusion().collect();
        let expected = [
            (Some(0), Some(0), 2),
            (Some(0), Some(1), 1),
            (Some(0), None, 1),
            (Some(1), Some(0), 1),
            (Some(4), Some(2), 1),
            (Some(5), None, 3),
        ];
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
