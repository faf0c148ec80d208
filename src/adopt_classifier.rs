//! `susx.adopt_classifier()`: makes the table of a classifier that came from elsewhere one of this database.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::prevent_in_read_only;
use crate::pg::error::Error;
use crate::pg::message::note;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Gives the table of a classifier its triggers, the row that holds its settings, and its row in `susx.classifier`, where
/// it lacks any of these: after DROP EXTENSION, after a restore of this table alone, or because an older version of susx
/// made it.
#[pg_extern(volatile, parallel_unsafe)]
fn adopt_classifier(_version: SameVersion, classifier: Option<RegClass>) -> Result<RegClass, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    classifier.open_for_updating()?;
    prevent_in_read_only();
    if catalog::adopt(classifier)? {
        note(format!(
            "classifier \"{}\" had no settings, so it starts from the defaults, without a model: \
             susx.alter_classifier changes them",
            classifier.name()?
        ));
    }
    Ok(classifier)
}
