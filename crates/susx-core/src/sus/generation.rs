//! Prompts and seeds of generated images, the same on every machine.
//!
//! The published scripts use the same few seeds for every category, so image i of each category starts from the same
//! noise. Here the seed of an image also depends on its category.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The seed of a category's image number `index` (from 0): a number from 0 to 2⁶³ − 1.
///
/// Computed as the SHA-256 of the caller's seed (8 bytes, big-endian), the category's name in UTF-8 and the index (8
/// bytes, big-endian), of which the first 8 bytes are read as a big-endian number without its highest bit.
pub fn image_seed(seed: i64, category: &str, index: u64) -> i64 {
    (first_bits(seed, category, &index.to_be_bytes()) & i64::MAX as u64).cast_signed()
}

/// Shuffles a category's sentences by the seed: sorts them by the SHA-256 of the seed (8 bytes, big-endian), the
/// category and the sentence. Adding or removing a sentence keeps the order of the others.
pub fn in_random_order<T: AsRef<str>>(seed: i64, category: &str, mut sentences: Vec<T>) -> Vec<T> {
    sentences.sort_by_cached_key(|sentence| first_bits(seed, category, sentence.as_ref().as_bytes()));
    sentences
}

fn first_bits(seed: i64, category: &str, what: &[u8]) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_be_bytes());
    hasher.update(category.as_bytes());
    hasher.update(what);
    let digest: [u8; 32] = hasher.finalize().into();
    digest.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

/// How an image was generated, apart from its prompt. Stored with the image: with it, the image can be generated again,
/// and susx can tell whether it has to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe<'a> {
    /// Name of the generator.
    pub generator: &'a str,
    /// Seed of the noise.
    pub seed: i64,
    /// Number of denoising steps.
    pub steps: u32,
    /// Weight of the prompt.
    pub guidance_scale: f32,
    /// What the image must not show; empty for nothing in particular.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub negative_prompt: &'a str,
}

impl Recipe<'_> {
    /// The recipe as JSON. Equal recipes give equal texts.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// From `printf '\0\0\0\0\0\0\0\7bird\0\0\0\0\0\0\0\2' | sha256sum`.
    #[test]
    fn the_seed_is_the_documented_digest() {
        assert_eq!(image_seed(7, "bird", 2), 5_349_427_736_316_861_415);
    }

    #[test]
    fn seeds_differ_by_everything() {
        let mut seeds = HashSet::new();
        for seed in [0, 1, -1, i64::MAX, i64::MIN] {
            for category in ["bird", "Bird", "Vögel", ""] {
                for index in 0..100 {
                    let found = image_seed(seed, category, index);
                    assert!(found >= 0 && seeds.insert(found));
                }
            }
        }
    }

    #[test]
    fn the_order_is_random_and_stable() {
        let sentences: Vec<String> = (0..20).map(|i| format!("sentence {i}")).collect();
        let order = |seed, category| in_random_order(seed, category, sentences.clone());
        assert_eq!(order(1, "bird"), order(1, "bird"));
        assert_ne!(order(1, "bird"), order(2, "bird"));
        assert_ne!(order(1, "bird"), order(1, "fruit"));
        let mut sorted = order(1, "bird");
        sorted.sort();
        let mut expected = sentences.clone();
        expected.sort();
        assert_eq!(sorted, expected, "all of them");
        // One less.
        let kept: Vec<String> = order(1, "bird").into_iter().filter(|it| it != "sentence 7").collect();
        let fewer = sentences.into_iter().filter(|it| it != "sentence 7").collect();
        assert_eq!(in_random_order(1, "bird", fewer), kept);
    }

    #[test]
    fn a_recipe_as_text() {
        let mut recipe =
            Recipe { generator: "sd", seed: 5, steps: 85, guidance_scale: 9.3, negative_prompt: "" };
        let text = r#"{"generator":"sd","seed":5,"steps":85,"guidance_scale":9.3}"#;
        assert_eq!(recipe.to_json().ok().as_deref(), Some(text));
        recipe.negative_prompt = "a \"text\"";
        let text =
            r#"{"generator":"sd","seed":5,"steps":85,"guidance_scale":9.3,"negative_prompt":"a \"text\""}"#;
        assert_eq!(recipe.to_json().ok().as_deref(), Some(text));
    }
}
