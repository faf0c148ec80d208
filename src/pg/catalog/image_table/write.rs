//! Writing embeddings.

use super::ImageTable;
use crate::pg::catalog::keyed_table::{RowId, VERSION, Written, outcome};
use crate::pg::error::Result;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{arg, freeing_arguments};
use crate::pg::vector::Vector;

impl ImageTable {
    /// Writes embeddings, or NULL, to those rows that have not changed since they were read. Returns the indices of
    /// the rows that have the embedding now, and of those that the table's triggers and policies do not let it write.
    ///
    /// A row that another transaction is changing is skipped rather than waited for. So there are no deadlocks, and a
    /// transaction that changes many rows does not hold this one up.
    pub fn write(&self, rows: &[&RowId], embeddings: Vec<Option<Vector>>) -> Result<Written> {
        let (table, embedding) = (&self.table, &self.embedding);
        let joined = self.joined("t", "u");
        let sql = format!(
            "WITH locked AS MATERIALIZED (SELECT u.* FROM {} JOIN {table} t ON {joined} \
             WHERE {VERSION} {EQ} u.version FOR NO KEY UPDATE OF t SKIP LOCKED), \
             written AS (UPDATE {table} t SET {embedding} = u.embedding FROM locked u \
             WHERE {joined} AND {VERSION} {EQ} u.version \
             RETURNING u.ord, t.{embedding} IS NOT NULL OR u.embedding IS NULL AS is_done) {}",
            self.unnest(&["version", "embedding"]),
            outcome("false"),
        );
        freeing_arguments(|| {
            let mut args = self.row_args(rows);
            args.push(arg(embeddings));
            self.write_rows(&sql, &args, rows)
        })
    }
}
