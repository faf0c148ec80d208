//! How like its name a category's support is.

use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::sus::SupportSet;

/// Smallest standard deviation.
const MIN_SPREAD: f64 = 1e-6;

/// The cosines of support images to the names of their own categories.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OwnCosines {
    /// Each category's, C.
    categories: Vec<OwnCosine>,
    /// Standard deviation around the means, the same for all categories.
    spread: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct OwnCosine {
    /// `b_c`: mean cosine of the support rows; without any, the mean of the other categories' means.
    mean: f64,
    count: usize,
    /// Share of unlabelled support rows, 0 to 1; 0 without any.
    unlabelled: f32,
}

impl OwnCosines {
    /// Of a support set that is not empty. O(M d).
    ///
    /// The variance is that within the categories, with one more row in each that varies as all rows do. So it is
    /// that of all rows where every category has a single one.
    pub fn of(support_set: &SupportSet) -> Self {
        let (features, weights) = (support_set.features(), support_set.zeroshot_weights());
        let mut categories = Vec::with_capacity(weights.nrows());
        let (mut sum, mut sum_of_squares, mut within, mut supported) = (0.0, 0.0, 0.0, 0);
        for (c, name) in weights.rows().into_iter().enumerate() {
            interrupt::check();
            let rows = support_set.rows(c);
            let cosine = |row: usize| -> f64 {
                features.row(row).iter().zip(name).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
            };
            let unlabelled =
                support_set.labelled()[rows.clone()].iter().filter(|&&labelled| !labelled).count();
            let cosines: Vec<f64> = rows.map(cosine).collect();
            let count = cosines.len();
            let mean = cosines.iter().sum::<f64>() / count.max(1) as f64;
            within += cosines.iter().map(|cosine| (cosine - mean).powi(2)).sum::<f64>();
            sum += cosines.iter().sum::<f64>();
            sum_of_squares += cosines.iter().map(|cosine| cosine * cosine).sum::<f64>();
            supported += usize::from(count > 0);
            categories.push(OwnCosine { mean, count, unlabelled: unlabelled as f32 / count.max(1) as f32 });
        }
        let supported_means = categories.iter().filter(|own: &&OwnCosine| own.count > 0).map(|own| own.mean);
        let mean_of_means = supported_means.sum::<f64>() / supported.max(1) as f64;
        for own in categories.iter_mut().filter(|own| own.count == 0) {
            own.mean = mean_of_means;
        }
        let rows = support_set.len() as f64;
        let of_all = (sum_of_squares / rows - (sum / rows).powi(2)).max(0.0);
        let variance = (within + supported as f64 * of_all) / rows;
        OwnCosines { categories, spread: variance.sqrt().max(MIN_SPREAD) }
    }

    /// How many standard deviations a cosine to the name of a category is above those of its support images, for an
    /// image that is not among them.
    pub fn deviations(&self, category: usize, cosine: f64) -> f64 {
        let OwnCosine { mean, count, .. } = self.categories[category];
        (cosine - mean) / self.predictive_spread(count)
    }

    /// The share of a category's support images that are unlabelled, 0 to 1; 0 without any.
    pub fn unlabelled(&self, category: usize) -> f32 {
        self.categories[category].unlabelled
    }

    /// Like [`deviations`](Self::deviations), for one of the support images with this cosine by the fit without it. The
    /// spread stays as it is, because one row hardly changes it.
    pub fn deviations_without(&self, category: usize, cosine: f64) -> f64 {
        let OwnCosine { mean, count, .. } = self.categories[category];
        let left = count.saturating_sub(1);
        let mean = if left == 0 { cosine } else { (mean * count as f64 - cosine) / left as f64 };
        (cosine - mean) / self.predictive_spread(left)
    }

    /// The spread of another row around the mean of this many.
    fn predictive_spread(&self, count: usize) -> f64 {
        self.spread * (1.0 + 1.0 / count.max(1) as f64).sqrt()
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.categories.len() * size_of::<OwnCosine>()
    }
}
