//! AVIF, HEIC and JPEG XL against what Pillow and its plugins decode: see `images/make_modern.py`.

use std::path::PathBuf;

use susx_core::clip::{ClipError, ImageLimits, RgbImage, decode_rgb, image_info};

use crate::root;

fn folder() -> PathBuf {
    root().join("crates/susx-core/tests/clip/images/modern")
}

/// The files of a format, with the pixels that they should have.
fn files(extension: &str) -> Vec<(String, Vec<u8>, RgbImage)> {
    let mut names: Vec<PathBuf> = folder().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|found| found == extension));
    names.sort();
    assert!(names.len() > 10, "{} files of {extension}", names.len());
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = std::fs::read(folder().join(format!("{name}.png"))).unwrap();
        let expected = decode_rgb(&expected, &ImageLimits::default()).unwrap();
        (name, std::fs::read(path).unwrap(), expected)
    };
    names.into_iter().map(file).collect()
}

/// The largest and the mean difference of levels.
fn difference(found: &RgbImage, expected: &RgbImage) -> (u8, f64) {
    let differences = found.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences.clone().map(u64::from).sum();
    (differences.max().unwrap_or(0), sum as f64 / expected.len() as f64)
}

/// The differences come from rounding, from the way in which libjxl and libjpeg enlarge chroma and, at more than 8 bits,
/// from libavif, which drops the lower bits before it converts to RGB.
fn check(name: &str, found: &RgbImage, expected: &RgbImage) {
    assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
    let (largest, mean) = difference(found, expected);
    eprintln!("{name}: largest difference {largest}, mean {mean:.3}");
    let (most, most_mean) = if name.ends_with("bits.avif") { (8, 1.2) } else { (4, 0.7) };
    assert!(largest <= most && mean <= most_mean, "{name}: largest difference {largest}, mean {mean:.3}");
}

#[test]
fn avif_as_pillow_reads_it() {
    for (name, bytes, expected) in files("avif") {
        let found = decode_rgb(&bytes, &ImageLimits::default()).unwrap_or_else(|it| panic!("{name}: {it}"));
        check(&name, &found, &expected);
    }
}

#[test]
fn jpeg_xl_as_libjxl_reads_it() {
    for (name, bytes, expected) in files("jxl") {
        let found = decode_rgb(&bytes, &ImageLimits::default()).unwrap_or_else(|it| panic!("{name}: {it}"));
        check(&name, &found, &expected);
    }
}

#[test]
#[cfg_attr(not(test_libheif), ignore = "needs SUSX_TEST_LIBHEIF and LD_LIBRARY_PATH: see `make -s env`")]
fn heic_as_libheif_reads_it() {
    for (name, bytes, expected) in files("heic") {
        let found = decode_rgb(&bytes, &ImageLimits::default()).unwrap_or_else(|it| panic!("{name}: {it}"));
        check(&name, &found, &expected);
        for length in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 20] {
            match decode_rgb(&bytes[..length], &ImageLimits::default()) {
                // The first of several pictures may be complete.
                Ok(image) => assert!(name == "collection.heic" && image == found, "{name}: {length} bytes"),
                Err(error) => assert!(matches!(error, ClipError::Image { .. }), "{name}: {error}"),
            }
        }
    }
}

#[test]
fn what_the_header_says_is_what_is_decoded() {
    for extension in ["avif", "heic", "jxl"] {
        for (name, bytes, expected) in files(extension) {
            let info =
                image_info(&bytes, &ImageLimits::default()).unwrap_or_else(|it| panic!("{name}: {it}"));
            let shown = match info.orientation {
                1..=4 => (info.width, info.height),
                _ => (info.height, info.width),
            };
            assert_eq!(shown, expected.dimensions(), "{name}: {info:?}");
            if let Some(orientation) = name.strip_prefix("orientation_") {
                assert_eq!(info.orientation.to_string(), orientation[..1], "{name}");
            }
            // Pictures beside the primary one are no frames.
            assert_eq!(info.frames, 1, "{name}");
            let depth = ["10_bits", "12_bits", "16_bits"].iter().find(|depth| name.starts_with(**depth));
            let mode = match name.split('.').next().unwrap() {
                "alpha" | "premultiplied" => "RGBA".to_owned(),
                "400" | "grey" => "L".to_owned(),
                _ => depth.map_or_else(|| "RGB".to_owned(), |depth| format!("RGB;{}", &depth[..2])),
            };
            assert_eq!(info.mode, mode, "{name}");
        }
    }
}

/// A file that ends early is an error, wherever it ends. Only boxes behind the image's data may be missing.
#[test]
fn a_file_that_ends_early_is_an_error() {
    for name in
        ["420.avif", "alpha.avif", "grid.avif", "lossy.jxl", "jpeg.jxl", "large_lossy.jxl", "alpha.jxl"]
    {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let whole = decode_rgb(&bytes, &ImageLimits::default()).unwrap();
        let step = (bytes.len() / 200).max(1);
        for length in (0..bytes.len()).step_by(step) {
            if let Ok(image) = decode_rgb(&bytes[..length], &ImageLimits::default()) {
                assert!(image == whole, "{name}: {length} of {} bytes", bytes.len());
            }
        }
        assert!(decode_rgb(&bytes[..bytes.len() / 2], &ImageLimits::default()).is_err(), "{name}");
    }
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    for name in ["420.avif", "grid.avif", "420.heic", "lossy.jxl"] {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        // HEIC's blocks are larger than the image.
        let pixels = match name {
            "grid.avif" => 120 * 120,
            "420.heic" => 64 * 64,
            _ => 61 * 43,
        };
        let limits = ImageLimits { max_pixels: pixels - 1, ..ImageLimits::default() };
        let expected = ClipError::ImageTooLarge { unit: "pixels", limit: pixels - 1, found: pixels };
        assert_eq!(decode_rgb(&bytes, &limits), Err(expected), "{name}");
        if !name.ends_with("heic") {
            decode_rgb(&bytes, &ImageLimits { max_pixels: pixels, ..limits }).unwrap();
        }
    }
}
