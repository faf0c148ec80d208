//! Vectors of images and texts.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::digest::Digest;
use susx_server::protocol::TextEmbedding;

use crate::arrays::elements;
use crate::cut_texts;
use crate::image_vectors::ImageVectors;
use crate::inference::client::{self, Embedding, Stream};
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::limited_text::LimitedText;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;
use crate::recent_embeddings::recent_or;

/// Number, embedding and error of one element of an array.
type EmbeddingRow = (i32, Option<Vector>, Option<String>);

/// The embedding of an image file, of unit length; NULL for NULL.
#[pg_extern(stable, parallel_safe, cost = 100000)]
fn embed_image(
    _version: SameVersion,
    image: Option<Image>,
    model: default!(Option<&str>, "NULL"),
) -> Result<Option<Vector>, ErrorReport> {
    let Some(image) = image else { return Ok(None) };
    let image = image.file()?;
    let embed = || Vector::new(client::only(client::embed_images(Stream::new(model), vec![image])?)?);
    Ok(Some(recent("susx embed_image", model, image, embed)?))
}

/// The embedding of a text, of unit length; NULL for NULL.
#[pg_extern(stable, parallel_safe, cost = 100000)]
fn embed_text(
    _version: SameVersion,
    text: Option<LimitedText>,
    model: default!(Option<&str>, "NULL"),
) -> Result<Option<Vector>, ErrorReport> {
    let Some(text) = text else { return Ok(None) };
    let text = text.read()?;
    let embed = || {
        let TextEmbedding { vector, cut } = client::only(Stream::new(model).run(vec![text.as_str()])?)?;
        cut_texts::warn_once(cut, || cut_texts::quoted("the text", &text));
        Vector::new(vector)
    };
    Ok(Some(recent("susx embed_text", model, text.as_bytes(), embed)?))
}

/// The embedding that the running statement has made of the same input with the same model, else a new one.
fn recent(
    purpose: &str,
    model: Option<&str>,
    input: &[u8],
    embed: impl FnOnce() -> Result<Vector>,
) -> Result<Vector> {
    let key = || Digest::of(purpose).option(client::model_or_default(model)).bytes(input).finish();
    Ok(recent_or(key, || Ok(ImageVectors::from(embed()?)))?.embedding)
}

/// The embeddings of many image files. An image that cannot be embedded gets an error in its row.
#[pg_extern(stable, parallel_safe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn embed_images(
    _version: SameVersion,
    images: Option<Array<'_, &[u8]>>,
    model: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<'static, (name!(ord, i32), name!(embedding, Option<Vector>), name!(error, Option<String>))>,
    ErrorReport,
> {
    let images = elements(images.as_ref(), "images")?;
    Ok(TableIterator::new(embed_all(&images, |images| {
        client::embed_images(Stream::new(model), images.to_vec())
    })?))
}

/// The embeddings of many texts.
#[pg_extern(stable, parallel_safe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn embed_texts(
    _version: SameVersion,
    texts: Option<Array<'_, &str>>,
    model: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<'static, (name!(ord, i32), name!(embedding, Option<Vector>), name!(error, Option<String>))>,
    ErrorReport,
> {
    let texts = elements(texts.as_ref(), "texts")?;
    let places: Vec<usize> = (1..).zip(&texts).filter_map(|(ord, text)| text.map(|_| ord)).collect();
    Ok(TableIterator::new(embed_all(&texts, |texts| {
        let answers = client::embed_texts(Stream::new(model), texts)?;
        let cuts: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok()?.cut).collect();
        cut_texts::warn(&cuts, |index| {
            cut_texts::quoted(format_args!("element {} of texts", places[index]), texts[index])
        });
        Ok(answers.into_iter().map(|answer| answer.map(|embedding| embedding.vector)).collect())
    })?))
}

/// One row per input, in their order. NULLs are not embedded.
fn embed_all<T: Copy>(
    inputs: &[Option<T>],
    embed: impl FnOnce(&[T]) -> Result<Vec<Embedding>>,
) -> Result<Vec<EmbeddingRow>> {
    let present: Vec<T> = inputs.iter().copied().flatten().collect();
    let embeddings = if present.is_empty() { Vec::new() } else { embed(&present)? };
    let mut embeddings = embeddings.into_iter();
    let mut rows = Vec::with_capacity(inputs.len());
    for (ord, input) in (1..).zip(inputs) {
        rows.push(match input.and_then(|_| embeddings.next()) {
            Some(Ok(embedding)) => (ord, Some(Vector::new(embedding)?), None),
            Some(Err(failure)) => (ord, None, Some(failure.message)),
            None => (ord, None, None),
        });
    }
    Ok(rows)
}
