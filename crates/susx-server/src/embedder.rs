//! An embedding model at work: its encoders, its queues and its lanes.

use bytes::Bytes;
use susx_core::clip::{ClipModel, ImageLimits};

use crate::lane;
use crate::protocol::Failure;
use crate::queue::{Batching, ConnectionId, FairQueue};
use crate::request::Input;
use crate::settings::Settings;
use crate::slots::{Lane, Loaded, Running};

/// A loaded model and its queues.
pub struct Embedder {
    pub model: ClipModel,
    pub images: FairQueue<Input<Bytes>>,
    pub texts: FairQueue<Input<String>>,
}

/// Starts the lanes of a model.
pub fn start(model: ClipModel, settings: &Settings) -> Result<Running<Embedder>, Failure> {
    let batching = Batching { size: settings.batch_size, delay: settings.batch_delay() };
    let limits = ImageLimits { max_bytes: settings.max_image_bytes, max_pixels: settings.max_image_pixels };
    let size = settings.batch_size;
    let name = model.name().to_owned();
    let mut lanes: Vec<Lane<Embedder>> = Vec::new();
    for _ in 0..lane::LANES {
        let images = move |it: &Embedder| lane::images(&it.model, &it.images, &limits, size);
        lanes.push((format!("images {name}"), Box::new(images)));
        lanes.push((format!("texts {name}"), Box::new(move |it| lane::texts(&it.model, &it.texts, size))));
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
