//! Categories of which the support set shows too little.

use ndarray::Array2;

use crate::interrupt;
use crate::sus::SupportSet;

/// A category with fewer rows, as a share of the usual number, counts as absent.
const ABSENT: f64 = 0.15;
/// How far the support terms of an absent category are below the best of the others.
pub(super) const DEFICIT: f32 = 0.5;

/// Which categories the support set shows.
#[derive(Clone, Debug)]
pub(super) struct Absent {
    present: Vec<usize>,
    absent: Vec<usize>,
}

impl Absent {
    /// A category is absent if it has less than 0.15 of the number of rows that the category of a support row has on
    /// average, unless somebody has labelled them all.
    pub fn of(support_set: &SupportSet) -> Self {
        let count = |c: usize| support_set.rows(c).len() as f64;
        let categories = support_set.categories().len();
        let is_labelled =
            |c: usize| support_set.labelled()[support_set.rows(c)].iter().all(|&labelled| labelled);
        let usual = (0..categories).map(|c| count(c).powi(2)).sum::<f64>() / support_set.len() as f64;
        let (absent, present) =
            (0..categories).partition(|&c| count(c) < ABSENT * usual && !(count(c) > 0.0 && is_labelled(c)));
        Absent { present, absent }
    }

    /// The absent categories, in ascending order.
    pub fn categories(&self) -> &[usize] {
        &self.absent
    }

    /// Whether a category is absent.
    pub fn contains(&self, category: usize) -> bool {
        self.absent.binary_search(&category).is_ok()
    }

    /// The present category with the largest gain, the first of equal ones: the one whose terms the absent categories
    /// get.
    pub fn lender(&self, gain: impl Fn(usize) -> f32) -> Option<usize> {
        self.present.iter().copied().reduce(|a, b| if gain(b) > gain(a) { b } else { a })
    }

    /// Replaces the cache and KL terms (N × C) of the absent categories: by those of the present category that gains
    /// most, with a deficit in the cache term. Their own rows, which are few and probably show something else, do not
    /// count.
    pub fn fill(&self, cache: &mut Array2<f32>, kl: &mut Array2<f32>) {
        if self.absent.is_empty() {
            return;
        }
        for (mut cache, mut kl) in cache.rows_mut().into_iter().zip(kl.rows_mut()) {
            interrupt::check();
            let Some(best) = self.lender(|c| cache[c] + kl[c]) else { continue };
            let (of_cache, of_kl) = (cache[best] - DEFICIT, kl[best]);
            for &c in &self.absent {
                (cache[c], kl[c]) = (of_cache, of_kl);
            }
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        (self.present.len() + self.absent.len()) * size_of::<usize>()
    }
}
