//! What a backend asks for.

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::{ImageRequest, SheetRequest, ThumbnailRequest};

/// A message from a backend.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request<'a> {
    /// The first message of a connection.
    Hello { protocol: u32, version: &'a str },
    /// Asks for embeddings of images or texts.
    Embed {
        id: u64,
        model: Option<&'a str>,
        #[serde(borrow)]
        inputs: Inputs<'a>,
    },
    /// Asks for the embeddings of image files by two models: the one for names, and one for likeness.
    EmbedPairs {
        id: u64,
        model: Option<&'a str>,
        likeness_model: &'a str,
        #[serde(borrow)]
        images: Vec<&'a Bytes>,
    },
    /// Asks a generator for images.
    Generate {
        id: u64,
        generator: Option<&'a str>,
        #[serde(borrow)]
        requests: Vec<ImageRequest<'a>>,
    },
    /// Asks for the description of an embedding model, which is loaded if necessary.
    Describe { id: u64, model: Option<&'a str> },
    /// Asks for the description of a generator, which is loaded if necessary.
    DescribeGenerator { id: u64, generator: Option<&'a str> },
    /// Asks for every model of the model directory, loaded or not.
    Models { id: u64 },
    /// Asks for the process's statistics; answered at once, however busy the process is.
    Stats { id: u64 },
    /// Asks for thumbnails of image files. No model is needed.
    Thumbnails {
        id: u64,
        #[serde(borrow)]
        requests: Vec<ThumbnailRequest<'a>>,
    },
    /// Asks for a contact sheet. No model is needed.
    Sheet {
        id: u64,
        #[serde(borrow)]
        sheet: SheetRequest<'a>,
    },
    /// Asks what the headers of image files say. No model is needed.
    ImageInfos {
        id: u64,
        #[serde(borrow)]
        images: Vec<&'a Bytes>,
    },
}

/// The inputs to embed.
#[derive(Debug, Serialize, Deserialize)]
pub enum Inputs<'a> {
    /// Image files.
    #[serde(borrow)]
    Images(Vec<&'a Bytes>),
    /// UTF-8 texts.
    #[serde(borrow)]
    Texts(Vec<&'a str>),
}

impl Inputs<'_> {
    /// The number of inputs.
    pub fn count(&self) -> usize {
        match self {
            Inputs::Images(images) => images.len(),
            Inputs::Texts(texts) => texts.len(),
        }
    }
}
