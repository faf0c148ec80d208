//! Rows of a table of images whose embeddings are being made.

use std::collections::VecDeque;

use susx_server::protocol::Failure;

use crate::batches::{EMBED_AHEAD_BATCHES, EMBED_AHEAD_BYTES, EMBED_AHEAD_IMAGES};
use crate::inference::client::{Answer, ImageVectors, Stream};
use crate::on_error::OnError;
use crate::pg::catalog::errors::RowFailure;
use crate::pg::catalog::image_table::ImageTable;
use crate::pg::catalog::keyed_table::RowId;
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::vector::Vector;

/// A row that needs an embedding.
#[derive(Debug)]
pub struct Target {
    pub id: RowId,
    /// Whether the row has the embedding of another image, which must be removed.
    pub is_stale: bool,
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub embedded: u64,
    pub failed: u64,
    /// Rows that others changed meanwhile, or are changing.
    pub changed: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.embedded += other.embedded;
        self.failed += other.failed;
        self.changed += other.changed;
    }
}

/// Batches of images that have been submitted to the inference process, and the rows they belong to.
#[derive(Debug)]
pub struct EmbeddingStream {
    stream: Stream<Image>,
    batches: VecDeque<SubmittedBatch>,
}

#[derive(Debug)]
struct SubmittedBatch {
    rows: Vec<Target>,
    bytes: usize,
}

impl EmbeddingStream {
    pub fn new(model: &EmbeddingModel) -> Self {
        EmbeddingStream { stream: Stream::of(model), batches: VecDeque::new() }
    }

    /// Whether another batch should be submitted.
    pub fn wants_more(&self) -> bool {
        let images: usize = self.batches.iter().map(|batch| batch.rows.len()).sum();
        let bytes: usize = self.batches.iter().map(|batch| batch.bytes).sum();
        let count = self.stream.pending();
        count < 2 || bytes < EMBED_AHEAD_BYTES && (count < EMBED_AHEAD_BATCHES || images < EMBED_AHEAD_IMAGES)
    }

    /// Submits a batch. Waits for no answer.
    pub fn submit(&mut self, batch: Vec<(Target, Image)>) -> Result<()> {
        let bytes = batch.iter().map(|(_, image)| image.size()).sum();
        let (rows, images) = batch.into_iter().unzip();
        self.batches.push_back(SubmittedBatch { rows, bytes });
        self.stream.submit(images)
    }

    /// Waits for the oldest batch; `None` if there is none.
    pub fn next(&mut self) -> Result<Option<EmbeddedBatch>> {
        let Some(answers) = self.stream.next()? else { return Ok(None) };
        let rows = self.batches.pop_front().map_or(Vec::new(), |batch| batch.rows);
        Ok(Some(EmbeddedBatch { rows, answers }))
    }
}

/// A batch of rows with an answer for each.
#[derive(Debug)]
pub struct EmbeddedBatch {
    rows: Vec<Target>,
    answers: Vec<Answer<Image>>,
}

impl EmbeddedBatch {
    /// Writes the embeddings and, unless the first failure is an error, records the failures.
    pub fn write(self, images: &ImageTable, on_error: OnError) -> Result<Counts> {
        let (mut rows, mut embeddings) = (Vec::new(), Vec::new());
        let mut failed: Vec<(&Target, Failure)> = Vec::new();
        for (row, answer) in self.rows.iter().zip(self.answers) {
            match answer {
                Ok(ImageVectors { embedding, .. }) => {
                    images.check_dimensions(embedding.len())?;
                    rows.push(&row.id);
                    embeddings.push(Some(Vector::new(embedding)?));
                }
                Err(failure) if !failure.kind.is_of_input() => return Err(failure.into()),
                Err(failure) if on_error == OnError::Stop => {
                    let place = format!("row {} of relation \"{}\"", row.id.name, images.name);
                    return Err(Error::from(failure).within(place));
                }
                Err(failure) => failed.push((row, failure)),
            }
        }
        let mut counts = Counts::default();
        if !rows.is_empty() {
            let written = images.write(&rows, embeddings)?;
            counts.embedded = written.len() as u64;
            let written: Vec<&RowId> = written.iter().filter_map(|&i| rows.get(i).copied()).collect();
            images.forget_done(&written)?;
        }
        if !failed.is_empty() {
            let records: Vec<_> =
                failed.iter().map(|(row, failure)| (&row.id, RowFailure::from(failure))).collect();
            counts.failed = images.record(&records)? as u64;
            let stale: Vec<&RowId> =
                failed.iter().filter(|(row, _)| row.is_stale).map(|(row, _)| &row.id).collect();
            clear(images, &stale)?;
        }
        counts.changed = (self.rows.len() as u64).saturating_sub(counts.embedded + counts.failed);
        Ok(counts)
    }
}

/// Sets the embedding of rows to NULL that have not changed since they were read.
pub fn clear(images: &ImageTable, rows: &[&RowId]) -> Result<()> {
    if !rows.is_empty() {
        images.write(rows, vec![None; rows.len()])?;
    }
    Ok(())
}
