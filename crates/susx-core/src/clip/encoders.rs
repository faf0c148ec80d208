//! The encoders of one model on one execution provider: loaded, checked against the model's files, run.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, Array4, ArrayView4, Axis, Slice, concatenate};

use super::config::ModelConfig;
use super::error::{ClipError, Result};
use super::graph::{Feed, Graph, Role};
use super::model_dir::ModelFiles;
use super::preprocess::Preprocessor;
use super::profile::{Executed, ProfileFolder};
use super::provider::{Candidate, SessionOptions};
use super::runtime::OnnxRuntime;
use super::tokenizer::{ClipTokenizer, Padding, TokenBatch};

/// Names of the embeddings among the outputs of the graphs in use, the best first.
const IMAGE_OUTPUTS: [&str; 2] = ["image_embeds", "image_features"];
const TEXT_OUTPUTS: [&str; 3] = ["text_embeds", "text_features", "sentence_embedding"];

/// One encoder: a graph, and which of its outputs to take.
pub(super) struct Tower {
    graph: Arc<Graph>,
    output: String,
}

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
        let open = |path: &Path| {
            let builder = options
                .builder(runtime, candidate)
                .and_then(|builder| match profile {
                    Some(folder) => folder.attach(builder, path),
                    None => Ok(builder),
                })
                .map_err(|reason| ClipError::Provider { provider: candidate.name(), reason })?;
            Graph::open(builder, path).map(Arc::new)
        };
        let tower = |graph: &Arc<Graph>, role: Role, outputs: &[&str]| {
            let output = graph.embedding_output(outputs)?;
            let named = graph.input(role).map(|_| Tower { graph: Arc::clone(graph), output });
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
        let tokenizer = text.as_ref().map(|tower| tokenizer(&tower.graph, config)).transpose()?;
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
            .map(|graph| Executed::read(graph.path(), &graph.end_profile()?).map_err(ClipError::inference))
            .collect()
    }

    /// Runs the image encoder: N × 3 × H × W in, N × dimensions out, not normalised.
    pub fn image_features(&self, pixel_values: ArrayView4<f32>) -> Result<Array2<f32>> {
        let Some(tower) = &self.image else { return Err(ClipError::inference("there is no image encoder")) };
        // A graph of both towers wants a text too; the cheapest is an empty one.
        let tokens = match (tower.graph.input(Role::InputIds), &self.tokenizer) {
            (Some(_), Some(tokenizer)) => {
                let rows = fixed_batch(&tower.graph, Role::InputIds, 1).unwrap_or(1);
                Some(tokenizer.encode(&vec![""; rows])?)
            }
            _ => None,
        };
        let run = |pixel_values: ArrayView4<f32>| {
            tower
                .graph
                .run(&Feed { pixel_values: Some(pixel_values), tokens: tokens.as_ref() }, &tower.output)
        };
        match fixed_batch(&tower.graph, Role::PixelValues, pixel_values.len_of(Axis(0))) {
            None => run(pixel_values),
            Some(batch) => in_batches(pixel_values.len_of(Axis(0)), batch, |rows| {
                run(pixel_values.select(Axis(0), rows).view())
            }),
        }
    }

    /// Runs the text encoder: N × length in, N × dimensions out, not normalised.
    pub fn text_features(
        &self,
        tokens: &TokenBatch,
        preprocessor: Option<&Preprocessor>,
    ) -> Result<Array2<f32>> {
        let Some(tower) = &self.text else { return Err(ClipError::inference("there is no text encoder")) };
        // A graph of both towers wants an image too; it is run for nothing.
        let blank = match (tower.graph.input(Role::PixelValues), preprocessor) {
            (Some(_), Some(preprocessor)) => {
                Some(blank(preprocessor, fixed_batch(&tower.graph, Role::PixelValues, 1).unwrap_or(1)))
            }
            _ => None,
        };
        let run = |tokens: &TokenBatch| {
            tower.graph.run(
                &Feed { pixel_values: blank.as_ref().map(|blank| blank.view()), tokens: Some(tokens) },
                &tower.output,
            )
        };
        match fixed_batch(&tower.graph, Role::InputIds, tokens.input_ids.nrows()) {
            None => run(tokens),
            Some(batch) => in_batches(tokens.input_ids.nrows(), batch, |rows| {
                let input_ids = tokens.input_ids.select(Axis(0), rows);
                let attention_mask = tokens.attention_mask.select(Axis(0), rows);
                run(&TokenBatch { input_ids, attention_mask })
            }),
        }
    }
}

/// Images of zeros, which after the normalisation is the average colour.
fn blank(preprocessor: &Preprocessor, rows: usize) -> Array4<f32> {
    let (channels, height, width) = preprocessor.shape();
    Array4::zeros((rows, channels, height, width))
}

/// Number of rows that the graph was exported for; `None` if it takes any, or just these `rows`.
fn fixed_batch(graph: &Graph, role: Role, rows: usize) -> Option<usize> {
    let extent = *graph.input(role)?.shape.first()?;
    usize::try_from(extent).ok().filter(|&extent| extent > 0 && extent != rows)
}

/// Runs `rows` rows in pieces of `batch`, of which `run` gets the row numbers.
///
/// The last piece is filled up with a row of its own, whose results are then dropped.
fn in_batches(
    rows: usize,
    batch: usize,
    run: impl Fn(&[usize]) -> Result<Array2<f32>>,
) -> Result<Array2<f32>> {
    let all: Vec<usize> = (0..rows).collect();
    let mut parts = Vec::new();
    for piece in all.chunks(batch) {
        let mut padded = piece.to_vec();
        padded.resize(batch, piece[0]);
        let mut part = run(&padded)?;
        part.slice_axis_inplace(Axis(0), Slice::from(..piece.len()));
        parts.push(part);
    }
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(0), &views).map_err(ClipError::inference)
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
fn tokenizer(graph: &Graph, config: &ModelConfig) -> Result<ClipTokenizer> {
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
        Some(_) if fixed.is_none() => Padding::Longest,
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

    #[test]
    fn pieces_are_put_together_in_order() {
        let run = |rows: &[usize]| {
            assert_eq!(rows.len(), 4);
            Ok(Array2::from_shape_fn((4, 1), |(i, _)| rows[i] as f32))
        };
        for n in 1..10 {
            let expected = Array2::from_shape_fn((n, 1), |(i, _)| i as f32);
            assert_eq!(in_batches(n, 4, run), Ok(expected));
        }
    }
}
