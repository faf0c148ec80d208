//! Stable Diffusion alone, without PostgreSQL and without the server.
//!
//! Generates images and prints one line of JSON: `{"images":2,"seconds":9.5}`. With `--bare` it
//! only runs the graphs through `ort`, without the library, as often and with tensors of the same shapes, which is a
//! lower bound. Everything is loaded and has run once before the clock starts.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use ort::session::Session;
use ort::value::Tensor;
use susx_core::onnx::{ExecutionProvider, OnnxRuntime, SessionOptions};
use susx_diffusion::{Generator, GeneratorConfig, ImageInput, Settings};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
struct Arguments {
    /// Directory of the generator.
    #[arg(long)]
    generator: PathBuf,
    /// ONNX Runtime's library.
    #[arg(long)]
    onnxruntime: PathBuf,
    /// 0 is one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 1)]
    images: usize,
    /// Run the graphs and nothing else.
    #[arg(long)]
    bare: bool,
}

fn main() -> Result<()> {
    // `cargo bench` adds the argument --bench. Without others there is nothing to measure.
    let given: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    if given.len() == 1 {
        return Ok(Arguments::command().print_help()?);
    }
    let arguments = Arguments::parse_from(given);
    let seconds = if arguments.bare { bare(&arguments)? } else { library(&arguments)? };
    println!("{{\"images\":{},\"seconds\":{seconds:.6}}}", arguments.images);
    Ok(())
}

fn config(arguments: &Arguments) -> Result<GeneratorConfig> {
    let generator = arguments.generator.canonicalize()?;
    match (generator.parent(), generator.file_name().and_then(|name| name.to_str())) {
        (Some(folder), Some(name)) => Ok(GeneratorConfig::read(folder, name)?),
        _ => Err(format!("{} is no generator's directory", generator.display()).into()),
    }
}

/// Seconds that the library takes for all images.
fn library(arguments: &Arguments) -> Result<f64> {
    let runtime = OnnxRuntime::load(&arguments.onnxruntime)?;
    let options = SessionOptions {
        provider: ExecutionProvider::Cpu,
        intra_threads: arguments.threads,
        ..SessionOptions::default()
    };
    let generator = Generator::load(&runtime, config(arguments)?, &options)?;
    let input = |i: usize| ImageInput {
        prompt: format!("a photo of {i} cats"),
        negative_prompt: String::new(),
        seed: i as u64,
    };
    let inputs: Vec<ImageInput> = (0..arguments.images).map(input).collect();
    let generate = |steps: usize| -> Result<usize> {
        let settings = Settings { steps, ..Settings::default() };
        let images = generator.generate(&inputs, &settings, &mut |_| ControlFlow::Continue(()))?;
        Ok(images.into_iter().filter(|image| image.is_ok()).count())
    };
    generate(1)?;
    let start = Instant::now();
    let count = generate(arguments.steps)?;
    let seconds = start.elapsed().as_secs_f64();
    match count == arguments.images {
        true => Ok(seconds),
        false => Err(format!("{count} of {} images", arguments.images).into()),
    }
}

/// Seconds of the graphs' runs alone: the text encoder once, the U-Net for each step and once more (PNDM),
/// and the VAE's decoder for each image.
fn bare(arguments: &Arguments) -> Result<f64> {
    let environment = ort::init_from(&arguments.onnxruntime)?.with_telemetry(false).build()?;
    let config = config(arguments)?;
    let (height, width) = config.image_size();
    let scale = config.vae_scale_factor();
    let (rows, columns) = ((height / scale) as usize, (width / scale) as usize);
    let open = |name: &str| -> ort::Result<Session> {
        // The options of the library's sessions.
        let mut builder = Session::builder(&environment)?
            .with_intra_threads(arguments.threads)?
            .with_intra_op_spinning(false)?
            .with_memory_pattern(false)?;
        builder.commit_from_file(config.dir.join(name).join("model.onnx"))
    };
    let (mut text_encoder, mut unet, mut vae_decoder) =
        (open("text_encoder")?, open("unet")?, open("vae_decoder")?);
    let images = arguments.images;
    // All prompts differ, and all negative prompts are equal.
    let ids = Tensor::from_array(([images + 1, 77], vec![5i64; (images + 1) * 77]))?;
    let states = text_encoder.run(ort::inputs!["input_ids" => &ids])?;
    let dimensions = states["last_hidden_state"].try_extract_array::<f32>()?.shape()[2];
    drop(states);
    let numbers = |count: usize| (0..count).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
    let states = Tensor::from_array(([2 * images, 77, dimensions], numbers(2 * images * 77 * dimensions)))?;
    let latents =
        Tensor::from_array(([2 * images, 4, rows, columns], numbers(2 * images * 4 * rows * columns)))?;
    let latent = Tensor::from_array(([1, 4, rows, columns], numbers(4 * rows * columns)))?;
    let timestep = Tensor::from_array(([1], vec![500i64]))?;
    let mut run = |steps: usize| -> Result<()> {
        text_encoder.run(ort::inputs!["input_ids" => &ids])?;
        for _ in 0..=steps {
            unet.run(ort::inputs![
                "sample" => &latents, "timestep" => &timestep, "encoder_hidden_states" => &states
            ])?;
        }
        for _ in 0..images {
            vae_decoder.run(ort::inputs!["latent_sample" => &latent])?;
        }
        Ok(())
    };
    run(1)?;
    let start = Instant::now();
    run(arguments.steps)?;
    Ok(start.elapsed().as_secs_f64())
}
