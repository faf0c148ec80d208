//! What is counted, and what is kept, while the images come.

use std::collections::BTreeMap;
use std::rc::Rc;

use susx_core::calibration::Calibration;
use susx_core::evaluate::Evaluation;

use crate::sheets::{Cell, Sheets};
use crate::subject::{Subject, shortened};
use crate::top::Top;

/// Cells of the confusion matrix of which images are kept.
const CELLS: usize = 2_000;
/// Images that are kept of a cell.
const PER_CELL: usize = 8;
/// Mistakes that are kept.
const MISTAKES: usize = 24;
/// Unreadable images that are listed.
const UNREADABLE: usize = 100;

/// How many thumbnails there may be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// On the sheet of a category.
    pub per_category: usize,
    /// On the whole page.
    pub total: usize,
}

/// Numbers of images, by what happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All rows.
    pub rows: u64,
    /// Rows with a label.
    pub labelled: u64,
    /// Rows that got no label because they are probably of none of the categories.
    pub rejected: u64,
    /// Rows that could not be classified.
    pub unreadable: u64,
    /// Rows without an image.
    pub empty: u64,
}

/// The images that got one label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many there are.
    pub n: u64,
    /// The sum of their probabilities.
    pub probability: f64,
}

/// What the classifier says of an image.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The best categories with their probabilities, best first.
    pub ranked: &'a [(usize, f32)],
    /// The probability that the image shows any category.
    pub known: f32,
    /// Whether it gets no label.
    pub is_rejected: bool,
    /// The true category: `None` if that is not known, `Some(None)` for an image of none of the categories.
    pub truth: Option<Option<usize>>,
}

/// The images of a category that are kept.
#[derive(Debug)]
struct Kept<I> {
    surest: Top<I>,
    least_sure: Top<I>,
    sample: Top<I>,
}

/// Counts labelled images, and keeps those that may be shown.
#[derive(Debug)]
pub struct Collector<I> {
    options: Options,
    counts: Counts,
    tallies: Vec<Tally>,
    kept: BTreeMap<usize, Kept<I>>,
    /// Images that are kept of a category: fewer, the more categories occur.
    quota: usize,
    rejected: Kept<I>,
    unreadable: Vec<(Option<String>, String)>,
    truth: Option<Truth<I>>,
}

/// The comparison with what the images really show.
#[derive(Debug)]
struct Truth<I> {
    evaluation: Evaluation,
    calibration: Calibration,
    mistakes: Top<I>,
    cells: BTreeMap<(Option<usize>, Option<usize>), Top<I>>,
}

impl<I> Kept<I> {
    fn new(quota: usize) -> Self {
        let [surest, least_sure, sample] = parts(quota).map(Top::new);
        Kept { surest, least_sure, sample }
    }

    fn push(&mut self, score: f32, subject: &Rc<Subject<I>>) {
        self.surest.push(score, subject);
        self.least_sure.push(-score, subject);
        self.sample.push(0.0, subject);
    }

    fn shrink(&mut self, quota: usize) {
        let [surest, least_sure, sample] = parts(quota);
        self.surest.shrink(surest);
        self.least_sure.shrink(least_sure);
        self.sample.shrink(sample);
    }

    fn iter(&self) -> impl Iterator<Item = &Rc<Subject<I>>> {
        self.surest.iter().chain(self.least_sure.iter()).chain(self.sample.iter())
    }

    fn into_sorted(self) -> [Vec<Rc<Subject<I>>>; 3] {
        [self.surest, self.least_sure, self.sample].map(Top::into_sorted)
    }
}

/// How many images are kept as the surest, as the least sure, and as a sample, if this many are to be shown. The sample
/// fills the sheet: some of it may be among the others, or alike.
fn parts(quota: usize) -> [usize; 3] {
    let surest = quota.div_ceil(3);
    let least_sure = (quota - surest).div_ceil(2);
    [surest, least_sure, quota]
}

impl<I> Collector<I> {
    /// Without images yet, for this many categories. `has_truth`: whether it is known what the images show.
    pub fn new(categories: usize, has_truth: bool, options: Options) -> Self {
        let truth = has_truth.then(|| Truth {
            evaluation: Evaluation::new(categories),
            calibration: Calibration::new(Calibration::BINS),
            mistakes: Top::new(MISTAKES),
            cells: BTreeMap::new(),
        });
        Collector {
            options,
            counts: Counts::default(),
            tallies: vec![Tally::default(); categories],
            kept: BTreeMap::new(),
            quota: options.per_category,
            rejected: Kept::new(options.per_category),
            unreadable: Vec::new(),
            truth,
        }
    }

    /// Counts an image that was classified.
    ///
    /// # Panics
    ///
    /// If an index is not that of a category.
    pub fn classified(&mut self, mut subject: Subject<I>, answer: Answer) {
        let Answer { ranked, known, is_rejected, truth } = answer;
        let Some(&(best, probability)) = ranked.first() else {
            return self.unreadable(subject.key.as_deref(), "there is no category", truth);
        };
        subject.ranked = ranked.iter().take(3).copied().collect();
        (subject.known, subject.truth) = (known, truth);
        let subject = Rc::new(subject);
        self.counts.rows += 1;
        if is_rejected {
            self.counts.rejected += 1;
            self.rejected.push(known, &subject);
        } else {
            self.counts.labelled += 1;
            self.tallies[best].n += 1;
            self.tallies[best].probability += f64::from(probability);
            self.keep(best, probability, &subject);
        }
        if let (Some(all), Some(truth)) = (&mut self.truth, truth) {
            all.record(truth, ranked, is_rejected, &subject);
        }
    }

