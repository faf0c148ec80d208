//! Probabilities that come true, without labels.

use ndarray::{Array2, ArrayView1, Axis};

use super::GatedTipX;
use crate::interrupt;
use crate::linalg::{exp, sum};
use crate::method::tip_x::LeaveOneOut;
use crate::sus::evenly_spaced;

/// Support rows that the sharpness is estimated from, and rows whose affinities are in memory at the same time.
const ROWS: usize = 1024;
const BLOCK: usize = 64;
/// What CLIP's logits have to be multiplied by to be right as often as they say: 1.3 with up to ten names, 1 with a
/// thousand and more.
const FEW_NAMES: f64 = 10.0;
const MANY_NAMES: f64 = 1000.0;
const WITH_FEW_NAMES: f64 = 0.3;
/// Largest sharpness.
const MOST: f64 = 2.6;
/// Weight of the support set's agreement with the names in the accuracy that is expected; the rest is the confidence of
/// the names.
const AGREEMENT: f64 = 0.7;
/// How far the sharpness may fall with the gate, if nothing can be estimated and at most, and how often the intervals are
/// halved.
const UNKNOWN_DECAY: f64 = 5.0;
const DECAYS: (f64, f64) = (1e-3, 1e3);
const HALVINGS: usize = 30;

/// Factor of the logits in the softmax that gives the probabilities: `k / (1 + t g)`, where `g` is the gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sharpness {
    closed: f64,
    decay: f64,
}

/// Logits of support rows by the fit without each.
struct Judged {
    /// m × C.
    logits: Array2<f32>,
    /// The gates, m.
    gates: Vec<f32>,
    /// The accuracy that is expected, 0 to 1.
    accuracy: f64,
}

impl Sharpness {
    /// The softmax of the logits as they are.
    pub const LOGITS: Sharpness = Sharpness { closed: 1.0, decay: 0.0 };

    /// For queries with this gate.
    pub fn at(self, gate: f32) -> f32 {
        (self.closed / (1.0 + self.decay * f64::from(gate))) as f32
    }

    /// Estimates the sharpness at which the support rows, each as the fit without it would label it, have the mean
    /// probability that is expected of their accuracy. O(min(M, 1024) M d).
    ///
    /// The terms of the support set are as large as its user makes them, and say more about the order of the
    /// categories than about how sure it is. How often a support row is labelled as its name wants it, by the other
    /// rows alone, is what names and support set know of each other's accuracy.
    pub fn of(gated: &GatedTipX) -> Self {
        let support_set = gated.tip_x.support_set();
        let names = names_alone(support_set.categories().len());
        let Some(judged) = Judged::of(gated, names) else {
            return Sharpness { closed: names, decay: UNKNOWN_DECAY };
        };
        if judged.confidence(Sharpness { closed: names, decay: 0.0 }) >= judged.accuracy {
            let decay = bisect(DECAYS, |decay| {
                judged.confidence(Sharpness { closed: names, decay }) > judged.accuracy
            });
            return Sharpness { closed: names, decay };
        }
        let closed = bisect((names, MOST), |closed| {
            judged.confidence(Sharpness { closed, decay: 0.0 }) < judged.accuracy
        });
        Sharpness { closed, decay: 0.0 }
    }
}

/// The sharpness of the names' logits.
fn names_alone(categories: usize) -> f64 {
    let many = (MANY_NAMES / categories as f64).ln() / (MANY_NAMES / FEW_NAMES).ln();
    1.0 + WITH_FEW_NAMES * many.clamp(0.0, 1.0)
}

/// The point of an interval, on a logarithmic axis, up to which `is_below` holds.
fn bisect((low, high): (f64, f64), is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low.ln(), high.ln());
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if is_below(middle.exp()) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ((low + high) / 2.0).exp()
}

