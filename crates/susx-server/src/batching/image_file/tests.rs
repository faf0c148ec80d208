use std::thread;
use std::time::Duration;

use susx_core::clip::{PreprocessorConfig, Resample, Rounding};

use super::*;

const SIDE: u32 = 8;
/// Pixels whose values may be kept for other models: those of one image of both test models.
const ROOM: u64 = 36;

/// A preprocessor that crops to a square.
fn preprocessor(side: u32, mean: f64) -> Preprocessor {
    let config = PreprocessorConfig {
        resize: None,
        resample: Resample::Bicubic,
        crop: Some((side, side)),
        rescale_factor: 1.0 / 255.0,
        mean: [mean; 3],
        std: [0.5; 3],
        rounding: Rounding::default(),
        fill: [0; 3],
    };
    Preprocessor::new(&config).unwrap_or_else(|error| panic!("{error}"))
}

fn models() -> [Preprocessor; 2] {
    [preprocessor(4, 0.5), preprocessor(6, 0.25)]
}

fn decoding(max_kept: u64) -> Decoding {
    let limits = ImageLimits { max_bytes: 1 << 20, max_pixels: 1 << 20 };
    Decoding { limits, is_scaled: true, pixel_budget: Arc::new(PixelBudget::new(8 * max_kept)) }
}

/// A BMP file of 24-bit pixels.
fn bmp(seed: u8) -> Bytes {
    let length = 54 + 3 * SIDE * SIDE;
    let mut file = b"BM".to_vec();
    for number in [length, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, 0, 0, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend((54..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)));
    file.into()
}

/// Two files for both models.
fn two_pairs([first, second]: &[Preprocessor; 2], files: [Bytes; 2]) -> [[ImageFile; 2]; 2] {
    let pairs = pairs(files.into_iter(), [Some(first), Some(second)]);
    pairs.try_into().unwrap_or_else(|pairs| panic!("{pairs:?}"))
}

fn prepared(file: &ImageFile, model: &Preprocessor, decoding: &Decoding) -> Result<Vec<f32>, Failure> {
    let mut out = vec![f32::NAN; model.len()];
    file.prepare(model, decoding, &mut out).map(|()| out)
}

fn alone(file: &Bytes, model: &Preprocessor) -> Result<Vec<f32>, Failure> {
    prepared(&ImageFile::from(file.clone()), model, &decoding(0))
}

#[test]
fn both_models_get_the_values_that_they_get_alone() {
    let models = models();
    let files = [bmp(1), bmp(2)];
    for room in [0, ROOM] {
        let decoding = decoding(room);
        let pairs = two_pairs(&models, files.clone());
        // Each model is the first to come for one of the images.
        for (place, half) in [(0, 0), (1, 1), (1, 0), (0, 1)] {
            let values = prepared(&pairs[place][half], &models[half], &decoding);
            assert!(values.is_ok());
            assert_eq!(values, alone(&files[place], &models[half]));
        }
        assert_eq!(decoding.pixel_budget.kept(), 0);
    }
}

#[test]
fn values_are_kept_while_there_is_room() {
    let models = models();
    let decoding = decoding(ROOM);
    let pairs = two_pairs(&models, [bmp(1), bmp(2)]);
    for [first, _] in &pairs {
        assert!(prepared(first, &models[0], &decoding).is_ok());
    }
    let is_kept = |file: &ImageFile| {
        let shared = file.shared.as_ref().unwrap_or_else(|| panic!("the file is one of a pair"));
        matches!(*shared.state.lock().unwrap_or_else(PoisonError::into_inner), State::Kept(_))
    };
    assert_eq!(pairs.each_ref().map(|[first, _]| is_kept(first)), [true, false]);
    assert_eq!(decoding.pixel_budget.kept(), ROOM);
    // A backend that disconnects leaves nothing behind.
    drop(pairs);
    assert_eq!(decoding.pixel_budget.kept(), 0);
}

#[test]
fn a_broken_file_fails_for_both_models() {
    let models = models();
    let decoding = decoding(ROOM);
    let broken = bmp(1).slice(..60);
    let [pair, _] = two_pairs(&models, [broken.clone(), bmp(2)]);
    for (file, model) in pair.iter().zip(&models) {
        let failure = prepared(file, model, &decoding);
        assert!(failure.is_err());
        assert_eq!(failure, alone(&broken, model));
    }
}

#[test]
fn a_model_goes_on_with_other_images_while_another_decodes_one() {
    let models = models();
    let decoding = decoding(ROOM);
    let [[first, second], _] = two_pairs(&models, [bmp(1), bmp(2)]);
    // Makes the first model wait for pixels, with the image.
    let all = decoding.pixel_budget.take(8 * ROOM);
    thread::scope(|scope| {
        let decoder = scope.spawn(|| prepared(&first, &models[0], &decoding));
        let mut out = vec![0.0; models[1].len()];
        let is_busy = || second.shared.as_ref().is_some_and(|shared| shared.state.try_lock().is_err());
        while !is_busy() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(second.try_prepare(&models[1], &decoding, &mut out), None);
        drop(all);
        assert_eq!(prepared(&second, &models[1], &decoding), alone(&bmp(1), &models[1]));
        assert!(matches!(decoder.join(), Ok(Ok(_))));
    });
}

#[test]
fn nothing_is_shared_with_a_model_without_an_image_encoder() {
    let [first, _] = models();
    let pairs = pairs([bmp(1)].into_iter(), [Some(&first), None]);
    assert!(pairs.iter().flatten().all(|file| file.shared.is_none()));
}

/// What a decoder does is out of our hands.
#[test]
fn a_panic_is_reported_with_the_format_and_the_first_bytes() {
    let failed =
        decode(&bmp(1), &decoding(0), |_, _| 1, |_, _| -> clip::Result<()> { panic!("as a decoder might") });
    let message = failed.unwrap_err().message;
    let expected = "the BMP decoder panicked on this image, which begins with the bytes 42 4d f6 00 00 00";
    assert!(message.starts_with(expected), "{message}");
}
