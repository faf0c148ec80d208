//! Preprocessing against what Pillow makes of the images in `tests/golden`.

use image::RgbImage;
use susx_core::clip::{ImageLimits, PreprocessScratch, Preprocessor, PreprocessorConfig, decode_rgb};

use crate::root;

/// CLIP's published normalisation.
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// The mean and the largest difference of the pixel values of `name` from the grey levels in `levels`, side × side.
fn differences(name: &str, levels: &RgbImage, top: u32, side: u32) -> (f64, f64) {
    let json =
        format!(r#"{{"image_processor_type": "CLIPImageProcessor", "size": {side}, "crop_size": {side}}}"#);
    let preprocessor = Preprocessor::new(&PreprocessorConfig::from_json(&json).unwrap()).unwrap();
    let bytes = std::fs::read(root().join("tests/golden/images").join(name)).unwrap();
    let image = decode_rgb(&bytes, &ImageLimits::default()).unwrap();
    let mut found = vec![f32::NAN; preprocessor.len()];
    preprocessor.pixel_values_into(&image, &mut PreprocessScratch::default(), &mut found).unwrap();

    let (mut sum, mut largest) = (0.0, 0.0_f64);
    let side = side as usize;
    for (at, found) in found.iter().enumerate() {
        let (channel, y, x) = (at / (side * side), at / side % side, at % side);
        let level = levels.get_pixel(x as u32, top + y as u32).0[channel];
        let expected = (f64::from(level) / 255.0 - MEAN[channel]) / STD[channel];
        let difference = (f64::from(*found) - expected).abs();
        assert!(!difference.is_nan(), "{name} at {x}, {y}");
        sum += difference;
        largest = largest.max(difference);
    }
    (sum / found.len() as f64, largest)
}

#[test]
fn pixel_values_are_pillows() {
    let golden = root().join("tests/golden");
    let order = std::fs::read_to_string(golden.join("images/order.txt")).unwrap();
    let names: Vec<&str> = order.split_whitespace().collect();
    for side in [96, 224] {
        let levels = image::open(golden.join(format!("levels_{side}.png"))).unwrap().into_rgb8();
        assert!(levels.height() >= 2 * side && levels.height().is_multiple_of(side));
        for (place, name) in names.iter().take((levels.height() / side) as usize).enumerate() {
            let (mean, largest) = differences(name, &levels, place as u32 * side, side);
            // One grey level is 0.015.
            assert!(largest <= 1e-6, "{name} at {side}: {mean} {largest}");
        }
    }
}
