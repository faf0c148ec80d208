//! One row, by its key as text.

use super::{LabelRow, LabelTable};
use crate::pg::catalog::session_settings::{EXACT_TEXT, with_settings};
use crate::pg::error::Result;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, Access, arg};

impl LabelTable {
    /// The row of a key, as susx.errors names it, locked against changes by others; `None` if the caller sees no such row,
    /// or may not update it.
    pub fn find(&self, key: &str) -> Result<Option<LabelRow>> {
        let condition = match &self.key[..] {
            // By the index. The key of several columns is compared as text.
            [only] => format!("t.{} {} $1::{}", only.quoted, only.equal, only.base_type),
            _ => format!("{} {EQ} $1", self.key_text()),
        };
        let sql = format!(
            "SELECT {} FROM {} t WHERE {condition} FOR NO KEY UPDATE OF t",
            self.selected(),
            self.table
        );
        let mut found = None;
        with_settings(&EXACT_TEXT, || {
            spi::read_in(Access::Current, &sql, &[arg(key.to_owned())], |row| {
                found = Some(self.row(row)?);
                Ok(false)
            })
        })?;
        Ok(found)
    }
}
