//! Rows of a table of images whose embeddings are being made.

use std::collections::VecDeque;

use susx_server::protocol::Failure;

use crate::batches::{EMBED_AHEAD_BATCHES, EMBED_AHEAD_BYTES, EMBED_AHEAD_IMAGES};
use crate::inference::client::{Answer, ImageVectors, Stream};
use crate::on_error::OnError;
use crate::pg::catalog::errors::RowFailure;
use crate::pg::catalog::image_table::ImageTable;
use crate::pg::catalog::keyed_table::{RowId, Written};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::vector::Vector;

/// A row that needs an embedding.
#[derive(Debug)]
pub struct Target {
    pub id: RowId,
    pub found: Found,
}

/// The embedding that a row has before it gets one.
#[derive(Debug)]
pub enum Found {
    None,
    /// That of another image, which must be removed.
    Stale,
    /// Maybe that of another image. It stays if it is that of this one.
    Unverified(Vector),
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Rows that got an embedding.
    pub embedded: u64,
    /// Those among them that had one of another image.
    pub replaced: u64,
    /// Rows whose embedding is that of their image.
    pub right: u64,
    pub failed: u64,
    /// Rows that others have changed in the meantime, or are changing.
    pub changed: u64,
    /// Rows that a trigger or a policy of the table does not let the call write.
    pub refused: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.embedded += other.embedded;
        self.replaced += other.replaced;
        self.right += other.right;
        self.failed += other.failed;
        self.changed += other.changed;
        self.refused += other.refused;
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    pub counts: Counts,
    /// The keys of the rows that were changed by others, as text.
    pub changed: Vec<String>,
    /// Likewise for the rows that were rejected.
    pub refused: Vec<String>,
    /// Likewise of the rows that failed and have lost the embedding of another image. They have a new version now, which
    /// their record does not know.
    pub cleared: Vec<String>,
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

    /// Whether the oldest batch has its answers; true if there is none.
    pub fn is_ready(&self) -> bool {
        self.stream.is_ready()
    }

    /// Waits for some answers.
    pub fn wait(&mut self) -> Result<()> {
        self.stream.wait()
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
    pub fn write(self, images: &ImageTable, on_error: OnError) -> Result<Outcome> {
        let (mut rows, mut embeddings) = (Vec::new(), Vec::new());
        let mut failed: Vec<(&Target, Failure)> = Vec::new();
        let mut counts = Counts::default();
        for (row, answer) in self.rows.iter().zip(self.answers) {
            match answer {
                Ok(ImageVectors { embedding, .. }) => {
                    images.check_dimensions(embedding.len())?;
                    let embedding = Vector::new(embedding)?;
                    if matches!(&row.found, Found::Unverified(found) if is_same(found, &embedding)) {
                        counts.right += 1;
                    } else {
                        rows.push(row);
                        embeddings.push(Some(embedding));
                    }
                }
                Err(failure) if !failure.kind.is_of_input() => return Err(failure.into()),
                Err(failure) if on_error == OnError::Stop => {
                    let place = format!("row {} of relation \"{}\"", row.id.name, images.name);
                    return Err(Error::from(failure).within(place));
                }
                Err(failure) => failed.push((row, failure)),
            }
        }
        let mut outcome = Outcome { counts, ..Outcome::default() };
        if !rows.is_empty() {
            write_embeddings(images, &rows, embeddings, &mut outcome)?;
        }
        if !failed.is_empty() {
            record_failures(images, &failed, &mut outcome)?;
        }
        Ok(outcome)
    }
}

fn write_embeddings(
    images: &ImageTable,
    rows: &[&Target],
    embeddings: Vec<Option<Vector>>,
    outcome: &mut Outcome,
) -> Result<()> {
    let ids: Vec<&RowId> = rows.iter().map(|row| &row.id).collect();
    let Written { written, refused } = images.write(&ids, embeddings)?;
    let mut is_done = vec![false; rows.len()];
    let counts = &mut outcome.counts;
    counts.embedded = written.len() as u64;
    counts.refused = refused.len() as u64;
    counts.changed = rows.len().saturating_sub(written.len() + refused.len()) as u64;
    for &index in &written {
        is_done[index] = true;
        counts.replaced += u64::from(!matches!(rows[index].found, Found::None));
    }
    for index in refused {
        is_done[index] = true;
        outcome.refused.push(ids[index].name.clone());
    }
    outcome.changed.extend((0..rows.len()).filter(|&i| !is_done[i]).map(|i| ids[i].name.clone()));
    let written: Vec<&RowId> = written.into_iter().map(|index| ids[index]).collect();
    images.forget_done(&written)
}

fn record_failures(images: &ImageTable, failed: &[(&Target, Failure)], outcome: &mut Outcome) -> Result<()> {
    let records: Vec<_> = failed.iter().map(|(row, failure)| (&row.id, RowFailure::from(failure))).collect();
    let recorded = images.record(&records)?;
    let stale: Vec<&RowId> =
        failed.iter().filter(|(row, _)| !matches!(row.found, Found::None)).map(|(row, _)| &row.id).collect();
    let unrecorded = failed.len().saturating_sub(recorded);
    if unrecorded > 0 {
        let ids: Vec<&RowId> = failed.iter().map(|(row, _)| &row.id).collect();
        // Where policies apply, some of the rows may be such that the caller may not update.
        let refused = images.refused(&ids)?.saturating_sub(recorded).min(unrecorded);
        outcome.counts.refused += refused as u64;
        outcome.counts.changed += (unrecorded - refused) as u64;
        outcome.changed.extend(ids.iter().map(|id| id.name.clone()));
    }
    outcome.counts.failed = recorded as u64;
    outcome.cleared.extend(stale.iter().map(|id| id.name.clone()));
    clear(images, &stale)
}

/// Cosine distance up to which two embeddings are of the same image: more than a model's answers differ from batch to
/// batch, and less than those of two images.
const SAME: f64 = 1e-5;

fn is_same(one: &Vector, other: &Vector) -> bool {
    let dot = |a: &Vector, b: &Vector| -> f64 {
        a.0.iter().zip(&b.0).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let norms = (dot(one, one) * dot(other, other)).sqrt();
    one.0.len() == other.0.len() && dot(one, other) >= (1.0 - SAME) * norms && norms > 0.0
}

/// Sets the embedding of rows to NULL that have not changed since they were read.
pub fn clear(images: &ImageTable, rows: &[&RowId]) -> Result<()> {
    if !rows.is_empty() {
        images.write(rows, vec![None; rows.len()])?;
    }
    Ok(())
}
