//! An embedding model at work: its encoders, its queues and its lanes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use susx_core::clip::{ClipModel, ImageLimits};

use crate::lane::{self, LaneLimits, Text};
use crate::pixels::PixelRoom;
use crate::protocol::Failure;
use crate::queue::{Batching, ConnectionId, FairQueue};
use crate::request::Input;
use crate::running::{Lane, Loaded, Running};
use crate::settings::Settings;
use crate::watch::Watch;

/// A loaded model and its queues.
pub struct Embedder {
    pub model: ClipModel,
    pub images: FairQueue<Input<Bytes>>,
    pub texts: FairQueue<Input<Text>>,
}

/// How long a tokenizer may work on one batch. The texts of a batch take seconds at most; if it goes on for longer, one
/// of its expressions may go on for ever.
const TOKENIZING: Duration = Duration::from_secs(60);

/// Starts the lanes of a model.
pub fn start(
    model: ClipModel,
    settings: &Settings,
    watch: &Arc<Watch>,
    room: &Arc<PixelRoom>,
) -> Result<Running<Embedder>, Failure> {
    let batching = Batching { size: settings.batch_size, delay: settings.batch_delay() };
    let limits = LaneLimits {
        batch_size: settings.batch_size,
        image: ImageLimits { max_bytes: settings.max_image_bytes, max_pixels: settings.max_image_pixels },
        max_text_bytes: settings.max_text_bytes,
        tokenizing: TOKENIZING.min(settings.load_timeout()),
        running: settings.load_timeout(),
        watch: Arc::clone(watch),
        room: Arc::clone(room),
    };
    let name = model.name().to_owned();
    let mut lanes: Vec<Lane<Embedder>> = Vec::new();
    for _ in 0..lane::LANES {
        let (for_images, for_texts) = (limits.clone(), limits.clone());
        let images = move |it: &Embedder| lane::images(&it.model, &it.images, &for_images);
        lanes.push((format!("images {name}"), Box::new(images)));
        let texts = move |it: &Embedder| lane::texts(&it.model, &it.texts, &for_texts);
        lanes.push((format!("texts {name}"), Box::new(texts)));
    }
    let (images, texts) = (FairQueue::new(batching), FairQueue::new(batching));
    Running::start(Embedder { model, images, texts }, lanes)
}

impl Loaded for Embedder {
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
