//! The inference process as PostgreSQL's processes see it: [`client`] asks it, [`supervisor`] keeps it running, and
//! [`stats`] looks at it.

pub mod client;
mod error;
pub mod stats;
pub mod supervisor;
