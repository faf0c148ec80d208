//! `susx.models()`: which models there are, and what they run on.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::Model;

use crate::pg::client;

/// Every model below `susx.model_dir`. What only loading tells is NULL until a model is used.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn models() -> Result<
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
        ),
    >,
    ErrorReport,
> {
    let row = |model: Model| {
        (
            model.name,
            model.kind,
            model.dimensions.and_then(|dimensions| i32::try_from(dimensions).ok()),
            model.image_size.and_then(|(height, _)| i32::try_from(height).ok()),
            model.provider,
            model.loaded,
            model.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            model.error,
        )
    };
    Ok(TableIterator::new(client::models()?.into_iter().map(row)))
}
