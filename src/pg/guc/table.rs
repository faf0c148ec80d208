//! The settings whose values are texts and integers.

use std::ffi::CString;

use pgrx::{GucFlags, GucSetting};
use susx_server::limits;

use super::{ChangedBy, IntSetting, NO_UNIT, TextSetting};

/// Declares settings and the list of them for [`define`](super::define).
macro_rules! settings {
    ($list:ident: $type:ident of $content_type:ty; $($(#[$doc:meta])* $setting:ident { value: $value:expr, $($field:ident: $content:expr),+ $(,)? })+) => {
        $($(#[$doc])* pub(super) static $setting: $type = $type { value: GucSetting::<$content_type>::new($value), $($field: $content),+ };)+
        pub(super) static $list: &[&$type] = &[$(&$setting),+];
    };
}

settings! { TEXTS: TextSetting of Option<CString>;
    MODEL {
        value: None,
        name: c"susx.model",
        summary: c"Model for calls that do not name one.",
        details: c"A directory in susx.model_dir. Unset: the only model there.",
        changed_by: ChangedBy::Everybody,
    }
    MODEL_DIR {
        value: None,
        name: c"susx.model_dir",
        summary: c"Directory with one directory per model.",
        details: c"Each has the Hugging Face ONNX layout of CLIP or Stable Diffusion.",
        changed_by: ChangedBy::Administrator,
    }
    ONNXRUNTIME_LIBRARY {
        value: None,
        name: c"susx.onnxruntime_library",
        summary: c"Path of the ONNX Runtime library, version 1.24 or newer.",
        details: c"Unset: libonnxruntime.so, or libonnxruntime.so.VERSION, in the directory of the extension's library, else on the dynamic loader's path.",
        changed_by: ChangedBy::Administrator,
    }
    SERVER_PROGRAM {
        value: None,
        name: c"susx.server_program",
        summary: c"Path of the program susx-server.",
        details: c"Unset: in the directory of PostgreSQL's programs.",
        changed_by: ChangedBy::Administrator,
    }
}

settings! { INTEGERS: IntSetting of i32;
    GPU_DEVICE {
        value: 0,
        name: c"susx.gpu_device",
        summary: c"Number of the GPU to use.",
        details: c"",
        range: 0..=1023,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--gpu-device"),
    }
    GPU_MEMORY_LIMIT {
        value: 0,
        name: c"susx.gpu_memory_limit",
        summary: c"Maximum GPU memory for the tensors of one encoder of a model.",
        details: c"0 means no limit.",
        range: 0..=1 << 20,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--gpu-memory-limit"),
    }
    THREADS {
        value: 0,
        name: c"susx.threads",
        summary: c"Number of threads of the inference process, for decoding and for computing.",
        details: c"0 means one per core.",
        range: 0..=1024,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--threads"),
    }
    // On a CPU, a ViT-B/32 gains little from larger batches. A GPU needs more, but gets it from several sessions.
    BATCH_SIZE {
        value: 32,
        name: c"susx.batch_size",
        summary: c"Maximum number of images or texts in one run of a model.",
        details: c"Requests of different sessions share batches.",
        range: 1..=4096,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--batch-size"),
    }
    BATCH_DELAY {
        value: 2,
        name: c"susx.batch_delay",
        summary: c"How long an image or text waits for inputs of other sessions, to share a batch with them.",
        details: c"It waits only if another session got an answer within this time. 0 turns waiting off.",
        range: 0..=1000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--batch-delay"),
    }
    // Stable Diffusion needs about a gigabyte per image, and a CPU gains nothing from larger batches.
    GENERATOR_BATCH_SIZE {
        value: 1,
        name: c"susx.generator_batch_size",
        summary: c"Maximum number of images that a generator works on at a time.",
        details: c"Larger batches use a GPU better, but take more of its memory.",
        range: 1..=64,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--generator-batch-size"),
    }
    MODEL_IDLE_TIMEOUT {
        value: 0,
        name: c"susx.model_idle_timeout",
        summary: c"How long an unused model stays in memory; it is loaded again on demand.",
        details: c"0 keeps all models in memory.",
        range: 0..=i32::MAX / 1000,
        unit: GucFlags::UNIT_S,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--model-idle-timeout"),
    }
    // No limit: to load a model again takes seconds, and only the administrator knows what else needs the memory.
    MODEL_MEMORY {
        value: 0,
        name: c"susx.model_memory",
        summary: c"Maximum size of the files of all models in memory; idle ones are unloaded before another is loaded.",
        details: c"Models in use take turns. A model larger than this is loaded alone. 0 means no limit.",
        range: 0..=1 << 24,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--model-memory"),
    }
    QUEUE_MEMORY {
        value: 256,
        name: c"susx.queue_memory",
        summary: c"Memory for waiting requests in the inference process; when it is full, sessions wait to send.",
        details: c"",
        range: 1..=1 << 20,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--queue-megabytes"),
    }
    // The largest JPEG files of cameras have about 50 MB.
    MAX_IMAGE_BYTES {
        value: 64 << 20,
        name: c"susx.max_image_bytes",
        summary: c"Maximum size of an image file; a larger one is an error.",
        details: c"",
        range: 1..=1 << 30,
        unit: GucFlags::UNIT_BYTE,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--max-image-bytes"),
    }
    // 100 megapixels take 300 MB when decoded.
    MAX_IMAGE_PIXELS {
        value: 100_000_000,
        name: c"susx.max_image_pixels",
        summary: c"Maximum number of pixels of an image, checked before decoding; a larger one is an error.",
        details: c"",
        range: 1..=i32::MAX,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--max-image-pixels"),
    }
    MAX_TEXT_BYTES {
        value: limits::DEFAULT_TEXT_BYTES as i32,
        name: c"susx.max_text_bytes",
        summary: c"Maximum length of a text or prompt; a longer one is an error.",
        details: c"Models use only the beginning of a long text.",
        range: 1..=1 << 30,
        unit: GucFlags::UNIT_BYTE,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--max-text-bytes"),
    }
    // Long enough for the largest models on the slowest disks.
    LOAD_TIMEOUT {
        value: 600_000,
        name: c"susx.load_timeout",
        summary: c"How long a model may take to load, or to run one batch, before the request fails.",
        details: c"The inference process is then restarted, and does not load the model again until its files change or the \
          configuration is reloaded. 0 means no limit.",
        range: 0..=i32::MAX,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--load-timeout"),
    }
    STARTUP_TIMEOUT {
        value: 10_000,
        name: c"susx.startup_timeout",
        summary: c"How long a session waits for the inference process to start.",
        details: c"",
        range: 1..=3_600_000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Superuser,
        server_option: None,
    }
    // Longer than a machine may stall when it is short of memory.
    HANG_TIMEOUT {
        value: 60_000,
        name: c"susx.hang_timeout",
        summary: c"How long the inference process may be unresponsive before it is killed and restarted.",
        details: c"0 means no limit. The process stays responsive while it loads a model or computes.",
        range: 0..=3_600_000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Administrator,
        server_option: None,
    }
    // Enough for ten classifiers with 10,000 support images of 512 dimensions.
    CLASSIFIER_CACHE {
        value: 256,
        name: c"susx.classifier_cache",
        summary: c"Memory for the fitted classifiers that a session keeps.",
        details: c"The classifier in use is always kept.",
        range: 1..=1 << 20,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Everybody,
        server_option: None,
    }
    PROGRESS_INTERVAL {
        value: 5_000,
        name: c"susx.progress_interval",
        summary: c"How often a long call reports its progress in a NOTICE.",
        details: c"0 turns the notices off; susx.stat_progress shows the progress in any case.",
        range: 0..=3_600_000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Everybody,
        server_option: None,
    }
}
