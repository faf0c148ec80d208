//! What the headers of image files say, as a product of the inference process.

use serde_bytes::Bytes;
use susx_server::protocol::{Failure, ImageInfo, Reply, Request};

use super::payload::Payload;
use crate::pg::image::Image;

/// An image file whose header to read.
#[derive(Debug)]
pub struct Described(pub Image);

/// It needs no model.
impl Payload for Described {
    type Product = ImageInfo;
    const FRAME_INPUTS: usize = 64;

    fn size(&self) -> usize {
        self.0.size()
    }

    fn too_large(&self) -> Option<Failure> {
        self.0.too_large()
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
        // A file that is too large is never sent.
        Request::ImageInfos {
            id,
            images: inputs.map(|it| Bytes::new(it.0.file().unwrap_or_default())).collect(),
        }
    }

    fn answers(reply: Reply) -> Result<Vec<Result<ImageInfo, Failure>>, Reply> {
        match reply {
            Reply::ImageInfos { infos, .. } => Ok(infos),
            other => Err(other),
        }
    }
}
