//! The records of a table whose shards Citus keeps on several nodes: each node has those of its shards. A record does not
//! move with its shard, so a shard without one counts as one of the same model as the others on its node.

use super::Provenance;
use crate::pg::catalog::citus;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg};

/// The columns of a distributed table that have a record on a node, with what it says; none for other tables. The caller
/// must be allowed to read the table. A shard whose node does not answer, or has no susx, counts as one without records.
pub(super) fn records(relation: RegClass) -> Result<Vec<(String, Provenance)>> {
    let mut found = Vec::new();
    if !citus::is_distributed(relation)? {
        return Ok(found);
    }
    let of_shard = format!(
        "SELECT pg_catalog.jsonb_agg(e)::pg_catalog.text FROM susx.embedding_column e \
         WHERE e.relation {EQ} '%s'::pg_catalog.regclass"
    );
    let sql = "SELECT DISTINCT r.embedding_column, r.model, r.model_sha256 \
         FROM pg_catalog.run_command_on_shards($1::pg_catalog.regclass, $2) s, pg_catalog.jsonb_to_recordset( \
         CASE WHEN s.success AND pg_catalog.starts_with(s.result, '[') THEN s.result ELSE '[]' END::pg_catalog.jsonb) \
         AS r(embedding_column pg_catalog.text, model pg_catalog.text, model_sha256 pg_catalog.bytea)";
    spi::read(sql, &[arg(relation.0), arg(of_shard)], |row| {
        found.push((row.required(1)?, Provenance { model: row.required(2)?, sha256: row.get(3)? }));
        Ok(true)
    })?;
    Ok(found)
}

/// What the records of other shards of the same table say of a column of a shard, on this node; none for other tables.
pub(super) fn siblings(relation: RegClass, column: &str) -> Result<Vec<Provenance>> {
    let Some(table) = citus::table_of_shard(relation)? else { return Ok(Vec::new()) };
    // Not by pg_class, from which Citus hides shards. A name may be in quotation marks.
    let sql = format!(
        "SELECT DISTINCT e.model, e.model_sha256 FROM susx.embedding_column e JOIN pg_catalog.pg_dist_shard s \
         ON s.shardid {EQ} pg_catalog.\"substring\"( \
         e.relation::pg_catalog.regclass::pg_catalog.text, '_([0-9]{{1,18}})\"?$')::pg_catalog.int8 \
         WHERE s.logicalrelid {EQ} $1::pg_catalog.regclass AND e.embedding_column {EQ} $2::pg_catalog.name"
    );
    Provenance::read(&sql, table, column)
}
