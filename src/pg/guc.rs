//! Every setting: its unit, its default and who may change it.
//!
//! What names a path, a library, a device or a limit belongs to the administrator and is read again
//! when the configuration is reloaded; the inference process is restarted where that changed anything.

use std::ffi::CString;
use std::path::PathBuf;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use susx_server::limits;

/// Where models run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum ExecutionProvider {
    #[name = c"auto"]
    Auto,
    #[name = c"cpu"]
    Cpu,
    #[name = c"cuda"]
    Cuda,
    #[name = c"tensorrt"]
    TensorRt,
    #[name = c"openvino"]
    OpenVino,
}

type Text = GucSetting<Option<CString>>;

static MODEL: Text = Text::new(None);
static MODEL_DIR: Text = Text::new(None);
static ONNXRUNTIME_LIBRARY: Text = Text::new(None);
static SERVER_PROGRAM: Text = Text::new(None);
static EXECUTION_PROVIDER: GucSetting<ExecutionProvider> =
    GucSetting::<ExecutionProvider>::new(ExecutionProvider::Auto);
static REQUIRE_GPU: GucSetting<bool> = GucSetting::<bool>::new(false);
static GPU_DEVICE: GucSetting<i32> = GucSetting::<i32>::new(0);
static GPU_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
// A ViT-B/32 on a CPU gains little beyond this, and a GPU is fed by several sessions.
static BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(32);
// Milliseconds.
static BATCH_DELAY: GucSetting<i32> = GucSetting::<i32>::new(2);
// Stable Diffusion needs a gigabyte or so for each image, and a CPU gains nothing by more of them.
static GENERATOR_BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1);
// Seconds.
static MODEL_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static QUEUE_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(256);
// A camera's largest JPEG has some 50 MB.
static MAX_IMAGE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(64 << 20);
// 100 megapixels are 300 MB decoded.
static MAX_IMAGE_PIXELS: GucSetting<i32> = GucSetting::<i32>::new(100_000_000);
static MAX_TEXT_BYTES: GucSetting<i32> = GucSetting::<i32>::new(limits::DEFAULT_TEXT_BYTES as i32);
// Long enough for the largest models on the slowest disks.
static LOAD_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(600_000);
static STARTUP_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static PROGRESS_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(5_000);
// Longer than a machine that is short of memory stands still.
static HANG_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60_000);
// Ten classifiers of 10,000 support images with 512 dimensions.
static CLASSIFIER_CACHE: GucSetting<i32> = GucSetting::<i32>::new(256);

