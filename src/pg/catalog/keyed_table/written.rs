//! What became of rows that a statement was to write.

use pgrx::Spi;
use pgrx::datum::DatumWithOid;

use super::{KeyedTable, RowId, VERSION};
use crate::pg::error::Result;
use crate::pg::spi::freeing_arguments;
use crate::pg::spi::operators::{EQ, NE};

/// Indices of rows, by what happened to them. Others have changed the rows in neither list in the meantime, or are
/// changing them.
#[derive(Debug, Default)]
pub struct Written {
    pub written: Vec<usize>,
    /// Rows that a trigger of the table has skipped, or that a policy does not let the caller update.
    pub refused: Vec<usize>,
}

/// The end of a statement for [`write_rows`](KeyedTable::write_rows): each row that `locked l` has, and whether it is as
/// wanted, by this condition or by the column `is_done` of `written`.
///
/// An aggregate, because the planner expects one row of either and would compare every row with every other to join them.
pub(in crate::pg::catalog) fn outcome(is_done_already: &str) -> String {
    format!(
        "SELECT o.ord, pg_catalog.bool_or(o.is_done) FROM (\
         SELECT l.ord, {is_done_already} AS is_done FROM locked l \
         UNION ALL SELECT w.ord, w.is_done FROM written w) o GROUP BY o.ord"
    )
}

impl KeyedTable {
    /// Runs a statement that is to write rows of [`unnest`](Self::unnest). It returns a row for each that it has locked:
    /// its number, `ord`, and whether it was written.
    pub(in crate::pg::catalog) fn write_rows(
        &self,
        sql: &str,
        args: &[DatumWithOid],
        rows: &[&RowId],
    ) -> Result<Written> {
        let mut found = Written::default();
        self.finding_rows(|| {
            Spi::connect_mut(|client| {
                for row in client.update(sql, None, args)? {
                    let index = row.get::<i64>(1)?.and_then(|ord| usize::try_from(ord - 1).ok());
                    let list = match row.get::<bool>(2)? {
                        Some(true) => &mut found.written,
                        _ => &mut found.refused,
                    };
                    list.extend(index);
                }
                Ok::<_, pgrx::spi::Error>(())
            })?;
            Ok(())
        })?;
        let locked = found.written.len() + found.refused.len();
        // Without policies, only others can keep a row from being locked.
        if locked < rows.len() && self.relation.has_row_security() {
            let mut is_locked = vec![false; rows.len()];
            for &index in found.written.iter().chain(&found.refused) {
                is_locked[index] = true;
            }
            found.refused.extend(self.idle(rows)?.into_iter().filter(|&index| !is_locked[index]));
        }
        found.written.sort_unstable();
        Ok(found)
    }

    /// How many of these rows are as they were read although no other session is changing them; 0 unless policies apply
    /// to the caller.
    pub fn refused(&self, rows: &[&RowId]) -> Result<usize> {
        if self.relation.has_row_security() { Ok(self.idle(rows)?.len()) } else { Ok(0) }
    }

    /// The indices of those rows that have not changed since they were read, and that no other session is changing.
    fn idle(&self, rows: &[&RowId]) -> Result<Vec<usize>> {
        let sql = format!(
            "SELECT u.ord FROM {} JOIN {} t ON {} WHERE {VERSION} {EQ} u.version AND NOT EXISTS \
             (SELECT FROM pg_catalog.pg_locks l WHERE l.transactionid {EQ} t.xmax \
             AND l.pid {NE} pg_catalog.pg_backend_pid())",
            self.unnest(&["version"]),
            self.table,
            self.joined("t", "u"),
        );
        freeing_arguments(|| self.written(&sql, &self.row_args(rows)))
    }
}
