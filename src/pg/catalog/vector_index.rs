//! pgvector's index of a table of vectors, and how far its scans go.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::session_settings::with_settings;
use crate::pg::error::Result;
use crate::pg::extensions::vector_schema;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{arg, first};
use crate::pg::vector::Vector;

/// How an hnsw or ivfflat index over all rows orders.
#[derive(Debug)]
pub(super) struct IndexOrder {
    /// The operator, qualified.
    pub operator: String,
    /// The type of what it compares with, qualified.
    pub operand: String,
}

/// The order of an index by the cosine distance; `None` if there is none. Others order in the same way only if all
/// vectors have the same length, which is unknown until they are read.
pub(super) fn order(relation: RegClass, column: &str) -> Result<Option<IndexOrder>> {
    let sql = format!(
        "SELECT o.opcname::pg_catalog.text FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class c ON c.oid {EQ} i.indexrelid \
         JOIN pg_catalog.pg_am m ON m.oid {EQ} c.relam \
         JOIN pg_catalog.pg_opclass o ON o.oid {EQ} i.indclass[0] \
         JOIN pg_catalog.pg_attribute a ON a.attrelid {EQ} i.indrelid AND a.attnum {EQ} i.indkey[0] \
         WHERE i.indrelid {EQ} $1 AND a.attname {EQ} $2 AND i.indisvalid AND i.indpred IS NULL \
         AND m.amname {EQ} ANY ('{{hnsw,ivfflat}}') \
         AND o.opcname {EQ} ANY ('{{vector_cosine_ops,halfvec_cosine_ops}}') \
         ORDER BY m.amname, o.opcname LIMIT 1"
    );
    let found = first::<String>(&sql, &[arg(relation.0), arg(column.to_owned())])?;
    let Some((operand, _)) = found.as_deref().and_then(|name| name.split_once('_')) else {
        return Ok(None);
    };
    let schema = vector_schema()?;
    Ok(Some(IndexOrder {
        operator: format!("OPERATOR({schema}.<=>)"),
        operand: format!("{schema}.{operand}"),
    }))
}

/// When pgvector's index scans end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexScan {
    /// Once the query has all its rows.
    Iterative,
    /// Before pgvector 0.8.0: after a fixed number of rows, which may be fewer than the query asks for.
    Limited,
}

/// Runs `call` with index scans of pgvector, by that operator, that go as far as they can, and tells it when they end.
pub fn with_long_scans<T>(operator: Option<&str>, call: impl FnOnce(IndexScan) -> Result<T>) -> Result<T> {
    // pgvector defines its settings when its library is loaded, which calling an operator does.
    if let Some(operator) = operator {
        let one = || arg(Vector(vec![1.0]));
        first::<f64>(&format!("SELECT $1 {operator} $2"), &[one(), one()])?;
    }
    let iterative =
        [(c"hnsw.iterative_scan", c"strict_order"), (c"ivfflat.iterative_scan", c"relaxed_order")];
    // The highest values that pgvector accepts.
    let highest = [(c"hnsw.ef_search", c"1000"), (c"ivfflat.probes", c"32768")];
    match iterative.iter().all(|(name, _)| exists(name)) {
        true => with_settings(&iterative, || call(IndexScan::Iterative)),
        false => {
            let known: Vec<_> = highest.into_iter().filter(|(name, _)| exists(name)).collect();
            with_settings(&known, || call(IndexScan::Limited))
        }
    }
}

/// Whether a library has defined a setting. Any role can SET a name with a dot that no library knows: such a
/// placeholder has a flag.
fn exists(setting: &CStr) -> bool {
    // SAFETY: a C string; NULL for a setting that does not exist.
    unsafe {
        !pg_sys::GetConfigOption(setting.as_ptr(), true, false).is_null()
            && pg_sys::GetConfigOptionFlags(setting.as_ptr(), true) & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32
                == 0
    }
}
