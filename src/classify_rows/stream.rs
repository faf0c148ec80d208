//! The rows of a query, which are read, embedded where they are images, and classified in batches.

use std::collections::VecDeque;
use std::rc::Rc;

use ndarray::ArrayView2;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use susx_core::classifier::{Answer, Ranked};
use susx_core::method::Method;
use susx_core::sus::unit;

use crate::batches::{
    CLASSIFIED_BYTES, CLASSIFIED_EMBEDDINGS, CLASSIFIED_IMAGES, CLASSIFIED_ROWS_AT_FIRST,
    CLASSIFY_AHEAD_BATCHES,
};
use crate::fitted::Fitted;
use crate::inference::client::{Answer as Embedded, ImageVectors, Stream};
use crate::pg::any::AnyValue;
use crate::pg::catalog::classifier::ClassifierError;
use crate::pg::catalog::input::{InputKind, InputValue};
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::progress::Progress;

/// Key, rank, category, score, probability, how likely the row is to be of any category, and error.
pub type ClassifiedRow =
    (Option<AnyValue>, Option<i32>, Option<String>, Option<f32>, Option<f32>, Option<f32>, Option<String>);

/// The categories of all rows of a query, as an iterator that works batch by batch.
pub struct ClassificationStream {
    fitted: Rc<Fitted>,
    method: Method,
    k: usize,
    query: KeyedQuery,
    has_more: bool,
    rows_read: u64,
    /// The size of the next batch, in rows.
    next_batch: usize,
    /// Batches that have been read, but not classified.
    batches: VecDeque<RowBatch>,
    /// Embeds the images of these batches; `None` if the query gives embeddings.
    embeddings: Option<Stream<Image>>,
    /// Rows that have been classified, but not returned.
    ready: VecDeque<(Option<AnyValue>, Outcome)>,
    /// Categories of the current row that have not been returned.
    current: std::vec::IntoIter<ClassifiedRow>,
    progress: Progress,
}

/// Consecutive rows of the query, with their keys.
#[derive(Debug)]
struct RowBatch {
    /// The number of the first row, counted from 1.
    first: u64,
    rows: Vec<(Option<AnyValue>, PendingInput)>,
}

/// The input of a row that has not been classified.
#[derive(Debug)]
enum PendingInput {
    Null,
    /// The next image of the embedding stream.
    Image,
    Embedding(Vec<f32>),
}

/// What became of a row.
#[derive(Debug)]
enum Outcome {
    Null,
    Answered(Answer),
    Failed(String),
}

impl Iterator for ClassificationStream {
    type Item = ClassifiedRow;

    fn next(&mut self) -> Option<ClassifiedRow> {
        match self.next_row() {
            Ok(row) => row,
            Err(error) => Err(ErrorReport::from(error)).unwrap_or_report(),
        }
    }
}

impl ClassificationStream {
    /// An error if the query gives images and the classifier has no model.
    pub fn new(
        fitted: Rc<Fitted>,
        method: Method,
        k: usize,
        query: KeyedQuery,
        progress: Progress,
    ) -> Result<Self> {
        let embeddings = match query.kind() {
            InputKind::Embedding => None,
            InputKind::Image => Some(Stream::of(&fitted.model()?)),
        };
        Ok(ClassificationStream {
            fitted,
            method,
            k,
            query,
            has_more: true,
            rows_read: 0,
            next_batch: CLASSIFIED_ROWS_AT_FIRST,
            batches: VecDeque::new(),
            embeddings,
            ready: VecDeque::new(),
            current: Vec::new().into_iter(),
            progress,
        })
    }

    fn next_row(&mut self) -> Result<Option<ClassifiedRow>> {
        loop {
            if let Some(row) = self.current.next() {
                return Ok(Some(row));
            }
            if self.ready.is_empty() && !self.classify_next_batch()? {
                return Ok(None);
            }
            if let Some((key, outcome)) = self.ready.pop_front() {
                self.current = self.rows(key, outcome).into_iter();
                // The caller may take rows slowly, and the inference process should not wait for it.
                self.poll()?;
            }
        }
    }

