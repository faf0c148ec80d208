//! The three terms of a logit.

use ndarray::{Array2, ArrayView2, Zip, s};

use super::{Method, TipX};

/// The terms that a method has, each N x C; a logit is their sum.
#[derive(Clone, Debug)]
pub struct Terms {
    pub zero_shot: Array2<f32>,
    pub cache: Option<Array2<f32>>,
    pub kl: Option<Array2<f32>>,
}

impl Terms {
    /// The logits.
    pub fn sum(self) -> Array2<f32> {
        let mut logits = self.zero_shot;
        for term in [self.cache, self.kl].into_iter().flatten() {
            logits += &term;
        }
        logits
    }
}

impl TipX {
    /// The terms of every logit of unit queries (N x d). A term that is 0 everywhere, for want of a
    /// support set or by its weight, is left out.
    ///
    /// The formula says nothing of a category without support images. Left at 0, as sums over nothing,
    /// its terms would beat every category whose KL term is negative: of CLIP's vectors with a quarter
    /// of the categories unsupported, 97 % right become 38 %. Such a category therefore has the terms
    /// of the supported category that gains most from them: its own name decides between the two.
    pub fn terms(&self, queries: ArrayView2<f32>, method: Method) -> Terms {
        let weights = self.support_set.zeroshot_weights();
        let cosines = queries.dot(&weights.t());
        let mut cache =
            (method != Method::ZeroShot && self.params.alpha > 0.0 && !self.support_set.is_empty())
                .then(|| self.cache_term(queries));
        let mut kl =
            self.kl.as_ref().filter(|_| method == Method::TipX).map(|kl| {
                kl.scaled_divergence(weights, cosines.view()) * (-self.params.gamma * self.mean_count)
            });
        if self.balance.contains(&0.0) && !self.support_set.is_empty() {
            self.fill_unsupported(queries.nrows(), &mut [cache.as_mut(), kl.as_mut()]);
        }
        Terms { zero_shot: cosines * self.params.logit_scale, cache, kl }
    }

    /// Gives the categories without support the terms of the category where their sum is largest.
    fn fill_unsupported(&self, queries: usize, terms: &mut [Option<&mut Array2<f32>>]) {
        let is_supported = |&c: &usize| self.balance[c] > 0.0;
        for query in 0..queries {
            let gain = |c: usize| terms.iter().flatten().map(|term| term[(query, c)]).sum::<f32>();
            let best = (0..self.balance.len())
                .filter(is_supported)
                .max_by(|&i, &j| gain(i).total_cmp(&gain(j)).then(j.cmp(&i)));
            let Some(best) = best else { return };
            for term in terms.iter_mut().flatten() {
                for c in (0..self.balance.len()).filter(|c| !is_supported(c)) {
                    term[(query, c)] = term[(query, best)];
                }
            }
        }
    }

    /// One matrix product, one exp per support row, one sum per category: the support rows are sorted
    /// by category, so no one-hot product is needed.
    fn cache_term(&self, queries: ArrayView2<f32>) -> Array2<f32> {
        let affinities = queries.dot(&self.support_set.features().t());
        let mut term = Array2::zeros((queries.nrows(), self.balance.len()));
        let beta = self.params.beta;
        Zip::from(term.rows_mut()).and(affinities.rows()).for_each(|mut out, affinities| {
            for (c, &balance) in self.balance.iter().enumerate() {
                let rows = self.support_set.rows(c);
                let sum: f32 = affinities.slice(s![rows]).iter().map(|a| (-beta * (1.0 - a)).exp()).sum();
                out[c] = self.params.alpha * balance * sum;
            }
        });
        term
    }
}
