//! A loaded ONNX graph: the sessions that run it, and its inputs and outputs by name, type and shape.
//!
//! The callers know what the inputs and outputs mean: the encoders of a CLIP, the parts of a generator.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use half::f16;
use ndarray::{Array, Array2, ArrayView, Dimension};
use ort::session::builder::SessionBuilder;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef};

use super::error::{OnnxError, Result, onnx_message};
use super::profile::GraphProfile;
use super::sessions::{Concurrency, Sessions};

/// An input or output of a graph.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The type of a tensor's elements; `None` if it is not a tensor.
    pub element: Option<TensorElementType>,
    /// Size of each axis; -1 where the graph takes any.
    pub shape: Vec<i64>,
    /// The whole type in ONNX Runtime's words, for messages.
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

    /// Whether it is a tensor of floating-point numbers.
    pub fn is_float(&self) -> bool {
        matches!(self.element, Some(TensorElementType::Float32 | TensorElementType::Float16))
    }

    /// Whether it is a tensor of integers.
    pub fn is_integer(&self) -> bool {
        matches!(self.element, Some(TensorElementType::Int64 | TensorElementType::Int32))
    }

    /// The size of `axis` that the graph was exported for; `None` if it takes any.
    pub fn exported_size(&self, axis: usize) -> Option<usize> {
        self.shape.get(axis).and_then(|&size| usize::try_from(size).ok()).filter(|&size| size > 0)
    }
}

/// A loaded graph, shared by threads.
pub struct Graph {
    path: PathBuf,
    sessions: Sessions,
    /// The graph's inputs.
    pub inputs: Vec<Port>,
    /// The graph's outputs.
    pub outputs: Vec<Port>,
}

/// The input values of a run, by the names of the inputs.
pub type Values<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

impl Graph {
    /// Loads the graph at `path`: one session with each of `builders`, the one with all threads first.
    pub fn open(builders: Vec<SessionBuilder>, path: &Path) -> Result<Graph> {
        let open = |mut builder: SessionBuilder| {
            builder.commit_from_file(path).map_err(|error| OnnxError::file(path, onnx_message(&error)))
        };
        let sessions = builders.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        let Some(first) = sessions.first() else {
            return Err(OnnxError::inference("no session was asked for"));
        };
        let inputs = first.inputs().iter().map(Port::of).collect();
        let outputs = first.outputs().iter().map(Port::of).collect();
        Ok(Graph { path: path.to_owned(), sessions: Sessions::new(sessions), inputs, outputs })
    }

    /// The number of runs that make good use of the CPU in parallel. Further ones wait for a session.
    pub fn concurrency(&self) -> usize {
        self.sessions.concurrency()
    }

    /// Ends profiling and returns the profile of the last run. `name` is the graph's name for messages.
    ///
    /// Fails if the graph was loaded without a profile, or if the profile has already ended.
    pub fn end_profile(&self, name: String) -> Result<GraphProfile> {
        // The first session is profiled, and a serial run takes the first session.
        let ended = self.sessions.with(Concurrency::Serial, |session| session.end_profiling());
        let path = ended.map_err(|error| OnnxError::inference(onnx_message(&error)))?;
        GraphProfile::read(name, Path::new(&path)).map_err(OnnxError::inference)
    }

    /// The file that the graph was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the graph on `values`, waiting for a session, and calls `read` with the value of `output`.
    pub fn run<R>(
        &self,
        concurrency: Concurrency,
        values: Values,
        output: &str,
        read: impl FnOnce(&DynValue) -> Result<R>,
    ) -> Result<R> {
        let options = RunOptions::new()
            .map_err(OnnxError::inference)?
            .with_outputs(OutputSelector::no_default().with(output));
        self.sessions.with(concurrency, |session| {
            let outputs = session
                .run_with_options(values, &options)
                .map_err(|error| OnnxError::inference(onnx_message(&error)))?;
            let value = outputs
                .get(output)
                .ok_or_else(|| OnnxError::inference(format!("the graph has no output {output:?}")))?;
            read(value)
        })
    }
}

/// A tensor of an input's floating-point type: a view of the array for single precision, else a converted copy.
pub fn floats<'a, D: Dimension + 'static>(
    element: Option<TensorElementType>,
    values: ArrayView<'a, f32, D>,
) -> Result<SessionInputValue<'a>> {
    let value = match element {
        Some(TensorElementType::Float16) => Tensor::from_array(values.mapv(f16::from_f32)).map(Into::into),
        _ => TensorRef::from_array_view(values).map(Into::into),
    };
    value.map_err(OnnxError::inference)
}

/// A tensor of integers, such as token ids, converted to the element type of an input.
pub fn integers<'a>(
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
    value.map_err(OnnxError::inference)
}

/// The value of an output in single precision. It must have as many axes as `D`; `expected` names them for the message.
pub fn read_floats<D: Dimension>(value: &DynValue, output: &str, expected: &str) -> Result<Array<f32, D>> {
    match value.data_type() {
        TensorElementType::Float32 => extract(value, output, expected, |value: f32| value),
        TensorElementType::Float16 => extract(value, output, expected, f16::to_f32),
        other => Err(OnnxError::inference(format!(
            "the output {output:?} has elements of type {other}, expected float"
        ))),
    }
}

fn extract<T: PrimitiveTensorElementType + Copy, D: Dimension>(
    value: &DynValue,
    output: &str,
    expected: &str,
    to_f32: fn(T) -> f32,
) -> Result<Array<f32, D>> {
    let array = value.try_extract_array::<T>().map_err(OnnxError::inference)?;
    let shape = array.shape().to_vec();
    let array = array.into_dimensionality::<D>().map_err(|_| {
        OnnxError::inference(format!("the output {output:?} has shape {shape:?}, expected {expected}"))
    })?;
    Ok(array.mapv(to_f32))
}
