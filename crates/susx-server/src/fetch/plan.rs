//! Which files of a model are needed.

use std::path::{Component, Path};

use super::error::FetchError;
use super::hub::{Listing, RemoteFile};

/// The files to download.
#[derive(Debug)]
pub struct Plan {
    /// Small files first, so that what is wrong with a model shows early.
    pub files: Vec<RemoteFile>,
    /// The paths of the ONNX files among them.
    pub graphs: Vec<String>,
}

/// Precisions by the names of transformers.js, with the suffixes of the files that have them.
const PRECISIONS: [(&str, &[&str]); 8] = [
    ("fp32", &[""]),
    ("fp16", &["_fp16"]),
    ("q8", &["_quantized", "_q8"]),
    ("int8", &["_int8"]),
    ("uint8", &["_uint8"]),
    ("q4", &["_q4"]),
    ("q4f16", &["_q4f16"]),
    ("bnb4", &["_bnb4"]),
];
const DEFAULT_PRECISION: &str = "fp32";

/// Folders of the ONNX files, in order of preference.
const FOLDERS: [&str; 2] = ["onnx/", ""];

/// The files of an embedding model apart from its graphs.
const CONFIGURATION: [&str; 7] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "susx.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The file that identifies a Stable Diffusion.
const GENERATOR_INDEX: &str = "model_index.json";
const GENERATOR_CONFIGURATION: [&str; 10] = [
    GENERATOR_INDEX,
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae_decoder/config.json",
];
const GENERATOR_GRAPHS: [&str; 3] = ["text_encoder/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx"];
const SAFETY_CHECKER: &str = "safety_checker/model.onnx";

impl Plan {
    /// The files that `repo` needs in the precision `dtype`; without one, in single precision.
    pub fn new(repo: &str, listing: &Listing, dtype: Option<&str>) -> Result<Plan, FetchError> {
        let has = |path: &str| listing.files.iter().any(|file| file.path == path);
        let (graphs, configuration) = match has(GENERATOR_INDEX) {
            true => (generator_graphs(repo, &has, dtype)?, &GENERATOR_CONFIGURATION[..]),
            false => (embedder_graphs(repo, &has, dtype)?, &CONFIGURATION[..]),
        };
        let is_needed = |file: &&RemoteFile| {
            let path = file.path.as_str();
            is_plain(path)
                && (configuration.contains(&path) || graphs.iter().any(|graph| belongs_to(path, graph)))
        };
        let mut files: Vec<RemoteFile> = listing.files.iter().filter(is_needed).cloned().collect();
        files.sort_by_key(|file| file.size);
        Ok(Plan { files, graphs })
    }
}

/// Whether a file is a graph or holds its weights. Exporters call these `model.onnx_data` (with a number, if there are
/// several) and `model.onnx.data`; those of Stable Diffusions also `weights.pb`.
fn belongs_to(path: &str, graph: &str) -> bool {
    let folder = graph.rsplit_once('/').map_or("", |(folder, _)| folder);
    match path.strip_prefix(graph) {
        Some(rest) => rest.is_empty() || rest.starts_with("_data") || rest.starts_with(".data"),
        None => path.strip_prefix(folder) == Some("/weights.pb"),
    }
}

