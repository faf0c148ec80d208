//! Preprocessing against OpenAI's own tensors, and against a naive implementation of Pillow's resize.

use image::RgbImage;
use ndarray::{Array4, Axis};
use susx_core::clip::{
    ImageLimits, PreprocessScratch, Preprocessor, PreprocessorConfig, Resample, Resize, Rounding, decode_rgb,
};

use crate::{Random, shared};

fn preprocessor(json: &str) -> Preprocessor {
    Preprocessor::new(&PreprocessorConfig::from_json(json).unwrap()).unwrap()
}

fn pixel_values(preprocessor: &Preprocessor, image: &RgbImage) -> Vec<f32> {
    let mut out = vec![f32::NAN; preprocessor.len()];
    preprocessor.pixel_values_into(image, &mut PreprocessScratch::default(), &mut out).unwrap();
    out
}

/// JPEGs of odd sizes, and their tensors by `clip.load("ViT-B/32")[1]`.
#[test]
#[cfg_attr(not(test_shared), ignore = "needs SUSX_TEST_SHARED: see `make -s env`")]
fn golden_tensors() {
    let dir = shared("clip-vectors/golden");
    let golden: Array4<f32> = ndarray_npy::read_npy(dir.join("preprocessed_7x3x224x224.f32.npy")).unwrap();
    let order = std::fs::read_to_string(dir.join("order.txt")).unwrap();
    let preprocessor = preprocessor(r#"{"image_processor_type": "CLIPImageProcessor"}"#);
    for (name, golden) in order.split_whitespace().zip(golden.axis_iter(Axis(0))) {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        let found = pixel_values(&preprocessor, &decode_rgb(&bytes, &ImageLimits::default()).unwrap());
        let differences = || found.iter().zip(golden.iter()).map(|(a, b)| (a - b).abs());
        let (mean, largest) =
            (differences().sum::<f32>() / found.len() as f32, differences().fold(0.0, f32::max));
        // One grey level is 0.015.
        assert!(largest <= 1e-5, "{name}: {mean} {largest}");
    }
}

/// Keys' cubic with a = -0.5.
fn bicubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// One pass of Pillow's `ImagingResample` over a row of grey levels, in double precision.
fn resample(row: &[f64], size: usize) -> Vec<f64> {
    let scale = row.len() as f64 / size as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    let pixel = |x: usize| {
        let center = (x as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(row.len());
        let weights: Vec<f64> =
            (first..last).map(|i| bicubic((i as f64 - center + 0.5) / filter_scale)).collect();
        let sum: f64 = weights.iter().sum();
        let value: f64 =
            weights.iter().zip(&row[first..last]).map(|(weight, level)| weight / sum * level).sum();
        (value + 0.5).floor().clamp(0.0, 255.0)
    };
    (0..size).map(pixel).collect()
}

/// Pillow's resize of one channel: columns first, each pass rounded to grey levels.
fn naive_resize(image: &RgbImage, channel: usize, width: usize, height: usize) -> Vec<Vec<f64>> {
    let rows: Vec<Vec<f64>> = image
        .rows()
        .map(|row| resample(&row.map(|pixel| f64::from(pixel.0[channel])).collect::<Vec<_>>(), width))
        .collect();
    let columns: Vec<Vec<f64>> =
        (0..width).map(|x| resample(&rows.iter().map(|row| row[x]).collect::<Vec<_>>(), height)).collect();
    (0..height).map(|y| columns.iter().map(|column| column[y]).collect()).collect()
}

fn noise(random: &mut Random, width: u32, height: u32) -> RgbImage {
    // Hard edges, where the filter overshoots, and noise.
    RgbImage::from_fn(width, height, |x, y| {
        let block = if (x / 7 + y / 5) % 2 == 0 { 0 } else { 255 };
        image::Rgb(std::array::from_fn(|_| if random.below(4) == 0 { random.next() as u8 } else { block }))
    })
}

#[test]
fn resize_and_crop_equal_a_naive_implementation() {
    const SIDE: usize = 48;
    let preprocessor = preprocessor(
        r#"{"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}, "resample": 3,
            "do_center_crop": true, "do_rescale": false, "do_normalize": false}"#,
    );
    assert_eq!(preprocessor.shape(), (3, SIDE, SIDE));
    let mut random = Random(0x0DD5_12E5);
    let sizes = [
        (1, 1),
        (2, 3),
        (13, 7),
        (47, 49),
        (48, 48),
        (48, 99),
        (49, 48),
        (131, 73),
        (73, 211),
        (300, 64),
        (31, 400),
        (517, 389),
    ];
    let mut different = 0;
    for (width, height) in sizes {
        let image = noise(&mut random, width, height);
        let found = pixel_values(&preprocessor, &image);
        let short = width.min(height);
        let (resized_width, resized_height) = ((48 * width / short) as usize, (48 * height / short) as usize);
        // Python's `round` rounds halves to the even number.
        let offset = |side: usize| ((side - SIDE) as f64 / 2.0).round_ties_even() as usize;
        let (left, top) = (offset(resized_width), offset(resized_height));
        for channel in 0..3 {
            let expected = naive_resize(&image, channel, resized_width, resized_height);
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let (found, expected) =
                        (found[(channel * SIDE + y) * SIDE + x], expected[top + y][left + x] as f32);
                    different += usize::from(found != expected);
                    let is_near = (found - expected).abs() <= 1.0;
                    assert!(is_near, "{width} × {height} at {x}, {y}: {found}, expected {expected}");
                }
            }
        }
    }
    // Pillow's weights have 22 binary places, so sums that are nearly halves are rounded the other way.
    assert!(different * 1000 <= sizes.len() * 3 * SIDE * SIDE, "{different} values differ");
}

