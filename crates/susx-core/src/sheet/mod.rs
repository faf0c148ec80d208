//! Contact sheets: one picture with many thumbnails and their labels.
//!
//! [`Layout`] says how large a sheet is and where its cells are. `Sheet` draws it (feature `inference`).

#[cfg(feature = "inference")]
mod draw;
mod layout;
#[cfg(feature = "inference")]
mod text;

#[cfg(feature = "inference")]
pub use draw::{Content, Sheet};
pub use layout::Layout;
