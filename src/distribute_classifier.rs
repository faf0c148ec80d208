//! `susx.distribute_classifier()`: puts a classifier on every node of Citus.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::{citus, prevent_in_read_only};
use crate::pg::error::{Error, SqlError};
use crate::pg::message::note;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Why a classifier cannot be distributed.
#[derive(Debug, thiserror::Error)]
enum DistributeError {
    #[error("this database has no Citus, so there are no other nodes")]
    NoCitus,
    #[error("the table of classifier \"{0}\" is a distributed table with several shards")]
    Sharded(String),
}

impl SqlError for DistributeError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            DistributeError::NoCitus => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            DistributeError::Sharded(_) => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                DistributeError::NoCitus => {
                    "CREATE EXTENSION citus; or replicate the table of the classifier, which holds its settings."
                }
                DistributeError::Sharded(_) => {
                    "Every node needs all rows of a classifier: undistribute the table first."
                }
            }
            .to_owned(),
        )
    }
}

/// Makes the table of a classifier a reference table of Citus. Its rows and settings are then on every node, and labels are
/// computed where the images are.
#[pg_extern(volatile, parallel_unsafe)]
fn distribute_classifier(_version: SameVersion, classifier: Option<RegClass>) -> Result<(), ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    classifier.open_for_updating()?;
    prevent_in_read_only();
    catalog::settings(classifier)?;
    if !citus::is_there() {
        return Err(Error::from(DistributeError::NoCitus).into());
    }
    let name = classifier.name()?;
    if citus::is_distributed(classifier)? {
        return Err(Error::from(DistributeError::Sharded(name)).into());
    }
    // Before the table is distributed: its rows are then still here.
    if citus::is_known(classifier)? {
        note(format!("classifier \"{name}\" is on every node already"));
        return Ok(());
    }
    catalog::adopt(classifier)?;
    citus::create_reference_table(classifier)?;
    note(format!("classifier \"{name}\" is a reference table now: every node has its rows and settings"));
    Ok(())
}
