//! The encoders of one model on one execution provider: loading, checks against the model's files, and runs.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, Array4, ArrayView4, Axis, s};

use super::check::ModelCheck;
use super::config::ModelConfig;
use super::encoder::Encoder;
use super::encoder_graph::{EncoderGraph, Feed, Role, image_output, text_output};
use super::error::{ClipError, Result};
use super::model_files::ModelFiles;
use super::padding_probe;
use super::preprocess::Preprocessor;
use super::tokenizer::{ClipTokenizer, Padding, TokenBatch};
use crate::onnx::{
    Candidate, GraphProfile, OnnxRuntime, Port, ProfileFolder, RowShape, SessionOptions, threads_of_sessions,
};

/// Rows that one core runs together most efficiently: few enough that the result of an operation is still in the cache
/// when the next one reads it, but enough to outweigh the fixed cost of an operation.
const IMAGES_PER_PIECE: usize = 4;
const TEXTS_PER_PIECE: usize = 16;

/// Texts are padded to a multiple of this many tokens if the provider prepares itself for every shape.
const LENGTH_STEP: usize = 16;

/// The encoders of a model, loaded on one execution provider.
pub(super) struct Encoders {
    pub image: Option<Encoder>,
    pub text: Option<Encoder>,
    pub tokenizer: Option<ClipTokenizer>,
}

/// Divides each row by its Euclidean length.
pub(super) fn normalise(mut features: Array2<f32>) -> Result<Array2<f32>> {
    for (row, mut values) in features.rows_mut().into_iter().enumerate() {
        let norm = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(ClipError::Embedding { row, reason: "it has values that are not finite" });
        }
        if norm == 0.0 {
            return Err(ClipError::Embedding { row, reason: "it is zero" });
        }
        values.mapv_inplace(|value| (f64::from(value) / norm) as f32);
    }
    Ok(features)
}

impl Encoders {
    /// Loads the graphs on the provider of `candidate` and checks them against the other files. If there is a
    /// `profile` folder, runs are profiled until [`end_profiles`](Self::end_profiles).
    pub fn load(
        runtime: &OnnxRuntime,
        check: &ModelCheck,
        options: &SessionOptions,
        candidate: Candidate,
        profile: Option<&ProfileFolder>,
    ) -> Result<Encoders> {
        let config = &check.config;
        let open = |path: &Path| open_graph(runtime, config, options, candidate, profile, path);
        let encoder = |graph: &Arc<EncoderGraph>, role| encoder(graph, role, check, candidate, options);
        let (image, text) = match &config.files {
            ModelFiles::Split { vision, text } => {
                let vision = vision.as_deref().map(open).transpose()?;
                let text = text.as_deref().map(open).transpose()?;
                (
                    vision.map(|graph| encoder(&graph, Role::PixelValues)).transpose()?,
                    text.map(|graph| encoder(&graph, Role::InputIds)).transpose()?,
                )
            }
            ModelFiles::Fused(path) => {
                let graph = open(path)?;
                let of = |role| graph.input(role).map(|_| encoder(&graph, role)).transpose();
                (of(Role::PixelValues)?, of(Role::InputIds)?)
            }
        };
        match &image {
            Some(encoder) => {
                check_image_size(encoder.graph.onnx.path(), encoder.graph.input(Role::PixelValues), config)?
            }
            None => config
                .features
                .check_without_images()
                .map_err(|reason| ClipError::file(&config.dir, reason))?,
        }
        let tokenizer =
            text.as_ref().map(|encoder| tokenizer(&encoder.graph, config, candidate)).transpose()?;
        let encoders = Encoders { image, text, tokenizer: None };
        let tokenizer = tokenizer.map(|tokenizer| {
            padding_probe::fitting(tokenizer, |tokens| {
                let features = encoders.run_texts(tokens, config.preprocessor.as_ref(), |_| usize::MAX)?;
                normalise(features).map_err(|error| ClipError::file(&config.dir, error))
            })
        });
        let tokenizer = tokenizer.transpose()?;
        Ok(Encoders { tokenizer, ..encoders })
    }

