//! A loaded ONNX graph: the sessions that run it, and its inputs and outputs by name, type and shape.
//!
//! What they mean is for the callers to know: a CLIP's towers, the parts of a generator.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use half::f16;
use ndarray::{Array, Array2, ArrayView, Dimension};
use ort::session::builder::SessionBuilder;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef};

use super::error::{ClipError, Result, onnx_message};
use super::sessions::{Company, Sessions};

/// An input or output of a graph.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub name: String,
    /// `None` for what is no tensor.
    pub element: Option<TensorElementType>,
    /// Extent of each axis; -1 where it is free.
    pub shape: Vec<i64>,
    /// The type in ONNX Runtime's words.
    pub dtype: String,
}

impl Port {
    fn of(outlet: &Outlet) -> Port {
        Port {
            name: outlet.name().to_owned(),
            element: outlet.dtype().tensor_type(),
            shape: outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default(),
            dtype: outlet.dtype().to_string(),
        }
    }

    pub fn is_float(&self) -> bool {
        matches!(self.element, Some(TensorElementType::Float32 | TensorElementType::Float16))
    }

    pub fn is_integer(&self) -> bool {
        matches!(self.element, Some(TensorElementType::Int64 | TensorElementType::Int32))
    }

    /// The extent that the graph was exported for; `None` where it takes any.
    pub fn exported(&self, axis: usize) -> Option<usize> {
        self.shape.get(axis).and_then(|&extent| usize::try_from(extent).ok()).filter(|&extent| extent > 0)
    }
}

/// A loaded graph.
pub(crate) struct SessionGraph {
    path: PathBuf,
    sessions: Sessions,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

/// The values of a run, by the names of the inputs.
pub(crate) type Values<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

impl SessionGraph {
    /// Loads the graph at `path`, once with each of `builders`.
    pub fn open(builders: Vec<SessionBuilder>, path: &Path) -> Result<SessionGraph> {
        let open = |mut builder: SessionBuilder| {
            builder.commit_from_file(path).map_err(|error| ClipError::file(path, onnx_message(&error)))
        };
        let sessions = builders.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        let Some(first) = sessions.first() else {
            return Err(ClipError::inference("no session was asked for"));
        };
        let inputs = first.inputs().iter().map(Port::of).collect();
        let outputs = first.outputs().iter().map(Port::of).collect();
        Ok(SessionGraph { path: path.to_owned(), sessions: Sessions::new(sessions), inputs, outputs })
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

    /// Runs the graph alone and hands `output` to `read`.
    pub fn run<R>(
        &self,
        values: Values,
        output: &str,
        read: impl FnOnce(&DynValue) -> Result<R>,
    ) -> Result<R> {
        self.run_in(Company::Alone, values, output, read)
    }

    /// Runs the graph, alone or beside others, and hands `output` to `read`.
    pub fn run_in<R>(
        &self,
        company: Company,
        values: Values,
        output: &str,
        read: impl FnOnce(&DynValue) -> Result<R>,
    ) -> Result<R> {
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
            read(value)
        })
    }
}

/// A tensor of the graph's floating-point type, which is the array itself where that is single precision.
pub(crate) fn floats<'a, D: Dimension + 'static>(
    element: Option<TensorElementType>,
    values: ArrayView<'a, f32, D>,
) -> Result<SessionInputValue<'a>> {
    let value = match element {
        Some(TensorElementType::Float16) => Tensor::from_array(values.mapv(f16::from_f32)).map(Into::into),
        _ => TensorRef::from_array_view(values).map(Into::into),
    };
    value.map_err(ClipError::inference)
}

/// A tensor of the graph's type for what are whole numbers, such as token ids.
pub(crate) fn integers<'a>(
    element: TensorElementType,
    values: Cow<'a, Array2<i64>>,
) -> Result<SessionInputValue<'a>> {
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

/// An output of the graph in single precision, which must have the axes of `D`; `expected` says what they are.
pub(crate) fn read_floats<D: Dimension>(
    value: &DynValue,
    output: &str,
    expected: &str,
) -> Result<Array<f32, D>> {
    match value.data_type() {
        TensorElementType::Float32 => read(value, output, expected, |value: f32| value),
        TensorElementType::Float16 => read(value, output, expected, f16::to_f32),
        other => Err(ClipError::inference(format!(
            "the output {output:?} has elements of type {other}, expected float"
        ))),
    }
}

fn read<T: PrimitiveTensorElementType + Copy, D: Dimension>(
    value: &DynValue,
    output: &str,
    expected: &str,
    to_f32: fn(T) -> f32,
) -> Result<Array<f32, D>> {
    let array = value.try_extract_array::<T>().map_err(ClipError::inference)?;
    let shape = array.shape().to_vec();
    let array = array.into_dimensionality::<D>().map_err(|_| {
        ClipError::inference(format!("the output {output:?} has shape {shape:?}, expected {expected}"))
    })?;
    Ok(array.mapv(to_f32))
}
