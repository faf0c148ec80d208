//! A grid search for the most accurate lambda and ridge.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::discriminant::{Discriminant, centred};
use super::reliability::{WeightedSupport, ZeroShotSums};
use super::weighting::{RELIABILITY_POWER, lambda_factor};
use crate::interrupt;
use crate::linalg::product;
use crate::queries::Queries;
use crate::sus::SupportSet;

/// The values to try. Of equally good pairs the first is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct GdaGrid {
    /// Weights of the discriminant.
    pub lambda: Vec<f32>,
    /// Ridges of the covariance.
    pub ridge: Vec<f32>,
}

impl GdaGrid {
    /// The starting values first, and a lambda of 0, which is zero-shot CLIP.
    pub fn standard() -> Self {
        GdaGrid {
            lambda: vec![2.0, 3.0, 1.0, 5.0, 0.5, 8.0, 0.25, 16.0, 32.0, 0.0],
            ridge: vec![3.0, 1.0, 10.0, 0.3, 30.0],
        }
    }
}

/// The best pair, and how many rows are classified correctly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GdaTuned {
    /// Weight of the discriminant.
    pub lambda: f32,
    /// Ridge of the covariance.
    pub ridge: f32,
    /// Rows that were tried.
    pub rows: u32,
    /// Correct rows by zero-shot CLIP.
    pub zero_shot: u32,
    /// Correct rows with the best pair.
    pub gda: u32,
}

/// Counts the correctly classified rows for every pair of a grid.
#[derive(Debug)]
pub struct GdaGridSearch<'a> {
    support_set: &'a SupportSet,
    grid: GdaGrid,
    logit_scale: f32,
    /// One per ridge.
    supports: Vec<WeightedSupport>,
    /// One per ridge; `None` if no two categories are separated.
    fits: Vec<Option<Discriminant>>,
    /// Correct rows for each ridge and lambda.
    correct: Vec<u32>,
    zero_shot: u32,
    rows: u32,
}

impl<'a> GdaGridSearch<'a> {
    /// For a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3) for every ridge.
    pub fn new(support_set: &'a SupportSet, logit_scale: f32, grid: GdaGrid) -> Self {
        let zero_shot = ZeroShotSums::of(support_set, logit_scale);
        let of = |&ridge: &f32| WeightedSupport::with(support_set, &zero_shot, logit_scale, ridge.into());
        let supports: Vec<WeightedSupport> = grid.ridge.iter().map(of).collect();
        let fit = |(support, &ridge): (&WeightedSupport, &f32)| {
            Discriminant::calibrated(support_set, &support.sums, support.debias, ridge.into())
        };
        let fits = supports.iter().zip(&grid.ridge).map(fit).collect();
        let correct = vec![0; grid.ridge.len() * grid.lambda.len()];
        GdaGridSearch { support_set, grid, logit_scale, supports, fits, correct, zero_shot: 0, rows: 0 }
    }

