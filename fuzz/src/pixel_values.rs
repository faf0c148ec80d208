use std::sync::LazyLock;

use susx_core::clip::{
    ClipError, ImageLimits, PreprocessScratch, Preprocessor, PreprocessorConfig, decode_rgb, image_info,
};

/// Small limits keep a run short.
const LIMITS: ImageLimits = ImageLimits { max_bytes: 1 << 20, max_pixels: 1 << 18 };

static CLIP: LazyLock<Preprocessor> = LazyLock::new(|| {
    let config = PreprocessorConfig::from_json("{}").expect("the defaults of CLIP");
    Preprocessor::new(&config).expect("the defaults of CLIP")
});

/// An image file. Decoding and preprocessing it must result in an error about the image, or in an image within the
/// limits whose values are in the possible range.
pub fn pixel_values(data: &[u8]) {
    // What can be decoded has a header that can be read.
    let info = image_info(data, &LIMITS);
    let image = match decode_rgb(data, &LIMITS) {
        Ok(image) => image,
        Err(
            ClipError::Image { .. }
            | ClipError::NotAnImage { .. }
            | ClipError::NoDecoder { .. }
            | ClipError::ImageTooLarge { .. },
        ) => return,
        Err(other) => panic!("not an error about an image: {other}"),
    };
    assert!(u64::from(image.width()) * u64::from(image.height()) <= LIMITS.max_pixels);
    assert!(info.is_ok_and(|info| info.frames > 0 && (1..=8).contains(&info.orientation)));
    let mut values = vec![f32::NAN; CLIP.len()];
    match CLIP.pixel_values_into(&image, &mut PreprocessScratch::default(), &mut values) {
        // The range of (x - mean) / std for CLIP's three channels and x from 0 to 1.
        Ok(()) => assert!(values.iter().all(|value| (-1.8..=2.2).contains(value))),
        Err(ClipError::Image { .. } | ClipError::ImageTooLarge { .. }) => {}
        Err(other) => panic!("not an error about an image: {other}"),
    }
}
