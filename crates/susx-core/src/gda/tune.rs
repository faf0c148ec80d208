//! The lambda and the ridge that are right most often.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::Params;
use super::discriminant::{Discriminant, centred};
use super::moments::{ByNames, Moments};
use super::params::{POWER, sureness};
use crate::interrupt;
use crate::linalg::product;
use crate::sus::SupportSet;

/// The values to try. Of equally good ones the first are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    pub lambda: Vec<f32>,
    pub ridge: Vec<f32>,
}

impl Grid {
    /// What is worth trying, the starting values first, and 0 for lambda, which is the names alone.
    pub fn standard() -> Self {
        Grid {
            lambda: vec![2.0, 3.0, 1.0, 5.0, 0.5, 8.0, 0.25, 16.0, 32.0, 0.0],
            ridge: vec![3.0, 1.0, 10.0, 0.3, 30.0],
        }
    }
}

/// The best pair and how many rows it and the names get right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    pub params: Params,
    pub rows: u32,
    /// Rows right with lambda 0.
    pub zero_shot: u32,
    /// Rows right with the best pair.
    pub gda: u32,
}

/// Counts, for every pair of a grid, the rows that it gets right.
#[derive(Debug)]
pub struct Search<'a> {
    support_set: &'a SupportSet,
    grid: Grid,
    logit_scale: f32,
    /// One per ridge.
    moments: Vec<Moments>,
    fits: Vec<Option<Discriminant>>,
    /// Per ridge and lambda.
    right: Vec<u32>,
    zero_shot: u32,
    rows: u32,
}

impl<'a> Search<'a> {
    /// On a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3) for every ridge.
    pub fn new(support_set: &'a SupportSet, logit_scale: f32, grid: Grid) -> Self {
        let by_names = ByNames::of(support_set, logit_scale);
        let of = |&ridge: &f32| Moments::with(support_set, &by_names, logit_scale, ridge.into());
        let moments: Vec<Moments> = grid.ridge.iter().map(of).collect();
        let fit = |(moments, &ridge): (&Moments, &f32)| Discriminant::fit(support_set, moments, ridge.into());
        let fits = moments.iter().zip(&grid.ridge).map(fit).collect();
        let right = vec![0; grid.ridge.len() * grid.lambda.len()];
        Search { support_set, grid, logit_scale, moments, fits, right, zero_shot: 0, rows: 0 }
    }

    /// Adds unit queries (n x d) and the categories that would be right, n. O(n C d) for every ridge.
    pub fn add(&mut self, queries: ArrayView2<f32>, truth: &[usize]) {
        let cosines = self.cosines(queries, truth);
        let queries = queries.mapv(f64::from);
        for place in 0..self.fits.len() {
            let g = self.fits[place].as_ref().map(|fit| fit.scaled(queries.view()));
            let reliability = self.moments[place].reliability.clone();
            self.count(place, &cosines, g, |_, c| reliability[c], truth);
        }
    }

    /// Adds some support rows, each as a query of the discriminant without it, in closed form. O(n d (C +
    /// min(M, d))) for every ridge.
    pub fn leave_out(&mut self, rows: Range<usize>) {
        let truth: Vec<usize> = rows.clone().map(|row| self.support_set.category_of(row)).collect();
        let features = self.support_set.features().slice_move(s![rows.clone(), ..]);
        let cosines = self.cosines(features, &truth);
        let rows: Vec<usize> = rows.collect();
        for place in 0..self.fits.len() {
            let moments = &self.moments[place];
            let without = |(&row, &c): (&usize, &usize)| {
                moments.reliability_without(row, c, self.support_set.rows(c).len())
            };
            let own: Vec<f64> = rows.iter().zip(&truth).map(without).collect();
            let all = moments.reliability.clone();
            let g = self.fits[place].as_ref().map(|fit| fit.without(self.support_set, &moments.sums, &rows));
            let reliability = |row: usize, c: usize| if c == truth[row] { own[row] } else { all[c] };
            self.count(place, &cosines, g, reliability, &truth);
        }
    }

    /// The cosines of queries to the names (n x C), which are counted.
    fn cosines(&mut self, queries: ArrayView2<f32>, truth: &[usize]) -> Array2<f64> {
        let cosines = product(queries, self.support_set.zeroshot_weights()).mapv(f64::from);
        self.rows += truth.len() as u32;
        self.zero_shot += right(&cosines, truth);
        cosines
    }

    /// Counts what is right with a ridge, whose discriminant in the range of the cosines is `g` (n x C), for
    /// every lambda. `reliability` is that of a category for a query.
    fn count(
        &mut self,
        ridge: usize,
        cosines: &Array2<f64>,
        g: Option<Array2<f64>>,
        reliability: impl Fn(usize, usize) -> f64,
        truth: &[usize],
    ) {
        let names = centred(cosines.clone());
        let sureness = self.fits[ridge].as_ref().map_or(1.0, |fit| sureness(self.logit_scale, fit.range));
        let mut gated = g.unwrap_or_else(|| names.clone());
        for (row, mut gated) in gated.rows_mut().into_iter().enumerate() {
            interrupt::check();
            let trust = trust(cosines.row(row), self.moments[ridge].gate, |c| reliability(row, c));
            gated *= sureness * trust.powi(POWER);
        }
        let lambdas = self.grid.lambda.len();
        let counts = &mut self.right[ridge * lambdas..(ridge + 1) * lambdas];
        for (count, &lambda) in counts.iter_mut().zip(&self.grid.lambda) {
            interrupt::check();
            *count += right(&(&names + &(&gated * f64::from(lambda))), truth);
        }
    }

    /// Every pair of the grid, ridge by ridge: the pair, and the rows that are right with it.
    pub fn counts(&self) -> impl Iterator<Item = (Params, u32)> {
        let pairs = self
            .grid
            .ridge
            .iter()
            .flat_map(|&ridge| self.grid.lambda.iter().map(move |&lambda| Params { lambda, ridge }));
        pairs.zip(self.right.iter().copied())
    }

    /// The pair with the most rows right, of equal ones the first of the grid. `None` without rows.
    pub fn best(&self) -> Option<Tuned> {
        let first = self.counts().reduce(|best, pair| if pair.1 > best.1 { pair } else { best });
        let (params, gda) = first.filter(|_| self.rows > 0)?;
        Some(Tuned { params, rows: self.rows, zero_shot: self.zero_shot, gda })
    }
}

/// `r`: the mean reliability of the categories that a query may be of.
fn trust(cosines: ArrayView1<f64>, gate: f64, reliability: impl Fn(usize) -> f64) -> f64 {
    let largest = cosines.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let (mut all, mut trusted) = (0.0, 0.0);
    for (c, cosine) in cosines.iter().enumerate() {
        let share = (gate * (cosine - largest)).exp();
        all += share;
        trusted += share * reliability(c);
    }
    trusted / all
}

/// How many rows have the first of their largest scores where the truth is.
fn right(scores: &Array2<f64>, truth: &[usize]) -> u32 {
    let first =
        |row: ArrayView1<f64>| (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
    let rows = scores.rows().into_iter().zip(truth);
    rows.map(|(row, &truth)| u32::from(first(row) == truth)).sum()
}
