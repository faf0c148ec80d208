//! An embedding model at work: its encoders, its queues and its tasks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use susx_core::clip::{ClipModel, ImageLimits};

use crate::batching::embedding_task::{self, EmbeddingLimits, Text};
use crate::batching::fair_queue::{Batching, ConnectionId, FairQueue};
use crate::batching::pixel_budget::PixelBudget;
use crate::batching::request::PendingInput;
use crate::batching::service::{BatchingTask, RunningService, Service};
use crate::protocol::Failure;
use crate::settings::Settings;
use crate::watchdog::Watchdog;

/// A loaded model and its queues.
pub struct EmbeddingService {
    pub model: ClipModel,
    pub images: FairQueue<PendingInput<Bytes>>,
    pub texts: FairQueue<PendingInput<Text>>,
}

/// How long a tokenizer may work on one batch. The texts of a batch take seconds at most; if it goes on for longer, one
/// of its expressions may go on for ever.
const TOKENIZING: Duration = Duration::from_secs(60);

/// Starts the tasks of a model.
pub fn start(
    model: ClipModel,
    settings: &Settings,
    watchdog: &Arc<Watchdog>,
    room: &Arc<PixelBudget>,
) -> Result<RunningService<EmbeddingService>, Failure> {
    let batching = Batching { size: settings.batch_size, delay: settings.batch_delay() };
    let limits = EmbeddingLimits {
        batch_size: settings.batch_size,
        image: ImageLimits { max_bytes: settings.max_image_bytes, max_pixels: settings.max_image_pixels },
        max_text_bytes: settings.max_text_bytes,
        tokenizing: TOKENIZING.min(settings.load_timeout()),
        running: settings.load_timeout(),
        watchdog: Arc::clone(watchdog),
        room: Arc::clone(room),
    };
    let name = model.name().to_owned();
    let mut tasks: Vec<BatchingTask<EmbeddingService>> = Vec::new();
    for _ in 0..embedding_task::TASKS_PER_QUEUE {
        let (for_images, for_texts) = (limits.clone(), limits.clone());
        let images = move |it: &EmbeddingService| embedding_task::images(&it.model, &it.images, &for_images);
        tasks.push((format!("images {name}"), Box::new(images)));
        let texts = move |it: &EmbeddingService| embedding_task::texts(&it.model, &it.texts, &for_texts);
        tasks.push((format!("texts {name}"), Box::new(texts)));
    }
    let (images, texts) = (FairQueue::new(batching), FairQueue::new(batching));
    RunningService::start(EmbeddingService { model, images, texts }, tasks)
}

impl Service for EmbeddingService {
    fn provider(&self) -> &str {
        self.model.provider()
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
