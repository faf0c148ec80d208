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
    /// From the categories with support to those without.
    pub lending: Lending,
}

/// Which categories have the terms of another one: of the one that gains most from them.
#[derive(Clone, Debug)]
pub(in crate::method) struct Lending {
    lenders: Vec<usize>,
    borrowers: Vec<usize>,
}

impl Lending {
    /// Of some categories, to those that `borrows` says.
    pub fn new(categories: usize, borrows: impl Fn(usize) -> bool) -> Self {
        let (borrowers, lenders) = (0..categories).partition(|&c| borrows(c));
        Lending { lenders, borrowers }
    }

    /// The categories that have the terms of another one, in ascending order.
    pub fn borrowers(&self) -> &[usize] {
        &self.borrowers
    }

    /// Whether a category has terms of its own.
    pub fn is_lender(&self, category: usize) -> bool {
        self.borrowers.binary_search(&category).is_err()
    }

    /// The lender with the largest gain, the first of equal ones; `None` without lenders.
    pub fn lender(&self, gain: impl Fn(usize) -> f32) -> Option<usize> {
        self.lenders.iter().copied().max_by(|&i, &j| gain(i).total_cmp(&gain(j)).then(j.cmp(&i)))
    }

    /// Gives the borrowers the terms (n × C) of the lender where their sum is largest.
    pub fn fill(&self, terms: &mut [Option<&mut Array2<f32>>]) {
        let queries = terms.iter().flatten().map(|term| term.nrows()).next().unwrap_or(0);
        if self.borrowers.is_empty() {
            return;
        }
        for query in 0..queries {
            interrupt::check();
            let gain = |c: usize| terms.iter().flatten().map(|term| term[(query, c)]).sum::<f32>();
            let Some(lender) = self.lender(gain) else { return };
            for term in terms.iter_mut().flatten() {
                for &c in &self.borrowers {
                    term[(query, c)] = term[(query, lender)];
                }
            }
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        (self.lenders.len() + self.borrowers.len()) * size_of::<usize>()
    }
}

impl Balance {
    pub fn of(support_set: &SupportSet) -> Self {
        let categories = support_set.categories().len();
        let mean_count = support_set.len() as f32 / categories as f32;
        let ratio = |c| match support_set.rows(c).len() {
            0 => 0.0,
            count => mean_count / count as f32,
        };
        let lending = Lending::new(categories, |c| support_set.rows(c).is_empty());
        Balance { ratio: (0..categories).map(ratio).collect(), mean_count, lending }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.ratio.len() * size_of::<f32>() + self.lending.size()
    }
}
