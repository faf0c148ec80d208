//! The check of a Stable Diffusion.

use std::ops::ControlFlow;

use super::Model;
use super::report::Report;
use crate::diffusion::{GenerateError, Generator, GeneratorConfig, ImageInput, RgbImage, Settings};

/// The most grey levels that an image may differ from itself in a batch, on average.
const SAME: f64 = 1.0;

/// Sides of the images, in pixels: the least that every U-Net can halve three times.
const SIDE: u32 = 64;

pub fn check(model: &Model, report: &mut Report) -> Result<(), String> {
    let sentence = |error: GenerateError| error.to_string();
    report.fact("kind", "diffusion");
    let config = GeneratorConfig::read(model.model_dir, model.name).map_err(sentence)?;
    let (height, width) = config.image_size();
    report.fact("image_size", format!("{height} × {width} pixels"));
    report.fact("bytes", config.bytes().map_err(sentence)?);
    #[cfg(feature = "diffusion")]
    {
        report.fact("scheduler", config.scheduler().to_string());
        report.fact("safety_checker", config.has_safety_checker());
    }
    let generator = Generator::load(&model.runtime()?, config, &model.options).map_err(sentence)?;
    report.fact("provider", generator.provider());
    report.fact("other_providers", generator.fallback_reason());
    report
        .fact("operations_elsewhere", generator.partial_fallback().map(|partial| partial.operations.clone()));
    report.fact("sha256", hex::encode(generator.sha256()));
    tests(&generator, report).map_err(sentence)
}

/// One step is enough to run every graph.
fn tests(generator: &Generator, report: &mut Report) -> Result<(), GenerateError> {
    let input = |seed| ImageInput { prompt: "a photo of a dog".into(), negative_prompt: String::new(), seed };
    let small = Settings { steps: 1, guidance_scale: 7.5, height: Some(SIDE), width: Some(SIDE) };
    let generate = |settings: &Settings, inputs: &[ImageInput]| {
        generator.generate(inputs, settings, &mut |_| ControlFlow::Continue(()))
    };
    // Graphs that were exported for one size accept no other.
    let (settings, together) = match generate(&small, &[input(1), input(2)]) {
        Err(GenerateError::Setting { .. }) => {
            let trained = Settings { height: None, width: None, ..small };
            (trained, generate(&trained, &[input(1), input(2)])?)
        }
        other => (small, other?),
    };
    let alone = generate(&settings, &[input(1)])?;
    let mut images = together.into_iter().chain(alone);
    match (images.next(), images.next(), images.next()) {
        (Some(Ok(first)), Some(Ok(second)), Some(Ok(alone))) => {
            let found = difference(&first, &alone);
            report.test(
                "an image alone and in a batch",
                found <= SAME,
                format!("they differ by {found:.3} grey levels"),
            );
            let found = difference(&first, &second);
            report.test(
                "another seed gives another image",
                found > SAME,
                format!("they differ by {found:.1} grey levels"),
            );
        }
        (first, second, alone) => {
            // After one step an image may be anything, also for a safety checker.
            let failures = [first, second, alone].into_iter().flatten().filter_map(Result::err);
            let failures: Vec<String> = failures.map(|error| error.to_string()).collect();
            report.information("images of one step", failures.join("; "));
        }
    }
    Ok(())
}

/// The mean difference of two images of one size, in grey levels.
#[cfg(feature = "diffusion")]
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.as_raw().len().max(1) as f64
}

/// A server without image generation has no images.
#[cfg(not(feature = "diffusion"))]
fn difference(a: &RgbImage, _: &RgbImage) -> f64 {
    match *a {}
}
