//! A task of an embedding model takes batches from its queue, encodes them and answers.
//!
//! A model has two tasks for images and two for texts: while one runs the model, the other decodes or
//! tokenizes the next batch. So two batches are in flight, and only the tasks' order of arrival at the
//! model decides which comes first.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ndarray::{Array2, ArrayView4};
use rayon::prelude::*;
use susx_core::clip::{
    ClipError, ClipModel, ImageLimits, PreprocessScratch, Preprocessor, TokenIds, decode_rgb_when,
};
use susx_core::onnx::OnnxError;

use crate::batching::fair_queue::{Dequeued, FairQueue};
use crate::batching::pixel_budget::PixelBudget;
use crate::batching::request::{EmbeddingResult, PendingInput, abandoned};
use crate::protocol::{Failure, FailureKind, too_large};
use crate::stats::{self, InputKind};
use crate::watchdog::{Activity, WatchGuard, Watchdog};

/// Lanes for images, and for texts: one prepares while the other runs the model.
pub const TASKS_PER_QUEUE: usize = 2;

/// Texts that are taken together, in batches: among them, those of about the same length share runs. More
/// would waste less on padding, and let a single text wait longer behind a bulk job.
const TEXT_BATCHES: usize = 4;

thread_local! {
    /// Each thread that decodes has one.
    static SCRATCH: RefCell<PreprocessScratch> = RefCell::default();
}

/// Bytes of texts that are taken together, unless one is longer: what makes a task work for seconds, where all of them
/// have to be read.
const TEXT_BYTES: usize = 512 << 10;

/// A text as it lies in its message.
#[derive(Clone, Debug)]
pub struct Text(Bytes);

impl Text {
    /// `text` is a part of `message`.
    pub fn of(message: &Bytes, text: &str) -> Self {
        Text(message.slice_ref(text.as_bytes()))
    }

    fn as_str(&self) -> &str {
        // It was a text when it was found in the message.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// An error for a text that is too long.
pub fn check_text(text: &str, most: usize) -> Result<(), Failure> {
    match text.len() {
        found if found > most => Err(too_large("text", found, most, "susx.max_text_bytes")),
        _ => Ok(()),
    }
}

/// What the tasks of a model go by.
#[derive(Clone)]
pub struct EmbeddingLimits {
    /// Inputs of a full batch.
    pub batch_size: usize,
    pub image: ImageLimits,
    /// The longest text.
    pub max_text_bytes: usize,
    /// How long a batch may take to tokenize.
    pub tokenizing: Duration,
    /// How long the model may run for so many inputs.
    pub running: Duration,
    pub watchdog: Arc<Watchdog>,
    pub room: Arc<PixelBudget>,
}

/// Inputs that have the time of one run; more have more.
const TIMED_INPUTS: usize = 32;

impl EmbeddingLimits {
    fn run(&self, model: &ClipModel, inputs: usize) -> WatchGuard<'_> {
        let times = inputs.div_ceil(TIMED_INPUTS).max(1);
        let limit = self.running.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
        self.watchdog.begin(model.name(), Activity::Batch, limit)
    }
}

/// Embeds images until the queue is closed.
pub fn images(model: &ClipModel, queue: &FairQueue<PendingInput<Bytes>>, limits: &EmbeddingLimits) {
    // The batch's tensor, which grows to the largest batch there was.
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
    let most = TEXT_BATCHES * limits.batch_size;
    let take = || queue.take_weighing(most, TEXT_BYTES, |text| text.payload.0.len());
    run(queue, take, |texts| {
        let embeddings = embed_texts(model, limits, texts);
        stats::server().batch(InputKind::Texts, &embeddings);
        embeddings
    });
}

/// `embed` answers every content of a batch, in order.
fn run<T>(
    queue: &FairQueue<PendingInput<T>>,
    take: impl Fn() -> Option<Vec<Dequeued<PendingInput<T>>>>,
    mut embed: impl FnMut(&[&PendingInput<T>]) -> Vec<EmbeddingResult>,
) {
    while let Some(batch) = take() {
        let contents: Vec<&PendingInput<T>> = batch.iter().map(|dequeued| &dequeued.item).collect();
        // A panic costs the batch, not the task: the inputs are dropped, which fails their requests.
        let embeddings = catch_unwind(AssertUnwindSafe(|| embed(&contents)));
        // Before the answers: who gets one may send the next input at once.
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
    files: &[&PendingInput<Bytes>],
    pixel_values: &mut Vec<f32>,
) -> Vec<EmbeddingResult> {
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
        .map(|(out, file)| match file.is_abandoned() {
            true => Err(abandoned()),
            false => decode(preprocessor, limits, &file.payload, out),
        })
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
            .map_err(|error| ClipError::from(OnnxError::inference(error)))?;
        model.image_features(view)
    };
    let _guard = limits.run(model, good.len());
    in_place(decoded, rows(good.len(), &features))
}

/// The embeddings of what could be prepared, in the places of those inputs.
fn in_place(prepared: Vec<Result<(), Failure>>, embeddings: Vec<EmbeddingResult>) -> Vec<EmbeddingResult> {
    let mut embeddings = embeddings.into_iter();
    let fewer =
        || Failure::new(FailureKind::Inference, "the model gave fewer embeddings than it was given inputs");
    prepared
        .into_iter()
        .map(|result| result.and_then(|()| embeddings.next().unwrap_or_else(|| Err(fewer()))))
        .collect()
}

/// Decodes one file to its place in the batch.
fn decode(
    preprocessor: &Preprocessor,
    limits: &EmbeddingLimits,
    file: &[u8],
    out: &mut [f32],
) -> Result<(), Failure> {
    let decode = || {
        // Until the picture has been made small.
        let pixels = Cell::new(None);
        let image = decode_rgb_when(file, &limits.image, &|count| {
            pixels.set(Some(limits.room.take(count)));
        })?;
        SCRATCH.with_borrow_mut(|scratch| preprocessor.pixel_values_into(&image, scratch, out))
    };
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::new(FailureKind::Input, "the image's decoder failed on it")),
    }
}

