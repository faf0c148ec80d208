//! One of the graphs that a generator is made of.

use std::path::Path;

use ort::value::TensorElementType;

use super::config::GeneratorConfig;
use crate::clip::profile::{Executed, ProfileFolder};
use crate::clip::provider::Candidate;
use crate::clip::session_graph::{Port, SessionGraph};
use crate::clip::{ClipError, OnnxRuntime, Result, SessionOptions};

/// Where and how the graphs of a generator are loaded.
#[derive(Clone, Copy)]
pub(super) struct Loading<'a> {
    pub runtime: &'a OnnxRuntime,
    pub config: &'a GeneratorConfig,
    pub options: &'a SessionOptions,
    pub candidate: Candidate,
    /// Where their probe runs are profiled, if they are.
    pub profile: Option<&'a ProfileFolder>,
}

/// A loaded graph. There is one session of each: copies of such weights would be too large.
pub(super) struct Part {
    /// The folder that it lies in, such as `unet`.
    name: &'static str,
    pub graph: SessionGraph,
}

impl Part {
    pub fn open(loading: &Loading, name: &'static str, path: &Path) -> Result<Part> {
        let builder = || {
            let builder = loading.options.builder(loading.runtime, loading.candidate)?;
            match loading.profile {
                Some(folder) => folder.attach(builder, name),
                None => Ok(builder),
            }
        };
        let failed = |reason| ClipError::Provider { provider: loading.candidate.name(), reason };
        let builder = builder().map_err(failed)?;
        Ok(Part { name, graph: SessionGraph::open(vec![builder], path)? })
    }

    /// What the probe run executed, by its profile, which ends.
    pub fn executed(&self) -> Result<Executed> {
        let name = format!("{}/model.onnx", self.name);
        Executed::read(name, &self.graph.end_profile()?).map_err(ClipError::inference)
    }

    /// Something is wrong with the file.
    pub fn wrong(&self, reason: impl ToString) -> ClipError {
        ClipError::file(self.graph.path(), reason)
    }

    /// The input of that name, whose type must be one of `elements` and which has so many axes, where that
    /// is known.
    pub fn input(&self, name: &str, elements: &[TensorElementType], axes: &[usize]) -> Result<&Port> {
        let found = || self.graph.inputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>();
        let port = self.graph.inputs.iter().find(|port| port.name == name);
        let port = port.ok_or_else(|| {
            self.wrong(format!("the graph has no input {name:?}: its inputs are {:?}", found()))
        })?;
        let is_known = port.element.is_some_and(|element| elements.contains(&element));
        if !is_known || !axes.contains(&port.shape.len()) {
            let names: Vec<String> = elements.iter().map(TensorElementType::to_string).collect();
            return Err(self.wrong(format!(
                "the input {name:?} is of type {}: expected {axes:?} axes of {}",
                port.dtype,
                names.join(" or ")
            )));
        }
        Ok(port)
    }

    /// An error if the graph has other inputs than these, which are all that `owner` has.
    pub fn refuse_other_inputs(&self, known: &[&str], owner: &str) -> Result<()> {
        match self.graph.inputs.iter().find(|port| !known.contains(&port.name.as_str())) {
            Some(port) => {
                Err(self
                    .wrong(format!("the graph wants an input {:?}, which {owner} does not have", port.name)))
            }
            None => Ok(()),
        }
    }

    /// The first of these outputs that the graph has, else its only output of floats with so many axes.
    pub fn output(&self, preferred: &[&str], axes: usize) -> Result<String> {
        let outputs = &self.graph.outputs;
        let has = |name: &&&str| outputs.iter().any(|port| port.name == **name);
        if let Some(name) = preferred.iter().find(has) {
            return Ok((*name).to_owned());
        }
        let mut others = outputs.iter().filter(|port| port.is_float() && port.shape.len() == axes);
        match (others.next(), others.next()) {
            (Some(port), None) => Ok(port.name.clone()),
            _ => {
                let found: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
                Err(self
                    .wrong(format!("the graph has no output {:?}: its outputs are {found:?}", preferred[0])))
            }
        }
    }
}

/// Elements that stand for values between whole numbers.
pub(super) const FLOATS: [TensorElementType; 2] = [TensorElementType::Float32, TensorElementType::Float16];
/// Elements that token ids and masks come in.
pub(super) const INTEGERS: [TensorElementType; 2] = [TensorElementType::Int64, TensorElementType::Int32];
