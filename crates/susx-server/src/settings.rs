//! The command line: the extension's settings, as the supervisor passes them on.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use susx_core::onnx::ExecutionProvider;

/// The inference process of the susx extension. PostgreSQL starts and ends it; it ends by itself when
/// its standard input is closed.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Settings {
    /// Socket to listen on; a leftover one is replaced.
    #[arg(long)]
    pub socket: PathBuf,
    /// Directory of the models (susx.model_dir).
    #[arg(long)]
    pub model_dir: Option<PathBuf>,
    /// ONNX Runtime's library (susx.onnxruntime_library).
    #[arg(long)]
    pub onnxruntime: Option<PathBuf>,
    /// Execution provider (susx.execution_provider).
    #[arg(long, default_value = "auto")]
    pub provider: ExecutionProvider,
    /// A GPU that cannot be used is an error (susx.require_gpu).
    #[arg(long)]
    pub require_gpu: bool,
    /// Which GPU (susx.gpu_device).
    #[arg(long, default_value_t = 0)]
    pub gpu_device: i32,
    /// Megabytes of GPU memory for the tensors of one graph; 0 is no limit (susx.gpu_memory_limit).
    #[arg(long, default_value_t = 0)]
    pub gpu_memory_limit: usize,
    /// Largest image file in bytes (susx.max_image_bytes).
    #[arg(long)]
    pub max_image_bytes: usize,
    /// Most pixels of a decoded image (susx.max_image_pixels).
    #[arg(long)]
    pub max_image_pixels: u64,
    /// Longest text in bytes (susx.max_text_bytes).
    #[arg(long, default_value_t = crate::limits::DEFAULT_TEXT_BYTES)]
    pub max_text_bytes: usize,
    /// Most inputs of one run of a model (susx.batch_size).
    #[arg(long)]
    pub batch_size: usize,
    /// Milliseconds that an input waits for others to share its run (susx.batch_delay).
    #[arg(long, default_value_t = 2)]
    pub batch_delay: u64,
    /// Megabytes of requests that wait before senders wait (susx.queue_memory).
    #[arg(long)]
    pub queue_megabytes: usize,
    /// Threads that decode and that compute; 0 is one per core (susx.threads).
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Images that a generator works on together (susx.generator_batch_size).
    #[arg(long, default_value_t = 1)]
    pub generator_batch_size: usize,
    /// Seconds after which a model that nobody uses is unloaded; 0 is never (susx.model_idle_timeout).
    #[arg(long, default_value_t = 0)]
    pub model_idle_timeout: u64,
    /// Milliseconds that a model may take to load; 0 is no limit (susx.load_timeout).
    #[arg(long, default_value_t = 600_000)]
    pub load_timeout: u64,
    /// How often the supervisor has started the process again, for susx.stat_server.
    #[arg(long, default_value_t = 0)]
    pub restarts: u32,
}

impl Settings {
    pub fn batch_delay(&self) -> Duration {
        Duration::from_millis(self.batch_delay)
    }

    /// Zero: none.
    pub fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.load_timeout)
    }

    /// Zero: never.
    pub fn model_idle_timeout(&self) -> Duration {
        Duration::from_secs(self.model_idle_timeout)
    }
}
