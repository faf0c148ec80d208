//! Stands in for the crate `susx-diffusion` in a server that is built without its feature `diffusion`.
//!
//! It declares the items that the server uses of that crate. No generator can be read or loaded:
//! [`GeneratorConfig::read`] always fails, and [`Generator`] and [`GeneratorConfig`] have no values.
#![expect(dead_code, reason = "declares the items of susx-diffusion, used or not")]

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;

use susx_core::onnx::{OnnxError, OnnxRuntime, PartialFallback, SessionOptions, WrapsOnnxError};

#[derive(Clone, Debug, thiserror::Error)]
#[error("this susx-server was built without image generation")]
pub enum GenerateError {
    Unavailable,
    Cancelled,
    Setting { name: &'static str },
}

impl WrapsOnnxError for GenerateError {
    fn as_onnx(&self) -> Option<&OnnxError> {
        None
    }
}

pub type Result<T, E = GenerateError> = std::result::Result<T, E>;

pub type RgbImage = Infallible;

#[derive(Clone, Debug)]
pub struct ImageInput {
    pub prompt: String,
    pub negative_prompt: String,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub steps: usize,
    pub guidance_scale: f32,
    pub height: Option<u32>,
    pub width: Option<u32>,
}

pub struct Progress {
    pub done: usize,
    pub total: usize,
}

pub struct GeneratorConfig {
    pub name: String,
    never: Infallible,
}

impl GeneratorConfig {
    pub fn read(_: &Path, _: &str) -> Result<GeneratorConfig> {
        Err(GenerateError::Unavailable)
    }

    pub fn image_size(&self) -> (u32, u32) {
        match self.never {}
    }

    pub fn bytes(&self) -> Result<u64> {
        match self.never {}
    }
}

pub struct Generator(Infallible);

impl Generator {
    pub fn load(_: &OnnxRuntime, config: GeneratorConfig, _: &SessionOptions) -> Result<Generator> {
        match config.never {}
    }

    pub fn config(&self) -> &GeneratorConfig {
        match self.0 {}
    }

    pub fn name(&self) -> &str {
        match self.0 {}
    }

    pub fn sha256(&self) -> [u8; 32] {
        match self.0 {}
    }

    pub fn bytes(&self) -> u64 {
        match self.0 {}
    }

    pub fn provider(&self) -> &'static str {
        match self.0 {}
    }

    pub fn fallback_reason(&self) -> Option<&str> {
        match self.0 {}
    }

    pub fn partial_fallback(&self) -> Option<&PartialFallback> {
        match self.0 {}
    }

    pub fn generate(
        &self,
        _: &[ImageInput],
        _: &Settings,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Result<RgbImage>>> {
        match self.0 {}
    }
}

pub fn png(image: &RgbImage) -> Result<Vec<u8>> {
    match *image {}
}
