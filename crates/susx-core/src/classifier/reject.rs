//! The threshold that tells images of the categories from images of none of them.

/// The value for `reject` with the largest balanced accuracy: the mean of the share of the images of some category that
/// are kept and the share of the images of none that are rejected.
///
/// Each image is its `known` and whether it is of none of the categories. The candidates are 0, which rejects nothing,
/// and the middle between any two neighbouring values of `known`; of several that are equally good, it is the smallest,
/// which rejects the fewest. `None` if one of the two kinds is missing: then there is nothing to tell apart.
pub fn best_reject(images: impl IntoIterator<Item = (f32, bool)>) -> Option<f32> {
    let mut images: Vec<(f32, bool)> = images.into_iter().collect();
    images.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    let of_none = images.iter().filter(|(_, is_none)| *is_none).count() as u64;
    let of_categories = images.len() as u64 - of_none;
    if of_none == 0 || of_categories == 0 {
        return None;
    }
    // The balanced accuracy times twice the product of both counts: equal ones are equal, without rounding.
    let score = |kept: u64, rejected: u64| kept * of_none + rejected * of_categories;
    let (mut kept, mut rejected) = (of_categories, 0);
    let mut best = (score(kept, rejected), 0.0);
    for pair in images.windows(2) {
        let [(low, is_none), (high, _)] = *pair else { continue };
        if is_none {
            rejected += 1;
        } else {
            kept -= 1;
        }
        // No threshold divides equal numbers.
        if low < high && score(kept, rejected) > best.0 {
            best = (score(kept, rejected), middle(low, high));
        }
    }
    Some(best.1)
}

/// A threshold that rejects `low`, as `<` says, and keeps `high`.
fn middle(low: f32, high: f32) -> f32 {
    let middle = low + (high - low) / 2.0;
    // Between neighbouring numbers there is none, and the middle may be rounded down.
    if middle > low { middle } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(of_categories: &[f32], of_none: &[f32]) -> Option<f32> {
        let of_categories = of_categories.iter().map(|&known| (known, false));
        best_reject(of_categories.chain(of_none.iter().map(|&known| (known, true))))
    }

    /// Twice the balanced accuracy of a threshold, by its definition.
    fn accuracy(of_categories: &[f32], of_none: &[f32], reject: f32) -> f64 {
        let share = |known: &[f32], is_right: &dyn Fn(f32) -> bool| {
            known.iter().filter(|&&known| is_right(known)).count() as f64 / known.len() as f64
        };
        share(of_categories, &|known| known >= reject) + share(of_none, &|known| known < reject)
    }

    #[test]
    fn the_middle_of_the_gap_between_two_groups() {
        assert_eq!(best(&[0.75, 1.0], &[0.0, 0.25]), Some(0.5));
        assert_eq!(best(&[0.75], &[0.25, 0.25, 0.0]), Some(0.5));
    }

    #[test]
    fn both_kinds_have_the_same_weight() {
        // One of a hundred images of categories is lost, but the only other image is rejected.
        let mut of_categories = vec![0.875; 99];
        of_categories.push(0.125);
        assert_eq!(best(&of_categories, &[0.375]), Some(0.625));
        // And the other way round.
        let mut of_none = vec![0.125; 99];
        of_none.push(0.875);
        assert_eq!(best(&[0.625], &of_none), Some(0.375));
    }

    #[test]
    fn the_smallest_of_equally_good_ones() {
        // This one keeps both and rejects one of two; 0.625 keeps one of two and rejects both.
        assert_eq!(best(&[0.25, 0.75], &[0.125, 0.5]), Some(0.1875));
    }

    #[test]
    fn nothing_is_rejected_where_that_is_best() {
        // The wrong way round, and nothing to go by.
        assert_eq!(best(&[0.1, 0.2], &[0.8, 0.9]), Some(0.0));
        assert_eq!(best(&[0.5, 0.5], &[0.5]), Some(0.0));
    }

    #[test]
    fn neighbouring_numbers_are_divided() {
        let mut low = 0.5f32;
        for _ in 0..8 {
            let high = low.next_up();
            let reject = best(&[high], &[low]);
            assert!(reject.is_some_and(|reject| low < reject && reject <= high), "{low} {reject:?}");
            low = high;
        }
    }

    #[test]
    fn one_kind_alone_says_nothing() {
        assert_eq!(best(&[], &[]), None);
        assert_eq!(best(&[0.5], &[]), None);
        assert_eq!(best(&[], &[0.5]), None);
    }

    #[test]
    fn no_threshold_is_better() {
        // Pseudo-random hundredths, so that many are equal, in two groups that overlap.
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        for (many, few) in [(30, 30), (200, 7), (3, 90), (1, 1)] {
            let of_categories: Vec<f32> =
                (0..many).map(|_| (30.0 + 70.0 * random()).floor() / 100.0).collect();
            let of_none: Vec<f32> = (0..few).map(|_| (60.0 * random()).floor() / 100.0).collect();
            let reject = best(&of_categories, &of_none).unwrap_or(f32::NAN);
            let found = accuracy(&of_categories, &of_none, reject);
            for step in 0..=200 {
                let other = step as f32 / 200.0 + 0.001;
                let reached = accuracy(&of_categories, &of_none, other);
                assert!(reached < found + 1e-9, "{other} is better than {reject}");
                // A smaller one that is as good divides the images in the same way.
                let mut images = of_categories.iter().chain(&of_none);
                let differs = other < reject && images.any(|&known| (other..reject).contains(&known));
                assert!(!(differs && reached > found - 1e-9), "{other} is as good as {reject}");
            }
        }
    }
}
