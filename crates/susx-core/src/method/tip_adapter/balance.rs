//! Categories with different numbers of support rows, or none.

use ndarray::Array2;

use crate::interrupt;
use crate::sus::SupportSet;

/// What makes the terms of categories with few and with many support rows comparable.
#[derive(Clone, Debug)]
pub(in crate::method) struct Balance {
    /// `n/n_c`, C; 0 for a category without support.
    pub ratio: Vec<f32>,
    /// `n`, the mean number of support rows per category.
    pub mean_count: f32,
}

impl Balance {
    pub fn of(support_set: &SupportSet) -> Self {
        let categories = support_set.categories().len();
        let mean_count = support_set.len() as f32 / categories as f32;
        let ratio = |c| match support_set.rows(c).len() {
            0 => 0.0,
            count => mean_count / count as f32,
        };
        Balance { ratio: (0..categories).map(ratio).collect(), mean_count }
    }

    /// The supported category with the largest gain, the first of equal ones: the one whose terms the categories
    /// without support get. `None` if no category has support.
    pub fn lender(&self, gain: impl Fn(usize) -> f32) -> Option<usize> {
        let supported = (0..self.ratio.len()).filter(|&c| self.ratio[c] > 0.0);
        supported.max_by(|&i, &j| gain(i).total_cmp(&gain(j)).then(j.cmp(&i)))
    }

    /// Gives the categories without support the terms (n × C) of the category where their sum is largest.
    pub fn fill_unsupported(&self, queries: usize, terms: &mut [Option<&mut Array2<f32>>]) {
        if !self.ratio.contains(&0.0) {
            return;
        }
        for query in 0..queries {
            interrupt::check();
            let gain = |c: usize| terms.iter().flatten().map(|term| term[(query, c)]).sum::<f32>();
            let Some(lender) = self.lender(gain) else { return };
            for term in terms.iter_mut().flatten() {
                for c in (0..self.ratio.len()).filter(|&c| self.ratio[c] == 0.0) {
                    term[(query, c)] = term[(query, lender)];
                }
            }
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.ratio.len() * size_of::<f32>()
    }
}
