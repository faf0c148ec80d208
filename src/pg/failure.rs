//! SQLSTATEs of the failures that the inference process reports.

use pgrx::PgSqlErrorCode::{self, *};
use susx_server::protocol::{Failure, FailureKind};

use super::error::SqlError;

impl SqlError for Failure {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self.kind {
            FailureKind::Input => ERRCODE_INVALID_BINARY_REPRESENTATION,
            FailureKind::TooLarge => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            FailureKind::UnknownModel => ERRCODE_UNDEFINED_OBJECT,
            FailureKind::WrongModel => ERRCODE_WRONG_OBJECT_TYPE,
            FailureKind::Parameter => ERRCODE_INVALID_PARAMETER_VALUE,
            FailureKind::Blocked => ERRCODE_DATA_EXCEPTION,
            FailureKind::Configuration => ERRCODE_CONFIG_FILE_ERROR,
            FailureKind::Inference => ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
            FailureKind::Protocol => ERRCODE_PROTOCOL_VIOLATION,
            FailureKind::ServerDied => ERRCODE_CONNECTION_FAILURE,
        }
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}
