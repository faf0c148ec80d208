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
    /// The caller may read some columns, but not these.
    #[error("permission denied for table {name}")]
    Columns { name: String, table: String, columns: String },
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
            RelationError::Permission(_) | RelationError::Columns { .. } | RelationError::RowSecurity(_) => {
                ERRCODE_INSUFFICIENT_PRIVILEGE
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RelationError::RowSecurity(_) => Some(
                "Settings apply to all rows, so only a role that sees all rows can change them: the table's owner, \
                 unless it has FORCE ROW LEVEL SECURITY, or a role with BYPASSRLS."
                    .to_owned(),
            ),
            RelationError::Columns { table, columns, .. } => {
                Some(format!("GRANT SELECT ({columns}) ON {table} TO the role, or SELECT on the whole table."))
            }
            _ => None,
        }
    }
}
