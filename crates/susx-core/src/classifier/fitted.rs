//! A support set, ready to answer by any method.

use std::sync::{Arc, OnceLock};

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::fits::Fits;
use super::tags::{Tag, Tagger};
use super::{ClassifierParams, Explanation, Known, Ranked, ValidParams, top_k};
use crate::digest::Digest;
use crate::interrupt;
use crate::linalg::block_rows;
use crate::method::{Method, MethodLogits};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// From so many queries on, an aligned copy of them is faster.
const MANY: usize = 16;

/// A support set and the methods fitted on it. Immutable: a change of the support set or of the parameters is a new
/// classifier.
///
/// If the support images have likeness vectors, queries that have one are compared with the support images by these. Other
/// queries are compared by their embeddings, as if there were no likeness vectors.
#[derive(Debug)]
pub struct Classifier {
    pub(super) support_set: Arc<SupportSet>,
    pub(super) params: ValidParams,
    pub(super) known: Known,
    /// By embeddings alone.
    by_embedding: Fits,
    /// By embeddings and likeness vectors; `None` if the support images have none.
    by_likeness: Option<Fits>,
    /// What judges each category by itself, by embeddings alone and with likeness vectors. Each is fitted when it is first
    /// used.
    taggers: [OnceLock<Tagger>; 2],
}

/// What a classifier says of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The best categories, best first.
    pub ranked: Vec<Ranked>,
    /// The probability, 0 to 1, that the query shows any category.
    pub known: f32,
}

impl Classifier {
    /// Fits the default method for queries like the support images; what else is needed is fitted when it is first used.
    pub fn fit(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        let support_set = support_set.into();
        let known = Known::new(Arc::clone(&support_set), params);
        let classifier = Self::unfitted(support_set, params, known);
        classifier.main_fits().of(classifier.default_method());
        classifier
    }

    /// Fits a method for queries like the support images now, instead of when it is first used.
    pub fn prepare(&self, method: Method) {
        self.main_fits().of(method);
    }

    /// Without any fit of a method.
    pub(super) fn unfitted(support_set: Arc<SupportSet>, params: ValidParams, known: Known) -> Self {
        let (plain, by_likeness) = match support_set.has_likeness() {
            false => (Arc::clone(&support_set), None),
            true => {
                let fits = Fits::new(Arc::clone(&support_set), params);
                (Arc::new(support_set.without_likeness()), Some(fits))
            }
        };
        let by_embedding = Fits::new(plain, params);
        Classifier { support_set, params, known, by_embedding, by_likeness, taggers: Default::default() }
    }

    /// The fits for queries like the support images.
    pub(super) fn main_fits(&self) -> &Fits {
        self.by_likeness.as_ref().unwrap_or(&self.by_embedding)
    }

    /// Category names, C, in the order of the columns of logits.
    pub fn categories(&self) -> &[String] {
        self.support_set.categories()
    }

    /// The support set that was fitted.
    pub fn support_set(&self) -> &SupportSet {
        &self.support_set
    }

    /// Length d of an embedding.
    pub fn dimensions(&self) -> usize {
        self.support_set.dimensions()
    }

    /// Length e of a likeness vector; `None` if queries have no use for one, because the support images have none.
    pub fn likeness_dimensions(&self) -> Option<usize> {
        self.support_set.has_likeness().then(|| self.support_set.likeness().ncols())
    }

    /// The method that answers if none is asked for.
    pub fn default_method(&self) -> Method {
        match &*self.support_set {
            support_set if support_set.is_empty() => Method::ZeroShot,
            support_set if support_set.has_likeness() => Method::DEFAULT_BY_LIKENESS,
            _ => Method::DEFAULT,
        }
    }

    /// A digest of everything that decides this classifier's answers: the parameters and the support set, in the order in
    /// which it was built. The numbers of its rows do not count, nor does the threshold of tags.
    pub fn digest(&self) -> [u8; 32] {
        let set = &*self.support_set;
        // No label depends on this one, only tags.
        let params =
            ClassifierParams { tag_threshold: ClassifierParams::START.tag_threshold, ..*self.params };
        let mut digest = Digest::of("susx classifier").numbers(&params.values());
        for (c, category) in set.categories().iter().enumerate() {
            digest = digest.bytes(category).bytes((set.rows(c).len() as u64).to_le_bytes());
        }
        digest = matrix(digest, set.zeroshot_weights());
        digest = matrix(digest, set.negatives());
        digest = matrix(digest, set.features());
        if set.has_likeness() {
            digest = matrix(digest, set.likeness());
        }
        let labelled: Vec<u8> = set.labelled().iter().map(|&labelled| u8::from(labelled)).collect();
        digest.bytes(labelled).finish()
    }

