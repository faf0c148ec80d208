//! The records of a table whose shards Citus keeps on several nodes: each node has those of its shards.

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