fn embed_texts(
    model: &ClipModel,
    limits: &EmbeddingLimits,
    inputs: &[&PendingInput<Text>],
) -> Vec<EmbeddingResult> {
    let Some(tokenizer) = model.tokenizer() else {
        return no_tower(model, "text", inputs.len());
    };
    let checks: Vec<_> =
        inputs.iter().map(|input| check_text(input.payload.as_str(), limits.max_text_bytes)).collect();
    let texts: Vec<&str> = inputs.iter().map(|input| input.payload.as_str()).collect();
    // What is too long is not tokenized.
    let wanted = |place: usize| checks[place].is_ok() && !inputs[place].is_abandoned();
    let tokenized = {
        let _guard = limits.watchdog.begin(model.name(), Activity::Tokenizing, limits.tokenizing);
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
        return in_place(prepared, Vec::new());
    }
    let _guard = limits.run(model, tokens.len());
    let embeddings = rows(tokens.len(), &|rows| model.text_features(&tokenizer.batch(&tokens[rows])));
    in_place(prepared, embeddings)
}

/// Runs the model on some of a batch's inputs.
type Features<'a> = &'a dyn Fn(Range<usize>) -> Result<Array2<f32>, ClipError>;

/// One embedding per input. An input of which the model makes no vector costs only itself: then the
/// inputs are run one by one. Any other failure is everybody's.
fn rows(inputs: usize, features: Features) -> Vec<EmbeddingResult> {
    match features(0..inputs) {
        Ok(features) => features.rows().into_iter().map(|row| Ok(row.to_vec())).collect(),
        Err(ClipError::Embedding { .. } | ClipError::Text { .. }) if inputs > 1 => {
            (0..inputs).flat_map(|i| rows(1, &|_| features(i..i + 1))).collect()
        }
        Err(error) => vec![Err(error.into()); inputs],
    }
}

fn no_tower(model: &ClipModel, tower: &'static str, inputs: usize) -> Vec<EmbeddingResult> {
    let error = ClipError::NoEncoder { model: model.config().name.clone(), encoder: tower };
    vec![Err(error.into()); inputs]
}
