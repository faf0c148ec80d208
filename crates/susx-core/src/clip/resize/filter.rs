//! Pillow's filters: the weight of a source pixel by its distance from the middle of the new one.

use std::f64::consts::PI;

use super::Resample;

impl Resample {
    /// The distance at and above which the weight is 0. When an image shrinks, distances are in pixels of the result.
    pub(super) fn radius(self) -> f64 {
        match self {
            Resample::Nearest => 0.5,
            Resample::Bilinear => 1.0,
            Resample::Bicubic => 2.0,
            Resample::Lanczos => 3.0,
        }
    }

    /// The weight at this distance.
    pub(super) fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Resample::Nearest => 1.0,
            Resample::Bilinear => 1.0 - x.min(1.0),
            // Keys' cubic with a = -0.5.
            Resample::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Resample::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Resample::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Resample::Bicubic | Resample::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}