    /// Classifies the next batch; false if there is none.
    fn classify_next_batch(&mut self) -> Result<bool> {
        self.progress.resume();
        let ahead = if self.embeddings.is_some() { CLASSIFY_AHEAD_BATCHES } else { 1 };
        while self.has_more && self.batches.len() < ahead {
            self.read_batch()?;
        }
        let Some(batch) = self.batches.pop_front() else { return Ok(false) };
        let embeddings = match &mut self.embeddings {
            Some(stream) => stream.next().map_err(|error| error.in_row(batch.first))?.unwrap_or_default(),
            None => Vec::new(),
        };
        self.classify(batch, embeddings)?;
        self.progress.pause();
        Ok(true)
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
                let input = match row.input {
                    None => PendingInput::Null,
                    Some(InputValue::Embedding(embedding)) => PendingInput::Embedding(embedding.0),
                    Some(InputValue::Image(image)) => {
                        bytes += image.size();
                        images.push(image);
                        PendingInput::Image
                    }
                };
                rows.push((row.key, input));
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
                stream.submit(images).map_err(|error| error.in_row(first))?;
            }
            self.batches.push_back(RowBatch { first, rows });
        }
        Ok(())
    }

    /// Sends and receives what needs no waiting.
    fn poll(&mut self) -> Result<()> {
        let first = self.batches.front().map_or(self.rows_read + 1, |batch| batch.first);
        match &mut self.embeddings {
            Some(stream) => stream.poll().map_err(|error| error.in_row(first)),
            None => Ok(()),
        }
    }

    /// Classifies a batch by one matrix product. `embeddings` are those of its images.
    fn classify(&mut self, batch: RowBatch, embeddings: Vec<Embedded<Image>>) -> Result<()> {
        let total = batch.rows.len();
        let mut embeddings = embeddings.into_iter();
        let mut features = Vec::new();
        let mut outcomes = Vec::with_capacity(total);
        for (number, (key, input)) in (batch.first..).zip(batch.rows) {
            let outcome = match input {
                PendingInput::Null => Some(Outcome::Null),
                PendingInput::Embedding(embedding) => self.feature(&embedding, &mut features),
                PendingInput::Image => match embeddings.next() {
                    Some(Ok(ImageVectors { embedding, .. })) => {
                        self.check_dimensions(&embedding).map_err(|error| error.in_row(number))?;
                        self.feature(&embedding, &mut features)
                    }
                    Some(Err(failure)) if failure.kind.is_of_input() => {
                        Some(Outcome::Failed(failure.message))
                    }
                    Some(Err(failure)) => return Err(Error::from(failure).in_row(number)),
                    None => {
                        return Err(Error::internal("an image was given no answer"));
                    }
                },
            };
            outcomes.push((key, outcome));
        }
        let dimensions = self.fitted.classifier.dimensions();
        let shape = (features.len() / dimensions.max(1), dimensions);
        let features = ArrayView2::from_shape(shape, &features).map_err(Error::internal)?;
        let mut answers = self.fitted.classifier.answers(features, self.method, self.k).into_iter();
        let mut failed = 0;
        for (key, outcome) in outcomes {
            let answer = || answers.next().map(Outcome::Answered);
            let outcome = outcome.or_else(answer).unwrap_or(Outcome::Null);
            failed += u64::from(matches!(outcome, Outcome::Failed(_)));
            self.ready.push_back((key, outcome));
        }
        self.progress.advance(total as u64, failed);
        Ok(())
    }

    /// Appends an embedding to the unit features. Returns the outcome if it cannot be classified.
    fn feature(&self, embedding: &[f32], features: &mut Vec<f32>) -> Option<Outcome> {
        let feature = match self.check_dimensions(embedding) {
            Ok(()) => unit(embedding).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match feature {
            Ok(feature) => {
                features.extend(feature);
                None
            }
            Err(reason) => Some(Outcome::Failed(reason)),
        }
    }

    fn check_dimensions(&self, embedding: &[f32]) -> Result<()> {
        let (expected, found) = (self.fitted.classifier.dimensions(), embedding.len());
        if expected == found {
            return Ok(());
        }
        Err(ClassifierError::Dimensions { classifier: self.fitted.name.clone(), expected, found }.into())
    }

    fn rows(&self, key: Option<AnyValue>, outcome: Outcome) -> Vec<ClassifiedRow> {
        match outcome {
            Outcome::Null => vec![(key, None, None, None, None, None, None)],
            Outcome::Failed(reason) => vec![(key, None, None, None, None, None, Some(reason))],
            Outcome::Answered(Answer { known, .. }) if self.fitted.classifier.rejects(known) => {
                let reject = self.fitted.settings.params.reject;
                let reason = format!("rejected: known {known:.4} is below {reject}");
                vec![(key, None, None, None, None, Some(known), Some(reason))]
            }
            Outcome::Answered(Answer { ranked, known }) => {
                let categories = self.fitted.classifier.categories();
                let row = |(rank, Ranked { category, score, probability }): (i32, Ranked)| {
                    let name = categories[category].clone();
                    (key.clone(), Some(rank), Some(name), Some(score), Some(probability), Some(known), None)
                };
                (1..).zip(ranked).map(row).collect()
            }
        }
    }
}
