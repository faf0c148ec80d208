//! Whole pipelines, compared with the images of `diffusers`' own pipeline for ONNX graphs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value;
use susx_core::clip::{ImageLimits, decode_rgb};
use susx_diffusion::{GenerateError, Generator, ImageInput, RgbImage, Settings, png};

use crate::{golden, load, root};

/// Limit of the mean difference, in grey levels.
const TOLERANCE: f64 = 1.0;

pub fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.as_raw().len() as f64
}

fn expected_image(name: &str) -> RgbImage {
    let path = root().join("crates/susx-diffusion/tests/diffusion").join(name);
    decode_rgb(&std::fs::read(path).unwrap(), &ImageLimits::default()).unwrap()
}

fn ask(generator: &Generator, case: &Value) -> Result<RgbImage, GenerateError> {
    let text = |field: &str| case[field].as_str().unwrap().to_owned();
    let side = |field: &str| Some(case[field].as_u64().unwrap() as u32);
    let input = ImageInput {
        prompt: text("prompt"),
        negative_prompt: text("negative_prompt"),
        seed: case["seed"].as_u64().unwrap(),
    };
    let settings = Settings {
        steps: case["steps"].as_u64().unwrap() as usize,
        guidance_scale: case["guidance_scale"].as_f64().unwrap() as f32,
        height: side("height"),
        width: side("width"),
    };
    let images = generator.generate(&[input], &settings, &mut |_| ControlFlow::Continue(()));
    images.unwrap().remove(0)
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn they_are_those_of_diffusers() {
    let cases = golden("images.json");
    let mut by_variant: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for case in cases.as_array().unwrap() {
        by_variant.entry(case["variant"].as_str().unwrap()).or_default().push(case);
    }
    assert_eq!(by_variant.len(), 7);
    for (variant, cases) in by_variant {
        let generator = load(variant);
        assert_eq!(generator.config().has_safety_checker(), variant == "checked");
        let mut images = Vec::new();
        for case in cases {
            match (ask(&generator, case), case["image"].as_str()) {
                (Ok(found), Some(name)) => {
                    let difference = difference(&found, &expected_image(name));
                    assert!(difference <= TOLERANCE, "{name}: a mean difference of {difference}");
                    // The PNG decodes to the same image.
                    let file = png(&found).unwrap();
                    assert_eq!(decode_rgb(&file, &ImageLimits::default()).unwrap(), found);
                    images.push(found);
                }
                (Err(GenerateError::Blocked), None) => assert_eq!(case["blocked"], true),
                (found, name) => panic!("{case}: {found:?}, expected {name:?}"),
            }
        }
        // The comparison can distinguish the images.
        for (i, a) in images.iter().enumerate() {
            for b in &images[..i] {
                assert!(a.dimensions() != b.dimensions() || difference(a, b) > 10.0 * TOLERANCE, "{variant}");
            }
        }
    }
}