    /// Adds queries (n) and their true categories, n. O(n C d) for each ridge.
    pub fn add<'q>(&mut self, queries: impl Into<Queries<'q>>, truth: &[usize]) {
        let queries = queries.into();
        let cosines = self.cosines(queries.features(), truth);
        let queries = queries.likeness().mapv(f64::from);
        for ridge in 0..self.fits.len() {
            let g = self.fits[ridge].as_ref().map(|fit| fit.scaled(queries.view()));
            let reliability = self.supports[ridge].reliability.clone();
            self.count(ridge, &cosines, g, |_, c| reliability[c], truth);
        }
    }

    /// Adds some support rows, each as a query of the discriminant without it, in closed form. O(n d (C + min(M, d)))
    /// for each ridge.
    pub fn leave_out(&mut self, rows: Range<usize>) {
        let truth: Vec<usize> = rows.clone().map(|row| self.support_set.category_of(row)).collect();
        let features = self.support_set.features().slice_move(s![rows.clone(), ..]);
        let cosines = self.cosines(features, &truth);
        let rows: Vec<usize> = rows.collect();
        for ridge in 0..self.fits.len() {
            let support = &self.supports[ridge];
            let without = |(&row, &c): (&usize, &usize)| {
                support.reliability_without(row, c, self.support_set.rows(c).len())
            };
            let own: Vec<f64> = rows.iter().zip(&truth).map(without).collect();
            let all = support.reliability.clone();
            let g = self.fits[ridge].as_ref().map(|fit| fit.without(self.support_set, &support.sums, &rows));
            let reliability = |row: usize, c: usize| if c == truth[row] { own[row] } else { all[c] };
            self.count(ridge, &cosines, g, reliability, &truth);
        }
    }

    /// Counts queries, and those that zero-shot CLIP classifies correctly; returns their cosines to the names, n × C.
    fn cosines(&mut self, queries: ArrayView2<f32>, truth: &[usize]) -> Array2<f64> {
        let cosines = product(queries, self.support_set.zeroshot_weights()).mapv(f64::from);
        self.rows += truth.len() as u32;
        self.zero_shot += correct(&cosines, truth);
        cosines
    }

    /// Counts the correct rows for every lambda with one ridge, whose discriminant in the range of the cosines is `g`
    /// (n × C). `reliability` takes a query and a category.
    fn count(
        &mut self,
        ridge: usize,
        cosines: &Array2<f64>,
        g: Option<Array2<f64>>,
        reliability: impl Fn(usize, usize) -> f64,
        truth: &[usize],
    ) {
        let names = centred(cosines.clone());
        let factor = self.fits[ridge].as_ref().map_or(1.0, |fit| lambda_factor(self.logit_scale, fit.range));
        let mut gated = g.unwrap_or_else(|| names.clone());
        for (row, mut gated) in gated.rows_mut().into_iter().enumerate() {
            interrupt::check();
            let gate = self.supports[ridge].gate;
            let reliability = query_reliability(cosines.row(row), gate, |c| reliability(row, c));
            gated *= factor * reliability.powi(RELIABILITY_POWER);
        }
        let lambdas = self.grid.lambda.len();
        let counts = &mut self.correct[ridge * lambdas..(ridge + 1) * lambdas];
        for (count, &lambda) in counts.iter_mut().zip(&self.grid.lambda) {
            interrupt::check();
            *count += correct(&(&names + &(&gated * f64::from(lambda))), truth);
        }
    }

    /// Lambda, ridge and the number of correct rows of every pair, ordered by ridge.
    pub fn counts(&self) -> impl Iterator<Item = (f32, f32, u32)> {
        let pairs = self
            .grid
            .ridge
            .iter()
            .flat_map(|&ridge| self.grid.lambda.iter().map(move |&lambda| (lambda, ridge)));
        pairs.zip(&self.correct).map(|((lambda, ridge), &correct)| (lambda, ridge, correct))
    }

    /// The pair with the most correct rows; of equal ones the first of the grid. `None` without rows.
    pub fn best(&self) -> Option<GdaTuned> {
        let first = self.counts().reduce(|best, pair| if pair.2 > best.2 { pair } else { best });
        let (lambda, ridge, gda) = first.filter(|_| self.rows > 0)?;
        Some(GdaTuned { lambda, ridge, rows: self.rows, zero_shot: self.zero_shot, gda })
    }
}

/// `r`: mean reliability of the categories that a query may belong to.
fn query_reliability(cosines: ArrayView1<f64>, gate: f64, reliability: impl Fn(usize) -> f64) -> f64 {
    let largest = cosines.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let (mut all, mut reliable) = (0.0, 0.0);
    for (c, cosine) in cosines.iter().enumerate() {
        let share = (gate * (cosine - largest)).exp();
        all += share;
        reliable += share * reliability(c);
    }
    reliable / all
}

/// Number of rows whose true category has the first of the largest scores.
fn correct(scores: &Array2<f64>, truth: &[usize]) -> u32 {
    let first =
        |row: ArrayView1<f64>| (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
    let rows = scores.rows().into_iter().zip(truth);
    rows.map(|(row, &truth)| u32::from(first(row) == truth)).sum()
}
