//! Pillow's nearest neighbour: the source pixel under the middle of the new one.

use super::Axis;

/// The longest result whose positions are added up one by one, as by Pillow.
const LONGEST: u32 = 1 << 20;

/// The source pixel of each pixel of the axis' window, of an image with `side` pixels.
pub(super) fn places(axis: Axis, side: u32) -> Vec<u32> {
    let scale = axis.scale();
    // Pillow adds the scale up. The sum can lie on the other side of a whole number than a product.
    let mut sum = axis.start + scale * 0.5;
    let window = axis.window.from..axis.window.from + axis.window.len;
    if axis.resized <= LONGEST {
        for _ in 0..window.start {
            sum += scale;
        }
    } else {
        sum += scale * f64::from(window.start);
    }
    window
        .map(|_| {
            let place = (sum as u32).min(side - 1);
            sum += scale;
            place
        })
        .collect()
}
