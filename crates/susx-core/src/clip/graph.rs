//! One ONNX graph of a CLIP: which of its inputs and outputs mean what, and a run of it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView4};
use ort::session::SessionInputValue;
use ort::session::builder::SessionBuilder;
use ort::value::TensorElementType;

use super::error::{ClipError, Result};
use super::session_graph::{Port, SessionGraph, Values, floats, integers, read_floats};
use super::sessions::Company;
use super::tokenizer::TokenBatch;

/// What an input of the graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    PixelValues,
    InputIds,
    AttentionMask,
    PositionIds,
    TokenTypeIds,
}

/// One input of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub name: String,
    pub role: Role,
    pub element: TensorElementType,
    /// Extent of each axis; -1 where it is free.
    pub shape: Vec<i64>,
}

/// The values for one run. A graph of both towers gets both, of a graph of one tower one is unused.
pub(crate) struct Feed<'a> {
    pub pixel_values: Option<ArrayView4<'a, f32>>,
    pub tokens: Option<&'a TokenBatch>,
}

/// A loaded graph.
pub(crate) struct Graph {
    graph: SessionGraph,
    pub inputs: Vec<Input>,
}

impl Graph {
    /// Loads the graph at `path`, once with each of `builders`, and finds out what its inputs are.
    pub fn open(builders: Vec<SessionBuilder>, path: &Path) -> Result<Graph> {
        let graph = SessionGraph::open(builders, path)?;
        let inputs =
            graph.inputs.iter().map(|port| input(path, port, &graph.inputs)).collect::<Result<Vec<_>>>()?;
        Ok(Graph { graph, inputs })
    }

    /// See [`SessionGraph::side_by_side`].
    pub fn side_by_side(&self) -> usize {
        self.graph.side_by_side()
    }

    /// See [`SessionGraph::end_profile`].
    pub fn end_profile(&self) -> Result<PathBuf> {
        self.graph.end_profile()
    }

    /// The file that the graph was loaded from.
    pub fn path(&self) -> &Path {
        self.graph.path()
    }

    /// The input of this role, if the graph has one.
    pub fn input(&self, role: Role) -> Option<&Input> {
        self.inputs.iter().find(|input| input.role == role)
    }

    /// Name of the output that holds the embeddings: the first of `preferred` that exists, else
    /// `pooler_output`, else the only output of two axes.
    pub fn embedding_output(&self, preferred: &[&str]) -> Result<String> {
        let outputs = &self.graph.outputs;
        let exists = |name: &&&str| outputs.iter().any(|output| output.name == **name);
        if let Some(name) = preferred.iter().chain(&["pooler_output"]).find(exists) {
            return Ok((*name).to_owned());
        }
        let mut matrices = outputs.iter().filter(|output| output.is_float() && output.shape.len() == 2);
        match (matrices.next(), matrices.next()) {
            (Some(output), None) => Ok(output.name.clone()),
            _ => {
                let found: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                Err(ClipError::file(
                    self.path(),
                    format!(
                        "no output is known to hold embeddings: expected one of {preferred:?}, found {found:?}"
                    ),
                ))
            }
        }
    }

    /// Runs the graph and returns `output` as rows × dimensions.
    pub fn run(&self, feed: &Feed, output: &str, company: Company) -> Result<Array2<f32>> {
        let pixels = feed.pixel_values.as_ref().map(|pixels| pixels.as_standard_layout());
        let mut values: Values = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let missing = || ClipError::inference(format!("the graph needs a value for {:?}", input.name));
            let value = match input.role {
                Role::PixelValues => {
                    floats(Some(input.element), pixels.as_ref().ok_or_else(missing)?.view())?
                }
                role => tokens_for(role, input.element, feed.tokens.ok_or_else(missing)?)?,
            };
            values.push((Cow::Borrowed(&input.name), value));
        }
        self.graph.run_in(company, values, output, |value| read_floats(value, output, "rows and dimensions"))
    }
}

/// Finds the role of an input, by the names in use and, for pictures and token ids, by its type.
fn input(path: &Path, port: &Port, all: &[Port]) -> Result<Input> {
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
            Ok(Input { name: port.name.clone(), role, element, shape: port.shape.clone() })
        }
        _ => Err(ClipError::file(
            path,
            format!(
                "the graph wants an input {:?} of type {}, which no CLIP encoder has",
                port.name, port.dtype
            ),
        )),
    }
}

/// The token ids, or one of the arrays that go with them, in the element type that the graph wants.
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
    integers(element, values)
}
