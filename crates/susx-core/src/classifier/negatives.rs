//! Which names of other things serve best as negatives.

use ndarray::{Array2, ArrayView2, Axis};

use crate::linalg::{block_rows, largest, product};

/// The negatives that say most about what an image is not of: those of `candidates` (N × d) that are least like any of
/// the categories (C × d), `count` at most, least first. A candidate with a cosine above `alike` to a category is another
/// name of it and is left out.
pub fn least_alike(
    categories: ArrayView2<f32>,
    candidates: ArrayView2<f32>,
    alike: f32,
    count: usize,
) -> Vec<usize> {
    let mut order: Vec<(f32, usize)> = Vec::with_capacity(candidates.nrows());
    let most = block_rows(categories.nrows(), usize::MAX);
    for block in candidates.axis_chunks_iter(Axis(0), most) {
        let cosines: Array2<f32> = product(block, categories);
        for row in cosines.rows() {
            order.push((largest(row), order.len()));
        }
    }
    order.retain(|&(cosine, _)| cosine <= alike);
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.into_iter().take(count).map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;

    use super::*;

    #[test]
    fn the_least_alike_come_first_and_other_names_do_not_come() {
        let categories = arr2(&[[1.0, 0.0], [0.0, 1.0]]);
        let candidates = arr2(&[[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0], [0.0, -1.0], [-0.6, -0.8]]);
        let found = |count| least_alike(categories.view(), candidates.view(), 0.95, count);
        assert_eq!(found(9), [4, 2, 3, 1]);
        assert_eq!(found(2), [4, 2]);
        assert!(found(0).is_empty());
    }
}
