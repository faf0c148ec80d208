//! The command line, by which the supervisor passes on the extension's settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use susx_core::onnx::ExecutionProvider;

/// The inference process of the susx extension. PostgreSQL starts and stops it. It exits when its standard input is
/// closed.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Tools for administrators: susx-server fetch downloads a model, and susx-server check tests one.\n\
                  Each has --help."
)]
pub struct Settings {
    /// Path of the socket to listen on; an existing one is replaced.
    #[arg(long)]
    pub socket: PathBuf,
    /// Directory of the models (susx.model_dir).
    #[arg(long)]
    pub model_dir: Option<PathBuf>,
    /// Path of ONNX Runtime's library (susx.onnxruntime_library).
    #[arg(long)]
    pub onnxruntime: Option<PathBuf>,
    /// Execution provider (susx.execution_provider).
    #[arg(long, default_value = "auto")]
    pub provider: ExecutionProvider,
    /// Fail if the GPU cannot be used (susx.require_gpu).
    #[arg(long)]
    pub require_gpu: bool,
    /// Number of the GPU (susx.gpu_device).
    #[arg(long, default_value_t = 0)]
    pub gpu_device: i32,
    /// GPU memory for the tensors of one graph in MiB; 0 is no limit (susx.gpu_memory_limit).
    #[arg(long, default_value_t = 0)]
    pub gpu_memory_limit: usize,
    /// Largest image file in bytes (susx.max_image_bytes).
    #[arg(long)]
    pub max_image_bytes: usize,
    /// Maximum number of pixels of an image (susx.max_image_pixels).
    #[arg(long)]
    pub max_image_pixels: u64,
    /// Decode large JPEGs at their full size too (susx.scaled_decoding is off).
    #[arg(long)]
    pub full_decoding: bool,
    /// Longest text in bytes (susx.max_text_bytes).
    #[arg(long, default_value_t = crate::limits::DEFAULT_TEXT_BYTES)]
    pub max_text_bytes: usize,
    /// Maximum number of inputs per batch (susx.batch_size).
    #[arg(long)]
    pub batch_size: usize,
    /// Milliseconds that an input may wait for others to join its batch (susx.batch_delay).
    #[arg(long, default_value_t = 2)]
    pub batch_delay: u64,
    /// Megabytes of requests and replies to hold before senders have to wait (susx.queue_memory).
    #[arg(long)]
    pub queue_megabytes: usize,
    /// Threads for decoding, and for ONNX Runtime; 0 is one per core (susx.threads).
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Maximum number of images that a generator works on at once (susx.generator_batch_size).
    #[arg(long, default_value_t = 1)]
    pub generator_batch_size: usize,
    /// Seconds after which an unused model is unloaded; 0 is never (susx.model_idle_timeout).
    #[arg(long, default_value_t = 0)]
    pub model_idle_timeout: u64,
    /// Megabytes of the files of all loaded models, beyond which others are unloaded before one is loaded; 0 is no limit
    /// (susx.model_memory).
    #[arg(long, default_value_t = 0)]
    pub model_memory: u64,
    /// Milliseconds that a model may take to load; 0 is no limit (susx.load_timeout).
    #[arg(long, default_value_t = 600_000)]
    pub load_timeout: u64,
    /// Load this embedding model at the start (susx.model); an empty name stands for the only one.
    #[arg(long)]
    pub warm_up: Option<String>,
    /// How often the supervisor has restarted the process, for susx.stat_server.
    #[arg(long, default_value_t = 0)]
    pub restarts: u32,
}

impl Settings {
    /// Maximum time that an input waits for others to join its batch.
    pub fn batch_delay(&self) -> Duration {
        Duration::from_millis(self.batch_delay)
    }

    /// Time limit for loading a model; zero is none.
    pub fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.load_timeout)
    }

    /// The embedding model to load at the start, and whether there is one at all.
    pub fn warm_up(&self) -> Option<Option<String>> {
        let name = self.warm_up.clone()?;
        Some(Some(name).filter(|name| !name.is_empty()))
    }

    /// Limit of the sizes of all loaded models together, in bytes; `None` if there is none.
    pub fn model_memory(&self) -> Option<u64> {
        Some(self.model_memory << 20).filter(|&limit| limit > 0)
    }

    /// Time after which an unused model is unloaded; zero is never.
    pub fn model_idle_timeout(&self) -> Duration {
        Duration::from_secs(self.model_idle_timeout)
    }
}
