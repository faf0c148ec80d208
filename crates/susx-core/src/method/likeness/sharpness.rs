//! Calibrated probabilities, without labels.

use ndarray::{Array2, Axis};

use super::Likeness;
use crate::interrupt;
use crate::method::gated_tip_x::sharpness::{
    BLOCK, Judged, ROWS, Rows, Sharpness, best, largest_share, names_alone,
};

/// The sharpness at which the support rows, each as the fit without it would label it, have the mean probability that is
/// expected of their accuracy. O(min(M, 1024) M e).
pub(super) fn of(fit: &Likeness) -> Sharpness {
    let names = names_alone(fit.support_set.categories().len());
    judged(fit, names).map_or(Sharpness::of_names(names), |judged| Sharpness::fitting(&judged, names))
}

/// `None` if no category has two rows.
fn judged(fit: &Likeness, names: f64) -> Option<Judged> {
    let support_set = &fit.support_set;
    let rows = support_set.rows_with_others(ROWS);
    if rows.is_empty() {
        return None;
    }
    let mut logits = Array2::zeros((rows.len(), support_set.categories().len()));
    let mut evidence = Vec::with_capacity(rows.len());
    let (mut unlabelled, mut labelled) = (Rows::default(), Rows::default());
    for (block, mut logits) in rows.chunks(BLOCK).zip(logits.axis_chunks_iter_mut(Axis(0), BLOCK)) {
        let queries = support_set.queries().select(block);
        let cosines = fit.cosines(queries.view());
        let gates = fit.gate.read(cosines.view());
        let zero_shot = fit.zero_shot(cosines);
        let (mut support, nearest) = fit.support_without(block);
        fit.absent.fill(&mut support, None);
        for (place, (&row, reading)) in block.iter().zip(gates).enumerate() {
            interrupt::check();
            let familiar = fit.claims.familiar(nearest[place]);
            let mut logit = logits.row_mut(place);
            logit.assign(&zero_shot.row(place));
            let confidence = largest_share(logit.view(), names);
            logit.scaled_add(reading.gate, &support.row(place));
            logit += &fit.claims.terms(&[familiar]).row(0);
            let own = support_set.category_of(row);
            let is_right = best(logit.view()) == own;
            if support_set.labelled()[row] {
                labelled.add(is_right, 1.0, confidence);
            } else {
                // Rows that other names claim say little about how right the names are.
                unlabelled.add(is_right, 1.0 - fit.worth.claimed[own], confidence);
            }
            evidence.push(reading.gate * (1.0 + familiar));
        }
    }
    // Without labels it is a mean of what names and likeness together keep, and of how sure the names are.
    let of_unlabelled = (unlabelled.share_of_right() + unlabelled.mean_confidence()) / 2.0;
    let of_labelled = if labelled.count > 0 { labelled.expected_of_labels() } else { 0.0 };
    let sum = unlabelled.count as f64 * of_unlabelled + labelled.count as f64 * of_labelled;
    let accuracy = sum / rows.len() as f64;
    Some(Judged { logits, evidence, accuracy, accuracy_upwards: accuracy })
}

impl Likeness {
    /// The terms of the support set for some support rows, each by the fit without it, before the gate (n × C), and the
    /// affinity to the nearest other row (n).
    pub(super) fn support_without(&self, rows: &[usize]) -> (Array2<f32>, Vec<f32>) {
        let (cache, discriminant, nearest) = self.terms.without(&self.support_set, rows);
        let (cache, discriminant) = self.centred(cache, discriminant);
        (cache + discriminant, nearest)
    }
}
