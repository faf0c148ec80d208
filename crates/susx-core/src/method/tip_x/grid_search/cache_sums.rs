//! Sums of the cache term for a series of betas.

use crate::linalg::exp;
use crate::method::tip_x::LogitParts;

/// Rows that are processed together: a category's sum takes one vector addition per support row.
pub(super) const LANES: usize = 4;

/// `n/n_c * sum over i in c of exp(-beta (1 - A_i))` of a few rows. For evenly spaced betas, each exponential is the
/// previous one times a constant factor.
#[derive(Debug)]
pub(super) struct CacheSums<'a> {
    parts: &'a LogitParts,
    first: usize,
    /// `A - 1`, M; minus infinity in unused lanes.
    distance: Vec<[f32; LANES]>,
    beta: f32,
    value: Vec<[f32; LANES]>,
    /// Distance between the last two betas.
    width: f32,
    /// What `value` is multiplied by in a step of this width, M.
    factor: Vec<[f32; LANES]>,
    /// Steps since the last exponential; each adds a rounding error.
    steps: usize,
    /// C sums for each row.
    sums: Vec<Vec<f32>>,
}

impl<'a> CacheSums<'a> {
    const MAX_STEPS: usize = 16;

    /// Of the rows `first..first + rows` of the parts; `rows` is at most [`LANES`].
    pub fn new(parts: &'a LogitParts, first: usize, rows: usize) -> Self {
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
            steps: Self::MAX_STEPS,
            sums: vec![vec![0.0; parts.balance.ncols()]; rows],
        }
    }

    /// The sums at a beta: C for each row.
    pub fn at(&mut self, beta: f32) -> &[Vec<f32>] {
        let width = beta - self.beta;
        // Evenly spaced up to the rounding of the betas.
        let is_even = (width - self.width).abs() <= 4.0 * f32::EPSILON * beta;
        let is_step = is_even && self.steps < Self::MAX_STEPS;
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

/// Multiplies the values by their factors; returns the sums of the products.
fn sum_of_products(values: &mut [[f32; LANES]], factors: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sum = [0.0; LANES];
    for (value, factor) in values.iter_mut().zip(factors) {
        let product: [f32; LANES] = std::array::from_fn(|lane| value[lane] * factor[lane]);
        sum = std::array::from_fn(|lane| sum[lane] + product[lane]);
        *value = product;
    }
    sum
}

/// `e^(factor * x)` of every element; 0 for minus infinity, even if the factor is 0.
fn exp_of_multiple(values: &[[f32; LANES]], factor: f32, out: &mut [[f32; LANES]]) {
    for (out, &value) in out.as_flattened_mut().iter_mut().zip(values.as_flattened()) {
        *out = if value == f32::NEG_INFINITY { value } else { factor * value };
    }
    exp(out.as_flattened_mut());
}
