//! An embedding model as a service: its encoders, queues and tasks.

use std::sync::Arc;
use std::time::Duration;

use susx_core::clip::ClipModel;

use crate::batching::embedding_task::{self, EmbeddingLimits, PendingText};
use crate::batching::fair_queue::{Batching, ConnectionId, FairQueue};
use crate::batching::image_file::{Decoding, ImageFile};
use crate::batching::request::PendingInput;
use crate::batching::service::{BatchingTask, RunningService, Service};
use crate::protocol::Failure;
use crate::settings::Settings;
use crate::watchdog::Watchdog;

/// A loaded embedding model and its queues.
pub struct EmbeddingService {
    pub model: ClipModel,
    pub images: FairQueue<PendingInput<ImageFile>>,
    pub texts: FairQueue<PendingText>,
}

/// Time limit of the tokenizer for one batch. Tokenizing takes seconds at most; after a minute, one of the tokenizer's
/// regular expressions is probably backtracking without end.
const TOKENIZING_LIMIT: Duration = Duration::from_secs(60);

/// Starts the tasks of a model. Fails if a thread cannot be started.
pub fn start(
    model: ClipModel,
    settings: &Settings,
    watchdog: &Arc<Watchdog>,
    decoding: &Decoding,
) -> Result<RunningService<EmbeddingService>, Failure> {
    let batching = Batching { size: settings.batch_size, delay: settings.batch_delay() };
    let limits = EmbeddingLimits {
        batch_size: settings.batch_size,
        decoding: decoding.clone(),
        max_text_bytes: settings.max_text_bytes,
        tokenizing_limit: TOKENIZING_LIMIT.min(settings.load_timeout()),
        run_limit: settings.load_timeout(),
        watchdog: Arc::clone(watchdog),
    };
    let name = model.name().to_owned();
    let mut tasks: Vec<BatchingTask<EmbeddingService>> = Vec::new();
    for _ in 0..embedding_task::TASKS_PER_QUEUE {
        let (for_images, for_texts) = (limits.clone(), limits.clone());
        let images = move |service: &EmbeddingService| {
            embedding_task::images(&service.model, &service.images, &for_images)
        };
        tasks.push((format!("images {name}"), Box::new(images)));
        let texts = move |service: &EmbeddingService| {
            embedding_task::texts(&service.model, &service.texts, &for_texts)
        };
        tasks.push((format!("texts {name}"), Box::new(texts)));
    }
    let images = match model.runs_single_images() {
        true => {
            let limits = limits.clone();
            let single_images = move |service: &EmbeddingService| {
                embedding_task::single_images(&service.model, &service.images, &limits)
            };
            tasks.push((format!("single images {name}"), Box::new(single_images)));
            FairQueue::with_lane(batching)
        }
        false => FairQueue::new(batching),
    };
    let texts = match model.runs_single_texts() {
        true => {
            let single_texts = move |service: &EmbeddingService| {
                embedding_task::single_texts(&service.model, &service.texts, &limits)
            };
            tasks.push((format!("single texts {name}"), Box::new(single_texts)));
            FairQueue::with_lane(batching)
        }
        false => FairQueue::new(batching),
    };
    RunningService::start(EmbeddingService { model, images, texts }, tasks)
}

impl Service for EmbeddingService {
    fn provider(&self) -> &str {
        self.model.provider()
    }

    fn is_incomplete(&self) -> bool {
        self.model.config().broken.first().is_some()
    }

    fn is_idle(&self) -> bool {
        self.images.is_idle() && self.texts.is_idle()
    }

    fn forget(&self, connection: ConnectionId) {
        self.images.forget(connection);
        self.texts.forget(connection);
    }

    fn close(&self) {
        self.images.close();
        self.texts.close();
    }
}
