//! susx: label a table of images from category names alone, in SQL.
//!
//! The SQL surface, one file per area:
//!
//! * [`check`] - what an installation lacks;
//! * [`model`] - the models in the model directory;
//! * [`embed`] - vectors of images and texts;
//! * [`add_embedding_column`] - a column for the vectors of a table of images;
//! * [`embed_table`] - vectors of a whole table of images;
//! * [`forget_errors`] - retry images that failed;
//! * [`embed_on_write`] - tables that embed new rows by a trigger;
//! * [`classifier`] - classifiers and their settings;
//! * [`prompts`] - sentences that describe the categories;
//! * [`few_shot`] - labelled images;
//! * [`negatives`] - names of things that are none of the categories;
//! * [`suggest_reject`] - the threshold for images that should get no label;
//! * [`build_support_set`] - support images retrieved from a pool;
//! * [`generate_support_set`] - support images generated from the prompts;
//! * [`generate_images`] - images generated from any text;
//! * [`embed_row`] - rows of a classifier that are written by hand;
//! * [`duplicates`] - groups of near-duplicates in a table of images;
//! * [`classify`] - labels;
//! * [`classify_rows`] - labels of all rows of a query;
//! * [`review_queue`] - the rows that are most worth checking;
//! * [`tags`] - several labels per image;
//! * [`label_table`] - labels of a whole table, kept up to date;
//! * [`label_on_write`] - tables that label new rows by a trigger;
//! * [`correct`] - corrections of labels;
//! * [`label_counts`] - how many labels of a table are up to date;
//! * [`explain`] - the support images behind a label;
//! * [`evaluate`] - accuracy and confusion matrix;
//! * [`tune`] - search for the most accurate settings;
//! * [`image_info`] - what the headers of image files say;
//! * [`thumbnail`] - small copies of images;
//! * [`contact_sheet`] - one picture of many images;
//! * [`report`] - a page to look at the labels;
//! * [`stat_progress`] - progress of long calls;
//! * [`stat_server`] - state of the inference process;
//! * [`library`] - version of the library.
//!
//! They are built on [`pg`], the only code that touches PostgreSQL's internals, on [`inference`], the connection to the
//! process `susx-server`, and on `susx-core`, the methods. [`limits`] defines the limits on arguments.

// This documentation is for developers, built with --document-private-items: nothing in this crate is public.
#![allow(rustdoc::private_intra_doc_links)]

mod add_embedding_column;
mod adopt_classifier;
mod arrays;
mod batches;
mod build_support_set;
mod category_index;
mod check;
mod classifiable;
mod classifier;
mod classify;
mod classify_rows;
mod contact_sheet;
mod core_errors;
mod correct;
mod cut_texts;
mod distribute_classifier;
mod duplicates;
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
mod image_info;
mod image_stream;
mod image_vectors;
mod inference;
mod label_counts;
mod label_on_write;
mod label_rows;
mod label_table;
mod labelled_images;
mod labeller;
mod library;
mod limits;
mod model;
mod negatives;
mod on_error;
mod pg;
mod prompting;
mod prompts;
mod query_vectors;
mod recent_embeddings;
mod report;
mod review_queue;
mod shared_fit;
mod stat_progress;
mod stat_server;
mod suggest_reject;
mod support_set;
mod tags;
mod thumbnail;
mod thumbnail_batch;
mod tune;
mod unit_vectors;
mod write_trigger;

use pg::placeholders::Placeholders;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/bootstrap.sql", name = "bootstrap", bootstrap);
pgrx::extension_sql_file!("../sql/finalize.sql", name = "finalize", finalize);

/// Called by PostgreSQL when the library is loaded.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    let placeholders = Placeholders::find();
    pg::guc::define();
    placeholders.restore_refused();
    susx_core::interrupt::register(pg::wait::check);
    pg::library_file::register();
    fitted::register();
    pg::statement::on_end(&[fitted::end_statement, recent_embeddings::end_statement]);
    pg::relcache::register();
    pg::statement::register();
    pg::at_commit::register();
    inference::supervisor::register_at_start();
}
