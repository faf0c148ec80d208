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
        "rgb.png",
        "transparent.gif",
        "rgb.bmp",
        "lzw.tif",
        "lossy.webp",
        "transparent.webp",
    ] {
        let bytes = read(name);
        // Without its last byte or two an image may still be complete.
        for length in 0..bytes.len() - 3 {
            match decode_rgb(&bytes[..length], &ImageLimits::default()) {
                Err(ClipError::Image { reason, .. }) => assert!(!reason.is_empty()),
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

/// A decoder accepts such a table and returns an image that the file does not have.
#[test]
fn a_damaged_huffman_table_of_a_jpeg_is_an_error() {
    let mut bytes = read("baseline.jpg");
    // The marker of the segment, its length, and the table's class (DC) and number.
    let at = bytes.windows(5).position(|bytes| matches!(bytes, [0xFF, 0xC4, _, _, 0x00])).unwrap();
    let values = at + 5 + 16;
    bytes[values] = bytes[values + 1];
    let error = decode_rgb(&bytes, &ImageLimits::default()).unwrap_err().to_string();
    assert_eq!(error, "cannot decode the JPEG image: a Huffman table has two codes for one value");
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    for name in ["baseline.jpg", "rgb.png", "animated.gif", "lossy.webp", "rgb.bmp", "lzw.tif"] {
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
    assert_eq!(message(b""), "not an image: there are no bytes");
    assert!(message(b"hello").contains("no known format (supported: JPEG, PNG, GIF, WebP, BMP, TIFF)"));
    assert!(message(b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00").contains("AVIF images are not supported"));
    let broken = message(&read("rgb.png")[..60]);
    assert!(broken.starts_with("cannot decode the PNG image: "), "{broken}");
    let broken = message(&read("baseline.jpg")[..100]);
    assert!(broken.starts_with("cannot decode the JPEG image: "), "{broken}");
    assert!(!broken.contains(['"', '\n']), "{broken}");
}
