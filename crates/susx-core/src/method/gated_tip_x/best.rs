//! The best category of a query, where nothing else of the answer is asked for.
//!
//! Nearly all of the work of a logit is the cache of its category. But a category that cannot win needs none: the other terms
//! of its logit are known from the category alone, and so is how large its [cache can be](CacheBounds). So categories are taken
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

use ndarray::{ArrayView1, ArrayView2, s};

use super::absent::DEFICIT;
use super::{GateReading, GatedTipX};
use crate::interrupt;
use crate::method::first_of_largest;
use crate::method::tip_adapter::{CacheBounds, sum_of_category};
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
/// Rows of a category on average, below which bounds are not worth their costs.
const LEAST_ROWS: usize = 8;

/// A query, and what is known of it.
#[derive(Debug)]
struct Search<'a> {
    gated: &'a GatedTipX,
    /// By its likeness, 1 × e.
    query: ArrayView2<'a, f32>,
    gate: f32,
    /// `logit_scale * s_c`, C.
    zero_shot: Vec<f32>,
    /// The KL term before the gate, C.
    kl: ArrayView1<'a, f32>,
    /// What a present category's cache and KL term can be together, before the gate, C.
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

impl GatedTipX {
    /// The bounds for a support set that is worth them.
    pub(super) fn bounds_of(support_set: &SupportSet) -> Option<CacheBounds> {
        let is_worth_it = support_set.len() >= LEAST_ROWS * support_set.categories().len();
        is_worth_it.then(|| CacheBounds::of(support_set))
    }

    /// The best category of each query, or `None` where only the logits of all categories tell. Where that is so for many, the
    /// rest is not tried.
    pub(super) fn best_by_bounds(&self, bounds: &CacheBounds, queries: Queries) -> Vec<Option<usize>> {
        let share = if queries.len() < MANY { MOST_ROWS } else { MOST_ROWS_OF_MANY };
        let most_rows = (self.support_set().len() as f64 * share) as usize;
        let mut found = Vec::with_capacity(queries.len());
        for block in queries.chunks(MANY) {
            found.extend(self.best_of_block(bounds, block, most_rows));
            let of_block = &found[found.len() - block.len()..];
            if 2 * of_block.iter().flatten().count() < block.len() {
                break;
            }
        }
        found.resize(queries.len(), None);
        found
    }

    /// The same for a few queries, for each of which so many support rows may be looked at.
    fn best_of_block(&self, bounds: &CacheBounds, queries: Queries, most_rows: usize) -> Vec<Option<usize>> {
        let (cosines, params) = (self.support_set().cosines(queries.features()), self.tip_x.params());
        let gates = self.gate.read(cosines.view());
        let kl = self.tip_x.kl_term_or_zeros(cosines.view());
        let means = bounds.means(queries.likeness());
        let most_cache = params.alpha * self.tip_x.mean_count();
        let best = |(i, GateReading { gate, .. }): (usize, &GateReading)| {
            interrupt::check();
            let (kl, means) = (kl.row(i), means.row(i));
            let most_of = |(c, (&mean, &kl)): (usize, (&f32, &f32))| {
                most_cache * bounds.most(c, mean, params.beta) + kl
            };
            let search = Search {
                gated: self,
                query: queries.likeness().slice_move(s![i..i + 1, ..]),
                gate: *gate,
                zero_shot: cosines.row(i).iter().map(|cosine| cosine * params.logit_scale).collect(),
                most_gain: means.iter().zip(kl).enumerate().map(most_of).collect(),
                kl,
                cache: vec![None; kl.len()],
                nearest: f32::NEG_INFINITY,
                rows_left: most_rows,
            };
            search.best()
        };
        gates.iter().enumerate().map(best).collect()
    }
}

