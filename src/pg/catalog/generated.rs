//! Support images that a generator has made.
//!
//! Each row keeps its image's recipe as JSON in `source_key`: so a later call finds what an earlier one has done. Rows
//! of this origin without a recipe were written by others, and are not changed.

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

/// A generated image to be added to the classifier.
#[derive(Debug)]
pub struct GeneratedImage {
    pub key: GenerationKey,
    /// `None` if image files are not kept.
    pub image: Option<Vec<u8>>,
    /// The cosine of image and prompt; `None` if the prompt has no embedding.
    pub similarity: Option<f32>,
    pub embedding: Vector,
    /// With one, the table must have the column: see `allow_likeness`.
    pub likeness: Option<Vector>,
}

/// What is kept of every generated image.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub files: bool,
    /// If so, the table must have the column.
    pub likeness: bool,
}

impl Kept {
    /// The condition that a row lacks something of that.
    fn lacks(self) -> &'static str {
        match (self.files, self.likeness) {
            (false, false) => "false",
            (true, false) => "t.image IS NULL",
            (false, true) => "t.likeness IS NULL",
            (true, true) => "(t.image IS NULL OR t.likeness IS NULL)",
        }
    }
}

/// The condition that a row is an image with a recipe.
fn is_generated() -> String {
    format!("kind {EQ} 'image' AND origin {EQ} 'generated' AND source_key {LIKE} '{{\"generator\":%'")
}

/// Passes the generated images of all categories to `each`: category, key, and whether everything to keep is there.
pub fn read(
    classifier: RegClass,
    kept: Kept,
    mut each: impl FnMut(String, GenerationKey, bool) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT category, prompt, source_key, NOT {} FROM {} t WHERE {}",
        kept.lacks(),
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

/// Adds images of one category, except those that another transaction has added in the meantime. Returns how many it
/// added. Locks the classifier against other changes until the transaction ends.
pub fn insert(
    classifier: RegClass,
    category: &str,
    images: Vec<GeneratedImage>,
    kept: Kept,
) -> Result<usize> {
    lock(classifier)?;
    // A row of VALUES per image, since an array of them would copy every image file twice more.
    let width = if kept.likeness { 6 } else { 5 };
    let row = |i: usize| {
        let values: Vec<String> = (0..width).map(|j| format!("${}", width * i + j + 2)).collect();
        format!("({})", values.join(", "))
    };
    let (column, value) = if kept.likeness { (", likeness", ", v.likeness") } else { ("", "") };
    let table = classifier.quoted()?;
    let sql = format!(
        "INSERT INTO {table} (category, kind, origin, prompt, source_key, image, similarity, embedding{column}) \
         SELECT $1, 'image', 'generated', v.prompt, v.recipe, v.image, v.similarity, v.embedding{value} \
         FROM (VALUES {}) v (prompt, recipe, image, similarity, embedding{column}) \
         WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.category {EQ} $1 AND {} \
         AND t.prompt {EQ} v.prompt AND t.source_key {EQ} v.recipe AND NOT {})",
        (0..images.len()).map(row).collect::<Vec<String>>().join(", "),
        is_generated(),
        kept.lacks()
    );
    freeing_arguments(|| {
        let mut args = vec![arg(category.to_owned())];
        for GeneratedImage { key, image, similarity, embedding, likeness } in images {
            args.extend([arg(key.prompt), arg(key.recipe), arg(image), arg(similarity), arg(embedding)]);
            if kept.likeness {
                args.push(arg(likeness));
            }
        }
        write(&sql, &args)
    })
}

/// Deletes the generated images of a category whose keys are not in `keys`, and those that lack what is kept.
pub fn delete_others(
    classifier: RegClass,
    category: &str,
    keys: Vec<GenerationKey>,
    kept: Kept,
) -> Result<usize> {
    lock(classifier)?;
    let sql = format!(
        "DELETE FROM {} t WHERE t.category {EQ} $1 AND {} \
         AND ({} OR NOT EXISTS (\
         SELECT FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u (prompt, recipe) \
         WHERE u.prompt {EQ} t.prompt AND u.recipe {EQ} t.source_key))",
        classifier.quoted()?,
        is_generated(),
        kept.lacks()
    );
    freeing_arguments(|| {
        let (prompts, recipes): (Vec<String>, Vec<String>) =
            keys.into_iter().map(|key| (key.prompt, key.recipe)).unzip();
        write(&sql, &[arg(category.to_owned()), arg(prompts), arg(recipes)])
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
