//! A lane of an embedding model takes batches from its queue, encodes them and answers.
//!
//! A model has two lanes for images and two for texts: while one runs the model, the other decodes or
//! tokenizes the next batch. So two batches are in flight, and only the lanes' order of arrival at the
//! model decides which comes first.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ndarray::{Array2, ArrayView4};
use rayon::prelude::*;
use susx_core::clip::{ClipError, ClipModel, ImageLimits, PreprocessScratch, Preprocessor, decode_rgb};

use crate::protocol::{Failure, FailureKind};
use crate::queue::FairQueue;
use crate::request::{Embedding, Input};
use crate::stats::{self, Kind};

/// Lanes for images, and for texts: one prepares while the other runs the model.
pub const LANES: usize = 2;

/// Texts that are taken together, in batches: among them, those of about the same length share runs. More
/// would waste less on padding, and let a single text wait longer behind a bulk job.
const TEXT_BATCHES: usize = 4;

thread_local! {
    /// Each thread that decodes has one.
    static SCRATCH: RefCell<PreprocessScratch> = RefCell::default();
}

/// Embeds images until the queue is closed.
pub fn images(model: &ClipModel, queue: &FairQueue<Input<Bytes>>, limits: &ImageLimits, batch_size: usize) {
    // The batch's tensor, which grows to the largest batch there was.
    let mut pixel_values = Vec::new();
    run(queue, batch_size, |files| {
        let embeddings = embed_images(model, limits, files, &mut pixel_values);
        stats::server().batch(Kind::Images, &embeddings);
        embeddings
    });
}

/// Embeds texts until the queue is closed.
pub fn texts(model: &ClipModel, queue: &FairQueue<Input<String>>, batch_size: usize) {
    run(queue, TEXT_BATCHES * batch_size, |texts: &[&String]| {
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        let embeddings = embed_texts(model, &texts);
        stats::server().batch(Kind::Texts, &embeddings);
        embeddings
    });
}

/// `embed` answers every content of a batch, in order.
fn run<T>(queue: &FairQueue<Input<T>>, most: usize, mut embed: impl FnMut(&[&T]) -> Vec<Embedding>) {
    while let Some(batch) = queue.take(most) {
        let contents: Vec<&T> = batch.iter().map(|taken| &taken.content.content).collect();
        // A panic costs the batch, not the lane: the inputs are dropped, which fails their requests.
        let embeddings = catch_unwind(AssertUnwindSafe(|| embed(&contents)));
        // Before the answers: who gets one may send the next input at once.
        queue.done(batch.iter().map(|taken| taken.connection));
        match embeddings {
            Ok(embeddings) => {
                for (taken, embedding) in batch.into_iter().zip(embeddings) {
                    taken.content.answer(embedding);
                }
            }
            Err(_) => stats::server().lost_batch(batch.len(), "encoding a batch panicked"),
        }
    }
}

fn embed_images(
    model: &ClipModel,
    limits: &ImageLimits,
    files: &[&Bytes],
    pixel_values: &mut Vec<f32>,
) -> Vec<Embedding> {
    let Some(preprocessor) = model.preprocessor() else {
        return no_tower(model, "image", files.len());
    };
    let len = preprocessor.len();
    if pixel_values.len() < files.len() * len {
        pixel_values.resize(files.len() * len, 0.0);
    }
    let decoded: Vec<Result<(), Failure>> = pixel_values
        .par_chunks_exact_mut(len)
        .zip(files)
        .map(|(out, file)| decode(preprocessor, limits, file, out))
        .collect();
    let good: Vec<usize> = (0..files.len()).filter(|&i| decoded[i].is_ok()).collect();
    if good.is_empty() {
        return decoded.into_iter().map(|result| result.map(|()| Vec::new())).collect();
    }
    for (to, &from) in good.iter().enumerate().filter(|&(to, &from)| to != from) {
        pixel_values.copy_within(from * len..(from + 1) * len, to * len);
    }
    let (channels, height, width) = preprocessor.shape();
    let features = |rows: Range<usize>| {
        let shape = (rows.len(), channels, height, width);
        let values = &pixel_values[rows.start * len..rows.end * len];
        let view = ArrayView4::from_shape(shape, values)
            .map_err(|error| ClipError::Inference { reason: error.to_string() })?;
        model.image_features(view)
    };
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

/// Decodes one file to its place in the batch.
fn decode(
    preprocessor: &Preprocessor,
    limits: &ImageLimits,
    file: &[u8],
    out: &mut [f32],
) -> Result<(), Failure> {
    let decode = || {
        let image = decode_rgb(file, limits)?;
        SCRATCH.with_borrow_mut(|scratch| preprocessor.pixel_values_into(&image, scratch, out))
    };
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::new(FailureKind::Input, "the image's decoder failed on it")),
    }
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
