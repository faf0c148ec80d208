//! HINTs for queries that the caller wrote, and that PostgreSQL cannot parse.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::pg_sys;

use crate::pg::hint::with_hint;

/// Runs `call`, which starts a query. `example` is a query of the kind that is expected.
pub(super) fn explained<T>(sql: &str, example: &str, call: impl FnOnce() -> T) -> T {
    with_hint(|code| hint(code, sql, example), call)
}

fn hint(code: PgSqlErrorCode, sql: &str, example: &str) -> Option<String> {
    match code {
        ERRCODE_SYNTAX_ERROR if is_name(sql) => {
            Some(format!("This argument is a query, not the name of a table. Example: '{example}'."))
        }
        ERRCODE_UNDEFINED_TABLE | ERRCODE_UNDEFINED_FUNCTION | ERRCODE_UNDEFINED_OBJECT => {
            let path = search_path().filter(|path| is_restricted(path))?;
            Some(format!(
                "search_path is \"{path}\" here, as always while a materialized view is filled: qualify tables, types \
                 and operators in the query with their schema, such as public.photos."
            ))
        }
        _ => None,
    }
}

/// Whether a text is only a name, perhaps with a schema, and so no statement.
fn is_name(sql: &str) -> bool {
    let sql = sql.trim();
    sql.starts_with('"') || !sql.is_empty() && !sql.contains(char::is_whitespace)
}

/// Whether a search_path leads to no schema of users.
fn is_restricted(path: &str) -> bool {
    path.split(',')
        .map(|name| name.trim().trim_matches('"'))
        .all(|name| matches!(name, "" | "pg_catalog" | "pg_temp"))
}

fn search_path() -> Option<String> {
    // SAFETY: the name of a setting, which everybody may read; its value is NULL or a C string.
    unsafe {
        let value = pg_sys::GetConfigOption(c"search_path".as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}
