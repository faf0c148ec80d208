//! The support rows that are most like each support row.

use std::cmp::Ordering;

use ndarray::{Array2, Axis, s};

use crate::interrupt;
use crate::linalg::{block_rows, product};
use crate::sus::{SupportSet, evenly_spaced};

/// Neighbours of a row.
pub(super) const NEIGHBOURS: usize = 16;
/// Rows of a category that are looked at: evenly spaced ones.
const ROWS: usize = 64;
/// Categories in which a row's neighbours are looked for: those with the nearest means, its own among them.
const CATEGORIES: usize = 32;

/// A support row and its neighbours.
#[derive(Clone, Debug)]
pub(super) struct Neighbourhood {
    pub row: usize,
    /// The categories of its neighbours, nearest first; at most 16.
    pub categories: Vec<usize>,
    /// The cosine to the nearest; `None` if there is no other row.
    pub nearest: Option<f32>,
}

impl Neighbourhood {
    /// The votes of the `count` nearest neighbours: for a category, to which the row adds its own vote, and the most
    /// for any other, with that category. Of equal ones it is the category with the most rows, then the first.
    pub fn votes(&self, count: usize, category: usize, rows_of: impl Fn(usize) -> usize) -> Votes {
        let voters = &self.categories[..count.min(self.categories.len())];
        let votes_for = |c: usize| voters.iter().filter(|&&voter| voter == c).count();
        let others = voters.iter().copied().filter(|&c| c != category);
        let rival = others.max_by_key(|&c| (votes_for(c), rows_of(c), std::cmp::Reverse(c)));
        Votes { own: votes_for(category) + 1, rival, of_rival: rival.map_or(0, votes_for) }
    }
}

/// How a row's neighbours vote on its category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Votes {
    /// For its own category, with the row itself.
    pub own: usize,
    /// The other category with the most votes.
    pub rival: Option<usize>,
    pub of_rival: usize,
}

/// The neighbours of up to 64 rows of each category, in the order of the rows. O(C^2 d + M 32 n d) for n rows per
/// category.
pub(super) fn neighbourhoods(support_set: &SupportSet) -> Vec<Neighbourhood> {
    let supported: Vec<usize> =
        (0..support_set.categories().len()).filter(|&c| !support_set.rows(c).is_empty()).collect();
    let rows_of = |c: usize| {
        let rows = support_set.rows(c);
        evenly_spaced(rows.len(), ROWS).map(move |i| rows.start + i)
    };
    let means = means(support_set, &supported);
    let mut found = Vec::new();
    let rows_per_block = block_rows(supported.len(), usize::MAX);
    for (block, means_of_block) in means.axis_chunks_iter(Axis(0), rows_per_block).enumerate() {
        let cosines = product(means_of_block, means.view());
        for (place, cosines) in (block * rows_per_block..).zip(cosines.rows()) {
            interrupt::check();
            let own: Vec<usize> = rows_of(supported[place]).collect();
            let near = nearest_categories(cosines.to_vec(), place);
            let others: Vec<usize> = near.into_iter().flat_map(|place| rows_of(supported[place])).collect();
            within(support_set, &own, &others, &mut found);
        }
    }
    found
}

/// The means of the rows of some categories, of unit length, one row each.
fn means(support_set: &SupportSet, categories: &[usize]) -> Array2<f32> {
    let mut means = Array2::zeros((categories.len(), support_set.likeness().ncols()));
    for (mut mean, &c) in means.rows_mut().into_iter().zip(categories) {
        interrupt::check();
        let rows = support_set.likeness().slice_move(s![support_set.rows(c), ..]);
        mean.assign(&rows.sum_axis(Axis(0)));
        let norm: f32 = mean.dot(&mean).sqrt();
        mean /= norm.max(f32::MIN_POSITIVE);
    }
    means
}

/// The places of the largest cosines, and `own`, in ascending order.
fn nearest_categories(mut cosines: Vec<f32>, own: usize) -> Vec<usize> {
    cosines[own] = f32::INFINITY;
    let mut places: Vec<usize> = (0..cosines.len()).collect();
    if places.len() > CATEGORIES {
        let nearest_first = |&i: &usize, &j: &usize| descending(cosines[i], cosines[j]).then(i.cmp(&j));
        places.select_nth_unstable_by(CATEGORIES - 1, nearest_first);
        places.truncate(CATEGORIES);
        places.sort_unstable();
    }
    places
}

/// Adds the neighbours of the rows `own` among the rows `others`.
fn within(support_set: &SupportSet, own: &[usize], others: &[usize], found: &mut Vec<Neighbourhood>) {
    let features = support_set.likeness();
    let affinities = product(features.select(Axis(0), own).view(), features.select(Axis(0), others).view());
    for (&row, affinities) in own.iter().zip(affinities.rows()) {
        interrupt::check();
        let mut near: Vec<(f32, usize)> = affinities
            .iter()
            .copied()
            .zip(others.iter().copied())
            .filter(|&(_, other)| other != row)
            .collect();
        let nearest_first = |a: &(f32, usize), b: &(f32, usize)| descending(a.0, b.0).then(a.1.cmp(&b.1));
        if near.len() > NEIGHBOURS {
            near.select_nth_unstable_by(NEIGHBOURS - 1, nearest_first);
            near.truncate(NEIGHBOURS);
        }
        near.sort_unstable_by(nearest_first);
        let categories = near.iter().map(|&(_, other)| support_set.category_of(other)).collect();
        found.push(Neighbourhood { row, categories, nearest: near.first().map(|&(affinity, _)| affinity) });
    }
}

fn descending(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbourhood(categories: &[usize]) -> Neighbourhood {
        Neighbourhood { row: 0, categories: categories.to_vec(), nearest: Some(0.5) }
    }

    #[test]
    fn a_row_votes_for_itself() {
        let votes = neighbourhood(&[2, 1, 1, 2, 2]).votes(5, 1, |_| 4);
        assert_eq!(votes, Votes { own: 3, rival: Some(2), of_rival: 3 });
        assert_eq!(neighbourhood(&[]).votes(5, 1, |_| 4), Votes { own: 1, rival: None, of_rival: 0 });
    }

    #[test]
    fn of_equal_rivals_the_larger_wins() {
        let near = neighbourhood(&[3, 4, 3, 4, 0]);
        assert_eq!(near.votes(4, 0, |c| c).rival, Some(4));
        assert_eq!(near.votes(4, 0, |_| 7).rival, Some(3));
        // Only the nearest vote.
        assert_eq!(near.votes(1, 0, |c| c).rival, Some(3));
    }
}
