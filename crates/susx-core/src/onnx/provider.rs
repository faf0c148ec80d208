//! Execution providers: the setting's names for them, and ONNX Runtime's.

use std::fmt;
use std::str::FromStr;

use ort::ep::{self, ExecutionProvider as _};

/// The execution provider that the administrator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutionProvider {
    /// CUDA where it works, else the CPU. Not TensorRT: it compiles an engine for minutes per model and input shape,
    /// which users should not get unless they ask for it.
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

impl ExecutionProvider {
    /// Every provider, with its name in the setting.
    pub const NAMES: [(ExecutionProvider, &str); 5] = [
        (ExecutionProvider::Auto, "auto"),
        (ExecutionProvider::Cpu, "cpu"),
        (ExecutionProvider::Cuda, "cuda"),
        (ExecutionProvider::TensorRt, "tensorrt"),
        (ExecutionProvider::OpenVino, "openvino"),
    ];
}

/// The name in the setting, such as `tensorrt`.
impl fmt::Display for ExecutionProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(provider, _)| provider == self);
        names.map(|(_, name)| *name).try_for_each(|name| f.write_str(name))
    }
}

impl FromStr for ExecutionProvider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let provider = Self::NAMES.iter().find(|(_, name)| *name == text).map(|(provider, _)| *provider);
        provider.ok_or_else(|| {
            let [first @ .., last] = Self::NAMES.map(|(_, name)| name);
            format!("unknown execution provider {text:?}: expected {} or {last}", first.join(", "))
        })
    }
}

/// A provider and a kind of device, with which a model can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// TensorRT, with CUDA for what TensorRT cannot run.
    TensorRt,
    /// CUDA.
    Cuda,
    /// OpenVINO on an Intel CPU.
    OpenVinoCpu,
    /// OpenVINO on an Intel GPU.
    OpenVinoGpu,
    /// ONNX Runtime's own code for the CPU.
    Cpu,
    /// For tests: every build of ONNX Runtime has this provider, and it runs no operation of a CLIP.
    #[cfg(test)]
    Azure,
}

impl Candidate {
    /// ONNX Runtime's name of the provider, such as `CUDAExecutionProvider`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for (provider, name) in ExecutionProvider::NAMES {
            assert_eq!((provider.to_string(), name.parse()), (name.to_owned(), Ok(provider)));
        }
        assert_eq!(
            "gpu".parse::<ExecutionProvider>(),
            Err("unknown execution provider \"gpu\": expected auto, cpu, cuda, tensorrt or openvino".into())
        );
    }
}
