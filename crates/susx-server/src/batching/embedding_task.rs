//! A batching task of an embedding model: takes batches from a queue, encodes them and answers their inputs.
//!
//! A model has two tasks for images and two for texts: while one runs the model, the other decodes or tokenizes the
//! next batch. So two batches are in flight, and the one that is prepared first is encoded first.
//!
//! On a CPU, a third task of each kind works on the queue's lane: while one connection has many inputs, it embeds those
//! of others one by one, at the same time as the batches or between their pieces. It waits for none of rayon's threads,
//! because they work on the batches.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ndarray::{Array2, ArrayView4};
use rayon::prelude::*;
use susx_core::clip::{ClipError, ClipModel, Preprocessor, TokenIds, Tokenized};
use susx_core::onnx::OnnxError;

use crate::batching::fair_queue::{ConnectionId, Dequeued, FairQueue};
use crate::batching::image_file::{Decoding, ImageFile};
use crate::batching::request::{EmbeddingResult, Output, PendingInput, TextResult, abandoned};
use crate::protocol::{Cut, Failure, FailureKind, TextEmbedding, too_large};
use crate::stats::{self, InputKind};
use crate::watchdog::{Activity, WatchGuard, Watchdog};

/// Tasks per queue that work on batches: one prepares a batch while the other runs the model.
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

/// A text whose embedding is waited for.
pub type PendingText = PendingInput<Text, TextEmbedding>;

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

/// Embeds images in batches until the queue is closed.
pub fn images(model: &ClipModel, queue: &FairQueue<PendingInput<ImageFile>>, limits: &EmbeddingLimits) {
    let embed = images_encoder(model, limits);
    run(|| queue.take(limits.batch_size), |connections| queue.done(connections), embed);
}

/// Embeds the images of the queue's lane until the queue is closed.
pub fn single_images(
    model: &ClipModel,
    queue: &FairQueue<PendingInput<ImageFile>>,
    limits: &EmbeddingLimits,
) {
    run_singles(queue, images_encoder(model, limits));
}

/// Embeds texts in batches until the queue is closed.
pub fn texts(model: &ClipModel, queue: &FairQueue<PendingText>, limits: &EmbeddingLimits) {
    let max_texts = TEXT_BATCHES_PER_TAKE * limits.batch_size;
    let take = || queue.take_weighted(max_texts, TEXT_BYTES_PER_TAKE, |text| text.payload.0.len());
    run(take, |connections| queue.done(connections), texts_encoder(model, limits));
}

/// Embeds the texts of the queue's lane until the queue is closed.
pub fn single_texts(model: &ClipModel, queue: &FairQueue<PendingText>, limits: &EmbeddingLimits) {
    run_singles(queue, texts_encoder(model, limits));
}

/// A function that embeds images and counts them.
fn images_encoder(
    model: &ClipModel,
    limits: &EmbeddingLimits,
) -> impl FnMut(&[&PendingInput<ImageFile>]) -> Vec<EmbeddingResult> {
    // The batch's tensor, kept between batches to avoid allocating it again.
    let mut pixel_values = Vec::new();
    move |files| {
        let embeddings = embed_images(model, limits, files, &mut pixel_values);
        stats::server().batch(InputKind::Images, &embeddings);
        embeddings
    }
}

/// A function that embeds texts and counts them.
fn texts_encoder(
    model: &ClipModel,
    limits: &EmbeddingLimits,
) -> impl FnMut(&[&PendingText]) -> Vec<TextResult> {
    move |texts| {
        let embeddings = embed_texts(model, limits, texts);
        stats::server().batch(InputKind::Texts, &embeddings);
        embeddings
    }
}

/// Takes the inputs of a queue's lane until the queue is closed.
fn run_singles<T, P: Output>(
    queue: &FairQueue<PendingInput<T, P>>,
    embed: impl FnMut(&[&PendingInput<T, P>]) -> Vec<Result<P, Failure>>,
) {
    let take = || queue.take_single().map(|single| vec![single]);
    let done = |connections: Vec<ConnectionId>| {
        connections.into_iter().for_each(|connection| queue.done_single(connection))
    };
    run(take, done, embed);
}

/// Takes batches until there are no more. `done` is called with the connections of a batch's inputs, and `embed` returns
/// one result per input, in order.
fn run<T, P: Output>(
    take: impl Fn() -> Option<Vec<Dequeued<PendingInput<T, P>>>>,
    done: impl Fn(Vec<ConnectionId>),
    mut embed: impl FnMut(&[&PendingInput<T, P>]) -> Vec<Result<P, Failure>>,
) {
    while let Some(batch) = take() {
        let inputs: Vec<&PendingInput<T, P>> = batch.iter().map(|dequeued| &dequeued.item).collect();
        // A panic costs the batch, not the task: the inputs are dropped, which fails their requests.
        let embeddings = catch_unwind(AssertUnwindSafe(|| embed(&inputs)));
        // Before the inputs are answered, because a client may send its next input at once.
        done(batch.iter().map(|dequeued| dequeued.connection).collect());
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
        return vec![Err(model.no_image_encoder().into()); files.len()];
    };
    let len = preprocessor.len();
    if pixel_values.len() < files.len() * len {
        pixel_values.resize(files.len() * len, 0.0);
    }
    let decoded = decode(preprocessor, limits, files, pixel_values);
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

/// Writes the values of each image to its part of `pixel_values`.
fn decode(
    preprocessor: &Preprocessor,
    limits: &EmbeddingLimits,
    files: &[&PendingInput<ImageFile>],
    pixel_values: &mut [f32],
) -> Vec<Result<(), Failure>> {
    let len = preprocessor.len();
    if let ([file], Some(out)) = (files, pixel_values.get_mut(..len)) {
        // On this thread: rayon's threads may be busy with another batch.
        return vec![match file.is_abandoned() {
            true => Err(abandoned()),
            false => file.payload.prepare(preprocessor, &limits.decoding, out),
        }];
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
    decoded.into_iter().flatten().collect()
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

fn embed_texts(model: &ClipModel, limits: &EmbeddingLimits, inputs: &[&PendingText]) -> Vec<TextResult> {
    let Some(tokenizer) = model.tokenizer() else {
        return vec![Err(model.no_text_encoder().into()); inputs.len()];
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
            Some(Ok(tokenized)) => {
                let cut = cut(&tokenized);
                tokens.push(tokenized.ids);
                Ok(cut)
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(abandoned()),
        }));
    }
    let cuts: Vec<Option<Cut>> = prepared.iter().map(|cut| cut.as_ref().ok().copied().flatten()).collect();
    let prepared: Vec<Result<(), Failure>> = prepared.into_iter().map(|cut| cut.map(|_| ())).collect();
    let embeddings = match tokens.is_empty() {
        true => Vec::new(),
        false => {
            let _guard = limits.watch_run(model, tokens.len());
            rows(tokens.len(), &|rows| model.text_features(&tokenizer.batch(&tokens[rows])))
        }
    };
    let vectors = merge_in_order(prepared, embeddings);
    vectors.into_iter().zip(cuts).map(|(vector, cut)| Ok(TextEmbedding { vector: vector?, cut })).collect()
}

/// What is left of a text that was cut.
fn cut(Tokenized { ids, is_cut }: &Tokenized) -> Option<Cut> {
    let cut = || {
        let mut hasher = DefaultHasher::new();
        ids.hash(&mut hasher);
        Cut { tokens: u32::try_from(ids.len()).unwrap_or(u32::MAX), digest: hasher.finish() }
    };
    is_cut.then(cut)
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
