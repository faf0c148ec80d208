//! Fuzz targets: one function for each kind of data that reaches susx from outside.
//!
//! A target reads arbitrary bytes. Invalid data must result in an error value, never in a panic. For valid data the
//! target checks the guarantees of the code that reads it. `make fuzz` runs the targets under libFuzzer with
//! AddressSanitizer, and the tests run them on the seeds.

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

/// A fuzz target, which takes the bytes of one input.
pub type Target = fn(&[u8]);

/// All targets by name. The folder of a target's seeds has the same name.
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

/// Splits the input into pieces. Each piece follows its length, a little-endian u16. The last one may be shorter than
/// its length says.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = data.split_first_chunk()?;
        let (piece, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(length).into()));
        data = rest;
        Some(piece)
    })
}
