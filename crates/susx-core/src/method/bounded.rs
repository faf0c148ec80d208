//! The best category of a query, where nothing else of the answer is asked for.
//!
//! Nearly all of the work of a logit is the cache of its category. But a category that cannot win needs none: the other terms
//! of its logit are known from the category alone, and so is how large its cache [can be](CacheBounds). So categories are taken
//! in the order of their largest possible logits, until those of the rest are below one that is known.
//!
//! Two things depend on all categories:
//!
//! * Absent categories have the support terms of the present category that gains most. So categories are also taken in the
//!   order of their largest possible gains.
//! * What claimed names lose depends on the nearest support row of all. Where it is not known how near that is, the result must
//!   be the same for the nearest row that was found and for one that is equal to the query.
//!
//! The result is that of the logits of all categories. Where that takes more than bounds, there is none.

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::gated_tip_x::Claims;
use super::tip_adapter::{CacheBounds, Lending, sum_of_category};
use super::{FittedMethod, best_of, first_of_largest};
use crate::interrupt;
use crate::queries::Queries;
use crate::sus::SupportSet;

/// Rounding of a logit, relative to the sum of its terms' sizes.
const ROUNDING: f32 = 1e-5;
/// The share of the support rows from which on looking at all of them is faster: for a single query, and for one of many, which
/// share what they load.
const MOST_ROWS: f64 = 0.5;
const MOST_ROWS_OF_MANY: f64 = 0.06;
/// So many are many. They are taken in blocks of this length, until bounds fail for more than half of a block.
const MANY: usize = 16;
/// After so many categories it is judged how many others may win.
const TRIED: usize = 2;

/// A method whose logits are the names', the cache and another term of the support set times a gate, and what claimed names lose.
pub(super) trait Bounded: FittedMethod + Sized {
    /// Whether [`FittedMethod::logits`] are this sum to the last bit. Else they may be rounded otherwise, and have the same number
    /// added for all categories of a query.
    const IS_EXACT: bool;

    /// The bounds of the cache, where they are worth their costs.
    fn bounds(&self) -> Option<&CacheBounds>;

    /// What the logits are made of.
    fn composition(&self) -> Composition<'_>;

    /// The gates of queries (n), from their cosines to the zeroshot weights (n × C).
    fn gates(&self, cosines: ArrayView2<f32>) -> Vec<f32>;

    /// The other term of the support set before the gate (n × C), from the same.
    fn rest(&self, queries: Queries, cosines: ArrayView2<f32>) -> Array2<f32>;

    /// The cache of a category before the gate, from the sum of its sharpened affinities. It grows with the sum.
    fn cache_of_sum(&self, category: usize, sum: f32) -> f32;

    /// The best category of each query, as [`FittedMethod::best`].
    fn best_by_bounds(&self, queries: Queries) -> Vec<usize> {
        let Some(bounds) = self.bounds() else { return best_of(self, queries) };
        let found = found(self, bounds, queries);
        let open: Vec<usize> = (0..found.len()).filter(|&i| found[i].is_none()).collect();
        let mut of_open = match open.is_empty() {
            true => Vec::new(),
            false => best_of(self, queries.select(&open).view()),
        }
        .into_iter();
        found.into_iter().filter_map(|best| best.or_else(|| of_open.next())).collect()
    }
}

/// What the logits of a [`Bounded`] method are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Composition<'a> {
    pub support_set: &'a SupportSet,
    pub logit_scale: f32,
    /// Sharpness of the affinities in the cache.
    pub beta: f32,
    /// Weights of the support rows in the cache, M; `None` if they are 1.
    pub weights: Option<&'a [f32]>,
    /// To the absent categories, and how far their terms are below those that they get.
    pub lending: &'a Lending,
    pub deficit: f32,
    pub claims: Option<&'a Claims>,
}

