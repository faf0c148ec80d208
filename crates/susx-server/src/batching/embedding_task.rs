//! A batching task of an embedding model: takes batches from a queue, encodes them and answers their inputs.
//!
//! A model has two tasks for images and two for texts: while one runs the model, the other decodes or tokenizes the
//! next batch. So two batches are in flight, and the one that is prepared first is encoded first.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ndarray::{Array2, ArrayView4};
use rayon::prelude::*;
use susx_core::clip::{ClipError, ClipModel, TokenIds};
use susx_core::onnx::OnnxError;

use crate::batching::fair_queue::{Dequeued, FairQueue};
use crate::batching::image_file::{Decoding, ImageFile};
use crate::batching::request::{EmbeddingResult, PendingInput, abandoned};
use crate::protocol::{Failure, FailureKind, too_large};
use crate::stats::{self, InputKind};
use crate::watchdog::{Activity, WatchGuard, Watchdog};

/// Tasks per queue: one prepares a batch while the other runs the model.
pub const TASKS_PER_QUEUE: usize = 2;

/// Number of full batches of texts that are taken at once and grouped by length, so that runs need little padding.
/// More would need less padding but let a single text wait longer behind a bulk job.
const TEXT_BATCHES_PER_TAKE: usize = 4;

/// Maximum bytes of the texts that are taken at once, unless the first one is longer. Tokenizing this many takes
/// seconds if nothing is truncated.
const TEXT_BYTES_PER_TAKE: usize = 512 << 10;

/// A text, as a slice of the message that it arrived in.
#[derive(Clone, Debug)]
pub struct Text(Bytes);

impl Text {
    /// Slices `message`. Panics if `text` is not a part of it.
    pub fn of(message: &Bytes, text: &str) -> Self {
        Text(message.slice_ref(text.as_bytes()))
    }

    fn as_str(&self) -> &str {
        // Made of a `&str`, so always valid UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Fails with [`FailureKind::TooLarge`] if a text has more than `max_bytes` bytes.
pub fn check_text(text: &str, max_bytes: usize) -> Result<(), Failure> {
    match text.len() {
        found if found > max_bytes => Err(too_large("text", found, max_bytes, "susx.max_text_bytes")),
        _ => Ok(()),
    }
}

/// Limits and shared state of a model's tasks.
#[derive(Clone)]
pub struct EmbeddingLimits {
    /// Inputs of a full batch.
    pub batch_size: usize,
    pub decoding: Decoding,
    /// Maximum length of a text.
    pub max_text_bytes: usize,
    /// Time limit for tokenizing a batch; zero is none.
    pub tokenizing_limit: Duration,
    /// Time limit for running the model on up to [`INPUTS_PER_RUN_LIMIT`] inputs; zero is none.
    pub run_limit: Duration,
    pub watchdog: Arc<Watchdog>,
}

/// Inputs that one run limit covers. Larger batches get a multiple of the limit.
const INPUTS_PER_RUN_LIMIT: usize = 32;

impl EmbeddingLimits {
    /// Starts the watchdog's timer for running the model on a batch.
    fn watch_run(&self, model: &ClipModel, inputs: usize) -> WatchGuard<'_> {
        let factor = inputs.div_ceil(INPUTS_PER_RUN_LIMIT).max(1);
        let limit = self.run_limit.saturating_mul(u32::try_from(factor).unwrap_or(u32::MAX));
        self.watchdog.begin(model.name(), Activity::Batch, limit)
    }
}

/// Embeds images until the queue is closed.
pub fn images(model: &ClipModel, queue: &FairQueue<PendingInput<ImageFile>>, limits: &EmbeddingLimits) {
    // The batch's tensor, kept between batches to avoid allocating it again.
    let mut pixel_values = Vec::new();
    let take = || queue.take(limits.batch_size);
    run(queue, take, |files| {
        let embeddings = embed_images(model, limits, files, &mut pixel_values);
        stats::server().batch(InputKind::Images, &embeddings);
        embeddings
    });
}

/// Embeds texts until the queue is closed.
pub fn texts(model: &ClipModel, queue: &FairQueue<PendingInput<Text>>, limits: &EmbeddingLimits) {
    let max_texts = TEXT_BATCHES_PER_TAKE * limits.batch_size;
    let take = || queue.take_weighted(max_texts, TEXT_BYTES_PER_TAKE, |text| text.payload.0.len());
    run(queue, take, |texts| {
        let embeddings = embed_texts(model, limits, texts);
        stats::server().batch(InputKind::Texts, &embeddings);
        embeddings
    });
}

/// Takes batches until the queue is closed. `embed` returns one result per input of a batch, in order.
fn run<T>(
    queue: &FairQueue<PendingInput<T>>,
    take: impl Fn() -> Option<Vec<Dequeued<PendingInput<T>>>>,
    mut embed: impl FnMut(&[&PendingInput<T>]) -> Vec<EmbeddingResult>,
) {
    while let Some(batch) = take() {
        let inputs: Vec<&PendingInput<T>> = batch.iter().map(|dequeued| &dequeued.item).collect();
        // A panic costs the batch, not the task: the inputs are dropped, which fails their requests.
        let embeddings = catch_unwind(AssertUnwindSafe(|| embed(&inputs)));
        // Before the inputs are answered, because a client may send its next input at once.
        queue.done(batch.iter().map(|dequeued| dequeued.connection));
        match embeddings {
            Ok(embeddings) => {
                for (dequeued, embedding) in batch.into_iter().zip(embeddings) {
                    dequeued.item.answer(embedding);
                }
            }
            Err(_) => stats::server().lost_batch(batch.len(), "encoding a batch panicked"),
        }
    }
}

fn embed_images(
    model: &ClipModel,
    limits: &EmbeddingLimits,
    files: &[&PendingInput<ImageFile>],
    pixel_values: &mut Vec<f32>,
) -> Vec<EmbeddingResult> {
    let Some(preprocessor) = model.preprocessor() else {
        return no_encoder(model, "image", files.len());
    };
    let len = preprocessor.len();
    if pixel_values.len() < files.len() * len {
        pixel_values.resize(files.len() * len, 0.0);
    }
    let mut decoded: Vec<Option<Result<(), Failure>>> = pixel_values
        .par_chunks_exact_mut(len)
        .zip(files)
        .map(|(out, file)| match file.is_abandoned() {
            true => Some(Err(abandoned())),
            false => file.payload.try_prepare(preprocessor, &limits.decoding, out),
        })
        .collect();
    // Another model was decoding these images, and may be still.
    pixel_values
        .par_chunks_exact_mut(len)
        .zip(files)
        .zip(&mut decoded)
        .filter(|(_, decoded)| decoded.is_none())
        .for_each(|((out, file), decoded)| {
            *decoded = Some(file.payload.prepare(preprocessor, &limits.decoding, out));
        });
    let decoded: Vec<Result<(), Failure>> = decoded.into_iter().flatten().collect();
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
            .map_err(|error| ClipError::from(OnnxError::inference(error)))?;
        model.image_features(view)
    };
    let _guard = limits.watch_run(model, good.len());
    merge_in_order(decoded, rows(good.len(), &features))
}

