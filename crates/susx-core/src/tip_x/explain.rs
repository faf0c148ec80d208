//! Why an image has its label by TIP-X.

use ndarray::{ArrayView2, s};

use super::TipX;
use super::kl::{KlTerm, Spread};
use super::logits::sharpen;
use crate::classifier::{Explanation, Method, Ranked, Weight, top_k};
use crate::linalg::product;

impl TipX {
    /// The `k` best categories of a unit query (1 x d), best first, each with up to `support` rows. A
    /// category without support shows the rows of the category whose terms it has: see
    /// [`terms`](Self::terms).
    pub fn explain(
        &self,
        query: ArrayView2<f32>,
        method: Method,
        k: usize,
        support: usize,
    ) -> Vec<Explanation> {
        let terms = self.terms(query, method);
        let at = |term: &Option<ndarray::Array2<f32>>, c: usize| term.as_ref().map_or(0.0, |t| t[(0, c)]);
        let logits = terms.clone().sum().row(0).to_vec();
        let lender = self.lender(|c| at(&terms.cache, c) + at(&terms.kl, c));
        let has_support = terms.cache.is_some() || terms.kl.is_some();
        let kl = self.kl.as_ref().filter(|_| method == Method::TipX);
        let spread = kl.map(|kl| {
            let weights = self.support_set.zeroshot_weights();
            (kl, kl.spread(weights, product(query, weights).view()))
        });
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let source = if self.balance[c] > 0.0 { Some(c) } else { lender };
            let mut weights = match source.filter(|_| has_support) {
                Some(source) => self.weights(query, spread.as_ref(), source),
                None => Vec::new(),
            };
            Weight::keep_best(&mut weights, support);
            Explanation {
                category: c,
                zero_shot: terms.zero_shot[(0, c)],
                cache: at(&terms.cache, c),
                kl: at(&terms.kl, c),
                discriminant: 0.0,
                reliability: None,
                total: ranked.score,
                support: weights,
            }
        };
        top_k(&logits, k).into_iter().map(explain).collect()
    }

    /// What every support row of a category adds to the category's logit, whose KL term is left out without
    /// the query's spread.
    fn weights(
        &self,
        query: ArrayView2<f32>,
        spread: Option<&(&KlTerm, Spread)>,
        category: usize,
    ) -> Vec<Weight> {
        let rows = self.support_set.rows(category);
        let features = self.support_set.features().slice_move(s![rows.clone(), ..]);
        let affinities = product(query, features);
        let mut sharpened: Vec<f32> = affinities.iter().copied().collect();
        sharpen(&mut sharpened, self.params.beta);
        let divergences = match spread {
            Some((kl, spread)) => {
                let (centred, lambda) = kl.centred(self.support_set.zeroshot_weights(), features);
                let products = product(spread.pull.view(), centred.view());
                let apart = products.iter().zip(lambda).map(|(product, lambda)| f64::from(lambda - product));
                apart.map(|apart| kl.scale().apply(spread.shared[0] + apart)).collect()
            }
            None => vec![0.0; rows.len()],
        };
        let balance = self.balance[category];
        rows.zip(affinities.iter().zip(sharpened).zip(divergences))
            .map(|(row, ((&affinity, sharpened), divergence))| Weight {
                row,
                affinity,
                contribution: balance * (self.params.alpha * sharpened - self.params.gamma * divergence),
            })
            .collect()
    }
}
