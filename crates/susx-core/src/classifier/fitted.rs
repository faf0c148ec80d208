//! A support set, ready to answer by any method.

use std::sync::{Arc, OnceLock};

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use super::{Explanation, Known, Ranked, ValidParams, top_k};
use crate::interrupt;
use crate::linalg::block_rows;
use crate::method::{BoundedLogits, FittedMethod, Method};
use crate::sus::SupportSet;

/// A fit of a method; `None` where the support set does not allow one.
type Fit = Option<Box<dyn FittedMethod>>;

/// A support set and the methods fitted on it. Immutable: a change of the support set or of the parameters is a new
/// classifier.
#[derive(Debug)]
pub struct Classifier {
    support_set: Arc<SupportSet>,
    params: ValidParams,
    known: Known,
    /// One per method, in the order of [`Method::ALL`]. Each is fitted when it is first used.
    fits: [OnceLock<Fit>; Method::ALL.len()],
    zero_shot: Box<dyn FittedMethod>,
}

/// What a classifier says of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The best categories, best first.
    pub ranked: Vec<Ranked>,
    /// How likely the query is to be of any category, 0 to 1.
    pub known: f32,
}

impl Classifier {
    /// Fits the default method; the others are fitted when they are first used.
    pub fn fit(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        let support_set = support_set.into();
        let zero_shot = Method::zero_shot(&support_set, params);
        let fits = std::array::from_fn(|_| OnceLock::new());
        let known = Known::new(Arc::clone(&support_set), params);
        let classifier = Classifier { support_set, params, known, fits, zero_shot };
        classifier.fitted(classifier.default_method());
        classifier
    }

    /// Category names, C, in the order of the columns of logits.
    pub fn categories(&self) -> &[String] {
        self.support_set.categories()
    }

    /// The support set that was fitted.
    pub fn support_set(&self) -> &SupportSet {
        &self.support_set
    }

    /// Length d of a query.
    pub fn dimensions(&self) -> usize {
        self.support_set.dimensions()
    }

    /// The method that answers if none is asked for.
    pub fn default_method(&self) -> Method {
        if self.support_set.is_empty() { Method::ZeroShot } else { Method::DEFAULT }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        let fits = self.fits.iter().filter_map(|fit| fit.get()?.as_ref());
        self.support_set.size() + fits.map(|fit| fit.size()).sum::<usize>()
    }

    /// The logits (N × C) of unit queries (N × d). A method that the support set does not allow, because it is empty
    /// or does not separate any two categories, gives the zero-shot logits.
    pub fn logits(&self, queries: ArrayView2<f32>, method: Method) -> Array2<f32> {
        interrupt::check();
        self.fitted(method).logits(queries).logits
    }

    /// The logits (N × C) of unit queries (N × d), scaled so that their softmax at the `probability_temperature` gives
    /// the probabilities. The order in each row is that of [`logits`](Self::logits).
    pub fn calibrated_logits(&self, queries: ArrayView2<f32>, method: Method) -> Array2<f32> {
        interrupt::check();
        let BoundedLogits { mut logits, sharpness, .. } = self.fitted(method).logits(queries);
        for (mut row, sharpness) in logits.rows_mut().into_iter().zip(sharpness) {
            row *= sharpness;
        }
        logits
    }