#[test]
fn an_exact_size_ignores_the_aspect_ratio() {
    let preprocessor = preprocessor(
        r#"{"image_processor_type": "SiglipImageProcessor", "size": {"height": 20, "width": 30}}"#,
    );
    assert_eq!(preprocessor.shape(), (3, 20, 30));
    let mut random = Random(77);
    let image = noise(&mut random, 111, 57);
    let found = pixel_values(&preprocessor, &image);
    let expected = naive_resize(&image, 1, 30, 20);
    for (y, row) in expected.iter().enumerate() {
        for (x, level) in row.iter().enumerate() {
            let expected = (level / 255.0 - 0.5) / 0.5;
            assert!((f64::from(found[(20 + y) * 30 + x]) - expected).abs() <= 1.01 / 127.5);
        }
    }
}

/// Images smaller than the crop are centred on black.
#[test]
fn small_images_are_padded() {
    let preprocessor = preprocessor(
        r#"{"do_resize": false, "crop_size": 5, "do_rescale": true, "image_mean": [0, 0.5, 0], "image_std": [1, 1, 0.5]}"#,
    );
    let image = RgbImage::from_pixel(2, 9, image::Rgb([255, 255, 255]));
    let found = pixel_values(&preprocessor, &image);
    // Three columns are missing, two of them before the image.
    for y in 0..5 {
        assert_eq!(found[y * 5..][..5], [0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(found[25 + y * 5..][..5], [-0.5, -0.5, 0.5, 0.5, -0.5]);
        assert_eq!(found[50 + y * 5..][..5], [0.0, 0.0, 2.0, 2.0, 0.0]);
    }
}

/// Resized as a whole, these images would have hundreds of megapixels.
#[test]
fn strips_cost_no_more_than_others() {
    let preprocessor = preprocessor(r#"{"image_processor_type": "CLIPImageProcessor"}"#);
    for (width, height) in [(60_000, 1), (1, 60_000), (65_000, 3), (2_000_000, 1)] {
        let image = RgbImage::from_pixel(width, height, image::Rgb([128, 128, 128]));
        let found = pixel_values(&preprocessor, &image);
        let grey = (128.0 / 255.0 - 0.48145466) / 0.26862954;
        assert!(found[..224 * 224].iter().all(|value| (value - grey).abs() < 1e-5), "{width} × {height}");
    }
}

#[test]
fn buffers_of_another_size_are_refused() {
    let preprocessor = preprocessor("{}");
    let image = RgbImage::new(10, 10);
    let mut scratch = PreprocessScratch::default();
    let error = preprocessor.pixel_values_into(&image, &mut scratch, &mut [0.0; 7]).unwrap_err().to_string();
    assert!(error.contains('7') && error.contains("150528"), "{error}");
    let mut out = vec![0.0; preprocessor.len()];
    assert!(preprocessor.pixel_values_into(&RgbImage::new(0, 10), &mut scratch, &mut out).is_err());
}

#[test]
fn configurations_of_the_hub() {
    let shape = |json: &str| preprocessor(json).shape();
    // OpenAI's own files, from 2021 and the current one.
    assert_eq!(
        shape(
            r#"{"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224}"#
        ),
        (3, 224, 224)
    );
    assert_eq!(
        shape(
            r#"{"image_processor_type": "CLIPImageProcessorFast", "crop_size": {"height": 336, "width": 336},
        "size": {"shortest_edge": 336}}"#
        ),
        (3, 336, 336)
    );
    // MobileCLIP: no normalisation, bilinear.
    assert_eq!(
        shape(
            r#"{"crop_size": {"height": 256, "width": 256}, "do_normalize": false, "image_processor_type": "CLIPImageProcessor",
        "resample": 2, "size": {"shortest_edge": 256}}"#
        ),
        (3, 256, 256)
    );
    assert_eq!(
        shape(r#"{"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}}"#),
        (3, 384, 384)
    );
    // Some files have both the old and the new names.
    assert_eq!(
        shape(
            r#"{"feature_extractor_type": "CLIPFeatureExtractor", "image_processor_type": "CLIPImageProcessor"}"#
        ),
        (3, 224, 224)
    );
    assert_eq!(shape(r#"{"image_processor_type": "ViTFeatureExtractor", "size": 224}"#), (3, 224, 224));

    let error = |json: &str| PreprocessorConfig::from_json(json).unwrap_err();
    assert!(
        error(r#"{"image_processor_type": "BlipImageProcessor", "size": 384}"#)
            .contains("BlipImageProcessor")
    );
    assert!(error(r#"{"do_center_crop": false}"#).contains("depend on the image"));
    assert!(error(r#"{"size": 0}"#).contains("size"));
    assert!(error(r#"{"size": 100000}"#).contains("100000"));
    assert!(error(r#"{"image_std": [1, 1]}"#).contains("image_std"));
    assert!(error(r#"{"image_std": [1, 0, 1]}"#).contains("image_std"));
    assert!(error(r#"{"resample": 9}"#).contains('9'));
    assert!(error("[]").contains("invalid"), "{}", error("[]"));
}

/// The mean and the deviation of `transformers` IMAGENET_DEFAULT, and twice 0.5: its IMAGENET_STANDARD.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
const HALVES: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);
const OPENAI: ([f64; 3], [f64; 3]) =
    ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);

fn exact(side: u32) -> Option<Resize> {
    Some(Resize::Exact { height: side, width: side })
}

fn shortest(side: u32) -> Option<Resize> {
    Some(Resize::ShortestEdge(side))
}

/// What each class does with a file that leaves all fields out: the defaults of transformers 4.57.
#[test]
fn defaults_of_the_classes() {
    for (class, resize, resample, crop, (mean, std)) in [
        ("BitImageProcessor", shortest(224), Resample::Bicubic, Some(224), OPENAI),
        ("BitImageProcessorFast", shortest(224), Resample::Bicubic, Some(224), OPENAI),
        ("ViTImageProcessor", exact(224), Resample::Bilinear, None, HALVES),
        ("DeiTImageProcessor", exact(256), Resample::Bicubic, Some(224), HALVES),
        ("DeiTFeatureExtractor", exact(256), Resample::Bicubic, Some(224), HALVES),
        ("BeitImageProcessor", exact(256), Resample::Bicubic, Some(224), HALVES),
        ("BeitImageProcessorFast", exact(224), Resample::Bicubic, None, HALVES),
        ("DINOv3ViTImageProcessorFast", exact(224), Resample::Bilinear, None, IMAGENET),
        ("ConvNextImageProcessor", exact(384), Resample::Bilinear, None, HALVES),
        ("ConvNextImageProcessorFast", exact(384), Resample::Bilinear, None, HALVES),
        // `include_top`: divided by the deviation twice.
        ("EfficientNetImageProcessor", exact(346), Resample::Nearest, None, ([0.5; 3], [0.25; 3])),
    ] {
        let found = PreprocessorConfig::from_json(&format!(r#"{{"image_processor_type": "{class}"}}"#));
        let crop = crop.map(|side| (side, side));
        let rescale_factor = 1.0 / 255.0;
        let (rounding, fill) = (Rounding::Torchvision, [0; 3]);
        let expected =
            PreprocessorConfig { resize, resample, crop, rescale_factor, mean, std, rounding, fill };
        assert_eq!(found, Ok(expected), "{class}");
    }
}

#[test]
fn files_of_image_encoders() {
    let config = |json: &str| PreprocessorConfig::from_json(json).unwrap();
    // facebook/dinov2-base, field by field.
    let found = config(
        r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true,
        "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}}"#,
    );
    assert_eq!((found.resize, found.crop), (shortest(256), Some((224, 224))));
    assert_eq!((found.mean, found.std), IMAGENET);
    // ConvNeXT and ResNet: cropped below 384 pixels, older files with a plain number.
    for (size, crop_pct, resize, crop) in [
        (r#"{"shortest_edge": 224}"#, "0.875", shortest(256), Some((224, 224))),
        ("224", "null", shortest(256), Some((224, 224))),
        (r#"{"shortest_edge": 288}"#, "0.95", shortest(303), Some((288, 288))),
        (r#"{"shortest_edge": 383}"#, "1", shortest(383), Some((383, 383))),
        (r#"{"shortest_edge": 384}"#, "0.875", exact(384), None),
    ] {
        let found = config(&format!(
            r#"{{"image_processor_type": "ConvNextFeatureExtractor", "size": {size}, "crop_pct": {crop_pct},
            "do_center_crop": null, "crop_size": null}}"#
        ));
        assert_eq!((found.resize, found.crop), (resize, crop), "{size}");
    }
    // EfficientNet: both fields on their own, and what is left of them without the steps that they belong to.
    let efficientnet = |fields: &str| {
        let found = config(&format!(
            r#"{{"image_processor_type": "EfficientNetImageProcessor", "image_mean": [0.25, 0.5, 0],
            "image_std": [0.5, 2, 1], {fields}}}"#
        ));
        (found.rescale_factor, found.mean, found.std)
    };
    let factor = 1.0 / 127.5;
    let offset = format!(r#""rescale_factor": {factor}, "rescale_offset": true, "include_top": false"#);
    assert_eq!(efficientnet(&offset), (factor, [1.25, 1.5, 1.0], [0.5, 2.0, 1.0]));
    let without = |step: &str| efficientnet(&format!(r#"{offset}, "{step}": false"#));
    assert_eq!(without("do_rescale"), (1.0, [0.25, 0.5, 0.0], [0.5, 2.0, 1.0]));
    assert_eq!(without("do_normalize"), (factor, [1.0; 3], [1.0; 3]));
    let top = efficientnet(r#""include_top": true, "do_normalize": false"#);
    assert_eq!(top, (1.0 / 255.0, [0.0; 3], [0.5, 2.0, 1.0]));
    assert_eq!(efficientnet(r#""include_top": true"#), (1.0 / 255.0, [0.25, 0.5, 0.0], [0.25, 4.0, 1.0]));
}

#[test]
fn fields_that_would_change_pixels_are_not_ignored() {
    let error = |class: &str, fields: &str| {
        let json = format!(r#"{{"image_processor_type": "{class}", {fields}}}"#);
        PreprocessorConfig::from_json(&json).unwrap_err()
    };
    for (class, fields, reason) in [
        ("ViTImageProcessor", r#""do_pad": true"#, "\"do_pad\" is not supported for ViTImageProcessor"),
        ("ViTImageProcessor", r#""do_grayscale": true"#, "do_grayscale"),
        ("CLIPImageProcessor", r#""do_flip_channel_order": true"#, "do_flip_channel_order"),
        ("BitImageProcessor", r#""crop_pct": 0.9"#, "crop_pct"),
        ("BitImageProcessor", r#""size": {"shortest_edge": 224, "longest_edge": 300}"#, "longest_edge"),
        ("ViTImageProcessor", r#""rescale_offset": true"#, "rescale_offset"),
        ("ViTImageProcessor", r#""include_top": true"#, "include_top"),
        ("ConvNextImageProcessor", r#""do_center_crop": true"#, "do_center_crop"),
        ("ConvNextImageProcessor", r#""size": {"height": 224, "width": 224}"#, "shortest_edge"),
        ("ConvNextImageProcessor", r#""size": 224, "crop_pct": 0"#, "crop_pct"),
        ("ConvNextImageProcessor", r#""size": 224, "crop_pct": 1.5"#, "crop_pct"),
        ("ConvNextImageProcessor", r#""size": 224, "crop_pct": 1e-9"#, "expected 1 to 4096"),
        ("LevitImageProcessor", r#""size": 224, "crop_size": 224"#, "LevitImageProcessor"),
    ] {
        assert!(error(class, fields).contains(reason), "{class} {fields}: {}", error(class, fields));
    }
}

/// Pillow takes the pixel under the middle of the new one.
#[test]
fn the_nearest_pixel_is_pillows() {
    let preprocessor = preprocessor(
        r#"{"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 31, "width": 40},
            "do_rescale": false, "do_normalize": false, "include_top": false}"#,
    );
    let mut random = Random(99);
    for (width, height) in [(111, 57), (40, 31), (7, 5), (300, 200)] {
        let image = noise(&mut random, width, height);
        let found = pixel_values(&preprocessor, &image);
        let nearest = |place: usize, from: u32, to: u32| {
            ((place as f64 + 0.5) * f64::from(from) / f64::from(to)).floor() as u32
        };
        for y in 0..31 {
            for x in 0..40 {
                let level = image.get_pixel(nearest(x, width, 40), nearest(y, height, 31)).0[2];
                assert_eq!(found[(62 + y) * 40 + x], f32::from(level), "{width} × {height} at {x}, {y}");
            }
        }
    }
}
