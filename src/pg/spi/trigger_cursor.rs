//! A trigger's query, whose rows are fetched as they are needed.

use pgrx::{PgTrigger, pg_sys};

use super::portal::Portal;
use super::{Access, Connection, Row};
use crate::pg::error::{Error, Result};

/// An open query of a trigger.
///
/// It keeps an SPI connection open: connections that are opened later must be closed before it is dropped.
#[derive(Debug)]
pub struct TriggerCursor {
    /// `None` once it is closed.
    portal: Option<Portal>,
    _connection: Connection,
}

impl TriggerCursor {
    /// Starts a query that can read the trigger's transition tables, and what its statement wrote to other tables.
    pub fn open(trigger: &PgTrigger, sql: &str) -> Result<Self> {
        let connection = Connection::open()?;
        let data = std::ptr::from_ref(trigger.trigger_data()).cast_mut();
        // SAFETY: PostgreSQL's own data of the running trigger, which the connection does not outlive.
        match unsafe { pg_sys::SPI_register_trigger_data(data) } {
            code if code >= 0 => Ok(TriggerCursor {
                portal: Some(Portal::open(sql, &[], Access::Current)?),
                _connection: connection,
            }),
            code => Err(Error::internal(format_args!("SPI_register_trigger_data returned {code}"))),
        }
    }

    /// Passes up to `most` more rows to `each`, until that returns false. Returns whether there may be more.
    pub fn fetch(&mut self, most: i64, each: impl FnMut(&Row) -> Result<bool>) -> Result<bool> {
        match &self.portal {
            Some(portal) => portal.fetch_until(most, each),
            None => Ok(false),
        }
    }
}

impl Drop for TriggerCursor {
    fn drop(&mut self) {
        // While Rust unwinds, an ERROR is under way and PostgreSQL closes the portal.
        if let Some(portal) = self.portal.take().filter(|_| !std::thread::panicking()) {
            portal.close();
        }
    }
}
