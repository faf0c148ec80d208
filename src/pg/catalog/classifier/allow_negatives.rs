//! Tables of classifiers that were made before there were negatives.
//!
//! Their CHECK constraints know no such rows. Only the owner can replace a constraint, so the upgrade of the extension
//! does not do it: it happens when a table gets its first negatives.

use super::super::write;
use super::create::{kind_check, origin_check};
use super::old_table::{check_owner, old_constraints};
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;

/// Lets the classifier's table hold negatives. Does nothing if it can already.
pub fn allow_negatives(classifier: RegClass) -> Result<()> {
    let mut changes = old_constraints(classifier, "kind", &["prompt", "image"], "negative", &kind_check())?;
    let origins = ["template", "labelled"];
    changes.extend(old_constraints(classifier, "origin", &origins, "common", &origin_check())?);
    if changes.is_empty() {
        return Ok(());
    }
    let change = "The first call of susx.add_negatives changes a constraint of the table";
    check_owner(classifier, "negatives", change)?;
    write(&format!("ALTER TABLE {} {}", classifier.quoted()?, changes.join(", ")), &[])?;
    Ok(())
}
