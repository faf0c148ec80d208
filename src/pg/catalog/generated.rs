//! Support images that a generator has made.
//!
//! Each row keeps its image's recipe as JSON in `source_key`: so a later call finds what an earlier one has done. Rows
//! of this origin without a recipe were written by somebody else, and stay as they are.

use super::classifier::lock;
use super::write;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::{EQ, LIKE, NE};
use crate::pg::spi::{self, arg, freeing_arguments};
use crate::pg::vector::Vector;

/// What identifies a generated image of a category: its prompt, and the recipe by which it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GenerationKey {
    pub prompt: String,
    pub recipe: String,
}

/// A generated image that is to be added to the classifier.
#[derive(Debug)]
pub struct GeneratedImage {
    pub key: GenerationKey,
    /// `None` if image files are not kept.
    pub image: Option<Vec<u8>>,
    /// The cosine of image and prompt; `None` if the prompt has no embedding.
    pub similarity: Option<f32>,
    pub embedding: Vector,
}

/// The condition that a row is an image with a recipe.
fn is_generated() -> String {
    format!("kind {EQ} 'image' AND origin {EQ} 'generated' AND source_key {LIKE} '{{\"generator\":%'")
}

/// Passes the generated images of all categories to `each`: category, key, whether the image file is there.
pub fn read(
    classifier: RegClass,
    mut each: impl FnMut(String, GenerationKey, bool) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT category, prompt, source_key, image IS NOT NULL FROM {} WHERE {}",
        classifier.quoted()?,
        is_generated()
    );
    spi::read(&sql, &[], |row| {
        let prompt = row.short_text(2, "the prompt of a generated image")?;
        let key = GenerationKey { prompt: prompt.unwrap_or_default(), recipe: row.required(3)? };
        each(row.required_text(1, "a category")?, key, row.required(4)?)?;
        Ok(true)
    })
}

/// Adds images of one category, except those that another transaction has added meanwhile. Returns how many it added.
/// Locks the classifier against other changes until the transaction ends.
pub fn insert(classifier: RegClass, category: &str, images: Vec<GeneratedImage>) -> Result<usize> {
    lock(classifier)?;
    // A row of VALUES per image, since an array of them would copy every image file twice more.
    let rows: Vec<String> = (0..images.len())
        .map(|i| 5 * i + 1)
        .map(|i| format!("(${}, ${}, ${}, ${}, ${})", i + 1, i + 2, i + 3, i + 4, i + 5))
        .collect();
    let table = classifier.quoted()?;
    let sql = format!(
        "INSERT INTO {table} (category, kind, origin, prompt, source_key, image, similarity, embedding) \
         SELECT $1, 'image', 'generated', v.prompt, v.recipe, v.image, v.similarity, v.embedding \
         FROM (VALUES {}) v (prompt, recipe, image, similarity, embedding) \
         WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.category {EQ} $1 AND {} \
         AND t.prompt {EQ} v.prompt AND t.source_key {EQ} v.recipe \
         AND (t.image IS NOT NULL OR v.image IS NULL))",
        rows.join(", "),
        is_generated()
    );
    freeing_arguments(|| {
        let mut args = vec![arg(category.to_owned())];
        for GeneratedImage { key, image, similarity, embedding } in images {
            args.extend([arg(key.prompt), arg(key.recipe), arg(image), arg(similarity), arg(embedding)]);
        }
        write(&sql, &args)
    })
}

/// Deletes the generated images of a category whose keys are not in `kept` and, where image files are to be kept, those
/// without one.
pub fn delete_others(
    classifier: RegClass,
    category: &str,
    kept: Vec<GenerationKey>,
    with_images: bool,
) -> Result<usize> {
    lock(classifier)?;
    let sql = format!(
        "DELETE FROM {} t WHERE t.category {EQ} $1 AND {} \
         AND (t.image IS NULL AND $4 OR NOT EXISTS (\
         SELECT FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u (prompt, recipe) \
         WHERE u.prompt {EQ} t.prompt AND u.recipe {EQ} t.source_key))",
        classifier.quoted()?,
        is_generated()
    );
    freeing_arguments(|| {
        let (prompts, recipes): (Vec<String>, Vec<String>) =
            kept.into_iter().map(|key| (key.prompt, key.recipe)).unzip();
        write(&sql, &[arg(category.to_owned()), arg(prompts), arg(recipes), arg(with_images)])
    })
}

/// Deletes the generated images of all other categories.
pub fn delete_other_categories(classifier: RegClass, categories: &[&str]) -> Result<usize> {
    lock(classifier)?;
    let sql =
        format!("DELETE FROM {} WHERE category {NE} ALL ($1) AND {}", classifier.quoted()?, is_generated());
    let categories: Vec<String> = categories.iter().map(|&category| category.to_owned()).collect();
    write(&sql, &[arg(categories)])
}
