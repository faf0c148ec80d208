//! Where a model runs: ONNX Runtime's execution providers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ort::ep::{self, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use super::error::onnx_message;
use super::runtime::OnnxRuntime;

/// The wish of the administrator; [`ClipModel::provider`](super::ClipModel::provider) tells what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutionProvider {
    /// CUDA where it works, else the CPU. Not TensorRT: it compiles an engine for minutes per model
    /// and input shape, which nobody should get without asking.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU through CUDA, else the CPU.
    Cuda,
    /// An NVIDIA GPU through TensorRT (CUDA for what TensorRT cannot run), else CUDA, else the CPU.
    TensorRt,
    /// An Intel CPU through OpenVINO, else ONNX Runtime's own code for the CPU; where a GPU is required,
    /// an Intel GPU through OpenVINO.
    OpenVino,
}

impl fmt::Display for ExecutionProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExecutionProvider::Auto => "auto",
            ExecutionProvider::Cpu => "cpu",
            ExecutionProvider::Cuda => "cuda",
            ExecutionProvider::TensorRt => "tensorrt",
            ExecutionProvider::OpenVino => "openvino",
        })
    }
}

impl FromStr for ExecutionProvider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(ExecutionProvider::Auto),
            "cpu" => Ok(ExecutionProvider::Cpu),
            "cuda" => Ok(ExecutionProvider::Cuda),
            "tensorrt" => Ok(ExecutionProvider::TensorRt),
            "openvino" => Ok(ExecutionProvider::OpenVino),
            _ => Err(format!(
                "unknown execution provider {text:?}: expected auto, cpu, cuda, tensorrt or openvino"
            )),
        }
    }
}

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Where to run.
    pub provider: ExecutionProvider,
    /// Which GPU, by the numbering of CUDA or OpenVINO from 0.
    pub device_id: i32,
    /// A GPU that cannot be used is an error, not a run on the CPU.
    pub require_gpu: bool,
    /// Threads of the CPU provider within one operation, per graph; 0 leaves it to ONNX Runtime
    /// (one per physical core).
    pub intra_threads: usize,
    /// The most GPU memory that the tensors of one graph may take, in bytes; `None` for no limit.
    /// TensorRT has a limit for the working memory of its engines alone, which gets the same value;
    /// OpenVINO has none.
    pub gpu_mem_limit: Option<usize>,
    /// The most images or texts that will be run together, for the providers that prepare themselves
    /// for every batch size; 0 if that is not known.
    pub batch_size: usize,
    /// A folder of our own, in which the profiles of the probe runs lie for a moment; `None` for the
    /// system's folder for temporary files.
    pub scratch: Option<PathBuf>,
}

/// One attempt to load a model, and the name it is reported under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    TensorRt,
    Cuda,
    OpenVinoCpu,
    OpenVinoGpu,
    Cpu,
    /// A provider that every build of ONNX Runtime has, and that runs no operation of a CLIP.
    #[cfg(test)]
    Azure,
}

impl Candidate {
    /// ONNX Runtime's name of the provider.
    pub fn name(self) -> &'static str {
        match self {
            Candidate::TensorRt => ep::TensorRT::NAME,
            Candidate::Cuda => ep::CUDA::NAME,
            Candidate::OpenVinoCpu | Candidate::OpenVinoGpu => ep::OpenVINO::NAME,
            Candidate::Cpu => ep::CPU::NAME,
            #[cfg(test)]
            Candidate::Azure => ep::Azure::NAME,
        }
    }
}

impl SessionOptions {
    /// What is tried, in this order, until one works.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = match self.provider {
            ExecutionProvider::Auto | ExecutionProvider::Cuda => vec![Candidate::Cuda, Candidate::Cpu],
            ExecutionProvider::TensorRt => vec![Candidate::TensorRt, Candidate::Cuda, Candidate::Cpu],
            // The two are not in one list: who asks for OpenVINO without a GPU misses none.
            ExecutionProvider::OpenVino if self.require_gpu => vec![Candidate::OpenVinoGpu],
            ExecutionProvider::OpenVino => vec![Candidate::OpenVinoCpu, Candidate::Cpu],
            ExecutionProvider::Cpu => vec![Candidate::Cpu],
        };
        if self.require_gpu {
            candidates.retain(|&candidate| candidate != Candidate::Cpu);
        }
        candidates
    }

    /// Where the profiles of a model's probe run lie for a moment.
    pub(crate) fn profile_folder(&self, model: &str) -> PathBuf {
        match &self.scratch {
            Some(folder) => folder.join(format!("profile-{model}")),
            None => std::env::temp_dir().join(format!("susx-profile-{}-{model}", std::process::id())),
        }
    }

    /// A session builder whose provider is registered, or ONNX Runtime's reason why that failed.
    pub(crate) fn builder(
        &self,
        runtime: &OnnxRuntime,
        candidate: Candidate,
    ) -> Result<SessionBuilder, String> {
        let builder = Session::builder(runtime.environment()).map_err(|error| onnx_message(&error))?;
        let configure = |builder: SessionBuilder| {
            builder
                // `ort` asks for the most efficient device by itself: nothing but our candidate may be chosen.
                .with_auto_device(AutoDevicePolicy::PreferCPU)?
                .with_intra_threads(self.intra_threads)?
                // Threads that spin between two requests would take the CPU from the database.
                .with_intra_op_spinning(false)?
                // Batch sizes vary; a memory plan for each of them would be kept for ever.
                .with_memory_pattern(false)?
                .with_execution_providers(self.dispatches(candidate))
        };
        configure(builder).map_err(|error| onnx_message(&error))
    }

    fn dispatches(&self, candidate: Candidate) -> Vec<ExecutionProviderDispatch> {
        let mut cuda = ep::CUDA::default()
            .with_device_id(self.device_id)
            // The default measures every convolution algorithm anew for each batch size.
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
        if let Some(limit) = self.gpu_mem_limit {
            cuda = cuda.with_memory_limit(limit);
        }
        let mut tensorrt = ep::TensorRT::default().with_device_id(self.device_id);
        if let Some(limit) = self.gpu_mem_limit {
            tensorrt = tensorrt.with_max_workspace_size(limit);
        }
        let mut openvino = ep::OpenVINO::default();
        if self.intra_threads > 0 {
            openvino = openvino.with_num_threads(self.intra_threads);
        }
        let cpu = ep::CPU::default().with_arena_allocator(true).build();
        match candidate {
            Candidate::TensorRt => vec![tensorrt.build().error_on_failure(), cuda.build().error_on_failure()],
            Candidate::Cuda => vec![cuda.build().error_on_failure()],
            Candidate::OpenVinoCpu => vec![openvino.with_device_type("CPU").build().error_on_failure()],
            Candidate::OpenVinoGpu => {
                let device = format!("GPU.{}", self.device_id);
                vec![openvino.with_device_type(device).build().error_on_failure()]
            }
            Candidate::Cpu => vec![cpu.error_on_failure()],
            #[cfg(test)]
            Candidate::Azure => vec![ep::Azure::default().build().error_on_failure()],
        }
    }
}
