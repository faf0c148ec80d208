//! Everything that touches PostgreSQL's internals.

pub mod any;
pub mod catalog;
pub mod client;
mod cursor;
pub mod error;
pub mod guc;
pub mod jsonb;
pub mod limited_text;
pub mod name;
pub mod procedure;
pub mod progress;
pub mod regclass;
pub mod relcache;
pub mod roles;
pub mod say;
pub mod server_stats;
pub mod snapshot;
pub mod spi;
pub mod supervisor;
pub mod trigger;
pub mod varlena;
pub mod vector;
pub mod version;
mod wait;
