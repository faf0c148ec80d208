//! One of the graphs that a generator consists of.

use std::path::Path;

use ort::value::TensorElementType;
use susx_core::onnx::{
    Candidate, Graph, GraphProfile, OnnxError, OnnxRuntime, Port, ProfileFolder, Result, SessionOptions,
};

use super::config::GeneratorConfig;

/// What the loading of a generator's graphs has in common.
#[derive(Clone, Copy)]
pub(super) struct LoadContext<'a> {
    pub runtime: &'a OnnxRuntime,
    pub config: &'a GeneratorConfig,
    pub options: &'a SessionOptions,
    pub candidate: Candidate,
    /// The folder for profiles of the probe runs; `None` if they are not profiled.
    pub profile: Option<&'a ProfileFolder>,
}

/// A loaded graph. It has one session only, because copies of its weights would be too large.
pub(super) struct Component {
    /// Its folder, such as `unet`.
    name: &'static str,
    pub graph: Graph,
}

impl Component {
    pub fn load(context: &LoadContext, name: &'static str, path: &Path) -> Result<Component> {
        let profile = context.profile.map(|folder| (folder, name));
        let builder = context.options.builder(context.runtime, context.candidate, profile)?;
        Ok(Component { name, graph: Graph::open(vec![builder], path)? })
    }

    /// Ends profiling and returns the profile of the last run.
    pub fn end_profile(&self) -> Result<GraphProfile> {
        self.graph.end_profile(format!("{}/model.onnx", self.name))
    }

    /// An error about the graph's file.
    pub fn error(&self, reason: impl ToString) -> OnnxError {
        OnnxError::file(self.graph.path(), reason)
    }

    /// The input called `name`. Its element type must be one of `elements`, and its number of axes one of `axes`.
    pub fn input(&self, name: &str, elements: &[TensorElementType], axes: &[usize]) -> Result<&Port> {
        let found = || self.graph.inputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>();
        let port = self.graph.inputs.iter().find(|port| port.name == name);
        let port = port.ok_or_else(|| {
            self.error(format!("the graph has no input {name:?}: its inputs are {:?}", found()))
        })?;
        let is_known = port.element.is_some_and(|element| elements.contains(&element));
        if !is_known || !axes.contains(&port.shape.len()) {
            let names: Vec<String> = elements.iter().map(TensorElementType::to_string).collect();
            return Err(self.error(format!(
                "the input {name:?} is of type {}: expected {axes:?} axes of {}",
                port.dtype,
                names.join(" or ")
            )));
        }
        Ok(port)
    }

    /// Fails if the graph has inputs other than `known`, which are all that `owner` has.
    pub fn refuse_other_inputs(&self, known: &[&str], owner: &str) -> Result<()> {
        match self.graph.inputs.iter().find(|port| !known.contains(&port.name.as_str())) {
            Some(port) => {
                Err(self
                    .error(format!("the graph has an input {:?}, which {owner} does not have", port.name)))
            }
            None => Ok(()),
        }
    }

    /// Name of the output called `preferred`, else of the only floating-point output with `axes` axes.
    pub fn output(&self, preferred: &str, axes: usize) -> Result<String> {
        let outputs = &self.graph.outputs;
        if outputs.iter().any(|port| port.name == preferred) {
            return Ok(preferred.to_owned());
        }
        let mut others = outputs.iter().filter(|port| port.is_float() && port.shape.len() == axes);
        match (others.next(), others.next()) {
            (Some(port), None) => Ok(port.name.clone()),
            _ => {
                let found: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
                let reason = format!("the graph has no output {preferred:?}: its outputs are {found:?}");
                Err(self.error(reason))
            }
        }
    }
}

/// The element types of floating-point inputs.
pub(super) const FLOATS: [TensorElementType; 2] = [TensorElementType::Float32, TensorElementType::Float16];
/// The element types of token ids and masks.
pub(super) const INTEGERS: [TensorElementType; 2] = [TensorElementType::Int64, TensorElementType::Int32];