impl Search<'_> {
    fn best(mut self) -> Option<usize> {
        if self.gate == 0.0 && self.gated.claims.is_empty() {
            return first_of_largest(self.zero_shot.iter().copied().enumerate());
        }
        self.look().ok()?;
        let logits = self.known_logits();
        let with_claims = |familiar: f32| -> Vec<(usize, f32)> {
            logits.iter().map(|&(c, logit)| (c, logit + self.gated.claims.term(c, familiar))).collect()
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
        (least == most || self.gated.claims.is_empty() || ends.iter().all(leads)).then_some(best)
    }

    /// Looks at all present categories that may win, and at all that may gain most if there are absent ones.
    fn look(&mut self) -> Result<(), TooMany> {
        let mut by_gain: Vec<usize> = Vec::new();
        let mut by_logit: Vec<usize> =
            (0..self.kl.len()).filter(|&c| self.gated.absent.is_present(c)).collect();
        if !self.gated.absent.categories().is_empty() {
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
            gained = gained.max(self.cache(c)? + self.kl[c] - self.rounding(c));
        }
        let mut reached = f32::NEG_INFINITY;
        if let Some(lender) = self.lender() {
            for &c in self.gated.absent.categories() {
                reached =
                    reached.max(self.lent(c, lender) - self.rounding(c) + self.gated.claims.term(c, 1.0));
            }
        }
        let most: Vec<f32> =
            (0..self.kl.len()).map(|c| self.zero_shot[c] + self.gate * self.most_gain[c]).collect();
        by_logit.sort_unstable_by(|&i, &j| most[j].total_cmp(&most[i]));
        for (tried, &c) in by_logit.iter().enumerate() {
            let (least_familiar, most_familiar) = self.familiar();
            // Sorted by what is largest without any claim.
            if most[c] + self.rounding(c) < reached {
                break;
            }
            if most[c] + self.gated.claims.term(c, least_familiar) + self.rounding(c) < reached {
                continue;
            }
            if tried == TRIED {
                self.check(by_logit[tried..].iter().filter(|&&c| most[c] + self.rounding(c) >= reached))?;
            }
            let cache = self.cache(c)?;
            let logit = self.logit(c, cache, self.kl[c]) + self.gated.claims.term(c, most_familiar);
            reached = reached.max(logit - self.rounding(c));
        }
        Ok(())
    }

    /// An error if these categories have more rows than may be looked at.
    fn check<'a>(&self, categories: impl Iterator<Item = &'a usize>) -> Result<(), TooMany> {
        let unseen = categories.filter(|&&c| self.cache[c].is_none());
        let rows: usize = unseen.map(|&c| self.gated.support_set().rows(c).len()).sum();
        if rows > self.rows_left { Err(TooMany) } else { Ok(()) }
    }

    /// The cache of a category, whose rows are looked at unless they have been.
    fn cache(&mut self, c: usize) -> Result<f32, TooMany> {
        if let Some(cache) = self.cache[c] {
            return Ok(cache);
        }
        let support_set = self.gated.support_set();
        self.rows_left = self.rows_left.checked_sub(support_set.rows(c).len()).ok_or(TooMany)?;
        let (sum, nearest) = sum_of_category(support_set, self.gated.tip_x.params().beta, self.query, c);
        let cache = self.gated.tip_x.cache_of_sum(c, sum);
        self.nearest = self.nearest.max(nearest);
        self.cache[c] = Some(cache);
        Ok(cache)
    }

    /// The logits of all categories that were looked at, and of the absent ones, before the claims.
    fn known_logits(&self) -> Vec<(usize, f32)> {
        let lender = self.lender();
        let logit = |c: usize| match self.gated.absent.is_present(c) {
            true => Some((c, self.logit(c, self.cache[c]?, self.kl[c]))),
            false => Some((c, self.lent(c, lender?))),
        };
        (0..self.kl.len()).filter_map(logit).collect()
    }

    fn logit(&self, c: usize, cache: f32, kl: f32) -> f32 {
        self.zero_shot[c] + cache * self.gate + kl * self.gate
    }

    /// The logit of an absent category, which has the support terms of another one.
    fn lent(&self, c: usize, lender: usize) -> f32 {
        self.logit(c, self.cache[lender].unwrap_or(0.0) - DEFICIT, self.kl[lender])
    }

    /// The present category that gains most, if there are absent ones.
    fn lender(&self) -> Option<usize> {
        let gain = |c: usize| self.cache[c].map_or(f32::NEG_INFINITY, |cache| cache + self.kl[c]);
        if self.gated.absent.categories().is_empty() { None } else { self.gated.absent.lender(gain) }
    }

    /// Between what `h` is, given the nearest row that was looked at.
    fn familiar(&self) -> (f32, f32) {
        (self.gated.claims.familiar(self.nearest), self.gated.claims.familiar(f32::INFINITY))
    }

    /// How far a logit of the category may be rounded.
    fn rounding(&self, c: usize) -> f32 {
        ROUNDING
            * (self.zero_shot[c].abs() + self.gate * (self.most_gain[c].abs() + 2.0 * self.kl[c].abs()) + 5.0)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::classifier::ClassifierParams;
    use crate::method::{FittedMethod, best_of};
    use crate::sus::SupportSetBuilder;

    const DIMENSIONS: usize = 32;

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
        params: ClassifierParams,
    }

    /// A fit, and queries: support rows, others like them, and some that are like nothing.
    fn fit(case: &Case, random: &mut Random) -> (GatedTipX, Array2<f32>) {
        let common = random.vector(&[0.0; DIMENSIONS], 1.0);
        let mut builder = SupportSetBuilder::new(DIMENSIONS);
        let mut queries = SupportSetBuilder::new(DIMENSIONS);
        queries.push_prompt("", &common).unwrap();
        for c in 0..case.categories {
            let (name, centre) = (c.to_string(), random.vector(&common, case.apart));
            builder.push_prompt(&name, &random.vector(&centre, case.spread)).unwrap();
            for i in 0..if c % 4 == 3 { case.few } else { case.rows } {
                let row = random.vector(&centre, case.spread);
                match i % case.labelled {
                    0 => builder.push_image(&name, 0, &row).unwrap(),
                    _ => builder.push_unlabelled_image(&name, 0, &row).unwrap(),
                }
                let query = match i % 5 {
                    0 => row,
                    1 => random.vector(&common, 2.0),
                    _ => random.vector(&centre, case.spread),
                };
                if i < 10 {
                    queries.push_image("", 0, &query).unwrap();
                }
            }
        }
        let params = case.params.check().unwrap();
        let fitted = GatedTipX::fit(builder.finish().unwrap(), params);
        (fitted, queries.finish().unwrap().features().to_owned())
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
        let (mut found, mut asked) = (0, 0);
        for params in params {
            // Categories that are apart, near each other, and nearly the same.
            let distances = [(0.3, 1.0), (0.5, 0.3), (0.01, 0.01)];
            let distances = if params == start { &distances[..] } else { &distances[..1] };
            for (rows, few, labelled) in [(12, 12, 3), (30, 0, 1000), (40, 25, 1), (60, 2, 1000)] {
                for &(spread, apart) in distances {
                    let case = Case { categories: 12, rows, few, spread, apart, labelled, params };
                    let (gated, queries) = fit(&case, &mut random);
                    let queries = Queries::new(queries.view());
                    let expected = best_of(&gated, queries);
                    let bounds = gated.bounds.clone().unwrap();
                    let by_bounds = gated.best_of_block(&bounds, queries, gated.support_set().len());
                    for (found, expected) in by_bounds.iter().zip(&expected) {
                        assert!(
                            found.is_none_or(|found| found == *expected),
                            "{rows} {few} {labelled} {spread} {apart}"
                        );
                    }
                    assert_eq!(gated.best(queries), expected);
                    found += by_bounds.iter().flatten().count();
                    asked += expected.len();
                }
            }
        }
        // Bounds find some, or the test says nothing.
        assert!(found > asked / 4, "{found} of {asked}");
    }

    #[test]
    fn few_rows_are_looked_at_where_categories_are_apart() {
        let params = ClassifierParams::START;
        let case =
            Case { categories: 200, rows: 60, few: 60, spread: 0.35, apart: 0.8, labelled: 1000, params };
        let (gated, queries) = fit(&case, &mut Random(3));
        for together in [1, 200] {
            let by_bounds = |queries: Queries| gated.best_by_bounds(&gated.bounds.clone().unwrap(), queries);
            let found: Vec<_> = Queries::new(queries.view()).chunks(together).flat_map(by_bounds).collect();
            let share = found.iter().flatten().count() as f64 / found.len() as f64;
            assert!(share > 0.7, "{share}");
        }
    }
}
