//! Logits before alpha, beta and gamma are known.

use ndarray::Axis;

use super::GatedTipX;
use super::absent::DEFICIT;
use super::gate::GateReading;
use crate::linalg::largest;
use crate::method::tip_x::LogitParts;
use crate::queries::Queries;

impl GatedTipX {
    /// The parts of the logits of queries, from those of TIP-X.
    pub fn parts<'a>(&self, queries: impl Into<Queries<'a>>, parts: LogitParts) -> LogitParts {
        let cosines = self.tip_x.support_set().cosines(queries.into().features());
        self.gated_parts(parts, &self.gate.read(cosines.view()))
    }

    /// The parts of the logits of some support rows, each as the fit without that row would have them, from those of TIP-X
    /// without each. What they have in common, such as the claims, stays as it is, because one row hardly changes it.
    pub fn parts_without(&self, rows: &[usize], parts: LogitParts) -> LogitParts {
        let support_set = self.tip_x.support_set();
        let features = support_set.features().select(Axis(0), rows);
        let rows = rows.iter().copied();
        let gates = self.gate.read_without(support_set, &self.worth, features.view(), rows);
        self.gated_parts(parts, &gates)
    }

    /// Gates the parts of TIP-X: with them, the formula of [`LogitParts`] gives the logits of this method.
    fn gated_parts(&self, mut parts: LogitParts, gates: &[GateReading]) -> LogitParts {
        for (row, reading) in gates.iter().enumerate() {
            let gate = reading.gate;
            let mut zero_shot = parts.zero_shot.row_mut(row);
            if !self.claims.is_empty() {
                let nearest = largest(parts.affinities.row(row));
                zero_shot += &self.claims.terms(&[self.claims.familiar(nearest)]).row(0);
            }
            parts.kl.row_mut(row).mapv_inplace(|kl| kl * gate);
            parts.balance.row_mut(row).mapv_inplace(|balance| balance * gate);
            for &c in self.absent.categories() {
                // It has the gain of the best of the others, as TIP-X gives it to a category without support.
                parts.balance[(row, c)] = 0.0;
                zero_shot[c] -= DEFICIT * gate;
            }
        }
        parts
    }
}
