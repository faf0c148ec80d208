//! A lane takes batches from one model's queue, encodes them and answers.
//!
//! A model has two lanes for images: while one runs the model, the other decodes the next batch.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array2, Array4, Axis, s};
use rayon::prelude::*;
use susx_core::clip::{ClipError, ClipModel, ImageLimits, PreprocessScratch, decode_rgb};

use crate::protocol::{Failure, FailureKind};
use crate::queue::FairQueue;
use crate::request::{Embedding, Input};
use crate::stats::{self, Kind};

/// Lanes for images: one decodes while the other runs the model.
pub const IMAGE_LANES: usize = 2;
/// Lanes for texts, whose preparation costs next to nothing.
pub const TEXT_LANES: usize = 1;

/// Embeds images until the process ends.
pub fn images(
    model: &ClipModel,
    queue: &FairQueue<Input<Vec<u8>>>,
    limits: &ImageLimits,
    batch_size: usize,
) -> ! {
    run(queue, batch_size, |files| {
        let embeddings = embed_images(model, limits, files);
        stats::server().batch(Kind::Images, &embeddings);
        embeddings
    })
}

/// Embeds texts until the process ends.
pub fn texts(model: &ClipModel, queue: &FairQueue<Input<String>>, batch_size: usize) -> ! {
    run(queue, batch_size, |texts: &[&String]| {
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        let embeddings = embed_texts(model, &texts);
        stats::server().batch(Kind::Texts, &embeddings);
        embeddings
    })
}

/// `embed` answers every content of a batch, in order.
fn run<T>(queue: &FairQueue<Input<T>>, batch_size: usize, embed: impl Fn(&[&T]) -> Vec<Embedding>) -> ! {
    loop {
        let batch = queue.take(batch_size);
        let contents: Vec<&T> = batch.iter().map(|input| &input.content).collect();
        // A panic costs the batch, not the lane: the inputs are dropped, which fails their requests.
        match catch_unwind(AssertUnwindSafe(|| embed(&contents))) {
            Ok(embeddings) => {
                for (input, embedding) in batch.into_iter().zip(embeddings) {
                    input.answer(embedding);
                }
            }
            Err(_) => stats::server().lost_batch(batch.len(), "encoding a batch panicked"),
        }
    }
}

fn embed_images(model: &ClipModel, limits: &ImageLimits, files: &[&Vec<u8>]) -> Vec<Embedding> {
    let Some(preprocessor) = model.preprocessor() else {
        return no_tower(model, "image", files.len());
    };
    let (channels, height, width) = preprocessor.shape();
    let mut pixel_values = Array4::zeros((files.len(), channels, height, width));
    let decoded: Vec<Result<(), Failure>> = pixel_values
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(files)
        .map_init(PreprocessScratch::default, |scratch, (mut out, file)| {
            let Some(out) = out.as_slice_mut() else {
                return Err(Failure::new(FailureKind::Inference, "the tensor is not contiguous"));
            };
            let decode = || {
                let image = decode_rgb(file, limits)?;
                preprocessor.pixel_values_into(&image, scratch, out)
            };
            match catch_unwind(AssertUnwindSafe(decode)) {
                Ok(result) => result.map_err(Failure::from),
                Err(_) => Err(Failure::new(FailureKind::Input, "the image's decoder failed on it")),
            }
        })
        .collect();
    let good: Vec<usize> = (0..files.len()).filter(|&i| decoded[i].is_ok()).collect();
    if good.is_empty() {
        return decoded.into_iter().map(|result| result.map(|()| Vec::new())).collect();
    }
    if good.len() < files.len() {
        pixel_values = pixel_values.select(Axis(0), &good);
    }
    let features = |rows: Range<usize>| model.image_features(pixel_values.slice(s![rows, .., .., ..]));
    let mut features = rows(good.len(), &features).into_iter();
    decoded
        .into_iter()
        .map(|result| match result {
            Ok(()) => features.next().unwrap_or_else(|| {
                Err(Failure::new(FailureKind::Inference, "the model gave fewer embeddings than images"))
            }),
            Err(failure) => Err(failure),
        })
        .collect()
}

fn embed_texts(model: &ClipModel, texts: &[&str]) -> Vec<Embedding> {
    let Some(tokenizer) = model.tokenizer() else {
        return no_tower(model, "text", texts.len());
    };
    rows(texts.len(), &|rows| model.text_features(&tokenizer.encode(&texts[rows])?))
}

/// Runs the model on some of a batch's inputs.
type Features<'a> = &'a dyn Fn(Range<usize>) -> Result<Array2<f32>, ClipError>;

/// One embedding per input. An input of which the model makes no vector costs only itself: then the
/// inputs are run one by one. Any other failure is everybody's.
fn rows(inputs: usize, features: Features) -> Vec<Embedding> {
    match features(0..inputs) {
        Ok(features) => features.rows().into_iter().map(|row| Ok(row.to_vec())).collect(),
        Err(ClipError::Embedding { .. } | ClipError::Text { .. }) if inputs > 1 => {
            (0..inputs).flat_map(|i| rows(1, &|_| features(i..i + 1))).collect()
        }
        Err(error) => vec![Err(error.into()); inputs],
    }
}

fn no_tower(model: &ClipModel, tower: &'static str, inputs: usize) -> Vec<Embedding> {
    let error = ClipError::NoTower { model: model.config().name.clone(), tower };
    vec![Err(error.into()); inputs]
}