/// Whether a path leads nowhere but below the model's directory.
fn is_plain(path: &str) -> bool {
    !path.contains(['\\', '\0'])
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn generator_graphs(
    repo: &str,
    has: &dyn Fn(&str) -> bool,
    dtype: Option<&str>,
) -> Result<Vec<String>, FetchError> {
    if let Some(dtype) = dtype {
        let reason =
            format!("--dtype is {dtype}, but a Stable Diffusion on the hub has only one precision: omit it");
        return Err(FetchError::Argument(reason));
    }
    if !GENERATOR_GRAPHS.iter().all(|path| has(path)) {
        return Err(FetchError::NoOnnx { repo: repo.to_owned() });
    }
    let checker = Some(SAFETY_CHECKER).filter(|path| has(path));
    Ok(GENERATOR_GRAPHS.into_iter().chain(checker).map(str::to_owned).collect())
}

fn embedder_graphs(
    repo: &str,
    has: &dyn Fn(&str) -> bool,
    dtype: Option<&str>,
) -> Result<Vec<String>, FetchError> {
    let wanted = dtype.unwrap_or(DEFAULT_PRECISION);
    if !PRECISIONS.iter().any(|(name, _)| *name == wanted) {
        let names: Vec<&str> = PRECISIONS.iter().map(|(name, _)| *name).collect();
        let reason = format!("--dtype is {wanted}: expected one of {}", names.join(", "));
        return Err(FetchError::Argument(reason));
    }
    let available: Vec<(&str, Vec<String>)> =
        PRECISIONS.iter().map(|&(name, suffixes)| (name, graphs_with(has, suffixes))).collect();
    // Both encoders, if the model has both in any precision.
    let most = available.iter().map(|(_, graphs)| encoders(graphs)).max().unwrap_or(0);
    if most == 0 {
        return Err(FetchError::NoOnnx { repo: repo.to_owned() });
    }
    let complete: Vec<(&str, Vec<String>)> =
        available.into_iter().filter(|(_, graphs)| encoders(graphs) == most).collect();
    let found: Vec<&str> = complete.iter().map(|(name, _)| *name).collect();
    let found = found.join(", ");
    let chosen = complete.into_iter().find(|(name, _)| *name == wanted).map(|(_, graphs)| graphs);
    let wanted = wanted.to_owned();
    chosen.ok_or(FetchError::NoSuchPrecision { repo: repo.to_owned(), wanted, found })
}

/// The graphs with the first suffix that has any: those of the encoders, or else one for everything.
fn graphs_with(has: &dyn Fn(&str) -> bool, suffixes: &[&str]) -> Vec<String> {
    let find = |stem: &str, suffix: &str| {
        let paths = FOLDERS.iter().map(|folder| format!("{folder}{stem}{suffix}.onnx"));
        paths.into_iter().find(|path| has(path))
    };
    let of_suffix = |suffix: &&str| {
        let encoders: Vec<String> =
            ["vision_model", "text_model"].into_iter().filter_map(|stem| find(stem, suffix)).collect();
        match encoders.is_empty() {
            true => find("model", suffix).into_iter().collect(),
            false => encoders,
        }
    };
    suffixes.iter().map(of_suffix).find(|graphs: &Vec<String>| !graphs.is_empty()).unwrap_or_default()
}

/// How much of a model the graphs are: a fused graph counts as both encoders.
fn encoders(graphs: &[String]) -> usize {
    match graphs {
        [only] if !only.contains("vision_model") && !only.contains("text_model") => 2,
        graphs => graphs.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(paths: &[&str], dtype: Option<&str>) -> Result<Plan, FetchError> {
        let file =
            |path: &&str| RemoteFile { path: (*path).to_owned(), size: path.len() as u64, sha256: None };
        let listing = Listing { commit: "0123456".into(), files: paths.iter().map(file).collect() };
        Plan::new("owner/name", &listing, dtype)
    }

    fn chosen(paths: &[&str], dtype: Option<&str>) -> Vec<String> {
        let mut files: Vec<String> =
            plan(paths, dtype).unwrap().files.into_iter().map(|file| file.path).collect();
        files.sort();
        files
    }

    fn refusal(paths: &[&str], dtype: Option<&str>) -> String {
        plan(paths, dtype).unwrap_err().to_string()
    }

    const CLIP: [&str; 11] = [
        "README.md",
        "config.json",
        "onnx/model.onnx",
        "onnx/text_model.onnx",
        "onnx/text_model_fp16.onnx",
        "onnx/vision_model.onnx",
        "onnx/vision_model_fp16.onnx",
        "onnx/vision_model_q4.onnx",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "tokenizer.json",
    ];

    #[test]
    fn both_encoders_of_one_precision() {
        let fp32 = chosen(&CLIP, None);
        let configuration = ["config.json", "preprocessor_config.json", "tokenizer.json"];
        let with = |graphs: [&str; 2]| {
            let mut all: Vec<String> =
                graphs.iter().chain(&configuration).map(|path| (*path).to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(fp32, with(["onnx/text_model.onnx", "onnx/vision_model.onnx"]));
        assert_eq!(
            chosen(&CLIP, Some("fp16")),
            with(["onnx/text_model_fp16.onnx", "onnx/vision_model_fp16.onnx"])
        );
        // The text encoder is missing.
        assert_eq!(refusal(&CLIP, Some("q4")), "owner/name has no weights in q4; it has fp32, fp16");
        assert!(refusal(&CLIP, Some("f32")).contains("--dtype is f32: expected one of fp32, fp16, q8"));
    }

    #[test]
    fn weights_beside_their_graph() {
        let paths = [
            "model.onnx",
            "model.onnx.data",
            "model.onnx_data",
            "model.onnx_data_1",
            "model_fp16.onnx",
            "model_fp16.onnx_data",
            "other.onnx_data",
            "../model.onnx_data",
        ];
        assert_eq!(chosen(&paths, None), paths[..4]);
        assert_eq!(chosen(&paths, Some("fp16")), paths[4..6]);
    }

    #[test]
    fn a_generator() {
        let paths = [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/model.onnx",
            "unet/config.json",
            "unet/model.onnx",
            "unet/model.onnx_data",
            "unet/weights.pb",
            "vae_decoder/model.onnx",
            "vae_encoder/model.onnx",
        ];
        assert_eq!(chosen(&paths, None), paths[..8]);
        assert!(refusal(&paths, Some("fp16")).contains("omit it"));
        assert!(refusal(&paths[..4], None).contains("no ONNX files"));
    }

    #[test]
    fn a_model_without_onnx() {
        assert!(
            refusal(&["config.json", "model.safetensors"], None).contains("owner/name has no ONNX files")
        );
    }
}
