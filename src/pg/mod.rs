//! Everything that touches PostgreSQL's internals.

pub mod any;
pub mod at_commit;
pub mod catalog;
pub mod claim;
pub mod client;
mod cursor;
pub mod error;
pub mod guc;
pub mod jsonb;
pub mod name;
pub mod procedure;
pub mod progress;
pub mod refused;
pub mod regclass;
pub mod relcache;
pub mod roles;
pub mod server_stats;
pub mod shown;
pub mod snapshot;
pub mod spi;
pub mod supervisor;
pub mod trigger;
pub mod varlena;
pub mod vector;
pub mod version;
mod wait;
