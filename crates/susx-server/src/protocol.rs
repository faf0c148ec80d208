//! The protocol between a backend and the inference process.
//!
//! A frame is the length of the message (u32, little-endian) followed by one message in postcard's format. A
//! connection begins with [`Request::Hello`] and [`Reply::Hello`]. After that, every request has an id, chosen by the
//! backend, which its reply repeats. Replies are sent as soon as they are ready, in any order.

mod sheet;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use susx_core::classifier::PartialParams;

use crate::limits;
pub use sheet::{SheetCell, SheetPicture, SheetRequest};

/// Increased with every change of a message, so that a library never misreads a server of another version.
pub const PROTOCOL_VERSION: u32 = 8;

/// Size of a frame's length prefix, in bytes.
pub const LENGTH_BYTES: usize = size_of::<u32>();

/// Longest message that either side accepts, in bytes: PostgreSQL's largest value (1 GiB) and 1 MiB for the rest.
pub const MAX_MESSAGE_BYTES: usize = (1 << 30) + (1 << 20);

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

/// An image to generate. Equal requests give equal images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest<'a> {
    #[serde(borrow)]
    pub prompt: Cow<'a, str>,
    /// Describes what the image should not show; may be empty.
    #[serde(borrow)]
    pub negative_prompt: Cow<'a, str>,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Weight of the prompt; values up to 1 turn guidance off.
    pub guidance_scale: f32,
    /// Size in pixels; `None` is the generator's default size.
    pub width: Option<u32>,
    pub height: Option<u32>,
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

impl ImageRequest<'_> {
    /// Checks the numbers against [`limits`]; fails with [`FailureKind::Parameter`].
    pub fn check(&self) -> Result<(), Failure> {
        let out_of_range = |name: &str, expected: String, found: String| {
            let message = format!("{name}: expected {expected}, not {found}");
            Err(Failure { kind: FailureKind::Parameter, message, hint: None })
        };
        if !(1..=limits::MAX_STEPS).contains(&self.steps) {
            return out_of_range("steps", format!("1 to {}", limits::MAX_STEPS), self.steps.to_string());
        }
        if !(0.0..=limits::MAX_GUIDANCE_SCALE).contains(&self.guidance_scale) {
            let expected = format!("0 to {}", limits::MAX_GUIDANCE_SCALE);
            return out_of_range("guidance_scale", expected, self.guidance_scale.to_string());
        }
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if side.is_some_and(|side| !(1..=limits::MAX_SIDE).contains(&side)) {
                let found = side.unwrap_or_default().to_string();
                return out_of_range(name, format!("1 to {} pixels", limits::MAX_SIDE), found);
            }
        }
        Ok(())
    }
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

/// The failure for a text or image of `found` bytes that exceeds the limit of a setting.
pub fn too_large(what: &str, found: usize, limit: usize, setting: &str) -> Failure {
    Failure {
        kind: FailureKind::TooLarge,
        message: format!("the {what} has {found} bytes, the limit is {limit}"),
        hint: Some(format!("The limit is the setting {setting}.")),
    }
}

/// The failure for a model name of `found` bytes, which is too long.
pub fn model_name_too_long(found: usize) -> Failure {
    let limit = limits::MAX_NAME_BYTES;
    let message = format!("the name of the model has {found} bytes, the limit is {limit}");
    Failure { kind: FailureKind::UnknownModel, message, hint: None }
}

/// A model of the model directory. Fields that are known only after loading are `None` before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    /// `clip`, `vision`, `text`, or `diffusion` for a generator.
    pub kind: Option<String>,
    pub dimensions: Option<u32>,
    /// Height and width in pixels of the model's input, or of a generator's images by default.
    pub image_size: Option<(u32, u32)>,
    /// The execution provider in use.
    pub provider: Option<String>,
    pub loaded: bool,
    /// Total size of the model's files, in bytes.
    pub bytes: Option<u64>,
    pub sha256: Option<[u8; 32]>,
    /// Starting values of a new classifier, where the model's files give them.
    pub defaults: PartialParams,
    /// What a SigLIP adds to its scaled cosines, where the model's files give it.
    pub logit_bias: Option<f32>,
    /// Why the model or one of its encoders cannot be used, or why it does not run on the requested provider.
    pub error: Option<String>,
    /// The graph of the image encoder.
    pub vision: Option<EncoderFile>,
    /// The graph of the text encoder.
    pub text: Option<EncoderFile>,
    /// What is worth knowing about a model that works.
    pub note: Option<String>,
    /// Why one of the encoders of a loaded model cannot be used.
    pub broken: Option<Failure>,
}

/// The graph of an encoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EncoderFile {
    /// Its file, relative to the model's directory.
    pub file: String,
    /// Precision of its weights, such as `fp16`.
    pub precision: Option<String>,
    /// Version of ONNX's operator set.
    pub opset: Option<u32>,
}

