//! The support set that a classifier's table has.

use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::pg::catalog::classifier::{self as catalog, ClassifierRow, Role};
use crate::pg::error::{Error, Result};
use crate::pg::message::warn_with_hint;
use crate::pg::regclass::RegClass;
use crate::pg::spi::Access;
use crate::pg::vector::Vector;

/// The prompts, the support images and the negatives of a table.
#[derive(Debug)]
pub struct StoredSet {
    pub support_set: SupportSet,
    /// Whether some images have a likeness vector and others do not.
    pub is_uneven: bool,
}

/// The support set of a classifier as the running statement sees it.
pub fn of(classifier: RegClass) -> Result<SupportSet> {
    Ok(stored(classifier, Access::Statement)?.support_set)
}

/// Like [`of`], including the changes that this call has made.
pub fn changed(classifier: RegClass) -> Result<SupportSet> {
    Ok(stored(classifier, Access::Current)?.support_set)
}

/// Reads the table, with a WARNING if it is uneven.
pub fn stored(classifier: RegClass, access: Access) -> Result<StoredSet> {
    let name = classifier.name()?;
    let bad = |error: SupportError| Error::from(error).within(format_args!("classifier \"{name}\""));
    let mut builder: Option<SupportSetBuilder> = None;
    catalog::read_rows(classifier, access, |row| {
        let ClassifierRow { id, category, role, embedding: Vector(embedding), likeness } = row;
        let builder = builder.get_or_insert_with(|| SupportSetBuilder::new(embedding.len()));
        match role {
            Role::Prompt => builder.push_prompt(category, &embedding),
            Role::Negative => builder.push_negative(&embedding),
            Role::LabelledImage => builder.push_image(category, id, &embedding),
            Role::UnlabelledImage => builder.push_unlabelled_image(category, id, &embedding),
        }
        .map_err(bad)?;
        match likeness.filter(|_| matches!(role, Role::LabelledImage | Role::UnlabelledImage)) {
            Some(likeness) => builder.push_likeness(&likeness.0).map_err(bad),
            None => Ok(()),
        }
    })?;
    let builder = builder.unwrap_or_default();
    let (images, with_likeness) = builder.images();
    let is_uneven = (1..images).contains(&with_likeness);
    if is_uneven {
        warn_with_hint(
            format!(
                "susx: {} of {images} support images of classifier \"{name}\" have no likeness vector, so images are \
                 compared by their embeddings alone",
                images - with_likeness
            ),
            format!("SELECT id FROM {name} WHERE kind = 'image' AND likeness IS NULL shows them."),
        );
    }
    Ok(StoredSet { support_set: builder.finish().map_err(bad)?, is_uneven })
}
