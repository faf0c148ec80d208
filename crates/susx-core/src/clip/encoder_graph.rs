//! One ONNX graph of a CLIP: what its inputs and outputs mean, and how to run it.

use std::borrow::Cow;
use std::path::Path;

use ndarray::{Array2, ArrayView4};
use ort::session::SessionInputValue;
use ort::session::builder::SessionBuilder;
use ort::value::TensorElementType;

use super::error::{ClipError, Result};
use super::pooling::{FeatureRules, Features, only_matrix};
use super::tokenizer::TokenBatch;
use crate::onnx::{Concurrency, Graph, Port, Values, floats, integers};

/// Names that exports give to the output with the embeddings of texts, the best first.
const TEXT_OUTPUTS: [&str; 4] = ["text_embeds", "text_features", "sentence_embedding", "pooler_output"];

/// What an input of the graph means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    PixelValues,
    InputIds,
    AttentionMask,
    PositionIds,
    TokenTypeIds,
}

/// The values for one run. A fused graph takes both; the graph of one encoder ignores the other.
pub(super) struct Feed<'a> {
    pub pixel_values: Option<ArrayView4<'a, f32>>,
    pub tokens: Option<&'a TokenBatch>,
}

/// The loaded graph of one encoder, or of both.
pub(super) struct EncoderGraph {
    pub onnx: Graph,
    /// The role and element type of each of the graph's inputs.
    roles: Vec<(Role, TensorElementType)>,
}

impl EncoderGraph {
    /// Loads the graph at `path`, with one session for each of `builders`, and finds the role of each input.
    pub fn open(builders: Vec<SessionBuilder>, path: &Path) -> Result<EncoderGraph> {
        let graph = Graph::open(builders, path)?;
        let roles = roles(path, &graph.inputs)?;
        Ok(EncoderGraph { onnx: graph, roles })
    }

    /// The input of this role, if the graph has one.
    pub fn input(&self, role: Role) -> Option<&Port> {
        let place = self.roles.iter().position(|&(other, _)| other == role)?;
        self.onnx.inputs.get(place)
    }

    /// Runs the graph and returns the features in `output` as rows × dimensions.
    pub fn run(
        &self,
        feed: &Feed,
        output: &str,
        features: Features,
        concurrency: Concurrency,
    ) -> Result<Array2<f32>> {
        let pixels = feed.pixel_values.as_ref().map(|pixels| pixels.as_standard_layout());
        let mut values: Values = Vec::with_capacity(self.roles.len());
        for (input, &(role, element)) in self.onnx.inputs.iter().zip(&self.roles) {
            let missing = || ClipError::inference(format!("the graph needs a value for {:?}", input.name));
            let value = match role {
                Role::PixelValues => floats(Some(element), pixels.as_ref().ok_or_else(missing)?.view())?,
                role => tokens_for(role, element, feed.tokens.ok_or_else(missing)?)?,
            };
            values.push((Cow::Borrowed(&input.name), value));
        }
        let read = |value: &_| features.read(value, output);
        Ok(self.onnx.run(concurrency, values, output, read)?)
    }
}

/// The role and element type of each of the inputs of the graph at `path`.
pub(super) fn roles(path: &Path, inputs: &[Port]) -> Result<Vec<(Role, TensorElementType)>> {
    inputs.iter().map(|port| role(path, port, inputs)).collect()
}

/// Which of the outputs of the graph at `path` holds the embeddings of images.
pub(super) fn image_output(
    path: &Path,
    outputs: &[Port],
    rules: &FeatureRules,
) -> Result<(String, Features)> {
    rules.choose(outputs).map_err(|reason| ClipError::file(path, reason))
}

/// Which of the outputs of the graph at `path` holds the embeddings of texts.
pub(super) fn text_output(path: &Path, outputs: &[Port]) -> Result<(String, Features)> {
    let exists = |name: &&&str| outputs.iter().any(|output| output.name == **name);
    let name = match TEXT_OUTPUTS.iter().find(exists) {
        Some(name) => (*name).to_owned(),
        None => only_matrix(outputs, &TEXT_OUTPUTS).map_err(|reason| ClipError::file(path, reason))?,
    };
    Ok((name, Features::Rows))
}

/// Finds the role of an input by the names that exports use, and for images and token ids also by its type.
fn role(path: &Path, port: &Port, all: &[Port]) -> Result<(Role, TensorElementType)> {
    let (is_float, is_integer) = (port.is_float(), port.is_integer());
    let role = match port.name.as_str() {
        "pixel_values" | "image" | "images" if is_float => Some(Role::PixelValues),
        "input_ids" | "text" | "texts" if is_integer => Some(Role::InputIds),
        "attention_mask" => Some(Role::AttentionMask),
        "position_ids" => Some(Role::PositionIds),
        "token_type_ids" => Some(Role::TokenTypeIds),
        _ if is_float && port.shape.len() == 4 => Some(Role::PixelValues),
        _ if is_integer && port.shape.len() == 2 && all.len() == 1 => Some(Role::InputIds),
        _ => None,
    };
    match (role, port.element) {
        (Some(role), Some(element)) if is_integer || is_float || element == TensorElementType::Bool => {
            Ok((role, element))
        }
        _ => Err(ClipError::file(
            path,
            format!(
                "the graph has an input {:?} of type {}, which CLIP encoders do not have",
                port.name, port.dtype
            ),
        )),
    }
}

/// The token ids, or one of the arrays that accompany them, in the element type that the graph expects.
fn tokens_for<'a>(
    role: Role,
    element: TensorElementType,
    tokens: &'a TokenBatch,
) -> Result<SessionInputValue<'a>> {
    let values = match role {
        Role::AttentionMask => Cow::Borrowed(&tokens.attention_mask),
        Role::PositionIds => {
            Cow::Owned(Array2::from_shape_fn(tokens.input_ids.dim(), |(_, position)| position as i64))
        }
        Role::TokenTypeIds => Cow::Owned(Array2::zeros(tokens.input_ids.dim())),
        Role::InputIds | Role::PixelValues => Cow::Borrowed(&tokens.input_ids),
    };
    Ok(integers(element, values)?)
}
