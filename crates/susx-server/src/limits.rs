//! Limits that a client can hit.
//!
//! Numbers in a request decide how much memory and time it takes. The extension checks them first, to say which
//! argument is wrong; the inference process checks them again and does not rely on its client. Constants that only
//! tune the server are next to the code that uses them; the length of a message is in [`protocol`](crate::protocol).

/// Maximum number of denoising steps per image: schedulers have 1000 noise levels.
pub const MAX_STEPS: u32 = 1000;
/// Maximum width and height of a generated image, in pixels.
pub const MAX_SIDE: u32 = 4096;
/// Maximum guidance scale. Far larger values make the predictions infinite.
pub const MAX_GUIDANCE_SCALE: f32 = 100.0;
/// Maximum number of images per request.
pub const MAX_IMAGE_REQUESTS: usize = 64;
/// Minimum size of a thumbnail, in pixels.
pub const MIN_THUMBNAIL_SIZE: u32 = 16;
/// Maximum size of a thumbnail, in pixels.
pub const MAX_THUMBNAIL_SIZE: u32 = 1024;
/// Maximum number of images of a contact sheet.
pub const MAX_SHEET_IMAGES: usize = 1000;
/// Maximum number of columns of a contact sheet.
pub const MAX_SHEET_COLUMNS: u32 = 64;
/// Maximum number of pixels of a contact sheet. Each takes three bytes while it is drawn.
pub const MAX_SHEET_PIXELS: u64 = 64_000_000;
/// Maximum number of images or texts per request.
pub const MAX_INPUTS: usize = 4096;
/// Maximum length of a model's name, in bytes: file systems allow no longer names.
pub const MAX_NAME_BYTES: usize = 255;
/// Default of `susx.max_text_bytes`, in bytes. Most texts of this length are truncated before they are tokenized; the
/// others take a few seconds.
pub const DEFAULT_TEXT_BYTES: usize = 1 << 20;
