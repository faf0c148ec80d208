//! What a request may ask for.
//!
//! A number that a caller chooses decides how much memory and time is spent. The extension checks it first, to say
//! which argument is wrong; the inference process checks it again, whoever has sent it.

/// The most denoising steps of one picture: no scheduler knows more levels of noise.
pub const MAX_STEPS: u32 = 1000;
/// The longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 4096;
/// The strongest guidance. At some point the predictions are no finite numbers any more.
pub const MAX_GUIDANCE_SCALE: f32 = 100.0;
/// The most pictures of one message.
pub const MAX_PICTURES: usize = 64;
/// The most images or texts of one message.
pub const MAX_INPUTS: usize = 4096;
/// The longest name of a model, in bytes: no file system has longer names.
pub const MAX_NAME_BYTES: usize = 255;
/// The default of `susx.max_text_bytes`. Most texts of this length are cut to what the model sees before they are
/// tokenized, and the others take a few seconds.
pub const DEFAULT_TEXT_BYTES: usize = 1 << 20;
