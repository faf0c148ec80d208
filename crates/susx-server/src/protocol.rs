//! What a backend and the inference process say to each other.
//!
//! A frame is a length (u32, little-endian, of what follows) and one message in postcard's format. A
//! connection begins with [`Request::Hello`] and [`Reply::Hello`]; then every request has an id, chosen
//! by the backend, that its reply carries. Replies come in the order in which they are ready.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use susx_core::classifier::PartialParams;

use crate::limits;

/// Changed with every change of a message, so that an old library never misreads a new server.
pub const PROTOCOL_VERSION: u32 = 3;

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = size_of::<u32>();

/// The longest message either side accepts: an image of PostgreSQL's largest size and its envelope.
pub const MAX_MESSAGE_BYTES: usize = (1 << 30) + (1 << 20);

/// From a backend.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request<'a> {
    /// The first message of a connection.
    Hello { protocol: u32, version: &'a str },
    /// Embeddings of images or texts.
    Embed {
        id: u64,
        model: Option<&'a str>,
        #[serde(borrow)]
        inputs: Inputs<'a>,
    },
    /// Images that a generator paints.
    Generate {
        id: u64,
        generator: Option<&'a str>,
        #[serde(borrow)]
        pictures: Vec<Picture<'a>>,
    },
    /// What there is to know about one embedding model, which is loaded for it.
    Describe { id: u64, model: Option<&'a str> },
    /// What there is to know about one generator, which is loaded for it.
    DescribeGenerator { id: u64, generator: Option<&'a str> },
    /// Every model of the model directory, loaded or not.
    Models { id: u64 },
    /// What the process has done and is doing; answered whatever it is busy with.
    Stats { id: u64 },
}

/// What to embed.
#[derive(Debug, Serialize, Deserialize)]
pub enum Inputs<'a> {
    /// Image files.
    #[serde(borrow)]
    Images(Vec<&'a Bytes>),
    #[serde(borrow)]
    Texts(Vec<&'a str>),
}

impl Inputs<'_> {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Inputs::Images(images) => images.len(),
            Inputs::Texts(texts) => texts.len(),
        }
    }
}

/// An image to generate. Equal ones give equal images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture<'a> {
    #[serde(borrow)]
    pub prompt: Cow<'a, str>,
    /// What is not to be seen; empty for nothing in particular.
    #[serde(borrow)]
    pub negative_prompt: Cow<'a, str>,
    /// Decides the noise that the image is made of.
    pub seed: u64,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Weight of the prompt; up to 1 there is no guidance.
    pub guidance_scale: f32,
    /// In pixels; the generator's own size where not given.
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// From the inference process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Hello {
        protocol: u32,
        version: String,
    },
    /// One unit vector or one failure per input, in order.
    Embedded {
        id: u64,
        embeddings: Vec<Result<Vec<f32>, Failure>>,
    },
    /// One PNG file or one failure per picture, in order.
    Generated {
        id: u64,
        images: Vec<Result<ByteBuf, Failure>>,
    },
    /// So many more denoising steps of the request's pictures are done; each is a step of one picture. It is not
    /// the last reply to the request.
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
    /// The request as a whole has failed.
    Failed {
        id: u64,
        failure: Failure,
    },
}

impl Reply {
    /// The request that it answers; 0 for the greeting.
    pub fn id(&self) -> u64 {
        match self {
            Reply::Hello { .. } => 0,
            Reply::Embedded { id, .. }
            | Reply::Generated { id, .. }
            | Reply::Denoised { id, .. }
            | Reply::Model { id, .. }
            | Reply::Models { id, .. }
            | Reply::Stats { id, .. }
            | Reply::Failed { id, .. } => *id,
        }
    }
}

impl Picture<'_> {
    /// Whether its numbers are ones that any generator takes.
    pub fn check(&self) -> Result<(), Failure> {
        let wrong = |name: &str, expected: String, found: String| {
            let message = format!("{name}: expected {expected}, not {found}");
            Err(Failure { kind: FailureKind::Parameter, message, hint: None })
        };
        if !(1..=limits::MAX_STEPS).contains(&self.steps) {
            return wrong("steps", format!("1 to {}", limits::MAX_STEPS), self.steps.to_string());
        }
        if !(0.0..=limits::MAX_GUIDANCE_SCALE).contains(&self.guidance_scale) {
            let expected = format!("0 to {}", limits::MAX_GUIDANCE_SCALE);
            return wrong("guidance_scale", expected, self.guidance_scale.to_string());
        }
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if side.is_some_and(|side| !(1..=limits::MAX_SIDE).contains(&side)) {
                let found = side.unwrap_or_default().to_string();
                return wrong(name, format!("1 to {} pixels", limits::MAX_SIDE), found);
            }
        }
        Ok(())
    }
}

