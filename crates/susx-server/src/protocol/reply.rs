//! What the inference process answers.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Failure, Model, Stats};

/// A message from the inference process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Hello {
        protocol: u32,
        version: String,
    },
    /// One unit vector or one failure per image, in order.
    Embedded {
        id: u64,
        embeddings: Vec<Result<Vec<f32>, Failure>>,
    },
    /// The unit vectors of both models, or one failure, per image, in order. If both models fail on an image, the
    /// failure is that of the model for names.
    EmbeddedPairs {
        id: u64,
        pairs: Vec<Result<[Vec<f32>; 2], Failure>>,
    },
    /// One PNG file or one failure per image, in order.
    Generated {
        id: u64,
        images: Vec<Result<ByteBuf, Failure>>,
    },
    /// Progress: the number of denoising steps done since the previous report, each of one image. Another reply to
    /// the request follows.
    Denoised {
        id: u64,
        steps: u32,
    },
    Model {
        id: u64,
        model: Box<Model>,
    },
    Models {
        id: u64,
        models: Vec<Model>,
    },
    Stats {
        id: u64,
        stats: Box<Stats>,
    },
    /// The whole request has failed.
    Failed {
        id: u64,
        failure: Failure,
    },
    /// One file or one failure per image, in order.
    Thumbnails {
        id: u64,
        files: Vec<Result<ByteBuf, Failure>>,
    },
    /// A PNG file.
    Sheet {
        id: u64,
        file: ByteBuf,
    },
    /// What one header says, or one failure, per image, in order.
    ImageInfos {
        id: u64,
        infos: Vec<Result<ImageInfo, Failure>>,
    },
    /// One unit vector or one failure per text, in order.
    EmbeddedTexts {
        id: u64,
        embeddings: Vec<Result<TextEmbedding, Failure>>,
    },
}

impl Reply {
    /// Id of the request that it answers; 0 for the greeting.
    pub fn id(&self) -> u64 {
        match self {
            Reply::Hello { .. } => 0,
            Reply::Embedded { id, .. }
            | Reply::EmbeddedTexts { id, .. }
            | Reply::EmbeddedPairs { id, .. }
            | Reply::Generated { id, .. }
            | Reply::Thumbnails { id, .. }
            | Reply::Sheet { id, .. }
            | Reply::ImageInfos { id, .. }
            | Reply::Denoised { id, .. }
            | Reply::Model { id, .. }
            | Reply::Models { id, .. }
            | Reply::Stats { id, .. }
            | Reply::Failed { id, .. } => *id,
        }
    }
}

/// The embedding of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextEmbedding {
    /// Of length 1.
    pub vector: Vec<f32>,
    /// What the model has read of a text that is longer than its context; `None` if it has read all.
    pub cut: Option<Cut>,
}

/// The beginning of a text that a model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cut {
    /// The number of tokens, special ones included.
    pub tokens: u32,
    /// Equal for texts that begin with the same tokens.
    pub digest: u64,
}

/// What the header of an image file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Name of the format, such as `JPEG`.
    pub format: String,
    /// Width and height in pixels as stored: before the image is turned.
    pub width: u32,
    pub height: u32,
    /// How the stored pixels are turned to show the image, as the number that EXIF has for it: 1 to 8.
    pub orientation: u8,
    /// Frames, pages or pictures; at least 1.
    pub frames: u32,
    /// The channels, by Pillow's names, such as `RGB`.
    pub mode: String,
}
