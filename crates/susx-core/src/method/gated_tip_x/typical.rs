//! How like its name a category's support is.

use crate::interrupt;
use crate::sus::SupportSet;

/// Smallest standard deviation.
const MIN_SPREAD: f64 = 1e-6;

/// The cosines of support images to the names of their own categories.
#[derive(Clone, Debug)]
pub(super) struct OwnCosines {
    /// `b_c`: their mean in each category, C; infinite for a category without support, to whose name no query is closer.
    mean: Vec<f64>,
    /// Their standard deviation around these means, the same for all categories.
    spread: f64,
}

impl OwnCosines {
    /// Of a support set that is not empty. O(M d).
    pub fn of(support_set: &SupportSet) -> Self {
        let (features, weights) = (support_set.features(), support_set.zeroshot_weights());
        let mut mean = vec![f64::INFINITY; weights.nrows()];
        let (mut squares, mut supported) = (0.0, 0);
        for (c, mean) in mean.iter_mut().enumerate() {
            let rows = support_set.rows(c);
            if rows.is_empty() {
                continue;
            }
            interrupt::check();
            let name = weights.row(c);
            let cosine = |row: usize| -> f64 {
                features.row(row).iter().zip(name).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
            };
            let cosines: Vec<f64> = rows.map(cosine).collect();
            *mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
            squares += cosines.iter().map(|cosine| (cosine - *mean).powi(2)).sum::<f64>();
            supported += 1;
        }
        let freedom = support_set.len().saturating_sub(supported).max(1);
        OwnCosines { mean, spread: (squares / freedom as f64).sqrt().max(MIN_SPREAD) }
    }

    /// How many standard deviations a cosine to the name of a category is above those of its support images.
    pub fn deviations(&self, category: usize, cosine: f64) -> f64 {
        (cosine - self.mean[category]) / self.spread
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.mean.len() * size_of::<f64>()
    }
}