    /// Size in the memory of this process, in bytes.
    pub fn size(&self) -> usize {
        let by_likeness = self.by_likeness.as_ref().map_or(0, Fits::size);
        let taggers: usize = self.taggers.iter().filter_map(|tagger| Some(tagger.get()?.size())).sum();
        self.support_set.size() + self.by_embedding.size() + by_likeness + taggers
    }

    /// The logits (N × C) of queries. A method that the support set does not allow, because it is empty
    /// or does not separate any two categories, gives the zero-shot logits.
    pub fn logits<'a>(&self, queries: impl Into<Queries<'a>>, method: Method) -> Array2<f32> {
        interrupt::check();
        let queries = queries.into();
        self.method_logits(queries, method).logits
    }

    /// The logits (N × C) of queries, scaled so that their softmax at the `probability_temperature` gives
    /// the probabilities. The order in each row is that of [`logits`](Self::logits).
    pub fn calibrated_logits<'a>(&self, queries: impl Into<Queries<'a>>, method: Method) -> Array2<f32> {
        interrupt::check();
        let queries = queries.into();
        let MethodLogits { mut logits, sharpness, .. } = self.method_logits(queries, method);
        for (mut row, sharpness) in logits.rows_mut().into_iter().zip(sharpness) {
            row *= sharpness;
        }
        logits
    }

    /// The `k` best categories of each query. A query gets the same answer, to the last bit, alone and among others.
    pub fn rank<'a>(&self, queries: impl Into<Queries<'a>>, method: Method, k: usize) -> Vec<Vec<Ranked>> {
        let blocks = queries.into().chunks(self.max_queries());
        blocks.flat_map(|queries| self.rank_block(queries, method, k).0).collect()
    }

    /// The same, with the probability that each query is of any category. That is the same with every method, and so is
    /// whether it is [rejected](Self::rejects), alone or with others.
    pub fn answers<'a>(&self, queries: impl Into<Queries<'a>>, method: Method, k: usize) -> Vec<Answer> {
        let blocks = queries.into().chunks(self.max_queries());
        blocks.flat_map(|queries| self.answer_block(queries, method, k)).collect()
    }

    /// Like [`rank`](Self::rank), with `None` for a query that is rejected. What is known of the queries is not
    /// computed where none is ever rejected.
    pub fn accepted<'a>(
        &self,
        queries: impl Into<Queries<'a>>,
        method: Method,
        k: usize,
    ) -> Vec<Option<Vec<Ranked>>> {
        if !self.known.may_reject() {
            return self.rank(queries, method, k).into_iter().map(Some).collect();
        }
        let answers = self.answers(queries, method, k).into_iter();
        answers.map(|Answer { ranked, known }| (!self.rejects(known)).then_some(ranked)).collect()
    }

    /// The best category of each query, by its index; `None` for a query that is rejected. The same as of
    /// [`accepted`](Self::accepted), and faster: a category that cannot win is not looked at.
    pub fn best<'a>(&self, queries: impl Into<Queries<'a>>, method: Method) -> Vec<Option<usize>> {
        let queries = queries.into();
        if self.known.may_reject() {
            let accepted = self.accepted(queries, method, 1).into_iter();
            return accepted.map(|ranked| Some(ranked?.first()?.category)).collect();
        }
        let best = |queries: Queries<'a>| {
            let (fits, queries) = self.fits_for(queries);
            match queries.len() >= MANY {
                true => fits.of(method).best(queries.aligned().view()),
                false => fits.of(method).best(queries),
            }
        };
        queries.chunks(self.max_queries()).flat_map(best).map(Some).collect()
    }

    /// The probability, 0 to 1, that each query shows any category: see [`Known`].
    pub fn known<'a>(&self, queries: impl Into<Queries<'a>>) -> Vec<f32> {
        self.answers(queries, self.default_method(), 1).into_iter().map(|answer| answer.known).collect()
    }

    /// Whether a query with this [`known`](Self::known) gets no label.
    pub fn rejects(&self, known: f32) -> bool {
        self.known.rejects(known)
    }

    /// The categories that each query shows with at least that probability, most likely first. Each category is judged by
    /// itself, so a query may have several tags, or none.
    pub fn tags<'a>(&self, queries: impl Into<Queries<'a>>, min_probability: f32) -> Vec<Vec<Tag>> {
        let queries = queries.into();
        let uses_likeness = self.support_set.has_likeness() && queries.has_likeness();
        let queries = if uses_likeness { queries } else { queries.without_likeness() };
        let tagger = self.taggers[usize::from(uses_likeness)].get_or_init(|| match uses_likeness {
            true => Tagger::fit(&self.support_set),
            false => Tagger::fit(&self.support_set.without_likeness()),
        });
        queries.chunks(self.max_queries()).flat_map(|queries| tagger.tags(queries, min_probability)).collect()
    }

    /// From which probability on a category is a tag, unless the caller says otherwise.
    pub fn tag_threshold(&self) -> f32 {
        self.params.tag_threshold
    }

    fn answer_block(&self, queries: Queries, method: Method, k: usize) -> Vec<Answer> {
        let best = |ranked: &[Ranked]| ranked.first().map_or(0.0, |best| best.probability);
        let (ranked, resemblance) = self.rank_block(queries, method, k.max(1));
        let features = queries.features();
        let known = if method == self.default_method() {
            self.known.of(features, ranked.iter().map(|ranked| best(ranked)), resemblance.as_deref())
        } else {
            let (judged, resemblance) = self.rank_block(queries, self.default_method(), 1);
            self.known.of(features, judged.iter().map(|ranked| best(ranked)), resemblance.as_deref())
        };
        let answer = |(mut ranked, known): (Vec<Ranked>, f32)| {
            ranked.truncate(k);
            Answer { ranked, known }
        };
        ranked.into_iter().zip(known).map(answer).collect()
    }

    /// The best categories, and how like its names each query is, for a method that knows that.
    fn rank_block(&self, queries: Queries, method: Method, k: usize) -> (Vec<Vec<Ranked>>, Option<Vec<f32>>) {
        let MethodLogits { logits, sharpness, resemblance } = self.method_logits(queries, method);
        let rank = |(logits, sharpness): (ArrayView1<f32>, f32)| {
            top_k(&logits.to_vec(), k, self.params.probability_temperature / sharpness)
        };
        let rows = logits.rows().into_iter().zip(sharpness);
        (rows.map(rank).collect(), resemblance)
    }

    /// The `k` best categories of a single query, best first, each with up to `support` rows.
    pub fn explain<'a>(
        &self,
        query: impl Into<Queries<'a>>,
        method: Method,
        k: usize,
        support: usize,
    ) -> Vec<Explanation> {
        let (fits, query) = self.fits_for(query.into());
        fits.of(method).explain(query, k, support)
    }

    /// Number of queries whose logits may be in memory at the same time.
    pub fn max_queries(&self) -> usize {
        block_rows(self.categories().len(), usize::MAX)
    }

    fn method_logits(&self, queries: Queries, method: Method) -> MethodLogits {
        let (fits, queries) = self.fits_for(queries);
        // A few would not gain what the copy costs.
        match queries.len() >= MANY {
            true => fits.of(method).logits(queries.aligned().view()),
            false => fits.of(method).logits(queries),
        }
    }

    /// The fits for queries with or without likeness vectors, and the queries as these fits take them.
    fn fits_for<'a>(&self, queries: Queries<'a>) -> (&Fits, Queries<'a>) {
        match &self.by_likeness {
            Some(fits) if queries.has_likeness() => (fits, queries),
            _ => (&self.by_embedding, queries.without_likeness()),
        }
    }
}

/// Adds the shape and the rows of a matrix to a digest.
fn matrix(digest: Digest, matrix: ArrayView2<f32>) -> Digest {
    let digest = digest.bytes([matrix.nrows() as u64, matrix.ncols() as u64].map(u64::to_le_bytes).concat());
    matrix.rows().into_iter().fold(digest, |digest, row| {
        interrupt::check();
        digest.numbers(&row.to_vec())
    })
}
