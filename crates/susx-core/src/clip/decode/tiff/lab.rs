//! CIE L*a*b* of 8 bits, in the light of D50 that print uses.

/// The white of D50.
const WHITE: [f64; 3] = [0.964_2, 1.0, 0.824_9];

/// From XYZ under D50 to linear sRGB (Bradford adaptation).
const TO_SRGB: [[f64; 3]; 3] = [
    [3.134_136, -1.617_386, -0.490_662],
    [-0.978_796, 1.916_254, 0.033_443],
    [0.071_955, -0.228_977, 1.405_386],
];

/// L* from 0 to 255 for 0 to 100, a* and b* as numbers with a sign.
pub(super) fn lab_to_rgb([l, a, b]: [u8; 3]) -> [u8; 3] {
    let (l, a, b) = (f64::from(l) * 100.0 / 255.0, f64::from(a as i8), f64::from(b as i8));
    let y = (l + 16.0) / 116.0;
    let cube = |t: f64| if t > 6.0 / 29.0 { t.powi(3) } else { (t - 4.0 / 29.0) * 108.0 / 841.0 };
    let xyz = [y + a / 500.0, y, y - b / 200.0];
    let xyz: [f64; 3] = std::array::from_fn(|index| cube(xyz[index]) * WHITE[index]);
    TO_SRGB.map(|row| {
        let linear: f64 = row.iter().zip(xyz).map(|(weight, value)| weight * value).sum();
        let level = match linear <= 0.003_130_8 {
            true => 12.92 * linear,
            false => 1.055 * linear.powf(1.0 / 2.4) - 0.055,
        };
        // The cast saturates.
        (level * 255.0 + 0.5) as u8
    })
}
