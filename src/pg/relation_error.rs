//! Errors about relations.

use pgrx::PgSqlErrorCode::{self, *};

use super::error::SqlError;

/// Why a relation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RelationError {
    #[error("relation with OID {0} does not exist")]
    NoRelation(u32),
    #[error("cannot access temporary tables of other sessions")]
    OtherTemporary,
    #[error("permission denied for table {0}")]
    Permission(String),
    #[error(
        "permission denied for the settings of classifier \"{0}\": its row-level security applies to you"
    )]
    RowSecurity(String),
}

impl SqlError for RelationError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            RelationError::NoRelation(_) => ERRCODE_UNDEFINED_TABLE,
            RelationError::OtherTemporary => ERRCODE_FEATURE_NOT_SUPPORTED,
            RelationError::Permission(_) | RelationError::RowSecurity(_) => ERRCODE_INSUFFICIENT_PRIVILEGE,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RelationError::RowSecurity(_) => Some(
                "Settings count for all of its rows, so who may not see them all may not change them. The table's owner \
                 may, unless it has FORCE ROW LEVEL SECURITY, and so may roles with BYPASSRLS."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
