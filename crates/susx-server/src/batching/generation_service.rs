//! A generator as a service: takes small batches of prompts from its queue and answers with images.
//!
//! An image takes seconds to minutes, so there is one task, which generates one batch after the other. Embedding models
//! have their own tasks and are not held up. After every denoising step the waiting backends are sent their progress,
//! and a batch is cancelled once all of its backends have disconnected.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_bytes::ByteBuf;

use crate::batching::fair_queue::{Batching, ConnectionId, Dequeued, FairQueue};
use crate::batching::request::{ImageResult, PendingInput, abandoned};
use crate::batching::service::{BatchingTask, RunningService, Service};
use crate::diffusion::{self, GenerateError, Generator, ImageInput, Progress};
use crate::protocol::{Failure, ImageRequest};
use crate::settings::Settings;
use crate::stats;
use crate::watchdog::{Activity, Watchdog};

/// A loaded generator and its queue.
pub struct GenerationService {
    pub generator: Generator,
    pub images: FairQueue<PendingInput<GenerationJob, ByteBuf>>,
    watchdog: Arc<Watchdog>,
    /// Time limit for the tokenizer and the text encoder; zero is none.
    preparation_limit: Duration,
}

/// The input and settings of one image.
#[derive(Clone, Debug)]
pub struct GenerationJob {
    input: ImageInput,
    settings: diffusion::Settings,
}

impl From<ImageRequest<'_>> for GenerationJob {
    fn from(request: ImageRequest) -> Self {
        GenerationJob {
            input: ImageInput {
                prompt: request.prompt.into_owned(),
                negative_prompt: request.negative_prompt.into_owned(),
                seed: request.seed,
            },
            settings: diffusion::Settings {
                steps: request.steps as usize,
                guidance_scale: request.guidance_scale,
                height: request.height,
                width: request.width,
            },
        }
    }
}

/// Starts the task of a generator. Fails if its thread cannot be started.
pub fn start(
    generator: Generator,
    settings: &Settings,
    watchdog: &Arc<Watchdog>,
) -> Result<RunningService<GenerationService>, Failure> {
    let size = settings.generator_batch_size;
    let images = FairQueue::new(Batching { size, delay: settings.batch_delay() });
    let name = format!("generate {}", generator.name());
    let task: BatchingTask<GenerationService> = (name, Box::new(move |service| service.work(size)));
    let watchdog = Arc::clone(watchdog);
    let preparation_limit = settings.load_timeout();
    RunningService::start(GenerationService { generator, images, watchdog, preparation_limit }, [task])
}

impl Service for GenerationService {
    fn provider(&self) -> &str {
        self.generator.provider()
    }

    fn is_idle(&self) -> bool {
        self.images.is_idle()
    }

    fn forget(&self, connection: ConnectionId) {
        self.images.forget(connection);
    }

    fn close(&self) {
        self.images.close();
    }
}

type Batch = Vec<Dequeued<PendingInput<GenerationJob, ByteBuf>>>;

impl GenerationService {
    /// Takes and generates batches of up to `max_images` images until the queue is closed.
    fn work(&self, max_images: usize) {
        while let Some(mut batch) = self.images.take(max_images) {
            // Images of one run have the same settings, so the batch is split by settings.
            while let Some(first) = batch.first() {
                let settings = first.item.payload.settings;
                let (alike, others): (Batch, Batch) =
                    batch.into_iter().partition(|dequeued| dequeued.item.payload.settings == settings);
                self.answer(&settings, alike);
                batch = others;
            }
        }
    }

    fn answer(&self, settings: &diffusion::Settings, batch: Batch) {
        let inputs: Vec<&PendingInput<GenerationJob, ByteBuf>> =
            batch.iter().map(|dequeued| &dequeued.item).collect();
        // A panic costs the batch, not the task: the inputs are dropped, which fails their requests.
        let images = catch_unwind(AssertUnwindSafe(|| self.generate(settings, &inputs)));
        self.images.done(batch.iter().map(|dequeued| dequeued.connection));
        match images {
            Ok(Some(images)) => {
                stats::server().generated(&images);
                for (dequeued, image) in batch.into_iter().zip(images) {
                    dequeued.item.answer(image);
                }
            }
            // All of its backends have disconnected.
            Ok(None) => {}
            Err(_) => stats::server().failed(batch.len(), "generating a batch of images panicked"),
        }
    }

    /// One answer per input; `None` if all of the backends have disconnected.
    fn generate(
        &self,
        settings: &diffusion::Settings,
        inputs: &[&PendingInput<GenerationJob, ByteBuf>],
    ) -> Option<Vec<ImageResult>> {
        let inputs_to_generate: Vec<ImageInput> =
            inputs.iter().map(|input| input.payload.input.clone()).collect();
        // Some schedulers run the U-Net more than once per step, so progress is scaled to the number of steps.
        let mut reported = 0;
        // Watched until the first denoising step. The steps are not, because their duration depends on the image size.
        let mut guard =
            Some(self.watchdog.begin(self.generator.name(), Activity::Tokenizing, self.preparation_limit));
        let mut step = |Progress { done, total }| {
            drop(guard.take());
            if inputs.iter().all(|input| input.is_abandoned()) {
                return ControlFlow::Break(());
            }
            let steps = settings.steps * done / total.max(1);
            if steps > reported {
                stats::server().denoised(((steps - reported) * inputs.len()) as u64);
                inputs.iter().for_each(|input| input.denoised((steps - reported) as u32));
                reported = steps;
            }
            ControlFlow::Continue(())
        };
        match self.generator.generate(&inputs_to_generate, settings, &mut step) {
            Ok(images) => Some(images.into_iter().map(png).collect()),
            Err(GenerateError::Cancelled) => None,
            Err(error @ GenerateError::Setting { .. }) => Some(vec![Err(error.into()); inputs.len()]),
            // The batch may be too large for the memory, or one input may have caused the error.
            Err(error) if inputs.len() > 1 => {
                log::debug!("{error}: generating the {} images of the batch one by one", inputs.len());
                let one = |input| match self.generate(settings, &[input]) {
                    Some(mut images) => images.pop(),
                    None => None,
                };
                Some(inputs.iter().map(|input| one(input).unwrap_or_else(|| Err(abandoned()))).collect())
            }
            Err(error) => Some(vec![Err(error.into())]),
        }
    }
}

fn png(image: Result<diffusion::RgbImage, GenerateError>) -> ImageResult {
    Ok(ByteBuf::from(diffusion::png(&image?)?))
}
