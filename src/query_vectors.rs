//! The rows of a query, which are read and, where they are images, embedded in batches.
//!
//! While one batch is worked on, the images of the following batches are embedded.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::batches::{
    CLASSIFIED_BYTES, CLASSIFIED_EMBEDDINGS, CLASSIFIED_IMAGES, CLASSIFIED_ROWS_AT_FIRST,
    CLASSIFY_AHEAD_BATCHES,
};
use crate::fitted::Fitted;
use crate::image_stream::ImageStream;
use crate::image_vectors::ImageVectors;
use crate::pg::any::AnyValue;
use crate::pg::catalog::input::{InputKind, InputValue};
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;

/// The rows of a keyed query with their vectors.
pub struct QueryVectors {
    fitted: Rc<Fitted>,
    query: KeyedQuery,
    has_more: bool,
    rows_read: u64,
    /// The size of the next batch, in rows.
    next_batch: usize,
    /// Batches that have been read, but not embedded.
    batches: VecDeque<RowBatch>,
    /// Embeds the images of these batches; `None` if the query gives embeddings.
    embeddings: Option<ImageStream<Image>>,
}

/// Consecutive rows of the query.
#[derive(Debug)]
struct RowBatch {
    /// The number of the first row, counted from 1.
    first: u64,
    rows: Vec<PendingRow>,
}

#[derive(Debug)]
struct PendingRow {
    key: Option<AnyValue>,
    label: Option<String>,
    input: PendingInput,
}

/// The input of a row that has not been embedded.
#[derive(Debug)]
enum PendingInput {
    Null,
    /// The next image of the embedding stream.
    Image,
    Vectors(ImageVectors),
}

/// A row with its vectors.
#[derive(Debug)]
pub struct VectorRow {
    pub key: Option<AnyValue>,
    /// The row's current label, where the query gives labels.
    pub label: Option<String>,
    /// `None` for NULL; else the vectors, whose dimensions are the classifier's, or why there are none.
    pub image: Option<Result<ImageVectors, String>>,
}

impl QueryVectors {
    /// An error if the query gives images and the classifier has no model.
    pub fn new(fitted: Rc<Fitted>, query: KeyedQuery) -> Result<Self> {
        let embeddings = match query.kind() {
            InputKind::Embedding => None,
            InputKind::Image => Some(ImageStream::of(&fitted.model()?, fitted.likeness_model().as_ref())),
        };
        Ok(QueryVectors {
            fitted,
            query,
            has_more: true,
            rows_read: 0,
            next_batch: CLASSIFIED_ROWS_AT_FIRST,
            batches: VecDeque::new(),
            embeddings,
        })
    }

    /// The next batch of rows; `None` if there is none.
    pub fn next(&mut self) -> Result<Option<Vec<VectorRow>>> {
        let ahead = if self.embeddings.is_some() { CLASSIFY_AHEAD_BATCHES } else { 1 };
        while self.has_more && self.batches.len() < ahead {
            self.read_batch()?;
        }
        let Some(batch) = self.batches.pop_front() else { return Ok(None) };
        let embeddings = match &mut self.embeddings {
            Some(stream) => stream.next().map_err(|error| error.in_row(batch.first))?.unwrap_or_default(),
            None => Vec::new(),
        };
        let mut embeddings = embeddings.into_iter();
        let mut rows = Vec::with_capacity(batch.rows.len());
        for (number, PendingRow { key, label, input }) in (batch.first..).zip(batch.rows) {
            let image = match input {
                PendingInput::Null => None,
                PendingInput::Vectors(image) => {
                    Some(self.fitted.check(&image).map(|()| image).map_err(|error| error.to_string()))
                }
                PendingInput::Image => match embeddings.next() {
                    Some(Ok(image)) => {
                        self.fitted.check(&image).map_err(|error| error.in_row(number))?;
                        Some(Ok(image))
                    }
                    Some(Err(failure)) if failure.kind.is_of_input() => Some(Err(failure.message)),
                    Some(Err(failure)) => return Err(Error::from(failure).in_row(number)),
                    None => return Err(Error::internal("an image was given no answer")),
                },
            };
            rows.push(VectorRow { key, label, image });
        }
        Ok(Some(rows))
    }

    /// Reads a batch and submits its images.
    fn read_batch(&mut self) -> Result<()> {
        let most = if self.embeddings.is_some() { CLASSIFIED_IMAGES } else { CLASSIFIED_EMBEDDINGS };
        let wanted = self.next_batch.min(most);
        self.next_batch = wanted * 2;
        let (mut rows, mut images, mut bytes) = (Vec::with_capacity(wanted), Vec::new(), 0);
        while rows.len() < wanted && bytes < CLASSIFIED_BYTES {
            // Images, which may be large, are fetched one by one.
            let portion = if self.embeddings.is_some() { 1 } else { wanted };
            let found = self.query.fetch(portion, |row| {
                bytes += row.key.as_ref().map_or(0, AnyValue::size);
                bytes += row.label.as_ref().map_or(0, String::len);
                let input = match row.input {
                    None => PendingInput::Null,
                    Some(InputValue::Embedding(embedding)) => {
                        PendingInput::Vectors(ImageVectors { embedding, likeness: row.likeness })
                    }
                    Some(InputValue::Image(image)) => {
                        bytes += image.size();
                        images.push(image);
                        PendingInput::Image
                    }
                };
                rows.push(PendingRow { key: row.key, label: row.label, input });
                Ok(())
            })?;
            if found < portion {
                self.has_more = false;
                break;
            }
            self.poll()?;
        }
        let first = self.rows_read + 1;
        self.rows_read += rows.len() as u64;
        if !rows.is_empty() {
            if let Some(stream) = &mut self.embeddings {
                // The error may be an answer to an earlier batch.
                let oldest = self.batches.front().map_or(first, |batch| batch.first);
                stream.submit(images).map_err(|error| error.in_row(oldest))?;
            }
            self.batches.push_back(RowBatch { first, rows });
        }
        Ok(())
    }

    /// Sends and receives what needs no waiting.
    pub fn poll(&mut self) -> Result<()> {
        let first = self.batches.front().map_or(self.rows_read + 1, |batch| batch.first);
        match &mut self.embeddings {
            Some(stream) => stream.poll().map_err(|error| error.in_row(first)),
            None => Ok(()),
        }
    }
}
