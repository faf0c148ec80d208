//! The options that a model is loaded with, and the session builder that follows from them.

use std::path::PathBuf;

use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use super::error::{OnnxError, Result, onnx_message};
use super::profile::ProfileFolder;
use super::provider::{Candidate, ExecutionProvider};
use super::runtime::OnnxRuntime;

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Where to run.
    pub provider: ExecutionProvider,
    /// Number of the GPU, from 0, as CUDA or OpenVINO counts.
    pub device_id: i32,
    /// If the GPU cannot be used, fail instead of falling back to the CPU.
    pub require_gpu: bool,
    /// Threads of the CPU provider within one operation, per graph; 0 leaves it to ONNX Runtime
    /// (one per physical core).
    pub intra_threads: usize,
    /// Limit of the GPU memory for the tensors of one graph, in bytes; `None` for no limit.
    /// TensorRT can limit only the working memory of its engines, which gets the same value;
    /// OpenVINO has no such limit.
    pub gpu_mem_limit: Option<usize>,
    /// The most images or texts that will be run together, for the providers that prepare themselves
    /// for every batch size; 0 if unknown.
    pub batch_size: usize,
    /// Folder for the profiles of the probe runs, which are removed at once; `None` for the system's folder for
    /// temporary files. No other account may write to it.
    pub scratch: Option<PathBuf>,
}

impl SessionOptions {
    /// The candidates to try, in this order.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = match self.provider {
            ExecutionProvider::Auto | ExecutionProvider::Cuda => vec![Candidate::Cuda, Candidate::Cpu],
            ExecutionProvider::TensorRt => vec![Candidate::TensorRt, Candidate::Cuda, Candidate::Cpu],
            // Never both: without a required GPU, OpenVINO on the CPU is what was asked for, not a fallback.
            ExecutionProvider::OpenVino if self.require_gpu => vec![Candidate::OpenVinoGpu],
            ExecutionProvider::OpenVino => vec![Candidate::OpenVinoCpu, Candidate::Cpu],
            ExecutionProvider::Cpu => vec![Candidate::Cpu],
        };
        if self.require_gpu {
            candidates.retain(|&candidate| candidate != Candidate::Cpu);
        }
        candidates
    }

    /// A folder for the profiles of the probe runs of `model`. `None` for the CPU, which needs no proof: everything
    /// that no other provider accepts runs there.
    pub fn profile_folder(&self, candidate: Candidate, model: &str) -> Result<Option<ProfileFolder>> {
        if candidate == Candidate::Cpu {
            return Ok(None);
        }
        let failed = |reason| OnnxError::Provider { provider: candidate.name(), reason };
        ProfileFolder::new(self.profile_path(model)).map(Some).map_err(failed)
    }

    pub(crate) fn profile_path(&self, model: &str) -> PathBuf {
        match &self.scratch {
            Some(folder) => folder.join(format!("profile-{model}")),
            None => std::env::temp_dir().join(format!("susx-profile-{}-{model}", std::process::id())),
        }
    }

    /// A session builder with the provider of `candidate`. If a `profile` is given, the session writes a profile of that
    /// name to that folder.
    ///
    /// Fails with [`OnnxError::Provider`] if ONNX Runtime cannot register the provider.
    pub fn builder(
        &self,
        runtime: &OnnxRuntime,
        candidate: Candidate,
        profile: Option<(&ProfileFolder, &str)>,
    ) -> Result<SessionBuilder> {
        let configure = |builder: SessionBuilder| {
            builder
                // By default `ort` selects the most efficient device; only our candidate may be selected.
                .with_auto_device(AutoDevicePolicy::PreferCPU)?
                .with_intra_threads(self.intra_threads)?
                // Threads that spin between requests would take CPU time from the database.
                .with_intra_op_spinning(false)?
                // Batch sizes vary, and ONNX Runtime would keep a memory plan for each of them for ever.
                .with_memory_pattern(false)?
                .with_execution_providers(self.dispatches(candidate))
        };
        let builder = Session::builder(runtime.environment())
            .map_err(|error| onnx_message(&error))
            .and_then(|builder| configure(builder).map_err(|error| onnx_message(&error)))
            .and_then(|builder| match profile {
                Some((folder, name)) => folder.attach(builder, name),
                None => Ok(builder),
            });
        builder.map_err(|reason| OnnxError::Provider { provider: candidate.name(), reason })
    }

    fn dispatches(&self, candidate: Candidate) -> Vec<ExecutionProviderDispatch> {
        let mut cuda = ep::CUDA::default()
            .with_device_id(self.device_id)
            // The default benchmarks all convolution algorithms for each new batch size.
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
