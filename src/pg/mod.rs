//! Everything that touches PostgreSQL's internals.

pub mod catalog;
pub mod client;
pub mod error;
pub mod guc;
pub mod jsonb;
pub mod name;
pub mod procedure;
#[allow(dead_code)] // Until all the calls that report it are here.
pub mod progress;
pub mod regclass;
pub mod relcache;
pub mod snapshot;
pub mod spi;
pub mod supervisor;
pub mod varlena;
pub mod vector;
mod wait;
