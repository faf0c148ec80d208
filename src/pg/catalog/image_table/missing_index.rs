//! Advice about the index that finds the few rows without an embedding in a large table.

use super::ImageTable;
use crate::pg::error::Result;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{arg, first};

/// The size of a table, in rows, from which reading all of it to find a few takes noticeably long.
const LARGE: u64 = 100_000;
/// The share of the rows that are few: one in so many.
const FEW: u64 = 100;

impl ImageTable {
    /// The statement that creates the index by which a call would find the missing embeddings, where the table is large,
    /// only `missing` of them are few, and there is no such index yet. How large the table is, PostgreSQL knows from the
    /// last ANALYZE.
    pub fn missing_index(&self, missing: u64) -> Result<Option<String>> {
        let sql = format!(
            "SELECT c.reltuples::pg_catalog.float8 FROM pg_catalog.pg_class c WHERE c.oid {EQ} $1 AND NOT EXISTS \
             (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid {EQ} c.oid AND i.indisvalid \
             AND pg_catalog.strpos(pg_catalog.pg_get_expr(i.indpred, i.indrelid), $2) OPERATOR(pg_catalog.>) 0)"
        );
        let condition = format!("({} IS NULL)", self.embedding);
        let rows: Option<f64> = first(&sql, &[arg(self.relation.0), arg(condition)])?;
        let is_worth_it = rows.is_some_and(|rows| rows >= LARGE as f64 && (missing * FEW) as f64 <= rows);
        let key: Vec<&str> = self.key.iter().map(|key| &*key.quoted).collect();
        Ok(is_worth_it.then(|| {
            let (table, embedding) = (&self.table, &self.embedding);
            format!("CREATE INDEX ON {table} ({}) WHERE {embedding} IS NULL;", key.join(", "))
        }))
    }
}
