//! What can be sent to the inference process, and what comes back for it.

use std::fmt::Debug;

use serde_bytes::{ByteBuf, Bytes};
use susx_server::protocol::{self, Failure, Inputs, Picture, Reply, Request};

use super::chosen;
use crate::pg::guc;
use crate::pg::image::{Image, refusal};

/// Inputs of one kind.
pub trait Content {
    /// What is made of one.
    type Product: Debug;
    /// Most inputs of one frame. Several frames make a call: the server works on one while the next
    /// arrives.
    const FRAME_INPUTS: usize;

    /// Frames that are sent before the first is answered.
    fn window() -> usize {
        6
    }

    /// In bytes.
    fn size(&self) -> usize;

    /// Why the inference process would refuse it, whatever it holds: then it is not sent.
    fn refusal(&self) -> Option<Failure> {
        None
    }

    /// The model that a call names, else the one to take instead, else none: then the server takes the only one.
    fn model(named: Option<&str>) -> Option<String> {
        chosen(named)
    }

    /// A frame.
    fn request<'a>(id: u64, model: Option<&'a str>, contents: impl Iterator<Item = &'a Self>) -> Request<'a>
    where
        Self: 'a;

    /// The answers to the inputs of a frame; the reply if it is another one.
    fn answers(reply: Reply) -> Result<Vec<Result<Self::Product, Failure>>, Reply>;
}

/// The failure of a text that is too long.
pub fn refused_text(bytes: usize) -> Option<Failure> {
    let limit = guc::max_text_bytes();
    (bytes > limit).then(|| protocol::too_large("text", bytes, limit, "susx.max_text_bytes"))
}

fn embeddings(reply: Reply) -> Result<Vec<Result<Vec<f32>, Failure>>, Reply> {
    match reply {
        Reply::Embedded { embeddings, .. } => Ok(embeddings),
        other => Err(other),
    }
}

impl Content for &[u8] {
    type Product = Vec<f32>;
    const FRAME_INPUTS: usize = 64;

    fn size(&self) -> usize {
        self.len()
    }

    fn refusal(&self) -> Option<Failure> {
        refusal(self.len())
    }

    fn request<'a>(id: u64, model: Option<&'a str>, contents: impl Iterator<Item = &'a Self>) -> Request<'a>
    where
        Self: 'a,
    {
        let images = contents.map(|image| Bytes::new(image)).collect();
        Request::Embed { id, model, inputs: Inputs::Images(images) }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<Vec<f32>, Failure>>, Reply> {
        embeddings(reply)
    }
}

impl Content for Image {
    type Product = Vec<f32>;
    const FRAME_INPUTS: usize = 64;

    fn size(&self) -> usize {
        Image::size(self)
    }

    fn refusal(&self) -> Option<Failure> {
        match self {
            Image::File(file) => refusal(file.len()),
            Image::TooLarge(size) => refusal(*size),
        }
    }

    fn request<'a>(id: u64, model: Option<&'a str>, contents: impl Iterator<Item = &'a Self>) -> Request<'a> {
        // One that is too large has been refused.
        let images = contents.map(|image| Bytes::new(image.file().unwrap_or_default())).collect();
        Request::Embed { id, model, inputs: Inputs::Images(images) }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<Vec<f32>, Failure>>, Reply> {
        embeddings(reply)
    }
}

impl Content for &str {
    type Product = Vec<f32>;
    // The server puts texts of like length together: the more, the better they fit.
    const FRAME_INPUTS: usize = 256;

    fn size(&self) -> usize {
        self.len()
    }

    fn refusal(&self) -> Option<Failure> {
        refused_text(self.len())
    }

    fn request<'a>(id: u64, model: Option<&'a str>, contents: impl Iterator<Item = &'a Self>) -> Request<'a>
    where
        Self: 'a,
    {
        Request::Embed { id, model, inputs: Inputs::Texts(contents.copied().collect()) }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<Vec<f32>, Failure>>, Reply> {
        embeddings(reply)
    }
}

/// Becomes a PNG file.
impl Content for Picture<'static> {
    type Product = ByteBuf;
    // Each takes long, and should be answered when it is there.
    const FRAME_INPUTS: usize = 1;

    /// What is being worked on and what is worked on next.
    fn window() -> usize {
        2 * guc::generator_batch_size()
    }

    fn size(&self) -> usize {
        self.prompt.len() + self.negative_prompt.len()
    }

    fn refusal(&self) -> Option<Failure> {
        refused_text(self.prompt.len()).or_else(|| refused_text(self.negative_prompt.len()))
    }

    /// `susx.model` is for embeddings.
    fn model(named: Option<&str>) -> Option<String> {
        named.map(str::to_owned)
    }

    fn request<'a>(
        id: u64,
        generator: Option<&'a str>,
        contents: impl Iterator<Item = &'a Self>,
    ) -> Request<'a> {
        Request::Generate { id, generator, pictures: contents.cloned().collect() }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<ByteBuf, Failure>>, Reply> {
        match reply {
            Reply::Generated { images, .. } => Ok(images),
            other => Err(other),
        }
    }
}
