//! Categories of which the support set shows too little.

use ndarray::Array2;

use crate::method::tip_adapter::Lending;
use crate::sus::SupportSet;

/// A category with fewer rows, as a share of the usual number, counts as absent.
const ABSENT: f64 = 0.15;
/// How far the support terms of an absent category are below the best of the others.
pub(in crate::method) const DEFICIT: f32 = 0.5;

/// Which categories the support set shows.
#[derive(Clone, Debug)]
pub(in crate::method) struct Absent {
    lending: Lending,
}

impl Absent {
    /// A category is absent if it has less than 0.15 of the number of rows that the category of a support row has on
    /// average, unless all of them are labelled.
    pub fn of(support_set: &SupportSet) -> Self {
        let count = |c: usize| support_set.rows(c).len() as f64;
        let categories = support_set.categories().len();
        let is_labelled =
            |c: usize| support_set.labelled()[support_set.rows(c)].iter().all(|&labelled| labelled);
        let usual = support_set.usual_rows();
        let is_absent = |c: usize| count(c) < ABSENT * usual && !(count(c) > 0.0 && is_labelled(c));
        Absent { lending: Lending::new(categories, is_absent) }
    }

    /// The absent categories, in ascending order.
    pub fn categories(&self) -> &[usize] {
        self.lending.borrowers()
    }

    /// What gives the absent categories their support terms.
    pub fn lending(&self) -> &Lending {
        &self.lending
    }

    /// Whether the support set shows a category.
    pub fn is_present(&self, category: usize) -> bool {
        self.lending.is_lender(category)
    }

    /// The present category with the largest gain: the one whose terms the absent categories get.
    pub fn lender(&self, gain: impl Fn(usize) -> f32) -> Option<usize> {
        self.lending.lender(gain)
    }

    /// The category whose support terms a category has: its own, unless it is absent.
    pub fn source(&self, category: usize, gain: impl Fn(usize) -> f32) -> Option<usize> {
        if self.is_present(category) { Some(category) } else { self.lender(gain) }
    }

    /// Replaces the support terms (N × C) of the absent categories, the cache and perhaps the KL term: by those of the
    /// present category that gains most, with a deficit in the first. Their own rows, which are few and probably show
    /// something else, do not count.
    pub fn fill(&self, first: &mut Array2<f32>, second: Option<&mut Array2<f32>>) {
        self.lending.fill(&mut [Some(&mut *first), second]);
        for &c in self.categories() {
            first.column_mut(c).mapv_inplace(|term| term - DEFICIT);
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.lending.size()
    }
}
