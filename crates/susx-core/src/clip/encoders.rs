//! The encoders of one model on one execution provider: loaded, checked against the model's files, run.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, Array4, ArrayView4, Axis, s};

use super::config::ModelConfig;
use super::error::{ClipError, Result};
use super::graph::{Feed, Graph, Role};
use super::model_dir::ModelFiles;
use super::preprocess::Preprocessor;
use super::profile::{Executed, ProfileFolder};
use super::provider::{Candidate, SessionOptions};
use super::runtime::OnnxRuntime;
use super::sessions;
use super::shapes::RowShape;
use super::tokenizer::{ClipTokenizer, Padding, TokenBatch};
use super::tower::Tower;

/// Names of the embeddings among the outputs of the graphs in use, the best first.
const IMAGE_OUTPUTS: [&str; 2] = ["image_embeds", "image_features"];
const TEXT_OUTPUTS: [&str; 3] = ["text_embeds", "text_features", "sentence_embedding"];

/// Rows that one core runs well together: few, so that what an operation leaves is still in its cache
/// when the next one reads it, but enough to make up for the cost of an operation.
const IMAGES_PER_PIECE: usize = 4;
const TEXTS_PER_PIECE: usize = 16;

/// Lengths of texts are multiples of so many tokens, where a provider prepares itself for every shape.
const LENGTH_STEP: usize = 16;

/// What is loaded for one execution provider.
pub(super) struct Encoders {
    pub image: Option<Tower>,
    pub text: Option<Tower>,
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
    /// Loads the graphs on the provider of `candidate` and checks them against the other files. Their
    /// runs are profiled if there is a folder for it, until [`executed`](Self::executed).
    pub fn load(
        runtime: &OnnxRuntime,
        config: &ModelConfig,
        options: &SessionOptions,
        candidate: Candidate,
        profile: Option<&ProfileFolder>,
    ) -> Result<Encoders> {
        let builders = |path: &Path| {
            let mut builders = session_options(options, config, candidate)
                .iter()
                .map(|options| options.builder(runtime, candidate))
                .collect::<Result<Vec<_>, String>>()?;
            // The probe runs in the first one, as whatever runs while nothing else does.
            if let (Some(folder), Some(first)) = (profile, builders.first_mut()) {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                *first = folder.attach(first.clone(), &name)?;
            }
            Ok(builders)
        };
        let open = |path: &Path| {
            let builders = builders(path)
                .map_err(|reason| ClipError::Provider { provider: candidate.name(), reason })?;
            Graph::open(builders, path).map(Arc::new)
        };
        let tower = |graph: &Arc<Graph>, role: Role, outputs: &[&str]| {
            let output = graph.embedding_output(outputs)?;
            let piece = if role == Role::PixelValues { IMAGES_PER_PIECE } else { TEXTS_PER_PIECE };
            let exported = exported_rows(graph, role);
            let shape = RowShape::new(candidate, exported, options.batch_size, graph.side_by_side(), piece);
            let named = graph.input(role).map(|_| Tower { graph: Arc::clone(graph), output, shape });
            named.ok_or_else(|| ClipError::file(graph.path(), format!("the graph has no input for {role:?}")))
        };
        let (image, text) = match &config.files {
            ModelFiles::Split { vision, text } => {
                let vision = vision.as_deref().map(open).transpose()?;
                let text = text.as_deref().map(open).transpose()?;
                (
                    vision.map(|graph| tower(&graph, Role::PixelValues, &IMAGE_OUTPUTS)).transpose()?,
                    text.map(|graph| tower(&graph, Role::InputIds, &TEXT_OUTPUTS)).transpose()?,
                )
            }
            ModelFiles::Fused(path) => {
                let graph = open(path)?;
                let image = graph
                    .input(Role::PixelValues)
                    .map(|_| tower(&graph, Role::PixelValues, &IMAGE_OUTPUTS))
                    .transpose()?;
                let text = graph
                    .input(Role::InputIds)
                    .map(|_| tower(&graph, Role::InputIds, &TEXT_OUTPUTS))
                    .transpose()?;
                (image, text)
            }
        };
        if let Some(tower) = &image {
            check_image_size(&tower.graph, config)?;
        }
        let tokenizer = text.as_ref().map(|tower| tokenizer(&tower.graph, config, candidate)).transpose()?;
        Ok(Encoders { image, text, tokenizer })
    }

