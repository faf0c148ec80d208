//! Labels that the rows have now, and evidence against them.

use std::rc::Rc;

use susx_core::duplicates::duplicate_cosine;

use super::best::Candidate;
use crate::pg::any::AnyValue;
use crate::pg::wait;

/// Elements of the vectors that labels are compared by: 32 MB.
const NUMBERS: usize = 8 << 20;

/// The labels of the rows that were read.
#[derive(Debug)]
pub struct Labels {
    /// The sum of the probabilities of each category where it is the label, and their number.
    confidence: Vec<(f64, u64)>,
    /// The first labelled rows, as many as [`NUMBERS`] allows.
    rows: Vec<LabelledRow>,
    numbers: usize,
}

#[derive(Debug)]
struct LabelledRow {
    number: u64,
    key: Option<AnyValue>,
    label: Rc<str>,
    vector: Box<[f32]>,
}

impl Labels {
    pub fn new(categories: usize) -> Self {
        Labels { confidence: vec![(0.0, 0); categories], rows: Vec::new(), numbers: 0 }
    }

    /// Counts a row with a label that the classifier finds so likely.
    pub fn count(&mut self, category: usize, probability: f32) {
        let (sum, rows) = &mut self.confidence[category];
        *sum += f64::from(probability);
        *rows += 1;
    }

    /// Keeps a labelled row to compare others with, if there is room.
    pub fn keep(&mut self, number: u64, key: &Option<AnyValue>, label: &Rc<str>, vector: &[f32]) {
        if self.numbers + vector.len() <= NUMBERS {
            self.numbers += vector.len();
            let (key, label) = (key.clone(), Rc::clone(label));
            self.rows.push(LabelledRow { number, key, label, vector: vector.into() });
        }
    }

    /// The mean probability of a category where it is the label; `None` if it is nowhere.
    fn mean(&self, category: usize) -> Option<f32> {
        let (sum, rows) = self.confidence[category];
        (rows > 0).then(|| (sum / rows as f64) as f32)
    }

    /// The first row with nearly the same picture and another label.
    fn contradicts(&self, candidate: &Candidate) -> Option<(&LabelledRow, f32)> {
        wait::check();
        let differs = |row: &&LabelledRow| {
            row.number != candidate.row && Some(&row.label) != candidate.category.as_ref()
        };
        self.rows.iter().filter(differs).find_map(|row| {
            let cosine = duplicate_cosine(&row.vector, &candidate.vector)?;
            Some((row, cosine.min(1.0)))
        })
    }
}

/// Of rows whose label is not the classifier's answer, those whose label looks wrong, and those that have another label
/// than a row with nearly the same picture.
///
/// A label looks wrong by the rule of confident learning (Northcutt et al., arXiv 1911.00068): it is less likely than
/// that label is on average where it is given, and the answer is at least as likely as that one is.
pub fn judge(
    labels: Labels,
    differing: Vec<Candidate>,
    place: impl Fn(&str) -> Option<usize>,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let mean = |name: &Option<Rc<str>>| name.as_deref().and_then(&place).and_then(|c| labels.mean(c));
    let (mut wrong, mut contradicted) = (Vec::new(), Vec::new());
    for candidate in differing {
        if let Some((row, cosine)) = labels.contradicts(&candidate) {
            let (suggestion, alike) = (Some(Rc::clone(&row.label)), row.key.clone());
            contradicted.push(Candidate { suggestion, alike, priority: cosine, ..candidate.clone() });
        }
        let is_less = mean(&candidate.category).is_some_and(|mean| candidate.probability < mean);
        let answer = candidate.probability + candidate.priority;
        if is_less && mean(&candidate.suggestion).is_none_or(|mean| answer >= mean) {
            wrong.push(candidate);
        }
    }
    contradicted.sort_by(|a, b| b.priority.total_cmp(&a.priority));
    (wrong, contradicted)
}