    /// Runs each encoder once and returns the number of dimensions, which must be the same for both.
    pub fn probe(&self, config: &ModelConfig) -> Result<usize> {
        let dimensions = |encoder: &Encoder, features| {
            let features = normalise(features);
            features
                .map(|rows| rows.ncols())
                .map_err(|error| ClipError::file(encoder.graph.onnx.path(), error))
        };
        let mut found: Vec<(&str, usize)> = Vec::new();
        if let (Some(encoder), Some(preprocessor)) = (&self.image, &config.preprocessor) {
            let features = self.image_features(blank(preprocessor, 1).view())?;
            found.push(("image", dimensions(encoder, features)?));
        }
        if let (Some(encoder), Some(tokenizer)) = (&self.text, &self.tokenizer) {
            let tokens = tokenizer.encode(&["a photo"])?;
            let features = self.text_features(&tokens, config.preprocessor.as_ref())?;
            found.push(("text", dimensions(encoder, features)?));
        }
        match found[..] {
            [(image, a), (text, b)] if a != b => Err(ClipError::file(
                &config.dir,
                format!("the {image} encoder gives {a} dimensions, the {text} encoder {b}"),
            )),
            [(encoder, dimensions), ..] => match config.projection_dim {
                Some(expected) if expected != dimensions => {
                    let reason = format!(
                        "the {encoder} encoder gives {dimensions} dimensions, but projection_dim of config.json is {expected}"
                    );
                    Err(ClipError::file(&config.dir, reason))
                }
                _ => Ok(dimensions),
            },
            [] => Err(ClipError::file(
                &config.dir,
                "the graph has neither an input for images nor one for text",
            )),
        }
    }

    /// Ends profiling and returns the profile of the last run of each graph.
    pub fn end_profiles(&self) -> Result<Vec<GraphProfile>> {
        let mut graphs: Vec<&Arc<EncoderGraph>> =
            [&self.image, &self.text].into_iter().flatten().map(|encoder| &encoder.graph).collect();
        // The encoders of a fused model share one graph.
        graphs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let end = |graph: &Arc<EncoderGraph>| {
            let name = graph.onnx.path().file_name().unwrap_or_default().to_string_lossy();
            Ok(graph.onnx.end_profile(name.into_owned())?)
        };
        graphs.into_iter().map(end).collect()
    }

    /// Runs the image encoder: N × 3 × H × W in, N × dimensions out, not normalised.
    pub fn image_features(&self, pixel_values: ArrayView4<f32>) -> Result<Array2<f32>> {
        let Some(encoder) = &self.image else {
            return Err(ClipError::inference("there is no image encoder"));
        };
        // A fused graph needs a text too; the cheapest is an empty one.
        let tokens = match (encoder.graph.input(Role::InputIds), &self.tokenizer) {
            (Some(input), Some(tokenizer)) => {
                let rows = input.exported_size(0).unwrap_or(1);
                Some(tokenizer.encode(&vec![""; rows])?)
            }
            _ => None,
        };
        encoder.run(pixel_values.len_of(Axis(0)), |piece, concurrency| {
            let padded =
                (piece.padded > piece.rows.len()).then(|| pixel_values.select(Axis(0), &piece.batch_rows()));
            let part = match &padded {
                Some(padded) => padded.view(),
                None => pixel_values.slice(s![piece.rows.clone(), .., .., ..]),
            };
            let feed = Feed { pixel_values: Some(part), tokens: tokens.as_ref() };
            encoder.graph.run(&feed, &encoder.output, encoder.features, concurrency)
        })
    }

