//! susx: label a table of images from category names alone, in SQL.
//!
//! The SQL surface, one file per area:
//!
//! * [`model`] - which models there are;
//! * [`embed`] - images and texts to vectors;
//! * [`embed_table`] - whole tables of images;
//! * [`forget_errors`] - images that are to be tried again;
//! * [`embed_on_write`] - tables whose new rows embed themselves;
//! * [`classifier`] - classifiers and their settings;
//! * [`prompts`] - sentences that describe the categories;
//! * [`few_shot`] - labelled images;
//! * [`build_support_set`] - support images retrieved from a pool;
//! * [`generate_support_set`] - support images generated from the prompts;
//! * [`generate_images`] - images generated from any text;
//! * [`embed_row`] - the rows that are written by hand;
//! * [`classify`] - labels;
//! * [`classify_rows`] - labels of all rows of a query;
//! * [`explain`] - why an image has its label;
//! * [`evaluate`] - how right labels are;
//! * [`tune`] - settings that are right most often;
//! * [`stat_progress`] - how far long calls have come;
//! * [`stat_server`] - the inference process at work;
//! * [`library`] - which version this is.
//!
//! They stand on [`pg`], which is everything that touches PostgreSQL's internals, and on `susx-core`,
//! which knows the method and nothing of PostgreSQL. What a caller may ask for at most is in [`limits`].
//! Inference runs in the process `susx-server`.

mod arrays;
mod batches;
mod blame;
mod build_support_set;
mod classifiable;
mod classifier;
mod classify;
mod classify_rows;
mod core_errors;
mod embed;
mod embed_on_write;
mod embed_row;
mod embed_table;
mod embedder;
mod embedding_stream;
mod evaluate;
mod explain;
mod few_shot;
mod fitted;
mod forget_errors;
mod generate_images;
mod generate_support_set;
mod generation;
mod inference;
mod labelled_images;
mod library;
mod limits;
mod model;
mod on_error;
mod pg;
mod prompting;
mod prompts;
mod stat_progress;
mod stat_server;
mod tune;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/bootstrap.sql", name = "bootstrap", bootstrap);
pgrx::extension_sql_file!("../sql/finalize.sql", name = "finalize", finalize);

/// Called by PostgreSQL when the library is loaded.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    let early = pg::refused::Early::look();
    pg::guc::define();
    early.restore();
    susx_core::interrupt::register(pg::wait::check);
    fitted::register();
    pg::relcache::register();
    pg::statement::register();
    pg::at_commit::register();
    inference::supervisor::register_at_start();
}
