//! SuS-SD's pictures: Stable Diffusion on ONNX Runtime.
//!
//! The path of one picture: a prompt → token ids → the text encoder's hidden states; the seed →
//! Gaussian latents ([`noise`]); then, step by step, latents and hidden states → the U-Net's prediction
//! → less noisy latents ([`scheduler`]); at last the VAE's decoder → 8-bit RGB, and, where the generator
//! has one, the safety checker's verdict.
//!
//! A generator is a directory in the layout of `diffusers`' ONNX exports ([`GeneratorConfig`]), loaded by
//! [`Generator::load`] on an [`OnnxRuntime`](crate::clip::OnnxRuntime):
//!
//! ```text
//! model_index.json                          "_class_name": "StableDiffusionPipeline" or its ONNX names
//! scheduler/scheduler_config.json           PNDM, DDIM, Euler or DPM-Solver++
//! tokenizer/tokenizer.json                  or vocab.json and merges.txt
//! text_encoder/model.onnx                   input_ids → last_hidden_state
//! unet/model.onnx, unet/config.json         sample, timestep, encoder_hidden_states → out_sample
//! vae_decoder/model.onnx, …/config.json     latent_sample → sample
//! safety_checker/model.onnx                 (optional) clip_input, images → has_nsfw_concepts
//! feature_extractor/preprocessor_config.json (with a safety checker)
//! ```
//!
//! Weights may lie in the graphs or in other files of their folders, and be of single or half precision.

mod config;
mod digest;
mod error;
mod generator;
pub mod noise;
mod part;
mod picture;
mod safety_checker;
pub mod scheduler;
mod settings;
mod text_encoder;
mod unet;
mod vae;

pub use config::{GeneratorConfig, generator_names, is_generator, list_generators};
pub use error::{GenerateError, Result};
pub use generator::Generator;
pub use image::RgbImage;
pub use picture::png;
pub use settings::{Painting, Settings, StepDone};
