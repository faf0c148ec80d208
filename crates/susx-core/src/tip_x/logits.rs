//! The three terms of a logit.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, s};

use super::TipX;
use crate::classifier::Method;
use crate::interrupt;
use crate::linalg::{exp, product, product_into, sum};

/// Queries and support rows whose affinities are in memory at a time: half a megabyte, which stays in
/// the processor's cache from the product to the sums.
const QUERIES: usize = 256;
const ROWS: usize = 512;

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
    /// support set or by its weight, is left out; of a method that is no part of TIP-X, all but the names'.
    ///
    /// The formula says nothing of a category without support images. Left at 0, as sums over nothing,
    /// its terms would beat every category whose KL term is negative: of CLIP's vectors with a quarter
    /// of the categories unsupported, 97 % right become 38 %. Such a category therefore has the terms
    /// of the supported category that gains most from them: its own name decides between the two.
    pub fn terms(&self, queries: ArrayView2<f32>, method: Method) -> Terms {
        let weights = self.support_set.zeroshot_weights();
        let mut zero_shot = product(queries, weights);
        let mut cache = (matches!(method, Method::TipAdapter | Method::TipX)
            && self.params.alpha > 0.0
            && !self.support_set.is_empty())
        .then(|| self.cache_term(queries));
        let mut kl = self.kl.as_ref().filter(|_| method == Method::TipX).map(|kl| {
            let (weight, scale) = (-self.params.gamma * self.mean_count, kl.scale());
            let spread = kl.spread(weights, zero_shot.view());
            kl.divergence(&spread, |_, _, divergence| weight * scale.apply(divergence))
        });
        if self.balance.contains(&0.0) && !self.support_set.is_empty() {
            self.fill_unsupported(queries.nrows(), &mut [cache.as_mut(), kl.as_mut()]);
        }
        zero_shot *= self.params.logit_scale;
        Terms { zero_shot, cache, kl }
    }

    /// How far rounding can move two logits of a row towards each other: a cosine by `d` roundings at
    /// worst, which every term then magnifies.
    pub(crate) fn slack(&self, terms: &Terms, row: usize) -> f32 {
        let params = &self.params;
        let cosine = self.dimensions() as f32 * f32::EPSILON;
        let cache = terms.cache.as_ref().map_or(0.0, |term| term.row(row).fold(0.0, |most, &x| x.max(most)));
        let kl =
            terms.kl.as_ref().and(self.affinity_scale()).map_or(0.0, |scale| {
                params.gamma * self.mean_count * scale.a as f32 * 2.0 / params.temperature
            });
        let size = terms.zero_shot.row(row).fold(cache, |most, &x| x.abs().max(most));
        2.0 * cosine * (params.logit_scale + params.beta * cache + kl) + 8.0 * f32::EPSILON * size
    }

    /// Gives the categories without support the terms of the category where their sum is largest.
    fn fill_unsupported(&self, queries: usize, terms: &mut [Option<&mut Array2<f32>>]) {
        for query in 0..queries {
            interrupt::check();
            let gain = |c: usize| terms.iter().flatten().map(|term| term[(query, c)]).sum::<f32>();
            let Some(lender) = self.lender(gain) else { return };
            for term in terms.iter_mut().flatten() {
                for c in (0..self.balance.len()).filter(|&c| self.balance[c] == 0.0) {
                    term[(query, c)] = term[(query, lender)];
                }
            }
        }
    }

    /// The supported category with the largest gain, the first of equal ones: whose terms the
    /// categories without support have.
    pub(super) fn lender(&self, gain: impl Fn(usize) -> f32) -> Option<usize> {
        let supported = (0..self.balance.len()).filter(|&c| self.balance[c] > 0.0);
        supported.max_by(|&i, &j| gain(i).total_cmp(&gain(j)).then(j.cmp(&i)))
    }

    /// One matrix product, one exp per support row, one sum per category: the support rows are sorted
    /// by category, so no one-hot product is needed. Done in blocks, each used up while it is in cache.
    fn cache_term(&self, queries: ArrayView2<f32>) -> Array2<f32> {
        let features = self.support_set.features();
        let mut term = Array2::zeros((queries.nrows(), self.balance.len()));
        let mut block = Array2::zeros((queries.nrows().min(QUERIES), features.nrows().min(ROWS)));
        for (queries, mut term) in
            queries.axis_chunks_iter(Axis(0), QUERIES).zip(term.axis_chunks_iter_mut(Axis(0), QUERIES))
        {
            let mut start = 0;
            for rows in features.axis_chunks_iter(Axis(0), ROWS) {
                let span = start..start + rows.nrows();
                let categories: Vec<_> = self.categories_within(&span).collect();
                let mut block = block.slice_mut(s![..queries.nrows(), ..rows.nrows()]);
                product_into(queries, rows, block.view_mut());
                for (mut affinities, mut term) in block.rows_mut().into_iter().zip(term.rows_mut()) {
                    let Some(affinities) = affinities.as_slice_mut() else { continue };
                    sharpen(affinities, self.params.beta);
                    for (c, own) in &categories {
                        term[*c] += sum(&affinities[own.clone()]);
                    }
                }
                start = span.end;
            }
        }
        for mut term in term.rows_mut() {
            for (value, balance) in term.iter_mut().zip(&self.balance) {
                *value *= self.params.alpha * balance;
            }
        }
        term
    }

    /// The categories that have some of these support rows, and which: counted from the span's start.
    fn categories_within(&self, span: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let offsets = self.support_set.offsets();
        let Range { start, end } = *span;
        (self.support_set.category_of(start)..self.balance.len())
            .take_while(move |&c| offsets[c] < end)
            .map(move |c| (c, offsets[c].max(start) - start..offsets[c + 1].min(end) - start))
    }
}

/// `exp(-beta (1 - A))` in place of affinities.
pub(super) fn sharpen(affinities: &mut [f32], beta: f32) {
    for a in affinities.iter_mut() {
        *a = beta * (*a - 1.0);
    }
    exp(affinities);
}
