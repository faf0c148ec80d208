//! What a backend asks of the inference process.
//!
//! One connection per backend, kept between calls. The backend never blocks in a system call: it waits
//! on its latch, so that a cancel acts at once. A call takes the connection out of its place and puts
//! it back when it is done; an error or a cancel in between closes it, and the server drops what is
//! left of the request.

mod connection;
mod content;
mod own_model;
mod stream;

use susx_server::protocol::{Failure, Model, Reply, Request};

use crate::inference::error::InferenceError;
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use crate::pg::vector::Vector;
use connection::{CallError, Connection};
use content::Content;
pub use content::refused_text;
pub use own_model::{OwnModel, Owner};
pub use stream::{Stream, batch_length};

/// The answer to one input.
pub type Embedding = Result<Vec<f32>, Failure>;

/// Embeds image files.
pub fn embed_images(model: Option<&str>, images: &[&[u8]]) -> Result<Vec<Embedding>> {
    embed(model, images.to_vec())
}

/// Embeds texts.
pub fn embed_texts(model: Option<&str>, texts: &[&str]) -> Result<Vec<Embedding>> {
    by_length(texts, |texts| embed(model, texts))
}

/// Has texts embedded in the order of their lengths, for the server pads texts that share a run to the longest
/// of them, and sees only some of a large call at a time.
fn by_length(
    texts: &[&str],
    embed: impl FnOnce(Vec<&str>) -> Result<Vec<Embedding>>,
) -> Result<Vec<Embedding>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&place| texts[place].len());
    let sorted = order.iter().map(|&place| texts[place]).collect();
    let mut answers: Vec<(usize, Embedding)> = order.into_iter().zip(embed(sorted)?).collect();
    answers.sort_unstable_by_key(|&(place, _)| place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

fn embed<T: Content<Product = Vec<f32>>>(model: Option<&str>, inputs: Vec<T>) -> Result<Vec<Embedding>> {
    answers(Stream::new(model), inputs)
}

fn answers<T: Content<Product = Vec<f32>>>(mut stream: Stream<T>, inputs: Vec<T>) -> Result<Vec<Embedding>> {
    stream.submit(inputs)?;
    Ok(stream.next()?.unwrap_or_default())
}

/// The answer to a single input.
pub fn only(embeddings: Vec<Embedding>) -> Result<Vector> {
    match embeddings.into_iter().next() {
        Some(Ok(embedding)) => Vector::new(embedding),
        Some(Err(failure)) => Err(failure.into()),
        None => Err(Error::internal("the inference process gave no answer")),
    }
}

/// What there is to know about one model, which is loaded for it.
pub fn describe(model: Option<&str>) -> Result<Model> {
    let chosen = chosen(model);
    limits::check_model_name(chosen.as_deref())?;
    match ask(|id| Request::Describe { id, model: chosen.as_deref() })? {
        Reply::Model { model, .. } => Ok(*model),
        other => Err(unexpected(&other)),
    }
}

/// What there is to know about one generator, which is loaded for it.
pub fn describe_generator(generator: Option<&str>) -> Result<Model> {
    limits::check_model_name(generator)?;
    match ask(|id| Request::DescribeGenerator { id, generator })? {
        Reply::Model { model, .. } => Ok(*model),
        other => Err(unexpected(&other)),
    }
}

/// Every model of the model directory.
pub fn models() -> Result<Vec<Model>> {
    match ask(|id| Request::Models { id })? {
        Reply::Models { models, .. } => Ok(models),
        other => Err(unexpected(&other)),
    }
}

/// The model that a call names, else `susx.model`, else none: then the server takes the only one.
fn chosen(model: Option<&str>) -> Option<String> {
    model.map(str::to_owned).or_else(guc::model)
}

/// Asks one question, once more if the server goes away meanwhile.
fn ask<'a>(request: impl Fn(u64) -> Request<'a>) -> Result<Reply> {
    let ask_once = || {
        let mut connection = Connection::take().map_err(CallError::Other)?;
        let id = connection.next_id();
        connection.send(&request(id))?;
        let reply = connection.receive()?;
        connection.put_back();
        Ok(reply)
    };
    let reply = match ask_once() {
        Err(CallError::Lost(_)) => ask_once(),
        other => other,
    };
    match reply {
        Ok(Reply::Failed { failure, .. }) => Err(failure.into()),
        Ok(reply) => Ok(reply),
        Err(CallError::Lost(error)) => Err(InferenceError::ConnectionLost(error).into()),
        Err(CallError::Other(error)) => Err(error),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::internal(format_args!("the inference process sent an unexpected reply to request {}", reply.id()))
}
