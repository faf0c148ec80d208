//! Calibrated probabilities, without labels.

use ndarray::{Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

use super::GatedTipX;
use crate::interrupt;
use crate::linalg::{bisect, exp, largest, sum};
use crate::method::tip_x::LeaveOneOut;

/// Support rows that the sharpness is estimated from, and rows whose affinities are in memory at the same time.
pub(in crate::method) const ROWS: usize = 1024;
pub(in crate::method) const BLOCK: usize = 64;
/// What CLIP's logits have to be multiplied by to be right as often as they say: 1.3 with up to ten names, 1 with a
/// thousand and more.
const FEW_NAMES: f64 = 10.0;
const MANY_NAMES: f64 = 1000.0;
const WITH_FEW_NAMES: f64 = 0.3;
/// Largest sharpness.
const MOST: f64 = 2.6;
/// Weight of the support set's agreement with the names in the accuracy that is expected, where it is less than the
/// logits say and where it is more; the rest is the confidence of the names.
const AGREEMENT: f64 = 0.85;
const AGREEMENT_UPWARDS: f64 = 0.6;
/// How far the sharpness may fall with the gate, and how often the intervals are halved.
const DECAYS: (f64, f64) = (1e-3, 20.0);
const HALVINGS: usize = 30;

/// Factor of the logits in the softmax that gives the probabilities: `k / (1 + t g (1 + h))`, where `g` is the gate and
/// `h` says how like a support row the query is. A query that is itself a support row has itself as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::method) struct Sharpness {
    closed: f64,
    decay: f64,
}

/// Logits of support rows by the fit without each.
pub(in crate::method) struct Judged {
    /// m × C.
    pub logits: Array2<f32>,
    /// `g (1 + h)`, m.
    pub evidence: Vec<f32>,
    /// The accuracy that is expected where the logits say more, and where they say less, 0 to 1.
    pub accuracy: f64,
    pub accuracy_upwards: f64,
}

impl Sharpness {
    /// The softmax of the logits as they are.
    pub const LOGITS: Sharpness = Sharpness { closed: 1.0, decay: 0.0 };

    /// That of the names, regardless of the support set.
    pub fn of_names(names: f64) -> Self {
        Sharpness { closed: names, decay: 0.0 }
    }

    /// For a query with this gate, and this likeness `h` to a support row.
    pub fn at(self, gate: f32, familiar: f32) -> f32 {
        self.of_evidence(gate * (1.0 + familiar))
    }

    fn of_evidence(self, evidence: f32) -> f32 {
        (self.closed / (1.0 + self.decay * f64::from(evidence))) as f32
    }

    /// Estimates the sharpness at which the support rows, each as the fit without it would label it, have the mean
    /// probability that is expected of their accuracy. O(min(M, 1024) M d).
    ///
    /// The terms of the support set are as large as its user makes them, and say more about the order of the categories
    /// than about how sure it is. How often a support row gets the category of its name, by the other rows alone, is
    /// what names and support set know of each other's accuracy.
    pub fn of(gated: &GatedTipX) -> Self {
        let support_set = gated.tip_x.support_set();
        let names = names_alone(support_set.categories().len());
        Judged::of(gated, names).map_or(Self::LOGITS, |judged| Self::fitting(&judged, names))
    }

    /// The sharpness at which the rows have the mean probability that is expected, where that of the names alone is
    /// `names`.
    pub fn fitting(judged: &Judged, names: f64) -> Self {
        let confidence = judged.confidence(Self::of_names(names));
        if confidence >= judged.accuracy {
            let decay = bisect(DECAYS, HALVINGS, |decay| {
                judged.confidence(Sharpness { closed: names, decay }) > judged.accuracy
            });
            return Sharpness { closed: names, decay };
        }
        if confidence >= judged.accuracy_upwards {
            return Self::of_names(names);
        }
        let closed = bisect((names, MOST), HALVINGS, |closed| {
            judged.confidence(Sharpness { closed, decay: 0.0 }) < judged.accuracy_upwards
        });
        Sharpness { closed, decay: 0.0 }
    }
}

/// The sharpness of the names' logits.
pub(in crate::method) fn names_alone(categories: usize) -> f64 {
    let many = (MANY_NAMES / categories as f64).ln() / (MANY_NAMES / FEW_NAMES).ln();
    1.0 + WITH_FEW_NAMES * many.clamp(0.0, 1.0)
}

