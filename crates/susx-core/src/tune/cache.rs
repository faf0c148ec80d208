//! The sums of the cache term for one beta after the other.

use crate::linalg::exp;
use crate::tip_x::Parts;

/// Rows that are looked at together: a category's sum is one vector addition per support row.
pub(super) const LANES: usize = 4;

/// `n/n_c * sum over i in c of exp(-beta (1 - A_i))` of a few rows. Of evenly spaced betas each exponential
/// is the last one times the same factor.
#[derive(Debug)]
pub(super) struct CacheSums<'a> {
    parts: &'a Parts,
    first: usize,
    /// `A - 1`, M; minus infinity in the lanes of no row.
    distance: Vec<[f32; LANES]>,
    beta: f32,
    value: Vec<[f32; LANES]>,
    /// What a step of this width multiplies `value` with, M.
    width: f32,
    factor: Vec<[f32; LANES]>,
    /// Steps since the last exponential: each costs a rounding.
    steps: usize,
    /// One list of C per row.
    sums: Vec<Vec<f32>>,
}

impl<'a> CacheSums<'a> {
    const MOST_STEPS: usize = 16;

    /// The rows `first..first + rows` of the parts, [`LANES`] at most.
    pub fn new(parts: &'a Parts, first: usize, rows: usize) -> Self {
        let support = parts.affinities.ncols();
        let mut distance = vec![[f32::NEG_INFINITY; LANES]; support];
        for lane in 0..rows {
            for (out, affinity) in distance.iter_mut().zip(parts.affinities.row(first + lane)) {
                out[lane] = affinity - 1.0;
            }
        }
        CacheSums {
            parts,
            first,
            distance,
            beta: 0.0,
            value: vec![[1.0; LANES]; support],
            width: 0.0,
            factor: vec![[1.0; LANES]; support],
            steps: Self::MOST_STEPS,
            sums: vec![vec![0.0; parts.balance.ncols()]; rows],
        }
    }

    /// One list of C per row.
    pub fn at(&mut self, beta: f32) -> &[Vec<f32>] {
        let width = beta - self.beta;
        // Evenly spaced but for the last digits of the betas themselves.
        let is_even = (width - self.width).abs() <= 4.0 * f32::EPSILON * beta;
        let is_step = is_even && self.steps < Self::MOST_STEPS;
        if is_step {
            self.steps += 1;
        } else {
            exp_of_multiple(&self.distance, beta, &mut self.value);
            if !is_even {
                exp_of_multiple(&self.distance, width, &mut self.factor);
                self.width = width;
            }
            self.steps = 0;
        }
        self.beta = beta;
        for (c, own) in self.parts.offsets.windows(2).enumerate() {
            let (values, factors) = (&mut self.value[own[0]..own[1]], &self.factor[own[0]..own[1]]);
            let sum = if is_step { sum_of_products(values, factors) } else { sum(values) };
            for (lane, (sums, sum)) in self.sums.iter_mut().zip(sum).enumerate() {
                sums[c] = sum * self.parts.balance[(self.first + lane, c)];
            }
        }
        &self.sums
    }
}

fn sum(values: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sum = [0.0; LANES];
    for value in values {
        (0..LANES).for_each(|lane| sum[lane] += value[lane]);
    }
    sum
}

/// As [`sum`], of what the values become by their factors.
fn sum_of_products(values: &mut [[f32; LANES]], factors: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sum = [0.0; LANES];
    for (value, factor) in values.iter_mut().zip(factors) {
        let product: [f32; LANES] = std::array::from_fn(|lane| value[lane] * factor[lane]);
        sum = std::array::from_fn(|lane| sum[lane] + product[lane]);
        *value = product;
    }
    sum
}

/// `e^(factor * x)` of every element, 0 of minus infinity whatever the factor.
fn exp_of_multiple(values: &[[f32; LANES]], factor: f32, out: &mut [[f32; LANES]]) {
    for (out, &value) in out.as_flattened_mut().iter_mut().zip(values.as_flattened()) {
        *out = if value == f32::NEG_INFINITY { value } else { factor * value };
    }
    exp(out.as_flattened_mut());
}
