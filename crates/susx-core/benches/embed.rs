//! The encoders alone, as fast as a plain program can run them: no PostgreSQL, no server.
//!
//! Embeds the images of a folder (all files below it), or the lines of a file, and prints one line of
//! JSON: `{"images":1200,"seconds":9.5}`, or `texts`. Before the clock starts, files are read and the
//! model runs once.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::{CommandFactory, Parser};
use ndarray::{Array4, Axis, s};
use rayon::prelude::*;
use susx_core::clip::{ClipModel, ImageLimits, ModelConfig, PreprocessScratch, decode_picture};
use susx_core::onnx::{ExecutionProvider, OnnxRuntime, SessionOptions};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    /// Directory of the model.
    #[arg(long)]
    model: PathBuf,
    /// ONNX Runtime's library.
    #[arg(long)]
    onnxruntime: PathBuf,
    /// 0 is one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// auto, cpu, cuda, tensorrt or openvino.
    #[arg(long, default_value = "cpu")]
    provider: ExecutionProvider,
    /// A folder of image files.
    #[arg(long)]
    images: Option<PathBuf>,
    /// A file with one text per line.
    #[arg(long)]
    texts: Option<PathBuf>,
}

fn main() -> Result<()> {
    // `cargo bench` adds the argument --bench. Without others there is nothing to measure.
    let given: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    if given.len() == 1 {
        return Ok(Arguments::command().print_help()?);
    }
    let mut arguments = Arguments::parse_from(given);
    arguments.batch_size = arguments.batch_size.max(1);
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let model = load(&arguments)?;
    if let Some(folder) = &arguments.images {
        let mut files = Vec::new();
        read_files(folder, &mut files)?;
        // A warm-up run.
        images(&model, &files[..files.len().min(arguments.batch_size)], arguments.batch_size)?;
        let start = Instant::now();
        let count = images(&model, &files, arguments.batch_size)?;
        println!("{{\"images\":{count},\"seconds\":{:.6}}}", start.elapsed().as_secs_f64());
    }
    if let Some(file) = &arguments.texts {
        let lines = fs::read_to_string(file)?;
        let lines: Vec<&str> = lines.lines().collect();
        texts(&model, &lines[..lines.len().min(arguments.batch_size)], arguments.batch_size)?;
        let start = Instant::now();
        let count = texts(&model, &lines, arguments.batch_size)?;
        println!("{{\"texts\":{count},\"seconds\":{:.6}}}", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn load(arguments: &Arguments) -> Result<ClipModel> {
    let runtime = OnnxRuntime::load(&arguments.onnxruntime)?;
    let model = arguments.model.canonicalize()?;
    let (Some(folder), Some(name)) = (model.parent(), model.file_name().and_then(|name| name.to_str()))
    else {
        return Err(format!("{} is no model's directory", model.display()).into());
    };
    let options = SessionOptions {
        provider: arguments.provider,
        intra_threads: arguments.threads,
        batch_size: arguments.batch_size,
        ..SessionOptions::default()
    };
    Ok(ClipModel::load(&runtime, ModelConfig::read(folder, name)?, &options)?)
}

/// Embeds every file; the next batch is decoded while the model runs.
fn images(model: &ClipModel, files: &[Vec<u8>], batch_size: usize) -> Result<usize> {
    let preprocessor = model.preprocessor().ok_or("the model has no image encoder")?;
    let (channels, height, width) = preprocessor.shape();
    let tensor = || Array4::<f32>::zeros((batch_size, channels, height, width));
    let (mut current, mut next) = (tensor(), tensor());
    let done = AtomicUsize::new(0);
    let decode = |files: Option<&[Vec<u8>]>, out: &mut Array4<f32>| -> Result<()> {
        let Some(files) = files else { return Ok(()) };
        let out = out.as_slice_mut().ok_or("the tensor is not contiguous")?;
        out.par_chunks_exact_mut(preprocessor.len()).zip(files).try_for_each_init(
            PreprocessScratch::default,
            |scratch, (out, file)| {
                let reduction = |width, height| preprocessor.reduction(width, height);
                let picture = decode_picture(file, &ImageLimits::default(), &reduction, &|_| ())?;
                Ok(preprocessor.picture_values_into(&picture, scratch, out)?)
            },
        )
    };
    let encode = |count: usize, tensor: &Array4<f32>| -> Result<()> {
        let features = model.image_features(tensor.slice(s![..count, .., .., ..]))?;
        done.fetch_add(features.len_of(Axis(0)), Ordering::Relaxed);
        Ok(())
    };
    let mut batches = files.chunks(batch_size);
    let mut batch = batches.next();
    decode(batch, &mut current)?;
    while let Some(files) = batch {
        let following = batches.next();
        let (decoded, encoded) =
            rayon::join(|| decode(following, &mut next), || encode(files.len(), &current));
        decoded.and(encoded)?;
        std::mem::swap(&mut current, &mut next);
        batch = following;
    }
    Ok(done.into_inner())
}

/// Embeds every line, the short ones first.
fn texts(model: &ClipModel, lines: &[&str], batch_size: usize) -> Result<usize> {
    let tokenizer = model.tokenizer().ok_or("the model has no text encoder")?;
    let tokens = tokenizer.encode(lines)?;
    let lengths = tokens.lengths();
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|&line| lengths[line]);
    let batches: Vec<&[usize]> = order.chunks(batch_size).collect();
    let rows = batches.par_iter().map(|batch| -> Result<usize> {
        let lines: Vec<&str> = batch.iter().map(|&line| lines[line]).collect();
        Ok(model.text_features(&tokenizer.encode(&lines)?)?.nrows())
    });
    rows.try_reduce(|| 0, |a, b| Ok(a + b))
}

fn read_files(folder: &Path, files: &mut Vec<Vec<u8>>) -> Result<()> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true => read_files(&path, files)?,
            false => files.push(fs::read(path)?),
        }
    }
    Ok(())
}
