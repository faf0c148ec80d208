//! One ONNX graph of a model: which of its inputs and outputs mean what, and a run of it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use half::f16;
use ndarray::{Array2, ArrayView4, Ix2};
use ort::session::builder::SessionBuilder;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef};

use super::error::{ClipError, Result, onnx_message};
use super::sessions::{Company, Sessions};
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

/// One output of the graph.
struct Output {
    name: String,
    /// It has floating-point elements and two axes.
    is_matrix: bool,
}

impl Output {
    fn of(outlet: &Outlet) -> Output {
        let floats = matches!(
            outlet.dtype().tensor_type(),
            Some(TensorElementType::Float32 | TensorElementType::Float16)
        );
        let is_matrix = floats && outlet.dtype().tensor_shape().is_some_and(|shape| shape.len() == 2);
        Output { name: outlet.name().to_owned(), is_matrix }
    }
}

/// The values for one run. A graph of both towers gets both, of a graph of one tower one is unused.
pub(crate) struct Feed<'a> {
    pub pixel_values: Option<ArrayView4<'a, f32>>,
    pub tokens: Option<&'a TokenBatch>,
}

/// A loaded graph.
pub(crate) struct Graph {
    path: PathBuf,
    sessions: Sessions,
    pub inputs: Vec<Input>,
    outputs: Vec<Output>,
}

impl Graph {
    /// Loads the graph at `path`, once with each of `builders`, and finds out what its inputs are.
    pub fn open(builders: Vec<SessionBuilder>, path: &Path) -> Result<Graph> {
        let open = |mut builder: SessionBuilder| {
            builder.commit_from_file(path).map_err(|error| ClipError::file(path, onnx_message(&error)))
        };
        let sessions = builders.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        let Some(first) = sessions.first() else {
            return Err(ClipError::inference("no session was asked for"));
        };
        let inputs = first
            .inputs()
            .iter()
            .map(|outlet| input(path, outlet, first.inputs()))
            .collect::<Result<Vec<_>>>()?;
        let outputs = first.outputs().iter().map(Output::of).collect();
        Ok(Graph { path: path.to_owned(), sessions: Sessions::new(sessions), inputs, outputs })
    }

    /// How many pieces of a batch are best run at once; beyond the number of sessions they wait.
    pub fn side_by_side(&self) -> usize {
        self.sessions.side_by_side()
    }

    /// Ends the profile that the graph was opened with, and names its file; nothing is profiled from then on.
    pub fn end_profile(&self) -> Result<PathBuf> {
        // The first session has it, and is the one that is taken while nothing runs.
        let ended = self.sessions.with(Company::Alone, |session| session.end_profiling());
        Ok(PathBuf::from(ended.map_err(|error| ClipError::inference(onnx_message(&error)))?))
    }

    /// The file that the graph was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The input of this role, if the graph has one.
    pub fn input(&self, role: Role) -> Option<&Input> {
        self.inputs.iter().find(|input| input.role == role)
    }

