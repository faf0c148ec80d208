//! The rows of a classifier's table.

use std::collections::HashSet;

use super::super::write;
use super::{ClassifierError, has_likeness_column};
use crate::batches::INSERTED_ROWS;
use crate::pg::catalog::citus;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::{EQ, NE};
use crate::pg::spi::{self, Access, arg, first, freeing_arguments};
use crate::pg::vector::Vector;

/// How errors call the name of a category.
const CATEGORY: &str = "a category";
/// The number of categories that a hint names.
const NAMED: usize = 100;

/// What a row of a classifier's table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Prompt,
    /// The name of something that is none of the categories.
    Negative,
    /// An image that a user has labelled.
    LabelledImage,
    /// An image that was retrieved or generated from its category's prompts.
    UnlabelledImage,
}

/// Rows for a classifier's table, one element per row in every column.
#[derive(Debug)]
pub struct NewRows {
    pub kind: &'static str,
    pub origin: &'static str,
    pub category: Vec<String>,
    pub prompt: Vec<Option<String>>,
    pub embedding: Vec<Vector>,
    /// `None` if no row has one. Else the table must have the column: see `allow_likeness`.
    pub likeness: Option<Vec<Vector>>,
}

/// A labelled image that is to be added with its file.
#[derive(Debug)]
pub struct LabelledImage<'a> {
    pub file: &'a [u8],
    pub embedding: Vector,
    /// With one, the table must have the column: see `allow_likeness`.
    pub likeness: Option<Vector>,
}

/// A row of a classifier's table.
#[derive(Debug)]
pub struct ClassifierRow<'a> {
    pub id: i64,
    pub category: &'a str,
    pub role: Role,
    pub embedding: Vector,
    pub likeness: Option<Vector>,
}

/// Passes every row of a classifier's table to `each`, in the order of the ids.
pub fn read_rows(
    classifier: RegClass,
    access: Access,
    mut each: impl FnMut(ClassifierRow) -> Result<()>,
) -> Result<()> {
    let classifier = citus::readable(classifier)?;
    let likeness = if has_likeness_column(classifier)? { ", likeness" } else { "" };
    let sql = format!(
        // As text: an owner may have made the kind an enum, before there were negatives.
        "SELECT id, category, kind {EQ} 'prompt', kind::pg_catalog.text {EQ} 'negative', \
         origin {EQ} 'labelled', embedding{likeness} \
         FROM {} WHERE kind IS NULL OR kind::pg_catalog.text {NE} 'settings' ORDER BY id",
        classifier.quoted()?
    );
    spi::read_in(access, &sql, &[], |row| {
        let category = row.required_text(2, CATEGORY)?;
        let role = match (row.required(3)?, row.required(4)?, row.required(5)?) {
            (true, _, _) => Role::Prompt,
            (_, true, _) => Role::Negative,
            (_, _, true) => Role::LabelledImage,
            (_, _, false) => Role::UnlabelledImage,
        };
        let likeness = if likeness.is_empty() { None } else { row.get(7)? };
        let (id, embedding) = (row.required(1)?, row.required(6)?);
        each(ClassifierRow { id, category: &category, role, embedding, likeness })?;
        Ok(true)
    })
}

/// Whether any support image was not retrieved by its category's name.
pub fn has_chosen_support(classifier: RegClass) -> Result<bool> {
    let sql = format!(
        "SELECT true FROM {} WHERE kind {EQ} 'image' \
         AND origin {NE} 'retrieved' LIMIT 1",
        classifier.quoted()?
    );
    Ok(first(&sql, &[])?.unwrap_or(false))
}

/// The dimensions of a classifier's column of embeddings; `None` if its type does not fix them.
pub fn dimensions(classifier: RegClass) -> Result<Option<usize>> {
    // pgvector's type modifier is the number of dimensions, or -1.
    let sql = format!(
        "SELECT atttypmod FROM pg_catalog.pg_attribute WHERE attrelid {EQ} $1 AND attname {EQ} 'embedding'"
    );
    let typmod: Option<i32> = first(&sql, &[arg(classifier.0)])?;
    Ok(typmod.and_then(|typmod| usize::try_from(typmod).ok()))
}

/// Whether a category exists, which is the case as long as it has a prompt.
pub fn has_category(classifier: RegClass, category: &str) -> Result<bool> {
    let sql = format!(
        "SELECT true FROM {} WHERE kind {EQ} 'prompt' AND category {EQ} $1 \
         LIMIT 1",
        classifier.quoted()?
    );
    Ok(first(&sql, &[arg(category.to_owned())])?.unwrap_or(false))
}

/// The names of all categories, in the order of their first prompts.
pub fn categories(classifier: RegClass) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT category FROM {} WHERE kind {EQ} 'prompt' \
         GROUP BY category ORDER BY pg_catalog.min(id)",
        classifier.quoted()?
    );
    let mut categories = Vec::new();
    spi::read(&sql, &[], |row| {
        categories.push(row.required_text(1, CATEGORY)?);
        Ok(true)
    })?;
    Ok(categories)
}

