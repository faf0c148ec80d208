//! The inference process and its models.

use susx_server::protocol::Model;

use super::Item;
use crate::inference::client;
use crate::inference::server_stats::server_state;
use crate::pg::error::Result;
use crate::pg::guc;

/// The kind of models that embed both images and texts.
const CLIP: &str = "clip";
/// The execution provider without a GPU.
const CPU: &str = "CPUExecutionProvider";

pub(super) fn items() -> Vec<Item> {
    let name = "inference process";
    let models = match client::models() {
        Ok(models) => models,
        Err(error) => return vec![Item::failed(name, &error)],
    };
    let mut items = vec![Item::of(name, process()), provider(&models), default_model(&models)];
    items.extend(models.iter().map(item));
    items
}

fn process() -> Result<Item> {
    let name = "inference process";
    Ok(match server_state()?.and_then(|state| state.stats) {
        Some(stats) => Item::ok(name, format!("version {}, answers", stats.version)),
        None => Item::bad(
            name,
            "does not answer",
            "PostgreSQL's log may say why. susx.stat_server shows its state.",
        ),
    })
}

fn provider(models: &[Model]) -> Item {
    let name = "execution provider";
    let mut used: Vec<&str> = models.iter().filter_map(|model| model.provider.as_deref()).collect();
    used.sort_unstable();
    used.dedup();
    let wanted = guc::execution_provider();
    let detail = match used.is_empty() {
        true => format!("susx.execution_provider is {wanted}; no model is loaded yet"),
        false => format!("susx.execution_provider is {wanted}; loaded models run on {}", used.join(", ")),
    };
    if guc::requires_gpu() && used.contains(&CPU) {
        return Item::bad(
            name,
            detail,
            "Turn susx.require_gpu off to run on the CPU, or set susx.execution_provider.",
        );
    }
    Item::ok(name, detail)
}

/// The model of calls that name none.
fn default_model(models: &[Model]) -> Item {
    let name = "susx.model";
    let hint = "Set susx.model with SET, or for all sessions with ALTER SYSTEM or ALTER DATABASE, or pass a model in each \
         call.";
    if let Some(wanted) = guc::model() {
        return match models.iter().any(|model| model.name == wanted) {
            true => Item::ok(name, wanted),
            false => Item::bad(name, format!("{wanted}: there is no such model"), hint),
        };
    }
    let named = |kind: Option<&str>| -> Vec<&str> {
        let is_of_kind = |model: &&Model| match kind {
            Some(kind) => model.kind.as_deref() == Some(kind),
            None => model.kind.as_deref() != Some("diffusion"),
        };
        models.iter().filter(is_of_kind).map(|model| &*model.name).collect()
    };
    let clips = named(Some(CLIP));
    match if clips.is_empty() { named(None) } else { clips }[..] {
        [] => Item::bad(
            name,
            "there is no model",
            "A model is a directory in susx.model_dir with the Hugging Face ONNX layout.",
        ),
        [only] => Item::ok(name, format!("not set; calls without a model use the only one, {only}")),
        ref several => {
            let detail = format!("not set, and there are several: {}", several.join(", "));
            Item::bad(name, detail, hint)
        }
    }
}

fn item(model: &Model) -> Item {
    let name = format!("model {}", model.name);
    let mut parts = vec![model.kind.clone().unwrap_or_else(|| "unknown kind".to_owned())];
    parts.extend(model.dimensions.map(|dimensions| format!("{dimensions} dimensions")));
    parts.push(match (&model.provider, model.loaded) {
        (Some(provider), _) => format!("loaded, on {provider}"),
        (None, true) => "loaded".to_owned(),
        (None, false) => "not loaded yet".to_owned(),
    });
    let detail = parts.join(", ");
    match &model.error {
        None => Item::ok(name, detail),
        Some(error) => Item::bad(
            name,
            format!("{detail}: {error}"),
            "Correct the files or remove the directory: docs/models.md describes what a model must contain.",
        ),
    }
}
