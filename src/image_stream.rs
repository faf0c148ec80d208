//! Image files on their way to the vectors that a classifier needs.

use susx_server::protocol::Failure;

use crate::image_vectors::ImageVectors;
use crate::inference::client::{self, Payload, Stream};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::Result;

/// Batches of images that a classifier's model embeds, and the model of its likeness vectors if it has one. Each image is
/// sent and decoded once.
#[derive(Debug)]
pub struct ImageStream<T: Payload>(Stream<T>);

/// The vectors of one image, or why there are none.
pub type Answer = Result<ImageVectors, Failure>;

impl<T: Payload<Product = client::ImageVectors>> ImageStream<T> {
    pub fn of(model: &EmbeddingModel, likeness_model: Option<&EmbeddingModel>) -> Self {
        let stream = Stream::of(model);
        ImageStream(match likeness_model {
            Some(likeness_model) => stream.with_likeness(likeness_model),
            None => stream,
        })
    }

    /// Submits a single batch and waits for its answers, one per image.
    pub fn run(self, batch: Vec<T>) -> Result<Vec<Answer>> {
        Ok(of_client(self.0.run(batch)?))
    }

    /// Adds a batch. Does not wait for answers.
    pub fn submit(&mut self, batch: Vec<T>) -> Result<()> {
        self.0.submit(batch)
    }

    /// Sends and receives what is possible without waiting.
    pub fn poll(&mut self) -> Result<()> {
        self.0.poll()
    }

    /// Waits for the oldest batch and returns its answers, one per image; `None` if there is no batch.
    pub fn next(&mut self) -> Result<Option<Vec<Answer>>> {
        Ok(self.0.next()?.map(of_client))
    }
}

fn of_client(answers: Vec<Result<client::ImageVectors, Failure>>) -> Vec<Answer> {
    answers.into_iter().map(|answer| answer.map(ImageVectors::from)).collect()
}