impl Judged {
    /// `None` if no category has two rows.
    fn of(gated: &GatedTipX, names: f64) -> Option<Self> {
        let support_set = gated.tip_x.support_set();
        let rows = support_set.rows_with_others(ROWS);
        if rows.is_empty() {
            return None;
        }
        let leave_one_out = LeaveOneOut::of_common_scale(&gated.tip_x);
        let mut logits = Array2::zeros((rows.len(), support_set.categories().len()));
        let mut evidence = Vec::with_capacity(rows.len());
        let mut unlabelled = Rows::default();
        let mut labelled = Rows::default();
        for (block, mut logits) in rows.chunks(BLOCK).zip(logits.axis_chunks_iter_mut(Axis(0), BLOCK)) {
            let parts = leave_one_out.parts(block);
            let mut support = parts.support_terms(gated.tip_x.params());
            gated.absent.fill(&mut support, None);
            let features = support_set.features().select(Axis(0), block);
            let read = gated.gate.read(support_set.cosines(features.view()).view());
            for (place, (&row, reading)) in block.iter().zip(read).enumerate() {
                interrupt::check();
                let nearest = largest(parts.affinities.row(place));
                let mut logit = logits.row_mut(place);
                logit.assign(&parts.zero_shot.row(place));
                let confidence = largest_share(logit.view(), names);
                logit.scaled_add(reading.gate, &support.row(place));
                logit += &gated.claims.terms(&[gated.claims.familiar(nearest)]).row(0);
                let own = support_set.category_of(row);
                if support_set.labelled()[row] {
                    labelled.add(best(logit.view()) == own, 1.0, confidence);
                } else {
                    // Rows that other names claim say little about how right the names are.
                    let weight = 1.0 - gated.claims.of(own);
                    unlabelled.add(best(support.row(place)) == own, weight.into(), confidence);
                }
                evidence.push(reading.gate * (1.0 + gated.claims.familiar(nearest)));
            }
        }
        let mean = |agreement: f64| {
            let sum = unlabelled.count as f64 * unlabelled.expected(agreement)
                + labelled.count as f64 * labelled.expected_of_labels();
            sum / rows.len() as f64
        };
        let (accuracy, accuracy_upwards) = (mean(AGREEMENT), mean(AGREEMENT_UPWARDS));
        Some(Judged { logits, evidence, accuracy, accuracy_upwards })
    }

    /// The mean probability of the best category.
    fn confidence(&self, sharpness: Sharpness) -> f64 {
        let rows = self.logits.rows().into_iter().zip(&self.evidence);
        let shares = rows.map(|(row, &evidence)| largest_share(row, sharpness.of_evidence(evidence).into()));
        shares.sum::<f64>() / self.evidence.len() as f64
    }
}

/// Support rows that are labelled, or that are not.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::method) struct Rows {
    pub count: usize,
    /// Sum of the weights, and of those of rows that get their own category.
    weight: f64,
    right: f64,
    /// Sum of the names' confidences.
    confidence: f64,
}

impl Rows {
    pub fn add(&mut self, is_right: bool, weight: f64, confidence: f64) {
        self.count += 1;
        self.weight += weight;
        self.right += if is_right { weight } else { 0.0 };
        self.confidence += confidence;
    }

    /// The expected accuracy on images like these rows, which are unlabelled: a mean of the share of right ones, less
    /// its standard error, and of the names' confidence.
    fn expected(self, agreement: f64) -> f64 {
        let right = self.less_its_error(self.share_of_right());
        (agreement * right + (1.0 - agreement) * self.mean_confidence()).max(self.least())
    }

    /// The same for labelled rows.
    pub fn expected_of_labels(self) -> f64 {
        self.share_of_right().max(self.least())
    }

    pub fn share_of_right(self) -> f64 {
        if self.weight > 0.0 { self.right / self.weight } else { 0.0 }
    }

    pub fn mean_confidence(self) -> f64 {
        self.confidence / self.count.max(1) as f64
    }

    /// The names are not taken to be worse than they say, beyond the error of the mean.
    fn least(self) -> f64 {
        self.less_its_error(self.mean_confidence())
    }

    fn less_its_error(self, share: f64) -> f64 {
        share - (share * (1.0 - share) / self.count.max(1) as f64).max(0.0).sqrt()
    }
}

/// The largest share of a softmax of logits times a factor.
pub(in crate::method) fn largest_share(logits: ArrayView1<f32>, factor: f64) -> f64 {
    let largest = logits.fold(f32::NEG_INFINITY, |most, &x| x.max(most));
    let mut shares: Vec<f32> = logits.iter().map(|logit| factor as f32 * (logit - largest)).collect();
    exp(&mut shares);
    1.0 / f64::from(sum(&shares))
}

/// The first of the largest elements.
pub(in crate::method) fn best(row: ArrayView1<f32>) -> usize {
    (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best })
}