/// Statistics of the inference process. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub version: String,
    /// Microseconds since 1970.
    pub started: i64,
    /// How often the supervisor has restarted it.
    pub restarts: u32,
    /// Connected sessions that have sent a request other than for statistics.
    pub connections: u64,
    /// Loaded models with their provider, and those being loaded.
    pub models: Vec<String>,
    /// Inputs that have arrived and are not answered yet.
    pub queue_inputs: u64,
    /// Memory reserved for requests and unsent replies, in bytes.
    pub queue_bytes: u64,
    /// Embedded images.
    pub images: u64,
    /// Embedded texts.
    pub texts: u64,
    /// Generated images.
    pub generated: u64,
    /// Inputs answered with an error.
    pub failed: u64,
    /// Batches of images or texts.
    pub batches: u64,
    /// Over the last ten seconds, like the other rates.
    pub images_per_second: f64,
    pub texts_per_second: f64,
    /// Denoising steps per second, each of one image.
    pub steps_per_second: f64,
    /// Numbers of batches with 1, 2, 3 to 4, 5 to 8, ... inputs.
    pub batch_sizes: Vec<u64>,
    /// Median time from a request's arrival to its reply over the last one to two minutes, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 95th percentile of the same.
    pub p95_ms: Option<f64>,
    pub last_error: Option<LastError>,
}

/// An error and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    pub message: String,
    /// Microseconds since 1970.
    pub at: i64,
}

/// Why a request or an input has failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    pub hint: Option<String>,
}

/// Cause of a failure; the extension maps each to an SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// An image or text that cannot be embedded.
    Input,
    /// An image or text that exceeds a limit.
    TooLarge,
    /// There is no such model.
    UnknownModel,
    /// The model exists but is of another kind.
    WrongModel,
    /// A parameter of an image request is invalid.
    Parameter,
    /// The generator's safety checker blocked the image.
    Blocked,
    /// A setting or a model's files must be corrected.
    Configuration,
    /// The model or the machine failed.
    Inference,
    /// The other side violated the protocol.
    Protocol,
    /// The input crashes the inference process. Found by the backend; a server never sends it.
    ServerDied,
}

impl FailureKind {
    /// Whether the input itself caused the failure, so that other inputs of the batch may still succeed.
    pub const fn is_of_input(self) -> bool {
        match self {
            FailureKind::Input | FailureKind::TooLarge | FailureKind::Blocked | FailureKind::ServerDied => {
                true
            }
            FailureKind::UnknownModel
            | FailureKind::WrongModel
            | FailureKind::Parameter
            | FailureKind::Configuration
            | FailureKind::Inference
            | FailureKind::Protocol => false,
        }
    }
}

/// A message that cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("a message of {0} bytes is longer than the largest allowed, {MAX_MESSAGE_BYTES} bytes")]
    TooLong(usize),
    #[error("a message could not be encoded or decoded: {0}")]
    Postcard(#[from] postcard::Error),
}

/// Encodes a message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut frame = Vec::new();
    append(message, &mut frame)?;
    Ok(frame)
}

/// Appends the frame of a message to `frames`, which is unchanged on an error.
pub fn append<T: Serialize>(message: &T, frames: &mut Vec<u8>) -> Result<(), ProtocolError> {
    let begin = frames.len();
    frames.extend([0; LENGTH_BYTES]);
    let encoded = postcard::to_io(message, &mut *frames).map(|frames| frames.len() - begin - LENGTH_BYTES);
    match encoded {
        Ok(length) if length <= MAX_MESSAGE_BYTES => {
            frames[begin..begin + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
            Ok(())
        }
        failed => {
            frames.truncate(begin);
            Err(failed.map_or_else(ProtocolError::from, ProtocolError::TooLong))
        }
    }
}

/// Decodes a length prefix. Fails if the message is too long.
pub fn message_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, ProtocolError> {
    match u32::from_le_bytes(prefix) as usize {
        length if length > MAX_MESSAGE_BYTES => Err(ProtocolError::TooLong(length)),
        length => Ok(length),
    }
}

/// Decodes a message, given without its length prefix.
pub fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, ProtocolError> {
    Ok(postcard::from_bytes(message)?)
}

/// Removes the first reply from the received bytes; `None` until it is complete.
pub fn take_reply(received: &mut Vec<u8>) -> Result<Option<Reply>, ProtocolError> {
    let Some(prefix) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let end = LENGTH_BYTES + message_length(*prefix)?;
    let Some(message) = received.get(LENGTH_BYTES..end) else { return Ok(None) };
    let reply = decode(message)?;
    received.drain(..end);
    Ok(Some(reply))
}

#[cfg(test)]
mod tests;
