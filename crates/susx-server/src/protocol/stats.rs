//! The statistics of the inference process.

use serde::{Deserialize, Serialize};

/// Statistics of the inference process. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub version: String,
    /// Microseconds since 1970.
    pub started: i64,
    /// How often the supervisor has restarted it.
    pub restarts: u32,
    /// Connected sessions that have sent a request other than for statistics.
    pub connections: u64,
    /// Loaded models with their provider, and those being loaded.
    pub models: Vec<String>,
    /// Inputs that have arrived and are not answered yet.
    pub queue_inputs: u64,
    /// Memory reserved for requests and unsent replies, in bytes.
    pub queue_bytes: u64,
    /// Embedded images.
    pub images: u64,
    /// Embedded texts.
    pub texts: u64,
    /// Generated images.
    pub generated: u64,
    /// Inputs answered with an error.
    pub failed: u64,
    /// Batches of images or texts.
    pub batches: u64,
    /// Over the last ten seconds, like the other rates.
    pub images_per_second: f64,
    pub texts_per_second: f64,
    /// Denoising steps per second, each of one image.
    pub steps_per_second: f64,
    /// Numbers of batches with 1, 2, 3 to 4, 5 to 8, ... inputs.
    pub batch_sizes: Vec<u64>,
    /// Median time from a request's arrival to its reply over the last one to two minutes, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 95th percentile of the same.
    pub p95_ms: Option<f64>,
    pub last_error: Option<LastError>,
}

/// An error and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    pub message: String,
    /// Microseconds since 1970.
    pub at: i64,
}
