//! The best category of a query, where nothing else of the answer is asked for.
//!
//! Nearly all of the work of a logit is the cache of its category. But a category that cannot win needs none: the other terms
//! of its logit are known from the category alone, and so is how large its [cache can be](super::tip_adapter::CacheBounds). So categories are taken
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

use super::gated_tip_x::{Claims, Gate};
use super::tip_adapter::{Lending, sum_of_category};
use super::tip_x::TipX;
use super::{FittedMethod, best_of, first_of_largest};
use crate::interrupt;
use crate::queries::Queries;

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

/// What decides the best category, by a method whose logits are `logit_scale * s_c`, the support terms of TIP-X times a gate, and
/// what claimed names lose.
#[derive(Clone, Copy, Debug)]
pub(super) struct BestByBounds<'a> {
    pub tip_x: &'a TipX,
    /// `None` if it is 1 for all queries.
    pub gate: Option<&'a Gate>,
    /// To the absent categories, and how far their terms are below those that they get.
    pub lending: &'a Lending,
    pub deficit: f32,
    pub claims: Option<&'a Claims>,
}

/// A query, and what is known of it.
#[derive(Debug)]
struct Search<'a> {
    by: BestByBounds<'a>,
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

impl BestByBounds<'_> {
    /// The best category of each query by a method that these parts decide: by bounds where these tell, else by all logits.
    pub fn of(self, method: &impl FittedMethod, queries: Queries) -> Vec<usize> {
        if self.tip_x.bounds().is_none() {
            return best_of(method, queries);
        }
        let found = self.found(queries);
        let open: Vec<usize> = (0..found.len()).filter(|&i| found[i].is_none()).collect();
        let mut of_open = match open.is_empty() {
            true => Vec::new(),
            false => best_of(method, queries.select(&open).view()),
        }
        .into_iter();
        found.into_iter().filter_map(|best| best.or_else(|| of_open.next())).collect()
    }

    /// The best category of each query, or `None` where only the logits of all categories tell. Where that is so for many, the
    /// rest is not tried.
    fn found(self, queries: Queries) -> Vec<Option<usize>> {
        let share = if queries.len() < MANY { MOST_ROWS } else { MOST_ROWS_OF_MANY };
        let most_rows = (self.tip_x.support_set().len() as f64 * share) as usize;
        let mut found = Vec::with_capacity(queries.len());
        for block in queries.chunks(MANY) {
            found.extend(self.found_of_block(block, most_rows));
            let of_block = &found[found.len() - block.len()..];
            if 2 * of_block.iter().flatten().count() < block.len() {
                break;
            }
        }
        found.resize(queries.len(), None);
        found
    }

    /// The same for a few queries, for each of which so many support rows may be looked at.
    fn found_of_block(self, queries: Queries, most_rows: usize) -> Vec<Option<usize>> {
        let Some(bounds) = self.tip_x.bounds() else { return vec![None; queries.len()] };
        let cosines = self.tip_x.support_set().cosines(queries.features());
        let gates = match self.gate {
            Some(gate) => gate.read(cosines.view()).iter().map(|reading| reading.gate).collect(),
            None => vec![1.0; queries.len()],
        };
        let kl = self.tip_x.kl_term_or_zeros(cosines.view());
        let means = bounds.means(queries.likeness());
        let params = self.tip_x.params();
        let most_cache = params.alpha * self.tip_x.mean_count();
        let best = |(i, gate): (usize, f32)| {
            interrupt::check();
            let (kl, means) = (kl.row(i), means.row(i));
            let most_of = |(c, (&mean, &kl)): (usize, (&f32, &f32))| {
                most_cache * bounds.most(c, mean, params.beta) + kl
            };
            let search = Search {
                by: self,
                query: queries.likeness().slice_move(s![i..i + 1, ..]),
                gate,
                zero_shot: cosines.row(i).iter().map(|cosine| cosine * params.logit_scale).collect(),
                most_gain: means.iter().zip(kl).enumerate().map(most_of).collect(),
                kl,
                cache: vec![None; kl.len()],
                nearest: f32::NEG_INFINITY,
                rows_left: most_rows,
            };
            search.best()
        };
        gates.into_iter().enumerate().map(best).collect()
    }

    /// Whether no name loses anything.
    fn claims_nothing(self) -> bool {
        self.claims.is_none_or(Claims::is_empty)
    }

    /// What a category loses where the query is so familiar.
    fn claim(self, category: usize, familiar: f32) -> f32 {
        self.claims.map_or(0.0, |claims| claims.term(category, familiar))
    }

    fn is_present(self, category: usize) -> bool {
        self.lending.borrowers().binary_search(&category).is_err()
    }
}