/// Puts the embeddings in the places of the inputs that were prepared, and keeps the failures of the others.
fn merge_in_order(
    prepared: Vec<Result<(), Failure>>,
    embeddings: Vec<EmbeddingResult>,
) -> Vec<EmbeddingResult> {
    let mut embeddings = embeddings.into_iter();
    let too_few = || {
        Failure::new(FailureKind::Inference, "the model returned fewer embeddings than it was given inputs")
    };
    prepared
        .into_iter()
        .map(|result| result.and_then(|()| embeddings.next().unwrap_or_else(|| Err(too_few()))))
        .collect()
}

fn embed_texts(
    model: &ClipModel,
    limits: &EmbeddingLimits,
    inputs: &[&PendingInput<Text>],
) -> Vec<EmbeddingResult> {
    let Some(tokenizer) = model.tokenizer() else {
        return no_encoder(model, "text", inputs.len());
    };
    let checks: Vec<_> =
        inputs.iter().map(|input| check_text(input.payload.as_str(), limits.max_text_bytes)).collect();
    let texts: Vec<&str> = inputs.iter().map(|input| input.payload.as_str()).collect();
    // Texts that are too long or abandoned are not tokenized.
    let wanted = |index: usize| checks[index].is_ok() && !inputs[index].is_abandoned();
    let tokenized = {
        let _guard = limits.watchdog.begin(model.name(), Activity::Tokenizing, limits.tokenizing_limit);
        tokenizer.encode_each(&texts, wanted)
    };
    let mut tokens: Vec<TokenIds> = Vec::new();
    let mut prepared = Vec::new();
    for (check, result) in checks.into_iter().zip(tokenized) {
        prepared.push(check.and_then(|()| match result {
            Some(Ok(ids)) => {
                tokens.push(ids);
                Ok(())
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(abandoned()),
        }));
    }
    if tokens.is_empty() {
        return merge_in_order(prepared, Vec::new());
    }
    let _guard = limits.watch_run(model, tokens.len());
    let embeddings = rows(tokens.len(), &|rows| model.text_features(&tokenizer.batch(&tokens[rows])));
    merge_in_order(prepared, embeddings)
}

/// Runs the model on a range of a batch's inputs.
type Features<'a> = &'a dyn Fn(Range<usize>) -> Result<Array2<f32>, ClipError>;

/// One embedding per input. If the model fails because of an input, the inputs are run one by one, so that only that
/// input fails. Any other failure applies to all inputs.
fn rows(inputs: usize, features: Features) -> Vec<EmbeddingResult> {
    match features(0..inputs) {
        Ok(features) => features.rows().into_iter().map(|row| Ok(row.to_vec())).collect(),
        Err(ClipError::Embedding { .. } | ClipError::Text { .. }) if inputs > 1 => {
            (0..inputs).flat_map(|i| rows(1, &|_| features(i..i + 1))).collect()
        }
        Err(error) => vec![Err(error.into()); inputs],
    }
}

fn no_encoder(model: &ClipModel, encoder: &'static str, inputs: usize) -> Vec<EmbeddingResult> {
    let error = ClipError::NoEncoder { model: model.config().name.clone(), encoder };
    vec![Err(error.into()); inputs]
}
