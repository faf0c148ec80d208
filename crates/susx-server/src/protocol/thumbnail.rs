//! The request for a thumbnail.

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::{Failure, FailureKind};
use crate::limits;

/// A thumbnail to make.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThumbnailRequest<'a> {
    /// The image file.
    #[serde(borrow)]
    pub file: &'a Bytes,
    /// Length of the longest side in pixels. A smaller image keeps its size.
    pub size: u32,
    pub format: ThumbnailFormat,
}

/// The format of a thumbnail's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThumbnailFormat {
    Jpeg,
    Png,
}

impl ThumbnailRequest<'_> {
    /// Checks the size against [`limits`]; fails with [`FailureKind::Parameter`].
    pub fn check(&self) -> Result<(), Failure> {
        let sizes = limits::MIN_THUMBNAIL_SIZE..=limits::MAX_THUMBNAIL_SIZE;
        if sizes.contains(&self.size) {
            return Ok(());
        }
        let message =
            format!("size: expected {} to {} pixels, not {}", sizes.start(), sizes.end(), self.size);
        Err(Failure { kind: FailureKind::Parameter, message, hint: None })
    }
}
