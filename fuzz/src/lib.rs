//! What reaches susx from outside, as functions of any bytes that must return: whatever is wrong with the bytes is an
//! error value, and what is right with them keeps the promises of the code that reads it.
//!
//! `make fuzz` runs them under libFuzzer with AddressSanitizer; the tests call them with the seeds.

mod backend_replies;
mod classifier_settings;
mod model_files;
mod pixel_values;
mod prompt_json;
mod server_log;
mod server_messages;
mod tokenizer;

pub use backend_replies::backend_replies;
pub use classifier_settings::classifier_settings;
pub use model_files::model_files;
pub use pixel_values::pixel_values;
pub use prompt_json::prompt_json;
pub use server_log::server_log;
pub use server_messages::server_messages;
pub use tokenizer::tokenizer;

/// A target, with the bytes of one input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its seeds' folder too.
pub const TARGETS: [(&str, Target); 8] = [
    ("pixel_values", pixel_values),
    ("server_messages", server_messages),
    ("backend_replies", backend_replies),
    ("server_log", server_log),
    ("tokenizer", tokenizer),
    ("prompt_json", prompt_json),
    ("classifier_settings", classifier_settings),
    ("model_files", model_files),
];

/// The bytes in pieces, each after its length (u16, little-endian); the last one may be shorter than it says.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = data.split_first_chunk()?;
        let (piece, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(length).into()));
        data = rest;
        Some(piece)
    })
}
