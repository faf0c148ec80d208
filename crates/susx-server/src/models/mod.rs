//! The models of the model directory: which ones exist, and the cache of those that are loaded.

mod descriptions;
pub(crate) mod ledger;
mod loader;
mod model_cache;
mod model_memory;
mod model_names;
mod pending_load;
pub(crate) mod registry;
mod stuck_models;
