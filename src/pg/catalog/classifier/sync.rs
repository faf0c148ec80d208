//! Keeps a classifier's settings equal in both places: its own table, and `susx.classifier`.
//!
//! A change in one is carried to the other by the trigger of the changed table. Neither adds what is not there: a restore
//! fills both tables one after the other, and so does logical replication.

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::{AllocatedByPostgres, WhoAllocated, pg_sys};
use susx_core::classifier::ClassifierParams;

use super::{Settings, registered, settings_row, update_registered};
use crate::pg::encoding::UncheckedText;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::settings_text::SETTINGS_KIND;
use crate::pg::spi::Access;

/// Carries the settings of a new row of `susx.classifier` to the classifier's table.
pub fn to_table(row: &PgHeapTuple<'_, AllocatedByPostgres>) -> Result<()> {
    let classifier: Option<pg_sys::Oid> = row.get_by_name("classifier").map_err(Error::internal)?;
    let Some(classifier) = classifier.map(RegClass).filter(|classifier| classifier.exists()) else {
        return Ok(());
    };
    // The row of an older version of the extension lacks columns, and its tables have no settings.
    if !settings_row::is_there(classifier)? {
        return Ok(());
    }
    settings_row::update(classifier, &of_row(row)?)
}

/// Whether a row of a classifier's table is that of its settings.
pub fn is_settings(row: &PgHeapTuple<'_, impl WhoAllocated>) -> Result<bool> {
    // An owner may have made the kind an enum; then there are no settings.
    let Ok(Some(kind)) = row.get_by_name::<UncheckedText>("kind") else { return Ok(false) };
    Ok(kind.read()? == SETTINGS_KIND)
}

/// Carries the settings of the classifier's table to its row of `susx.classifier`.
pub fn of_table(classifier: RegClass) -> Result<()> {
    // The next use of the classifier reports settings that cannot be read.
    let Ok(Some(settings)) = settings_row::read_latest(classifier) else { return Ok(()) };
    match registered(classifier, Access::Current)? {
        Some(found) if found != settings => update_registered(classifier, &settings).map(|_| ()),
        _ => Ok(()),
    }
}

fn of_row(row: &PgHeapTuple<'_, AllocatedByPostgres>) -> Result<Settings> {
    let text = |name| row.get_by_name::<String>(name).map_err(Error::internal);
    let bytes =
        |name| row.get_by_name::<&[u8]>(name).map(|found| found.map(<[u8]>::to_vec)).map_err(Error::internal);
    let mut params = ClassifierParams::START.values();
    for (name, value) in ClassifierParams::NAMES.into_iter().zip(&mut params) {
        if let Some(found) = row.get_by_name::<f32>(name).map_err(Error::internal)? {
            *value = found;
        }
    }
    Ok(Settings {
        model: text("model")?,
        model_sha256: bytes("model_sha256")?,
        likeness_model: text("likeness_model")?,
        likeness_sha256: bytes("likeness_sha256")?,
        method: text("method")?.map(|name| name.parse()).transpose()?,
        params: *ClassifierParams::from_values(params).check()?,
    })
}
