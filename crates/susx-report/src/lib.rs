//! A page to look at the labels of a table of images: one HTML document that refers to nothing outside of it.
//!
//! 1. A [`Collector`] sees every labelled image once. It counts, and keeps only the images that may be shown: the
//!    surest and the least sure of each category, a sample, what was rejected, and with known truth the mistakes. Its
//!    memory does not grow with the number of images.
//! 2. [`Collector::finish`] lays the kept images out on [`Sheets`]. [`Sheets::share`] gives the sheets their part of the
//!    thumbnails, fairly.
//! 3. The caller makes the thumbnails, and [`Page::html`] writes the document.
//!
//! The same images give the same document. All texts in it may be hostile: they are escaped by [`maud`], and a content
//! security policy forbids scripts and external resources.
//!
//! The crate knows nothing of PostgreSQL. What an image is before it becomes a thumbnail is its parameter `I`.

#![warn(missing_docs)]

mod alike;
mod collect;
mod layout;
mod render;
mod sheets;
mod subject;
mod top;

pub use collect::{Answer, Collector, Counts, Options, Tally};
pub use render::Page;
pub use sheets::{Card, Cell, Part, Sheet, Sheets};
pub use subject::{Picture, Subject};
