//! Turns requests into batches: one queue per model and kind of input, and the tasks that process them.
//!
//! A [`service`] is a loaded model with its queues and the threads that take batches from them.

pub(crate) mod embedding_service;
pub(crate) mod embedding_task;
pub(crate) mod fair_queue;
pub(crate) mod generation_service;
pub(crate) mod image_file;
pub(crate) mod image_infos;
pub(crate) mod pixel_budget;
pub(crate) mod request;
pub(crate) mod service;
pub(crate) mod sheet;
pub(crate) mod thumbnails;