/// The names of all negatives, with those that this call has added.
pub fn negatives(classifier: RegClass) -> Result<HashSet<String>> {
    let sql =
        format!("SELECT category FROM {} WHERE kind::pg_catalog.text {EQ} 'negative'", classifier.quoted()?);
    let mut negatives = HashSet::new();
    spi::read_in(Access::Current, &sql, &[], |row| {
        negatives.insert(row.required_text(1, "the name of a negative")?);
        Ok(true)
    })?;
    Ok(negatives)
}

/// The error that a category does not exist. It lists those that do.
pub fn no_category(classifier: RegClass, category: &str) -> Result<Error> {
    Ok(ClassifierError::NoCategory {
        classifier: classifier.name()?,
        category: category.to_owned(),
        known: known(&categories(classifier)?),
    }
    .into())
}

/// A list of categories for a hint, cut short if there are many.
pub fn known(categories: &[String]) -> String {
    let named = categories.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match categories.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Passes the prompts of some origins to `each`, in the order of their ids: category, text, embedding.
pub fn read_prompts(
    classifier: RegClass,
    origins: &[&str],
    mut each: impl FnMut(&str, Option<String>, Vector) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT category, prompt, embedding FROM {} WHERE kind {EQ} 'prompt' \
         AND origin {EQ} ANY ($1) ORDER BY id",
        classifier.quoted()?
    );
    let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
    spi::read(&sql, &[arg(origins)], |row| {
        let category = row.required_text(1, CATEGORY)?;
        each(&category, row.short_text(2, "a prompt")?, row.required(3)?)?;
        Ok(true)
    })
}

/// Adds rows to a classifier. Returns how many.
pub fn insert_rows(classifier: RegClass, rows: NewRows) -> Result<usize> {
    let NewRows { kind, origin, category, prompt, embedding, likeness } = rows;
    // Without likeness vectors the column is not named: the table may not have it.
    let (column, value, array) = match likeness {
        None => ("", "", ""),
        Some(_) => (", likeness", ", u.likeness", ", pg_catalog.unnest($6)"),
    };
    let sql = format!(
        "INSERT INTO {} (category, kind, origin, prompt, embedding{column}) \
         SELECT u.category, $1, $2, u.prompt, u.embedding{value} \
         FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5){array}) \
         WITH ORDINALITY AS u (category, prompt, embedding{column}, ord) ORDER BY u.ord",
        classifier.quoted()?
    );
    let (mut category, mut prompt) = (category.into_iter(), prompt.into_iter());
    let mut likeness = likeness.map(Vec::into_iter);
    let (mut embedding, mut added) = (embedding.into_iter(), 0);
    while embedding.len() > 0 {
        added += freeing_arguments(|| {
            let category: Vec<String> = category.by_ref().take(INSERTED_ROWS).collect();
            let prompt: Vec<Option<String>> = prompt.by_ref().take(INSERTED_ROWS).collect();
            let embedding: Vec<Vector> = embedding.by_ref().take(INSERTED_ROWS).collect();
            let (kind, origin) = (arg(kind.to_owned()), arg(origin.to_owned()));
            let mut args = vec![kind, origin, arg(category), arg(prompt), arg(embedding)];
            if let Some(likeness) = &mut likeness {
                args.push(arg(likeness.by_ref().take(INSERTED_ROWS).collect::<Vec<Vector>>()));
            }
            write(&sql, &args)
        })?;
    }
    Ok(added)
}

/// Adds labelled images of one category with their files. Returns how many.
///
/// The statement has a row of VALUES per image, since an array of them would copy every file twice more.
pub fn insert_images(classifier: RegClass, category: &str, images: Vec<LabelledImage>) -> Result<usize> {
    // Without likeness vectors the column is not named: the table may not have it.
    let has_likeness = images.iter().any(|image| image.likeness.is_some());
    let (column, width) = if has_likeness { (", likeness", 3) } else { ("", 2) };
    let row = |i: usize| {
        let values: Vec<String> = (0..width).map(|j| format!("${}", width * i + j + 2)).collect();
        format!("($1, 'image', 'labelled', {})", values.join(", "))
    };
    let sql = format!(
        "INSERT INTO {} (category, kind, origin, image, embedding{column}) VALUES {}",
        classifier.quoted()?,
        (0..images.len()).map(row).collect::<Vec<String>>().join(", ")
    );
    freeing_arguments(|| {
        let mut args = vec![arg(category.to_owned())];
        for LabelledImage { file, embedding, likeness } in images {
            args.push(arg(file));
            args.push(arg(embedding));
            if has_likeness {
                args.push(arg(likeness));
            }
        }
        write(&sql, &args)
    })
}

/// Locks the classifier against other changes until the transaction ends.
pub(in crate::pg::catalog) fn lock(classifier: RegClass) -> Result<()> {
    write(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", classifier.quoted()?), &[])?;
    Ok(())
}

/// Deletes the support images of one origin. Locks the classifier against other changes until the transaction ends, so
/// that two calls which replace the images do so one after the other.
pub fn delete_support(classifier: RegClass, origin: &str) -> Result<()> {
    lock(classifier)?;
    let table = classifier.quoted()?;
    let sql = format!("DELETE FROM {table} WHERE kind {EQ} 'image' AND origin {EQ} $1");
    write(&sql, &[arg(origin.to_owned())])?;
    Ok(())
}
