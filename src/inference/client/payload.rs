//! Inputs of the inference process, and its results for them.

use std::fmt::Debug;

use serde_bytes::{ByteBuf, Bytes};
use susx_server::protocol::{Failure, ImageRequest, Inputs, Reply, Request, TextEmbedding};

use super::model_or_default;
use crate::pg::guc;
use crate::pg::image::{Image, image_too_large};
use crate::pg::limited_text::text_too_long;

/// One input: an image file, a text, or an image to generate.
pub trait Payload {
    /// The server's result for one input.
    type Product: Debug;
    /// Maximum number of inputs in a frame. A call sends several frames, so the server works on one while the next
    /// arrives.
    const FRAME_INPUTS: usize;

    /// Maximum number of frames without a reply.
    fn window() -> usize {
        6
    }

    /// Size in bytes.
    fn size(&self) -> usize;

    /// The failure of an input beyond a size limit of the server. Such an input is not sent.
    fn too_large(&self) -> Option<Failure> {
        None
    }

    /// The model to request: the named one, else the default. With `None` the server uses its only model.
    fn model(named: Option<&str>) -> Option<String> {
        model_or_default(named)
    }

    /// The request that sends these inputs, to the model `likeness` too if there is one; see
    /// [`Stream::with_likeness`](super::Stream::with_likeness).
    fn request<'a>(
        id: u64,
        model: Option<&'a str>,
        likeness: Option<&'a str>,
        inputs: impl Iterator<Item = &'a Self>,
    ) -> Request<'a>
    where
        Self: 'a;

    /// The answers in a reply, one per input; the reply itself if it answers another type of request.
    fn answers(reply: Reply) -> Result<Vec<Result<Self::Product, Failure>>, Reply>;
}

/// The unit vectors of an image.
#[derive(Debug)]
pub struct ImageVectors {
    /// By the model that embeds texts, too.
    pub embedding: Vec<f32>,
    /// By the model for likeness; `None` if none was asked.
    pub likeness: Option<Vec<f32>>,
}

/// The request that sends image files.
fn image_request<'a>(
    id: u64,
    model: Option<&'a str>,
    likeness: Option<&'a str>,
    files: impl Iterator<Item = &'a [u8]>,
) -> Request<'a> {
    let images = files.map(Bytes::new).collect();
    match likeness {
        None => Request::Embed { id, model, inputs: Inputs::Images(images) },
        Some(likeness_model) => Request::EmbedPairs { id, model, likeness_model, images },
    }
}

fn image_vectors(reply: Reply) -> Result<Vec<Result<ImageVectors, Failure>>, Reply> {
    let one = |embedding| ImageVectors { embedding, likeness: None };
    let both = |[embedding, likeness]: [_; 2]| ImageVectors { embedding, likeness: Some(likeness) };
    match reply {
        Reply::Embedded { embeddings, .. } => Ok(embeddings.into_iter().map(|it| it.map(one)).collect()),
        Reply::EmbeddedPairs { pairs, .. } => Ok(pairs.into_iter().map(|it| it.map(both)).collect()),
        other => Err(other),
    }
}

impl Payload for &[u8] {
    type Product = ImageVectors;
    const FRAME_INPUTS: usize = 64;

    fn size(&self) -> usize {
        self.len()
    }

    fn too_large(&self) -> Option<Failure> {
        image_too_large(self.len())
    }

    fn request<'a>(
        id: u64,
        model: Option<&'a str>,
        likeness: Option<&'a str>,
        inputs: impl Iterator<Item = &'a Self>,
    ) -> Request<'a>
    where
        Self: 'a,
    {
        image_request(id, model, likeness, inputs.map(|image| -> &'a [u8] { image }))
    }

    fn answers(reply: Reply) -> Result<Vec<Result<ImageVectors, Failure>>, Reply> {
        image_vectors(reply)
    }
}

impl Payload for Image {
    type Product = ImageVectors;
    const FRAME_INPUTS: usize = 64;

    fn size(&self) -> usize {
        Image::size(self)
    }

    fn too_large(&self) -> Option<Failure> {
        match self {
            Image::File(file) => image_too_large(file.len()),
            Image::TooLarge(size) => image_too_large(*size),
        }
    }

    fn request<'a>(
        id: u64,
        model: Option<&'a str>,
        likeness: Option<&'a str>,
        inputs: impl Iterator<Item = &'a Self>,
    ) -> Request<'a> {
        // A file that is too large is never sent.
        image_request(id, model, likeness, inputs.map(|image| image.file().unwrap_or_default()))
    }

    fn answers(reply: Reply) -> Result<Vec<Result<ImageVectors, Failure>>, Reply> {
        image_vectors(reply)
    }
}

impl Payload for &str {
    type Product = TextEmbedding;
    // The server batches texts of similar length: more texts give better batches.
    const FRAME_INPUTS: usize = 256;

    fn size(&self) -> usize {
        self.len()
    }

    fn too_large(&self) -> Option<Failure> {
        text_too_long(self.len())
    }

    fn request<'a>(
        id: u64,
        model: Option<&'a str>,
        _: Option<&'a str>,
        inputs: impl Iterator<Item = &'a Self>,
    ) -> Request<'a>
    where
        Self: 'a,
    {
        Request::Embed { id, model, inputs: Inputs::Texts(inputs.copied().collect()) }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<TextEmbedding, Failure>>, Reply> {
        match reply {
            Reply::EmbeddedTexts { embeddings, .. } => Ok(embeddings),
            other => Err(other),
        }
    }
}

/// Its product is a PNG file.
impl Payload for ImageRequest<'static> {
    type Product = ByteBuf;
    // Each image takes long, so it is returned as soon as it is done.
    const FRAME_INPUTS: usize = 1;

    /// One batch to work on, and the next one.
    fn window() -> usize {
        2 * guc::generator_batch_size()
    }

    fn size(&self) -> usize {
        self.prompt.len() + self.negative_prompt.len()
    }

    fn too_large(&self) -> Option<Failure> {
        text_too_long(self.prompt.len()).or_else(|| text_too_long(self.negative_prompt.len()))
    }

    /// `susx.model` names no generator.
    fn model(named: Option<&str>) -> Option<String> {
        named.map(str::to_owned)
    }

    fn request<'a>(
        id: u64,
        generator: Option<&'a str>,
        _: Option<&'a str>,
        inputs: impl Iterator<Item = &'a Self>,
    ) -> Request<'a> {
        Request::Generate { id, generator, requests: inputs.cloned().collect() }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<ByteBuf, Failure>>, Reply> {
        match reply {
            Reply::Generated { images, .. } => Ok(images),
            other => Err(other),
        }
    }
}
