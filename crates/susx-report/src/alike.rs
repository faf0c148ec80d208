//! Images that look nearly the same.

use susx_core::duplicates::cosine;

/// The cosine above which two images count as alike.
const ALIKE: f32 = 0.98;

/// Whether two unit vectors are of images that look nearly the same. Vectors that are missing are alike to nothing.
pub(crate) fn are_alike(one: &[f32], other: &[f32]) -> bool {
    !one.is_empty() && one.len() == other.len() && cosine(one, other) > ALIKE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_angle_decides() {
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        // The cosine of 11.48 degrees is 0.98.
        assert!(are_alike(&at(0.0), &at(11.0)));
        assert!(!are_alike(&at(0.0), &at(12.0)));
        assert!(!are_alike(&[], &[]));
        assert!(!are_alike(&[1.0], &[1.0, 0.0]));
    }
}