    /// Runs the text encoder: N × length in, N × dimensions out, not normalised.
    ///
    /// Texts of similar length are run together, padded only to the longest of them.
    pub fn text_features(
        &self,
        tokens: &TokenBatch,
        preprocessor: Option<&Preprocessor>,
    ) -> Result<Array2<f32>> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(ClipError::inference("there is no text encoder"));
        };
        self.run_texts(tokens, preprocessor, |longest| tokenizer.padded_length(longest))
    }

    /// The same. `padded_length` is the length of rows whose longest text has this many tokens.
    fn run_texts(
        &self,
        tokens: &TokenBatch,
        preprocessor: Option<&Preprocessor>,
        padded_length: impl Fn(usize) -> usize + Sync,
    ) -> Result<Array2<f32>> {
        let Some(encoder) = &self.text else {
            return Err(ClipError::inference("there is no text encoder"));
        };
        // A fused graph needs an image too, and wastes a run on it.
        let blank = match (encoder.graph.input(Role::PixelValues), preprocessor) {
            (Some(input), Some(preprocessor)) => {
                Some(blank(preprocessor, input.exported_size(0).unwrap_or(1)))
            }
            _ => None,
        };
        let (lengths, columns) = (tokens.lengths(), tokens.input_ids.ncols());
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| lengths[row]);
        let sorted = encoder.run(order.len(), |piece, concurrency| {
            let rows: Vec<usize> = piece.batch_rows().iter().map(|&row| order[row]).collect();
            let longest = rows.iter().map(|&row| lengths[row]).max().unwrap_or(0);
            let part = tokens.select(&rows, padded_length(longest).min(columns));
            let pixel_values = blank.as_ref().map(|blank| blank.view());
            let feed = Feed { pixel_values, tokens: Some(&part) };
            encoder.graph.run(&feed, &encoder.output, encoder.features, concurrency)
        })?;
        let mut features = Array2::zeros(sorted.dim());
        for (&row, values) in order.iter().zip(sorted.rows()) {
            features.row_mut(row).assign(&values);
        }
        Ok(features)
    }
}

/// Loads a graph with as many sessions as the model should have.
fn open_graph(
    runtime: &OnnxRuntime,
    config: &ModelConfig,
    options: &SessionOptions,
    candidate: Candidate,
    profile: Option<&ProfileFolder>,
    path: &Path,
) -> Result<Arc<EncoderGraph>> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let builder = |(number, options): (usize, SessionOptions)| {
        // Only the first session is profiled: serial runs, such as the probe, take that one.
        let profile = profile.filter(|_| number == 0).map(|folder| (folder, &*name));
        options.builder(runtime, candidate, profile)
    };
    let builders = session_options(options, config, candidate).into_iter().enumerate().map(builder);
    EncoderGraph::open(builders.collect::<Result<_, _>>()?, path).map(Arc::new)
}

/// The encoder whose input in `graph` has the given role.
fn encoder(
    graph: &Arc<EncoderGraph>,
    role: Role,
    check: &ModelCheck,
    candidate: Candidate,
    options: &SessionOptions,
) -> Result<Encoder> {
    let (path, outputs) = (graph.onnx.path(), &graph.onnx.outputs);
    let ((output, features), tower, piece) = match role {
        Role::PixelValues => {
            (image_output(path, outputs, &check.config.features)?, &check.vision, IMAGES_PER_PIECE)
        }
        _ => (text_output(path, outputs)?, &check.text, TEXTS_PER_PIECE),
    };
    let Some(input) = graph.input(role) else {
        let reason = format!("the graph has no input for {role:?}");
        return Err(ClipError::file(graph.onnx.path(), reason));
    };
    let exported = input.exported_size(0);
    let shape = match tower.as_ref().is_some_and(|tower| tower.depends_on_batch) {
        true => RowShape::alone(exported),
        false => match (candidate, graph.onnx.concurrency()) {
            // A single input may run between two pieces, and would wait too long if they were whole batches.
            (Candidate::Cpu, 1) => RowShape::pieces_on_cpu(exported, piece.max(threads(options)), 1),
            (Candidate::Cpu, sessions) => RowShape::pieces_on_cpu(exported, piece, sessions),
            _ => RowShape::new(candidate, exported, options.batch_size),
        },
    };
    let has_small_pieces = candidate == Candidate::Cpu;
    Ok(Encoder { graph: Arc::clone(graph), output, features, shape, has_small_pieces })
}

