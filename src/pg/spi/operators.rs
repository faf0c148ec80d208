//! Operators of pg_catalog, by their qualified names.
//!
//! susx's own SQL runs under the caller's search_path, where another role may have put an operator that fits better
//! than PostgreSQL's (tests/test_search_path.py). So it never writes a bare `=`, but `{EQ}` in a format string. Setting
//! search_path around each statement is not an alternative: it would cost every call two changes of a setting, and the
//! triggers, policies and functions of users that the statement runs would see the change.

pub const EQ: &str = "OPERATOR(pg_catalog.=)";
pub const NE: &str = "OPERATOR(pg_catalog.<>)";
pub const GT: &str = "OPERATOR(pg_catalog.>)";
pub const GE: &str = "OPERATOR(pg_catalog.>=)";
pub const LE: &str = "OPERATOR(pg_catalog.<=)";
pub const LIKE: &str = "OPERATOR(pg_catalog.~~)";
