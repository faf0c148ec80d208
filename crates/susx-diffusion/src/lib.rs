//! Image generation for SuS-SD: Stable Diffusion on ONNX Runtime.
//!
//! An image is made in these steps: a prompt → token ids → hidden states of the text encoder; a seed →
//! Gaussian latents ([`noise`]); then, step by step, latents and hidden states → the U-Net's prediction
//! → less noisy latents ([`scheduler`]); finally the VAE's decoder → 8-bit RGB, and the verdict of the
//! safety checker if the generator has one.
//!
//! A generator is a directory in the layout of `diffusers`' ONNX exports ([`GeneratorConfig`]), loaded by
//! [`Generator::load`] on an [`OnnxRuntime`](susx_core::onnx::OnnxRuntime):
//!
//! ```text
//! model_index.json                          "_class_name": "StableDiffusionPipeline" or its ONNX names
//! scheduler/scheduler_config.json           PNDM, DDIM, Euler, Euler ancestral, DPM-Solver++ or LCM
//! tokenizer/tokenizer.json                  or vocab.json and merges.txt
//! text_encoder/model.onnx                   input_ids → last_hidden_state
//! unet/model.onnx, unet/config.json         sample, timestep, encoder_hidden_states (timestep_cond) → out_sample
//! vae_decoder/model.onnx, …/config.json     latent_sample → sample
//! safety_checker/model.onnx                 (optional) clip_input, images → has_nsfw_concepts
//! feature_extractor/preprocessor_config.json (with a safety checker)
//! ```
//!
//! Weights may be in the graphs or in other files of their folders, in single or half precision.

#![warn(missing_docs)]

mod component;
mod config;
mod digest;
mod error;
mod generator;
pub mod noise;
mod pixels;
mod safety_checker;
pub mod scheduler;
mod settings;
mod text_encoder;
mod unet;
mod vae;

pub use config::{GeneratorConfig, list_generators};
pub use error::{GenerateError, Result};
pub use generator::Generator;
pub use image::RgbImage;
pub use pixels::png;
pub use settings::{ImageInput, Progress, Settings};
