//! An image that may be shown.

use std::cell::RefCell;

use sha2::{Digest, Sha256};

/// Characters of a key that are shown. Longer keys are cut.
const SHOWN_KEY: usize = 80;

/// What there is to see of a subject.
#[derive(Debug)]
pub enum Picture<I> {
    /// There is no image.
    None,
    /// The image that a thumbnail can be made of.
    Original(I),
    /// The file of the thumbnail, as JPEG.
    Thumbnail(Vec<u8>),
    /// Why no thumbnail could be made.
    Failed(String),
}

/// An image of the table, with its label.
#[derive(Debug)]
pub struct Subject<I> {
    /// The row, counted from 1.
    pub row: u64,
    /// The key as text, cut; `None` for NULL.
    pub key: Option<String>,
    /// A number that depends on the key alone, or on the row if there is no key. It decides what is in a sample.
    pub hash: u64,
    /// What can be seen.
    pub picture: RefCell<Picture<I>>,
    /// The unit vector by which images are compared; empty if there is none.
    pub embedding: Vec<f32>,
    /// The best categories with their probabilities, best first; empty if there are none.
    pub ranked: Vec<(usize, f32)>,
    /// The probability that the image shows any category.
    pub known: f32,
    /// The true category: `None` if that is not known, `Some(None)` for an image of none of the categories.
    pub truth: Option<Option<usize>>,
}

impl<I> Subject<I> {
    /// A subject without a label.
    pub fn new(row: u64, key: Option<&str>, picture: Picture<I>, embedding: Vec<f32>) -> Self {
        let hash = match key {
            Some(key) => hash(key.as_bytes()),
            None => hash(&row.to_be_bytes()),
        };
        Subject {
            row,
            key: key.map(shortened),
            hash,
            picture: RefCell::new(picture),
            embedding,
            ranked: Vec::new(),
            known: 1.0,
            truth: None,
        }
    }

    /// The probability of the best category; 0 without one.
    pub fn probability(&self) -> f32 {
        self.ranked.first().map_or(0.0, |best| best.1)
    }
}

/// A key as it is shown.
pub(crate) fn shortened(key: &str) -> String {
    match key.char_indices().nth(SHOWN_KEY) {
        None => key.to_owned(),
        Some((end, _)) => format!("{}…", &key[..end]),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_have_equal_hashes_and_rows_without_a_key_differ() {
        let subject = |row, key| Subject::<()>::new(row, key, Picture::None, Vec::new());
        assert_eq!(subject(1, Some("a")).hash, subject(2, Some("a")).hash);
        assert_ne!(subject(1, Some("a")).hash, subject(1, Some("b")).hash);
        assert_ne!(subject(1, None).hash, subject(2, None).hash);
        // The first bytes of the SHA-256 of "a", from FIPS 180's reference programs.
        assert_eq!(subject(1, Some("a")).hash, 0xca97_8112_ca1b_bdca);
    }

    #[test]
    fn long_keys_are_cut_between_characters() {
        assert_eq!(shortened("ß"), "ß");
        let shown = shortened(&"ß".repeat(1000));
        assert_eq!(shown.chars().count(), SHOWN_KEY + 1);
        assert!(shown.ends_with('…'));
    }
}
