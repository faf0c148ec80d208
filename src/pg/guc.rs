//! The settings, and how they reach the inference process.
//!
//! Only the administrator may set paths, libraries, devices and limits, in the configuration files. They take effect on
//! a reload. If that changes the command line of the inference process, the supervisor restarts it.

use std::ffi::{CStr, CString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

mod table;

use table::*;

/// ONNX Runtime's execution provider for models.
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

/// Who may change a setting.
#[derive(Clone, Copy)]
enum ChangedBy {
    /// The administrator, in the configuration files.
    Administrator,
    /// A superuser, in a session.
    Superuser,
    /// Everybody, in a session.
    Everybody,
}

impl From<ChangedBy> for GucContext {
    fn from(by: ChangedBy) -> GucContext {
        match by {
            ChangedBy::Administrator => GucContext::Sighup,
            ChangedBy::Superuser => GucContext::Suset,
            ChangedBy::Everybody => GucContext::Userset,
        }
    }
}

/// A setting whose value is a text.
struct TextSetting {
    value: GucSetting<Option<CString>>,
    name: &'static CStr,
    summary: &'static CStr,
    details: &'static CStr,
    changed_by: ChangedBy,
}

impl TextSetting {
    /// The value; `None` if it is unset or empty.
    fn get(&self) -> Option<String> {
        let value = self.value.get()?.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }
}

/// A setting whose value is an integer.
struct IntSetting {
    value: GucSetting<i32>,
    name: &'static CStr,
    summary: &'static CStr,
    details: &'static CStr,
    range: RangeInclusive<i32>,
    unit: GucFlags,
    changed_by: ChangedBy,
    /// The option of `susx-server` for the value; `None` if the server does not use the setting.
    server_option: Option<&'static str>,
}

impl IntSetting {
    /// The value, which is never negative.
    fn get(&self) -> u32 {
        self.value.get().unsigned_abs()
    }

    fn megabytes(&self) -> u64 {
        u64::from(self.get()) << 20
    }

    fn milliseconds(&self) -> Duration {
        Duration::from_millis(self.get().into())
    }
}

const NO_UNIT: GucFlags = GucFlags::empty();

static EXECUTION_PROVIDER: GucSetting<ExecutionProvider> =
    GucSetting::<ExecutionProvider>::new(ExecutionProvider::Auto);
static REQUIRE_GPU: GucSetting<bool> = GucSetting::<bool>::new(false);
static SCALED_DECODING: GucSetting<bool> = GucSetting::<bool>::new(true);
static SHARED_FITS: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Defines the settings. Afterwards PostgreSQL refuses other names that begin with `susx.`.
pub fn define() {
    for setting in TEXTS {
        let TextSetting { value, name, summary, details, changed_by } = setting;
        GucRegistry::define_string_guc(name, summary, details, value, (*changed_by).into(), NO_UNIT);
    }
    for setting in INTEGERS {
        let IntSetting { value, name, summary, details, range, unit, changed_by, .. } = setting;
        let (least, most) = (*range.start(), *range.end());
        GucRegistry::define_int_guc(name, summary, details, value, least, most, (*changed_by).into(), *unit);
    }
    GucRegistry::define_enum_guc(
        c"susx.execution_provider",
        c"Where models run: auto, cpu, cuda, tensorrt or openvino.",
        c"auto uses a GPU if ONNX Runtime can; susx.models() shows the provider in use.",
        &EXECUTION_PROVIDER,
        GucContext::Sighup,
        NO_UNIT,
    );
    GucRegistry::define_bool_guc(
        c"susx.require_gpu",
        c"Whether to raise an error, instead of falling back to the CPU, if no GPU can be used.",
        c"",
        &REQUIRE_GPU,
        GucContext::Sighup,
        NO_UNIT,
    );
    GucRegistry::define_bool_guc(
        c"susx.scaled_decoding",
        c"Whether a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, if that is at least twice what is needed.",
        c"",
        &SCALED_DECODING,
        GucContext::Sighup,
        NO_UNIT,
    );
    GucRegistry::define_bool_guc(
        c"susx.shared_fits",
        c"Whether sessions share the fits of large classifiers, in files that are removed when PostgreSQL starts.",
        c"",
        &SHARED_FITS,
        GucContext::Suset,
        NO_UNIT,
    );
    // SAFETY: a C string that lives forever; called once, while the library is loaded.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"susx".as_ptr()) };
}

/// The options of `susx-server` for all settings that it uses.
pub fn server_options() -> Vec<String> {
    let integers = INTEGERS.iter().filter_map(|setting| {
        let option = setting.server_option?;
        Some([option.to_owned(), setting.get().to_string()])
    });
    let mut options: Vec<String> = integers.flatten().collect();
    options.extend(["--provider", execution_provider()].map(str::to_owned));
    options.extend(REQUIRE_GPU.get().then(|| "--require-gpu".to_owned()));
    options.extend((!SCALED_DECODING.get()).then(|| "--full-decoding".to_owned()));
    options
}

/// `susx.model`; `None` if it is unset or empty.
pub fn model() -> Option<String> {
    MODEL.get()
}

/// `susx.model_dir`.
pub fn model_dir() -> Option<PathBuf> {
    MODEL_DIR.get().map(PathBuf::from)
}

/// `susx.onnxruntime_library`.
pub fn onnxruntime_library() -> Option<PathBuf> {
    ONNXRUNTIME_LIBRARY.get().map(PathBuf::from)
}

/// `susx.server_program`.
pub fn server_program() -> Option<PathBuf> {
    SERVER_PROGRAM.get().map(PathBuf::from)
}

/// `susx.require_gpu`.
pub fn requires_gpu() -> bool {
    REQUIRE_GPU.get()
}

/// `susx.execution_provider`, as `susx-server` names it.
pub fn execution_provider() -> &'static str {
    match EXECUTION_PROVIDER.get() {
        ExecutionProvider::Auto => "auto",
        ExecutionProvider::Cpu => "cpu",
        ExecutionProvider::Cuda => "cuda",
        ExecutionProvider::TensorRt => "tensorrt",
        ExecutionProvider::OpenVino => "openvino",
    }
}

/// `susx.generator_batch_size`.
pub fn generator_batch_size() -> usize {
    GENERATOR_BATCH_SIZE.get() as usize
}

/// Whether the inference process unloads models: `susx.model_idle_timeout` or `susx.model_memory` is set.
pub fn unloads_models() -> bool {
    MODEL_IDLE_TIMEOUT.get() > 0 || MODEL_MEMORY.get() > 0
}

/// `susx.max_image_bytes`.
pub fn max_image_bytes() -> usize {
    MAX_IMAGE_BYTES.get() as usize
}

/// `susx.max_text_bytes`.
pub fn max_text_bytes() -> usize {
    MAX_TEXT_BYTES.get() as usize
}

/// `susx.startup_timeout`.
pub fn startup_timeout() -> Duration {
    STARTUP_TIMEOUT.milliseconds()
}

/// `susx.progress_interval`; `None` for no notices.
pub fn progress_interval() -> Option<Duration> {
    Some(PROGRESS_INTERVAL.milliseconds()).filter(|interval| !interval.is_zero())
}

/// `susx.hang_timeout`; zero for no limit.
pub fn hang_timeout() -> Duration {
    HANG_TIMEOUT.milliseconds()
}

/// `susx.shared_fits`.
pub fn shared_fits() -> bool {
    SHARED_FITS.get()
}

/// `susx.classifier_cache`, in bytes.
pub fn classifier_cache() -> u64 {
    CLASSIFIER_CACHE.megabytes()
}