impl Judged {
    /// `None` if no category has two rows.
    fn of(gated: &GatedTipX, names: f64) -> Option<Self> {
        let support_set = gated.tip_x.support_set();
        let others = |row: usize| support_set.rows(support_set.category_of(row)).len() > 1;
        let rows: Vec<usize> = (0..support_set.len()).filter(|&row| others(row)).collect();
        let rows: Vec<usize> = evenly_spaced(rows.len(), ROWS).map(|i| rows[i]).collect();
        if rows.is_empty() {
            return None;
        }
        let leave_one_out = LeaveOneOut::of_common_scale(&gated.tip_x);
        let mut logits = Array2::zeros((rows.len(), support_set.categories().len()));
        let mut gates = Vec::with_capacity(rows.len());
        let mut kinds = [Rows::default(), Rows::default()];
        for (block, mut logits) in rows.chunks(BLOCK).zip(logits.axis_chunks_iter_mut(Axis(0), BLOCK)) {
            let parts = leave_one_out.parts(block);
            let mut support = parts.support_terms(gated.tip_x.params());
            let mut no_kl = Array2::zeros(support.dim());
            gated.absent.fill(&mut support, &mut no_kl);
            support += &no_kl;
            let features = support_set.features().select(Axis(0), block);
            let read = gated.gate.read(features.view());
            for (place, (&row, reading)) in block.iter().zip(read).enumerate() {
                interrupt::check();
                let nearest = parts.affinities.row(place).fold(f32::NEG_INFINITY, |most, &x| x.max(most));
                let mut logit = logits.row_mut(place);
                logit.assign(&parts.zero_shot.row(place));
                let confidence = largest_share(logit.view(), names);
                logit.scaled_add(reading.gate, &support.row(place));
                logit += &gated.claims.terms(&[nearest]).row(0);
                let own = support_set.category_of(row);
                let is_labelled = support_set.labelled()[row];
                let judge = if is_labelled { logit.view() } else { support.row(place) };
                kinds[usize::from(is_labelled)].add(best(judge) == own, confidence);
                gates.push(reading.gate);
            }
        }
        let [unlabelled, labelled] = kinds;
        let of_unlabelled = unlabelled.count as f64 * unlabelled.expected(AGREEMENT);
        let of_labelled = labelled.count as f64 * labelled.expected(1.0);
        Some(Judged { logits, gates, accuracy: (of_unlabelled + of_labelled) / rows.len() as f64 })
    }

    /// The mean probability of the best category.
    fn confidence(&self, sharpness: Sharpness) -> f64 {
        let rows = self.logits.rows().into_iter().zip(&self.gates);
        let shares = rows.map(|(row, &gate)| largest_share(row, sharpness.at(gate).into()));
        shares.sum::<f64>() / self.gates.len() as f64
    }
}

/// Support rows that are labelled, or that are not.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    count: usize,
    /// Rows that get their own category.
    right: usize,
    /// Sum of the names' confidences.
    confidence: f64,
}

impl Rows {
    fn add(&mut self, is_right: bool, confidence: f64) {
        self.count += 1;
        self.right += usize::from(is_right);
        self.confidence += confidence;
    }

    /// The accuracy that is expected of such images: a mean of the share of right rows and of the names' confidence,
    /// each less its standard error, and no less than the confidence.
    fn expected(self, weight: f64) -> f64 {
        let count = self.count.max(1) as f64;
        let less_its_error = |share: f64| share - (share * (1.0 - share) / count).max(0.0).sqrt();
        let (right, confidence) = (self.right as f64 / count, self.confidence / count);
        let both = weight * less_its_error(right) + (1.0 - weight) * confidence;
        both.max(less_its_error(confidence))
    }
}

/// The largest share of a softmax of logits times a factor.
fn largest_share(logits: ArrayView1<f32>, factor: f64) -> f64 {
    let largest = logits.fold(f32::NEG_INFINITY, |most, &x| x.max(most));
    let mut shares: Vec<f32> = logits.iter().map(|logit| factor as f32 * (logit - largest)).collect();
    exp(&mut shares);
    1.0 / f64::from(sum(&shares))
}

/// The first of the largest elements.
fn best(row: ArrayView1<f32>) -> usize {
    (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best })
}