    /// Runs each encoder once and returns the number of dimensions, which must be the same for both.
    pub fn probe(&self, config: &ModelConfig) -> Result<usize> {
        let mut found: Vec<(&str, usize)> = Vec::new();
        if let (Some(tower), Some(preprocessor)) = (&self.image, &config.preprocessor) {
            let features = self.image_features(blank(preprocessor, 1).view())?;
            found.push((
                "image",
                normalise(features).map_err(|error| ClipError::file(tower.graph.path(), error))?.ncols(),
            ));
        }
        if let (Some(tower), Some(tokenizer)) = (&self.text, &self.tokenizer) {
            let features =
                self.text_features(&tokenizer.encode(&["a photo"])?, config.preprocessor.as_ref())?;
            found.push((
                "text",
                normalise(features).map_err(|error| ClipError::file(tower.graph.path(), error))?.ncols(),
            ));
        }
        match found[..] {
            [(image, a), (text, b)] if a != b => Err(ClipError::file(
                &config.dir,
                format!("the {image} encoder gives {a} dimensions, the {text} encoder {b}"),
            )),
            [(tower, dimensions), ..] => match config.projection_dim {
                Some(expected) if expected != dimensions => {
                    let reason = format!(
                        "the {tower} encoder gives {dimensions} dimensions, but projection_dim of config.json is {expected}"
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

    /// What the last run of each graph executed, by its profile, which ends.
    pub fn executed(&self) -> Result<Vec<Executed>> {
        let mut graphs: Vec<&Arc<Graph>> =
            [&self.image, &self.text].into_iter().flatten().map(|tower| &tower.graph).collect();
        // A fused graph is both.
        graphs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        graphs
            .into_iter()
            .map(|graph| {
                let name = graph.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                Executed::read(name, &graph.end_profile()?).map_err(ClipError::inference)
            })
            .collect()
    }

    /// Runs the image encoder: N × 3 × H × W in, N × dimensions out, not normalised.
    pub fn image_features(&self, pixel_values: ArrayView4<f32>) -> Result<Array2<f32>> {
        let Some(tower) = &self.image else { return Err(ClipError::inference("there is no image encoder")) };
        // A graph of both towers wants a text too; the cheapest is an empty one.
        let tokens = match (tower.graph.input(Role::InputIds), &self.tokenizer) {
            (Some(_), Some(tokenizer)) => {
                let rows = exported_rows(&tower.graph, Role::InputIds).unwrap_or(1);
                Some(tokenizer.encode(&vec![""; rows])?)
            }
            _ => None,
        };
        tower.run(pixel_values.len_of(Axis(0)), |piece, company| {
            let part = pixel_values.slice(s![piece.rows.clone(), .., .., ..]);
            let filled = (piece.filled > piece.rows.len()).then(|| part.select(Axis(0), &piece.places()));
            let part = filled.as_ref().map_or(part, |filled| filled.view());
            let feed = Feed { pixel_values: Some(part), tokens: tokens.as_ref() };
            tower.graph.run(&feed, &tower.output, company)
        })
    }

    /// Runs the text encoder: N × length in, N × dimensions out, not normalised.
    ///
    /// Texts of about the same length are run together, none longer than the longest of them.
    pub fn text_features(
        &self,
        tokens: &TokenBatch,
        preprocessor: Option<&Preprocessor>,
    ) -> Result<Array2<f32>> {
        let (Some(tower), Some(tokenizer)) = (&self.text, &self.tokenizer) else {
            return Err(ClipError::inference("there is no text encoder"));
        };
        // A graph of both towers wants an image too; it is run for nothing.
        let blank = match (tower.graph.input(Role::PixelValues), preprocessor) {
            (Some(_), Some(preprocessor)) => {
                Some(blank(preprocessor, exported_rows(&tower.graph, Role::PixelValues).unwrap_or(1)))
            }
            _ => None,
        };
        let (lengths, columns) = (tokens.lengths(), tokens.input_ids.ncols());
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| lengths[row]);
        let sorted = tower.run(order.len(), |piece, company| {
            let rows: Vec<usize> = piece.places().iter().map(|&i| order[piece.rows.start + i]).collect();
            let longest = rows.iter().map(|&row| lengths[row]).max().unwrap_or(0);
            let part = tokens.select(&rows, tokenizer.padded(longest).min(columns));
            let pixel_values = blank.as_ref().map(|blank| blank.view());
            tower.graph.run(&Feed { pixel_values, tokens: Some(&part) }, &tower.output, company)
        })?;
        let mut features = Array2::zeros(sorted.dim());
        for (&row, values) in order.iter().zip(sorted.rows()) {
            features.row_mut(row).assign(&values);
        }
        Ok(features)
    }
}

/// The options for each session of a graph.
fn session_options(
    options: &SessionOptions,
    config: &ModelConfig,
    candidate: Candidate,
) -> Vec<SessionOptions> {
    let threads = match options.intra_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    match (candidate, config.bytes()) {
        (Candidate::Cpu, Ok(bytes)) => sessions::threads_of_sessions(threads, bytes)
            .into_iter()
            .map(|intra_threads| SessionOptions { intra_threads, ..options.clone() })
            .collect(),
        _ => vec![options.clone()],
    }
}

/// Images of zeros, which after the normalisation is the average colour.
fn blank(preprocessor: &Preprocessor, rows: usize) -> Array4<f32> {
    let (channels, height, width) = preprocessor.shape();
    Array4::zeros((rows, channels, height, width))
}

/// Number of rows that the graph was exported for; `None` if it takes any.
fn exported_rows(graph: &Graph, role: Role) -> Option<usize> {
    let extent = *graph.input(role)?.shape.first()?;
    usize::try_from(extent).ok().filter(|&extent| extent > 0)
}

/// A graph with a fixed image size must have the size that the preprocessing makes.
fn check_image_size(graph: &Graph, config: &ModelConfig) -> Result<()> {
    let Some(preprocessor) = &config.preprocessor else {
        return Err(ClipError::file(
            config.dir.join("preprocessor_config.json"),
            "the model has an image encoder, but this file is missing",
        ));
    };
    let (_, height, width) = preprocessor.shape();
    let shape = graph.input(Role::PixelValues).map(|input| input.shape.as_slice()).unwrap_or_default();
    let &[_, _, rows, columns] = shape else { return Ok(()) };
    let fits = |extent: i64, side: usize| extent < 0 || extent == side as i64;
    if fits(rows, height) && fits(columns, width) {
        return Ok(());
    }
    let reason = format!(
        "the graph takes images of {rows} × {columns} pixels, but preprocessor_config.json makes {height} × {width}"
    );
    Err(ClipError::file(graph.path(), reason))
}

/// The tokenizer, set to the length that the graph wants.
fn tokenizer(graph: &Graph, config: &ModelConfig, candidate: Candidate) -> Result<ClipTokenizer> {
    let Some(path) = &config.tokenizer else {
        return Err(ClipError::file(
            config.dir.join("tokenizer.json"),
            "the model has a text encoder, but this file is missing",
        ));
    };
    let fixed = graph
        .input(Role::InputIds)
        .and_then(|input| input.shape.get(1).copied())
        .and_then(|extent| usize::try_from(extent).ok());
    let context_length = fixed.filter(|&extent| extent > 0).unwrap_or(config.context_length);
    // Without a mask the padding is seen, and the encoder was trained to see all of it.
    let padding = match graph.input(Role::AttentionMask) {
        Some(_) if fixed.is_none() => match candidate {
            Candidate::Cpu => Padding::Longest,
            // One shape, one engine.
            Candidate::TensorRt => Padding::ContextLength,
            _ => Padding::MultipleOf(LENGTH_STEP),
        },
        _ => Padding::ContextLength,
    };
    ClipTokenizer::from_file(path, context_length, config.pad_token.as_deref(), padding)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn what_is_no_embedding_is_told_by_its_row() {
        // The last ones have squares that overflow or vanish in single precision.
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
