//! Which images a generator is asked for: prompts and seeds, the same on every machine.
//!
//! The published scripts generate the images of every category from the same few seeds, so that image i of
//! each begins with the same noise. Here the seed of an image depends on its category, too.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The seed of a category's image, from 0 to 2⁶³ - 1; `index` counts from 0.
///
/// It is the SHA-256 of the caller's seed (8 bytes, big-endian), the category's name in UTF-8 and the index (8
/// bytes, big-endian): of that the first 8 bytes, as a big-endian number without its highest bit.
pub fn image_seed(seed: i64, category: &str, index: u64) -> i64 {
    (first_bits(seed, category, &index.to_be_bytes()) & i64::MAX as u64).cast_signed()
}

/// A category's sentences in the random order that the seed decides: that of the SHA-256 of the seed (8 bytes,
/// big-endian), the category and the sentence. A sentence that is added or removed leaves the order of the
/// others as it is.
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

/// What an image was generated with, beside its prompt. It is kept with the image, so that the image can be
/// made again, and need not be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe<'a> {
    /// Name of the model.
    pub generator: &'a str,
    /// Where the noise begins.
    pub seed: i64,
    pub steps: u32,
    pub guidance_scale: f32,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub negative_prompt: &'a str,
}

impl Recipe<'_> {
    /// As JSON: equal recipes give equal texts.
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
