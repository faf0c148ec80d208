//! Requests of a backend to the inference process.
//!
//! Each backend has one connection and keeps it between calls. It waits on its latch and never blocks in a system
//! call, so a cancel takes effect at once. A call takes the connection while it runs and puts it back at its end. After
//! an error or a cancel the connection is closed, and the server drops the unfinished requests.

mod connection;
mod image_info;
mod payload;
mod sheet;
mod stream;
mod thumbnail;

use susx_server::protocol::{Failure, Model, Reply, Request, TextEmbedding};

use crate::inference::error::InferenceError;
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use connection::{CallError, Connection};
pub use image_info::Described;
pub use payload::{ImageVectors, Payload};
pub use sheet::draw_sheet;
pub use stream::{Answer, Stream, batch_length};
pub use thumbnail::Original;

/// The embedding of one image: a unit vector, or why there is none.
pub type Embedding = Result<Vec<f32>, Failure>;
/// The same of one text, with what the model has read of it.
pub type OfText = Result<TextEmbedding, Failure>;

/// Embeds texts; one answer per text, in their order.
///
/// The server pads the texts of a batch to the longest of them and sees only part of a large call at a time, so they
/// are sent in the order of their lengths.
pub fn embed_texts<'a>(stream: Stream<&'a str>, texts: &[&'a str]) -> Result<Vec<OfText>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&index| texts[index].len());
    let sorted = order.iter().map(|&index| texts[index]).collect();
    let mut answers: Vec<(usize, OfText)> = order.into_iter().zip(stream.run(sorted)?).collect();
    answers.sort_unstable_by_key(|&(index, _)| index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Embeds images by one model; one answer per image, in their order.
pub fn embed_images<T: Payload<Product = ImageVectors>>(
    stream: Stream<T>,
    images: Vec<T>,
) -> Result<Vec<Embedding>> {
    let answers = stream.run(images)?;
    Ok(answers.into_iter().map(|answer| answer.map(|vectors| vectors.embedding)).collect())
}

/// The answer to a single input.
pub fn only<T>(answers: Vec<Result<T, Failure>>) -> Result<T> {
    match answers.into_iter().next() {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(failure)) => Err(failure.into()),
        None => Err(Error::internal("the inference process did not answer")),
    }
}

/// Describes an embedding model. The server loads it if necessary.
pub fn describe(model: Option<&str>) -> Result<Model> {
    let model = model_or_default(model);
    limits::check_model_name(model.as_deref())?;
    match ask(|id| Request::Describe { id, model: model.as_deref() })? {
        Reply::Model { model, .. } => Ok(*model),
        other => Err(unexpected(&other)),
    }
}

/// Describes a generator. The server loads it if necessary.
pub fn describe_generator(generator: Option<&str>) -> Result<Model> {
    limits::check_model_name(generator)?;
    match ask(|id| Request::DescribeGenerator { id, generator })? {
        Reply::Model { model, .. } => Ok(*model),
        other => Err(unexpected(&other)),
    }
}

/// All models in the model directory.
pub fn models() -> Result<Vec<Model>> {
    match ask(|id| Request::Models { id })? {
        Reply::Models { models, .. } => Ok(models),
        other => Err(unexpected(&other)),
    }
}

/// The model that a call names, else the one of `susx.model`. With `None` the server uses its only model.
pub fn model_or_default(model: Option<&str>) -> Option<String> {
    model.map(str::to_owned).or_else(guc::model)
}

/// Sends a request and waits for its reply. Repeats it once if the connection is lost.
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