    /// The `k` best categories of each unit query (N × d), in the order in which [`logits`](Self::logits) of that
    /// query alone ranks them.
    ///
    /// A product of matrices rounds differently from the product of a single row. So a query with logits that are
    /// closer to each other than rounding can move them is ranked again by itself.
    pub fn rank(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Vec<Ranked>> {
        let blocks = queries.axis_chunks_iter(Axis(0), self.max_queries());
        blocks.flat_map(|queries| self.rank_block(queries, method, k).0).collect()
    }

    /// The same, with how likely each query is to be of any category. That is the same with every method, and so is
    /// whether it is [rejected](Self::rejects), alone or with others.
    pub fn answers(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Answer> {
        let blocks = queries.axis_chunks_iter(Axis(0), self.max_queries());
        blocks.flat_map(|queries| self.answer_block(queries, method, k)).collect()
    }

    /// As [`rank`](Self::rank), with `None` for a query that is rejected. What is known of the queries is not computed where
    /// none is ever rejected.
    pub fn accepted(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Option<Vec<Ranked>>> {
        if !self.known.may_reject() {
            return self.rank(queries, method, k).into_iter().map(Some).collect();
        }
        let answers = self.answers(queries, method, k).into_iter();
        answers.map(|Answer { ranked, known }| (!self.rejects(known)).then_some(ranked)).collect()
    }

    /// How likely each unit query (N × d) is to be of any category, 0 to 1: see [`Known`].
    pub fn known(&self, queries: ArrayView2<f32>) -> Vec<f32> {
        self.answers(queries, self.default_method(), 1).into_iter().map(|answer| answer.known).collect()
    }

    /// Whether a query with this [`known`](Self::known) gets no label.
    pub fn rejects(&self, known: f32) -> bool {
        self.known.rejects(known)
    }

    fn answer_block(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Answer> {
        let best = |ranked: &[Ranked]| ranked.first().map_or(0.0, |best| best.probability);
        let (ranked, likeness) = self.rank_block(queries, method, k.max(1));
        let known = if method == self.default_method() {
            self.known.of(queries, ranked.iter().map(|ranked| best(ranked)), likeness.as_deref())
        } else {
            let (judged, likeness) = self.rank_block(queries, self.default_method(), 1);
            self.known.of(queries, judged.iter().map(|ranked| best(ranked)), likeness.as_deref())
        };
        let answer = |(row, (mut ranked, mut known)): (usize, (Vec<Ranked>, f32))| {
            if queries.nrows() > 1 && self.known.is_near(known) {
                let alone = queries.slice(s![row..=row, ..]).to_owned();
                known = self.known(alone.view()).first().copied().unwrap_or(known);
            }
            ranked.truncate(k);
            Answer { ranked, known }
        };
        ranked.into_iter().zip(known).enumerate().map(answer).collect()
    }

    /// The best categories, and how like its names each query is, for a method that knows that.
    fn rank_block(
        &self,
        queries: ArrayView2<f32>,
        method: Method,
        k: usize,
    ) -> (Vec<Vec<Ranked>>, Option<Vec<f32>>) {
        let BoundedLogits { logits, rounding, sharpness, likeness } = self.fitted(method).logits(queries);
        let is_alone = queries.nrows() == 1;
        let rows = logits.rows().into_iter().zip(rounding.into_iter().zip(sharpness)).enumerate();
        let rank = |(row, (logits, (rounding, sharpness))): (usize, (ArrayView1<f32>, (f32, f32)))| {
            let temperature = self.params.probability_temperature / sharpness;
            // One more than asked for: the last one must be distinguishable from the next.
            let mut best = top_k(&logits.to_vec(), k.saturating_add(1), temperature);
            if !is_alone && best.windows(2).any(|pair| pair[0].score - pair[1].score <= rounding) {
                let alone = queries.slice(s![row..=row, ..]).to_owned();
                best = top_k(&self.logits(alone.view(), method).row(0).to_vec(), k, temperature);
            }
            best.truncate(k);
            best
        };
        (rows.map(rank).collect(), likeness)
    }

    /// The `k` best categories of a unit query (1 × d), best first, each with up to `support` rows.
    pub fn explain(
        &self,
        query: ArrayView2<f32>,
        method: Method,
        k: usize,
        support: usize,
    ) -> Vec<Explanation> {
        self.fitted(method).explain(query, k, support)
    }

    /// Number of queries whose logits may be in memory at the same time.
    pub fn max_queries(&self) -> usize {
        block_rows(self.categories().len(), usize::MAX)
    }

    /// The fit that answers for a method.
    fn fitted(&self, method: Method) -> &dyn FittedMethod {
        let fit = || method.fit(&self.support_set, self.params);
        let fit = self.fits[method as usize].get_or_init(fit);
        fit.as_deref().unwrap_or(self.zero_shot.as_ref())
    }
}
