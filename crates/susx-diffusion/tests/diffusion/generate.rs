//! What a caller can rely on: seeds, batches, cancellation, settings and threads.

use std::ops::ControlFlow;

use susx_diffusion::{GenerateError, ImageInput, Progress, RgbImage, Settings};

use crate::images::difference;
use crate::load;

fn input(prompt: &str, seed: u64) -> ImageInput {
    ImageInput { prompt: prompt.into(), negative_prompt: String::new(), seed }
}

fn settings(steps: usize) -> Settings {
    Settings { steps, ..Settings::default() }
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn a_seed_determines_the_image() {
    let generator = load("pndm");
    let generate = |input: ImageInput| -> RgbImage {
        generator.generate(&[input], &settings(4), &mut go_on).unwrap().remove(0).unwrap()
    };
    let first = generate(input("a cat", 1));
    assert_eq!(first.dimensions(), (64, 64));
    assert_eq!(generate(input("a cat", 1)), first);
    assert!(difference(&generate(input("a cat", 2)), &first) > 20.0);
    assert!(difference(&generate(input("a dog in the garden", 1)), &first) > 1.0);
    let mut negative = input("a cat", 1);
    negative.negative_prompt = "a drawing".into();
    assert!(difference(&generate(negative), &first) > 1.0);
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn a_batch_gives_the_same_images() {
    // `fixed` has a batch size of two, while three images with guidance are six rows; `half` rounds.
    for variant in ["pndm", "velocity", "half", "fixed", "ancestral", "lcm"] {
        let generator = load(variant);
        let inputs = [input("a cat", 1), input("a red flower", 2), input("a cat", 3)];
        for guidance_scale in [5.0, 0.0] {
            let settings = Settings { guidance_scale, ..settings(5) };
            let batch = generator.generate(&inputs, &settings, &mut go_on).unwrap();
            assert_eq!(batch.len(), 3);
            for (input, together) in inputs.iter().zip(batch) {
                let alone = generator.generate(std::slice::from_ref(input), &settings, &mut go_on);
                let alone = alone.unwrap().remove(0).unwrap();
                let difference = difference(&together.unwrap(), &alone);
                assert!(difference < 0.1, "{variant}, guidance {guidance_scale}: {difference}");
            }
        }
    }
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn a_blocked_image_does_not_affect_others() {
    let generator = load("checked");
    let inputs: Vec<ImageInput> = (0..8).map(|seed| input("lemons on the table", seed)).collect();
    let images = generator.generate(&inputs, &settings(3), &mut go_on).unwrap();
    let blocked: Vec<bool> =
        images.iter().map(|image| matches!(image, Err(GenerateError::Blocked))).collect();
    assert_eq!(blocked, [true, false, false, false, true, false, true, true]);
    assert_eq!(images.iter().filter(|image| image.is_ok()).count(), 4);
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn it_stops_at_the_next_step() {
    let generator = load("pndm");
    let inputs = [input("a cat", 1), input("a dog", 2)];
    let mut steps = Vec::new();
    let mut record = |step: Progress| {
        steps.push((step.done, step.total));
        ControlFlow::Continue(())
    };
    generator.generate(&inputs, &settings(5), &mut record).unwrap();
    // PNDM's first step takes two runs. At the end each image is decoded.
    assert_eq!(steps, [(0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6), (6, 6)]);
    for last in 0..steps.len() {
        let mut calls = 0;
        let mut stop = |_| {
            calls += 1;
            if calls > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = generator.generate(&inputs, &settings(5), &mut stop);
        assert_eq!(result, Err(GenerateError::Cancelled));
        assert_eq!(calls, last + 1);
    }
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn bad_settings_are_told() {
    let generator = load("pndm");
    let refused = |settings: Settings| {
        let error = generator.generate(&[input("a cat", 1)], &settings, &mut go_on).unwrap_err();
        // The same error is found without a loaded generator.
        assert_eq!(settings.check(generator.config()), Err(error.clone()));
        error.to_string()
    };
    assert_eq!(refused(settings(0)), "invalid steps: expected 1 to 1000, not 0");
    let guided = |guidance_scale| Settings { guidance_scale, ..settings(2) };
    assert_eq!(refused(guided(-1.0)), "invalid guidance_scale: expected 0 to 100, not -1");
    assert_eq!(refused(guided(f32::NAN)), "invalid guidance_scale: expected 0 to 100, not NaN");
    let sized = |height, width| Settings { height: Some(height), width: Some(width), ..settings(2) };
    assert_eq!(refused(sized(60, 64)), "invalid height: expected a multiple of 8 up to 4096 pixels, not 60");
    assert_eq!(refused(sized(64, 0)), "invalid width: expected a multiple of 8 up to 4096 pixels, not 0");
    assert_eq!(
        refused(sized(64, 8192)),
        "invalid width: expected a multiple of 8 up to 4096 pixels, not 8192"
    );
    assert_eq!(generator.generate(&[], &settings(2), &mut go_on), Ok(Vec::new()));

    let generator = load("fixed");
    let error = generator.generate(&[input("a cat", 1)], &sized(64, 96), &mut go_on).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid width: the generator's graphs were exported for 64 pixels, not 96"
    );
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn threads_share_a_generator() {
    let generator = load("pndm");
    let generate = |seed| generator.generate(&[input("a cat", seed)], &settings(3), &mut go_on).unwrap();
    let expected: Vec<_> = (0..3).map(generate).collect();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..3)
            .map(|seed| {
                let generate = &generate;
                scope.spawn(move || generate(seed))
            })
            .collect();
        for (handle, expected) in handles.into_iter().zip(expected) {
            assert_eq!(handle.join().unwrap(), expected);
        }
    });
}
