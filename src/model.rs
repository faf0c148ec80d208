//! `susx.models()`: the models in the model directory.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::{EncoderFile, Model};

use crate::inference::client;
use crate::pg::catalog::provenance::ModelUse;
use crate::pg::version::SameVersion;

/// Every model in `susx.model_dir`. Columns that are known only after loading are NULL until the model is used.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn models(
    _version: SameVersion,
) -> Result<
    TableIterator<
        'static,
        (
            name!(name, String),
            name!(kind, Option<String>),
            name!(dimensions, Option<i32>),
            name!(image_size, Option<i32>),
            name!(provider, Option<String>),
            name!(loaded, bool),
            name!(bytes, Option<i64>),
            name!(error, Option<String>),
            name!(vision_file, Option<String>),
            name!(vision_precision, Option<String>),
            name!(vision_opset, Option<i32>),
            name!(text_file, Option<String>),
            name!(text_precision, Option<String>),
            name!(text_opset, Option<i32>),
            name!(note, Option<String>),
            name!(logit_scale, Option<f32>),
            name!(logit_bias, Option<f32>),
        ),
    >,
    ErrorReport,
> {
    let (classifiers, columns) = (ModelUse::classifiers()?, ModelUse::columns()?);
    let row = |model: Model| {
        let error = remarks(&model, &classifiers, &columns);
        let (vision_file, vision_precision, vision_opset) = graph(model.vision);
        let (text_file, text_precision, text_opset) = graph(model.text);
        (
            model.name,
            model.kind,
            model.dimensions.and_then(|dimensions| i32::try_from(dimensions).ok()),
            model.image_size.and_then(|(height, _)| i32::try_from(height).ok()),
            model.provider,
            model.loaded,
            model.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            error,
            vision_file,
            vision_precision,
            vision_opset,
            text_file,
            text_precision,
            text_opset,
            model.note,
            model.defaults.logit_scale,
            model.logit_bias,
        )
    };
    Ok(TableIterator::new(client::models()?.into_iter().map(row).collect::<Vec<_>>()))
}

/// File, precision and operator set of an encoder's graph.
fn graph(graph: Option<EncoderFile>) -> (Option<String>, Option<String>, Option<i32>) {
    let Some(EncoderFile { file, precision, opset }) = graph else { return (None, None, None) };
    (Some(file), precision, opset.and_then(|opset| i32::try_from(opset).ok()))
}

/// The model's error, and the classifiers and columns whose embeddings were made with other files of it.
fn remarks(model: &Model, classifiers: &[ModelUse], columns: &[ModelUse]) -> Option<String> {
    let others = |what: &str, uses: &[ModelUse]| {
        let names: Vec<&str> =
            uses.iter().filter(|it| it.is_of_other_files(model)).map(|it| it.names.as_str()).collect();
        (!names.is_empty())
            .then(|| format!("these {what} were made with other files of it: {}", names.join(", ")))
    };
    let changed = [others("classifiers", classifiers), others("columns of embeddings", columns)];
    let remarks: Vec<String> = model.error.clone().into_iter().chain(changed.into_iter().flatten()).collect();
    (!remarks.is_empty()).then(|| remarks.join("; "))
}
