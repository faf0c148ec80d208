//! Damaged and hostile files must not cause a panic, a hang, or an invented image.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use susx_core::clip::{ClipError, ImageLimits, decode_rgb};

use crate::{Random, root, shared};

/// Decodes `bytes` and returns whether it worked; fails if it panics or takes long.
fn survives(what: &str, bytes: &[u8], limits: &ImageLimits) -> bool {
    let start = Instant::now();
    let result =
        std::panic::catch_unwind(|| decode_rgb(bytes, limits)).unwrap_or_else(|_| panic!("{what}: panicked"));
    assert!(start.elapsed() < Duration::from_secs(10), "{what}: took {:?}", start.elapsed());
    match result {
        Ok(image) => {
            assert!(u64::from(image.width()) * u64::from(image.height()) <= limits.max_pixels, "{what}");
            true
        }
        Err(
            ClipError::Image { .. }
            | ClipError::NotAnImage { .. }
            | ClipError::NoDecoder { .. }
            | ClipError::ImageTooLarge { .. },
        ) => false,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
#[cfg_attr(not(test_shared), ignore = "needs SUSX_TEST_SHARED: see `make -s env`")]
fn nothing_panics_or_hangs() {
    let dir = shared("bad-images");
    let limits = ImageLimits { max_bytes: 16 << 20, max_pixels: 16_000_000 };
    let (mut files, mut decoded) = (0, 0);
    for folder in dir.read_dir().unwrap() {
        for file in folder.unwrap().path().read_dir().unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            files += 1;
            decoded += usize::from(survives(&path.display().to_string(), &bytes, &limits));
        }
    }
    eprintln!("{decoded} of {files} files decoded");
    assert!(decoded > 150, "only {decoded} of {files} files were decoded");
}

/// Every orientation of the EXIF samples shows the same image.
#[test]
#[cfg_attr(not(test_shared), ignore = "needs SUSX_TEST_SHARED: see `make -s env`")]
fn exif_orientations() {
    let dir = shared("bad-images/exif");
    let read = |n: u32| {
        let bytes = std::fs::read(dir.join(format!("Landscape_{n}.jpg"))).unwrap();
        decode_rgb(&bytes, &ImageLimits::default()).unwrap()
    };
    let upright = read(1);
    for n in 0..=8 {
        let image = read(n);
        assert_eq!(image.dimensions(), upright.dimensions(), "{n}");
        let difference: u64 = image.iter().zip(upright.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = difference as f64 / upright.len() as f64;
        assert!(mean < 8.0, "{n}: mean difference {mean}");
    }
}

/// Decodes a few thousand damaged copies of small files of every format.
#[test]
fn random_damage() {
    let mut random = Random(0x5005_5005);
    let images = root().join("crates/susx-core/tests/clip/images");
    let limits = ImageLimits { max_bytes: 1 << 20, max_pixels: 1_000_000 };
    let files = |dir: PathBuf| dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let modern = files(images.join("modern")).filter(|path| path.extension().is_none_or(|it| it != "png"));
    for path in files(images).filter(|path| path.is_file()).chain(modern) {
        let original = std::fs::read(&path).unwrap();
        // The decoders of these are slow without optimisation.
        let rounds = if path.parent().is_some_and(|dir| dir.ends_with("modern")) { 20 } else { 100 };
        for round in 0..rounds {
            let mut bytes = original.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u32) as usize;
                bytes[at] = random.next() as u8;
            }
            survives(&format!("{} round {round}", path.display()), &bytes, &limits);
        }
    }
}
