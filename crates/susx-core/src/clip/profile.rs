//! Which execution provider really ran a graph: ONNX Runtime's own profile of a run.
//!
//! ONNX Runtime gives the CPU whatever a provider does not take, be it every operation of the graph,
//! and says nothing of it. Its profile has an event for each operation that ran, with its provider.
//! A session is profiled from its creation until [`Graph::end_profile`](super::graph::Graph::end_profile),
//! and never again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ort::session::builder::SessionBuilder;
use serde::Deserialize;

use super::error::onnx_message;

/// Where ONNX Runtime writes the profiles of one attempt to load a model; removed with its content.
///
/// One left behind by a process that died meanwhile is replaced: GPU drivers do kill processes, and
/// the next attempt at the same model has the same folder.
#[derive(Debug)]
pub(crate) struct ProfileFolder(PathBuf);

impl ProfileFolder {
    pub fn new(path: PathBuf) -> Result<ProfileFolder, String> {
        let failed =
            |error| format!("cannot write a profile of the probe run to {}: {error}", path.display());
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(ProfileFolder(path))
    }

    /// Has a session write its profile here, under a name that no other session has.
    pub fn attach(&self, builder: SessionBuilder, name: &str) -> Result<SessionBuilder, String> {
        // The name begins with this; ONNX Runtime appends the time.
        builder.with_profiling(self.0.join(name)).map_err(|error| onnx_message(&error))
    }
}

impl Drop for ProfileFolder {
    fn drop(&mut self) {
        // Failing that, the next attempt removes it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What one provider did of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// How often each kind of operation ran, such as `MatMul`. A provider that compiles parts of the
    /// graph runs each part as one operation, of a name of its own.
    pub operations: BTreeMap<String, usize>,
    pub microseconds: f64,
}

/// What the last run of one graph executed, by ONNX Runtime's names of the providers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Executed {
    /// What the graph is called in messages, such as its file's name.
    pub graph: String,
    pub providers: BTreeMap<String, Share>,
}

/// One line of the profile; there are more fields.
#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    /// Microseconds since the profile began, and how many it took.
    ts: f64,
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    provider: Option<String>,
    op_name: Option<String>,
}

impl Executed {
    /// Reads a finished profile.
    pub fn read(graph: String, profile: &Path) -> Result<Executed, String> {
        let failed = |reason: String| format!("ONNX Runtime's profile of the probe run: {reason}");
        let text = fs::read(profile).map_err(|error| failed(error.to_string()))?;
        Executed::parse(graph, &text).map_err(|error| failed(error.to_string()))
    }

    fn parse(graph: String, profile: &[u8]) -> serde_json::Result<Executed> {
        let events: Vec<Event> = serde_json::from_slice(profile)?;
        // The first run is another's: it loads kernels and searches for algorithms.
        let runs = events.iter().filter(|event| event.name == "model_run");
        let last = runs.map(|event| event.ts).fold(0.0, f64::max);
        let mut providers: BTreeMap<String, Share> = BTreeMap::new();
        for event in events {
            let is_operation = event.cat == "Node" && event.name.ends_with("_kernel_time");
            if let (true, Some(provider)) = (is_operation && event.ts >= last, event.args.provider) {
                let share = providers.entry(provider).or_default();
                *share.operations.entry(event.args.op_name.unwrap_or_default()).or_default() += 1;
                share.microseconds += event.dur;
            }
        }
        Ok(Executed { graph, providers })
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
        let executed = Executed::parse("text_model.onnx".into(), PROFILE.as_bytes()).unwrap();
        assert_eq!(executed.graph, "text_model.onnx");
        let cuda = Share { operations: [("MatMul".into(), 1)].into(), microseconds: 30.0 };
        let cpu = Share { operations: [("Shape".into(), 2)].into(), microseconds: 7.0 };
        assert_eq!(
            executed.providers,
            [("CUDAExecutionProvider".into(), cuda), ("CPUExecutionProvider".into(), cpu)].into()
        );
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for text in ["", "[", "{}", r#"[{"cat": "Node"}]"#] {
            assert!(Executed::parse("m.onnx".into(), text.as_bytes()).is_err(), "{text}");
        }
        let missing = Executed::read("m.onnx".into(), Path::new("/nonexistent/profile.json"));
        assert!(missing.unwrap_err().contains("profile of the probe run: No such file"));
    }

    #[test]
    fn the_folder_goes_and_a_left_behind_one_is_replaced() {
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
