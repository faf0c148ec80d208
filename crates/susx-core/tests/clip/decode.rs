//! Decoding the images of `images/`, which all show the same four rectangles.

use std::path::Path;

use susx_core::clip::{ClipError, ImageLimits, decode_rgb};

const RED: [u8; 3] = [200, 30, 30];
const GREEN: [u8; 3] = [30, 160, 40];
const BLUE: [u8; 3] = [40, 60, 210];
const YELLOW: [u8; 3] = [220, 210, 50];
const WHITE: [u8; 3] = [255; 3];
const COLORS: [[u8; 3]; 4] = [RED, GREEN, BLUE, YELLOW];
/// The colour of transparent pixels.
const HALF: [[u8; 3]; 4] = [RED, WHITE, BLUE, WHITE];
/// The colours of what stands for a fax.
const FAX: [[u8; 3]; 4] = [[0; 3], WHITE, WHITE, WHITE];
/// ITU-R 601 luma.
const GREYS: [[u8; 3]; 4] = [[81; 3], [107; 3], [71; 3], [195; 3]];

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clip/images").join(name)).unwrap()
}

#[test]
fn every_format_shows_the_same_image() {
    let expected = [
        ("baseline.jpg", COLORS),
        ("progressive.jpg", COLORS),
        ("split_scans.jpg", COLORS),
        ("arithmetic.jpg", COLORS),
        ("arithmetic_progressive.jpg", COLORS),
        ("cmyk.jpg", COLORS),
        ("grey.jpg", GREYS),
        ("sideways.jpg", COLORS),
        ("rgb.png", COLORS),
        ("palette.png", COLORS),
        ("grey_alpha.png", GREYS),
        ("grey16.png", GREYS),
        ("transparent.png", HALF),
        ("transparent_palette.png", HALF),
        ("sideways.png", COLORS),
        ("transparent.gif", HALF),
        ("animated.gif", COLORS),
        ("lossy.webp", COLORS),
        ("transparent.webp", HALF),
        ("animated.webp", COLORS),
        ("sideways.webp", COLORS),
        ("rgb.bmp", COLORS),
        ("palette.bmp", COLORS),
        ("lzw.tif", COLORS),
        ("palette.tif", COLORS),
        ("transparent.tif", HALF),
        ("grey_alpha.tif", GREYS),
        ("cmyk.tif", COLORS),
        ("jpeg.tif", COLORS),
        ("grey16.tif", GREYS),
        ("float.tif", GREYS),
        ("sideways.tif", COLORS),
        ("pages.tif", COLORS),
        ("fax_raw.tif", FAX),
        ("fax_huffman.tif", FAX),
        ("fax_group3.tif", FAX),
        ("fax_group4.tif", FAX),
        ("planes.tif", COLORS),
        ("subsampled.tif", COLORS),
        ("palette_big.tif", COLORS),
        ("lab.tif", COLORS),
        ("profile.png", COLORS),
        ("no_screen.gif", HALF),
        ("runs.bmp", COLORS),
        ("promises.webp", COLORS),
        ("420.avif", COLORS),
        ("422.avif", COLORS),
        ("444.avif", COLORS),
        ("grey.avif", GREYS),
        ("limited.avif", COLORS),
        ("transparent.avif", HALF),
        ("premultiplied.avif", HALF),
        ("sideways.avif", COLORS),
        ("animated.avif", COLORS),
        ("lossless.jxl", COLORS),
        ("lossy.jxl", COLORS),
        ("grey.jxl", GREYS),
        ("transparent.jxl", HALF),
        ("container.jxl", COLORS),
        ("from_jpeg.jxl", COLORS),
        ("sideways.jxl", COLORS),
        ("animated.jxl", COLORS),
    ];
    for (name, colors) in expected {
        let image = decode_rgb(&read(name), &ImageLimits::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(image.dimensions(), (24, 16), "{name}");
        for (point, color) in [(4, 3), (19, 3), (4, 12), (19, 12)].into_iter().zip(colors) {
            let found = image.get_pixel(point.0, point.1).0;
            let distance = found.iter().zip(color).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(distance <= 4, "{name} at {point:?}: {found:?}, expected {color:?}");
        }
    }
}

#[test]
fn an_image_that_ends_early_is_an_error() {
    for name in [
        "baseline.jpg",
        "progressive.jpg",
        "split_scans.jpg",
        "arithmetic.jpg",
        "arithmetic_progressive.jpg",
        "rgb.png",
        "transparent.gif",
        "rgb.bmp",
        "lzw.tif",
        "fax_huffman.tif",
        "fax_group3.tif",
        "fax_group4.tif",
        "planes.tif",
        "subsampled.tif",
        "runs.bmp",
        "lossy.webp",
        "transparent.webp",
    ] {
        let bytes = read(name);
        // Without its last byte or two an image may still be complete.
        for length in 0..bytes.len() - 3 {
            match decode_rgb(&bytes[..length], &ImageLimits::default()) {
                Err(ClipError::Image { reason, .. }) => assert!(!reason.is_empty()),
                Err(ClipError::NotAnImage { .. }) => assert!(length < 16, "{name}: {length} bytes"),
                Err(other) => panic!("{name}, {length} bytes: {other}"),
                // The trailer of a GIF and the padding of a TIFF or WebP are optional.
                Ok(image) => {
                    let whole = decode_rgb(&bytes, &ImageLimits::default()).unwrap();
                    assert!(image == whole, "{name}: {length} of {} bytes", bytes.len());
                }
            }
        }
    }
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    for name in
        ["baseline.jpg", "rgb.png", "animated.gif", "no_screen.gif", "lossy.webp", "rgb.bmp", "lzw.tif"]
    {
        let bytes = read(name);
        let limits = ImageLimits { max_bytes: bytes.len(), max_pixels: 24 * 16 };
        decode_rgb(&bytes, &limits).unwrap();
        let error = decode_rgb(&bytes, &ImageLimits { max_pixels: 24 * 16 - 1, ..limits });
        assert_eq!(error, Err(ClipError::ImageTooLarge { unit: "pixels", limit: 383, found: 384 }), "{name}");
        let error = decode_rgb(&bytes, &ImageLimits { max_bytes: bytes.len() - 1, ..limits });
        let (limit, found) = (bytes.len() as u64 - 1, bytes.len() as u64);
        assert_eq!(error, Err(ClipError::ImageTooLarge { unit: "bytes", limit, found }), "{name}");
    }
}

#[test]
fn errors_name_the_format_and_the_reason() {
    let message = |bytes: &[u8]| decode_rgb(bytes, &ImageLimits::default()).unwrap_err().to_string();
    let formats = "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC, JPEG XL";
    for (bytes, found) in [(&b""[..], "no bytes"), (b"hello", "text"), (b"%PDF-1.4\n", "a PDF document")] {
        assert_eq!(message(bytes), format!("expected an image ({formats}), found {found}"));
    }
    let broken = message(b"\x00\x00\x00\x10ftypavif\x00\x00\x00\x00");
    assert!(broken.starts_with("cannot decode the AVIF image: "), "{broken}");
    let broken = message(&read("rgb.png")[..60]);
    assert!(broken.starts_with("cannot decode the PNG image: "), "{broken}");
    let broken = message(&read("baseline.jpg")[..100]);
    assert!(broken.starts_with("cannot decode the JPEG image: "), "{broken}");
    assert!(!broken.contains(['"', '\n']), "{broken}");
}

/// A tile or strip can be larger than the picture, and there can be many that all lie in one place.
#[test]
fn a_tiff_costs_no_more_than_its_picture() {
    let tile_of = |width: u32, height: u32, bytes: &mut [u8]| {
        // The only entries of the tags 322 and 323: tag, SHORT, one value.
        for (tag, side) in [(322u16, width), (323, height)] {
            let entry = [&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0]].concat();
            let at = bytes.windows(8).position(|bytes| bytes == entry).unwrap();
            bytes[at + 2] = 4;
            bytes[at + 8..at + 12].copy_from_slice(&side.to_le_bytes());
        }
    };
    let mut bytes = read("planes.tif");
    tile_of(1 << 20, 1 << 20, &mut bytes);
    let error = decode_rgb(&bytes, &ImageLimits::default()).unwrap_err().to_string();
    assert_eq!(error, "cannot decode the TIFF image: its strips or tiles are far larger than the image");
}