impl Composition<'_> {
    /// Whether no name loses anything.
    fn claims_nothing(&self) -> bool {
        self.claims.is_none_or(Claims::is_empty)
    }

    /// What a category loses where the query is so familiar.
    fn claim(&self, category: usize, familiar: f32) -> f32 {
        self.claims.map_or(0.0, |claims| claims.term(category, familiar))
    }
}

/// A query, and what is known of it.
#[derive(Debug)]
struct Search<'a, M> {
    method: &'a M,
    composition: Composition<'a>,
    /// By its likeness, 1 × e.
    query: ArrayView2<'a, f32>,
    gate: f32,
    /// `logit_scale * s_c`, C.
    zero_shot: Vec<f32>,
    /// The other term of the support set before the gate, C.
    rest: ArrayView1<'a, f32>,
    /// What a present category's cache and the other term can be together, before the gate, C.
    most_gain: Vec<f32>,
    /// The cache of the categories that were looked at, before the gate, C.
    cache: Vec<Option<f32>>,
    /// The largest cosine to one of their rows.
    nearest: f32,
    /// How many more support rows may be looked at.
    rows_left: usize,
}

/// More support rows would have to be looked at than is worth it.
struct TooMany;

/// The best category of each query, or `None` where only the logits of all categories tell. Where that is so for many, the rest
/// is not tried.
fn found(method: &impl Bounded, bounds: &CacheBounds, queries: Queries) -> Vec<Option<usize>> {
    let share = if queries.len() < MANY { MOST_ROWS } else { MOST_ROWS_OF_MANY };
    let most_rows = (method.composition().support_set.len() as f64 * share) as usize;
    let mut found = Vec::with_capacity(queries.len());
    for block in queries.chunks(MANY) {
        found.extend(found_of_block(method, bounds, block, most_rows));
        let of_block = &found[found.len() - block.len()..];
        if 2 * of_block.iter().flatten().count() < block.len() {
            break;
        }
    }
    found.resize(queries.len(), None);
    found
}

/// The same for a few queries, for each of which so many support rows may be looked at.
fn found_of_block(
    method: &impl Bounded,
    bounds: &CacheBounds,
    queries: Queries,
    most_rows: usize,
) -> Vec<Option<usize>> {
    let composition = method.composition();
    let cosines = composition.support_set.cosines(queries.features());
    let gates = method.gates(cosines.view());
    let rest = method.rest(queries, cosines.view());
    let means = bounds.means(queries.likeness());
    let best = |(i, gate): (usize, f32)| {
        interrupt::check();
        let (rest, means) = (rest.row(i), means.row(i));
        let most_of = |(c, (&mean, &rest)): (usize, (&f32, &f32))| {
            method.cache_of_sum(c, bounds.most(c, mean, composition.beta)) + rest
        };
        let search = Search {
            method,
            composition,
            query: queries.likeness().slice_move(s![i..i + 1, ..]),
            gate,
            zero_shot: cosines.row(i).iter().map(|cosine| cosine * composition.logit_scale).collect(),
            most_gain: means.iter().zip(rest).enumerate().map(most_of).collect(),
            rest,
            cache: vec![None; rest.len()],
            nearest: f32::NEG_INFINITY,
            rows_left: most_rows,
        };
        search.best()
    };
    gates.into_iter().enumerate().map(best).collect()
}

