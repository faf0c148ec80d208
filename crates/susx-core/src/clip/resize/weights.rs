//! Which source pixels each pixel of a window is made of, and how much each of them counts.

use super::{Axis, Resample};

/// Binary places of a weight: 32, less 8 for a grey level and 2 for sums below 0 and above 255.
pub(super) const PLACES: u32 = 22;

/// The weights of each pixel of a window, in fixed point.
#[derive(Debug)]
pub(super) struct Weights {
    /// For each pixel, its first source pixel, and where its weights end.
    pixels: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Weights {
    /// Those of an axis whose source has `side` pixels.
    pub fn new(filter: Resample, axis: Axis, side: u32) -> Weights {
        let scale = axis.scale();
        let stretch = scale.max(1.0);
        let reach = filter.radius() * stretch;
        let window = axis.window.from..axis.window.from + axis.window.len;
        let mut weights = Vec::new();
        let mut exact = Vec::new();
        let pixels = window
            .map(|place| {
                let middle = axis.start + (f64::from(place) + 0.5) * scale;
                // A cast to an unsigned number rounds down, and gives 0 for negative ones.
                let first = (middle - reach + 0.5) as usize;
                let end = ((middle + reach + 0.5) as usize).min(side as usize);
                exact.clear();
                exact.extend(
                    (first..end).map(|at| filter.weight((at as f64 - middle + 0.5) * (1.0 / stretch))),
                );
                let sum: f64 = exact.iter().sum();
                let whole = f64::from(1 << PLACES);
                weights.extend(exact.iter().map(|weight| (weight / sum * whole).round() as i32));
                (first, weights.len())
            })
            .collect();
        Weights { pixels, weights }
    }

    /// Number of pixels in the window.
    pub fn len(&self) -> usize {
        self.pixels.len()
    }

    /// The first source pixel of a pixel, and the weights of that one and those that follow it.
    pub fn of(&self, pixel: usize) -> (usize, &[i32]) {
        let begin = pixel.checked_sub(1).map_or(0, |before| self.pixels[before].1);
        let (first, end) = self.pixels[pixel];
        (first, &self.weights[begin..end])
    }

    /// The source pixels of all pixels. Neither their beginnings nor their ends ever go back from one to the next.
    pub fn source(&self) -> std::ops::Range<usize> {
        let (last, weights) = self.of(self.len() - 1);
        self.pixels[0].0..last + weights.len()
    }
}
