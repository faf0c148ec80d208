//! Thumbnails of image files.
//!
//! They need no model and no batch: the thread that reads a connection has them made, on all threads for decoding, and
//! replies. Memory is bounded as for embedding: the decoders share one budget of pixels.

use rayon::prelude::*;
use serde_bytes::ByteBuf;
use susx_core::clip::{ThumbnailFile, thumbnail, thumbnail_reduction};

use crate::batching::image_file::{Decoding, decode};
use crate::batching::request::abandoned;
use crate::protocol::{Failure, ThumbnailFormat, ThumbnailRequest};
use crate::stats;

/// One file or one failure per request, in order. Gives up once `is_disconnected`.
pub fn make(
    requests: &[ThumbnailRequest],
    decoding: &Decoding,
    is_disconnected: impl Fn() -> bool + Sync,
) -> Vec<Result<ByteBuf, Failure>> {
    let one = |request: &ThumbnailRequest| {
        if is_disconnected() {
            return Err(abandoned());
        }
        let file = match request.format {
            ThumbnailFormat::Jpeg => ThumbnailFile::Jpeg,
            ThumbnailFormat::Png => ThumbnailFile::Png,
        };
        let reduction = |width, height| thumbnail_reduction(width, height, request.size);
        decode(request.file, decoding, reduction, |picture, scratch| {
            thumbnail(picture, request.size, file, scratch)
        })
        .map(ByteBuf::from)
    };
    let files: Vec<_> = requests.par_iter().map(one).collect();
    if let Some(failure) = files.iter().find_map(|file| file.as_ref().err()) {
        let failed = files.iter().filter(|file| file.is_err()).count();
        stats::server().failed(failed, &failure.message);
    }
    files
}