    /// Counts an image that could not be classified, for this reason.
    pub fn unreadable(&mut self, key: Option<&str>, reason: &str, truth: Option<Option<usize>>) {
        self.counts.rows += 1;
        self.counts.unreadable += 1;
        if self.unreadable.len() < UNREADABLE {
            self.unreadable.push((key.map(shortened), reason.to_owned()));
        }
        self.failed(truth);
    }

    /// Counts a row that has no image.
    pub fn empty(&mut self, truth: Option<Option<usize>>) {
        self.counts.rows += 1;
        self.counts.empty += 1;
        self.failed(truth);
    }

    fn failed(&mut self, truth: Option<Option<usize>>) {
        if let (Some(all), Some(truth)) = (&mut self.truth, truth) {
            all.evaluation.record_failed(truth, 1);
        }
    }

    fn keep(&mut self, category: usize, probability: f32, subject: &Rc<Subject<I>>) {
        let quota = self.quota;
        self.kept.entry(category).or_insert_with(|| Kept::new(quota)).push(probability, subject);
        // Of twice as many images as can be shown, some are alike.
        let quota = (2 * self.options.total / self.kept.len()).clamp(1, self.options.per_category.max(1));
        if quota < self.quota {
            self.quota = quota;
            self.kept.values_mut().for_each(|kept| kept.shrink(quota));
        }
    }

    /// All images that are kept at present; some of them several times.
    pub fn kept(&self) -> impl Iterator<Item = &Rc<Subject<I>>> {
        let compared = self
            .truth
            .iter()
            .flat_map(|truth| truth.mistakes.iter().chain(truth.cells.values().flat_map(Top::iter)));
        self.kept.values().flat_map(Kept::iter).chain(self.rejected.iter()).chain(compared)
    }

    /// Lays out the images to show.
    pub fn finish(self) -> Sheets<I> {
        let kept = self.kept.into_iter().map(|(category, kept)| (category, kept.into_sorted()));
        let mut sheets = Sheets {
            counts: self.counts,
            tallies: self.tallies,
            unreadable: self.unreadable,
            ..Sheets::new(self.options)
        };
        sheets.lay_out(kept.collect(), self.rejected.into_sorted());
        if let Some(truth) = self.truth {
            let cells = truth.cells.into_iter().map(|((truth, predicted), images)| Cell {
                truth,
                predicted,
                cards: Sheets::cards(images.into_sorted()),
            });
            sheets.lay_out_truth(truth.evaluation, truth.calibration, truth.mistakes.into_sorted(), cells);
        }
        sheets
    }
}

impl<I> Truth<I> {
    fn record(
        &mut self,
        truth: Option<usize>,
        ranked: &[(usize, f32)],
        is_rejected: bool,
        subject: &Rc<Subject<I>>,
    ) {
        let Some(&(best, probability)) = ranked.first() else { return };
        let predicted = (!is_rejected).then_some(best);
        if is_rejected {
            self.evaluation.record_rejected(truth);
        } else {
            self.evaluation.record(truth, ranked.iter().map(|ranked| ranked.0), probability);
            self.calibration.record(probability, predicted == truth);
        }
        if predicted == truth {
            return;
        }
        if !is_rejected {
            self.mistakes.push(probability, subject);
        }
        let has_room = self.cells.len() < CELLS;
        match self.cells.get_mut(&(truth, predicted)) {
            Some(cell) => cell.push(probability, subject),
            None if has_room => {
                let mut cell = Top::new(PER_CELL);
                cell.push(probability, subject);
                self.cells.insert((truth, predicted), cell);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Picture;

    const OPTIONS: Options = Options { per_category: 6, total: 100 };

    fn subject(row: u64) -> Subject<()> {
        Subject::new(row, Some(&row.to_string()), Picture::None, Vec::new())
    }

    fn answer(ranked: &[(usize, f32)]) -> Answer<'_> {
        Answer { ranked, known: 1.0, is_rejected: false, truth: None }
    }

    #[test]
    fn quotas_have_three_parts() {
        assert_eq!(parts(24), [8, 8, 24]);
        assert_eq!(parts(5), [2, 2, 5]);
        assert_eq!(parts(1), [1, 0, 1]);
        assert_eq!(parts(0), [0, 0, 0]);
    }

    #[test]
    fn memory_does_not_grow_with_the_images() {
        let mut collector = Collector::new(2, false, OPTIONS);
        for row in 1..=10_000 {
            let probability = 0.5 + row as f32 / 20_000.0;
            collector.classified(subject(row), answer(&[(row as usize % 2, probability)]));
        }
        assert_eq!(collector.counts, Counts { rows: 10_000, labelled: 10_000, ..Counts::default() });
        assert_eq!(collector.kept().count(), 20);
    }

    #[test]
    fn the_more_categories_occur_the_fewer_images_of_each_are_kept() {
        let mut collector = Collector::new(1_000, false, OPTIONS);
        for row in 0..10_000 {
            collector.classified(subject(row as u64), answer(&[(row % 1_000, 0.5)]));
        }
        // One of each as the surest, and one as a sample.
        assert_eq!(collector.kept().count(), 2_000);
    }

    #[test]
    fn a_rejected_image_has_no_label() {
        let mut collector = Collector::new(2, true, OPTIONS);
        let rejected = Answer { is_rejected: true, truth: Some(None), ..answer(&[(0, 0.9)]) };
        collector.classified(subject(1), rejected);
        let sheets = collector.finish();
        assert_eq!(sheets.counts, Counts { rows: 1, rejected: 1, ..Counts::default() });
        assert_eq!(sheets.tallies, [Tally::default(); 2]);
    }
}
