//! Why an image has its label.

use ndarray::s;

use super::Likeness;
use super::fit::LogitTerms;
use crate::classifier::{Contribution, Explanation, Ranked, top_k};
use crate::linalg::row_product;
use crate::method::gda::Influence;
use crate::queries::Queries;

impl Likeness {
    pub(super) fn explained(&self, query: Queries, k: usize, support: usize) -> Vec<Explanation> {
        let cosines = self.cosines(query);
        let gates = self.gate.read(cosines.view());
        let terms = self.terms(query, cosines, &gates);
        let logits = terms.sum().row(0).to_vec();
        let (cache, _) = self.terms.cache(&self.support_set, query.likeness());
        let discriminant = self.terms.discriminant(query.likeness());
        let means = (self.terms.mean(cache.row(0)), self.terms.mean(discriminant.row(0)));
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let contributions = self.contributions(query, &terms, means, c, gates[0].gate);
            self.gate.explanation(ranked, gates[0], terms.named(0, c), contributions, support)
        };
        top_k(&logits, k, 1.0).into_iter().map(explain).collect()
    }

    /// What each row of a category adds to the category's logit: the row's part of the cache and of the discriminant, each
    /// less the row's share of the mean over the categories. An absent category shows the rows of the category whose terms
    /// it has, less the deficit.
    fn contributions(
        &self,
        query: Queries,
        terms: &LogitTerms,
        means: (f32, f32),
        category: usize,
        gate: f32,
    ) -> Vec<Contribution> {
        let gain = |c: usize| terms.cache[(0, c)] + terms.discriminant[(0, c)];
        let Some(source) = self.absent.source(category, gain) else { return Vec::new() };
        let rows = self.support_set.rows(source);
        let support = self.support_set.likeness().slice_move(s![rows.clone(), ..]);
        let affinities = row_product(query.likeness(), support);
        let influence = self.influence();
        let wide = query.likeness().row(0).mapv(f64::from);
        let of_rows = influence.of_rows(&self.support_set, &wide, source);
        rows.zip(affinities.iter().zip(of_rows))
            .map(|(row, (&affinity, of_row))| {
                let share = influence.share(row) as f32;
                let cache = self.terms.contribution(row, source, affinity) - share * means.0;
                let discriminant = of_row as f32 - share * means.1;
                let sum = self.sizes.cache * cache + self.sizes.discriminant * discriminant;
                Contribution { row, affinity, contribution: gate * sum }
            })
            .collect()
    }

    fn influence(&self) -> &Influence {
        let new = || Influence::new(self.terms.discriminant.clone(), &self.support_set, &self.terms.sums);
        self.influence.get_or_init(new)
    }
}
