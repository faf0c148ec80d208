//! A grid search for the most accurate lambda.

use ndarray::Array2;

use super::Likeness;
use crate::classifier::ValidParams;
use crate::interrupt;
use crate::method::gated_tip_x::{DEFICIT, GateReading};
use crate::queries::Queries;

/// The best lambda, and how many rows are classified correctly with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LikenessTuned {
    /// Weight of the support set relative to the names.
    pub lambda: f32,
    /// Rows that were tried.
    pub rows: u32,
    /// Correct rows with it.
    pub likeness: u32,
}

/// Counts the correctly classified rows for every lambda of a grid.
#[derive(Debug)]
pub struct LikenessGridSearch<'a> {
    fit: &'a Likeness,
    /// The lambda that it was fitted with.
    fitted: f32,
    grid: Vec<f32>,
    correct: Vec<u32>,
    rows: u32,
}

impl<'a> LikenessGridSearch<'a> {
    /// With a fit whose lambda is not 0. Of equally good lambdas the first is taken.
    pub fn new(fit: &'a Likeness, params: ValidParams, grid: Vec<f32>) -> Self {
        let correct = vec![0; grid.len()];
        LikenessGridSearch { fit, fitted: params.lambda, grid, correct, rows: 0 }
    }

    /// The values to try, the starting value first, and a lambda of 0, which leaves the names and their claims.
    pub fn standard() -> Vec<f32> {
        vec![2.0, 3.0, 1.0, 5.0, 0.5, 8.0, 10.0, 16.0, 0.25, 32.0, 0.0]
    }

    /// Adds queries (n) and their true categories, n.
    pub fn add<'q>(&mut self, queries: impl Into<Queries<'q>>, truth: &[usize]) {
        let queries = queries.into();
        let cosines = self.fit.cosines(queries);
        let gates = self.fit.gate.read(cosines.view());
        let (cache, nearest) = self.fit.terms.cache(&self.fit.support_set, queries.likeness());
        let discriminant = self.fit.terms.discriminant(queries.likeness());
        let (cache, discriminant) = self.fit.centred(cache, discriminant);
        self.count(self.fit.zero_shot(cosines), &gates, cache + discriminant, &nearest, truth);
    }

    /// Adds some support rows, each as a query of the fit without it. What they have in common stays as it is, because one
    /// row hardly changes it.
    pub fn leave_out(&mut self, rows: &[usize]) {
        let support_set = &self.fit.support_set;
        let truth: Vec<usize> = rows.iter().map(|&row| support_set.category_of(row)).collect();
        let queries = support_set.queries().select(rows);
        let features = queries.view().features();
        let gates = self.fit.gate.read_without(support_set, &self.fit.worth, features, rows.iter().copied());
        let (support, nearest) = self.fit.support_without(rows);
        self.count(self.fit.zero_shot(self.fit.cosines(queries.view())), &gates, support, &nearest, &truth);
    }

    fn count(
        &mut self,
        mut names: Array2<f32>,
        gates: &[GateReading],
        support: Array2<f32>,
        nearest: &[f32],
        truth: &[usize],
    ) {
        let familiar: Vec<f32> = nearest.iter().map(|&nearest| self.fit.claims.familiar(nearest)).collect();
        names += &self.fit.claims.terms(&familiar);
        self.rows += truth.len() as u32;
        let absent = self.fit.absent.categories();
        for (row, &truth) in truth.iter().enumerate() {
            interrupt::check();
            let gate = gates[row].gate;
            let lent = self.fit.absent.lender(|c| support[(row, c)]).map_or(0.0, |c| support[(row, c)]);
            for (correct, &lambda) in self.correct.iter_mut().zip(&self.grid) {
                let weight = lambda / self.fitted;
                let logit = |c: usize| {
                    let support = match absent.binary_search(&c) {
                        Ok(_) => weight * lent - DEFICIT,
                        Err(_) => weight * support[(row, c)],
                    };
                    names[(row, c)] + gate * support
                };
                // The first of equal ones, as in a ranking.
                let best = (1..names.ncols()).fold((0, logit(0)), |best, c| match logit(c) {
                    found if found > best.1 => (c, found),
                    _ => best,
                });
                *correct += u32::from(best.0 == truth);
            }
        }
    }

    /// Lambda and the number of correct rows, in the order of the grid.
    pub fn counts(&self) -> impl Iterator<Item = (f32, u32)> {
        self.grid.iter().copied().zip(self.correct.iter().copied())
    }

    /// The best lambda; `None` if no row was tried.
    pub fn best(&self) -> Option<LikenessTuned> {
        let best = self.counts().reduce(|best, found| if found.1 > best.1 { found } else { best })?;
        (self.rows > 0).then_some(LikenessTuned { lambda: best.0, rows: self.rows, likeness: best.1 })
    }
}