/// Defines the settings; PostgreSQL refuses other names that begin with `susx.` from then on.
pub fn define() {
    let plain = GucFlags::default();
    GucRegistry::define_string_guc(
        c"susx.model",
        c"Model to use where a call names none.",
        c"A directory below susx.model_dir. Unset: the only model that is there.",
        &MODEL,
        GucContext::Userset,
        plain,
    );
    GucRegistry::define_string_guc(
        c"susx.model_dir",
        c"Directory with one directory per model.",
        c"Each in the Hugging Face ONNX layout of CLIP or of a Stable Diffusion.",
        &MODEL_DIR,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_string_guc(
        c"susx.onnxruntime_library",
        c"Path of ONNX Runtime's library, version 1.24 or newer.",
        c"Unset: libonnxruntime.so beside the extension's library, else where the dynamic loader finds it.",
        &ONNXRUNTIME_LIBRARY,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_string_guc(
        c"susx.server_program",
        c"Path of the program susx-server.",
        c"Unset: beside PostgreSQL's own programs.",
        &SERVER_PROGRAM,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_enum_guc(
        c"susx.execution_provider",
        c"Where models run: auto, cpu, cuda, tensorrt or openvino.",
        c"auto takes a GPU where ONNX Runtime can use one; susx.models() shows what really runs.",
        &EXECUTION_PROVIDER,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_bool_guc(
        c"susx.require_gpu",
        c"A GPU that cannot be used is an error, not a run on the CPU.",
        c"",
        &REQUIRE_GPU,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"susx.gpu_device",
        c"Number of the GPU to use.",
        c"",
        &GPU_DEVICE,
        0,
        1023,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"susx.gpu_memory_limit",
        c"Most GPU memory for the tensors of one encoder of a model.",
        c"0 is no limit.",
        &GPU_MEMORY_LIMIT,
        0,
        1 << 20,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"susx.threads",
        c"Threads of the inference process for decoding and for computing.",
        c"0 is one per core.",
        &THREADS,
        0,
        1024,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"susx.batch_size",
        c"Most images or texts in one run of a model.",
        c"Requests of all sessions share batches.",
        &BATCH_SIZE,
        1,
        4096,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"susx.batch_delay",
        c"How long an image or text waits for those of other sessions, to be run together with them.",
        c"Only sessions that had an answer this short a time ago are waited for. 0 never waits.",
        &BATCH_DELAY,
        0,
        1000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"susx.generator_batch_size",
        c"Most images that a generator works on together.",
        c"More of them use a GPU better, and take more of its memory.",
        &GENERATOR_BATCH_SIZE,
        1,
        64,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"susx.model_idle_timeout",
        c"How long a model stays in memory when nobody uses it; it is loaded again on demand.",
        c"0 keeps every model.",
        &MODEL_IDLE_TIMEOUT,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"susx.queue_memory",
        c"Memory for requests that wait in the inference process; beyond it, sessions wait to send.",
        c"",
        &QUEUE_MEMORY,
        1,
        1 << 20,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"susx.max_image_bytes",
        c"Largest image file; a larger one is an error.",
        c"",
        &MAX_IMAGE_BYTES,
        1,
        1 << 30,
        GucContext::Sighup,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"susx.max_image_pixels",
        c"Most pixels of an image, checked before it is decoded; a larger one is an error.",
        c"",
        &MAX_IMAGE_PIXELS,
        1,
        i32::MAX,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"susx.max_text_bytes",
        c"Longest text or prompt; a longer one is an error.",
        c"A model sees only the beginning of a long text.",
        &MAX_TEXT_BYTES,
        1,
        1 << 30,
        GucContext::Sighup,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"susx.load_timeout",
        c"How long a model may take to load, or to run one batch, before it is given up.",
        c"The inference process is then started anew, and leaves the model alone until its files change or the \
          configuration is reloaded. 0 lets it take any time.",
        &LOAD_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"susx.startup_timeout",
        c"How long a session waits for the inference process to start.",
        c"",
        &STARTUP_TIMEOUT,
        1,
        3_600_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"susx.hang_timeout",
        c"How long the inference process may not answer before it is killed and started again.",
        c"0 lets it hang. Loading a model and computing do not keep it from answering.",
        &HANG_TIMEOUT,
        0,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"susx.classifier_cache",
        c"Memory that one session keeps fitted classifiers in.",
        c"The classifier in use is kept whatever its size.",
        &CLASSIFIER_CACHE,
        1,
        1 << 20,
        GucContext::Userset,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"susx.progress_interval",
        c"How often a long call says by NOTICE how far it has come.",
        c"0 turns these notices off; susx.stat_progress shows it either way.",
        &PROGRESS_INTERVAL,
        0,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    // SAFETY: a C string that lives for ever; called once, while the library is loaded.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"susx".as_ptr()) };
}

fn text(setting: &Text) -> Option<String> {
    let value = setting.get()?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// `susx.model`; an empty string is none.
pub fn model() -> Option<String> {
    text(&MODEL)
}

pub fn model_dir() -> Option<PathBuf> {
    text(&MODEL_DIR).map(PathBuf::from)
}

pub fn onnxruntime_library() -> Option<PathBuf> {
    text(&ONNXRUNTIME_LIBRARY).map(PathBuf::from)
}

pub fn server_program() -> Option<PathBuf> {
    text(&SERVER_PROGRAM).map(PathBuf::from)
}

/// The name that `susx-server` knows it by.
pub fn execution_provider() -> &'static str {
    match EXECUTION_PROVIDER.get() {
        ExecutionProvider::Auto => "auto",
        ExecutionProvider::Cpu => "cpu",
        ExecutionProvider::Cuda => "cuda",
        ExecutionProvider::TensorRt => "tensorrt",
        ExecutionProvider::OpenVino => "openvino",
    }
}

pub fn require_gpu() -> bool {
    REQUIRE_GPU.get()
}

pub fn gpu_device() -> i32 {
    GPU_DEVICE.get()
}

/// In megabytes; 0 is no limit.
pub fn gpu_memory_limit() -> i32 {
    GPU_MEMORY_LIMIT.get()
}

pub fn threads() -> i32 {
    THREADS.get()
}

pub fn batch_size() -> i32 {
    BATCH_SIZE.get()
}

/// In milliseconds.
pub fn batch_delay() -> i32 {
    BATCH_DELAY.get()
}

pub fn generator_batch_size() -> usize {
    GENERATOR_BATCH_SIZE.get().unsigned_abs() as usize
}

/// In seconds; 0 is never.
pub fn model_idle_timeout() -> i32 {
    MODEL_IDLE_TIMEOUT.get()
}

/// In bytes.
pub fn queue_memory() -> u64 {
    megabytes(&QUEUE_MEMORY)
}

pub fn max_image_bytes() -> i32 {
    MAX_IMAGE_BYTES.get()
}

pub fn max_image_pixels() -> i32 {
    MAX_IMAGE_PIXELS.get()
}

pub fn max_text_bytes() -> usize {
    MAX_TEXT_BYTES.get().unsigned_abs() as usize
}

/// In milliseconds; 0 is none.
pub fn load_timeout() -> i32 {
    LOAD_TIMEOUT.get()
}

pub fn startup_timeout() -> std::time::Duration {
    std::time::Duration::from_millis(u64::from(STARTUP_TIMEOUT.get().unsigned_abs()))
}

/// `None`: no notices.
pub fn progress_interval() -> Option<std::time::Duration> {
    let milliseconds = u64::from(PROGRESS_INTERVAL.get().unsigned_abs());
    (milliseconds > 0).then(|| std::time::Duration::from_millis(milliseconds))
}

/// Zero: none.
pub fn hang_timeout() -> std::time::Duration {
    std::time::Duration::from_millis(u64::from(HANG_TIMEOUT.get().unsigned_abs()))
}

/// In bytes.
pub fn classifier_cache() -> u64 {
    megabytes(&CLASSIFIER_CACHE)
}

fn megabytes(setting: &GucSetting<i32>) -> u64 {
    u64::from(setting.get().unsigned_abs()) << 20
}
