//! Thumbnails as a product of the inference process.

use serde_bytes::{ByteBuf, Bytes};
use susx_server::protocol::{Failure, Reply, Request, ThumbnailFormat, ThumbnailRequest};

use super::payload::Payload;
use crate::pg::image::Image;

/// An image file to make a thumbnail of.
#[derive(Debug)]
pub struct Original {
    pub image: Image,
    /// Length of the longest side of the thumbnail in pixels.
    pub size: u32,
    pub format: ThumbnailFormat,
}

/// Its product is a file of the format. It needs no model.
impl Payload for Original {
    type Product = ByteBuf;
    // Photographs from cameras take long to decode, so that there are enough frames to work on in the meantime.
    const FRAME_INPUTS: usize = 16;

    fn size(&self) -> usize {
        self.image.size()
    }

    fn too_large(&self) -> Option<Failure> {
        self.image.too_large()
    }

    fn model(_: Option<&str>) -> Option<String> {
        None
    }

    fn request<'a>(
        id: u64,
        _: Option<&'a str>,
        _: Option<&'a str>,
        inputs: impl Iterator<Item = &'a Self>,
    ) -> Request<'a> {
        let request = |original: &'a Original| ThumbnailRequest {
            // A file that is too large is never sent.
            file: Bytes::new(original.image.file().unwrap_or_default()),
            size: original.size,
            format: original.format,
        };
        Request::Thumbnails { id, requests: inputs.map(request).collect() }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<ByteBuf, Failure>>, Reply> {
        match reply {
            Reply::Thumbnails { files, .. } => Ok(files),
            other => Err(other),
        }
    }
}
