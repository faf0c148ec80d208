//! What the headers of image files say.
//!
//! They need no model and no batch: as for thumbnails, the thread that reads a connection has them read and replies. No
//! pixel is decoded, so that they count towards no budget.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;
use serde_bytes::Bytes;
use susx_core::clip::image_info;

use crate::batching::image_file::Decoding;
use crate::batching::request::abandoned;
use crate::protocol::{Failure, FailureKind, ImageInfo};

/// What one header says, or one failure, per image, in order. Gives up once `is_disconnected`. The caller wants to know
/// which images are broken, so these are not counted as failed inputs.
pub fn read(
    images: &[&Bytes],
    decoding: &Decoding,
    is_disconnected: impl Fn() -> bool + Sync,
) -> Vec<Result<ImageInfo, Failure>> {
    let one = |image: &&Bytes| {
        if is_disconnected() {
            return Err(abandoned());
        }
        match catch_unwind(AssertUnwindSafe(|| image_info(image, &decoding.limits))) {
            Ok(Ok(info)) => Ok(ImageInfo {
                format: info.format.to_owned(),
                width: info.width,
                height: info.height,
                orientation: info.orientation,
                frames: info.frames,
                mode: info.mode,
            }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::new(FailureKind::Input, "the decoder panicked on this image")),
        }
    };
    images.par_iter().map(one).collect()
}
