//! Every error that SQL gets to see, and the only place that knows SQLSTATEs.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, function_name};
use susx_core::classifier::Method;
use susx_core::sus::{CuplError, PromptError, SupportError};
use susx_core::tip_x::ParamError;
use susx_server::protocol::{Failure, FailureKind, ProtocolError};

use super::embedding_model::EmbeddingOwner;
use super::message::shown;
use super::version;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inference process says no.
    #[error("{}", .0.message)]
    Server(Failure),
    /// An error of one element of an array.
    #[error("element {ord}: {}", .failure.message)]
    Element { ord: usize, failure: Failure },
    /// An error of one sentence of a file of prompts.
    #[error("category \"{category}\", element {ord}: {}", .failure.message)]
    Sentence { category: String, ord: usize, failure: Failure },
    #[error("{0}")]
    ServerUnavailable(String, &'static str),
    #[error("lost the connection to the inference process: {0}")]
    ConnectionLost(std::io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("susx-server is version {server}, but the library of the extension is version {library}")]
    Version { server: String, library: &'static str },
    #[error("susx is version {schema} in this database, but the library in use is version {library}")]
    SchemaVersion { schema: String, library: &'static str },
    #[error("\"{0}\" is not a classifier")]
    NotAClassifier(String, String),
    #[error("relation with OID {0} does not exist")]
    NoRelation(u32),
    #[error("category \"{category}\" of classifier \"{classifier}\" does not exist")]
    NoCategory { classifier: String, category: String, known: String },
    #[error("categories {missing} of classifier \"{classifier}\" do not exist")]
    NoCategories { classifier: String, missing: String, known: String },
    #[error("classifier \"{classifier}\" expects {expected} dimensions, not {found}")]
    Dimensions { classifier: String, expected: usize, found: usize },
    #[error("classifier \"{classifier}\": {source}")]
    Classifier { classifier: String, source: SupportError },
    #[error("{what}: {source}")]
    Vector { what: String, source: SupportError },
    #[error("classifier \"{0}\" has no model, so it can only classify vectors")]
    NoModel(String),
    #[error("the files of model \"{model}\" are not those that {owner} made with")]
    ModelChanged { owner: EmbeddingOwner, model: String },
    /// Embeddings that cannot be compared.
    #[error("{message}")]
    OtherModel { message: String, hint: String },
    #[error("classifier \"{0}\" has no support images")]
    NoSupport(String),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Cupl(#[from] CuplError),
    #[error(transparent)]
    Param(#[from] ParamError),
    #[error("{0} must not be NULL")]
    Null(&'static str),
    #[error("{0}")]
    Argument(String),
    #[error("{message}")]
    ArgumentWithHint { message: String, hint: String },
    /// More of something than [`limits`](crate::limits) allow.
    #[error("{what} must be at most {most}{unit}, not {found}")]
    Limit { what: String, most: usize, found: usize, unit: &'static str },
    /// What is wrong with one row of a query that the caller wrote.
    #[error("row {row} of the query: {source}")]
    Row { row: u64, source: Box<Error> },
    #[error("row {0} of the query has no category")]
    NoLabel(u64),
    #[error("{0}")]
    Columns(String),
    /// What is wrong with the columns of a query with keys.
    #[error("{message}")]
    KeyedColumns { message: String, hint: String },
    #[error("the query that was being read has been closed")]
    CursorClosed,
    #[error("a row of kind \"{kind}\" without an embedding needs {needed}")]
    NothingToEmbed { kind: String, needed: &'static str },
    #[error("trigger function was not called by a trigger")]
    NotFired,
    #[error("susx.embed_row() must be fired BEFORE INSERT OR UPDATE, FOR EACH ROW")]
    NotThisTrigger,
    #[error("a classifier cannot be a temporary table")]
    Temporary,
    #[error("cannot access temporary tables of other sessions")]
    OtherTemporary,
    #[error("no schema has been selected to create in")]
    NoSchema,
    #[error("column \"{column}\" of relation \"{relation}\" does not exist")]
    NoColumn { relation: String, column: String },
    /// A column that is there, of another type than it should have.
    #[error("column \"{column}\" has type {found}, not {expected}")]
    ColumnType { column: String, found: String, expected: String },
    #[error("column \"{0}\" is NULL, where it must have a value")]
    ColumnNull(String),
    #[error("permission denied for table {0}")]
    Permission(String),
    #[error(
        "permission denied for the settings of classifier \"{0}\": its row-level security applies to you"
    )]
    RowSecurity(String),
    #[error("{0} commits after every batch, so it cannot run in a transaction block or a function")]
    InTransaction(&'static str),
    #[error("\"{relation}\" is {what}: expected a table of images")]
    NotImages { relation: String, what: &'static str },
    #[error("relation \"{0}\" has no primary key")]
    NoPrimaryKey(String),
    #[error(
        "column \"{column}\" of relation \"{relation}\" takes {expected} dimensions, but the model makes {found}"
    )]
    ColumnDimensions { relation: String, column: String, expected: usize, found: usize },
    /// An image of a table that cannot be embedded.
    #[error("row {key} of relation \"{relation}\": {}", .failure.message)]
    Image { relation: String, key: String, failure: Failure },
    #[error("relation \"{0}\" was changed or dropped while it was being embedded")]
    TableChanged(String),
    #[error("{expected} images of {pool} were chosen, but {found} of them are found again")]
    PoolChanged { pool: String, expected: usize, found: usize },
    #[error("classifier \"{0}\" was changed or dropped while images were generated for it")]
    ClassifierChanged(String),
    #[error("susx.embed_on_write() {message}")]
    WriteTrigger { message: String, hint: String },
    /// Something that PostgreSQL promises did not hold.
    #[error("susx internal error: {0}")]
    Internal(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Error::Internal(error.to_string())
    }
}

impl Error {
    /// An argument that makes no sense.
    pub fn argument(message: impl Into<String>) -> Self {
        Error::Argument(message.into())
    }

    /// A failure that should not happen, of whatever kind.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Error::Internal(error.to_string())
    }

    /// The value of an argument that must have one.
    pub fn required<T>(argument: Option<T>, name: &'static str) -> Result<T> {
        argument.ok_or(Error::Null(name))
    }

    pub fn sqlstate(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Error::Server(failure)
            | Error::Element { failure, .. }
            | Error::Sentence { failure, .. }
            | Error::Image { failure, .. } => match failure.kind {
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
            },
            Error::ServerUnavailable(..) => ERRCODE_CANNOT_CONNECT_NOW,
            Error::ConnectionLost(_) => ERRCODE_CONNECTION_FAILURE,
            Error::Protocol(_) => ERRCODE_PROTOCOL_VIOLATION,
            Error::Version { .. } | Error::SchemaVersion { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::NotAClassifier(..) | Error::NoCategory { .. } | Error::NoCategories { .. } => {
                ERRCODE_UNDEFINED_OBJECT
            }
            Error::NoRelation(_) => ERRCODE_UNDEFINED_TABLE,
            Error::Temporary | Error::OtherTemporary => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::NoSchema => ERRCODE_INVALID_SCHEMA_NAME,
            Error::NoColumn { .. } => ERRCODE_UNDEFINED_COLUMN,
            Error::ColumnType { .. } => ERRCODE_DATATYPE_MISMATCH,
            Error::Dimensions { .. } => ERRCODE_DATA_EXCEPTION,
            Error::Classifier { source, .. } | Error::Vector { source, .. } => match source {
                SupportError::NoCategory | SupportError::NoPrompt(_) => {
                    ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
                }
                SupportError::TooMany { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                _ => ERRCODE_DATA_EXCEPTION,
            },
            Error::NoModel(_)
            | Error::NoSupport(_)
            | Error::ModelChanged { .. }
            | Error::OtherModel { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::Null(_) | Error::NoLabel(_) | Error::ColumnNull(_) => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Error::Row { source, .. } => source.sqlstate(),
            Error::Columns(_) | Error::KeyedColumns { .. } => ERRCODE_DATATYPE_MISMATCH,
            Error::CursorClosed => ERRCODE_INVALID_CURSOR_STATE,
            Error::Prompt(_) | Error::Cupl(_) | Error::Argument(_) | Error::ArgumentWithHint { .. } => {
                ERRCODE_INVALID_PARAMETER_VALUE
            }
            Error::Limit { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Error::NothingToEmbed { .. } => ERRCODE_NOT_NULL_VIOLATION,
            Error::NotFired | Error::NotThisTrigger => ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Error::Param(ParamError::UnknownMethod(_)) => ERRCODE_UNDEFINED_OBJECT,
            Error::Param(_) => ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Error::Permission(_) | Error::RowSecurity(_) => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::InTransaction(_) => ERRCODE_INVALID_TRANSACTION_TERMINATION,
            Error::NotImages { .. } => ERRCODE_WRONG_OBJECT_TYPE,
            Error::NoPrimaryKey(_) | Error::TableChanged(_) | Error::ClassifierChanged(_) => {
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Error::PoolChanged { .. } => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Error::ColumnDimensions { .. } => ERRCODE_DATA_EXCEPTION,
            Error::WriteTrigger { .. } => ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Error::Internal(_) => ERRCODE_INTERNAL_ERROR,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Server(failure)
            | Error::Element { failure, .. }
            | Error::Sentence { failure, .. }
            | Error::Image { failure, .. } => failure.hint.clone(),
            Error::ServerUnavailable(_, hint) => Some((*hint).to_owned()),
            Error::ConnectionLost(_) => {
                Some("It has been or will be restarted; PostgreSQL's log may say why it ended.".to_owned())
            }
            Error::Version { .. } => {
                Some("Install both of the same version and restart PostgreSQL.".to_owned())
            }
            Error::SchemaVersion { schema, library } if version::is_before(schema, library) => {
                Some("Update the database: ALTER EXTENSION susx UPDATE.".to_owned())
            }
            Error::SchemaVersion { schema, .. } => Some(format!(
                "If version {schema} is installed on this machine, begin a new session; restart PostgreSQL where \
                 susx is in shared_preload_libraries. Else install it."
            )),
            Error::NotAClassifier(_, known) => Some(known.clone()),
            Error::NoCategory { known, .. } | Error::NoCategories { known, .. } => {
                Some(format!("Its categories: {known}."))
            }
            Error::Dimensions { .. } => Some("Were both made by the same model?".to_owned()),
            Error::Classifier { source: SupportError::NoPrompt(_), .. } => {
                Some("Correct the category of these rows, or add a prompt for it.".to_owned())
            }
            Error::Cupl(_) => {
                Some("Prompts are written as {\"category\": [\"sentence\", ...], ...}.".to_owned())
            }
            Error::NothingToEmbed { .. } => {
                Some("A row of kind 'prompt' has a prompt, one of kind 'image' an image.".to_owned())
            }
            Error::Temporary => {
                Some("Create it in a schema of your own and drop it when it is done.".to_owned())
            }
            Error::NoModel(_) => {
                Some("Set one with susx.alter_classifier(classifier, model => 'name').".to_owned())
            }
            Error::ModelChanged { owner: EmbeddingOwner::Column { relation, column }, .. } => Some(format!(
                "Put the old files back and restart PostgreSQL. Or embed anew: UPDATE {relation} SET {column} = NULL, \
                 and call again."
            )),
            Error::ModelChanged { owner: EmbeddingOwner::Classifier(classifier), model } => Some(format!(
                "Put the old files back and restart PostgreSQL. Or embed anew: the classifier's rows, with \
                 susx.alter_classifier('{classifier}', model => '{model}') and UPDATE {classifier} SET embedding = NULL; \
                 its images' tables; and what susx.build_support_set retrieved from them."
            )),
            Error::NoSupport(_) => {
                Some("Add some with susx.build_support_set or susx.add_support.".to_owned())
            }
            Error::Prompt(PromptError::NoPlaceholder(_)) => {
                Some("A template is a sentence such as 'a photo of a {}.'.".to_owned())
            }
            Error::Param(ParamError::UnknownMethod(_)) => {
                Some(format!("Methods: {}.", Method::ALL.map(Method::name).join(", ")))
            }
            Error::CursorClosed => Some(
                "ROLLBACK TO closes what was opened after the savepoint, COMMIT everything. Start the call again."
                    .to_owned(),
            ),
            Error::ColumnType { .. } | Error::ColumnNull(_) => Some(
                "The columns of a classifier are those that susx.create_classifier makes, of the same types.".to_owned(),
            ),
            Error::Limit { .. } => {
                Some("What is limited, and why, is in the table \"Limits\" of susx's manual.".to_owned())
            }
            Error::KeyedColumns { hint, .. }
            | Error::OtherModel { hint, .. }
            | Error::ArgumentWithHint { hint, .. } => Some(hint.clone()),
            Error::Row { source, .. } => source.hint(),
            Error::NoLabel(_) => Some("Leave out unlabelled rows: WHERE ... IS NOT NULL.".to_owned()),
            Error::Columns(_) => {
                Some("A labelled query is such as 'SELECT embedding, category FROM images'.".to_owned())
            }
            Error::InTransaction(_) => {
                Some("Call it by itself: with autocommit, and not after BEGIN.".to_owned())
            }
            Error::NotImages { .. } => {
                Some("Ordinary and partitioned tables, and partitions, can be embedded.".to_owned())
            }
            Error::NoPrimaryKey(relation) => Some(format!(
                "Rows are found again by their primary key: ALTER TABLE {relation} ADD PRIMARY KEY (...)."
            )),
            Error::ColumnDimensions { found, .. } => Some(format!(
                "Name the model that the column is for, or change the column's type to vector({found})."
            )),
            Error::TableChanged(_) => {
                Some("What was committed stays: call susx.embed_table again for the rest.".to_owned())
            }
            Error::PoolChanged { .. } => Some(
                "Somebody has deleted the others meanwhile, or changed their keys. Nothing was changed: call again."
                    .to_owned(),
            ),
            Error::ClassifierChanged(_) => {
                Some("What was committed stays: call susx.generate_support_set again for the rest.".to_owned())
            }
            Error::RowSecurity(_) => Some(
                "Settings count for all of its rows, so who may not see them all may not change them. The table's owner \
                 may, unless it has FORCE ROW LEVEL SECURITY, and so may roles with BYPASSRLS."
                    .to_owned(),
            ),
            Error::WriteTrigger { hint, .. } => Some(hint.clone()),
            _ => None,
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let report = ErrorReport::new(error.sqlstate(), shown(&error.to_string()), function_name!());
        match error.hint() {
            Some(hint) => report.set_hint(shown(&hint)),
            None => report,
        }
    }
}