/// The failure of a text or an image that is longer than a limit, which is a setting.
pub fn too_large(what: &str, found: usize, limit: usize, setting: &str) -> Failure {
    Failure {
        kind: FailureKind::TooLarge,
        message: format!("the {what} has {found} bytes, the limit is {limit}"),
        hint: Some(format!("The limit is the setting {setting}.")),
    }
}

/// The failure of a name of so many bytes, which is too long to be a model's.
pub fn no_model_has_such_a_name(found: usize) -> Failure {
    let limit = limits::MAX_NAME_BYTES;
    let message = format!("the name of the model has {found} bytes, the limit is {limit}");
    Failure { kind: FailureKind::UnknownModel, message, hint: None }
}

/// A model of the model directory. What only loading tells is `None` until then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    /// `clip`, `vision`, `text`, or `diffusion`: a generator.
    pub kind: Option<String>,
    pub dimensions: Option<u32>,
    /// Height and width of `pixel_values`, or of the images that a generator is made for.
    pub image_size: Option<(u32, u32)>,
    /// The execution provider that really runs.
    pub provider: Option<String>,
    pub loaded: bool,
    /// Size of the model's files.
    pub bytes: Option<u64>,
    pub sha256: Option<[u8; 32]>,
    /// Starting values of a new classifier, as far as the model's files give them.
    pub defaults: PartialParams,
    /// Why it cannot be used, or why it is not on the provider that was asked for.
    pub error: Option<String>,
}

/// The inference process at work. Counts are since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub version: String,
    /// Microseconds since 1970.
    pub started: i64,
    /// How often it was started again since its supervisor began.
    pub restarts: u32,
    /// Sessions that have asked for something, and are still connected.
    pub connections: u64,
    /// Loaded models and those that are being loaded, with their provider.
    pub models: Vec<String>,
    /// Inputs that have arrived and have no answer yet, and the bytes of their requests.
    pub queue_inputs: u64,
    pub queue_bytes: u64,
    /// Inputs that were embedded.
    pub images: u64,
    pub texts: u64,
    /// Images that were generated.
    pub generated: u64,
    /// Inputs that got an error.
    pub failed: u64,
    pub batches: u64,
    /// Per second, over the last ten seconds.
    pub images_per_second: f64,
    pub texts_per_second: f64,
    /// Denoising steps, each of one image.
    pub steps_per_second: f64,
    /// How many batches had 1, 2, 3 to 4, 5 to 8, ... inputs.
    pub batch_sizes: Vec<u64>,
    /// Milliseconds from a request's arrival to its reply, in the last one to two minutes.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub last_error: Option<ErrorSeen>,
}

/// An error, and when it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorSeen {
    pub message: String,
    /// Microseconds since 1970.
    pub at: i64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    pub hint: Option<String>,
}

/// Whose fault it is; the extension has an SQLSTATE for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// An image or text that cannot be embedded.
    Input,
    /// An image or a text beyond a limit.
    TooLarge,
    /// There is no such model.
    UnknownModel,
    /// The model is there, but does something else.
    WrongModel,
    /// What a picture is asked for with makes no sense to the generator.
    Parameter,
    /// The generator's safety checker has refused to show an image.
    Blocked,
    /// A setting or a model's files must be put right first.
    Configuration,
    /// The model or the machine failed.
    Inference,
    /// The other side broke the protocol.
    Protocol,
    /// The inference process dies of it. The backend's own finding: the server does not live to say it.
    ServerDied,
}

impl FailureKind {
    /// Whether the input itself is at fault, so that other inputs of the batch may still succeed.
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

/// A message that cannot be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("a message of {0} bytes is longer than the largest allowed, {MAX_MESSAGE_BYTES} bytes")]
    TooLong(usize),
    #[error("a message could not be encoded or decoded: {0}")]
    Postcard(#[from] postcard::Error),
}

/// The frame of a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut frame = Vec::new();
    append(message, &mut frame)?;
    Ok(frame)
}

/// Appends the frame of a message to `frames`, which stay as they are on an error.
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

/// The length of the message that follows these bytes.
pub fn message_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, ProtocolError> {
    match u32::from_le_bytes(prefix) as usize {
        length if length > MAX_MESSAGE_BYTES => Err(ProtocolError::TooLong(length)),
        length => Ok(length),
    }
}

/// The message in a frame, without the frame's length.
pub fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, ProtocolError> {
    Ok(postcard::from_bytes(message)?)
}

/// Takes the first reply out of what has been received, once it is whole.
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
