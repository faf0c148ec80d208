//! Which execution provider really ran a graph, by ONNX Runtime's own profile of a run.
//!
//! ONNX Runtime silently runs on the CPU everything that a provider does not accept, even if that is every operation of
//! the graph. Its profile has an event for each operation that ran, with its provider. A session is profiled from its
//! creation until [`Graph::end_profile`](super::Graph::end_profile), and never again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ort::session::builder::SessionBuilder;
use serde::Deserialize;

use super::error::onnx_message;

/// The folder to which ONNX Runtime writes the profiles of one attempt to load a model. It is removed on drop.
///
/// A GPU driver may kill the process, which leaves the folder behind. The next attempt at the same model replaces it.
#[derive(Debug)]
pub struct ProfileFolder(PathBuf);

impl ProfileFolder {
    /// Creates the folder, empty. The error is a sentence.
    pub fn new(path: PathBuf) -> Result<ProfileFolder, String> {
        let failed =
            |error| format!("cannot write a profile of the probe run to {}: {error}", path.display());
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(ProfileFolder(path))
    }

    /// Makes a session write its profile to this folder, under a `name` that no other session has.
    pub(super) fn attach(&self, builder: SessionBuilder, name: &str) -> Result<SessionBuilder, String> {
        // ONNX Runtime appends the time to the name.
        builder.with_profiling(self.0.join(name)).map_err(|error| onnx_message(&error))
    }
}

impl Drop for ProfileFolder {
    fn drop(&mut self) {
        // If this fails, the next attempt removes the folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What one provider ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderProfile {
    /// How often each kind of operation ran, such as `MatMul`. A provider that compiles parts of the graph runs each
    /// part as one operation, with its own name.
    pub operations: BTreeMap<String, usize>,
    /// Their total time.
    pub microseconds: f64,
}

/// What each provider ran of one graph, in its last run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphProfile {
    /// The graph's name for messages, such as its file's name.
    pub graph: String,
    /// By ONNX Runtime's names of the providers.
    pub providers: BTreeMap<String, ProviderProfile>,
}

/// One event of the profile. There are more fields.
#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    /// Start, in microseconds since the profile began.
    ts: f64,
    /// Duration in microseconds.
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    provider: Option<String>,
    op_name: Option<String>,
}

impl GraphProfile {
    /// Reads a finished profile. The error is a sentence.
    pub(super) fn read(graph: String, profile: &Path) -> Result<GraphProfile, String> {
        let failed = |reason: String| format!("ONNX Runtime's profile of the probe run: {reason}");
        let text = fs::read(profile).map_err(|error| failed(error.to_string()))?;
        GraphProfile::parse(graph, &text).map_err(|error| failed(error.to_string()))
    }

    fn parse(graph: String, profile: &[u8]) -> serde_json::Result<GraphProfile> {
        let events: Vec<Event> = serde_json::from_slice(profile)?;
        // Only the last run counts: the first one also loads kernels and searches for algorithms.
        let runs = events.iter().filter(|event| event.name == "model_run");
        let last = runs.map(|event| event.ts).fold(0.0, f64::max);
        let mut providers: BTreeMap<String, ProviderProfile> = BTreeMap::new();
        for event in events {
            let is_operation = event.cat == "Node" && event.name.ends_with("_kernel_time");
            if let (true, Some(provider)) = (is_operation && event.ts >= last, event.args.provider) {
                let provider = providers.entry(provider).or_default();
                *provider.operations.entry(event.args.op_name.unwrap_or_default()).or_default() += 1;
                provider.microseconds += event.dur;
            }
        }
        Ok(GraphProfile { graph, providers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two runs as ONNX Runtime 1.24 writes them, shortened.
    const PROFILE: &str = r#"[
{"cat" : "Session","pid" :7,"tid" :7,"dur" :32651,"ts" :16,"ph" : "X","name" :"model_loading_uri","args" : {}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :90000,"ts" :105,"ph" : "X","name" :"a_kernel_time","args" : {"provider" : "CUDAExecutionProvider","op_name" : "MatMul","output_size" : "64"}},
{"cat" : "Session","pid" :7,"tid" :7,"dur" :90010,"ts" :100,"ph" : "X","name" :"model_run","args" : {}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :30,"ts" :100105,"ph" : "X","name" :"a_kernel_time","args" : {"provider" : "CUDAExecutionProvider","op_name" : "MatMul"}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :0,"ts" :100136,"ph" : "X","name" :"b_fence_before","args" : {"op_name" : "Shape"}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :2,"ts" :100137,"ph" : "X","name" :"b_kernel_time","args" : {"thread_scheduling_stats" : {"main_thread": {"core": 0}},"provider" : "CPUExecutionProvider","op_name" : "Shape"}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :5,"ts" :100140,"ph" : "X","name" :"c_kernel_time","args" : {"provider" : "CPUExecutionProvider","op_name" : "Shape"}},
{"cat" : "Session","pid" :7,"tid" :7,"dur" :60,"ts" :100101,"ph" : "X","name" :"SequentialExecutor::Execute","args" : {}},
{"cat" : "Session","pid" :7,"tid" :7,"dur" :70,"ts" :100100,"ph" : "X","name" :"model_run","args" : {}}
]"#;

    #[test]
    fn the_last_run_counts() {
        let profile = GraphProfile::parse("text_model.onnx".into(), PROFILE.as_bytes()).unwrap();
        assert_eq!(profile.graph, "text_model.onnx");
        let cuda = ProviderProfile { operations: [("MatMul".into(), 1)].into(), microseconds: 30.0 };
        let cpu = ProviderProfile { operations: [("Shape".into(), 2)].into(), microseconds: 7.0 };
        assert_eq!(
            profile.providers,
            [("CUDAExecutionProvider".into(), cuda), ("CPUExecutionProvider".into(), cpu)].into()
        );
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for text in ["", "[", "{}", r#"[{"cat": "Node"}]"#] {
            assert!(GraphProfile::parse("m.onnx".into(), text.as_bytes()).is_err(), "{text}");
        }
        let missing = GraphProfile::read("m.onnx".into(), Path::new("/nonexistent/profile.json"));
        assert!(missing.unwrap_err().contains("profile of the probe run: No such file"));
    }

    #[test]
    fn the_folder_is_removed_and_a_stale_one_is_replaced() {
        let path = std::env::temp_dir().join(format!("susx-profile-folder-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("old.json"), "left behind").unwrap();
        let folder = ProfileFolder::new(path.clone()).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::write(path.join("new.json"), "").unwrap();
        drop(folder);
        assert!(!path.exists());
        let reason = ProfileFolder::new("/dev/null/profile".into()).unwrap_err();
        assert!(reason.contains("/dev/null/profile"), "{reason}");
    }
}