    /// Name of the output that holds the embeddings: the first of `preferred` that exists, else
    /// `pooler_output`, else the only output of two axes.
    pub fn embedding_output(&self, preferred: &[&str]) -> Result<String> {
        let exists = |name: &&&str| self.outputs.iter().any(|output| output.name == **name);
        if let Some(name) = preferred.iter().chain(&["pooler_output"]).find(exists) {
            return Ok((*name).to_owned());
        }
        let mut matrices = self.outputs.iter().filter(|output| output.is_matrix);
        match (matrices.next(), matrices.next()) {
            (Some(output), None) => Ok(output.name.clone()),
            _ => {
                let found: Vec<&str> = self.outputs.iter().map(|output| output.name.as_str()).collect();
                Err(ClipError::file(
                    &self.path,
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
        let mut values: Vec<(Cow<str>, SessionInputValue)> = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let missing = || ClipError::inference(format!("the graph needs a value for {:?}", input.name));
            let value = match input.role {
                Role::PixelValues => {
                    let pixels = pixels.as_ref().ok_or_else(missing)?;
                    match input.element {
                        TensorElementType::Float16 => Tensor::from_array(pixels.mapv(f16::from_f32))
                            .map_err(ClipError::inference)?
                            .into(),
                        _ => TensorRef::from_array_view(pixels).map_err(ClipError::inference)?.into(),
                    }
                }
                role => integers(role, input.element, feed.tokens.ok_or_else(missing)?)?,
            };
            values.push((Cow::Borrowed(&input.name), value));
        }
        let options = RunOptions::new()
            .map_err(ClipError::inference)?
            .with_outputs(OutputSelector::no_default().with(output));
        self.sessions.with(company, |session| {
            let outputs = session
                .run_with_options(values, &options)
                .map_err(|error| ClipError::inference(onnx_message(&error)))?;
            let value = outputs
                .get(output)
                .ok_or_else(|| ClipError::inference(format!("the graph has no output {output:?}")))?;
            matrix(value, output)
        })
    }
}

/// Finds the role of an input, by the names in use and, for pictures and token ids, by its type.
fn input(path: &Path, outlet: &Outlet, all: &[Outlet]) -> Result<Input> {
    let element = outlet.dtype().tensor_type();
    let shape: Vec<i64> = outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
    let is_float = matches!(element, Some(TensorElementType::Float32 | TensorElementType::Float16));
    let is_integer = matches!(element, Some(TensorElementType::Int64 | TensorElementType::Int32));
    let role = match outlet.name() {
        "pixel_values" | "image" | "images" if is_float => Some(Role::PixelValues),
        "input_ids" | "text" | "texts" if is_integer => Some(Role::InputIds),
        "attention_mask" => Some(Role::AttentionMask),
        "position_ids" => Some(Role::PositionIds),
        "token_type_ids" => Some(Role::TokenTypeIds),
        _ if is_float && shape.len() == 4 => Some(Role::PixelValues),
        _ if is_integer && shape.len() == 2 && all.len() == 1 => Some(Role::InputIds),
        _ => None,
    };
    match (role, element) {
        (Some(role), Some(element)) if is_integer || is_float || element == TensorElementType::Bool => {
            Ok(Input { name: outlet.name().to_owned(), role, element, shape })
        }
        _ => Err(ClipError::file(
            path,
            format!(
                "the graph wants an input {:?} of type {}, which no CLIP encoder has",
                outlet.name(),
                outlet.dtype()
            ),
        )),
    }
}

/// The token ids, or one of the arrays that go with them, in the element type that the graph wants.
fn integers<'a>(
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
    let value = match element {
        // Token ids are below 2^31: they come from the tokenizer as u32 and index a vocabulary.
        TensorElementType::Int32 => Tensor::from_array(values.mapv(|value| value as i32)).map(Into::into),
        TensorElementType::Bool => Tensor::from_array(values.mapv(|value| value != 0)).map(Into::into),
        TensorElementType::Float32 => Tensor::from_array(values.mapv(|value| value as f32)).map(Into::into),
        TensorElementType::Float16 => {
            Tensor::from_array(values.mapv(|value| f16::from_f32(value as f32))).map(Into::into)
        }
        _ => match values {
            Cow::Borrowed(values) => TensorRef::from_array_view(values).map(Into::into),
            Cow::Owned(values) => Tensor::from_array(values).map(Into::into),
        },
    };
    value.map_err(ClipError::inference)
}

/// An output of the graph as rows × dimensions in single precision.
fn matrix(value: &DynValue, output: &str) -> Result<Array2<f32>> {
    match value.data_type() {
        TensorElementType::Float32 => extract(value, output, |value: f32| value),
        TensorElementType::Float16 => extract(value, output, f16::to_f32),
        other => Err(ClipError::inference(format!(
            "the output {output:?} has elements of type {other}, expected float"
        ))),
    }
}

fn extract<T: PrimitiveTensorElementType + Copy>(
    value: &DynValue,
    output: &str,
    to_f32: fn(T) -> f32,
) -> Result<Array2<f32>> {
    let array = value.try_extract_array::<T>().map_err(ClipError::inference)?;
    let shape = array.shape().to_vec();
    let array = array.into_dimensionality::<Ix2>().map_err(|_| {
        ClipError::inference(format!(
            "the output {output:?} has shape {shape:?}, expected rows and dimensions"
        ))
    })?;
    Ok(array.mapv(to_f32))
}
