//! How many rows are read, sent and written together.
//!
//! A batch has two limits: a number of rows, beyond which nothing gets faster, and a number of bytes, which bounds
//! memory where each row may hold an image of many megabytes. A single row above the second limit forms its own batch.

use std::time::Duration;

/// Rows that a cursor fetches at a time: enough that starting the executor costs little for each.
pub const FETCHED_ROWS: i64 = 256;
/// Rows that one INSERT adds to a classifier: its arrays are in memory twice, in Rust and in PostgreSQL.
pub const INSERTED_ROWS: usize = 1_024;

/// Rows of `embed_table`, unless the call sets `batch_size`, and of `embed_on_write`: this many are enough to keep a
/// GPU busy, and a transaction that fails loses little work.
pub const EMBEDDED_ROWS: usize = 256;
/// Bytes of their images.
pub const EMBEDDED_BYTES: usize = 16 << 20;
/// Batches that are submitted ahead: while one is written, the inference process works on the others.
pub const EMBED_AHEAD_BATCHES: usize = 3;
/// Images that are submitted ahead in more, small batches, so that the process can still fill its own.
pub const EMBED_AHEAD_IMAGES: usize = 256;
/// Bytes above which no more than two batches are submitted ahead.
pub const EMBED_AHEAD_BYTES: usize = 3 * EMBEDDED_BYTES;
/// Rows of `embed_table` that are looked up in `susx.errors` together: few, because the images of those that follow
/// may not be read in this transaction.
pub const FAILURE_LOOKUP_ROWS: i64 = 64;
/// Rows of `embed_table` that are looked at in one transaction, where most of them are passed over.
pub const PASSED_OVER_ROWS: usize = 100_000;
/// Rows that are looked up together where they are only counted, and no image is read.
pub const COUNTED_ROWS: i64 = 1_000;

/// Rows of the first batch of `classify_rows`: few, so that the first answers arrive soon. Each batch has twice as many
/// as the one before, up to the next two limits.
pub const CLASSIFIED_ROWS_AT_FIRST: usize = 32;
/// Embeddings of a batch of `classify_rows`: one matrix product.
pub const CLASSIFIED_EMBEDDINGS: usize = 256;
/// Images of a batch of `classify_rows`: two frames of the protocol.
pub const CLASSIFIED_IMAGES: usize = 128;
/// Bytes of the images and keys of a batch of `classify_rows`.
pub const CLASSIFIED_BYTES: usize = 8 << 20;
/// Batches of images of `classify_rows` that are submitted ahead: while the rows of one are returned, the inference
/// process works on the others.
pub const CLASSIFY_AHEAD_BATCHES: usize = 3;

/// Rows of a labelled query: one matrix product.
pub const LABELLED_ROWS: usize = 256;
/// Bytes of their images.
pub const LABELLED_BYTES: usize = 32 << 20;

/// Rows of `label_table`, unless the call sets `batch_size`, and of `label_on_write`: a COMMIT costs little for each.
pub const RELABELLED_ROWS: usize = 2_048;
/// Bytes of their vectors.
pub const RELABELLED_BYTES: usize = 16 << 20;
/// Rows among them that are classified together: one matrix product.
pub const RELABELLED_TOGETHER: usize = 256;
/// Images of which thumbnails are made together.
pub const THUMBNAIL_IMAGES: usize = 96;
/// Bytes of them.
pub const THUMBNAIL_BYTES: usize = 32 << 20;

/// Images that `add_support` embeds and inserts together.
pub const SUPPORT_ROWS: usize = 256;
/// Bytes of them.
pub const SUPPORT_BYTES: usize = 16 << 20;
/// Sentences that `add_prompts` embeds and inserts together: short, and fastest when texts of like length share a run.
pub const PROMPT_ROWS: usize = 1_024;
/// Images of a pool that are compared with the prompts together: one matrix product.
pub const POOL_ROWS: usize = 256;

/// Prompts that are submitted to a generator ahead: more than it works on together.
pub const GENERATE_AHEAD: usize = 256;
/// Generated images that are written together. An image takes seconds to minutes, so the time counts as well.
pub const GENERATED_ROWS: usize = 64;
/// Bytes of them.
pub const GENERATED_BYTES: usize = 16 << 20;
/// The time after which generated images are written, however few they are.
pub const GENERATED_TIME: Duration = Duration::from_secs(10);
