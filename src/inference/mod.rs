//! The inference process, from PostgreSQL's side: [`client`] sends it requests, [`supervisor`] keeps it running, and
//! [`server_stats`] reports its state.

pub mod client;
mod error;
pub mod server_stats;
pub mod supervisor;