/// The number of threads of a session that has all of them.
fn threads(options: &SessionOptions) -> usize {
    match options.intra_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// The options for each session of a graph.
fn session_options(
    options: &SessionOptions,
    config: &ModelConfig,
    candidate: Candidate,
) -> Vec<SessionOptions> {
    match (candidate, config.bytes()) {
        (Candidate::Cpu, Ok(bytes)) => threads_of_sessions(threads(options), bytes)
            .into_iter()
            .map(|intra_threads| SessionOptions { intra_threads, ..options.clone() })
            .collect(),
        _ => vec![options.clone()],
    }
}

/// Images of zeros, which is the average colour after normalisation.
fn blank(preprocessor: &Preprocessor, rows: usize) -> Array4<f32> {
    let (channels, height, width) = preprocessor.shape();
    Array4::zeros((rows, channels, height, width))
}

/// Checks that a graph with a fixed image size has the size that the preprocessing makes. `input` is its input of images.
pub(super) fn check_image_size(path: &Path, input: Option<&Port>, config: &ModelConfig) -> Result<()> {
    let file = config.layout.preprocessor(&config.dir);
    let Some(preprocessor) = &config.preprocessor else {
        return Err(ClipError::file(
            config.dir.join(file),
            "the model has an image encoder, but this file is missing",
        ));
    };
    let (_, height, width) = preprocessor.shape();
    let shape = input.map(|input| input.shape.as_slice()).unwrap_or_default();
    let &[_, _, rows, columns] = shape else { return Ok(()) };
    let fits = |found: i64, side: usize| found < 0 || found == side as i64;
    if fits(rows, height) && fits(columns, width) {
        return Ok(());
    }
    let reason =
        format!("the graph takes images of {rows} × {columns} pixels, but {file} makes {height} × {width}");
    Err(ClipError::file(path, reason))
}

/// The tokenizer, with the context length that the graph expects.
fn tokenizer(graph: &EncoderGraph, config: &ModelConfig, candidate: Candidate) -> Result<ClipTokenizer> {
    let Some(path) = &config.tokenizer else {
        return Err(ClipError::file(
            config.dir.join(config.layout.tokenizer()),
            "the model has a text encoder, but this file is missing",
        ));
    };
    let fixed = graph
        .input(Role::InputIds)
        .and_then(|input| input.shape.get(1).copied())
        .and_then(|length| usize::try_from(length).ok());
    let context_length = fixed.filter(|&length| length > 0).unwrap_or(config.context_length);
    // Without a mask the encoder sees the padding, and it was trained on texts padded to the context length.
    let padding = match graph.input(Role::AttentionMask) {
        Some(_) if fixed.is_none() => match candidate {
            Candidate::Cpu => Padding::Longest,
            // TensorRT builds an engine for every shape: use one.
            Candidate::TensorRt => Padding::ContextLength,
            _ => Padding::MultipleOf(LENGTH_STEP),
        },
        _ => Padding::ContextLength,
    };
    let tokenizer = ClipTokenizer::from_file(path, context_length, &config.pad, padding)?;
    Ok(tokenizer.with_form(config.text_form))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn an_unusable_embedding_is_reported_with_its_row() {
        // The squares of the last two overflow or underflow in single precision.
        for features in [array![[3.0, 4.0]], array![[3e30, 4e30]], array![[3e-30, 4e-30]]] {
            let unit = normalise(features).unwrap();
            assert!((unit - array![[0.6, 0.8]]).iter().all(|error| error.abs() < 1e-6));
        }
        let row = |features| match normalise(features) {
            Err(ClipError::Embedding { row, .. }) => row,
            other => panic!("{other:?}"),
        };
        assert_eq!(row(array![[1.0, 0.0], [0.0, 0.0]]), 1);
        assert_eq!(row(array![[f32::NAN, 0.0], [1.0, 0.0]]), 0);
        assert_eq!(row(array![[1.0, 0.0], [1.0, 0.0], [f32::INFINITY, 0.0]]), 2);
    }
}