impl<M: Bounded> Search<'_, M> {
    fn best(mut self) -> Option<usize> {
        if self.gate == 0.0 && self.composition.claims_nothing() {
            return first_of_largest(self.zero_shot.iter().copied().enumerate());
        }
        self.look().ok()?;
        let logits = self.known_logits();
        let with_claims = |familiar: f32| -> Vec<(usize, f32)> {
            logits.iter().map(|&(c, logit)| (c, logit + self.composition.claim(c, familiar))).collect()
        };
        let (least, most) = self.familiar();
        let ends = [least, most].map(with_claims);
        let best = first_of_largest(ends[0].iter().copied())?;
        // Between the ends a logit changes evenly, so who leads at both of them leads everywhere.
        let leads = |logits: &Vec<(usize, f32)>| {
            let own =
                logits.iter().find(|(c, _)| *c == best).map_or(f32::NAN, |&(c, own)| own - self.rounding(c));
            logits.iter().all(|&(c, other)| c == best || other + self.rounding(c) < own)
        };
        let is_certain = M::IS_EXACT && (least == most || self.composition.claims_nothing());
        (is_certain || ends.iter().all(leads)).then_some(best)
    }

    /// Looks at all present categories that may win, and at all that may gain most if there are absent ones.
    fn look(&mut self) -> Result<(), TooMany> {
        let mut by_gain: Vec<usize> = Vec::new();
        let mut by_logit: Vec<usize> =
            (0..self.rest.len()).filter(|&c| self.composition.lending.is_lender(c)).collect();
        if !self.composition.lending.borrowers().is_empty() {
            by_gain.clone_from(&by_logit);
        }
        let mut gained = f32::NEG_INFINITY;
        by_gain.sort_unstable_by(|&i, &j| self.most_gain[j].total_cmp(&self.most_gain[i]));
        for (tried, &c) in by_gain.iter().enumerate() {
            if self.most_gain[c] < gained {
                break;
            }
            if tried == TRIED {
                self.check(by_gain[tried..].iter().filter(|&&c| self.most_gain[c] >= gained))?;
            }
            gained = gained.max(self.cache(c)? + self.rest[c] - self.rounding(c));
        }
        let mut reached = f32::NEG_INFINITY;
        if let Some(lender) = self.lender() {
            for &c in self.composition.lending.borrowers() {
                reached =
                    reached.max(self.lent(c, lender) - self.rounding(c) + self.composition.claim(c, 1.0));
            }
        }
        let most: Vec<f32> =
            (0..self.rest.len()).map(|c| self.zero_shot[c] + self.gate * self.most_gain[c]).collect();
        by_logit.sort_unstable_by(|&i, &j| most[j].total_cmp(&most[i]));
        for (tried, &c) in by_logit.iter().enumerate() {
            let (least_familiar, most_familiar) = self.familiar();
            // Sorted by what is largest without any claim.
            if most[c] + self.rounding(c) < reached {
                break;
            }
            if most[c] + self.composition.claim(c, least_familiar) + self.rounding(c) < reached {
                continue;
            }
            if tried == TRIED {
                self.check(by_logit[tried..].iter().filter(|&&c| most[c] + self.rounding(c) >= reached))?;
            }
            let cache = self.cache(c)?;
            let logit = self.logit(c, cache, self.rest[c]) + self.composition.claim(c, most_familiar);
            reached = reached.max(logit - self.rounding(c));
        }
        Ok(())
    }

    /// An error if these categories have more rows than may be looked at.
    fn check<'a>(&self, categories: impl Iterator<Item = &'a usize>) -> Result<(), TooMany> {
        let unseen = categories.filter(|&&c| self.cache[c].is_none());
        let rows: usize = unseen.map(|&c| self.composition.support_set.rows(c).len()).sum();
        if rows > self.rows_left { Err(TooMany) } else { Ok(()) }
    }

    /// The cache of a category, whose rows are looked at unless they have been.
    fn cache(&mut self, c: usize) -> Result<f32, TooMany> {
        if let Some(cache) = self.cache[c] {
            return Ok(cache);
        }
        let Composition { support_set, beta, weights, .. } = self.composition;
        self.rows_left = self.rows_left.checked_sub(support_set.rows(c).len()).ok_or(TooMany)?;
        let (sum, nearest) = sum_of_category(support_set, beta, weights, self.query, c);
        let cache = self.method.cache_of_sum(c, sum);
        self.nearest = self.nearest.max(nearest);
        self.cache[c] = Some(cache);
        Ok(cache)
    }

    /// The logits of all categories that were looked at, and of the absent ones, before the claims.
    fn known_logits(&self) -> Vec<(usize, f32)> {
        let lender = self.lender();
        let logit = |c: usize| match self.composition.lending.is_lender(c) {
            true => Some((c, self.logit(c, self.cache[c]?, self.rest[c]))),
            false => Some((c, self.lent(c, lender?))),
        };
        (0..self.rest.len()).filter_map(logit).collect()
    }

    fn logit(&self, c: usize, cache: f32, kl: f32) -> f32 {
        self.zero_shot[c] + cache * self.gate + kl * self.gate
    }

    /// The logit of an absent category, which has the support terms of another one.
    fn lent(&self, c: usize, lender: usize) -> f32 {
        self.logit(c, self.cache[lender].unwrap_or(0.0) - self.composition.deficit, self.rest[lender])
    }

    /// The present category that gains most, if there are absent ones.
    fn lender(&self) -> Option<usize> {
        let gain = |c: usize| self.cache[c].map_or(f32::NEG_INFINITY, |cache| cache + self.rest[c]);
        if self.composition.lending.borrowers().is_empty() {
            None
        } else {
            self.composition.lending.lender(gain)
        }
    }

    /// Between what `h` is, given the nearest row that was looked at.
    fn familiar(&self) -> (f32, f32) {
        let of = |nearest: f32| self.composition.claims.map_or(0.0, |claims| claims.familiar(nearest));
        (of(self.nearest), of(f32::INFINITY))
    }

    /// How far a logit of the category may be rounded.
    fn rounding(&self, c: usize) -> f32 {
        ROUNDING
            * (self.zero_shot[c].abs()
                + self.gate * (self.most_gain[c].abs() + 2.0 * self.rest[c].abs())
                + 5.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::ClassifierParams;
    use crate::method::gated_tip_x::GatedTipX;
    use crate::method::likeness::Likeness;
    use crate::queries::OwnedQueries;
    use crate::sus::{SupportSet, SupportSetBuilder};

    const DIMENSIONS: usize = 32;
    const LIKENESS_DIMENSIONS: usize = 20;

    /// Normally distributed numbers, nearly.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        }

        fn vector(&mut self, around: &[f32], spread: f32) -> Vec<f32> {
            let mut normal = || (0..6).map(|_| self.uniform()).sum::<f32>() - 3.0;
            around.iter().map(|x| x + spread * normal()).collect()
        }
    }

    struct Case {
        categories: usize,
        /// Rows of a category, of which every fourth has less.
        rows: usize,
        few: usize,
        /// Distance of the rows from their category, and of the categories from each other.
        spread: f32,
        apart: f32,
        /// One row in so many is labelled.
        labelled: usize,
    }

    /// A support set with likeness vectors, and queries: support rows, others like them, and some that are like nothing.
    fn make(case: &Case, random: &mut Random) -> (SupportSet, OwnedQueries) {
        let common = random.vector(&[0.0; DIMENSIONS], 1.0);
        let common_likeness = random.vector(&[0.0; LIKENESS_DIMENSIONS], 1.0);
        let mut builder = SupportSetBuilder::new(DIMENSIONS);
        let mut queries = SupportSetBuilder::new(DIMENSIONS);
        queries.push_prompt("", &common).unwrap();
        for c in 0..case.categories {
            let (name, centre) = (c.to_string(), random.vector(&common, case.apart));
            let likeness_centre = random.vector(&common_likeness, case.apart);
            builder.push_prompt(&name, &random.vector(&centre, case.spread)).unwrap();
            for i in 0..if c % 4 == 3 { case.few } else { case.rows } {
                let row = random.vector(&centre, case.spread);
                let likeness = random.vector(&likeness_centre, case.spread);
                match i % case.labelled {
                    0 => builder.push_image(&name, 0, &row).unwrap(),
                    _ => builder.push_unlabelled_image(&name, 0, &row).unwrap(),
                }
                builder.push_likeness(&likeness).unwrap();
                let (query, likeness) = match i % 5 {
                    0 => (row, likeness),
                    1 => (random.vector(&common, 2.0), random.vector(&common_likeness, 2.0)),
                    _ => (random.vector(&centre, case.spread), random.vector(&likeness_centre, case.spread)),
                };
                if i < 10 {
                    queries.push_image("", 0, &query).unwrap();
                    queries.push_likeness(&likeness).unwrap();
                }
            }
        }
        let queries = queries.finish().unwrap();
        let queries = OwnedQueries {
            features: queries.features().to_owned(),
            likeness: Some(queries.likeness().to_owned()),
        };
        (builder.finish().unwrap(), queries)
    }

    /// Compares what bounds find with the logits; returns how many they find.
    fn check(method: &impl Bounded, queries: Queries, case: &str) -> usize {
        let expected = best_of(method, queries);
        let rows = method.composition().support_set.len();
        let by_bounds = found_of_block(method, method.bounds().unwrap(), queries, rows);
        for (found, expected) in by_bounds.iter().zip(&expected) {
            assert!(found.is_none_or(|found| found == *expected), "{case}");
        }
        assert_eq!(method.best(queries), expected, "{case}");
        by_bounds.iter().flatten().count()
    }

    #[test]
    fn the_best_category_is_that_of_all_logits() {
        let start = ClassifierParams::START;
        let params = [
            start,
            ClassifierParams { alpha: 0.0, ..start },
            ClassifierParams { gamma: 0.0, beta: 20.0, ..start },
            ClassifierParams { alpha: 5.0, beta: 1.0, ..start },
            ClassifierParams { alpha: 0.01, gamma: 3.0, logit_scale: 10.0, ..start },
        ];
        let mut random = Random(7);
        let (mut found, mut asked) = ([0; 3], 0);
        for params in params {
            // Categories that are apart, near each other, and nearly the same.
            let distances = [(0.3, 1.0), (0.5, 0.3), (0.01, 0.01)];
            let distances = if params == start { &distances[..] } else { &distances[..1] };
            let sizes = [(12, 12, 3), (30, 0, 1000), (40, 25, 1), (60, 2, 1000)];
            let sizes = if params == start { &sizes[..] } else { &sizes[..2] };
            for &(rows, few, labelled) in sizes {
                for &(spread, apart) in distances {
                    let case = Case { categories: 12, rows, few, spread, apart, labelled };
                    let (support_set, queries) = make(&case, &mut random);
                    let params = params.check().unwrap();
                    let gated = GatedTipX::fit(support_set.without_likeness(), params);
                    let likeness = Likeness::fit(support_set, params);
                    let case = format!("{rows} {few} {labelled} {spread} {apart}");
                    let by_features = queries.view().without_likeness();
                    found[0] += check(&gated, by_features, &case);
                    found[1] += check(gated.tip_x(), by_features, &format!("tip-x {case}"));
                    found[2] += check(&likeness, queries.view(), &format!("likeness {case}"));
                    asked += queries.view().len();
                }
            }
        }
        // Bounds find some, or the test says nothing.
        for found in found {
            assert!(found > asked / 4, "{found} of {asked}");
        }
    }

    #[test]
    fn few_rows_are_looked_at_where_categories_are_apart() {
        let params = ClassifierParams::START;
        let case = Case { categories: 80, rows: 40, few: 40, spread: 0.35, apart: 0.8, labelled: 1000 };
        let (support_set, queries) = make(&case, &mut Random(3));
        let params = params.check().unwrap();
        let gated = GatedTipX::fit(support_set.without_likeness(), params);
        let likeness = Likeness::fit(support_set, params);
        for together in [1, 80] {
            fn share(method: &impl Bounded, queries: Queries, together: usize) -> f64 {
                let by_bounds = |queries: Queries| found(method, method.bounds().unwrap(), queries);
                let found: Vec<_> = queries.chunks(together).flat_map(by_bounds).collect();
                found.iter().flatten().count() as f64 / found.len() as f64
            }
            let shares = [
                share(&gated, queries.view().without_likeness(), together),
                share(&likeness, queries.view(), together),
            ];
            assert!(shares[0] > 0.7 && shares[1] > 0.6, "{shares:?}");
        }
    }
}
