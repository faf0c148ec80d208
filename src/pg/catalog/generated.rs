//! Support images that a generator has made.
//!
//! What an image was made with stands in its `source_key`, as JSON: so a later call finds what an earlier one
//! has done. Rows of this origin that somebody has written without that are left alone.

use super::classifier::lock;
use super::images::freeing_arguments;
use super::{arg, write};
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi;
use crate::pg::vector::Vector;

/// A prompt and the recipe by which an image is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Made {
    pub prompt: String,
    pub recipe: String,
}

/// An image that was made.
#[derive(Debug)]
pub struct NewImage {
    pub made: Made,
    /// `None` where the picture is not kept.
    pub image: Option<Vec<u8>>,
    /// That of image and prompt, where the prompt has an embedding.
    pub similarity: Option<f32>,
    pub embedding: Vector,
}

/// Whether a row is a generated one of ours.
const GENERATED: &str = "kind OPERATOR(pg_catalog.=) 'image' AND origin OPERATOR(pg_catalog.=) 'generated' \
    AND source_key OPERATOR(pg_catalog.~~) '{\"generator\":%'";

/// Shows the generated images of all categories: category, how it was made, whether its picture is there.
pub fn read(classifier: RegClass, mut each: impl FnMut(String, Made, bool) -> Result<()>) -> Result<()> {
    let sql = format!(
        "SELECT category, prompt, source_key, image IS NOT NULL FROM {} WHERE {GENERATED}",
        classifier.quoted()?
    );
    spi::read(&sql, &[], |row| {
        let prompt = row.short_text(2, "the prompt of a generated image")?;
        let made = Made { prompt: prompt.unwrap_or_default(), recipe: row.required(3)? };
        each(row.required_text(1, "a category")?, made, row.required(4)?)?;
        Ok(true)
    })
}

/// Adds images of one category, those that nobody else has added meanwhile; returns how many. Until the
/// transaction ends nobody else changes the classifier.
pub fn insert(classifier: RegClass, category: &str, images: Vec<NewImage>) -> Result<usize> {
    lock(classifier)?;
    // A row of VALUES per image: to make an array of them would copy every picture twice more.
    let rows: Vec<String> = (0..images.len())
        .map(|i| 5 * i + 1)
        .map(|i| format!("(${}, ${}, ${}, ${}, ${})", i + 1, i + 2, i + 3, i + 4, i + 5))
        .collect();
    let table = classifier.quoted()?;
    let sql = format!(
        "INSERT INTO {table} (category, kind, origin, prompt, source_key, image, similarity, embedding) \
         SELECT $1, 'image', 'generated', v.prompt, v.recipe, v.image, v.similarity, v.embedding \
         FROM (VALUES {}) v (prompt, recipe, image, similarity, embedding) \
         WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.category OPERATOR(pg_catalog.=) $1 AND {GENERATED} \
         AND t.prompt OPERATOR(pg_catalog.=) v.prompt AND t.source_key OPERATOR(pg_catalog.=) v.recipe \
         AND (t.image IS NOT NULL OR v.image IS NULL))",
        rows.join(", ")
    );
    freeing_arguments(|| {
        let mut args = vec![arg(category.to_owned())];
        for NewImage { made, image, similarity, embedding } in images {
            args.extend([arg(made.prompt), arg(made.recipe), arg(image), arg(similarity), arg(embedding)]);
        }
        write(&sql, &args)
    })
}

/// Deletes the generated images of a category that were made in another way than these, or whose picture is
/// missing where they are to be kept.
pub fn delete_others(
    classifier: RegClass,
    category: &str,
    kept: Vec<Made>,
    with_images: bool,
) -> Result<usize> {
    lock(classifier)?;
    let sql = format!(
        "DELETE FROM {} t WHERE t.category OPERATOR(pg_catalog.=) $1 AND {GENERATED} \
         AND (t.image IS NULL AND $4 OR NOT EXISTS (\
         SELECT FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u (prompt, recipe) \
         WHERE u.prompt OPERATOR(pg_catalog.=) t.prompt AND u.recipe OPERATOR(pg_catalog.=) t.source_key))",
        classifier.quoted()?
    );
    freeing_arguments(|| {
        let (prompts, recipes): (Vec<String>, Vec<String>) =
            kept.into_iter().map(|made| (made.prompt, made.recipe)).unzip();
        write(&sql, &[arg(category.to_owned()), arg(prompts), arg(recipes), arg(with_images)])
    })
}

/// Deletes the generated images of all categories but these.
pub fn delete_other_categories(classifier: RegClass, categories: &[&str]) -> Result<usize> {
    lock(classifier)?;
    let sql = format!(
        "DELETE FROM {} WHERE category OPERATOR(pg_catalog.<>) ALL ($1) AND {GENERATED}",
        classifier.quoted()?
    );
    let categories: Vec<String> = categories.iter().map(|&category| category.to_owned()).collect();
    write(&sql, &[arg(categories)])
}
