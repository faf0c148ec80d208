//! The settings whose values are texts and integers.

use std::ffi::CString;

use pgrx::{GucFlags, GucSetting};
use susx_server::limits;

use super::{ChangedBy, IntSetting, NO_UNIT, TextSetting};

/// Declares settings, and the list of them that [`define`](super::define) goes through.
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
        summary: c"Model to use where a call names none.",
        details: c"A directory below susx.model_dir. Unset: the only model that is there.",
        changed_by: ChangedBy::Everybody,
    }
    MODEL_DIR {
        value: None,
        name: c"susx.model_dir",
        summary: c"Directory with one directory per model.",
        details: c"Each in the Hugging Face ONNX layout of CLIP or of a Stable Diffusion.",
        changed_by: ChangedBy::Administrator,
    }
    ONNXRUNTIME_LIBRARY {
        value: None,
        name: c"susx.onnxruntime_library",
        summary: c"Path of ONNX Runtime's library, version 1.24 or newer.",
        details: c"Unset: libonnxruntime.so beside the extension's library, else where the dynamic loader finds it.",
        changed_by: ChangedBy::Administrator,
    }
    SERVER_PROGRAM {
        value: None,
        name: c"susx.server_program",
        summary: c"Path of the program susx-server.",
        details: c"Unset: beside PostgreSQL's own programs.",
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
        summary: c"Most GPU memory for the tensors of one encoder of a model.",
        details: c"0 is no limit.",
        range: 0..=1 << 20,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--gpu-memory-limit"),
    }
    THREADS {
        value: 0,
        name: c"susx.threads",
        summary: c"Threads of the inference process for decoding and for computing.",
        details: c"0 is one per core.",
        range: 0..=1024,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--threads"),
    }
    // A ViT-B/32 on a CPU gains little beyond this, and a GPU is fed by several sessions.
    BATCH_SIZE {
        value: 32,
        name: c"susx.batch_size",
        summary: c"Most images or texts in one run of a model.",
        details: c"Requests of all sessions share batches.",
        range: 1..=4096,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--batch-size"),
    }
    BATCH_DELAY {
        value: 2,
        name: c"susx.batch_delay",
        summary: c"How long an image or text waits for those of other sessions, to be run together with them.",
        details: c"Only sessions that had an answer this short a time ago are waited for. 0 never waits.",
        range: 0..=1000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--batch-delay"),
    }
    // Stable Diffusion needs a gigabyte or so for each image, and a CPU gains nothing by more of them.
    GENERATOR_BATCH_SIZE {
        value: 1,
        name: c"susx.generator_batch_size",
        summary: c"Most images that a generator works on together.",
        details: c"More of them use a GPU better, and take more of its memory.",
        range: 1..=64,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--generator-batch-size"),
    }
    MODEL_IDLE_TIMEOUT {
        value: 0,
        name: c"susx.model_idle_timeout",
        summary: c"How long a model stays in memory when nobody uses it; it is loaded again on demand.",
        details: c"0 keeps every model.",
        range: 0..=i32::MAX / 1000,
        unit: GucFlags::UNIT_S,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--model-idle-timeout"),
    }
    QUEUE_MEMORY {
        value: 256,
        name: c"susx.queue_memory",
        summary: c"Memory for requests that wait in the inference process; beyond it, sessions wait to send.",
        details: c"",
        range: 1..=1 << 20,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--queue-megabytes"),
    }
    // A camera's largest JPEG has some 50 MB.
    MAX_IMAGE_BYTES {
        value: 64 << 20,
        name: c"susx.max_image_bytes",
        summary: c"Largest image file; a larger one is an error.",
        details: c"",
        range: 1..=1 << 30,
        unit: GucFlags::UNIT_BYTE,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--max-image-bytes"),
    }
    // 100 megapixels are 300 MB decoded.
    MAX_IMAGE_PIXELS {
        value: 100_000_000,
        name: c"susx.max_image_pixels",
        summary: c"Most pixels of an image, checked before it is decoded; a larger one is an error.",
        details: c"",
        range: 1..=i32::MAX,
        unit: NO_UNIT,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--max-image-pixels"),
    }
    MAX_TEXT_BYTES {
        value: limits::DEFAULT_TEXT_BYTES as i32,
        name: c"susx.max_text_bytes",
        summary: c"Longest text or prompt; a longer one is an error.",
        details: c"A model sees only the beginning of a long text.",
        range: 1..=1 << 30,
        unit: GucFlags::UNIT_BYTE,
        changed_by: ChangedBy::Administrator,
        server_option: Some("--max-text-bytes"),
    }
    // Long enough for the largest models on the slowest disks.
    LOAD_TIMEOUT {
        value: 600_000,
        name: c"susx.load_timeout",
        summary: c"How long a model may take to load, or to run one batch, before it is given up.",
        details: c"The inference process is then started anew, and leaves the model alone until its files change or the \
          configuration is reloaded. 0 lets it take any time.",
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
    // Longer than a machine that is short of memory stands still.
    HANG_TIMEOUT {
        value: 60_000,
        name: c"susx.hang_timeout",
        summary: c"How long the inference process may not answer before it is killed and started again.",
        details: c"0 lets it hang. Loading a model and computing do not keep it from answering.",
        range: 0..=3_600_000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Administrator,
        server_option: None,
    }
    // Ten classifiers of 10,000 support images with 512 dimensions.
    CLASSIFIER_CACHE {
        value: 256,
        name: c"susx.classifier_cache",
        summary: c"Memory that one session keeps fitted classifiers in.",
        details: c"The classifier in use is kept whatever its size.",
        range: 1..=1 << 20,
        unit: GucFlags::UNIT_MB,
        changed_by: ChangedBy::Everybody,
        server_option: None,
    }
    PROGRESS_INTERVAL {
        value: 5_000,
        name: c"susx.progress_interval",
        summary: c"How often a long call says by NOTICE how far it has come.",
        details: c"0 turns these notices off; susx.stat_progress shows it either way.",
        range: 0..=3_600_000,
        unit: GucFlags::UNIT_MS,
        changed_by: ChangedBy::Everybody,
        server_option: None,
    }
}
