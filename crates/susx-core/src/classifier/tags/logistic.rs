//! Logistic regression of two readings.

use nalgebra::{Matrix3, Vector3};
use ndarray::{Array2, Zip};

use crate::interrupt;

/// Half of this times the square of each weight is added to the mean loss, so that weights stay finite if readings
/// separate what is shown from what is not.
const PENALTY: f64 = 1e-3;
/// Newton's method needs about ten steps.
const STEPS: usize = 50;
/// A step that makes nothing better is halved this often.
const HALVINGS: usize = 20;
/// Where a step gains less, the fit is done.
const ENOUGH: f64 = 1e-12;

/// The logarithm of the odds is linear in what the names and the looks say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logistic {
    of_name: f64,
    of_look: f64,
    constant: f64,
}

impl Logistic {
    /// By the names alone: even odds at the threshold.
    pub fn of_names(slope: f64, threshold: f64) -> Self {
        Logistic { of_name: slope, of_look: 0.0, constant: -slope * threshold }
    }

    /// Sure of everything.
    pub fn certain() -> Self {
        Logistic { constant: f64::INFINITY, ..Self::default() }
    }

    /// The weights under which pictures (N × C) show what they do, categories by picture. Without looks, these say what the
    /// names do.
    pub fn fit(names: &Array2<f64>, looks: Option<&Array2<f64>>, shows: &[Vec<usize>]) -> Self {
        let looks = looks.unwrap_or(names);
        let mut truth = Array2::from_elem(names.dim(), false);
        for (categories, mut row) in shows.iter().zip(truth.rows_mut()) {
            for &category in categories {
                row[category] = true;
            }
        }
        let mut weights = Vector3::zeros();
        let mut here = Loss::at(weights, names, looks, &truth);
        for _ in 0..STEPS {
            let Some(mut step) = here.curvature.lu().solve(&here.slope) else { break };
            let mut next = None;
            for _ in 0..HALVINGS {
                let there = Loss::at(weights - step, names, looks, &truth);
                if there.value <= here.value {
                    next = Some(there);
                    break;
                }
                step /= 2.0;
            }
            let Some(there) = next else { break };
            let gain = here.value - there.value;
            (weights, here) = (weights - step, there);
            if gain < ENOUGH {
                break;
            }
        }
        Logistic { of_name: weights.x, of_look: weights.y, constant: weights.z }
    }

    /// The logarithms of the odds, N × C.
    pub fn log_odds(&self, names: Array2<f64>, looks: Option<&Array2<f64>>) -> Array2<f64> {
        let Logistic { of_name, of_look, constant } = *self;
        match looks {
            None => names.mapv_into(|name| (of_name + of_look) * name + constant),
            Some(looks) => {
                let mut odds = names;
                Zip::from(&mut odds)
                    .and(looks)
                    .for_each(|name, look| *name = of_name * *name + of_look * look + constant);
                odds
            }
        }
    }
}

/// The mean loss with some weights, and its derivatives.
struct Loss {
    value: f64,
    slope: Vector3<f64>,
    curvature: Matrix3<f64>,
}

impl Loss {
    fn at(weights: Vector3<f64>, names: &Array2<f64>, looks: &Array2<f64>, truth: &Array2<bool>) -> Self {
        let (mut value, mut slope, mut curvature) = (0.0, Vector3::zeros(), Matrix3::zeros());
        for ((names, looks), truth) in names.rows().into_iter().zip(looks.rows()).zip(truth.rows()) {
            interrupt::check();
            for ((&name, &look), &is_shown) in names.iter().zip(looks).zip(truth) {
                let x = Vector3::new(name, look, 1.0);
                let odds = weights.dot(&x);
                let probability = 1.0 / (1.0 + (-odds).exp());
                let sign = if is_shown { -odds } else { odds };
                // ln(1 + e^sign), which does not overflow.
                value += sign.max(0.0) + (-sign.abs()).exp().ln_1p();
                slope += x * (probability - f64::from(u8::from(is_shown)));
                curvature += x * x.transpose() * (probability * (1.0 - probability));
            }
        }
        let cells = truth.len().max(1) as f64;
        let penalty = Vector3::new(PENALTY, PENALTY, 0.0);
        Loss {
            value: value / cells + penalty.component_mul(&weights).dot(&weights) / 2.0,
            slope: slope / cells + penalty.component_mul(&weights),
            // A little more on the diagonal, so that it can be inverted where nothing differs.
            curvature: curvature / cells + Matrix3::from_diagonal(&penalty) + Matrix3::identity() * 1e-9,
        }
    }
}
