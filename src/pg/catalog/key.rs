//! The primary key of a table, by which its rows are found again and put in order.

use pgrx::pg_sys;

use super::arg;
use super::column::Column;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi;

/// A column of the primary key.
#[derive(Debug, PartialEq)]
pub struct KeyColumn {
    pub quoted: String,
    pub base_type: String,
    /// The operators of the key's index, qualified.
    pub equal: String,
    pub greater: String,
}

/// A type whose text is read in the currency of the session.
pub(super) const MONEY: &str = "pg_catalog.money";

/// The text of the key of a row, which people see and susx.errors knows the row by.
pub(super) fn text(row: &str, key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key.iter().map(|key| format!("{row}.{}", key.quoted)).collect();
    match &columns[..] {
        [only] => format!("pg_catalog.concat({only})"),
        _ => format!("ROW({})::pg_catalog.text", columns.join(", ")),
    }
}

/// The columns of a table's primary key, in its order; an error if there is none, or none with an order.
pub fn of(relation: RegClass) -> Result<Vec<KeyColumn>> {
    let operator = |name: &str| {
        format!(
            "'OPERATOR(' OPERATOR(pg_catalog.||) pg_catalog.quote_ident({name}n.nspname) \
             OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) {name}o.oprname::pg_catalog.text OPERATOR(pg_catalog.||) ')'"
        )
    };
    let joined = |name: &str, strategy: u32| {
        format!(
            "JOIN pg_catalog.pg_amop {name} ON {name}.amopfamily OPERATOR(pg_catalog.=) c.opcfamily \
             AND {name}.amoplefttype OPERATOR(pg_catalog.=) c.opcintype \
             AND {name}.amoprighttype OPERATOR(pg_catalog.=) c.opcintype \
             AND {name}.amopstrategy OPERATOR(pg_catalog.=) {strategy} \
             JOIN pg_catalog.pg_operator {name}o ON {name}o.oid OPERATOR(pg_catalog.=) {name}.amopopr \
             JOIN pg_catalog.pg_namespace {name}n ON {name}n.oid OPERATOR(pg_catalog.=) {name}o.oprnamespace "
        )
    };
    let sql = format!(
        "SELECT a.attname::pg_catalog.text, {}, {} FROM pg_catalog.pg_index i \
         CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts::int OPERATOR(pg_catalog.-) 1) p (place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid \
         AND a.attnum OPERATOR(pg_catalog.=) i.indkey[p.place] \
         JOIN pg_catalog.pg_opclass c ON c.oid OPERATOR(pg_catalog.=) i.indclass[p.place] \
         JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.opcmethod \
         AND m.amname OPERATOR(pg_catalog.=) 'btree' \
         {}{}WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary AND i.indisvalid ORDER BY p.place",
        operator("e"),
        operator("g"),
        joined("e", pg_sys::BTEqualStrategyNumber),
        joined("g", pg_sys::BTGreaterStrategyNumber),
    );
    let mut columns = Vec::new();
    spi::read(&sql, &[arg(relation.0)], |row| {
        columns.push((row.required::<String>(1)?, row.required(2)?, row.required(3)?));
        Ok(true)
    })?;
    if columns.is_empty() {
        return Err(Error::NoPrimaryKey(relation.name()?));
    }
    let column = |(name, equal, greater): (String, String, String)| {
        let column = Column::open(relation, &name)?;
        Ok(KeyColumn { base_type: column.base_type(), quoted: column.quoted, equal, greater })
    };
    columns.into_iter().map(column).collect()
}
