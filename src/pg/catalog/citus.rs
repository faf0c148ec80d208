//! Tables of Citus, from its catalogs.
//!
//! Citus shows a table of several nodes as an empty one, the shell, and keeps its rows in others, the shards. The only
//! shard of a reference table is on every node. A function that runs on a shard may not query the shell there, and a change
//! of the table fires the triggers of the shard and invalidates the shard. So a classifier's rows are read from its shard.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::spi::quote_qualified_identifier;

use super::session_settings::with_settings;
use super::write;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::{EQ, NE};
use crate::pg::spi::{self, arg, first};

/// Longest name of a relation, in bytes. Citus shortens longer names of shards by its own rule.
const NAME_BYTES: usize = pg_sys::NAMEDATALEN as usize - 1;

/// The catalog of tables, which there is in databases with Citus.
const TABLES: &CStr = c"pg_dist_partition";

/// Whether this database has Citus. A look-up in a cache.
pub fn is_there() -> bool {
    // SAFETY: a look-up by name.
    let found = unsafe { pg_sys::get_relname_relid(TABLES.as_ptr(), pg_sys::PG_CATALOG_NAMESPACE.into()) };
    found != pg_sys::Oid::INVALID
}

/// Whether a table is one of Citus.
pub fn is_known(relation: RegClass) -> Result<bool> {
    has_row(relation, "true")
}

/// Whether the rows of a table are spread over several shards.
pub fn is_distributed(relation: RegClass) -> Result<bool> {
    has_row(relation, &format!("partmethod {NE} 'n'"))
}

/// Whether Citus has a table for which the condition holds.
fn has_row(relation: RegClass, condition: &str) -> Result<bool> {
    if !is_there() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT true FROM pg_catalog.pg_dist_partition WHERE logicalrelid {EQ} $1::pg_catalog.regclass AND {condition}"
    );
    Ok(first(&sql, &[arg(relation.0)])?.unwrap_or(false))
}

/// Makes a table a reference table. It has triggers, which Citus copies to every node if it is allowed to: those of a
/// classifier only compute from the row, and invalidate what sessions of the same node have fitted.
pub fn create_reference_table(relation: RegClass) -> Result<()> {
    with_settings(&[(c"citus.enable_unsafe_triggers", c"on")], || {
        write("SELECT pg_catalog.create_reference_table($1::pg_catalog.regclass)", &[arg(relation.0)])?;
        Ok(())
    })
}

/// Where the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this relation, which is locked for reading: the table itself, or the local shard of a table with one shard.
    Here(RegClass),
    /// On other nodes only.
    Elsewhere,
}

/// Where the rows of a table are, which is locked. A table of several shards counts as its own place: queries of it go
/// through Citus.
pub fn place(relation: RegClass) -> Result<Place> {
    if !is_there() {
        return Ok(Place::Here(relation));
    }
    let mut shards: Vec<i64> = Vec::new();
    let sql = format!(
        "SELECT s.shardid FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_dist_shard s \
         ON s.logicalrelid {EQ} p.logicalrelid \
         WHERE p.logicalrelid {EQ} $1::pg_catalog.regclass AND p.partmethod {EQ} 'n' LIMIT 2"
    );
    spi::read(&sql, &[arg(relation.0)], |row| {
        shards.push(row.required(1)?);
        Ok(true)
    })?;
    let [shard] = shards[..] else { return Ok(Place::Here(relation)) };
    Ok(match local_shard(relation, shard)? {
        Some(shard) => {
            shard.lock_for_reading();
            Place::Here(shard)
        }
        None => Place::Elsewhere,
    })
}

/// The table that a relation is a shard of, if it is one.
pub fn table_of_shard(relation: RegClass) -> Result<Option<RegClass>> {
    if !is_there() {
        return Ok(None);
    }
    let (_, name) = relation.names()?;
    let number = name.rsplit_once('_').and_then(|(_, number)| number.parse::<i64>().ok());
    let Some(number) = number else { return Ok(None) };
    let sql =
        format!("SELECT logicalrelid::pg_catalog.oid FROM pg_catalog.pg_dist_shard WHERE shardid {EQ} $1");
    let found: Option<pg_sys::Oid> = first(&sql, &[arg(number)])?;
    let Some(table) = found.map(RegClass).filter(|table| table.exists()) else { return Ok(None) };
    // A table may have a name like that of a shard.
    Ok((local_shard(table, number)? == Some(relation)).then_some(table))
}

/// The relation of a shard; `None` if it is on other nodes only.
fn local_shard(relation: RegClass, shard: i64) -> Result<Option<RegClass>> {
    let (schema, name) = relation.names()?;
    let name = format!("{name}_{shard}");
    let qualified = if name.len() <= NAME_BYTES {
        Some(quote_qualified_identifier(schema, name))
    } else {
        let sql = "SELECT pg_catalog.shard_name($1::pg_catalog.regclass, $2)";
        first(sql, &[arg(relation.0), arg(shard)])?
    };
    let sql = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid";
    let found: Option<pg_sys::Oid> = qualified.map(|name| first(sql, &[arg(name)])).transpose()?.flatten();
    Ok(found.map(RegClass))
}

/// The relation that queries read the rows of a table from: the local shard, where there is one.
pub fn readable(relation: RegClass) -> Result<RegClass> {
    Ok(match place(relation)? {
        Place::Here(found) => found,
        Place::Elsewhere => relation,
    })
}
