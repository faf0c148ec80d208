//! Images of a table on their way to the inference process, and what becomes of their rows.

use std::collections::VecDeque;

use susx_server::protocol::Failure;

use crate::blame::is_of_the_input;
use crate::inference::client::{Embedding, OwnModel, Stream};
use crate::pg::catalog::images::{Images, RowId};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::vector::Vector;

/// Bytes of images in one batch, unless by its last image.
pub const BATCH_BYTES: usize = 16 << 20;
/// Batches on their way: while one is written, the inference process has the others.
const AHEAD_BATCHES: usize = 3;
/// More batches, if they are small, until there are so many images.
const AHEAD_IMAGES: usize = 256;
/// No more than two batches beyond so many bytes.
const AHEAD_BYTES: usize = 3 * BATCH_BYTES;

/// What becomes of images that cannot be embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// They are recorded in `susx.errors`.
    Record,
    /// The same, and those that were recorded before are tried again.
    Retry,
    /// The first is an error.
    Stop,
}

impl OnError {
    pub const ALL: [OnError; 3] = [OnError::Record, OnError::Retry, OnError::Stop];

    pub fn name(self) -> &'static str {
        match self {
            OnError::Record => "record",
            OnError::Retry => "retry",
            OnError::Stop => "stop",
        }
    }

    /// The one of this name out of those that make sense.
    pub fn named(name: &str, known: &[OnError]) -> Result<Self> {
        let found = known.iter().copied().find(|on_error| on_error.name() == name);
        found.ok_or_else(|| Error::ArgumentWithHint {
            message: format!("unknown on_error \"{name}\""),
            hint: format!(
                "It is one of: {}.",
                known.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ")
            ),
        })
    }
}

/// A row that waits for its embedding.
#[derive(Debug)]
pub struct Target {
    pub id: RowId,
    /// Whether it has the embedding of another image, which must not stay.
    pub is_stale: bool,
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub embedded: u64,
    pub failed: u64,
    /// Rows that were changed meanwhile, or that somebody is changing.
    pub changed: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.embedded += other.embedded;
        self.failed += other.failed;
        self.changed += other.changed;
    }
}

/// Batches on their way, and the rows that their images are of.
#[derive(Debug)]
pub struct ImageStream {
    stream: Stream<Image>,
    batches: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    rows: Vec<Target>,
    bytes: usize,
}

impl ImageStream {
    pub fn new(model: &OwnModel) -> Self {
        ImageStream { stream: Stream::of(model), batches: VecDeque::new() }
    }

    /// Whether another batch should be on its way.
    pub fn wants_more(&self) -> bool {
        let images: usize = self.batches.iter().map(|batch| batch.rows.len()).sum();
        let bytes: usize = self.batches.iter().map(|batch| batch.bytes).sum();
        let count = self.stream.pending();
        count < 2 || bytes < AHEAD_BYTES && (count < AHEAD_BATCHES || images < AHEAD_IMAGES)
    }

    /// Puts a batch on its way. Waits for no answer.
    pub fn submit(&mut self, batch: Vec<(Target, Image)>) -> Result<()> {
        let bytes = batch.iter().map(|(_, image)| image.size()).sum();
        let (rows, images) = batch.into_iter().unzip();
        self.batches.push_back(Sent { rows, bytes });
        self.stream.submit(images)
    }

    /// Waits for the oldest batch; `None` if there is none.
    pub fn next(&mut self) -> Result<Option<Answered>> {
        let Some(answers) = self.stream.next()? else { return Ok(None) };
        let rows = self.batches.pop_front().map_or(Vec::new(), |batch| batch.rows);
        Ok(Some(Answered { rows, answers }))
    }
}

/// A batch and its answers, one per row.
#[derive(Debug)]
pub struct Answered {
    rows: Vec<Target>,
    answers: Vec<Embedding>,
}

impl Answered {
    /// Writes the embeddings, and what became of the others.
    pub fn write(self, images: &Images, on_error: OnError) -> Result<Counts> {
        let (mut rows, mut embeddings) = (Vec::new(), Vec::new());
        let mut failed: Vec<(&Target, Failure)> = Vec::new();
        for (row, answer) in self.rows.iter().zip(self.answers) {
            match answer {
                Ok(embedding) => {
                    images.check_dimensions(embedding.len())?;
                    rows.push(&row.id);
                    embeddings.push(Some(Vector::new(embedding)?));
                }
                Err(failure) if !is_of_the_input(&failure) => return Err(Error::Server(failure)),
                Err(failure) if on_error == OnError::Stop => {
                    let key = row.id.name.clone();
                    return Err(Error::Image { relation: images.name.clone(), key, failure });
                }
                Err(failure) => failed.push((row, failure)),
            }
        }
        let mut counts = Counts::default();
        if !rows.is_empty() {
            let written = images.write(&rows, embeddings)?;
            counts.embedded = written.len() as u64;
            let written: Vec<&RowId> = written.iter().filter_map(|&i| rows.get(i).copied()).collect();
            images.forget(&written)?;
        }
        if !failed.is_empty() {
            let records: Vec<_> = failed.iter().map(|(row, failure)| (&row.id, failure)).collect();
            counts.failed = images.record(&records)? as u64;
            let stale: Vec<&RowId> =
                failed.iter().filter(|(row, _)| row.is_stale).map(|(row, _)| &row.id).collect();
            clear(images, &stale)?;
        }
        counts.changed = (self.rows.len() as u64).saturating_sub(counts.embedded + counts.failed);
        Ok(counts)
    }
}

/// Takes the embedding away from rows that are still as they were read.
pub fn clear(images: &Images, rows: &[&RowId]) -> Result<()> {
    if !rows.is_empty() {
        images.write(rows, vec![None; rows.len()])?;
    }
    Ok(())
}