impl Search<'_> {
    fn best(mut self) -> Option<usize> {
        if self.gate == 0.0 && self.by.claims_nothing() {
            return first_of_largest(self.zero_shot.iter().copied().enumerate());
        }
        self.look().ok()?;
        let logits = self.known_logits();
        let with_claims = |familiar: f32| -> Vec<(usize, f32)> {
            logits.iter().map(|&(c, logit)| (c, logit + self.by.claim(c, familiar))).collect()
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
        (least == most || self.by.claims_nothing() || ends.iter().all(leads)).then_some(best)
    }

    /// Looks at all present categories that may win, and at all that may gain most if there are absent ones.
    fn look(&mut self) -> Result<(), TooMany> {
        let mut by_gain: Vec<usize> = Vec::new();
        let mut by_logit: Vec<usize> = (0..self.kl.len()).filter(|&c| self.by.is_present(c)).collect();
        if !self.by.lending.borrowers().is_empty() {
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
            for &c in self.by.lending.borrowers() {
                reached = reached.max(self.lent(c, lender) - self.rounding(c) + self.by.claim(c, 1.0));
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
            if most[c] + self.by.claim(c, least_familiar) + self.rounding(c) < reached {
                continue;
            }
            if tried == TRIED {
                self.check(by_logit[tried..].iter().filter(|&&c| most[c] + self.rounding(c) >= reached))?;
            }
            let cache = self.cache(c)?;
            let logit = self.logit(c, cache, self.kl[c]) + self.by.claim(c, most_familiar);
            reached = reached.max(logit - self.rounding(c));
        }
        Ok(())
    }

    /// An error if these categories have more rows than may be looked at.
    fn check<'a>(&self, categories: impl Iterator<Item = &'a usize>) -> Result<(), TooMany> {
        let unseen = categories.filter(|&&c| self.cache[c].is_none());
        let rows: usize = unseen.map(|&c| self.by.tip_x.support_set().rows(c).len()).sum();
        if rows > self.rows_left { Err(TooMany) } else { Ok(()) }
    }

    /// The cache of a category, whose rows are looked at unless they have been.
    fn cache(&mut self, c: usize) -> Result<f32, TooMany> {
        if let Some(cache) = self.cache[c] {
            return Ok(cache);
        }
        let support_set = self.by.tip_x.support_set();
        self.rows_left = self.rows_left.checked_sub(support_set.rows(c).len()).ok_or(TooMany)?;
        let (sum, nearest) = sum_of_category(support_set, self.by.tip_x.params().beta, self.query, c);
        let cache = self.by.tip_x.cache_of_sum(c, sum);
        self.nearest = self.nearest.max(nearest);
        self.cache[c] = Some(cache);
        Ok(cache)
    }

    /// The logits of all categories that were looked at, and of the absent ones, before the claims.
    fn known_logits(&self) -> Vec<(usize, f32)> {
        let lender = self.lender();
        let logit = |c: usize| match self.by.is_present(c) {
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
        self.logit(c, self.cache[lender].unwrap_or(0.0) - self.by.deficit, self.kl[lender])
    }

    /// The present category that gains most, if there are absent ones.
    fn lender(&self) -> Option<usize> {
        let gain = |c: usize| self.cache[c].map_or(f32::NEG_INFINITY, |cache| cache + self.kl[c]);
        if self.by.lending.borrowers().is_empty() { None } else { self.by.lending.lender(gain) }
    }

    /// Between what `h` is, given the nearest row that was looked at.
    fn familiar(&self) -> (f32, f32) {
        let of = |nearest: f32| self.by.claims.map_or(0.0, |claims| claims.familiar(nearest));
        (of(self.nearest), of(f32::INFINITY))
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
    use crate::method::gated_tip_x::GatedTipX;
    use crate::sus::{SupportSet, SupportSetBuilder};

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
    }

    /// A support set, and queries: support rows, others like them, and some that are like nothing.
    fn make(case: &Case, random: &mut Random) -> (SupportSet, Array2<f32>) {
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
        (builder.finish().unwrap(), queries.finish().unwrap().features().to_owned())
    }

    /// Compares what bounds find with the logits; returns how many they find.
    fn check(method: &impl FittedMethod, by: BestByBounds, queries: Queries, case: &str) -> usize {
        let expected = best_of(method, queries);
        let by_bounds = by.found_of_block(queries, by.tip_x.support_set().len());
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
        let (mut found, mut found_by_tip_x, mut asked) = (0, 0, 0);
        for params in params {
            // Categories that are apart, near each other, and nearly the same.
            let distances = [(0.3, 1.0), (0.5, 0.3), (0.01, 0.01)];
            let distances = if params == start { &distances[..] } else { &distances[..1] };
            for (rows, few, labelled) in [(12, 12, 3), (30, 0, 1000), (40, 25, 1), (60, 2, 1000)] {
                for &(spread, apart) in distances {
                    let case = Case { categories: 12, rows, few, spread, apart, labelled };
                    let (support_set, queries) = make(&case, &mut random);
                    let gated = GatedTipX::fit(support_set, params.check().unwrap());
                    let queries = Queries::new(queries.view());
                    let case = format!("{rows} {few} {labelled} {spread} {apart}");
                    found += check(&gated, gated.by_bounds(), queries, &case);
                    found_by_tip_x +=
                        check(gated.tip_x(), gated.tip_x().by_bounds(), queries, &format!("tip-x {case}"));
                    asked += queries.len();
                }
            }
        }
        // Bounds find some, or the test says nothing.
        for found in [found, found_by_tip_x] {
            assert!(found > asked / 4, "{found} of {asked}");
        }
    }

    #[test]
    fn few_rows_are_looked_at_where_categories_are_apart() {
        let params = ClassifierParams::START;
        let case = Case { categories: 200, rows: 60, few: 60, spread: 0.35, apart: 0.8, labelled: 1000 };
        let (support_set, queries) = make(&case, &mut Random(3));
        let gated = GatedTipX::fit(support_set, params.check().unwrap());
        for together in [1, 200] {
            let by_bounds = |queries: Queries| gated.by_bounds().found(queries);
            let found: Vec<_> = Queries::new(queries.view()).chunks(together).flat_map(by_bounds).collect();
            let share = found.iter().flatten().count() as f64 / found.len() as f64;
            assert!(share > 0.7, "{share}");
        }
    }
}
